//! The demo's own files: what it writes, copies, reads and removes, through the one door.

use crate::fs::clone::copy_content;
use crate::fs::read::read_small;
use crate::fs::walk::{Verdict, walk};
use crate::fs::{Dir, FileKind};
use std::cell::RefCell;
use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};
use sync_proto::entry::Time;
use sync_proto::path::RelPath;

/// Directories that a push leaves out unless told otherwise, so that a copy has no use for them.
const NOT_COPIED: [&[u8]; 4] = [b".git", b".svn", b".hg", b".bzr"];

/// Wraps an error of the layers below for a caller to whom they are all the disk.
pub(super) fn failed(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// A tree that is being written.
pub(super) struct Tree {
    root: Dir,
    made: RefCell<HashSet<Vec<u8>>>,
}

impl Tree {
    /// Makes the root where it is missing; its parent exists.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let (parent, name) = Dir::open_parent_of(root).map_err(failed)?;
        let root = parent.create_dir_if_absent(&name, 0o755).map_err(failed)?;
        Ok(Self::of(root))
    }

    /// An existing tree.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self::of(Dir::open_absolute(root).map_err(failed)?))
    }

    fn of(root: Dir) -> Self {
        Self {
            root,
            made: RefCell::default(),
        }
    }

    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    /// How many directories were made by writing.
    pub(super) fn directories(&self) -> usize {
        self.made.borrow().len()
    }

    /// Writes a new file with its missing parents.
    pub(super) fn write(
        &self,
        path: &[u8],
        content: &[u8],
        modified: SystemTime,
    ) -> io::Result<()> {
        self.make_parents(path)?;
        let path = RelPath::parse(path).map_err(failed)?;
        self.replace(&path, content, 0o644, modified)
    }

    /// Writes a file anew: another inode, as a checkout or an unpacked archive leaves it.
    pub(super) fn replace(
        &self,
        path: &RelPath,
        content: &[u8],
        mode: u32,
        modified: SystemTime,
    ) -> io::Result<()> {
        let Some((dir, name)) = self.root.open_parent_at(path).map_err(failed)? else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut file = match dir.create_file(&name, mode) {
            Err(error) if error.is_exists() => {
                dir.unlink(&name).map_err(failed)?;
                dir.create_file(&name, mode)
            }
            other => other,
        }
        .map_err(failed)?;
        file.write_all(content)?;
        file.set_modified(modified)
    }

    pub(super) fn read(&self, path: &RelPath, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let Some((dir, name)) = self.root.open_parent_at(path).map_err(failed)? else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let (content, _) = read_small(&dir, &name, None, limit_bytes).map_err(failed)?;
        Ok(content)
    }

    pub(super) fn remove(&self, path: &RelPath) -> io::Result<()> {
        match self.root.open_parent_at(path).map_err(failed)? {
            Some((dir, name)) => dir.unlink(&name).map_err(failed),
            None => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn make_parents(&self, path: &[u8]) -> io::Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if self.made.borrow().contains(&path[..at]) {
                continue;
            }
            let parent = RelPath::parse(&path[..at]).map_err(failed)?;
            if let Some((dir, name)) = self.root.open_parent_at(&parent).map_err(failed)? {
                dir.create_dir_if_absent(&name, 0o755).map_err(failed)?;
            }
            self.made.borrow_mut().insert(path[..at].to_vec());
        }
        Ok(())
    }
}

/// Copies directories, files and symlinks with their modes and times, and leaves out what a
/// version control system keeps. Returns how many entries were left out because they are
/// something else.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<usize> {
    let source = Dir::open_absolute(from).map_err(failed)?;
    let target = Tree::create(to)?;
    let walked = walk(&source, |_, name, _| {
        if NOT_COPIED.contains(&name) {
            Verdict::Skip
        } else {
            Verdict::Descend
        }
    })
    .map_err(failed)?;
    let mut others = walked.problems.len();
    for dir in &walked.dirs {
        let into = target.root.open_dir_at(&dir.path).map_err(failed)?;
        let out_of = source.open_dir_at(&dir.path).map_err(failed)?;
        for entry in &dir.entries {
            let mode = entry.stat.permissions();
            match (entry.stat.kind(), &entry.link_target) {
                (FileKind::Directory, _) => {
                    into.create_dir(&entry.name, mode | 0o700).map_err(failed)?;
                }
                (FileKind::File, _) => {
                    let original = out_of.open_file(&entry.name).map_err(failed)?;
                    let copy = into.create_file(&entry.name, mode).map_err(failed)?;
                    copy_content(&original, &copy, entry.stat.size).map_err(failed)?;
                    copy.set_modified(system_time(entry.stat.mtime))?;
                }
                (FileKind::Symlink, Some(to)) => into.symlink(to, &entry.name).map_err(failed)?,
                _ => others += 1,
            }
        }
    }
    Ok(others)
}

fn system_time(time: Time) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        epoch.checked_sub(seconds)
    } else {
        epoch.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(nanoseconds))
        .unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_copy_has_the_same_files_links_modes_and_times() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir_all(from.join(".git/objects")).unwrap();
        std::fs::write(from.join("a/b/script"), "#!/bin/sh\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(from.join("a/b/script"), mode).unwrap();
        symlink("b/script", from.join("a/link")).unwrap();
        let to = place.path().join("to");
        assert_eq!(copy_tree(&from, &to).unwrap(), 0);
        let (one, two) = (from.join("a/b/script"), to.join("a/b/script"));
        let (one, two) = (one.metadata().unwrap(), two.metadata().unwrap());
        assert_eq!(one.permissions(), two.permissions());
        assert_eq!(one.modified().unwrap(), two.modified().unwrap());
        assert_eq!(std::fs::read(to.join("a/link")).unwrap(), b"#!/bin/sh\n");
        assert!(!to.join(".git").exists());
    }
}
