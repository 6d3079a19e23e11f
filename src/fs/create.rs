//! New entries: always under a free name, with exactly the mode that was asked for.
//!
//! Neither the umask nor a default ACL of the directory has a say in what we create.

use super::dir::Dir;
use super::error::FsError;
use super::fault;
use super::stat::{FileKind, Stat};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_proto::path::Name;

/// The beginning of every name that only a running operation knows.
const SCRATCH_PREFIX: &[u8] = b".fanout-tmp-";

const ACL_ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
const ACL_DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

impl Dir {
    /// Creates the directory `name` and opens it. It has `mode`, and no ACL.
    pub fn create_dir(&self, name: &Name, mode: u32) -> Result<Self, FsError> {
        let op = "create the directory";
        // Our own bits are needed to open it; the exact mode follows.
        let first = Mode::from_raw_mode((mode & 0o777) | 0o700);
        fault::errno("fs.create_dir")
            .and_then(|()| rustix::fs::mkdirat(self, name.as_bytes(), first))
            .map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        let created = self.open_dir(name)?;
        if self.has_default_acl() {
            drop_acl(&created, ACL_DEFAULT)
                .map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        }
        self.settle_mode(&created, mode)
            .map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        Ok(created)
    }

    /// Creates the directory `name` for the time being: nobody but its owner may enter. Inherits
    /// whatever a default ACL here says.
    pub fn create_private_dir(&self, name: &Name) -> Result<(), FsError> {
        fault::errno("fs.create_dir")
            .and_then(|()| rustix::fs::mkdirat(self, name.as_bytes(), Mode::RWXU))
            .map_err(|errno| self.error("create the directory", name.as_bytes(), errno))
    }

    /// Opens the directory `name`, after creating it if there was nothing of that name.
    pub fn create_dir_if_absent(&self, name: &Name, mode: u32) -> Result<Self, FsError> {
        match self.create_dir(name, mode) {
            Err(error) if error.source == Errno::EXIST => self.open_dir(name),
            other => other,
        }
    }

    /// Creates the file `name`, empty and open for reading and writing. It has `mode`, and no ACL.
    pub fn create_file(&self, name: &Name, mode: u32) -> Result<File, FsError> {
        Ok(self.create_file_with_stat(name, mode)?.0)
    }

    /// The same, with the metadata that the file has then.
    pub fn create_file_with_stat(&self, name: &Name, mode: u32) -> Result<(File, Stat), FsError> {
        let op = "create the file";
        fault::errno("fs.create_file").map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.open(
            name.as_bytes(),
            flags,
            Mode::from_raw_mode(mode & 0o7777),
            op,
        )?;
        let stat = self
            .settle_mode(&fd, mode)
            .map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        Ok((File::from(fd), stat))
    }

    /// Creates a file that has no name and vanishes with its descriptor.
    pub fn create_nameless_file(&self) -> Result<File, FsError> {
        let op = "create a nameless file in";
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match self.open(b".", flags, Mode::RUSR | Mode::WUSR, op) {
            Ok(fd) => return Ok(File::from(fd)),
            Err(error) if matches!(error.source, Errno::OPNOTSUPP | Errno::ISDIR) => {}
            Err(error) => return Err(error),
        }
        // A file system without O_TMPFILE: a short-lived name does.
        let (name, file) = self.create_scratch_file(0o600)?;
        self.unlink(&name)?;
        Ok(file)
    }

    /// Creates a file under a name of its own, beginning with [`SCRATCH_PREFIX`].
    pub(super) fn create_scratch_file(&self, mode: u32) -> Result<(Name, File), FsError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let own = format!("{}-{count}", std::process::id());
            let name = Name::parse(&[SCRATCH_PREFIX, own.as_bytes()].concat())
                .map_err(|_| self.error("name a scratch file in", b"", Errno::INVAL))?;
            match self.create_file(&name, mode) {
                // Left by a process of an earlier boot, or of another PID namespace.
                Err(error) if error.source == Errno::EXIST => {}
                other => return other.map(|file| (name, file)),
            }
        }
    }

    /// Removes what processes that died left under scratch names. To be called under the lock that
    /// keeps other writers out of this directory.
    pub fn remove_scratch_files(&self) -> Result<(), FsError> {
        for listed in self.list()? {
            if listed.name.as_bytes().starts_with(SCRATCH_PREFIX) {
                self.unlink(&listed.name)?;
            }
        }
        Ok(())
    }

    /// Creates the symlink `name`, which says `target`.
    pub fn symlink(&self, target: &[u8], name: &Name) -> Result<(), FsError> {
        fault::errno("fs.symlink")
            .and_then(|()| rustix::fs::symlinkat(target, self, name.as_bytes()))
            .map_err(|errno| self.error("create the symlink", name.as_bytes(), errno))
    }

    /// Gives the file `from_name` of `from` the further name `name` here. A symlink is linked
    /// itself.
    pub fn hard_link(&self, from: &Self, from_name: &Name, name: &Name) -> Result<(), FsError> {
        let (from_name, to_name) = (from_name.as_bytes(), name.as_bytes());
        fault::errno("fs.hard_link")
            .and_then(|()| rustix::fs::linkat(from, from_name, self, to_name, AtFlags::empty()))
            .map_err(|errno| self.error("create the hard link", name.as_bytes(), errno))
    }

    /// Creates a pipe, socket or device node. The umask narrows its mode until its metadata is
    /// applied.
    pub fn mknod(
        &self,
        name: &Name,
        kind: FileKind,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), FsError> {
        let error = |errno| self.error("create the node", name.as_bytes(), errno);
        let (file_type, device) = match kind {
            FileKind::Fifo => (FileType::Fifo, 0),
            FileKind::Socket => (FileType::Socket, 0),
            FileKind::CharDevice => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            FileKind::BlockDevice => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            _ => return Err(error(Errno::INVAL)),
        };
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(self, name.as_bytes(), file_type, mode, device).map_err(error)
    }

    /// Sets the mode where the umask, a default ACL or a setgid directory meddled.
    fn settle_mode(&self, created: impl AsFd, mode: u32) -> Result<Stat, Errno> {
        if self.has_default_acl() {
            drop_acl(&created, ACL_ACCESS)?;
        }
        let stat = Stat::of(&created)?;
        if stat.permissions() == mode & 0o7777 {
            return Ok(stat);
        }
        rustix::fs::fchmod(&created, Mode::from_raw_mode(mode & 0o7777))?;
        // The kernel drops a setgid bit silently for a group that isn't ours.
        Stat::of(&created)
    }

    fn has_default_acl(&self) -> bool {
        // An error means that the file system has no ACLs, so none is inherited either.
        *self.has_default_acl.get_or_init(|| {
            rustix::fs::fgetxattr_query(self, ACL_DEFAULT).is_ok_and(|bytes| bytes > 0)
        })
    }
}

fn drop_acl(fd: impl AsFd, name: &std::ffi::CStr) -> Result<(), Errno> {
    match rustix::fs::fremovexattr(fd, name) {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno),
    }
}
