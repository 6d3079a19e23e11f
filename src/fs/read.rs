//! Reading content that others may be writing.
//!
//! A file's metadata is taken before and after it is read; if the two differ, or the bytes are not as
//! many as the size says, what was read is torn and is never returned.
//!
//! RACE: a writer who changes bytes within one tick of the file system's clock, keeps the size, and
//! changed it before in the same tick, leaves no trace. [`is_settled`] is the rule for what may be
//! remembered about such a file.

use super::dir::Dir;
use super::error::FsError;
use super::stat::Stat;
use rustix::fs::Advice;
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use sync_proto::digest::Digest;
use sync_proto::entry::Time;
use sync_proto::path::{Name, escape};
use thiserror::Error;

/// One read; most files of a web platform fit.
const BUFFER_BYTES: usize = 256 * 1024;
/// One read of a file that is hashed by several cores.
const LARGE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// From this size on, sharing a hash between cores and telling the kernel to read ahead pays off.
const LARGE_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Two ticks of the slowest kernel clock (100 Hz) that stamps files with nanoseconds.
const TWO_TICKS_NANOS: i128 = 20_000_000;
/// Two ticks of a file system that stores whole seconds.
const TWO_SECONDS_NANOS: i128 = 2_000_000_000;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// It isn't the file any more that the caller knew, or it changed while it was read.
    #[error("`{path}` changed while it was read")]
    Changed {
        /// The name, escaped.
        path: String,
    },
    /// It is gone, or something else bears its name.
    #[error("`{path}` vanished")]
    Vanished {
        /// The name, escaped.
        path: String,
    },
    /// It is larger than the caller wants to hold.
    #[error("`{path}` is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The name, escaped.
        path: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] FsError),
}

/// A file's hash with the metadata that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Taken before and after reading; both were the same.
    pub stat: Stat,
}

/// Hashes `name`, which must still be the file that `expected` describes (inode, size, mtime,
/// ctime).
pub fn hash_file(dir: &Dir, name: &Name, expected: &Stat) -> Result<Hashed, ReadError> {
    Opened::open(dir, name)?.hash(expected)
}

/// A file that was opened to be read once, as the file that a look has seen.
///
/// One `fstat`, after reading, is enough: if it says what the look said before, nothing changed in
/// between.
#[derive(Debug)]
pub struct Opened<'a> {
    dir: &'a Dir,
    name: &'a Name,
    file: File,
}

impl<'a> Opened<'a> {
    /// Opens `name`, which is not looked at.
    pub fn open(dir: &'a Dir, name: &'a Name) -> Result<Self, ReadError> {
        let file = dir.open_unproved_quietly(name).map_err(opening)?;
        Ok(Self { dir, name, file })
    }

    /// Hashes the content; it must be that of the file which `expected` describes.
    pub fn hash(&self, expected: &Stat) -> Result<Hashed, ReadError> {
        let mut hasher = blake3::Hasher::new();
        let is_large = expected.size >= LARGE_FILE_BYTES;
        self.feed(expected, |piece| {
            if is_large {
                hasher.update_rayon(piece);
            } else {
                hasher.update(piece);
            }
        })?;
        Ok(Hashed {
            digest: hasher.finalize().into(),
            stat: *expected,
        })
    }

    /// The content; it must be that of the file which `expected` describes.
    pub fn read(&self, expected: &Stat) -> Result<Vec<u8>, ReadError> {
        let mut content = Vec::with_capacity(usize::try_from(expected.size).unwrap_or(0));
        self.feed(expected, |piece| content.extend_from_slice(piece))?;
        Ok(content)
    }

    /// The content, piece by piece. What was taken counts only if no error is returned: it must be
    /// that of the file which `expected` describes.
    pub fn feed(&self, expected: &Stat, take: impl FnMut(&[u8])) -> Result<(), ReadError> {
        read_whole(self.dir, self.name, &self.file, expected, take)
    }

    /// An error about this file.
    pub(super) fn error(&self, op: &'static str, errno: Errno) -> FsError {
        self.dir.error(op, self.name.as_bytes(), errno)
    }
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn opening(error: FsError) -> ReadError {
    // A file that became a directory, symlink or pipe isn't there as a file any more.
    if error.is_not_found() || error.is_wrong_kind() {
        ReadError::Vanished {
            path: error.path.clone(),
        }
    } else {
        ReadError::Io(error)
    }
}

/// Reads the content of `name`, at most `limit_bytes`. With `expected` it must still be that file.
pub fn read_small(
    dir: &Dir,
    name: &Name,
    expected: Option<&Stat>,
    limit_bytes: u64,
) -> Result<(Vec<u8>, Stat), ReadError> {
    let (file, stat) = open_expected(dir, name, expected)?;
    if stat.size > limit_bytes {
        return Err(ReadError::TooLarge {
            path: shown(dir, name),
            limit_bytes,
        });
    }
    let mut content = Vec::with_capacity(usize::try_from(stat.size).unwrap_or(0));
    read_whole(dir, name, &file, &stat, |piece| {
        content.extend_from_slice(piece);
    })?;
    Ok((content, stat))
}

/// Reads `len` bytes at `offset`; fewer only at the end of the file.
pub fn read_range(file: &File, offset: u64, len: usize) -> Result<Vec<u8>, FsError> {
    let mut content = vec![0; len];
    let filled = fill_from(file, offset, &mut content)?;
    content.truncate(filled);
    Ok(content)
}

/// Reads into `buffer` what lies at `offset`, and returns how much that is; less than all of it only
/// at the end of the file.
pub fn fill_from(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::from_io("read", b"an open file", &error)),
        }
    }
    Ok(filled)
}

