//! Where configuration sets lie.
//!
//! ```text
//! SERVICES/current -> sets/ID     the live set; web servers include from here
//! SERVICES/sets/none/             no files: what `current` leads to before the first set
//! SERVICES/sets/ID/AREA/NAME      a set: record (what was put), generation and *.generation (its
//!                                 id, as web servers serve it), apache.roots
//! SERVICES/sets/ID.test/          the same with paths of its own, while it is tested
//! SERVICES/data/                  what outlives sets
//! SERVICES/pending                a set that waits for its confirmation
//! SERVICES/owner                  the hub that the sets belong to
//! ```
//!
//! Invariant: `current` leads to a whole set at every moment; it is replaced by one rename.

use crate::codes::{Code, Problem};
use crate::engine::member::refusal::{of_checked, of_fs};
use crate::fs::durable::{read_checked, write_checked};
use crate::fs::{Dir, FsError, system};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sync_proto::digest::Digest;
use sync_proto::path::Name;
use sync_proto::wire::service::{ConfigArea, ConfigSetId};

/// The directory without files.
const NONE: &str = "none";
/// LIMIT: bytes of a record.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The directories of sets and of data.
#[derive(Clone, Debug)]
pub(in crate::agent::services) struct Place {
    root: PathBuf,
}

/// What is known about a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent::services) struct Record {
    pub(in crate::agent::services) files: Vec<Recorded>,
    /// Its test found no fault.
    pub(in crate::agent::services) is_tested: bool,
    /// When it went live first, in seconds since 1970; 0: never.
    pub(in crate::agent::services) activated_s: u64,
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent::services) struct Recorded {
    pub(in crate::agent::services) area: ConfigArea,
    pub(in crate::agent::services) name: String,
    pub(in crate::agent::services) group: String,
    pub(in crate::agent::services) digest: Digest,
}

/// A set that is live and not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent::services) struct Pending {
    pub(in crate::agent::services) set: ConfigSetId,
    pub(in crate::agent::services) previous: Option<ConfigSetId>,
    /// Seconds since 1970 after which it is reverted; 0: it is being activated.
    pub(in crate::agent::services) until_s: u64,
}

