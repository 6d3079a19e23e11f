//! What is measured on: trees and contents in memory, the same in every run.

use bytes::Bytes;
use fanout::engine::index::{Index, Stamp};
use fanout::engine::member::foreign::ForeignPaths;
use fanout::engine::member::keeper::Keeper;
use std::collections::BTreeSet;
use sync_proto::delta::{Delta, Version, make_delta};
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Principal, Time};
use sync_proto::filter::Scope;
use sync_proto::manifest::{Directory, Manifest};
use sync_proto::pack::{PackBuilder, PackEncoder};
use sync_proto::path::{Name, RelPath};

const FILES_PER_DIRECTORY: usize = 10;
/// A release edits one file of every so many directories.
const EDITED_EVERY: usize = 20;
/// The level that the hub packs with.
const LEVEL: i32 = 1;

fn meta(mode: u32, at: usize) -> Meta {
    Meta {
        mode,
        user: Principal::Name("deploy".into()),
        group: Principal::Name("www-data".into()),
        mtime: Some(Time {
            seconds: 1_700_000_000 + at as i64 * 977,
            nanoseconds: at as u32 * 1_000,
        }),
        xattrs: None,
    }
}

fn entry(name: &str, kind: Kind, meta: Meta) -> Entry {
    let name = Name::parse(name.as_bytes()).unwrap();
    Entry { name, kind, meta }
}

/// A platform of so many modules with ten files each, at some release.
pub(crate) fn tree(modules: usize, release: usize) -> Manifest {
    let at = |path: &str| RelPath::parse(path.as_bytes()).unwrap();
    let directory = |name: &str, nth| entry(name, Kind::Directory, meta(0o755, nth));
    let mut directories = vec![
        Directory {
            path: RelPath::root(),
            entries: vec![directory("modules", 0)],
        },
        Directory {
            path: at("modules"),
            entries: (0..modules)
                .map(|nth| directory(&format!("module{nth:04}"), nth))
                .collect(),
        },
    ];
    directories.extend((0..modules).map(|module| {
        let file = |nth: usize| {
            let is_edited = nth == 0 && module % EDITED_EVERY == 0;
            let version = if is_edited { release } else { 0 };
            let content = Digest::of(format!("{module} {nth} {version}").as_bytes());
            let size = 1_000 + nth as u64 * 300;
            let kind = Kind::File { size, content };
            entry(&format!("file{nth}.php"), kind, meta(0o644, module + nth))
        };
        Directory {
            path: at(&format!("modules/module{module:04}")),
            entries: (0..FILES_PER_DIRECTORY).map(file).collect(),
        }
    }));
    Manifest::new(meta(0o755, 0), directories).unwrap()
}

pub(crate) fn encoded(modules: usize) -> Vec<u8> {
    tree(modules, 0).encode()
}

pub(crate) fn release(modules: usize) -> (Manifest, Manifest) {
    (tree(modules, 0), tree(modules, 1))
}

fn indexed(tree: Manifest) -> Index {
    let stamps = vec![Stamp::default(); tree.entry_count()];
    Index::new(tree, Stamp::default(), stamps).unwrap()
}

pub(crate) fn index(modules: usize) -> Vec<u8> {
    count_all_threads();
    written(&indexed(tree(modules, 0)))
}

/// Only the thread that calls what is counted is counted: so it is the only one.
fn count_all_threads() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread();
    pool.build_global().unwrap();
}

pub(crate) fn written(index: &Index) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write(&mut bytes).unwrap();
    bytes
}

/// What a member plans from.
pub(crate) struct Planned {
    pub(crate) observed: Index,
    pub(crate) desired: Manifest,
    pub(crate) keeper: Keeper,
}

fn planned(observed: Manifest, desired: Manifest) -> Planned {
    let keeper = Keeper {
        scope: Scope::default(),
        foreign: ForeignPaths::default(),
        shared: BTreeSet::new(),
    };
    Planned {
        observed: indexed(observed),
        desired,
        keeper,
    }
}

pub(crate) fn first_push(modules: usize) -> Planned {
    planned(tree(0, 0), tree(modules, 0))
}

pub(crate) fn next_push(modules: usize) -> Planned {
    planned(tree(modules, 0), tree(modules, 1))
}

/// Lines that compress about as PHP does.
fn text(seed: usize, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 80);
    let mut state = seed as u64 * 2 + 1;
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let line = format!("    $value{} = f{}($this->x);\n", state >> 57, state >> 48);
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(bytes);
    text
}

pub(crate) fn contents(files: usize) -> Vec<Vec<u8>> {
    (0..files)
        .map(|nth| text(nth, 500 + nth * 37 % 4_000))
        .collect()
}

/// As the hub packs small files.
pub(crate) fn packed(contents: &[Vec<u8>]) -> Bytes {
    let mut builder = PackBuilder::new();
    for content in contents {
        builder.push(Digest::of(content), content).unwrap();
    }
    builder.finish(&mut PackEncoder::new(), LEVEL).bytes
}

pub(crate) fn pack(files: usize) -> Bytes {
    packed(&contents(files))
}

/// A content with an edit in every 50,000 bytes, and a line inserted.
pub(crate) fn versions(bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let old = text(7, bytes);
    let mut new = old.clone();
    for at in (0..bytes - 20).step_by(50_000) {
        new[at..at + 20].copy_from_slice(b"twenty bytes edited.");
    }
    new.splice(bytes / 3..bytes / 3, *b"    inserted();\n");
    (old, new)
}

pub(crate) fn delta(bytes: usize) -> (Vec<u8>, Delta, u64) {
    let (old, new) = versions(bytes);
    let (base, made) = (Version::of(&old), Version::of(&new));
    let delta = make_delta(base, made, &mut PackEncoder::new()).unwrap();
    (old, delta, new.len() as u64)
}
