//! Brakes: refused with numbers and the one option that releases each, and nothing changed.

use crate::support::disk::SmallDisk;
use crate::support::env::{CLUSTER, World, platform_root};
use crate::support::oracle;
use crate::support::root_or_skip;
use crate::support::run::Output;
use crate::support::snapshot::Snapshot;
use crate::support::task::{in_both_layouts, put, site};
use crate::support::tree::Tree;
use std::fs;

in_both_layouts!(
    an_empty_or_missing_source_deletes_nothing,
    mass_deletion_needs_the_printed_count,
    a_full_disk_is_found_before_anything_is_written,
    inodes_that_are_used_up_are_found_before_anything_is_written,
);

fn an_empty_or_missing_source_deletes_nothing(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let source = world.source("site");
    let elsewhere = source.with_extension("away");
    fs::rename(&source, &elsewhere).unwrap();
    world.push("site", &[]).refused("FX0101");
    world.assert_untouched("site", &before);
    fs::create_dir(&source).unwrap();
    world.push("site", &[]).refused("FX0102");
    world.assert_untouched("site", &before);
    fs::remove_dir(&source).unwrap();
    fs::write(&source, "a file").unwrap();
    world.push("site", &[]).refused("FX0108");
    world.assert_untouched("site", &before);
    fs::remove_file(&source).unwrap();
    fs::rename(&elsewhere, &source).unwrap();
    world.push("site", &[]).all("up-to-date");
}

/// The count that the hint of a refusal names.
#[track_caller]
fn printed_count(output: &Output) -> String {
    let result = output.json_result();
    let hint = result["error"]["hint"].as_str().unwrap_or_default();
    let (_, count) = hint
        .split_once("--allow-delete ")
        .unwrap_or_else(|| panic!("no count in the hint {hint:?}\n{}", output.describe()));
    count.chars().take_while(char::is_ascii_digit).collect()
}

