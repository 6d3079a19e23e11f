//! Extended attributes and, among them, POSIX ACLs.
//!
//! An entry is reached by a descriptor; where it can't be opened without side effects (symlinks,
//! pipes, devices) by an `O_PATH` descriptor and its magic link in `/proc/self/fd`. So `/proc` must
//! be mounted.

use super::acl;
use super::dir::Dir;
use super::error::FsError;
use super::owner::Principals;
use super::read::Opened;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use sync_proto::entry::Xattrs;
use sync_proto::path::Name;

/// The kernel's own limit of a list and of a value.
const MAX_BYTES: usize = 64 * 1024;

const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// Which attributes are read, set and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrPolicy {
    /// None; what is there stays.
    Ignore,
    /// `user.*` and POSIX ACLs.
    #[default]
    Ordinary,
    /// Those, `trusted.*` and `security.*`.
    Privileged,
}

impl XattrPolicy {
    /// True if an attribute of this name is ours to read, set and remove.
    pub fn covers(self, name: &[u8]) -> bool {
        let ordinary = name.starts_with(b"user.") || is_acl(name);
        let privileged = name.starts_with(b"trusted.") || name.starts_with(b"security.");
        match self {
            Self::Ignore => false,
            Self::Ordinary => ordinary,
            Self::Privileged => ordinary || privileged,
        }
    }
}

/// True for the two names under which POSIX ACLs are stored.
pub fn is_acl(name: &[u8]) -> bool {
    matches!(name.strip_prefix(ACL_PREFIX), Some(b"access" | b"default"))
}

/// An entry whose metadata is read or changed: held, so that all of it happens to one inode.
#[derive(Debug)]
pub enum Target<'a> {
    /// A regular file or directory that is open anyway.
    Open(BorrowedFd<'a>),
    /// Anything by its name, held by an `O_PATH` descriptor; a symlink is held itself.
    Held {
        /// The descriptor.
        fd: OwnedFd,
        /// Where it is, for messages.
        path: Box<[u8]>,
    },
}

impl<'a> Target<'a> {
    /// An open file or directory.
    pub fn open(fd: &'a impl AsFd) -> Self {
        Self::Open(fd.as_fd())
    }

    /// The entry `name` of `dir`, whatever it is.
    pub fn entry(dir: &Dir, name: &Name) -> Result<Self, FsError> {
        Ok(Self::Held {
            fd: dir.open_entry(name)?,
            path: dir.path_of(name).into(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) => *fd,
            Self::Held { fd, .. } => fd.as_fd(),
        }
    }

    pub(super) fn error(&self, op: &'static str, errno: Errno) -> FsError {
        match self {
            Self::Open(fd) => {
                let path = format!("descriptor {}", fd.as_raw_fd());
                FsError::new(op, path.as_bytes(), errno)
            }
            Self::Held { path, .. } => FsError::new(op, path, errno),
        }
    }

    /// The magic link of the descriptor. It leads to the held inode, and ends there even if that is
    /// a symlink: calls that know no `O_PATH` descriptors reach it this way.
    pub(super) fn magic_link(&self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }

    fn list(&self, list: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, list),
            Self::Held { .. } => rustix::fs::listxattr(self.magic_link(), list),
        }
    }

    fn value(&self, attribute: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, attribute, value),
            Self::Held { .. } => rustix::fs::getxattr(self.magic_link(), attribute, value),
        }
    }

    /// Sets an attribute to a value in the kernel's form.
    pub(super) fn set_xattr(&self, attribute: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, flags),
            Self::Held { .. } => rustix::fs::setxattr(self.magic_link(), attribute, value, flags),
        }
    }

    /// Removes an attribute, which may be gone already.
    pub(super) fn remove_xattr(&self, attribute: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Self::Held { .. } => rustix::fs::removexattr(self.magic_link(), attribute),
        };
        match removed {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        }
    }
}

/// Like [`read_xattrs`] for the entry `name` of `dir`; one system call if it has none.
pub fn read_xattrs_at(
    dir: &Dir,
    name: &Name,
    policy: XattrPolicy,
    principals: &Principals,
) -> Result<Option<Xattrs>, FsError> {
    if policy == XattrPolicy::Ignore {
        return Ok(None);
    }
    // The kernel jumps to the held directory and looks up one name, which `llistxattr` doesn't
    // follow. It only tells whether there is anything to read.
    let held = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd());
    let path = [held.as_bytes(), name.as_bytes()].concat();
    match rustix::fs::llistxattr_query(path) {
        Ok(0) | Err(Errno::NOTSUP) => Ok(None),
        Ok(_) => read_xattrs(&Target::entry(dir, name)?, policy, principals),
        Err(errno) => Err(dir.error("list the attributes of", name.as_bytes(), errno)),
    }
}

/// Like [`read_xattrs`] for a file that is open for reading.
pub fn read_xattrs_of(
    opened: &Opened<'_>,
    policy: XattrPolicy,
    principals: &Principals,
) -> Result<Option<Xattrs>, FsError> {
    read_xattrs(&Target::open(opened), policy, principals)
        .map_err(|error| opened.error(error.op, error.source))
}

/// The attributes of an entry that `policy` covers, sorted by name; ACLs in the text form of
/// [`acl`]. `None` if there are none, or if the file system has none at all.
pub fn read_xattrs(
    target: &Target<'_>,
    policy: XattrPolicy,
    principals: &Principals,
) -> Result<Option<Xattrs>, FsError> {
    let mut xattrs = Xattrs::new();
    for name in covered_names(target, policy)? {
        let Some(value) = read_value(target, &name)? else {
            continue;
        };
        let value = if is_acl(&name) {
            acl::to_text(&value, principals)
                .map_err(|_| target.error("understand the ACL of", Errno::INVAL))?
                .into_bytes()
        } else {
            value
        };
        xattrs.push((name, value.into()));
    }
    xattrs.sort_unstable();
    Ok((!xattrs.is_empty()).then_some(xattrs))
}

/// The names of the attributes that an entry has and that `policy` covers.
pub(super) fn covered_names(
    target: &Target<'_>,
    policy: XattrPolicy,
) -> Result<Vec<Box<[u8]>>, FsError> {
    if policy == XattrPolicy::Ignore {
        return Ok(Vec::new());
    }
    // Almost every entry has none, so a small buffer goes first.
    let mut list = vec![0; 256];
    let filled = match target.list(&mut list) {
        Err(Errno::RANGE) => {
            list.resize(MAX_BYTES, 0);
            target.list(&mut list)
        }
        other => other,
    };
    let filled = match filled {
        Ok(filled) => filled,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(target.error("list the attributes of", errno)),
    };
    Ok(list[..filled]
        .split(|&byte| byte == 0)
        .filter(|name| policy.covers(name))
        .map(Box::from)
        .collect())
}

/// `None` if it went away after it was listed.
fn read_value(target: &Target<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, FsError> {
    let mut value = vec![0; 1024];
    let filled = match target.value(name, &mut value) {
        Err(Errno::RANGE) => {
            value.resize(MAX_BYTES, 0);
            target.value(name, &mut value)
        }
        other => other,
    };
    match filled {
        Ok(filled) => {
            value.truncate(filled);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(target.error("read an attribute of", errno)),
    }
}
