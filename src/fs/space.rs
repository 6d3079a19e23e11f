//! How much fits on a file system, and whether a rename between two directories works.

use super::dir::Dir;
use super::error::{FsError, absent_is_fine};
use sync_proto::path::Name;

/// What is left for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary user may still write; the reserve of root is not counted.
    pub free_bytes: u64,
    /// Inodes that may still be made; `None` where the file system makes them as needed.
    pub free_inodes: Option<u64>,
    /// Size of a block: a small file takes at least one.
    pub block_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
    /// How many inodes it can have; 0 where it makes them as needed.
    pub total_inodes: u64,
}

/// Asks the file system that holds `dir`.
pub fn space(dir: &Dir) -> Result<Space, FsError> {
    let raw = rustix::fs::fstatvfs(dir)
        .map_err(|errno| dir.error("ask for the free space of", b"", errno))?;
    Ok(Space {
        free_bytes: raw.f_bavail.saturating_mul(raw.f_frsize),
        free_inodes: (raw.f_files > 0).then_some(raw.f_favail),
        block_bytes: raw.f_frsize.max(1),
        total_bytes: raw.f_blocks.saturating_mul(raw.f_frsize),
        total_inodes: raw.f_files,
    })
}

/// Proves by doing it that an entry can be exchanged between `a` and `b`, and renamed there without
/// replacing and back: device numbers don't tell, since bind mounts of one device refuse it.
///
/// # Errors
/// What refused: [`FsError::is_other_mount`] for two mounts, `EINVAL` for a file system that
/// can't exchange names.
pub fn trial_rename(a: &Dir, b: &Dir) -> Result<(), FsError> {
    let (ours, _file) = a.create_scratch_file(0o600)?;
    let outcome = match b.create_scratch_file(0o600) {
        Ok((theirs, _file)) => {
            let outcome = there_and_back(a, &ours, b, &theirs);
            outcome.and(absent_is_fine(b.unlink(&theirs)))
        }
        Err(error) => Err(error),
    };
    outcome.and(absent_is_fine(a.unlink(&ours)))
}

fn there_and_back(a: &Dir, ours: &Name, b: &Dir, theirs: &Name) -> Result<(), FsError> {
    a.exchange(ours, b, theirs)?;
    b.unlink(theirs)?;
    a.rename_noreplace(ours, b, theirs)?;
    b.rename_to(theirs, a, ours)
}
