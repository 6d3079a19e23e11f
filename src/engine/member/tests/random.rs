//! Random trees, random changes on the member, random deaths: what comes out is what was pushed.

use super::super::fault::counted::fail_at;
use super::super::generations::collect;
use super::super::testing::{World, keeper, quick, set_mtime};
use super::super::transaction::abort;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use sync_proto::wire::Layout;

const NAMES: [&str; 5] = ["a", "b", "c", "keep", "x.log"];

/// Grows a tree from few names, so that every name is a different kind of thing now and then.
pub(super) fn grow(root: &Path, random: &mut StdRng, entries: usize, is_source: bool) {
    std::fs::create_dir_all(root).unwrap();
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for _ in 0..entries {
        let at =
            directories[random.random_range(0..directories.len())].join(pick(random, is_source));
        if at.symlink_metadata().is_ok() {
            continue;
        }
        match random.random_range(0..10) {
            0..3 => {
                std::fs::create_dir(&at).unwrap();
                let mode = [0o755, 0o700][random.random_range(0..2)];
                std::fs::set_permissions(&at, PermissionsExt::from_mode(mode)).unwrap();
                directories.push(at);
            }
            3 => symlink(["a", "../b", "nowhere"][random.random_range(0..3)], &at).unwrap(),
            4 if !files.is_empty() => {
                std::fs::hard_link(&files[random.random_range(0..files.len())], &at).unwrap();
            }
            _ => {
                std::fs::write(&at, format!("{}", random.random_range(0..9))).unwrap();
                let mode = [0o644, 0o600][random.random_range(0..2)];
                std::fs::set_permissions(&at, PermissionsExt::from_mode(mode)).unwrap();
                set_mtime(&at, 1_000_000_000 + random.random_range(0..3));
                files.push(at);
            }
        }
    }
    for directory in directories.iter().rev().filter(|_| is_source) {
        set_mtime(directory, 1_000_000_000 + random.random_range(0..2));
    }
}

fn pick(random: &mut StdRng, is_source: bool) -> &'static str {
    let names = if is_source { 3 } else { NAMES.len() };
    NAMES[random.random_range(0..names)]
}

/// What the member does to its own tree.
pub(super) fn meddle(root: &Path, random: &mut StdRng) {
    let mut all: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .follow_root_links(true)
        .min_depth(1)
        .into_iter()
        .map(Result::unwrap)
        .map(walkdir::DirEntry::into_path)
        .collect();
    all.sort();
    let mut shelter = vec![root.to_owned()];
    for at in all {
        let Ok(meta) = at.symlink_metadata() else {
            continue;
        };
        match random.random_range(0..12) {
            0 if meta.is_file() => std::fs::write(&at, "edited").unwrap(),
            1 if !meta.is_dir() && !at.ends_with("keep") => std::fs::remove_file(&at).unwrap(),
            2 if meta.is_dir() => shelter.push(at),
            _ => {}
        }
    }
    for directory in shelter {
        let at = directory.join(NAMES[random.random_range(0..NAMES.len())]);
        if at.symlink_metadata().is_ok() {
            continue;
        }
        if random.random_range(0..2) == 0 {
            std::fs::write(&at, "stranger").unwrap();
        } else {
            std::fs::create_dir(&at).unwrap();
            std::fs::write(at.join("upload"), "stranger").unwrap();
        }
    }
}

/// Every file that nobody may lose, with its content.
pub(super) fn uploads(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let at = entry.unwrap().path();
            let relative = at.strip_prefix(root).unwrap();
            let is_held = relative.components().any(|name| {
                let name = name.as_os_str();
                name == "keep" || name == "x.log"
            });
            // The kernel resolves what is shared.
            let meta = if is_held {
                at.metadata()
            } else {
                at.symlink_metadata()
            };
            match meta {
                Ok(meta) if meta.is_dir() => pending.push(at),
                Ok(meta) if meta.is_file() && is_held => {
                    found.push((relative.to_owned(), std::fs::read(&at).unwrap()));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn live_a_life(layout: Layout, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::in_dir(quick(), layout, keeper(&["*.log"], &["/**/keep"]), false);
    for round in 0..4 {
        let source = world.tmp.path().join(format!("source-{round}"));
        let entries = random.random_range(0..30);
        grow(&source, &mut random, entries, true);
        if world.root().exists() {
            meddle(&world.root(), &mut random);
        }
        let staged = world.stage(&source);
        let kept = if world.root().exists() {
            uploads(&world.root())
        } else {
            Vec::new()
        };
        let say = || format!("{layout:?}, seed {seed}, round {round}");
        if !staged.plan.summary.conflicts.is_empty() {
            assert!(world.prepare(&staged).is_err(), "{}", say());
            continue;
        }
        if random.random_range(0..4) == 0 {
            fail_at(Some(random.random_range(0..8)));
            let _may_fail = world.prepare(&staged);
            fail_at(None);
            world.reopen();
            abort(&world.place, staged.txn).unwrap_or_else(|error| panic!("{error}: {}", say()));
        }
        world
            .prepare(&staged)
            .unwrap_or_else(|error| panic!("{error}: {}", say()));
        for _ in 0..random.random_range(0..4) {
            fail_at(Some(random.random_range(0..60)));
            let _may_fail = world.commit(staged.txn);
            fail_at(None);
            world.reopen();
        }
        let committed = world
            .commit(staged.txn)
            .unwrap_or_else(|error| panic!("{error}: {}", say()));
        // That something was kept aside is told in every one of these lives.
        let odd = committed
            .notices
            .iter()
            .filter(|it| !it.path.is_empty() && it.message != "holds what was not committed");
        assert_eq!(
            odd.collect::<Vec<_>>(),
            Vec::<&sync_proto::wire::Notice>::new(),
            "{}",
            say()
        );
        world.settle(&staged);
        assert_eq!(
            world.difference(&staged.desired),
            Vec::<String>::new(),
            "{}",
            say()
        );
        assert_eq!(uploads(&world.root()), kept, "{}", say());
        let (_, _, plan) = world.plan(&source, false);
        assert!(plan.is_empty(), "{}: {:?}", say(), plan.changes);
        if random.random_range(0..3) == 0 {
            collect(&world.place, &[], &world.keeper, Some(&world.overwritten)).unwrap();
            assert_eq!(uploads(&world.root()), kept, "{}", say());
        }
    }
}

#[test]
fn random_lives_in_place() {
    (0..60).for_each(|seed| live_a_life(Layout::InPlace, seed));
}

#[test]
fn random_lives_switched() {
    (0..60).for_each(|seed| live_a_life(Layout::Switched, seed));
}
