//! What prepare finds out before the vote: after it, nobody looks again.

use super::super::held::{HeldEntry, shared, survey};
use super::super::journal::{Journal, Made, Work};
use super::super::testing::{
    Node, Staged, World, build, keeper, name, path, quick, set_mtime, without_privileges,
};
use super::super::transaction::CommitError;
use super::{AFTER, BEFORE, LAYOUTS, check_after, read, ready_in, rules};
use crate::engine::index::{Index, Stamp};
use crate::fs::Dir;
use std::collections::BTreeSet;
use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use sync_proto::path::RelPath;
use sync_proto::wire::Layout;

fn ready(layout: Layout) -> (World, Staged) {
    ready_in(quick(), layout)
}

fn staged_tree(world: &World) -> PathBuf {
    world.tmp.path().join(".www.fanout/stage/t2/tree")
}

fn journal(world: &World) -> Journal {
    Journal::load(&world.place).unwrap().unwrap()
}

/// Another file of that content, with the same time.
fn replace(at: &Path, content: &str) {
    let time = at.metadata().unwrap().modified().unwrap();
    let fresh = at.with_extension("fresh");
    fs::write(&fresh, content).unwrap();
    // The inode number is not used again, since both are there.
    assert!(fs::File::open(&fresh).unwrap().set_modified(time).is_ok());
    let dir = Dir::open_absolute(at.parent().unwrap()).unwrap();
    let last = |at: &Path| name(at.file_name().unwrap().to_str().unwrap());
    dir.rename_to(&last(&fresh), &dir, &last(at)).unwrap();
}

/// The staged index, but that it says of `of` that nothing was staged there.
fn unstamped(staged: &Index, of: &RelPath) -> Index {
    let mut stamps = Vec::new();
    for (directory, known) in staged.directories() {
        for (entry, stamp) in directory.entries.iter().zip(known) {
            let is_it = directory.path_of(&entry.name) == *of;
            stamps.push(if is_it { Stamp::default() } else { *stamp });
        }
    }
    Index::new(staged.manifest().clone(), *staged.root_stamp(), stamps).unwrap()
}

fn is_changed(outcome: Result<impl Sized, CommitError>, at: &str) -> bool {
    matches!(outcome, Err(CommitError::Changed(changed)) if changed == path(at))
}

fn is_kept(outcome: Result<impl Sized, CommitError>, at: &str) -> bool {
    matches!(outcome, Err(CommitError::Kept(kept)) if kept == path(at))
}

fn is_unwritable(outcome: Result<impl Sized, CommitError>, at: &RelPath) -> bool {
    matches!(outcome, Err(CommitError::Unwritable(held)) if held == *at)
}

#[test]
fn a_vote_needs_every_entry_staged_as_the_kind_that_it_is() {
    let (world, staged) = ready(Layout::InPlace);
    let tree = staged_tree(&world);
    for victim in ["a.txt", "newdir", "dir_to_link", "hl/b", "fifo2"] {
        let (at, away) = (tree.join(victim), world.tmp.path().join("away"));
        let (dir, out) = [at.parent().unwrap(), world.tmp.path()]
            .map(|it| Dir::open_absolute(it).unwrap())
            .into();
        let last = name(at.file_name().unwrap().to_str().unwrap());
        dir.rename_to(&last, &out, &name("away")).unwrap();
        let refused = |what: &str| {
            let outcome = world.prepare(&staged);
            let is_it = matches!(&outcome, Err(CommitError::NotStaged(it)) if *it == path(victim));
            assert!(is_it, "{victim} {what}");
        };
        refused("absent");
        std::os::unix::net::UnixListener::bind(&at).unwrap();
        refused("a socket");
        fs::remove_file(&at).unwrap();
        if victim == "a.txt" {
            fs::write(&at, "three!").unwrap();
            refused("another length");
            fs::remove_file(&at).unwrap();
        }
        out.rename_to(&name("away"), &dir, &last).unwrap();
        assert!(away.symlink_metadata().is_err());
    }
    world.prepare(&staged).unwrap();
}

