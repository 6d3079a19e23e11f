//! Members that are lost in the middle of a push: what each policy makes of it, how soon, and what
//! is said of everybody.

use super::crash::{Case, FAILPOINTS, edit};
use crate::support::env::{CLUSTER, World};
use crate::support::run::{Output, Running, wait_until};
use crate::support::snapshot::Compare;
use crate::support::task::site;
use std::time::{Duration, Instant};

const A_WHILE: Duration = Duration::from_secs(120);
/// A killed process is noticed in about 3 s; the machine may be busy. Silence would take 60 s.
const SOON: Duration = Duration::from_secs(20);
/// Long after whatever a test does with the member meanwhile.
const SLOW_PREPARE: &str = "member.prepare.sync=pause:100000";

fn start_push(world: &World, options: &[&str]) -> Running {
    let words = [&["push", "platform", "site", "--json"][..], options].concat();
    world.start_fanout(&words, &[])
}

fn wait_for_phase(push: &mut Running, member: &str, phase: &str) {
    let line = format!(r#""member":"{member}","phase":"{phase}""#);
    push.wait_for(&line, A_WHILE);
}

/// A push of three members, the last of which is killed while it prepares, before it has voted.
fn killed_before_its_vote(case: &mut Case, options: &[&str]) -> Output {
    case.world
        .restart_agent_with_env(2, &[(FAILPOINTS, SLOW_PREPARE)]);
    let mut push = start_push(&case.world, options);
    wait_for_phase(&mut push, "web3", "preparing");
    case.world.kill_agent(2);
    let start = Instant::now();
    let output = push.finish_within(A_WHILE);
    let took = start.elapsed();
    assert!(took < SOON, "noticed after {took:?}\n{}", output.describe());
    output
}

#[track_caller]
fn assert_lost(output: &Output, member: &str, generation: u64) {
    let member = output.json_member(member);
    assert_eq!(member["outcome"], "stale", "{}", output.describe());
    assert_eq!(member["error"]["code"], "FX0308", "{}", output.describe());
    for key in ["message", "hint"] {
        let text = member["error"][key].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{}", output.describe());
    }
    assert_eq!(member["generation"], generation, "{}", output.describe());
}

/// The third member is back, and settles whatever it holds.
#[track_caller]
fn back_again(mut case: Case, is_new: bool) {
    case.world.restart_agent(2);
    case.world.resync(&[]).success();
    let expected = if is_new { &case.new } else { &case.old };
    case.assert_all(expected);
    case.world.assert_clean("site");
    case.world.push("site", &[]).success();
    case.assert_all(&case.new);
}

#[test]
fn under_reachable_a_member_killed_in_the_middle_is_left_behind_within_seconds() {
    let mut case = Case::start(3, "switched");
    let output = killed_before_its_vote(&mut case, &[]).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
    assert_lost(&output, "web3", 1);
    Compare::exact().assert_same(&case.old, &case.world.snapshot(2, "site"));
    back_again(case, true);
}

#[test]
fn under_all_a_member_killed_in_the_middle_stops_everybody_and_is_named() {
    let mut case = Case::start(3, "in-place");
    let output = killed_before_its_vote(&mut case, &["--policy", "all"]).exits(1);
    assert_eq!(output.outcomes(), "web1 aborted, web2 aborted, web3 stale");
    assert_lost(&output, "web3", 1);
    for name in ["web1", "web2"] {
        let error = &output.json_member(name)["error"];
        assert_eq!(error["code"], "FX0502", "{}", output.describe());
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("web3"), "{}", output.describe());
    }
    case.assert_all(&case.old);
    back_again(case, false);
}

#[test]
fn under_a_quorum_a_member_killed_in_the_middle_is_a_vote_that_is_missing() {
    let mut case = Case::start(3, "switched");
    let output = killed_before_its_vote(&mut case, &["--policy", "quorum:3"]).exits(1);
    assert_eq!(output.outcomes(), "web1 aborted, web2 aborted, web3 stale");
    assert_lost(&output, "web3", 1);
    case.assert_all(&case.old);
    let output = killed_before_its_vote(&mut case, &["--policy", "quorum:2"]).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
    back_again(case, true);
}

#[test]
fn fewer_than_min_healthy_after_a_loss_commit_nothing() {
    let mut case = Case::start(3, "switched");
    case.world
        .configure(&format!("clusters.{CLUSTER}"), &["min_healthy = 3"]);
    let output = killed_before_its_vote(&mut case, &[]).exits(1);
    assert_eq!(output.outcomes(), "web1 aborted, web2 aborted, web3 stale");
    case.assert_all(&case.old);
    back_again(case, false);
}

