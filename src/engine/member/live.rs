//! The hands of a commit: every single change of a live tree, each behind the keeper.
//!
//! Nothing else in this module's neighbourhood renames into or out of a live tree, removes from it
//! or sets metadata in it. Each method is one step that holds at every moment (invariant I1): a
//! name is its old or its new entry, never absent.
//!
//! Where a file system can't exchange names, the old entry is linked away and the new one renamed
//! over it, which for anything but a directory is as good.

use super::fault::point;
use super::held::survey;
use super::keeper::{Keeper, Untouchable};
use super::step::Attributes;
use crate::fs::meta::{Apply, MetaError, Unkept, apply_meta};
use crate::fs::owner::Principals;
use crate::fs::xattr::{Target, XattrPolicy};
use crate::fs::{Dir, FsError, Stat};
use sync_proto::path::{Name, RelPath};
use thiserror::Error;

/// Why a step was not carried out.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The keeper said no.
    #[error("`{0}` {1}")]
    Untouchable(RelPath, Untouchable),
    /// The disk said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Metadata can't be applied.
    #[error(transparent)]
    Meta(MetaError),
}

impl From<MetaError> for LiveError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Fs(error) => Self::Fs(error),
            other @ MetaError::Missing(_) => Self::Meta(other),
        }
    }
}

/// Where a path is: the directory that holds it, and its last name.
pub struct Spot<'d> {
    /// The directory.
    pub dir: &'d Dir,
    /// The name.
    pub name: Name,
}

/// A tree whose directories are opened one after the other; the last one is remembered.
#[derive(Debug)]
pub struct Tree {
    root: Dir,
    last: Option<(RelPath, Dir)>,
}

impl Tree {
    /// Begins at the root of a tree.
    pub fn new(root: Dir) -> Self {
        Self { root, last: None }
    }

    /// The root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The directory at `path`; `None` if there is nothing.
    pub fn dir(&mut self, path: &RelPath) -> Result<Option<&Dir>, FsError> {
        if path.is_root() {
            return Ok(Some(&self.root));
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let Some(dir) = self.root.try_open_dir_at(path)? else {
                return Ok(None);
            };
            self.last = Some((path.clone(), dir));
        }
        Ok(self.last.as_ref().map(|(_, dir)| dir))
    }

    /// Where `path` is; `None` for the root, or if the directory that should hold it is gone.
    pub fn spot(&mut self, path: &RelPath) -> Result<Option<Spot<'_>>, FsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        Ok(self.dir(&parent)?.map(|dir| Spot { dir, name }))
    }

    /// As [`Self::spot`], where others may have put anything meanwhile: `None` also if what should
    /// hold `path` is no directory, or another mount's.
    pub fn find(&mut self, path: &RelPath) -> Result<Option<Spot<'_>>, FsError> {
        match self.spot(path) {
            Err(error) if error.is_wrong_kind() || error.is_other_mount() => Ok(None),
            other => other,
        }
    }

    /// The entry at `path`; `None` where [`Self::find`] finds nothing.
    pub fn stat(&mut self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        if path.is_root() {
            return self.root.stat_self().map(Some);
        }
        match self.find(path)? {
            Some(spot) => spot.dir.stat(&spot.name),
            None => Ok(None),
        }
    }

    /// Forgets the remembered directory: it may have been moved.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// The hands.
#[derive(Debug)]
pub struct Hands<'a> {
    /// Who is asked.
    pub keeper: &'a Keeper,
    /// For entries that are linked away where names can't be exchanged: a private directory on the
    /// same file system.
    pub swap: &'a Dir,
}

