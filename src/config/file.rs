//! Reading configuration files, and replacing them whole or not at all.

use super::ConfigError;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// LIMIT: far more than a thousand servers and sites need.
const MAX_BYTES: u64 = 8 << 20;

/// The bytes of a configuration file.
pub(super) fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, ConfigError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing {
            what,
            path: path.to_owned(),
        },
        _ => ConfigError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit_bytes: MAX_BYTES,
        });
    }
    Ok(bytes)
}

/// Replaces `path` with `bytes`, so that a reader sees the old or the new content and never
/// anything else. A symbolic link stays one: the file it means is replaced. A file that is there
/// keeps its mode, a new one gets `mode`.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ConfigError> {
    let target = resolved(path);
    let temporary = beside(&target);
    // Process ids recur: a killed process may have left its file under our name.
    let _stale = fs::remove_file(&temporary);
    let written = write_and_rename(&target, &temporary, bytes, mode);
    if written.is_err() {
        // Best effort: what is left is a hidden file that the next edit doesn't mind.
        let _gone = fs::remove_file(&temporary);
    }
    written.map_err(|source| ConfigError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Replaces `path` with what `write` puts there: the whole file under its name, or the old one. It
/// has exactly `mode`, from the first byte on.
pub(super) fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = beside(path);
    let _stale = fs::remove_file(&temporary);
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        write(&mut file)?;
        // ORDER: content before name.
        file.sync_all()?;
        rename(&temporary, path)?;
        sync_directory(path)
    })();
    if written.is_err() {
        // Best effort, as above.
        let _gone = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(target: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mode = fs::metadata(target).map_or(mode, |old| old.permissions().mode() & 0o7777);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)?;
    // The umask may have taken bits that the old file had.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    // ORDER: content before name, so that a power cut leaves one of the two files, whole.
    file.sync_all()?;
    rename(temporary, target)?;
    sync_directory(target)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the inventory lies in its owner's directory, not in a tree"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an inventory that is a link into a work tree shall stay a link"
)]
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A hidden name in the same directory, of this process alone.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Makes a directory and those above it. A private one is 0700, also if it is there already.
pub(super) fn make_directory(path: &Path, private: bool) -> Result<(), ConfigError> {
    let mode = if private { 0o700 } else { 0o755 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| match private {
            true => fs::set_permissions(path, Permissions::from_mode(0o700)),
            false => Ok(()),
        })
        .map_err(|source| ConfigError::Write {
            path: path.to_owned(),
            source,
        })
}

/// Makes a directory that nobody else lists. One that is there and passed through stays so.
pub(super) fn make_closed_directory(path: &Path) -> Result<(), ConfigError> {
    match fs::metadata(path) {
        Ok(found) => set_mode(path, found.permissions().mode() & 0o711 | 0o700),
        Err(_) => make_directory(path, true),
    }
}

/// Lets everybody pass through a directory, and list nothing of it.
pub(super) fn let_pass(path: &Path) -> Result<(), ConfigError> {
    set_mode(path, 0o711)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ConfigError> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(|source| ConfigError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.toml");
        let link = dir.path().join("link.toml");
        replace(&real, b"old", 0o640).unwrap();
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        replace(&link, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // A directory in the way: the rename fails after the content was written.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        assert!(replace(&path, b"new", 0o600).is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn what_a_killed_edit_left_behind_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(beside(&path), b"half").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_and_an_oversized_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(matches!(
            read(&path, "inventory"),
            Err(ConfigError::Missing { .. })
        ));
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(
            read(&path, "inventory"),
            Err(ConfigError::TooLarge { .. })
        ));
        assert!(matches!(
            read(dir.path(), "inventory"),
            Err(ConfigError::Read { .. })
        ));
    }
}
