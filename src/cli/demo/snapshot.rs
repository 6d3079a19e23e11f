//! What is really in a tree: the demo believes no command, it looks.

use super::disk::failed;
use crate::fs::read::hash_file;
use crate::fs::walk::{Verdict, WalkedDir, walk};
use crate::fs::{Dir, FileKind, Stat};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use sync_proto::digest::Digest;
use sync_proto::entry::Time;
use sync_proto::path::{RelPath, escape};

/// LIMIT: differences that are shown.
const SHOWN: usize = 5;

/// Every entry of a tree with what a push promises to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    entries: BTreeMap<RelPath, Seen>,
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) content_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: FileKind,
    mode: u32,
    owner: (u32, u32),
    mtime: Time,
    content: Option<Digest>,
    target: Option<Box<[u8]>>,
}

impl Snapshot {
    /// Reads everything, content too.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let root = Dir::open_absolute(root).map_err(failed)?;
        let walked = walk(&root, |_, _, _| Verdict::Descend).map_err(failed)?;
        if let Some(problem) = walked.problems.first() {
            let path = escape(&problem.path);
            return Err(io::Error::other(format!(
                "Can't read {path}: {:?}",
                problem.what
            )));
        }
        let read: Vec<_> = walked
            .dirs
            .par_iter()
            .map(|dir| read_directory(&root, dir))
            .collect::<io::Result<_>>()?;
        let entries: BTreeMap<RelPath, Seen> = read.into_iter().flatten().collect();
        let count = |kind| entries.values().filter(|seen| seen.kind == kind).count() as u64;
        let sizes = walked.dirs.iter().flat_map(|dir| &dir.entries);
        let files = sizes.filter(|entry| entry.stat.is_file());
        Ok(Self {
            files: count(FileKind::File),
            directories: count(FileKind::Directory),
            content_bytes: files.map(|entry| entry.stat.size).sum(),
            entries,
        })
    }

    /// How `other` differs, a few lines of it; empty if it doesn't.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let missing =
            self.entries
                .iter()
                .filter_map(|(path, seen)| match other.entries.get(path) {
                    None => Some(format!("{path} is missing")),
                    Some(found) => seen.difference(found).map(|what| format!("{path}: {what}")),
                });
        let extra = other
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(path))
            .map(|path| format!("{path} should not be there"));
        missing.chain(extra).take(SHOWN).collect()
    }
}

impl Seen {
    fn new(stat: &Stat) -> Self {
        Self {
            kind: stat.kind(),
            mode: stat.permissions(),
            owner: (stat.uid, stat.gid),
            mtime: stat.mtime,
            content: None,
            target: None,
        }
    }

    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.kind != other.kind, "another kind"),
            (self.content != other.content, "another content"),
            (self.target != other.target, "another target"),
            (self.mode != other.mode, "another mode"),
            (self.owner != other.owner, "another owner"),
            (self.mtime != other.mtime, "another time"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

fn read_directory(root: &Dir, walked: &WalkedDir) -> io::Result<Vec<(RelPath, Seen)>> {
    let dir = root.open_dir_at(&walked.path).map_err(failed)?;
    let mut found = Vec::new();
    if walked.path.is_root() {
        found.push((RelPath::root(), Seen::new(&walked.stat)));
    }
    for entry in &walked.entries {
        let mut seen = Seen::new(&entry.stat);
        if entry.stat.is_file() {
            let hashed = hash_file(&dir, &entry.name, &entry.stat).map_err(failed)?;
            seen.content = Some(hashed.digest);
        }
        seen.target.clone_from(&entry.link_target);
        found.push((walked.path.join(&entry.name).map_err(failed)?, seen));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::disk::copy_tree;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_difference_of_any_sort_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        fs::create_dir_all(source.join("web")).unwrap();
        fs::write(source.join("web/index.php"), "<?php 1;").unwrap();
        let before = Snapshot::read(&source).unwrap();
        assert_eq!((before.files, before.directories), (1, 1 + 1));
        assert_eq!(before.content_bytes, 8);
        let old = fs::metadata(source.join("web/index.php")).unwrap();
        fs::write(source.join("web/index.php"), "<?php 2;").unwrap();
        // The size is the same, and so is the time: only the content tells.
        let file = File::options()
            .write(true)
            .open(source.join("web/index.php"))
            .unwrap();
        file.set_modified(old.modified().unwrap()).unwrap();
        let after = Snapshot::read(&source).unwrap();
        assert_eq!(
            before.differences(&after),
            ["web/index.php: another content"]
        );
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            .unwrap();
        let later = Snapshot::read(&source).unwrap();
        assert_eq!(after.differences(&later), ["web/index.php: another time"]);
        fs::remove_file(source.join("web/index.php")).unwrap();
        let gone = Snapshot::read(&source).unwrap();
        let lines = later.differences(&gone);
        assert!(
            lines.contains(&"web/index.php is missing".to_owned()),
            "{lines:?}"
        );
        let lines = gone.differences(&later);
        assert!(
            lines
                .iter()
                .any(|line| line.contains("should not be there")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_copy_differs_in_the_times_of_directories_at_most() {
        let place = tempfile::tempdir().unwrap();
        let (source, copy) = (place.path().join("source"), place.path().join("copy"));
        crate::cli::demo::corpus::generated_platform(&source, 200, 3).unwrap();
        copy_tree(&source, &copy).unwrap();
        let (source, copy) = (
            Snapshot::read(&source).unwrap(),
            Snapshot::read(&copy).unwrap(),
        );
        assert_eq!(source.files, 200);
        let lines = source.differences(&copy);
        assert!(
            lines.iter().all(|line| line.ends_with("another time")),
            "{lines:?}"
        );
    }
}
