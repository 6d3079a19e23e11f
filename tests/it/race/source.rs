//! The same on the hub: whoever writes in a source can't make the hub read, or deliver, what lies
//! outside of it.

use super::{Ground, assert_no_canary_below, pushes};
use crate::support::attack::{Attack, SITE_USER, flip, trap};
use crate::support::root_or_skip;
use std::time::Duration;

#[test]
fn a_source_that_turns_into_symlinks_delivers_nothing_from_outside() {
    if !root_or_skip("becoming other users") {
        return;
    }
    let ground = Ground::new("switched", 0o755);
    let source = ground.world.source("site");
    let outside = ground.guard.root().to_owned();
    let hold = Duration::from_micros(300);
    let directory = {
        let (source, outside) = (source.clone(), outside.clone());
        move |round: u64| {
            let name = ["modules/m03", "modules/m11", "core/empty", "sites"][round as usize % 4];
            let (name, bait) = (source.join(name), source.join(name).with_extension("trap"));
            trap(&outside, &bait) && {
                let is_done = flip(&name, &bait, hold);
                let _gone = std::fs::remove_file(&bait);
                is_done
            }
        }
    };
    let file = {
        let source = source.clone();
        move |round: u64| {
            let name = ["index.php", "core/boot.php", "modules/m07/m07.module"][round as usize % 3];
            let (name, bait) = (source.join(name), source.join(name).with_extension("trap"));
            trap(&outside.join("secret"), &bait) && {
                let is_done = flip(&name, &bait, hold);
                let _gone = std::fs::remove_file(&bait);
                is_done
            }
        }
    };
    let attack = Attack::new().by(SITE_USER, directory).by(SITE_USER, file);
    let (mut done, mut refused) = (0, 0);
    for round in 1..=2 * pushes() {
        let path = source.join(format!("modules/m{:02}/new-{round}", 12 + round % 8));
        std::fs::write(path, format!("{round}")).unwrap();
        let output = ground.world.push("site", &super::ANYTHING);
        let is_bug = output.everything_said().contains("FX0901");
        let is_known = matches!(output.code, Some(0..=5));
        assert!(is_known && !is_bug, "{}", output.describe());
        match output.code {
            Some(0) => done += 1,
            _ => refused += 1,
        }
    }
    let changes = attack.end();
    eprintln!("{done} pushes done, {refused} refused, {changes} changes");
    assert!(
        changes > 3 * pushes(),
        "only {changes} changes: no race at all"
    );
    ground.guard.assert_untouched();
    ground.assert_no_canary();
    assert_no_canary_below(&ground.world.hub_dir());
    ground.deliver();
    ground.guard.assert_untouched();
}
