//! Random trees and random changes: what members have afterwards is what rsync would have made,
//! and whatever changes on a member is found and repaired.
//!
//! The seed is fixed, so that a failure can be looked at; `FANOUT_TEST_SEED` sets another.

use crate::support::env::World;
use crate::support::random::{apply_all, tree_changes, tree_spec};
use crate::support::snapshot::diff;
use crate::support::task::in_both_layouts;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

in_both_layouts!(
    random_changes_end_as_rsync_would_have_them,
    random_drift_is_found_and_repaired,
);

const ROUNDS: usize = 8;
const EVERYTHING: [&str; 3] = ["--allow-delete", "100000", "--allow-empty-source"];

fn runner(what: &str) -> TestRunner {
    let seed = std::env::var("FANOUT_TEST_SEED").unwrap_or_else(|_| "1".to_owned());
    eprintln!("FANOUT_TEST_SEED={seed}");
    let seed = blake3::hash(format!("{seed} {what}").as_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed.as_bytes());
    TestRunner::new_with_rng(Config::default(), rng)
}

fn one<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
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
