//! Applies metadata to an entry, in the one order that works, and only where it differs.
//!
//! What this process may not do is no failure: it is reported as [`Unkept`], the entry gets the
//! rest. A set-id bit never goes to an owner other than the wanted one.

use super::acl;
use super::error::FsError;
use super::owner::{Missing, Principals};
use super::stat::Stat;
use super::xattr::{Target, XattrPolicy, covered_names, is_acl};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::fmt;
use std::sync::Arc;
use sync_proto::entry::{Meta, Time, Xattrs};
use sync_proto::path::escape;
use thiserror::Error;

/// The owner may write.
const OWNER_WRITES: u32 = 0o200;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Metadata in this machine's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits `07777`; symlinks have none.
    pub mode: u32,
    /// Modification time; `None` leaves it alone.
    pub mtime: Option<Time>,
    /// Attributes, with ACLs as text.
    pub xattrs: Option<Arc<Xattrs>>,
}

impl Wanted {
    /// Translates a manifest's metadata.
    ///
    /// # Errors
    /// The owner or group that this machine doesn't have.
    pub fn resolve(meta: &Meta, principals: &Principals) -> Result<Self, Missing> {
        Ok(Self {
            uid: principals.uid(&meta.user)?,
            gid: principals.gid(&meta.group)?,
            mode: meta.mode,
            mtime: meta.mtime,
            xattrs: meta.xattrs.clone(),
        })
    }
}

/// How metadata is applied.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Which attributes are set, and removed where the entry has more than it should.
    pub policy: XattrPolicy,
    /// For the names in ACLs.
    pub principals: &'a Principals,
    /// True if the entry was just made by [`Dir`](super::Dir), so that it has no attributes yet.
    pub is_fresh: bool,
}

/// A piece of metadata that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// The owner.
    Owner,
    /// The group.
    Group,
    /// Some bit of the mode.
    Mode,
    /// The modification time.
    Mtime,
    /// An attribute, by name.
    Xattr(Box<[u8]>),
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Group => f.write_str("group"),
            Self::Mode => f.write_str("mode"),
            Self::Mtime => f.write_str("mtime"),
            Self::Xattr(name) => write!(f, "attribute {}", escape(name)),
        }
    }
}

/// Why metadata could not be applied at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetaError {
    /// An ACL names somebody whom this machine doesn't have.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The disk said no.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// The metadata of an entry as a manifest has it, from what was read of it.
pub fn meta_of(stat: &Stat, xattrs: Option<Xattrs>, principals: &Principals) -> Meta {
    Meta {
        mode: stat.permissions(),
        user: principals.user(stat.uid),
        group: principals.group(stat.gid),
        mtime: Some(stat.mtime),
        xattrs: xattrs.map(Arc::new),
    }
}

/// Gives an entry the wanted metadata.
///
/// # Errors
/// A name in an ACL that this machine lacks, or any failure but a lack of privilege.
pub fn apply_meta(
    target: &Target<'_>,
    wanted: &Wanted,
    how: Apply<'_>,
) -> Result<Vec<Unkept>, MetaError> {
    let now = target.stat()?;
    let mtime = Some(now.mtime);
    apply_from(target, &now, mtime, wanted, how)
}

/// The same for a file that was just made and then written: `made` is what
/// [`Dir::create_file_with_stat`](super::Dir::create_file_with_stat) returned, so it needn't be
/// asked for again.
///
/// # Errors
/// As [`apply_meta`].
pub fn apply_meta_to_new(
    target: &Target<'_>,
    made: &Stat,
    wanted: &Wanted,
    how: Apply<'_>,
) -> Result<Vec<Unkept>, MetaError> {
    apply_from(target, made, None, wanted, how)
}

fn apply_from(
    target: &Target<'_>,
    now: &Stat,
    mtime: Option<Time>,
    wanted: &Wanted,
    how: Apply<'_>,
) -> Result<Vec<Unkept>, MetaError> {
    let mut unkept = Vec::new();
    // ORDER: chown first, because it clears set-id bits and file capabilities.
    let mode = target.apply_owner(now, wanted, &mut unkept)?;
    if wanted.xattrs.is_some() && !now.is_symlink() && now.permissions() & OWNER_WRITES == 0 {
        // An ordinary user may not write attributes of their own read-only file. What refuses this
        // refuses the attributes as well, and is told there.
        let _refused = target.chmod(now.permissions() | OWNER_WRITES);
    }
    // ORDER: attributes before chmod, which may take away our own right to write them, and an
    // unwanted ACL goes before chmod, which would otherwise set the ACL's mask.
    target.apply_xattrs(wanted, how, &mut unkept)?;
    if !now.is_symlink() {
        let is_untouched = now.uid == wanted.uid
            && now.gid == wanted.gid
            && wanted.xattrs.is_none()
            && how.is_fresh;
        if !is_untouched || now.permissions() != mode & 0o7777 {
            target.apply_mode(mode, &mut unkept)?;
        }
        // ORDER: an ACL after chmod: it brings its own group bits.
        target.apply_acls(wanted, how, &mut unkept)?;
    }
    // ORDER: times last, so that a complete entry can be told by them.
    target.apply_mtime(wanted, mtime, &mut unkept)?;
    Ok(unkept)
}

