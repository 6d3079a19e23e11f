//! A large file that arrives in blocks, in order: whole, from some block on, or put together from
//! an older content and literal bytes.
//!
//! What is written is always a prefix of the file without gaps, hashed as it is written, so that
//! an interrupted transfer resumes where it stopped and nothing is read twice.
//!
//! LIMIT: blocks that come before their turn wait in memory, a few at most.

use super::refusal::of_fs;
use super::stage::set_length;
use crate::codes::{Code, Problem};
use crate::fs::clone::write_sparse;
use crate::fs::read::fill_from;
use crate::fs::write_back::WriteBack;
use crate::net::limits::Room;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use sync_proto::delta::recipe::{Recipe, RecipeEntry};
use sync_proto::digest::Digest;
use sync_proto::manifest::Content;

/// LIMIT: blocks of one file that wait for their turn.
const MAX_WAITING: usize = 24;
const COPY_BYTES: usize = 1024 * 1024;
/// Handing less than that to another core takes longer than doing it.
const SHARED_BYTES: usize = 256 * 1024;

/// A block.
#[derive(Debug)]
pub struct Block {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its part of the memory budget, held as long as it waits.
    pub room: Room,
}

/// One large file.
pub struct Large {
    content: Content,
    file: File,
    hasher: blake3::Hasher,
    /// Bytes written.
    written: u64,
    back: WriteBack,
    resumed_from: u64,
    /// Where in its stream the next block starts.
    next: u64,
    waiting: BTreeMap<u64, Block>,
    assembly: Option<Assembly>,
}

/// A file that is put together.
struct Assembly {
    recipe: Recipe,
    base: Arc<File>,
    entry: usize,
    /// Literal bytes of the current entry that were taken.
    taken: u64,
}

/// Does both, at the same time if it is about many bytes.
fn both<A: Send, B: Send>(
    bytes: usize,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    match bytes < SHARED_BYTES {
        true => (one(), other()),
        false => rayon::join(one, other),
    }
}

impl Large {
    /// An empty file that is sent whole.
    pub fn whole(content: Content, file: File) -> Self {
        Self {
            content,
            file,
            hasher: blake3::Hasher::new(),
            written: 0,
            back: WriteBack::default(),
            resumed_from: 0,
            next: 0,
            waiting: BTreeMap::new(),
            assembly: None,
        }
    }

    /// A file of which `bytes` are there, and hashed.
    pub fn resume(content: Content, file: File, hasher: blake3::Hasher, bytes: u64) -> Self {
        Self {
            written: bytes,
            resumed_from: bytes,
            next: bytes,
            hasher,
            ..Self::whole(content, file)
        }
    }

    /// An empty file that is put together from `base`.
    ///
    /// # Errors
    /// Copies at its beginning fail.
    pub fn assemble(
        content: Content,
        file: File,
        recipe: Recipe,
        base: File,
    ) -> Result<Self, Problem> {
        let mut large = Self {
            assembly: Some(Assembly {
                recipe,
                base: Arc::new(base),
                entry: 0,
                taken: 0,
            }),
            ..Self::whole(content, file)
        };
        large.copy_ahead()?;
        Ok(large)
    }

    /// Takes a block of the stream. True if the file has all its bytes.
    ///
    /// # Errors
    /// The disk said no, or the hub sends what it wasn't asked for.
    pub fn take(&mut self, offset: u64, block: Block) -> Result<bool, Problem> {
        if offset < self.resumed_from {
            // The hub has another beginning: it sends the whole.
            self.restart()?;
        }
        if offset >= self.next {
            self.waiting.insert(offset, block);
            if self.waiting.len() > MAX_WAITING {
                let message = "The hub sends the blocks of a large file out of order";
                return Err(Problem::new(Code::ProtocolViolation, message));
            }
        }
        while let Some(block) = self.waiting.remove(&self.next) {
            self.next += block.bytes.len() as u64;
            self.append(&block.bytes)?;
        }
        Ok(self.is_complete())
    }

    /// True if it has all its bytes.
    pub fn is_complete(&self) -> bool {
        self.written >= self.content.size
    }

