//! A small language for trees on disk: every kind of entry, every attribute.
//!
//! ```ignore
//! Tree::new()
//!     .file("code/index.php", "<?php").mode(0o640).xattr("user.note", "x")
//!     .symlink("code/latest", "../releases/7")
//!     .hard_link("code/same.php", "code/index.php")
//!     .write_to(&source);
//! ```
//!
//! Whatever a test doesn't say is still deterministic: modes don't depend on the umask, and each
//! time is derived from the path. Entries are made in the order they are named, missing parents
//! before them; the attributes of directories are set last, the deepest first.

use super::acl::{self, Acl};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The second that the times of entries that name none are counted from (November 2023).
const BASE_SECONDS: i64 = 1_700_000_000;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Content),
    /// A file of `size_bytes` that is a hole but for some extents.
    Sparse {
        size_bytes: u64,
        extents: Vec<(u64, Content)>,
    },
    Symlink(Vec<u8>),
    /// Another name of the entry at this path below the root.
    HardLink(Vec<u8>),
    Fifo,
    Socket,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// Bytes of a file; only the beginning is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let beginning = &self.0[..self.0.len().min(SHOWN)];
        write!(f, "{} bytes \"{}\"", self.0.len(), beginning.escape_ascii())
    }
}

/// Attributes; `None` leaves what making the entry gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits, `07777`.
    pub(crate) mode: Option<u32>,
    /// User and group by number.
    pub(crate) owner: Option<(u32, u32)>,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: Option<(i64, i64)>,
    /// Extended attributes, ACLs included.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tree that doesn't exist yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    entries: Vec<(Vec<u8>, Node, Meta)>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::Directory)
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::File(Content(content.as_ref().to_vec())))
    }

    /// A file that is one hole, but for `extents` of (offset, bytes).
    pub(crate) fn sparse(
        self,
        path: impl AsRef<[u8]>,
        size_bytes: u64,
        extents: &[(u64, &[u8])],
    ) -> Self {
        let extents = extents
            .iter()
            .map(|&(at, bytes)| (at, Content(bytes.to_vec())))
            .collect();
        self.entry(
            path,
            Node::Sparse {
                size_bytes,
                extents,
            },
        )
    }

    pub(crate) fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::Symlink(target.as_ref().to_vec()))
    }

    /// A further name of `existing`, which was named before.
    pub(crate) fn hard_link(self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::HardLink(existing.as_ref().to_vec()))
    }

    pub(crate) fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::Fifo)
    }

    pub(crate) fn socket(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(path, Node::Socket)
    }

    pub(crate) fn char_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(path, Node::CharDevice(major, minor))
    }

    pub(crate) fn block_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(path, Node::BlockDevice(major, minor))
    }

    /// One more entry. The path is relative; the empty path is the root.
    pub(crate) fn entry(mut self, path: impl AsRef<[u8]>, node: Node) -> Self {
        self.entries
            .push((path.as_ref().to_vec(), node, Meta::default()));
        self
    }

    /// Sets the permission bits of the entry named last.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.last().mode = Some(mode);
        self
    }

    /// Sets user and group of the entry named last. Needs root for others than one's own.
    pub(crate) fn owner(mut self, user: u32, group: u32) -> Self {
        self.last().owner = Some((user, group));
        self
    }

    /// Sets the modification time of the entry named last.
    pub(crate) fn mtime(mut self, seconds: i64, nanoseconds: i64) -> Self {
        self.last().mtime = Some((seconds, nanoseconds));
        self
    }

    /// Gives the entry named last an extended attribute.
    pub(crate) fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let pair = (name.as_ref().to_vec(), value.as_ref().to_vec());
        self.last().xattrs.push(pair);
        self
    }

    /// Gives the entry named last an access ACL, which also decides its permission bits.
    pub(crate) fn acl(self, acl: &Acl) -> Self {
        self.xattr(acl::ACCESS, acl.to_xattr())
    }

    /// Gives the directory named last a default ACL.
    pub(crate) fn default_acl(self, acl: &Acl) -> Self {
        self.xattr(acl::DEFAULT, acl.to_xattr())
    }

    /// This tree and the other one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// This tree, in which entries of `other` take the place of those with the same path.
    pub(crate) fn overwritten_by(mut self, other: &Self) -> Self {
        for entry in &other.entries {
            match self.entries.iter_mut().find(|(path, ..)| *path == entry.0) {
                Some(existing) => *existing = entry.clone(),
                None => self.entries.push(entry.clone()),
            }
        }
        self
    }

    /// This tree moved below `directory`; targets of symlinks stay as they are.
    pub(crate) fn below(mut self, directory: impl AsRef<[u8]>) -> Self {
        let moved = |path: &[u8]| match path {
            b"" => directory.as_ref().to_vec(),
            path => [directory.as_ref(), b"/", path].concat(),
        };
        for (path, node, _) in &mut self.entries {
            *path = moved(path);
            if let Node::HardLink(existing) = node {
                *existing = moved(existing);
            }
        }
        self
    }

    /// Makes the tree at `root`, which may exist; its entries may not.
    #[track_caller]
    pub(crate) fn write_to(&self, root: &Path) {
        fs::create_dir_all(root).expect("create the root");
        let mut implied = BTreeSet::from([Vec::new()]);
        for (path, node, _) in &self.entries {
            for end in (0..path.len()).filter(|&at| path[at] == b'/') {
                if implied.insert(path[..end].to_vec()) {
                    make(root, &path[..end], &Node::Directory);
                }
            }
            if *node == Node::Directory {
                if implied.insert(path.clone()) {
                    make(root, path, node);
                }
            } else {
                make(root, path, node);
            }
        }
        let named = |path: &Vec<u8>| self.entries.iter().any(|(named, ..)| named == path);
        let defaults = Meta::default();
        let mut to_apply: Vec<_> = implied
            .iter()
            .filter(|path| !named(path))
            .map(|path| (path, &Node::Directory, &defaults))
            .chain(
                self.entries
                    .iter()
                    .map(|(path, node, meta)| (path, node, meta)),
            )
            .filter(|(_, node, _)| !matches!(node, Node::HardLink(_)))
            .collect();
        // The deepest first, so that nothing is made below a directory whose time is set.
        to_apply.sort_by_key(|(path, ..)| std::cmp::Reverse(depth(path)));
        for (path, node, meta) in to_apply {
            meta.or_defaults_for(path, node).apply(&at(root, path));
        }
    }

    fn last(&mut self) -> &mut Meta {
        &mut self
            .entries
            .last_mut()
            .expect("an entry comes before its attributes")
            .2
    }
}

