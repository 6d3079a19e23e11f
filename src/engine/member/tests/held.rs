//! What is held is found, however much of the tree is known from an earlier look.

use super::super::held::{HeldEntry, Known, survey, survey_known};
use super::super::testing::{Node, build, path, principals, quick};
use super::rules;
use crate::engine::index::Index;
use crate::engine::observe::{LeftOutTime, Look, observe};
use crate::fs::Dir;
use crate::fs::read::FsClock;
use crate::fs::xattr::XattrPolicy;
use std::fs;
use std::path::Path;
use std::time::Duration;
use sync_proto::filter::Side;
use sync_proto::path::RelPath;

const TREE: &[(&str, Node)] = &[
    ("a/plain", Node::File("1")),
    ("a/deep/er/plain", Node::File("2")),
    ("b/plain", Node::File("3")),
    ("b/held.log", Node::File("log")),
    ("c/d/plain", Node::File("4")),
    ("e/plain", Node::File("5")),
    ("sites/x/files/up.jpg", Node::File("upload")),
    ("sites/x/settings", Node::File("6")),
];

/// The index of a look at a tree that has been still for a while.
fn look(root: &Dir) -> Index {
    std::thread::sleep(Duration::from_millis(50));
    let keeper = rules();
    let how = Look {
        known: None,
        rehash: false,
        scope: &keeper.scope,
        side: Side::Receiver,
        pass_over: None,
        principals: &principals(),
        xattrs: XattrPolicy::Ordinary,
        left_out_time: LeftOutTime::AsWanted,
        fresh: None,
        progress: &|_, _| {},
    };
    let observed = observe(root, &FsClock::open(root).unwrap(), &how).unwrap();
    assert!(observed.problems.is_empty());
    observed.index
}

fn moved(index: &Index, root: &Dir) -> Vec<RelPath> {
    let moved = index.moved(root).unwrap();
    moved.iter().map(|it| it.path.clone()).collect()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test plays the member")]
fn what_came_moved_or_went_since_a_look_is_found_as_by_a_whole_survey() {
    type Step = fn(&Path);
    // Each on top of the one before, and what is held afterwards.
    let steps: &[(&str, Step, &[&str])] = &[
        ("nothing", |_| {}, &["b/held.log", "sites/x/files"]),
        (
            "a name where there was none",
            |top| fs::write(top.join("a/deep/er/new.log"), "log").unwrap(),
            &["a/deep/er/new.log", "b/held.log", "sites/x/files"],
        ),
        (
            "a new directory",
            |top| build(&top.join("new"), &[("deep/x.log", Node::File("log"))]),
            &[
                "a/deep/er/new.log",
                "b/held.log",
                "new/deep/x.log",
                "sites/x/files",
            ],
        ),
        (
            "a directory that moves below another one",
            |top| fs::rename(top.join("b"), top.join("c/d/b")).unwrap(),
            &[
                "a/deep/er/new.log",
                "c/d/b/held.log",
                "new/deep/x.log",
                "sites/x/files",
            ],
        ),
        (
            "a directory whose place a symlink takes",
            |top| {
                fs::rename(top.join("a"), top.join("z")).unwrap();
                std::os::unix::fs::symlink("z", top.join("a")).unwrap();
            },
            &[
                "c/d/b/held.log",
                "new/deep/x.log",
                "sites/x/files",
                "z/deep/er/new.log",
            ],
        ),
        (
            "two that change places, and one that goes",
            |top| {
                fs::rename(top.join("z"), top.join("y")).unwrap();
                fs::rename(top.join("e"), top.join("z")).unwrap();
                fs::rename(top.join("y"), top.join("e")).unwrap();
                fs::remove_dir_all(top.join("sites")).unwrap();
            },
            &["c/d/b/held.log", "e/deep/er/new.log", "new/deep/x.log"],
        ),
    ];
    let tmp = quick();
    build(tmp.path(), TREE);
    let root = Dir::open_absolute(tmp.path()).unwrap();
    let index = look(&root);
    // Only where something was left out, a listing is needed.
    assert_eq!(moved(&index, &root), [path("b"), path("sites/x")]);
    for (what, step, expected) in steps {
        step(tmp.path());
        let whole = survey(&root, &RelPath::root(), &rules()).unwrap();
        let paths: Vec<&[u8]> = whole.iter().map(|it| it.path.as_bytes()).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|it| it.as_bytes()).collect();
        assert_eq!(paths, expected, "{what}");
        for known in [
            Known::Nothing,
            Known::Recorded(&index),
            Known::LookedAt(&index),
        ] {
            let held: Vec<HeldEntry> = survey_known(&root, &rules(), known).unwrap();
            assert_eq!(held, whole, "{what}: {known:?}");
        }
    }
}

/// What nobody can tell from its path alone: the directory that a symlink leads to is another one.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test plays the member")]
fn a_directory_behind_a_symlink_is_known_by_its_inode_or_not_at_all() {
    let tmp = quick();
    build(tmp.path(), TREE);
    let root = Dir::open_absolute(tmp.path()).unwrap();
    let index = look(&root);
    build(
        &tmp.path().join("like"),
        &[("deep/er/plain", Node::File("2"))],
    );
    fs::rename(tmp.path().join("a"), tmp.path().join("was")).unwrap();
    std::os::unix::fs::symlink("like", tmp.path().join("a")).unwrap();
    let moved = moved(&index, &root);
    for there in ["", "a", "a/deep", "a/deep/er"] {
        assert!(moved.contains(&path(there)), "{there}: {moved:?}");
    }
}