    /// True if it is put together from an older content.
    pub fn is_assembled(&self) -> bool {
        self.assembly.is_some()
    }

    /// True if its bytes are the content.
    pub fn is_right(&self) -> bool {
        self.written == self.content.size
            && Digest::from(self.hasher.finalize()) == self.content.digest
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn restart(&mut self) -> Result<(), Problem> {
        set_length(&self.file, 0).map_err(|error| of_fs(&error))?;
        self.hasher = blake3::Hasher::new();
        self.written = 0;
        self.resumed_from = 0;
        self.next = 0;
        self.waiting.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if self.assembly.is_none() {
            return self.write(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(due) = self.literal_due() else {
                let message = "The hub sends more literal bytes than its recipe takes";
                return Err(Problem::new(Code::ProtocolViolation, message));
            };
            let step = usize::try_from(due).unwrap_or(rest.len()).min(rest.len());
            let (now, later) = rest.split_at(step);
            self.write(now)?;
            if let Some(assembly) = &mut self.assembly {
                assembly.taken += now.len() as u64;
            }
            rest = later;
            self.copy_ahead()?;
        }
        Ok(())
    }

    /// Literal bytes that the current step still takes.
    fn literal_due(&self) -> Option<u64> {
        let assembly = self.assembly.as_ref()?;
        match assembly.recipe.entries().get(assembly.entry)? {
            RecipeEntry::Literal { length, .. } => Some(length - assembly.taken),
            RecipeEntry::Copy { .. } => None,
        }
    }

    /// Carries out steps until one needs literal bytes.
    fn copy_ahead(&mut self) -> Result<(), Problem> {
        loop {
            let Some(assembly) = &mut self.assembly else {
                return Ok(());
            };
            match assembly.recipe.entries().get(assembly.entry).copied() {
                None => return Ok(()),
                Some(RecipeEntry::Literal { length, .. }) => {
                    if assembly.taken < length {
                        return Ok(());
                    }
                    assembly.taken = 0;
                    assembly.entry += 1;
                }
                Some(RecipeEntry::Copy {
                    base_offset,
                    length,
                }) => {
                    assembly.entry += 1;
                    self.copy(base_offset, length)?;
                }
            }
        }
    }

    /// Copies from the base. Where that is shorter than it was, zeroes stand for what is missing:
    /// the hash tells at the end.
    fn copy(&mut self, from: u64, length: u64) -> Result<(), Problem> {
        let Some(assembly) = &self.assembly else {
            return Ok(());
        };
        // The file is shared, not opened anew.
        let base = assembly.base.clone();
        let end = from + length;
        let read = |at: u64, piece: &mut Vec<u8>| {
            let step = usize::try_from(end - at).unwrap_or(COPY_BYTES);
            piece.resize(step.min(COPY_BYTES), 0);
            let filled = fill_from(&base, at, piece).map_err(|error| of_fs(&error))?;
            piece[filled..].fill(0);
            Ok::<_, Problem>(())
        };
        let (mut piece, mut next) = (Vec::new(), Vec::new());
        let mut at = from;
        read(at, &mut piece)?;
        while at < end {
            at += piece.len() as u64;
            // The next is read while this one is written.
            let bytes = piece.len();
            let (written, ahead) = both(bytes, || self.write(&piece), || read(at, &mut next));
            written?;
            ahead?;
            std::mem::swap(&mut piece, &mut next);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let end = self.written + bytes.len() as u64;
        if end > self.content.size {
            let message = "The hub sends more bytes than the file has";
            return Err(Problem::new(Code::ProtocolViolation, message));
        }
        let (file, from) = (&self.file, self.written);
        let (written, _) = both(
            bytes.len(),
            || write_sparse(file, bytes, from).and_then(|()| set_length(file, end)),
            || self.hasher.update(bytes),
        );
        written.map_err(|error| of_fs(&error))?;
        self.written = end;
        let given = self.back.wrote(&self.file, bytes.len() as u64);
        given.map_err(|error| of_fs(&error))
    }
}
