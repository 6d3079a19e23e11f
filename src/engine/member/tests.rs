//! Whole transactions on real trees, and what is left of them after a crash at any step.

mod random;

use super::fault::counted::fail_at;
use super::foreign::ForeignPaths;
use super::generations::{collect, kept_contents, open_kept};
use super::live::no_exchange;
use super::live_index::load_index;
use super::record::TreeRecord;
use super::removal::delete_tree;
use super::testing::{Node, World, build, keeper, path, set_mtime, snapshot};
use super::transaction::{CommitError, abort, commit, recover};
use crate::engine::index::Stamp;
use std::path::Path;
use sync_proto::commit::Participant;
use sync_proto::wire::Layout;

const LAYOUTS: [Layout; 2] = [Layout::InPlace, Layout::Switched];

/// The first of two trees that differ in every way.
const BEFORE: &[(&str, Node)] = &[
    ("a.txt", Node::File("one")),
    ("same.txt", Node::File("same")),
    ("mode.txt", Node::Exact("mode", 0o644, 1_400_000_000)),
    ("time.txt", Node::Exact("time", 0o644, 1_400_000_000)),
    ("gone.txt", Node::File("gone")),
    ("dir_to_file/x", Node::File("x")),
    ("dir_to_file/y/z", Node::File("z")),
    ("file_to_dir", Node::File("file")),
    ("dir_to_link/p", Node::File("p")),
    ("link_to_file", Node::Link("a.txt")),
    ("link", Node::Link("a.txt")),
    ("hl/a", Node::File("linked")),
    ("hl/b", Node::Hard("hl/a")),
    ("hl2/c", Node::File("apart soon")),
    ("hl2/d", Node::Hard("hl2/c")),
    ("sub/deep/one", Node::File("1")),
    ("sub/deep/two", Node::File("2")),
    ("olddir/m", Node::File("m")),
    ("olddir/n/o", Node::File("o")),
    ("sites/x/settings", Node::File("s")),
    ("fifo", Node::Fifo),
    ("empty", Node::Dir(0o755)),
];

const AFTER: &[(&str, Node)] = &[
    ("a.txt", Node::File("two!")),
    ("same.txt", Node::File("same")),
    ("mode.txt", Node::Exact("mode", 0o600, 1_400_000_000)),
    ("time.txt", Node::Exact("time", 0o644, 1_450_000_000)),
    ("dir_to_file", Node::File("now a file")),
    ("file_to_dir/q", Node::File("q")),
    ("file_to_dir/r/s", Node::File("s")),
    ("dir_to_link", Node::Link("sub")),
    ("link_to_file", Node::File("now a file")),
    ("link", Node::Link("same.txt")),
    ("hl/a", Node::File("linked anew")),
    ("hl/b", Node::Hard("hl/a")),
    ("hl/new", Node::Hard("hl/a")),
    ("hl2/c", Node::File("apart soon")),
    ("hl2/d", Node::File("apart now")),
    ("sub/deep/one", Node::File("1")),
    ("sub/deep/three", Node::File("3")),
    ("newdir/k", Node::File("k")),
    ("newdir/l/m", Node::File("m")),
    ("fifo2", Node::Fifo),
    ("empty", Node::Dir(0o711)),
];

fn rules() -> super::keeper::Keeper {
    keeper(&["*.log"], &["/sites/*/files"])
}

/// What the member did to its tree between two pushes.
fn live_on(world: &World) {
    let root = world.root();
    build(
        &root.join("sites/x/files"),
        &[("up.jpg", Node::File("upload"))],
    );
    std::fs::write(root.join("olddir/n/m.log"), "log").unwrap();
    std::fs::write(root.join("a.txt"), "edited here").unwrap();
    std::fs::write(root.join("sub/stranger"), "nobody committed me").unwrap();
}

fn read(at: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&at)
        .unwrap_or_else(|error| panic!("{}: {error}", at.as_ref().display()))
}

/// A world that holds [`BEFORE`], with changes of its own, and [`AFTER`] staged.
fn ready(layout: Layout) -> (World, super::testing::Staged) {
    let mut world = World::new(layout, rules());
    let before = world.source("before", BEFORE);
    world.push(&before);
    live_on(&world);
    let after = world.source("after", AFTER);
    let staged = world.stage(&after);
    (world, staged)
}

