//! The index: what a tree was found to hold, and by which stat values it will be recognised.
//!
//! The hub keeps one for each source, a member one for each tree. It is a cache (invariant I6):
//! deleting or damaging it costs a full hash of the tree and nothing else.

mod file;

pub use file::HEAD_BYTES;

use crate::fs::{Dir, FileKind, FsError, Listed, Stat};
use rayon::prelude::*;
use std::sync::Arc;
use sync_proto::entry::{Entry, Kind, Time};
use sync_proto::manifest::{Directory, Manifest};
use sync_proto::path::RelPath;

/// The stat values of one entry. Equal stamps mean an unchanged entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Change time. Zero where the content hash may not be trusted: see
    /// [`Stamp::distrusted`].
    pub ctime: Time,
    /// `st_mode`, type and permission bits.
    pub raw_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Stamp {
    /// The same stamp, such that it never equals that of an entry on disk: what was hashed may
    /// have changed within the clock tick in which it was read (*racy clean*).
    pub fn distrusted(self) -> Self {
        Self {
            ctime: Time::default(),
            ..self
        }
    }

    /// True if this is still the file that was hashed. A distrusted stamp has no ctime: whoever
    /// reads the file then checks its hash.
    pub fn is_of(&self, stat: &Stat) -> bool {
        let now = Self::from(stat);
        now == *self || now.distrusted() == *self
    }

    /// True if it never equals that of an entry on disk: see [`Self::distrusted`].
    pub fn is_distrusted(&self) -> bool {
        self.ctime == Time::default()
    }

    /// True if nothing says that the content is another one: the size and the modification time
    /// are the same. Inode and ctime may differ: a further name, a backup program or an overlay
    /// file system changes them. Whoever reads the file then checks its hash.
    pub fn may_be_of(&self, stat: &Stat) -> bool {
        self.size == stat.size && self.mtime == stat.mtime
    }

    /// True if the effective metadata is the same, whatever became of times and content.
    pub fn same_ownership(&self, other: &Self) -> bool {
        self.raw_mode == other.raw_mode && self.uid == other.uid && self.gid == other.gid
    }
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
            raw_mode: stat.raw_mode,
            uid: stat.uid,
            gid: stat.gid,
        }
    }
}

/// A manifest with the stamps of its entries. What one look and the next have in common, their
/// indexes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    manifest: Manifest,
    root: Stamp,
    /// For each directory of the manifest, the stamps of its entries.
    stamps: Vec<Stamps>,
    /// For each directory, whether it had no other names than these.
    whole: Vec<bool>,
    /// For each directory but the root, which directory lists it, and as which entry.
    listed: Vec<(u32, u32)>,
}

/// The stamps of the entries of one directory, in their order.
pub type Stamps = Arc<[Stamp]>;

impl Index {
    /// Joins a manifest with the stamps of its entries, in manifest order; `None` if their
    /// numbers differ. No directory is taken for whole.
    pub fn new(manifest: Manifest, root: Stamp, stamps: Vec<Stamp>) -> Option<Self> {
        let mut rest = stamps.as_slice();
        let mut parts = Vec::with_capacity(manifest.directories().len());
        for directory in manifest.directories() {
            let (own, after) = rest.split_at_checked(directory.entries.len())?;
            parts.push(own.into());
            rest = after;
        }
        let whole = vec![false; parts.len()];
        match rest.is_empty() {
            true => Self::of_parts(manifest, root, parts, whole),
            false => None,
        }
    }

    /// The same, with the stamps of each directory by themselves, and whether it is whole: see
    /// [`Self::names`].
    pub fn of_parts(
        manifest: Manifest,
        root: Stamp,
        stamps: Vec<Stamps>,
        whole: Vec<bool>,
    ) -> Option<Self> {
        let directories = manifest.directories();
        let fits = directories.len() == stamps.len()
            && directories.len() == whole.len()
            && directories
                .iter()
                .zip(&stamps)
                .all(|(directory, stamps)| directory.entries.len() == stamps.len());
        if !fits {
            return None;
        }
        let listed = listed(directories)?;
        Some(Self {
            manifest,
            root,
            stamps,
            whole,
            listed,
        })
    }

    /// What the tree holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The stamp of the root directory.
    pub fn root_stamp(&self) -> &Stamp {
        &self.root
    }

    /// One directory with the stamps of its entries.
    pub fn directory(&self, path: &RelPath) -> Option<(&Directory, &[Stamp])> {
        let (directory, stamps) = self.shared(path)?;
        Some((directory, stamps))
    }

    /// The same, to be shared with another index.
    pub fn shared(&self, path: &RelPath) -> Option<(&Arc<Directory>, &Stamps)> {
        self.nth(self.manifest.position(path)?)
    }

    /// The same, by its place among the directories.
    pub fn nth(&self, at: usize) -> Option<(&Arc<Directory>, &Stamps)> {
        Some((self.manifest.directories().get(at)?, self.stamps.get(at)?))
    }

    /// For each directory of `other`, the place of the one here that has its path.
    pub fn twins(&self, other: &Manifest) -> Vec<Option<u32>> {
        let mut own = (0_u32..).zip(self.manifest.directories()).peekable();
        let mut twin_of = |directory: &Arc<Directory>| {
            let is_before = |it: &(u32, &Arc<Directory>)| it.1.path < directory.path;
            while own.next_if(is_before).is_some() {}
            let twin = own.next_if(|(_, it)| it.path == directory.path);
            twin.map(|(at, _)| at)
        };
        other.directories().iter().map(&mut twin_of).collect()
    }

