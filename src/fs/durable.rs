//! Small files that must be whole or absent after any crash: records, indexes, state.
//!
//! `write_atomically` replaces a file so that at every moment, and after power loss at every
//! moment, its name holds either the whole old or the whole new content. `write_checked` adds a
//! BLAKE3 trailer, which `read_checked` demands: for what a disk may have damaged since.

use super::dir::Dir;
use super::error::FsError;
use super::fault;
use super::read::{ReadError, read_small};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use sync_proto::digest::Digest;
use sync_proto::path::{Name, escape};
use thiserror::Error;

const TRAILER_BYTES: usize = 32;

/// Why a checked file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckedError {
    /// It was read, and isn't what was written.
    #[error("`{path}` is damaged: its checksum doesn't match")]
    Damaged {
        /// The path, escaped.
        path: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Replaces or creates the file `name` durably. On an error the old content is still there, or
/// (after the rename) the new one, but perhaps not durably.
pub fn write_atomically(dir: &Dir, name: &Name, content: &[u8], mode: u32) -> Result<(), FsError> {
    write_atomically_with(dir, name, mode, |file| file.write_all(content))
}

/// The same, for content that is written in pieces.
pub fn write_atomically_with(
    dir: &Dir,
    name: &Name,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FsError> {
    fault::point("durable.create")?;
    let (scratch, file) = dir.create_scratch_file(mode)?;
    let replaced = fill(dir, &scratch, file, write).and_then(|()| {
        fault::point("durable.rename")?;
        // ORDER: the content is durable before it gets its name.
        dir.rename_to(&scratch, dir, name)
    });
    if let Err(error) = replaced {
        // The first error counts; what stays behind is removed with the next scratch files.
        let _left_behind = dir.unlink(&scratch);
        return Err(error);
    }
    fault::point("durable.sync_dir")?;
    // ORDER: the name is durable before anybody is told.
    dir.sync()
}

fn fill(
    dir: &Dir,
    scratch: &Name,
    mut file: File,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FsError> {
    let failed = |op, error: &io::Error| FsError::from_io(op, &dir.path_of(scratch), error);
    fault::point("durable.write")?;
    write(&mut file).map_err(|error| failed("write", &error))?;
    fault::point("durable.sync")?;
    file.sync_all().map_err(|error| failed("sync", &error))?;
    #[cfg(test)]
    super::power::synced_file(&file);
    Ok(())
}

/// Writes over the beginning of a file that is there, durably. Not atomic, so only for content that
/// says itself whether it is whole; but where the length stays, it costs no metadata: one write to
/// the disk, where [`write_atomically`] costs two commits of the file system's journal.
pub fn overwrite(dir: &Dir, name: &Name, content: &[u8]) -> Result<(), FsError> {
    let file = dir.open_file_for_update(name)?;
    let failed = |op, error: &io::Error| FsError::from_io(op, &dir.path_of(name), error);
    fault::point("durable.overwrite")?;
    file.write_all_at(content, 0)
        .map_err(|error| failed("write", &error))?;
    fault::point("durable.overwrite.sync")?;
    file.sync_data().map_err(|error| failed("sync", &error))?;
    #[cfg(test)]
    super::power::synced_file(&file);
    Ok(())
}

/// [`write_atomically`] with a checksum.
pub fn write_checked(dir: &Dir, name: &Name, content: &[u8], mode: u32) -> Result<(), FsError> {
    let whole = [content, Digest::of(content).as_bytes()].concat();
    write_atomically(dir, name, &whole, mode)
}

/// Reads what [`write_checked`] wrote; `None` if there is no such file.
///
/// # Errors
/// [`CheckedError::Damaged`] if a single bit differs; a file over `limit_bytes` isn't read at all.
pub fn read_checked(
    dir: &Dir,
    name: &Name,
    limit_bytes: u64,
) -> Result<Option<Vec<u8>>, CheckedError> {
    let limit_bytes = limit_bytes.saturating_add(TRAILER_BYTES as u64);
    if dir.stat(name).map_err(ReadError::Io)?.is_none() {
        return Ok(None);
    }
    let (mut whole, _) = read_small(dir, name, None, limit_bytes)?;
    let damaged = || CheckedError::Damaged {
        path: escape(&dir.path_of(name)),
    };
    let (content, trailer) = whole
        .split_last_chunk::<TRAILER_BYTES>()
        .ok_or_else(damaged)?;
    if Digest::of(content).as_bytes() != trailer {
        return Err(damaged());
    }
    whole.truncate(whole.len() - TRAILER_BYTES);
    Ok(Some(whole))
}