fn mass_deletion_needs_the_printed_count(layout: &str) {
    let big = (0..300).fold(Tree::new().file("index.php", "x"), |tree, n| {
        tree.file(format!("code/f{n:03}"), format!("content {n}"))
    });
    let world = World::with_site(2, &big, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let source = world.source("site");
    for n in 0..250 {
        fs::remove_file(source.join(format!("code/f{n:03}"))).unwrap();
    }
    let output = world.push("site", &[]).refused("FX0201");
    world.assert_untouched("site", &before);
    let count = printed_count(&output);
    assert_eq!(count, "250");
    let less = world
        .push("site", &["--allow-delete", "249"])
        .refused("FX0201");
    assert!(
        less.everything_said().contains("250"),
        "{}",
        less.describe()
    );
    world.assert_untouched("site", &before);
    world
        .push("site", &["--allow-delete", &count])
        .all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_vanished_top_level_directory_needs_the_printed_count() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    fs::remove_dir_all(world.source("site").join("sites")).unwrap();
    let output = world.push("site", &[]).refused("FX0202");
    assert!(
        output.everything_said().contains("sites"),
        "{}",
        output.describe()
    );
    world.assert_untouched("site", &before);
    world
        .push("site", &["--allow-delete", &printed_count(&output)])
        .all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_half_built_source_is_refused_until_it_is_done_or_allowed() {
    let world = World::with_site(1, &site(), &[]);
    let mark = world.source("site").join(".fanout-building");
    fs::write(&mark, "").unwrap();
    world.push("site", &[]).refused("FX0103");
    assert!(!world.live(0, "site").exists());
    world.push("site", &["--allow-half-built"]).all("committed");
    fs::remove_file(&mark).unwrap();
    assert!(world.live(0, "site").join(".fanout-building").exists());
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).success();
    world.assert_delivered("site");
}

#[test]
fn a_source_with_our_own_name_is_refused_until_it_is_excluded() {
    let world = World::with_site(1, &site(), &[]);
    put(&world.source("site").join(".fanout/state"), "a copy");
    world.push("site", &[]).refused("FX0111");
    assert!(!world.live(0, "site").exists());
    world
        .fanout(&["edit", "platform", "site", "--exclude", "/.fanout"])
        .success();
    world.push("site", &[]).all("committed");
    assert!(!world.live(0, "site").join(".fanout").exists());
}

#[test]
fn an_unfinished_merge_is_refused_until_it_is_done_or_allowed() {
    let source = site().file(
        ".git/MERGE_HEAD",
        "0123456789abcdef0123456789abcdef01234567\n",
    );
    let world = World::with_site(1, &source, &[]);
    world.push("site", &[]).refused("FX0105");
    assert!(!world.live(0, "site").exists());
    world
        .push("site", &["--allow-unfinished-merge"])
        .all("committed");
}

#[test]
fn a_source_without_a_required_file_is_refused() {
    let options = ["--require", "index.php", "--require", "vendor/autoload.php"];
    let world = World::with_site(1, &site(), &options);
    let said = world.push("site", &[]).refused("FX0104").everything_said();
    assert!(said.contains("vendor/autoload.php"), "{said}");
    assert!(!world.live(0, "site").exists());
    world.push("site", &["--skip-require"]).all("committed");
    put(&world.source("site").join("vendor/autoload.php"), "<?php\n");
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_locked_platform_is_left_alone_and_only_reported_by_resync() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    world
        .fanout(&["lock", "platform", "site", "--reason", "audit until noon"])
        .success();
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    fs::remove_file(world.live(0, "site").join("index.php")).unwrap();
    let before = world.states("site");
    let said = world.push("site", &[]).refused("FX0209").everything_said();
    assert!(said.contains("audit until noon"), "{said}");
    world.rollback("site", &["--to", "1"]).refused("FX0209");
    let resync = world.resync(&[]);
    assert_ne!(resync.code, Some(1), "{}", resync.describe());
    world.assert_untouched("site", &before);
    world.fanout(&["unlock", "platform", "site"]).success();
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_root_with_content_that_is_not_ours_is_refused() {
    for layout in ["switched", "in-place"] {
        let world = World::with_agents(1);
        site().write_to(&world.source("site"));
        Tree::new()
            .file("important.txt", "not fanout's")
            .write_to(&world.live(0, "site"));
        world.add_platform("site", &["--layout", layout]);
        let before = world.states("site");
        world.push("site", &[]).refused("FX0207");
        world.assert_untouched("site", &before);
    }
}

#[test]
fn an_empty_directory_as_root_is_taken() {
    let world = World::with_agents(1);
    site().write_to(&world.source("site"));
    fs::create_dir_all(world.live(0, "site")).unwrap();
    world.add_platform("site", &["--layout", "in-place"]);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

#[test]
fn a_root_that_changed_its_kind_is_refused_until_allowed() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let live = world.live(0, "site");
    fs::remove_file(&live).unwrap();
    Tree::new().file("who put this here", "x").write_to(&live);
    let before = world.states("site");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).refused("FX0203");
    world.assert_untouched("site", &before);
    world
        .push("site", &["--allow-kind-change", "--allow-delete", "100"])
        .all("committed");
    world.assert_delivered("site");
}

#[test]
fn roots_must_not_overlap_on_a_member() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let other = world.source("other");
    Tree::new().file("x", "x").write_to(&other);
    let inside = format!("{}/inside", platform_root("site"));
    let above = "/srv/platforms".to_owned();
    // The inventory already knows that these overlap; through a symlink only the member can.
    std::os::unix::fs::symlink("platforms", world.agent_prefix(0).join("srv/alias")).unwrap();
    for root in [
        inside,
        above,
        platform_root("site"),
        "/srv/alias/site".to_owned(),
    ] {
        let path = other.to_str().unwrap();
        let added = world.fanout(&[
            "add", "platform", "other", "--path", path, "--root", &root, "--on", CLUSTER,
        ]);
        if added.code == Some(0) {
            let output = world.push("other", &[]);
            assert!(
                matches!(output.code, Some(1 | 5)),
                "pushed into {root}\n{}",
                output.describe()
            );
            world.fanout(&["remove", "platform", "other"]).success();
        }
        world.assert_untouched("site", &before);
    }
    world.assert_clean("site");
}

