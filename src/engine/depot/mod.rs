//! The depot: the hub's store of manifests and contents for the desired and the kept generations.
//!
//! It makes resync, joins, resume, deltas against old content and rollback independent of the
//! source. Everything in it is addressed by its own hash, so nothing is ever overwritten:
//!
//! ```text
//! manifests/HEX   a manifest (zstd), by the id of its roots
//! objects/XX/HEX  a pack or a segment, exactly as it travels, by the BLAKE3 of its bytes
//! chunks/HEX      the chunk list of a large content, by the content's digest
//! ```
//!
//! Contents above [`MAX_STORED_BYTES`] are not stored, only their chunk lists: the source supplies
//! them while it is unchanged, and after that a member that has them, by way of a [`Spool`].
//!
//! Invariants: a file under its final name is complete (written under another name and renamed, and
//! read through after an outage: `mark.rs`); a push makes the depot durable before its decision;
//! what is read is verified by its hash.

mod budget;
mod collect;
mod mark;
mod objects;
mod spool;

pub use budget::Fit;
pub use collect::Collected;
pub use objects::{Place, Stored};
pub use spool::{Spool, Spooled};

use crate::fs::{Dir, FsError};
use mark::Mark;
use objects::Catalogue;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use sync_proto::delta::chunk::ChunkList;
use sync_proto::digest::Digest;
use sync_proto::manifest::{Manifest, ManifestError, Roots};
use sync_proto::path::Name;
use thiserror::Error;

/// Contents above this size are not stored.
pub const MAX_STORED_BYTES: u64 = 64 << 20;
/// A manifest is small beside its tree; level 3 shrinks it well at the speed of the disk.
const MANIFEST_LEVEL: i32 = 3;
/// LIMIT: a stored manifest may not grow past this when it is read.
const MAX_MANIFEST_BYTES: u64 = 2 << 30;

/// Why the depot can't do something.
#[derive(Debug, Error)]
pub enum DepotError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A manifest that isn't there, or not any more.
    #[error("The depot has no manifest {0:?}")]
    NoManifest(Digest),
    /// A manifest that can't be read.
    #[error("The depot's manifest {id:?} is damaged: {source}")]
    BadManifest {
        /// Which.
        id: Digest,
        /// Why.
        source: ManifestError,
    },
    /// A content that isn't there.
    #[error("The depot has no content {0:?}")]
    NoContent(Digest),
    /// An object whose bytes aren't what its name says.
    #[error("The depot's object {0:?} is damaged")]
    Damaged(Digest),
}

/// The store.
#[derive(Debug)]
pub struct Depot {
    manifests: Dir,
    objects: Dir,
    chunks: Dir,
    mark: Mark,
    /// Read when it is first needed: an unchanged push never does.
    catalogue: Mutex<Option<Catalogue>>,
    scratch: AtomicU64,
}

impl Depot {
    /// Opens the depot in an existing directory, and makes its parts where they are missing.
    pub fn open(path: &Path) -> Result<Self, DepotError> {
        let dir = Dir::open_absolute(path)?;
        let part = |name: &[u8]| -> Result<Dir, FsError> {
            dir.create_dir_if_absent(&fixed_name(name), 0o700)
        };
        let depot = Self {
            manifests: part(b"manifests")?,
            objects: part(b"objects")?,
            chunks: part(b"chunks")?,
            mark: Mark::new(dir),
            catalogue: Mutex::new(None),
            scratch: AtomicU64::new(0),
        };
        depot.mend()?;
        Ok(depot)
    }

    /// Stores a manifest under the id of its roots.
    pub fn put_manifest(&self, manifest: &Manifest, roots: Roots) -> Result<(), DepotError> {
        let name = hex_name(&roots.id());
        if self.manifests.stat(&name)?.is_some() {
            return Ok(());
        }
        let raw = manifest.encode();
        let bytes = zstd::bulk::compress(&raw, MANIFEST_LEVEL)
            .map_err(|error| FsError::from_io("compress the manifest", name.as_bytes(), &error))?;
        self.put(&self.manifests, &name, &bytes)
    }