fn check_after(world: &World, staged: &super::testing::Staged) {
    assert_eq!(world.difference(&staged.desired), Vec::<String>::new());
    let root = world.root();
    assert_eq!(read(root.join("sites/x/files/up.jpg")), "upload");
    assert_eq!(read(root.join("olddir/n/m.log")), "log");
    assert!(!root.join("olddir/m").exists());
    assert!(!root.join("sites/x/settings").exists());
    let aside = world.tmp.path().join("overwritten/000002");
    assert_eq!(read(aside.join("a.txt")), "edited here");
    assert_eq!(read(aside.join("sub/stranger")), "nobody committed me");
    let record = TreeRecord::load(&world.place).unwrap();
    assert_eq!(record.live, Some(2));
    assert_eq!(record.last_committed, Some(staged.txn));
}

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
fn a_commit_that_died_at_any_step_is_finished_by_repeating_it() {
    for (layout, exchange) in [
        (Layout::InPlace, true),
        (Layout::InPlace, false),
        (Layout::Switched, true),
    ] {
        no_exchange::set(!exchange);
        for step in 0.. {
            let (mut world, staged) = ready(layout);
            world.prepare(&staged).unwrap();
            fail_at(Some(step));
            let outcome = world.commit(staged.txn);
            fail_at(None);
            // Every path that is in both trees is there, whatever happened.
            for both in [
                "a.txt",
                "same.txt",
                "link",
                "hl/b",
                "sub/deep/one",
                "file_to_dir",
            ] {
                if !exchange && both == "file_to_dir" {
                    continue;
                }
                let there = world.root().join(both).symlink_metadata();
                assert!(there.is_ok(), "{layout:?} {step} {both}");
            }
            if outcome.is_ok() {
                assert!(step > 10, "{layout:?} {step}");
                break;
            }
            world.reopen();
            let recovered = recover(&world.place).unwrap();
            assert!(
                matches!(
                    recovered.participant,
                    Participant::Prepared { .. }
                        | Participant::Forward { .. }
                        | Participant::Done { .. }
                ),
                "{step}"
            );
            world.commit(staged.txn).unwrap();
            world.commit(staged.txn).unwrap();
            world.settle(&staged);
            check_after(&world, &staged);
            let recovered = recover(&world.place).unwrap();
            assert_eq!(recovered.participant, Participant::Done { txn: staged.txn });
        }
        no_exchange::set(false);
    }
}

#[test]
fn a_commit_that_dies_again_and_again_gets_there() {
    for layout in LAYOUTS {
        let (mut world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        let mut deaths = 0;
        loop {
            fail_at(Some(2 + deaths / 3));
            let outcome = world.commit(staged.txn);
            fail_at(None);
            if outcome.is_ok() {
                break;
            }
            deaths += 1;
            assert!(deaths < 200, "{layout:?} {outcome:?}");
            world.reopen();
        }
        check_after(&world, &staged);
    }
}

#[test]
fn a_prepare_that_died_at_any_step_leaves_the_tree_as_it_was() {
    for layout in LAYOUTS {
        for step in 0.. {
            let (mut world, staged) = ready(layout);
            let before = snapshot(&world.root());
            fail_at(Some(step));
            let outcome = world.prepare(&staged);
            fail_at(None);
            if outcome.is_ok() {
                assert!(step >= 3, "{layout:?} {step}");
                break;
            }
            assert_eq!(snapshot(&world.root()), before, "{layout:?} {step}");
            world.reopen();
            let recovered = recover(&world.place).unwrap();
            assert!(recovered.vote.is_none());
            assert_eq!(recovered.participant.unsettled(), None);
            // What is staged is still good for another try.
            world.prepare(&staged).unwrap();
            world.commit(staged.txn).unwrap();
            check_after(&world, &staged);
        }
    }
}

#[test]
fn an_abort_that_died_at_any_step_leaves_the_tree_as_it_was() {
    for layout in LAYOUTS {
        for step in 0.. {
            let (mut world, staged) = ready(layout);
            let before = snapshot(&world.root());
            let stage = snapshot(&stage_of(&world, &staged));
            world.prepare(&staged).unwrap();
            fail_at(Some(step));
            let outcome = abort(&world.place, staged.txn);
            fail_at(None);
            world.reopen();
            if outcome.is_err() {
                recover(&world.place).unwrap();
                abort(&world.place, staged.txn).unwrap();
            }
            assert_eq!(snapshot(&world.root()), before, "{layout:?} {step}");
            let names = |of: &std::collections::BTreeMap<_, _>| {
                of.keys().cloned().collect::<Vec<std::path::PathBuf>>()
            };
            assert_eq!(names(&snapshot(&stage_of(&world, &staged))), names(&stage));
            assert!(matches!(
                world.commit(staged.txn),
                Err(CommitError::NoTransaction)
            ));
            if outcome.is_ok() {
                break;
            }
        }
    }
}

fn stage_of(world: &World, staged: &super::testing::Staged) -> std::path::PathBuf {
    let stage = String::from_utf8(staged.stage.as_bytes().to_vec()).unwrap();
    world.tmp.path().join(".www.fanout/stage").join(stage)
}

#[test]
fn a_decided_transaction_is_not_aborted() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    fail_at(Some(3));
    assert!(world.commit(staged.txn).is_err());
    fail_at(None);
    assert!(matches!(
        abort(&world.place, staged.txn),
        Err(CommitError::Decided)
    ));
    assert!(matches!(
        abort(&world.place, [9; 16]),
        Err(CommitError::OtherTransaction)
    ));
    world.commit(staged.txn).unwrap();
    assert!(matches!(
        abort(&world.place, staged.txn),
        Err(CommitError::Decided)
    ));
}