fn open_expected(
    dir: &Dir,
    name: &Name,
    expected: Option<&Stat>,
) -> Result<(File, Stat), ReadError> {
    let (file, stat) = dir.open_file_quietly(name).map_err(opening)?;
    if expected.is_some_and(|expected| !expected.same_content_stamp(&stat)) {
        return Err(changed(dir, name));
    }
    Ok((file, stat))
}

/// Feeds the whole file to `take`, and fails if it didn't hold still.
fn read_whole(
    dir: &Dir,
    name: &Name,
    file: &File,
    before: &Stat,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    let io = |errno| ReadError::Io(dir.error("read", name.as_bytes(), errno));
    let buffer_bytes = if before.size >= LARGE_FILE_BYTES {
        // Advice only: a file system that takes none still reads.
        let _advised = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        LARGE_BUFFER_BYTES
    } else {
        BUFFER_BYTES
    };
    // Taken out of its cell while it is used: `take` may run other work of the same pool, which
    // may come back here on this thread.
    let mut buffer = BUFFER.take();
    if buffer.len() < buffer_bytes {
        buffer.resize(buffer_bytes, 0);
    }
    let mut read_bytes: u64 = 0;
    let outcome = loop {
        match rustix::io::read(file, &mut buffer[..buffer_bytes]) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                read_bytes += count as u64;
                if read_bytes > before.size {
                    break Err(changed(dir, name));
                }
                take(&buffer[..count]);
                // A short read that ends at the known size is the end of a regular file.
                if read_bytes == before.size && count < buffer_bytes {
                    break Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => break Err(io(errno)),
        }
    };
    buffer.truncate(BUFFER_BYTES);
    buffer.shrink_to(BUFFER_BYTES);
    BUFFER.set(buffer);
    let after = Stat::of(file).map_err(io)?;
    // First, because something else that bears the name fails in its own way.
    if !after.is_file() {
        let path = shown(dir, name);
        return Err(ReadError::Vanished { path });
    }
    if !after.same_content_stamp(before) {
        return Err(changed(dir, name));
    }
    outcome?;
    if read_bytes == before.size {
        Ok(())
    } else {
        Err(changed(dir, name))
    }
}

fn changed(dir: &Dir, name: &Name) -> ReadError {
    ReadError::Changed {
        path: shown(dir, name),
    }
}

fn shown(dir: &Dir, name: &Name) -> String {
    escape(&super::error::joined(
        dir.path_for_messages(),
        name.as_bytes(),
    ))
}

/// The clock that stamps files, which is not the clock that programs read: it ticks more slowly,
/// and on a network it is another machine's.
#[derive(Debug)]
pub struct FsClock {
    scratch: File,
    path: Box<[u8]>,
}

impl FsClock {
    /// Opens the clock of the file system that holds `dir`, by a nameless file in it.
    pub fn open(dir: &Dir) -> Result<Self, FsError> {
        Ok(Self {
            scratch: dir.create_nameless_file()?,
            path: dir.path_for_messages().into(),
        })
    }

    /// What the file system would write as the time of a change made now.
    pub fn now(&self) -> Result<Time, FsError> {
        let error = |errno| FsError::new("read the clock of", &self.path, errno);
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::futimens(&self.scratch, &times).map_err(error)?;
        Ok(Stat::of(&self.scratch).map_err(error)?.ctime)
    }
}

/// The racy-clean rule: true if a file whose last change was at `ctime` may have its hash
/// remembered, `now` being [`FsClock::now`] from before it was read. A later change then can't
/// carry the same stamp.
pub fn is_settled(ctime: Time, now: Time) -> bool {
    // A stamp of a whole second is either one in a billion or a file system without nanoseconds.
    let margin = if ctime.nanoseconds == 0 {
        TWO_SECONDS_NANOS
    } else {
        TWO_TICKS_NANOS
    };
    nanos(now) - nanos(ctime) > margin
}

fn nanos(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}
