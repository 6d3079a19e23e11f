//! An open tree on its way through a transaction: planned, staged, voted, decided.
//!
//! Everything here waits for the disk; the session calls it where waiting is allowed.

use super::compare::{Comparison, Target};
use super::fill::{LocalContents, Sources, find};
use super::foreign::ForeignPaths;
use super::held::Known;
use super::host::Claim;
use super::live_index::{Sealed, Unchanged, refresh_index, save_index};
use super::look::Seen;
use super::place::Place;
use super::prepare::{Job, prepare};
use super::receive::Receiver;
use super::record::TreeRecord;
use super::refusal::{notice, of_commit, of_fs, of_place};
use super::stage::{StageEvent, Staging};
use super::transaction::{self, Committed, recover};
use super::work::Work;
use crate::codes::{Code, Problem};
use crate::engine::index::Index;
use crate::fs::meta::Wanted;
use crate::fs::read::FsClock;
use crate::model::counted;
use std::collections::BTreeSet;
use std::sync::Arc;
use sync_proto::commit::{Participant, ParticipantAction as Do, ParticipantEvent as On};
use sync_proto::entry::Time;
use sync_proto::manifest::{Directory, Roots};
use sync_proto::path::escape;
use sync_proto::wire::table::Row;
use sync_proto::wire::{Decision, Generation, Layout, Notice, Open, TxnKey};
use tokio::sync::mpsc::UnboundedSender;

/// A tree that a session works on.
pub struct Tree {
    /// What was seen of it.
    pub seen: Seen,
    comparison: Option<Comparison>,
    target: Option<Arc<Target>>,
    transaction: Option<Transaction>,
    participant: Participant,
}

/// A transaction that was begun.
struct Transaction {
    txn: TxnKey,
    generation: Generation,
    staging: Arc<Staging>,
    staged: Option<Index>,
    /// None where the commit renames each entry, and so changes its ctime.
    sealed: Option<Sealed>,
}

impl Tree {
    /// Opens a claimed tree, after whatever was decided earlier is carried out.
    pub fn open(claim: Claim, open: &Open) -> Result<Self, Problem> {
        let participant = settled(&claim)?;
        Ok(Self {
            seen: Seen::open(claim, open)?,
            comparison: None,
            target: None,
            transaction: None,
            participant,
        })
    }

    /// Compares with the hub's table; says which directories are wanted.
    pub fn compare(
        &mut self,
        roots: Roots,
        root_meta: &[u8],
        rows: Vec<Row>,
    ) -> Result<Vec<(u32, u32)>, Problem> {
        let own = self.seen.observed.manifest();
        let comparison = Comparison::new(own, roots, root_meta, rows)
            .map_err(|error| Problem::from_error(Code::ProtocolViolation, &error))?;
        let wanted = comparison.wanted();
        self.comparison = Some(comparison);
        Ok(wanted)
    }

    /// Puts the wanted tree together and plans.
    pub fn plan(&mut self, listings: Vec<Directory>) -> Result<&Target, Problem> {
        let comparison = self.comparison.take().ok_or_else(out_of_turn)?;
        let roots = comparison.roots();
        let desired = comparison.finish(self.seen.observed.manifest(), listings)?;
        let target = self.seen.plan(desired, roots)?;
        Ok(self.target.insert(Arc::new(target)))
    }

    /// The plan.
    pub fn target(&self) -> Option<&Arc<Target>> {
        self.target.as_ref()
    }

    /// Begins a transaction: finds out what is needed, and makes the staging area.
    pub fn stage(
        &mut self,
        txn: TxnKey,
        generation: Generation,
        delete_foreign: bool,
        events: UnboundedSender<StageEvent>,
    ) -> Result<(Arc<Receiver>, Sources, Arc<LocalContents>), Problem> {
        if self.seen.fence == 0 {
            let message = "The tree was opened to be looked at only";
            return Err(Problem::new(Code::ProtocolViolation, message));
        }
        if delete_foreign {
            self.plan_without_foreign()?;
        }
        let target = self.target.clone().ok_or_else(out_of_turn)?;
        if generation.roots != target.roots {
            let message = "The generation to be staged is not the tree that was compared";
            return Err(Problem::new(Code::ProtocolViolation, message));
        }
        if let Some(conflict) = target.plan.summary.conflicts.first() {
            let code = conflict.code.parse().unwrap_or(Code::PreservedConflict);
            return Err(Problem::new(code, &conflict.message).with_path(&conflict.path));
        }
        let seen = &self.seen;
        let place = &seen.claim.place;
        let work = Work::new(target, place.layout(), &seen.keeper, &seen.observed);
        let mut staging = Staging::open(seen, work, events)?;
        staging.make_directories()?;
        let mut sources = find(seen, &mut staging)?;
        let staging = Arc::new(staging);
        let local_contents = Arc::new(LocalContents {
            place: seen.claim.place.clone(),
            live: place.live().map_err(|error| of_fs(&error))?,
        });
        let receiver = Receiver::new(staging.clone(), local_contents.clone(), &mut sources);
        self.transaction = Some(Transaction {
            txn,
            generation,
            staging,
            staged: None,
            sealed: None,
        });
        Ok((Arc::new(receiver), sources, local_contents))
    }