#[test]
fn what_changes_between_the_plan_and_the_vote_is_moved_aside() {
    let (world, staged) = ready(Layout::InPlace);
    std::fs::write(world.root().join("gone.txt"), "late edit").unwrap();
    std::fs::write(world.root().join("fifo2"), "in the way").unwrap();
    let prepared = world.prepare(&staged).unwrap();
    let paths: Vec<_> = prepared
        .overwritten
        .iter()
        .map(|it| it.path.clone())
        .collect();
    assert!(paths.contains(&b"gone.txt".to_vec()), "{paths:?}");
    assert!(paths.contains(&b"fifo2".to_vec()), "{paths:?}");
    world.commit(staged.txn).unwrap();
    check_after(&world, &staged);
    let aside = world.tmp.path().join("overwritten/000002");
    assert_eq!(read(aside.join("gone.txt")), "late edit");
    assert_eq!(read(aside.join("fifo2")), "in the way");
}

#[test]
fn what_changes_between_the_vote_and_the_commit_is_not_destroyed() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    let root = world.root();
    std::fs::write(root.join("fifo2"), "in the way").unwrap();
    std::fs::write(root.join("gone.txt"), "late edit").unwrap();
    build(
        &root.join("newdir"),
        &[("own", Node::File("own")), ("k", Node::File("their k"))],
    );
    std::fs::write(root.join("dir_to_file/y/late"), "late").unwrap();
    std::fs::write(root.join("hl2/d"), "edited in place").unwrap();
    world.commit(staged.txn).unwrap();
    let aside = world.tmp.path().join("overwritten/000002");
    assert_eq!(read(aside.join("fifo2")), "in the way");
    assert_eq!(read(aside.join("gone.txt")), "late edit");
    assert_eq!(read(aside.join("newdir/k")), "their k");
    assert_eq!(read(aside.join("dir_to_file/y/late")), "late");
    assert_eq!(read(aside.join("hl2/d")), "edited in place");
    assert_eq!(read(root.join("newdir/own")), "own");
    std::fs::remove_file(root.join("newdir/own")).unwrap();
    set_mtime(&root.join("newdir"), 1_500_000_000);
    check_after_but_hl2(&world, &staged);
}

/// A file that was written through one of its names is the other one, too.
fn check_after_but_hl2(world: &World, staged: &super::testing::Staged) {
    let left = world.difference(&staged.desired);
    assert!(left.iter().all(|it| it.starts_with("hl2/c")), "{left:?}");
}

