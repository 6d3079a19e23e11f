//! Random trees and random changes to them, for `proptest`.
//!
//! A [`TreeSpec`] is a sequence of [`TreeChange`]s that only create; changes name what they apply
//! to by position among what is there when they are applied, so that any subsequence, as shrinking
//! makes, still applies. A change that finds nothing to apply to does nothing.

use super::acl::Acl;
use super::awkward::pattern;
use super::is_root;
use super::tree::{Content, Meta, Node, at, make, set_mtime};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
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

/// Few names, so that changes meet; some of them awkward.
const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"a-b",
    b"a.b",
    b"index.php",
    b"Index.php",
    b"files",
    b"sites",
    b"private",
    b"new\nline",
    b"\xff\xfe",
    b"-n",
    b" ",
    b"\\x0A*?[",
    "caf\u{e9}".as_bytes(),
    "cafe\u{301}".as_bytes(),
];

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

/// Random trees of up to `entries` entries.
pub(crate) fn tree_spec(entries: usize) -> impl Strategy<Value = TreeSpec> {
    let made = prop_oneof![12 => create(), 1 => link()];
    vec(made, 0..=entries).prop_map(TreeSpec)
}

/// Random sequences of up to `changes` changes.
pub(crate) fn tree_changes(changes: usize) -> impl Strategy<Value = Vec<TreeChange>> {
    vec(tree_change(), 0..=changes)
}

/// One random change of any kind.
pub(crate) fn tree_change() -> impl Strategy<Value = TreeChange> {
    let index = any::<Index>;
    prop_oneof![
        4 => create(),
        1 => link(),
        2 => index().prop_map(|entry| TreeChange::Remove { entry }),
        2 => (index(), content()).prop_map(|(file, content)| TreeChange::Rewrite { file, content }),
        2 => (index(), index())
            .prop_map(|(file, offset)| TreeChange::SameSizeSameTime { file, offset }),
        1 => (index(), content()).prop_map(|(file, content)| TreeChange::Append { file, content }),
        1 => (index(), index()).prop_map(|(file, size)| TreeChange::Truncate { file, size }),
        3 => (index(), meta(true)).prop_map(|(entry, meta)| TreeChange::Attributes { entry, meta }),
        1 => index().prop_map(|entry| TreeChange::ClearXattrs { entry }),
        1 => (index(), node_with_meta())
            .prop_map(|(entry, (node, meta))| TreeChange::Retype { entry, node, meta }),
        2 => (index(), index(), select(&NAMES[..]))
            .prop_map(|(entry, parent, name)| TreeChange::Move { entry, parent, name }),
    ]
}

fn create() -> impl Strategy<Value = TreeChange> {
    (any::<Index>(), select(&NAMES[..]), node_with_meta()).prop_map(
        |(parent, name, (node, meta))| TreeChange::Create {
            parent,
            name,
            node,
            meta,
        },
    )
}

fn link() -> impl Strategy<Value = TreeChange> {
    (any::<Index>(), any::<Index>(), select(&NAMES[..]))
        .prop_map(|(file, parent, name)| TreeChange::Link { file, parent, name })
}

fn node_with_meta() -> impl Strategy<Value = (Node, Meta)> {
    let target = select(vec![
        "a",
        "../a",
        "/",
        ".",
        "..",
        "nowhere",
        "/etc/passwd",
        "a/b/c",
        " ",
        "caf\u{e9}",
    ]);
    let devices = u32::from(is_root());
    let special = prop_oneof![
        2 => Just(Node::Fifo),
        2 => Just(Node::Socket),
        devices => (1_u32..512, 0_u32..70_000).prop_map(|(major, minor)| Node::CharDevice(major, minor)),
        devices => (1_u32..512, 0_u32..70_000).prop_map(|(major, minor)| Node::BlockDevice(major, minor)),
    ];
    let sparse = (0_u64..3_000_000, content()).prop_map(|(size_bytes, bytes)| Node::Sparse {
        size_bytes,
        extents: vec![(size_bytes / 2, bytes)],
    });
    prop_oneof![
        5 => (Just(Node::Directory), meta(true)),
        9 => (content().prop_map(Node::File), meta(false)),
        1 => (sparse, meta(false)),
        3 => (target.prop_map(|target| Node::Symlink(target.into())), bare_meta()),
        1 => (special, bare_meta()),
    ]
}

/// Content of all sizes, compressible or not, some of it shared between files.
fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        1 => Just(Vec::new()),
        6 => vec(any::<u8>(), 1..200),
        3 => (0_u64..5, 1_usize..200_000).prop_map(|(seed, size)| pattern(seed, size)),
        2 => (any::<u8>(), 1_usize..200_000).prop_map(|(byte, size)| vec![byte; size]),
        1 => (0_u64..5).prop_map(|seed| pattern(seed, 64 * 1024)),
    ]
    .prop_map(Content)
}

/// Attributes of files, and of directories if `directory`.
fn meta(directory: bool) -> impl Strategy<Value = Meta> {
    let names: Vec<&[u8]> = vec![b"user.a", b"user.b", b"user.\xff\n"];
    let plain =
        (select(names), vec(any::<u8>(), 0..100)).prop_map(|(name, value)| (name.to_vec(), value));
    let class = select(vec![1_u16, 2, 3, 6]);
    let acl = (class, 0_u16..8, 0_u16..8, 0_u16..8).prop_map(|(group, user, mask, other)| {
        // rsync 3.5.0 loses the owning group's permissions where they equal the mask and the mode
        // has setuid, setgid or sticky, so it can't witness that: they differ from this mask
        // here, and from what any of the modes below makes of it.
        let mask = if mask == group { 7 } else { mask };
        let acl = Acl::of_mode(0o700 | group << 3 | other).user(4_000, user);
        acl.group(4_001, 7 - user).mask(mask).to_xattr()
    });
    let default = acl
        .clone()
        .prop_map(|acl| (super::acl::DEFAULT.to_vec(), acl));
    let acl = acl.prop_map(|acl| (super::acl::ACCESS.to_vec(), acl));
    // Without root rsync fails at some changes of ACLs.
    let root = u32::from(is_root());
    let xattr = prop_oneof![5 => plain, 2 * root => acl, root * u32::from(directory) => default];
    let xattrs = prop_oneof![3 => Just(Vec::new()), 1 => vec(xattr, 1..4)];
    (bare_meta(), xattrs).prop_map(|(meta, xattrs)| Meta { xattrs, ..meta })
}

/// Mode, owner and time, which every kind of entry has.
fn bare_meta() -> impl Strategy<Value = Meta> {
    let modes = vec![
        0o644, 0o600, 0o640, 0o755, 0o700, 0o444, 0o2755, 0o1777, 0o4755,
    ];
    let owners = vec![(0, 0), (33, 33), (54_321, 54_322), (0, 33)];
    let owner = if is_root() {
        select(owners).prop_map(Some).boxed()
    } else {
        Just(None).boxed()
    };
    let seconds = prop_oneof![
        4 => 1_500_000_000_i64..1_700_000_000,
        1 => Just(1_600_000_000_i64),
        1 => -1_000_000_000_i64..5_000_000_000,
    ];
    let nanoseconds = prop_oneof![1 => Just(0_i64), 1 => 0_i64..1_000_000_000];
    (select(modes), owner, (seconds, nanoseconds)).prop_map(|(mode, owner, mtime)| Meta {
        mode: Some(mode),
        owner,
        mtime: Some(mtime),
        xattrs: Vec::new(),
    })
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