    /// Plans again, this time with the removal of what was there before fanout.
    fn plan_without_foreign(&mut self) -> Result<(), Problem> {
        let target = self.target.clone().ok_or_else(out_of_turn)?;
        let is_adoption = self.seen.record.adopted && self.seen.record.live.is_none();
        if is_adoption {
            self.seen.keeper.foreign = ForeignPaths::default();
            self.seen.record.adopted = false;
        } else if !self.seen.keeper.foreign.is_empty() {
            self.seen.look_at_foreign()?;
        } else {
            return Ok(());
        }
        let planned = self.seen.plan(target.desired.clone(), target.roots)?;
        self.target = Some(Arc::new(planned));
        Ok(())
    }

    /// Completes the staged tree, and says what could not be kept.
    pub fn finish(&mut self) -> Result<Vec<Notice>, Problem> {
        let transaction = self.transaction.as_mut().ok_or_else(out_of_turn)?;
        transaction.staging.finish()?;
        let place = &self.seen.claim.place;
        if place.layout() == Layout::Switched {
            let now = now(place)?;
            transaction.sealed = Some(Sealed {
                looked: now,
                voted: now,
                added_to: BTreeSet::new(),
            });
        }
        transaction.staged = Some(transaction.staging.index(&self.seen)?);
        let unkept = unkept(&transaction.staging.unkept());
        let rescued = transaction.staging.rescued.clone();
        Ok(unkept.into_iter().chain(rescued).collect())
    }

    /// Makes everything durable. `Ok` is a vote of yes, and durable.
    pub fn prepare(&mut self, txn: TxnKey) -> Result<Vec<Notice>, Problem> {
        let transaction = self.transaction.as_mut().ok_or_else(out_of_turn)?;
        let target = self.target.as_deref().ok_or_else(out_of_turn)?;
        let staged = transaction.staged.as_ref().ok_or_else(out_of_turn)?;
        if transaction.txn != txn {
            return Err(out_of_turn());
        }
        let seen = &self.seen;
        let fence = seen.fence;
        let event = On::Prepare { txn, fence };
        if self.participant.handle(event, seen.record.fence) != Do::Record {
            let message = "Another transaction is open here and must be settled first";
            return Err(Problem::new(Code::TransactionOpen, message));
        }
        let principals = seen.principals.clone();
        let prepared = prepare(&Job {
            place: &seen.claim.place,
            record: &seen.record,
            keeper: &seen.keeper,
            observed: &seen.observed,
            known: seen.known(),
            desired: &target.desired,
            staged,
            plan: &target.plan,
            foreign_after: &target.foreign_after,
            generation: &transaction.generation,
            txn,
            fence,
            stage: &transaction.staging.name,
            resolve: &|meta| Wanted::resolve(meta, &principals),
            principals: &seen.principals,
            xattrs: seen.xattrs(),
        });
        match prepared {
            Ok(prepared) => {
                if let Some(sealed) = &mut transaction.sealed {
                    sealed.voted = now(&seen.claim.place).unwrap_or(sealed.voted);
                    sealed.added_to = prepared.added_to;
                }
                self.participant.handle(On::RecordDurable, fence);
                Ok(prepared.overwritten)
            }
            Err(error) => {
                self.participant = Participant::Idle;
                Err(of_commit(&error))
            }
        }
    }

    /// Carries out a decision about the transaction that was voted for. `None` if it was aborted.
    pub fn decide(
        &mut self,
        txn: TxnKey,
        decision: Decision,
    ) -> Result<Option<Committed>, Problem> {
        self.seen.outdate_look();
        let (claim, known) = (&self.seen.claim, self.seen.known());
        carry_out(claim, &mut self.participant, txn, decision, known)
    }

