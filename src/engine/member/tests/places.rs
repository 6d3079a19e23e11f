//! Where a tree and its state may lie.

use super::super::foreign::ForeignPaths;
use super::super::generations::collect;
use super::super::place::{Place, PlaceError, Seat, no_rename};
use super::super::record::{TreeRecord, Vote};
use super::super::removal::{delete_tree, forget};
use super::super::testing::{Node, World, build, seat, snapshot, without_privileges};
use super::{AFTER, BEFORE, LAYOUTS, check_after, live_on, read, rules};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use sync_proto::digest::Digest;
use sync_proto::manifest::Roots;
use sync_proto::wire::{Generation, Layout};

fn create(root: &Path, layout: Layout, adopt: bool) -> Result<Place, PlaceError> {
    Place::create(Seat::trusted(root)?, [1; 16], layout, adopt).map(|created| created.place)
}

#[test]
fn a_root_that_is_not_ours_is_refused_and_untouched() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    build(
        tmp.path(),
        &[
            ("full/index.php", Node::File("x")),
            ("file", Node::File("x")),
        ],
    );
    symlink("full", at("link")).unwrap();
    let before = snapshot(tmp.path());
    for layout in LAYOUTS {
        let refused = |name: &str, adopt| create(&at(name), layout, adopt).unwrap_err();
        assert!(matches!(
            refused("full", false),
            PlaceError::NotEmpty { entries: 1, .. }
        ));
        assert!(matches!(
            refused("link", true),
            PlaceError::ForeignSymlink(_)
        ));
        assert!(matches!(
            refused("file", true),
            PlaceError::NotADirectory(_)
        ));
        assert!(matches!(refused("absent/www", false), PlaceError::Fs(_)));
    }
    let switched = create(&at("full"), Layout::Switched, true).unwrap_err();
    assert!(matches!(switched, PlaceError::AdoptSwitched(_)));
    assert_eq!(snapshot(tmp.path()), before);
}

#[test]
fn a_tree_is_bound_once_and_may_be_bound_again_after_it_was_forgotten() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("www");
    let place = create(&root, Layout::Switched, false).unwrap();
    let mut record = TreeRecord::load(&place).unwrap();
    assert!(record.raise_fence(&place, 5).unwrap());
    assert!(!record.raise_fence(&place, 5).unwrap());
    create(&root, Layout::Switched, false).unwrap();
    assert!(matches!(
        create(&root, Layout::InPlace, false),
        Err(PlaceError::OtherLayout(_))
    ));
    let other = || Place::create(seat(&root), [2; 16], Layout::Switched, false);
    assert!(matches!(other(), Err(PlaceError::BoundToOther(_))));
    assert_eq!(forget(&place).unwrap().len(), 2);
    let place = other().unwrap().place;
    let record = TreeRecord::load(&place).unwrap();
    assert_eq!((record.tree, record.fence), ([2; 16], 5));
}

#[test]
fn a_vote_goes_forward_only_if_its_mark_is_whole_and_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let place = create(&tmp.path().join("www"), Layout::Switched, false).unwrap();
    let mut vote = Vote {
        txn: *b"0123456789abcdef",
        fence: 7,
        generation: Generation {
            serial: 1,
            roots: Roots {
                content: Digest::of(b"content"),
                meta: Digest::of(b"meta"),
            },
            label: String::new(),
            created_ms: 0,
        },
        is_forward: false,
    };
    Vote::make_mark(&place).unwrap();
    vote.save(&place).unwrap();
    let is_forward = || Vote::load(&place).unwrap().unwrap().is_forward;
    assert!(!is_forward());
    let mark = tmp.path().join(".www.fanout/journal/forward");
    let others: [&[u8]; 5] = [
        b"",
        b"0123456789",
        b"0123456\0\0\0\0\0\0\0\0\0",
        b"another's key ok",
        b"0123456789abcdefg",
    ];
    for torn in others {
        fs::write(&mark, torn).unwrap();
        assert!(!is_forward(), "{torn:?}");
    }
    fs::write(&mark, [0; 16]).unwrap();
    vote.note_forward(&place).unwrap();
    assert!(is_forward() && vote.is_forward);
    // Somebody cleared the file away; the next vote isn't bound by the mark of the last.
    fs::remove_file(&mark).unwrap();
    assert!(!is_forward());
    vote.note_forward(&place).unwrap();
    assert!(is_forward());
    // What can't be read or written is no missing mark.
    fs::remove_file(&mark).unwrap();
    symlink("elsewhere", &mark).unwrap();
    assert!(Vote::load(&place).is_err());
    assert!(vote.note_forward(&place).is_err());
    fs::remove_file(&mark).unwrap();
    let journal = mark.parent().unwrap();
    fs::set_permissions(journal, fs::Permissions::from_mode(0o500)).unwrap();
    assert!(without_privileges(|| Vote::make_mark(&place)).is_err());
    fs::set_permissions(journal, fs::Permissions::from_mode(0o700)).unwrap();
    vote.txn = *b"fedcba9876543210";
    Vote::make_mark(&place).unwrap();
    assert_eq!(fs::read(&mark).unwrap(), [0; 16]);
    Vote::make_mark(&place).unwrap();
    vote.save(&place).unwrap();
    assert!(!is_forward());
}