pub(in crate::agent::services) fn hex(set: &ConfigSetId) -> String {
    set.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<ConfigSetId> {
    let bytes = text.as_bytes();
    if bytes.len() != 32 {
        return None;
    }
    let mut set = ConfigSetId::default();
    for (byte, pair) in set.iter_mut().zip(bytes.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(set)
}

/// A name of ours.
pub(super) fn name(text: &str) -> Result<Name, FsError> {
    Name::parse(text.as_bytes()).map_err(|_| FsError::bad_name(text.as_bytes()))
}

/// The directory of an area, and its mode: workers of web servers read some areas, and nobody but
/// root others.
pub(in crate::agent::services) const fn area_dir(area: ConfigArea) -> (&'static str, u32) {
    match area {
        ConfigArea::Nginx => ("nginx", 0o755),
        ConfigArea::Apache => ("apache", 0o755),
        ConfigArea::PhpFpm => ("php-fpm", 0o755),
        ConfigArea::Certificates => ("certificates", 0o755),
        ConfigArea::Keys => ("keys", 0o700),
        ConfigArea::Pages => ("pages", 0o755),
        ConfigArea::Passwords => ("passwords", 0o711),
        ConfigArea::Settings => ("settings", 0o711),
        ConfigArea::Haproxy => ("haproxy", 0o700),
        ConfigArea::NginxBalancer => ("nginx-balancer", 0o755),
    }
}

/// All areas.
pub(in crate::agent::services) const AREAS: [ConfigArea; 10] = [
    ConfigArea::Nginx,
    ConfigArea::Apache,
    ConfigArea::PhpFpm,
    ConfigArea::Certificates,
    ConfigArea::Keys,
    ConfigArea::Pages,
    ConfigArea::Passwords,
    ConfigArea::Settings,
    ConfigArea::Haproxy,
    ConfigArea::NginxBalancer,
];

impl Place {
    /// The directories, made where they are missing.
    pub(in crate::agent::services) fn create(root: &Path) -> Result<Self, FsError> {
        let (parent, own) = Dir::open_parent_of(root)?;
        let dir = parent.create_dir_if_absent(&own, 0o711)?;
        let sets = dir.create_dir_if_absent(&name("sets")?, 0o711)?;
        dir.create_dir_if_absent(&name("data")?, 0o711)?;
        // PHP-FPM doesn't start where a directory that it includes from is missing.
        let none = sets.create_dir_if_absent(&name(NONE)?, 0o711)?;
        for area in AREAS {
            let (area, mode) = area_dir(area);
            none.create_dir_if_absent(&name(area)?, mode)?;
        }
        let place = Self {
            root: root.to_owned(),
        };
        if dir.stat(&name("current")?)?.is_none() {
            place.switch(None)?;
        }
        Ok(place)
    }

    /// The live set, as programs include it.
    pub(in crate::agent::services) fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    pub(in crate::agent::services) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(in crate::agent::services) fn root(&self) -> &Path {
        &self.root
    }

    pub(in crate::agent::services) fn set(&self, set: &ConfigSetId) -> PathBuf {
        self.root.join("sets").join(hex(set))
    }

    pub(in crate::agent::services) fn test(&self, set: &ConfigSetId) -> PathBuf {
        self.root.join("sets").join(format!("{}.test", hex(set)))
    }

    pub(super) fn dir(&self) -> Result<Dir, FsError> {
        Dir::open_absolute(&self.root)
    }

    pub(super) fn sets(&self) -> Result<Dir, FsError> {
        Dir::open_absolute(&self.root.join("sets"))
    }

    /// The sets on the disk, those that are only being tested not counted.
    pub(super) fn all(&self) -> Result<Vec<ConfigSetId>, FsError> {
        let listed = self.sets()?.list()?;
        let names = listed.iter().map(|it| it.name.as_bytes());
        let sets = names.filter_map(|it| unhex(std::str::from_utf8(it).ok()?));
        Ok(sets.collect())
    }

    /// The set that `current` leads to.
    pub(in crate::agent::services) fn live(&self) -> Option<ConfigSetId> {
        let target = system::link(&self.current())?;
        unhex(target.file_name()?.to_str()?)
    }

    pub(super) fn open(&self, set: &ConfigSetId) -> Result<Option<Dir>, FsError> {
        self.sets()?.try_open_dir(&name(&hex(set))?)
    }

    /// What `current` leads to becomes this set, or no files at all.
    pub(super) fn switch(&self, to: Option<&ConfigSetId>) -> Result<(), FsError> {
        let (dir, current, next) = (self.dir()?, name("current")?, name(".current.next")?);
        match dir.unlink(&next) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let target = to.map_or(NONE.to_owned(), hex);
        dir.symlink(format!("sets/{target}").as_bytes(), &next)?;
        dir.rename_to(&next, &dir, &current)?;
        dir.sync()
    }

    pub(in crate::agent::services) fn record(
        &self,
        set: &ConfigSetId,
    ) -> Result<Option<Record>, Problem> {
        match self.open(set).map_err(disk)? {
            Some(dir) => checked(&dir, "record"),
            None => Ok(None),
        }
    }

    pub(super) fn save_record(&self, dir: &Dir, record: &Record) -> Result<(), FsError> {
        write_checked(dir, &name("record")?, &encoded(record)?, 0o600)
    }

    pub(in crate::agent::services) fn pending(&self) -> Result<Option<Pending>, Problem> {
        checked(&self.dir().map_err(disk)?, "pending")
    }

    pub(super) fn set_pending(&self, pending: Option<&Pending>) -> Result<(), FsError> {
        let dir = self.dir()?;
        match pending {
            Some(pending) => write_checked(&dir, &name("pending")?, &encoded(pending)?, 0o600),
            None => match dir.unlink(&name("pending")?) {
                Err(error) if !error.is_not_found() => Err(error),
                _ => dir.sync(),
            },
        }
    }
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, FsError> {
    postcard::to_stdvec(value).map_err(|_| FsError::bad_name(b"a record"))
}

/// A file of ours; `None` if it isn't there.
fn checked<T: for<'de> Deserialize<'de>>(dir: &Dir, file: &str) -> Result<Option<T>, Problem> {
    let file = name(file).map_err(disk)?;
    let damaged = |error: &(dyn std::error::Error + 'static)| {
        Problem::from_error(Code::AgentStateDamaged, error)
    };
    let read = read_checked(dir, &file, MAX_RECORD_BYTES);
    let Some(bytes) = read.map_err(|error| of_checked(&error))? else {
        return Ok(None);
    };
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(|it| damaged(&it))
}

/// What the disk said.
pub(in crate::agent::services) fn disk(error: FsError) -> Problem {
    of_fs(&error)
}
