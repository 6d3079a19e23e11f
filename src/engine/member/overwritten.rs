//! What a commit found that nobody committed: moved aside, never destroyed.
//!
//! During the commit it goes to `aside/` in the tree's own state directory, where a rename always
//! works; afterwards that directory moves as a whole to the agent's own place, or stays with the
//! tree where that is another file system. It is kept for days, not for generations.

use super::fault::point;
use super::place::Place;
use super::transaction::CommitError;
use crate::codes::Code;
use crate::fs::{Dir, FsError};
use sync_proto::entry::Time;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Notice;

/// How many names are tried for one entry.
const MAX_SUFFIX: u32 = 10_000;

/// The entries that one commit moves aside.
#[derive(Debug)]
pub(super) struct Aside<'a> {
    place: &'a Place,
    directory: &'a Name,
}

impl<'a> Aside<'a> {
    pub(super) fn new(place: &'a Place, directory: &'a Name) -> Self {
        Self { place, directory }
    }

    /// Moves the entry `name` of `dir` aside; it was at `path` in its tree.
    pub(super) fn take(&self, dir: &Dir, name: &Name, path: &RelPath) -> Result<(), CommitError> {
        let parent = self.parent_of(path)?;
        let wanted = path.file_name().unwrap_or_else(|| name.clone());
        for free in candidates(&wanted) {
            point("member.aside")?;
            match dir.rename_noreplace(name, &parent, &free?) {
                Err(error) if error.is_exists() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                other => return Ok(other?),
            }
        }
        Err(FsError::taken(path.as_bytes()).into())
    }

    /// Gives the entry a second name aside; it stays where it is, because somebody may still
    /// read it there.
    pub(super) fn link(&self, dir: &Dir, name: &Name, path: &RelPath) -> Result<(), CommitError> {
        let parent = self.parent_of(path)?;
        point("member.aside.link")?;
        match parent.hard_link(dir, name, name) {
            Err(error) if error.is_exists() || error.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }

    fn parent_of(&self, path: &RelPath) -> Result<Dir, FsError> {
        let top = self.place.sub(b"aside")?;
        let mut dir = top.create_dir_if_absent(self.directory, 0o700)?;
        for component in path.parent().unwrap_or_default().components() {
            let wanted = Name::parse(component).map_err(|_| FsError::bad_name(component))?;
            for free in candidates(&wanted) {
                match dir.create_dir_if_absent(&free?, 0o700) {
                    // Something else bears the name here.
                    Err(error) if error.is_wrong_kind() => {}
                    other => {
                        dir = other?;
                        break;
                    }
                }
            }
        }
        Ok(dir)
    }
}

/// Moves what a commit put aside to where it is kept, and says where that is. Idempotent.
pub(super) fn publish(
    place: &Place,
    directory: &Name,
    overwritten: Option<&Dir>,
) -> Result<Option<Notice>, CommitError> {
    let aside = place.sub(b"aside")?;
    if aside.stat(directory)?.is_none() {
        return Ok(None);
    }
    let beside = place.sub(b"overwritten")?;
    for keeping in overwritten.into_iter().chain([&beside]) {
        for free in candidates(directory) {
            let free = free?;
            point("member.overwritten")?;
            match aside.rename_noreplace(directory, keeping, &free) {
                Err(error) if error.is_exists() => {}
                Err(error) if error.is_other_mount() || error.is_permission() => break,
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    return Ok(Some(Notice {
                        code: Code::Drift.id(),
                        path: keeping.path_of(&free),
                        message: "holds what was not committed".to_owned(),
                    }));
                }
            }
        }
    }
    // It stays in `aside/`, which is as safe.
    Ok(None)
}

/// Removes what was moved aside longer than `keep_seconds` before `now`. `dir` is the tree's
/// directory of the agent's own place; the tree's own ones are looked at too. Not to be called while
/// a transaction is open.
///
/// # Errors
/// The first entry that can't be removed.
pub fn expire(
    place: &Place,
    dir: Option<&Dir>,
    now: Time,
    keep_seconds: i64,
) -> Result<(), FsError> {
    let own = [place.sub(b"overwritten")?, place.sub(b"aside")?];
    for dir in dir.into_iter().chain(&own) {
        for listed in dir.list()? {
            // The ctime of the directory is when it was moved here: nobody can set it.
            let is_old = dir
                .stat(&listed.name)?
                .is_some_and(|stat| now.seconds.saturating_sub(stat.ctime.seconds) > keep_seconds);
            if is_old {
                point("member.overwritten.expire")?;
                dir.remove_tree(&listed.name)?;
            }
        }
    }
    Ok(())
}

/// `name`, `name.2`, `name.3` and so on, as long as they are names.
pub(super) fn candidates(name: &Name) -> impl Iterator<Item = Result<Name, FsError>> + '_ {
    (1..MAX_SUFFIX).map(|count| {
        if count == 1 {
            return Ok(name.clone());
        }
        let suffix = format!(".{count}");
        let room = sync_proto::path::MAX_NAME_BYTES - suffix.len();
        let stem = &name.as_bytes()[..name.as_bytes().len().min(room)];
        let whole = [stem, suffix.as_bytes()].concat();
        Name::parse(&whole).map_err(|_| FsError::bad_name(&whole))
    })
}
