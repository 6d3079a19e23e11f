//! Recipes end to end, and against hostile input.

use super::*;
use crate::delta::chunk::ChunkList;
use crate::delta::chunk::Chunker;
use crate::pack::segment::segments;
use crate::pack::testing::{damaged, noise};
use proptest::prelude::*;

fn list(content: &[u8]) -> ChunkList {
    let mut chunker = Chunker::new();
    chunker.push(content);
    chunker.finish().1.unwrap()
}

/// What hub and member do together: gather the literal stream segment by segment from the new
/// file, scatter it into a blank one, and copy the rest from the base.
fn assemble(recipe: &Recipe, base: &[u8], new: &[u8]) -> Vec<u8> {
    let at = |offset: u64, length: u64| offset as usize..(offset + length) as usize;
    let mut out = vec![0xEE; recipe.new_bytes() as usize];
    let mut position = 0;
    for entry in recipe.entries() {
        match *entry {
            RecipeEntry::Copy {
                base_offset,
                length,
            } => {
                out[at(position, length)].copy_from_slice(&base[at(base_offset, length)]);
                position += length;
            }
            RecipeEntry::Literal { new_offset, length } => {
                assert_eq!(new_offset, position);
                position += length;
            }
        }
    }
    for (offset, length) in segments(0, recipe.literal_bytes()) {
        let range = offset..offset + length as u64;
        let gathered: Vec<u8> = recipe
            .literal_pieces(range.clone())
            .flat_map(|piece| &new[at(piece.new_offset, piece.length)])
            .copied()
            .collect();
        assert_eq!(gathered.len(), length);
        for piece in recipe.literal_pieces(range) {
            let from = at(piece.stream_offset - offset, piece.length);
            out[at(piece.new_offset, piece.length)].copy_from_slice(&gathered[from]);
        }
    }
    out
}

fn encoded(entries: &[(u64, Option<u64>)], base_bytes: u64, new_bytes: u64) -> Vec<u8> {
    let mut out = [&b"FoRc\x01"[..], &[1; 32], &[2; 32]].concat();
    out.extend(base_bytes.to_le_bytes());
    out.extend(new_bytes.to_le_bytes());
    out.extend((entries.len() as u32).to_le_bytes());
    for (length, base_offset) in entries {
        put_varint(&mut out, length << 1 | u64::from(base_offset.is_some()));
        if let Some(at) = base_offset {
            put_varint(&mut out, *at);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_recipe_assembles_the_new_file(
        seed: u64,
        edits in prop::collection::vec(0_usize..600_000, 0..5),
        insert in prop::collection::vec(any::<u8>(), 0..200),
        moved in 0_usize..600_000,
    ) {
        let base = noise(seed, 600_000);
        let mut new = base.clone();
        for edit in edits {
            new[edit] ^= 1;
        }
        new.rotate_left(moved);
        new.splice(300_000..300_000, insert);
        let (old_list, new_list) = (list(&base), list(&new));
        let recipe = Recipe::between(&old_list, &new_list).unwrap();
        prop_assert_eq!((recipe.base, recipe.new), (old_list.content(), new_list.content()));
        prop_assert!(recipe.literal_bytes() < 9 * 33_000);
        let (id, bytes) = recipe.encode();
        prop_assert_eq!(id, Digest::of(&bytes));
        let parsed = Recipe::parse(&bytes).unwrap();
        prop_assert_eq!(&parsed, &recipe);
        prop_assert!(assemble(&parsed, &base, &new) == new);
    }

    #[test]
    fn whatever_parses_is_within_bounds_and_canonical(
        tail in prop::collection::vec(any::<u8>(), 0..40),
        entries in 0_u32..8,
        base_bytes in 0_u64..300,
        new_bytes in 0_u64..300,
    ) {
        let mut bytes = encoded(&[], base_bytes, new_bytes);
        bytes[85..89].copy_from_slice(&entries.to_le_bytes());
        bytes.extend(&tail);
        if let Ok(recipe) = Recipe::parse(&bytes) {
            prop_assert_eq!(&recipe.encode().1, &bytes);
            let (base, new) = (noise(1, base_bytes as usize), noise(2, new_bytes as usize));
            prop_assert_eq!(assemble(&recipe, &base, &new).len() as u64, new_bytes);
        }
    }
}

#[test]
fn the_layout_is_what_the_module_documents() {
    let recipe = Recipe::parse(&encoded(&[(300, Some(5)), (7, None)], 305, 307)).unwrap();
    assert_eq!(recipe.literal_bytes(), 7);
    let (_, bytes) = recipe.encode();
    assert_eq!(bytes[69..77], 305_u64.to_le_bytes());
    assert_eq!(bytes[77..85], 307_u64.to_le_bytes());
    assert_eq!(bytes[85..], [2, 0, 0, 0, 0xD9, 0x04, 5, 14]);
}

#[test]
fn a_run_of_equal_chunks_is_one_copy() {
    let zeros = list(&vec![0; 3 << 20]);
    let longer = list(&vec![0; 4 << 20]);
    let recipe = Recipe::between(&zeros, &zeros).unwrap();
    assert_eq!(recipe.entries().len(), 1);
    let recipe = Recipe::between(&zeros, &longer).unwrap();
    assert_eq!(recipe.entries().len(), 2);
}

#[test]
fn unrelated_files_have_no_recipe() {
    assert_eq!(
        Recipe::between(&list(&noise(1, 300_000)), &list(&noise(2, 300_000))),
        None
    );
    assert_eq!(Recipe::between(&list(b""), &list(&noise(2, 300_000))), None);
}

#[test]
fn entries_that_lie_are_refused() {
    let ok = |entries: &[_], base, new| Recipe::parse(&encoded(entries, base, new)).is_ok();
    assert!(ok(&[(10, Some(5)), (5, None)], 15, 15));
    // Beyond the base, beyond and short of the new size, empty, overflowing.
    assert!(!ok(&[(10, Some(6)), (5, None)], 15, 15));
    assert!(!ok(&[(10, Some(u64::MAX)), (5, None)], 15, 15));
    assert!(!ok(&[(16, Some(0))], 15, 16));
    assert!(!ok(&[(10, Some(5)), (6, None)], 15, 15));
    assert!(!ok(&[(10, Some(5))], 15, 15));
    assert!(!ok(&[(15, None), (0, None)], 15, 15));
    assert!(!ok(&[(u64::MAX >> 1, None), (15, None)], 15, 15));
    // Neighbours that belong together.
    assert!(!ok(&[(7, None), (8, None)], 15, 15));
    assert!(!ok(&[(7, Some(0)), (8, Some(7))], 15, 15));
    assert!(ok(&[(7, Some(0)), (8, Some(6))], 15, 15));
    // Sizes and counts over the limits.
    assert!(!ok(&[], u64::MAX, 0));
    let mut many = encoded(&[], 0, 0);
    for count in [1, MAX_ENTRIES as u32, u32::MAX] {
        many[85..89].copy_from_slice(&count.to_le_bytes());
        assert!(Recipe::parse(&many).is_err());
    }
}

#[test]
fn damage_is_refused_or_is_another_valid_recipe() {
    let good = encoded(&[(300, Some(5)), (7, None), (200, Some(9))], 305, 507);
    for bad in damaged(&good) {
        if let Ok(recipe) = Recipe::parse(&bad) {
            assert_eq!(recipe.encode().1, bad);
        }
    }
}
