//! What a push may not touch: excluded, preserved and foreign entries, and local edits.

use crate::support::env::{World, platform_root};
use crate::support::oracle;
use crate::support::snapshot::{Compare, Snapshot};
use crate::support::task::{files_with, in_both_layouts, put, site};
use crate::support::tree::Tree;
use std::fs;
use std::path::Path;

const UPLOADS: [&str; 4] = ["--preserve", "/sites/*/files/", "--preserve", "/private"];

in_both_layouts!(
    excluded_names_are_neither_sent_nor_deleted_nor_drift,
    without_rules_of_its_own_a_platform_excludes_version_control,
    uploads_survive_everything_a_push_can_do,
    a_directory_with_uploads_stays_when_the_code_drops_it,
    preserved_content_in_the_source_is_refused_until_it_is_seeded,
    a_member_keeps_protecting_what_the_inventory_forgot,
    what_the_administrator_of_a_member_preserves_no_hub_touches,
    a_local_edit_is_replaced_and_kept_aside,
    a_local_addition_is_kept_aside,
);

fn excluded_names_are_neither_sent_nor_deleted_nor_drift(layout: &str) {
    let source = site()
        .file("a.log", "the hub's log")
        .file("core/b.log", "the hub's log")
        .file("cache/x", "the hub's cache")
        .file("core/cache/x", "not at the top: delivered");
    let rules = ["--exclude", "*.log", "--exclude", "/cache/"];
    let world = World::with_site(2, &source, &[&["--layout", layout][..], &rules].concat());
    world.push("site", &[]).all("committed");
    let live = world.live(0, "site");
    assert!(!live.join("a.log").exists() && !live.join("cache").exists());
    put(&live.join("core/local.log"), "web1's own log");
    put(&live.join("cache/page"), "web1's own cache");
    world.assert_clean("site");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    let live = world.live(0, "site");
    assert_eq!(
        fs::read(live.join("core/local.log")).unwrap(),
        b"web1's own log"
    );
    assert_eq!(
        fs::read(live.join("cache/page")).unwrap(),
        b"web1's own cache"
    );
    let scratch = tempfile::tempdir().unwrap();
    oracle::rsync_copy(
        &world.source("site"),
        scratch.path(),
        &["--exclude=*.log", "--exclude=/cache/"],
    );
    let expected = Snapshot::read(scratch.path());
    // The times of directories that hold what is excluded are not the push's.
    let compare = Compare::exact()
        .without_path("core/local.log")
        .without_path("cache")
        .without_directory_times();
    compare.assert_same(&expected, &world.snapshot(0, "site"));
    Compare::exact()
        .without_directory_times()
        .assert_same(&expected, &world.snapshot(1, "site"));
    world.assert_clean("site");
}

