//! The durable records of one tree: what is bound and live, and the vote of a transaction.
//!
//! Flat files with a version in front and a BLAKE3 behind, replaced atomically. A record that can't
//! be read is an error: it isn't a cache.

use super::foreign::{self, ForeignPaths};
use super::journal::{self, Journal};
use super::place::{Place, PlaceError};
use crate::fs::durable::{overwrite, read_checked, write_atomically, write_checked};
use crate::fs::read::read_range;
use crate::fs::{Dir, FsError};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use sync_proto::filter::Preserve;
use sync_proto::path::{Name, escape};
use sync_proto::wire::{Generation, Layout, TreeKey, TxnKey};

const RECORD: &[u8] = b"record";
const RECORD_MAGIC: &[u8; 5] = b"FOTR\x01";
const VOTE: &[u8] = b"vote";
const VOTE_MAGIC: &[u8; 5] = b"FOVR\x02";
const FORWARD: &[u8] = b"forward";
/// LIMIT: bytes of a record or journal: about 250 for each of 8 million entries.
const MAX_BYTES: u64 = 2 << 30;

/// What is durable about a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// The tree.
    pub tree: TreeKey,
    /// Its layout.
    pub layout: Layout,
    /// It had content when it was bound.
    pub adopted: bool,
    /// The hub let go of it; a later binding may take it up again.
    pub is_forgotten: bool,
    /// The highest fence ever accepted.
    pub fence: u64,
    /// Serial of the live generation.
    pub live: Option<u64>,
    /// The generations that are kept, in the order of their commits.
    pub generations: Vec<KeptGeneration>,
    /// The last transaction that was committed.
    pub last_committed: Option<TxnKey>,
    /// Every preserve rule that the hub ever sent and nobody released.
    pub preserve: Preserve,
}

/// One generation that can be returned to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptGeneration {
    /// What it is.
    pub generation: Generation,
    /// Its directory in `gen/`; in place, that of its undo area in `undo/`.
    pub directory: Vec<u8>,
    /// Never collected.
    pub pinned: bool,
}

impl TreeRecord {
    pub(super) fn new(tree: TreeKey, layout: Layout) -> Self {
        Self {
            tree,
            layout,
            adopted: false,
            is_forgotten: false,
            fence: 0,
            live: None,
            generations: Vec::new(),
            last_committed: None,
            preserve: Preserve::default(),
        }
    }

    /// Reads the record of a bound tree.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn load(place: &Place) -> Result<Self, PlaceError> {
        Self::load_from(place.state())?.ok_or_else(|| place.damaged(RECORD))
    }

    pub(super) fn load_from(state: &Dir) -> Result<Option<Self>, PlaceError> {
        load(state, RECORD, RECORD_MAGIC)
    }

    /// Makes the record durable.
    pub fn save(&self, place: &Place) -> Result<(), PlaceError> {
        save(place.state(), RECORD, RECORD_MAGIC, self)
    }

    /// Raises the fence, durably. The answer says whether it was higher than any before.
    ///
    /// # Errors
    /// The record can't be written; the fence then counts as not accepted.
    pub fn raise_fence(&mut self, place: &Place, fence: u64) -> Result<bool, PlaceError> {
        if fence <= self.fence {
            return Ok(false);
        }
        let raised = Self {
            fence,
            ..self.clone()
        };
        raised.save(place)?;
        *self = raised;
        Ok(true)
    }

    /// Adds preserve rules that the hub sent, durably: what was once preserved stays so until it
    /// is released.
    ///
    /// # Errors
    /// There would be too many rules, or the record can't be written.
    pub fn learn_preserve(&mut self, place: &Place, sent: &Preserve) -> Result<(), PlaceError> {
        let preserve = self.preserve.union(sent)?;
        if preserve == self.preserve {
            return Ok(());
        }
        let learnt = Self {
            preserve,
            ..self.clone()
        };
        learnt.save(place)?;
        *self = learnt;
        Ok(())
    }

    /// The record of the live generation.
    pub fn live_generation(&self) -> Option<&KeptGeneration> {
        let live = self.live?;
        self.generations
            .iter()
            .rev()
            .find(|kept| kept.generation.serial == live)
    }

    /// The directory of the live generation, where the layout has one.
    pub fn live_directory(&self) -> Option<&[u8]> {
        self.live_generation().map(|kept| kept.directory.as_slice())
    }

    /// Notes a commit: the generation is live, and takes the place of one with the same serial.
    pub(super) fn note_commit(&mut self, generation: &Generation, directory: &Name, txn: TxnKey) {
        let pinned = self
            .generations
            .iter()
            .any(|kept| kept.generation.serial == generation.serial && kept.pinned);
        self.generations
            .retain(|kept| kept.generation.serial != generation.serial);
        self.generations.push(KeptGeneration {
            generation: generation.clone(),
            directory: directory.as_bytes().to_vec(),
            pinned,
        });
        self.live = Some(generation.serial);
        self.last_committed = Some(txn);
    }
}

