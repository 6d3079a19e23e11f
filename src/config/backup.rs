//! A hub in one file: a tar of its inventory, key, state, secrets and lists of files, in this order:
//! what it is, the parts, and the BLAKE3 of each of them.
//!
//! Owns the format, and which platforms came out of a backup and don't know yet what was decided
//! since. Refuses a file that others can read, one that isn't whole, and a name that could lead
//! elsewhere; it checks all of it before it writes the first byte. The inventory is written last:
//! a hub that has one is complete.

use super::{ConfigError, HubDir, Inventory, file};
use crate::model::PlatformName;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The first part says what the file is.
const FIRST: &str = "fanout-hub-backup";
const VERSION: &str = "version = 1\n";
/// The last part says what the others are.
const LAST: &str = "blake3sums";
const INVENTORY: &str = "fanout.toml";
const DATABASE: &str = "state/state.sqlite";
/// LIMIT: bytes of the parts that are held in memory.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Permission bits that would let others in.
const OTHERS: u32 = 0o077;

/// Why a backup can't be written or read.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It isn't one, or not a whole one.
    #[error("{} is not a whole backup of a hub: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else may have read it.
    #[error("{} may be read by others (mode {mode:04o}), and holds the hub's key", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is something else under its name.
    #[error("{} is there already, and is no backup of a hub", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{} could not be {verb}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The inventory in it, or the files beside it.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the backup.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    path: PathBuf,
}

/// What a backup of this hub consists of; `database` is a copy that holds still. With `depot` the
/// contents of kept generations too, otherwise only the lists of their files.
///
/// # Errors
/// Something can't be listed.
pub fn parts(dir: &HubDir, database: &Path, depot: bool) -> Result<Vec<Part>, BackupError> {
    let lists = match depot {
        true => ("state/depot", dir.depot()),
        false => ("state/depot/manifests", dir.depot().join("manifests")),
    };
    let mut parts = Vec::new();
    add(&mut parts, INVENTORY.into(), dir.inventory())?;
    add(&mut parts, "certificates".into(), &dir.certificates())?;
    add(&mut parts, DATABASE.into(), database)?;
    add(&mut parts, "state/identity".into(), &dir.identity())?;
    add(&mut parts, "state/secrets".into(), &dir.secrets())?;
    add(&mut parts, lists.0.into(), &lists.1)?;
    Ok(parts)
}

/// Adds a file, or all files below a directory; hidden ones are on their way elsewhere.
fn add(parts: &mut Vec<Part>, name: String, path: &Path) -> Result<(), BackupError> {
    let listed = |source| io_error(path, "listed", source);
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(listed)?,
    };
    if metadata.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(listed)? {
            let below = entry.map_err(listed)?.file_name();
            names.extend(below.into_string().ok().filter(|it| !it.starts_with('.')));
        }
        names.sort();
        for below in names {
            add(parts, format!("{name}/{below}"), &path.join(&below))?;
        }
    } else {
        // The inventory may be a symlink into a work tree: what it means is what counts.
        let metadata = fs::metadata(path).map_err(listed)?;
        if metadata.is_file() {
            parts.push(Part {
                name,
                bytes: metadata.len(),
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

/// Writes these parts to `out`, for its owner alone: the whole file, or none. An older backup there
/// is replaced, anything else is not.
///
/// # Errors
/// A part or the file can't be read or written, or something else is there.
pub fn write(parts: &[Part], out: &Path) -> Result<u64, BackupError> {
    let written = |source| io_error(out, "written", source);
    if let Ok(there) = File::open(out) {
        let mut begin = Vec::new();
        let read = there.take(FIRST.len() as u64).read_to_end(&mut begin);
        if read.is_err() || begin != FIRST.as_bytes() {
            return Err(BackupError::InTheWay {
                path: out.to_owned(),
            });
        }
    }
    file::replace_with(out, 0o600, |file| {
        let mut tar = tar::Builder::new(BufWriter::new(file));
        let mut sums = String::new();
        append(&mut tar, FIRST, VERSION.len() as u64, VERSION.as_bytes())?;
        for part in parts {
            let sum = match File::open(&part.path) {
                // Collected meanwhile: a generation that nobody keeps any more.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && part.name.starts_with("state/depot/") =>
                {
                    continue;
                }
                opened => append(&mut tar, &part.name, part.bytes, opened?)?,
            };
            sums.push_str(&format!("{sum}  {}\n", part.name));
        }
        append(&mut tar, LAST, sums.len() as u64, sums.as_bytes())?;
        tar.into_inner()?.flush()
    })
    .map_err(written)?;
    fs::metadata(out).map(|it| it.len()).map_err(written)
}

/// Appends one part of exactly that size; returns its BLAKE3.
fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: u64,
    content: impl Read,
) -> io::Result<blake3::Hash> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    let mut content = Hashing {
        inner: content.take(bytes),
        hasher: blake3::Hasher::new(),
        read_bytes: 0,
    };
    tar.append_data(&mut header, name, &mut content)?;
    match content.read_bytes == bytes {
        true => Ok(content.hasher.finalize()),
        false => Err(io::Error::other(format!("{name} became shorter"))),
    }
}

struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
    read_bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read_bytes += count as u64;
        Ok(count)
    }
}

