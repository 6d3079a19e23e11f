//! Random trees and random changes to them, for `proptest`.

use super::acl::Acl;
use super::awkward::pattern;
pub(crate) use super::change::{TreeChange, TreeSpec, apply_all};
use super::is_root;
use super::tree::{Content, Meta, Node};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

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
