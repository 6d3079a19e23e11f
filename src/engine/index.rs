//! The index: what a tree was found to hold, and by which stat values it will be recognised.
//!
//! The hub keeps one for each source, a member one for each tree. It is a cache (invariant I6):
//! deleting or damaging it costs a full hash of the tree and nothing else, so a file that can't be
//! read in full is no index. The format is flat: magic and version, how many contents there are
//! and their hashes, for whoever only looks for some, the length of the manifest, the manifest, the hashes of its directories, one stamp for the root and one for each entry in
//! manifest order, one byte for each directory (whether it was whole), then the BLAKE3 of everything
//! before it.

use crate::fs::{Dir, FileKind, FsError, Listed, Stat};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Time};
use sync_proto::manifest::{Directory, DirectoryDigests, Manifest};
use sync_proto::path::RelPath;

const MAGIC: &[u8; 8] = b"FOIX\x03\0\0\0";
const STAMP_BYTES: usize = 8 + 8 + 12 + 12 + 4 + 4 + 4;
const HASH_BYTES: usize = 32;
/// The magic and the number of contents, with which an index begins.
pub const HEAD_BYTES: usize = MAGIC.len() + 8;
/// The two hashes of a directory.
const DIGESTS_BYTES: usize = 2 * HASH_BYTES;

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

    /// The index as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let manifest = self.manifest.encode();
        let digests = self.manifest.digests();
        let entries = self.manifest.entry_count();
        let mut out = Vec::with_capacity(
            manifest.len()
                + digests.len() * DIGESTS_BYTES
                + (entries + 2) * (STAMP_BYTES + HASH_BYTES)
                + self.whole.len(),
        );
        out.extend_from_slice(MAGIC);
        let files = self.manifest.entries().filter_map(|(_, it)| match it.kind {
            Kind::File { content, .. } => Some(content),
            _ => None,
        });
        let contents: Vec<Digest> = files.collect();
        out.extend_from_slice(&(contents.len() as u64).to_le_bytes());
        for content in contents {
            out.extend_from_slice(content.as_bytes());
        }
        out.extend_from_slice(&(manifest.len() as u64).to_le_bytes());
        out.extend_from_slice(&manifest);
        for digests in digests {
            out.extend_from_slice(digests.content.as_bytes());
            out.extend_from_slice(digests.meta.as_bytes());
        }
        put_stamp(&mut out, &self.root);
        for stamp in self.stamps.iter().flat_map(|stamps| stamps.iter()) {
            put_stamp(&mut out, stamp);
        }
        out.extend(self.whole.iter().map(|whole| u8::from(*whole)));
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// How many bytes of hashes follow a head of [`HEAD_BYTES`]; `None` if it isn't one.
    pub fn contents_bytes(head: &[u8]) -> Option<usize> {
        let count = head.strip_prefix(MAGIC)?.first_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        count.checked_mul(HASH_BYTES)
    }

    /// True if one of these is among the hashes behind a head. They aren't verified; whoever finds
    /// something reads the index.
    pub fn lists_any(contents: &[u8], wanted: &HashSet<Digest>) -> bool {
        let contents = contents.as_chunks::<HASH_BYTES>().0;
        let mut digests = contents.iter().map(|bytes| Digest::from_bytes(*bytes));
        digests.any(|digest| wanted.contains(&digest))
    }

    /// Reads what [`Self::encode`] wrote; `None` if anything about it is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        let contents = Self::contents_bytes(body.get(..HEAD_BYTES)?)?;
        let rest = body.get(HEAD_BYTES.checked_add(contents)?..)?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (manifest, rest) = rest.split_at_checked(length)?;
        let manifest = Manifest::decode(manifest).ok()?;
        let count = manifest.directories().len();
        let (digests, rest) = rest.split_at_checked(count.checked_mul(DIGESTS_BYTES)?)?;
        let digests = digests.as_chunks::<DIGESTS_BYTES>().0;
        let manifest = manifest.with_digests(digests.iter().map(read_digests).collect());
        let (rest, whole) = rest.split_at_checked(rest.len().checked_sub(count)?)?;
        let (stamps, tail) = rest.as_chunks::<STAMP_BYTES>();
        let (root, mut stamps) = stamps.split_first()?;
        if !tail.is_empty() || whole.iter().any(|whole| *whole > 1) {
            return None;
        }
        let mut parts = Vec::with_capacity(count);
        for directory in manifest.directories() {
            let (own, after) = stamps.split_at_checked(directory.entries.len())?;
            parts.push(own.iter().map(read_stamp).collect());
            stamps = after;
        }
        if !stamps.is_empty() {
            return None;
        }
        let whole = whole.iter().map(|whole| *whole == 1).collect();
        Self::of_parts(manifest, read_stamp(root), parts, whole)
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

fn read_digests(bytes: &[u8; DIGESTS_BYTES]) -> DirectoryDigests {
    let digest = |from: usize| {
        let mut digest = [0; HASH_BYTES];
        digest.copy_from_slice(&bytes[from..from + HASH_BYTES]);
        Digest::from_bytes(digest)
    };
    DirectoryDigests {
        content: digest(0),
        meta: digest(HASH_BYTES),
    }
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(&stamp.ino.to_le_bytes());
    out.extend_from_slice(&stamp.size.to_le_bytes());
    for time in [stamp.mtime, stamp.ctime] {
        out.extend_from_slice(&time.seconds.to_le_bytes());
        out.extend_from_slice(&time.nanoseconds.to_le_bytes());
    }
    for number in [stamp.raw_mode, stamp.uid, stamp.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn read_stamp(bytes: &[u8; STAMP_BYTES]) -> Stamp {
    let mut rest = bytes.as_slice();
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        let mut number = [0; 8];
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number)
    };
    let (ino, size) = (take(8), take(8));
    let mut time = || Time {
        seconds: take(8).cast_signed(),
        nanoseconds: take(4) as u32,
    };
    let (mtime, ctime) = (time(), time());
    let [raw_mode, uid, gid] = [take(4), take(4), take(4)].map(|number| number as u32);
    Stamp {
        ino,
        size,
        mtime,
        ctime,
        raw_mode,
        uid,
        gid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_proto::entry::{Meta, Principal};
    use sync_proto::path::Name;

    fn sample() -> Index {
        let meta = Meta {
            mode: 0o644,
            user: Principal::Id(0),
            group: Principal::Name("www-data".into()),
            mtime: None,
            xattrs: None,
        };
        let entry = Entry {
            name: Name::parse(b"a").unwrap(),
            kind: Kind::Fifo,
            meta: meta.clone(),
        };
        let root = Directory {
            path: RelPath::root(),
            entries: vec![entry],
        };
        let stamp = Stamp {
            ino: 1,
            size: 2,
            mtime: Time {
                seconds: -3,
                nanoseconds: 4,
            },
            ctime: Time {
                seconds: 5,
                nanoseconds: 6,
            },
            raw_mode: 0o10644,
            uid: 7,
            gid: 8,
        };
        let manifest = Manifest::new(meta, vec![root]).unwrap();
        Index::new(manifest, Stamp::default(), vec![stamp]).unwrap()
    }

    #[test]
    fn an_index_survives_its_encoding() {
        let index = sample();
        assert_eq!(Index::decode(&index.encode()).unwrap(), index);
        let path = RelPath::parse(b"a").unwrap();
        assert_eq!(index.entry(&path).unwrap().1.mtime.seconds, -3);
    }

    #[test]
    fn a_damaged_index_is_no_index() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Index::decode(&damaged).is_none(), "byte {at}");
            assert!(Index::decode(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
