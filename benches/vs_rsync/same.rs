//! Whether a tree arrived: read back entry by entry, by this program and nobody else's word.

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What a way of transfer promises to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Content, kind, mode, owner, modification time to the nanosecond, of the root too.
    All,
    /// The same with times to the second: what tar's usual format has.
    Seconds,
    /// Content, links, and whether a file is executable: what git has.
    Content,
}

/// A tree as a value.
pub(crate) struct Snapshot(BTreeMap<PathBuf, Seen>);

struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Content,
}

#[derive(PartialEq, Eq)]
enum Content {
    File(blake3::Hash),
    Directory,
    Link(PathBuf),
    Other,
}

impl Snapshot {
    /// Reads everything below `root`, which may be a symlink to where it is.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).with_context(|| format!("no {}", root.display()))?;
        let entries: Vec<_> = WalkDir::new(&root).into_iter().collect::<Result<_, _>>()?;
        let seen = entries.par_iter().map(|entry| {
            let metadata = entry.metadata()?;
            let content = if metadata.is_file() {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(fs::File::open(entry.path())?)?;
                Content::File(hasher.finalize())
            } else if metadata.is_dir() {
                Content::Directory
            } else if metadata.is_symlink() {
                Content::Link(fs::read_link(entry.path())?)
            } else {
                Content::Other
            };
            let path = entry.path().strip_prefix(&root)?.to_owned();
            let seen = Seen {
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                mtime: (metadata.mtime(), metadata.mtime_nsec()),
                content,
            };
            anyhow::Ok((path, seen))
        });
        Ok(Self(seen.collect::<Result<_>>()?))
    }

    /// Regular files.
    pub(crate) fn files(&self) -> usize {
        let is_file = |seen: &&Seen| matches!(seen.content, Content::File(_));
        self.0.values().filter(is_file).count()
    }

    /// Fails with the first difference, if `other` isn't what this tree should have become.
    pub(crate) fn expect_same(&self, other: &Self, keeps: Keeps) -> Result<()> {
        let counts = |path: &&PathBuf| keeps != Keeps::Content || !self.is_directory(path);
        for path in self.0.keys().filter(counts) {
            let Some(found) = other.0.get(path) else {
                bail!("{} is missing", path.display());
            };
            let wanted = &self.0[path];
            if let Some(what) = wanted.difference(found, keeps) {
                let (was, is) = (wanted.in_short(), found.in_short());
                bail!(
                    "{} has another {what}: {is} instead of {was}",
                    path.display()
                );
            }
        }
        let extra = |path: &&PathBuf| {
            let is_git =
                keeps == Keeps::Content && (path.starts_with(".git") || other.is_directory(path));
            !self.0.contains_key(*path) && !is_git
        };
        match other.0.keys().find(extra) {
            Some(path) => bail!("{} should not be there", path.display()),
            None => Ok(()),
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.0
            .get(path)
            .is_some_and(|seen| seen.content == Content::Directory)
    }
}

impl Seen {
    fn in_short(&self) -> String {
        let (seconds, nanoseconds) = self.mtime;
        format!(
            "{:o} {:?} {seconds}.{nanoseconds:09}",
            self.mode, self.owner
        )
    }

    fn difference(&self, other: &Self, keeps: Keeps) -> Option<&'static str> {
        let is_link = matches!(self.content, Content::Link(_));
        if self.content != other.content {
            return Some("content");
        }
        if keeps == Keeps::Content {
            return (!is_link && (self.mode ^ other.mode) & 0o100 != 0).then_some("mode");
        }
        let times = match keeps {
            Keeps::All => self.mtime == other.mtime,
            _ => self.mtime.0 == other.mtime.0,
        };
        [
            (self.mode == other.mode, "mode"),
            (self.owner == other.owner, "owner"),
            (times, "time"),
        ]
        .into_iter()
        .find_map(|(same, what)| (!same).then_some(what))
    }
}
