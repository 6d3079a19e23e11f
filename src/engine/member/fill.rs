//! What the member has already: unchanged files, the same content elsewhere, kept generations, and
//! what an earlier attempt staged. Only the rest is asked for.
//!
//! Whatever is copied is hashed on the way and thrown away if it isn't what it should be; then the
//! hub is asked after all. Staging links to a live inode only in the layout `switched`, where
//! nothing that is live is ever written to.

use super::generations::{Source, kept_contents, open_kept};
use super::large::Large;
use super::live::Tree;
use super::look::Seen;
use super::place::Place;
use super::refusal::{of_fs, of_place};
use super::stage::{Cursor, StageEvent, Staging, located, set_length};
use super::work::At;
use crate::codes::Problem;
use crate::engine::index::{Index, Stamp};
use crate::fs::clone::copy_content;
use crate::fs::read::read_range;
use crate::fs::{Dir, FsError, Stat};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;
use sync_proto::manifest::Content;
use sync_proto::path::RelPath;
use sync_proto::wire::{Layout, Needs, ranges_of};

/// Files below this are never patched.
const PATCH_FROM_BYTES: u64 = 64 * 1024;
/// Files above this come in blocks, and can be resumed at one.
pub const BLOCKS_FROM_BYTES: u64 = 2 * 1024 * 1024;
/// What is resumed is a multiple of this.
const RESUME_ALIGN_BYTES: u64 = 1024 * 1024;
/// Contents up to this are copied through memory.
const SMALL_BYTES: u64 = 8 * 1024 * 1024;
const READ_BYTES: usize = 1024 * 1024;

/// Where a content is on this machine.
#[derive(Clone, Debug)]
enum From {
    /// Staged by an earlier attempt.
    Staged(At),
    /// In the live tree.
    Live(RelPath),
    /// In a kept generation or an undo area.
    Kept(Source),
}

/// One content that is copied.
struct Copy {
    content: u32,
    files: Vec<At>,
    from: From,
}

/// What is filled locally, and what is to be asked for.
#[derive(Default)]
pub struct Sources {
    links: Vec<(u32, At, Stamp)>,
    copies: Vec<Copy>,
    /// What the hub is asked for.
    pub needs: Needs,
    /// Large files of which a part is there.
    pub resumed: HashMap<u32, Large>,
    /// Contents of the live tree that patches are made against.
    pub bases: HashMap<Digest, RelPath>,
}

/// Finds out where every content comes from. What the hub must send is noted as open.
pub fn find(seen: &Seen, staging: &mut Staging) -> Result<Sources, Problem> {
    let mut sources = Sources::default();
    let observed = &*seen.observed;
    let trusted = trusted(staging, observed);
    let is_switched = seen.claim.place.layout() == Layout::Switched;
    let (mut elsewhere, mut rest) = (Vec::new(), Vec::new());
    for index in 0..staging.work.contents.len() {
        let content = staging.work.contents[index];
        let files = std::mem::take(&mut staging.work.files[index]);
        if files.is_empty() {
            continue;
        }
        let index = index as u32;
        let mut staged = None;
        let mut remaining = Vec::new();
        let known = trusted.get(&index);
        for (nth, at) in files.into_iter().enumerate() {
            if staging.has_kept(at) || known.is_some_and(|known| known.get(nth) == Some(&true)) {
                staged = Some(at);
                staging.note_files(index, 1, content.size);
            } else if is_switched && let Some(stamp) = staging.work.unchanged(observed, at) {
                sources.links.push((index, at, stamp));
            } else {
                remaining.push(at);
            }
        }
        if remaining.is_empty() {
            continue;
        }
        match staged {
            Some(at) => sources.copies.push(Copy {
                content: index,
                files: remaining,
                from: From::Staged(at),
            }),
            None => elsewhere.push((index, content.digest, remaining)),
        }
    }
    let mut live = live_paths(observed, elsewhere.iter().map(|(_, digest, _)| *digest));
    for (content, digest, files) in elsewhere {
        match live.remove(&digest) {
            Some(path) => sources.copies.push(Copy {
                content,
                files,
                from: From::Live(path),
            }),
            None => rest.push((content, files)),
        }
    }
    if !rest.is_empty() {
        rest = find_kept(seen, staging, rest, &mut sources)?;
    }
    ask(seen, staging, rest, &mut sources)?;
    Ok(sources)
}

/// Where in the live tree the wanted contents are, for those that are there.
fn live_paths(observed: &Index, wanted: impl Iterator<Item = Digest>) -> HashMap<Digest, RelPath> {
    let wanted: HashSet<Digest> = wanted.collect();
    let mut paths = HashMap::new();
    if wanted.is_empty() {
        return paths;
    }
    for (directory, entry) in observed.manifest().entries() {
        if let Kind::File { size: 1.., content } = entry.kind
            && wanted.contains(&content)
        {
            let path = || directory.path_of(&entry.name);
            paths.entry(content).or_insert_with(path);
        }
    }
    paths
}

