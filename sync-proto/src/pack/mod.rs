//! Content on the wire and in the depot: packs of small files and segments of large ones.
//!
//! A **pack** holds the contents of many small files, compressed once and sent to every member
//! that needs it. Its id is the BLAKE3 of all its bytes, so a relay or the depot can check it
//! without opening it. A [segment] holds one block of a large file.
//!
//! # Layout (normative, version 1; numbers little-endian)
//!
//! ```text
//! offset  size  field
//!      0     4  magic "FoPk"
//!      4     1  version, 1
//!      5     1  codec: 0 stored, 1 zstd
//!      6     4  raw length: the contents before compression, at most 4 MiB
//!     10     4  payload length
//!     14     4  rows, at most 65,536
//!     18     -  per row: BLAKE3 of the content (32), its length (unsigned LEB128, shortest form)
//!      -     -  payload: the contents in row order, without gaps
//! ```
//!
//! Nothing follows the payload. No digest occurs twice; the lengths add up to the raw length. A
//! stored payload has the raw length; a zstd payload is exactly one frame that declares it.
//!
//! Invariants: a pack that was built holds what its rows say, and content is handed out only
//! after its BLAKE3 matched its row. Every limit is the receiver's own.

mod build;
pub(crate) mod codec;
mod read;
pub(crate) mod reader;
pub mod segment;

#[cfg(test)]
pub(crate) mod testing;

pub use build::{Pack, PackBuilder, PushError};
pub use codec::{Codec, PackDecoder, PackEncoder};
pub use read::{PackError, PackHeader, PackRow, Unpacked, unpack};
pub use reader::FormatError;

const MAGIC: [u8; 4] = *b"FoPk";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 18;

/// The most that the contents of one pack may add up to. LIMIT: against a peer.
pub const MAX_RAW_BYTES: usize = 4 << 20;
/// The most contents in one pack. LIMIT: against a peer.
pub const MAX_ROWS: usize = 65_536;
/// The longest a whole pack can be: what a receiver needs to buffer. A length takes at most four
/// bytes as LEB128, because it is at most [`MAX_RAW_BYTES`].
pub const MAX_PACK_BYTES: usize = FIXED_BYTES + MAX_ROWS * (32 + 4) + MAX_RAW_BYTES;
