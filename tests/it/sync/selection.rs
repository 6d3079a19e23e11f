//! Which platforms and members a command works on.

use crate::support::env::World;
use crate::support::task::{put, site};
use crate::support::tree::Tree;

#[test]
fn without_a_name_the_only_platform_is_meant_and_never_one_of_several() {
    let world = World::with_site(1, &site(), &[]);
    world
        .fanout(&["push", "platform", "--json"])
        .all("committed");
    world.assert_delivered("site");
    Tree::new().file("x", "x").write_to(&world.source("shop"));
    world.add_platform("shop", &[]);
    let output = world.fanout(&["push", "platform"]).exits(64);
    let said = output.everything_said();
    assert!(said.contains("site") && said.contains("shop"), "{said}");
    world.fanout(&["push", "platform", ""]).exits(64);
    world.fanout(&["push", "platform", "shpo"]).exits(64);
    assert!(!world.live(0, "shop").exists());
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let output = world
        .fanout(&["push", "platform", "--all", "--json"])
        .success();
    let results = output
        .json_lines()
        .into_iter()
        .filter(|line| line["type"] == "result");
    assert_eq!(results.count(), 2, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_delivered("shop");
}

#[test]
fn limit_and_skip_choose_members_and_the_others_are_untouched() {
    let world = World::with_site(3, &site(), &[]);
    world.push("site", &[]).all("committed");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let before = world.states("site");
    let output = world.push("site", &["--limit", "web2"]).success();
    assert_eq!(output.outcomes(), "web2 committed");
    let now = world.states("site");
    assert!(now[0] == before[0] && now[1] != before[1] && now[2] == before[2]);
    let output = world.push("site", &["--skip", "web1"]).success();
    assert_eq!(output.outcomes(), "web2 up-to-date, web3 committed");
    let unknown = world.push("site", &["--limit", "web9"]);
    assert_eq!(unknown.code, Some(64), "{}", unknown.describe());
    world.resync(&[]).success();
    world.assert_delivered("site");
}

#[test]
fn a_platform_lives_on_a_single_server_too() {
    let world = World::with_agents(2);
    site().write_to(&world.source("site"));
    let source = world.source("site");
    let words = [
        "add",
        "platform",
        "site",
        "--path",
        source.to_str().unwrap(),
        "--root",
        "/srv/platforms/site",
        "--on",
        "web2",
    ];
    world.fanout(&words).success();
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.outcomes(), "web2 committed");
    assert!(!world.live(0, "site").exists());
}