#[test]
fn several_dead_members_are_borne_by_a_quorum_as_long_as_it_is_there() {
    let mut case = Case::start(5, "switched");
    let quorum = ["--policy", "quorum:3"];
    // One was dead before, one dies while it stages.
    case.world.kill_agent(4);
    let armed = [(FAILPOINTS, "fs.create_file=kill@4")];
    case.world.restart_agent_with_env(3, &armed);
    let output = start_push(&case.world, &quorum)
        .finish_within(A_WHILE)
        .exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 committed, web4 stale, web5 stale"
    );
    assert_lost(&output, "web4", 1);
    let absent = output.json_member("web5");
    assert_eq!(absent["error"]["code"], "FX0301", "{}", output.describe());
    assert_eq!(absent["generation"], 1, "{}", output.describe());
    // A third one dies in the middle: two votes of three.
    edit(&case.world, 3);
    let before = case.world.states("site");
    case.world
        .restart_agent_with_env(2, &[(FAILPOINTS, SLOW_PREPARE)]);
    let mut push = start_push(&case.world, &quorum);
    wait_for_phase(&mut push, "web3", "preparing");
    case.world.kill_agent(2);
    let output = push.finish_within(SOON).exits(1);
    assert_eq!(
        output.outcomes(),
        "web1 aborted, web2 aborted, web3 stale, web4 stale, web5 stale"
    );
    assert_lost(&output, "web3", 2);
    case.world.assert_untouched("site", &before);
    (2..5).for_each(|index| case.world.restart_agent(index));
    case.world.resync(&[]).success();
    case.assert_all(&case.new);
    case.world.push("site", &quorum).all("committed");
    case.world.assert_delivered("site");
    case.world.assert_clean("site");
}

#[test]
fn a_member_killed_after_its_vote_counts_and_is_in_doubt() {
    let mut case = Case::start(3, "in-place");
    let words = ["push", "platform", "site", "--json"];
    let armed = [(FAILPOINTS, "hub.decision.before=pause:8000")];
    let mut push = case.world.start_fanout(&words, &armed);
    for name in ["web1", "web2", "web3"] {
        wait_for_phase(&mut push, name, "voted");
    }
    case.world.kill_agent(2);
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 in-doubt"
    );
    let error = &output.json_member("web3")["error"];
    assert_eq!(error["code"], "FX0501", "{}", output.describe());
    back_again(case, true);
}

#[test]
fn a_member_killed_after_its_vote_is_in_doubt_about_an_abort_as_well() {
    let mut case = Case::start(3, "switched");
    let no = "member.prepare.sync=pause:10000,member.prepare.vote=error:EROFS";
    case.world.restart_agent_with_env(1, &[(FAILPOINTS, no)]);
    let mut push = start_push(&case.world, &[]);
    wait_for_phase(&mut push, "web3", "voted");
    case.world.kill_agent(2);
    let output = push.finish_within(A_WHILE).exits(1);
    assert_eq!(
        output.outcomes(),
        "web1 aborted, web2 failed, web3 in-doubt"
    );
    let code = |name: &str| output.json_member(name)["error"]["code"].clone();
    assert_eq!(code("web1"), "FX0502", "{}", output.describe());
    assert_eq!(code("web2"), "FX0402", "{}", output.describe());
    assert_eq!(code("web3"), "FX0501", "{}", output.describe());
    case.world.restart_agent(1);
    back_again(case, false);
}

/// Its vote is on its way when the deadline decides without it: nobody tells it abort while the
/// others commit (I3). It is left behind, asks when it is back, and hears what was decided.
#[test]
fn a_vote_that_comes_after_the_decision_is_settled_by_it() {
    let mut case = Case::start(3, "switched");
    let slow = "member.prepare.sync=pause:2000";
    case.world.restart_agent_with_env(2, &[(FAILPOINTS, slow)]);
    let mut push = start_push(&case.world, &["--deadline", "20s"]);
    wait_for_phase(&mut push, "web3", "preparing");
    case.world.stop_agent(2);
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 committed, web3 stale"
    );
    case.world.go_on_with_agent(2);
    let state = case.world.live(2, "site").with_file_name(".site.fanout");
    let is_voted = || state.join("journal/vote").exists();
    assert!(wait_until(A_WHILE, is_voted), "it never voted");
    // The session that voted has to end before another may speak for the tree.
    let resync = case.world.resync(&[]);
    let said = resync.everything_said();
    assert!(said.contains("it was committed"), "{said}");
    case.world.assert_delivered("site");
}

