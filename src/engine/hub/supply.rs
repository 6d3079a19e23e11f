//! Where the hub gets a content from: the source tree as it was scanned, or the depot; for a repair
//! the depot, and for what is too large to be stored the source, or what a donor has lent.
//!
//! A file of the source is opened beneath its root without following anything, and must still be
//! the file that was scanned: a change is reported by name, never sent.

use crate::engine::depot::{Depot, DepotError, MAX_STORED_BYTES, Spooled};
use crate::engine::fresh::Fresh;
use crate::engine::index::{Index, Stamp};
use crate::fs::read::{fill_from, read_range};
use crate::fs::{Dir, FsError, Stat};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use sync_proto::delta::chunk::{ChunkList, Chunker};
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;
use sync_proto::manifest::Content;
use sync_proto::path::RelPath;
use thiserror::Error;

/// Bytes read at once from a large file.
const READ_BYTES: usize = 1 << 20;

/// Why a content can't be had.
#[derive(Debug, Error)]
pub enum SupplyError {
    /// The file isn't what it was when it was scanned.
    #[error("`{0}` changed while it was being pushed")]
    Changed(RelPath),
    /// Neither the depot nor the source has it.
    #[error("Neither the depot nor the source has the content {0:?} of {1} bytes")]
    Nowhere(Digest, u64),
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The depot.
    #[error(transparent)]
    Depot(#[from] DepotError),
}

/// A source of contents.
#[derive(Default)]
pub struct Supply {
    tree: Option<Tree>,
    fresh: Option<Arc<Fresh>>,
    lent: RwLock<HashMap<Digest, Arc<Spooled>>>,
}

struct Tree {
    root: Arc<Dir>,
    files: HashMap<Digest, (RelPath, Stamp)>,
    /// A file that changed is none of ours any more, and no reason to stop.
    is_spare: bool,
}

/// The index of a source; one that can't be read is none.
pub(super) fn read_index(path: &Path) -> Option<Index> {
    let (dir, name) = Dir::open_parent_of(path).ok()?;
    Index::read(dir.open_file(&name).ok()?)
}

impl Supply {
    /// The depot alone.
    pub fn depot() -> Self {
        Self::default()
    }

    /// The depot, and for contents too large for it the source as it was last scanned, while they
    /// are there unchanged. Nothing else of the source is looked at: a repair publishes nothing.
    pub fn spare(root: &Path, index: &Path) -> Self {
        let tree = read_index(index).zip(Dir::open_absolute(root).ok());
        let Some((index, root)) = tree else {
            return Self::depot();
        };
        let mut supply = Self::source(Arc::new(root), &index);
        if let Some(tree) = &mut supply.tree {
            let sizes: HashMap<Digest, u64> = index
                .manifest()
                .contents()
                .iter()
                .map(|content| (content.digest, content.size))
                .collect();
            tree.files.retain(|digest, _| {
                sizes
                    .get(digest)
                    .is_some_and(|size| *size > MAX_STORED_BYTES)
            });
            tree.is_spare = true;
        }
        supply
    }

    /// A scanned source, and the depot for what the source doesn't have.
    pub fn source(root: Arc<Dir>, index: &Index) -> Self {
        let mut files = HashMap::new();
        for (directory, stamps) in index.directories() {
            for (entry, stamp) in directory.entries.iter().zip(stamps) {
                if let Kind::File { content, .. } = entry.kind {
                    files
                        .entry(content)
                        .or_insert_with(|| (directory.path_of(&entry.name), *stamp));
                }
            }
        }
        Self {
            tree: Some(Tree {
                root,
                files,
                is_spare: false,
            }),
            fresh: None,
            lent: RwLock::default(),
        }
    }

    /// The same, with what is in memory still.
    #[must_use]
    pub fn with_fresh(self, fresh: Arc<Fresh>) -> Self {
        Self {
            fresh: Some(fresh),
            ..self
        }
    }

    /// Takes a content that another member has lent.
    pub fn take_lent(&self, content: &Digest, spooled: Arc<Spooled>) {
        let mut lent = self.lent.write().unwrap_or_else(PoisonError::into_inner);
        lent.insert(*content, spooled);
    }

    fn lent(&self, content: &Digest) -> Option<Arc<Spooled>> {
        let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
        lent.get(content).cloned()
    }