/// Which files of an earlier attempt are complete.
fn trusted(staging: &Staging, observed: &Index) -> HashMap<u32, Vec<bool>> {
    if staging.is_ours {
        return HashMap::new();
    }
    staging
        .work
        .files
        .par_iter()
        .enumerate()
        .filter(|(_, files)| !files.is_empty())
        .map_init(
            || Cursor::new(staging),
            |cursor, (index, files)| {
                let known = files
                    .iter()
                    .map(|at| is_complete(staging, observed, cursor, *at));
                (index as u32, known.collect())
            },
        )
        .collect()
}

/// A file of the area alone was verified when it got its time, and nobody else could reach it since. One
/// that has other names is what the live tree has, and only as good as what was just seen there.
fn is_complete(staging: &Staging, observed: &Index, cursor: &mut Cursor<'_>, at: At) -> bool {
    let Some((_, entry)) = staging.work.at(at) else {
        return false;
    };
    let Kind::File { size, .. } = entry.kind else {
        return false;
    };
    let stat = cursor
        .of(at)
        .ok()
        .and_then(|dir| dir.stat(&entry.name).ok().flatten());
    stat.is_some_and(|stat| {
        let live = || staging.work.unchanged(observed, at);
        stat.is_file()
            && (stat.nlink == 1 || live().is_some_and(|live| live.ino == stat.ino))
            && stat.size == size
            && Some(stat.mtime) == entry.meta.mtime
            && stat.permissions() == entry.meta.mode
    })
}

/// Contents of kept generations and undo areas.
fn find_kept(
    seen: &Seen,
    staging: &Staging,
    rest: Vec<(u32, Vec<At>)>,
    sources: &mut Sources,
) -> Result<Vec<(u32, Vec<At>)>, Problem> {
    let wanted = rest.iter().filter_map(|(index, _)| {
        let content = staging.work.contents.get(*index as usize);
        content.map(|content| content.digest)
    });
    let wanted = wanted.collect();
    let kept = kept_contents(&seen.claim.place, &wanted).map_err(|error| of_place(&error))?;
    let mut kept: HashMap<Digest, Source> = kept
        .into_iter()
        .map(|kept| (kept.content, kept.source))
        .collect();
    let mut left = Vec::new();
    for (index, files) in rest {
        let digest = staging
            .work
            .contents
            .get(index as usize)
            .map(|it| it.digest);
        match digest.and_then(|digest| kept.remove(&digest)) {
            Some(source) => sources.copies.push(Copy {
                content: index,
                files,
                from: From::Kept(source),
            }),
            None => left.push((index, files)),
        }
    }
    Ok(left)
}

/// Decides how each of the remaining contents is asked for.
fn ask(
    seen: &Seen,
    staging: &Staging,
    rest: Vec<(u32, Vec<At>)>,
    sources: &mut Sources,
) -> Result<(), Problem> {
    let mut whole = Vec::new();
    for (index, files) in rest {
        let Some(content) = staging.work.contents.get(index as usize).copied() else {
            continue;
        };
        let base = older(seen, staging, &files, &content);
        let resumed = partial(staging, &files, &content)?;
        if let Some((large, bytes, prefix)) =
            resumed.filter(|(_, bytes, _)| base.is_none() || *bytes >= content.size / 2)
        {
            sources.needs.resumed.push((index, bytes, prefix));
            sources.resumed.insert(index, large);
        } else if let Some((digest, path)) = base {
            sources.needs.patched.push((index, digest));
            sources.bases.insert(digest, path);
        } else {
            whole.push(index);
        }
        staging.reopen(index, &files);
    }
    sources.needs.whole = ranges_of(whole);
    Ok(())
}

/// An older content of one of these paths that a patch can be made against.
fn older(
    seen: &Seen,
    staging: &Staging,
    files: &[At],
    content: &Content,
) -> Option<(Digest, RelPath)> {
    if content.size < PATCH_FROM_BYTES {
        return None;
    }
    files.iter().find_map(|at| {
        let path = staging.work.path(*at);
        let (entry, _) = seen.observed.entry(&path)?;
        match entry.kind {
            Kind::File {
                size: PATCH_FROM_BYTES..,
                content,
            } => Some((content, path)),
            _ => None,
        }
    })
}

