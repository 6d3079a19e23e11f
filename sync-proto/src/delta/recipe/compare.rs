//! Making a recipe from two chunk lists.

use super::{MAX_ENTRIES, Recipe};
use crate::delta::chunk::{Chunk, ChunkList};
use std::collections::HashMap;

impl Recipe {
    /// Finds the chunks of `new` in `base`. `None` if less than a quarter is there, or the pieces
    /// are too many: then the whole file is the better transfer.
    pub fn between(base: &ChunkList, new: &ChunkList) -> Option<Self> {
        let mut recipe = Self::empty(base.content(), new.content(), base.size());
        let places = places_by_id(base);
        let mut follower: Option<usize> = None;
        for chunk in new.chunks() {
            // The base's next chunk first: where a chunk occurs often, as zeros do, this keeps
            // one long copy instead of many short ones.
            let index = follower
                .filter(|&index| base.chunks().get(index) == Some(chunk))
                .or_else(|| find(&places, base.chunks(), chunk));
            let length = chunk.length.into();
            match index {
                Some(index) => recipe.append_copy(places.offsets[index], length),
                None => recipe.append_literal(length),
            }
            follower = index.map(|index| index + 1);
        }
        let worth_it = recipe.literal_bytes <= recipe.new_bytes / 4 * 3;
        (worth_it && recipe.entries.len() <= MAX_ENTRIES).then_some(recipe)
    }
}

/// Where the chunks of a base are.
struct Places {
    first: HashMap<[u8; 16], usize>,
    offsets: Vec<u64>,
}

fn places_by_id(base: &ChunkList) -> Places {
    let mut first = HashMap::with_capacity(base.chunks().len());
    let mut offsets = Vec::with_capacity(base.chunks().len());
    let mut offset = 0;
    for (index, chunk) in base.chunks().iter().enumerate() {
        first.entry(chunk.id).or_insert(index);
        offsets.push(offset);
        offset += u64::from(chunk.length);
    }
    Places { first, offsets }
}

/// An id from a forged list may go with another length: both must match.
fn find(places: &Places, base: &[Chunk], chunk: &Chunk) -> Option<usize> {
    let index = *places.first.get(&chunk.id)?;
    (base[index] == *chunk).then_some(index)
}