fn without_rules_of_its_own_a_platform_excludes_version_control(layout: &str) {
    let source = site()
        .file(".git/config", "[core]")
        .file("modules/m01/.svn/entries", "x");
    let world = World::with_site(1, &source, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let live = world.live(0, "site");
    assert!(!live.join(".git").exists() && !live.join("modules/m01/.svn").exists());
    world.configure("platforms.site", &["exclude = []"]);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

/// Puts uploads where a site would.
fn upload(world: &World, index: usize) {
    let live = world.live(index, "site");
    let name = world.agent_name(index);
    put(
        &live.join("sites/default/files/pictures/cat.jpg"),
        format!("a cat on {name}"),
    );
    put(
        &live.join("private/report.pdf"),
        format!("a report on {name}"),
    );
}

#[track_caller]
fn assert_uploads(world: &World, index: usize) {
    let live = world.live(index, "site");
    let name = world.agent_name(index);
    let read = |path: &str| fs::read_to_string(live.join(path)).unwrap_or_default();
    assert_eq!(
        read("sites/default/files/pictures/cat.jpg"),
        format!("a cat on {name}")
    );
    assert_eq!(read("private/report.pdf"), format!("a report on {name}"));
}

fn code_only() -> Compare {
    Compare::exact()
        .without_path("sites/default/files")
        .without_path("private")
        .without_directory_times()
}

fn uploads_survive_everything_a_push_can_do(layout: &str) {
    let options = [&["--layout", layout][..], &UPLOADS].concat();
    let world = World::with_site(2, &site(), &options);
    world.push("site", &[]).all("committed");
    let first = world.expected("site");
    (0..2).for_each(|index| upload(&world, index));
    let check = |what: &str, expected: &Snapshot| {
        eprintln!("after {what}");
        (0..2).for_each(|index| assert_uploads(&world, index));
        world.assert_all_have("site", expected, &code_only());
        world.assert_clean("site");
    };
    check("uploading", &first);
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    let second = world.expected("site");
    check("a push", &second);
    // Uploads after the paths moved to wherever the layout keeps them.
    put(
        &world.live(0, "site").join("private/report.pdf"),
        "a report on web1",
    );
    put(
        &world.live(1, "site").join("sites/default/files/new"),
        "uploaded later",
    );
    world.rollback("site", &[]).all("committed");
    check("a rollback", &first);
    world.resync(&["--level", "content"]).success();
    check("a resync", &first);
    assert_eq!(
        fs::read(world.live(1, "site").join("sites/default/files/new")).unwrap(),
        b"uploaded later"
    );
    let said = world
        .fanout(&["delete", "platform", "site", "--yes-delete", "site"])
        .success()
        .everything_said();
    assert!(
        said.contains("sites/default/files") && said.contains("private"),
        "the preserved paths are not listed\n{said}"
    );
    for index in 0..2 {
        let prefix = world.agent_prefix(index);
        let name = world.agent_name(index);
        for kept in [format!("a cat on {name}"), format!("a report on {name}")] {
            assert_eq!(files_with(&prefix, kept.as_bytes()).len(), 1, "{kept}");
        }
        assert_eq!(
            files_with(&prefix, b"<?php boot();\n").len(),
            0,
            "code is left"
        );
        let inside = walkdir::WalkDir::new(&prefix).into_iter();
        let mut names = inside.map(|entry| entry.unwrap().into_path());
        assert!(
            !names.any(|path| path.ends_with("gen")),
            "an empty gen/ is left"
        );
    }
}

fn a_directory_with_uploads_stays_when_the_code_drops_it(layout: &str) {
    let options = [&["--layout", layout][..], &UPLOADS].concat();
    let world = World::with_site(1, &site(), &options);
    world.push("site", &[]).all("committed");
    upload(&world, 0);
    fs::remove_dir_all(world.source("site").join("sites")).unwrap();
    let output = world
        .push("site", &["--allow-delete", "10"])
        .all("committed");
    let said = output.everything_said();
    assert!(
        said.contains("sites"),
        "nothing is said about what stays\n{said}"
    );
    let kept = &output.json_member("web1")["kept"];
    assert_eq!(*kept, serde_json::json!(["sites", "sites/default"]));
    assert_uploads(&world, 0);
    assert!(
        !world
            .live(0, "site")
            .join("sites/default/settings.php")
            .exists()
    );
    world.assert_clean("site");
    world.push("site", &[]).all("up-to-date");
}

fn preserved_content_in_the_source_is_refused_until_it_is_seeded(layout: &str) {
    let source = site()
        .file("sites/default/files/example.txt", "an example")
        .mode(0o664);
    let options = [&["--layout", layout][..], &UPLOADS].concat();
    let world = World::with_site(2, &source, &options);
    let said = world.push("site", &[]).refused("FX0110").everything_said();
    assert!(said.contains("sites/default/files"), "{said}");
    assert!(!world.live(0, "site").join("index.php").exists());
    world.configure("platforms.site", &["seed = true"]);
    world.push("site", &[]).all("committed");
    let seeded = |index| {
        world
            .live(index, "site")
            .join("sites/default/files/example.txt")
    };
    assert_eq!(fs::read(seeded(0)).unwrap(), b"an example");
    // From here on it is the member's.
    put(&seeded(0), "edited on web1");
    fs::remove_file(seeded(1)).unwrap();
    put(
        &world.live(1, "site").join("sites/default/files/other"),
        "x",
    );
    put(
        &world.source("site").join("sites/default/files/example.txt"),
        "a newer example",
    );
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world.push("site", &[]).all("committed");
    assert_eq!(fs::read(seeded(0)).unwrap(), b"edited on web1");
    assert!(!seeded(1).exists());
    world.assert_clean("site");
}

fn a_member_keeps_protecting_what_the_inventory_forgot(layout: &str) {
    let options = [&["--layout", layout][..], &UPLOADS].concat();
    let world = World::with_site(1, &site(), &options);
    world.push("site", &[]).all("committed");
    upload(&world, 0);
    world.configure("platforms.site", &["preserve = []"]);
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    let output = world.push("site", &["--allow-delete", "1000"]);
    assert_ne!(output.code, Some(70), "{}", output.describe());
    assert_uploads(&world, 0);
    let restored = world.resync(&["--level", "content"]);
    assert_ne!(restored.code, Some(70), "{}", restored.describe());
    assert_uploads(&world, 0);
}

fn what_the_administrator_of_a_member_preserves_no_hub_touches(layout: &str) {
    let mut world = World::with_agents(1);
    let config = world.agent_dir(0).join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let preserve = format!(
        "\n[preserve]\n\"{}\" = [\"/uploads/\"]\n",
        platform_root("site")
    );
    fs::write(&config, text + &preserve).unwrap();
    world.restart_agent(0);
    site().write_to(&world.source("site"));
    world.add_platform("site", &["--layout", layout]);
    world.push("site", &[]).all("committed");
    put(&world.live(0, "site").join("uploads/a.jpg"), "a cat");
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world
        .push("site", &["--allow-delete", "1000"])
        .all("committed");
    let read =
        || fs::read_to_string(world.live(0, "site").join("uploads/a.jpg")).unwrap_or_default();
    assert_eq!(read(), "a cat");
    world.rollback("site", &[]).all("committed");
    assert_eq!(read(), "a cat");
    world.assert_clean("site");
}

/// The directory in which the agent or the tree keeps what was overwritten.
#[track_caller]
fn assert_kept_aside(world: &World, index: usize, content: &[u8]) {
    let places = files_with(&world.dir().join(world.agent_name(index)), content);
    let is_aside = |path: &&std::path::PathBuf| {
        path.components()
            .any(|component| component.as_os_str() == "overwritten")
    };
    assert!(
        places.iter().any(|path| is_aside(&path)),
        "the edit is not kept aside, but at {places:?}"
    );
}

fn a_local_edit_is_replaced_and_kept_aside(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    // By a new file, as editors do, and in place, as `>>` does.
    let live = world.live(0, "site");
    fs::remove_file(live.join("core/boot.php")).unwrap();
    put(&live.join("core/boot.php"), "<?php edited on web1\n");
    put(&live.join("index.php"), "<?php written over on web1\n");
    let source = world.source("site");
    put(&source.join("core/boot.php"), "<?php boot(2);\n");
    put(&source.join("index.php"), "<?php index(2);\n");
    let output = world.push("site", &[]).all("committed");
    let said = output.everything_said();
    assert!(
        said.contains("core/boot.php"),
        "the edit is not reported\n{said}"
    );
    let kept = output.json_member("web1")["kept_aside"].clone();
    let kept = Path::new(kept.as_str().unwrap_or_default());
    assert_eq!(
        fs::read(kept.join("core/boot.php")).unwrap(),
        b"<?php edited on web1\n",
        "the place that is told is not the place where it is"
    );
    world.assert_delivered("site");
    world.assert_clean("site");
    assert_kept_aside(&world, 0, b"<?php edited on web1\n");
    assert_kept_aside(&world, 0, b"<?php written over on web1\n");
}

fn a_local_addition_is_kept_aside(layout: &str) {
    let world = World::with_site(1, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    put(
        &world.live(0, "site").join("core/hack.php"),
        "<?php added on web1\n",
    );
    put(
        &world.live(0, "site").join("extra/dir/hack.php"),
        "<?php added deep on web1\n",
    );
    put(
        &world.source("site").join("core/boot.php"),
        "<?php boot(2);\n",
    );
    world
        .push("site", &["--allow-delete", "10"])
        .all("committed");
    world.assert_delivered("site");
    assert_kept_aside(&world, 0, b"<?php added on web1\n");
    assert_kept_aside(&world, 0, b"<?php added deep on web1\n");
}

/// A docroot that was there before fanout.
fn existing_docroot(world: &World, index: usize) {
    let old = Tree::new()
        .dir("")
        .mode(0o755)
        .file("index.php", "<?php the old index\n")
        .file("core/boot.php", "<?php boot();\n")
        .file("legacy/report.php", "<?php a legacy\n")
        .file("favicon.ico", "icon");
    old.write_to(&world.live(index, "site"));
}

#[test]
fn an_existing_docroot_is_adopted_and_foreign_entries_stay_until_they_are_deleted() {
    let world = World::with_agents(2);
    site().write_to(&world.source("site"));
    (0..2).for_each(|index| existing_docroot(&world, index));
    world.add_platform("site", &["--layout", "in-place"]);
    let before = world.states("site");
    world.push("site", &[]).refused("FX0207");
    world.assert_untouched("site", &before);
    let said = world
        .fanout(&["adopt", "platform", "site", "--yes"])
        .success()
        .everything_said();
    assert!(
        said.contains("legacy") && said.contains("index.php"),
        "adopt lists neither what is foreign nor what a push would replace\n{said}"
    );
    // But for its own time: names are exchanged with the root for a trial.
    for (before, now) in before.iter().zip(world.states("site")) {
        let (Some(before), Some(now)) = (before, now) else {
            panic!("a docroot is gone")
        };
        Compare::exact().without_root().assert_same(before, &now);
    }
    // A result names what was left alone, as a plan does.
    let words = ["push", "platform", "site", "--allow-delete", "100"];
    let said = world.fanout(&words).success().text();
    assert!(
        said.contains("web1, web2: foreign, stays: legacy\n"),
        "{said}"
    );
    for index in 0..2 {
        let live = world.live(index, "site");
        assert_eq!(
            fs::read(live.join("legacy/report.php")).unwrap(),
            b"<?php a legacy\n"
        );
        assert_eq!(fs::read(live.join("favicon.ico")).unwrap(), b"icon");
        assert_kept_aside(&world, index, b"<?php the old index\n");
    }
    // The root holds foreign entries, so its time is left open.
    let compare = Compare::exact()
        .without_root()
        .without_path("legacy")
        .without_path("favicon.ico");
    world.assert_all_have("site", &world.expected("site"), &compare);
    world
        .push("site", &["--delete-foreign", "--allow-delete", "100"])
        .success();
    // The times of directories that held foreign entries were left open.
    let compare = Compare::exact().without_directory_times();
    world.assert_delivered_but("site", &compare);
}

#[test]
fn what_is_foreign_goes_on_request_even_if_nothing_else_changes() {
    let world = World::with_agents(1);
    site().write_to(&world.source("site"));
    let live = world.live(0, "site");
    site().write_to(&live);
    put(&live.join("legacy/report.php"), "<?php a legacy\n");
    world.add_platform("site", &["--layout", "in-place"]);
    world
        .fanout(&["adopt", "platform", "site", "--yes"])
        .success();
    world.push("site", &[]).success();
    world.push("site", &[]).all("up-to-date");
    assert!(live.join("legacy").exists());
    world
        .push("site", &["--delete-foreign", "--allow-delete", "10"])
        .success();
    assert!(!live.join("legacy").exists());
    world.assert_delivered("site");
}

#[test]
fn what_was_pushed_as_switched_is_not_adopted() {
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let inventory = world.hub_dir().join("fanout.toml");
    let before = fs::read(&inventory).unwrap();
    let output = world.fanout(&["adopt", "platform", "site", "--yes"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    assert_eq!(fs::read(&inventory).unwrap(), before);
}

#[test]
fn an_adopted_root_stays_a_directory_with_the_same_inode() {
    use std::os::unix::fs::MetadataExt;
    let world = World::with_agents(1);
    site().write_to(&world.source("site"));
    existing_docroot(&world, 0);
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let before = inode(&world.live(0, "site"));
    world.add_platform("site", &["--layout", "in-place"]);
    world
        .fanout(&["adopt", "platform", "site", "--yes"])
        .success();
    world
        .push("site", &["--allow-delete", "100"])
        .all("committed");
    assert_eq!(inode(&world.live(0, "site")), before);
    assert!(platform_root("site").ends_with("/site"));
}

#[test]
fn owner_and_modes_of_the_platform_apply_on_the_members() {
    if !crate::support::root_or_skip("foreign owners") {
        return;
    }
    let world = World::with_site(1, &site(), &["--owner", "root:www-data"]);
    world.configure("platforms.site", &["dirs = \"0750\"", "files = \"0640\""]);
    world.push("site", &[]).all("committed");
    let live = world.snapshot(0, "site");
    let www_data = 33;
    for path in live.paths().map(<[u8]>::to_vec).collect::<Vec<_>>() {
        let entry = live.entry(&path).unwrap();
        assert_eq!(
            (entry.user, entry.group),
            (0, www_data),
            "{}",
            path.escape_ascii()
        );
    }
    assert_eq!(live.entry("core").unwrap().mode, 0o750);
    assert_eq!(live.entry("index.php").unwrap().mode, 0o640);
    world.assert_clean("site");
    world.push("site", &[]).all("up-to-date");
}
