//! Looking at a tree: a walk, the index of the last look, and the hash of what the index does not
//! know.
//!
//! The hub looks at a source in this way, a member at what lies in its root. The result is an
//! [`Index`] of its own: a manifest in *wanted* values and the stamps by which every entry will be
//! recognised next time.
//!
//! An entry whose stamp (inode, size, mtime, ctime, mode, owner) is the one in the index is taken
//! from there without being read. Anything else is read: content is hashed, and metadata stands in
//! the index as it was wanted if it is, effectively, what it was when it was applied; a member
//! without privileges would report drift for ever otherwise.
//!
//! *Racy clean*: a stamp is trusted only if its ctime was settled, by the file system's own clock,
//! before the file was read; otherwise it is stored such that it never matches.

use super::index::{Index, Stamp};
use crate::fs::owner::Principals;
use crate::fs::read::{FsClock, ReadError, hash_file, is_settled};
use crate::fs::walk::{Verdict, WalkProblem, WalkTrouble, WalkedDir, WalkedEntry, walk};
use crate::fs::xattr::{Target, XattrPolicy, read_xattrs, read_xattrs_at};
use crate::fs::{Dir, FileKind, FsError, Stat};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Time, Xattrs};
use sync_proto::filter::{Scope, Side};
use sync_proto::manifest::{Directory, Manifest, ManifestError};
use sync_proto::path::{Name, RESERVED_NAME, RelPath, escape};
use thiserror::Error;

/// How to look.
pub struct Look<'a> {
    /// What was known after the last look.
    pub known: Option<&'a Index>,
    /// Hash every file, whatever the index says.
    pub rehash: bool,
    /// What belongs to the tree.
    pub scope: &'a Scope,
    /// The sender's rules for a source, the receiver's for a member.
    pub side: Side,
    /// Entries to pass over besides, as if they were preserved.
    pub pass_over: Option<&'a (dyn Fn(&RelPath) -> bool + Sync)>,
    /// Names of users and groups.
    pub principals: &'a Principals,
    /// Which xattrs count.
    pub xattrs: XattrPolicy,
    /// What a directory's time is where something in it was left out.
    pub left_out_time: LeftOutTime,
    /// Told about entries and bytes as they are hashed.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// What a directory's time is where something in it was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOutTime {
    /// Open: neither set nor compared. For a source.
    Open,
    /// Whatever was wanted last. For a member.
    AsWanted,
}

/// What was seen.
#[derive(Debug)]
pub struct Observed {
    /// The tree.
    pub index: Index,
    /// Files that were read.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// What could not be seen, in path order.
    pub problems: Vec<ObserveProblem>,
}

/// One entry that could not be seen, or not to its end.
#[derive(Debug, Error)]
pub enum ObserveProblem {
    /// The walk didn't get there.
    #[error("{}", walk_message(.0))]
    Walk(WalkProblem),
    /// A file that changes, vanishes, or can't be read.
    #[error("{source}")]
    Read {
        /// Where.
        path: RelPath,
        /// Why.
        source: ReadError,
    },
    /// Extended attributes or a kind of thing that can't be read.
    #[error("{source}")]
    Meta {
        /// Where.
        path: RelPath,
        /// Why.
        source: FsError,
    },
}

impl ObserveProblem {
    /// Where.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Walk(problem) => &problem.path,
            Self::Read { path, .. } | Self::Meta { path, .. } => path.as_bytes(),
        }
    }

    /// True if the entry was there and then was not what it had been: looking again may help.
    pub fn is_unrest(&self) -> bool {
        match self {
            Self::Walk(problem) => problem.what == WalkTrouble::Vanished,
            Self::Read { source, .. } => {
                matches!(
                    source,
                    ReadError::Changed { .. } | ReadError::Vanished { .. }
                )
            }
            Self::Meta { source, .. } => source.is_not_found(),
        }
    }
}

fn walk_message(problem: &WalkProblem) -> String {
    let path = escape(&problem.path);
    match &problem.what {
        WalkTrouble::Vanished => format!("`{path}` vanished"),
        WalkTrouble::OtherMount => format!("`{path}` is another mount"),
        WalkTrouble::TooLong => format!("The path `{path}` is too long"),
        WalkTrouble::Unreadable(error) => error.to_string(),
    }
}

