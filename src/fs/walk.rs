//! The walk: every entry of a tree with its metadata, in the order of its manifest.
//!
//! Each directory is opened beneath the root by its whole relative path, so one descriptor per
//! thread is enough at any depth, and an ancestor that becomes a symlink in the meantime is an
//! error and not a way out. Small trees are walked by the calling thread; past a few thousand
//! entries all cores share the directories of one depth.
//!
//! The walk stops for nothing: what can't be read is a [`WalkProblem`], and the caller decides.
//! It never enters another mount; it reports mount points, of files too.

use super::dir::Dir;
use super::error::{FsError, joined};
use super::list::{Listed, read_names};
use super::stat::{FileKind, Stat};
use rayon::prelude::*;
use rustix::io::Errno;
use sync_proto::path::{self, Name, RelPath};

/// Entries seen before other cores are asked to help: below that, waking them costs more.
const SEQUENTIAL_ENTRIES: usize = 4_000;
/// Directories of one depth, or entries of one directory, that are worth sharing.
const SHARED_DIRECTORIES: usize = 8;
const SHARED_ENTRIES: usize = 8_192;

/// What the caller wants done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Record it; if it is a directory, walk it too.
    Descend,
    /// Record it, but don't look into it.
    Prune,
    /// Leave it out with everything below it; its directory is marked [`WalkedDir::left_out`].
    Skip,
}

/// A finished walk.
#[derive(Debug, Default)]
pub struct Walked {
    /// Every directory that was read, the root first, in [`RelPath`] order.
    pub dirs: Vec<WalkedDir>,
    /// What could not be read or must not be trusted, in path order.
    pub problems: Vec<WalkProblem>,
}

/// One directory of a walk.
#[derive(Debug)]
pub struct WalkedDir {
    /// Its path below the root of the walk.
    pub path: RelPath,
    /// Its metadata, taken before its names were read.
    pub stat: Stat,
    /// Its entries in byte order, subdirectories included. None if it was recognised.
    pub entries: Vec<WalkedEntry>,
    /// True if the caller knew all of its entries.
    pub recognised: bool,
    /// True if an entry of this very directory was skipped.
    pub left_out: bool,
}

/// One entry of a directory.
#[derive(Debug)]
pub struct WalkedEntry {
    /// Its name.
    pub name: Name,
    /// Its metadata.
    pub stat: Stat,
    /// What it says, if it is a symlink.
    pub link_target: Option<Box<[u8]>>,
}

/// Something that the walk could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkProblem {
    /// The path below the root of the walk: raw bytes, because it may be too long for a `RelPath`.
    pub path: Box<[u8]>,
    /// What it was.
    pub what: WalkTrouble,
}

/// Why an entry is missing from a walk or not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkTrouble {
    /// It was listed, and then gone or replaced by something else.
    Vanished,
    /// Another mount lies there; it was recorded, but not entered.
    OtherMount,
    /// Its path is longer than the protocol carries.
    TooLong,
    /// It could not be read.
    Unreadable(FsError),
}

impl Walked {
    /// How many entries there are, the root not counted.
    pub fn entry_count(&self) -> usize {
        self.dirs.iter().map(|dir| dir.entries.len()).sum()
    }
}

/// Walks everything below `root`. `filter` is asked about each entry with the path of its
/// directory, its name, and whether it is a directory, before anything else is learnt about it.
///
/// # Errors
/// Only if the root itself can't be read.
pub fn walk<F>(root: &Dir, filter: F) -> Result<Walked, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
{
    walk_sharing_from(root, &filter, SEQUENTIAL_ENTRIES)
}

/// The same. `recognise` is shown every directory with its entries; where it says that it knows
/// all of them, they are walked into and not kept: a tree that is as it was costs no memory twice.
///
/// # Errors
/// Only if the root itself can't be read.
pub fn walk_recognising<F, R>(root: &Dir, filter: F, recognise: R) -> Result<Walked, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
    R: Fn(&RelPath, &[WalkedEntry]) -> bool + Sync,
{
    walk_with(root, &filter, &recognise, SEQUENTIAL_ENTRIES)
}

