//! Long lists in parts: the directory table and the listings.
//!
//! A table row is the directory's path (varint length, bytes) and 16 bytes of its hashes. A list
//! is compressed as a whole (zstd) and cut into parts of at most [`PART_BYTES`]; the receiver
//! collects them in a [`Collector`] that caps what comes. What it grows to, and into how many
//! entries, is capped by whoever has it read.

use super::PART_BYTES;
use crate::manifest::{
    Cursor, Directory, Manifest, ManifestError, decode_directories_within, encode_directories,
};
use crate::path::{MAX_PATH_BYTES, RelPath};
use std::borrow::Borrow;
use std::io::Read as _;

const LEVEL: i32 = 1;
/// LIMIT: bytes of one list as it travels.
const MAX_LIST_BYTES: usize = 512 * 1024 * 1024;
/// LIMIT: bytes of one list when it is decompressed.
const MAX_LIST_RAW_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes that an entry takes in a list that was decompressed, names and all, on a generous average.
pub const ENTRY_BYTES: usize = 256;
/// LIMIT: the window that a list's frame may ask for, for which a decoder sets memory aside.
const WINDOW_LOG_MAX: u32 = 23;

/// Collects the parts of one list.
#[derive(Debug, Default)]
pub struct Collector(Vec<u8>);

impl Collector {
    /// Adds a part.
    pub fn add(&mut self, part: &[u8]) -> Result<(), ManifestError> {
        if self.0.len() + part.len() > MAX_LIST_BYTES {
            return Err(ManifestError::Malformed("a list is longer than allowed"));
        }
        self.0.extend_from_slice(part);
        Ok(())
    }

    /// The rows of a table, after the last part; `most` entries may be in it. With how many
    /// entries it counts for.
    pub fn rows(self, most: usize) -> Result<(Vec<Row>, usize), ManifestError> {
        let raw = inflate(&self.0, most)?;
        let rows = decode_rows(&raw, most)?;
        let cost = cost(&raw, rows.len());
        Ok((rows, cost))
    }

    /// The listings, after the last part; `most` entries may be in them. With how many entries
    /// they count for.
    pub fn listings(self, most: usize) -> Result<(Vec<Directory>, usize), ManifestError> {
        let raw = inflate(&self.0, most)?;
        let directories = decode_directories_within(&raw, most)?;
        let entries: usize = directories.iter().map(|it| it.entries.len() + 1).sum();
        let cost = cost(&raw, entries);
        Ok((directories, cost))
    }
}

/// Long names count for more than one entry.
fn cost(raw: &[u8], entries: usize) -> usize {
    entries.max(raw.len() / ENTRY_BYTES)
}

/// Cuts a list into parts; there is always at least one. The flag is true for the last.
pub fn parts(list: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let count = list.len().div_ceil(PART_BYTES).max(1);
    (0..count).map(move |at| {
        let end = list.len().min((at + 1) * PART_BYTES);
        (
            list.get(at * PART_BYTES..end).unwrap_or_default(),
            at + 1 == count,
        )
    })
}

/// One row of the directory table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which directory.
    pub path: RelPath,
    /// 16 bytes that differ if the directory's own entries do.
    pub short: [u8; 16],
}

/// The table of a tree.
pub fn rows(manifest: &Manifest) -> Vec<Row> {
    manifest
        .directories()
        .iter()
        .zip(manifest.digests())
        .map(|(directory, digests)| Row {
            path: directory.path.clone(),
            short: digests.short(),
        })
        .collect()
}

/// The table, compressed.
pub fn encode_rows(rows: &[Row]) -> Vec<u8> {
    let mut raw = Vec::new();
    for row in rows {
        crate::manifest::put_length(&mut raw, row.path.as_bytes().len());
        raw.extend_from_slice(row.path.as_bytes());
        raw.extend_from_slice(&row.short);
    }
    deflate(&raw)
}

/// Listings, compressed.
pub fn encode_listings<'a, D: Borrow<Directory> + 'a>(
    directories: impl IntoIterator<Item = &'a D>,
) -> Vec<u8> {
    deflate(&encode_directories(directories))
}

fn decode_rows(bytes: &[u8], most: usize) -> Result<Vec<Row>, ManifestError> {
    let mut cursor = Cursor::new(bytes);
    let mut rows: Vec<Row> = Vec::new();
    while !cursor.is_empty() {
        let path = RelPath::parse(cursor.bytes(MAX_PATH_BYTES)?)?;
        if rows.last().is_some_and(|before| before.path >= path) {
            return Err(ManifestError::Malformed("a table is not in order"));
        }
        if rows.len() >= most {
            return Err(ManifestError::TooMany);
        }
        let mut short = [0; 16];
        short.copy_from_slice(cursor.take(16)?);
        rows.push(Row { path, short });
    }
    Ok(rows)
}

