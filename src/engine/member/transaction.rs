//! A transaction on one tree: prepare, commit, abort, recover.
//!
//! What is durable, in this order:
//!
//! ```text
//! prepare   journal ─ staged tree completed ─ syncfs ─ vote        (I2: only then yes)
//! commit    forward is marked ─ the steps ─ syncfs ─ tree record ─ vote and journal removed
//! abort     vote removed ─ additions to the staged tree undone ─ journal removed
//! ```
//!
//! Nothing in the live tree changes before the vote says forward, so an abort has nothing to undo
//! there. A journal without a vote is a prepare that didn't get far enough, and is taken back; a
//! vote that says forward is carried out before anything else is served.

use super::apply::{self, Applied};
use super::fault::point;
use super::generations;
use super::held::Known;
use super::journal::{Journal, Made, Work};
use super::live::Tree;
use super::overwritten::publish;
use super::place::{Place, PlaceError};
use super::prepare::restore_times;
use super::record::{TreeRecord, Vote};
use super::switch;
use crate::fs::meta::MetaError;
use crate::fs::owner::Missing;
use crate::fs::{Dir, FsError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sync_proto::commit::Participant;
use sync_proto::path::{PathError, RelPath};
use sync_proto::wire::{Doubt, Notice, TreeKey, TxnKey};
use thiserror::Error;

/// Why a transaction doesn't go on.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The place or a record of the tree is not as it should be.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The disk said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// This machine lacks an owner or group.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Metadata can't be applied.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A path became too long.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The plan has conflicts; the first of them.
    #[error("{} conflicts: `{}` {}", .0.len(), .0.first().map_or_else(String::new, |first| sync_proto::path::escape(&first.path)), .0.first().map_or("", |first| first.message.as_str()))]
    Conflicts(Vec<Notice>),
    /// The root isn't what it was.
    #[error("The root is {0}, which is not what the last commit left there")]
    RootChanged(String),
    /// The root of an in-place tree is gone.
    #[error("The root is gone")]
    RootGone,
    /// An entry isn't in the staged tree, or is something else there.
    #[error("`{0}` is not staged as planned")]
    NotStaged(RelPath),
    /// An entry changed between the plan and the vote, and nothing is staged for it.
    #[error("`{0}` changed while the push was prepared")]
    Changed(RelPath),
    /// Something that may not be touched is in the way.
    #[error("`{0}` holds names that may not be touched, or is one")]
    Kept(RelPath),
    /// A directory that the commit must change can't be written to by this process.
    #[error("The directory `{0}` can't be written to")]
    Unwritable(RelPath),
    /// The staged tree of a voted transaction is gone.
    #[error("What was staged for this transaction is gone")]
    StagingLost,
    /// No such transaction is open.
    #[error("No such transaction is open here")]
    NoTransaction,
    /// Another transaction is open, and must be settled first.
    #[error("Another transaction is open here and must be settled first")]
    OtherTransaction,
    /// It goes forward only.
    #[error("The transaction was decided already, and goes forward only")]
    Decided,
}

/// A commit that is done.
#[derive(Debug, Default)]
pub struct Committed {
    /// Entries changed, by the plan.
    pub changed_entries: u64,
    /// When the member switched, Unix microseconds.
    pub switched_us: i64,
    /// For how long visitors may have seen a mixture.
    pub window: Duration,
    /// Serial of the generation that is live now.
    pub serial: u64,
    /// Things worth saying.
    pub notices: Vec<Notice>,
}

/// Where a tree stands after a restart.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The state machine, at what is durable.
    pub participant: Participant,
    /// The vote, if a transaction is open.
    pub vote: Option<Vote>,
}

impl Vote {
    /// What the hub is asked about.
    pub fn doubt(&self, tree: TreeKey) -> Doubt {
        Doubt {
            tree,
            txn: self.txn,
            fence: self.fence,
            serial: self.generation.serial,
        }
    }
}

