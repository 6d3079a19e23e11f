//! The journal of one transaction: everything that its commit will do, before the vote.
//!
//! Written once, durably, and never changed: what has been done is read off the disk, not off the
//! journal. A commit after a crash needs nothing else, not even the hub's rules.

use super::foreign::ForeignPaths;
use super::keeper::Keeper;
use super::place::{Place, PlaceError};
use super::record;
use super::step::{Attributes, Step};
use crate::fs::xattr::XattrPolicy;
use crate::fs::{Dir, FsError};
use serde::{Deserialize, Serialize};
use sync_proto::entry::Time;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Generation, TxnKey};

const FILE: &[u8] = b"steps";
pub(super) const MAGIC: &[u8; 5] = b"FOJR\x01";
/// The tree in a staging or undo directory.
pub(super) const TREE: &[u8] = b"tree";
/// Preserved paths that are delivered once, in a staging directory of the layout `switched`.
pub(super) const SEED: &[u8] = b"seed";

/// A transaction, as far as its commit needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The transaction.
    pub txn: TxnKey,
    /// Its fence.
    pub fence: u64,
    /// What will be live.
    pub generation: Generation,
    /// Its directory in `stage/`.
    pub stage: Name,
    /// Its future directory in `gen/` or `undo/`.
    pub directory: Name,
    /// The rules that it was planned under.
    pub keeper: Keeper,
    /// What will be foreign afterwards.
    pub foreign: ForeignPaths,
    /// `trusted.*` and `security.*` attributes are applied too.
    pub privileged_xattrs: bool,
    /// What prepare adds to the staged tree, parents first; an abort takes it away again.
    pub made: Vec<Made>,
    /// The times of the staged directories that are added to.
    pub made_in: Vec<(RelPath, Time)>,
    /// What the plan counted.
    pub changed_entries: u64,
    /// What commit does.
    pub work: Work,
}

/// What prepare adds to a staged tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// A directory that holds what is taken out, or what is kept.
    Directory(RelPath, Option<Attributes>),
    /// A symlink to a shared path.
    Link(RelPath),
}

impl Made {
    pub(super) fn path(&self) -> &RelPath {
        match self {
            Self::Directory(path, _) | Self::Link(path) => path,
        }
    }
}

/// The layout's own part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Entry by entry.
    InPlace {
        /// In the order of the window.
        steps: Vec<Step>,
        /// Times of directories whose entries change, deepest first.
        times: Vec<(RelPath, Time)>,
    },
    /// The root symlink.
    Switched {
        /// The generation that was live.
        from: Option<Name>,
        /// The inode of the staged tree.
        ino: u64,
        /// Real entries of the live generation that belong to the member.
        shares: Vec<RelPath>,
        /// Preserved paths that are delivered because they are absent.
        seeds: Vec<RelPath>,
        /// Entries of the live generation that were not committed.
        drift: Vec<RelPath>,
    },
}

impl Journal {
    /// Which extended attributes the commit sets.
    pub(super) fn policy(&self) -> XattrPolicy {
        if self.privileged_xattrs {
            XattrPolicy::Privileged
        } else {
            XattrPolicy::Ordinary
        }
    }

    /// Reads the journal; `None` if no transaction was begun.
    pub fn load(place: &Place) -> Result<Option<Self>, PlaceError> {
        record::load(&place.sub(b"journal")?, FILE, MAGIC)
    }

    pub(super) fn save(&self, place: &Place) -> Result<(), PlaceError> {
        record::save(&place.sub(b"journal")?, FILE, MAGIC, self)
    }

    pub(super) fn remove(place: &Place) -> Result<(), PlaceError> {
        let journal = place.sub(b"journal")?;
        let name = place.own_name(FILE)?;
        if journal.stat(&name)?.is_some() {
            journal.unlink(&name)?;
        }
        Ok(journal.sync()?)
    }

    /// The staged tree, as long as it is in `stage/`.
    pub(super) fn staged_tree(&self, place: &Place) -> Result<Option<Dir>, FsError> {
        match place.sub(b"stage")?.try_open_dir(&self.stage)? {
            Some(stage) => stage.try_open_dir(&place.own_name(TREE)?),
            None => Ok(None),
        }
    }
}
