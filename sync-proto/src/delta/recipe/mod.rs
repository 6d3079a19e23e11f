//! Recipes: how to assemble a large file from an old one that the member has, plus literals.
//!
//! Made from two [chunk lists](super::chunk) alone, so the hub needs neither file at hand and
//! nothing grows with the number of members; literals are then read from the new file only. The
//! literal bytes, concatenated in the order of the new file, form a stream that travels in
//! [segments](crate::pack::segment) like a file does; [`Recipe::literal_pieces`] says for both
//! sides where each part of that stream belongs.
//!
//! # Layout (normative, version 1; numbers little-endian)
//!
//! ```text
//! offset  size  field
//!      0     4  magic "FoRc"
//!      4     1  version, 1
//!      5    32  BLAKE3 of the base
//!     37    32  BLAKE3 of the new content
//!     69     8  size of the base
//!     77     8  size of the new content
//!     85     4  number of entries, at most 1,048,576
//!     89     -  per entry: its length times two, plus one for a copy (unsigned LEB128, shortest
//!               form); then, for a copy only, its offset in the base (same form)
//! ```
//!
//! Invariants: the entries cover the new content exactly, in order; copies lie within the base;
//! neighbours that could be one entry are one. The id of a recipe is the BLAKE3 of its bytes. A
//! recipe proves nothing: the member checks the digest of what it assembled.

use crate::digest::Digest;
use crate::pack::FormatError;
use crate::pack::reader::{Reader, put_varint, within};
use crate::pack::segment::MAX_FILE_BYTES;
use std::ops::Range;

mod compare;

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"FoRc";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 89;

/// The most entries in one recipe; a file that needs more is sent whole. LIMIT: against a peer.
pub const MAX_ENTRIES: usize = 1 << 20;
/// The longest an encoded recipe can be. A number takes at most ten bytes as LEB128.
pub const MAX_RECIPE_BYTES: usize = FIXED_BYTES + MAX_ENTRIES * 20;

/// One step of assembling a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeEntry {
    /// Take bytes from the base.
    Copy {
        /// Where they start in the base.
        base_offset: u64,
        /// How many.
        length: u64,
    },
    /// Take the next bytes of the literal stream.
    Literal {
        /// Where they go in the new file.
        new_offset: u64,
        /// How many.
        length: u64,
    },
}

/// Part of the literal stream and its place in the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiteralPiece {
    /// Where it is in the literal stream.
    pub stream_offset: u64,
    /// Where it is in the new file.
    pub new_offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// How to assemble one content from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// BLAKE3 of the content that copies are taken from.
    pub base: Digest,
    /// BLAKE3 of the content to assemble.
    pub new: Digest,
    base_bytes: u64,
    new_bytes: u64,
    literal_bytes: u64,
    entries: Vec<RecipeEntry>,
    /// The literal entries by their place in the literal stream, for binary search.
    literals: Vec<LiteralPiece>,
}

impl Recipe {
    fn empty(base: Digest, new: Digest, base_bytes: u64) -> Self {
        Self {
            base,
            new,
            base_bytes,
            new_bytes: 0,
            literal_bytes: 0,
            entries: Vec::new(),
            literals: Vec::new(),
        }
    }

    fn append_copy(&mut self, offset: u64, more: u64) {
        self.new_bytes += more;
        if let Some(RecipeEntry::Copy {
            base_offset,
            length,
        }) = self.entries.last_mut()
            && *base_offset + *length == offset
        {
            *length += more;
            return;
        }
        self.entries.push(RecipeEntry::Copy {
            base_offset: offset,
            length: more,
        });
    }

    fn append_literal(&mut self, more: u64) {
        let new_offset = self.new_bytes;
        let stream_offset = self.literal_bytes;
        self.new_bytes += more;
        self.literal_bytes += more;
        if let Some(RecipeEntry::Literal { length, .. }) = self.entries.last_mut()
            && let Some(piece) = self.literals.last_mut()
        {
            *length += more;
            piece.length += more;
            return;
        }
        self.entries.push(RecipeEntry::Literal {
            new_offset,
            length: more,
        });
        self.literals.push(LiteralPiece {
            stream_offset,
            new_offset,
            length: more,
        });
    }

