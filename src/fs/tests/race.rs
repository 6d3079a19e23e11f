//! Somebody with write access to the tree swaps things while we work (invariant I5).

use super::{Place, beside, name, path, symlink, until_met};
use crate::fs::walk::{Verdict, WalkTrouble, walk};

const ROUNDS: usize = 4_000;

/// Runs `work` while a thread exchanges `tree/a/victim`, a directory, with `tree/a/trap`, a symlink
/// to the outside.
fn while_flipping(work: impl FnOnce(&Place)) {
    let place = Place::new();
    let a = place.dir.create_dir(&name("a"), 0o755).unwrap();
    drop(a.create_dir(&name("victim"), 0o755).unwrap());
    symlink(&place.outside(), place.path("a/trap"));
    let flip = || a.exchange(&name("victim"), &a, &name("trap")).unwrap();
    beside(flip, || work(&place));
    place.assert_outside_is_untouched();
}

#[test]
fn no_write_gets_out_through_a_directory_that_turns_into_a_symlink() {
    while_flipping(|place| {
        let (mut in_time, mut refused) = (0, 0);
        until_met(ROUNDS, || {
            match place.dir.open_dir_at(&path("a/victim")) {
                Ok(dir) => {
                    in_time += 1;
                    let entry = name("entry");
                    drop(dir.create_file(&entry, 0o600).unwrap());
                    drop(dir.create_dir(&name("sub"), 0o700));
                    dir.unlink(&entry).unwrap();
                    drop(dir.unlink(&name("secret")).unwrap_err());
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.is_symlink(), "{error:?}");
                }
            }
            in_time > 0 && refused > 0
        });
    });
}

#[test]
fn no_walk_sees_what_lies_outside() {
    while_flipping(|place| {
        for _ in 0..ROUNDS / 4 {
            let walked = walk(&place.dir, |_, _, _| Verdict::Descend).unwrap();
            let mut entries = walked.dirs.iter().flat_map(|dir| &dir.entries);
            assert!(entries.all(|entry| entry.name.as_bytes() != b"secret"));
        }
    });
}

#[test]
fn no_removal_reaches_what_lies_outside() {
    while_flipping(|place| {
        let a = place.dir.open_dir(&name("a")).unwrap();
        for _ in 0..ROUNDS {
            // The names are removed under the hands of the other, who puts them back.
            let doomed = place.dir.create_dir(&name("doomed"), 0o755).unwrap();
            drop(doomed.create_dir(&name("x"), 0o755).unwrap());
            symlink(&place.outside(), place.path("doomed/y"));
            let removal = std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..4 {
                        drop(doomed.exchange(&name("x"), &doomed, &name("y")));
                    }
                });
                place.dir.remove_tree(&name("doomed"))
            });
            removal.unwrap();
        }
        drop(a);
    });
}

#[test]
fn a_walk_beside_a_busy_writer_ends_with_problems_at_worst() {
    let place = Place::new();
    let rival = || {
        let busy = place.dir.create_dir(&name("busy"), 0o755).unwrap();
        for count in 0..20 {
            drop(busy.create_dir(&name(format!("d{count}")), 0o755).unwrap());
            busy.symlink(b"x", &name(format!("l{count}"))).unwrap();
        }
        place.dir.remove_tree(&name("busy")).unwrap();
    };
    beside(rival, || {
        for _ in 0..300 {
            let walked = walk(&place.dir, |_, _, _| Verdict::Descend).unwrap();
            for problem in walked.problems {
                assert_eq!(problem.what, WalkTrouble::Vanished);
            }
        }
    });
}