    /// A content of at most [`MAX_STORED_BYTES`]. The caller checks its hash.
    pub fn whole(&self, content: &Content, depot: &Depot) -> Result<Vec<u8>, SupplyError> {
        if let Some(bytes) = self.fresh.as_ref().and_then(|it| it.take(&content.digest)) {
            return Ok(bytes);
        }
        let length = usize::try_from(content.size).unwrap_or(usize::MAX);
        self.range(content, 0, length, depot)
    }

    /// Bytes of a content. The caller checks the hash of the whole.
    pub fn range(
        &self,
        content: &Content,
        offset: u64,
        length: usize,
        depot: &Depot,
    ) -> Result<Vec<u8>, SupplyError> {
        if let Some(spooled) = self.lent(&content.digest) {
            let bytes = spooled.range(offset, length)?;
            let is_whole = bytes.len() == length;
            return is_whole
                .then_some(bytes)
                .ok_or(SupplyError::Nowhere(content.digest, content.size));
        }
        if let Some((stamp, file)) = self.open(content)? {
            let bytes = read_range(&file, offset, length)?;
            if bytes.len() != length || !stamp.may_be_of(&Stat::of_file(&file)?) {
                return Err(self.changed(content));
            }
            return Ok(bytes);
        }
        if content.size > MAX_STORED_BYTES {
            return Err(SupplyError::Nowhere(content.digest, content.size));
        }
        let whole = depot.content(&content.digest)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        whole
            .get(start..start.saturating_add(length))
            .map(<[u8]>::to_vec)
            .ok_or(SupplyError::Nowhere(content.digest, content.size))
    }

    /// The digest of the first `length` bytes.
    pub fn prefix(
        &self,
        content: &Content,
        length: u64,
        depot: &Depot,
    ) -> Result<Digest, SupplyError> {
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < length {
            let step = usize::try_from(length - offset)
                .unwrap_or(READ_BYTES)
                .min(READ_BYTES);
            hasher.update(&self.range(content, offset, step, depot)?);
            offset += step as u64;
        }
        Ok(hasher.finalize().into())
    }

    /// The chunk list of a large content; `None` if it would be too long, or for want of the file.
    /// `old` is that of an earlier version.
    pub fn chunks(
        &self,
        content: &Content,
        old: Option<&ChunkList>,
    ) -> Result<Option<ChunkList>, SupplyError> {
        let fresh = self.fresh.as_ref();
        if let Some(list) = fresh.and_then(|it| it.take_chunks(&content.digest)) {
            return Ok(Some(list));
        }
        let (stamp, file) = match self.open(content) {
            Ok(Some(opened)) => opened,
            Ok(None) | Err(SupplyError::Nowhere(..)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut chunker = match old {
            Some(old) => Chunker::after(old.clone()),
            None => Chunker::new(),
        };
        let mut offset = 0;
        let mut buffer = vec![0; READ_BYTES];
        while offset < content.size {
            let count = fill_from(&file, offset, &mut buffer)?;
            if count == 0 {
                return Err(self.changed(content));
            }
            offset += count as u64;
            chunker.push(&buffer[..count]);
        }
        let (digest, list) = chunker.finish();
        if stamp.may_be_of(&Stat::of_file(&file)?) && digest == content.digest {
            Ok(list)
        } else {
            Err(self.changed(content))
        }
    }

    /// The error for a content whose hash isn't what it was, or whose file isn't.
    pub fn changed(&self, content: &Content) -> SupplyError {
        // A spare source that has moved on is no reason to scan it again.
        let tree = self.tree.as_ref().filter(|tree| !tree.is_spare);
        match tree.and_then(|tree| tree.files.get(&content.digest)) {
            Some((path, _)) => SupplyError::Changed(path.clone()),
            None => SupplyError::Nowhere(content.digest, content.size),
        }
    }

    fn open(&self, content: &Content) -> Result<Option<(Stamp, File)>, SupplyError> {
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        let Some((path, stamp)) = tree.files.get(&content.digest) else {
            return Ok(None);
        };
        let opened = tree.root.open_parent_at(path)?;
        let (parent, name) = opened.ok_or_else(|| self.changed(content))?;
        let (file, stat) = match parent.open_file_with_stat(&name) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() || error.is_symlink() || error.is_wrong_kind() => {
                return Err(self.changed(content));
            }
            Err(error) => return Err(error.into()),
        };
        // Whether it really is the same is seen when the source is looked at once more, before
        // anybody votes.
        if !stamp.may_be_of(&stat) {
            return Err(self.changed(content));
        }
        Ok(Some((*stamp, file)))
    }
}