    /// The manifest with these roots.
    pub fn manifest(&self, roots: Roots) -> Result<Manifest, DepotError> {
        let id = roots.id();
        let name = hex_name(&id);
        let bytes = read(&self.manifests, &name)?.ok_or(DepotError::NoManifest(id))?;
        let manifest = unpack_manifest(id, &bytes)?;
        if manifest.roots() == roots {
            Ok(manifest)
        } else {
            Err(DepotError::Damaged(id))
        }
    }

    /// True if the manifest is there.
    pub fn has_manifest(&self, roots: Roots) -> Result<bool, DepotError> {
        Ok(self.manifests.stat(&hex_name(&roots.id()))?.is_some())
    }

    /// Stores the chunk list of a large content.
    pub fn put_chunks(&self, list: &ChunkList) -> Result<(), DepotError> {
        self.put(&self.chunks, &hex_name(&list.content()), &list.encode())
    }

    /// The chunk list of a large content, if it was ever seen.
    pub fn chunks(&self, content: &Digest) -> Result<Option<ChunkList>, DepotError> {
        let bytes = read(&self.chunks, &hex_name(content))?;
        Ok(bytes.and_then(|bytes| ChunkList::parse(&bytes).ok()))
    }

    /// Makes everything that was stored so far durable.
    pub fn sync(&self) -> Result<(), DepotError> {
        crate::fs::fault::point("hub.depot.sync")?;
        // ORDER: content and manifests before the decision that names them.
        Ok(self.mark.settle(|| self.objects.syncfs())?)
    }

    /// Writes a file under another name, then gives it its own.
    fn put(&self, dir: &Dir, name: &Name, bytes: &[u8]) -> Result<(), DepotError> {
        crate::fs::fault::point("hub.depot.put")?;
        let _putting = self.mark.putting()?;
        let (temporary, mut file) = self.scratch_file(dir)?;
        let result = (|| {
            file.write_all(bytes)
                .map_err(|error| FsError::from_io("write", temporary.as_bytes(), &error))?;
            drop(file);
            crate::fs::fault::point("hub.depot.rename")?;
            dir.rename_to(&temporary, dir, name)
        })();
        if result.is_err() {
            // What is left over is found and removed by the next collection.
            let _left_over = dir.unlink(&temporary);
        }
        Ok(result?)
    }

    fn scratch_file(&self, dir: &Dir) -> Result<(Name, File), FsError> {
        loop {
            let count = self.scratch.fetch_add(1, Ordering::Relaxed);
            let name = fixed_name(format!("tmp.{}.{count}", std::process::id()).as_bytes());
            match dir.create_file(&name, 0o600) {
                // Left by a process that had our number, in a container or before a restart.
                Err(error) if error.is_exists() => {}
                other => return other.map(|file| (name, file)),
            }
        }
    }

    fn with_catalogue<T>(
        &self,
        act: impl FnOnce(&mut Catalogue) -> Result<T, DepotError>,
    ) -> Result<T, DepotError> {
        let mut catalogue = self
            .catalogue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if catalogue.is_none() {
            *catalogue = Some(Catalogue::read(&self.objects)?);
        }
        match catalogue.as_mut() {
            Some(catalogue) => act(catalogue),
            None => act(&mut Catalogue::default()),
        }
    }
}

fn unpack_manifest(id: Digest, bytes: &[u8]) -> Result<Manifest, DepotError> {
    let damaged = |_| DepotError::Damaged(id);
    let mut raw = Vec::new();
    zstd::stream::read::Decoder::new(bytes)
        .map_err(damaged)?
        .take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut raw)
        .map_err(damaged)?;
    Manifest::decode(&raw).map_err(|source| DepotError::BadManifest { id, source })
}

fn read(dir: &Dir, name: &Name) -> Result<Option<Vec<u8>>, DepotError> {
    let mut file = match dir.open_file(name) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| FsError::from_io("read", name.as_bytes(), &error))?;
    Ok(Some(bytes))
}

/// A name that is a digest in hexadecimal digits.
fn hex_name(digest: &Digest) -> Name {
    fixed_name(digest.to_hex().as_bytes())
}

/// A name made here, of letters, digits and dots.
fn fixed_name(bytes: &[u8]) -> Name {
    Name::parse(bytes).expect("names made of digits, letters and dots are valid")
}

#[cfg(test)]
mod tests;
