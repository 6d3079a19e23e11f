//! Reading packs from a peer or from the depot.

use super::codec::{Codec, PackDecoder};
use super::reader::{FormatError, Reader, within};
use super::{MAGIC, MAX_RAW_BYTES, MAX_ROWS, VERSION};
use crate::digest::Digest;
use bytes::Bytes;
use std::collections::HashSet;
use std::ops::Range;
use thiserror::Error;

/// Why a pack was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PackError {
    /// The bytes break the format.
    #[error("Malformed pack: {0}")]
    Malformed(#[from] FormatError),
    /// The same content comes twice.
    #[error("The pack holds {0:?} twice")]
    Duplicate(Digest),
    /// A content isn't the one that its row names.
    #[error("The pack's content for {0:?} is another one")]
    WrongContent(Digest),
}

/// One content in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Where it starts in the raw contents.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

impl PackRow {
    fn range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start + self.length as usize
    }
}

/// What a pack says it holds; nothing is decompressed or verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackHeader {
    codec: Codec,
    raw_bytes: usize,
    rows: Vec<PackRow>,
}

impl PackHeader {
    /// Reads the header of a complete pack.
    pub fn parse(pack: &[u8]) -> Result<Self, PackError> {
        parse(pack).map(|(header, _payload)| header)
    }

    /// The contents in order, without gaps.
    pub fn rows(&self) -> &[PackRow] {
        &self.rows
    }

    /// The length of all contents together.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// How the payload is stored.
    pub fn codec(&self) -> Codec {
        self.codec
    }
}

fn parse(pack: &[u8]) -> Result<(PackHeader, &[u8]), PackError> {
    let mut reader = Reader::open(pack, MAGIC, VERSION)?;
    let codec = reader.codec()?;
    let raw_bytes = within("raw bytes", reader.u32()?.into(), MAX_RAW_BYTES as u64)? as usize;
    let payload_bytes = reader.u32()? as usize;
    let count = within("rows", reader.u32()?.into(), MAX_ROWS as u64)? as usize;
    // LIMIT: before anything is allocated for the rows, they must be able to be there.
    if count * 33 > reader.remaining_bytes() {
        return Err(FormatError::Truncated.into());
    }
    let rows = parse_rows(&mut reader, count, raw_bytes)?;
    let payload = reader.take(payload_bytes)?;
    reader.finish()?;
    let header = PackHeader {
        codec,
        raw_bytes,
        rows,
    };
    Ok((header, payload))
}

fn parse_rows(
    reader: &mut Reader<'_>,
    count: usize,
    raw_bytes: usize,
) -> Result<Vec<PackRow>, PackError> {
    let mut rows = Vec::with_capacity(count);
    let mut seen = HashSet::with_capacity(count);
    let mut offset = 0;
    for _ in 0..count {
        let digest = reader.digest()?;
        let length = reader.varint()?;
        if length > raw_bytes as u64 - offset {
            return Err(FormatError::Inconsistent("the rows exceed the raw length").into());
        }
        if !seen.insert(digest) {
            return Err(PackError::Duplicate(digest));
        }
        rows.push(PackRow {
            digest,
            offset: offset as u32,
            length: length as u32,
        });
        offset += length;
    }
    if offset != raw_bytes as u64 {
        return Err(FormatError::Inconsistent("the rows fall short of the raw length").into());
    }
    Ok(rows)
}

/// The contents of a pack, each verified.
#[derive(Clone, Debug)]
pub struct Unpacked {
    rows: Vec<PackRow>,
    raw: Bytes,
}

/// Decompresses a pack and verifies every content in it.
pub fn unpack(pack: &[u8], decoder: &mut PackDecoder) -> Result<Unpacked, PackError> {
    let (header, payload) = parse(pack)?;
    let raw = decoder.decode(header.codec, payload, header.raw_bytes)?;
    for row in &header.rows {
        if Digest::of(&raw[row.range()]) != row.digest {
            return Err(PackError::WrongContent(row.digest));
        }
    }
    Ok(Unpacked {
        rows: header.rows,
        raw: raw.into(),
    })
}

