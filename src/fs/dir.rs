//! [`Dir`]: a directory by its descriptor, and how everything below it is opened.
//!
//! Every open goes through `openat2` with `RESOLVE_BENEATH`, `NO_SYMLINKS`, `NO_MAGICLINKS` and
//! `NO_XDEV`. The one exception is a configured path, such as that of an allowed directory or a
//! state directory, which its administrator may reach through symlinks and mounts: it is resolved
//! once, and pinned. ([`Dir::open_dir_or_mount`] goes into a mount that an administrator made.)
//!
//! Invariant (I5): no method reaches outside the directory that it was called on.
//!
//! RACE: a directory that a process with write access to it moves elsewhere while we hold it stays
//! held, and single entries are then read or written at its new place. The worst outcome is an
//! entry of that process's own directory; nothing above it is reachable.

use super::error::{FsError, joined};
use super::fault;
use super::stat::Stat;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use sync_proto::path::{Name, RelPath};
use thiserror::Error;

/// How everything below a root is resolved.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Without `O_NOFOLLOW`: `NO_SYMLINKS` refuses the last component too, and says why (`ELOOP`).
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Files that others made: no symlink, no waiting for the other end of a pipe, no terminal.
const FOREIGN: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The kernel takes at most 4,095 bytes of path at a time.
const MAX_STEP_BYTES: usize = 4000;

/// `openat2` doesn't work here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "The system call openat2 is not available ({0}). fanout needs it to stay inside a tree \
     whatever others do there, and has no weaker substitute. It needs Linux 5.6 or newer; the \
     systemd options RestrictSUIDSGID= and DynamicUser= and some container sandboxes hide it"
)]
pub struct NoOpenat2(pub Errno);

/// Tries `openat2` once; to be called at start.
///
/// # Errors
/// [`NoOpenat2`], with what to look for.
pub fn probe_openat2() -> Result<(), NoOpenat2> {
    let root =
        openat2(CWD, c"/", DIRECTORY, Mode::empty(), ResolveFlags::empty()).map_err(NoOpenat2)?;
    openat2(root, c".", DIRECTORY, Mode::empty(), BENEATH)
        .map(drop)
        .map_err(NoOpenat2)
}

/// A directory, held by its descriptor.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was when it was opened: for messages only, never resolved.
    path: Box<[u8]>,
    /// If what is made here inherits an ACL; asked once.
    pub(super) has_default_acl: OnceLock<bool>,
}

impl Dir {
    fn of(fd: OwnedFd, path: Box<[u8]>) -> Self {
        Self {
            fd,
            path,
            has_default_acl: OnceLock::new(),
        }
    }

    /// Opens a configured, trusted directory. Its path is resolved here and never again; symlinks
    /// and mounts on the way to it are its administrator's business.
    pub fn open_absolute(path: &Path) -> Result<Self, FsError> {
        let bytes = path.as_os_str().as_bytes();
        if !path.is_absolute() {
            return Err(FsError::new("open the relative path", bytes, Errno::INVAL));
        }
        let fd = openat2(
            CWD,
            path,
            DIRECTORY,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(|errno| FsError::new("open the directory", bytes, errno))?;
        Ok(Self::of(fd, bytes.into()))
    }

    /// Pins the directory that holds a configured path, and returns it with the last component,
    /// which is not looked at.
    pub fn open_parent_of(path: &Path) -> Result<(Self, Name), FsError> {
        let bytes = path.as_os_str().as_bytes();
        let end = bytes
            .iter()
            .rposition(|&b| b != b'/')
            .map_or(0, |at| at + 1);
        let start = bytes[..end]
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |at| at + 1);
        let name = Name::parse(&bytes[start..end])
            .map_err(|_| FsError::new("find the last name of", bytes, Errno::INVAL))?;
        let parent = Path::new(std::ffi::OsStr::from_bytes(&bytes[..start]));
        Ok((Self::open_absolute(parent)?, name))
    }

    /// Opens the directory `name`; a symlink or another mount is an error.
    pub fn open_dir(&self, name: &Name) -> Result<Self, FsError> {
        self.open_dir_bytes(name.as_bytes())
    }

