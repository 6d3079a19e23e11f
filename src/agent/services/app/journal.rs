//! What an installation has to take back if it dies: durable before it begins, removed when it has
//! ended well.

use crate::codes::{Code, Problem};
use crate::engine::member::refusal::of_fs;
use crate::fs::Dir;
use crate::fs::durable::{read_checked, write_checked};
use crate::net::NodeKey;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sync_proto::digest::Digest;
use sync_proto::path::Name;
use sync_proto::wire::service::AppTarget;

const DIRECTORY: &[u8] = b"installs";
const MAGIC: &[u8; 5] = b"FOIN\x01";
/// LIMIT: bytes of one note: mostly the names of tables.
const MAX_BYTES: u64 = 32 << 20;

/// What one installation has to take back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Whose site.
    pub(super) hub: NodeKey,
    /// Which site.
    pub(super) target: AppTarget,
    /// Tables that were there before; all others go. `None`: the database isn't looked at.
    pub(super) tables: Option<Vec<String>>,
    /// The settings file before; `None` if there was none.
    pub(super) settings: Option<SavedFile>,
    /// Directories that were empty before and are emptied again.
    pub(super) empty: Vec<Vec<u8>>,
    /// The name of the directory that the installer may write into.
    pub(super) scratch: String,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedFile {
    /// Its path in the tree.
    pub(super) path: String,
    /// What it held; `None`: it wasn't there.
    pub(super) bytes: Option<Vec<u8>>,
}

/// The notes of this agent.
#[derive(Debug)]
pub(super) struct Journals {
    state: PathBuf,
}

impl Journals {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    fn dir(&self) -> Result<Dir, Problem> {
        let state = Dir::open_absolute(&self.state).map_err(|error| of_fs(&error))?;
        let name =
            Name::parse(DIRECTORY).map_err(|error| Problem::from_error(Code::Bug, &error))?;
        state
            .create_dir_if_absent(&name, 0o700)
            .map_err(|error| of_fs(&error))
    }

    /// The note about a site, if an installation of it is not finished.
    pub(super) fn load(&self, target: &AppTarget) -> Result<Option<Journal>, Problem> {
        read(&self.dir()?, &name_of(target)?)
    }

    /// Makes a note durable.
    pub(super) fn save(&self, journal: &Journal) -> Result<(), Problem> {
        let dir = self.dir()?;
        let bytes = postcard::to_extend(journal, MAGIC.to_vec())
            .map_err(|error| Problem::from_error(Code::Bug, &error))?;
        write_checked(&dir, &name_of(&journal.target)?, &bytes, 0o600).map_err(|e| of_fs(&e))?;
        let state = Dir::open_absolute(&self.state).map_err(|error| of_fs(&error))?;
        state.sync().map_err(|error| of_fs(&error))
    }

    /// Drops the note about a site.
    pub(super) fn clear(&self, target: &AppTarget) -> Result<(), Problem> {
        let dir = self.dir()?;
        match dir.unlink(&name_of(target)?) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other.map_err(|error| of_fs(&error))?,
        }
        dir.sync().map_err(|error| of_fs(&error))
    }

    /// Every site with an unfinished installation.
    pub(super) fn all(&self) -> Result<Vec<(NodeKey, AppTarget)>, Problem> {
        let dir = self.dir()?;
        let mut all = Vec::new();
        for listed in dir.list().map_err(|error| of_fs(&error))? {
            if let Some(journal) = read(&dir, &listed.name)? {
                all.push((journal.hub, journal.target));
            }
        }
        Ok(all)
    }
}

fn name_of(target: &AppTarget) -> Result<Name, Problem> {
    let mut key = target.tree.to_vec();
    key.extend_from_slice(target.site.as_bytes());
    Name::parse(Digest::of(&key).to_hex().as_bytes())
        .map_err(|error| Problem::from_error(Code::Bug, &error))
}

fn read(dir: &Dir, name: &Name) -> Result<Option<Journal>, Problem> {
    let damaged = || {
        let message = format!("The note about an installation, {name}, can't be read");
        Problem::new(Code::AgentStateDamaged, message)
    };
    let Some(bytes) = read_checked(dir, name, MAX_BYTES).map_err(|_| damaged())? else {
        return Ok(None);
    };
    let body = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    postcard::from_bytes(body).map(Some).map_err(|_| damaged())
}
