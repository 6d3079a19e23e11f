//! Content-defined chunks of large files, for [recipes](crate::delta::recipe).
//!
//! A [`ChunkList`] depends on the content alone, so it is made once per content, kept by content
//! digest, and compared with any other list without reading a file. The cut points are a protocol constant: FastCDC 2020 (Xia et
//! al., IEEE TPDS 31(9), 2020) as the crate `fastcdc` 5.0.0 implements it, with the parameters
//! below and normalization level 1, which tests pin with golden values.
//!
//! # Layout (normative, version 2; numbers little-endian)
//!
//! ```text
//! offset  size  field
//!      0     4  magic "FoCl"
//!      4     1  version, 2; another way to cut, another parameter or another id is another one
//!      5    32  BLAKE3 of the whole content
//!     37     8  size of the content
//!     45     4  number of chunks, at most 4,194,304
//!     49     -  per chunk: its length (unsigned LEB128, shortest form)
//!      -     -  per chunk: its XXH3 of 128 bits, without a seed
//! ```
//!
//! Invariants: the lengths add up to the size; every chunk but the last has a length that the
//! cutting allows. A chunk's id is a hint for finding equal bytes, never proof: only the digest of
//! the assembled file is. So it needn't withstand anybody who wants two chunks to have the same: who
//! writes such a file gets it delivered whole.

mod chunker;

pub use chunker::Chunker;

use crate::digest::Digest;
use crate::pack::FormatError;
use crate::pack::reader::{Reader, put_varint, within};
use crate::pack::segment::MAX_FILE_BYTES;
use twox_hash::XxHash3_128;

const MAGIC: [u8; 4] = *b"FoCl";
const VERSION: u8 = 2;
const FIXED_BYTES: usize = 49;

/// The shortest chunk, except for the last one of a file.
pub const MIN_CHUNK_BYTES: usize = 2 << 10;
/// The length that cutting aims at.
pub const AVERAGE_CHUNK_BYTES: usize = 8 << 10;
/// The longest chunk.
pub const MAX_CHUNK_BYTES: usize = 32 << 10;
/// The most chunks in one list, enough for about 32 GiB; larger files have none and are sent
/// whole. LIMIT: against a peer.
pub const MAX_CHUNKS: usize = 1 << 22;
/// The longest an encoded list can be. A length takes at most three bytes as LEB128.
pub const MAX_CHUNK_LIST_BYTES: usize = FIXED_BYTES + MAX_CHUNKS * (3 + 16);

/// One chunk of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its length in bytes.
    pub length: u32,
    /// Its XXH3.
    pub id: [u8; 16],
}

impl Chunk {
    /// The chunk that these bytes are.
    fn of(bytes: &[u8]) -> Self {
        Self {
            length: bytes.len() as u32,
            id: XxHash3_128::oneshot(bytes).to_le_bytes(),
        }
    }
}

/// The chunks of one content, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkList {
    content: Digest,
    size: u64,
    chunks: Vec<Chunk>,
}

impl ChunkList {
    /// BLAKE3 of the whole content.
    pub fn content(&self) -> Digest {
        self.content
    }