impl Meta {
    /// Sets these attributes on the entry at `path` itself, never on what a symlink leads to.
    #[track_caller]
    pub(crate) fn apply(&self, path: &Path) {
        let context = |what| format!("set {what} of {}", path.display());
        let is_symlink = fs::symlink_metadata(path).expect("stat").is_symlink();
        if let Some((user, group)) = self.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::chownat(
                CWD,
                path,
                Some(user),
                Some(group),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap_or_else(|error| panic!("{}: {error}", context("owner")));
        }
        if let Some(mode) = self.mode.filter(|_| !is_symlink) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .unwrap_or_else(|error| panic!("{}: {error}", context("mode")));
        }
        for (name, value) in &self.xattrs {
            rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty())
                .unwrap_or_else(|error| panic!("{}: {error}", context("an attribute")));
        }
        if let Some((seconds, nanoseconds)) = self.mtime {
            set_mtime(path, seconds, nanoseconds);
        }
    }

    fn or_defaults_for(&self, path: &[u8], node: &Node) -> Self {
        let default_mode = match node {
            Node::Directory => 0o755,
            _ => 0o644,
        };
        let hash = u64::from_le_bytes(blake3::hash(path).as_bytes()[..8].try_into().unwrap());
        let offset = i64::try_from(hash % 30_000_000).unwrap();
        let nanoseconds = i64::try_from(hash / 7 % 1_000_000_000).unwrap();
        Self {
            mode: self.mode.or(Some(default_mode)),
            owner: self.owner,
            mtime: self.mtime.or(Some((BASE_SECONDS + offset, nanoseconds))),
            xattrs: self.xattrs.clone(),
        }
    }
}

/// Makes one entry below `root`; its parent exists, it doesn't.
#[track_caller]
pub(crate) fn make(root: &Path, path: &[u8], node: &Node) {
    let full = at(root, path);
    make_node(root, &full, node)
        .unwrap_or_else(|error| panic!("make {} as {node:?}: {error}", full.display()));
}

fn make_node(root: &Path, path: &Path, node: &Node) -> std::io::Result<()> {
    match node {
        Node::Directory => fs::create_dir(path),
        Node::File(content) => fs::File::create_new(path)?.write_all(&content.0),
        Node::Sparse {
            size_bytes,
            extents,
        } => {
            let mut file = fs::File::create_new(path)?;
            file.set_len(*size_bytes)?;
            extents.iter().try_for_each(|(offset, bytes)| {
                file.seek(SeekFrom::Start(*offset))?;
                file.write_all(&bytes.0)
            })
        }
        Node::Symlink(target) => symlink(OsStr::from_bytes(target), path),
        Node::HardLink(existing) => {
            let existing = at(root, existing);
            Ok(rustix::fs::linkat(
                CWD,
                &existing,
                CWD,
                path,
                AtFlags::empty(),
            )?)
        }
        Node::Fifo => make_special(path, FileType::Fifo, 0, 0),
        Node::Socket => make_special(path, FileType::Socket, 0, 0),
        &Node::CharDevice(major, minor) => {
            make_special(path, FileType::CharacterDevice, major, minor)
        }
        &Node::BlockDevice(major, minor) => make_special(path, FileType::BlockDevice, major, minor),
    }
}

fn make_special(path: &Path, kind: FileType, major: u32, minor: u32) -> std::io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(
        CWD,
        path,
        kind,
        Mode::from_raw_mode(0o644),
        device,
    )?)
}

/// Sets the modification time of the entry itself.
#[track_caller]
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| panic!("set the time of {}: {error}", path.display()));
}

/// The path of the entry with these raw bytes below `root`.
pub(crate) fn at(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() {
        root.to_owned()
    } else {
        root.join(OsStr::from_bytes(path))
    }
}

fn depth(path: &[u8]) -> usize {
    if path.is_empty() {
        0
    } else {
        1 + path.iter().filter(|&&byte| byte == b'/').count()
    }
}
