//! A generation that is no longer kept becomes the next staging area: it shares its unchanged files
//! with the live one already, so what a release leaves as it is needs neither be linked anew nor
//! removed with an old generation.
//!
//! Nothing in it is trusted. What stays is what linking would have made: a name whose inode is that
//! of the live tree's entry of that name, which was looked at and is wanted as it is. All else goes,
//! and then the area is like one that an interrupted attempt left. What belongs to the member was
//! shared when the generation after it went live; if something of that kind turned up since, it is
//! moved aside, and the generation goes for good.
//!
//! The index of the generation comes with it. A directory that is still what that index says, and
//! that a release leaves as it is, holds what linking would have made, by the inodes that the index
//! names: it is kept without a look at its entries.

use super::fault::point;
use super::generations::rescue;
use super::held::survey;
use super::keeper::Keeper;
use super::live_index::{index_name, read_index};
use super::look::Seen;
use super::place::Place;
use super::transaction::CommitError;
use super::work::{At, StagedDirectory, Work};
use crate::engine::index::{Index, Stamp};
use crate::fs::owner::own_user;
use crate::fs::{Dir, FileKind, FsError, Listed, Stat, absent_is_fine};
use rayon::prelude::*;
use sync_proto::entry::Kind;
use sync_proto::filter::Side;
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Notice;

const SPARE: &[u8] = b"spare";
/// The index of the generation in there.
const INDEX: &[u8] = b"index";

/// What became of the generation that waited to be used.
#[derive(Debug)]
pub(super) enum Spare {
    /// There was none.
    None,
    /// It is the staged tree now.
    TakenOver(TakenOver),
    /// It couldn't be used, and is gone. What of it belonged to the member was moved aside.
    Removed(Option<Notice>),
}

/// What was taken over.
#[derive(Debug, Default)]
pub(super) struct TakenOver {
    /// For each directory of the wanted tree, whether there is one already.
    pub is_there: Vec<bool>,
    /// For each directory of the wanted tree, its stamp if it is there already with all that is in
    /// it and its metadata.
    pub kept: Vec<Option<Stamp>>,
    /// For each other directory, which of its entries are files that are there already.
    pub files: Vec<Box<[bool]>>,
}

/// Puts a generation that nobody returns to where the next transaction finds it; false if it can't
/// be used, because not everything in it can be changed by this process.
pub(super) fn put_by(place: &Place, generations: &Dir, name: &Name) -> Result<bool, FsError> {
    if own_user() != 0 {
        return Ok(false);
    }
    let spare = place.sub(SPARE)?;
    if waiting(&spare)?.is_some() {
        return Ok(false);
    }
    point("member.collect.spare")?;
    generations.rename_to(name, &spare, name)?;
    // A cache, and known by the inodes in it, so it doesn't matter what was there before.
    absent_is_fine(generations.rename_to(&index_name(name)?, &spare, &place.own_name(INDEX)?))?;
    Ok(true)
}

/// The generation that waits to be used.
fn waiting(spare: &Dir) -> Result<Option<Name>, FsError> {
    let listed = spare.list()?.into_iter();
    let mut generations = listed.filter(|it| it.name.as_bytes() != INDEX);
    Ok(generations.next().map(|listed| listed.name))
}

/// Removes what was put by: the disk is full. What belongs to the member is moved aside.
pub(super) fn give_up(
    place: &Place,
    keeper: &Keeper,
    overwritten: Option<&Dir>,
) -> Result<(), CommitError> {
    let spare = place.sub(SPARE)?;
    if let Some(name) = waiting(&spare)? {
        remove(place, (&spare, &name), keeper, overwritten)?;
    }
    Ok(absent_is_fine(spare.unlink(&place.own_name(INDEX)?))?)
}

fn remove(
    place: &Place,
    (spare, name): (&Dir, &Name),
    keeper: &Keeper,
    overwritten: Option<&Dir>,
) -> Result<Option<Notice>, CommitError> {
    let rescued = rescue(place, (spare, name), keeper, overwritten)?;
    spare.remove_tree(name)?;
    Ok(rescued)
}

