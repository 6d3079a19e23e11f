//! The depot's byte budget: what goes, what stays, and that it is said.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::run::Output;
use crate::support::snapshot::Compare;
use crate::support::task::put;
use crate::support::tree::Tree;
use std::path::Path;

/// Content that only one generation has.
const OF_EACH: usize = 400_000;

fn world() -> World {
    let source = Tree::new().file("index.php", "<?php 1;\n");
    World::with_site(1, &source, &["--keep", "10"])
}

/// Pushes generation `number`, which has content of its own.
#[track_caller]
fn push_next(world: &World, number: u64) -> Output {
    let path = world.source("site").join("media/photo.jpg");
    put(&path, pattern(number, OF_EACH));
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.generation(), number);
    output
}

/// The serials that are kept, oldest first.
fn kept(world: &World) -> Vec<u64> {
    let output = world.fanout(&["generations", "platform", "site", "--json"]);
    let listed = output.success().json_result()["generations"].clone();
    let listed = listed.as_array().expect("a list of generations").iter();
    let mut serials: Vec<u64> = listed.filter_map(|it| it["generation"].as_u64()).collect();
    serials.sort_unstable();
    serials
}

fn depot_bytes(world: &World) -> u64 {
    bytes_below(&world.hub_dir().join("state/depot"))
}

fn bytes_below(path: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(path).into_iter();
    let files = entries.map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(|it| it.is_file()).map(|it| it.len()).sum()
}

#[test]
fn the_oldest_generations_go_beyond_the_budget_and_it_is_said() {
    let world = world();
    world.configure("hub", &["depot_budget = \"1MiB\""]);
    push_next(&world, 1);
    let output = push_next(&world, 2);
    assert!(!output.everything_said().contains("FX0606"));
    assert_eq!(kept(&world), [1, 2]);
    let output = push_next(&world, 3);
    let said = output.everything_said();
    assert!(
        said.contains("FX0606") && said.contains("site #1"),
        "{said}"
    );
    assert_eq!(kept(&world), [2, 3]);
    assert!(depot_bytes(&world) <= 1 << 20, "{}", depot_bytes(&world));
    // What is gone is not offered, what stays is.
    let gone = world.rollback("site", &["--to", "1"]);
    assert_ne!(gone.code, Some(0), "{}", gone.describe());
    world.rollback("site", &["--to", "2"]).all("committed");
    assert_eq!(
        std::fs::read(world.live(0, "site").join("media/photo.jpg")).unwrap(),
        pattern(2, OF_EACH)
    );
}

#[test]
fn a_pinned_generation_stays_and_the_next_one_goes() {
    let world = world();
    world.configure("hub", &["depot_budget = \"1MiB\""]);
    push_next(&world, 1);
    let first = world.expected("site");
    let pin = ["pin", "platform", "site", "1"];
    world.fanout(&pin).success();
    push_next(&world, 2);
    let said = push_next(&world, 3).everything_said();
    assert!(said.contains("site #2"), "{said}");
    assert_eq!(kept(&world), [1, 3]);
    world.rollback("site", &["--to", "1"]).all("committed");
    world.assert_all_have("site", &first, &Compare::exact());
}

#[test]
fn the_desired_generation_stays_however_small_the_budget_is() {
    let mut world = world();
    world.configure("hub", &["depot_budget = \"1KiB\""]);
    push_next(&world, 1);
    let said = push_next(&world, 2).everything_said();
    assert!(
        said.contains("alone need") && said.contains("site #1"),
        "{said}"
    );
    assert_eq!(kept(&world), [2]);
    // It can be restored by the depot alone.
    world.kill_agent(0);
    let live = world.live(0, "site").join("media/photo.jpg");
    std::fs::remove_file(&live).unwrap();
    std::fs::remove_dir_all(world.source("site")).unwrap();
    world.restart_agent(0);
    world.resync(&[]).success();
    assert_eq!(std::fs::read(live).unwrap(), pattern(2, OF_EACH));
}