    /// Opens the directory `name`, also where something is mounted there: for names that an
    /// administrator configured, who alone can mount. A symlink is an error as ever.
    pub fn open_dir_or_mount(&self, name: &Name) -> Result<Self, FsError> {
        let resolve = BENEATH.difference(ResolveFlags::NO_XDEV);
        let path = name.as_bytes();
        let fd = openat2(&self.fd, path, DIRECTORY, Mode::empty(), resolve)
            .map_err(|errno| self.error("open the directory", path, errno))?;
        Ok(Self::of(fd, joined(&self.path, path).into()))
    }

    /// Opens the directory `name`; `None` if there is nothing of that name.
    pub fn try_open_dir(&self, name: &Name) -> Result<Option<Self>, FsError> {
        absent_as_none(self.open_dir(name))
    }

    /// Opens the directory at `path` beneath this one; the root path opens this one again.
    pub fn open_dir_at(&self, path: &RelPath) -> Result<Self, FsError> {
        if path.is_root() {
            return self.open_dir_bytes(b".");
        }
        let mut rest = path.as_bytes();
        let mut reached: Option<Self> = None;
        while rest.len() > MAX_STEP_BYTES {
            let cut = rest[..MAX_STEP_BYTES]
                .iter()
                .rposition(|&b| b == b'/')
                .unwrap_or(MAX_STEP_BYTES);
            reached = Some(
                reached
                    .as_ref()
                    .unwrap_or(self)
                    .open_dir_bytes(&rest[..cut])?,
            );
            rest = rest.get(cut + 1..).unwrap_or_default();
        }
        reached.as_ref().unwrap_or(self).open_dir_bytes(rest)
    }

    /// Like [`Self::open_dir_at`]; `None` if the directory or one above it doesn't exist.
    pub fn try_open_dir_at(&self, path: &RelPath) -> Result<Option<Self>, FsError> {
        absent_as_none(self.open_dir_at(path))
    }

