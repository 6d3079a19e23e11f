//! Cutting and hashing a content as it is read.
//!
//! One pass makes the digest of the whole and the ids of the chunks, on all cores. Where an earlier
//! version's chunks are known, the next ones are expected to be those: an id has to be computed
//! anyway, and where it is the expected one, so is the cut, since a cut depends on nothing but the
//! bytes from the cut before. Only what differs is searched for cut points, which costs more than
//! both hashes together.
//!
//! Invariant: with a guide or without, the list is the same (but for a collision of 128 bits, and an
//! id is no proof of anything).

use super::{AVERAGE_CHUNK_BYTES, Chunk, ChunkList, MAX_CHUNK_BYTES, MAX_CHUNKS, MIN_CHUNK_BYTES};
use crate::digest::Digest;
use fastcdc::v2020::{Normalization, cut, select_masks};
use rayon::prelude::*;
use std::collections::HashMap;

/// How much of a pushed slice is looked at at once.
const INTAKE_BYTES: usize = 1 << 20;
/// Chunks that are hashed one after the other: less than that isn't worth another core.
const CHUNKS_AT_ONCE: usize = 16;

/// Cuts and hashes a content that is fed in pieces of any length, most of it where it lies.
pub struct Chunker {
    masks: (u64, u64),
    guide: Option<Guide>,
    whole: blake3::Hasher,
    /// What no chunk has taken yet: less than the longest.
    pending: Vec<u8>,
    size: u64,
    chunks: Vec<Chunk>,
    overflowed: bool,
}

impl Default for Chunker {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunker {
    /// Begins a content.
    pub fn new() -> Self {
        Self {
            masks: select_masks(AVERAGE_CHUNK_BYTES, Normalization::Level1),
            guide: None,
            whole: blake3::Hasher::new(),
            pending: Vec::with_capacity(2 * MAX_CHUNK_BYTES),
            size: 0,
            chunks: Vec::new(),
            overflowed: false,
        }
    }

    /// Begins a content that is much like one whose chunks are known.
    pub fn after(old: ChunkList) -> Self {
        Self {
            guide: Some(Guide {
                old: old.chunks,
                next: Some(0),
                places: None,
            }),
            ..Self::new()
        }
    }

    /// Takes the next bytes of the content; the cut points don't depend on how it is divided.
    pub fn push(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(INTAKE_BYTES) {
            self.size += part.len() as u64;
            let (whole, pending) = (&mut self.whole, &mut self.pending);
            let (guide, masks) = (&mut self.guide, self.masks);
            let (_, chunks) = rayon::join(
                || whole.update(part),
                || cut_with(pending, part, guide.as_mut(), masks),
            );
            self.note(&chunks);
        }
    }

    /// Ends the content: its digest and, unless it has more than [`MAX_CHUNKS`], its chunks.
    pub fn finish(mut self) -> (Digest, Option<ChunkList>) {
        let mut chunks = Vec::new();
        extend(&mut chunks, &self.pending, 0, usize::MAX, self.masks);
        self.note(&chunks);
        let content = Digest::from(self.whole.finalize());
        let list = ChunkList {
            content,
            size: self.size,
            chunks: self.chunks,
        };
        (content, (!self.overflowed).then_some(list))
    }

    fn note(&mut self, chunks: &[Chunk]) {
        let room = MAX_CHUNKS - self.chunks.len();
        self.overflowed |= chunks.len() > room;
        self.chunks.extend(chunks.iter().take(room));
    }
}

/// The chunks that `pending` and `part` after it begin with; what is left becomes `pending`. Only
/// those that begin in `pending` are cut from a copy of the bytes.
fn cut_with(
    pending: &mut Vec<u8>,
    part: &[u8],
    mut guide: Option<&mut Guide>,
    masks: (u64, u64),
) -> Vec<Chunk> {
    let carried = pending.len();
    let (ahead, behind) = part.split_at(part.len().min(MAX_CHUNK_BYTES));
    if carried > 0 {
        pending.extend_from_slice(ahead);
    }
    if carried > 0 && behind.is_empty() {
        let chunks = cut_below(pending, usize::MAX, guide, masks);
        pending.drain(..length_of(&chunks));
        return chunks;
    }
    let mut chunks = cut_below(pending, carried, guide.as_deref_mut(), masks);
    let rest = &part[length_of(&chunks) - carried..];
    let more = cut_below(rest, usize::MAX, guide, masks);
    pending.clear();
    pending.extend_from_slice(&rest[length_of(&more)..]);
    chunks.extend(more);
    chunks
}

/// The chunks of `bytes` that begin before `limit`. A cut needs the longest possible chunk ahead of
/// it, or the end of the content.
fn cut_below(
    bytes: &[u8],
    limit: usize,
    mut guide: Option<&mut Guide>,
    masks: (u64, u64),
) -> Vec<Chunk> {
    let mut chunks = match &mut guide {
        Some(guide) => guide.follow(bytes, limit),
        None => Vec::new(),
    };
    let known = chunks.len();
    extend(&mut chunks, bytes, MAX_CHUNK_BYTES - 1, limit, masks);
    if let (Some(guide), Some(last)) = (guide, chunks[known..].last()) {
        guide.look_for(last);
    }
    chunks
}

fn length_of(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.length as usize).sum()
}