    /// A directory that is, as `stat` says, what it was when it was looked at, and had no names then
    /// but its entries: so it needs no listing. Every name that comes or goes gives a directory another
    /// ctime, and one that wasn't settled before it was listed is distrusted. Only where the file
    /// system is known to keep to that: see [`Dir::dates_its_names`].
    pub fn unmoved(&self, path: &RelPath, stat: &Stat) -> Option<(&Arc<Directory>, &Stamps)> {
        let at = self.manifest.position(path)?;
        if !self.is_unmoved(at, stat) {
            return None;
        }
        self.nth(at)
    }

    fn is_unmoved(&self, at: usize, stat: &Stat) -> bool {
        let stamp = || match at {
            0 => Some(&self.root),
            _ => {
                let (parent, entry) = *self.listed.get(at)?;
                self.stamps.get(parent as usize)?.get(entry as usize)
            }
        };
        self.whole.get(at) == Some(&true) && stamp().is_some_and(|it| *it == Stamp::from(stat))
    }

    /// The directories below `root` that aren't known to be [unmoved](Self::unmoved). It takes one
    /// `stat` for each and opens none: the inode tells whether it is the one that was looked at,
    /// whatever led there.
    ///
    /// # Errors
    /// `root` itself can't be looked at.
    pub fn moved(&self, root: &Dir) -> Result<Vec<&Directory>, FsError> {
        let device = root.stat_self()?.dev;
        let directories = self.manifest.directories();
        let moved = directories.par_iter().enumerate().with_min_len(256);
        let moved = moved.filter(|(at, directory)| {
            let now = root.stat_anyhow_at(&directory.path);
            !now.is_ok_and(|now| now.dev == device && self.is_unmoved(*at, &now))
        });
        Ok(moved.map(|(_, directory)| &**directory).collect())
    }

    /// The names in a directory of which [`Self::unmoved`] knows all.
    pub fn names(&self, path: &RelPath, stat: &Stat) -> Option<Vec<Listed>> {
        let (directory, stamps) = self.unmoved(path, stat)?;
        let pairs = directory.entries.iter().zip(stamps.iter());
        let names = pairs.map(|(entry, stamp)| Listed {
            name: entry.name.clone(),
            kind: kind_of(&entry.kind),
            ino: stamp.ino,
        });
        Some(names.collect())
    }

    /// The stamps of each directory, in the order of the manifest's directories.
    pub fn stamps(&self) -> &[Stamps] {
        &self.stamps
    }

    /// The directories that had other names than their entries, or may have had.
    pub fn incomplete(&self) -> impl Iterator<Item = &Directory> {
        let directories = self.manifest.directories().iter().zip(&self.whole);
        let incomplete = directories.filter(|(_, whole)| !**whole);
        incomplete.map(|(directory, _)| &**directory)
    }

    /// True if a directory had no other names than its entries.
    pub fn is_whole(&self, path: &RelPath) -> bool {
        let whole = self
            .manifest
            .position(path)
            .and_then(|at| self.whole.get(at));
        whole == Some(&true)
    }

    /// Every directory with the stamps of its entries.
    pub fn directories(&self) -> impl Iterator<Item = (&Directory, &[Stamp])> {
        let directories = self.manifest.directories().iter();
        directories
            .zip(&self.stamps)
            .map(|(directory, stamps)| (&**directory, &**stamps))
    }

    /// One entry with its stamp; `None` for the root.
    pub fn entry(&self, path: &RelPath) -> Option<(&Entry, &Stamp)> {
        let (directory, stamps) = self.directory(&path.parent()?)?;
        let name = path.file_name()?;
        let at = directory
            .entries
            .binary_search_by(|entry| entry.name.cmp(&name))
            .ok()?;
        Some((directory.entries.get(at)?, stamps.get(at)?))
    }
}

/// Where each directory is listed. They come in the order of their paths, so those in one directory
/// come in the order of its entries, each followed by what is below it.
fn listed(directories: &[Arc<Directory>]) -> Option<Vec<(u32, u32)>> {
    let mut places = Vec::with_capacity(directories.len());
    // The directories above, and where the next subdirectory of each is looked for.
    let mut above: Vec<(usize, usize)> = Vec::new();
    for (at, directory) in directories.iter().enumerate() {
        above.truncate(directory.path.depth());
        let place = match above.last_mut() {
            None => (0, 0),
            Some((parent, from)) => {
                let entries = directories.get(*parent)?.entries.get(*from..)?;
                let next = entries.iter().position(|it| it.kind.is_directory())?;
                let place = (
                    u32::try_from(*parent).ok()?,
                    u32::try_from(*from + next).ok()?,
                );
                *from += next + 1;
                place
            }
        };
        places.push(place);
        above.push((at, 0));
    }
    Some(places)
}

fn kind_of(kind: &Kind) -> FileKind {
    match kind {
        Kind::Directory => FileKind::Directory,
        Kind::File { .. } | Kind::HardLink { .. } => FileKind::File,
        Kind::Symlink { .. } => FileKind::Symlink,
        Kind::Fifo => FileKind::Fifo,
        Kind::Socket => FileKind::Socket,
        Kind::CharDevice { .. } => FileKind::CharDevice,
        Kind::BlockDevice { .. } => FileKind::BlockDevice,
    }
}