    /// The length of the whole content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The chunks in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The serialised form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.chunks.len() * 19);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(self.content.as_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for chunk in &self.chunks {
            put_varint(&mut out, chunk.length.into());
        }
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id);
        }
        out
    }

    /// Reads the serialised form.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::open(bytes, MAGIC, VERSION)?;
        let content = reader.digest()?;
        let size = within("content bytes", reader.u64()?, MAX_FILE_BYTES)?;
        let count = within("chunks", reader.u32()?.into(), MAX_CHUNKS as u64)? as usize;
        // LIMIT: before anything is allocated for the chunks, they must be able to be there.
        if count * 17 > reader.remaining_bytes() {
            return Err(FormatError::Truncated);
        }
        let mut chunks = Vec::with_capacity(count);
        let mut left = size;
        for index in 0..count {
            let length = reader.varint()?;
            let shortest = if index + 1 == count {
                1
            } else {
                MIN_CHUNK_BYTES
            };
            if !(shortest as u64..=MAX_CHUNK_BYTES as u64).contains(&length) {
                return Err(FormatError::Inconsistent("a chunk of impossible length"));
            }
            left = left
                .checked_sub(length)
                .ok_or(FormatError::Inconsistent("the chunks exceed the size"))?;
            chunks.push(Chunk {
                length: length as u32,
                id: [0; 16],
            });
        }
        if left > 0 {
            return Err(FormatError::Inconsistent(
                "the chunks fall short of the size",
            ));
        }
        for chunk in &mut chunks {
            chunk.id = reader.array()?;
        }
        reader.finish()?;
        Ok(Self {
            content,
            size,
            chunks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::{damaged, noise};
    use proptest::prelude::*;

    pub(crate) fn list(content: &[u8]) -> ChunkList {
        let mut chunker = Chunker::new();
        chunker.push(content);
        chunker.finish().1.unwrap()
    }

    fn lengths(list: &ChunkList) -> Vec<u32> {
        list.chunks.iter().map(|chunk| chunk.length).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn cut_points_dont_depend_on_how_the_content_arrives(
            seed: u64,
            size in 0_usize..400_000,
            pieces in prop::collection::vec(1_usize..150_000, 1..8),
        ) {
            let content = noise(seed, size);
            let whole = list(&content);
            let mut chunker = Chunker::new();
            let mut rest = &content[..];
            for piece in pieces.iter().cycle() {
                let (front, back) = rest.split_at(rest.len().min(*piece));
                chunker.push(front);
                rest = back;
                if rest.is_empty() {
                    break;
                }
            }
            let (digest, pieced) = chunker.finish();
            prop_assert_eq!(digest, Digest::of(&content));
            prop_assert_eq!(pieced.as_ref(), Some(&whole));
            prop_assert_eq!(ChunkList::parse(&whole.encode()), Ok(whole));
        }

        #[test]
        fn a_guide_changes_nothing_but_the_time(
            seed: u64,
            size in 0_usize..4_000_000,
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..60_000, 0_usize..60_000), 0..5),
            zeros in any::<bool>(),
        ) {
            let mut old = noise(seed, size);
            if zeros {
                old[size / 3..size / 3 * 2].fill(0);
            }
            let mut new = old.clone();
            for (at, removed, added) in edits {
                let at = at.index(new.len() + 1);
                let end = (at + removed).min(new.len());
                new.splice(at..end, noise(seed ^ 1, added));
            }
            for (old, new) in [(&old, &new), (&new, &old), (&old, &old)] {
                let mut chunker = Chunker::after(list(old));
                chunker.push(new);
                let (digest, guided) = chunker.finish();
                prop_assert_eq!(digest, Digest::of(new));
                prop_assert_eq!(guided, Some(list(new)));
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [&b"FoCl\x02"[..], &tail].concat();
            if let Ok(list) = ChunkList::parse(&bytes) {
                prop_assert_eq!(list.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_cut_points_are_a_protocol_constant() {
        // Changing any of these makes hubs and members of different builds miss each other's
        // chunks: that is a new format version.
        assert_eq!(
            lengths(&list(&noise(1, 200_000))),
            [
                6140, 3095, 17943, 7652, 2507, 9981, 13566, 9739, 11916, 12511, 15129, 9178, 21474,
                2070, 8849, 15319, 24366, 8565
            ]
        );
        assert_eq!(
            lengths(&list(&vec![0; 150_000])),
            [32768, 32768, 32768, 32768, 18928]
        );
        assert_eq!(lengths(&list(b"short")), [5]);
        assert_eq!(lengths(&list(b"")), [0_u32; 0]);
        let text: Vec<u8> = (0..20_000_u32)
            .flat_map(|row| format!("INSERT INTO node VALUES ({row});\n").into_bytes())
            .collect();
        assert_eq!(
            Digest::of(&list(&text).encode()).to_hex(),
            "1eee6c979ee4d4b6a8c1662493265f324171af6864b0416740235f483d67f647"
        );
    }

    #[test]
    fn feeding_slices_cuts_where_the_crate_cuts_the_whole() {
        let content = noise(8, 3 << 20);
        let oracle = fastcdc::v2020::FastCDC::new(
            &content,
            MIN_CHUNK_BYTES,
            AVERAGE_CHUNK_BYTES,
            MAX_CHUNK_BYTES,
        );
        let expected: Vec<u32> = oracle.map(|chunk| chunk.length as u32).collect();
        assert_eq!(lengths(&list(&content)), expected);
    }

    #[test]
    fn the_layout_is_what_the_module_documents() {
        let list = list(b"short");
        let expected = [
            &b"FoCl\x02"[..],
            Digest::of(b"short").as_bytes(),
            &5_u64.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &[5],
            &0x5ade_0526_9525_1792_1270_12d5_e9df_de89_u128.to_le_bytes(),
        ]
        .concat();
        assert_eq!(list.encode(), expected);
    }

    #[test]
    fn damage_is_refused_or_is_another_valid_list() {
        let good = list(&noise(1, 100_000)).encode();
        for bad in damaged(&good) {
            if let Ok(list) = ChunkList::parse(&bad) {
                assert_eq!(list.encode(), bad);
            }
        }
    }

    #[test]
    fn counts_and_sizes_that_lie_are_refused() {
        let good = list(&noise(1, 100_000)).encode();
        for (at, lie) in [(37, 100_001_u32), (37, 99_999), (45, 0), (45, u32::MAX)] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            assert!(ChunkList::parse(&bad).is_err());
        }
    }
}
