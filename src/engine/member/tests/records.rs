//! What the records of a tree say, and what is left of them when a transaction is over.

use super::super::foreign::ForeignPaths;
use super::super::held::Known;
use super::super::journal::{Journal, Made};
use super::super::live::no_exchange;
use super::super::place::Place;
use super::super::record::{TreeRecord, Vote, is_reread};
use super::super::testing::{Node, World, build, keeper, name, observe, path};
use super::super::transaction::{CommitError, abort, commit, recover};
use super::{AFTER, BEFORE, LAYOUTS, check_after, live_on, read, ready, rules};
use crate::engine::index::Index;
use crate::fs::Dir;
use crate::fs::xattr::XattrPolicy;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{SystemTime, UNIX_EPOCH};
use sync_proto::commit::Participant;
use sync_proto::filter::Preserve;
use sync_proto::wire::{Generation, Layout};

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

fn is_clear(place: &Place) -> bool {
    Vote::load(place).unwrap().is_none() && Journal::load(place).unwrap().is_none()
}

#[test]
fn a_transaction_that_is_over_leaves_neither_vote_nor_journal() {
    for layout in LAYOUTS {
        for is_commit in [false, true] {
            let (world, staged) = ready(layout);
            world.prepare(&staged).unwrap();
            assert!(Vote::load(&world.place).unwrap().is_some());
            let journal = Journal::load(&world.place).unwrap().unwrap();
            assert_eq!(journal.txn, staged.txn);
            if is_commit {
                world.commit(staged.txn).unwrap();
            } else {
                abort(&world.place, staged.txn).unwrap();
            }
            assert!(is_clear(&world.place), "{layout:?} {is_commit}");
            // The next start finds nothing to do.
            let recovered = recover(&world.place).unwrap();
            assert!(recovered.vote.is_none());
            let last = TreeRecord::load(&world.place).unwrap().last_committed;
            let expected = Participant::Done { txn: last.unwrap() };
            assert_eq!(recovered.participant, expected);
        }
    }
}

/// Somebody got into the staging area meanwhile, or a resumed push did.
#[test]
fn an_abort_takes_back_what_prepare_made_and_nothing_else() {
    let (mut links, mut directories) = (0, 0);
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        let journal = Journal::load(&world.place).unwrap().unwrap();
        let tree = world.tmp.path().join(".www.fanout/stage/t2/tree");
        let mut others = Vec::new();
        for made in &journal.made {
            let at = tree.join(made.path().to_string());
            match made {
                Made::Link(_) => {
                    std::fs::remove_file(&at).unwrap();
                    std::fs::write(&at, "other").unwrap();
                    others.push(at);
                    links += 1;
                }
                Made::Directory(..) => {
                    std::fs::write(at.join("other"), "other").unwrap();
                    others.push(at.join("other"));
                    directories += 1;
                }
            }
        }
        abort(&world.place, staged.txn).unwrap();
        assert!(is_clear(&world.place), "{layout:?}");
        for other in others {
            assert_eq!(read(&other), "other");
        }
    }
    assert!(links > 0 && directories > 0, "{links} {directories}");
}

#[test]
fn a_file_in_the_place_of_a_made_directory_doesnt_stop_an_abort() {
    let mut replaced = 0;
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        let journal = Journal::load(&world.place).unwrap().unwrap();
        let tree = world.tmp.path().join(".www.fanout/stage/t2/tree");
        for made in journal.made.iter().rev() {
            let at = tree.join(made.path().to_string());
            if matches!(made, Made::Directory(..)) && std::fs::remove_dir(&at).is_ok() {
                std::fs::write(&at, "other").unwrap();
                replaced += 1;
            }
        }
        abort(&world.place, staged.txn).unwrap();
        assert!(is_clear(&world.place), "{layout:?}");
    }
    assert!(replaced > 0);
}

