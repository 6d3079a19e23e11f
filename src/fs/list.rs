//! The names in one directory.

use super::dir::Dir;
use super::error::FsError;
use super::stat::FileKind;
use rustix::fs::RawDir;
use rustix::io::Errno;
use std::cell::RefCell;
use std::os::fd::AsFd;
use sync_proto::path::{Name, RelPath};

/// Holds about a thousand entries; larger buffers gained nothing.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(BUFFER_BYTES));
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Name,
    /// Its kind as far as the directory knows it; [`FileKind::Unknown`] on some file systems.
    pub kind: FileKind,
    /// Its inode; that of the directory below where something is mounted on it.
    pub ino: u64,
}

/// File systems that give a directory another ctime with every name that comes or goes: ext2, ext3
/// and ext4, XFS, Btrfs, F2FS, ZFS, tmpfs. Not those whose directories others change behind our
/// kernel, or that are put together from several.
const DATING: [u32; 6] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0x0102_1994,
];

impl Dir {
    /// True if a directory here that has the ctime that it had has the names that it had.
    pub fn dates_its_names(&self) -> bool {
        rustix::fs::fstatfs(self).is_ok_and(|fs| {
            // The magic numbers have 32 bits, in a field whose width depends on the machine.
            DATING.contains(&(fs.f_type as u32))
        })
    }

    /// The same as [`Self::list`], of a directory that was opened for nothing else and never listed.
    pub fn list_once(&self) -> Result<Vec<Listed>, FsError> {
        read_names(self).map_err(|errno| self.error("list", b"", errno))
    }

    /// All names in this directory, in the order of the file system, without `.` and `..`.
    pub fn list(&self) -> Result<Vec<Listed>, FsError> {
        // A descriptor of its own, since the position in a directory belongs to the descriptor.
        let fresh = self.open_dir_at(&RelPath::root())?;
        read_names(&fresh).map_err(|errno| self.error("list", b"", errno))
    }
}

/// Reads a directory from the descriptor's current position to its end.
pub(super) fn read_names(directory: impl AsFd) -> Result<Vec<Listed>, Errno> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut names = Vec::new();
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            // A name that isn't one component is `.` or `..`: the kernel makes no others.
            if let Ok(name) = Name::parse(entry.file_name().to_bytes()) {
                names.push(Listed {
                    name,
                    kind: entry.file_type().into(),
                    ino: entry.ino(),
                });
            }
        }
        Ok(names)
    })
}
