//! Somebody exchanges names of the live tree for symlinks to the outside while a transaction is
//! prepared, committed and cleaned up after: nothing outside changes, what belongs to the member
//! stays, and the next push delivers (I4, I5). `FANOUT_RACE_ROUNDS` says how many transactions.

use super::super::generations::collect;
use super::super::record::TreeRecord;
use super::super::testing::{Node, build, quick, snapshot};
use super::super::transaction::abort;
use super::{LAYOUTS, read, ready_in};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync_proto::wire::Layout;

const ROUNDS: u64 = 120;
/// Entries that are put, exchanged, touched, removed or left alone.
const TARGETS: [&str; 12] = [
    "sub",
    "sub/deep",
    "hl",
    "hl2",
    "dir_to_file",
    "file_to_dir",
    "dir_to_link",
    "newdir",
    "empty",
    "a.txt",
    "mode.txt",
    "time.txt",
];

/// Exchanges names for traps until it is over; returns how often.
fn attack(root: &Path, traps: &Path, seed: u64, is_over: &AtomicBool) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        // The live generation, which is another one after the switch.
        let Ok(live) = root.canonicalize() else {
            continue;
        };
        let target = TARGETS[random.random_range(0..TARGETS.len())];
        let trap = traps.join(if target.contains('.') {
            "file"
        } else {
            "directory"
        });
        let (name, flags) = (live.join(target), RenameFlags::EXCHANGE);
        if renameat_with(CWD, &name, CWD, &trap, flags).is_ok() {
            count += 1;
            for _ in 0..random.random_range(0..2_000) {
                std::hint::spin_loop();
            }
            // It may be gone by now; what was there is the attacker's then, and the trap is the
            // commit's.
            if renameat_with(CWD, &name, CWD, &trap, flags).is_err() {
                let taken = traps.join(format!("taken-{count}"));
                let _kept = renameat_with(CWD, &trap, CWD, &taken, RenameFlags::empty());
                reset(traps);
            }
        }
    }
    count
}

fn reset(traps: &Path) {
    let guard = traps.with_file_name("guard");
    for (name, target) in [("file", guard.join("secret")), ("directory", guard)] {
        let _there = symlink(target, traps.join(name));
    }
}

/// Returns how many names were exchanged meanwhile, and whether the transaction was committed.
fn a_transaction_under_attack(layout: Layout, seed: u64) -> (u64, bool) {
    let (mut world, staged) = ready_in(quick(), layout);
    let (guard, traps) = (
        world.tmp.path().join("guard"),
        world.tmp.path().join("traps"),
    );
    build(
        &guard,
        &[
            ("secret", Node::Exact("a canary", 0o666, 1_300_000_000)),
            ("deep/one", Node::File("a canary")),
            ("three", Node::File("a canary")),
        ],
    );
    std::fs::create_dir(&traps).unwrap();
    reset(&traps);
    let before = snapshot(&guard);
    let (root, is_over, count) = (world.root(), AtomicBool::new(false), AtomicU64::new(0));
    let is_prepared = std::thread::scope(|scope| {
        scope.spawn(|| count.store(attack(&root, &traps, seed, &is_over), Ordering::Relaxed));
        let prepared = world.prepare(&staged);
        if prepared.is_ok() {
            // What stops it now is settled afterwards, as an agent does; only then is there
            // anything to clean up.
            if world.commit(staged.txn).is_ok() {
                let _may_fail = collect(&world.place, &[], &world.keeper, Some(&world.overwritten));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        prepared.is_ok()
    });
    let say = |what: &str| format!("{layout:?}, seed {seed}: {what}");
    assert_eq!(snapshot(&guard), before, "{}", say("the guard"));
    world.reopen();
    if is_prepared {
        world
            .commit(staged.txn)
            .unwrap_or_else(|error| panic!("{error}: {}", say("commit")));
        let record = TreeRecord::load(&world.place).unwrap();
        assert_eq!(record.last_committed, Some(staged.txn), "{}", say("record"));
    } else {
        abort(&world.place, staged.txn).unwrap();
    }
    assert_eq!(
        read(root.join("sites/x/files/up.jpg")),
        "upload",
        "{}",
        say("upload")
    );
    assert_eq!(read(root.join("olddir/n/m.log")), "log", "{}", say("log"));
    let again = world.stage(&world.tmp.path().join("after"));
    world
        .prepare(&again)
        .unwrap_or_else(|error| panic!("{error}: {}", say("prepare again")));
    world.commit(again.txn).unwrap();
    world.settle(&again);
    assert_eq!(
        world.difference(&again.desired),
        Vec::<String>::new(),
        "{}",
        say("delivery")
    );
    assert_eq!(snapshot(&guard), before, "{}", say("the guard"));
    (count.into_inner(), is_prepared)
}

#[test]
#[expect(clippy::print_stderr, reason = "the figures of a long run")]
fn no_transaction_leaves_the_tree_whatever_is_exchanged_meanwhile() {
    let said = std::env::var("FANOUT_RACE_ROUNDS").ok();
    let rounds = said.map_or(ROUNDS, |said| said.parse().expect("a number"));
    for layout in LAYOUTS {
        let (mut exchanged, mut committed) = (0, 0);
        for seed in 0..rounds {
            let (count, is_prepared) = a_transaction_under_attack(layout, seed);
            exchanged += count;
            committed += u64::from(is_prepared);
        }
        eprintln!(
            "{layout:?}: {rounds} transactions, {committed} committed, {exchanged} exchanges"
        );
        assert!(
            exchanged > rounds,
            "only {exchanged} exchanges: no race at all"
        );
    }
}