#[test]
fn a_commit_says_what_it_did_and_when_and_again_when_repeated() {
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        let before = now_us();
        world.prepare(&staged).unwrap();
        let committed = world.commit(staged.txn).unwrap();
        let changes = staged.plan.changes.len() as u64;
        assert!(changes > 0);
        assert_eq!((committed.changed_entries, committed.serial), (changes, 2));
        assert!((before..=now_us()).contains(&committed.switched_us));
        let repeated = commit(&world.place, staged.txn, None, Known::Nothing).unwrap();
        assert_eq!((repeated.changed_entries, repeated.serial), (0, 2));
        assert!((before..=now_us()).contains(&repeated.switched_us));
        world.settle(&staged);
        check_after(&world, &staged);
    }
}

#[test]
fn a_pin_stays_with_its_serial_and_goes_to_no_other() {
    let mut record = TreeRecord::new([7; 16], Layout::Switched);
    let (_world, staged) = ready(Layout::Switched);
    let note = |record: &mut TreeRecord, serial: u64, directory: &str| {
        let generation = Generation {
            serial,
            ..staged.generation.clone()
        };
        record.note_commit(&generation, &name(directory), [9; 16]);
    };
    note(&mut record, 1, "a");
    note(&mut record, 2, "b");
    assert!(record.generations.iter().all(|kept| !kept.pinned));
    record.generations[0].pinned = true;
    note(&mut record, 3, "c");
    note(&mut record, 2, "b2");
    note(&mut record, 1, "a2");
    let kept = record.generations.iter();
    let kept: Vec<_> = kept
        .map(|it| (it.generation.serial, it.directory.as_slice(), it.pinned))
        .collect();
    let expected: [(u64, &[u8], bool); 3] = [(3, b"c", false), (2, b"b2", false), (1, b"a2", true)];
    assert_eq!(kept, expected);
    assert_eq!(record.live_directory(), Some(&b"a2"[..]));
}

#[test]
fn what_was_once_preserved_stays_so_durably() {
    let world = World::new(Layout::InPlace, rules());
    let mut record = TreeRecord::load(&world.place).unwrap();
    let lines = |record: &TreeRecord| record.preserve.to_lines();
    for (sent, expected) in [
        (&["/b"][..], &["/b"][..]),
        (&["/a"], &["/a", "/b"]),
        (&[], &["/a", "/b"]),
    ] {
        let sent = Preserve::parse(sent).unwrap();
        record.learn_preserve(&world.place, &sent).unwrap();
        assert_eq!(lines(&record), expected);
        let durable = TreeRecord::load(&world.place).unwrap();
        assert_eq!(durable, record, "a restart knows them too");
    }
}

#[test]
fn a_record_is_read_again_as_it_was_written_and_nothing_else_passes_for_one() {
    let (world, staged) = ready(Layout::Switched);
    world.prepare(&staged).unwrap();
    let state = world.tmp.path().join(".www.fanout");
    for file in ["record", "journal/vote", "journal/steps"] {
        let bytes = std::fs::read(state.join(file)).unwrap();
        let (body, sum) = bytes.split_at(bytes.len() - 32);
        assert_eq!(blake3::hash(body).as_bytes(), sum, "{file}");
        assert_eq!(is_reread(body), Some(true), "{file}");
        assert_eq!(is_reread(&body[..9]), None, "{file}");
        assert_eq!(is_reread(&body[1..]), None, "{file}");
    }
}

#[test]
fn a_prepare_is_repeated_for_its_own_transaction_only() {
    for layout in LAYOUTS {
        let (world, mut staged) = ready(layout);
        world.prepare(&staged).unwrap();
        let steps = Journal::load(&world.place).unwrap();
        let repeated = world.prepare(&staged).unwrap();
        assert!(repeated.overwritten.is_empty());
        staged.txn = [99; 16];
        let other = world.prepare(&staged);
        assert!(matches!(other, Err(CommitError::OtherTransaction)));
        assert_eq!(Journal::load(&world.place).unwrap(), steps);
    }
}

#[test]
fn a_journal_knows_which_attributes_it_sets() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    let mut journal = Journal::load(&world.place).unwrap().unwrap();
    assert_eq!(journal.policy(), XattrPolicy::Ordinary);
    journal.privileged_xattrs = true;
    assert_eq!(journal.policy(), XattrPolicy::Privileged);
}

