//! A file that the depot doesn't store, for a member that comes back after the source has moved
//! on: another member supplies it, or the reason why nobody does is said.

use crate::support::awkward::pattern;
use crate::support::disk::SmallDisk;
use crate::support::env::World;
use crate::support::root_or_skip;
use crate::support::run::Output;
use crate::support::task::in_both_layouts;
use crate::support::tree::Tree;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// More than the depot stores of one file.
const SIZE: usize = 70 << 20;
const A_WHILE: Duration = Duration::from_secs(200);
const FILE: &str = "media/video.mp4";

in_both_layouts!(
    a_member_that_comes_back_gets_a_large_file_from_another_member,
    an_older_version_of_the_file_is_patched_with_what_a_donor_has,
    after_a_rollback_a_large_file_comes_from_another_member,
    a_donor_whose_copy_was_changed_is_passed_over,
);

/// Three members, of which the third missed a push that brought a large file.
fn with_one_behind(layout: &str) -> World {
    let mut world = World::with_agents(3);
    leave_one_behind(&mut world, layout);
    world
}

fn leave_one_behind(world: &mut World, layout: &str) {
    Tree::new()
        .file("index.php", "<?php 1;\n")
        .write_to(&world.source("site"));
    world.add_platform("site", &["--layout", layout]);
    world.push("site", &[]).all("committed");
    world.kill_agent(2);
    Tree::new()
        .file(FILE, pattern(71, SIZE))
        .write_to(&world.source("site"));
    let output = run_long(world, &["push", "platform", "site", "--json"]);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale",
        "{}",
        output.describe()
    );
}

#[track_caller]
fn run_long(world: &World, words: &[&str]) -> Output {
    world.start_fanout(words, &[]).finish_within(A_WHILE)
}

#[track_caller]
fn assert_has_file(world: &World, index: usize) {
    let path = world.live(index, "site").join(FILE);
    let same = fs::read(&path).is_ok_and(|bytes| bytes == pattern(71, SIZE));
    assert!(same, "{} hasn't the file", world.agent_name(index));
}

/// Changes a few bytes in the middle and leaves size and times as they are.
#[track_caller]
fn corrupt(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"bad luck", SIZE as u64 / 2).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
}

fn error_of<'a>(member: &'a Value, key: &str) -> &'a str {
    member["error"][key].as_str().unwrap_or_default()
}

fn a_member_that_comes_back_gets_a_large_file_from_another_member(layout: &str) {
    let mut world = with_one_behind(layout);
    fs::remove_file(world.source("site").join(FILE)).unwrap();
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json"]).success();
    assert_eq!(
        output.outcomes(),
        "web1 up-to-date, web2 up-to-date, web3 committed"
    );
    assert_has_file(&world, 2);
    world.assert_clean("site");
}

fn an_older_version_of_the_file_is_patched_with_what_a_donor_has(layout: &str) {
    let mut old = pattern(71, SIZE);
    old[SIZE / 3..][..1000].copy_from_slice(&pattern(72, 1000));
    let source = Tree::new().file(FILE, old);
    let mut world = World::with_site(3, &source, &["--layout", layout]);
    run_long(&world, &["push", "platform", "site", "--json"]).success();
    world.kill_agent(2);
    let path = world.source("site").join(FILE);
    fs::write(&path, pattern(71, SIZE)).unwrap();
    run_long(&world, &["push", "platform", "site", "--json"]);
    fs::remove_file(path).unwrap();
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).success();
    assert_eq!(output.outcomes(), "web3 committed");
    assert_has_file(&world, 2);
    let sent = output.content_bytes();
    assert!(sent < 1 << 20, "{sent} bytes for a change of a thousand");
}

fn after_a_rollback_a_large_file_comes_from_another_member(layout: &str) {
    let mut world = with_one_behind(layout);
    fs::remove_file(world.source("site").join(FILE)).unwrap();
    run_long(&world, &["push", "platform", "site", "--json"]);
    let output = world.rollback("site", &[]);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale",
        "{}",
        output.describe()
    );
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).success();
    assert_eq!(output.outcomes(), "web3 committed");
    assert_has_file(&world, 2);
    world.assert_clean("site");
}