/// Why a tree could not be looked at.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The root can't be read.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// What is there is no tree that fanout can describe.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Looks at everything below `root`.
pub fn observe(root: &Dir, clock: &FsClock, look: &Look<'_>) -> Result<Observed, ObserveError> {
    let started = clock.now()?;
    let walked = walk(root, |parent, name, is_directory| {
        verdict(look, parent, name, is_directory)
    })?;
    let links = links(&walked.dirs);
    let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let left_out: HashSet<RelPath> = walked
        .dirs
        .iter()
        .filter(|dir| dir.left_out)
        .map(|dir| dir.path.clone())
        .collect();
    let reader = Reader {
        root,
        look,
        started,
        links: &links,
        left_out: &left_out,
        files: &files,
        bytes: &bytes,
    };
    let seen: Vec<Seen> = walked
        .dirs
        .par_iter()
        .with_min_len(32)
        .map(|directory| reader.directory(directory))
        .collect();

    let mut problems: Vec<ObserveProblem> = walked
        .problems
        .into_iter()
        .map(ObserveProblem::Walk)
        .collect();
    let (mut directories, mut stamps) = (Vec::with_capacity(seen.len()), Vec::new());
    for seen in seen {
        problems.extend(seen.problems);
        stamps.extend(seen.stamps);
        directories.push(seen.directory);
    }
    problems.sort_by(|a, b| a.path().cmp(b.path()));
    let (root_meta, root_stamp) = reader.root(walked.dirs.first(), root)?;
    drop_unread(&mut directories, &mut stamps);
    let manifest = Manifest::new(root_meta, directories)?;
    let index = Index::new(manifest, root_stamp, stamps)
        .ok_or(ManifestError::Malformed("entries and stamps don't match"))?;
    Ok(Observed {
        index,
        hashed_files: files.into_inner(),
        hashed_bytes: bytes.into_inner(),
        problems,
    })
}

fn verdict(look: &Look<'_>, parent: &RelPath, name: &[u8], is_directory: bool) -> Verdict {
    if parent.is_root() && name == RESERVED_NAME {
        return Verdict::Skip;
    }
    let Ok(name) = Name::parse(name) else {
        return Verdict::Skip;
    };
    if !look
        .scope
        .of_child(look.side, parent, &name, is_directory)
        .is_managed()
    {
        return Verdict::Skip;
    }
    let passed_over = look
        .pass_over
        .is_some_and(|pass_over| parent.join(&name).is_ok_and(|path| pass_over(&path)));
    if passed_over {
        Verdict::Skip
    } else {
        Verdict::Descend
    }
}

/// The first name of every file that has several names in this tree.
type Links = HashMap<(u64, u64), RelPath>;

fn links(directories: &[WalkedDir]) -> Links {
    let mut first: HashMap<(u64, u64), (RelPath, bool)> = HashMap::new();
    for directory in directories {
        for entry in directory
            .entries
            .iter()
            .filter(|e| e.stat.is_file() && e.stat.nlink > 1)
        {
            let key = (entry.stat.dev, entry.stat.ino);
            if let Some((_, several)) = first.get_mut(&key) {
                *several = true;
            } else if let Ok(path) = directory.path.join(&entry.name) {
                first.insert(key, (path, false));
            }
        }
    }
    first
        .into_iter()
        .filter(|(_, (_, several))| *several)
        .map(|(k, (p, _))| (k, p))
        .collect()
}

/// One directory as seen.
struct Seen {
    directory: Directory,
    stamps: Vec<Stamp>,
    problems: Vec<ObserveProblem>,
}

struct Reader<'a> {
    root: &'a Dir,
    look: &'a Look<'a>,
    started: Time,
    links: &'a Links,
    left_out: &'a HashSet<RelPath>,
    files: &'a AtomicU64,
    bytes: &'a AtomicU64,
}

