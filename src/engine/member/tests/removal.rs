//! The end of a tree when something is in its way.

use super::super::fault::counted::{fail_once, failed};
use super::super::place::{Place, no_rename};
use super::super::record::Vote;
use super::super::removal::{delete_tree, forget};
use super::super::testing::{
    Node, World, build, keeper, name, quick, seat, snapshot, without_privileges,
};
use super::super::transaction::{CommitError, abort};
use super::{AFTER, BEFORE, LAYOUTS, live_on, read, ready_in, rules};
use crate::fs::Dir;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use sync_proto::path::escape;
use sync_proto::wire::{Layout, Notice};

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EBUSY: i32 = 16;

fn fresh(layout: Layout) -> World {
    World::in_dir(quick(), layout, rules(), false)
}

fn place_of(world: &World) -> Place {
    Place::open(seat(&world.root())).unwrap()
}

/// What is told to stay, below the test's own directory.
fn paths(world: &World, left: &[Notice]) -> Vec<String> {
    let top = format!("{}/", world.tmp.path().display());
    let shown = left.iter().map(|it| escape(&it.path));
    shown.map(|it| it.replace(&top, "")).collect()
}

#[test]
fn a_tree_with_an_open_transaction_is_neither_deleted_nor_forgotten() {
    for layout in LAYOUTS {
        let (world, staged) = ready_in(quick(), layout);
        world.prepare(&staged).unwrap();
        let before = snapshot(world.tmp.path());
        let deleted = delete_tree(place_of(&world), &world.keeper);
        assert!(matches!(deleted, Err(CommitError::OtherTransaction)));
        let forgotten = forget(&world.place);
        assert!(matches!(forgotten, Err(CommitError::OtherTransaction)));
        assert_eq!(snapshot(world.tmp.path()), before, "{layout:?}");
        assert!(Vote::load(&world.place).unwrap().is_some());
        abort(&world.place, staged.txn).unwrap();
        delete_tree(place_of(&world), &world.keeper).unwrap();
        assert!(!world.root().join("a.txt").exists());
    }
}

#[test]
fn what_stays_of_a_deleted_tree_is_told_name_by_name() {
    let mut world = fresh(Layout::InPlace);
    let before = world.source("before", BEFORE);
    world.push(&before);
    live_on(&world);
    let left = delete_tree(place_of(&world), &world.keeper).unwrap();
    let expected = [
        "olddir",
        "olddir/n",
        "olddir/n/m.log",
        "sites",
        "sites/x",
        "sites/x/files",
    ];
    assert_eq!(paths(&world, &left), expected);
}

#[test]
fn a_root_that_somebody_removed_stops_no_deletion() {
    let mut world = fresh(Layout::InPlace);
    let before = world.source("before", BEFORE);
    world.push(&before);
    let parent = Dir::open_absolute(world.tmp.path()).unwrap();
    parent.remove_tree(&name("www")).unwrap();
    assert_eq!(delete_tree(place_of(&world), &world.keeper).unwrap(), []);
    assert!(!world.tmp.path().join(".www.fanout").exists());
}

#[test]
fn a_root_that_is_in_use_is_told_and_one_that_cant_be_removed_is_an_error() {
    let world = fresh(Layout::InPlace);
    let reserved = world.root().join(".fanout");
    std::fs::write(&reserved, "in the way").unwrap();
    let left = delete_tree(place_of(&world), &world.keeper).unwrap();
    assert_eq!(paths(&world, &left), ["www"]);
    assert_eq!(read(reserved), "in the way");

    no_rename::set(true);
    let world = fresh(Layout::InPlace);
    no_rename::set(false);
    let place = place_of(&world);
    let allow = |mode| std::fs::set_permissions(world.tmp.path(), Permissions::from_mode(mode));
    allow(0o500).unwrap();
    let outcome = without_privileges(|| delete_tree(place, &world.keeper));
    allow(0o700).unwrap();
    assert!(
        matches!(&outcome, Err(CommitError::Fs(error)) if error.is_permission()),
        "{outcome:?}"
    );
}

/// What vanished meanwhile was to go anyway; a directory that something appeared in, or is mounted
/// on, is told; everything else is an error.
#[test]
fn an_error_of_the_disk_ends_a_deletion_and_is_not_taken_for_somebody_elses_work() {
    const UNLINK: &str = "member.unlink";
    const RMDIR: &str = "member.rmdir";
    for (nth, point, errno, expected) in [
        (0, UNLINK, ENOENT, Some("d")),
        (0, UNLINK, EBUSY, None),
        (0, UNLINK, EIO, None),
        (1, RMDIR, ENOENT, Some("www")),
        (1, RMDIR, EBUSY, Some("d")),
        (1, RMDIR, EIO, None),
    ] {
        let mut world = fresh(Layout::InPlace);
        let before = world.source("before", &[("d/x", Node::File("x"))]);
        world.push(&before);
        fail_once(nth, errno);
        let outcome = delete_tree(place_of(&world), &world.keeper);
        assert_eq!(failed(), Some(point));
        let left = outcome.as_ref().ok().map(|it| paths(&world, it));
        let expected = expected.map(|it| vec![it.to_owned()]);
        assert_eq!(left, expected, "{point} {errno} {outcome:?}");
    }
}

#[test]
fn an_upload_in_a_generation_outlives_the_tree() {
    for nth in ["000001", "000002"] {
        let mut world = fresh(Layout::Switched);
        for (label, nodes) in [("before", BEFORE), ("after", AFTER)] {
            let source = world.source(label, nodes);
            world.push(&source);
        }
        let generation = format!(".www.fanout/gen/{nth}");
        let upload = world.tmp.path().join(&generation).join("sites/q/files/x");
        build(upload.parent().unwrap(), &[("x", Node::File("upload"))]);
        let left = delete_tree(place_of(&world), &world.keeper).unwrap();
        let told = paths(&world, &left);
        assert!(
            told.contains(&format!("{generation}/sites/q/files")),
            "{told:?}"
        );
        assert_eq!(read(upload), "upload");
        let names: Vec<_> = std::fs::read_dir(world.tmp.path().join(".www.fanout"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            names.iter().all(|it| it == "gen" || it == "shared"),
            "{names:?}"
        );
        assert!(world.root().symlink_metadata().is_err());
    }
}

/// As long as anything is left the record is, so that the deletion can be repeated.
#[test]
fn a_deletion_that_failed_can_be_repeated() {
    if !rustix::process::geteuid().is_root() {
        // Only root can make what its own thread may not remove.
        return;
    }
    for layout in LAYOUTS {
        let mut world = World::in_dir(quick(), layout, keeper(&[], &[]), false);
        let before = world.source("before", BEFORE);
        world.push(&before);
        let undo = world.tmp.path().join(".www.fanout/undo");
        build(&undo, &[("theirs/x", Node::File("x"))]);
        chown(undo.join("theirs"), Some(54_321), None).unwrap();
        let place = place_of(&world);
        assert!(without_privileges(|| delete_tree(place, &world.keeper)).is_err());
        assert!(undo.join("theirs/x").exists());
        delete_tree(place_of(&world), &world.keeper).unwrap();
        assert!(!world.tmp.path().join(".www.fanout").exists());
    }
}
