//! Building packs: collects contents, checks each against the digest it goes by, compresses once.

use super::codec::PackEncoder;
use super::reader::put_varint;
use super::{FIXED_BYTES, MAGIC, MAX_RAW_BYTES, MAX_ROWS, VERSION};
use crate::digest::Digest;
use bytes::Bytes;
use std::collections::HashSet;
use thiserror::Error;

/// An encoded pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// BLAKE3 of `bytes`.
    pub id: Digest,
    /// The whole pack; cheap to clone for every member.
    pub bytes: Bytes,
}

/// Why a content didn't go into a pack.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The pack has no room for it: finish this one and begin another.
    #[error("The pack is full")]
    Full,
    /// The bytes are not those that the digest stands for: the file changed since it was hashed.
    #[error("The content is not the one that was hashed ({expected:?})")]
    Changed {
        /// What the bytes should have hashed to.
        expected: Digest,
    },
}

/// Collects the contents of one pack.
#[derive(Default)]
pub struct PackBuilder {
    rows: Vec<(Digest, usize)>,
    seen: HashSet<Digest>,
    raw: Vec<u8>,
}

impl PackBuilder {
    /// An empty pack.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if one more content of this length can be pushed.
    pub fn fits(&self, length: usize) -> bool {
        self.rows.len() < MAX_ROWS && length <= MAX_RAW_BYTES - self.raw.len()
    }

    /// Adds a content; one that is there already is not added again.
    ///
    /// The bytes are hashed here, which costs a fraction of their compression and catches files
    /// that changed after the scan: no pack that members would refuse leaves the hub.
    pub fn push(&mut self, digest: Digest, content: &[u8]) -> Result<(), PushError> {
        if self.seen.contains(&digest) {
            return Ok(());
        }
        if !self.fits(content.len()) {
            return Err(PushError::Full);
        }
        if Digest::of(content) != digest {
            return Err(PushError::Changed { expected: digest });
        }
        self.seen.insert(digest);
        self.rows.push((digest, content.len()));
        self.raw.extend_from_slice(content);
        Ok(())
    }

    /// True if nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The contents so far, in bytes before compression.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// How many contents there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Compresses and seals the pack. `level` is zstd's; what doesn't shrink is stored.
    pub fn finish(self, encoder: &mut PackEncoder, level: i32) -> Pack {
        let (codec, payload) = encoder.encode(&self.raw, level);
        let mut out = Vec::with_capacity(FIXED_BYTES + self.rows.len() * 36 + payload.len());
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(codec.to_byte());
        // All three are bounded by the limits that `push` enforces.
        for number in [self.raw.len(), payload.len(), self.rows.len()] {
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        for (digest, length) in &self.rows {
            out.extend_from_slice(digest.as_bytes());
            put_varint(&mut out, *length as u64);
        }
        out.extend_from_slice(&payload);
        Pack {
            id: Digest::of(&out),
            bytes: out.into(),
        }
    }
}