#[test]
fn a_file_that_would_only_be_touched_and_changed_meanwhile_gets_a_no() {
    for (layout, victim) in [
        (Layout::InPlace, "mode.txt"),
        (Layout::Switched, "same.txt"),
    ] {
        let (world, staged) = ready(layout);
        std::fs::write(world.root().join(victim), "changed").unwrap();
        let refused = world.prepare(&staged);
        assert!(matches!(refused, Err(CommitError::Changed(at)) if at == path(victim)));
        assert!(recover(&world.place).unwrap().vote.is_none());
    }
}

#[test]
fn a_symlink_in_the_way_is_never_followed() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    let outside = world.tmp.path().join("outside");
    build(&outside, &[("deep/one", Node::File("outside"))]);
    let before = snapshot(&outside);
    let sub = world.root().join("sub");
    #[allow(clippy::disallowed_methods, reason = "the test plays the attacker")]
    std::fs::rename(&sub, world.root().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(&outside, &sub).unwrap();
    let committed = world.commit(staged.txn).unwrap();
    assert_eq!(snapshot(&outside), before);
    assert!(
        committed
            .notices
            .iter()
            .any(|it| it.path == b"sub/deep/three")
    );
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
fn an_upload_directory_that_appears_after_the_vote_is_not_lost() {
    let mut world = World::new(Layout::Switched, rules());
    let before = world.source("before", BEFORE);
    world.push(&before);
    let changed = [BEFORE, &[("new", Node::File("n"))]].concat();
    let after = world.source("after", &changed);
    let staged = world.stage(&after);
    world.prepare(&staged).unwrap();
    build(
        &world.root().join("sites/x/files"),
        &[("late.jpg", Node::File("late"))],
    );
    world.commit(staged.txn).unwrap();
    assert_eq!(read(world.root().join("sites/x/files/late.jpg")), "late");
    let shared = world
        .tmp
        .path()
        .join(".www.fanout/shared/sites/x/files/late.jpg");
    assert_eq!(read(shared), "late");
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
fn former_content_is_found_until_its_generation_is_collected() {
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        world.commit(staged.txn).unwrap();
        world.settle(&staged);
        let wanted = sync_proto::digest::Digest::of(b"gone");
        let kept = kept_contents(&world.place).unwrap();
        let gone = kept.iter().find(|it| it.content == wanted).unwrap();
        let mut content = String::new();
        let mut file = open_kept(&world.place, &gone.source).unwrap().unwrap();
        std::io::Read::read_to_string(&mut file, &mut content).unwrap();
        assert_eq!(content, "gone");
        // Somebody's edit is not what it was committed as.
        let edited = sync_proto::digest::Digest::of(b"edited here");
        assert!(layout == Layout::Switched || kept.iter().all(|it| it.content != edited));

        collect(&world.place, &[1, 2], &world.keeper, None).unwrap();
        assert!(open_kept(&world.place, &gone.source).unwrap().is_some());
        collect(&world.place, &[], &world.keeper, None).unwrap();
        assert!(open_kept(&world.place, &gone.source).unwrap().is_none());
        assert!(kept_contents(&world.place).unwrap().is_empty());
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
    super::generations::pin(&world.place, 1, true).unwrap();
    let state = world.tmp.path().join(".www.fanout");
    build(
        &state.join("gen/000002/sites/q/files"),
        &[("x", Node::File("x"))],
    );
    collect(&world.place, &[], &world.keeper, Some(&world.overwritten)).unwrap();
    assert!(state.join("gen/000001").exists());
    assert!(!state.join("gen/000002").exists());
    assert!(state.join("gen/000003").exists());
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

#[test]
fn a_root_that_became_something_else_gets_a_no() {
    let (world, staged) = ready(Layout::Switched);
    std::fs::remove_file(world.root()).unwrap();
    std::os::unix::fs::symlink("/nowhere", world.root()).unwrap();
    assert!(matches!(
        world.prepare(&staged),
        Err(CommitError::RootChanged(_))
    ));
}

#[test]
fn a_transaction_that_nobody_prepared_is_not_committed() {
    let (world, staged) = ready(Layout::InPlace);
    assert!(matches!(
        commit(&world.place, staged.txn, None),
        Err(CommitError::NoTransaction)
    ));
    world.prepare(&staged).unwrap();
    assert!(matches!(
        commit(&world.place, [9; 16], None),
        Err(CommitError::OtherTransaction)
    ));
}