#[test]
fn the_state_directory_shows_others_no_more_than_it_must() {
    let tmp = tempfile::tempdir().unwrap();
    create(&tmp.path().join("www"), Layout::Switched, false).unwrap();
    let mode = |name: &str| {
        let at = tmp.path().join(".www.fanout").join(name);
        at.metadata().unwrap().permissions().mode() & 0o7777
    };
    for (name, expected) in [
        ("", 0o711),
        ("gen", 0o711),
        ("shared", 0o711),
        ("stage", 0o700),
        ("undo", 0o700),
        ("journal", 0o700),
        ("record", 0o600),
    ] {
        assert_eq!(mode(name), expected, "{name}");
    }
}

#[test]
fn a_damaged_record_is_an_error_and_not_an_empty_tree() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("www");
    create(&root, Layout::InPlace, false).unwrap();
    let record = tmp.path().join(".www.fanout/record");
    let mut bytes = fs::read(&record).unwrap();
    bytes[7] ^= 1;
    fs::write(&record, bytes).unwrap();
    assert!(matches!(
        Place::open(seat(&root)),
        Err(PlaceError::Checked(_))
    ));
    assert!(create(&root, Layout::InPlace, false).is_err());
}

#[test]
fn a_root_that_nothing_can_be_renamed_into_keeps_its_state_inside() {
    no_rename::set(true);
    let tmp = tempfile::tempdir().unwrap();
    let switched = create(&tmp.path().join("other"), Layout::Switched, false);
    assert!(matches!(switched, Err(PlaceError::NoStateBeside { .. })));

    let mut world = World::in_dir(tmp, Layout::InPlace, rules(), false);
    assert!(!world.place.is_state_beside_root());
    assert!(!world.tmp.path().join(".www.fanout").exists());
    let before = world.source("before", BEFORE);
    world.push(&before);
    live_on(&world);
    world.reopen();
    let after = world.source("after", AFTER);
    let staged = world.stage(&after);
    world.prepare(&staged).unwrap();
    world.commit(staged.txn).unwrap();
    world.settle(&staged);
    check_after(&world, &staged);
    collect(&world.place, &[], &world.keeper, None).unwrap();
    assert!(world.root().join(".fanout/record").exists());

    let World {
        place, keeper, tmp, ..
    } = world;
    delete_tree(place, &keeper).unwrap();
    assert!(!tmp.path().join("www/.fanout").exists());
    assert_eq!(read(tmp.path().join("www/sites/x/files/up.jpg")), "upload");
    no_rename::set(false);
}

#[test]
fn an_adopted_root_is_remembered_as_such() {
    let tmp = tempfile::tempdir().unwrap();
    build(&tmp.path().join("www"), &[("index.php", Node::File("x"))]);
    let created = Place::create(
        seat(&tmp.path().join("www")),
        [1; 16],
        Layout::InPlace,
        true,
    )
    .unwrap();
    assert_eq!(created.found_entries, 1);
    assert!(TreeRecord::load(&created.place).unwrap().adopted);
    assert!(ForeignPaths::load(&created.place).unwrap().is_empty());
}

/// Whoever may rename in the directory above could put a journal of their own there, which would be
/// carried out with our rights.
#[test]
fn a_state_directory_that_somebody_else_made_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a directory away, and make what others would.
        return;
    }
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", BEFORE);
        world.push(&before);
        let state = world.tmp.path().join(".www.fanout");
        let foreign = || {
            matches!(
                Place::open(seat(&world.root())),
                Err(PlaceError::ForeignState(_))
            )
        };
        assert!(!foreign());
        std::os::unix::fs::chown(&state, Some(54_321), None).unwrap();
        assert!(foreign());
        let bound = create(&world.root(), layout, true);
        assert!(matches!(bound, Err(PlaceError::ForeignState(_))));
        std::os::unix::fs::chown(&state, Some(0), None).unwrap();
        fs::set_permissions(&state, PermissionsExt::from_mode(0o731)).unwrap();
        assert!(foreign());
        fs::set_permissions(&state, PermissionsExt::from_mode(0o711)).unwrap();
        assert!(!foreign());
    }
}

#[test]
fn a_root_that_is_not_what_the_last_commit_left_is_told() {
    let changed = |world: &World| {
        let record = TreeRecord::load(&world.place).unwrap();
        world.place.root_changed(&record).unwrap()
    };
    let told = |text: &str| Some(text.to_owned());
    let mut world = World::new(Layout::Switched, rules());
    let root = world.root();
    assert!(!TreeRecord::load(&world.place).unwrap().adopted);
    assert_eq!(changed(&world), None);
    fs::create_dir(&root).unwrap();
    assert_eq!(changed(&world), None);
    fs::write(root.join("x"), "x").unwrap();
    assert_eq!(changed(&world), told("a directory with content"));
    fs::remove_file(root.join("x")).unwrap();
    fs::remove_dir(&root).unwrap();
    let before = world.source("before", BEFORE);
    world.push(&before);
    assert_eq!(changed(&world), None);
    fs::remove_file(&root).unwrap();
    symlink(".www.fanout/gen/000009", &root).unwrap();
    assert_eq!(changed(&world), told("a symlink to generation 000009"));
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    assert_eq!(changed(&world), told("a directory"));

    let world = World::new(Layout::InPlace, rules());
    let root = world.root();
    assert_eq!(changed(&world), None);
    fs::remove_dir(&root).unwrap();
    assert_eq!(changed(&world), None, "a repair makes it anew");
    world.place.make_root().unwrap();
    assert!(root.is_dir());
    world.place.make_root().unwrap();
    fs::remove_dir(&root).unwrap();
    symlink(".www.fanout/gen/000009", &root).unwrap();
    assert!(changed(&world).is_some());
}