/// Makes what was put by the staged tree of an area that has none.
pub(super) fn take_over(
    seen: &Seen,
    work: &Work,
    area: &Dir,
    tree: &Name,
) -> Result<Spare, CommitError> {
    let place = &seen.claim.place;
    let spare = place.sub(SPARE)?;
    let Some(name) = waiting(&spare)? else {
        return Ok(Spare::None);
    };
    let index = place.own_name(INDEX)?;
    let known = read_index(&spare, &index).filter(|_| spare.dates_its_names());
    let reduced = spare
        .open_dir(&name)
        .map_err(CommitError::from)
        .and_then(|generation| reduce(&generation, seen, work, known.as_ref()));
    if let Ok(Some(taken)) = reduced {
        point("member.stage.recycle")?;
        spare.rename_to(&name, area, tree)?;
        absent_is_fine(spare.unlink(&index))?;
        return Ok(Spare::TakenOver(taken));
    }
    if let Err(error) = reduced {
        tracing::debug!(%error, "an old generation can't be used again");
    }
    let overwritten = seen.claim.overwritten.as_ref();
    let rescued = remove(place, (&spare, &name), &seen.keeper, overwritten)?;
    Ok(Spare::Removed(rescued))
}

/// What was found in one directory.
enum Found {
    /// Something that may not be removed.
    Held,
    /// No directory.
    Nothing,
    /// Nothing any more that doesn't belong there; these of the wanted entries are files that do.
    Reduced(Box<[bool]>),
    /// All that belongs there, and nothing else.
    Kept(Stamp),
}

/// Removes all that linking wouldn't have made. None if something may not be removed.
fn reduce(
    generation: &Dir,
    seen: &Seen,
    work: &Work,
    known: Option<&Index>,
) -> Result<Option<TakenOver>, CommitError> {
    let directories: Vec<u32> = work
        .directories
        .keys()
        .filter(|staged| !staged.is_seed)
        .map(|staged| staged.directory)
        .collect();
    let found = directories.into_par_iter().map(|at| {
        let found = reduce_directory(generation, at, seen, work, known)?;
        Ok::<_, CommitError>((at, found))
    });
    let found: Vec<(u32, Found)> = found.collect::<Result<_, _>>()?;
    let count = work.target.desired.directories().len();
    let mut taken = TakenOver {
        is_there: vec![false; count],
        kept: vec![None; count],
        files: vec![Box::default(); count],
    };
    for (at, found) in found {
        let (directory, at) = (work.directory_at(at), at as usize);
        match found {
            Found::Held => return Ok(None),
            Found::Nothing => continue,
            Found::Reduced(left) => {
                if let Some(files) = taken.files.get_mut(at) {
                    *files = left;
                }
            }
            Found::Kept(stamp) => {
                // A symlink above it may have led there, which is gone by now.
                let above = directory.and_then(|it| work.index_of(&it.path.parent()?));
                if above.is_some_and(|above| taken.is_there.get(above as usize) != Some(&true)) {
                    continue;
                }
                if let Some(kept) = taken.kept.get_mut(at) {
                    *kept = Some(stamp);
                }
            }
        }
        if let Some(is_there) = taken.is_there.get_mut(at) {
            *is_there = true;
        }
    }
    Ok(Some(taken))
}

fn reduce_directory(
    generation: &Dir,
    at: u32,
    seen: &Seen,
    work: &Work,
    known: Option<&Index>,
) -> Result<Found, CommitError> {
    let Some(directory) = work.directory_at(at) else {
        return Ok(Found::Nothing);
    };
    if let Some(known) = known
        && let Ok(stat) = generation.stat_anyhow_at(&directory.path)
        && is_kept((at, directory), &stat, seen, work, known)
    {
        return Ok(Found::Kept(Stamp::from(&stat)));
    }
    let dir = match generation.try_open_dir_at(&directory.path) {
        Ok(Some(dir)) => dir,
        Ok(None) => return Ok(Found::Nothing),
        // It wasn't a directory then; whoever reduces the one above removes it.
        Err(error) if error.is_wrong_kind() => return Ok(Found::Nothing),
        Err(error) => return Err(error.into()),
    };
    let mut left = vec![false; directory.entries.len()];
    for listed in dir.list_once()? {
        if let Some(nth) = as_linked((at, directory), &listed, seen, work) {
            let wanted = directory.entries.get(nth);
            if let (Some(left), Some(wanted)) = (left.get_mut(nth), wanted) {
                *left = listed.kind == FileKind::File && !work.is_leader(directory, wanted);
            }
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
            return Ok(Found::Held);
        }
        // RACE: what somebody makes in there from here on, by a descriptor that they kept, goes too.
        match is_directory {
            true => dir.remove_tree(&listed.name)?,
            false => absent_is_fine(dir.unlink(&listed.name))?,
        }
    }
    Ok(Found::Reduced(left.into()))
}

