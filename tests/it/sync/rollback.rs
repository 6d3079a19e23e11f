//! Rollback, kept generations, and the end of a platform's life.

use crate::support::env::World;
use crate::support::run::Output;
use crate::support::snapshot::{Compare, Snapshot};
use crate::support::task::{files_with, in_both_layouts, put, site};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

in_both_layouts!(
    a_rollback_restores_the_earlier_tree_and_sends_no_content,
    a_rollback_can_name_its_generation,
    a_bad_generation_is_passed_over,
    a_rollback_without_the_source_works,
    old_generations_are_collected_and_pinned_ones_stay,
    delete_takes_the_code_and_nothing_else,
    remove_only_forgets,
);

/// A platform with generations 1 to `count`, and what each of them looks like.
fn with_generations(layout: &str, count: usize, options: &[&str]) -> (World, Vec<Snapshot>) {
    let options = [&["--layout", layout], options].concat();
    let world = World::with_site(2, &site(), &options);
    let mut trees = Vec::new();
    for generation in 1..=count {
        next_generation(&world, generation);
        let output = world.push("site", &[]).all("committed");
        assert_eq!(output.generation(), u64::try_from(generation).unwrap());
        trees.push(world.expected("site"));
    }
    (world, trees)
}

fn next_generation(world: &World, number: usize) {
    let source = world.source("site");
    put(&source.join("version"), format!("{number}\n"));
    put(
        &source.join(format!("core/of-{number}/x.php")),
        vec![b'0' + u8::try_from(number).unwrap(); 9_000],
    );
    if number > 1 {
        fs::remove_dir_all(source.join(format!("core/of-{}", number - 1))).unwrap();
    }
}

fn a_rollback_restores_the_earlier_tree_and_sends_no_content(layout: &str) {
    let (world, trees) = with_generations(layout, 2, &[]);
    let output = world.rollback("site", &[]).all("committed");
    assert_eq!(output.content_bytes(), 0, "{}", output.describe());
    assert_eq!(output.generation(), 3);
    world.assert_all_have("site", &trees[0], &Compare::exact());
    world.assert_clean("site");
    // The source is still the second one: only a push publishes it again.
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.generation(), 4);
    world.assert_all_have("site", &trees[1], &Compare::exact());
}

fn a_rollback_can_name_its_generation(layout: &str) {
    let (world, trees) = with_generations(layout, 3, &[]);
    world.rollback("site", &["--to", "1"]).all("committed");
    world.assert_all_have("site", &trees[0], &Compare::exact());
    world.rollback("site", &["--to", "2"]).all("committed");
    world.assert_all_have("site", &trees[1], &Compare::exact());
    let before = world.states("site");
    let unknown = world.rollback("site", &["--to", "77"]);
    assert_eq!(unknown.code, Some(64), "{}", unknown.describe());
    world.assert_untouched("site", &before);
}

fn a_bad_generation_is_passed_over(layout: &str) {
    let (world, trees) = with_generations(layout, 3, &[]);
    world
        .fanout(&[
            "mark-bad",
            "platform",
            "site",
            "2",
            "--reason",
            "white page",
        ])
        .success();
    world.rollback("site", &[]).all("committed");
    world.assert_all_have("site", &trees[0], &Compare::exact());
    let before = world.states("site");
    world.rollback("site", &["--to", "2"]).refused("FX0604");
    world.assert_untouched("site", &before);
    let listed = generations(&world);
    let second = listed
        .iter()
        .find(|one| one["generation"] == 2)
        .expect("it is kept");
    assert_eq!(second["bad"], true, "{second}");
}

fn a_rollback_without_the_source_works(layout: &str) {
    let (world, trees) = with_generations(layout, 2, &[]);
    let source = world.source("site");
    fs::rename(&source, source.with_extension("away")).unwrap();
    world.rollback("site", &[]).all("committed");
    world.assert_all_have("site", &trees[0], &Compare::exact());
}

#[track_caller]
fn generations(world: &World) -> Vec<Value> {
    let output = world
        .fanout(&["generations", "platform", "site", "--json"])
        .success();
    let result = output.json_result();
    let list = result["generations"].as_array();
    list.unwrap_or_else(|| panic!("no generations\n{}", output.describe()))
        .clone()
}

#[track_caller]
fn serials(world: &World) -> Vec<u64> {
    let serial = |one: &Value| one["generation"].as_u64().expect("a serial");
    let mut serials: Vec<_> = generations(world).iter().map(serial).collect();
    serials.sort_unstable();
    serials
}

