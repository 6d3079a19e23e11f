//! A content that is too large to be stored, held on the hub's disk while one task needs it.
//!
//! The file has no name, so nothing of it is left behind, however the process ends. What is written
//! is handed out only after its hash was found to be the content's.

use super::{Depot, DepotError};
use crate::fs::FsError;
use crate::fs::read::read_range;
use std::fs::File;
use std::io::Write as _;
use sync_proto::digest::Digest;
use sync_proto::manifest::Content;

/// A content that is being written.
#[derive(Debug)]
pub struct Spool {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// A content that is there in whole, with the right hash.
#[derive(Debug)]
pub struct Spooled {
    file: File,
}

impl Depot {
    /// Begins to spool a content, beside what is stored.
    pub fn spool(&self) -> Result<Spool, DepotError> {
        Ok(Spool {
            file: self.objects.create_nameless_file()?,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        })
    }
}

impl Spool {
    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DepotError> {
        crate::fs::fault::point("hub.depot.spool")?;
        let written = self.file.write_all(bytes);
        written.map_err(|error| FsError::from_io("write", b"a spooled file", &error))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The content; `None` if what was written is something else.
    pub fn finish(self, content: &Content) -> Option<Spooled> {
        let digest = Digest::from(self.hasher.finalize());
        (self.bytes == content.size && digest == content.digest)
            .then_some(Spooled { file: self.file })
    }
}

impl Spooled {
    /// Bytes of the content; fewer at its end.
    pub fn range(&self, offset: u64, length: usize) -> Result<Vec<u8>, FsError> {
        read_range(&self.file, offset, length)
    }
}
