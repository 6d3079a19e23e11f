//! Trees deeper than there are descriptors, and removals.

use super::{Place, demand_root, name, path, symlink};
use crate::fs::Dir;
use crate::fs::walk::{Verdict, WalkTrouble, walk};
use std::fs;

const LEVELS: usize = 2_000;

fn make_deep(top: &Dir, step: &str) {
    let mut dir = top.try_clone().unwrap();
    for level in 0..LEVELS {
        dir = dir.create_dir(&name(step), 0o755).unwrap();
        if level % 100 == 0 {
            drop(dir.create_file(&name("file"), 0o600).unwrap());
        }
    }
}

#[test]
fn a_tree_of_2000_levels_is_walked_and_removed() {
    let place = Place::new();
    let top = place.dir.create_dir(&name("top"), 0o755).unwrap();
    make_deep(&top, "d");
    let walked = walk(&top, |_, _, _| Verdict::Descend).unwrap();
    assert_eq!(walked.problems, []);
    assert_eq!(walked.dirs.len(), LEVELS + 1);
    assert_eq!(walked.entry_count(), LEVELS + LEVELS / 100);
    assert!(
        walked
            .dirs
            .is_sorted_by_key(|dir| dir.path.as_bytes().len())
    );

    place.dir.remove_tree(&name("top")).unwrap();
    assert!(place.dir.list().unwrap().is_empty());
}

#[test]
fn what_lies_deeper_than_a_path_can_say_is_reported_and_still_removed() {
    let place = Place::new();
    let top = place.dir.create_dir(&name("top"), 0o755).unwrap();
    make_deep(&top, "some-directory");
    let walked = walk(&top, |_, _, _| Verdict::Descend).unwrap();
    let [problem] = &walked.problems[..] else {
        panic!("{:?}", walked.problems.len());
    };
    assert_eq!(problem.what, WalkTrouble::TooLong);
    assert!(problem.path.len() > 4_096);
    // The deepest path that can be said is over what one system call takes.
    let deepest = walked.dirs.last().unwrap();
    assert!(deepest.path.as_bytes().len() > 4_080);
    assert!(top.open_dir_at(&deepest.path).is_ok());

    place.dir.remove_tree(&name("top")).unwrap();
    assert!(place.dir.list().unwrap().is_empty());
}

#[test]
fn a_wide_and_deep_tree_is_removed_with_colliding_names() {
    let place = Place::new();
    let top = place.dir.create_dir(&name("top"), 0o755).unwrap();
    // Names that the removal itself would like to use.
    for count in 0..5 {
        drop(
            top.create_file(&name(format!(".removing-{count}")), 0o600)
                .unwrap(),
        );
    }
    let mut dir = top;
    for _ in 0..200 {
        for side in 0..3 {
            drop(
                dir.create_dir(&name(format!("side-{side}")), 0o700)
                    .unwrap(),
            );
        }
        dir = dir.open_dir(&name("side-1")).unwrap();
    }
    place.dir.remove_tree(&name("top")).unwrap();
    assert!(place.dir.list().unwrap().is_empty());
}

#[test]
fn a_removal_follows_no_symlink_and_minds_no_absence() {
    let place = Place::new();
    fs::create_dir(place.path("top")).unwrap();
    symlink(&place.outside(), place.path("top/out"));
    symlink(&place.outside(), place.path("link"));
    fs::hard_link(place.outside().join("secret"), place.path("top/hard")).unwrap();
    for doomed in ["top", "link", "absent"] {
        place.dir.remove_tree(&name(doomed)).unwrap();
    }
    assert!(place.dir.list().unwrap().is_empty());
    place.assert_outside_is_untouched();
}

#[test]
fn a_path_is_opened_in_steps() {
    let place = Place::new();
    let long = "x".repeat(250);
    let mut dir = place.dir.try_clone().unwrap();
    let mut whole = path("");
    for _ in 0..16 {
        dir = dir.create_dir(&name(&long), 0o755).unwrap();
        whole = whole.join(&name(&long)).unwrap();
    }
    let opened = place.dir.open_dir_at(&whole).unwrap();
    assert!(
        opened
            .stat_self()
            .unwrap()
            .same_inode(&dir.stat_self().unwrap())
    );
    let (parent, last) = place.dir.open_parent_at(&whole).unwrap().unwrap();
    assert!(parent.stat(&last).unwrap().unwrap().is_directory());
    assert!(place.dir.open_parent_at(&path("")).unwrap().is_none());
}

#[test]
fn an_ordinary_user_can_remove_their_own_read_only_directories() {
    demand_root();
    let place = Place::new();
    let nobody = rustix::fs::Uid::from_raw(65_534);
    rustix::fs::fchown(&place.dir, Some(nobody), None).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let top = place.dir.create_dir(&name("top"), 0o755).unwrap();
            for mode in [0o555, 0o000, 0o311] {
                let locked = top.create_dir(&name(format!("{mode:o}")), 0o755).unwrap();
                drop(locked.create_dir(&name("sub"), 0o500).unwrap());
                drop(locked.create_file(&name("file"), 0o400).unwrap());
                rustix::fs::fchmod(&locked, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
            }
            place.dir.remove_tree(&name("top")).unwrap();
        });
    });
    assert!(place.dir.list().unwrap().is_empty());
}
