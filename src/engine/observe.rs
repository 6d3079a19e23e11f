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
//! A directory that is what it was isn't even listed, where its file system dates what happens to
//! its names: they are those in the index, each of which is looked at all the same.
//!
//! *Racy clean*: a stamp is trusted only if its ctime was settled, by the file system's own clock,
//! before the file was read; otherwise it is stored such that it never matches.

mod parts;
mod problem;

pub use problem::ObserveProblem;

use self::parts::Parts;
use super::fresh::Fresh;
use super::index::{Index, Stamp, Stamps};
use crate::fs::owner::Principals;
use crate::fs::read::{FsClock, Opened, ReadError, is_settled};
use crate::fs::walk::{Guide, Verdict, WalkedDir, WalkedEntry, walk_guided};
use crate::fs::xattr::{Target, XattrPolicy, read_xattrs, read_xattrs_at, read_xattrs_of};
use crate::fs::{Dir, FileKind, FsError, Listed, Stat};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Time, Xattrs};
use sync_proto::filter::{Scope, Side};
use sync_proto::manifest::{Directory, Manifest, ManifestError};
use sync_proto::path::{Name, RESERVED_NAME, RelPath};
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
    /// Keeps what was read, for whoever reads it next.
    pub fresh: Option<&'a Fresh>,
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
    let dated = look
        .known
        .filter(|_| !look.rehash && root.dates_its_names());
    let walked = walk_guided(root, &Looking { look, dated })?;
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
        .map(|directory| {
            let recognised = directory.recognised.then(|| reader.recognised(directory));
            recognised
                .flatten()
                .unwrap_or_else(|| reader.directory(directory))
        })
        .collect();

    let mut problems: Vec<ObserveProblem> = walked
        .problems
        .into_iter()
        .map(ObserveProblem::Walk)
        .collect();
    let mut parts = Parts::default();
    for (seen, walked) in seen.into_iter().zip(&walked.dirs) {
        problems.extend(seen.problems);
        parts.stamps.push(seen.stamps);
        parts.directories.push(seen.directory);
        parts.whole.push(!walked.left_out);
    }
    problems.sort_by(|a, b| a.path().cmp(b.path()));
    let (root_meta, root_stamp) = reader.root(walked.dirs.first(), root)?;
    if !problems.is_empty() {
        parts.drop_unread(&problems);
    }
    let Parts {
        directories,
        stamps,
        whole,
    } = parts;
    let manifest = match look.known {
        Some(known) => Manifest::like(known.manifest(), root_meta, directories)?,
        None => Manifest::new(root_meta, directories)?,
    };
    let index = Index::of_parts(manifest, root_stamp, stamps, whole)
        .ok_or(ManifestError::Malformed("entries and stamps don't match"))?;
    Ok(Observed {
        index,
        hashed_files: files.into_inner(),
        hashed_bytes: bytes.into_inner(),
        problems,
    })
}

/// Leads the walk.
struct Looking<'a> {
    look: &'a Look<'a>,
    /// The index, if the names that it has may be taken from it.
    dated: Option<&'a Index>,
}

impl Guide for Looking<'_> {
    fn verdict(&self, parent: &RelPath, name: &[u8], is_directory: bool) -> Verdict {
        let look = self.look;
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

    fn names(&self, path: &RelPath, stat: &Stat) -> Option<Vec<Listed>> {
        self.dated?.names(path, stat)
    }

    fn recognises(&self, path: &RelPath, entries: &[WalkedEntry]) -> bool {
        is_known(self.look, path, entries)
    }
}

