//! The filter rules against the real rsync: random rule lists over one tree of awkward names.

mod lines;

use lines::{Line, arguments, line, rules};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sync_proto::filter::{Rules, Side};
use sync_proto::path::{Name, RelPath};
use tempfile::TempDir;

/// Paths, directories with a slash at the end.
type Set = BTreeSet<Vec<u8>>;

/// Few names, so that rules meet them; no name holds what rsync escapes in its output.
const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"ab",
    b"ba",
    b"a.b",
    b".a",
    b"a*",
    b"*",
    b"[a]",
    b"a\\b",
    b"\\",
    b"\xc3\xbc",
    b"x y",
    b"A",
    b"!a",
    b"-",
];

/// What rsync prints with these arguments. Names stay raw bytes.
fn rsync(arguments: &[String], source: &Path, target: &Path) -> Vec<u8> {
    let mut source = source.as_os_str().to_owned();
    source.push("/");
    let output = assert_cmd::Command::new("rsync")
        .args(["-a", "-8", "--out-format=%o %n"])
        .args(arguments)
        .arg(source)
        .arg(target)
        .env("LC_ALL", "C")
        .output()
        .expect("rsync is installed (Debian: apt install rsync)");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The paths on the lines that start with `operation`.
fn listed(output: &[u8], operation: &str) -> Set {
    (output.split(|byte| *byte == b'\n'))
        .filter_map(|line| line.strip_prefix(operation.as_bytes()))
        .filter(|path| *path != b"./")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Makes a tree whose shape depends on `seed` only through which names it leaves out.
fn make_tree(at: &Path, seed: u32, leaves_out: u32) {
    fn fill(at: &Path, depth: u32, state: u32, seed: u32, leaves_out: u32) {
        fs::create_dir(at).expect("a new directory");
        for (index, name) in (1..).zip(NAMES) {
            // Any mixing will do: it says which names are directories.
            let state = (state ^ index).wrapping_mul(0x9E37_79B1).rotate_left(11);
            if (state ^ seed).wrapping_mul(0x85EB_CA6B) >> 16 & 15 < leaves_out {
                continue;
            }
            let path = at.join(OsStr::from_bytes(name));
            if depth < 4 && state % 16 < 3 {
                fill(&path, depth + 1, state, seed, leaves_out);
            } else {
                fs::write(&path, b"").expect("a new file");
            }
        }
    }
    fill(at, 1, 7, seed, leaves_out);
}

/// The entries of one directory: name, path, whether it is a directory.
fn entries(root: &Path, directory: &RelPath) -> Vec<(Name, RelPath, bool)> {
    let full = root.join(OsStr::from_bytes(directory.as_bytes()));
    let Ok(found) = fs::read_dir(full) else {
        return Vec::new();
    };
    let entry = |entry: fs::DirEntry| {
        let name = Name::parse(entry.file_name().as_bytes()).expect("a name");
        let path = directory.join(&name).expect("a path");
        (name, path, entry.file_type().expect("a type").is_dir())
    };
    found.map(|it| entry(it.expect("an entry"))).collect()
}

fn listed_as(path: &RelPath, is_directory: bool) -> Vec<u8> {
    [path.as_bytes(), if is_directory { b"/" } else { b"" }].concat()
}

/// What a sender with these rules finds.
fn sent(rules: &Rules, root: &Path) -> Set {
    let mut set = Set::new();
    let mut left = vec![RelPath::root()];
    while let Some(directory) = left.pop() {
        for (name, path, is_directory) in entries(root, &directory) {
            let decision = rules.decide_child(Side::Sender, &directory, &name, is_directory);
            let deep = rules.decide_deep(Side::Sender, &path, is_directory);
            assert_eq!(decision.is_excluded(), deep.is_excluded(), "{path}");
            if decision.is_excluded() {
                continue;
            }
            set.insert(listed_as(&path, is_directory));
            if is_directory {
                left.push(path);
            }
        }
    }
    set
}

/// What a receiver with these rules deletes where exactly `wanted` arrives.
fn deleted(rules: &Rules, wanted: &Set, root: &Path) -> Set {
    let mut set = Set::new();
    let mut left = vec![RelPath::root()];
    while let Some(directory) = left.pop() {
        for (_, path, is_directory) in entries(root, &directory) {
            if wanted.contains(&listed_as(&path, is_directory)) {
                if is_directory {
                    left.push(path);
                }
            } else if !rules
                .decide(Side::Receiver, &path, is_directory)
                .is_excluded()
            {
                delete(rules, &path, is_directory, root, &mut set);
            }
        }
    }
    set
}

/// Returns false if something stays, and so all directories above it.
fn delete(rules: &Rules, path: &RelPath, is_directory: bool, root: &Path, set: &mut Set) -> bool {
    let mut is_empty = true;
    if is_directory {
        for (_, path, is_directory) in entries(root, path) {
            is_empty &= !rules.decide_doomed(&path, is_directory).is_excluded()
                && delete(rules, &path, is_directory, root, set);
        }
    }
    if is_empty {
        set.insert(listed_as(path, is_directory));
    }
    is_empty
}

/// The first few differences, readable.
fn compare(lines: &[Line], ours: &Set, theirs: &Set) -> Result<(), TestCaseError> {
    let show = |set: &mut dyn Iterator<Item = &Vec<u8>>| -> Vec<String> {
        set.take(5)
            .map(|path| path.escape_ascii().to_string())
            .collect()
    };
    prop_assert!(
        ours == theirs,
        "{:?}: only ours {:?}, only rsync's {:?}",
        lines,
        show(&mut ours.difference(theirs)),
        show(&mut theirs.difference(ours))
    );
    Ok(())
}

/// Runs `test` on that many lists of rules; on more of them if `PARITY_TIMES` says so.
fn run(cases: u32, test: impl Fn(Vec<Line>) -> Result<(), TestCaseError>) {
    let times = std::env::var("PARITY_TIMES").map_or(1, |times| times.parse().expect("a number"));
    let config = Config {
        cases: cases * times,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let lists = prop::collection::vec(line(), 1..8);
    if let Err(failure) = TestRunner::new(config).run(&lists, test) {
        panic!("{failure}");
    }
}

#[test]
fn the_sender_finds_what_rsync_would_send() {
    let place = TempDir::new().expect("a directory");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    make_tree(&source, 0, 0);
    fs::create_dir(&target).expect("a directory");
    run(500, |lines| {
        let mut options = arguments(&lines);
        options.push("-n".into());
        let theirs = listed(&rsync(&options, &source, &target), "send ");
        compare(&lines, &sent(&rules(&lines), &source), &theirs)
    });
}

#[test]
fn the_receiver_deletes_what_rsync_would_delete() {
    let place = TempDir::new().expect("a directory");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    make_tree(&source, 5, 5);
    make_tree(&target, 0, 0);
    run(350, |lines| {
        let mut options = arguments(&lines);
        options.extend(["-n".into(), "--delete".into()]);
        // A dry run tells a directory as deleted even if something below is protected.
        let files =
            |set: Set| -> Set { set.into_iter().filter(|it| !it.ends_with(b"/")).collect() };
        let theirs = files(listed(&rsync(&options, &source, &target), "del. "));
        let rules = rules(&lines);
        let ours = files(deleted(&rules, &sent(&rules, &source), &target));
        compare(&lines, &ours, &theirs)
    });
}

#[test]
fn the_receiver_loses_excluded_names_where_rsync_would_lose_them() {
    let place = TempDir::new().expect("a directory");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    make_tree(&source, 9, 3);
    make_tree(&target, 0, 0);
    run(120, |lines| {
        let mut options = arguments(&lines);
        options.extend(["-n".into(), "--delete-excluded".into()]);
        let files =
            |set: Set| -> Set { set.into_iter().filter(|it| !it.ends_with(b"/")).collect() };
        let theirs = files(listed(&rsync(&options, &source, &target), "del. "));
        let rules = rules(&lines)
            .delete_excluded()
            .expect("the same rules, longer by a letter");
        let ours = files(deleted(&rules, &sent(&rules, &source), &target));
        compare(&lines, &ours, &theirs)
    });
}

#[test]
fn a_real_run_leaves_the_directories_that_hold_something_protected() {
    let place = TempDir::new().expect("a directory");
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    let pristine = place.path().join("pristine");
    make_tree(&source, 5, 8);
    make_tree(&pristine, 0, 0);
    run(30, |lines| {
        rsync(&["--delete".into()], &pristine, &target);
        let rules = rules(&lines);
        let wanted = sent(&rules, &source);
        let everything = sent(&Rules::default(), &target);
        let gone = deleted(&rules, &wanted, &target);
        let mut options = arguments(&lines);
        options.push("--delete".into());
        rsync(&options, &source, &target);
        let ours = everything
            .difference(&gone)
            .chain(&wanted)
            .cloned()
            .collect();
        compare(&lines, &ours, &sent(&Rules::default(), &target))
    });
}
