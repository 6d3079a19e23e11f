//! How often a push waits for the answer of a member: on a line of 100 ms each time is 100 ms.
//!
//! Counted by the hub's connection, through which every control message goes, and printed in the
//! result. Packets can't be counted instead: acknowledgements come when timers say so. What the
//! handshake takes is not in it (one round trip of QUIC, and the agent's welcome).

use crate::support::env::World;
use crate::support::relay::{Line, Relay};
use crate::support::run::Output;
use crate::support::task::{in_both_layouts, put, site};
use std::time::Duration;

/// Nothing changed: Hello with Open, Leave.
const NOTHING_CHANGED: u64 = 2;
/// Hello with Open, Compare, Listings, Stage, three pings with Prepare, Decide, Keep.
const RELEASE: u64 = 7;
/// The member doesn't know the tree yet: an Open in vain, and Bind with another. It has nothing, so
/// Listings go with Compare, and there is no Keep.
const FIRST_PUSH: u64 = RELEASE + 1 - 2;

in_both_layouts!(round_trips_are_as_many_for_eight_members_and_any_depth_as_for_one);

#[track_caller]
fn assert_round_trips(world: &World, output: &Output, expected: u64) {
    for index in 0..world.agent_count() {
        let counted = output.member_number(world.agent_name(index), "round_trips");
        assert_eq!(counted, expected, "{}", output.describe());
    }
}

fn round_trips_are_as_many_for_eight_members_and_any_depth_as_for_one(layout: &str) {
    for agents in [1, 8] {
        let deep = site().file("a/b/c/d/e/f/g/h/i/j/k/l/deep.php", "<?php\n");
        let world = World::with_site(agents, &deep, &["--layout", layout]);
        let output = world.push("site", &[]).all("committed");
        assert_round_trips(&world, &output, FIRST_PUSH);
        for level in ["stat", "index", "content"] {
            let output = world.push("site", &["--level", level]).all("up-to-date");
            assert_round_trips(&world, &output, NOTHING_CHANGED);
        }
        let source = world.source("site");
        put(&source.join("a/b/c/d/e/f/g/h/i/j/k/l/deep.php"), "<?php 2");
        put(&source.join("core/boot.php"), "<?php boot_faster();\n");
        let output = world.push("site", &[]).all("committed");
        assert_round_trips(&world, &output, RELEASE);
    }
}

#[test]
fn a_round_trip_that_is_counted_takes_the_way_there_and_back() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let delay = Duration::from_millis(40);
    let line = Line {
        delay,
        ..Line::default()
    };
    let relay = Relay::start(world.agent_address(0), line, 1);
    let address = relay.address().to_string();
    world
        .fanout(&["edit", "server", "web1", "--address", &address])
        .success();
    let output = world.push("site", &[]).all("up-to-date");
    assert_round_trips(&world, &output, NOTHING_CHANGED);
    let elapsed_us = output.member_number("web1", "elapsed_us");
    let way_us = u64::try_from((delay * 2).as_micros()).unwrap();
    assert!(
        elapsed_us >= NOTHING_CHANGED * way_us,
        "{NOTHING_CHANGED} round trips of {way_us} us in {elapsed_us} us: not all of them are waits"
    );
}
