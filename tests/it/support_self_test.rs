//! The ground itself: a snapshot sees what it should, rsync agrees with it, programs end.

use crate::support::acl::Acl;
use crate::support::awkward::{
    awkward_tree, linked_special_files, privileged_attributes, root_only,
};
use crate::support::random::{apply_all, tree_changes, tree_spec};
use crate::support::run::{USUAL_TIME, run, start};
use crate::support::snapshot::{Compare, Snapshot, allocated_bytes, diff};
use crate::support::tree::{Tree, set_mtime};
use crate::support::{corpus, debian, is_root, oracle, root_or_skip};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::path::Path;
use std::process::Command;

fn written(tree: &Tree) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    tree.write_to(place.path());
    place
}

#[test]
fn a_tree_is_the_same_wherever_it_is_written() {
    let (first, second) = (written(&awkward_tree()), written(&awkward_tree()));
    let (first, second) = (Snapshot::read(first.path()), Snapshot::read(second.path()));
    Compare::exact().without_root().assert_same(&first, &second);
    assert!(first.len() > 600, "{}", first.len());
    let deepest = first
        .paths()
        .map(|path| path.split(|&byte| byte == b'/').count())
        .max();
    assert!(deepest > Some(200), "{deepest:?}");
}

#[test]
fn a_snapshot_sees_each_attribute_change() {
    let base = || {
        Tree::new()
            .file("file", "content")
            .xattr("user.a", "1")
            .dir("dir")
            .symlink("link", "target")
            .fifo("pipe")
            .file("one", "x")
            .hard_link("two", "one")
            .dir("")
    };
    let acl = Acl::of_mode(0o644).user(4_000, 4).mask(4);
    let mut changed = vec![
        (
            "content",
            Tree::new().file("file", "CONTENT").xattr("user.a", "1"),
        ),
        (
            "size",
            Tree::new().file("file", "content!").xattr("user.a", "1"),
        ),
        (
            "mode",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .mode(0o600),
        ),
        (
            "time",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .mtime(1, 0),
        ),
        (
            "attribute",
            Tree::new().file("file", "content").xattr("user.a", "2"),
        ),
        ("no attribute", Tree::new().file("file", "content")),
        (
            "ACL",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .acl(&acl),
        ),
        ("default ACL", Tree::new().dir("dir").default_acl(&acl)),
        ("directory mode", Tree::new().dir("dir").mode(0o700)),
        ("directory time", Tree::new().dir("dir").mtime(1, 0)),
        ("target", Tree::new().symlink("link", "another")),
        (
            "link time",
            Tree::new().symlink("link", "target").mtime(1, 0),
        ),
        ("kind", Tree::new().socket("pipe")),
        ("unlinked", Tree::new().file("one", "x").file("two", "x")),
        ("added", Tree::new().file("new", "")),
        ("root mode", Tree::new().dir("").mode(0o700)),
        ("root time", Tree::new().dir("").mtime(1, 0)),
    ];
    if is_root() {
        let file = || Tree::new().file("file", "content").xattr("user.a", "1");
        changed.push(("user", file().owner(1, 0)));
        changed.push(("group", file().owner(0, 1)));
        changed.push((
            "link owner",
            Tree::new().symlink("link", "target").owner(1, 0),
        ));
        changed.push(("device", Tree::new().char_device("pipe", 1, 3)));
    }
    let before = written(&base());
    let before = Snapshot::read(before.path());
    for (what, change) in changed {
        let after = written(&base().overwritten_by(&change));
        let lines = diff(&before, &Snapshot::read(after.path()));
        assert!(!lines.is_empty(), "no difference seen: {what}");
    }
}

#[test]
fn comparing_overlooks_only_what_it_is_told_to() {
    let tree = || {
        Tree::new()
            .file("keep/a", "x")
            .dir("keep")
            .mtime(5, 0)
            .file("drop/b", "y")
    };
    let (a, b) = (written(&tree()), written(&tree()));
    fs::write(b.path().join("drop/b"), "other").unwrap();
    set_mtime(&b.path().join("keep"), 6, 0);
    let (a, b) = (Snapshot::read(a.path()), Snapshot::read(b.path()));
    assert_eq!(diff(&a, &b).len(), 3, "{:?}", diff(&a, &b));
    let compare = Compare::exact().without_path("drop");
    assert_eq!(
        compare.diff(&a, &b),
        ["keep: time 5.000000000 != 6.000000000"]
    );
    assert!(compare.without_directory_times().diff(&a, &b).is_empty());
}

#[test]
fn an_acl_written_here_is_the_one_that_setfacl_writes() {
    let acl = Acl::of_mode(0o640).user(4_000, 6).group(4_001, 5).mask(5);
    let place = written(&Tree::new().file("ours", "").acl(&acl).file("theirs", ""));
    let entries = "u::rw,u:4000:rw,g::r,g:4001:rx,m::rx,o::-";
    run(Command::new("setfacl")
        .args(["--set", entries])
        .arg(place.path().join("theirs")))
    .success();
    let snapshot = Snapshot::read(place.path());
    let xattrs = |name| &snapshot.entry(name).unwrap().xattrs;
    assert_eq!(xattrs("ours"), xattrs("theirs"));
    assert_eq!(
        snapshot.entry("ours").unwrap().mode,
        snapshot.entry("theirs").unwrap().mode
    );
}

