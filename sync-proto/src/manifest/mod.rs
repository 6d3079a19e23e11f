//! The manifest: the description of a whole tree, directory by directory.
//!
//! A manifest is a table of directories in [`RelPath`] order, the root first; each holds its
//! direct entries sorted by raw name. Every directory has two hashes, of its *content* rows
//! (names, kinds, content digests, link targets) and of its *metadata* rows (mode, owner, group,
//! time, xattrs); the tree's two [`Roots`] hash all of them together with the paths. Two trees
//! with equal roots are equal, and two that differ are told apart by one flat exchange of
//! directory hashes, whatever the depth.
//!
//! Invariants of a [`Manifest`] (checked by [`Manifest::new`], so a peer can't break them): names
//! sorted strictly, hence without duplicates; each directory of the table is an entry of its
//! parent and the other way round; a hard link's leader is an earlier regular file; the reserved
//! name does not occur in the root.

mod codec;
mod diff;

pub(crate) use codec::put_length;
pub use codec::{
    Cursor, decode_directories, decode_directories_within, encode_directories, encode_directory,
    meta_bytes, meta_from_bytes,
};
pub use diff::{Change, Difference, diff, same_meta};

use crate::digest::Digest;
use crate::entry::{Entry, Kind, Meta};
use crate::path::{Name, PathError, RESERVED_NAME, RelPath};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::{Arc, OnceLock};
use thiserror::Error;

/// LIMIT: entries in one manifest, whoever made it.
pub const MAX_ENTRIES: usize = 8_000_000;

/// Why bytes or entries are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// The bytes end early, or a number is out of its range.
    #[error("The manifest is damaged: {0}")]
    Malformed(&'static str),
    /// A name or path is not valid.
    #[error("The manifest holds a name that is not allowed: {0}")]
    Path(#[from] PathError),
    /// Names or directories are unsorted or occur twice.
    #[error("The manifest is not sorted at `{0}`")]
    Unsorted(RelPath),
    /// A directory without an entry in its parent, or the other way round.
    #[error("The manifest's directory `{0}` has no parent or no listing")]
    Orphan(RelPath),
    /// A hard link whose leader is not an earlier regular file.
    #[error("The hard link `{0}` has no leader")]
    Leader(RelPath),
    /// `.fanout` in the root.
    #[error("The name `.fanout` is reserved in the root of a tree")]
    Reserved,
    /// More than [`MAX_ENTRIES`].
    #[error("The manifest holds more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// One directory: its path and its direct entries, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is, the empty path for the root.
    pub path: RelPath,
    /// What it holds.
    pub entries: Vec<Entry>,
}

/// The two hashes of one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryDigests {
    /// Of the content rows.
    pub content: Digest,
    /// Of the metadata rows.
    pub meta: Digest,
}

impl DirectoryDigests {
    /// 16 bytes that differ if the directories differ: for comparing, not for trusting.
    pub fn short(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.content.as_bytes())
            .update(self.meta.as_bytes());
        Digest::from(hasher.finalize()).short()
    }
}

/// The two hashes of a whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Roots {
    /// Over names, kinds and content.
    pub content: Digest,
    /// Over modes, owners, times and xattrs.
    pub meta: Digest,
}

impl Roots {
    /// One digest for both: names a manifest in the depot.
    pub fn id(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("fanout 2026 manifest id");
        hasher
            .update(self.content.as_bytes())
            .update(self.meta.as_bytes());
        hasher.finalize().into()
    }
}

/// A distinct content of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

/// A whole tree. Clones share everything, and trees that were made from one another share the
/// directories in which they don't differ.
#[derive(Clone, Debug)]
pub struct Manifest(Arc<Tree>);

#[derive(Debug)]
struct Tree {
    root: Meta,
    directories: Vec<Arc<Directory>>,
    /// Of the directories, once somebody asked.
    digests: OnceLock<Vec<DirectoryDigests>>,
    /// Where each directory is, once somebody asked.
    places: OnceLock<Places>,
}

/// The positions of directories, by their paths. A search in their order would touch a dozen of them.
#[derive(Debug, Default)]
struct Places {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
}

impl Places {
    fn of(directories: &[Arc<Directory>]) -> Self {
        let mut places = Self {
            table: HashTable::with_capacity(directories.len()),
            ..Self::default()
        };
        let hash = |at: &u32| {
            let directory = directories.get(*at as usize);
            let path = directory.map_or(&[][..], |directory| directory.path.as_bytes());
            places.hasher.hash_one(path)
        };
        for at in 0..directories.len() as u32 {
            places.table.insert_unique(hash(&at), at, hash);
        }
        places
    }

    fn find(&self, directories: &[Arc<Directory>], path: &RelPath) -> Option<usize> {
        let hash = self.hasher.hash_one(path.as_bytes());
        let is_it = |at: &u32| {
            let directory = directories.get(*at as usize);
            directory.is_some_and(|directory| directory.path == *path)
        };
        Some(*self.table.find(hash, is_it)? as usize)
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.root == other.0.root && self.0.directories == other.0.directories
    }
}

