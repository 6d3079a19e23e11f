//! The one error of the disk: which operation, on which path, and what the kernel said.

use rustix::io::Errno;
use sync_proto::path::escape;
use thiserror::Error;

/// A failed operation on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Can't {op} `{path}`")]
pub struct FsError {
    /// What was tried, as a verb: `open`, `rename`.
    pub op: &'static str,
    /// The path as far as it is known, escaped for printing.
    pub path: String,
    /// The kernel's answer.
    pub source: Errno,
}

impl FsError {
    /// An error about `path`, given as raw bytes.
    pub fn new(op: &'static str, path: &[u8], source: Errno) -> Self {
        Self {
            op,
            path: escape(path),
            source,
        }
    }

    /// Something bears the name already.
    pub fn taken(path: &[u8]) -> Self {
        Self::new("rename without replacing to", path, Errno::EXIST)
    }

    /// An entry that should be there isn't.
    pub fn gone(path: &[u8]) -> Self {
        Self::new("find", path, Errno::NOENT)
    }

    /// A name of our own that is none.
    pub fn bad_name(name: &[u8]) -> Self {
        Self::new("name an entry", name, Errno::INVAL)
    }

    /// The same for an error of `std`, whose kernel error is kept where it has one.
    pub fn from_io(op: &'static str, path: &[u8], source: &std::io::Error) -> Self {
        Self::new(op, path, Errno::from_io_error(source).unwrap_or(Errno::IO))
    }

    /// The entry, or a directory above it, doesn't exist.
    pub fn is_not_found(&self) -> bool {
        self.source == Errno::NOENT
    }

    /// The name is taken.
    pub fn is_exists(&self) -> bool {
        matches!(self.source, Errno::EXIST | Errno::NOTEMPTY)
    }

    /// No blocks, no inodes, or a quota that is used up.
    pub fn is_no_space(&self) -> bool {
        matches!(self.source, Errno::NOSPC | Errno::DQUOT)
    }

    /// The file system is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.source == Errno::ROFS
    }

    /// The process lacks the permission.
    pub fn is_permission(&self) -> bool {
        matches!(self.source, Errno::PERM | Errno::ACCESS)
    }

    /// A symlink where none may be.
    pub fn is_symlink(&self) -> bool {
        self.source == Errno::LOOP
    }

    /// The way leads into another mount, or a rename would cross one.
    pub fn is_other_mount(&self) -> bool {
        self.source == Errno::XDEV
    }

    /// The entry is of another kind than the operation needs.
    pub fn is_wrong_kind(&self) -> bool {
        matches!(
            self.source,
            Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL
        )
    }

    /// The file system doesn't know this sort of operation, such as an exchange of names.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.source, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
    }

    /// Something else uses the entry: a mount point, for one.
    pub fn is_busy(&self) -> bool {
        self.source == Errno::BUSY
    }

    /// `openat2` is missing: an old kernel, or a sandbox that hides it.
    pub fn is_no_openat2(&self) -> bool {
        self.source == Errno::NOSYS
    }
}

/// `directory/name` for messages.
pub(super) fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        _ if matches!(name, b"" | b".") => directory.to_vec(),
        [] | [.., b'/'] => [directory, name].concat(),
        _ => [directory, b"/", name].concat(),
    }
}

/// For removals: what is gone already needs no removing.
pub fn absent_is_fine(result: Result<(), FsError>) -> Result<(), FsError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
