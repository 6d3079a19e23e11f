//! Before the vote: everything that commit will rely on is checked, completed and made durable.
//!
//! Invariant I2: the vote is the last thing that becomes durable. Nothing in the live tree changes
//! here; what is added to the staged tree is in the journal, which can take it back.

use super::fault::point;
use super::foreign::ForeignPaths;
use super::held::Known;
use super::in_place;
use super::journal::{Journal, Made, TREE};
use super::keeper::Keeper;
use super::live::{How, Spot, Tree};
use super::overwritten::candidates;
use super::place::Place;
use super::record::{TreeRecord, Vote};
use super::shared::shared_target;
use super::step::Attributes;
use super::switched;
use super::transaction::{CommitError, take_back};
use super::tree_plan::TreePlan;
use crate::engine::index::Index;
use crate::fs::meta::Wanted;
use crate::fs::owner::{Missing, Principals};
use crate::fs::xattr::{Target, XattrPolicy};
use crate::fs::{Dir, FsError};
use std::collections::BTreeSet;
use sync_proto::entry::{Meta, Time};
use sync_proto::manifest::Manifest;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Generation, Layout, Notice, TxnKey};

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
    /// The same, for whoever looks for what is held.
    pub known: Known<'a>,
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
    /// Directories of the staged tree that got names which the manifest doesn't have.
    pub added_to: BTreeSet<RelPath>,
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
    let made_in = journal.made_in.into_iter();
    done.map(|()| Prepared {
        overwritten: prepared.overwritten,
        added_to: made_in.map(|(path, _)| path).collect(),
    })
}

/// Completes the staged tree and makes it durable, and then the vote.
fn complete(job: &Job<'_>, journal: &Journal, tree: Dir) -> Result<(), CommitError> {
    make(journal, tree, job.how())?;
    Vote::make_mark(job.place)?;
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
            Made::Link(path) => dir.symlink(&shared_target(path), &name)?,
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
pub(super) fn restore_times(journal: &Journal, tree: &mut Tree) -> Result<(), CommitError> {
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
    let policy = match attributes.to_wanted().xattrs {
        Some(_) => how.policy,
        None => XattrPolicy::Ignore,
    };
    How { policy, ..how }.apply(&Target::open(dir), attributes)?;
    Ok(())
}
