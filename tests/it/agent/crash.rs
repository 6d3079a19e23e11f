//! Members and hubs that die in the middle: no member is ever between two generations for those
//! who look at its root, and what was decided is what everybody ends at.

use crate::support::env::World;
use crate::support::run::Output;
use crate::support::snapshot::{Compare, Snapshot};
use crate::support::task::{in_both_layouts, put, site};
use std::fs;
use std::time::Duration;

in_both_layouts!(
    a_hub_killed_before_its_decision_leaves_the_old_generation_everywhere,
    a_hub_killed_after_its_decision_leads_to_the_new_generation_everywhere,
    an_agent_killed_while_staging_is_left_behind_and_caught_up,
    an_agent_killed_after_its_vote_settles_by_the_recorded_decision,
    an_agent_that_cannot_write_votes_no_and_nothing_changes,
);

pub(super) const FAILPOINTS: &str = "FANOUT_FAILPOINTS";
const A_WHILE: Duration = Duration::from_secs(120);

/// A world at generation 1 with a second one in the source.
pub(super) struct Case {
    pub(super) world: World,
    pub(super) old: Snapshot,
    pub(super) new: Snapshot,
}

impl Case {
    pub(super) fn start(agents: usize, layout: &str) -> Self {
        let world = World::with_site(agents, &site(), &["--layout", layout]);
        world.push("site", &[]).all("committed");
        let old = world.expected("site");
        edit(&world, 2);
        let new = world.expected("site");
        Self { world, old, new }
    }

    #[track_caller]
    pub(super) fn assert_all(&self, expected: &Snapshot) {
        self.world
            .assert_all_have("site", expected, &Compare::exact());
    }
}

/// A change of every kind: replaced, added, removed, metadata only.
pub(super) fn edit(world: &World, number: usize) {
    let source = world.source("site");
    put(
        &source.join("core/boot.php"),
        format!("<?php boot({number});\n"),
    );
    put(
        &source.join("index.php"),
        format!("<?php index({number});\n"),
    );
    put(
        &source.join(format!("core/added-{number}/a.php")),
        format!("<?php added {number}\n"),
    );
    put(
        &source.join(format!("core/added-{number}/b.php")),
        vec![b'x'; 20_000 + number],
    );
    let removed = source.join(format!("modules/m{number:02}"));
    fs::remove_dir_all(removed).expect("it was there");
    crate::support::tree::set_mtime(&source.join("core/text.inc"), 1_700_000_000, 5);
}