    /// Remembers what is live now. A cache: the next look does without it, and takes longer.
    pub fn remember(&self) {
        let Some(transaction) = &self.transaction else {
            return;
        };
        let Some(staged) = &transaction.staged else {
            return;
        };
        let place = &self.seen.claim.place;
        // What is foreign goes or stays by rules of its own.
        let is_plain = self.seen.keeper.foreign.is_empty();
        let is_each = is_plain && transaction.sealed.is_none();
        let target = self.target.as_ref().filter(|_| is_each);
        let touched = target.map(|target| target.plan.touched());
        let unchanged = match (&transaction.sealed, &touched) {
            (Some(sealed), _) => Unchanged::Sealed(sealed),
            (None, Some(touched)) => Unchanged::Except(touched),
            (None, None) => Unchanged::None,
        };
        let saved = refresh_index(place, staged, unchanged)
            .map_err(|error| of_fs(&error))
            .and_then(|index| match index {
                Some(index) => save_index(place, &index).map_err(|error| of_place(&error)),
                None => Ok(()),
            });
        if let Err(problem) = saved {
            tracing::warn!(%problem, "the index of a tree can't be saved");
        }
    }
}

/// Finds out where a tree stands, and finishes a commit that was decided.
pub fn settled(claim: &Claim) -> Result<Participant, Problem> {
    let place = &claim.place;
    let recovered = recover(place).map_err(|error| of_commit(&error))?;
    if let Participant::Forward { txn } = recovered.participant {
        transaction::commit(place, txn, claim.overwritten.as_ref(), Known::Nothing)
            .map_err(|error| of_commit(&error))?;
        return Ok(Participant::Done { txn });
    }
    Ok(recovered.participant)
}

/// Carries out a decision. `None` if there is nothing to commit. `known` is what was live when it was
/// last looked at.
pub fn carry_out(
    claim: &Claim,
    participant: &mut Participant,
    txn: TxnKey,
    decision: Decision,
    known: Known<'_>,
) -> Result<Option<Committed>, Problem> {
    let place = &claim.place;
    let record = TreeRecord::load(place).map_err(|error| of_place(&error))?;
    let fence = record.fence;
    match participant.handle(On::Decide { txn, decision }, fence) {
        Do::RecordForward => {
            // `commit` notes durably that it goes forward only before it changes anything.
            let done = transaction::commit(place, txn, claim.overwritten.as_ref(), known);
            let done = done.map_err(|error| {
                let problem = of_commit(&error);
                Problem::new(Code::CommitFailed, problem.message)
            })?;
            participant.handle(On::ForwardDurable, fence);
            participant.handle(On::Switched, fence);
            Ok(Some(done))
        }
        Do::Undo => {
            transaction::abort(place, txn).map_err(|error| of_commit(&error))?;
            participant.handle(On::Undone, fence);
            Ok(None)
        }
        Do::Confirm => Ok(None),
        _ => {
            let message = "No such transaction is open here";
            Err(Problem::new(Code::TransactionOpen, message))
        }
    }
}

/// What the clock of the file system says.
fn now(place: &Place) -> Result<Time, Problem> {
    let now = FsClock::open(place.state()).and_then(|clock| clock.now());
    now.map_err(|error| of_fs(&error))
}

fn out_of_turn() -> Problem {
    Problem::new(Code::ProtocolViolation, "A request came out of turn")
}

/// What could not be kept, in one notice: why is the same for all of it.
fn unkept(all: &[(String, u64, Vec<Vec<u8>>)]) -> Option<Notice> {
    let parts: Vec<String> = all
        .iter()
        .map(|(what, count, paths)| {
            let entries = counted(*count, "entry", "entries");
            match paths.first() {
                Some(path) => format!("the {what} of {entries} (such as `{}`)", escape(path)),
                None => format!("the {what} of {entries}"),
            }
        })
        .collect();
    let message = format!("This agent may not set {}", parts.join(", "));
    (!all.is_empty()).then(|| notice(Code::CannotKeep, b"", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_kept_is_one_notice_with_counts() {
        assert_eq!(unkept(&[]), None);
        let paths = vec![b"a".to_vec(), b"b".to_vec()];
        let all = [
            ("group".to_owned(), 1, vec![b"c".to_vec()]),
            ("owner".to_owned(), 1_412, paths),
        ];
        assert_eq!(
            unkept(&all).unwrap().message,
            "This agent may not set the group of 1 entry (such as `c`), \
             the owner of 1,412 entries (such as `a`)"
        );
    }
}
