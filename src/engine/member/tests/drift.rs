//! What others do to a tree while a push is on its way.

use super::super::testing::{
    Node, Staged, World, build, name, path, set_mtime, snapshot, without_privileges,
};
use super::super::transaction::{CommitError, recover};
use super::{BEFORE, LAYOUTS, check_after, read, ready, rules};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use sync_proto::wire::Layout;

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
fn check_after_but_hl2(world: &World, staged: &Staged) {
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
fn a_directory_that_turns_into_a_symlink_after_the_vote_stops_no_commit() {
    let (world, staged) = ready(Layout::Switched);
    std::fs::write(world.root().join("sub/deep/three"), "late edit").unwrap();
    world.prepare(&staged).unwrap();
    let outside = world.tmp.path().join("outside");
    build(&outside, &[("deep/three", Node::File("outside"))]);
    let before = snapshot(&outside);
    let sub = world.root().join("sub");
    #[allow(clippy::disallowed_methods, reason = "the test plays the attacker")]
    std::fs::rename(&sub, sub.with_extension("away")).unwrap();
    std::os::unix::fs::symlink(&outside, &sub).unwrap();
    world.commit(staged.txn).unwrap();
    assert_eq!(world.difference(&staged.desired), Vec::<String>::new());
    assert_eq!(snapshot(&outside), before);
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
fn a_reader_never_misses_a_path_that_both_trees_have() {
    for layout in LAYOUTS {
        let (world, staged) = ready(layout);
        world.prepare(&staged).unwrap();
        let root = world.root();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stop = &stop;
        std::thread::scope(|scope| {
            let readers: Vec<_> = [
                ("a.txt", &["edited here", "two!"][..]),
                ("hl/a", &["linked", "linked anew"]),
                ("hl2/d", &["apart soon", "apart now"]),
                ("sub/deep/one", &["1"]),
                ("sites/x/files/up.jpg", &["upload"]),
            ]
            .into_iter()
            .map(|(at, expected)| {
                let at = root.join(at);
                scope.spawn(move || {
                    let mut reads = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                        let content = read(&at);
                        assert!(expected.contains(&content.as_str()), "{at:?}: {content}");
                        reads += 1;
                    }
                })
            })
            .collect();
            std::thread::sleep(std::time::Duration::from_millis(5));
            world.commit(staged.txn).unwrap();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            readers
                .into_iter()
                .for_each(|reader| reader.join().unwrap());
        });
    }
}

#[test]
fn a_directory_that_a_rule_protects_is_not_replaced_by_a_file() {
    for layout in LAYOUTS {
        let rules = super::super::testing::keeper(&["P guarded"], &[]);
        let mut world = World::new(layout, rules);
        let before = world.source("before", &[("guarded/x", Node::File("x"))]);
        world.push(&before);
        let after = world.source("after", &[("guarded", Node::File("now a file"))]);
        let staged = world.stage(&after);
        assert_eq!(staged.plan.summary.conflicts.len(), 1);
        assert!(world.prepare(&staged).is_err(), "{layout:?}");
        assert_eq!(read(world.root().join("guarded/x")), "x");
    }
}

#[test]
fn a_directory_that_the_agent_may_not_write_gets_a_no() {
    let (world, staged) = ready(Layout::InPlace);
    let deep = world.root().join("sub/deep");
    let allow = |mode| std::fs::set_permissions(&deep, PermissionsExt::from_mode(mode)).unwrap();
    allow(0o555);
    let is_root = crate::fs::Dir::open_absolute(&deep).unwrap().is_writable();
    let outcome = world.prepare(&staged);
    allow(0o755);
    // Root may write everywhere; an ordinary user finds out before the vote.
    assert_eq!(outcome.is_ok(), is_root);
    if !is_root {
        assert!(matches!(outcome, Err(CommitError::Unwritable(at)) if at == path("sub/deep")));
    }
}

#[test]
fn an_upload_that_appears_after_the_vote_keeps_its_directory() {
    let (world, staged) = ready(Layout::InPlace);
    world.prepare(&staged).unwrap();
    // A log, which the rules exclude, in a directory that is about to become a file.
    let late = world.root().join("dir_to_file/y/late.log");
    std::fs::write(&late, "late").unwrap();
    let committed = world.commit(staged.txn).unwrap();
    assert_eq!(read(&late), "late");
    assert_eq!(read(world.root().join("dir_to_file/x")), "x");
    let said = committed.notices.iter().any(|it| it.path == b"dir_to_file");
    assert!(said, "{:?}", committed.notices);
}

/// After the vote: in the place of a file that is to go, and in a directory that is to go.
#[test]
fn what_appeared_since_the_vote_stays_and_is_told() {
    let mut world = World::new(Layout::InPlace, rules());
    let before = world.source(
        "before",
        &[("file", Node::File("f")), ("dir/x", Node::File("x"))],
    );
    world.push(&before);
    let after = world.source("after", &[("other", Node::File("o"))]);
    let staged = world.stage(&after);
    world.prepare(&staged).unwrap();
    std::fs::remove_file(world.root().join("file")).unwrap();
    build(
        &world.root(),
        &[("file/new", Node::File("n")), ("dir/new", Node::File("n"))],
    );
    let told = world.commit(staged.txn).unwrap().notices;
    for (stays, path) in [("file/new", "file"), ("dir/new", "dir")] {
        assert_eq!(read(world.root().join(stays)), "n");
        let is_told = told.iter().any(|it| it.path == path.as_bytes());
        assert!(is_told, "{path}: {told:?}");
    }
    assert!(!world.root().join("dir/x").exists());
}

/// What was edited in a directory that becomes a file goes aside; the rest can be put back.
#[test]
fn a_directory_that_comes_out_is_sorted_file_by_file() {
    let mut world = World::new(Layout::InPlace, rules());
    let nodes = [
        ("d/x", Node::File("x")),
        ("d/y", Node::File("y")),
        ("d/deep/z", Node::File("z")),
    ];
    let before = world.source("before", &nodes);
    world.push(&before);
    std::fs::write(world.root().join("d/x"), "edited").unwrap();
    let after = world.source("after", &[("d", Node::File("now a file"))]);
    world.push(&after);
    let aside = world.tmp.path().join("overwritten/000002");
    assert_eq!(read(aside.join("d/x")), "edited");
    assert!(!aside.join("d/y").exists() && !aside.join("d/deep").exists());
    let undo = world.tmp.path().join(".www.fanout/undo/000002/tree");
    assert!(!undo.join("d/x").exists());
    assert_eq!(read(undo.join("d/y")), "y");
    assert_eq!(read(undo.join("d/deep/z")), "z");
}

#[test]
fn a_directory_in_the_place_of_a_file_is_kept_only_if_something_is_in_it() {
    for content in [None, Some("theirs")] {
        let mut world = World::new(Layout::InPlace, rules());
        let before = world.source("before", &[("f", Node::File("old"))]);
        world.push(&before);
        let after = world.source("after", &[("f", Node::File("new"))]);
        let staged = world.stage(&after);
        world.prepare(&staged).unwrap();
        std::fs::remove_file(world.root().join("f")).unwrap();
        build(&world.root(), &[("f/a/b", Node::Dir(0o755))]);
        if let Some(content) = content {
            std::fs::write(world.root().join("f/a/b/c"), content).unwrap();
        }
        world.commit(staged.txn).unwrap();
        assert_eq!(read(world.root().join("f")), "new");
        let aside = world.tmp.path().join("overwritten/000002");
        assert_eq!(aside.exists(), content.is_some());
        if let Some(content) = content {
            assert_eq!(read(aside.join("f/a/b/c")), content);
        }
    }
}

/// Since the vote somebody replaced the symlink in the generation that was live.
#[test]
fn a_directory_in_the_place_of_a_shared_one_is_the_shared_one_from_then_on() {
    let (mut world, staged) = ready(Layout::Switched);
    world.prepare(&staged).unwrap();
    world.commit(staged.txn).unwrap();
    world.settle(&staged);
    let again = world.source("again", BEFORE);
    let staged = world.stage(&again);
    world.prepare(&staged).unwrap();
    let files = world.root().join("sites/x/files");
    std::fs::remove_file(&files).unwrap();
    build(&files, &[("new.jpg", Node::File("new"))]);
    world.commit(staged.txn).unwrap();
    assert_eq!(read(files.join("new.jpg")), "new");
    let shared = world.tmp.path().join(".www.fanout/shared/sites/x/files");
    assert_eq!(read(shared.join("new.jpg")), "new");
    let aside = world.tmp.path().join("overwritten/000003");
    assert_eq!(read(aside.join("shared/sites/x/files/up.jpg")), "upload");
}

#[test]
fn what_is_only_protected_and_delivered_stays_in_its_generation() {
    let rules = super::super::testing::keeper(&["P kept"], &[]);
    let mut world = World::new(Layout::Switched, rules);
    let nodes = |content| [("kept", Node::File(content))];
    for (label, content) in [("before", "one"), ("after", "two")] {
        let source = world.source(label, &nodes(content));
        world.push(&source);
    }
    let state = world.tmp.path().join(".www.fanout");
    assert_eq!(read(state.join("gen/000001/kept")), "one");
    assert_eq!(read(state.join("gen/000002/kept")), "two");
    let shared = std::fs::read_dir(state.join("shared")).unwrap();
    assert_eq!(shared.count(), 0);
}

/// What is delivered once, where there is nothing: the member was first, a commit that died had done
/// it, or it can't be done.
#[test]
fn a_seed_is_planted_once_and_in_nobodys_place() {
    let stage = || {
        let mut world = World::new(Layout::Switched, rules());
        let source = world.source("source", &[("sites/x/files/seed", Node::File("seed"))]);
        let staged = world.stage_with(&source, true);
        world.prepare(&staged).unwrap();
        let shared = world.tmp.path().join(".www.fanout/shared/sites/x");
        std::fs::create_dir_all(&shared).unwrap();
        (world, staged, shared)
    };
    let (world, staged, shared) = stage();
    build(&shared, &[("files/own", Node::File("own"))]);
    world.commit(staged.txn).unwrap();
    assert_eq!(read(world.root().join("sites/x/files/own")), "own");
    assert!(!shared.join("files/seed").exists());

    let (world, staged, shared) = stage();
    let seeds = world.tmp.path().join(".www.fanout/stage/t1/seed/sites/x");
    let [from, to] = [&seeds, &shared].map(|it| crate::fs::Dir::open_absolute(it).unwrap());
    from.rename_noreplace(&name("files"), &to, &name("files"))
        .unwrap();
    world.commit(staged.txn).unwrap();
    assert_eq!(read(world.root().join("sites/x/files/seed")), "seed");

    let (world, staged, shared) = stage();
    let allow = |mode| std::fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let refused = without_privileges(|| world.commit(staged.txn));
    allow(0o755);
    assert!(refused.is_err());
    let kept = world
        .tmp
        .path()
        .join(".www.fanout/stage/t1/seed/sites/x/files/seed");
    assert_eq!(read(kept), "seed");
    world.commit(staged.txn).unwrap();
    assert_eq!(read(world.root().join("sites/x/files/seed")), "seed");
}