/// The beginning of a large file that an earlier attempt left.
fn partial(
    staging: &Staging,
    files: &[At],
    content: &Content,
) -> Result<Option<(Large, u64, Digest)>, Problem> {
    let Some(at) = files.first().copied() else {
        return Ok(None);
    };
    if staging.is_fresh || content.size <= BLOCKS_FROM_BYTES {
        return Ok(None);
    }
    let Some((_, entry)) = staging.work.at(at) else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(staging);
    let dir = cursor.of(at)?;
    let there = dir.stat(&entry.name).map_err(|error| of_fs(&error))?;
    let Some(there) = there.filter(|it| it.is_file() && it.nlink == 1) else {
        return Ok(None);
    };
    let bytes = there.size.min(content.size.saturating_sub(1));
    let bytes = bytes - bytes % RESUME_ALIGN_BYTES;
    if bytes == 0 {
        return Ok(None);
    }
    let opened = dir.open_file_for_update(&entry.name);
    let file = opened.map_err(|error| of_fs(&error))?;
    let mut hasher = blake3::Hasher::new();
    let read = hash_range(&file, bytes, &mut hasher).map_err(|error| of_fs(&error))?;
    if read != bytes {
        return Ok(None);
    }
    set_length(&file, bytes).map_err(|error| of_fs(&error))?;
    let prefix = hasher.finalize().into();
    let large = Large::resume(*content, file, hasher, bytes);
    Ok(Some((large, bytes, prefix)))
}

/// Hashes the first `bytes` of a file; fewer if it ends before.
fn hash_range(file: &File, bytes: u64, hasher: &mut blake3::Hasher) -> Result<u64, FsError> {
    let mut at = 0;
    while at < bytes {
        let step = usize::try_from(bytes - at)
            .unwrap_or(READ_BYTES)
            .min(READ_BYTES);
        let piece = read_range(file, at, step)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        at += piece.len() as u64;
    }
    Ok(at)
}

/// The live tree and the kept ones, for reading.
pub struct LocalContents {
    /// Where the tree lies.
    pub place: Arc<Place>,
    /// The live tree.
    pub live: Option<Dir>,
}

impl LocalContents {
    fn open(&self, staging: &Staging, from: &From) -> Result<Option<File>, FsError> {
        match from {
            From::Staged(at) => {
                let path = staging.work.path(*at);
                open_at(staging.root(at.is_seed), &path)
            }
            From::Live(path) => self.open_live(path),
            From::Kept(source) => open_kept(&self.place, source),
        }
    }

    /// A file of the live tree; `None` if it isn't one any more.
    pub fn open_live(&self, path: &RelPath) -> Result<Option<File>, FsError> {
        match &self.live {
            Some(live) => open_at(live, path),
            None => Ok(None),
        }
    }
}

fn open_at(root: &Dir, path: &RelPath) -> Result<Option<File>, FsError> {
    let opened = root
        .open_parent_at(path)
        .and_then(|parent| parent.map(|(dir, name)| dir.open_file(&name)).transpose());
    match opened {
        Err(error) if error.is_not_found() || error.is_wrong_kind() => Ok(None),
        other => other,
    }
}

impl Sources {
    /// Fills everything that can be filled locally. Asks the hub for what turns out to be something
    /// else than it was.
    pub fn fill(&self, staging: &Staging, local_contents: &LocalContents) -> Result<(), Problem> {
        staging.make_empty_files()?;
        let reflinks = AtomicU8::new(UNKNOWN);
        self.links
            .par_chunks(256)
            .try_for_each(|links| link_all(staging, local_contents, links, &reflinks))?;
        self.copies.par_chunks(16).try_for_each(|copies| {
            copies.iter().try_for_each(|copy| {
                let content = copy.content;
                copy_one(staging, local_contents, content, &copy.files, &copy.from)
            })
        })
    }
}

const UNKNOWN: u8 = 0;
const POSSIBLE: u8 = 1;
const IMPOSSIBLE: u8 = 2;

fn link_all(
    staging: &Staging,
    local_contents: &LocalContents,
    links: &[(u32, At, Stamp)],
    reflinks: &AtomicU8,
) -> Result<(), Problem> {
    let mut cursor = Cursor::new(staging);
    let live = local_contents.live.as_ref().map(Dir::try_clone).transpose();
    let Some(live) = live.map_err(|error| of_fs(&error))? else {
        return Ok(());
    };
    let mut live = Tree::new(live);
    for (index, at, stamp) in links {
        if staging.is_stopped() {
            return Ok(());
        }
        let path = staging.work.path(*at);
        let content = content_of(staging, *index);
        let is_linked = match live.find(&path).map_err(|error| located(&error, &path))? {
            Some(from) => link_one(staging, &mut cursor, *at, &from, stamp, reflinks)?,
            None => false,
        };
        if is_linked {
            staging.note_files(*index, 1, content.size);
        } else {
            copy_one(staging, local_contents, *index, &[*at], &From::Live(path))?;
        }
    }
    Ok(())
}