/// A backup that is whole, opened.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    file: File,
    inventory: String,
    /// Name and size of every part.
    pub parts: Vec<(String, u64)>,
}

impl Backup {
    /// Opens a backup and checks all of it.
    ///
    /// # Errors
    /// Others can read it, or it isn't whole.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| io_error(path, "read", source);
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(BackupError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut backup = Self {
            path: path.to_owned(),
            file,
            inventory: String::new(),
            parts: Vec::new(),
        };
        let (mut parts, mut inventory) = (Vec::new(), String::new());
        backup.each(|name, bytes, content| {
            parts.push((name.to_owned(), bytes));
            match name {
                INVENTORY => content.read_to_string(&mut inventory).map(drop),
                _ => io::copy(content, &mut io::sink()).map(drop),
            }
        })?;
        for needed in [INVENTORY, DATABASE, "state/identity/key.pem"] {
            if !parts.iter().any(|(name, _)| name == needed) {
                return Err(backup.damaged(format!("it has no {needed}")));
            }
        }
        // A hub that can't read its inventory is none.
        Inventory::parse(&inventory, INVENTORY).map_err(ConfigError::from)?;
        (backup.parts, backup.inventory) = (parts, inventory);
        Ok(backup)
    }

    /// Makes `dir` the hub that the backup is of. May be repeated after it was interrupted.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn unpack(&self, dir: &HubDir) -> Result<(), BackupError> {
        dir.create()?;
        file::replace(&dir.restoring(), b"", 0o600)?;
        self.each(|name, _, content| match target(dir, name) {
            Some((path, mode)) => write_part(&path, mode, content),
            None => io::copy(content, &mut io::sink()).map(drop),
        })?;
        let inventory = Inventory::parse(&self.inventory, INVENTORY).map_err(ConfigError::from)?;
        // ORDER: what isn't known is known before there is a hub that could decide anything.
        save(dir, &inventory.platforms.keys().cloned().collect())?;
        file::replace(dir.inventory(), self.inventory.as_bytes(), 0o644)?;
        let marker = dir.restoring();
        fs::remove_file(&marker).map_err(|source| io_error(&marker, "removed", source))
    }

    /// Hands every part to `take`, and checks that it is what was saved.
    fn each(
        &self,
        mut take: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), BackupError> {
        let why = |error: &io::Error| self.damaged(error.to_string());
        let mut file = &self.file;
        file.rewind().map_err(|error| why(&error))?;
        let mut tar = tar::Archive::new(BufReader::new(file));
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut sums = None;
        for (nth, entry) in tar.entries().map_err(|error| why(&error))?.enumerate() {
            let mut entry = entry.map_err(|error| why(&error))?;
            let name = String::from_utf8(entry.path_bytes().into_owned()).ok();
            let name = name.filter(|name| is_plain(name) && entry.header().entry_type().is_file());
            let name = name.ok_or_else(|| self.damaged("it holds an odd name".into()))?;
            let bytes = entry.size();
            if (name == FIRST) != (nth == 0) || sums.is_some() {
                return Err(self.damaged("its parts are not in order".into()));
            }
            if name == FIRST || name == LAST {
                let mut text = String::new();
                let read = entry.take(MAX_TEXT_BYTES).read_to_string(&mut text);
                read.map_err(|error| why(&error))?;
                match name == FIRST {
                    true if text != VERSION => {
                        return Err(self.damaged("a newer fanout wrote it".into()));
                    }
                    true => {}
                    false => sums = Some(text),
                }
                continue;
            }
            let mut content = Hashing {
                inner: &mut entry,
                hasher: blake3::Hasher::new(),
                read_bytes: 0,
            };
            take(&name, bytes, &mut content).map_err(|error| why(&error))?;
            let sum = content.hasher.finalize().to_string();
            if content.read_bytes != bytes || found.insert(name.clone(), sum).is_some() {
                return Err(self.damaged(format!("{name} is not whole")));
            }
        }
        let sums = sums.ok_or_else(|| self.damaged("its end is missing".into()))?;
        let saved: BTreeMap<String, String> = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
            .collect();
        match found
            .iter()
            .find(|(name, sum)| saved.get(*name) != Some(*sum))
        {
            Some((name, _)) => Err(self.damaged(format!("{name} is not what was saved"))),
            None if saved.len() != found.len() => Err(self.damaged("a part is missing".into())),
            None => Ok(()),
        }
    }

    fn damaged(&self, why: String) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            why,
        }
    }
}