impl Reader<'_> {
    fn root(&self, walked: Option<&WalkedDir>, root: &Dir) -> Result<(Meta, Stamp), ObserveError> {
        let stat = root.stat_self()?;
        let stamp = Stamp::from(&stat);
        let known = self
            .look
            .known
            .map(|index| (index.manifest().root_meta(), *index.root_stamp()));
        let left_out = walked.is_some_and(|walked| walked.left_out);
        if let Some((meta, known_stamp)) = known
            && known_stamp == stamp
        {
            let mtime = self.directory_time(&stat, left_out, Some(meta));
            return Ok((
                Meta {
                    mtime,
                    ..meta.clone()
                },
                stamp,
            ));
        }
        let xattrs = read_xattrs(
            &Target::Open(root.as_fd()),
            self.look.xattrs,
            self.look.principals,
        )?;
        Ok((
            self.meta(&stat, xattrs, known, left_out),
            self.trusted(&stat),
        ))
    }

    fn directory(&self, walked: &WalkedDir) -> Seen {
        let known = self
            .look
            .known
            .and_then(|index| index.directory(&walked.path));
        let mut held = None;
        let mut seen = Seen {
            directory: Directory {
                path: walked.path.clone(),
                entries: Vec::new(),
            },
            stamps: Vec::with_capacity(walked.entries.len()),
            problems: Vec::new(),
        };
        seen.directory.entries.reserve_exact(walked.entries.len());
        for entry in &walked.entries {
            let known = known.and_then(|(directory, stamps)| {
                let at = directory
                    .entries
                    .binary_search_by(|e| e.name.cmp(&entry.name))
                    .ok()?;
                Some((directory.entries.get(at)?, stamps.get(at)?))
            });
            match self.entry(walked, entry, known, &mut held) {
                Ok((entry, stamp)) => {
                    seen.directory.entries.push(entry);
                    seen.stamps.push(stamp);
                }
                Err(problem) => seen.problems.push(problem),
            }
        }
        seen
    }

    fn entry(
        &self,
        parent: &WalkedDir,
        walked: &WalkedEntry,
        known: Option<(&Entry, &Stamp)>,
        held: &mut Option<Dir>,
    ) -> Result<(Entry, Stamp), ObserveProblem> {
        let stamp = Stamp::from(&walked.stat);
        let leader = self.leader(parent, walked);
        if let Some((entry, known_stamp)) = known
            && *known_stamp == stamp
            && !(self.look.rehash && walked.stat.is_file())
            && self.same_link(&entry.kind, leader)
        {
            let mut entry = entry.clone();
            if walked.stat.is_directory() {
                let left_out = self.is_left_out(parent, walked);
                entry.meta.mtime = self.directory_time(&walked.stat, left_out, Some(&entry.meta));
            }
            return Ok((entry, stamp));
        }
        let path = || parent.path.join(&walked.name).unwrap_or_default();
        let meta_problem = |source| ObserveProblem::Meta {
            path: path(),
            source,
        };
        let name = walked.name.clone();
        if let Some(leader) = leader {
            let kind = Kind::HardLink {
                leader: leader.clone(),
            };
            return Ok((
                Entry {
                    name,
                    kind,
                    meta: Meta::of_link(),
                },
                self.trusted(&walked.stat),
            ));
        }
        if held.is_none() {
            *held = Some(self.root.open_dir_at(&parent.path).map_err(meta_problem)?);
        }
        let Some(dir) = held.as_ref() else {
            return Err(meta_problem(FsError::from_io(
                "open",
                parent.path.as_bytes(),
                &std::io::ErrorKind::NotFound.into(),
            )));
        };
        let kind = self
            .kind(dir, walked, known)
            .map_err(|source| ObserveProblem::Read {
                path: path(),
                source,
            })?;
        let xattrs = read_xattrs_at(dir, &walked.name, self.look.xattrs, self.look.principals)
            .map_err(meta_problem)?;
        let known = known.and_then(|(entry, stamp)| Some((self.known_meta(entry)?, *stamp)));
        let left_out = walked.stat.is_directory() && self.is_left_out(parent, walked);
        let meta = self.meta(&walked.stat, xattrs, known, left_out);
        Ok((Entry { name, kind, meta }, self.trusted(&walked.stat)))
    }

    /// The metadata of a known entry; a further name of a file has that of the first one.
    fn known_meta<'e>(&'e self, entry: &'e Entry) -> Option<&'e Meta> {
        match &entry.kind {
            Kind::HardLink { leader } => {
                let (leader, _) = self.look.known?.entry(leader)?;
                Some(&leader.meta)
            }
            _ => Some(&entry.meta),
        }
    }

    /// The earlier name of the same file, if there is one.
    fn leader(&self, parent: &WalkedDir, walked: &WalkedEntry) -> Option<&RelPath> {
        if !walked.stat.is_file() || walked.stat.nlink < 2 {
            return None;
        }
        let leader = self.links.get(&(walked.stat.dev, walked.stat.ino))?;
        let itself = parent
            .path
            .join(&walked.name)
            .is_ok_and(|path| path == *leader);
        (!itself).then_some(leader)
    }

    fn same_link(&self, known: &Kind, leader: Option<&RelPath>) -> bool {
        match (known, leader) {
            (Kind::HardLink { leader: known }, Some(leader)) => known == leader,
            (Kind::HardLink { .. }, None) | (Kind::File { .. }, Some(_)) => false,
            _ => true,
        }
    }

    fn kind(
        &self,
        dir: &Dir,
        walked: &WalkedEntry,
        known: Option<(&Entry, &Stamp)>,
    ) -> Result<Kind, ReadError> {
        let stat = &walked.stat;
        let (major, minor) = stat.device();
        Ok(match stat.kind() {
            FileKind::Directory => Kind::Directory,
            FileKind::Symlink => Kind::Symlink {
                target: walked.link_target.clone().unwrap_or_default(),
            },
            FileKind::Fifo => Kind::Fifo,
            FileKind::Socket => Kind::Socket,
            FileKind::CharDevice => Kind::CharDevice { major, minor },
            FileKind::BlockDevice => Kind::BlockDevice { major, minor },
            FileKind::File | FileKind::Unknown => Kind::File {
                size: stat.size,
                content: self.content(dir, walked, known)?,
            },
        })
    }

    fn content(
        &self,
        dir: &Dir,
        walked: &WalkedEntry,
        known: Option<(&Entry, &Stamp)>,
    ) -> Result<Digest, ReadError> {
        // A further name that became the first one: its content is known by its stamp.
        if let (Some((entry, stamp)), Some(index), false) =
            (known, self.look.known, self.look.rehash)
            && *stamp == Stamp::from(&walked.stat)
            && let Kind::HardLink { leader } = &entry.kind
            && let Some((entry, _)) = index.entry(leader)
            && let Kind::File { content, .. } = entry.kind
        {
            return Ok(content);
        }
        let hashed = hash_file(dir, &walked.name, &walked.stat)?;
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(walked.stat.size, Ordering::Relaxed) + walked.stat.size;
        if files.is_multiple_of(256) || walked.stat.size > 4 << 20 {
            (self.look.progress)(files, bytes);
        }
        Ok(hashed.digest)
    }

    fn meta(
        &self,
        stat: &Stat,
        xattrs: Option<Xattrs>,
        known: Option<(&Meta, Stamp)>,
        left_out: bool,
    ) -> Meta {
        let effective = Stamp::from(stat);
        // What was applied is still there: it stands for what was wanted.
        let wanted = known
            .filter(|(_, stamp)| stamp.same_ownership(&effective))
            .map(|(m, _)| m);
        let (user, group) = match wanted {
            Some(meta) => (meta.user.clone(), meta.group.clone()),
            None => (
                self.look.principals.user(stat.uid),
                self.look.principals.group(stat.gid),
            ),
        };
        let mode = match wanted {
            Some(meta) => meta.mode,
            None if stat.is_symlink() => 0o777,
            None => stat.permissions(),
        };
        let mtime = if stat.is_directory() {
            self.directory_time(stat, left_out, known.map(|(meta, _)| meta))
        } else {
            Some(stat.mtime)
        };
        Meta {
            mode,
            user,
            group,
            mtime,
            xattrs: xattrs.map(Arc::new),
        }
    }

    fn is_left_out(&self, parent: &WalkedDir, walked: &WalkedEntry) -> bool {
        !self.left_out.is_empty()
            && parent
                .path
                .join(&walked.name)
                .is_ok_and(|path| self.left_out.contains(&path))
    }

    fn directory_time(&self, stat: &Stat, left_out: bool, known: Option<&Meta>) -> Option<Time> {
        match self.look.left_out_time {
            LeftOutTime::Open if left_out => None,
            LeftOutTime::Open => Some(stat.mtime),
            LeftOutTime::AsWanted if left_out => known.and_then(|meta| meta.mtime),
            // A time that was left open when it was wanted stays open.
            LeftOutTime::AsWanted if known.is_some_and(|meta| meta.mtime.is_none()) => None,
            LeftOutTime::AsWanted => Some(stat.mtime),
        }
    }

    fn trusted(&self, stat: &Stat) -> Stamp {
        let stamp = Stamp::from(stat);
        if is_settled(stat.ctime, self.started) {
            stamp
        } else {
            stamp.distrusted()
        }
    }
}

/// Takes directories out of the listings that could not be read, with everything below them, so
/// that what remains is a tree. Their problems were recorded.
fn drop_unread(directories: &mut Vec<Directory>, stamps: &mut Vec<Stamp>) {
    let read: HashSet<RelPath> = directories
        .iter()
        .map(|directory| directory.path.clone())
        .collect();
    let mut listed = HashSet::from([RelPath::root()]);
    let mut kept_stamps = Vec::with_capacity(stamps.len());
    let mut at = 0;
    directories.retain_mut(|directory| {
        let own = stamps
            .get(at..at + directory.entries.len())
            .unwrap_or_default();
        at += directory.entries.len();
        if !listed.contains(&directory.path) {
            return false;
        }
        let path = directory.path.clone();
        let mut own = own.iter();
        directory.entries.retain(|entry| {
            let stamp = own.next();
            let whole = !entry.kind.is_directory()
                || path.join(&entry.name).is_ok_and(|path| {
                    let was_read = read.contains(&path);
                    if was_read {
                        listed.insert(path);
                    }
                    was_read
                });
            if whole {
                kept_stamps.extend(stamp.copied());
            }
            whole
        });
        true
    });
    *stamps = kept_stamps;
}

#[cfg(test)]
mod tests;
