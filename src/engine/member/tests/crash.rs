//! What is left after a death at any step.

use super::super::fault::counted::{fail_at, fail_once, failed};
use super::super::held::Known;
use super::super::live::no_exchange;
use super::super::testing::{Node, Staged, World, quick, snapshot};
use super::super::transaction::{CommitError, abort, commit, recover};
use super::{LAYOUTS, check_after, ready_in, rules};
use sync_proto::commit::Participant;
use sync_proto::wire::{Layout, Notice};

#[test]
fn a_commit_that_died_at_any_step_is_finished_by_repeating_it() {
    for (layout, exchange) in [
        (Layout::InPlace, true),
        (Layout::InPlace, false),
        (Layout::Switched, true),
        (Layout::Switched, false),
    ] {
        no_exchange::set(!exchange);
        for step in 0.. {
            let (mut world, staged) = ready_in(quick(), layout);
            world.prepare(&staged).unwrap();
            fail_at(Some(step));
            let outcome = world.commit(staged.txn);
            fail_at(None);
            // Every path that is in both trees is there, whatever happened.
            for both in [
                "a.txt",
                "same.txt",
                "link",
                "hl/b",
                "sub/deep/one",
                "file_to_dir",
            ] {
                if (layout, exchange, both) == (Layout::InPlace, false, "file_to_dir") {
                    continue;
                }
                let there = world.root().join(both).symlink_metadata();
                assert!(there.is_ok(), "{layout:?} {step} {both}");
            }
            if outcome.is_ok() {
                assert!(step > 10, "{layout:?} {step}");
                break;
            }
            world.reopen();
            let recovered = recover(&world.place).unwrap();
            assert!(
                matches!(
                    recovered.participant,
                    Participant::Prepared { .. }
                        | Participant::Forward { .. }
                        | Participant::Done { .. }
                ),
                "{step}"
            );
            world.commit(staged.txn).unwrap();
            world.commit(staged.txn).unwrap();
            world.settle(&staged);
            check_after(&world, &staged);
            let recovered = recover(&world.place).unwrap();
            assert_eq!(recovered.participant, Participant::Done { txn: staged.txn });
        }
        no_exchange::set(false);
    }
}

#[test]
fn a_commit_that_dies_again_and_again_gets_there() {
    for layout in LAYOUTS {
        let (mut world, staged) = ready_in(quick(), layout);
        world.prepare(&staged).unwrap();
        let mut deaths = 0;
        loop {
            fail_at(Some(2 + deaths / 3));
            let outcome = world.commit(staged.txn);
            fail_at(None);
            if outcome.is_ok() {
                break;
            }
            deaths += 1;
            assert!(deaths < 200, "{layout:?} {outcome:?}");
            world.reopen();
        }
        check_after(&world, &staged);
    }
}

#[test]
fn a_prepare_that_died_at_any_step_leaves_the_tree_as_it_was() {
    for layout in LAYOUTS {
        for step in 0.. {
            let (mut world, staged) = ready_in(quick(), layout);
            let before = snapshot(&world.root());
            fail_at(Some(step));
            let outcome = world.prepare(&staged);
            fail_at(None);
            if outcome.is_ok() {
                assert!(step >= 3, "{layout:?} {step}");
                break;
            }
            assert_eq!(snapshot(&world.root()), before, "{layout:?} {step}");
            world.reopen();
            let recovered = recover(&world.place).unwrap();
            assert!(recovered.vote.is_none());
            assert_eq!(recovered.participant.unsettled(), None);
            // What is staged is still good for another try.
            world.prepare(&staged).unwrap();
            world.commit(staged.txn).unwrap();
            check_after(&world, &staged);
        }
    }
}

#[test]
fn an_abort_that_died_at_any_step_leaves_the_tree_as_it_was() {
    for layout in LAYOUTS {
        for step in 0.. {
            let (mut world, staged) = ready_in(quick(), layout);
            let before = snapshot(&world.root());
            let stage = snapshot(&stage_of(&world, &staged));
            world.prepare(&staged).unwrap();
            fail_at(Some(step));
            let outcome = abort(&world.place, staged.txn);
            fail_at(None);
            world.reopen();
            if outcome.is_err() {
                recover(&world.place).unwrap();
                abort(&world.place, staged.txn).unwrap();
            }
            assert_eq!(snapshot(&world.root()), before, "{layout:?} {step}");
            let names = |of: &std::collections::BTreeMap<_, _>| {
                of.keys().cloned().collect::<Vec<std::path::PathBuf>>()
            };
            assert_eq!(names(&snapshot(&stage_of(&world, &staged))), names(&stage));
            assert!(matches!(
                world.commit(staged.txn),
                Err(CommitError::NoTransaction)
            ));
            if outcome.is_ok() {
                break;
            }
        }
    }
}