    /// The steps, in the order of the new file.
    pub fn entries(&self) -> &[RecipeEntry] {
        &self.entries
    }

    /// The size of the base.
    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    /// The size of the new content.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes
    }

    /// The length of the literal stream.
    pub fn literal_bytes(&self) -> u64 {
        self.literal_bytes
    }

    /// Where a range of the literal stream, such as one segment, belongs in the new file. What
    /// lies past the end of the stream is left out.
    pub fn literal_pieces(&self, range: Range<u64>) -> impl Iterator<Item = LiteralPiece> {
        let first = self
            .literals
            .partition_point(|piece| piece.stream_offset + piece.length <= range.start);
        self.literals[first..].iter().map_while(move |piece| {
            let start = piece.stream_offset.max(range.start);
            let end = (piece.stream_offset + piece.length).min(range.end);
            (start < end).then(|| LiteralPiece {
                stream_offset: start,
                new_offset: piece.new_offset + (start - piece.stream_offset),
                length: end - start,
            })
        })
    }

    /// The serialised form and its BLAKE3, which is the recipe's id.
    pub fn encode(&self) -> (Digest, Vec<u8>) {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.entries.len() * 8);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(self.base.as_bytes());
        out.extend_from_slice(self.new.as_bytes());
        out.extend_from_slice(&self.base_bytes.to_le_bytes());
        out.extend_from_slice(&self.new_bytes.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for entry in &self.entries {
            match *entry {
                RecipeEntry::Copy {
                    base_offset,
                    length,
                } => {
                    put_varint(&mut out, length << 1 | 1);
                    put_varint(&mut out, base_offset);
                }
                RecipeEntry::Literal { length, .. } => put_varint(&mut out, length << 1),
            }
        }
        (Digest::of(&out), out)
    }

    /// Reads the serialised form.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::open(bytes, MAGIC, VERSION)?;
        let (base, new) = (reader.digest()?, reader.digest()?);
        let base_bytes = within("base bytes", reader.u64()?, MAX_FILE_BYTES)?;
        let new_bytes = within("content bytes", reader.u64()?, MAX_FILE_BYTES)?;
        let count = within("entries", reader.u32()?.into(), MAX_ENTRIES as u64)? as usize;
        // LIMIT: each entry takes a byte of what was received, so the list can't outgrow that by
        // more than the size of an entry.
        if count > reader.remaining_bytes() {
            return Err(FormatError::Truncated);
        }
        let mut recipe = Self::empty(base, new, base_bytes);
        for _ in 0..count {
            recipe.parse_entry(&mut reader, new_bytes)?;
        }
        if recipe.entries.len() != count {
            return Err(FormatError::Inconsistent(
                "neighbours that could be one entry",
            ));
        }
        if recipe.new_bytes != new_bytes {
            return Err(FormatError::Inconsistent(
                "the entries fall short of the size",
            ));
        }
        reader.finish()?;
        Ok(recipe)
    }

    fn parse_entry(&mut self, reader: &mut Reader<'_>, new_bytes: u64) -> Result<(), FormatError> {
        let code = reader.varint()?;
        let length = code >> 1;
        if length == 0 {
            return Err(FormatError::Inconsistent("an empty entry"));
        }
        if length > new_bytes - self.new_bytes {
            return Err(FormatError::Inconsistent("the entries exceed the size"));
        }
        if code & 1 == 0 {
            self.append_literal(length);
            return Ok(());
        }
        let base_offset = reader.varint()?;
        if length > self.base_bytes || base_offset > self.base_bytes - length {
            return Err(FormatError::Inconsistent("a copy from beyond the base"));
        }
        self.append_copy(base_offset, length);
        Ok(())
    }
}
