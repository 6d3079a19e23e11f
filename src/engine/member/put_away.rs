//! After the window of an in-place commit: what came out of the live tree is sorted.
//!
//! What was committed stays where the exchanges left it and becomes the undo area. Everything else
//! (edits and strangers that were known at the vote, and what appeared since) goes aside, and is
//! told by inode number, size and time, so that sorting may be repeated.

use super::apply::Worker;
use super::journal::Journal;
use super::overwritten::Aside;
use super::place::Place;
use super::step::{Old, Step};
use super::transaction::CommitError;
use crate::fs::{Dir, FsError};
use sync_proto::path::{Name, RelPath};

impl Worker<'_> {
    /// Sorts what came out: what was committed becomes the undo area, everything else goes aside.
    pub(super) fn put_away(
        &mut self,
        place: &Place,
        journal: &Journal,
        steps: &[Step],
    ) -> Result<(), CommitError> {
        self.work.forget();
        let aside = Aside::new(place, &journal.directory);
        for step in steps {
            match step {
                Step::Put {
                    path, old, below, ..
                } => self.sort_out(path, old.as_ref(), below, &aside)?,
                Step::Remove { path, old } => self.sort_out(path, Some(old), &[], &aside)?,
                Step::Meta { .. } | Step::RemoveDirectory { .. } => {}
            }
        }
        // Exchanges without the kernel's help that lost their way.
        for left in self.hands.swap.list()? {
            aside.take(
                self.hands.swap,
                &left.name,
                &RelPath::root().join(&left.name)?,
            )?;
        }
        Ok(())
    }

    fn sort_out(
        &mut self,
        path: &RelPath,
        old: Option<&Old>,
        below: &[(RelPath, Old)],
        aside: &Aside<'_>,
    ) -> Result<(), CommitError> {
        let Some(found) = self.work.stat(path)? else {
            return Ok(());
        };
        let is_ours = old.is_some_and(|old| !old.is_drift && old.seen.matches(&found));
        let is_known_directory =
            found.is_directory() && old.is_some_and(|old| old.seen.matches(&found));
        if is_known_directory {
            return self.audit(path, below, aside);
        }
        if is_ours {
            return Ok(());
        }
        self.work.forget();
        if let Some(spot) = self.work.spot(path)? {
            if found.is_directory() && is_hollow(spot.dir, &spot.name)? {
                return Ok(());
            }
            aside.take(spot.dir, &spot.name, path)?;
        }
        Ok(())
    }

    /// A directory came out as a whole. Whatever in it wasn't known to be ours goes aside.
    fn audit(
        &mut self,
        top: &RelPath,
        below: &[(RelPath, Old)],
        aside: &Aside<'_>,
    ) -> Result<(), CommitError> {
        let mut pending = vec![top.clone()];
        while let Some(directory) = pending.pop() {
            let names = match self.work.dir(&directory)? {
                Some(dir) => dir.list()?,
                None => continue,
            };
            for listed in names {
                let path = directory.join(&listed.name)?;
                let Some(found) = self.work.stat(&path)? else {
                    continue;
                };
                let known = below
                    .binary_search_by(|(known, _)| known.cmp(&path))
                    .ok()
                    .and_then(|at| below.get(at))
                    .is_some_and(|(_, old)| {
                        old.seen.matches(&found) && (found.is_directory() || !old.is_drift)
                    });
                match (known, found.is_directory()) {
                    (true, true) => pending.push(path),
                    (true, false) => {}
                    (false, _) => {
                        if let Some(spot) = self.work.spot(&path)? {
                            aside.take(spot.dir, &spot.name, &path)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// True for a directory without a single entry but directories: nothing worth keeping.
fn is_hollow(dir: &Dir, name: &Name) -> Result<bool, FsError> {
    let mut pending = vec![dir.open_dir(name)?];
    while let Some(dir) = pending.pop() {
        for listed in dir.list()? {
            match dir.stat(&listed.name)? {
                Some(stat) if stat.is_directory() => pending.push(dir.open_dir(&listed.name)?),
                Some(_) => return Ok(false),
                None => {}
            }
        }
    }
    Ok(true)
}
