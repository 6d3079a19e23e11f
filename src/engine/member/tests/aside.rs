//! What is moved aside: under which name, where it is kept, and for how long.

use super::super::overwritten::{Aside, expire, publish};
use super::super::testing::{Node, World, build, name, path, without_privileges};
use super::super::transaction::CommitError;
use super::{read, rules};
use crate::fs::{Dir, FsError};
use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use sync_proto::entry::Time;
use sync_proto::wire::Layout;

fn open(at: &Path) -> Dir {
    Dir::open_absolute(at).unwrap()
}

fn of_disk<T: std::fmt::Debug>(outcome: Result<T, CommitError>) -> FsError {
    match outcome {
        Err(CommitError::Fs(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A member, and entries that were found in its tree.
fn ground(found: &[(&str, Node)]) -> (World, Dir, PathBuf) {
    let world = World::new(Layout::InPlace, rules());
    let at = world.tmp.path().join("found");
    build(&at, found);
    let aside = world.tmp.path().join(".www.fanout/aside/000002");
    (world, open(&at), aside)
}

#[test]
fn what_is_moved_aside_gets_a_name_that_is_free() {
    let long = "n".repeat(255);
    let entries = ["1", "2", "3", "4", "5"];
    let nodes: Vec<_> = entries.iter().map(|it| (*it, Node::File(it))).collect();
    let (world, found, aside) = ground(&nodes);
    let directory = name("000002");
    let hands = Aside::new(&world.place, &directory);
    for (entry, at) in [
        ("1", "d/x"),
        ("2", "d/x"),
        // What bears the directory's name is a file by now.
        ("3", "d/x/y"),
        ("4", &long),
        ("5", &long),
        ("gone", "d/x"),
    ] {
        hands.take(&found, &name(entry), &path(at)).unwrap();
    }
    for (entry, at) in [
        ("1", "d/x"),
        ("2", "d/x.2"),
        ("3", "d/x.3/y"),
        ("4", &long),
        ("5", &format!("{}.2", &long[..253])),
    ] {
        assert_eq!(read(aside.join(at)), entry, "{at}");
    }
    assert_eq!(found.list().unwrap().len(), 0);
}

#[test]
fn what_cant_be_moved_aside_is_an_error_and_stays() {
    let (world, found, aside) = ground(&[("1", Node::File("1")), ("dir/x", Node::File("x"))]);
    let directory = name("000002");
    let hands = Aside::new(&world.place, &directory);
    // A directory doesn't move into itself, and has no second name.
    let top = open(world.tmp.path());
    let error = of_disk(hands.take(&top, &name(".www.fanout"), &path("x")));
    assert!(error.is_wrong_kind(), "{error:?}");
    let error = of_disk(hands.link(&found, &name("dir"), &path("dir")));
    assert!(error.is_permission(), "{error:?}");
    hands.link(&found, &name("gone"), &path("gone")).unwrap();
    for _ in 0..2 {
        hands.link(&found, &name("1"), &path("1")).unwrap();
    }
    assert_eq!(read(aside.join("1")), "1");
    // A directory there that can't be entered is not another kind of entry.
    let shut = aside.join("shut");
    create_dir(&shut).unwrap();
    set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let take = || hands.take(&found, &name("1"), &path("shut/1"));
    let error = of_disk(without_privileges(take));
    set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
    assert!(error.is_permission(), "{error:?}");
    assert!(found.stat(&name("1")).unwrap().is_some());
}

#[test]
fn what_was_moved_aside_is_kept_where_it_can_be_renamed_to() {
    let memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
    let (world, found, aside) = ground(&[("1", Node::File("1")), ("2", Node::File("2"))]);
    let directory = name("000002");
    let overwritten = world.tmp.path().join("overwritten");
    let publish = |to: &Path| publish(&world.place, &directory, Some(&open(to)));
    assert!(publish(&overwritten).unwrap().is_none());

    let hands = Aside::new(&world.place, &directory);
    create_dir(overwritten.join("000002")).unwrap();
    hands.take(&found, &name("1"), &path("in/1")).unwrap();
    // Into itself: an error, and nothing is lost.
    let error = of_disk(publish(&aside.join("in")));
    assert!(error.is_wrong_kind(), "{error:?}");
    assert_eq!(read(aside.join("in/1")), "1");
    // The name is taken.
    let told = publish(&overwritten).unwrap().unwrap();
    assert!(told.path.ends_with(b"/overwritten/000002.2"), "{told:?}");
    assert_eq!(read(overwritten.join("000002.2/in/1")), "1");
    // Another file system.
    hands.take(&found, &name("2"), &path("2")).unwrap();
    publish(memory.path()).unwrap().unwrap();
    let beside = world.tmp.path().join(".www.fanout/overwritten/000002/2");
    assert_eq!(read(beside), "2");
}

#[test]
fn what_was_moved_aside_is_removed_when_its_time_is_over_and_not_before() {
    let (world, _, aside) = ground(&[]);
    let state = world.tmp.path().join(".www.fanout");
    let agents = world.tmp.path().join("overwritten");
    let kept = [
        aside,
        state.join("overwritten/000003"),
        agents.join("000004"),
    ];
    for at in &kept {
        build(at, &[("d/x", Node::File("x"))]);
    }
    let seconds = |at: &PathBuf| std::os::unix::fs::MetadataExt::ctime(&at.metadata().unwrap());
    let (first, last) = (
        kept.iter().map(seconds).min().unwrap(),
        kept.iter().map(seconds).max().unwrap(),
    );
    let there = |now: i64| {
        let now = Time {
            seconds: now,
            nanoseconds: 0,
        };
        expire(&world.place, Some(&world.overwritten), now, 100).unwrap();
        kept.iter().filter(|at| at.exists()).count()
    };
    assert_eq!(there(first), 3);
    assert_eq!(there(first + 100), 3);
    assert_eq!(there(last + 101), 0);
    assert!(state.join("overwritten").exists() && state.join("aside").exists());
}