fn deflate(raw: &[u8]) -> Vec<u8> {
    // Compressing into memory has no error of its own; an empty list would be refused as such.
    zstd::bulk::compress(raw, LEVEL).unwrap_or_default()
}

fn inflate(list: &[u8], most: usize) -> Result<Vec<u8>, ManifestError> {
    // LIMIT: what the receiver has room for, and a small tree at least.
    let most_bytes = (most as u64).saturating_mul(ENTRY_BYTES as u64);
    let most_bytes = most_bytes.clamp(64 * 1024, MAX_LIST_RAW_BYTES);
    let malformed = |_| ManifestError::Malformed("a list can't be decompressed");
    let mut decoder = zstd::stream::read::Decoder::new(list).map_err(malformed)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(malformed)?;
    let mut bytes = Vec::new();
    decoder
        .by_ref()
        .take(most_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(malformed)?;
    if bytes.len() as u64 > most_bytes {
        return Err(ManifestError::TooMany);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_survive_their_parts() {
        let rows: Vec<Row> = (0..60_000_u32)
            .map(|i| Row {
                path: RelPath::parse(format!("dir{i}/sub").as_bytes()).unwrap(),
                short: *blake3::hash(&i.to_le_bytes())
                    .as_bytes()
                    .first_chunk()
                    .unwrap(),
            })
            .collect();
        let list = encode_rows(&rows);
        let mut collector = Collector::default();
        let mut count = 0;
        for (part, last) in parts(&list) {
            count += 1;
            assert!(part.len() <= PART_BYTES);
            assert_eq!(last, count == list.len().div_ceil(PART_BYTES));
            collector.add(part).unwrap();
        }
        assert!(count > 1);
        let mut sorted = rows;
        sorted.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        assert!(collector.rows(60_000).is_err(), "a table in no order");
        let mut collector = Collector::default();
        collector.add(&encode_rows(&sorted)).unwrap();
        let (read, cost) = collector.rows(60_000).unwrap();
        assert_eq!((read, cost), (sorted, 60_000));
        assert_eq!(parts(&[]).count(), 1);
    }

    #[test]
    fn a_list_grows_no_further_than_the_receiver_has_room_for() {
        let collected = |raw: &[u8]| {
            let mut collector = Collector::default();
            collector.add(&deflate(raw)).unwrap();
            collector
        };
        let bomb = vec![0; 64 << 20];
        assert!(deflate(&bomb).len() < 16 << 10);
        assert_eq!(collected(&bomb).rows(1000), Err(ManifestError::TooMany));
        assert_eq!(collected(&bomb).listings(1000), Err(ManifestError::TooMany));
        // Within the bytes, and still no table: the same path again and again.
        assert!(collected(&bomb[..64 << 10]).rows(1000).is_err());
        let paths = (0..1000_u32).map(|i| format!("{i:04}"));
        let rows: Vec<Row> = paths
            .map(|path| Row {
                path: RelPath::parse(path.as_bytes()).unwrap(),
                short: [0; 16],
            })
            .collect();
        let list = encode_rows(&rows);
        let mut collector = Collector::default();
        collector.add(&list).unwrap();
        assert_eq!(collector.rows(999), Err(ManifestError::TooMany));
    }

    #[test]
    fn a_list_is_cut_into_parts_that_are_the_whole() {
        for (bytes, lengths) in [
            (0, &[0][..]),
            (5, &[5]),
            (PART_BYTES, &[PART_BYTES]),
            (2 * PART_BYTES + 5, &[PART_BYTES, PART_BYTES, 5]),
        ] {
            let list: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let cut: Vec<_> = parts(&list).collect();
            let of_each: Vec<usize> = cut.iter().map(|(part, _)| part.len()).collect();
            assert_eq!(of_each, lengths);
            let last = cut.iter().position(|(_, is_last)| *is_last);
            assert_eq!(last, Some(lengths.len() - 1));
            let whole: Vec<u8> = cut
                .into_iter()
                .flat_map(|(part, _)| part.to_vec())
                .collect();
            assert!(whole == list);
        }
    }

    #[test]
    fn a_list_is_inflated_to_what_there_is_room_for() {
        for (most, bytes) in [(0, 64 * 1024), (256, 64 * 1024), (1024, 256 * 1024)] {
            assert!(inflate(&deflate(&vec![0; bytes]), most).is_ok(), "{most}");
            let over = inflate(&deflate(&vec![0; bytes + 1]), most);
            assert_eq!(over, Err(ManifestError::TooMany), "{most}");
        }
        let raw = [0; 10 * ENTRY_BYTES];
        assert_eq!((cost(&raw, 9), cost(&raw, 11)), (10, 11));
    }
}