pub(super) fn walk_sharing_from<F>(root: &Dir, filter: &F, alone: usize) -> Result<Walked, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
{
    walk_with(root, filter, &|_: &RelPath, _: &[WalkedEntry]| false, alone)
}

fn walk_with<F, R>(root: &Dir, filter: &F, recognise: &R, alone: usize) -> Result<Walked, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
    R: Fn(&RelPath, &[WalkedEntry]) -> bool + Sync,
{
    let mut walked = Walked::default();
    let first = read_directory(root, RelPath::root(), None, filter, recognise)?;
    let mut seen = first.entries;
    let mut level = walked.take(first);
    while !level.is_empty() {
        let visit = |next: Next| visit(root, next, filter, recognise);
        let visits: Vec<Visit> = if seen >= alone && level.len() >= SHARED_DIRECTORIES {
            level.into_par_iter().map(visit).collect()
        } else {
            level.into_iter().map(visit).collect()
        };
        level = Vec::new();
        for visit in visits {
            match visit {
                Ok(read) => {
                    seen += read.entries;
                    level.extend(walked.take(read));
                }
                Err(problem) => walked.problems.push(problem),
            }
        }
    }
    let order = |a: &WalkedDir, b: &WalkedDir| a.path.cmp(&b.path);
    if walked.dirs.len() >= SHARED_ENTRIES {
        walked.dirs.par_sort_unstable_by(order);
    } else {
        walked.dirs.sort_unstable_by(order);
    }
    walked
        .problems
        .sort_by(|a, b| path::order(&a.path, &b.path));
    Ok(walked)
}

/// A directory that is still to be read.
struct Next {
    path: RelPath,
    listed: Stat,
}

/// A directory that was read.
struct Read {
    dir: WalkedDir,
    /// How many entries it has, whether they were kept or not.
    entries: usize,
    next: Vec<Next>,
    problems: Vec<WalkProblem>,
}

type Visit = Result<Read, WalkProblem>;

impl Walked {
    fn take(&mut self, read: Read) -> Vec<Next> {
        self.dirs.push(read.dir);
        self.problems.extend(read.problems);
        read.next
    }
}

fn visit<F, R>(root: &Dir, next: Next, filter: &F, recognise: &R) -> Visit
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
    R: Fn(&RelPath, &[WalkedEntry]) -> bool + Sync,
{
    let problem = |error: FsError| WalkProblem {
        path: next.path.as_bytes().into(),
        what: match error.source {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => WalkTrouble::Vanished,
            Errno::XDEV => WalkTrouble::OtherMount,
            _ => WalkTrouble::Unreadable(error),
        },
    };
    let dir = root.open_dir_at(&next.path).map_err(problem)?;
    let listed = Some(&next.listed);
    read_directory(&dir, next.path.clone(), listed, filter, recognise).map_err(problem)
}

fn read_directory<F, R>(
    dir: &Dir,
    path: RelPath,
    listed: Option<&Stat>,
    filter: &F,
    recognise: &R,
) -> Result<Read, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
    R: Fn(&RelPath, &[WalkedEntry]) -> bool + Sync,
{
    let stat = dir.stat_self()?;
    // RACE: another directory took its place since its parent was read. Its content would be
    // recorded under metadata that belongs to the former one.
    if listed.is_some_and(|listed| !listed.same_inode(&stat)) {
        return Err(dir.error("find again", b"", Errno::NOENT));
    }
    let mut names = match listed {
        // Only the root's descriptor has a past, and so a position.
        None => dir.list()?,
        Some(_) => read_names(dir).map_err(|errno| dir.error("list", b"", errno))?,
    };
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));

    let look = |listed: Listed| look(dir, &path, listed, filter);
    let looks: Vec<Look> = if names.len() >= SHARED_ENTRIES {
        names.into_par_iter().map(look).collect()
    } else {
        names.into_iter().map(look).collect()
    };
    let mut read = collect(path, stat, looks);
    let dir = &mut read.dir;
    if read.problems.is_empty() && recognise(&dir.path, &dir.entries) {
        dir.recognised = true;
        dir.entries = Vec::new();
    }
    Ok(read)
}

