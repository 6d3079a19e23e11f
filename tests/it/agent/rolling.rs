//! A rolling push that is cut off: each member has one whole generation, and what is desired is the
//! one before until every batch has switched.

use super::crash::{Case, FAILPOINTS};
use crate::support::task::in_both_layouts;

in_both_layouts!(
    a_rolling_push_switches_batch_by_batch_and_decides_once,
    a_hub_killed_between_two_batches_leaves_whole_generations_and_the_old_one_desired,
    a_hub_killed_after_a_batch_was_decided_goes_on_with_the_next_push,
);

/// The generation that each member is at.
fn serials(case: &Case) -> Vec<u64> {
    let status = case.world.fanout(&["status", "--json"]).json_result();
    let members = status["platforms"][0]["members"]
        .as_array()
        .unwrap()
        .clone();
    let serial = |member: &serde_json::Value| member["generation"].as_u64().unwrap();
    members.iter().map(serial).collect()
}

fn a_rolling_push_switches_batch_by_batch_and_decides_once(layout: &str) {
    let case = Case::start(3, layout);
    let pushed = case.world.push("site", &["--rolling", "2"]).success();
    assert_eq!(pushed.all("committed").generation(), 2);
    case.assert_all(&case.new);
    assert_eq!(serials(&case), [2, 2, 2]);
    let back = ["rollback", "platform", "site", "--rolling", "1", "--yes"];
    case.world.fanout(&back).success();
    case.assert_all(&case.old);
    assert_eq!(serials(&case), [3, 3, 3]);
}

fn a_hub_killed_between_two_batches_leaves_whole_generations_and_the_old_one_desired(layout: &str) {
    let case = Case::start(3, layout);
    let env = [(FAILPOINTS, "hub.batch.before=kill@2")];
    let words = ["push", "platform", "site", "--rolling", "1"];
    let killed = case.world.fanout_with_env(&words, &env);
    assert_eq!(killed.code, None, "{}", killed.describe());
    let states = case.world.states("site");
    let is_new = |state: &Option<crate::support::snapshot::Snapshot>| {
        state.as_ref().is_some_and(|state| *state == case.new)
    };
    assert_eq!(
        states.iter().filter(|it| is_new(it)).count(),
        1,
        "one batch had switched"
    );
    // Nobody published anything, so a repair brings back what was published last.
    case.world.resync(&[]).success();
    case.assert_all(&case.old);
    assert_eq!(serials(&case), [1, 1, 1]);
    case.world
        .push("site", &["--rolling", "1"])
        .success()
        .all("committed");
    case.assert_all(&case.new);
}

fn a_hub_killed_after_a_batch_was_decided_goes_on_with_the_next_push(layout: &str) {
    let case = Case::start(3, layout);
    let env = [(FAILPOINTS, "hub.batch.after=kill@2")];
    let words = ["push", "platform", "site", "--rolling", "1"];
    let killed = case.world.fanout_with_env(&words, &env);
    assert_eq!(killed.code, None, "{}", killed.describe());
    // The second member voted and never heard: it learns what was decided, and ends at the new one.
    case.world.push("site", &["--rolling", "1"]).success();
    case.assert_all(&case.new);
    case.world.assert_clean("site");
}
