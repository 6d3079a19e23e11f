//! A push leaves on every member what `rsync -aHAXS --numeric-ids --delete` makes of the source,
//! and sends only what no member has.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::task::{in_both_layouts, put, site};
use crate::support::tree::{self, Meta, Tree};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

in_both_layouts!(
    a_first_push_delivers_every_attribute_of_every_entry,
    a_second_push_sends_no_content,
    a_change_travels_alone,
    a_rename_or_a_copy_costs_no_content,
    a_change_of_attributes_costs_no_content,
    an_insertion_into_a_large_file_travels_as_a_delta,
    an_entry_may_change_its_kind,
    an_edit_that_keeps_size_and_mtime_is_delivered,
    many_files_come_and_go_at_once,
    a_further_name_that_becomes_the_only_one_keeps_its_attributes,
);

fn a_first_push_delivers_every_attribute_of_every_entry(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.generation(), 1);
    assert!(output.content_bytes() > 400_000, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_clean("site");
    let is_symlink = fs::symlink_metadata(world.live(0, "site"))
        .unwrap()
        .is_symlink();
    assert_eq!(is_symlink, layout == "switched");
}

fn a_second_push_sends_no_content(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let before = world.states("site");
    let output = world.push("site", &[]).all("up-to-date");
    assert_eq!(output.generation(), 1);
    assert_eq!(output.content_bytes(), 0);
    let sent = output.member_number("web1", "sent_bytes");
    assert!(sent < 20_000, "a no-op sent {sent} bytes");
    world.assert_untouched("site", &before);
}

fn a_change_travels_alone(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let source = world.source("site");
    put(&source.join("core/boot.php"), "<?php boot_faster();\n");
    put(&source.join("modules/new/new.module"), "<?php // new\n");
    fs::remove_file(source.join("modules/m07/m07.module")).unwrap();
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.generation(), 2);
    let content = output.content_bytes();
    assert!(0 < content && content < 4_000, "{content} bytes of content");
    let sent = output.member_number("web2", "sent_bytes");
    assert!(sent < 40_000, "{sent} bytes sent");
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn a_rename_or_a_copy_costs_no_content(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let source = world.source("site");
    fs::rename(source.join("modules"), source.join("core/modules")).unwrap();
    fs::copy(source.join("core/large.bin"), source.join("another.bin")).unwrap();
    let output = world
        .push("site", &["--allow-delete", "100"])
        .all("committed");
    assert_eq!(output.content_bytes(), 0, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn a_change_of_attributes_costs_no_content(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let source = world.source("site");
    let changed = Meta {
        mode: Some(0o600),
        owner: None,
        mtime: Some((1_234_567_890, 987_654_321)),
        xattrs: vec![(b"user.new".to_vec(), b"value".to_vec())],
    };
    changed.apply(&source.join("core/large.bin"));
    changed.apply(&source.join("core/boot.php"));
    tree::set_mtime(&source.join("latest"), 1_000_000_000, 1);
    tree::set_mtime(&source.join("core/empty"), 1_000_000_000, 2);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.content_bytes(), 0, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn an_insertion_into_a_large_file_travels_as_a_delta(layout: &str) {
    let mut content = pattern(11, 3_000_000);
    let source = site().file("data/large.bin", &content);
    let world = World::with_site(2, &source, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    content.splice(1_000_000..1_000_000, *b"a few bytes in the middle");
    put(&world.source("site").join("data/large.bin"), &content);
    let output = world.push("site", &[]).all("committed");
    for member in ["web1", "web2"] {
        let sent = output.member_number(member, "content_bytes");
        assert!(0 < sent && sent < 200_000, "{sent} bytes of content");
    }
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn an_entry_may_change_its_kind(layout: &str) {
    let source = Tree::new()
        .file("keep", "x")
        .file("a/file to dir", "was a file")
        .dir("a/dir to file/with/content")
        .file("a/dir to file/with/content/deep", "x")
        .symlink("a/link to dir", "nowhere")
        .dir("a/dir to link")
        .file("a/file to link", "was a file")
        .symlink("a/link to file", "file to link");
    let world = World::with_site(2, &source, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let below = world.source("site").join("a");
    fs::remove_dir_all(&below).unwrap();
    put(&below.join("file to dir/inside"), "now a directory");
    put(&below.join("dir to file"), "now a file");
    put(&below.join("link to dir/inside"), "now a directory");
    symlink("file to dir", below.join("dir to link")).unwrap();
    symlink("dir to file", below.join("file to link")).unwrap();
    put(&below.join("link to file"), "now a file");
    world
        .push("site", &["--allow-delete", "100"])
        .all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn an_edit_that_keeps_size_and_mtime_is_delivered(layout: &str) {
    let world = World::with_site(2, &site(), &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let path = world.source("site").join("core/boot.php");
    let before = fs::metadata(&path).unwrap();
    put(&path, "<?php BOOT();\n");
    tree::set_mtime(&path, before.mtime(), before.mtime_nsec());
    assert_eq!(fs::metadata(&path).unwrap().len(), before.len());
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    for index in 0..2 {
        let live = world.live(index, "site").join("core/boot.php");
        assert_eq!(fs::read(live).unwrap(), b"<?php BOOT();\n");
    }
}

fn a_further_name_that_becomes_the_only_one_keeps_its_attributes(layout: &str) {
    let source = site()
        .file("first", "one file")
        .mode(0o640)
        .xattr("user.note", "on both names")
        .hard_link("second", "first");
    let world = World::with_site(2, &source, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    fs::remove_file(world.source("site").join("first")).unwrap();
    let output = world.push("site", &[]).all("committed");
    assert_eq!(output.content_bytes(), 0, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn a_source_that_changes_during_the_push_is_read_again() {
    let world = World::with_site(1, &site(), &[]);
    let slow = [("FANOUT_FAILPOINTS", "hub.depot.put=pause:2500@1")];
    let push = world.start_fanout(&["push", "platform", "site", "--json"], &slow);
    // By now it was scanned, and its content is on the way into the depot.
    std::thread::sleep(Duration::from_millis(1_500));
    let source = world.source("site");
    put(
        &source.join("core/boot.php"),
        "<?php changed_meanwhile();\n",
    );
    put(
        &source.join("modules/m29/m29.module"),
        "<?php changed_meanwhile();\n",
    );
    let output = push.finish_within(Duration::from_secs(60));
    assert_eq!(output.code, Some(0), "{}", output.describe());
    world.assert_delivered("site");
}

fn many_files_come_and_go_at_once(layout: &str) {
    let old = (0..600).fold(Tree::new().file("keep", "x"), |tree, n| {
        tree.file(format!("old/d{}/f{n}", n % 20), format!("old content {n}"))
    });
    let world = World::with_site(2, &old, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let source = world.source("site");
    fs::remove_dir_all(source.join("old")).unwrap();
    let new = (0..600).fold(Tree::new(), |tree, n| {
        tree.file(format!("d{}/f{n}", n % 30), format!("new content {n}"))
    });
    new.write_to(&source.join("new"));
    world
        .push("site", &["--allow-delete", "621"])
        .all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}