impl Target<'_> {
    /// The entry's own metadata.
    pub fn stat(&self) -> Result<Stat, FsError> {
        Stat::of(self.fd()).map_err(|errno| self.error("stat", errno))
    }

    /// Returns the mode that may be set with the owner that it has then.
    fn apply_owner(
        &self,
        now: &Stat,
        wanted: &Wanted,
        unkept: &mut Vec<Unkept>,
    ) -> Result<u32, FsError> {
        let mut mode = wanted.mode;
        let uid = (now.uid != wanted.uid).then_some(wanted.uid);
        let gid = (now.gid != wanted.gid).then_some(wanted.gid);
        if uid.is_none() && gid.is_none() || self.chown(uid, gid)? {
            return Ok(mode);
        }
        // An ordinary user can't give files away, but may choose among their own groups.
        if uid.is_some() {
            unkept.push(Unkept::Owner);
            mode &= !SETUID;
        }
        if gid.is_some() && (uid.is_none() || !self.chown(None, gid)?) {
            unkept.push(Unkept::Group);
            if !now.is_directory() {
                mode &= !SETGID;
            }
        }
        if mode != wanted.mode {
            unkept.push(Unkept::Mode);
        }
        Ok(mode)
    }

    /// False if this process may not.
    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<bool, FsError> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        let done = match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Held { fd, .. } => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        };
        self.permitted(done, "change the owner of")
    }

    fn apply_mode(&self, mode: u32, unkept: &mut Vec<Unkept>) -> Result<(), FsError> {
        if self.stat()?.permissions() == mode & 0o7777 {
            return Ok(());
        }
        let done = self.chmod(mode);
        // The kernel drops a setgid bit silently for a group that isn't ours.
        let kept = self.permitted(done, "change the mode of")?
            && self.stat()?.permissions() == mode & 0o7777;
        if !kept && !unkept.contains(&Unkept::Mode) {
            unkept.push(Unkept::Mode);
        }
        Ok(())
    }

    fn chmod(&self, mode: u32) -> Result<(), Errno> {
        let bits = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, bits),
            Self::Held { .. } => rustix::fs::chmod(self.magic_link(), bits),
        }
    }

    fn apply_xattrs(
        &self,
        wanted: &Wanted,
        how: Apply<'_>,
        unkept: &mut Vec<Unkept>,
    ) -> Result<(), FsError> {
        let wanted = wanted.xattrs.as_deref().map_or(&[][..], Vec::as_slice);
        if !how.is_fresh {
            for name in covered_names(self, how.policy)? {
                if !wanted.iter().any(|(wanted, _)| *wanted == name)
                    && !self.permitted(self.remove_xattr(&name), "remove an attribute of")?
                {
                    unkept.push(Unkept::Xattr(name));
                }
            }
        }
        for (name, value) in wanted {
            if how.policy.covers(name) && !is_acl(name) {
                self.set_or_report(name, value, unkept)?;
            }
        }
        Ok(())
    }

    fn apply_acls(
        &self,
        wanted: &Wanted,
        how: Apply<'_>,
        unkept: &mut Vec<Unkept>,
    ) -> Result<(), MetaError> {
        for (name, text) in wanted.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
            if !how.policy.covers(name) || !is_acl(name) {
                continue;
            }
            let binary = match acl::from_text(text, how.principals) {
                Ok(binary) => binary,
                Err(acl::AclError::Missing(missing)) => return Err(missing.into()),
                Err(acl::AclError::Malformed) => {
                    return Err(self.error("understand the ACL for", Errno::INVAL).into());
                }
            };
            self.set_or_report(name, &binary, unkept)?;
        }
        Ok(())
    }

    fn set_or_report(
        &self,
        name: &[u8],
        value: &[u8],
        unkept: &mut Vec<Unkept>,
    ) -> Result<(), FsError> {
        if !self.permitted(self.set_xattr(name, value), "set an attribute of")? {
            unkept.push(Unkept::Xattr(name.into()));
        }
        Ok(())
    }

    fn apply_mtime(
        &self,
        wanted: &Wanted,
        before: Option<Time>,
        unkept: &mut Vec<Unkept>,
    ) -> Result<(), FsError> {
        let Some(mtime) = wanted.mtime.filter(|mtime| Some(*mtime) != before) else {
            return Ok(());
        };
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: mtime.nanoseconds.into(),
            },
        };
        let done = match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times),
            Self::Held { fd, .. } => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
        };
        if !self.permitted(done, "set the time of")? {
            unkept.push(Unkept::Mtime);
        }
        Ok(())
    }

    /// False if the process lacks the privilege, or the file system the feature.
    fn permitted(&self, done: Result<(), Errno>, op: &'static str) -> Result<bool, FsError> {
        match done {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => Ok(false),
            Err(errno) => Err(self.error(op, errno)),
        }
    }
}