#[test]
fn a_vote_needs_what_is_linked_to_the_live_tree_as_it_was_seen() {
    const VICTIM: &str = "same.txt";
    let same = |at: &Path| fs::write(at, "SAME").unwrap();
    let longer = |at: &Path| {
        let time = at.metadata().unwrap().modified().unwrap();
        fs::write(at, "longer").unwrap();
        fs::File::open(at).unwrap().set_modified(time).unwrap();
    };
    let other = |at: &Path| replace(at, "same");
    let ways: [&dyn Fn(&Path); 3] = [&same, &longer, &other];
    for way in ways {
        let (world, staged) = ready(Layout::Switched);
        way(&staged_tree(&world).join(VICTIM));
        assert!(is_changed(world.prepare(&staged), VICTIM));
    }
}

#[test]
fn a_vote_needs_a_look_at_what_no_stamp_was_noted_for() {
    let refused = |victim: &str, meddle: &dyn Fn(&Path)| {
        let (world, mut staged) = ready(Layout::Switched);
        staged.staged = unstamped(&staged.staged, &path(victim));
        meddle(&staged_tree(&world).join(victim));
        world.prepare(&staged)
    };
    // A directory needs no stamp to be known for one.
    assert!(refused("newdir", &|_| {}).is_ok());
    assert!(is_changed(refused("a.txt", &|_| {}), "a.txt"));
    let gone = refused("a.txt", &|at| fs::remove_file(at).unwrap());
    assert!(matches!(gone, Err(CommitError::NotStaged(at)) if at == path("a.txt")));
    let directory = refused("a.txt", &|at| {
        fs::remove_file(at).unwrap();
        fs::create_dir(at).unwrap();
    });
    assert!(is_changed(directory, "a.txt"));
    let file = refused("newdir/l", &|at| {
        fs::remove_file(at.join("m")).unwrap();
        fs::remove_dir(at).unwrap();
        fs::write(at, "file").unwrap();
    });
    // What was in it is missed, or it is, whichever comes first.
    assert!(file.is_err());
}

#[test]
fn what_a_directory_holds_by_now_keeps_it_from_becoming_a_file() {
    for layout in LAYOUTS {
        let mut world = World::new(layout, rules());
        let before = world.source("before", &[("d/x", Node::File("x"))]);
        world.push(&before);
        let after = world.source("after", &[("d", Node::File("now a file"))]);
        let staged = world.stage(&after);
        fs::write(world.root().join("d/late.log"), "late").unwrap();
        assert!(is_kept(world.prepare(&staged), "d"), "{layout:?}");
        assert_eq!(read(world.root().join("d/late.log")), "late");
    }
}

/// A rule that ends in a slash is about directories.
#[test]
fn a_file_where_only_a_directory_would_be_protected_is_replaced() {
    let mut world = World::new(Layout::InPlace, keeper(&["P thing/"], &[]));
    let before = world.source("before", &[("thing", Node::File("old"))]);
    world.push(&before);
    let after = world.source("after", &[("thing", Node::File("new!"))]);
    world.push(&after);
    assert_eq!(read(world.root().join("thing")), "new!");
}

