//! Commands that ask or change members, beyond what a push does.

use crate::support::env::World;
use crate::support::task::put;
use crate::support::tree::Tree;
use std::fs;

fn source() -> Tree {
    Tree::new()
        .dir("web")
        .file("web/index.php", "<?php\n")
        .file("readme", "read me\n")
}

#[test]
fn an_adopted_root_is_listed_by_top_directory_with_what_is_foreign() {
    let world = World::with_agents(2);
    source().write_to(&world.source("site"));
    for index in 0..2 {
        let live = world.live(index, "site");
        put(&live.join("web/index.php"), "<?php old\n");
        put(&live.join("legacy/report"), "old");
    }
    put(&world.live(0, "site").join("mine"), "only here");
    world.add_platform("site", &[]);
    let look = world
        .fanout(&["adopt", "platform", "site", "--dry-run"])
        .success();
    assert!(
        look.text().contains("would be recorded"),
        "{}",
        look.describe()
    );
    world.push("site", &[]).refused("FX0207");
    let output = world
        .fanout(&["adopt", "platform", "site", "--json"])
        .success();
    let member = output.json_member("web1");
    assert_eq!(
        (&member["adopted"], &member["foreign"]),
        (&true.into(), &3.into()),
        "{member}"
    );
    assert_eq!(output.json_member("web2")["foreign"], 2);
    let tops = member["would_change"].as_array().unwrap();
    let top = |name: &str| tops.iter().find(|top| top["in"] == name).unwrap();
    assert_eq!(top("web")["replaced"], 1);
    assert_eq!(top("legacy")["foreign"], 1);
    let text = fs::read_to_string(world.hub_dir().join("fanout.toml")).unwrap();
    assert!(text.contains("layout = \"in-place\""), "{text}");
    assert_eq!(
        fs::read(world.live(0, "site").join("web/index.php")).unwrap(),
        b"<?php old\n"
    );
}

#[test]
fn a_second_adoption_says_that_it_was_done_and_none_speaks_of_a_push() {
    let world = World::with_agents(2);
    source().write_to(&world.source("site"));
    put(&world.live(0, "site").join("legacy/report"), "old");
    put(&world.live(1, "site").join("legacy/report"), "old");
    world.add_platform("site", &["--layout", "in-place"]);
    let adopt = ["adopt", "platform", "site", "--json"];
    let first = world.fanout(&adopt).success();
    let started = first.json_lines();
    let started: Vec<_> = started
        .iter()
        .filter_map(|it| it["kind"].as_str())
        .collect();
    assert_eq!(started, ["adopt"], "{}", first.describe());
    assert_eq!(first.json_member("web1")["already"], false);
    assert!(
        first.error_text().contains("it holds 1 entry"),
        "{}",
        first.describe()
    );
    let second = world.fanout(&adopt).success();
    assert_eq!(second.json_member("web1")["already"], true);
    let said = second.error_text();
    assert!(said.contains("is the root of site already"), "{said}");
    assert!(!said.contains("it holds"), "{said}");
}

#[test]
fn what_was_protected_in_an_adopted_root_is_foreign_once_it_is_given_up() {
    let world = World::with_agents(1);
    source().write_to(&world.source("site"));
    let upload = world.live(0, "site").join("files/cat.jpg");
    put(&upload, "from before");
    world.add_platform("site", &["--layout", "in-place", "--preserve", "/files"]);
    world
        .fanout(&["adopt", "platform", "site", "--yes"])
        .success();
    world.push("site", &[]).all("committed");
    let release = [
        "edit",
        "platform",
        "site",
        "--release-preserved",
        "/files",
        "--yes",
    ];
    world.fanout(&release).success();
    put(&world.source("site").join("readme"), "again\n");
    world.push("site", &[]).all("committed");
    assert_eq!(fs::read(&upload).unwrap(), b"from before");
    world
        .push("site", &["--delete-foreign", "--allow-delete", "10"])
        .all("committed");
    assert!(!upload.exists());
}

#[test]
fn a_plan_names_members_in_the_inventorys_order() {
    let world = World::with_agents(3);
    source().write_to(&world.source("site"));
    world.add_platform("site", &[]);
    // The first member has nothing yet, and takes another way through the plan.
    world.push("site", &["--limit", "web2,web3"]).success();
    put(&world.source("site").join("readme"), "again\n");
    let plan = world
        .fanout(&["push", "platform", "site", "--dry-run"])
        .success()
        .text();
    let at = |name: &str| {
        plan.find(name)
            .unwrap_or_else(|| panic!("{name} missing\n{plan}"))
    };
    assert!(at("web1:") < at("web2, web3:"), "{plan}");
}

