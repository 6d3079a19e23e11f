//! A file system that knows no time below a second (ext4 with inodes of 128 bytes): a file that
//! changes twice within one, and keeps its size, bears the same stamp both times. What was read in
//! between may not be remembered.

use crate::support::disk::SmallDisk;
use crate::support::root_or_skip;
use fanout::engine::index::Index;
use fanout::engine::observe::{LeftOutTime, Look, observe};
use fanout::fs::Dir;
use fanout::fs::owner::Principals;
use fanout::fs::read::FsClock;
use fanout::fs::xattr::XattrPolicy;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use sync_proto::filter::{Scope, Side};

const EDITS: usize = 300;

fn look(root: &Path, known: Option<&Index>) -> Index {
    let root = Dir::open_absolute(root).unwrap();
    let clock = FsClock::open(&root).unwrap();
    let look = Look {
        known,
        rehash: false,
        scope: &Scope::default(),
        side: Side::Sender,
        pass_over: None,
        principals: &Principals::numeric(),
        xattrs: XattrPolicy::Ordinary,
        left_out_time: LeftOutTime::Open,
        fresh: None,
        progress: &|_, _| {},
    };
    observe(&root, &clock, &look).unwrap().index
}

#[test]
fn an_edit_in_the_second_of_the_last_look_is_found_where_stamps_are_whole_seconds() {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("small.img"), dir.path().join("disk"));
    let _disk = SmallDisk::mount(at.clone(), &image, 16 << 20, &["-I", "128"]);
    let root = at.join("tree");
    fs::create_dir(&root).unwrap();
    let file = root.join("index.php");
    let stamp = || {
        let it = fs::metadata(&file).unwrap();
        assert_eq!((it.mtime_nsec(), it.ctime_nsec()), (0, 0), "no fine times");
        (it.ino(), it.size(), it.mtime(), it.ctime())
    };
    let mut known = None;
    let (mut same_stamps, mut missed) = (0, Vec::new());
    for edit in 0..EDITS {
        fs::write(&file, format!("<?php edit({edit:05});\n")).unwrap();
        let before = stamp();
        let seen = look(&root, known.as_ref());
        fs::write(&file, format!("<?php EDIT({edit:05});\n")).unwrap();
        same_stamps += usize::from(stamp() == before);
        let next = look(&root, Some(&seen));
        if next.manifest().roots().content != look(&root, None).manifest().roots().content {
            missed.push(edit);
        }
        known = Some(next);
    }
    assert!(missed.is_empty(), "{} missed: {missed:?}", missed.len());
    let enough = same_stamps > EDITS / 4;
    assert!(
        enough,
        "only {same_stamps} edits left no trace: nothing was tested"
    );
    eprintln!("{EDITS} edits, {same_stamps} of them under the same stamp, none missed");
}