    /// Opens the directory that holds `path`, and returns it with the last name; `None` for the
    /// root, which nothing beneath holds.
    pub fn open_parent_at(&self, path: &RelPath) -> Result<Option<(Self, Name)>, FsError> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(Some((self.open_dir_at(&parent)?, name))),
            _ => Ok(None),
        }
    }

    fn open_dir_bytes(&self, path: &[u8]) -> Result<Self, FsError> {
        let fd = self.open(path, DIRECTORY, Mode::empty(), "open the directory")?;
        Ok(Self::of(fd, joined(&self.path, path).into()))
    }

    /// Opens the regular file `name` for reading.
    pub fn open_file(&self, name: &Name) -> Result<File, FsError> {
        Ok(self.open_file_with_stat(name)?.0)
    }

    /// Opens the regular file `name` for reading, with the `fstat` that proved it regular.
    pub fn open_file_with_stat(&self, name: &Name) -> Result<(File, Stat), FsError> {
        self.open_regular(name, FOREIGN | OFlags::RDONLY, "open the file")
    }

    /// Opens the regular file `name` for reading without leaving a trace in its access time, if
    /// this process may ask for that.
    pub fn open_file_quietly(&self, name: &Name) -> Result<(File, Stat), FsError> {
        let file = self.open_unproved_quietly(name)?;
        let stat = self.prove_regular(&file, name, "open the file")?;
        Ok((file, stat))
    }

    /// The same, of whatever is there: the caller proves by a later `fstat` what he has read.
    pub(super) fn open_unproved_quietly(&self, name: &Name) -> Result<File, FsError> {
        let (op, flags) = ("open the file", FOREIGN | OFlags::RDONLY);
        let quiet = flags | OFlags::NOATIME;
        let fd = match self.open(name.as_bytes(), quiet, Mode::empty(), op) {
            // Only the owner of a file and root may ask for it.
            Err(error) if error.source == Errno::PERM => {
                self.open(name.as_bytes(), flags, Mode::empty(), op)?
            }
            other => other?,
        };
        Ok(File::from(fd))
    }

    /// Opens the existing regular file `name` for reading and writing; its content stays.
    pub fn open_file_for_update(&self, name: &Name) -> Result<File, FsError> {
        let flags = FOREIGN | OFlags::RDWR;
        Ok(self
            .open_regular(name, flags, "open for writing the file")?
            .0)
    }

    fn open_regular(
        &self,
        name: &Name,
        flags: OFlags,
        op: &'static str,
    ) -> Result<(File, Stat), FsError> {
        let file = File::from(self.open(name.as_bytes(), flags, Mode::empty(), op)?);
        let stat = self.prove_regular(&file, name, op)?;
        Ok((file, stat))
    }

    fn prove_regular(&self, file: &File, name: &Name, op: &'static str) -> Result<Stat, FsError> {
        let stat = Stat::of(file).map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        if stat.is_file() {
            Ok(stat)
        } else if stat.is_directory() {
            Err(self.error(op, name.as_bytes(), Errno::ISDIR))
        } else {
            Err(self.error("open as a regular file", name.as_bytes(), Errno::INVAL))
        }
    }

    /// A descriptor of `name` itself, whatever it is (`O_PATH`): for metadata only.
    pub fn open_entry(&self, name: &Name) -> Result<OwnedFd, FsError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // NO_SYMLINKS would refuse a symlink as the last component too; a name has no other.
        let resolve = BENEATH.difference(ResolveFlags::NO_SYMLINKS);
        openat2(&self.fd, name.as_bytes(), flags, Mode::empty(), resolve)
            .map_err(|errno| self.error("open", name.as_bytes(), errno))
    }

    pub(super) fn open(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        op: &'static str,
    ) -> Result<OwnedFd, FsError> {
        openat2(&self.fd, path, flags, mode, BENEATH).map_err(|errno| self.error(op, path, errno))
    }

    /// The metadata of `name` itself, never of what a symlink names; `None` if it doesn't exist.
    pub fn stat(&self, name: &Name) -> Result<Option<Stat>, FsError> {
        match Stat::at(&self.fd, name.as_bytes()) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("stat", name.as_bytes(), errno)),
        }
    }

    /// The metadata of what `path` leads to, symlinks above its last name followed: so it proves
    /// something only to whoever knows the inode that he looks for.
    pub fn stat_anyhow_at(&self, path: &RelPath) -> Result<Stat, FsError> {
        if path.is_root() {
            return self.stat_self();
        }
        Stat::at(&self.fd, path.as_bytes())
            .map_err(|errno| self.error("stat", path.as_bytes(), errno))
    }

    /// The metadata of this directory.
    pub fn stat_self(&self) -> Result<Stat, FsError> {
        Stat::of(&self.fd).map_err(|errno| self.error("stat", b"", errno))
    }

    /// The target of the symlink `name`, exactly as stored.
    pub fn read_link(&self, name: &Name) -> Result<Vec<u8>, FsError> {
        rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::with_capacity(256))
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| self.error("read the symlink", name.as_bytes(), errno))
    }

    /// True if this process may add and remove names here; false on a read-only file system.
    pub fn is_writable(&self) -> bool {
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        let answer = rustix::fs::accessat(&self.fd, c".", wanted, AtFlags::EACCESS);
        // A kernel or sandbox without this question is no answer.
        !matches!(answer, Err(Errno::ACCESS | Errno::ROFS))
    }

    /// Makes the names in this directory durable.
    pub fn sync(&self) -> Result<(), FsError> {
        fault::errno("fs.sync_dir")
            .and_then(|()| rustix::fs::fsync(&self.fd))
            .map_err(|errno| self.error("sync the directory", b"", errno))?;
        #[cfg(test)]
        super::power::synced_dir(self);
        Ok(())
    }

    /// Makes everything on this file system durable, and reports what could not be written since
    /// the descriptor was opened (Linux 5.8 or newer).
    pub fn syncfs(&self) -> Result<(), FsError> {
        fault::errno("fs.syncfs")
            .and_then(|()| rustix::fs::syncfs(&self.fd))
            .map_err(|errno| self.error("sync the file system of", b"", errno))?;
        #[cfg(test)]
        super::power::synced_all();
        Ok(())
    }

    /// A second descriptor of the same directory.
    pub fn try_clone(&self) -> Result<Self, FsError> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|error| FsError::from_io("duplicate", &self.path, &error))?;
        Ok(Self::of(fd, self.path.clone()))
    }

    /// Where the directory was when it was opened; for messages.
    pub fn path_for_messages(&self) -> &[u8] {
        &self.path
    }

    /// `name` in this directory, for messages.
    pub fn path_of(&self, name: &Name) -> Vec<u8> {
        joined(&self.path, name.as_bytes())
    }

    /// An error about `name` in this directory, or about the directory itself if `name` is empty.
    pub(super) fn error(&self, op: &'static str, name: &[u8], source: Errno) -> FsError {
        FsError::new(op, &joined(&self.path, name), source)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn absent_as_none(result: Result<Dir, FsError>) -> Result<Option<Dir>, FsError> {
    match result {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
