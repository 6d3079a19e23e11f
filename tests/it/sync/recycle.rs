//! A generation that isn't kept any more becomes the next one (layout `switched`): whatever became
//! of it meanwhile, members end as rsync would have them, and what belongs to them is not lost.

use crate::support::env::World;
use crate::support::root_or_skip;
use crate::support::task::{put, site};
use crate::support::trace::{self, Trace};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A member with one generation put by, and the root of that.
fn with_a_spare(rules: &[&str]) -> (World, PathBuf) {
    let options = [&["--layout", "switched", "--keep", "1"], rules].concat();
    let world = World::with_site(1, &site(), &options);
    put(&world.source("site").join("lib/deep/one.php"), "one\n");
    put(&world.source("site").join("lib/deep/two.php"), "two\n");
    for release in 0..3 {
        // Directories of the release before are settled by then, as they are in life.
        std::thread::sleep(std::time::Duration::from_millis(50));
        put(
            &world.source("site").join("version"),
            format!("{release}\n"),
        );
        world.push("site", &[]).all("committed");
    }
    let live = world.live(0, "site");
    let name = live.file_name().unwrap().to_str().unwrap();
    let spare = put_by(&live.with_file_name(format!(".{name}.fanout/spare")));
    (world, spare)
}

/// The one generation there.
fn put_by(spare: &Path) -> PathBuf {
    let entries = fs::read_dir(spare).unwrap().flatten();
    // Beside it lies its index.
    let put_by: Vec<_> = entries.filter(|it| it.file_name() != "index").collect();
    assert_eq!(put_by.len(), 1, "{}", spare.display());
    put_by[0].path()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn what_is_put_by_is_used_again_and_linked_only_where_it_differs() {
    if !root_or_skip("an agent that may change everything") {
        return;
    }
    let (world, spare) = with_a_spare(&["--preserve", "/files/"]);
    // As a symlink to what is shared is, which a new generation gets anew.
    let _old_link = fs::remove_file(spare.join("files"));
    symlink("../../shared/files", spare.join("files")).unwrap();
    let before = (inode(&spare), inode(&spare.join("lib/deep")));
    let one = spare.join("lib/deep/one.php");
    let changed = one.metadata().unwrap();
    put(&world.source("site").join("version"), "next\n");
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    let live = fs::canonicalize(world.live(0, "site")).unwrap();
    assert_eq!((inode(&live), inode(&live.join("lib/deep"))), before);
    let now = live.join("lib/deep/one.php").metadata().unwrap();
    assert_eq!(
        (now.ino(), now.ctime(), now.ctime_nsec()),
        (changed.ino(), changed.ctime(), changed.ctime_nsec()),
        "neither linked nor unlinked"
    );
    world.assert_clean("site");
}

/// A directory of an old generation that nobody touched holds what was live then. A release that leaves
/// it as it is live now must not bring that back.
#[test]
fn what_changed_since_an_old_generation_was_live_does_not_come_back_with_it() {
    if !root_or_skip("an agent that may change everything") {
        return;
    }
    let (world, _) = with_a_spare(&[]);
    let source = world.source("site");
    let settle = || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        world.push("site", &[]).all("up-to-date");
    };
    settle();
    put(&source.join("lib/deep/one.php"), "ONE\n");
    world.push("site", &[]).all("committed");
    settle();
    for (release, mode) in [("next", 0o755), ("last", 0o750)] {
        put(&source.join("version"), format!("{release}\n"));
        // Its entries stay, and it doesn't.
        fs::set_permissions(source.join("lib/deep"), fs::Permissions::from_mode(mode)).unwrap();
        world.push("site", &[]).all("committed");
        world.assert_delivered("site");
        settle();
    }
    world.verify("site", &["--level", "content"]).success();
}

/// Whatever is reused, the index of the new generation has the stamps that its files have: a look at
/// an unchanged tree opens none of them.
#[test]
fn after_it_was_used_no_file_has_to_be_read_again() {
    if !root_or_skip("an agent that may change everything") {
        return;
    }
    let mut world = World::with_site(1, &site(), &["--layout", "switched", "--keep", "1"]);
    let source = world.source("site");
    put(&source.join("lib/deep/first.bin"), "linked\n");
    fs::hard_link(
        source.join("lib/deep/first.bin"),
        source.join("lib/further.bin"),
    )
    .unwrap();
    put(&source.join("lib/plain/alone.bin"), "alone\n");
    for release in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        put(&source.join("version"), format!("{release}\n"));
        world.push("site", &[]).all("committed");
    }
    let trace = world.dir().join("agent-trace");
    world.restart_agent_under(0, &trace::words(&trace, true));
    world.push("site", &[]).all("up-to-date");
    let trace = Trace::read(&trace, 0);
    for name in ["first.bin", "further.bin", "alone.bin"] {
        let calls = trace.about(name);
        assert!(calls.contains_key("statx"), "{name}: {calls:?}");
        assert!(!calls.contains_key("openat2"), "{name}: {calls:?}");
    }
}

