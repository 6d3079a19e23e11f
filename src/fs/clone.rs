//! Copies content on one machine by the cheapest means that the file system offers: a reflink,
//! then a copy inside the kernel, then reading and writing. Holes stay holes.

use super::error::FsError;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// One call of `copy_file_range`, so that a copy can be interrupted by a signal in between.
const RANGE_BYTES: u64 = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// Zeroes in runs of whole blocks of this size aren't written.
const HOLE_BYTES: usize = 64 * 1024;

/// What a copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Length of the copy. Less than was asked for if the source ended early.
    pub len_bytes: u64,
    /// True if both files share their blocks.
    pub is_reflink: bool,
}

/// Copies the first `len` bytes of `from` into `to`, which must be empty.
///
/// The content is not looked at: whoever needs to know what it is hashes the copy.
pub fn copy_content(from: &File, to: &File, len: u64) -> Result<Copied, FsError> {
    let before = raw_stat(from)?;
    let size = u64::try_from(before.st_size).unwrap_or(0);
    let len_bytes = len.min(size);
    if len_bytes == size && size > 0 && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(Copied {
            len_bytes,
            is_reflink: true,
        });
    }
    rustix::fs::ftruncate(to, len_bytes).map_err(|errno| error("set the length of", errno))?;
    let is_sparse = u64::try_from(before.st_blocks).unwrap_or(0) * 512 < size;
    let mut reached = 0;
    while reached < len_bytes {
        let (start, end) = if is_sparse {
            match next_data(from, reached)? {
                Some((start, end)) => (start, end.min(len_bytes)),
                None => break,
            }
        } else {
            (reached, len_bytes)
        };
        if start >= len_bytes {
            break;
        }
        let copied = copy_range(from, to, start, end)?;
        reached = start + copied;
        if reached < end {
            // The source became shorter; what was set as length beyond that was never there.
            rustix::fs::ftruncate(to, reached)
                .map_err(|errno| error("set the length of", errno))?;
            return Ok(Copied {
                len_bytes: reached,
                is_reflink: false,
            });
        }
    }
    Ok(Copied {
        len_bytes,
        is_reflink: false,
    })
}

/// The next run of data at or after `offset`; `None` if only a hole follows.
fn next_data(file: &File, offset: u64) -> Result<Option<(u64, u64)>, FsError> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(error("find the data of", errno)),
    };
    rustix::fs::seek(file, SeekFrom::Hole(start))
        .map(|end| Some((start, end)))
        .map_err(|errno| error("find the holes of", errno))
}

/// Copies bytes `start..end`, and returns how many there were.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<u64, FsError> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let want = usize::try_from((end - read_at).min(RANGE_BYTES)).unwrap_or(BUFFER_BYTES);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), want);
        match copied {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) if is_refusal(errno) => {
                return copy_by_hand(from, to, read_at, end).map(|copied| read_at - start + copied);
            }
            Err(errno) => return Err(error("copy into", errno)),
        }
    }
    Ok(read_at - start)
}

/// What kernels and file systems answer when they can't copy a range themselves.
fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::PERM | Errno::TXTBSY
    )
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> Result<u64, FsError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match from.read_at(&mut buffer[..want], at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error("read", &error)),
        };
        to.write_all_at(&buffer[..count], at)
            .map_err(|error| io_error("write", &error))?;
        at += count as u64;
    }
    Ok(at - start)
}

/// Writes `content` at `offset` and leaves out long runs of zeroes. The caller sets the length at
/// the end, with [`File::set_len`], since a hole at the end doesn't; what was there before must be
/// a hole too.
pub fn write_sparse(file: &File, content: &[u8], offset: u64) -> Result<(), FsError> {
    let write = |from: usize, to: usize| {
        let run = &content[from..to];
        let written = match run.is_empty() {
            true => Ok(()),
            false => file.write_all_at(run, offset + from as u64),
        };
        written.map_err(|error| io_error("write", &error))
    };
    let (mut run, mut at) = (0, 0);
    while at < content.len() {
        // Aligned to the file, not to the piece, so that holes fall on whole blocks.
        let misaligned = usize::try_from((offset + at as u64) % HOLE_BYTES as u64).unwrap_or(0);
        let end = content.len().min(at + HOLE_BYTES - misaligned);
        let block = &content[at..end];
        if block.len() == HOLE_BYTES && is_zero(block) {
            write(run, at)?;
            run = end;
        }
        at = end;
    }
    write(run, at)
}

/// Compares sixteen bytes at a time; the first that isn't zero ends it.
fn is_zero(block: &[u8]) -> bool {
    let (wide, rest) = block.as_chunks::<16>();
    wide.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|&byte| byte == 0)
}

fn raw_stat(file: &File) -> Result<rustix::fs::Stat, FsError> {
    rustix::fs::fstat(file).map_err(|errno| error("stat", errno))
}

fn error(op: &'static str, errno: Errno) -> FsError {
    FsError::new(op, b"an open file", errno)
}

fn io_error(op: &'static str, source: &std::io::Error) -> FsError {
    FsError::from_io(op, b"an open file", source)
}