fn a_donor_whose_copy_was_changed_is_passed_over(layout: &str) {
    let mut world = with_one_behind(layout);
    let source = world.source("site").join(FILE);
    fs::write(&source, "something else").unwrap();
    corrupt(&world.live(0, "site").join(FILE));
    corrupt(&world.live(1, "site").join(FILE));
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).exits(1);
    let member = output.json_member("web3");
    assert_eq!(member["outcome"], "stale", "{}", output.describe());
    assert_eq!(error_of(&member, "code"), "FX0601");
    let message = error_of(&member, "message");
    let of_one = |name| format!("{name}: `{FILE}` isn't what was committed here");
    assert!(
        message.contains(FILE)
            && message.contains(&of_one("web1"))
            && message.contains(&of_one("web2")),
        "{message}"
    );
    let nothing_there = !world.live(2, "site").join(FILE).exists();
    assert!(nothing_there, "what nobody vouches for was passed on");
    // One good copy is enough, whoever is asked first, and for a drifted donor too.
    fs::write(world.live(1, "site").join(FILE), pattern(71, SIZE)).unwrap();
    let output = run_long(&world, &["resync", "--json", "--limit", "web1,web3"]).success();
    assert_eq!(output.outcomes(), "web1 committed, web3 committed");
    assert_has_file(&world, 0);
    assert_has_file(&world, 2);
}

#[test]
fn a_copy_that_rotted_on_its_disk_is_noticed_by_its_hash_and_passed_on_to_nobody() {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let mut world = World::with_agents(3);
    let image = world.dir().join("small.img");
    let disk = SmallDisk::mount(world.agent_prefix(0).join("srv"), &image, 256 << 20, &[]);
    leave_one_behind(&mut world, "switched");
    fs::remove_file(world.source("site").join(FILE)).unwrap();
    world.kill_agent(0);
    disk.rot(&pattern(71, SIZE)[SIZE / 2..][..4096]);
    world.restart_agent(0);
    world.kill_agent(1);
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).exits(1);
    let member = output.json_member("web3");
    assert_eq!(member["outcome"], "stale", "{}", output.describe());
    let message = error_of(&member, "message");
    let why = "web1: what it sent does not have the hash";
    assert!(message.contains(why), "{message}");
    assert_eq!(output.content_bytes(), 0, "nothing is sent unchecked");
    // The next donor's copy is right.
    world.restart_agent(1);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).success();
    let said = output.everything_said();
    assert!(said.contains(why), "web1 was to be asked first: {said}");
    assert_has_file(&world, 2);
    world.kill_agent(0);
    drop(disk);
}

#[test]
fn a_new_member_gets_a_large_file_that_only_a_member_has() {
    let source = Tree::new().file(FILE, pattern(71, SIZE));
    let mut world = World::with_site(2, &source, &[]);
    world.kill_agent(1);
    run_long(&world, &["push", "platform", "site", "--json"]);
    fs::remove_dir_all(world.source("site")).unwrap();
    world.restart_agent(1);
    let output = run_long(&world, &["resync", "--json"]).success();
    assert_eq!(output.outcomes(), "web1 up-to-date, web2 committed");
    assert_has_file(&world, 1);
    world.assert_clean("site");
}

#[test]
fn a_donor_that_fails_in_the_middle_is_replaced_by_another() {
    let mut world = with_one_behind("switched");
    fs::remove_file(world.source("site").join(FILE)).unwrap();
    world.restart_agent_with_env(0, &[("FANOUT_FAILPOINTS", "member.lend=kill@20")]);
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).success();
    assert_eq!(output.outcomes(), "web3 committed");
    world.wait_for_agent_to_end(0, A_WHILE);
    assert_has_file(&world, 2);
}

#[test]
fn a_member_that_must_wait_in_vain_is_stale_and_says_why() {
    let mut world = with_one_behind("switched");
    fs::remove_file(world.source("site").join(FILE)).unwrap();
    world.kill_agent(0);
    world.kill_agent(1);
    world.restart_agent(2);
    let output = run_long(&world, &["resync", "--json"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    let member = output.json_member("web3");
    assert_eq!(member["outcome"], "stale", "{}", output.describe());
    let message = error_of(&member, "message");
    assert!(
        message.contains("web1: ") && message.contains("web2: ") && message.contains("70 MiB"),
        "{message}"
    );
    assert!(
        error_of(&member, "hint").contains("resync again"),
        "{member}"
    );
    // Once one of them is back, it is enough.
    world.restart_agent(0);
    let output = run_long(&world, &["resync", "--json", "--limit", "web3"]).success();
    assert_eq!(output.outcomes(), "web3 committed");
    assert_has_file(&world, 2);
}