impl Eq for Manifest {}

impl Manifest {
    /// Checks the directories (the root first, in [`RelPath`] order) and wraps them.
    pub fn new<D: Into<Arc<Directory>>>(
        root: Meta,
        directories: Vec<D>,
    ) -> Result<Self, ManifestError> {
        let directories: Vec<_> = directories.into_iter().map(Into::into).collect();
        check(&directories, MAX_ENTRIES)?;
        Ok(Self(Arc::new(Tree {
            root,
            directories,
            digests: OnceLock::new(),
            places: OnceLock::new(),
        })))
    }

    /// The same as [`Self::new`], for a tree that shares directories with `known`: what was hashed
    /// there is not hashed again, and if all of it is the same, this is `known` itself.
    pub fn like(
        known: &Self,
        root: Meta,
        directories: Vec<Arc<Directory>>,
    ) -> Result<Self, ManifestError> {
        let old = &known.0.directories;
        let is_same = old.len() == directories.len()
            && old.iter().zip(&directories).all(|(a, b)| Arc::ptr_eq(a, b));
        if is_same && known.0.root == root {
            return Ok(known.clone());
        }
        let manifest = Self::new(root, directories)?;
        if let Some(digests) = known.0.digests.get() {
            let mut olds = old.iter().zip(digests).peekable();
            let hashed = manifest.0.directories.iter().map(|directory| {
                while olds.next_if(|(old, _)| old.path < directory.path).is_some() {}
                let same = olds.next_if(|(old, _)| Arc::ptr_eq(old, directory));
                same.map_or_else(|| digests_of(directory), |(_, digests)| *digests)
            });
            manifest.0.digests.set(hashed.collect()).ok();
        }
        Ok(manifest)
    }

    /// The metadata of the root directory itself.
    pub fn root_meta(&self) -> &Meta {
        &self.0.root
    }

    /// Every directory in [`RelPath`] order, the root first.
    pub fn directories(&self) -> &[Arc<Directory>] {
        &self.0.directories
    }

    /// How many entries there are, the root not counted.
    pub fn entry_count(&self) -> usize {
        self.0
            .directories
            .iter()
            .map(|directory| directory.entries.len())
            .sum()
    }

    /// The sum of all file sizes in bytes, hard links counted once.
    pub fn content_bytes(&self) -> u64 {
        self.0
            .directories
            .iter()
            .flat_map(|directory| &directory.entries)
            .map(|entry| {
                if let Kind::File { size, .. } = entry.kind {
                    size
                } else {
                    0
                }
            })
            .fold(0, u64::saturating_add)
    }

    /// The listing of one directory.
    pub fn directory(&self, path: &RelPath) -> Option<&Directory> {
        self.shared(path).map(Arc::as_ref)
    }

    /// The same, to be shared with another manifest.
    pub fn shared(&self, path: &RelPath) -> Option<&Arc<Directory>> {
        self.0.directories.get(self.position(path)?)
    }

    /// Where a directory is among [`Self::directories`].
    pub fn position(&self, path: &RelPath) -> Option<usize> {
        let directories = &self.0.directories;
        let places = self.0.places.get_or_init(|| Places::of(directories));
        places.find(directories, path)
    }

    /// The entry at `path`; `None` for the root and for what isn't there.
    pub fn entry(&self, path: &RelPath) -> Option<&Entry> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        self.directory(&parent)?.entry(name.as_bytes())
    }

    /// Every entry with the directory that holds it, in manifest order.
    pub fn entries(&self) -> impl Iterator<Item = (&Directory, &Entry)> {
        self.0.directories.iter().flat_map(|directory| {
            directory
                .entries
                .iter()
                .map(move |entry| (&**directory, entry))
        })
    }

    /// The distinct contents in the order of their first appearance. Both ends of a push compute
    /// the same list, so a content is named by its index on the wire. Empty files need none.
    pub fn contents(&self) -> Vec<Content> {
        let mut seen = std::collections::HashSet::new();
        self.entries()
            .filter_map(|(_, entry)| match entry.kind {
                Kind::File { size, content } if size > 0 && seen.insert(content) => Some(Content {
                    digest: content,
                    size,
                }),
                _ => None,
            })
            .collect()
    }

    /// The hashes of every directory, in the order of [`Self::directories`]. Computed once.
    pub fn digests(&self) -> &[DirectoryDigests] {
        self.0.digests.get_or_init(|| {
            let directories = self.0.directories.iter();
            directories.map(|directory| digests_of(directory)).collect()
        })
    }

    /// Takes the hashes of the directories from somewhere that is trusted as much as this manifest
    /// itself. They count only if there is one for each directory.
    pub fn with_digests(self, digests: Vec<DirectoryDigests>) -> Self {
        if digests.len() == self.0.directories.len() {
            self.0.digests.set(digests).ok();
        }
        self
    }

    /// The hashes of the whole tree.
    pub fn roots(&self) -> Roots {
        let digests = self.digests();
        let mut content = blake3::Hasher::new_derive_key("fanout 2026 content root");
        let mut meta = blake3::Hasher::new_derive_key("fanout 2026 metadata root");
        // In one piece: the hasher is several times as fast on long input.
        let (mut contents, mut metas) = (Vec::new(), Vec::new());
        codec::encode_meta(&self.0.root, &mut metas);
        for (directory, digests) in self.0.directories.iter().zip(digests) {
            let path = directory.path.as_bytes();
            let length = u64::try_from(path.len()).unwrap_or(u64::MAX).to_le_bytes();
            for (out, digest) in [
                (&mut contents, &digests.content),
                (&mut metas, &digests.meta),
            ] {
                out.extend_from_slice(&length);
                out.extend_from_slice(path);
                out.extend_from_slice(digest.as_bytes());
            }
        }
        content.update(&contents);
        meta.update(&metas);
        Roots {
            content: content.finalize().into(),
            meta: meta.finalize().into(),
        }
    }

    /// The whole manifest as bytes: magic, version, root metadata, directories.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_manifest(self)
    }

    /// Reads what [`Self::encode`] wrote; everything is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        codec::decode_manifest(bytes)
    }
}