impl Hands<'_> {
    /// Moves `from` to `to`, where nothing is. An error ([`FsError::is_exists`]) if something is.
    pub fn put(
        &self,
        path: &RelPath,
        is_directory: bool,
        is_seed: bool,
        from: &Spot<'_>,
        to: &Spot<'_>,
    ) -> Result<(), LiveError> {
        let allowed = if is_seed {
            self.keeper.allow_seed(path)
        } else {
            self.keeper.allow_write(path, is_directory)
        };
        allowed.map_err(|why| LiveError::Untouchable(path.clone(), why))?;
        point("member.put")?;
        Ok(rename_noreplace(from, to)?)
    }

    /// Exchanges the staged entry `from` with the live entry `to`.
    pub fn exchange(
        &self,
        path: &RelPath,
        (from, new): (&Spot<'_>, &Stat),
        (to, old): (&Spot<'_>, &Stat),
    ) -> Result<(), LiveError> {
        let refused = |why| LiveError::Untouchable(path.clone(), why);
        self.keeper
            .allow_write(path, new.is_directory())
            .and_then(|()| self.keeper.allow_replace(path, old.is_directory()))
            .map_err(refused)?;
        if old.is_directory() {
            // RACE: a preserved name that appears between this look and the exchange is moved
            // along. It is found and reported when the old directory is put away, and kept.
            let inside = to.dir.open_dir(&to.name)?;
            if let Some(held) = survey(&inside, path, self.keeper)?.into_iter().next() {
                let why = self.keeper.allow_delete(&held.path, held.is_directory);
                return Err(LiveError::Untouchable(
                    held.path,
                    why.err().unwrap_or(Untouchable::Reserved),
                ));
            }
        }
        point("member.exchange")?;
        match exchange(from, to) {
            Err(error) if error.is_unsupported() => {
                Ok(self.replace_by_links((from, new), (to, old))?)
            }
            other => Ok(other?),
        }
    }

    /// Finishes an exchange that [`Self::exchange`] began without the kernel's help: the new entry
    /// is in place, the old one still lies in the swap directory.
    pub fn finish_swap(&self, old_ino: u64, from: &Spot<'_>) -> Result<(), FsError> {
        let parked = parking_name(old_ino)?;
        if from.dir.stat(&from.name)?.is_none() && self.swap.stat(&parked)?.is_some() {
            self.swap.rename_to(&parked, from.dir, &from.name)?;
        }
        Ok(())
    }

    fn replace_by_links(
        &self,
        (from, new): (&Spot<'_>, &Stat),
        (to, old): (&Spot<'_>, &Stat),
    ) -> Result<(), FsError> {
        let parked = parking_name(old.ino)?;
        if new.is_directory() || old.is_directory() {
            // RACE: neither link nor rename works over a directory: the name is absent between
            // these two calls. Only on file systems that can't exchange names.
            to.dir.rename_to(&to.name, self.swap, &parked)?;
            point("member.swap.parked")?;
            rename_noreplace(from, to)?;
        } else {
            match self.swap.hard_link(to.dir, &to.name, &parked) {
                Err(error) if !error.is_exists() => return Err(error),
                _ => {}
            }
            point("member.swap.linked")?;
            from.dir.rename_to(&from.name, to.dir, &to.name)?;
        }
        point("member.swap.replaced")?;
        self.swap.rename_to(&parked, from.dir, &from.name)
    }

    /// Moves the live entry `from` out to `to`, where nothing is. Directories aren't taken.
    pub fn take(&self, path: &RelPath, from: &Spot<'_>, to: &Spot<'_>) -> Result<(), LiveError> {
        self.keeper
            .allow_delete(path, false)
            .map_err(|why| LiveError::Untouchable(path.clone(), why))?;
        point("member.take")?;
        Ok(rename_noreplace(from, to)?)
    }

    /// Removes the live directory, if it is empty.
    pub fn remove_empty(&self, path: &RelPath, at: &Spot<'_>) -> Result<(), LiveError> {
        self.keeper
            .allow_delete(path, true)
            .map_err(|why| LiveError::Untouchable(path.clone(), why))?;
        point("member.rmdir")?;
        Ok(at.dir.remove_dir(&at.name)?)
    }

    /// Removes anything but a directory from the live tree. Only a removal of the whole tree does.
    pub fn unlink(&self, path: &RelPath, at: &Spot<'_>) -> Result<(), LiveError> {
        self.keeper
            .allow_delete(path, false)
            .map_err(|why| LiveError::Untouchable(path.clone(), why))?;
        point("member.unlink")?;
        Ok(at.dir.unlink(&at.name)?)
    }

    /// Applies metadata to a live entry.
    pub fn touch(
        &self,
        path: &RelPath,
        target: &Target<'_>,
        attributes: &Attributes,
        how: How<'_>,
    ) -> Result<Vec<Unkept>, LiveError> {
        let is_directory = target.stat()?.is_directory();
        self.keeper
            .allow_write(path, is_directory)
            .map_err(|why| LiveError::Untouchable(path.clone(), why))?;
        point("member.touch")?;
        Ok(how.apply(target, attributes)?)
    }
}

/// How metadata is applied in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// Which extended attributes are set and removed.
    pub policy: XattrPolicy,
    /// For names in ACLs.
    pub principals: &'a Principals,
}

impl How<'_> {
    pub(super) fn apply(
        self,
        target: &Target<'_>,
        attributes: &Attributes,
    ) -> Result<Vec<Unkept>, MetaError> {
        let how = Apply {
            policy: self.policy,
            principals: self.principals,
            is_fresh: false,
        };
        apply_meta(target, &attributes.to_wanted(), how)
    }
}

/// Moves a name to a free one.
pub(super) fn rename_noreplace(from: &Spot<'_>, to: &Spot<'_>) -> Result<(), FsError> {
    match try_rename_noreplace(from, to) {
        Err(error) if error.is_unsupported() => {
            // RACE: on a file system without RENAME_NOREPLACE, what appears between the look and
            // the rename is replaced.
            if to.dir.stat(&to.name)?.is_some() {
                return Err(FsError::taken(&to.dir.path_of(&to.name)));
            }
            from.dir.rename_to(&from.name, to.dir, &to.name)
        }
        other => other,
    }
}

fn try_rename_noreplace(from: &Spot<'_>, to: &Spot<'_>) -> Result<(), FsError> {
    #[cfg(test)]
    if no_exchange::is_on() {
        return Err(FsError::bad_name(b"no RENAME_NOREPLACE"));
    }
    from.dir.rename_noreplace(&from.name, to.dir, &to.name)
}

/// Exchanges two names.
pub(super) fn exchange(from: &Spot<'_>, to: &Spot<'_>) -> Result<(), FsError> {
    #[cfg(test)]
    if no_exchange::is_on() {
        return Err(FsError::bad_name(b"no exchange"));
    }
    from.dir.exchange(&from.name, to.dir, &to.name)
}

fn parking_name(ino: u64) -> Result<Name, FsError> {
    let name = ino.to_string();
    Name::parse(name.as_bytes()).map_err(|_| FsError::bad_name(name.as_bytes()))
}

/// A file system that knows no flags of `renameat2`, for tests.
#[cfg(test)]
pub(super) mod no_exchange {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn set(on: bool) {
        ON.set(on);
    }

    pub(super) fn is_on() -> bool {
        ON.get()
    }
}
