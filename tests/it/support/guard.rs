//! A directory that nobody may touch, and a witness that nobody did.
//!
//! The kernel tells of every opening, reading, change and removal of what the guard holds
//! (`inotify(7)`), also where access times wouldn't show it; and at the end every entry has its
//! content, attributes, inode number and times as before.

use super::snapshot::{Compare, Snapshot};
use super::tree::Tree;
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What stands in every file of a guard, and must never be seen anywhere else.
pub(crate) const CANARY: &str = "a canary that nobody may read";

/// Everything in a guard, the deepest first.
const NAMES: [&str; 8] = [
    "deep/er/index.php",
    "deep/er",
    "deep",
    "secret",
    "index.php",
    "empty",
    "link",
    "",
];

/// A guarded directory.
pub(crate) struct Guard {
    root: PathBuf,
    snapshot: Snapshot,
    stamps: RefCell<BTreeMap<PathBuf, Stamp>>,
    inotify: OwnedFd,
}

/// What a single look, a write or a change of attributes would leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    links: u64,
    accessed: (i64, i64),
    changed: (i64, i64),
}

impl Guard {
    /// Makes a guarded directory at `root`. Everybody could write there, if the product let them
    /// in: what keeps the members' own users out must not be the mode.
    pub(crate) fn make(root: PathBuf) -> Self {
        Tree::new()
            .file("secret", CANARY)
            .mode(0o666)
            .file("index.php", CANARY)
            .mode(0o666)
            .file("deep/er/index.php", CANARY)
            .mode(0o666)
            .dir("deep/er")
            .mode(0o777)
            .dir("deep")
            .mode(0o777)
            .dir("empty")
            .mode(0o777)
            .symlink("link", "secret")
            .dir("")
            .mode(0o777)
            .xattr("user.guard", CANARY)
            .write_to(&root);
        let snapshot = Snapshot::read(&root);
        // ORDER: from here on nothing lists or reads.
        quieten(&root);
        let stamps = stamps(&root);
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify");
        for path in NAMES.iter().map(|name| root.join(name)) {
            let flags = WatchFlags::ALL_EVENTS | WatchFlags::DONT_FOLLOW;
            add_watch(&inotify, &path, flags).expect("watch");
        }
        Self {
            root,
            snapshot,
            stamps: RefCell::new(stamps),
            inotify,
        }
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that nothing in it was opened, read, changed or removed, and nothing came to it.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        // ORDER: the times before anything here reads.
        let events = self.events();
        let now = stamps(&self.root);
        assert_eq!(events, Vec::<String>::new(), "somebody was in the guard");
        assert_eq!(now, *self.stamps.borrow());
        Compare::exact().assert_same(&self.snapshot, &Snapshot::read(&self.root));
        // That was us, and isn't to be seen by the next look.
        quieten(&self.root);
        self.stamps.replace(stamps(&self.root));
        drop(self.events());
    }

    /// What happened since the last look.
    fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            events.push(format!("{:?} {:?}", event.events(), event.file_name()));
        }
        events
    }
}

/// Sets access times so long ago that a read shows on every mount.
fn quieten(root: &Path) {
    let old = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    for path in NAMES.iter().map(|name| root.join(name)) {
        if !fs::symlink_metadata(&path).expect("stat").is_symlink() {
            let file = fs::File::open(&path).expect("open");
            file.set_times(old).expect("set the access time");
        }
    }
}

fn stamps(root: &Path) -> BTreeMap<PathBuf, Stamp> {
    let stamp = |name: &&str| {
        let path = root.join(name);
        let metadata = fs::symlink_metadata(&path).expect("a canary");
        let stamp = Stamp {
            inode: metadata.ino(),
            links: metadata.nlink(),
            accessed: (metadata.atime(), metadata.atime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        (path, stamp)
    };
    NAMES.iter().map(stamp).collect()
}
