//! What is kept of former generations: complete ones, or what commits took out.
//!
//! Both are sources of content for the next push and for a rollback; whoever copies from them
//! verifies what it copied. Collecting never removes what belongs to the member: should a real
//! entry of that kind turn up in a generation, it is moved aside first (invariant I4).

use super::fault::point;
use super::held::survey;
use super::journal::{Journal, TREE, Work};
use super::keeper::Keeper;
use super::live::Tree;
use super::overwritten::{Aside, publish};
use super::place::{Place, PlaceError};
use super::record::{self, KeptGeneration, TreeRecord};
use super::recycle::put_by;
use super::step::{Old, Step};
use super::transaction::CommitError;
use crate::engine::member::live_index;
use crate::fs::{Dir, FsError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Layout, Notice};

const UNDO_INDEX: &[u8] = b"index";
const UNDO_MAGIC: &[u8; 5] = b"FOUX\x01";

/// A content that is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptContent {
    /// BLAKE3 of the content when it was last verified.
    pub content: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Where it is.
    pub source: Source,
}

/// Where a kept content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    is_undo: bool,
    directory: Name,
    path: RelPath,
}

/// One file of an undo area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UndoEntry {
    path: RelPath,
    content: Digest,
    size: u64,
}

/// Turns the staged tree, which holds by now what the commit took out, into an undo area.
/// Idempotent.
pub(super) fn keep_undo(place: &Place, journal: &Journal) -> Result<(), CommitError> {
    let Work::InPlace { steps, .. } = &journal.work else {
        return Ok(());
    };
    let undo = place
        .sub(b"undo")?
        .create_dir_if_absent(&journal.directory, 0o700)?;
    let mut entries = Vec::new();
    for step in steps {
        match step {
            Step::Put {
                path, old, below, ..
            } => {
                entries.extend(old.as_ref().and_then(|old| undo_entry(path, old)));
                entries.extend(below.iter().filter_map(|(path, old)| undo_entry(path, old)));
            }
            Step::Remove { path, old } => entries.extend(undo_entry(path, old)),
            Step::Meta { .. } | Step::RemoveDirectory { .. } => {}
        }
    }
    point("member.undo.index")?;
    record::save(&undo, UNDO_INDEX, UNDO_MAGIC, &entries)?;
    let swap = place.own_name(b"swap")?;
    if undo.stat(&swap)?.is_some() {
        undo.remove_dir(&swap)?;
    }
    let tree = place.own_name(TREE)?;
    if let Some(stage) = place.stages()?.try_open_dir(&journal.stage)?
        && stage.stat(&tree)?.is_some()
    {
        point("member.undo.tree")?;
        stage.rename_to(&tree, &undo, &tree)?;
    }
    Ok(())
}

fn undo_entry(path: &RelPath, old: &Old) -> Option<UndoEntry> {
    let (content, size) = old.content.filter(|_| !old.is_drift)?;
    Some(UndoEntry {
        path: path.clone(),
        content,
        size,
    })
}