#[test]
fn roots_outside_the_allowed_directories_are_refused_by_the_agent() {
    let world = World::with_agents(1);
    let source = world.source("other");
    Tree::new().file("x", "x").write_to(&source);
    for (name, root) in [
        ("etc", "/etc/fanout-test"),
        ("srv", "/srv"),
        ("up", "/srv/../opt/x"),
    ] {
        let path = source.to_str().unwrap();
        let added = world.fanout(&[
            "add", "platform", name, "--path", path, "--root", root, "--on", CLUSTER,
        ]);
        if added.code == Some(0) {
            let output = world.push(name, &[]);
            assert!(matches!(output.code, Some(1 | 5)), "{}", output.describe());
        }
        let prefix = world.agent_prefix(0);
        assert!(
            !prefix.join("etc").exists() && !prefix.join("opt").exists(),
            "{root}"
        );
        assert_eq!(
            fs::read_dir(prefix.join("srv")).unwrap().count(),
            0,
            "{root}"
        );
    }
}

fn a_full_disk_is_found_before_anything_is_written(layout: &str) {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let world = World::with_agents(2);
    let image = world.dir().join("small.img");
    let _disk = SmallDisk::mount(world.agent_prefix(1).join("srv"), &image, 48 << 20, &[]);
    site().write_to(&world.source("site"));
    world.add_platform("site", &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let large = crate::support::awkward::pattern(77, 60_000_000);
    put(&world.source("site").join("large.iso"), large);
    let output = world.push("site", &[]).refused("FX0204");
    assert!(
        output.everything_said().contains("web2"),
        "{}",
        output.describe()
    );
    world.assert_untouched("site", &before);
    // Even if somebody insists, the old generation stays live on both.
    let insisted = world.push("site", &["--skip-space-check"]);
    assert!(
        matches!(insisted.code, Some(1 | 3 | 5)),
        "{}",
        insisted.describe()
    );
    world.assert_untouched("site", &before);
    fs::remove_file(world.source("site").join("large.iso")).unwrap();
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    let expected: Snapshot = oracle::expected(&world.source("site"));
    world.assert_all_have(
        "site",
        &expected,
        &crate::support::snapshot::Compare::exact().without_path("lost+found"),
    );
}

#[test]
fn a_depot_without_room_stops_a_push_and_says_whose_disk_it_is() {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let world = World::with_site(1, &site(), &[]);
    let image = world.dir().join("small.img");
    let depot = world.hub_dir().join("state/depot");
    let _disk = SmallDisk::mount(depot, &image, 8 << 20, &[]);
    let large = crate::support::awkward::pattern(78, 20_000_000);
    put(&world.source("site").join("large.bin"), large);
    let output = world.push("site", &[]).exits(1);
    // The member's sender or the hub itself, whoever comes upon it first.
    let (result, member) = (output.json_result(), output.json_member("web1"));
    let said = [&result["error"]["code"], &member["error"]["code"]];
    let said: Vec<_> = said.iter().filter_map(|code| code.as_str()).collect();
    assert!(said.contains(&"FX0606"), "{said:?}\n{}", output.describe());
    assert!(
        said.iter().all(|code| ["FX0606", "FX0502"].contains(code)),
        "{said:?}"
    );
    assert!(!world.live(0, "site").join("large.bin").exists());
}

fn inodes_that_are_used_up_are_found_before_anything_is_written(layout: &str) {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let world = World::with_agents(2);
    let image = world.dir().join("small.img");
    let at = world.agent_prefix(1).join("srv");
    let _disk = SmallDisk::mount(at, &image, 48 << 20, &["-N", "256"]);
    site().write_to(&world.source("site"));
    world.add_platform("site", &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let many = world.source("site").join("many");
    for n in 0..400 {
        put(&many.join(format!("f{n:03}")), format!("{n}"));
    }
    let said = world.push("site", &[]).refused("FX0205").everything_said();
    assert!(said.contains("web2") && said.contains("inodes"), "{said}");
    world.assert_untouched("site", &before);
    // Even if somebody insists, the old generation stays live on both.
    let insisted = world.push("site", &["--skip-space-check"]);
    let insisted = insisted.exits(1);
    assert_eq!(insisted.outcomes(), "web1 aborted, web2 failed");
    assert_eq!(insisted.json_member("web2")["error"]["code"], "FX0401");
    let other = &insisted.json_member("web1")["error"];
    assert_eq!(other["code"], "FX0502", "{other}");
    assert!(
        other["message"].as_str().unwrap().contains("web2"),
        "{other}"
    );
    world.assert_untouched("site", &before);
    fs::remove_dir_all(many).unwrap();
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
}
