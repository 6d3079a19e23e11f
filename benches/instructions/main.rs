//! What a push costs the processor where no disk and no network is asked: instructions, counted by
//! valgrind, held against those on record in `figures.txt`.
//!
//! `scripts/instructions` runs it, and renews the figures. Decision 12 says why it measures what
//! the tests use (the profile `dev`), and why nothing here opens a file.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::exit,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program for developers, and what gungraun's macros expand to"
)]

mod ground;

use fanout::engine::index::{Index, Stamp};
use fanout::engine::member::compare::Comparison;
use fanout::engine::member::tree_plan::{PlanInput, TreePlan, plan};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind, main};
use std::hint::black_box;
use sync_proto::delta::{Delta, Version, apply_delta, make_delta};
use sync_proto::manifest::{Change, Directory, Manifest, diff};
use sync_proto::pack::{PackDecoder, PackEncoder, unpack};
use sync_proto::wire::Layout;
use sync_proto::wire::table::{encode_listings, encode_rows, rows};

/// Instructions on record, a name and a number in each line.
const FIGURES: &str = include_str!("figures.txt");
/// By how many hundredths a count may be above its figure: more than another compiler makes of the
/// same code, less than one needless pass over a tree.
const ALLOWED_PERCENT: u64 = 25;

/// Fails above what is on record; what has no record fails too.
fn limited(name: &str) -> LibraryBenchmarkConfig {
    let figures = FIGURES.lines().filter_map(|line| line.split_once(' '));
    let figure = figures
        .filter(|(known, _)| *known == name)
        .find_map(|(_, figure)| figure.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let mut config = LibraryBenchmarkConfig::default();
    let most = figure + figure * ALLOWED_PERCENT / 100;
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, most)]));
    config
}

// What a look at a tree that didn't change does besides the system calls: the index is read, each
// entry is found in it and held against its stamp, and it is written again.
#[library_benchmark(config = limited("scan"))]
#[bench::tree(args = (500), setup = ground::index)]
fn scan(bytes: Vec<u8>) -> (usize, Vec<u8>) {
    let index = Index::read(bytes.as_slice()).unwrap();
    let mut same = 0;
    for (directory, _) in index.directories() {
        let (known, stamps) = index.directory(&directory.path).unwrap();
        let stamp = Stamp::default();
        same += stamps.iter().filter(|known| **known == stamp).count();
        for entry in &known.entries {
            same += usize::from(known.entry(entry.name.as_bytes()).is_some());
        }
    }
    (same, ground::written(&black_box(index)))
}

// What the hub makes of a tree for all members: hashes, roots, the table, and what the depot keeps.
#[library_benchmark(config = limited("manifest_encode"))]
#[bench::tree(args = (500, 0), setup = ground::tree)]
fn manifest_encode(tree: Manifest) -> (Vec<u8>, Vec<u8>) {
    black_box(tree.roots());
    let table = encode_rows(&rows(&tree));
    (table, black_box(tree).encode())
}

#[library_benchmark(config = limited("manifest_decode"))]
#[bench::tree(args = (500), setup = ground::encoded)]
fn manifest_decode(bytes: Vec<u8>) -> Manifest {
    Manifest::decode(black_box(&bytes)).unwrap()
}

// Both ends of a comparison after a release: which directories differ, their listings, the wanted
// tree put together and checked.
#[library_benchmark(config = limited("compare"))]
#[bench::release(args = (500), setup = ground::release)]
fn compare((old, new): (Manifest, Manifest)) -> Manifest {
    let meta = sync_proto::manifest::meta_bytes(new.root_meta());
    let comparison = Comparison::new(&old, new.roots(), &meta, rows(&new)).unwrap();
    let mut listings = Vec::new();
    for (start, length) in comparison.wanted() {
        let some = start as usize..(start + length) as usize;
        let some = new.directories()[some].iter();
        listings.extend(some.map(|directory| Directory::clone(directory)));
    }
    black_box(encode_listings(&listings));
    let wanted = comparison.finish(&old, listings).unwrap();
    let replaced = diff(&old, &wanted);
    assert!(matches!(replaced[0].change, Change::Replaced { .. }));
    wanted
}

#[library_benchmark(config = limited("pack_encode"))]
#[bench::files(args = (400), setup = ground::contents)]
fn pack_encode(contents: Vec<Vec<u8>>) -> bytes::Bytes {
    ground::packed(&contents)
}

#[library_benchmark(config = limited("pack_decode"))]
#[bench::files(args = (400), setup = ground::pack)]
fn pack_decode(pack: bytes::Bytes) -> usize {
    let unpacked = unpack(&pack, &mut PackDecoder::new()).unwrap();
    unpacked.contents().map(|(_, bytes)| bytes.len()).sum()
}

#[library_benchmark(config = limited("delta_make"))]
#[bench::patch(args = (300_000), setup = ground::versions)]
fn delta_make((old, new): (Vec<u8>, Vec<u8>)) -> Delta {
    make_delta(
        Version::of(&old),
        Version::of(&new),
        &mut PackEncoder::new(),
    )
    .unwrap()
}

// Above 8 MiB the commands are librsync's.
#[library_benchmark(config = limited("delta_make_large"))]
#[bench::rsync(args = (9_000_000), setup = ground::versions)]
fn delta_make_large((old, new): (Vec<u8>, Vec<u8>)) -> Delta {
    make_delta(
        Version::of(&old),
        Version::of(&new),
        &mut PackEncoder::new(),
    )
    .unwrap()
}

#[library_benchmark(config = limited("delta_apply"))]
#[bench::patch(args = (300_000), setup = ground::delta)]
fn delta_apply((old, delta, length): (Vec<u8>, Delta, u64)) -> Vec<u8> {
    let content = delta.content();
    apply_delta(&old, &delta, length, content, &mut PackDecoder::new()).unwrap()
}

// What a member decides to do, from what is there and what is wanted.
#[library_benchmark(config = limited("apply_plan_first"))]
#[bench::first_push(args = (500), setup = ground::first_push)]
fn apply_plan_first(planned: ground::Planned) -> TreePlan {
    made(&planned)
}

#[library_benchmark(config = limited("apply_plan_release"))]
#[bench::release(args = (500), setup = ground::next_push)]
fn apply_plan_release(planned: ground::Planned) -> TreePlan {
    made(&planned)
}

fn made(planned: &ground::Planned) -> TreePlan {
    let made = plan(&PlanInput {
        live: None,
        layout: Layout::InPlace,
        observed: &planned.observed,
        is_looked_at: true,
        committed: Some(&planned.observed),
        desired: &planned.desired,
        keeper: &planned.keeper,
        seed: false,
        space: None,
        root_changed: None,
    })
    .unwrap();
    black_box(made.staged().count());
    made
}

library_benchmark_group!(
    name = push,
    benchmarks = [
        scan,
        manifest_encode,
        manifest_decode,
        compare,
        pack_encode,
        pack_decode,
        delta_make,
        delta_make_large,
        delta_apply,
        apply_plan_first,
        apply_plan_release,
    ]
);

main!(library_benchmark_groups = push);