#[test]
fn rsync_copies_the_awkward_tree_without_a_difference() {
    let mut tree = awkward_tree().and(linked_special_files());
    if is_root() {
        tree = tree.and(privileged_attributes());
    }
    let source = written(&tree);
    let copy = oracle::expected(source.path());
    Compare::exact().assert_same(&Snapshot::read(source.path()), &copy);
}

#[test]
fn sparse_files_have_holes() {
    let tree = Tree::new().sparse("sparse", 50_000_000, &[(1_000_000, b"x")]);
    let place = written(&tree);
    let allocated = allocated_bytes(&place.path().join("sparse"));
    assert!(allocated < 1_000_000, "{allocated}");
}

#[test]
fn random_trees_and_changes_survive_rsync() {
    let mut runner = TestRunner::new(Config {
        cases: 12,
        ..Config::default()
    });
    let strategy = (tree_spec(40), tree_changes(20));
    runner
        .run(&strategy, |(spec, changes)| {
            let place = tempfile::tempdir().unwrap();
            let (source, copy) = (place.path().join("source"), place.path().join("copy"));
            spec.write_to(&source);
            oracle::rsync_copy(&source, &copy, &[]);
            prop_assert_eq!(
                diff(&Snapshot::read(&source), &Snapshot::read(&copy)),
                [""; 0]
            );
            apply_all(&changes, &source);
            // Without --checksum rsync misses the change that keeps size and time.
            oracle::rsync_copy(&source, &copy, &["--checksum"]);
            prop_assert_eq!(
                diff(&Snapshot::read(&source), &Snapshot::read(&copy)),
                [""; 0]
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_generated_platform_depends_on_its_seed_only() {
    let place = tempfile::tempdir().unwrap();
    let make = |name, seed| {
        let directory = place.path().join(name);
        let size = corpus::generated_platform(&directory, 2_000, seed).unwrap();
        (size, Snapshot::read(&directory), directory)
    };
    let ((size, first, directory), (again, second, _), (_, other, _)) =
        (make("a", 7), make("b", 7), make("c", 8));
    assert_eq!(size, again);
    let compare = Compare::exact().without_directory_times();
    compare.assert_same(&first, &second);
    assert!(!compare.diff(&first, &other).is_empty());
    assert_eq!(size.files, 2_000);
    assert!((350..700).contains(&size.directories), "{size:?}");
    assert!(
        (7_000_000..14_000_000).contains(&size.content_bytes),
        "{size:?}"
    );
    let changed = corpus::next_release(&directory, 1).unwrap();
    assert!((40..200).contains(&changed), "{changed}");
    assert!(compare.diff(&first, &Snapshot::read(&directory)).len() >= changed);
}

#[test]
fn a_full_generated_platform_is_as_large_as_promised() {
    let place = tempfile::tempdir().unwrap();
    let size = corpus::generated_platform(place.path(), corpus::FULL_FILES, 1).unwrap();
    assert_eq!(size.files, corpus::FULL_FILES);
    assert!((4_000..6_000).contains(&size.directories), "{size:?}");
    assert!(
        (85_000_000..115_000_000).contains(&size.content_bytes),
        "{size:?}"
    );
}

#[test]
fn programs_are_watched_and_ended() {
    let mut script = Command::new("sh");
    let mut running = start(
        script.args(["-c", "read line; echo got $line; sleep 600"]),
        b"it\n",
    );
    running.wait_for("got it", USUAL_TIME);
    assert!(running.is_running());
    running.kill();
    assert!(!running.is_running());
    assert_eq!(running.output().text(), "got it\n");
}

#[test]
fn debian_platforms_are_fetched_and_dereferenced() {
    let (wordpress, upgraded) = (debian::wordpress(), debian::wordpress_upgraded());
    let (before, after) = (Snapshot::read(&wordpress), Snapshot::read(&upgraded));
    assert!(
        before.len() > 2_000 && after.len() > 2_000,
        "{} {}",
        before.len(),
        after.len()
    );
    assert!(
        wordpress
            .join("wp-includes/ID3/getid3.php")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    let version = |tree: &Path| fs::read_to_string(tree.join("wp-includes/version.php")).unwrap();
    let changed = Compare::exact().diff(&before, &after).len();
    assert!(changed > 50, "{changed}");
    eprintln!(
        "wordpress: {} entries, {} bytes; upgrade: {changed} differences, version {}",
        before.len(),
        before.content_bytes(),
        if version(&wordpress) == version(&upgraded) {
            "the same"
        } else {
            "another"
        }
    );
    let mediawiki = Snapshot::read(&debian::mediawiki());
    eprintln!(
        "mediawiki: {} entries, {} bytes",
        mediawiki.len(),
        mediawiki.content_bytes()
    );
    assert!(mediawiki.len() > 15_000, "{}", mediawiki.len());
}

#[test]
fn root_only_entries_need_root() {
    if !root_or_skip("making devices") {
        return;
    }
    let place = written(&root_only());
    assert!(Snapshot::read(place.path()).entry("root/null").is_some());
}
