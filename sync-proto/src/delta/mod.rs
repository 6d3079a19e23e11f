//! Changed files as what changed in them.
//!
//! | new size | transfer |
//! |---|---|
//! | under 1 KiB | whole, in a [pack](crate::pack): the digests alone would cost as much |
//! | to 8 MiB | zstd patch, the old version being its prefix |
//! | to 64 MiB | `fast_rsync` delta |
//! | above | [chunk] [recipe]: the hub needs only the base's chunk list |
//!
//! `docs/decisions/0002-large-file-deltas.md` has the measurements behind the table. The hub
//! computes a [`Delta`] once per (old, new) pair, from its own copies of both: no signature crosses
//! the wire, and none from a peer is ever parsed. Deltas travel in [batches](batch).
//!
//! Refused: contents over 64 MiB, results that aren't exactly what the manifest says.
//!
//! Invariant: [`apply_delta`] returns the expected content or an error; on any error the member
//! asks for the whole content.

pub mod batch;
pub mod chunk;
mod patch;
pub mod recipe;
mod rsync;

use crate::digest::Digest;
use crate::pack::codec::Codec;
use crate::pack::{FormatError, PackDecoder, PackEncoder};
use bytes::Bytes;
use fast_rsync::ApplyError;
use thiserror::Error;

/// Contents shorter than this go whole.
pub const MIN_DELTA_BYTES: usize = 1 << 10;
/// New contents up to this length become zstd patches, longer ones `fast_rsync` deltas.
pub const MAX_PATCH_BYTES: usize = 8 << 20;
/// The longest base and the longest new content; beyond are recipes. LIMIT: against a peer.
pub const MAX_DELTA_BYTES: usize = 64 << 20;

/// Why a delta gave no content.
#[derive(Debug, Error)]
pub enum DeltaError {
    /// The bytes break the format.
    #[error("Malformed delta: {0}")]
    Malformed(#[from] FormatError),
    /// The delta makes another content than the one that the manifest asks for.
    #[error("The delta makes {offered:?}, expected was {expected:?}")]
    Unexpected {
        /// The content that the delta promises.
        offered: Digest,
        /// The content that is needed.
        expected: Digest,
    },
    /// The base that was given is longer than [`MAX_DELTA_BYTES`].
    #[error("The base of the delta has {0} bytes")]
    LongBase(usize),
    /// A command of the delta reaches outside the base or the result, or is unknown.
    #[error("The delta's commands don't fit its base")]
    BadCommands(#[source] ApplyError),
    /// It was applied, but the result isn't the content it should be.
    #[error("The delta made another content than {0:?}")]
    WrongResult(Digest),
}

/// A content at hand and the digest it goes by.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// BLAKE3 of `bytes`; the caller vouches for it.
    pub digest: Digest,
    /// The content.
    pub bytes: &'a [u8],
}

impl<'a> Version<'a> {
    /// Hashes `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            digest: Digest::of(bytes),
            bytes,
        }
    }
}

/// How a payload makes the new content out of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// One zstd frame with the base as its prefix.
    Patch,
    /// librsync commands as `fast_rsync` writes them, compressed if that pays.
    Rsync(Codec),
}

/// What turns one content into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    base: Digest,
    new: Digest,
    new_bytes: u32,
    method: Method,
    payload: Bytes,
}

impl Delta {
    /// BLAKE3 of the content it applies to.
    pub fn base(&self) -> Digest {
        self.base
    }

    /// BLAKE3 of the content it makes.
    pub fn content(&self) -> Digest {
        self.new
    }

    /// The length of the content it makes.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes.into()
    }

    /// What it costs on the wire, apart from its row in a batch.
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }
}

/// Computes the delta from `base` to `new`. `None` means that the whole content is the better
/// transfer: too short or too long for a delta, too different, or hardly smaller.
pub fn make_delta(base: Version<'_>, new: Version<'_>, encoder: &mut PackEncoder) -> Option<Delta> {
    let sizes = MIN_DELTA_BYTES..=MAX_DELTA_BYTES;
    if base.bytes.len() > MAX_DELTA_BYTES || !sizes.contains(&new.bytes.len()) {
        return None;
    }
    let (method, payload) = if new.bytes.len() <= MAX_PATCH_BYTES {
        (Method::Patch, patch::make(base.bytes, new.bytes, encoder)?)
    } else {
        let (codec, payload) = rsync::make(base.bytes, new.bytes, encoder)?;
        (Method::Rsync(codec), payload)
    };
    Some(Delta {
        base: base.digest,
        new: new.digest,
        new_bytes: new.bytes.len() as u32,
        method,
        payload: payload.into(),
    })
}

/// The door of the fuzz target: librsync commands, whatever the size; the content that they make.
/// `None` if they don't pay.
#[doc(hidden)]
pub fn rsync_round_trip(base: &[u8], new: &[u8]) -> Option<Result<Vec<u8>, DeltaError>> {
    let (codec, payload) = rsync::make(base, new, &mut PackEncoder::new())?;
    let mut decoder = PackDecoder::new();
    Some(rsync::apply(base, codec, &payload, new.len(), &mut decoder))
}

/// Makes the new content from `base`, which should be the content that `delta` names: with any
/// other the result fails its check. Size and digest are the manifest's.
pub fn apply_delta(
    base: &[u8],
    delta: &Delta,
    expected_bytes: u64,
    expected: Digest,
    decoder: &mut PackDecoder,
) -> Result<Vec<u8>, DeltaError> {
    if delta.new != expected || delta.new_bytes() != expected_bytes {
        return Err(DeltaError::Unexpected {
            offered: delta.new,
            expected,
        });
    }
    if base.len() > MAX_DELTA_BYTES {
        return Err(DeltaError::LongBase(base.len()));
    }
    let new_bytes = delta.new_bytes as usize;
    let new = match delta.method {
        Method::Patch => patch::apply(base, &delta.payload, new_bytes)?,
        Method::Rsync(codec) => rsync::apply(base, codec, &delta.payload, new_bytes, decoder)?,
    };
    if new.len() != new_bytes || Digest::of(&new) != expected {
        return Err(DeltaError::WrongResult(expected));
    }
    Ok(new)
}

#[cfg(test)]
mod tests;
