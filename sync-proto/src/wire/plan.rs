//! What a commit would do on one member, as numbers and item by item.

use crate::entry::Kind;
use serde::{Deserialize, Serialize};

/// The numbers that brakes look at, and things worth saying, before the first write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Entries there now (managed ones).
    pub entries: u64,
    /// Entries that are new.
    pub added: u64,
    /// Entries whose kind or content changes.
    pub replaced: u64,
    /// Entries of which only metadata changes.
    pub touched: u64,
    /// Entries that go, those among them that were never committed included.
    pub deleted: u64,
    /// How many of those were never committed: they are moved aside, and nobody loses them.
    pub surplus: u64,
    /// Committed directories in the root that vanish.
    pub vanished_top: Vec<Vec<u8>>,
    /// The first few paths that go.
    pub deleted_examples: Vec<Vec<u8>>,
    /// Entries that differ from what was committed and will be moved aside.
    pub drifted: u64,
    /// Entries of an adopted root that aren't ours and stay.
    pub foreign: u64,
    /// Directories that left the manifest but hold what may not go.
    pub kept: Vec<Vec<u8>>,
    /// Content bytes to write.
    pub write_bytes: u64,
    /// Bytes free on the member's file system.
    pub free_bytes: u64,
    /// Inodes to create.
    pub write_inodes: u64,
    /// Inodes free; `u64::MAX` where the file system has no limit.
    pub free_inodes: u64,
    /// The root is another kind of thing than at the last commit.
    pub root_changed: Option<String>,
    /// Why the member would vote no.
    pub conflicts: Vec<Notice>,
    /// Things worth saying.
    pub notices: Vec<Notice>,
    /// The first few topmost foreign paths.
    pub foreign_paths: Vec<Vec<u8>>,
}

/// Something about one path. Names are raw bytes; whoever prints them escapes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `FXnnnn`, or empty for mere information.
    pub code: String,
    /// Which path; empty for none.
    pub path: Vec<u8>,
    /// What about it.
    pub message: String,
}

/// What happens to one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ItemKind {
    /// It is new here; for verify: missing.
    Added,
    /// It goes; for verify: extra.
    Removed,
    /// Its kind or content changes.
    Content,
    /// Its metadata changes.
    Meta,
}

/// One entry of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub kind: ItemKind,
    /// Its sort: `f` file, `d` directory, `l` symlink, `h` hard link, `p` fifo, `s` socket,
    /// `c`/`b` device.
    pub sort: u8,
    /// Which attributes differ, for [`ItemKind::Content`] and [`ItemKind::Meta`]: `s` size or
    /// content, `t` time, `p` mode, `o` owner, `g` group, `x` xattrs or ACLs.
    pub attributes: String,
}

/// The sort of an entry of this kind, as [`Item::sort`] has it.
pub const fn sort_letter(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => b'd',
        Kind::File { .. } => b'f',
        Kind::HardLink { .. } => b'h',
        Kind::Symlink { .. } => b'l',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
        Kind::CharDevice { .. } => b'c',
        Kind::BlockDevice { .. } => b'b',
    }
}