/// Carries out the decision `commit`. Forward only; may be repeated after a crash at any point,
/// and then needs nothing but what is on the disk. `overwritten` is the tree's directory in the
/// agent's own place for what is moved aside; `known` what was live when it was last looked at, which
/// saves listings.
///
/// # Errors
/// It isn't done, and must be repeated before anything else is served.
pub fn commit(
    place: &Place,
    txn: TxnKey,
    overwritten: Option<&Dir>,
    known: Known<'_>,
) -> Result<Committed, CommitError> {
    let mut record = TreeRecord::load(place)?;
    let is_recorded = record.last_committed == Some(txn);
    let mut vote = match Vote::load(place)? {
        Some(vote) if vote.txn == txn => vote,
        None if is_recorded => return Ok(repeated(&record)),
        Some(_) => return Err(CommitError::OtherTransaction),
        None => return Err(CommitError::NoTransaction),
    };
    if !vote.is_forward {
        point("member.commit.forward")?;
        // ORDER: the decision is durable before the first change of the live tree.
        vote.note_forward(place)?;
    }
    let journal = Journal::load(place)?.filter(|journal| journal.txn == txn);
    let (mut journal, is_done) = match (journal, is_recorded) {
        (Some(journal), is_recorded) => (journal, is_recorded),
        (None, true) => {
            Vote::remove(place)?;
            return Ok(repeated(&record));
        }
        (None, false) => return Err(place.damaged(b"journal/steps").into()),
    };
    let mut committed = Committed {
        changed_entries: journal.changed_entries,
        serial: journal.generation.serial,
        ..Committed::default()
    };
    if !is_done {
        let applied = carry_out(place, &journal, known)?;
        committed.switched_us = applied.switched_us;
        committed.window = applied.window;
        committed.notices = applied.notices;
        point("member.commit.sync")?;
        // ORDER: every step is durable before the journal that could repeat it is retired.
        place.state().syncfs()?;
        std::mem::take(&mut journal.foreign).save(place)?;
        point("member.commit.record")?;
        record.note_commit(&journal.generation, &journal.directory, txn);
        record.save(place)?;
    }
    // ORDER: after the record, so that a repeated commit puts nothing aside a second time.
    if let Some(notice) = publish(place, &journal.directory, overwritten)? {
        committed.notices.push(notice);
    }
    retire(place, &journal)?;
    Ok(committed)
}

fn carry_out(place: &Place, journal: &Journal, known: Known<'_>) -> Result<Applied, CommitError> {
    match journal.work {
        Work::InPlace { .. } => {
            let applied = apply::apply(place, journal)?;
            generations::keep_undo(place, journal)?;
            Ok(applied)
        }
        Work::Switched { .. } => switch::commit(place, journal, known),
    }
}

/// The staging area and the records of a transaction that is over.
fn retire(place: &Place, journal: &Journal) -> Result<(), CommitError> {
    point("member.retire.stage")?;
    place.stages()?.remove_tree(&journal.stage)?;
    point("member.retire.vote")?;
    // ORDER: the vote goes first: a journal without a vote promises nothing.
    Vote::remove(place)?;
    point("member.retire.journal")?;
    Ok(Journal::remove(place)?)
}

fn repeated(record: &TreeRecord) -> Committed {
    Committed {
        serial: record.live.unwrap_or_default(),
        switched_us: now_us(),
        ..Committed::default()
    }
}

/// Carries out the decision `abort`. The live tree is as it was; what was staged stays, for a
/// push that resumes. May be repeated.
///
/// # Errors
/// The transaction was decided otherwise, or the disk said no.
pub fn abort(place: &Place, txn: TxnKey) -> Result<(), CommitError> {
    match Vote::load(place)? {
        Some(vote) if vote.txn != txn => return Err(CommitError::OtherTransaction),
        Some(vote) if vote.is_forward => return Err(CommitError::Decided),
        Some(_) => {
            point("member.abort.vote")?;
            // ORDER: without its vote the transaction is over, however far the rest gets.
            Vote::remove(place)?;
        }
        None if TreeRecord::load(place)?.last_committed == Some(txn) => {
            return Err(CommitError::Decided);
        }
        None => {}
    }
    match Journal::load(place)? {
        Some(journal) => take_back(place, &journal),
        None => Ok(()),
    }
}

/// Undoes what prepare added to the staged tree.
pub(super) fn take_back(place: &Place, journal: &Journal) -> Result<(), CommitError> {
    if let Some(tree) = journal.staged_tree(place)? {
        let mut tree = Tree::new(tree);
        for made in journal.made.iter().rev() {
            tree.forget();
            let Some(spot) = tree.spot(made.path())? else {
                continue;
            };
            let Some(there) = spot.dir.stat(&spot.name)? else {
                continue;
            };
            point("member.abort.unmake")?;
            match made {
                Made::Link(_) if there.is_symlink() => spot.dir.unlink(&spot.name)?,
                Made::Directory(..) if there.is_directory() => {
                    match spot.dir.remove_dir(&spot.name) {
                        // Somebody staged into it since.
                        Err(error) if error.is_exists() => {}
                        other => other?,
                    }
                }
                _ => {}
            }
        }
        tree.forget();
        restore_times(journal, &mut tree)?;
    }
    point("member.abort.journal")?;
    Ok(Journal::remove(place)?)
}

/// Finds out where a tree stands. To be called at start, and before a new transaction: a prepare
/// that got nowhere is taken back; a participant in `Forward` must be handed to [`commit`] before
/// the tree is served.
///
/// # Errors
/// A record can't be read.
pub fn recover(place: &Place) -> Result<Recovered, CommitError> {
    let record = TreeRecord::load(place)?;
    let vote = Vote::load(place)?;
    if vote.is_none()
        && let Some(journal) = Journal::load(place)?
    {
        take_back(place, &journal)?;
    }
    let voted = vote.as_ref().map(|vote| (vote.txn, vote.is_forward));
    let participant = Participant::resume(voted, record.last_committed);
    Ok(Recovered { participant, vote })
}

pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
