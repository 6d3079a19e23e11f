//! A member is killed at every step of preparing and committing. Whoever looks at its root
//! meanwhile sees one of the two generations (with `in-place`, an old or a new entry under each
//! name), and after its restart it is where the hub decided.

use super::crash::{Case, FAILPOINTS, edit};
use crate::support::run::wait_until;
use crate::support::snapshot::{Compare, Snapshot};
use std::time::Duration;

const A_WHILE: Duration = Duration::from_secs(120);

/// Points that a commit of [`edit`] passes, before the vote and after it.
const BEFORE_THE_VOTE: [&str; 4] = [
    "member.prepare.journal",
    "member.prepare.sync",
    "member.prepare.vote",
    "durable.rename",
];
const SWITCHED: [&str; 9] = [
    "member.commit.forward",
    "member.generation",
    "member.switch",
    "member.switched",
    "member.commit.sync",
    "member.commit.record",
    "member.retire.stage",
    "member.retire.vote",
    "member.retire.journal",
];
const IN_PLACE: [&str; 12] = [
    "member.commit.forward",
    "member.put",
    "member.exchange",
    "member.exchange=kill@2",
    "member.take",
    "member.rmdir",
    "member.touch",
    "member.commit.sync",
    "member.commit.record",
    "member.retire.stage",
    "member.retire.vote",
    "member.retire.journal",
];

/// Kills the only member at `point` in a push of the change `number`; restarts it at once.
fn crash_at(case: &mut Case, point: &str, number: usize, is_decided: bool) -> Snapshot {
    let old = case.world.snapshot(0, "site");
    edit(&case.world, number);
    let new = case.world.expected("site");
    let armed = match point.contains('=') {
        true => point.to_owned(),
        false => format!("{point}=kill"),
    };
    case.world
        .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
    let push = case
        .world
        .start_fanout(&["push", "platform", "site", "--json"], &[]);
    case.world.wait_for_agent_to_end(0, A_WHILE);
    assert_is_old_or_new(case, &old, &new, point);
    case.world.restart_agent(0);
    let output = push.finish_within(A_WHILE);
    eprintln!("{point}: exit {:?} after {:?}", output.code, output.took);
    if is_decided {
        case.world.resync(&[]).success();
        case.assert_all(&new);
    } else {
        assert_eq!(output.code, Some(1), "{point}\n{}", output.describe());
        case.assert_all(&old);
        case.world.push("site", &[]).all("committed");
        case.assert_all(&new);
    }
    case.world.assert_clean("site");
    new
}

/// Each path is as in one of the two, or with `switched` all of them as in the same one.
#[track_caller]
fn assert_is_old_or_new(case: &Case, old: &Snapshot, new: &Snapshot, point: &str) {
    let mut lines = Vec::new();
    // The agent is dead: what is on the disk is what a visitor would see until it is back.
    let one_of_both = wait_until(Duration::from_secs(1), || {
        let now = case.world.snapshot(0, "site");
        lines = mixture(old, new, &now);
        lines.is_empty()
    });
    assert!(
        one_of_both,
        "{point}: neither old nor new:\n{}",
        lines.join("\n")
    );
}

fn mixture(old: &Snapshot, new: &Snapshot, now: &Snapshot) -> Vec<String> {
    let known: Vec<_> = old.paths().chain(new.paths()).map(<[u8]>::to_vec).collect();
    let mut lines = Vec::new();
    for path in now
        .paths()
        .filter(|path| !known.iter().any(|known| known == path))
    {
        lines.push(format!("{}: in neither", path.escape_ascii()));
    }
    for path in &known {
        let is = now.entry(path);
        // Times of directories are set at the end, and links are a property of several names.
        let same = |other: Option<&crate::support::snapshot::Entry>| match (is, other) {
            (Some(is), Some(other)) => is.kind == other.kind,
            (None, None) => true,
            _ => false,
        };
        if !same(old.entry(path)) && !same(new.entry(path)) {
            lines.push(format!("{}: as in neither", path.escape_ascii()));
        }
    }
    lines
}

fn crash_everywhere(layout: &str, decided: &[&str]) {
    let mut case = Case::start(1, layout);
    case.world.push("site", &[]).all("committed");
    let mut number = 2;
    let only = std::env::var("FANOUT_TEST_POINT").ok();
    for (points, is_decided) in [(&BEFORE_THE_VOTE[..], false), (decided, true)] {
        let wanted = |point: &&&str| only.as_deref().is_none_or(|only| only == **point);
        for point in points.iter().filter(wanted) {
            number += 1;
            crash_at(&mut case, point, number, is_decided);
        }
    }
    Compare::exact().assert_same(
        &case.world.expected("site"),
        &case.world.snapshot(0, "site"),
    );
}

#[test]
fn a_switched_member_survives_a_crash_at_every_point() {
    crash_everywhere("switched", &SWITCHED);
}

#[test]
fn an_in_place_member_survives_a_crash_at_every_point() {
    crash_everywhere("in-place", &IN_PLACE);
}