#[test]
fn a_directory_that_would_only_be_touched_and_is_another_by_now_gets_a_no() {
    let chmod = |at: &Path| set_permissions(at, Permissions::from_mode(0o750)).unwrap();
    let other = |at: &Path| {
        fs::create_dir(at.with_extension("new")).unwrap();
        set_permissions(at.with_extension("new"), Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir(at).unwrap();
        let dir = Dir::open_absolute(at.parent().unwrap()).unwrap();
        dir.rename_to(&name("empty.new"), &dir, &name("empty"))
            .unwrap();
    };
    let ways: [&dyn Fn(&Path); 2] = [&chmod, &other];
    for way in ways {
        let (world, staged) = ready(Layout::InPlace);
        way(&world.root().join("empty"));
        assert!(is_changed(world.prepare(&staged), "empty"));
    }
}

/// Whoever stamped it within the tick in which it was written noted no ctime.
#[test]
fn a_stamp_without_a_ctime_holds_as_long_as_everything_else_does() {
    for is_edited in [false, true] {
        let (world, mut staged) = ready(Layout::InPlace);
        let index = &staged.observed;
        let all = index.directories().flat_map(|(_, stamps)| stamps);
        let stamps = all.map(|stamp| stamp.distrusted()).collect();
        let distrusted = Index::new(index.manifest().clone(), *index.root_stamp(), stamps);
        staged.observed = distrusted.unwrap();
        if is_edited {
            fs::write(world.root().join("mode.txt"), "edited").unwrap();
        }
        let outcome = world.prepare(&staged);
        match is_edited {
            true => assert!(is_changed(outcome, "mode.txt")),
            false => {
                outcome.unwrap();
                world.commit(staged.txn).unwrap();
                check_after(&world, &staged);
            }
        }
    }
}

#[test]
fn an_edit_since_the_plan_is_kept_aside_by_a_switch_too() {
    let edit = |at: &Path| {
        fs::write(at, "Gone").unwrap();
        set_mtime(at, 1_650_000_000);
    };
    let other = |at: &Path| replace(at, "other one");
    let alike = |at: &Path| replace(at, "GONE");
    let ways: [&dyn Fn(&Path); 3] = [&edit, &other, &alike];
    for way in ways {
        let (world, staged) = ready(Layout::Switched);
        let victim = world.root().join("gone.txt");
        way(&victim);
        let expected = read(&victim);
        let told = world.prepare(&staged).unwrap().overwritten;
        assert!(told.iter().any(|it| it.path == b"gone.txt"), "{told:?}");
        world.commit(staged.txn).unwrap();
        let aside = world.tmp.path().join("overwritten/000002/gone.txt");
        assert_eq!(read(aside), expected);
    }
}

#[test]
fn a_switch_moves_what_belongs_to_the_member_once_and_before_visitors_come() {
    let (mut world, staged) = ready(Layout::Switched);
    world.prepare(&staged).unwrap();
    let shares = |world: &World| match journal(world).work {
        Work::Switched { shares, .. } => shares,
        Work::InPlace { .. } => panic!("in place"),
    };
    assert_eq!(
        shares(&world),
        [path("olddir/n/m.log"), path("sites/x/files")]
    );
    world.commit(staged.txn).unwrap();
    world.settle(&staged);
    let again = world.source("again", BEFORE);
    let staged = world.stage(&again);
    world.prepare(&staged).unwrap();
    assert_eq!(shares(&world), []);
}

/// What is preserved comes back into sight; a mark that the rules exclude, and that somebody
/// removed, doesn't.
#[test]
fn a_lost_symlink_comes_back_if_it_led_to_what_is_preserved() {
    let (mut world, staged) = ready(Layout::Switched);
    world.prepare(&staged).unwrap();
    world.commit(staged.txn).unwrap();
    world.settle(&staged);
    for lost in ["olddir/n/m.log", "sites/x/files"] {
        fs::remove_file(world.root().join(lost)).unwrap();
    }
    let again = world.source("again", AFTER);
    world.push(&again);
    assert_eq!(read(world.root().join("sites/x/files/up.jpg")), "upload");
    assert!(
        world
            .root()
            .join("olddir/n/m.log")
            .symlink_metadata()
            .is_err()
    );
    let kept = world.tmp.path().join(".www.fanout/shared/olddir/n/m.log");
    assert_eq!(read(kept), "log");
}

#[test]
fn what_this_process_may_not_write_to_gets_a_no() {
    let no = |world: &World, staged: &Staged, at: &Path, of: &str| {
        let mode = at.metadata().unwrap().permissions();
        set_permissions(at, Permissions::from_mode(0o555)).unwrap();
        let outcome = without_privileges(|| world.prepare(staged));
        set_permissions(at, mode).unwrap();
        let of = RelPath::parse(of.as_bytes()).unwrap_or_default();
        assert!(is_unwritable(outcome, &of), "{} {of}", at.display());
    };
    let (world, staged) = ready(Layout::InPlace);
    let (root, tree) = (world.root(), staged_tree(&world));
    no(&world, &staged, &root.join("sub/deep"), "sub/deep");
    // A directory that moves gets another `..`.
    no(&world, &staged, &root.join("dir_to_file"), "dir_to_file");
    no(&world, &staged, &tree.join("newdir"), "newdir");
    without_privileges(|| world.prepare(&staged)).unwrap();

    let (world, staged) = ready(Layout::Switched);
    let root = world.tmp.path().join(".www.fanout/gen/000001");
    no(&world, &staged, world.tmp.path(), "");
    no(&world, &staged, &root.join("sites/x"), "sites/x");
    no(
        &world,
        &staged,
        &root.join("sites/x/files"),
        "sites/x/files",
    );
    without_privileges(|| world.prepare(&staged)).unwrap();
}

#[test]
fn the_journal_of_a_commit_in_place_names_what_it_makes_and_what_it_keeps() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    let made: Vec<_> = journal(&world)
        .made
        .iter()
        .map(|made| {
            assert!(matches!(made, Made::Directory(_, None)));
            made.path().to_string()
        })
        .collect();
    // Where removed files will lie, as far as staging didn't make it.
    let expected = ["olddir", "olddir/n", "sites", "sites/x"];
    assert_eq!(made, expected);
    world.commit(staged.txn).unwrap();
    // A further name of a file has its content.
    let linked = [sync_proto::digest::Digest::of(b"linked")];
    let kept = super::super::generations::kept_contents(&world.place, &linked.into());
    assert_eq!(kept.unwrap().len(), 2);
}