#[test]
fn a_source_that_is_missing_is_all_that_is_said_about_it() {
    let world = World::with_agents(1);
    source().write_to(&world.source("site"));
    world.add_platform("site", &[]);
    fs::remove_dir_all(world.source("site")).unwrap();
    let said = world
        .fanout(&["push", "platform", "site"])
        .exits(5)
        .error_text();
    assert!(said.contains("FX0101") && !said.contains("git"), "{said}");
}

#[test]
fn monitoring_gets_one_line_and_an_exit() {
    let mut world = World::with_agents(2);
    source().write_to(&world.source("site"));
    world.add_platform("site", &[]);
    world.push("site", &[]).all("committed");
    let output = world.fanout(&["status", "--check"]).success();
    assert_eq!(
        output.text(),
        "OK: 1 platform, 2 members at the desired generation\n"
    );
    world.kill_agent(1);
    let output = world.fanout(&["status", "--check"]).exits(3);
    assert_eq!(output.text(), "WARNING: site on web2 unreachable\n");
    put(&world.source("site").join("readme"), "again\n");
    world.push("site", &[]).exits(3);
    world.restart_agent(1);
    let output = world.fanout(&["status", "--check"]).exits(3);
    assert_eq!(
        output.text(),
        "WARNING: site on web2 stale (#1, wanted #2)\n"
    );
    let status = world.fanout(&["status", "--json"]).success().json_result();
    assert_eq!(status["platforms"][0]["members"][1]["state"], "stale");
    assert_eq!(status["ok"], false);
    let line = world.fanout(&["resync"]).success().text();
    assert!(
        line.starts_with("site web2: back at #2: ") && line.lines().count() == 1,
        "{line}"
    );
    let silent = world.fanout(&["resync"]).success();
    assert_eq!(silent.text() + &silent.error_text(), "");
}

#[test]
fn a_preserve_rule_is_given_up_knowingly_or_not_at_all() {
    let world = World::with_agents(1);
    source().write_to(&world.source("site"));
    world.add_platform("site", &["--layout", "in-place", "--preserve", "/files"]);
    world.push("site", &[]).all("committed");
    let upload = world.live(0, "site").join("files/cat.jpg");
    put(&upload, "a cat");
    world.configure("platforms.site", &["preserve = []"]);
    let said = world.push("site", &[]).exits(5).error_text();
    assert!(
        said.contains("FX0215") && said.contains("--release-preserved /files"),
        "{said}"
    );
    let words = ["edit", "platform", "site", "--release-preserved", "/files"];
    let said = world.fanout(&words).exits(64).error_text();
    assert!(
        said.contains("protects 2 entries, 5 B") && said.contains("--yes"),
        "{said}"
    );
    world.push("site", &[]).exits(5);
    world.fanout(&[&words[..], &["--yes"]].concat()).success();
    assert!(upload.exists());
    world
        .push("site", &["--allow-delete", "10"])
        .all("committed");
    assert!(!upload.exists());
}

#[test]
fn a_hub_with_an_old_state_reads_the_new_one_back_from_its_members() {
    let world = World::with_agents(2);
    source().write_to(&world.source("site"));
    world.add_platform("site", &[]);
    world.push("site", &[]).all("committed");
    let state = world.hub_dir().join("state");
    let backup = world.dir().join("backup");
    copy(&state, &backup);
    put(&world.source("site").join("readme"), "two\n");
    world.push("site", &[]).all("committed");
    put(&world.source("site").join("readme"), "three\n");
    world
        .push("site", &["--label", "release 3"])
        .all("committed");
    let depot = world.dir().join("depot");
    fs::rename(state.join("depot"), &depot).unwrap();
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&backup, &state).unwrap();
    fs::remove_dir_all(state.join("depot")).unwrap();
    fs::rename(&depot, state.join("depot")).unwrap();

    let output = world.fanout(&["init", "--recover", "--json"]).success();
    assert_eq!(output.json_result()["recovered"][0]["generation"], 3);
    let list = world
        .fanout(&["generations", "platform", "site", "--json"])
        .success()
        .json_result();
    assert_eq!(list["desired"], 3);
    assert_eq!(list["generations"][0]["label"], "release 3");
    world.fanout(&["status", "--check"]).success();
    world.resync(&[]).all("up-to-date");
    world.rollback("site", &[]).all("committed");
    assert_eq!(
        fs::read(world.live(0, "site").join("readme")).unwrap(),
        b"two\n"
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
