//! The walk against an independent oracle.

use super::{Place, demand_root, name, path};
use crate::fs::walk::{Verdict, WalkTrouble, Walked, walk, walk_sharing_from};
use crate::fs::{Dir, FileKind};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use sync_proto::path::RelPath;

/// What both sides must agree on.
type Facts = (u32, u64, u64, u64, (i64, i64), Option<Vec<u8>>);

fn by_walkdir(root: &Path) -> BTreeMap<Vec<u8>, Facts> {
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            let target = entry.path_is_symlink().then(|| {
                let target = fs::read_link(entry.path()).unwrap();
                target.as_os_str().as_bytes().to_vec()
            });
            let below = entry.path().strip_prefix(root).unwrap();
            let facts = (
                meta.mode(),
                meta.ino(),
                meta.size(),
                meta.nlink(),
                (meta.mtime(), meta.mtime_nsec()),
                target,
            );
            (below.as_os_str().as_bytes().to_vec(), facts)
        })
        .collect()
}

fn by_us(walked: &Walked) -> BTreeMap<Vec<u8>, Facts> {
    assert_eq!(walked.problems, []);
    assert!(walked.dirs.is_sorted_by(|a, b| a.path < b.path));
    let mut facts = BTreeMap::new();
    for dir in &walked.dirs {
        assert!(dir.entries.is_sorted_by(|a, b| a.name < b.name));
        for entry in &dir.entries {
            let stat = &entry.stat;
            facts.insert(
                dir.path.join(&entry.name).unwrap().as_bytes().to_vec(),
                (
                    stat.raw_mode,
                    stat.ino,
                    stat.size,
                    u64::from(stat.nlink),
                    (stat.mtime.seconds, stat.mtime.nanoseconds.into()),
                    entry.link_target.as_deref().map(<[u8]>::to_vec),
                ),
            );
        }
    }
    facts
}

/// A path of up to five odd components, and what to put there.
fn planned_entry() -> impl Strategy<Value = (Vec<Vec<u8>>, u8)> {
    let component = prop_oneof![
        "[ab]{1,2}".prop_map(String::into_bytes),
        "[-. a]{3}".prop_map(String::into_bytes),
        prop::collection::vec(1_u8..=255, 1..4),
    ]
    .prop_filter("a name", |bytes| {
        sync_proto::path::Name::parse(bytes).is_ok()
    });
    (prop::collection::vec(component, 1..5), 0_u8..4)
}

fn plant(root: &Dir, (components, kind): &(Vec<Vec<u8>>, u8)) {
    let mut dir = root.try_clone().unwrap();
    let (last, above) = components.split_last().unwrap();
    for component in above {
        // Where a file stands already, there is nothing more to plant.
        let Ok(next) = dir.create_dir_if_absent(&name(component), 0o755) else {
            return;
        };
        dir = next;
    }
    let last = name(last);
    match kind {
        0 => drop(dir.create_dir(&last, 0o700)),
        1 => drop(dir.symlink(b"some/where\xff", &last)),
        2 => drop(dir.mknod(&last, FileKind::Fifo, 0o600, (0, 0))),
        _ => drop(dir.create_file(&last, 0o644)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_walk_sees_what_walkdir_sees(plan in prop::collection::vec(planned_entry(), 0..60)) {
        let place = Place::new();
        for entry in &plan {
            plant(&place.dir, entry);
        }
        let expected = by_walkdir(&place.path(""));
        let all = |_: &RelPath, _: &[u8], _| Verdict::Descend;
        prop_assert_eq!(&by_us(&walk_sharing_from(&place.dir, &all, usize::MAX).unwrap()), &expected);
        prop_assert_eq!(&by_us(&walk_sharing_from(&place.dir, &all, 0).unwrap()), &expected);
    }
}

#[test]
fn a_large_directory_is_shared_and_still_in_order() {
    let place = Place::new();
    for count in 0..9_000 {
        drop(
            place
                .dir
                .create_file(&name(format!("{count}")), 0o600)
                .unwrap(),
        );
    }
    let walked = walk(&place.dir, |_, _, _| Verdict::Descend).unwrap();
    assert_eq!(by_us(&walked), by_walkdir(&place.path("")));
}

#[test]
fn what_is_skipped_is_neither_seen_nor_entered_and_marks_its_directory() {
    let place = Place::new();
    for made in ["a/files/deep", "a/kept", "b/listed/below", "c"] {
        fs::create_dir_all(place.path(made)).unwrap();
    }
    fs::write(place.path("c/notes"), "").unwrap();
    let walked = walk(&place.dir, |parent, name, is_dir| match name {
        b"files" | b"notes" => {
            assert_eq!(is_dir, name == b"files");
            assert!(parent == &path("a") || parent == &path("c"));
            Verdict::Skip
        }
        b"deep" | b"below" => panic!("asked about something below"),
        b"listed" => Verdict::Prune,
        _ => Verdict::Descend,
    })
    .unwrap();
    let seen: Vec<_> = walked
        .dirs
        .iter()
        .map(|dir| (dir.path.to_string(), dir.entries.len(), dir.left_out))
        .collect();
    let expected = [
        ("", 3, false),
        ("a", 1, true),
        ("a/kept", 0, false),
        ("b", 1, false),
        ("c", 0, true),
    ];
    assert_eq!(
        seen,
        expected.map(|(path, count, left)| (path.to_owned(), count, left))
    );
}

#[test]
fn a_mount_is_recorded_and_reported_but_not_entered() {
    let root = Dir::open_absolute(Path::new("/")).unwrap();
    let walked = walk(&root, |_, name, _| match name {
        b"proc" => Verdict::Descend,
        _ => Verdict::Skip,
    })
    .unwrap();
    assert_eq!(walked.dirs.len(), 1);
    assert_eq!(walked.entry_count(), 1);
    assert!(walked.dirs[0].left_out);
    assert_eq!(walked.problems.len(), 1);
    assert_eq!(walked.problems[0].what, WalkTrouble::OtherMount);
    assert_eq!(&*walked.problems[0].path, b"proc");
}

#[test]
fn an_unreadable_directory_is_a_problem_and_no_end() {
    demand_root();
    let place = Place::new();
    fs::create_dir_all(place.path("closed/inner")).unwrap();
    fs::create_dir_all(place.path("open/inner")).unwrap();
    let closed = Dir::open_absolute(&place.path("closed")).unwrap();
    rustix::fs::fchmod(&closed, rustix::fs::Mode::empty()).unwrap();
    let nobody = rustix::fs::Uid::from_raw(65_534);
    let walked = std::thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            walk(&place.dir, |_, _, _| Verdict::Descend).unwrap()
        });
        unprivileged.join().unwrap()
    });
    let paths: Vec<_> = walked.dirs.iter().map(|dir| dir.path.to_string()).collect();
    assert_eq!(paths, ["", "open", "open/inner"]);
    let [problem] = &walked.problems[..] else {
        panic!("{:?}", walked.problems);
    };
    assert_eq!(&*problem.path, b"closed");
    assert!(matches!(&problem.what, WalkTrouble::Unreadable(error) if error.is_permission()));
}
