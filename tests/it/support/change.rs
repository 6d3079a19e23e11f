//! Trees and changes to trees as values that say what they apply to by position.
//!
//! A [`TreeSpec`] is a sequence of [`TreeChange`]s that only create. A change finds what it applies
//! to among what is there when it is applied, so that any subsequence, as shrinking makes, still
//! applies; one that finds nothing does nothing.

use super::is_root;
use super::tree::{Content, Meta, Node, at, make, set_mtime};
use proptest::sample::Index;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// A random tree: what has to be created, in order, in an empty directory.
#[derive(Clone, Debug)]
pub(crate) struct TreeSpec(pub(crate) Vec<TreeChange>);

/// One change to a tree on disk.
#[derive(Clone, Debug)]
pub(crate) enum TreeChange {
    /// Makes an entry in some directory, in the place of what has its name, unless that is a
    /// directory.
    Create {
        parent: Index,
        name: &'static [u8],
        node: Node,
        meta: Meta,
    },
    /// Gives some regular file one more name.
    Link {
        file: Index,
        parent: Index,
        name: &'static [u8],
    },
    /// Removes some entry with everything below it.
    Remove { entry: Index },
    /// Replaces some file's content through the same inode.
    Rewrite { file: Index, content: Content },
    /// Changes one byte of some file and puts its time back: same size, same time.
    SameSizeSameTime { file: Index, offset: Index },
    /// Appends to some file.
    Append { file: Index, content: Content },
    /// Cuts some file short.
    Truncate { file: Index, size: Index },
    /// Sets attributes of some entry.
    Attributes { entry: Index, meta: Meta },
    /// Removes all extended attributes of some entry, ACLs included.
    ClearXattrs { entry: Index },
    /// Puts another kind of entry in the place of some entry, directories included.
    Retype {
        entry: Index,
        node: Node,
        meta: Meta,
    },
    /// Renames some entry, perhaps into another directory.
    Move {
        entry: Index,
        parent: Index,
        name: &'static [u8],
    },
}

impl TreeSpec {
    /// Makes the tree in `root`, which is made if it isn't there.
    #[track_caller]
    pub(crate) fn write_to(&self, root: &Path) {
        fs::create_dir_all(root).expect("create the root");
        apply_all(&self.0, root);
    }
}

/// Applies `changes` in order to the tree at `root`.
#[track_caller]
pub(crate) fn apply_all(changes: &[TreeChange], root: &Path) {
    for change in changes {
        change.apply(root);
    }
}

impl TreeChange {
    /// Applies the change to the tree at `root`; returns whether there was something to change.
    #[track_caller]
    pub(crate) fn apply(&self, root: &Path) -> bool {
        match self {
            Self::Create {
                parent,
                name,
                node,
                meta,
            } => {
                let path = new_path(root, parent, name);
                let full = at(root, &path);
                if fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_dir()) {
                    return false;
                }
                remove(&full);
                make(root, &path, node);
                meta.suited_to(&full).apply(&full);
                true
            }
            Self::Link { file, parent, name } => pick_file(root, file).is_some_and(|existing| {
                let path = new_path(root, parent, name);
                let free = fs::symlink_metadata(at(root, &path)).is_err();
                if free {
                    make(root, &path, &Node::HardLink(existing));
                }
                free
            }),
            Self::Remove { entry } => pick(root, entry).is_some_and(|path| {
                remove(&at(root, &path));
                true
            }),
            Self::Rewrite { file, content } => pick_file(root, file).is_some_and(|path| {
                fs::write(at(root, &path), &content.0).expect("rewrite");
                true
            }),
            Self::SameSizeSameTime { file, offset } => {
                pick_file(root, file).is_some_and(|path| flip_byte(&at(root, &path), offset))
            }
            Self::Append { file, content } => pick_file(root, file).is_some_and(|path| {
                let file = fs::OpenOptions::new().append(true).open(at(root, &path));
                file.expect("open").write_all(&content.0).expect("append");
                true
            }),
            Self::Truncate { file, size } => pick_file(root, file).is_some_and(|path| {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(at(root, &path))
                    .expect("open");
                let length = usize::try_from(file.metadata().expect("stat").len()).unwrap();
                file.set_len(size.index(length + 1) as u64)
                    .expect("truncate");
                true
            }),
            Self::Attributes { entry, meta } => pick(root, entry).is_some_and(|path| {
                meta.suited_to(&at(root, &path)).apply(&at(root, &path));
                true
            }),
            Self::ClearXattrs { entry } => {
                pick(root, entry).is_some_and(|path| clear_xattrs(&at(root, &path)))
            }
            Self::Retype { entry, node, meta } => pick(root, entry).is_some_and(|path| {
                remove(&at(root, &path));
                make(root, &path, node);
                meta.suited_to(&at(root, &path)).apply(&at(root, &path));
                true
            }),
            Self::Move {
                entry,
                parent,
                name,
            } => pick(root, entry).is_some_and(|from| {
                let to = new_path(root, parent, name);
                let inside = to
                    .strip_prefix(from.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
                let free = fs::symlink_metadata(at(root, &to)).is_err();
                if free && !inside {
                    fs::rename(at(root, &from), at(root, &to)).expect("rename");
                }
                free && !inside
            }),
        }
    }
}