/// Cuts what lies behind these chunks, while that is longer than `keep_bytes` and begins before `limit`.
fn extend(
    chunks: &mut Vec<Chunk>,
    bytes: &[u8],
    keep_bytes: usize,
    limit: usize,
    masks: (u64, u64),
) {
    let (strict, loose) = masks;
    let mut rest = &bytes[length_of(chunks)..];
    let mut cuts = Vec::new();
    while rest.len() > keep_bytes && bytes.len() - rest.len() < limit {
        let (_fingerprint, length) = cut(
            rest,
            MIN_CHUNK_BYTES,
            AVERAGE_CHUNK_BYTES,
            MAX_CHUNK_BYTES,
            strict,
            loose,
            strict << 1,
            loose << 1,
        );
        let (chunk, behind) = rest.split_at(length);
        cuts.push(chunk);
        rest = behind;
    }
    let hashed = cuts.par_iter().with_min_len(CHUNKS_AT_ONCE);
    chunks.par_extend(hashed.map(|bytes| Chunk::of(bytes)));
}

/// The chunks of an earlier version, and where in it the content is.
struct Guide {
    old: Vec<Chunk>,
    /// The chunk that is expected now, if there is a guess.
    next: Option<usize>,
    /// Where each id is, once that has been asked.
    places: Option<HashMap<[u8; 16], usize>>,
}

impl Guide {
    /// The chunks that `bytes` begins with, as far as they are the expected ones and begin before `limit`.
    fn follow(&mut self, bytes: &[u8], limit: usize) -> Vec<Chunk> {
        let Some(next) = self.next else {
            return Vec::new();
        };
        // What the end of the content has cut says nothing about another one.
        let end = self.old.len().saturating_sub(1);
        let mut rest = bytes;
        let mut expected = Vec::new();
        for chunk in self.old.get(next..end).unwrap_or_default() {
            // As with any cut, the longest possible chunk has to be there.
            if rest.len() < MAX_CHUNK_BYTES || bytes.len() - rest.len() >= limit {
                break;
            }
            let (content, behind) = rest.split_at(chunk.length as usize);
            expected.push((chunk, content));
            rest = behind;
        }
        let is_same = |(chunk, bytes): &(&Chunk, &[u8])| Chunk::of(bytes) == **chunk;
        let checked = expected.par_iter().with_min_len(CHUNKS_AT_ONCE);
        let same: Vec<bool> = checked.map(is_same).collect();
        let count = same.iter().take_while(|same| **same).count();
        self.next = (count == same.len()).then_some(next + count);
        self.old[next..next + count].to_vec()
    }

    /// A chunk was cut: what is expected now follows upon it.
    fn look_for(&mut self, last: &Chunk) {
        let old = &self.old;
        let places = self.places.get_or_insert_with(|| {
            let places = old.iter().enumerate();
            places.map(|(at, chunk)| (chunk.id, at)).collect()
        });
        self.next = places.get(&last.id).map(|at| at + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::noise;

    fn cut_all(content: &[u8]) -> ChunkList {
        let mut chunker = Chunker::new();
        chunker.push(content);
        chunker.finish().1.unwrap()
    }

    /// How many chunks of `new` had to be searched for, and how many there are.
    fn searched(old: &[u8], new: &[u8]) -> (usize, usize) {
        let mut guide = Guide {
            old: cut_all(old).chunks,
            next: Some(0),
            places: None,
        };
        let masks = select_masks(AVERAGE_CHUNK_BYTES, Normalization::Level1);
        let (mut rest, mut searched, mut all) = (new, 0, 0);
        while rest.len() >= MAX_CHUNK_BYTES {
            let intake = &rest[..rest.len().min(INTAKE_BYTES)];
            let mut chunks = guide.follow(intake, usize::MAX);
            let known = chunks.len();
            extend(&mut chunks, intake, MAX_CHUNK_BYTES - 1, usize::MAX, masks);
            if let Some(last) = chunks[known..].last() {
                guide.look_for(last);
            }
            searched += chunks.len() - known;
            all += chunks.len();
            rest = &rest[length_of(&chunks)..];
        }
        (searched, all)
    }

    #[test]
    fn only_what_differs_is_searched_for_cuts() {
        let old = noise(3, 8 << 20);
        let (none, all) = searched(&old, &old);
        assert_eq!(none, 0);
        assert!(all > 700, "{all}");
        let mut longer = old.clone();
        longer.splice(3 << 20..3 << 20, noise(4, 1_000));
        let (few, _) = searched(&old, &longer);
        // At most the rest of the intake in which it is.
        assert!((1..130).contains(&few), "{few}");
        let (shorter, _) = searched(&longer, &old[1 << 20..]);
        assert!((1..260).contains(&shorter), "{shorter}");
        let (other, all) = searched(&old, &noise(5, 8 << 20));
        assert_eq!(other, all);
    }
}
