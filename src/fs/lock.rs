//! A lock between processes that names its holder.
//!
//! The lock is `flock` on a file that stays; the kernel releases it when the holder dies, however
//! it dies. The text in the file is for people, and only true while the lock is held.

use super::dir::Dir;
use super::error::FsError;
use super::read::read_range;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use sync_proto::path::Name;
use thiserror::Error;

/// Of the holder's own words, no more is shown.
const MAX_HOLDER_BYTES: usize = 1024;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("Held by {holder}")]
    Held {
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The disk said no.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Lock {
    /// Takes the lock `name` in `dir`, or says at once who has it. `holder` is one line about the
    /// caller: process, task, since when.
    pub fn try_acquire(dir: &Dir, name: &Name, holder: &str) -> Result<Self, LockError> {
        let file = match dir.create_file(name, 0o600) {
            Err(error) if error.source == Errno::EXIST => dir.open_file_for_update(name)?,
            other => other?,
        };
        let failed = |op, errno| dir.error(op, name.as_bytes(), errno);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let said = read_range(&file, 0, MAX_HOLDER_BYTES)?;
                return Err(LockError::Held {
                    holder: String::from_utf8_lossy(&said).trim().to_owned(),
                });
            }
            Err(errno) => return Err(failed("lock", errno).into()),
        }
        rustix::fs::ftruncate(&file, 0).map_err(|errno| failed("write", errno))?;
        file.write_all_at(holder.as_bytes(), 0)
            .map_err(|error| FsError::from_io("write", &dir.path_of(name), &error))?;
        Ok(Self { _file: file })
    }
}
