//! One entry of a tree: what it is, and the metadata that a push preserves.

use crate::digest::Digest;
use crate::path::{Name, RelPath};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What an entry is, with the content that its kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; its entries are a [`Directory`](crate::manifest::Directory) of their own.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of the content.
        content: Digest,
    },
    /// A further name of a regular file that comes earlier in manifest order. Its metadata is the
    /// leader's.
    HardLink {
        /// The first name of the same file.
        leader: RelPath,
    },
    /// A symbolic link.
    Symlink {
        /// The target exactly as stored, 1 to 4,095 bytes without NUL.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket node.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind {
    /// True if both are the same sort of thing, whatever their content.
    pub fn same_sort(&self, other: &Self) -> bool {
        self.is_regular() && other.is_regular()
            || std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// A regular file, under its first or a further name.
    pub fn is_regular(&self) -> bool {
        matches!(self, Self::File { .. } | Self::HardLink { .. })
    }

    /// A directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }
}

/// A user or group: by name where the source has one, otherwise by number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Principal {
    /// A numeric id, applied as it is.
    Id(u32),
    /// A name, mapped to the member's own id.
    Name(Arc<str>),
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A point in time as file systems store it. Packed, since a tree has several for each entry: 12 bytes
/// instead of 16, and 16 instead of 24 where it may be absent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[repr(Rust, packed(4))]
pub struct Time {
    /// Seconds since 1970, possibly negative.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Extended attributes, sorted by name. POSIX ACLs are among them under their system names.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// The metadata of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The permission bits `07777`; `0o777` for symbolic links.
    pub mode: u32,
    /// Owner.
    pub user: Principal,
    /// Group.
    pub group: Principal,
    /// Modification time. `None` for a directory that holds an excluded or preserved name: its
    /// time is neither set nor compared.
    pub mtime: Option<Time>,
    /// Extended attributes; mostly none, so boxed away.
    pub xattrs: Option<Arc<Xattrs>>,
}

impl Meta {
    /// What stands in the place of a hard link's metadata, which is its leader's.
    pub fn of_link() -> Self {
        Self {
            mode: 0,
            user: Principal::Id(0),
            group: Principal::Id(0),
            mtime: None,
            xattrs: None,
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the directory.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    pub meta: Meta,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_entries_fit_into_140_megabytes() {
        assert_eq!(size_of::<Time>(), 12);
        assert_eq!(size_of::<Option<Time>>(), 16);
        assert!(size_of::<Entry>() <= 136, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_further_name_is_the_same_sort_as_a_file_and_nothing_else_is() {
        let leader = RelPath::parse(b"a").unwrap();
        let content = Digest::of(b"x");
        let (major, minor) = (1, 3);
        let kinds = [
            Kind::File { size: 1, content },
            Kind::HardLink { leader },
            Kind::Directory,
            Kind::Fifo,
            Kind::Socket,
            Kind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor },
        ];
        for (at, one) in kinds.iter().enumerate() {
            assert_eq!(one.is_regular(), at < 2, "{one:?}");
            for (other_at, other) in kinds.iter().enumerate() {
                let same = at == other_at || at.max(other_at) == 1;
                assert_eq!(one.same_sort(other), same, "{one:?} {other:?}");
            }
        }
        let name = Principal::Name("www-data".into());
        assert_eq!(
            format!("{} {name} {name:?}", Principal::Id(33)),
            "33 www-data www-data"
        );
    }
}
