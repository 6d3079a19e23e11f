//! Debian's WordPress and MediaWiki and the generated platform, pushed, upgraded and rolled back.

use crate::support::corpus;
use crate::support::debian;
use crate::support::env::World;
use crate::support::snapshot::Compare;
use crate::support::task::in_both_layouts;
use std::fs;
use std::path::Path;

in_both_layouts!(
    debian_wordpress_reaches_eight_members_is_upgraded_and_rolled_back,
    a_generated_platform_reaches_two_members_and_its_next_release_costs_little,
);

/// How many members a real platform goes to.
const MEMBERS: usize = 8;

/// Two platforms to the same members, under one name each.
fn source_from(world: &World, name: &str, tree: &Path) {
    let source = world.source(name);
    fs::remove_dir(&source).expect("it was just made");
    debian::copy_tree(tree, &source);
}

fn debian_wordpress_reaches_eight_members_is_upgraded_and_rolled_back(layout: &str) {
    let world = World::with_agents(MEMBERS);
    source_from(&world, "wordpress", &debian::wordpress());
    let options = ["--layout", layout, "--require", "wp-load.php"];
    world.add_platform("wordpress", &options);
    world.push("wordpress", &[]).all("committed");
    world.assert_delivered("wordpress");
    world.push("wordpress", &[]).all("up-to-date");
    let old = world.expected("wordpress");
    let source = world.source("wordpress");
    fs::rename(&source, source.with_extension("old")).unwrap();
    debian::copy_tree(&debian::wordpress_upgraded(), &source);
    let output = world
        .push("wordpress", &["--allow-delete", "100000"])
        .all("committed");
    let whole = MEMBERS as u64 * world.expected("wordpress").content_bytes();
    assert!(
        output.content_bytes() < whole / 3,
        "{} of {whole}",
        output.content_bytes()
    );
    world.assert_delivered("wordpress");
    let back = world.rollback("wordpress", &[]).all("committed");
    assert_eq!(back.content_bytes(), 0);
    world.assert_all_have("wordpress", &old, &Compare::exact());
}

#[test]
fn debian_mediawiki_reaches_eight_members() {
    let world = World::with_agents(MEMBERS);
    source_from(&world, "mediawiki", &debian::mediawiki());
    world.add_platform("mediawiki", &[]);
    world.push("mediawiki", &[]).all("committed");
    world.assert_delivered("mediawiki");
    let again = world.push("mediawiki", &[]).all("up-to-date");
    assert_eq!(again.content_bytes(), 0);
}

fn a_generated_platform_reaches_two_members_and_its_next_release_costs_little(layout: &str) {
    let world = World::with_agents(2);
    let source = world.source("drupal");
    let size = corpus::generated_platform(&source, 4_000, 1).unwrap();
    world.add_platform("drupal", &["--layout", layout]);
    let first = world.push("drupal", &[]).all("committed");
    world.assert_delivered("drupal");
    let packed = first.content_bytes();
    assert!(
        packed < size.content_bytes * 2,
        "{packed} bytes for {size:?}"
    );
    corpus::next_release(&source, 2).unwrap();
    let second = world
        .push("drupal", &["--allow-delete", "100000"])
        .all("committed");
    assert!(
        second.content_bytes() * 8 < packed,
        "{} of {packed}",
        second.content_bytes()
    );
    world.assert_delivered("drupal");
    world.assert_clean("drupal");
}

#[test]
fn the_full_generated_platform_reaches_eight_members() {
    let world = World::with_agents(MEMBERS);
    let source = world.source("drupal");
    corpus::generated_platform(&source, corpus::FULL_FILES, 3).unwrap();
    world.add_platform("drupal", &[]);
    world.push("drupal", &[]).all("committed");
    world.push("drupal", &[]).all("up-to-date");
    let expected = world.expected("drupal");
    // All members got the same bytes; a look at two of them says enough here.
    for index in [0, MEMBERS - 1] {
        Compare::exact().assert_same(&expected, &world.snapshot(index, "drupal"));
    }
}
