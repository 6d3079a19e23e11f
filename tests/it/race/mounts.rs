//! Mounts inside the tree and above it: what is mounted is somebody else's, and is neither read,
//! changed nor removed; and a mount in the wrong moment leaves nobody in doubt for ever.

use crate::support::env::World;
use crate::support::guard::Guard;
use crate::support::root_or_skip;
use crate::support::run::run;
use crate::support::task::{in_both_layouts, put, site};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

in_both_layouts!(
    a_directory_that_is_mounted_inside_the_tree_is_left_alone,
    a_file_that_is_mounted_inside_the_tree_is_left_alone,
    uploads_may_be_a_mount,
    a_mount_that_appears_after_the_vote_does_not_hold_up_the_commit,
    a_tree_below_a_mount_is_served_as_any_other,
);

const A_WHILE: Duration = Duration::from_secs(120);
const ANYTHING: [&str; 2] = ["--allow-delete", "100000"];

/// A bind mount that is gone when this is.
struct Bind(PathBuf);

impl Bind {
    #[track_caller]
    fn new(what: &Path, at: &Path) -> Self {
        let at = fs::canonicalize(at).expect("a mount point");
        run(Command::new("mount").arg("--bind").arg(what).arg(&at)).success();
        Self(at)
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn world(layout: &str) -> (World, Guard) {
    let options = ["--layout", layout, "--preserve", "/sites/*/files"];
    let world = World::with_site(1, &site(), &options);
    world.push("site", &[]).all("committed");
    let guard = Guard::make(world.dir().join("guard"));
    (world, guard)
}

fn edit(world: &World, what: &str) {
    let source = world.source("site");
    put(&source.join("index.php"), format!("<?php // {what}\n"));
    put(
        &source.join("modules/m03/m03.module"),
        format!("<?php // {what}\n"),
    );
    put(&source.join("core/boot.php"), format!("<?php // {what}\n"));
}

/// Whatever comes of these tasks, each ends with an answer, and the agent lives on.
fn try_everything(world: &mut World, what: &str) {
    for words in [
        &["push", "platform", "site", "--allow-delete", "100000"][..],
        &["resync"],
        &["verify", "platform", "site", "--level", "content"],
        &["rollback", "platform", "site", "--yes"],
        &["push", "platform", "site", "--allow-delete", "100000"],
    ] {
        let output = world.fanout(words);
        let said = output.everything_said();
        assert!(
            matches!(output.code, Some(0..=5)),
            "{what}: {}",
            output.describe()
        );
        assert!(!said.contains("FX0901"), "{what}: {}", output.describe());
        assert!(!said.contains("in-doubt"), "{what}: {}", output.describe());
        assert!(world.agent_is_running(0), "{what}: {}", world.agent_log(0));
    }
}

/// Without the mount a push delivers.
fn deliver(world: &World) {
    world.push("site", &ANYTHING).success();
    world.resync(&["--level", "content"]).success();
    world.assert_clean("site");
    let compare = crate::support::snapshot::Compare::exact()
        .without_path("sites/default/files")
        .without_directory_times();
    world.assert_delivered_but("site", &compare);
}

fn a_directory_that_is_mounted_inside_the_tree_is_left_alone(layout: &str) {
    if !root_or_skip("mounting") {
        return;
    }
    let (mut world, guard) = world(layout);
    let mount = Bind::new(guard.root(), &world.live(0, "site").join("modules/m03"));
    edit(&world, "changed below the mount");
    try_everything(&mut world, "changed");
    fs::remove_dir_all(world.source("site").join("modules/m03")).unwrap();
    edit_without(&world, "gone");
    try_everything(&mut world, "gone");
    put(&world.source("site").join("modules/m03"), "now a file");
    try_everything(&mut world, "a file");
    guard.assert_untouched();
    drop(mount);
    deliver(&world);
    guard.assert_untouched();
}

fn edit_without(world: &World, what: &str) {
    put(
        &world.source("site").join("index.php"),
        format!("<?php // {what}\n"),
    );
}

fn a_file_that_is_mounted_inside_the_tree_is_left_alone(layout: &str) {
    if !root_or_skip("mounting") {
        return;
    }
    let (mut world, guard) = world(layout);
    let secret = guard.root().join("secret");
    let boot = world.live(0, "site").join("core/boot.php");
    let mount = Bind::new(&secret, &boot);
    // Comparing by content opens what is there, whatever it is: only writing is watched for.
    let before = fs::metadata(&secret).unwrap();
    edit(&world, "changed below the mount");
    try_everything(&mut world, "changed");
    fs::remove_file(world.source("site").join("core/boot.php")).unwrap();
    fs::remove_file(world.source("site").join("core/boot-again.php")).unwrap();
    try_everything(&mut world, "gone");
    put(
        &world.source("site").join("core/boot.php/inside"),
        "now a directory",
    );
    try_everything(&mut world, "a directory");
    let after = fs::metadata(&secret).unwrap();
    let stamp = |it: &fs::Metadata| (it.ino(), it.nlink(), it.mode(), it.uid(), it.ctime_nsec());
    assert_eq!(stamp(&before), stamp(&after));
    drop(mount);
    deliver(&world);
}

fn uploads_may_be_a_mount(layout: &str) {
    if !root_or_skip("mounting") {
        return;
    }
    let (mut world, guard) = world(layout);
    let files = world.live(0, "site").join("sites/default/files");
    fs::create_dir(&files).unwrap();
    let mount = Bind::new(guard.root(), &files);
    edit(&world, "beside mounted uploads");
    try_everything(&mut world, "uploads");
    guard.assert_untouched();
    drop(mount);
    deliver(&world);
    let mount = Bind::new(guard.root(), &files);
    edit(&world, "beside uploads that are mounted where they lie now");
    world.push("site", &ANYTHING).all("committed");
    assert!(files.join("secret").exists());
    let gone = world.fanout(&[
        "delete",
        "platform",
        "site",
        "--yes-delete",
        "site",
        "--json",
    ]);
    assert!(matches!(gone.code, Some(0 | 3)), "{}", gone.describe());
    assert!(guard.root().join("secret").exists());
    drop(mount);
}

fn a_mount_that_appears_after_the_vote_does_not_hold_up_the_commit(layout: &str) {
    if !root_or_skip("mounting") {
        return;
    }
    let (mut world, guard) = world(layout);
    edit(&world, "voted for");
    let words = ["push", "platform", "site", "--json"];
    let armed = [("FANOUT_FAILPOINTS", "hub.decision.before=pause:4000")];
    let mut push = world.start_fanout(&words, &armed);
    push.wait_for(r#""member":"web1","phase":"voted""#, A_WHILE);
    let live = world.live(0, "site");
    let mounts = [
        Bind::new(&guard.root().join("secret"), &live.join("core/boot.php")),
        Bind::new(&guard.root().join("deep"), &live.join("modules/m03")),
    ];
    let output = push.finish_within(A_WHILE);
    assert_eq!(output.outcomes(), "web1 committed", "{}", output.describe());
    guard.assert_untouched();
    drop(mounts);
    assert!(world.agent_is_running(0));
    deliver(&world);
}

fn a_tree_below_a_mount_is_served_as_any_other(layout: &str) {
    if !root_or_skip("mounting") {
        return;
    }
    let world = World::with_agents(1);
    site().write_to(&world.source("site"));
    let elsewhere = world.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let platforms = world.agent_prefix(0).join("srv/platforms");
    fs::create_dir_all(&platforms).unwrap();
    let mount = Bind::new(&elsewhere, &platforms);
    world.add_platform("site", &["--layout", layout]);
    world.push("site", &[]).all("committed");
    edit(&world, "on a disk of its own");
    world.push("site", &[]).all("committed");
    deliver(&world);
    assert!(elsewhere.join("site/index.php").exists());
    drop(mount);
}
