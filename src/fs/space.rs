//! How much fits on a file system, and whether a rename between two directories works.

use super::dir::Dir;
use super::error::FsError;

/// What is left for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary user may still write; the reserve of root is not counted.
    pub free_bytes: u64,
    /// Inodes that may still be made; `None` where the file system makes them as needed.
    pub free_inodes: Option<u64>,
    /// Size of a block: a small file takes at least one.
    pub block_bytes: u64,
}

/// Asks the file system that holds `dir`.
pub fn space(dir: &Dir) -> Result<Space, FsError> {
    let raw = rustix::fs::fstatvfs(dir)
        .map_err(|errno| dir.error("ask for the free space of", b"", errno))?;
    Ok(Space {
        free_bytes: raw.f_bavail.saturating_mul(raw.f_frsize),
        free_inodes: (raw.f_files > 0).then_some(raw.f_favail),
        block_bytes: raw.f_frsize.max(1),
    })
}

/// Proves by doing it that an entry can be renamed from `a` to `b` and back, exchanged, and
/// replaced by none: device numbers don't tell, since bind mounts of one device refuse it.
///
/// # Errors
/// What refused: [`FsError::is_other_mount`] for two mounts, `EINVAL` for a file system that
/// can't exchange names.
pub fn trial_rename(a: &Dir, b: &Dir) -> Result<(), FsError> {
    let (ours, _file) = a.create_scratch_file(0o600)?;
    let outcome = there_and_back(a, b, &ours);
    // Whatever failed, no trace stays in either.
    for dir in [a, b] {
        match dir.unlink(&ours) {
            Err(error) if !error.is_not_found() && outcome.is_ok() => return Err(error),
            _ => {}
        }
    }
    outcome
}

fn there_and_back(a: &Dir, b: &Dir, ours: &sync_proto::path::Name) -> Result<(), FsError> {
    let (theirs, _file) = b.create_scratch_file(0o600)?;
    let moved = a
        .rename_noreplace(ours, b, ours)
        .and_then(|()| b.rename_to(ours, a, ours))
        .and_then(|()| a.exchange(ours, b, &theirs));
    b.unlink(&theirs)?;
    moved
}