/// Members that voted wait for the hub: what it is about to decide has to be durable in its depot,
/// and its source still what was scanned.
#[test]
fn votes_count_only_when_the_hub_is_ready_itself() {
    let case = Case::start(2, "switched");
    let words = ["push", "platform", "site", "--json"];
    let late = [(FAILPOINTS, "hub.depot.sync=pause:100000")];
    let mut push = case.world.start_fanout(&words, &late);
    for member in ["web1", "web2"] {
        push.wait_for(&format!(r#""member":"{member}","phase":"voted""#), A_WHILE);
    }
    // Nothing is to happen, which can't be waited for.
    std::thread::sleep(Duration::from_millis(700));
    case.assert_all(&case.old);
    push.kill();
    drop(push);
    assert_eq!(case.world.resync(&[]).success().generation(), 1);
    case.assert_all(&case.old);
}

#[track_caller]
fn killed(output: &Output) {
    assert_eq!(
        output.code,
        None,
        "the failpoint was not passed\n{}",
        output.describe()
    );
}

fn a_hub_killed_before_its_decision_leaves_the_old_generation_everywhere(layout: &str) {
    let case = Case::start(2, layout);
    let push = ["push", "platform", "site", "--json"];
    let output = case
        .world
        .fanout_with_env(&push, &[(FAILPOINTS, "hub.decision.before=kill")]);
    killed(&output);
    case.assert_all(&case.old);
    let resync = case.world.resync(&[]).success();
    assert_eq!(resync.generation(), 1);
    case.assert_all(&case.old);
    case.world.assert_clean("site");
    case.world.push("site", &[]).all("committed");
    case.assert_all(&case.new);
}

fn a_hub_killed_after_its_decision_leads_to_the_new_generation_everywhere(layout: &str) {
    let case = Case::start(2, layout);
    let push = ["push", "platform", "site", "--json"];
    let output = case
        .world
        .fanout_with_env(&push, &[(FAILPOINTS, "hub.decision.after=kill")]);
    killed(&output);
    // Nobody has heard it.
    case.assert_all(&case.old);
    let source = case.world.source("site");
    fs::rename(&source, source.with_extension("away")).unwrap();
    let resync = case.world.resync(&[]).success();
    assert_eq!(resync.generation(), 2);
    case.assert_all(&case.new);
    case.world.assert_clean("site");
    fs::rename(source.with_extension("away"), &source).unwrap();
    case.world.push("site", &[]).all("up-to-date");
}

fn an_agent_killed_while_staging_is_left_behind_and_caught_up(layout: &str) {
    let mut case = Case::start(2, layout);
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "fs.create_file=kill@3")]);
    let push = case
        .world
        .start_fanout(&["push", "platform", "site", "--json"], &[]);
    case.world.wait_for_agent_to_end(1, A_WHILE);
    let output = push.finish_within(A_WHILE).exits(3);
    // One that is gone says nothing, so it says no no.
    assert_eq!(output.outcomes(), "web1 committed, web2 stale");
    let compare = Compare::exact();
    compare.assert_same(&case.new, &case.world.snapshot(0, "site"));
    compare.assert_same(&case.old, &case.world.snapshot(1, "site"));
    case.world.restart_agent(1);
    case.world.resync(&[]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

fn an_agent_killed_after_its_vote_settles_by_the_recorded_decision(layout: &str) {
    let mut case = Case::start(2, layout);
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "member.commit.forward=kill")]);
    let push = case
        .world
        .start_fanout(&["push", "platform", "site", "--json"], &[]);
    case.world.wait_for_agent_to_end(1, A_WHILE);
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(output.outcomes(), "web1 committed, web2 in-doubt");
    assert_eq!(output.json_member("web2")["error"]["code"], "FX0501");
    let compare = Compare::exact();
    compare.assert_same(&case.new, &case.world.snapshot(0, "site"));
    compare.assert_same(&case.old, &case.world.snapshot(1, "site"));
    case.world.restart_agent(1);
    // It settles at the next contact of any kind, before anything else.
    case.world.resync(&[]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

fn an_agent_that_cannot_write_votes_no_and_nothing_changes(layout: &str) {
    for (point, is_early) in [
        // Where it can't even write its fence it takes no part, and the others may go on.
        ("fs.create_file=error:ENOSPC@4", true),
        ("fs.syncfs=error:EIO", false),
        ("member.prepare.journal=error:EDQUOT", false),
        ("member.prepare.vote=error:EROFS", false),
    ] {
        let mut case = Case::start(2, layout);
        case.world.restart_agent_with_env(1, &[(FAILPOINTS, point)]);
        let output = case.world.push("site", &[]);
        let code = output.code;
        assert!(
            code == Some(1) || is_early && code == Some(3),
            "{point}\n{}",
            output.describe()
        );
        Compare::exact().assert_same(&case.old, &case.world.snapshot(1, "site"));
        if code == Some(1) {
            case.assert_all(&case.old);
        }
        case.world.restart_agent(1);
        case.world.push("site", &[]).success();
        case.assert_all(&case.new);
    }
}

#[test]
fn where_each_commits_for_itself_one_that_dies_while_staging_is_caught_up_later() {
    let mut case = Case::start(2, "switched");
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "fs.create_file=kill@4")]);
    let words = ["push", "platform", "site", "--json", "--policy", "each"];
    let push = case.world.start_fanout(&words, &[]);
    case.world.wait_for_agent_to_end(1, A_WHILE);
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(output.json_member("web1")["outcome"], "committed");
    let compare = Compare::exact();
    compare.assert_same(&case.new, &case.world.snapshot(0, "site"));
    compare.assert_same(&case.old, &case.world.snapshot(1, "site"));
    case.world.restart_agent(1);
    let source = case.world.source("site");
    fs::rename(&source, source.with_extension("away")).unwrap();
    case.world.resync(&[]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

#[test]
fn a_killed_push_leaves_no_lock_behind() {
    let case = Case::start(1, "switched");
    let mut push = case.world.start_fanout(
        &["push", "platform", "site", "--json"],
        &[(FAILPOINTS, "hub.decision.before=pause:60000")],
    );
    std::thread::sleep(Duration::from_secs(3));
    push.kill();
    case.assert_all(&case.old);
    case.world.push("site", &[]).all("committed");
    case.assert_all(&case.new);
}