/// Shares an unchanged file with the live generation. False if it isn't unchanged, or the file
/// system doesn't let us.
fn link_one(
    staging: &Staging,
    cursor: &mut Cursor<'_>,
    at: At,
    from: &super::live::Spot<'_>,
    stamp: &Stamp,
    reflinks: &AtomicU8,
) -> Result<bool, Problem> {
    if reflinks.load(Ordering::Relaxed) != IMPOSSIBLE {
        let is_shared = reflink_one(staging, cursor, at, from, stamp)?;
        reflinks.store(
            if is_shared { POSSIBLE } else { IMPOSSIBLE },
            Ordering::Relaxed,
        );
        if is_shared {
            return Ok(true);
        }
    }
    let dir = cursor.of(at)?;
    let name = &from.name;
    let linked = match dir.hard_link(from.dir, name, name) {
        Err(error) if error.is_exists() => dir
            .remove_tree(name)
            .and_then(|()| dir.hard_link(from.dir, name, name)),
        other => other,
    };
    if linked.is_err() {
        return Ok(false);
    }
    let now = dir.stat(name).map_err(|error| of_fs(&error))?;
    Ok(now.is_some_and(|now| is_same(&now, stamp)))
}

fn reflink_one(
    staging: &Staging,
    cursor: &mut Cursor<'_>,
    at: At,
    from: &super::live::Spot<'_>,
    stamp: &Stamp,
) -> Result<bool, Problem> {
    let Some((_, entry)) = staging.work.at(at) else {
        return Ok(false);
    };
    let Ok((source, stat)) = from.dir.open_file_with_stat(&from.name) else {
        return Ok(false);
    };
    if !is_same(&stat, stamp) {
        return Ok(false);
    }
    let wanted = staging.resolve(&entry.meta)?;
    let dir = cursor.of(at)?;
    let file = staging.create(dir, &entry.name, wanted.mode)?;
    let copied = copy_content(&source, &file, stat.size).map_err(|error| of_fs(&error))?;
    if !copied.is_reflink {
        return Ok(false);
    }
    staging.seal(&file, &wanted, at)?;
    Ok(true)
}

/// Linking changes the ctime of all names of a file, so it can't be compared.
fn is_same(now: &Stat, stamp: &Stamp) -> bool {
    now.ino == stamp.ino && now.size == stamp.size && now.mtime == stamp.mtime && now.is_file()
}

fn content_of(staging: &Staging, index: u32) -> Content {
    let nothing = Content {
        digest: Digest::from_bytes([0; 32]),
        size: 0,
    };
    staging
        .work
        .contents
        .get(index as usize)
        .copied()
        .unwrap_or(nothing)
}

/// Copies a content into these files, or asks the hub for it.
fn copy_one(
    staging: &Staging,
    local_contents: &LocalContents,
    index: u32,
    files: &[At],
    from: &From,
) -> Result<(), Problem> {
    if staging.is_stopped() {
        return Ok(());
    }
    let content = content_of(staging, index);
    let source = local_contents
        .open(staging, from)
        .map_err(|error| of_fs(&error))?;
    let is_copied = match source {
        Some(source) => copy_verified(staging, &source, &content, files)?,
        None => false,
    };
    if is_copied {
        staging.note_files(index, files.len() as u32, content.size);
        return Ok(());
    }
    staging.reopen(index, files);
    staging.tell(StageEvent::Need(Needs {
        whole: vec![(index, 1)],
        ..Needs::default()
    }));
    Ok(())
}

/// False if the source isn't that content.
fn copy_verified(
    staging: &Staging,
    source: &File,
    content: &Content,
    files: &[At],
) -> Result<bool, Problem> {
    let mut cursor = Cursor::new(staging);
    if content.size <= SMALL_BYTES {
        let length = usize::try_from(content.size).unwrap_or(0);
        let bytes = read_range(source, 0, length + 1).map_err(|error| of_fs(&error))?;
        if bytes.len() != length || Digest::of(&bytes) != content.digest {
            return Ok(false);
        }
        for at in files {
            staging.put(&mut cursor, *at, &bytes)?;
        }
        return Ok(true);
    }
    for at in files {
        let Some((_, entry)) = staging.work.at(*at) else {
            continue;
        };
        let wanted = staging.resolve(&entry.meta)?;
        let dir = cursor.of(*at)?;
        let file = staging.create(dir, &entry.name, wanted.mode)?;
        let path = || staging.work.path(*at);
        let copied =
            copy_content(source, &file, content.size).map_err(|error| located(&error, &path()))?;
        let mut hasher = blake3::Hasher::new();
        let read = hash_range(&file, content.size, &mut hasher)
            .map_err(|error| located(&error, &path()))?;
        let digest: Digest = hasher.finalize().into();
        if copied.len_bytes != content.size || read != content.size || digest != content.digest {
            return Ok(false);
        }
        staging.seal(&file, &wanted, *at)?;
    }
    Ok(true)
}
