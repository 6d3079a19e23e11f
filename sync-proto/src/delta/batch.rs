//! Batches of deltas: what travels and what relays see.
//!
//! An upgrade changes thousands of small files by a few bytes each, so deltas are sent many at a
//! time. A batch is addressed by the BLAKE3 of all its bytes, as a pack is.
//!
//! # Layout (normative, version 1; numbers little-endian)
//!
//! ```text
//! offset  size  field
//!      0     4  magic "FoDb"
//!      4     1  version, 1
//!      5     4  rows, 1 to 65,536
//!      9     -  per row:
//!            32   BLAKE3 of the base
//!            32   BLAKE3 of the new content
//!             1   method: 0 zstd frame with the base as prefix, 1 librsync commands as they are,
//!                 2 the same as one zstd frame
//!             -   length of the new content, 1 byte to 64 MiB (unsigned LEB128, shortest form)
//!             -   length of the payload, 1 byte to the length of the new content (same form)
//!      -     -  the payloads in row order, without gaps
//! ```
//!
//! Nothing follows the payloads. They add up to at most 4 MiB, unless there is only one. No pair
//! of base and new content occurs twice.

use super::{Delta, MAX_DELTA_BYTES, Method};
use crate::digest::Digest;
use crate::pack::codec::Codec;
use crate::pack::reader::{Reader, put_varint, within};
use crate::pack::{FormatError, MAX_RAW_BYTES, MAX_ROWS, Pack};
use bytes::Bytes;
use std::collections::HashSet;

const MAGIC: [u8; 4] = *b"FoDb";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 9;
/// The longest row: two digests, the method, and two lengths of at most four bytes.
const MAX_ROW_BYTES: usize = 32 + 32 + 1 + 4 + 4;

/// The longest a batch can be: either many rows with 4 MiB, or one row with 64 MiB.
pub const MAX_BATCH_BYTES: usize = FIXED_BYTES + MAX_ROW_BYTES + MAX_DELTA_BYTES;

const _: () = assert!(FIXED_BYTES + MAX_ROWS * MAX_ROW_BYTES + MAX_RAW_BYTES <= MAX_BATCH_BYTES);

/// Collects the deltas of one batch.
#[derive(Default)]
pub struct BatchBuilder {
    deltas: Vec<Delta>,
    seen: HashSet<(Digest, Digest)>,
    payload_bytes: usize,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// The payloads so far, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Adds a delta; one between the same contents is not added again.
    ///
    /// # Errors
    /// Gives the delta back if the batch is full. An empty batch takes any delta.
    pub fn push(&mut self, delta: Delta) -> Result<(), Delta> {
        let payload_bytes = self.payload_bytes + delta.payload.len();
        let full = payload_bytes > MAX_RAW_BYTES || self.deltas.len() == MAX_ROWS;
        let pair = (delta.base, delta.new);
        if self.seen.contains(&pair) {
            return Ok(());
        }
        if full && !self.is_empty() {
            return Err(delta);
        }
        self.seen.insert(pair);
        self.payload_bytes = payload_bytes;
        self.deltas.push(delta);
        Ok(())
    }

    /// Seals the batch; `None` if it is empty.
    pub fn finish(self) -> Option<Pack> {
        if self.is_empty() {
            return None;
        }
        let rows_bytes = self.deltas.len() * MAX_ROW_BYTES;
        let mut out = Vec::with_capacity(FIXED_BYTES + rows_bytes + self.payload_bytes);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&(self.deltas.len() as u32).to_le_bytes());
        for delta in &self.deltas {
            out.extend_from_slice(delta.base.as_bytes());
            out.extend_from_slice(delta.new.as_bytes());
            out.push(method_to_byte(delta.method));
            put_varint(&mut out, delta.new_bytes.into());
            put_varint(&mut out, delta.payload.len() as u64);
        }
        for delta in &self.deltas {
            out.extend_from_slice(&delta.payload);
        }
        Some(Pack {
            id: Digest::of(&out),
            bytes: out.into(),
        })
    }
}

fn method_to_byte(method: Method) -> u8 {
    match method {
        Method::Patch => 0,
        Method::Rsync(codec) => 1 + codec.to_byte(),
    }
}

fn method_from_byte(byte: u8) -> Result<Method, FormatError> {
    match byte {
        0 => Ok(Method::Patch),
        1 => Ok(Method::Rsync(Codec::Stored)),
        2 => Ok(Method::Rsync(Codec::Zstd)),
        code => {
            let what = "method";
            Err(FormatError::UnknownCode { what, code })
        }
    }
}

/// Reads a complete batch; the deltas share its bytes.
pub fn parse_batch(batch: &Bytes) -> Result<Vec<Delta>, FormatError> {
    let mut reader = Reader::open(batch, MAGIC, VERSION)?;
    let count = within("rows", reader.u32()?.into(), MAX_ROWS as u64)? as usize;
    if count == 0 {
        return Err(FormatError::Inconsistent("an empty batch"));
    }
    // LIMIT: before anything is allocated for the rows, they must be able to be there, with at
    // least one byte of payload each.
    if count * (32 + 32 + 1 + 1 + 1 + 1) > reader.remaining_bytes() {
        return Err(FormatError::Truncated);
    }
    let mut rows = Vec::with_capacity(count);
    let mut seen = HashSet::with_capacity(count);
    let mut total_bytes = 0;
    for _ in 0..count {
        let (delta, payload_bytes) = parse_row(&mut reader)?;
        if !seen.insert((delta.base, delta.new)) {
            return Err(FormatError::Inconsistent(
                "two deltas between the same contents",
            ));
        }
        total_bytes += payload_bytes;
        rows.push((delta, payload_bytes));
    }
    if count > 1 {
        within("payload bytes", total_bytes as u64, MAX_RAW_BYTES as u64)?;
    }
    let mut deltas = Vec::with_capacity(count);
    for (delta, payload_bytes) in rows {
        let payload = batch.slice_ref(reader.take(payload_bytes)?);
        deltas.push(Delta { payload, ..delta });
    }
    reader.finish()?;
    Ok(deltas)
}

/// A row without its payload, and the payload's length.
fn parse_row(reader: &mut Reader<'_>) -> Result<(Delta, usize), FormatError> {
    let (base, new) = (reader.digest()?, reader.digest()?);
    let method = method_from_byte(reader.byte()?)?;
    let new_bytes = within("content bytes", reader.varint()?, MAX_DELTA_BYTES as u64)?;
    let payload_bytes = within("payload bytes", reader.varint()?, new_bytes)?;
    if payload_bytes == 0 {
        return Err(FormatError::Inconsistent("an empty delta"));
    }
    let delta = Delta {
        base,
        new,
        new_bytes: new_bytes as u32,
        method,
        payload: Bytes::new(),
    };
    Ok((delta, payload_bytes as usize))
}
