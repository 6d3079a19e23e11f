//! Which votes a commit needs, and how a member that was away comes back.

use crate::support::env::{CLUSTER, World};
use crate::support::snapshot::Compare;
use crate::support::task::{put, site};
use std::fs;

/// Three members with generation 1, a change in the source, and the third member dead.
fn one_of_three_is_dead(section: &[&str]) -> World {
    let mut world = World::with_site(3, &site(), &[]);
    if !section.is_empty() {
        world.configure(&format!("clusters.{CLUSTER}"), section);
    }
    world.push("site", &[]).all("committed");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.kill_agent(2);
    world
}

#[test]
fn reachable_commits_on_those_that_answer_and_resync_catches_up_without_the_source() {
    let mut world = one_of_three_is_dead(&[]);
    let old = world.snapshot(2, "site");
    let output = world.push("site", &[]).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
    assert_eq!(output.generation(), 2);
    assert!(!output.json_member("web3")["error"].is_null());
    Compare::exact().assert_same(&old, &world.snapshot(2, "site"));
    let expected = world.expected("site");
    let status = world.fanout(&["status", "--check"]);
    assert_ne!(
        status.code,
        Some(0),
        "a stale member is nothing to monitoring"
    );
    let source = world.source("site");
    fs::rename(&source, source.with_extension("away")).unwrap();
    world.restart_agent(2);
    let output = world.resync(&[]).success();
    assert_eq!(output.json_member("web3")["outcome"], "committed");
    assert_eq!(output.generation(), 2);
    world.assert_all_have("site", &expected, &Compare::exact());
    world.assert_clean("site");
    world.fanout(&["status", "--check"]).success();
}

#[test]
fn all_changes_nothing_anywhere_while_one_is_dead() {
    let mut world = one_of_three_is_dead(&[r#"commit = "all""#]);
    let before = world.states("site");
    let output = world.push("site", &[]);
    assert!(matches!(output.code, Some(1 | 5)), "{}", output.describe());
    world.assert_untouched("site", &before);
    world.restart_agent(2);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_quorum_commits_when_it_is_there_and_not_otherwise() {
    let mut world = one_of_three_is_dead(&[r#"commit = "quorum:2""#]);
    let output = world.push("site", &[]).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(3);\n",
    );
    world.kill_agent(1);
    let before = world.states("site");
    // Nothing is sent for votes that can't come in.
    let output = world.push("site", &[]).exits(1);
    assert!(
        output.everything_said().contains("FX0503"),
        "{}",
        output.describe()
    );
    world.assert_untouched("site", &before);
    world.restart_agent(1);
    world.restart_agent(2);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn each_commits_for_itself() {
    let world = one_of_three_is_dead(&[]);
    let output = world.push("site", &["--policy", "each"]).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
}

#[test]
fn fewer_than_min_healthy_is_refused() {
    let mut world = one_of_three_is_dead(&["min_healthy = 3"]);
    let before = world.states("site");
    world.push("site", &[]).refused("FX0214");
    world.assert_untouched("site", &before);
    world.restart_agent(2);
    world.push("site", &[]).all("committed");
}

#[test]
fn with_all_members_dead_a_push_fails_and_says_so() {
    let mut world = World::with_site(2, &site(), &[]);
    (0..2).for_each(|index| world.kill_agent(index));
    let output = world.push("site", &[]);
    assert!(matches!(output.code, Some(1 | 5)), "{}", output.describe());
    (0..2).for_each(|index| world.restart_agent(index));
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_member_that_missed_a_rollback_is_brought_to_it() {
    let mut world = World::with_site(2, &site(), &[]);
    world.push("site", &[]).all("committed");
    let first = world.expected("site");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    world.kill_agent(1);
    world.rollback("site", &[]).exits(3);
    world.restart_agent(1);
    world.resync(&[]).success();
    world.assert_all_have("site", &first, &Compare::exact());
    world.assert_clean("site");
}

#[test]
fn a_new_member_gets_what_is_desired_by_resync() {
    let world = World::with_site(2, &site(), &[]);
    world.push("site", &["--limit", "web1"]).success();
    assert!(!world.live(1, "site").exists());
    let expected = world.expected("site");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php not published\n",
    );
    let output = world.resync(&[]).success();
    assert_eq!(output.json_member("web2")["outcome"], "committed");
    world.assert_all_have("site", &expected, &Compare::exact());
}

#[test]
fn a_member_that_is_not_ready_at_the_deadline_is_left_behind_and_told_why() {
    let mut world = World::with_site(2, &site(), &[]);
    world.push("site", &[]).all("committed");
    world.restart_agent_with_env(
        1,
        &[("FANOUT_FAILPOINTS", "member.prepare.vote=pause:6000")],
    );
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let words = ["--deadline", "2s", "--policy", "each"];
    let output = world.push("site", &words).exits(3);
    assert_eq!(output.outcomes(), "web1 committed, web2 stale");
    let late = &output.json_member("web2")["error"];
    assert_eq!(late["code"], "FX0310", "{}", output.describe());
    world.restart_agent(1);
    world.resync(&[]).success();
    world.assert_delivered("site");
}
