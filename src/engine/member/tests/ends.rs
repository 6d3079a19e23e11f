//! What is kept of former generations, and the end of a tree.

use super::super::generations::{collect, generations, kept_contents, open_kept, pin};
use super::super::record::TreeRecord;
use super::super::recycle::give_up;
use super::super::removal::delete_tree;
use super::super::testing::{Node, World, build, keeper};
use super::{AFTER, BEFORE, LAYOUTS, check_after, live_on, read, ready, rules};
use std::path::Path;
use sync_proto::wire::Layout;

#[test]
fn former_content_is_found_until_its_generation_is_collected() {
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        world.commit(staged.txn).unwrap();
        world.settle(&staged);
        let [wanted, edited, other] =
            [&b"gone"[..], b"edited here", b"never there"].map(sync_proto::digest::Digest::of);
        let look =
            |wanted: &[_]| kept_contents(&world.place, &wanted.iter().copied().collect()).unwrap();
        assert!(look(&[other]).is_empty());
        let kept = look(&[wanted, edited, other]);
        let gone = kept.iter().find(|it| it.content == wanted).unwrap();
        let mut content = String::new();
        let mut file = open_kept(&world.place, &gone.source).unwrap().unwrap();
        std::io::Read::read_to_string(&mut file, &mut content).unwrap();
        assert_eq!(content, "gone");
        // Somebody's edit is not what it was committed as.
        assert!(layout == Layout::Switched || kept.iter().all(|it| it.content != edited));

        collect(&world.place, &[1, 2], &world.keeper, None).unwrap();
        assert!(open_kept(&world.place, &gone.source).unwrap().is_some());
        // Somebody was there: what is absent is no source, and what isn't a file is an error.
        let at = world.tmp.path().join(match layout {
            Layout::InPlace => ".www.fanout/undo/000002/tree/gone.txt",
            Layout::Switched => ".www.fanout/gen/000001/gone.txt",
        });
        std::fs::remove_file(&at).unwrap();
        assert!(open_kept(&world.place, &gone.source).unwrap().is_none());
        std::os::unix::fs::symlink("a.txt", &at).unwrap();
        assert!(open_kept(&world.place, &gone.source).is_err());
        collect(&world.place, &[], &world.keeper, None).unwrap();
        assert!(open_kept(&world.place, &gone.source).unwrap().is_none());
        assert!(look(&[wanted, edited]).is_empty());
        check_after(&world, &staged);
    }
}

#[test]
fn collecting_keeps_what_is_pinned_and_never_loses_an_upload() {
    let mut world = World::new(Layout::Switched, rules());
    let before = world.source("before", BEFORE);
    let after = world.source("after", AFTER);
    for source in [&before, &after, &before] {
        world.push(source);
    }
    pin(&world.place, 1, true).unwrap();
    let state = world.tmp.path().join(".www.fanout");
    build(
        &state.join("gen/000002/sites/q/files"),
        &[("x", Node::File("x"))],
    );
    collect(&world.place, &[], &world.keeper, Some(&world.overwritten)).unwrap();
    assert!(state.join("gen/000001").exists());
    assert!(!state.join("gen/000002").exists());
    assert!(state.join("gen/000003").exists());
    let kept: Vec<_> = generations(&world.place)
        .unwrap()
        .iter()
        .map(|it| (it.generation.serial, it.pinned))
        .collect();
    assert_eq!(kept, [(1, true), (3, false)]);
    // It waits to be used again, with all that is in it, unless the disk is full.
    assert_eq!(read(state.join("spare/000002/sites/q/files/x")), "x");
    give_up(&world.place, &world.keeper, Some(&world.overwritten)).unwrap();
    assert_eq!(std::fs::read_dir(state.join("spare")).unwrap().count(), 0);
    let rescued = world.tmp.path().join("overwritten/000002/sites/q/files/x");
    assert_eq!(read(rescued), "x");
}

#[test]
fn a_deleted_tree_leaves_what_belongs_to_the_member() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", BEFORE);
        world.push(&before);
        live_on(&world);
        let after = world.source("after", AFTER);
        world.push(&after);
        let World {
            place, keeper, tmp, ..
        } = world;
        let left = delete_tree(place, &keeper).unwrap();
        let paths: Vec<_> = left
            .iter()
            .map(|it| String::from_utf8_lossy(&it.path).into_owned())
            .collect();
        assert!(
            paths.iter().any(|it| it.ends_with("sites/x/files")),
            "{paths:?}"
        );
        assert!(
            paths.iter().any(|it| it.ends_with("olddir/n/m.log")),
            "{paths:?}"
        );
        let base = match layout {
            Layout::InPlace => tmp.path().join("www"),
            Layout::Switched => tmp.path().join(".www.fanout/shared"),
        };
        assert_eq!(read(base.join("sites/x/files/up.jpg")), "upload");
        assert_eq!(read(base.join("olddir/n/m.log")), "log");
        assert!(!tmp.path().join("www/a.txt").exists());
        assert!(!tmp.path().join(".www.fanout/gen/000001").exists());
        let files = walkdir::WalkDir::new(&base)
            .into_iter()
            .map(Result::unwrap)
            .filter(|it| !it.file_type().is_dir());
        assert_eq!(files.count(), 2, "{layout:?}");
    }
}

#[test]
fn a_deleted_tree_without_exceptions_leaves_nothing() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, keeper(&[], &[]));
        let before = world.source("before", BEFORE);
        world.push(&before);
        let World {
            place, keeper, tmp, ..
        } = world;
        assert_eq!(delete_tree(place, &keeper).unwrap(), []);
        assert!(tmp.path().join("www").symlink_metadata().is_err());
        assert!(!tmp.path().join(".www.fanout").exists());
    }
}

#[test]
fn a_serial_that_is_used_again_gets_a_directory_of_its_own() {
    let mut world = World::new(Layout::Switched, rules());
    let before = world.source("before", BEFORE);
    world.push(&before);
    let changed = world.source("after", AFTER);
    let mut staged = world.stage(&changed);
    staged.generation.serial = 1;
    world.prepare(&staged).unwrap();
    world.commit(staged.txn).unwrap();
    let says = std::fs::read_link(world.root()).unwrap();
    assert_eq!(says, Path::new(".www.fanout/gen/000001.2"));
    let record = TreeRecord::load(&world.place).unwrap();
    assert_eq!(record.generations.len(), 1);
}

/// Root puts one old generation by for the next push; what else goes takes names away from inodes
/// that the live tree may share.
#[test]
fn a_generation_that_goes_is_put_by_or_removed_and_that_is_told() {
    let mut world = World::new(Layout::Switched, rules());
    let before = world.source("before", BEFORE);
    let after = world.source("after", AFTER);
    let state = world.tmp.path().join(".www.fanout");
    let is_root = crate::fs::owner::own_user() == 0;
    world.push(&before);
    for (source, gone, is_put_by) in [(&after, "000001", is_root), (&before, "000002", false)] {
        world.push(source);
        let collected = collect(&world.place, &[], &world.keeper, None).unwrap();
        assert_eq!(collected.is_unlinked, !is_put_by);
        assert!(!state.join("gen").join(gone).exists());
        assert_eq!(state.join("spare").join(gone).exists(), is_put_by);
    }
}