impl Unpacked {
    /// All contents with their digests, in the pack's order.
    pub fn contents(&self) -> impl ExactSizeIterator<Item = (Digest, &[u8])> {
        self.rows
            .iter()
            .map(|row| (row.digest, &self.raw[row.range()]))
    }

    /// One content, shared with this pack. Looks at row after row: for many contents of one pack,
    /// go through [`contents`](Self::contents) instead.
    pub fn find(&self, digest: &Digest) -> Option<Bytes> {
        let row = self.rows.iter().find(|row| row.digest == *digest)?;
        Some(self.raw.slice(row.range()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::{damaged, noise};
    use crate::pack::{FIXED_BYTES, MAX_PACK_BYTES, Pack, PackBuilder, PackEncoder, PushError};
    use proptest::prelude::*;

    fn pack(contents: &[&[u8]], level: i32) -> Pack {
        let mut builder = PackBuilder::new();
        for content in contents {
            builder.push(Digest::of(content), content).unwrap();
        }
        builder.finish(&mut PackEncoder::new(), level)
    }

    /// A pack with whatever rows a hostile hub likes.
    fn forged(raw_bytes: u32, rows: &[(Digest, u64)], payload: &[u8]) -> Vec<u8> {
        let mut out = [&b"FoPk\x01\x00"[..], &raw_bytes.to_le_bytes()].concat();
        out.extend((payload.len() as u32).to_le_bytes());
        out.extend((rows.len() as u32).to_le_bytes());
        for (digest, length) in rows {
            out.extend(digest.as_bytes());
            crate::pack::reader::put_varint(&mut out, *length);
        }
        [&out, payload].concat()
    }

    fn refusal(pack: &[u8]) -> PackError {
        unpack(pack, &mut PackDecoder::new()).unwrap_err()
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..40),
            level in -5..6,
        ) {
            let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
            let pack = pack(&contents, level);
            prop_assert_eq!(pack.id, Digest::of(&pack.bytes));
            let unpacked = unpack(&pack.bytes, &mut PackDecoder::new()).unwrap();
            for content in &contents {
                let found = unpacked.find(&Digest::of(content));
                prop_assert_eq!(found.as_deref(), Some(*content));
            }
            let mut distinct = contents.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(unpacked.contents().len(), distinct.len());
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(
            tail in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let bytes = [&b"FoPk\x01"[..], &tail].concat();
            // Fewer than 33 bytes per row and no forged BLAKE3: only an empty pack can pass.
            if let Ok(unpacked) = unpack(&bytes, &mut PackDecoder::new()) {
                prop_assert_eq!(unpacked.contents().len(), 0);
            }
        }
    }

    #[test]
    fn the_layout_is_what_the_module_documents() {
        let pack = pack(&[b"ab", b"", b"c"], 1);
        let expected = [
            &b"FoPk"[..],
            &[1, 0],
            &[3, 0, 0, 0],
            &[3, 0, 0, 0],
            &[3, 0, 0, 0],
            Digest::of(b"ab").as_bytes(),
            &[2],
            Digest::of(b"").as_bytes(),
            &[0],
            Digest::of(b"c").as_bytes(),
            &[1],
            b"abc",
        ]
        .concat();
        assert_eq!(pack.bytes, expected);
        assert_eq!(
            pack.id.to_hex(),
            "f47bb74fac5e4c3246739f63cac528ca1e50db08a515f2e3667dcfbf31337f7f"
        );
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let text = b"<?php echo 'hello';\n".repeat(40);
        for pack in [pack(&[&text, b"x"], 3), pack(&[&noise(1, 500)], 3)] {
            for bad in damaged(&pack.bytes) {
                // zstd ignores a few bits of a frame; whatever passes must still be the truth.
                if let Ok(unpacked) = unpack(&bad, &mut PackDecoder::new()) {
                    for (digest, content) in unpacked.contents() {
                        assert_eq!(Digest::of(content), digest);
                    }
                    assert_ne!(bad.len(), pack.bytes.len() + 1, "trailing byte accepted");
                }
            }
        }
    }

    #[test]
    fn counts_and_lengths_that_lie_are_refused() {
        let digest = Digest::of(b"ab");
        assert!(unpack(&forged(2, &[(digest, 2)], b"ab"), &mut PackDecoder::new()).is_ok());
        for (raw_bytes, rows, payload) in [
            (3, vec![(digest, 2)], &b"ab"[..]),
            (1, vec![(digest, 2)], b"ab"),
            (2, vec![(digest, u64::MAX)], b"ab"),
            (2, vec![(digest, 2)], b"abc"),
            (2, vec![(digest, 2)], b"a"),
            (2, vec![], b"ab"),
        ] {
            let bytes = forged(raw_bytes, &rows, payload);
            assert!(matches!(refusal(&bytes), PackError::Malformed(_)));
        }
        let twice = forged(4, &[(digest, 2), (digest, 2)], b"abab");
        assert_eq!(refusal(&twice), PackError::Duplicate(digest));
        let swapped = forged(2, &[(digest, 2)], b"ba");
        assert_eq!(refusal(&swapped), PackError::WrongContent(digest));
    }

    #[test]
    fn limits_are_checked_before_anything_is_allocated() {
        let over_raw = forged(MAX_RAW_BYTES as u32 + 1, &[], b"");
        let mut over_rows = forged(0, &[], b"");
        over_rows[14..18].copy_from_slice(&(MAX_ROWS as u32 + 1).to_le_bytes());
        for bytes in [over_raw, over_rows.clone()] {
            assert!(matches!(
                refusal(&bytes),
                PackError::Malformed(FormatError::OverLimit { .. })
            ));
        }
        over_rows[14..18].copy_from_slice(&(MAX_ROWS as u32).to_le_bytes());
        assert_eq!(
            refusal(&over_rows),
            PackError::Malformed(FormatError::Truncated)
        );
    }

    #[test]
    fn a_full_pack_says_so_and_stays_within_its_bound() {
        let mut builder = PackBuilder::new();
        let half = noise(1, MAX_RAW_BYTES / 2);
        builder.push(Digest::of(&half), &half).unwrap();
        // The same content again takes no room.
        builder.push(Digest::of(&half), &half).unwrap();
        assert_eq!(builder.raw_bytes(), half.len());
        let other = noise(2, MAX_RAW_BYTES / 2 + 1);
        assert_eq!(
            builder.push(Digest::of(&other), &other),
            Err(PushError::Full)
        );
        let pack = builder.finish(&mut PackEncoder::new(), 1);
        assert_eq!(pack.bytes.len(), FIXED_BYTES + 32 + 4 + half.len());
        assert!(pack.bytes.len() <= MAX_PACK_BYTES);
        assert_eq!(
            PackHeader::parse(&pack.bytes).unwrap().codec(),
            Codec::Stored
        );
    }

    #[test]
    fn a_pack_takes_as_many_bytes_and_contents_as_its_bounds_say() {
        let mut builder = PackBuilder::new();
        assert!(builder.is_empty());
        let all = noise(3, MAX_RAW_BYTES);
        builder.push(Digest::of(&all), &all).unwrap();
        assert!(!builder.is_empty());
        let one = builder.push(Digest::of(b"1"), b"1");
        assert_eq!(one, Err(PushError::Full));

        let mut builder = PackBuilder::new();
        for row in 0..MAX_ROWS as u32 {
            let content = row.to_le_bytes();
            builder.push(Digest::of(&content), &content).unwrap();
        }
        assert_eq!(builder.rows(), MAX_ROWS);
        let empty = builder.push(Digest::of(b""), b"");
        assert_eq!(empty, Err(PushError::Full));
        let pack = builder.finish(&mut PackEncoder::new(), 1);
        let rows = PackHeader::parse(&pack.bytes).unwrap().rows().len();
        assert_eq!(rows, MAX_ROWS);
    }

    #[test]
    fn a_file_that_changed_since_the_scan_never_gets_into_a_pack() {
        let digest = Digest::of(b"before");
        let mut builder = PackBuilder::new();
        assert_eq!(
            builder.push(digest, b"after!"),
            Err(PushError::Changed { expected: digest })
        );
        assert!(builder.is_empty());
    }
}
