//! A transaction on one tree: prepare, commit, abort, recover.
//!
//! What is durable, in this order:
//!
//! ```text
//! prepare   journal ─ staged tree completed ─ syncfs ─ vote        (I2: only then yes)
//! commit    vote says forward ─ the steps ─ syncfs ─ tree record ─ vote and journal removed
//! abort     vote removed ─ additions to the staged tree undone ─ journal removed
//! ```
//!
//! Nothing in the live tree changes before the vote says forward, so an abort has nothing to undo
//! there. A journal without a vote is a prepare that didn't get far enough, and is taken back; a
//! vote that says forward is carried out before anything else is served.

use super::apply;
use super::fault::point;
use super::foreign::ForeignPaths;
use super::generations;
use super::in_place;
use super::journal::{Journal, Made, TREE, Work};
use super::keeper::Keeper;
use super::live::{How, Spot, Tree};
use super::overwritten::{candidates, publish};
use super::place::{Place, PlaceError};
use super::record::{TreeRecord, Vote};
use super::step::Attributes;
use super::switched;
use super::tree_plan::TreePlan;
use crate::engine::index::Index;
use crate::fs::meta::{MetaError, Wanted};
use crate::fs::owner::{Missing, Principals};
use crate::fs::xattr::{Target, XattrPolicy};
use crate::fs::{Dir, FsError};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sync_proto::commit::Participant;
use sync_proto::entry::{Meta, Time};
use sync_proto::manifest::Manifest;
use sync_proto::path::{Name, PathError, RelPath};
use sync_proto::wire::{Doubt, Generation, Layout, Notice, TreeKey, TxnKey};
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

/// Everything about one transaction, for [`prepare`].
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where the tree lies.
    pub place: &'a Place,
    /// Its record.
    pub record: &'a TreeRecord,
    /// The rules. Foreign paths are left out if their removal was asked for.
    pub keeper: &'a Keeper,
    /// What a fresh walk found in the live tree, in wanted values.
    pub observed: &'a Index,
    /// What it is to be.
    pub desired: &'a Manifest,
    /// What is staged: the desired manifest with a stamp for each entry, staged or unchanged;
    /// [`Stamp::default`](crate::engine::index::Stamp) for what belongs to the member.
    pub staged: &'a Index,
    /// The plan that staging followed.
    pub plan: &'a TreePlan,
    /// What is foreign after the commit.
    pub foreign_after: &'a ForeignPaths,
    /// What will be live.
    pub generation: &'a Generation,
    /// The transaction.
    pub txn: TxnKey,
    /// Its fence.
    pub fence: u64,
    /// Its directory in `stage/`.
    pub stage: &'a Name,
    /// Metadata of the manifest in this machine's terms.
    pub resolve: &'a dyn Fn(&Meta) -> Result<Wanted, Missing>,
    /// For names in ACLs.
    pub principals: &'a Principals,
    /// Which extended attributes are preserved.
    pub xattrs: XattrPolicy,
}

impl Job<'_> {
    pub(super) fn how(&self) -> How<'_> {
        How {
            policy: self.xattrs,
            principals: self.principals,
        }
    }
}

/// A vote of yes.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Entries that will be moved aside, because they are not what was committed.
    pub overwritten: Vec<Notice>,
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

/// Checks everything that commit will rely on, and makes it durable. When this returns, the vote
/// is durable too, and may be told.
///
/// # Errors
/// The vote is no; nothing but the staging area was written.
pub fn prepare(job: &Job<'_>) -> Result<Prepared, CommitError> {
    match Vote::load(job.place)? {
        Some(vote) if vote.txn == job.txn => return Ok(Prepared::default()),
        Some(_) => return Err(CommitError::OtherTransaction),
        None => {}
    }
    if let Some(journal) = Journal::load(job.place)? {
        take_back(job.place, &journal)?;
    }
    if !job.plan.summary.conflicts.is_empty() {
        return Err(CommitError::Conflicts(job.plan.summary.conflicts.clone()));
    }
    // What the plan said of the root was shown, and somebody released the brake.
    match job.place.root_changed(job.record)? {
        Some(what) if job.plan.summary.root_changed.as_ref() != Some(&what) => {
            return Err(CommitError::RootChanged(what));
        }
        _ => {}
    }
    let stage = job.place.stages()?.create_dir_if_absent(job.stage, 0o700)?;
    let tree = stage.create_dir_if_absent(&job.place.own_name(TREE)?, 0o700)?;
    let live = job.place.live()?.map(Tree::new);
    let layout = job.place.layout();
    let prepared = match layout {
        Layout::InPlace => {
            let live = live.ok_or(CommitError::RootGone)?;
            in_place::prepare(job, live, Tree::new(tree.try_clone()?))?
        }
        Layout::Switched => switched::prepare(job, live, Tree::new(tree.try_clone()?))?,
    };
    let made_in = times_of_parents(&prepared.made, tree.try_clone()?)?;
    let journal = Journal {
        made_in,
        txn: job.txn,
        fence: job.fence,
        generation: job.generation.clone(),
        stage: job.stage.clone(),
        directory: free_directory(job.place, layout, job.generation.serial)?,
        keeper: job.keeper.clone(),
        foreign: job.foreign_after.clone(),
        privileged_xattrs: job.xattrs == XattrPolicy::Privileged,
        made: prepared.made,
        changed_entries: u64::try_from(job.plan.changes.len()).unwrap_or(u64::MAX),
        work: prepared.work,
    };
    point("member.prepare.journal")?;
    // ORDER: the journal before the additions that only it knows how to take back.
    journal.save(job.place)?;
    let done = complete(job, &journal, tree);
    if done.is_err() {
        // The first error counts; what is left here is taken back by the next recovery.
        let _left_behind = take_back(job.place, &journal);
    }
    done.map(|()| Prepared {
        overwritten: prepared.overwritten,
    })
}

