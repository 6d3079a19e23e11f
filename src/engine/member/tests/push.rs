//! Whole pushes on real trees, in both layouts.

use super::super::foreign::ForeignPaths;
use super::super::generations::collect;
use super::super::live_index::load_index;
use super::super::testing::{Node, World, build, path, set_mtime, snapshot};
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

#[test]
fn the_time_of_a_directory_that_holds_a_name_of_the_member_is_not_set() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", &[("mixed/y", Node::File("1"))]);
        world.push(&before);
        std::fs::write(world.root().join("mixed/x.log"), "log").unwrap();
        set_mtime(&world.root().join("mixed"), 1_700_000_000);
        let after = world.source("after", &[("mixed/y", Node::File("2"))]);
        let staged = world.stage(&after);
        assert_eq!(staged.plan.changes.len(), 1, "{:?}", staged.plan.changes);
        world.prepare(&staged).unwrap();
        world.commit(staged.txn).unwrap();
        let modified = world.root().join("mixed").metadata().unwrap().modified();
        let since = modified
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(layout == Layout::Switched || since.as_secs() > 1_500_000_000);
        assert_eq!(read(world.root().join("mixed/x.log")), "log");
        assert_eq!(read(world.root().join("mixed/y")), "2");
    }
}

#[test]
fn extended_attributes_arrive_and_go() {
    for layout in LAYOUTS {
        // Not every file system for temporary files has them.
        let mut world = World::new(layout, rules());
        let source = world.source(
            "before",
            &[("a", Node::File("1")), ("d/b", Node::File("2"))],
        );
        world.push(&source);
        let set = |at: &str, value: &[u8]| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(source.join(at), "user.note", value, flags)
        };
        if set("a", b"one").and_then(|()| set("d", b"two")).is_err() {
            return;
        }
        let note = |world: &World, at: &str| {
            let mut value = vec![0; 16];
            rustix::fs::getxattr(world.root().join(at), "user.note", &mut value)
                .map(|length| value[..length].to_vec())
        };
        let staged = world.stage(&source);
        let letters: Vec<_> = staged
            .plan
            .changes
            .iter()
            .map(|it| it.attributes.as_str())
            .collect();
        assert_eq!(letters, ["x", "x"]);
        world.push(&source);
        assert_eq!(note(&world, "a").unwrap(), b"one");
        assert_eq!(note(&world, "d").unwrap(), b"two");
        rustix::fs::removexattr(source.join("a"), "user.note").unwrap();
        world.push(&source);
        assert!(note(&world, "a").is_err());
        let (_, _, plan) = world.plan(&source, false);
        assert!(plan.is_empty(), "{:?}", plan.changes);
    }
}