#[test]
fn foreign_is_what_no_manifest_wants_yet() {
    let tmp = tempfile::tempdir().unwrap();
    let tree = |label: &str, nodes: &[(&str, Node)]| {
        let root = tmp.path().join(label);
        std::fs::create_dir(&root).unwrap();
        build(&root, nodes);
        observe(&Dir::open_absolute(&root).unwrap(), &keeper(&[], &[]))
    };
    let theirs: &[(&str, Node)] = &[
        ("theirs/a", Node::File("a")),
        ("theirs/b/c", Node::File("c")),
        ("ours", Node::File("o")),
    ];
    let there = tree("there", theirs);
    let tops = |foreign: ForeignPaths| foreign.tops().to_vec();
    let none = tree("none", &[("ours", Node::File("o"))]);
    let adopted = ForeignPaths::at_adoption(there.manifest(), none.manifest());
    assert_eq!(tops(adopted.clone()), [path("theirs")]);
    let after = |desired: &Index| tops(adopted.after(there.manifest(), desired.manifest()));
    assert_eq!(after(&none), [path("theirs")], "nobody wants it");
    let a = tree("some", &[("theirs/a", Node::File("x"))]);
    assert_eq!(after(&a), [path("theirs/b")], "only what else is in it");
    let file = tree("file", &[("theirs", Node::File("x"))]);
    assert_eq!(after(&file), [], "a file of ours is there now");
}

/// The temporary name of the root, with what an earlier attempt or somebody else left there.
#[test]
fn what_is_in_the_way_of_the_switch_is_kept_unless_it_is_ours() {
    for (left, kept) in [
        ("a symlink of ours", None),
        ("an empty directory", None),
        ("a foreign symlink", Some("")),
        ("a directory with content", Some("x")),
    ] {
        let (world, staged) = ready(Layout::Switched);
        world.prepare(&staged).unwrap();
        let fresh = world.tmp.path().join(".www.fanout/root.new");
        match left {
            "a symlink of ours" => symlink(".www.fanout/gen/000009", &fresh).unwrap(),
            "a foreign symlink" => symlink("elsewhere", &fresh).unwrap(),
            _ => std::fs::create_dir(&fresh).unwrap(),
        }
        if kept == Some("x") {
            std::fs::write(fresh.join("x"), "x").unwrap();
        }
        world.commit(staged.txn).unwrap();
        world.settle(&staged);
        check_after(&world, &staged);
        assert!(fresh.symlink_metadata().is_err(), "{left}");
        let aside = world.tmp.path().join("overwritten/000002/root.new");
        let is_kept = |at: &str| aside.join(at).symlink_metadata().is_ok();
        assert_eq!(aside.symlink_metadata().is_ok(), kept.is_some(), "{left}");
        assert!(kept != Some("x") || is_kept("x"), "{left}");
    }
}

/// Since the vote somebody put a directory in the place of the root symlink.
#[test]
fn a_directory_in_the_place_of_the_root_comes_out_whole() {
    for exchange in [true, false] {
        let (world, staged) = ready(Layout::Switched);
        world.prepare(&staged).unwrap();
        std::fs::remove_file(world.root()).unwrap();
        std::fs::create_dir(world.root()).unwrap();
        std::fs::write(world.root().join("theirs"), "theirs").unwrap();
        no_exchange::set(!exchange);
        let outcome = world.commit(staged.txn);
        no_exchange::set(false);
        outcome.unwrap();
        world.settle(&staged);
        check_after(&world, &staged);
        let kept = world.tmp.path().join("overwritten/000002/root.new/theirs");
        assert_eq!(read(kept), "theirs");
    }
}

#[test]
fn a_directory_that_stays_for_what_is_kept_in_it_stays_as_it_was() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", BEFORE);
        world.push(&before);
        live_on(&world);
        let of = |world: &World| world.root().join("olddir/n").metadata().unwrap();
        std::fs::set_permissions(
            world.root().join("olddir/n"),
            Permissions::from_mode(0o2750),
        )
        .unwrap();
        let was = of(&world);
        let after = world.source("after", AFTER);
        world.push(&after);
        assert_eq!(read(world.root().join("olddir/n/m.log")), "log");
        let is = of(&world);
        let attributes = |it: &std::fs::Metadata| (it.mode(), it.uid(), it.gid());
        assert_eq!(attributes(&is), attributes(&was), "{layout:?}");
    }
}