/// Completes the staged tree and makes it durable, and then the vote.
fn complete(job: &Job<'_>, journal: &Journal, tree: Dir) -> Result<(), CommitError> {
    make(journal, tree, job.how())?;
    point("member.prepare.sync")?;
    // ORDER: everything staged is durable before the vote is (I2).
    job.place.state().syncfs()?;
    point("member.prepare.vote")?;
    let vote = Vote {
        txn: job.txn,
        fence: job.fence,
        generation: job.generation.clone(),
        is_forward: false,
    };
    Ok(vote.save(job.place)?)
}

/// A free name in `gen/` or `undo/`: a repair may use a serial again.
fn free_directory(place: &Place, layout: Layout, serial: u64) -> Result<Name, CommitError> {
    let dir = place.sub(match layout {
        Layout::Switched => b"gen",
        Layout::InPlace => b"undo",
    })?;
    let aside = place.sub(b"aside")?;
    let wanted = place.own_name(format!("{serial:06}").as_bytes())?;
    for free in candidates(&wanted) {
        let free = free?;
        if dir.stat(&free)?.is_none() && aside.stat(&free)?.is_none() {
            return Ok(free);
        }
    }
    Err(FsError::taken(wanted.as_bytes()).into())
}

fn make(journal: &Journal, tree: Dir, how: How<'_>) -> Result<(), CommitError> {
    let mut tree = Tree::new(tree);
    for made in &journal.made {
        let Some(Spot { dir, name }) = tree.spot(made.path())? else {
            return Err(CommitError::NotStaged(made.path().clone()));
        };
        point("member.prepare.make")?;
        match made {
            Made::Directory(_, like) => {
                let directory = dir.create_dir_if_absent(&name, 0o755)?;
                if let Some(attributes) = like {
                    apply_like(&directory, attributes, how)?;
                }
            }
            Made::Link(path) => dir.symlink(&switched::shared_target(path), &name)?,
        }
    }
    restore_times(journal, &mut tree)
}

fn times_of_parents(made: &[Made], tree: Dir) -> Result<Vec<(RelPath, Time)>, CommitError> {
    let parents: BTreeSet<_> = made
        .iter()
        .filter_map(|made| made.path().parent())
        .collect();
    let mut tree = Tree::new(tree);
    let mut times = Vec::new();
    for parent in parents {
        if let Some(stat) = tree.stat(&parent)? {
            times.push((parent, stat.mtime));
        }
    }
    Ok(times)
}

/// Adding to a directory, or taking from it, changed its time.
fn restore_times(journal: &Journal, tree: &mut Tree) -> Result<(), CommitError> {
    let principals = Principals::numeric();
    let how = How {
        policy: XattrPolicy::Ignore,
        principals: &principals,
    };
    for (path, mtime) in &journal.made_in {
        if let Some(dir) = tree.dir(path)? {
            let attributes = Attributes::with_mtime(&dir.stat_self()?, *mtime);
            how.apply(&Target::open(dir), &attributes)?;
        }
    }
    Ok(())
}

fn apply_like(dir: &Dir, attributes: &Attributes, how: How<'_>) -> Result<(), CommitError> {
    let how = How {
        policy: XattrPolicy::Ignore,
        ..how
    };
    how.apply(&Target::open(dir), attributes)?;
    Ok(())
}

/// Carries out the decision `commit`. Forward only; may be repeated after a crash at any point,
/// and then needs nothing but what is on the disk. `overwritten` is the tree's directory in the
/// agent's own place for what is moved aside.
///
/// # Errors
/// It isn't done, and must be repeated before anything else is served.
pub fn commit(
    place: &Place,
    txn: TxnKey,
    overwritten: Option<&Dir>,
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
        vote.is_forward = true;
        // ORDER: the decision is durable before the first change of the live tree.
        vote.save(place)?;
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
        let (window, notices) = carry_out(place, &journal)?;
        committed.switched_us = now_us();
        committed.window = window;
        committed.notices = notices;
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

fn carry_out(place: &Place, journal: &Journal) -> Result<(Duration, Vec<Notice>), CommitError> {
    match journal.work {
        Work::InPlace { .. } => {
            let applied = apply::apply(place, journal)?;
            generations::keep_undo(place, journal)?;
            Ok((applied.window, applied.notices))
        }
        Work::Switched { .. } => switched::commit(place, journal),
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
fn take_back(place: &Place, journal: &Journal) -> Result<(), CommitError> {
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
    let participant = match &vote {
        Some(vote) if vote.is_forward => Participant::Forward { txn: vote.txn },
        Some(vote) => Participant::Prepared { txn: vote.txn },
        None => {
            if let Some(journal) = Journal::load(place)? {
                take_back(place, &journal)?;
            }
            match record.last_committed {
                Some(txn) => Participant::Done { txn },
                None => Participant::Idle,
            }
        }
    };
    Ok(Recovered { participant, vote })
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
