//! Whole pushes on real trees, in both layouts.

use super::super::foreign::ForeignPaths;
use super::super::generations::collect;
use super::super::live_index::load_index;
use super::super::testing::{Node, World, build, path, snapshot};
use super::super::transaction::CommitError;
use super::{AFTER, BEFORE, LAYOUTS, check_after, live_on, read, ready, rules};
use crate::engine::index::Stamp;
use sync_proto::wire::Layout;

#[test]
fn a_first_push_onto_nothing_and_a_change_of_every_kind() {
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        let summary = &staged.plan.summary;
        assert_eq!(summary.conflicts, []);
        assert_eq!(summary.drifted, 2, "{:?}", staged.plan.changes);
        assert_eq!(
            summary.kept,
            ["olddir", "olddir/n", "sites", "sites/x"].map(|it| it.as_bytes().to_vec())
        );
        let prepared = world.prepare(&staged).unwrap();
        assert_eq!(prepared.overwritten.len(), 2, "{:?}", prepared.overwritten);
        let committed = world.commit(staged.txn).unwrap();
        assert_eq!(committed.notices.len(), 1, "{:?}", committed.notices);
        world.settle(&staged);
        check_after(&world, &staged);
        // What was pushed is recognised without reading it again.
        let index = load_index(&world.place).unwrap().unwrap();
        let trusted = index
            .directories()
            .flat_map(|(_, stamps)| stamps)
            .filter(|stamp| stamp.ctime != Stamp::default().ctime)
            .count();
        let touched = staged.plan.summary.touched;
        assert!(trusted + usize::try_from(touched).unwrap() >= index.manifest().entry_count());
    }
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", BEFORE);
        world.push(&before);
        let (_, _, plan) = world.plan(&before, false);
        assert!(plan.is_empty(), "{:?}", plan.changes);
    }
}

#[test]
fn a_wish_for_something_else_where_uploads_are_gets_a_no() {
    for layout in LAYOUTS {
        for wish in ["sites", "sites/x"] {
            let mut world = World::new(layout, rules());
            let before = world.source("before", BEFORE);
            world.push(&before);
            live_on(&world);
            let bad = world.source("bad", &[(wish, Node::Link("elsewhere"))]);
            let staged = world.stage(&bad);
            assert!(!staged.plan.summary.conflicts.is_empty(), "{wish}");
            let live = snapshot(&world.root());
            assert!(matches!(
                world.prepare(&staged),
                Err(CommitError::Conflicts(_))
            ));
            assert_eq!(snapshot(&world.root()), live);
        }
    }
}

#[test]
fn source_content_below_a_preserved_path_is_ignored_or_seeded_once() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let nodes = [("sites/y/files/logo", Node::File("from the source"))];
        let source = world.source("source", &nodes);
        let staged = world.stage(&source);
        assert_eq!(staged.plan.summary.notices.len(), 1);
        world.prepare(&staged).unwrap();
        world.commit(staged.txn).unwrap();
        world.settle(&staged);
        assert!(!world.root().join("sites/y/files").exists());

        let staged = world.stage_with(&source, true);
        assert_eq!(staged.plan.seeds, [path("sites/y/files")]);
        world.prepare(&staged).unwrap();
        world.commit(staged.txn).unwrap();
        world.settle(&staged);
        let logo = world.root().join("sites/y/files/logo");
        assert_eq!(read(&logo), "from the source");

        std::fs::write(&logo, "theirs").unwrap();
        let (_, _, plan) = world.plan(&source, true);
        assert!(plan.is_empty(), "{:?}", plan.changes);
    }
}

#[test]
fn uploads_survive_every_push_and_stay_reachable() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", BEFORE);
        let after = world.source("after", AFTER);
        world.push(&before);
        live_on(&world);
        for source in [&after, &before, &after] {
            world.push(source);
            let upload = world.root().join("sites/x/files/up.jpg");
            assert_eq!(read(&upload), "upload");
            assert_eq!(read(world.root().join("olddir/n/m.log")), "log");
        }
        collect(&world.place, &[], &world.keeper, Some(&world.overwritten)).unwrap();
        assert_eq!(read(world.root().join("sites/x/files/up.jpg")), "upload");
        assert_eq!(read(world.root().join("olddir/n/m.log")), "log");
    }
}

#[test]
fn foreign_entries_of_an_adopted_root_stay_until_asked_for() {
    let tmp = tempfile::tempdir().unwrap();
    let theirs = [
        ("a.txt", Node::File("their a")),
        ("own/thing", Node::File("thing")),
        ("sub/own", Node::File("own")),
    ];
    build(&tmp.path().join("www"), &theirs);
    let mut world = World::in_dir(tmp, Layout::InPlace, rules(), true);
    let source = world.source("before", BEFORE);
    let (observed, desired, _) = world.plan(&source, false);
    world.keeper.foreign = ForeignPaths::at_adoption(observed.manifest(), desired.manifest());
    assert_eq!(world.keeper.foreign.tops(), ["own", "sub/own"].map(path));
    let staged = world.stage(&source);
    assert_eq!(staged.plan.summary.foreign, 3);
    assert_eq!(staged.plan.summary.deleted, 0);
    world.prepare(&staged).unwrap();
    world.commit(staged.txn).unwrap();
    world.settle(&staged);
    assert_eq!(read(world.root().join("own/thing")), "thing");
    assert_eq!(read(world.root().join("sub/own")), "own");
    assert_eq!(read(world.root().join("a.txt")), "one");
    let aside = world.tmp.path().join("overwritten/000001");
    assert_eq!(read(aside.join("a.txt")), "their a");
    let saved = ForeignPaths::load(&world.place).unwrap();
    assert_eq!(saved, world.keeper.foreign);

    world.keeper.foreign = ForeignPaths::default();
    world.push(&source);
    assert!(!world.root().join("own").exists());
    assert!(!world.root().join("sub/own").exists());
    assert_eq!(
        read(world.tmp.path().join("overwritten/000002/own/thing")),
        "thing"
    );
    assert!(ForeignPaths::load(&world.place).unwrap().is_empty());
}