/// Names below the place that they are unpacked to, and nowhere else.
fn is_plain(name: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    name.split('/').all(is_name)
}

/// Where a part goes, with its mode; `None` for the inventory, which comes last, and for what this
/// version doesn't know.
fn target(dir: &HubDir, name: &str) -> Option<(PathBuf, u32)> {
    if let Some(name) = name.strip_prefix("certificates/") {
        return Some((dir.certificates().join(name), 0o644));
    }
    let below = name.strip_prefix("state/")?;
    let mode = if below == "identity/cert.pem" {
        0o644
    } else {
        0o600
    };
    Some((dir.state().join(below), mode))
}

fn write_part(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    let is_private = mode & OTHERS == 0;
    if let Some(parent) = path.parent() {
        file::make_directory(parent, is_private).map_err(io::Error::other)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut out = options.open(path)?;
    out.set_permissions(Permissions::from_mode(mode))?;
    io::copy(content, &mut out)?;
    out.sync_all()
}

/// Platforms whose state came out of a backup, and was not yet compared with what their members
/// know: about them this hub may know less than it decided.
///
/// # Errors
/// The list is there and can't be read.
pub fn restored(dir: &HubDir) -> Result<BTreeSet<PlatformName>, ConfigError> {
    let bytes = match file::read(&dir.restored(), "list of restored platforms") {
        Err(ConfigError::Missing { .. }) => return Ok(BTreeSet::new()),
        other => other?,
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Notes that a platform's members were all asked.
///
/// # Errors
/// The list can't be written.
pub fn recovered(dir: &HubDir, platform: &PlatformName) -> Result<(), ConfigError> {
    let mut left = restored(dir)?;
    match left.remove(platform) {
        true => save(dir, &left),
        false => Ok(()),
    }
}

/// Notes that what a platform's members know is not all known here.
///
/// # Errors
/// The list can't be read or written.
pub fn outdated(dir: &HubDir, platform: &PlatformName) -> Result<(), ConfigError> {
    let mut all = restored(dir)?;
    match all.insert(platform.clone()) {
        true => save(dir, &all),
        false => Ok(()),
    }
}

fn save(dir: &HubDir, platforms: &BTreeSet<PlatformName>) -> Result<(), ConfigError> {
    let lines: String = platforms.iter().map(|name| format!("{name}\n")).collect();
    file::replace(&dir.restored(), lines.as_bytes(), 0o600)
}

fn io_error(path: &Path, verb: &'static str, source: io::Error) -> BackupError {
    BackupError::Io {
        path: path.to_owned(),
        verb,
        source,
    }
}

#[cfg(test)]
mod tests;