#[test]
fn nothing_that_became_of_it_meanwhile_is_published() {
    if !root_or_skip("an agent that may change everything") {
        return;
    }
    let (world, spare) = with_a_spare(&[]);
    let outside = world.dir().join("outside");
    put(&outside.join("theirs"), "theirs\n");
    // A name more, on two levels.
    put(&spare.join("planted.php"), "planted\n");
    put(&spare.join("lib/planted/deep/x.php"), "planted\n");
    // Another file of the same size, time and mode.
    let two = spare.join("lib/deep/two.php");
    let like = two.metadata().unwrap();
    fs::remove_file(&two).unwrap();
    put(&two, "TWO\n");
    fs::set_permissions(&two, like.permissions()).unwrap();
    let times = fs::FileTimes::new().set_modified(like.modified().unwrap());
    fs::File::options()
        .write(true)
        .open(&two)
        .unwrap()
        .set_times(times)
        .unwrap();
    // A directory that leads elsewhere, one where a file should be, and one that is open to all.
    fs::remove_dir_all(spare.join("core")).unwrap();
    symlink(&outside, spare.join("core")).unwrap();
    fs::remove_file(spare.join("index.php")).unwrap();
    put(&spare.join("index.php/x"), "x\n");
    fs::set_permissions(spare.join("lib"), fs::Permissions::from_mode(0o777)).unwrap();
    put(&world.source("site").join("version"), "next\n");
    let before = inode(&spare);
    world.push("site", &[]).all("committed");
    let live = fs::canonicalize(world.live(0, "site")).unwrap();
    assert_eq!(inode(&live), before, "used again all the same");
    world.assert_delivered("site");
    assert_eq!(fs::read(outside.join("theirs")).unwrap(), b"theirs\n");
    world.assert_clean("site");
    world.verify("site", &["--level", "content"]).success();
}

#[test]
fn what_belongs_to_the_member_is_moved_out_of_it() {
    if !root_or_skip("an agent that may change everything") {
        return;
    }
    let rules = ["--preserve", "/files/", "--preserve", "/old/*/up/"];
    let (world, spare) = with_a_spare(&[&rules[..], &["--exclude", "*.log"]].concat());
    let place = spare.parent().unwrap();
    let state = place.parent().unwrap();
    // Whoever still had the old generation open: in the place of a symlink to what is shared, below
    // a directory that the release doesn't have, and right beside what it has.
    for at in ["files/late.jpg", "old/a/up/later.jpg", "lib/latest.log"] {
        let spare = put_by(place);
        let _old_link = fs::remove_file(spare.join("files"));
        put(&spare.join(at), at);
        put(&world.source("site").join("version"), at);
        let pushed = world.push("site", &[]).all("committed");
        let said = pushed.describe();
        assert!(said.contains("holds what was not committed"), "{said}");
        world.assert_delivered("site");
        let name = at.rsplit('/').next().unwrap();
        let found = find(state, name).or_else(|| find(&world.agent_dir(0), name));
        assert_eq!(fs::read_to_string(found.expect(at)).unwrap(), at);
    }
}

fn find(top: &Path, name: &str) -> Option<PathBuf> {
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            if entry.file_name() == name {
                return Some(entry.path());
            }
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    None
}

/// The tree of an attempt that died shares its files with the live one; somebody who edits one of
/// those and sets its time back must not have their edit published with the next attempt.
#[test]
fn an_edit_of_a_shared_file_between_two_attempts_is_not_published() {
    let mut world = World::with_site(1, &site(), &["--layout", "switched"]);
    world.push("site", &[]).all("committed");
    put(&world.source("site").join("version"), "next\n");
    let armed = [("FANOUT_FAILPOINTS", "member.prepare.journal=kill")];
    world.restart_agent_with_env(0, &armed);
    world.push("site", &[]);
    world.restart_agent(0);
    let victim = world.live(0, "site").join("core/boot.php");
    let before = victim.metadata().unwrap();
    assert!(before.nlink() > 2, "the attempt shares it");
    fs::write(&victim, "<?php theirs();").unwrap();
    let file = fs::File::options().write(true).open(&victim).unwrap();
    file.set_len(before.len()).unwrap();
    let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
    file.set_times(times).unwrap();
    world.push("site", &[]).success();
    world.assert_delivered("site");
    world.verify("site", &["--level", "content"]).success();
}
