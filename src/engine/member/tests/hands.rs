//! Single hands of a commit, and what they do when the disk says no.

use super::super::live::{Hands, LiveError, Spot, Tree, no_exchange, rename_noreplace};
use super::super::testing::{Node, build, keeper, name, path, without_privileges};
use super::read;
use crate::fs::{Dir, Stat};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

fn open(at: &std::path::Path) -> Dir {
    Dir::open_absolute(at).unwrap()
}

fn spot<'d>(dir: &'d Dir, text: &str) -> Spot<'d> {
    Spot {
        dir,
        name: name(text),
    }
}

fn stat(at: &Spot<'_>) -> Stat {
    at.dir.stat(&at.name).unwrap().unwrap()
}

/// A live tree, a staged one and a directory between them, each a [`Dir`].
fn ground() -> (TempDir, [Dir; 3]) {
    let tmp = TempDir::new().unwrap();
    build(
        tmp.path(),
        &[
            ("live/f", Node::File("old")),
            ("staged/f", Node::File("new")),
            ("swap", Node::Dir(0o700)),
        ],
    );
    let dirs = ["live", "staged", "swap"].map(|it| open(&tmp.path().join(it)));
    (tmp, dirs)
}

#[test]
fn a_tree_that_forgets_finds_what_bears_the_name_now() {
    let tmp = TempDir::new().unwrap();
    build(tmp.path(), &[("a/x", Node::File("x"))]);
    let mut tree = Tree::new(open(tmp.path()));
    assert!(tree.stat(&path("a/x")).unwrap().is_some());
    let root = tree.root().try_clone().unwrap();
    root.rename_noreplace(&name("a"), &root, &name("b"))
        .unwrap();
    tree.forget();
    assert!(tree.stat(&path("a/x")).unwrap().is_none());
    assert!(tree.stat(&path("b/x")).unwrap().is_some());
}

#[test]
fn what_may_not_be_looked_at_is_no_absence() {
    let tmp = TempDir::new().unwrap();
    build(
        tmp.path(),
        &[("shut/in/x", Node::File("x")), ("file", Node::File("f"))],
    );
    let shut = tmp.path().join("shut");
    let allow = |mode| std::fs::set_permissions(&shut, Permissions::from_mode(mode)).unwrap();
    allow(0);
    let mut tree = Tree::new(open(tmp.path()));
    let error = without_privileges(|| tree.stat(&path("shut/in/x"))).unwrap_err();
    allow(0o700);
    assert!(error.is_permission(), "{error:?}");
    assert!(tree.stat(&path("file/x")).unwrap().is_none());
}

#[test]
fn an_exchange_that_fails_changes_nothing() {
    let rules = keeper(&[], &[]);
    let (tmp, [live, staged, swap]) = ground();
    let (from, to) = (spot(&staged, "f"), spot(&live, "f"));
    let (new, old) = (stat(&from), stat(&to));
    let exchange = |swap: &Dir| {
        let hands = Hands {
            keeper: &rules,
            swap,
        };
        match hands.exchange(&path("f"), (&from, &new), (&to, &old)) {
            Err(LiveError::Fs(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    // Without the kernel's help, and the old entry can't be linked away.
    let memory = TempDir::new_in("/dev/shm").unwrap();
    no_exchange::set(true);
    let error = exchange(&open(memory.path()));
    no_exchange::set(false);
    assert!(error.is_other_mount(), "{error:?}");
    assert_eq!(read(tmp.path().join("live/f")), "old");
    assert_eq!(read(tmp.path().join("staged/f")), "new");
    // The staged entry is gone: no reason to try it the other way.
    staged.unlink(&name("f")).unwrap();
    let error = exchange(&swap);
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(read(tmp.path().join("live/f")), "old");
    assert_eq!(swap.list().unwrap().len(), 0);
}

#[test]
fn only_what_is_still_parked_comes_back_from_the_swap_directory() {
    let rules = keeper(&[], &[]);
    let (tmp, [live, staged, swap]) = ground();
    let (from, old) = (spot(&staged, "f"), stat(&spot(&live, "f")).ino);
    let hands = Hands {
        keeper: &rules,
        swap: &swap,
    };
    let parked = name(&old.to_string());
    // Parked, and not replaced yet.
    swap.hard_link(&live, &name("f"), &parked).unwrap();
    hands.finish_swap(old, &from).unwrap();
    assert_eq!(read(tmp.path().join("staged/f")), "new");
    // Replaced, and not taken back yet.
    staged.unlink(&name("f")).unwrap();
    hands.finish_swap(old, &from).unwrap();
    assert_eq!(read(tmp.path().join("staged/f")), "old");
    // Nothing was parked, and nothing is there.
    staged.unlink(&name("f")).unwrap();
    hands.finish_swap(old, &from).unwrap();
    assert_eq!(staged.list().unwrap().len(), 0);
}

#[test]
fn a_name_that_is_taken_is_not_replaced_whatever_the_kernel_can() {
    for can in [true, false] {
        let (tmp, [live, staged, _]) = ground();
        no_exchange::set(!can);
        let taken = rename_noreplace(&spot(&staged, "f"), &spot(&live, "f"));
        let free = rename_noreplace(&spot(&staged, "f"), &spot(&live, "g"));
        no_exchange::set(false);
        assert!(taken.unwrap_err().is_exists());
        free.unwrap();
        assert_eq!(read(tmp.path().join("live/f")), "old");
        assert_eq!(read(tmp.path().join("live/g")), "new");
    }
}