/// True if a directory of the generation is what its index says, by `stat`, and that is what is
/// wanted: the metadata, the same subdirectories, and the inodes of the live tree, whose entries are
/// wanted as they are. Symlinks, pipes and empty files are made anew in every release.
fn is_kept(
    (at, directory): (u32, &Directory),
    stat: &Stat,
    seen: &Seen,
    work: &Work,
    known: &Index,
) -> bool {
    let path = &directory.path;
    let Some((before, inodes)) = known.unmoved(path, stat) else {
        return false;
    };
    let Some((live, stamps)) = work.live(&seen.observed, at) else {
        return false;
    };
    let wanted = work.target.desired.entry(path);
    let is_meta_kept = known
        .entry(path)
        .zip(wanted)
        .is_some_and(|((before, _), wanted)| before.meta == wanted.meta);
    if !is_meta_kept
        || !std::ptr::eq(&raw const **live, directory)
        || before.entries.len() != directory.entries.len()
    {
        return false;
    }
    let entries = before.entries.iter().zip(inodes.iter());
    let wanted = directory.entries.iter().zip(stamps.iter());
    entries
        .zip(wanted)
        .all(|((before, inode), (wanted, stamp))| {
            before.name == wanted.name
                && match wanted.kind {
                    Kind::Directory => {
                        before.kind.is_directory()
                            && is_staged(&directory.path_of(&wanted.name), work)
                    }
                    Kind::File { size: 1.., .. } => {
                        inode.ino == stamp.ino
                            && !stamp.is_distrusted()
                            && !work.is_leader(directory, wanted)
                            && is_managed(directory, &wanted.name, seen)
                    }
                    _ => false,
                }
        })
}

fn is_staged(path: &RelPath, work: &Work) -> bool {
    let staged = work.index_of(path).map(|directory| StagedDirectory {
        is_seed: false,
        directory,
    });
    staged.is_some_and(|staged| work.directories.contains_key(&staged))
}

fn is_managed(directory: &Directory, name: &Name, seen: &Seen) -> bool {
    let scope = &seen.keeper.scope;
    scope
        .of_child(Side::Sender, &directory.path, name, false)
        .is_managed()
}

/// Which wanted entry this is: a directory of the staged tree, or a file that is the live one. None if
/// linking wouldn't have made it.
fn as_linked(
    (at, directory): (u32, &Directory),
    listed: &Listed,
    seen: &Seen,
    work: &Work,
) -> Option<usize> {
    let entries = &directory.entries;
    let nth = entries.binary_search_by(|it| it.name.cmp(&listed.name));
    let nth = nth.ok()?;
    let wanted = entries.get(nth)?;
    let is_as_linked = match wanted.kind {
        Kind::Directory => {
            listed.kind == FileKind::Directory && is_staged(&directory.path_of(&wanted.name), work)
        }
        Kind::File { size: 1.., .. } => {
            let at = At {
                directory: at,
                entry: u32::try_from(nth).ok()?,
                is_seed: false,
            };
            let live = work.unchanged(&seen.observed, at);
            listed.kind != FileKind::Directory
                && live.is_some_and(|live| live.ino == listed.ino)
                && is_managed(directory, &wanted.name, seen)
        }
        _ => false,
    };
    is_as_linked.then_some(nth)
}

/// True if a directory that is to go holds what may not be removed, or can't be looked into.
fn holds_something(dir: &Dir, name: &Name, path: &RelPath, seen: &Seen) -> bool {
    let held = dir
        .open_dir(name)
        .and_then(|inside| survey(&inside, path, &seen.keeper));
    held.map_or(true, |held| {
        held.iter().any(|held| held.link_target.is_none())
    })
}