fn old_generations_are_collected_and_pinned_ones_stay(layout: &str) {
    let (world, trees) = with_generations(layout, 1, &["--keep", "2"]);
    world.fanout(&["pin", "platform", "site", "1"]).success();
    for number in 2..=5 {
        next_generation(&world, number);
        world.push("site", &[]).all("committed");
    }
    assert_eq!(serials(&world), [1, 4, 5]);
    world.rollback("site", &["--to", "1"]).all("committed");
    world.assert_all_have("site", &trees[0], &Compare::exact());
    world.fanout(&["unpin", "platform", "site", "1"]).success();
    next_generation(&world, 6);
    world.push("site", &[]).all("committed");
    assert_eq!(serials(&world), [6, 7]);
    // On the members, too: the content of what was collected is gone.
    for number in [2, 3, 4] {
        let content = vec![b'0' + number; 9_000];
        let left = files_with(&world.agent_prefix(0), &content);
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Everything below an agent's prefix but directories that were there before.
fn leftovers(world: &World, index: usize) -> Vec<PathBuf> {
    let srv = world.agent_prefix(index).join("srv");
    let entries = walkdir::WalkDir::new(&srv).min_depth(1).into_iter();
    entries
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| !path.ends_with("srv/platforms"))
        .collect()
}

fn delete_takes_the_code_and_nothing_else(layout: &str) {
    let (world, _) = with_generations(layout, 2, &[]);
    put(
        &world.agent_prefix(0).join("srv/platforms/neighbour/x"),
        "not ours",
    );
    let before = world.states("site");
    let unconfirmed = world.fanout(&["delete", "platform", "site"]);
    assert_eq!(unconfirmed.code, Some(64), "{}", unconfirmed.describe());
    let misspelled = world.fanout(&["delete", "platform", "site", "--yes-delete", "sit"]);
    assert_eq!(misspelled.code, Some(64), "{}", misspelled.describe());
    world
        .fanout(&["delete", "platform", "site", "--dry-run"])
        .success();
    world.assert_untouched("site", &before);
    world
        .fanout(&["delete", "platform", "site", "--yes-delete", "site"])
        .success();
    let neighbour = world.agent_prefix(0).join("srv/platforms/neighbour");
    assert_eq!(
        leftovers(&world, 0),
        [neighbour.clone(), neighbour.join("x")]
    );
    assert_eq!(leftovers(&world, 1), Vec::<PathBuf>::new());
    assert!(
        world.source("site").join("index.php").exists(),
        "the source is not the members'"
    );
    let gone = world.push("site", &[]);
    assert_eq!(gone.code, Some(64), "{}", gone.describe());
}

fn remove_only_forgets(layout: &str) {
    let (world, _) = with_generations(layout, 1, &[]);
    let before = world.states("site");
    let in_use = world.fanout(&["remove", "cluster", "front"]);
    assert_in_use(&in_use);
    assert_in_use(&world.fanout(&["remove", "server", "web1"]));
    let said = world
        .fanout(&["remove", "platform", "site"])
        .success()
        .everything_said();
    assert!(
        said.contains("web1") && said.contains("/srv/platforms/site"),
        "what stays where is not listed\n{said}"
    );
    world.assert_untouched("site", &before);
    world.fanout(&["remove", "cluster", "front"]).success();
    world.fanout(&["remove", "server", "web1"]).success();
    world.assert_untouched("site", &before);
}

#[track_caller]
fn assert_in_use(output: &Output) {
    assert_eq!(output.code, Some(1), "{}", output.describe());
    assert!(
        output.error_text().contains("FX0011"),
        "{}",
        output.describe()
    );
}

#[test]
fn with_one_generation_there_is_nothing_to_roll_back_to() {
    let (world, trees) = with_generations("switched", 1, &[]);
    let output = world.rollback("site", &[]);
    assert_eq!(output.code, Some(1), "{}", output.describe());
    world.assert_all_have("site", &trees[0], &Compare::exact());
}

#[test]
fn a_second_rollback_goes_further_back() {
    let (world, trees) = with_generations("switched", 3, &["--keep", "5"]);
    world.rollback("site", &[]).all("committed");
    world.assert_all_have("site", &trees[1], &Compare::exact());
    world.rollback("site", &[]).all("committed");
    world.assert_all_have("site", &trees[0], &Compare::exact());
}

#[test]
fn generations_tell_serial_label_and_author() {
    let (world, _) = with_generations("switched", 1, &[]);
    put(&world.source("site").join("version"), "two");
    world
        .push("site", &["--label", "release 2"])
        .all("committed");
    let listed = generations(&world);
    let second = listed.iter().find(|one| one["generation"] == 2).unwrap();
    assert_eq!(second["label"], "release 2");
    assert!(
        second["author"]
            .as_str()
            .is_some_and(|author| !author.is_empty()),
        "{second}"
    );
    let shown = world
        .fanout(&["generations", "platform", "site"])
        .success()
        .text();
    assert!(shown.contains("release 2"), "{shown}");
}

#[test]
fn the_clock_follows_a_source_only_where_it_is_asked_to_and_never_after_a_rollback() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let old = world.expected("site");
    put(&world.source("site").join("release.txt"), b"2");
    world.resync(&[]).success();
    world.assert_all_have("site", &old, &Compare::exact());
    let inventory = world.hub_dir().join("fanout.toml");
    let text = fs::read_to_string(&inventory).unwrap();
    let text = text.replacen("[platforms.site]", "[platforms.site]\nfollow = true", 1);
    fs::write(&inventory, text).unwrap();
    world.resync(&[]).success();
    world.assert_delivered("site");
    world
        .fanout(&["rollback", "platform", "site", "--yes"])
        .success();
    world.resync(&[]).success();
    world.assert_all_have("site", &old, &Compare::exact());
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}