/// Those of the `wanted` contents that are kept besides the live tree. An index that can't be read is
/// skipped: it costs bytes on the wire, nothing else (invariant I6).
pub fn kept_contents(
    place: &Place,
    wanted: &HashSet<Digest>,
) -> Result<Vec<KeptContent>, PlaceError> {
    let mut all = Vec::new();
    match place.layout() {
        Layout::InPlace => {
            let undo = place.sub(b"undo")?;
            for listed in undo.list()? {
                let Some(area) = undo.try_open_dir(&listed.name)? else {
                    continue;
                };
                let entries: Option<Vec<UndoEntry>> =
                    record::load(&area, UNDO_INDEX, UNDO_MAGIC).unwrap_or_default();
                let entries = entries.into_iter().flatten();
                for entry in entries.filter(|entry| wanted.contains(&entry.content)) {
                    all.push(KeptContent {
                        content: entry.content,
                        size: entry.size,
                        source: Source {
                            is_undo: true,
                            directory: listed.name.clone(),
                            path: entry.path,
                        },
                    });
                }
            }
        }
        Layout::Switched => {
            let live = TreeRecord::load(place)?
                .live_directory()
                .map(<[u8]>::to_vec);
            let generations = place.sub(b"gen")?;
            for listed in generations.list()? {
                if Some(listed.name.as_bytes()) == live.as_deref() {
                    continue;
                }
                let index = live_index::load_generation_with(place, &listed.name, wanted)?;
                let Some(index) = index else {
                    continue;
                };
                for (directory, entry) in index.manifest().entries() {
                    if let Kind::File { size, content } = entry.kind
                        && wanted.contains(&content)
                    {
                        all.push(KeptContent {
                            content,
                            size,
                            source: Source {
                                is_undo: false,
                                directory: listed.name.clone(),
                                path: directory.path_of(&entry.name),
                            },
                        });
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Opens a kept content for reading; `None` if it is gone.
///
/// # Errors
/// The disk said no.
pub fn open_kept(place: &Place, source: &Source) -> Result<Option<File>, FsError> {
    let top = place.sub(if source.is_undo { b"undo" } else { b"gen" })?;
    let area = top.try_open_dir(&source.directory)?;
    let dir = match area {
        Some(area) if source.is_undo => area.try_open_dir(&place.own_name(TREE)?)?,
        area => area,
    };
    let Some(dir) = dir else {
        return Ok(None);
    };
    let mut tree = Tree::new(dir);
    match tree.spot(&source.path)? {
        Some(spot) => match spot.dir.open_file(&spot.name) {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(Some),
        },
        None => Ok(None),
    }
}

/// The generations of a tree, the live one included.
pub fn generations(place: &Place) -> Result<Vec<KeptGeneration>, PlaceError> {
    Ok(TreeRecord::load(place)?.generations)
}

/// Pins a generation, or lets it go. False if there is none of that serial.
pub fn pin(place: &Place, serial: u64, pinned: bool) -> Result<bool, PlaceError> {
    let mut record = TreeRecord::load(place)?;
    let kept = record
        .generations
        .iter_mut()
        .find(|kept| kept.generation.serial == serial);
    let Some(kept) = kept else {
        return Ok(false);
    };
    kept.pinned = pinned;
    record.save(place)?;
    Ok(true)
}

/// What was collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// Things worth saying.
    pub notices: Vec<Notice>,
    /// Names of files went that the live tree may share, so those have another ctime now.
    pub is_unlinked: bool,
}

/// Removes every generation that is neither in `keep`, pinned nor live. May be repeated; what an
/// earlier call left half removed goes too. Not to be called while a transaction is open.
///
/// # Errors
/// The first entry that can't be removed.
pub fn collect(
    place: &Place,
    keep: &[u64],
    keeper: &Keeper,
    overwritten: Option<&Dir>,
) -> Result<Collected, CommitError> {
    let mut record = TreeRecord::load(place)?;
    let live = record.live;
    let before = record.generations.len();
    record.generations.retain(|kept| {
        let serial = kept.generation.serial;
        kept.pinned || Some(serial) == live || keep.contains(&serial)
    });
    if record.generations.len() != before {
        point("member.collect.record")?;
        // ORDER: nothing is promised any more when the first entry goes.
        record.save(place)?;
    }
    match place.layout() {
        Layout::Switched => collect_switched(place, &record, keeper, overwritten),
        Layout::InPlace => collect_undo(place, &record),
    }
}

fn collect_switched(
    place: &Place,
    record: &TreeRecord,
    keeper: &Keeper,
    overwritten: Option<&Dir>,
) -> Result<Collected, CommitError> {
    let generations = place.sub(b"gen")?;
    let mut collected = Collected::default();
    let is_kept = |name: &[u8]| record.generations.iter().any(|kept| kept.directory == name);
    let mut listed = generations.list()?;
    // An index goes after its generation, for which it is of use.
    listed.sort_by_key(|listed| listed.name.as_bytes().ends_with(live_index::SUFFIX));
    for listed in listed {
        let name = listed.name.as_bytes();
        if is_kept(name.strip_suffix(live_index::SUFFIX).unwrap_or(name)) {
            continue;
        }
        let Some(stat) = generations.stat(&listed.name)? else {
            continue;
        };
        point("member.collect.generation")?;
        if stat.is_directory() {
            if !put_by(place, &generations, &listed.name)? {
                let rescued = rescue(place, (&generations, &listed.name), keeper, overwritten)?;
                collected.notices.extend(rescued);
                generations.remove_tree(&listed.name)?;
                collected.is_unlinked = true;
            }
        } else {
            generations.unlink(&listed.name)?;
        }
    }
    Ok(collected)
}

/// Moves what belongs to the member out of a generation that is about to go.
pub(super) fn rescue(
    place: &Place,
    (generations, name): (&Dir, &Name),
    keeper: &Keeper,
    overwritten: Option<&Dir>,
) -> Result<Option<Notice>, CommitError> {
    let mut tree = Tree::new(generations.open_dir(name)?);
    let aside = Aside::new(place, name);
    for held in survey(tree.root(), &RelPath::root(), keeper)? {
        if held.is_opaque {
            return Err(CommitError::Kept(held.path));
        }
        if held.link_target.is_some() {
            continue;
        }
        tree.forget();
        if let Some(spot) = tree.find(&held.path)? {
            aside.take(spot.dir, &spot.name, &held.path)?;
        }
    }
    publish(place, name, overwritten)
}

/// What commit 42 took out serves to go back behind 42, so it is of use as long as an older
/// generation is kept.
fn collect_undo(place: &Place, record: &TreeRecord) -> Result<Collected, CommitError> {
    let oldest = record
        .generations
        .iter()
        .map(|kept| kept.generation.serial)
        .min();
    let undo = place.sub(b"undo")?;
    for listed in undo.list()? {
        let digits = listed.name.as_bytes().split(|&b| b == b'.').next();
        let serial = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok());
        if serial
            .zip(oldest)
            .is_some_and(|(serial, oldest)| serial > oldest)
        {
            continue;
        }
        point("member.collect.undo")?;
        undo.remove_tree(&listed.name)?;
    }
    Ok(Collected::default())
}
