//! The saved index of the live tree, and its renewal after a commit.
//!
//! A cache (invariant I6): written without waiting for the disk, read only if its checksum is
//! right, and worth nothing but time.

use super::fault::point;
use super::place::{Place, PlaceError};
use super::record::TreeRecord;
use crate::engine::index::{HEAD_BYTES, Index, Stamp, Stamps};
use crate::fs::read::{is_settled, read_range, read_small};
use crate::fs::{Dir, FsError, Stat};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use sync_proto::digest::Digest;
use sync_proto::entry::{Kind, Time};
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Layout;

const FILE: &[u8] = b"index";
/// What the index of a generation is called, behind the name of its directory.
pub(super) const SUFFIX: &[u8] = b".index";
/// LIMIT: bytes of an index: 8 million entries at 250 bytes.
const MAX_BYTES: u64 = 2 << 30;

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

/// The index of the tree as it is after a commit: `staged`, with the ctimes that the entries have
/// now. An entry that isn't exactly what was staged is distrusted, and will be hashed again; a
/// directory that has another ctime isn't taken for whole, and will be listed.
///
/// Where the commit gives no entry another ctime, `sealed` says from when on others could change it:
/// a stamp that was settled then is good as it is, and whatever happened to its entry since, the next
/// look sees.
///
/// # Errors
/// The live tree can't be read.
pub fn refresh_index(
    place: &Place,
    staged: &Index,
    sealed: Option<&Sealed>,
) -> Result<Option<Index>, FsError> {
    let is_good = |kind: &Kind, stamp: &Stamp| {
        let from = sealed.map(|sealed| match kind.is_directory() {
            true => sealed.voted,
            false => sealed.looked,
        });
        *stamp != Stamp::default() && from.is_some_and(|from| is_settled(stamp.ctime, from))
    };
    let Some(live) = place.live()? else {
        return Ok(None);
    };
    let directories = staged.manifest().directories();
    let renewed: Vec<(Stamps, Vec<RelPath>)> = directories
        .par_iter()
        .zip(staged.stamps())
        .map(|(directory, stamps)| {
            let mut pairs = directory.entries.iter().zip(stamps.iter());
            if pairs.all(|(entry, stamp)| is_good(&entry.kind, stamp)) {
                return Ok((stamps.clone(), Vec::new()));
            }
            let dir = open_or_none(&live, &directory.path)?;
            let mut moved = Vec::new();
            let mut renewed = Vec::with_capacity(stamps.len());
            for (entry, stamp) in directory.entries.iter().zip(stamps.iter()) {
                let is_good = is_good(&entry.kind, stamp);
                let now = match &dir {
                    _ if is_good => *stamp,
                    Some(dir) => renew(dir, &entry.name, &entry.kind, stamp)?,
                    None => stamp.distrusted(),
                };
                // What may have changed within a tick of the clock counts as changed.
                let is_certain = is_good || sealed.is_none() && now == *stamp;
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
            && !sealed.is_some_and(|sealed| sealed.added_to.contains(&directory.path))
            && !(directory.path.is_root() && root != *staged.root_stamp())
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

fn renew(dir: &Dir, name: &Name, kind: &Kind, stamp: &Stamp) -> Result<Stamp, FsError> {
    let Some(now) = dir.stat(name)?.map(|stat| Stamp::from(&stat)) else {
        return Ok(stamp.distrusted());
    };
    let is_same = now.ino == stamp.ino && now.same_ownership(stamp);
    let is_same = if kind.is_directory() {
        // Its time says nothing about its entries, which are looked at one by one.
        is_same || now.same_ownership(stamp)
    } else {
        is_same && now.size == stamp.size && now.mtime == stamp.mtime
    };
    Ok(if is_same { now } else { stamp.distrusted() })
}

/// Saves the index of the live tree. In the layout `switched` it stays with its generation, too.
///
/// # Errors
/// It can't be written; the old one is gone then, or still there.
pub fn save_index(place: &Place, index: &Index) -> Result<(), PlaceError> {
    let bytes = index.encode();
    write(place.state(), &place.own_name(FILE)?, &bytes)?;
    let record = TreeRecord::load(place)?;
    if let (Layout::Switched, Some(directory)) = (place.layout(), record.live_directory()) {
        let name = place.own_name(&[directory, SUFFIX].concat())?;
        write(&place.sub(b"gen")?, &name, &bytes)?;
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
    let (bytes, _) = read_small(dir, name, None, MAX_BYTES).ok()?;
    Index::decode(&bytes)
}

/// Replaces a file without waiting for the disk: a reader sees the old or the new content, and
/// after a power loss perhaps nothing that it can use.
fn write(dir: &Dir, name: &Name, bytes: &[u8]) -> Result<(), FsError> {
    let fresh = [name.as_bytes(), b".new"].concat();
    let fresh = Name::parse(&fresh).map_err(|_| FsError::bad_name(&fresh))?;
    if dir.stat(&fresh)?.is_some() {
        dir.unlink(&fresh)?;
    }
    point("member.index.write")?;
    let mut file = dir.create_file(&fresh, 0o600)?;
    file.write_all(bytes)
        .map_err(|error| FsError::from_io("write", &dir.path_of(&fresh), &error))?;
    drop(file);
    point("member.index.rename")?;
    dir.rename_to(&fresh, dir, name)
}