impl Directory {
    /// The entry called `name`.
    pub fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.name.as_bytes().cmp(name))
            .ok()?;
        self.entries.get(at)
    }

    /// The full path of one of its entries.
    pub fn path_of(&self, name: &Name) -> RelPath {
        // A manifest's paths were checked when it was made.
        self.path.join(name).unwrap_or_default()
    }
}

fn find<'a>(directories: &'a [Arc<Directory>], path: &RelPath) -> Option<&'a Arc<Directory>> {
    let at = directories
        .binary_search_by(|directory| directory.path.cmp(path))
        .ok()?;
    directories.get(at)
}

fn digests_of(directory: &Directory) -> DirectoryDigests {
    let (mut content, mut meta) = (Vec::new(), Vec::new());
    encode_directory(directory, &mut content, &mut meta);
    DirectoryDigests {
        content: Digest::of(&content),
        meta: Digest::of(&meta),
    }
}

fn check(directories: &[Arc<Directory>], most: usize) -> Result<(), ManifestError> {
    let Some(root) = directories.first().filter(|first| first.path.is_root()) else {
        return Err(ManifestError::Orphan(RelPath::root()));
    };
    if root.entry(RESERVED_NAME).is_some() {
        return Err(ManifestError::Reserved);
    }
    let mut expected = Vec::new();
    let mut leaders = HashMap::new();
    let mut count = 0_usize;
    for directory in directories {
        if !directory.path.is_root() {
            // Directories come in order, so the next one expected is the smallest still open.
            if expected.pop().as_ref() != Some(&directory.path) {
                return Err(ManifestError::Orphan(directory.path.clone()));
            }
        }
        count = count.saturating_add(directory.entries.len());
        if count > most {
            return Err(ManifestError::TooMany);
        }
        for pair in directory.entries.windows(2) {
            if let [first, second] = pair
                && first.name >= second.name
            {
                return Err(ManifestError::Unsorted(directory.path.join(&second.name)?));
            }
        }
        for entry in &directory.entries {
            if let Kind::HardLink { leader } = &entry.kind {
                leaders.insert(leader.clone(), directory.path.join(&entry.name)?);
            } else if directory.path.as_bytes().len() + entry.name.as_bytes().len()
                >= crate::path::MAX_PATH_BYTES
            {
                return Err(PathError::TooLong.into());
            }
        }
        for entry in directory
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.kind.is_directory())
        {
            expected.push(directory.path.join(&entry.name)?);
        }
    }
    if let Some(missing) = expected.pop() {
        return Err(ManifestError::Orphan(missing));
    }
    check_leaders(directories, &leaders)
}

fn check_leaders(
    directories: &[Arc<Directory>],
    leaders: &HashMap<RelPath, RelPath>,
) -> Result<(), ManifestError> {
    for (leader, link) in leaders {
        let is_file = leader
            .parent()
            .zip(leader.file_name())
            .and_then(|(parent, name)| find(directories, &parent)?.entry(name.as_bytes()))
            .is_some_and(|entry| matches!(entry.kind, Kind::File { .. }));
        if !is_file {
            return Err(ManifestError::Leader(link.clone()));
        }
    }
    // A link may not come before its leader: receivers create files in manifest order.
    for directory in directories {
        for entry in &directory.entries {
            if let Kind::HardLink { leader } = &entry.kind {
                let link = directory.path.join(&entry.name)?;
                if order(leader) >= order(&link) {
                    return Err(ManifestError::Leader(link));
                }
            }
        }
    }
    Ok(())
}

/// Manifest order of a file: by directory, then by name.
fn order(path: &RelPath) -> (RelPath, Option<Name>) {
    (path.parent().unwrap_or_default(), path.file_name())
}

#[cfg(test)]
mod tests;
