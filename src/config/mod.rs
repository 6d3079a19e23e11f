//! The inventory: `fanout.toml` to domain types, and edits that keep comments; the agent's own
//! configuration; and which file lies where.
//!
//! Owns: what may be written in these files, and every message about them. Refuses: unknown keys,
//! secrets, and anything that contradicts itself; all faults of a file are reported together,
//! each with its line, before anything is contacted. Invariant: an [`Inventory`] is consistent
//! (every name in it resolves, no two platforms share a root on a member), and no edit is saved
//! that wouldn't load again.

mod aegir;
mod agent;
mod app;
pub mod backup;
mod check;
mod decode;
mod dirs;
mod document;
mod edit;
mod file;
mod inventory;
mod list;
mod local_database;
mod problem;
mod rules;
mod schema;
mod scope;
mod secrets;
mod services;
mod settings;
mod sites;
mod suggest;

pub use aegir::{AegirError, CarriedDatabase, CarriedOver, carry_over};
pub use agent::{AgentConfig, Limits};
pub use dirs::{AgentDir, HubDir};
pub use document::{Kind, NewCluster, NewPlatform, NewServer};
pub use edit::Edit;
pub use inventory::{
    Balancer, Cluster, DEFAULT_DEPOT_BUDGET, DEFAULT_EXCLUDES, DEFAULT_HEALTH_PORT, Db,
    DriftIgnore, Inventory, On, Platform, Server, Site, Ssh, Web,
};
pub use local_database::LocalDatabase;
pub use problem::{Invalid, Problem};
pub use schema::json_schema;
pub use secrets::{SecretError, Secrets};
pub use settings::{
    AppSettings, BalancerSettings, ClusterSettings, DbSettings, Keys, SiteSettings, WebSettings,
};
pub use suggest::closest;

#[cfg(test)]
mod tests;

use crate::store::LockError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Writes a file of fanout's that its owner alone may read, whole or not at all.
///
/// # Errors
/// [`ConfigError::Write`].
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> Result<(), ConfigError> {
    file::replace(path, bytes, 0o600)
}

/// Why a configuration could not be read, used or changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file there.
    #[error("There is no {what} at {}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file that is there already.
    #[error("{} exists already", path.display())]
    FileExists {
        /// Which.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("Can't read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("Can't write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Larger than any real configuration.
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// The file has faults; all of them are listed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A name that the inventory doesn't have.
    #[error("There is no {kind} `{name}` in the inventory")]
    Unknown {
        /// What it should be.
        kind: Kind,
        /// The name asked for.
        name: String,
        /// The closest name that there is.
        closest: Option<String>,
    },
    /// A name that the inventory has already.
    #[error("There is a {kind} `{name}` in the inventory already")]
    Exists {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// A key that holds something other than a list of texts.
    #[error("`{key}` of the {kind} `{name}` is not a list")]
    NotAList {
        /// Of what.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A key that holds something other than a table.
    #[error("`{key}` of the {kind} `{name}` is not a table")]
    NotATable {
        /// Of what.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A key that there is nothing of.
    #[error("The {kind} `{name}` has no `{key}`")]
    NotSet {
        /// Of what.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// Somebody saved the file between our reading and our writing.
    #[error("{} was changed by someone else meanwhile; nothing was written", path.display())]
    ChangedMeanwhile {
        /// Which.
        path: PathBuf,
    },
    /// Another task edits the inventory, or the lock can't be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl ConfigError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing {
                what: "inventory", ..
            } => Some("`fanout init` creates it; --dir or FANOUT_DIR say where to look".into()),
            Self::Missing { .. } => Some("`fanout agent init` creates it".into()),
            Self::Unknown {
                closest: Some(name),
                ..
            } => Some(format!("did you mean `{name}`?")),
            Self::ChangedMeanwhile { .. } => Some("run the command again".into()),
            _ => None,
        }
    }
}
