//! What the network does to a push: lines that lose, repeat and reorder, cables that are cut in one
//! direction or both at the worst moments, and hubs and agents that come back in any order. Every
//! member ends in one known state (I9), and none waits for another.

use super::crash::{Case, FAILPOINTS, edit};
use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::relay::{Line, Relay};
use crate::support::run::Running;
use crate::support::snapshot::Compare;
use crate::support::task::{put, site};
use std::sync::atomic::Ordering;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_secs(120);

fn start_push(world: &World, options: &[&str], env: &[(&str, &str)]) -> Running {
    let words = [&["push", "platform", "site", "--json"][..], options].concat();
    world.start_fanout(&words, env)
}

fn wait_for_phase(push: &mut Running, member: &str, phase: &str) {
    let line = format!(r#""member":"{member}","phase":"{phase}""#);
    push.wait_for(&line, A_WHILE);
}

/// Puts a bad line between the hub and every member.
fn on_lines(world: &World, line: Line) -> Vec<Relay> {
    let relay = |index: usize| {
        let relay = Relay::start(world.agent_address(index), line, index as u64);
        let address = relay.address().to_string();
        let words = [
            "edit",
            "server",
            world.agent_name(index),
            "--address",
            &address,
        ];
        world.fanout(&words).success();
        relay
    };
    (0..world.agent_count()).map(relay).collect()
}

fn bad_line_delivers(line: Line) {
    let world = World::with_site(2, &site(), &[]);
    let relays = on_lines(&world, line);
    for round in 0..3 {
        for file in 0..6 {
            let path = format!("media/{round}/{file}.bin");
            put(
                &world.source("site").join(path),
                pattern(round * 10 + file, 150_000),
            );
        }
        edit(&world, usize::try_from(round).unwrap());
        world.push("site", &[]).all("committed");
        world.assert_delivered("site");
        let again = world.push("site", &[]).all("up-to-date");
        assert_eq!(again.content_bytes(), 0);
    }
    world.rollback("site", &[]).all("committed");
    world.assert_clean("site");
    for relay in &relays {
        let counts = relay.counts();
        let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        eprintln!("{counts:?}");
        assert!(line.lost == 0 || count(&counts.lost) > 10);
        assert!(line.repeated == 0 || count(&counts.repeated) > 10);
        assert!(line.reordered == 0 || count(&counts.reordered) > 10);
    }
}

#[test]
fn a_line_that_loses_packets_delivers_everything() {
    bad_line_delivers(Line {
        lost: 8,
        delay: Duration::from_millis(2),
        ..Line::default()
    });
}

#[test]
fn a_line_that_repeats_and_reorders_packets_delivers_everything() {
    bad_line_delivers(Line {
        repeated: 20,
        reordered: 20,
        delay: Duration::from_millis(4),
        ..Line::default()
    });
}

/// Members on hosts of their own, all but the first one slow, with a change to push.
fn on_hosts(agents: usize) -> World {
    let mut world = World::with(agents).on_hosts().start();
    site().write_to(&world.source("site"));
    world.add_platform("site", &[]).success();
    world.push("site", &[]).all("committed");
    edit(&world, 2);
    for index in 1..agents {
        world.restart_agent_with_env(index, &[(FAILPOINTS, "fs.create_file=pause:1500")]);
    }
    world
}

fn everybody_again(world: &mut World) {
    for index in 0..world.agent_count() {
        world.agent_host(index).mend();
        world.restart_agent(index);
    }
    world.push("site", &[]).success();
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn netns_a_cable_that_is_cut_in_one_direction_costs_that_member_and_no_other() {
    let mut world = on_hosts(3);
    let old = world.snapshot(1, "site");
    let mut push = start_push(&world, &["--deadline", "15s"], &[]);
    wait_for_phase(&mut push, "web2", "receiving");
    wait_for_phase(&mut push, "web3", "receiving");
    world.agent_host(1).cut_arriving();
    world.agent_host(2).cut_leaving();
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 stale, web3 stale",
        "{}",
        output.describe()
    );
    for name in ["web2", "web3"] {
        let error = &output.json_member(name)["error"];
        // Late, or found to be lost before.
        let code = error["code"].as_str().unwrap_or_default();
        assert!(
            matches!(code, "FX0308" | "FX0309" | "FX0310"),
            "{}",
            output.describe()
        );
    }
    for index in [1, 2] {
        Compare::exact().assert_same(&old, &world.snapshot(index, "site"));
    }
    // Cut before the connection: the others don't wait for it, and it is named.
    edit(&world, 3);
    let output = world.push("site", &[]).exits(3);
    assert_eq!(output.outcomes(), "web1 committed, web2 stale, web3 stale");
    for name in ["web2", "web3"] {
        let error = &output.json_member(name)["error"];
        let code = error["code"].as_str().unwrap_or_default();
        assert!(matches!(code, "FX0301" | "FX0302"), "{}", output.describe());
    }
    everybody_again(&mut world);
}

#[test]
fn netns_a_cable_that_is_cut_after_the_vote_leaves_a_doubt_that_is_settled() {
    let mut world = on_hosts(2);
    world.restart_agent(1);
    let old = world.snapshot(1, "site");
    let armed = [(FAILPOINTS, "hub.decision.before=pause:3000")];
    let mut push = start_push(&world, &[], &armed);
    wait_for_phase(&mut push, "web2", "voted");
    world.agent_host(1).cut();
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(output.outcomes(), "web1 committed, web2 in-doubt");
    let error = &output.json_member("web2")["error"];
    assert_eq!(error["code"], "FX0501", "{}", output.describe());
    Compare::exact().assert_same(&old, &world.snapshot(1, "site"));
    world.agent_host(1).mend();
    // Nothing is published for it: the decision that was made is told.
    world.resync(&["--wait"]).success();
    world.assert_delivered("site");
    everybody_again(&mut world);
}

/// Where hub and agents are killed: the phase of the second member, and what slows it down there.
const MOMENTS: [(&str, &str, &str); 3] = [
    ("receiving", "", "fs.create_file=pause:400"),
    ("voted", "hub.decision.before=pause:20000", ""),
    ("committing", "", "member.commit.forward=pause:20000"),
];

#[test]
fn hub_and_agents_may_come_back_in_any_order() {
    let mut case = Case::start(2, "switched");
    let mut round = 10;
    for (phase, hub_failpoints, agent_failpoints) in MOMENTS {
        for is_hub_first in [true, false] {
            round += 1;
            edit(&case.world, round);
            let agent = [(FAILPOINTS, agent_failpoints)];
            case.world.restart_agent_with_env(1, &agent);
            let mut push = start_push(&case.world, &[], &[(FAILPOINTS, hub_failpoints)]);
            wait_for_phase(&mut push, "web2", phase);
            if is_hub_first {
                push.kill();
                case.world.kill_agent(1);
                case.world.kill_agent(0);
            } else {
                case.world.kill_agent(0);
                case.world.kill_agent(1);
                push.kill();
            }
            // A hub without agents, then with one of two, then with both.
            let output = case.world.push("site", &[]);
            assert!(matches!(output.code, Some(1 | 3)), "{}", output.describe());
            case.world.restart_agent(usize::from(is_hub_first));
            let output = case.world.push("site", &[]);
            assert!(matches!(output.code, Some(0 | 3)), "{}", output.describe());
            case.world.restart_agent(usize::from(!is_hub_first));
            case.world.push("site", &[]).success();
            case.world.resync(&[]).success();
            case.world.assert_delivered("site");
            case.world.assert_clean("site");
        }
    }
}
