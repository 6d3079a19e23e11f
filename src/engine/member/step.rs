//! The steps of an in-place commit: what changes at one path, by inode numbers.
//!
//! A step says what is to be there and what was there. Whoever carries it out looks first, so that
//! a step that was done already, wholly or half, is recognised after a crash.

use crate::fs::Stat;
use crate::fs::meta::Wanted;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Time, Xattrs};
use sync_proto::path::RelPath;

/// An entry as it was seen, to be recognised by after a rename (which changes its ctime).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Is it a directory?
    pub is_directory: bool,
}

impl Seen {
    /// True if `stat` is the same entry and nobody wrote to it since. Of a directory only the
    /// identity is compared: what is in it has steps of its own.
    pub fn matches(&self, stat: &Stat) -> bool {
        self.ino == stat.ino
            && self.is_directory == stat.is_directory()
            && (self.is_directory || self.size == stat.size && self.mtime == stat.mtime)
    }
}

impl From<&Stat> for Seen {
    fn from(stat: &Stat) -> Self {
        Self {
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            is_directory: stat.is_directory(),
        }
    }
}

/// What a step takes out of the live tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Old {
    /// By what it is recognised.
    pub seen: Seen,
    /// Its content, where it is a file whose content is known: an undo area can serve it.
    pub content: Option<(Digest, u64)>,
    /// It is not what was committed: it is moved aside, not into undo.
    pub is_drift: bool,
}

/// Metadata to be applied, in this machine's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: Option<Time>,
    xattrs: Option<Xattrs>,
}

impl From<Wanted> for Attributes {
    fn from(wanted: Wanted) -> Self {
        Self {
            uid: wanted.uid,
            gid: wanted.gid,
            mode: wanted.mode,
            mtime: wanted.mtime,
            xattrs: wanted.xattrs.map(|xattrs| xattrs.as_ref().clone()),
        }
    }
}

impl Attributes {
    /// As [`apply_meta`](crate::fs::meta::apply_meta) takes it.
    pub fn to_wanted(&self) -> Wanted {
        Wanted {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
            mtime: self.mtime,
            xattrs: self.xattrs.clone().map(Arc::new),
        }
    }

    /// The attributes of an entry that exists, as far as `stat` knows them.
    pub fn of(stat: &Stat, xattrs: Option<Xattrs>) -> Self {
        Self {
            uid: stat.uid,
            gid: stat.gid,
            mode: stat.permissions(),
            mtime: Some(stat.mtime),
            xattrs,
        }
    }

    /// What is there, with another time.
    pub(super) fn with_mtime(stat: &Stat, mtime: Time) -> Self {
        Self {
            mtime: Some(mtime),
            ..Self::of(stat, None)
        }
    }

    pub(super) fn without_mtime(mut self) -> Self {
        self.mtime = None;
        self
    }
}

/// One change of a live tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The staged entry takes its place; a staged directory with all that it holds.
    Put {
        /// Where.
        path: RelPath,
        /// What is staged.
        new: Seen,
        /// What it replaces.
        old: Option<Old>,
        /// If that is a directory: all that was known to be in it.
        below: Vec<(RelPath, Old)>,
        /// Only where there is nothing: the path is preserved.
        is_seed: bool,
    },
    /// Only metadata changes.
    Meta {
        /// Where; the root's path for the root.
        path: RelPath,
        /// Which inode.
        ino: u64,
        /// What it becomes.
        new: Attributes,
        /// What it was.
        old: Attributes,
    },
    /// The entry goes.
    Remove {
        /// Where.
        path: RelPath,
        /// What it was.
        old: Old,
    },
    /// The directory goes, if it is empty by then.
    RemoveDirectory {
        /// Where.
        path: RelPath,
        /// Which inode.
        ino: u64,
    },
}

impl Step {
    /// Where it happens.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Put { path, .. }
            | Self::Meta { path, .. }
            | Self::Remove { path, .. }
            | Self::RemoveDirectory { path, .. } => path,
        }
    }

    /// The order of the window: what is new comes first, because what changes may need it, and
    /// what goes goes last.
    pub(super) fn phase(&self) -> u8 {
        match self {
            Self::Put { old: None, .. } => 0,
            Self::Put { .. } => 1,
            Self::Meta { .. } => 2,
            Self::Remove { .. } | Self::RemoveDirectory { .. } => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::member::testing::name;
    use crate::fs::Dir;

    #[test]
    fn an_entry_is_recognised_by_all_that_is_known_of_it_and_a_directory_by_its_identity() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open_absolute(tmp.path()).unwrap();
        std::fs::write(tmp.path().join("f"), "f").unwrap();
        std::fs::create_dir(tmp.path().join("d")).unwrap();
        let stat = |of: &str| dir.stat(&name(of)).unwrap().unwrap();
        for (of, is_directory) in [("f", false), ("d", true)] {
            let stat = stat(of);
            let seen = Seen::from(&stat);
            let later = Time {
                seconds: seen.mtime.seconds + 1,
                ..seen.mtime
            };
            assert!(seen.matches(&stat));
            let ino = seen.ino + 1;
            assert!(!Seen { ino, ..seen }.matches(&stat));
            let other = Seen {
                is_directory: !is_directory,
                ..seen
            };
            assert!(!other.matches(&stat));
            let size = seen.size + 1;
            assert_eq!(Seen { size, ..seen }.matches(&stat), is_directory);
            let mtime = later;
            assert_eq!(Seen { mtime, ..seen }.matches(&stat), is_directory);
        }
    }
}
