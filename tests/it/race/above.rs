//! Directories above the root are swapped, by somebody whom they belong to: the agent allows `/srv`,
//! and what lies between that and the root is the site's user's.

use super::{Ground, pushes};
use crate::support::attack::{Attack, SITE_USER, flip, swap, trap};
use crate::support::env::platform_root;
use crate::support::root_or_skip;
use crate::support::task::in_both_layouts;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

in_both_layouts!(
    no_push_follows_a_directory_above_the_root_that_becomes_a_symlink,
    no_tree_is_bound_outside_what_the_agent_allows,
);

fn settle(platforms: &Path, bait: &Path) {
    if fs::symlink_metadata(platforms).unwrap().is_symlink() {
        assert!(swap(platforms, bait), "the directory is back");
    }
    let _absent = fs::remove_file(bait);
}

fn no_push_follows_a_directory_above_the_root_that_becomes_a_symlink(layout: &str) {
    if !root_or_skip("becoming other users") {
        return;
    }
    let ground = Ground::new(layout, 0o755);
    let (platforms, srv) = ground.above();
    for own in [&platforms, &srv] {
        chown(own, Some(SITE_USER), Some(SITE_USER)).unwrap();
    }
    let bait = srv.join("bait");
    let outside = ground.guard.root().to_owned();
    let attacker = {
        let (platforms, bait) = (platforms.clone(), bait.clone());
        move |round: u64| {
            let hold = Duration::from_micros(200 + round % 3_000);
            (bait.exists() || trap(&outside, &bait)) && flip(&platforms, &bait, hold)
        }
    };
    let attack = Attack::new().by(SITE_USER, attacker);
    ground.work_under(attack, 0o755, |_| settle(&platforms, &bait));
}

/// The first push of each platform makes its root, and what lies above it.
fn no_tree_is_bound_outside_what_the_agent_allows(layout: &str) {
    if !root_or_skip("becoming other users") {
        return;
    }
    let ground = Ground::new(layout, 0o755);
    let (platforms, srv) = ground.above();
    chown(&srv, Some(SITE_USER), Some(SITE_USER)).unwrap();
    let bait = srv.join("bait");
    let outside = ground.guard.root().to_owned();
    let world = &ground.world;
    let names: Vec<String> = (0..pushes()).map(|nth| format!("site{nth}")).collect();
    for name in &names {
        fs::write(world.source(name).join("index.php"), name).unwrap();
        world.add_platform(name, &["--layout", layout]);
    }
    let attacker = || {
        let (platforms, bait, outside) = (platforms.clone(), bait.clone(), outside.clone());
        move |round: u64| {
            let hold = Duration::from_micros(200 + round % 1_000);
            (bait.exists() || trap(&outside, &bait)) && flip(&platforms, &bait, hold)
        }
    };
    let attack = Attack::new().by(SITE_USER, attacker());
    let outputs: Vec<_> = names.iter().map(|name| world.push(name, &[])).collect();
    let changes = attack.end();
    let done = outputs
        .iter()
        .filter(|output| output.code == Some(0))
        .count();
    eprintln!("{done} of {} were bound, {changes} changes", names.len());
    assert!(
        changes > 3 * pushes(),
        "only {changes} changes: no race at all"
    );
    ground.guard.assert_untouched();
    settle(&platforms, &bait);
    for name in &names {
        world.push(name, &[]).success();
        let live = world.agent_prefix(0).join(&platform_root(name)[1..]);
        assert_eq!(fs::read_to_string(live.join("index.php")).unwrap(), *name);
    }
    ground.guard.assert_untouched();
    // And removed, under the same.
    let attack = Attack::new().by(SITE_USER, attacker());
    let delete = |name: &str| world.fanout(&["delete", "platform", name, "--yes-delete", name]);
    for output in names.iter().map(|name| delete(name)) {
        assert!(matches!(output.code, Some(0..=5)), "{}", output.describe());
    }
    drop(attack);
    ground.guard.assert_untouched();
    settle(&platforms, &bait);
}
