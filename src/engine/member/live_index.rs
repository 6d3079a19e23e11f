//! The saved index of the live tree, and its renewal after a commit.
//!
//! A cache (invariant I6): written without waiting for the disk, read only if its checksum is
//! right, and worth nothing but time.

use super::fault::point;
use super::place::{Place, PlaceError};
use super::record::TreeRecord;
use crate::engine::index::{HEAD_BYTES, Index, Stamp, Stamps};
use crate::fs::read::{is_settled, read_range};
use crate::fs::{Dir, FsError, Stat, absent_is_fine};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Time};
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Layout;

const FILE: &[u8] = b"index";
/// What the index of a generation is called, behind the name of its directory.
pub(super) const SUFFIX: &[u8] = b".index";

/// Since when others can reach a staged tree, by the file system's clock.
#[derive(Debug)]
pub struct Sealed {
    /// Before its files were looked at: some of them are the live tree's as well.
    pub looked: Time,
    /// At the vote: until then nobody else could reach its directories.
    pub voted: Time,
    /// Directories that got other names than those of the manifest since they were looked at.
    pub added_to: BTreeSet<RelPath>,
}

/// Which stamps of a staged tree a commit leaves as they are.
#[derive(Clone, Copy, Debug)]
pub enum Unchanged<'a> {
    /// None for certain.
    None,
    /// All: the tree was renamed as a whole.
    Sealed(&'a Sealed),
    /// All but these: see [`TreePlan::touched`](super::tree_plan::TreePlan::touched).
    Except(&'a HashSet<RelPath>),
}

/// The index of the tree as it is after a commit: `staged`, with the ctimes that the entries have
/// now. An entry that isn't exactly what was staged is distrusted, and will be hashed again; a
/// directory that has another ctime isn't taken for whole, and will be listed.
///
/// Where the commit gives an entry no other ctime, its stamp is good as it is, and whatever happened
/// to the entry since, the next look sees. Of a tree that was staged as a whole that is so from when
/// others could reach it: the stamp has to have been settled then.
///
/// # Errors
/// The live tree can't be read.
pub fn refresh_index(
    place: &Place,
    staged: &Index,
    unchanged: Unchanged<'_>,
) -> Result<Option<Index>, FsError> {
    let is_good = |directory: &Directory, entry: &Entry, stamp: &Stamp| match unchanged {
        _ if *stamp == Stamp::default() => false,
        Unchanged::None => false,
        Unchanged::Sealed(sealed) if entry.kind.is_directory() => {
            is_settled(stamp.ctime, sealed.voted)
        }
        Unchanged::Sealed(sealed) => is_settled(stamp.ctime, sealed.looked),
        Unchanged::Except(touched) => !touched.contains(&directory.path_of(&entry.name)),
    };
    let added_to = match unchanged {
        Unchanged::Sealed(sealed) => Some(&sealed.added_to),
        _ => None,
    };
    let is_sealed = added_to.is_some();
    let Some(live) = place.live()? else {
        return Ok(None);
    };
    let directories = staged.manifest().directories();
    let renewed: Vec<(Stamps, Vec<RelPath>)> = directories
        .par_iter()
        .zip(staged.stamps())
        .map(|(directory, stamps)| {
            let mut pairs = directory.entries.iter().zip(stamps.iter());
            if pairs.all(|(entry, stamp)| is_good(directory, entry, stamp)) {
                return Ok((stamps.clone(), Vec::new()));
            }
            let dir = open_or_none(&live, &directory.path)?;
            let mut moved = Vec::new();
            let mut renewed = Vec::with_capacity(stamps.len());
            for (entry, stamp) in directory.entries.iter().zip(stamps.iter()) {
                let is_good = is_good(directory, entry, stamp);
                let now = match &dir {
                    _ if is_good => *stamp,
                    Some(dir) => renew(dir, entry, stamp, is_sealed)?,
                    None => stamp.distrusted(),
                };
                // What may have changed within a tick of the clock counts as changed.
                let is_certain = is_good || !is_sealed && now == *stamp;
                if entry.kind.is_directory() && !is_certain {
                    moved.push(directory.path_of(&entry.name));
                }
                renewed.push(now);
            }
            Ok((renewed.into(), moved))
        })
        .collect::<Result<_, FsError>>()?;
    let root = Stamp::from(&live.stat_self()?);
    let moved: HashSet<&RelPath> = renewed.iter().flat_map(|(_, moved)| moved).collect();
    let is_whole = |directory: &Directory| {
        staged.is_whole(&directory.path)
            && !moved.contains(&directory.path)
            && !added_to.is_some_and(|added_to| added_to.contains(&directory.path))
            && (!directory.path.is_root() || root == *staged.root_stamp())
    };
    let whole = directories.iter().map(|it| is_whole(it)).collect();
    let stamps = renewed.iter().map(|(stamps, _)| stamps.clone()).collect();
    Ok(Index::of_parts(
        staged.manifest().clone(),
        root,
        stamps,
        whole,
    ))
}

/// Somebody may have made anything of a directory since the commit.
fn open_or_none(live: &Dir, path: &RelPath) -> Result<Option<Dir>, FsError> {
    match live.try_open_dir_at(path) {
        Err(error) if error.is_wrong_kind() || error.is_other_mount() => Ok(None),
        other => other,
    }
}

/// The stamp of an entry as it is now, if that is what was staged. In a tree that was sealed, the
/// commit gave no file another ctime: somebody else did.
fn renew(dir: &Dir, entry: &Entry, stamp: &Stamp, is_sealed: bool) -> Result<Stamp, FsError> {
    let Some(now) = dir.stat(&entry.name)?.map(|stat| Stamp::from(&stat)) else {
        return Ok(stamp.distrusted());
    };
    let is_same = if entry.kind.is_directory() {
        // Its time says nothing about its entries, which are looked at one by one.
        now.same_ownership(stamp)
    } else {
        let committed = match is_sealed {
            true => *stamp,
            false => Stamp {
                ctime: now.ctime,
                ..*stamp
            },
        };
        now == committed
    };
    Ok(if is_same { now } else { stamp.distrusted() })
}

/// Saves the index of the live tree. In the layout `switched` it stays with its generation, too.
///
/// # Errors
/// It can't be written; the old one is gone then, or still there.
pub fn save_index(place: &Place, index: &Index) -> Result<(), PlaceError> {
    let (state, name) = (place.state(), place.own_name(FILE)?);
    write(state, &name, index)?;
    let record = TreeRecord::load(place)?;
    if let (Layout::Switched, Some(directory)) = (place.layout(), record.live_directory()) {
        let further = place.own_name(&[directory, SUFFIX].concat())?;
        let generations = place.sub(b"gen")?;
        let fresh = fresh_name(&generations, &further)?;
        // Neither is ever written to: each is replaced as a whole.
        match generations.hard_link(state, &name, &fresh) {
            Ok(()) => generations.rename_to(&fresh, &generations, &further)?,
            // Not every file system gives a file two names.
            Err(_) => write(&generations, &further, index)?,
        }
    }
    Ok(())
}

/// Reads the saved index; `None` if there is none that can be read.
///
/// # Errors
/// Never about the index itself, only about its directory.
pub fn load_index(place: &Place) -> Result<Option<Index>, PlaceError> {
    Ok(read_index(place.state(), &place.own_name(FILE)?))
}

pub(super) fn load_generation(place: &Place, name: &Name) -> Result<Option<Index>, PlaceError> {
    Ok(read_index(&place.sub(b"gen")?, &index_name(name)?))
}

/// The same, if one of these contents is in it: the rest of it isn't even read otherwise.
pub(super) fn load_generation_with(
    place: &Place,
    name: &Name,
    wanted: &HashSet<Digest>,
) -> Result<Option<Index>, PlaceError> {
    let file = match place.sub(b"gen")?.open_file(&index_name(name)?) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let head = read_range(&file, 0, HEAD_BYTES)?;
    let size = Stat::of_file(&file)?.size;
    let Some(bytes) = Index::contents_bytes(&head).filter(|it| *it as u64 <= size) else {
        return Ok(None);
    };
    let contents = read_range(&file, HEAD_BYTES as u64, bytes)?;
    match Index::lists_any(&contents, wanted) {
        true => load_generation(place, name),
        false => Ok(None),
    }
}

/// What the index of a generation is called, beside it.
pub(super) fn index_name(generation: &Name) -> Result<Name, FsError> {
    let name = [generation.as_bytes(), SUFFIX].concat();
    Name::parse(&name).map_err(|_| FsError::bad_name(&name))
}

/// An index in a file of its own; `None` if it can't be read.
pub(super) fn read_index(dir: &Dir, name: &Name) -> Option<Index> {
    Index::read(dir.open_file(name).ok()?)
}

/// Replaces a file without waiting for the disk: a reader sees the old or the new content, and
/// after a power loss perhaps nothing that it can use.
fn write(dir: &Dir, name: &Name, index: &Index) -> Result<(), FsError> {
    let fresh = fresh_name(dir, name)?;
    point("member.index.write")?;
    let mut file = dir.create_file(&fresh, 0o600)?;
    index
        .write(&mut file)
        .map_err(|error| FsError::from_io("write", &dir.path_of(&fresh), &error))?;
    drop(file);
    point("member.index.rename")?;
    dir.rename_to(&fresh, dir, name)
}

/// A temporary name for what will be called `name`; nothing has it.
fn fresh_name(dir: &Dir, name: &Name) -> Result<Name, FsError> {
    let fresh = [name.as_bytes(), b".new"].concat();
    let fresh = Name::parse(&fresh).map_err(|_| FsError::bad_name(&fresh))?;
    absent_is_fine(dir.unlink(&fresh))?;
    Ok(fresh)
}
