//! Whole transactions on real trees, and what is left of them after a crash at any step.

mod aside;
mod crash;
mod drift;
mod ends;
mod hands;
mod held;
mod places;
mod power;
mod push;
mod race;
mod random;
mod records;
mod removal;
mod votes;

use super::keeper::Keeper;
use super::record::TreeRecord;
use super::testing::{Node, Staged, World, build, keeper};
use std::path::Path;
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

fn rules() -> Keeper {
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
fn ready(layout: Layout) -> (World, Staged) {
    ready_in(tempfile::tempdir().unwrap(), layout)
}

fn ready_in(tmp: tempfile::TempDir, layout: Layout) -> (World, Staged) {
    let mut world = World::in_dir(tmp, layout, rules(), false);
    let before = world.source("before", BEFORE);
    world.push(&before);
    live_on(&world);
    let after = world.source("after", AFTER);
    let staged = world.stage(&after);
    (world, staged)
}

fn check_after(world: &World, staged: &Staged) {
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