/// The vote of this member in a transaction. That it exists is the vote.
///
/// The file `forward` beside it says that the transaction goes forward only, by holding its key.
/// It is made before the vote, so that the mark costs one write into a block that is there: between
/// the decision and the switch, every other sync would be time in which members differ. A mark that
/// the disk tore is none: then the hub is asked once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The transaction.
    pub txn: TxnKey,
    /// Its fence.
    pub fence: u64,
    /// What would be live.
    pub generation: Generation,
    /// The hub said commit: forward only.
    #[serde(skip)]
    pub is_forward: bool,
}

impl Vote {
    /// Reads the vote; `None` if there is no open transaction.
    pub fn load(place: &Place) -> Result<Option<Self>, PlaceError> {
        let journal = place.sub(b"journal")?;
        let Some(mut vote) = load::<Self>(&journal, VOTE, VOTE_MAGIC)? else {
            return Ok(None);
        };
        let mark = match journal.open_file(&place.own_name(FORWARD)?) {
            Ok(mark) => read_range(&mark, 0, size_of::<TxnKey>() + 1)?,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        vote.is_forward = mark == vote.txn;
        Ok(Some(vote))
    }

    /// Makes the place where [`Self::note_forward`] writes. Durable with the next sync of the file
    /// system, which the vote waits for anyway.
    pub(super) fn make_mark(place: &Place) -> Result<(), PlaceError> {
        let (journal, name) = (place.sub(b"journal")?, place.own_name(FORWARD)?);
        let mut mark = match journal.create_file(&name, 0o600) {
            Err(error) if error.is_exists() => return Ok(()),
            other => other?,
        };
        let written = mark.write_all(&TxnKey::default());
        Ok(written.map_err(|error| FsError::from_io("write", &journal.path_of(&name), &error))?)
    }

    pub(super) fn save(&self, place: &Place) -> Result<(), PlaceError> {
        save(&place.sub(b"journal")?, VOTE, VOTE_MAGIC, self)
    }

    /// Notes that the hub said commit; durable when it returns.
    pub(super) fn note_forward(&mut self, place: &Place) -> Result<(), PlaceError> {
        let (journal, name) = (place.sub(b"journal")?, place.own_name(FORWARD)?);
        match overwrite(&journal, &name, &self.txn) {
            // Somebody cleared it away.
            Err(error) if error.is_not_found() => {
                write_atomically(&journal, &name, &self.txn, 0o600)?;
            }
            other => other?,
        }
        self.is_forward = true;
        Ok(())
    }

    /// Takes the vote back, or retires it; durable when it returns.
    pub(super) fn remove(place: &Place) -> Result<(), PlaceError> {
        let journal = place.sub(b"journal")?;
        let name = place.own_name(VOTE)?;
        if journal.stat(&name)?.is_some() {
            journal.unlink(&name)?;
        }
        Ok(journal.sync()?)
    }
}

/// Reads a versioned, checked file; `None` if there is none.
pub(super) fn load<T: serde::de::DeserializeOwned>(
    dir: &Dir,
    file: &[u8],
    magic: &[u8],
) -> Result<Option<T>, PlaceError> {
    let path = || escape(&[dir.path_for_messages(), b"/", file].concat());
    let name = Name::parse(file).map_err(|error| PlaceError::Name(path(), error))?;
    let Some(bytes) = read_checked(dir, &name, MAX_BYTES)? else {
        return Ok(None);
    };
    decode(&bytes, magic)
        .map(Some)
        .ok_or_else(|| PlaceError::Damaged(path()))
}

/// What a record's bytes hold, without the checksum behind them.
pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], magic: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes.strip_prefix(magic)?).ok()
}

/// The door of the fuzz target: reads bytes as the record that they say they are, writes and reads
/// it again; `None` if they are none.
#[doc(hidden)]
pub fn is_reread(bytes: &[u8]) -> Option<bool> {
    fn same<T>(bytes: &[u8], magic: &[u8]) -> Option<bool>
    where
        T: Serialize + serde::de::DeserializeOwned + PartialEq,
    {
        let value: T = decode(bytes, magic)?;
        let again = postcard::to_extend(&value, magic.to_vec()).ok()?;
        Some(decode::<T>(&again, magic).as_ref() == Some(&value))
    }
    same::<Journal>(bytes, journal::MAGIC)
        .or_else(|| same::<TreeRecord>(bytes, RECORD_MAGIC))
        .or_else(|| same::<Vote>(bytes, VOTE_MAGIC))
        .or_else(|| same::<ForeignPaths>(bytes, foreign::MAGIC))
}

/// Writes a versioned, checked file durably.
pub(super) fn save<T: Serialize>(
    dir: &Dir,
    file: &[u8],
    magic: &[u8],
    value: &T,
) -> Result<(), PlaceError> {
    let path = || escape(&[dir.path_for_messages(), b"/", file].concat());
    let name = Name::parse(file).map_err(|error| PlaceError::Name(path(), error))?;
    let bytes =
        postcard::to_extend(value, magic.to_vec()).map_err(|_| PlaceError::Damaged(path()))?;
    Ok(write_checked(dir, &name, &bytes, 0o600)?)
}