#[test]
fn a_member_that_is_stopped_for_less_than_a_minute_is_waited_for() {
    let mut case = Case::start(2, "switched");
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "fs.create_file=pause:1000")]);
    let mut push = start_push(&case.world, &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    case.world.stop_agent(1);
    // Not a wait for something: this is how long it is away.
    std::thread::sleep(Duration::from_secs(40));
    assert!(push.is_running(), "{}", push.output().describe());
    case.world.go_on_with_agent(1);
    push.finish_within(A_WHILE).all("committed");
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

#[test]
fn a_member_without_progress_for_a_minute_is_detached_and_the_others_go_on() {
    let mut case = Case::start(2, "switched");
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "fs.create_file=pause:1000")]);
    let mut push = start_push(&case.world, &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    case.world.stop_agent(1);
    let start = Instant::now();
    let output = push.finish_within(A_WHILE).exits(3);
    let took = start.elapsed().as_secs();
    assert!((58..75).contains(&took), "{took} s\n{}", output.describe());
    assert_eq!(output.outcomes(), "web1 committed, web2 stale");
    let member = output.json_member("web2");
    assert_eq!(member["error"]["code"], "FX0309", "{}", output.describe());
    assert_eq!(member["generation"], 1, "{}", output.describe());
    // It comes back by itself, finds that nobody waits, and is brought along.
    case.world.go_on_with_agent(1);
    case.world.resync(&["--wait"]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

#[test]
fn a_member_that_is_not_ready_at_the_deadline_is_left_behind_and_told_so() {
    let mut case = Case::start(2, "switched");
    case.world
        .restart_agent_with_env(1, &[(FAILPOINTS, "fs.create_file=pause:2000")]);
    let output = start_push(&case.world, &["--deadline", "6s"])
        .finish_within(A_WHILE)
        .exits(3);
    assert_eq!(output.outcomes(), "web1 committed, web2 stale");
    let error = &output.json_member("web2")["error"];
    assert_eq!(error["code"], "FX0310", "{}", output.describe());
    back_to_two(case);
}

fn back_to_two(mut case: Case) {
    case.world.restart_agent(1);
    case.world.resync(&[]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}

/// Two members on hosts of their own, with a change to push, and the second one slow.
fn on_hosts_with_a_slow_member() -> World {
    let mut world = World::with(2).on_hosts().start();
    site().write_to(&world.source("site"));
    world.add_platform("site", &[]).success();
    world.push("site", &[]).all("committed");
    edit(&world, 2);
    let slow = "fs.create_file=pause:1000";
    world.restart_agent_with_env(1, &[(FAILPOINTS, slow)]);
    world
}

#[test]
fn netns_a_killed_agent_on_another_host_is_noticed_within_seconds() {
    let mut world = on_hosts_with_a_slow_member();
    let mut push = start_push(&world, &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    world.kill_agent(1);
    let start = Instant::now();
    let output = push.finish_within(A_WHILE).exits(3);
    let took = start.elapsed();
    assert!(took < SOON, "noticed after {took:?}\n{}", output.describe());
    assert_lost(&output, "web2", 1);
}

/// A system answers one packet to a closed port in a second, and the session's own may always be the
/// one. So it must be enough: here nothing else is ever answered.
#[test]
fn netns_a_killed_agent_is_noticed_by_what_answers_the_sessions_own_packets() {
    let mut world = on_hosts_with_a_slow_member();
    world.agent_host(1).drop_small_udp();
    let mut push = start_push(&world, &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    world.kill_agent(1);
    let start = Instant::now();
    let output = push.finish_within(A_WHILE).exits(3);
    let took = start.elapsed();
    assert!(took < SOON, "noticed after {took:?}\n{}", output.describe());
    assert_lost(&output, "web2", 1);
}

#[test]
fn netns_a_cable_that_is_out_for_half_a_minute_costs_no_member() {
    let world = on_hosts_with_a_slow_member();
    let mut push = start_push(&world, &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    world.agent_host(1).cut();
    // Not a wait for something: this is how long it is out.
    std::thread::sleep(Duration::from_secs(33));
    assert!(push.is_running(), "{}", push.output().describe());
    world.agent_host(1).mend();
    push.finish_within(A_WHILE).all("committed");
    world.assert_delivered("site");
}