fn stage_of(world: &World, staged: &Staged) -> std::path::PathBuf {
    let stage = String::from_utf8(staged.stage.as_bytes().to_vec()).unwrap();
    world.tmp.path().join(".www.fanout/stage").join(stage)
}

#[test]
fn a_decided_transaction_is_not_aborted() {
    let (world, staged) = ready_in(quick(), Layout::InPlace);
    world.prepare(&staged).unwrap();
    fail_at(Some(3));
    assert!(world.commit(staged.txn).is_err());
    fail_at(None);
    assert!(matches!(
        abort(&world.place, staged.txn),
        Err(CommitError::Decided)
    ));
    assert!(matches!(
        abort(&world.place, [9; 16]),
        Err(CommitError::OtherTransaction)
    ));
    world.commit(staged.txn).unwrap();
    assert!(matches!(
        abort(&world.place, staged.txn),
        Err(CommitError::Decided)
    ));
}

#[test]
fn a_transaction_that_nobody_prepared_is_not_committed() {
    let (world, staged) = ready_in(quick(), Layout::InPlace);
    assert!(matches!(
        commit(&world.place, staged.txn, None, Known::Nothing),
        Err(CommitError::NoTransaction)
    ));
    world.prepare(&staged).unwrap();
    assert!(matches!(
        commit(&world.place, [9; 16], None, Known::Nothing),
        Err(CommitError::OtherTransaction)
    ));
}

/// What the disk says once, at each step: only what others may have done to a path costs that path.
#[test]
fn what_the_disk_refuses_stops_a_commit_and_what_others_did_to_a_path_does_not() {
    for (errno, expected) in [
        (libc::EIO, None),
        (libc::EACCES, Some("could not be changed")),
        (libc::EBUSY, Some("was changed by somebody else")),
        (libc::EXDEV, Some("was changed by somebody else")),
        (libc::ENOTDIR, Some("was changed by somebody else")),
    ] {
        let mut told = 0;
        for step in 0.. {
            let (world, staged) = ready_in(quick(), Layout::InPlace);
            world.prepare(&staged).unwrap();
            fail_once(step, errno);
            let outcome = world.commit(staged.txn);
            let Some(point) = failed() else {
                outcome.unwrap();
                break;
            };
            match (outcome, expected) {
                (Ok(_), None) => panic!("{point} failed at {step}, and the commit went on"),
                (Ok(committed), Some(expected)) => {
                    let is_told = |it: &Notice| it.message.contains(expected);
                    assert!(committed.notices.iter().any(is_told), "{point} {errno}");
                    told += 1;
                }
                (Err(_), _) => {
                    world.commit(staged.txn).unwrap();
                    world.settle(&staged);
                    check_after(&world, &staged);
                }
            }
            if told > 2 {
                break;
            }
        }
        assert_eq!(told > 0, expected.is_some(), "{errno}");
    }
}

#[test]
fn a_name_that_came_or_went_since_the_look_is_looked_at_again() {
    for errno in [libc::EEXIST, libc::ENOENT] {
        let mut puts = 0;
        for step in 0.. {
            let (world, staged) = ready_in(quick(), Layout::InPlace);
            world.prepare(&staged).unwrap();
            fail_once(step, errno);
            let outcome = world.commit(staged.txn);
            match failed() {
                None => break,
                Some("member.put" | "member.exchange") => {
                    let messages = outcome.unwrap().notices;
                    let changed = |it: &Notice| it.message.contains("changed by somebody");
                    assert!(!messages.iter().any(changed), "{messages:?}");
                    world.settle(&staged);
                    check_after(&world, &staged);
                    puts += 1;
                    if puts > 2 {
                        break;
                    }
                }
                Some(_) => {}
            }
        }
        assert!(puts > 0);
    }
}

#[test]
fn a_directory_that_the_disk_keeps_stops_the_commit_until_it_goes() {
    let mut points = Vec::new();
    for step in 0.. {
        let mut world = World::in_dir(quick(), Layout::InPlace, rules(), false);
        let before = world.source("before", &[("dir/sub/x", Node::File("x"))]);
        world.push(&before);
        let after = world.source("after", &[("other", Node::File("o"))]);
        let staged = world.stage(&after);
        world.prepare(&staged).unwrap();
        fail_once(step, libc::EIO);
        let outcome = world.commit(staged.txn);
        let Some(point) = failed() else {
            break;
        };
        assert!(outcome.is_err(), "{point} failed, and the commit went on");
        points.push(point);
        world.commit(staged.txn).unwrap();
        assert!(!world.root().join("dir").exists(), "{point}");
    }
    assert!(points.contains(&"member.rmdir"), "{points:?}");
}
