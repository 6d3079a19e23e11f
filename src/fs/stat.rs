//! What `stat` says about an entry, in the width that a tree of a million entries can afford.

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use sync_proto::entry::Time;

/// What a scan needs; `BASIC_STATS` without access time and block count.
const SCANNED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::GID)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);

/// What sort of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket node.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// The file system doesn't say (`DT_UNKNOWN`), or says something that Linux doesn't know.
    Unknown,
}

impl From<FileType> for FileKind {
    fn from(file_type: FileType) -> Self {
        match file_type {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => Self::Unknown,
        }
    }
}

/// The metadata that one `stat` call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Number of the device that holds it; says nothing about bind mounts.
    pub dev: u64,
    /// Length in bytes.
    pub size: u64,
    /// For devices, the device that the node names.
    pub rdev: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of the inode. Nobody can set it.
    pub ctime: Time,
    /// `st_mode` whole: type and permission bits. [`Self::kind`] and [`Self::permissions`] split it.
    pub raw_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u32,
}

impl Stat {
    /// What sort of thing it is.
    pub fn kind(&self) -> FileKind {
        FileType::from_raw_mode(self.raw_mode).into()
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileKind::File
    }

    /// True for a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == FileKind::Symlink
    }

    /// The permission bits `07777`.
    pub fn permissions(&self) -> u32 {
        self.raw_mode & 0o7777
    }

    /// Major and minor number of a device node.
    pub fn device(&self) -> (u32, u32) {
        (rustix::fs::major(self.rdev), rustix::fs::minor(self.rdev))
    }

    /// True if `other` is the same inode of the same device.
    pub fn same_inode(&self, other: &Self) -> bool {
        self.ino == other.ino && self.dev == other.dev
    }

    /// True if nothing says that the content changed between the two looks: inode, size, mtime and
    /// ctime are equal.
    pub fn same_content_stamp(&self, other: &Self) -> bool {
        self.ino == other.ino
            && self.size == other.size
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }
}

impl Stat {
    /// `fstat` of an open descriptor.
    /// That of an open file.
    pub fn of_file(file: &std::fs::File) -> Result<Self, super::FsError> {
        Self::of(file).map_err(|errno| super::FsError::new("stat", b"an open file", errno))
    }

    pub(super) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(fd).map(Self::from)
    }

    /// `stat` of one name, not following it.
    pub(super) fn at(dir: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(Self::from)
    }

    /// The same by `statx`, which costs the same and tells if the name is a mount point.
    pub(super) fn scan(dir: impl AsFd, name: &[u8]) -> Result<(Self, bool), Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        let raw = rustix::fs::statx(dir, name, flags, SCANNED)?;
        let is_mount_point = raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        Ok((Self::from(raw), is_mount_point))
    }
}

impl From<Statx> for Stat {
    fn from(raw: Statx) -> Self {
        Self {
            ino: logical(
                rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
                raw.stx_ino,
            ),
            dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            size: raw.stx_size,
            rdev: rustix::fs::makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
            mtime: time(raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
            ctime: time(raw.stx_ctime.tv_sec, raw.stx_ctime.tv_nsec),
            raw_mode: u32::from(raw.stx_mode),
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            nlink: raw.stx_nlink,
        }
    }
}

impl From<rustix::fs::Stat> for Stat {
    fn from(raw: rustix::fs::Stat) -> Self {
        Self {
            ino: logical(raw.st_dev, raw.st_ino),
            dev: raw.st_dev,
            size: u64::try_from(raw.st_size).unwrap_or(0),
            rdev: raw.st_rdev,
            mtime: time(raw.st_mtime, raw.st_mtime_nsec),
            ctime: time(raw.st_ctime, raw.st_ctime_nsec),
            raw_mode: raw.st_mode,
            uid: raw.st_uid,
            gid: raw.st_gid,
            nlink: u32::try_from(raw.st_nlink).unwrap_or(u32::MAX),
        }
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> Time {
    Time {
        seconds,
        nanoseconds: nanoseconds.try_into().unwrap_or(0),
    }
}

#[cfg(test)]
use super::power::logical;

/// Only in tests does an inode stand for another one.
#[cfg(not(test))]
fn logical(_device: u64, ino: u64) -> u64 {
    ino
}
