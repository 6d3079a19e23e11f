//! Names inside the tree are swapped, by the site's own user and by another one who may write there.

use super::Ground;
use crate::support::attack::{Attack, OTHER_USER, SITE_USER, flip, resolved, shift, swap, trap};
use crate::support::root_or_skip;
use crate::support::task::in_both_layouts;
use std::time::Duration;

in_both_layouts!(
    the_sites_own_user_gets_nobody_out_of_the_tree,
    another_user_gets_nobody_out_of_the_tree,
);

fn the_sites_own_user_gets_nobody_out_of_the_tree(layout: &str) {
    by(SITE_USER, layout, 0o755);
}

fn another_user_gets_nobody_out_of_the_tree(layout: &str) {
    by(OTHER_USER, layout, 0o777);
}

fn by(user: u32, layout: &str, dir_mode: u32) {
    if !root_or_skip("becoming other users") {
        return;
    }
    let ground = Ground::new(layout, dir_mode);
    let (root, attic) = (ground.root(), ground.attic());
    let outside = ground.guard.root().to_owned();
    let hold = Duration::from_micros(300);
    // A directory turns into a symlink, and back.
    let directory = {
        let (root, outside) = (root.clone(), outside.clone());
        move |round: u64| {
            let name =
                ["modules/m03", "modules/m05", "changing", "modules/m11"][round as usize % 4];
            resolved(&root).is_some_and(|live| {
                let bait = live.join(name).with_extension("trap");
                trap(&outside, &bait) && flip(&live.join(name), &bait, hold)
            })
        }
    };
    // So does a file.
    let file = {
        let (root, outside) = (root.clone(), outside.clone());
        move |round: u64| {
            let name = ["index.php", "core/boot.php", "modules/m07/m07.module"][round as usize % 3];
            resolved(&root).is_some_and(|live| {
                let bait = live.join(name).with_extension("trap");
                trap(&outside.join("secret"), &bait) && flip(&live.join(name), &bait, hold)
            })
        }
    };
    // A directory is moved out of the tree, and back; sometimes what stays is a symlink.
    let move_out = {
        let root = root.clone();
        move |round: u64| {
            resolved(&root).is_some_and(|live| {
                let (inside, away) = (live.join("modules/m09"), attic.join("m09"));
                let is_out = shift(&inside, &away);
                std::thread::sleep(hold);
                if is_out && round.is_multiple_of(4) {
                    let left = trap(&outside.join("deep"), &inside);
                    std::thread::sleep(hold);
                    return left && swap(&away, &inside);
                }
                is_out && shift(&away, &inside)
            })
        }
    };
    let attack = Attack::new()
        .by(user, directory)
        .by(user, file)
        .by(user, move_out);
    ground.work_under(attack, dir_mode, |_| {});
}