/// True if these are the entries that the index has for this directory, and every stamp is the
/// same. Whether a file with further names has the same leader is only known at the end.
fn is_known(look: &Look<'_>, path: &RelPath, entries: &[WalkedEntry]) -> bool {
    let Some((directory, stamps)) = look.known.and_then(|known| known.directory(path)) else {
        return false;
    };
    let mut pairs = entries.iter().zip(directory.entries.iter().zip(stamps));
    entries.len() == stamps.len()
        && pairs.all(|(walked, (entry, stamp))| {
            let stat = &walked.stat;
            *stamp == Stamp::from(stat)
                && !(stat.is_file() && (look.rehash || stat.nlink > 1))
                && !matches!(entry.kind, Kind::HardLink { .. })
                && entry.name == walked.name
        })
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
    directory: Arc<Directory>,
    stamps: Stamps,
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
            let mtime = self.directory_time(stat.mtime, left_out, Some(meta));
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
        let mut entries = Vec::with_capacity(walked.entries.len());
        let mut stamps = Vec::with_capacity(walked.entries.len());
        let mut problems = Vec::new();
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
                    entries.push(entry);
                    stamps.push(stamp);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let path = walked.path.clone();
        Seen {
            directory: Arc::new(Directory { path, entries }),
            stamps: stamps.into(),
            problems,
        }
    }

    /// A directory whose entries are all as they were. Only the times of its directories may be
    /// others, where the rules are: they say what is left out below.
    fn recognised(&self, walked: &WalkedDir) -> Option<Seen> {
        let (directory, stamps) = self.look.known?.shared(&walked.path)?;
        let mut directory = directory.clone();
        for (at, stamp) in stamps.iter().enumerate() {
            let entry = directory.entries.get(at)?;
            if !entry.kind.is_directory() {
                continue;
            }
            let left_out = !self.left_out.is_empty()
                && self.left_out.contains(&directory.path_of(&entry.name));
            let time = self.directory_time(stamp.mtime, left_out, Some(&entry.meta));
            if time != entry.meta.mtime {
                Arc::make_mut(&mut directory)
                    .entries
                    .get_mut(at)?
                    .meta
                    .mtime = time;
            }
        }
        Some(Seen {
            directory,
            stamps: stamps.clone(),
            problems: Vec::new(),
        })
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
                entry.meta.mtime =
                    self.directory_time(walked.stat.mtime, left_out, Some(&entry.meta));
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
        let (kind, opened) =
            self.kind(dir, walked, known)
                .map_err(|source| ObserveProblem::Read {
                    path: path(),
                    source,
                })?;
        let (policy, principals) = (self.look.xattrs, self.look.principals);
        let xattrs = match opened {
            Some(opened) => read_xattrs_of(&opened, policy, principals),
            None => read_xattrs_at(dir, &walked.name, policy, principals),
        };
        let xattrs = xattrs.map_err(meta_problem)?;
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

    /// What an entry is, and the file itself where it had to be opened for that.
    fn kind<'d>(
        &self,
        dir: &'d Dir,
        walked: &'d WalkedEntry,
        known: Option<(&Entry, &Stamp)>,
    ) -> Result<(Kind, Option<Opened<'d>>), ReadError> {
        let stat = &walked.stat;
        let (major, minor) = stat.device();
        let mut opened = None;
        let kind = match stat.kind() {
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
                content: match self.known_content(walked, known) {
                    Some(content) => content,
                    None => {
                        let opened = opened.insert(Opened::open(dir, &walked.name)?);
                        self.content(opened, stat, known)?
                    }
                },
            },
        };
        Ok((kind, opened))
    }

    fn known_content(
        &self,
        walked: &WalkedEntry,
        known: Option<(&Entry, &Stamp)>,
    ) -> Option<Digest> {
        // A further name that became the first one: its content is known by its stamp.
        if let (Some((entry, stamp)), Some(index), false) =
            (known, self.look.known, self.look.rehash)
            && *stamp == Stamp::from(&walked.stat)
            && let Kind::HardLink { leader } = &entry.kind
            && let Some((entry, _)) = index.entry(leader)
            && let Kind::File { content, .. } = entry.kind
        {
            return Some(content);
        }
        None
    }

    fn content(
        &self,
        opened: &Opened<'_>,
        stat: &Stat,
        known: Option<(&Entry, &Stamp)>,
    ) -> Result<Digest, ReadError> {
        let digest = match self.look.fresh {
            Some(fresh) if fresh.has_room(stat.size) => {
                let content = opened.read(stat)?;
                let digest = Digest::of(&content);
                fresh.put(digest, content);
                digest
            }
            Some(fresh) => match known.and_then(|(entry, _)| fresh.chunker(&entry.kind)) {
                Some(mut chunker) => {
                    opened.feed(stat, |piece| chunker.push(piece))?;
                    let (digest, list) = chunker.finish();
                    fresh.put_chunks(list);
                    digest
                }
                None => opened.hash(stat)?.digest,
            },
            None => opened.hash(stat)?.digest,
        };
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(stat.size, Ordering::Relaxed) + stat.size;
        if files.is_multiple_of(256) || stat.size > 4 << 20 {
            (self.look.progress)(files, bytes);
        }
        Ok(digest)
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
            self.directory_time(stat.mtime, left_out, known.map(|(meta, _)| meta))
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

    fn directory_time(&self, mtime: Time, left_out: bool, known: Option<&Meta>) -> Option<Time> {
        match self.look.left_out_time {
            LeftOutTime::Open if left_out => None,
            LeftOutTime::Open => Some(mtime),
            LeftOutTime::AsWanted if left_out => known.and_then(|meta| meta.mtime),
            // A time that was left open when it was wanted stays open.
            LeftOutTime::AsWanted if known.is_some_and(|meta| meta.mtime.is_none()) => None,
            LeftOutTime::AsWanted => Some(mtime),
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

#[cfg(test)]
mod tests;