/// What became of one listed name.
enum Look {
    Entry(WalkedEntry, Enter),
    LeftOut,
    Problem(Name, WalkTrouble),
}

/// What to do with a recorded entry next.
#[derive(PartialEq, Eq)]
enum Enter {
    Yes,
    No,
    OtherMount,
}

fn look<F>(dir: &Dir, path: &RelPath, listed: Listed, filter: &F) -> Look
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
{
    let Listed { name, kind, .. } = listed;
    let ask = |is_directory| filter(path, name.as_bytes(), is_directory);
    // The directory knows the kind on all common file systems, so what is skipped costs no stat.
    let early = (kind != FileKind::Unknown).then(|| ask(kind == FileKind::Directory));
    if early == Some(Verdict::Skip) {
        return Look::LeftOut;
    }
    let (stat, is_mount_point) = match Stat::scan(dir, name.as_bytes()) {
        Ok(scanned) => scanned,
        Err(errno) => return failed(dir, name, "stat", errno),
    };
    let verdict = match early {
        Some(verdict) if (kind == FileKind::Directory) == stat.is_directory() => verdict,
        _ => ask(stat.is_directory()),
    };
    if verdict == Verdict::Skip {
        return Look::LeftOut;
    }
    let link_target = if stat.is_symlink() {
        let buffer = Vec::with_capacity(256);
        match rustix::fs::readlinkat(dir, name.as_bytes(), buffer) {
            Ok(target) => Some(target.into_bytes().into_boxed_slice()),
            Err(errno) => return failed(dir, name, "read the symlink", errno),
        }
    } else {
        None
    };
    let enter = if is_mount_point {
        Enter::OtherMount
    } else if stat.is_directory() && verdict == Verdict::Descend {
        Enter::Yes
    } else {
        Enter::No
    };
    Look::Entry(
        WalkedEntry {
            name,
            stat,
            link_target,
        },
        enter,
    )
}

fn failed(dir: &Dir, name: Name, op: &'static str, errno: Errno) -> Look {
    let what = match errno {
        // EINVAL: it is no symlink any more.
        Errno::NOENT | Errno::INVAL => WalkTrouble::Vanished,
        _ => WalkTrouble::Unreadable(dir.error(op, name.as_bytes(), errno)),
    };
    Look::Problem(name, what)
}

fn collect(path: RelPath, stat: Stat, looks: Vec<Look>) -> Read {
    let mut entries = Vec::with_capacity(looks.len());
    let mut next = Vec::new();
    let mut problems = Vec::new();
    let mut left_out = false;
    let problem = |name: &Name, what| WalkProblem {
        path: joined(path.as_bytes(), name.as_bytes()).into(),
        what,
    };
    for look in looks {
        match look {
            Look::Entry(entry, enter) => {
                match enter {
                    Enter::No => {}
                    Enter::OtherMount => {
                        problems.push(problem(&entry.name, WalkTrouble::OtherMount));
                    }
                    Enter::Yes => match path.join(&entry.name) {
                        Ok(below) => next.push(Next {
                            path: below,
                            listed: entry.stat,
                        }),
                        Err(_) => problems.push(problem(&entry.name, WalkTrouble::TooLong)),
                    },
                }
                entries.push(entry);
            }
            Look::LeftOut => left_out = true,
            Look::Problem(name, what) => problems.push(problem(&name, what)),
        }
    }
    Read {
        entries: entries.len(),
        dir: WalkedDir {
            path,
            stat,
            entries,
            recognised: false,
            left_out,
        },
        next,
        problems,
    }
}
