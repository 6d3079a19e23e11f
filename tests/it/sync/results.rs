//! What scripts rely on: the shape of results, exit codes, dry runs, and `explain`.

use crate::support::env::World;
use crate::support::task::{put, site};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

#[track_caller]
fn assert_has_keys(value: &Value, keys: &[&str]) {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {value}"));
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| !object.contains_key(**key))
        .collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}

const RESULT: [&str; 9] = [
    "task",
    "platform",
    "generation",
    "level",
    "members",
    "commit_window_us",
    "commit_window_error_us",
    "encoded_objects",
    "encoded_bytes",
];
const MEMBER: [&str; 9] = [
    "name",
    "outcome",
    "generation",
    "sent_bytes",
    "received_bytes",
    "content_bytes",
    "round_trips",
    "changed_entries",
    "error",
];

#[test]
fn results_have_the_promised_shape() {
    let mut world = World::with_site(2, &site(), &[]);
    let output = world.push("site", &[]).all("committed");
    let result = output.json_result();
    assert_has_keys(&result, &RESULT);
    assert_eq!(
        (&result["platform"], &result["level"]),
        (&"site".into(), &"stat".into())
    );
    assert!(result["commit_window_us"].is_u64(), "{result}");
    assert!(result["commit_window_error_us"].is_u64(), "{result}");
    for member in result["members"].as_array().unwrap() {
        assert_has_keys(member, &MEMBER);
        assert!(
            member["error"].is_null() && member["generation"] == 1,
            "{member}"
        );
        assert!(
            member["sent_bytes"].as_u64() >= member["content_bytes"].as_u64(),
            "{member}"
        );
        assert!(member["changed_entries"].as_u64() > Some(30), "{member}");
    }
    let lines = output.json_lines();
    let versions: BTreeSet<_> = lines
        .iter()
        .map(|line| line["version"].to_string())
        .collect();
    assert_eq!(versions, BTreeSet::from(["1".to_owned()]));
    assert!(lines.iter().all(|line| line["type"].is_string()));

    let verified = world.verify("site", &[]).success().json_result();
    assert_has_keys(&verified, &["platform", "generation", "level", "members"]);
    assert_has_keys(&verified["members"][0], &["name", "state", "drift"]);
    let status = world.fanout(&["status", "--json"]).success().json_result();
    let text = status.to_string();
    assert!(
        text.contains("web1") && text.contains("web2") && text.contains("site"),
        "{text}"
    );

    world.kill_agent(1);
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let partial = world.push("site", &[]).exits(3);
    let error = &partial.json_member("web2")["error"];
    assert_has_keys(error, &["code", "message", "hint"]);
    let code = error["code"].as_str().unwrap();
    let page = world.fanout(&["explain", code]).success().text();
    assert!(page.contains(code), "{page}");
}

#[test]
fn a_dry_run_itemises_the_changes_and_changes_nothing() {
    let world = World::with_site(2, &site(), &[]);
    let first = world
        .fanout(&["push", "platform", "site", "--dry-run"])
        .success();
    assert!(
        first.everything_said().contains("index.php"),
        "{}",
        first.describe()
    );
    assert!(!world.live(0, "site").exists());
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let source = world.source("site");
    put(&source.join("core/boot.php"), "<?php boot(2);\n");
    put(&source.join("core/added.php"), "<?php\n");
    fs::remove_file(source.join("modules/m05/m05.module")).unwrap();
    let output = world
        .fanout(&["push", "platform", "site", "--dry-run"])
        .success();
    let said = output.everything_said();
    for path in ["core/boot.php", "core/added.php", "modules/m05/m05.module"] {
        assert_eq!(said.matches(path).count(), 1, "{path}\n{said}");
    }
    assert!(said.contains("web1") && said.contains("web2"), "{said}");
    assert!(!said.contains("core/large.bin"), "{said}");
    world.assert_untouched("site", &before);
    let output = world.push("site", &["--dry-run"]).success();
    assert!(
        output.text().contains("core/added.php"),
        "{}",
        output.describe()
    );
    world.assert_untouched("site", &before);
    world.verify("site", &[]).success();
    // A dry run takes no serial and leaves no lock.
    let pushed = world.push("site", &[]).all("committed");
    assert_eq!(pushed.generation(), 2);
}

#[test]
fn a_dry_run_shows_a_brake_as_the_push_would() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    fs::remove_dir_all(world.source("site").join("modules")).unwrap();
    let output = world.push("site", &["--dry-run"]).refused("FX0202");
    assert!(
        output.everything_said().contains("modules"),
        "{}",
        output.describe()
    );
}

#[test]
fn explain_names_the_rule_that_decides_about_a_path() {
    let options = ["--exclude", "*.log", "--preserve", "/sites/*/files/"];
    let world = World::with_site(1, &site(), &options);
    let explain = |path: &str| {
        world
            .fanout(&["explain", path, "--platform", "site"])
            .success()
            .everything_said()
    };
    assert!(explain("core/a.log").contains("*.log"));
    assert!(explain("sites/default/files/a.jpg").contains("/sites/*/files"));
    let plain = explain("core/boot.php");
    assert!(!plain.contains("*.log"), "{plain}");
    let absolute = world.source("site").join("sites/default/files");
    assert!(explain(absolute.to_str().unwrap()).contains("/sites/*/files"));
}

#[test]
fn an_inventory_with_a_typo_contacts_nobody_and_points_at_the_line() {
    let world = World::with_site(1, &site(), &[]);
    world.configure("platforms.site", &["exlude = []"]);
    let output = world.push("site", &[]);
    assert_eq!(output.code, Some(1), "{}", output.describe());
    let said = output.everything_said();
    assert!(
        said.contains("exlude") && said.contains("fanout.toml"),
        "{said}"
    );
    assert!(!world.live(0, "site").exists());
}

#[test]
fn members_share_what_was_encoded_once() {
    let world = World::with_site(3, &site(), &[]);
    let output = world.push("site", &[]).all("committed");
    let content: BTreeSet<_> = ["web1", "web2", "web3"]
        .map(|name| output.member_number(name, "content_bytes"))
        .into();
    assert_eq!(content.len(), 1, "{}", output.describe());
}

#[test]
fn status_names_the_tasks_that_run_and_nobody_else() {
    let world = World::with_site(1, &site(), &[]);
    let status = || world.fanout(&["status", "--json"]).success().json_result();
    assert_eq!(status()["tasks"], serde_json::json!([]));
    let words = ["push", "platform", "site", "--json"];
    let armed = [("FANOUT_FAILPOINTS", "hub.decision.before=pause:60000")];
    let mut push = world.start_fanout(&words, &armed);
    push.wait_for(r#""phase":"voted""#, Duration::from_secs(60));
    let seen = status();
    let tasks = seen["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 1, "{seen}");
    assert_has_keys(&tasks[0], &["platform", "by", "what", "process", "since"]);
    assert_eq!(tasks[0]["platform"], "site");
    assert_eq!(tasks[0]["what"], "push platform site");
    assert_eq!(tasks[0]["process"], push.id());
    let text = world.fanout(&["status"]).success().text();
    let line = format!("push platform site (process {}) since ", push.id());
    assert!(text.contains(&line), "{text}");
    // A look is in nobody's way, and what a killed task leaves is no task.
    push.kill();
    assert_eq!(status()["tasks"], serde_json::json!([]));
    world.push("site", &[]).all("committed");
}
