//! Verify finds drift entry by entry and changes nothing; resync repairs exactly that.

use crate::support::env::World;
use crate::support::run::wait_until;
use crate::support::snapshot::Compare;
use crate::support::task::{in_both_layouts, put, site};
use crate::support::tree::{self, Meta};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

in_both_layouts!(
    every_kind_of_drift_is_found_and_exactly_repaired,
    an_edit_with_the_old_size_and_mtime_is_found,
    an_edit_between_vote_and_commit_is_found_by_the_next_look,
    a_torn_file_is_found_at_content_level_and_repaired_from_the_depot,
    a_resync_without_drift_is_silent,
    a_platform_may_only_report_drift,
    after_a_rollback_resync_keeps_the_rolled_back_generation,
    what_is_ignored_is_not_drift,
    deleting_the_whole_root_is_repaired,
);

fn pushed(layout: &str, agents: usize) -> World {
    let world = World::with_site(agents, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    world
}

fn every_kind_of_drift_is_found_and_exactly_repaired(layout: &str) {
    let world = pushed(layout, 2);
    let live = world.live(0, "site");
    fs::remove_file(live.join("index.php")).unwrap();
    put(&live.join("core/hack.php"), "<?php added\n");
    fs::remove_file(live.join("core/text.inc")).unwrap();
    put(&live.join("core/text.inc"), "other content");
    fs::remove_file(live.join("latest")).unwrap();
    symlink("elsewhere", live.join("latest")).unwrap();
    fs::remove_dir_all(live.join("modules/m03")).unwrap();
    let metadata = Meta {
        mode: Some(0o777),
        ..Meta::default()
    };
    metadata.apply(&live.join("core/large.bin"));
    let drifted = world.states("site");
    let output = world.verify("site", &[]).exits(2);
    let drift = output.drift("web1");
    for line in [
        "index.php missing",
        "core/hack.php extra",
        "core/text.inc content",
        "latest content",
        "modules/m03 missing",
        "core/large.bin metadata",
    ] {
        assert!(
            drift.iter().any(|found| found == line),
            "{line} not in {drift:#?}"
        );
    }
    let innocent = ["core/boot.php", "modules/m04", "sites/default/settings.php"];
    let is_innocent = |line: &&String| innocent.iter().any(|path| line.starts_with(path));
    assert_eq!(drift.iter().find(is_innocent), None);
    assert_eq!(output.json_member("web2")["state"], "clean");
    world.assert_untouched("site", &drifted);
    let output = world.resync(&[]).success();
    assert_eq!(output.json_member("web1")["outcome"], "committed");
    assert_eq!(output.json_member("web2")["outcome"], "up-to-date");
    assert_eq!(output.generation(), 1);
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn an_edit_with_the_old_size_and_mtime_is_found(layout: &str) {
    let world = pushed(layout, 1);
    let path = world.live(0, "site").join("core/text.inc");
    let before = fs::metadata(&path).unwrap();
    let mut content = fs::read(&path).unwrap();
    content[1_000] ^= 1;
    fs::write(&path, content).unwrap();
    tree::set_mtime(&path, before.mtime(), before.mtime_nsec());
    let output = world.verify("site", &["--level", "content"]).exits(2);
    assert!(
        output
            .drift("web1")
            .contains(&"core/text.inc content".to_owned()),
        "{}",
        output.describe()
    );
    world.resync(&["--level", "content"]).success();
    world.assert_delivered("site");
    world.assert_clean("site");
}

/// Content that changed without anybody writing: what bad memory or a bad disk does. No time
/// says so, hence the level `content`.
fn a_torn_file_is_found_at_content_level_and_repaired_from_the_depot(layout: &str) {
    let world = pushed(layout, 2);
    let path = world.live(0, "site").join("core/large.bin");
    let before = fs::metadata(&path).unwrap();
    let damaged = vec![0; usize::try_from(before.len()).unwrap()];
    fs::write(&path, damaged).unwrap();
    tree::set_mtime(&path, before.mtime(), before.mtime_nsec());
    let source = world.source("site");
    fs::rename(&source, source.with_extension("away")).unwrap();
    world.verify("site", &["--level", "content"]).exits(2);
    let output = world.resync(&["--level", "content"]).success();
    assert_eq!(output.json_member("web1")["outcome"], "committed");
    fs::rename(source.with_extension("away"), &source).unwrap();
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn a_resync_without_drift_is_silent(layout: &str) {
    let world = pushed(layout, 2);
    let before = world.states("site");
    let output = world.fanout(&["resync"]).success();
    let lines = output.everything_said().lines().count();
    assert!(lines <= 1, "{}", output.describe());
    world.assert_untouched("site", &before);
    fs::remove_file(world.live(1, "site").join("index.php")).unwrap();
    let output = world.fanout(&["resync"]).success();
    let said = output.everything_said();
    let naming = |name: &str| said.lines().filter(|line| line.contains(name)).count();
    assert!(
        naming("web2") >= 1 && naming("web1") == 0,
        "{}",
        output.describe()
    );
    world.assert_delivered("site");
}

fn a_platform_may_only_report_drift(layout: &str) {
    let world = pushed(layout, 1);
    world.configure("platforms.site", &[r#"resync = "report""#]);
    fs::remove_file(world.live(0, "site").join("index.php")).unwrap();
    let before = world.states("site");
    let output = world.fanout(&["resync"]);
    assert_eq!(output.code, Some(2), "{}", output.describe());
    assert!(
        output.everything_said().contains("web1"),
        "{}",
        output.describe()
    );
    world.assert_untouched("site", &before);
    world.configure("platforms.site", &[r#"resync = "repair""#]);
    world.resync(&[]).all("committed");
    world.assert_delivered("site");
}

fn after_a_rollback_resync_keeps_the_rolled_back_generation(layout: &str) {
    let world = pushed(layout, 2);
    let first = world.expected("site");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    world.rollback("site", &[]).all("committed");
    world.assert_all_have("site", &first, &Compare::exact());
    for level in ["index", "stat", "content"] {
        world.resync(&["--level", level]).all("up-to-date");
        world.assert_all_have("site", &first, &Compare::exact());
    }
}

fn what_is_ignored_is_not_drift(layout: &str) {
    let world = pushed(layout, 2);
    world.append_to_inventory(
        r#"[[platforms.site.drift_ignore]]
path = "/index.php"
member = "web2"
reason = "web2 is the staging head"
until = 2999-01-31
"#,
    );
    for index in 0..2 {
        // In place, so that the directory's own time stays.
        put(
            &world.live(index, "site").join("index.php"),
            "<?php staging();\n",
        );
    }
    let output = world.verify("site", &[]).exits(2);
    assert_eq!(
        output.json_member("web2")["state"],
        "clean",
        "{}",
        output.describe()
    );
    let drift = output.drift("web1");
    assert!(drift.contains(&"index.php content".to_owned()), "{drift:?}");
    world.resync(&[]).success();
    let read = |index| fs::read(world.live(index, "site").join("index.php")).unwrap();
    assert_eq!(read(0), b"<?php require 'core/boot.php';\n");
    assert_eq!(read(1), b"<?php staging();\n");
}

fn deleting_the_whole_root_is_repaired(layout: &str) {
    let world = pushed(layout, 1);
    let live = world.live(0, "site");
    match layout {
        "switched" => fs::remove_file(&live).unwrap(),
        _ => fs::remove_dir_all(&live).unwrap(),
    }
    let output = world.verify("site", &[]);
    assert_eq!(output.code, Some(2), "{}", output.describe());
    world.resync(&[]).success();
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn a_member_that_does_not_answer_is_unreachable_to_verify() {
    let mut world = pushed("switched", 2);
    world.kill_agent(1);
    let output = world.verify("site", &[]);
    assert!(matches!(output.code, Some(1..=3)), "{}", output.describe());
    assert_eq!(output.json_member("web1")["state"], "clean");
    assert_eq!(output.json_member("web2")["state"], "unreachable");
}

/// The release doesn't touch the file, so nothing that it does may vouch for it.
fn an_edit_between_vote_and_commit_is_found_by_the_next_look(layout: &str) {
    let world = pushed(layout, 1);
    put(
        &world.source("site").join("core/text.inc"),
        "the next release",
    );
    let reached = world.dir().join("reached");
    let armed = format!(
        "hub.decision.before=log:{},hub.decision.before=pause:3000@1",
        reached.display()
    );
    let words = ["push", "platform", "site", "--json"];
    let push = world.start_fanout(&words, &[("FANOUT_FAILPOINTS", &armed)]);
    assert!(wait_until(Duration::from_secs(30), || reached.exists()));
    let edited = world.live(0, "site").join("index.php");
    let before = fs::metadata(&edited).unwrap();
    let mut content = fs::read(&edited).unwrap();
    content.reverse();
    fs::write(&edited, content).unwrap();
    tree::set_mtime(&edited, before.mtime(), before.mtime_nsec());
    push.finish_within(Duration::from_secs(60)).success();
    let after = fs::metadata(world.live(0, "site").join("index.php")).unwrap();
    assert_eq!((after.len(), after.mtime()), (before.len(), before.mtime()));
    let output = world.verify("site", &[]).exits(2);
    assert_eq!(output.drift("web1"), ["index.php content"]);
}

#[test]
fn two_tasks_at_once_end_with_exit_4_for_the_second_and_name_the_first() {
    let mut world = pushed("switched", 1);
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(1);\n",
    );
    world.push("site", &[]).all("committed");
    world.restart_agent_with_env(
        0,
        &[("FANOUT_FAILPOINTS", "member.prepare.vote=pause:6000")],
    );
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let first = world.start_fanout(&["push", "platform", "site", "--json"], &[]);
    let pid = first.id().to_string();
    std::thread::sleep(Duration::from_millis(2_500));
    for second in [
        &["push", "platform", "site"][..],
        &["rollback", "platform", "site", "--yes"],
        &["resync"],
    ] {
        let output = world.fanout(second);
        assert_eq!(output.code, Some(4), "{}", output.describe());
        let said = output.everything_said();
        assert!(
            said.contains("push") && said.contains(&pid),
            "the holder is not named\n{said}"
        );
    }
    let waited = world.start_fanout(&["push", "platform", "site", "--json", "--wait"], &[]);
    first.finish_within(Duration::from_secs(60)).success();
    waited.finish_within(Duration::from_secs(60)).success();
    world.assert_delivered("site");
}

#[test]
fn a_damaged_index_costs_time_and_nothing_else() {
    let mut world = pushed("in-place", 1);
    put(
        &world.live(0, "site").join("core/hack.php"),
        "<?php added\n",
    );
    world.kill_agent(0);
    let mut damaged = 0;
    for place in [
        world.agent_dir(0),
        world.agent_prefix(0),
        world.hub_dir().join("state"),
    ] {
        for entry in walkdir::WalkDir::new(place)
            .into_iter()
            .filter_map(Result::ok)
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_index =
                entry.file_type().is_file() && name.contains("index") && !name.ends_with(".php");
            if is_index {
                let mut bytes = fs::read(entry.path()).unwrap();
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x55;
                }
                fs::write(entry.path(), bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 2, "found {damaged} indexes");
    world.restart_agent(0);
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn a_push_of_what_is_there_gives_a_lost_depot_back() {
    let world = World::with_site(2, &site(), &[]);
    world.push("site", &[]).all("committed");
    fs::remove_dir_all(world.hub_dir().join("state/depot")).unwrap();
    assert_ne!(world.resync(&[]).code, Some(0));
    world.push("site", &[]).all("up-to-date");
    fs::remove_file(world.live(1, "site").join("index.php")).unwrap();
    world.resync(&[]).success();
    world.assert_delivered("site");
    world.assert_clean("site");
}
