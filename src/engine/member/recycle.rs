//! A generation that is no longer kept becomes the next staging area: it shares its unchanged files
//! with the live one already, so what a release leaves as it is needs neither be linked anew nor
//! removed with an old generation.
//!
//! Nothing in it is trusted. What stays is what linking would have made: a name whose inode is that
//! of the live tree's entry of that name, which was looked at and is wanted as it is. All else goes,
//! and then the area is like one that an interrupted attempt left. What belongs to the member was
//! moved out before; if something of that kind turned up since, it is moved aside, and the
//! generation goes for good.

use super::fault::point;
use super::generations::rescue;
use super::held::survey;
use super::look::Seen;
use super::place::Place;
use super::transaction::CommitError;
use super::work::{StagedDirectory, Work};
use crate::fs::owner::own_user;
use crate::fs::{Dir, FileKind, FsError, Listed};
use rayon::prelude::*;
use sync_proto::entry::Kind;
use sync_proto::filter::Side;
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};

const SPARE: &[u8] = b"spare";

/// Puts a generation that nobody returns to where the next transaction finds it; false if it can't
/// be used, because not everything in it can be changed by this process.
pub(super) fn put_by(place: &Place, generations: &Dir, name: &Name) -> Result<bool, FsError> {
    if own_user() != 0 {
        return Ok(false);
    }
    let spare = place.sub(SPARE)?;
    if !spare.list()?.is_empty() {
        return Ok(false);
    }
    point("member.collect.spare")?;
    generations.rename_to(name, &spare, name)?;
    Ok(true)
}

/// Removes what was put by: the disk is full.
pub(super) fn give_up(place: &Place) -> Result<(), FsError> {
    let spare = place.sub(SPARE)?;
    for listed in spare.list()? {
        spare.remove_tree(&listed.name)?;
    }
    Ok(())
}

/// Makes what was put by the staged tree of an area that has none; false if there is nothing.
pub(super) fn take_over(
    seen: &Seen,
    work: &Work,
    area: &Dir,
    tree: &Name,
) -> Result<bool, CommitError> {
    let place = &seen.claim.place;
    let spare = place.sub(SPARE)?;
    let Some(Listed { name, .. }) = spare.list()?.into_iter().next() else {
        return Ok(false);
    };
    let reduced = spare
        .open_dir(&name)
        .map_err(CommitError::from)
        .and_then(|generation| reduce(&generation, seen, work));
    if matches!(reduced, Ok(true)) {
        point("member.stage.recycle")?;
        spare.rename_to(&name, area, tree)?;
        return Ok(true);
    }
    if let Err(error) = reduced {
        tracing::debug!(%error, "an old generation can't be used again");
    }
    rescue(
        place,
        &spare,
        &name,
        &seen.keeper,
        seen.claim.overwritten.as_ref(),
    )?;
    spare.remove_tree(&name)?;
    Ok(false)
}

/// Removes all that linking wouldn't have made. False if something may not be removed.
fn reduce(generation: &Dir, seen: &Seen, work: &Work) -> Result<bool, CommitError> {
    let directories: Vec<_> = work
        .directories
        .keys()
        .filter(|staged| !staged.is_seed)
        .filter_map(|staged| work.directory_at(staged.directory))
        .collect();
    let verdicts = directories
        .into_par_iter()
        .map(|directory| reduce_directory(generation, directory, seen, work));
    verdicts.try_reduce(|| true, |one, other| Ok(one && other))
}

fn reduce_directory(
    generation: &Dir,
    directory: &Directory,
    seen: &Seen,
    work: &Work,
) -> Result<bool, CommitError> {
    let dir = match generation.try_open_dir_at(&directory.path) {
        Ok(Some(dir)) => dir,
        Ok(None) => return Ok(true),
        // It wasn't a directory then; whoever reduces the one above removes it.
        Err(error) if error.is_wrong_kind() => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    for listed in dir.list()? {
        if is_as_linked(directory, &listed, seen, work) {
            continue;
        }
        let is_directory = listed.kind == FileKind::Directory;
        let path = directory.path.join(&listed.name);
        let is_held = seen
            .keeper
            .holds_child(&directory.path, &listed.name, is_directory);
        if is_held && listed.kind != FileKind::Symlink
            || is_directory
                && path.is_ok_and(|path| holds_something(&dir, &listed.name, &path, seen))
        {
            return Ok(false);
        }
        // RACE: what somebody makes in there from here on, by a descriptor that they kept, goes too.
        dir.remove_tree(&listed.name)?;
    }
    Ok(true)
}

/// True if this is a directory of the staged tree, or a file that is the live one.
fn is_as_linked(directory: &Directory, listed: &Listed, seen: &Seen, work: &Work) -> bool {
    let find = |directory: &Directory| {
        let entries = &directory.entries;
        entries
            .binary_search_by(|it| it.name.cmp(&listed.name))
            .ok()
    };
    let Some(wanted) = find(directory).and_then(|nth| directory.entries.get(nth)) else {
        return false;
    };
    match wanted.kind {
        Kind::Directory => {
            let index = work.index_of(&directory.path_of(&wanted.name));
            let staged = index.map(|directory| StagedDirectory {
                is_seed: false,
                directory,
            });
            listed.kind == FileKind::Directory
                && staged.is_some_and(|staged| work.directories.contains_key(&staged))
        }
        Kind::File { size: 1.., .. } => {
            let is_managed = seen
                .keeper
                .scope
                .of_child(Side::Sender, &directory.path, &wanted.name, false)
                .is_managed();
            let Some((live, stamps)) = seen.observed.directory(&directory.path) else {
                return false;
            };
            let nth = find(live);
            is_managed
                && nth.and_then(|nth| live.entries.get(nth)) == Some(wanted)
                && nth.and_then(|nth| stamps.get(nth)).map(|stamp| stamp.ino) == Some(listed.ino)
        }
        _ => false,
    }
}

/// True if a directory that is to go holds what may not be removed, or can't be looked into.
fn holds_something(dir: &Dir, name: &Name, path: &RelPath, seen: &Seen) -> bool {
    let held = dir
        .open_dir(name)
        .and_then(|inside| survey(&inside, path, &seen.keeper, None));
    held.map_or(true, |held| {
        held.iter().any(|held| held.link_target.is_none())
    })
}
