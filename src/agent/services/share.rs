//! Shares that are mounted on this server: what is mounted where, and the word by which several
//! servers prove that theirs is the same.
//!
//! Refuses to write where nothing is mounted, and where the system itself lies.

use super::super::trees::Trees;
use super::app::user_ids;
use crate::codes::{Code, Problem};
use crate::engine::member::refusal::of_fs;
use crate::fs::durable::write_atomically;
use crate::fs::read::read_range;
use crate::fs::{Dir, FsError};
use crate::model::AbsPath;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sync_proto::path::{Name, escape};
use sync_proto::wire::service::{MountFacts, UploadAnswer};

/// LIMIT: bytes of the list of mounts.
const MOUNTS_BYTES: usize = 4 << 20;

/// Where no administrator mounts a share, and the system itself mounts much.
const SYSTEM: [&str; 13] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/fanout",
];

/// What is mounted at a path.
pub(super) fn mounted(trees: &Trees, path: &[u8], user: &str) -> Result<UploadAnswer, Problem> {
    let path = real(trees, path)?;
    let (uid, gid) = user_ids(user)?;
    let mut facts = mount_at(&mounts()?, &path).unwrap_or_default();
    (facts.uid, facts.gid) = (uid, gid);
    Ok(UploadAnswer::Mounted(facts))
}

/// Leaves a word in the share.
pub(super) fn leave(trees: &Trees, path: &[u8], nonce: [u8; 16]) -> Result<UploadAnswer, Problem> {
    let (share, _) = share(trees, path)?;
    write_atomically(&share, &file_name(nonce)?, &nonce, 0o644).map_err(|error| of_fs(&error))?;
    Ok(UploadAnswer::Done)
}

/// Looks for a word in the share.
pub(super) fn find(
    trees: &Trees,
    path: &[u8],
    nonce: [u8; 16],
    take: bool,
) -> Result<UploadAnswer, Problem> {
    let (share, _) = share(trees, path)?;
    let name = file_name(nonce)?;
    let found = match share.open_file(&name) {
        Ok(file) => read_range(&file, 0, nonce.len()).is_ok_and(|there| there == nonce),
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(of_fs(&error)),
    };
    if take && found {
        share.unlink(&name).map_err(|error| of_fs(&error))?;
    }
    Ok(UploadAnswer::Found { found })
}

/// The share and its path as programs here see it, if something is mounted there.
pub(super) fn share(trees: &Trees, path: &[u8]) -> Result<(Dir, PathBuf), Problem> {
    let named = named(path)?;
    let is_system = |dir: &&&str| named.as_path().starts_with(dir);
    if let Some(dir) = SYSTEM.iter().find(is_system) {
        let message = format!("No share lies at {named}: {dir} belongs to the system itself");
        return Err(Problem::new(Code::ShareWrong, message));
    }
    let path = trees.real(&named);
    if mount_at(&mounts()?, &path).is_none() {
        let message = format!("Nothing is mounted at {}", path.display());
        return Err(Problem::new(Code::ShareWrong, message));
    }
    let dir = Dir::open_absolute(&path).map_err(|error| of_fs(&error))?;
    Ok((dir, path))
}

fn real(trees: &Trees, path: &[u8]) -> Result<PathBuf, Problem> {
    Ok(trees.real(&named(path)?))
}

fn named(path: &[u8]) -> Result<AbsPath, Problem> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        Problem::from_error(Code::PathNotAllowed, error)
    };
    let text = std::str::from_utf8(path).map_err(|error| refused(&error))?;
    text.parse().map_err(|error| refused(&error))
}

fn file_name(nonce: [u8; 16]) -> Result<Name, Problem> {
    let text = format!(".fanout-share-{}", data_encoding::HEXLOWER.encode(&nonce));
    Name::parse(text.as_bytes()).map_err(|error| Problem::from_error(Code::Bug, &error))
}

fn mounts() -> Result<String, Problem> {
    let dir = Dir::open_absolute(Path::new("/proc/thread-self")).map_err(|error| of_fs(&error))?;
    let name = Name::parse(b"mountinfo").map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let read = |dir: &Dir| -> Result<Vec<u8>, FsError> {
        let file = dir.open_file(&name)?;
        read_range(&file, 0, MOUNTS_BYTES)
    };
    let bytes = read(&dir).map_err(|error| of_fs(&error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The uppermost mount at exactly this path, by the kernel's own list (`proc_pid_mountinfo(5)`).
fn mount_at(mounts: &str, path: &Path) -> Option<MountFacts> {
    // Of several at one path the last one is seen.
    mounts.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let point = unescaped(fields.nth(4)?);
        if point != path {
            return None;
        }
        let options = fields.next()?;
        let mut after = after.split(' ');
        let kind = after.next()?.to_owned();
        let source = unescaped(after.next()?);
        let further = after.next().unwrap_or_default();
        let is_read_only = options
            .split(',')
            .chain(further.split(','))
            .any(|it| it == "ro");
        Some(MountFacts {
            is_mount_point: true,
            kind,
            source: escape(source.as_os_str().as_bytes()),
            is_read_only,
            uid: 0,
            gid: 0,
        })
    })
}

/// A field with blanks and the like as octal escapes.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let number = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match number {
            Some(number) => {
                bytes.push(number);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
36 35 98:0 / /mnt/files rw,noatime shared:1 - nfs4 db1:/export rw,vers=4.1
37 35 0:50 / /mnt/two\\040words ro - ext4 /dev/vdb rw
38 35 0:51 / /mnt/files ro - tmpfs tmpfs rw
39 35 0:52 / /mnt/files/below rw - nfs db2:/x rw
";

    #[test]
    fn what_is_mounted_last_at_exactly_that_path_counts() {
        let at = |path: &str| mount_at(LINES, Path::new(path));
        let files = at("/mnt/files").unwrap();
        assert_eq!((files.kind.as_str(), files.is_read_only), ("tmpfs", true));
        let words = at("/mnt/two words").unwrap();
        assert_eq!(
            (words.kind.as_str(), words.source.as_str()),
            ("ext4", "/dev/vdb")
        );
        assert!(words.is_read_only);
        assert!(at("/mnt").is_none());
        assert!(at("/mnt/files/below/further").is_none());
        assert!(!at("/mnt/files/below").unwrap().is_read_only);
    }
}
