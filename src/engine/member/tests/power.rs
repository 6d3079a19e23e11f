//! The power goes at any step of random lives, and the disk has lost or reordered what was not
//! synced: a vote that was told is there (I2), what was decided is carried out, what wasn't leaves
//! the tree as it was (I1, I9), and uploads are untouched (I4).

use super::super::generations::collect;
use super::super::testing::{World, keeper, quick};
use super::super::transaction::{abort, recover};
use super::random::{grow, meddle, uploads};
use crate::fs::power;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use sync_proto::commit::Participant;
use sync_proto::wire::Layout;

/// Lives of this many rounds, each of which may end in the dark.
const ROUNDS: usize = 4;

/// A tree as its paths, modes, contents and times, without inodes.
fn shape(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>, SystemTime)> {
    let below = walkdir::WalkDir::new(root).follow_root_links(true);
    let entries = below.into_iter().map(Result::unwrap).map(|entry| {
        let path = entry.path();
        let meta = path.symlink_metadata().unwrap();
        let (content, time) = if meta.is_symlink() {
            let target = std::fs::read_link(path).unwrap();
            (
                target.into_os_string().into_encoded_bytes(),
                SystemTime::UNIX_EPOCH,
            )
        } else if meta.is_file() {
            (std::fs::read(path).unwrap(), meta.modified().unwrap())
        } else {
            (Vec::new(), SystemTime::UNIX_EPOCH)
        };
        let path = path.strip_prefix(root).unwrap().to_owned();
        (path, (meta.mode(), content, time))
    });
    entries.collect()
}

/// How many of the rounds lost power.
fn live_dangerously(layout: Layout, seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let sources = quick();
    let mut world = World::in_dir(quick(), layout, keeper(&["*.log"], &["/**/keep"]), false);
    let mut outages = 0;
    for round in 0..ROUNDS {
        let say = || format!("{layout:?}, seed {seed}, round {round}");
        let source = sources.path().join(format!("{round}"));
        let entries = random.random_range(0..20);
        grow(&source, &mut random, entries, true);
        if world.root().exists() {
            meddle(&world.root(), &mut random);
        }
        power::watch(world.tmp.path());
        let staged = world.stage(&source);
        let there = |world: &World| world.root().exists();
        let before = there(&world).then(|| (shape(&world.root()), uploads(&world.root())));
        if !staged.plan.summary.conflicts.is_empty() {
            power::unwatch();
            continue;
        }
        let is_decided = random.random_range(0..4) > 0;
        power::cut_at(random.random_range(0..220));
        let has_voted = world.prepare(&staged).is_ok();
        if has_voted && is_decided {
            if world.commit(staged.txn).is_ok() && !power::is_off() {
                // What follows may fail at will: it is repeated, or nobody needs it.
                let _may_fail = world.try_settle(&staged);
                let _may_fail = collect(&world.place, &[], &world.keeper, Some(&world.overwritten));
            }
        } else if has_voted {
            let _may_fail = abort(&world.place, staged.txn);
        }
        if power::is_off() {
            outages += 1;
            let at = quick();
            power::lose_power(at.path(), random.random());
            world.go_on_in(at);
            let recovered = recover(&world.place).unwrap_or_else(|e| panic!("{e}: {}", say()));
            let is_done = recovered.participant == Participant::Done { txn: staged.txn };
            if has_voted && is_decided {
                let is_open = recovered.participant.unsettled().is_some();
                assert!(is_open || is_done, "the vote is gone: {}", say());
            } else {
                assert!(!is_done, "nobody decided that: {}", say());
            }
        }
        power::unwatch();
        if has_voted && is_decided {
            world
                .commit(staged.txn)
                .unwrap_or_else(|error| panic!("{error}: {}", say()));
            world.settle(&staged);
            let differences = world.difference(&staged.desired);
            assert_eq!(differences, Vec::<String>::new(), "{}", say());
            let kept = before.map(|(_, uploads)| uploads).unwrap_or_default();
            assert_eq!(uploads(&world.root()), kept, "{}", say());
            let (_, _, plan) = world.plan(&source, false);
            assert!(plan.is_empty(), "{}: {:?}", say(), plan.changes);
        } else {
            abort(&world.place, staged.txn).unwrap_or_else(|e| panic!("{e}: {}", say()));
            let after = there(&world).then(|| (shape(&world.root()), uploads(&world.root())));
            assert_eq!(after, before, "{}", say());
        }
    }
    outages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_outage_loses_what_was_promised_in_place(seed: u64) {
        live_dangerously(Layout::InPlace, seed);
    }

    #[test]
    fn no_outage_loses_what_was_promised_switched(seed: u64) {
        live_dangerously(Layout::Switched, seed);
    }
}

#[test]
fn most_of_these_lives_see_an_outage() {
    for layout in [Layout::InPlace, Layout::Switched] {
        let outages: usize = (0..10).map(|seed| live_dangerously(layout, seed)).sum();
        assert!(outages >= 10, "{layout:?}: {outages} of {}", 10 * ROUNDS);
    }
}
