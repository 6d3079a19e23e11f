//! Balancers that fail while they are needed: fanout never takes out more than may be taken out, and
//! never believes that a member is out when it isn't.

use super::edge::{Edge, MEMBERS, PLAIN, is_ready, write_release};
use super::load::Kind;
use crate::support::run::{USUAL_TIME, wait_until};
use std::fs;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(90);

#[test]
fn a_balancer_that_forgets_and_members_that_come_and_go_leave_enough_in_rotation() {
    if !is_ready() {
        return;
    }
    let mut edge = Edge::start(PLAIN);
    let names = [edge.member(0).to_owned(), edge.member(1).to_owned()];
    let state = |edge: &Edge, index: usize| edge.states(MEMBERS).remove(&names[index]);
    let drain = |index: usize| ["drain", "server", names[index].as_str()];
    let ready = |index: usize| ["ready", "server", names[index].as_str()];

    // It is started anew in the middle of a drain, and knows nothing of it any more.
    let load = edge.load(&[(Kind::Read, 2), (Kind::Download, 4)]);
    std::thread::sleep(Duration::from_millis(700));
    let draining = edge.world.start_fanout(&drain(0), &[]);
    let is_told = || state(&edge, 0).as_deref() == Some("DRAIN");
    assert!(wait_until(USUAL_TIME, is_told));
    edge.haproxy.clear();
    let told = edge
        .world
        .agent_services(MEMBERS)
        .join("data/haproxy/servers.state");
    // Where it wasn't written yet, it will say what the new one knows: nothing.
    let _absent = fs::remove_file(told);
    edge.start_haproxy(MEMBERS);
    let said = draining.finish_within(LONG).success();
    assert_eq!(
        state(&edge, 0).as_deref(),
        Some("DRAIN"),
        "{}",
        said.describe()
    );
    drop(load);
    edge.fanout(&ready(0)).success();
    edge.wait_until_balanced();

    // Nobody answers at its socket: nothing is changed, and it is said.
    edge.haproxy.clear();
    let silent = edge.fanout(&drain(0)).exits(1).everything_said();
    assert!(silent.contains("FX0741"), "{silent}");
    edge.start_haproxy(MEMBERS);
    edge.wait_until_balanced();
    edge.fanout(&drain(0)).success();
    edge.fanout(&ready(0)).success();

    // A member that is down doesn't count, and one that is up again does.
    write_release(&edge.world, 2);
    let mark = edge.world.agent_services(1).join("data/drain");
    for _ in 0..3 {
        fs::write(&mark, "").unwrap();
        let is_down = || state(&edge, 1).is_some_and(|it| it.starts_with("DOWN"));
        assert!(wait_until(USUAL_TIME, is_down));
        let refused = edge.fanout(&drain(0)).exits(5).everything_said();
        assert!(refused.contains("FX0214"), "{refused}");
        assert_eq!(state(&edge, 0).as_deref(), Some("UP"));
        let refused = edge.world.push("shop", &["--rolling", "2"]).exits(5);
        assert!(
            refused.everything_said().contains("FX0214"),
            "{}",
            refused.describe()
        );
        fs::remove_file(&mark).unwrap();
        edge.wait_until_balanced();
    }

    // Two people at once, each with another member.
    for _ in 0..3 {
        let both = [0, 1].map(|index| edge.world.start_fanout(&drain(index), &[]));
        let done = both.map(|running| running.finish_within(LONG));
        let succeeded = done.iter().filter(|it| it.code == Some(0)).count();
        assert!(
            succeeded <= 1,
            "{} {}",
            done[0].describe(),
            done[1].describe()
        );
        let serving = edge.states(MEMBERS).into_values().filter(|it| it == "UP");
        assert!(serving.count() >= 1, "{:?}", edge.states(MEMBERS));
        for index in [0, 1] {
            edge.fanout(&ready(index)).success();
        }
        edge.wait_until_balanced();
    }
}
