//! Files of the machine's own, which its administrator may reach through symbolic links: the
//! configuration of a web server, `/proc`, pid files. Read only, but for one file that is replaced
//! beside its neighbours; nothing here touches a tree.

use super::dir::Dir;
use super::durable::write_atomically;
use super::error::FsError;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// LIMIT: the largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

fn failed(op: &'static str, path: &Path) -> impl Fn(std::io::Error) -> FsError {
    let path = path.as_os_str().as_bytes().to_vec();
    move |error| FsError::from_io(op, &path, &error)
}

/// The text of a file; what isn't UTF-8 in it is replaced.
///
/// # Errors
/// It isn't there, can't be read, or is larger than 4 MiB.
pub fn read_text(path: &Path) -> Result<String, FsError> {
    let failed = failed("read", path);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(&failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(&failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FsError::new(
            "read",
            path.as_os_str().as_bytes(),
            Errno::FBIG,
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a file from this offset on, at most 64 KiB of it; empty if there is none.
pub fn read_end(path: &Path, from: u64) -> String {
    use std::io::{Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(64 << 10).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The size of a file; 0 if there is none.
pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

/// What tells one writing of a file from the next: its inode and the time of its last change.
pub fn stamp(path: &Path) -> Option<(u64, i64, i64)> {
    let stat = fs::metadata(path).ok()?;
    Some((stat.ino(), stat.ctime(), stat.ctime_nsec()))
}

/// The permission bits and the group of a file or directory.
pub fn mode_and_group(path: &Path) -> Option<(u32, u32)> {
    let stat = fs::metadata(path).ok()?;
    Some((stat.mode() & 0o7777, stat.gid()))
}

/// Is there anything of that name?
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// The names in a directory, sorted; none if there is no such directory.
pub fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Where a path leads, all symbolic links followed; `None` if it leads nowhere.
#[expect(
    clippy::disallowed_methods,
    reason = "what a web server will find is the question here"
)]
pub fn resolved(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// What a symbolic link says.
pub fn link(path: &Path) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

/// Makes one directory where it is missing.
///
/// # Errors
/// What the disk says.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    let (dir, name) = Dir::open_parent_of(path)?;
    dir.create_dir_if_absent(&name, mode).map(drop)
}

/// Replaces or creates one file durably.
///
/// # Errors
/// What the disk says.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FsError> {
    let (dir, name) = Dir::open_parent_of(path)?;
    write_atomically(&dir, &name, content, mode)
}

/// Gives an open file to root and a group, with exactly this mode.
///
/// # Errors
/// What the disk says; an ordinary user may not.
pub fn give_to_group(file: &File, gid: u32, mode: u32) -> Result<(), FsError> {
    let failed = |errno| FsError::new("give away", b"an open file", errno);
    let (root, group) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(file, Some(root), Some(group)).map_err(failed)?;
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode)).map_err(failed)
}

/// Removes one file; it is no error if it isn't there.
///
/// # Errors
/// What the disk says.
pub fn remove(path: &Path) -> Result<(), FsError> {
    let (dir, name) = Dir::open_parent_of(path)?;
    super::error::absent_is_fine(dir.unlink(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_through_a_link_and_its_end_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real"), "one\ntwo\n").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        assert_eq!(read_text(&dir.path().join("link")).unwrap(), "one\ntwo\n");
        assert_eq!(read_end(&dir.path().join("link"), 4), "two\n");
        assert_eq!(read_end(&dir.path().join("none"), 0), "");
        assert_eq!(names(dir.path()), ["link", "real"]);
        assert!(
            read_text(&dir.path().join("none"))
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn a_file_written_anew_has_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        replace(&path, b"1", 0o644).unwrap();
        let first = stamp(&path);
        replace(&path, b"1", 0o644).unwrap();
        assert_ne!(first, stamp(&path));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(stamp(&path), None);
    }
}
