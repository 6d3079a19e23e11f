//! Random trees and random changes: what members have afterwards is what rsync would have made,
//! and whatever changes on a member is found and repaired.
//!
//! A case is one tree with one sequence of changes to it. Many of them lie side by side in one
//! platform, so that one push, one look by rsync and one comparison serve them all.
//!
//! The seed is fixed, so that a failure can be looked at; `FANOUT_TEST_SEED` sets another, and
//! `FANOUT_TEST_TIMES` makes that many times as many rounds.

use crate::support::env::World;
use crate::support::random::{apply_all, tree_changes, tree_spec};
use crate::support::run::USUAL_TIME;
use crate::support::snapshot::{Compare, diff};
use crate::support::task::in_both_layouts;
use proptest::arbitrary::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

in_both_layouts!(
    random_changes_end_as_rsync_would_have_them,
    many_random_trees_end_as_rsync_would_have_them,
    a_push_that_was_broken_off_anywhere_ends_as_one_that_was_not,
    random_drift_is_found_and_repaired,
);

const ROUNDS: usize = 8;
/// Trees side by side in one platform.
const TREES: usize = 40;
pub(super) const EVERYTHING: [&str; 3] = ["--allow-delete", "100000", "--allow-empty-source"];

pub(super) fn runner(what: &str) -> TestRunner {
    let seed = std::env::var("FANOUT_TEST_SEED").unwrap_or_else(|_| "1".to_owned());
    eprintln!("FANOUT_TEST_SEED={seed}");
    let seed = blake3::hash(format!("{seed} {what}").as_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed.as_bytes());
    TestRunner::new_with_rng(Config::default(), rng)
}

pub(super) fn one<T: std::fmt::Debug>(
    runner: &mut TestRunner,
    strategy: impl Strategy<Value = T>,
) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

fn world(runner: &mut TestRunner, agents: usize, layout: &str) -> World {
    let world = World::with_agents(agents);
    one(runner, tree_spec(60)).write_to(&world.source("site"));
    world.add_platform("site", &["--layout", layout]);
    let special = r#"special_files = ["setuid", "devices", "fifos"]"#;
    world.configure("platforms.site", &[special, "exclude = []", "keep = 2"]);
    world.push("site", &EVERYTHING).success();
    world
}

fn random_changes_end_as_rsync_would_have_them(layout: &str) {
    let mut runner = runner(layout);
    let world = world(&mut runner, 2, layout);
    world.assert_delivered("site");
    for round in 0..ROUNDS {
        let changes = one(&mut runner, tree_changes(14));
        eprintln!("round {round}: {changes:#?}");
        apply_all(&changes, &world.source("site"));
        world.push("site", &EVERYTHING).success();
        world.assert_delivered("site");
        let again = world.push("site", &EVERYTHING).all("up-to-date");
        assert_eq!(again.content_bytes(), 0);
    }
    world.assert_clean("site");
}

pub(super) fn times() -> usize {
    let said = std::env::var("FANOUT_TEST_TIMES").ok();
    said.map_or(1, |said| said.parse().expect("a number"))
}

fn tree_name(nth: usize) -> String {
    format!("t{nth:02}")
}

/// A world with many trees in its platform.
fn forest(runner: &mut TestRunner, layout: &str) -> World {
    let world = World::with_agents(1);
    for nth in 0..TREES {
        one(runner, tree_spec(25)).write_to(&world.source("site").join(tree_name(nth)));
    }
    world.add_platform("site", &["--layout", layout]);
    let special = r#"special_files = ["setuid", "devices", "fifos"]"#;
    world.configure("platforms.site", &[special, "exclude = []", "keep = 3"]);
    world.push("site", &EVERYTHING).success();
    world
}

fn change_all(runner: &mut TestRunner, world: &World) {
    for nth in 0..TREES {
        let root = world.source("site").join(tree_name(nth));
        apply_all(&one(runner, tree_changes(6)), &root);
    }
}

fn many_random_trees_end_as_rsync_would_have_them(layout: &str) {
    let mut runner = runner(&format!("forest {layout}"));
    let world = forest(&mut runner, layout);
    let mut before = world.expected("site");
    let rounds = 14 * times();
    for round in 0..rounds {
        change_all(&mut runner, &world);
        world.push("site", &EVERYTHING).success();
        let expected = world.expected("site");
        Compare::exact().assert_same(&expected, &world.snapshot(0, "site"));
        let again = world.push("site", &EVERYTHING).all("up-to-date");
        assert_eq!(again.content_bytes(), 0);
        if round % 4 == 3 {
            // There and back: exactly the tree of the push before, without a transfer.
            let back = world.rollback("site", &[]).all("committed");
            Compare::exact().assert_same(&before, &world.snapshot(0, "site"));
            assert_eq!(back.content_bytes(), 0);
            world.push("site", &EVERYTHING).all("committed");
            Compare::exact().assert_same(&expected, &world.snapshot(0, "site"));
        }
        before = expected;
    }
    world.assert_clean("site");
    eprintln!("{} cases", rounds * TREES);
}

fn a_push_that_was_broken_off_anywhere_ends_as_one_that_was_not(layout: &str) {
    let mut runner = runner(&format!("resume {layout}"));
    let mut world = forest(&mut runner, layout);
    let rounds = 3 * times();
    let mut broken = 0;
    for _ in 0..rounds {
        change_all(&mut runner, &world);
        // Past what an agent does when it starts.
        let (at, nth) = one(&mut runner, (0..3_usize, any::<u8>()));
        let point = ["fs.create_file", "fs.hard_link", "fs.symlink"][at];
        let armed = format!("{point}=kill@{}", 10 + nth % 40);
        world.restart_agent_with_env(0, &[("FANOUT_FAILPOINTS", &armed)]);
        let words = [
            "push",
            "platform",
            "site",
            "--json",
            "--allow-delete",
            "100000",
        ];
        let output = world.start_fanout(&words, &[]).finish_within(USUAL_TIME);
        assert!(
            matches!(output.code, Some(0 | 1 | 3)),
            "{}",
            output.describe()
        );
        broken += usize::from(output.code != Some(0));
        world.restart_agent(0);
        world.push("site", &EVERYTHING).success();
        world.assert_delivered("site");
        assert_eq!(world.push("site", &EVERYTHING).content_bytes(), 0);
    }
    assert!(broken > 0, "no push was broken off");
    world.assert_clean("site");
    eprintln!(
        "{} cases, {broken} of {rounds} pushes broken off",
        rounds * TREES
    );
}

fn random_drift_is_found_and_repaired(layout: &str) {
    let mut runner = runner(layout);
    let world = world(&mut runner, 1, layout);
    let expected = world.expected("site");
    for round in 0..ROUNDS {
        let changes = one(&mut runner, tree_changes(6));
        eprintln!("round {round}: {changes:#?}");
        let live = std::fs::canonicalize(world.live(0, "site")).expect("it is live");
        apply_all(&changes, &live);
        let differences = diff(&expected, &world.snapshot(0, "site"));
        let output = world.verify("site", &["--level", "content"]);
        let code = if differences.is_empty() { 0 } else { 2 };
        assert_eq!(
            output.code,
            Some(code),
            "{differences:#?}\n{}",
            output.describe()
        );
        world.resync(&["--level", "content"]).success();
        let left = diff(&expected, &world.snapshot(0, "site"));
        assert_eq!(left, Vec::<String>::new(), "drifted by {differences:#?}");
    }
    world.assert_clean("site");
}