impl Meta {
    /// These attributes without those that the entry at `path` can't have.
    fn suited_to(&self, path: &Path) -> Self {
        let kind = fs::symlink_metadata(path).expect("stat").file_type();
        let mut meta = self.clone();
        if !kind.is_dir() && !kind.is_file() {
            meta.xattrs.clear();
        }
        if !kind.is_dir() {
            meta.xattrs.retain(|(name, _)| name != super::acl::DEFAULT);
        }
        if !is_root() {
            // Only root can copy what its owner may not read.
            let needed = if kind.is_dir() { 0o700 } else { 0o600 };
            meta.mode = meta.mode.map(|mode| mode | needed);
        }
        meta
    }
}

fn pick(root: &Path, index: &Index) -> Option<Vec<u8>> {
    choose(paths(root, |_| true), index).filter(|path| !path.is_empty())
}

fn pick_file(root: &Path, index: &Index) -> Option<Vec<u8>> {
    choose(paths(root, |kind| kind.is_file()), index)
}

fn choose(mut paths: Vec<Vec<u8>>, index: &Index) -> Option<Vec<u8>> {
    (!paths.is_empty()).then(|| paths.swap_remove(index.index(paths.len())))
}

/// A path for `name` in some directory of the tree.
fn new_path(root: &Path, parent: &Index, name: &[u8]) -> Vec<u8> {
    let parent = choose(paths(root, |kind| kind.is_dir()), parent).unwrap_or_default();
    if parent.is_empty() {
        name.to_vec()
    } else {
        [&parent, &b"/"[..], name].concat()
    }
}

fn paths(root: &Path, wanted: impl Fn(fs::FileType) -> bool) -> Vec<Vec<u8>> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let entries = entries.map(|entry| entry.expect("walk"));
    let below = |entry: walkdir::DirEntry| {
        let below = entry.path().strip_prefix(root).expect("below the root");
        below.as_os_str().as_bytes().to_vec()
    };
    entries
        .filter(|entry| wanted(entry.file_type()))
        .map(below)
        .collect()
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).expect("remove a directory"),
        Ok(_) => fs::remove_file(path).expect("remove an entry"),
        Err(_) => {}
    }
}

fn flip_byte(path: &Path, offset: &Index) -> bool {
    let before = fs::metadata(path).expect("stat");
    if before.len() == 0 {
        return false;
    }
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let offset = offset.index(usize::try_from(before.len()).unwrap()) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[!byte[0]], offset).expect("write");
    set_mtime(path, before.mtime(), before.mtime_nsec());
    true
}

fn clear_xattrs(path: &Path) -> bool {
    let mut list = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).expect("list attributes");
    let names = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let removed = names
        .map(|name| rustix::fs::lremovexattr(path, name).expect("remove"))
        .count();
    removed > 0
}