#[test]
fn what_cant_be_looked_into_is_held_and_the_nearest_path_stands_for_it() {
    let tmp = tempfile::tempdir().unwrap();
    build(
        tmp.path(),
        &[
            ("d/shut/x", Node::File("x")),
            ("d/a.log", Node::File("log")),
            ("d/b", Node::File("b")),
        ],
    );
    let shut = tmp.path().join("d/shut");
    let held = |path: RelPath, is_directory| HeldEntry {
        path,
        is_directory,
        link_target: None,
        is_opaque: is_directory,
    };
    set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    let (root, inner) = without_privileges(|| {
        let open = |at: &Path| Dir::open_absolute(at).unwrap();
        let root = survey(&open(tmp.path()), &RelPath::root(), &rules());
        (
            root,
            survey(&open(&tmp.path().join("d")), &path("d"), &rules()),
        )
    });
    set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
    let expected = [held(path("d/a.log"), false), held(path("d/shut"), true)];
    assert_eq!(root.unwrap(), expected);
    assert_eq!(inner.unwrap(), expected);
}

/// Deeper than a path of ours may be: what holds it is held.
#[test]
fn what_lies_too_deep_is_held_by_the_deepest_path_there_is() {
    let tmp = quick();
    let top = Dir::open_absolute(tmp.path()).unwrap();
    let each = "n".repeat(250);
    let (mut dir, mut deepest) = (top.try_clone().unwrap(), RelPath::root());
    for _ in 0..20 {
        dir = dir.create_dir(&name(&each), 0o755).unwrap();
        deepest = deepest.join(&name(&each)).unwrap_or(deepest);
    }
    assert!(deepest.depth() < 20);
    let held = survey(&top, &RelPath::root(), &rules()).unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    assert!(held[0].is_opaque && held[0].path == deepest);
}

#[test]
fn only_a_switched_tree_has_a_shared_place_with_directories_of_the_member() {
    for layout in LAYOUTS {
        let world = World::new(layout, rules());
        let place = world.tmp.path().join(".www.fanout/shared");
        build(
            &place,
            &[
                ("sites/x/files/up.jpg", Node::File("upload")),
                ("olddir/m.log", Node::File("log")),
            ],
        );
        let expected: &[RelPath] = match layout {
            Layout::Switched => &[path("sites/x/files")],
            Layout::InPlace => &[],
        };
        let found = shared(&world.place, &world.keeper).unwrap();
        assert_eq!(found, BTreeSet::from_iter(expected.iter().cloned()));
    }
}
