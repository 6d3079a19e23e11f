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
use super::list::Listed;
use super::stat::{FileKind, Stat};
use rayon::prelude::*;
use rustix::io::Errno;
use sync_proto::path::{self, Name, RelPath, escape};
use thiserror::Error;

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
    /// Its metadata, taken before its names were read, or known to be what they were.
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
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .what.of(.path))]
pub struct WalkProblem {
    /// The path below the root of the walk: raw bytes, because it may be too long for a `RelPath`.
    pub path: Box<[u8]>,
    /// What it was.
    #[source]
    pub what: WalkTrouble,
}

/// Why an entry is missing from a walk or not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WalkTrouble {
    /// It was listed, and then gone or replaced by something else.
    #[error("vanished")]
    Vanished,
    /// Another mount lies there; it was recorded, but not entered.
    #[error("is another mount")]
    OtherMount,
    /// Its path is longer than the protocol carries.
    #[error("is longer than a path may be")]
    TooLong,
    /// It could not be read.
    #[error(transparent)]
    Unreadable(FsError),
}

impl WalkTrouble {
    fn of(&self, path: &[u8]) -> String {
        match self {
            // It names the path.
            Self::Unreadable(error) => error.to_string(),
            other => format!("`{}` {other}", escape(path)),
        }
    }
}

impl Walked {
    /// How many entries there are, the root not counted.
    pub fn entry_count(&self) -> usize {
        self.dirs.iter().map(|dir| dir.entries.len()).sum()
    }
}

/// Who is asked on the way.
pub trait Guide: Sync {
    /// What is to be done with an entry: the path of its directory, its name, and whether it is a
    /// directory, before anything else is learnt about it.
    fn verdict(&self, parent: &RelPath, name: &[u8], is_directory: bool) -> Verdict;

    /// The names in the directory at `path`, where they are known without reading it: `stat` is
    /// what it is now. Names that the verdict leaves out may be among them.
    fn names(&self, _path: &RelPath, _stat: &Stat) -> Option<Vec<Listed>> {
        None
    }

    /// True if these are all the entries of the directory at `path`, as they are known. They are
    /// walked into then and not kept: a tree that is as it was costs no memory twice.
    fn recognises(&self, _path: &RelPath, _entries: &[WalkedEntry]) -> bool {
        false
    }
}

impl<F> Guide for F
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
{
    fn verdict(&self, parent: &RelPath, name: &[u8], is_directory: bool) -> Verdict {
        self(parent, name, is_directory)
    }
}

/// Walks everything below `root`.
///
/// # Errors
/// Only if the root itself can't be read.
pub fn walk<F>(root: &Dir, filter: F) -> Result<Walked, FsError>
where
    F: Fn(&RelPath, &[u8], bool) -> Verdict + Sync,
{
    walk_guided(root, &filter)
}

/// The same, led by somebody who may know some of it.
///
/// # Errors
/// Only if the root itself can't be read.
pub fn walk_guided(root: &Dir, guide: &impl Guide) -> Result<Walked, FsError> {
    walk_sharing_from(root, guide, SEQUENTIAL_ENTRIES)
}

pub(super) fn walk_sharing_from(
    root: &Dir,
    guide: &impl Guide,
    alone: usize,
) -> Result<Walked, FsError> {
    let mut walked = Walked::default();
    let stat = root.stat_self()?;
    // Only the root's descriptor has a past, and so a position.
    let names = match guide.names(&RelPath::root(), &stat) {
        Some(names) => names,
        None => root.list()?,
    };
    let first = read_entries(root, RelPath::root(), stat, names, guide);
    let mut seen = first.entries;
    let mut level = walked.take(first);
    while !level.is_empty() {
        let visit = |next: Next| visit(root, next, guide);
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

fn visit(root: &Dir, next: Next, guide: &impl Guide) -> Visit {
    let Next { path, listed } = next;
    let problem = |error: FsError| WalkProblem {
        path: path.as_bytes().into(),
        what: match error.source {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => WalkTrouble::Vanished,
            Errno::XDEV => WalkTrouble::OtherMount,
            _ => WalkTrouble::Unreadable(error),
        },
    };
    let known = guide.names(&path, &listed);
    if let Some(names) = &known
        && names.iter().all(|it| is_left_out(guide, &path, it))
    {
        // Nothing in it is looked at, so it needn't be opened.
        let left_out = !names.is_empty();
        return Ok(collect(path, listed, Vec::new(), left_out));
    }
    let dir = root.open_dir_at(&path).map_err(problem)?;
    let stat = dir.stat_self().map_err(problem)?;
    // RACE: another directory took its place since its parent was read. Its content would be
    // recorded under metadata that belongs to the former one.
    if !listed.same_inode(&stat) {
        return Err(problem(dir.error("find again", b"", Errno::NOENT)));
    }
    let names = match known {
        Some(names) => names,
        None => dir.list_once().map_err(problem)?,
    };
    Ok(read_entries(&dir, path, stat, names, guide))
}

/// True if an entry is left out, whatever else there is to learn about it.
fn is_left_out(guide: &impl Guide, path: &RelPath, listed: &Listed) -> bool {
    let is_directory = listed.kind == FileKind::Directory;
    listed.kind != FileKind::Unknown
        && guide.verdict(path, listed.name.as_bytes(), is_directory) == Verdict::Skip
}

fn read_entries(
    dir: &Dir,
    path: RelPath,
    stat: Stat,
    mut names: Vec<Listed>,
    guide: &impl Guide,
) -> Read {
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let look = |listed: Listed| look(dir, &path, listed, guide);
    let looks: Vec<Look> = if names.len() >= SHARED_ENTRIES {
        names.into_par_iter().map(look).collect()
    } else {
        names.into_iter().map(look).collect()
    };
    let mut read = collect(path, stat, looks, false);
    let dir = &mut read.dir;
    if read.problems.is_empty() && guide.recognises(&dir.path, &dir.entries) {
        dir.recognised = true;
        dir.entries = Vec::new();
    }
    read
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

fn look(dir: &Dir, path: &RelPath, listed: Listed, guide: &impl Guide) -> Look {
    let Listed { name, kind, .. } = listed;
    let ask = |is_directory| guide.verdict(path, name.as_bytes(), is_directory);
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

fn collect(path: RelPath, stat: Stat, looks: Vec<Look>, mut left_out: bool) -> Read {
    let mut entries = Vec::with_capacity(looks.len());
    let mut next = Vec::new();
    let mut problems = Vec::new();
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
