//! A rolling push: every member has voted, and batch after batch leaves the rotation, is decided,
//! switches, proves itself and comes back.
//!
//! Each batch is a transaction of its own over what its members have staged, so every promise of
//! the two-phase commit holds for it as for any other. None of them sets the desired generation: a
//! last transaction without members does, once all of them are proved. Until then whoever repairs
//! a member brings it to the generation before (I12), and a hub that dies on the way leaves members
//! of which each has one whole generation.
//!
//! Where a batch doesn't prove itself the push stops. Under `all` and `reachable` every member goes
//! back; under `quorum` and `each` only those of the batch, if enough others are there.

use super::{Batch, Ended, Settled, Transaction, Vote, by_fate, disk_problem, explain};
use crate::codes::{Code, Problem};
use crate::engine::event::{self, Event, MemberName, MemberReport, Outcome};
use crate::engine::hub::preflight::state_problem;
use crate::engine::hub::push;
use crate::engine::hub::task::{Goal, Rolling, Task};
use crate::fs::fault;
use crate::store;
use std::collections::BTreeMap;
use std::time::Duration;
use sync_proto::commit::{Coordinator, CoordinatorAction, Fate, Policy};
use sync_proto::wire::{Decision, TxnKey};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the votes said.
pub(super) struct Voted {
    /// The batches, in the order in which they switch.
    pub(super) batches: Vec<Batch>,
    /// The transaction that sets what is desired.
    pub(super) closing: TxnKey,
    /// Each member's vote, as far as it was heard.
    pub(super) votes: BTreeMap<usize, Vote>,
    /// The policy is content with them.
    pub(super) go: bool,
    /// The deadline passed before they were in.
    pub(super) is_late: bool,
    /// The hub itself can't go on.
    pub(super) failed: Option<Problem>,
}

/// Members that belong together.
type Names = Vec<(usize, MemberName)>;

pub(super) async fn run(
    transaction: &Transaction<'_>,
    voted: Voted,
    members: JoinSet<Ended>,
) -> Result<Settled, Problem> {
    let Some(rolling) = transaction.task.rolling.clone() else {
        return Err(Problem::new(Code::Bug, "Batches without a rolling push"));
    };
    let mut roll = Roll {
        transaction,
        rolling,
        members,
        ended: Vec::new(),
        fates: BTreeMap::new(),
        stopped: None,
        ahead: Vec::new(),
        failing: Vec::new(),
    };
    for batch in &voted.batches {
        let is_on = voted.go && roll.stopped.is_none();
        roll.batch(batch, &voted.votes, is_on).await?;
    }
    // The abort was told; what the members said to it.
    while let Some(joined) = roll.members.join_next().await {
        roll.note(joined);
    }
    for batch in &voted.batches {
        roll.fates_of(batch, &voted.votes);
    }
    roll.close(voted).await
}

struct Roll<'a> {
    transaction: &'a Transaction<'a>,
    rolling: Rolling,
    members: JoinSet<Ended>,
    ended: Vec<Ended>,
    fates: BTreeMap<usize, Fate>,
    /// Why it didn't go on.
    stopped: Option<Problem>,
    /// Switched, proved, in rotation.
    ahead: Names,
    /// Switched, and not proved.
    failing: Names,
}

impl Roll<'_> {
    /// One batch from its place in the rotation back to it. `is_on` unless the push was called off.
    async fn batch(
        &mut self,
        batch: &Batch,
        votes: &BTreeMap<usize, Vote>,
        is_on: bool,
    ) -> Result<(), Problem> {
        let yes: Names = batch
            .members
            .iter()
            .filter(|(at, _)| votes.get(at) == Some(&Vote::Yes))
            .cloned()
            .collect();
        let names = named(&yes);
        let mut goes = is_on && !yes.is_empty();
        if goes && Instant::now() >= self.transaction.deadline {
            self.stopped = Some(late(self.transaction.task.deadline));
            goes = false;
        }
        if goes {
            self.say(&names, "leave the rotation");
            if let Err(problem) = self.rolling.rotation.leave(&names).await {
                self.stopped = Some(problem);
                goes = false;
            }
        }
        self.decide(batch, votes, goes).await?;
        if !goes {
            return Ok(());
        }
        while !batch.members.iter().all(|(at, _)| self.has_ended(*at)) {
            match self.members.join_next().await {
                Some(joined) => self.note(joined),
                None => break,
            }
        }
        if let Err(problem) = self.proved(&yes, &names).await {
            self.stopped = Some(problem);
            self.failing = yes;
            return Ok(());
        }
        self.ahead.extend(yes);
        Ok(())
    }

    async fn proved(&self, yes: &Names, names: &[MemberName]) -> Result<(), Problem> {
        for (at, name) in yes {
            let one = self.ended.iter().find(|one| one.at == *at);
            if one.is_none_or(|one| one.done.is_none()) {
                let said = one.and_then(|one| one.report.problem.clone());
                return Err(said.unwrap_or_else(|| {
                    Problem::new(Code::MemberInDoubt, format!("{name} was lost"))
                }));
            }
        }
        self.say(names, "prove themselves");
        self.rolling.rotation.prove(names).await?;
        self.rolling.rotation.back(names).await
    }

    /// Decides one batch and tells its members.
    async fn decide(
        &self,
        batch: &Batch,
        votes: &BTreeMap<usize, Vote>,
        goes: bool,
    ) -> Result<(), Problem> {
        let hub = self.transaction.hub;
        let mut coordinator = coordinator(batch);
        for (at, _) in &batch.members {
            let _before_the_decision = match votes.get(at) {
                Some(Vote::Yes) => continue,
                Some(Vote::No) => coordinator.handle_vote(at, false),
                _ => coordinator.handle_lost(at),
            };
        }
        let actions = if goes {
            for (at, _) in &batch.members {
                if votes.get(at) == Some(&Vote::Yes) {
                    coordinator.handle_vote(at, true);
                }
            }
            fault::point("hub.batch.before").map_err(disk_problem)?;
            // ORDER: the decision is durable before any member hears it (I3).
            hub.store
                .decide(&batch.txn, store::Decision::Commit, hub.clock.now())
                .await
                .map_err(state_problem)?;
            fault::point("hub.batch.after").map_err(disk_problem)?;
            coordinator.handle_recorded()
        } else {
            let mut actions = coordinator.handle_cancel();
            if actions.is_empty() {
                // Nobody was left who could be called off; those who said no are told all the same.
                actions = aborts(batch, votes);
            }
            hub.store
                .decide(&batch.txn, store::Decision::Abort, hub.clock.now())
                .await
                .map_err(state_problem)?;
            actions
        };
        batch.tell(actions);
        Ok(())
    }

    /// How each member of a batch stands, from its vote, the decision and what it confirmed.
    fn fates_of(&mut self, batch: &Batch, votes: &BTreeMap<usize, Vote>) {
        let ends = || self.ended.iter().filter(|one| batch.has(one.at));
        let is_committed = batch
            .decide
            .borrow()
            .as_ref()
            .is_some_and(|told| told.values().any(|it| *it == Decision::Commit));
        let mut coordinator = coordinator(batch);
        if !is_committed {
            coordinator.handle_cancel();
        }
        for (at, _) in &batch.members {
            match votes.get(at) {
                Some(Vote::Yes) => drop(coordinator.handle_vote(at, true)),
                Some(Vote::No) => drop(coordinator.handle_vote(at, false)),
                Some(Vote::Lost) => drop(coordinator.handle_lost(at)),
                Some(Vote::Unheard) | None => {}
            }
        }
        if is_committed {
            coordinator.handle_deadline();
            coordinator.handle_recorded();
        }
        for one in ends() {
            one.settle(&mut coordinator);
        }
        self.fates.extend(coordinator.fates().unwrap_or_default());
    }

    /// Sets what is desired, or sees to it that everybody goes back.
    async fn close(mut self, voted: Voted) -> Result<Settled, Problem> {
        let hub = self.transaction.hub;
        let ended = std::mem::take(&mut self.ended);
        let is_whole = voted.go && self.stopped.is_none();
        let goes_on = is_whole || self.is_enough();
        let mut returned = BTreeMap::new();
        // ORDER: before the last word, since what they go back to is desired only until then.
        if !is_whole && self.has_before().await? {
            if !self.failing.is_empty() {
                returned.extend(self.go_back(&self.failing).await);
            }
            if !goes_on {
                self.try_again(&self.failing).await;
                for members in self.ahead.chunks(self.rolling.at_once.get()) {
                    returned.extend(self.return_batch(members).await);
                }
            }
        }
        let decision = match goes_on {
            true => store::Decision::Commit,
            false => store::Decision::Abort,
        };
        fault::point("hub.closing.before").map_err(disk_problem)?;
        hub.store
            .decide(&voted.closing, decision, hub.clock.now())
            .await
            .map_err(state_problem)?;
        fault::point("hub.closing.after").map_err(disk_problem)?;
        hub.events.emit(Event::Decided {
            decision: match goes_on {
                true => event::Decision::Commit,
                false => event::Decision::Abort,
            },
            generation: self.transaction.generation.serial,
        });
        let is_untouched = self.ahead.is_empty() && self.failing.is_empty();
        if let Some(refusal) = self.stopped.clone().filter(|_| is_untouched) {
            // Nobody switched: the push is refused as by any other brake.
            return Err(refusal);
        }
        let mut settled = by_fate(&self.fates, ended, goes_on);
        for (at, report) in &mut settled.members {
            self.explain(*at, report, returned.remove(at), goes_on);
        }
        explain(&mut settled, voted.is_late, self.transaction.task.deadline);
        let is_change = |problem: &Problem| {
            problem.code == Code::SourceChanged && self.transaction.source.is_some()
        };
        let mut problems = settled
            .members
            .iter()
            .filter_map(|(_, it)| it.problem.as_ref());
        settled.source_changed = !goes_on && problems.any(is_change);
        match voted.failed {
            Some(problem) if is_change(&problem) => settled.source_changed = true,
            Some(problem) => return Err(problem),
            None => {}
        }
        Ok(settled)
    }

    /// Is there a generation to go back to?
    async fn has_before(&self) -> Result<bool, Problem> {
        let (hub, task) = (self.transaction.hub, self.transaction.task);
        let state = hub.store.platform(&task.platform).await;
        let state = state.map_err(state_problem)?;
        Ok(state.is_some_and(|state| state.desired.is_some()))
    }

    /// After a stop: may those that are there stay there?
    fn is_enough(&self) -> bool {
        let there = u32::try_from(self.ahead.len()).unwrap_or(u32::MAX);
        let least = self.transaction.min_healthy.max(1);
        match self.transaction.task.policy {
            Policy::All | Policy::Reachable => false,
            Policy::Quorum(votes) => there >= votes.max(least),
            Policy::Each => there >= least,
        }
    }

    /// Brings members to what is still desired, as a repair does.
    async fn go_back(&self, members: &[(usize, MemberName)]) -> Vec<(usize, MemberReport)> {
        let task = self.transaction.task;
        self.say(&named(members), "go back");
        let mut overrides = task.overrides;
        // They come from there: how far it is must not keep them away.
        overrides.delete_entries = Some(u64::MAX);
        let back = Task {
            targets: members
                .iter()
                .filter_map(|(at, _)| task.targets.get(*at).cloned())
                .collect(),
            left_out: Vec::new(),
            policy: Policy::Each,
            min_healthy: 1,
            rolling: None,
            overrides,
            ..task.clone()
        };
        let (hub, depot) = (self.transaction.hub, self.transaction.depot.clone());
        let report = Box::pin(push::run(hub, depot, &back, Goal::Desired)).await;
        if let Some(refusal) = report.refusals.first() {
            hub.events.warn(refusal.clone());
        }
        let ats = members.iter().map(|(at, _)| *at);
        ats.zip(report.members).collect()
    }

    /// A batch that had been proved goes back like the others.
    async fn return_batch(&self, members: &[(usize, MemberName)]) -> Vec<(usize, MemberReport)> {
        let names = named(members);
        if let Err(problem) = self.rolling.rotation.leave(&names).await {
            // It serves a generation that is whole and proved; better mixed than gone.
            self.transaction.hub.events.warn(problem);
            return Vec::new();
        }
        let reports = self.go_back(members).await;
        self.try_again(members).await;
        reports
    }

    /// Back at the generation before: who proves itself with it serves again.
    async fn try_again(&self, members: &[(usize, MemberName)]) {
        let rotation = &self.rolling.rotation;
        for (_, name) in members {
            let one = std::slice::from_ref(name);
            let proved = match rotation.prove(one).await {
                Ok(()) => rotation.back(one).await,
                Err(problem) => Err(problem),
            };
            if let Err(problem) = proved {
                self.transaction.hub.events.warn(problem);
            }
        }
    }

    /// What a member's report says about a push that stopped.
    fn explain(
        &self,
        at: usize,
        report: &mut MemberReport,
        returned: Option<MemberReport>,
        goes_on: bool,
    ) {
        let Some(stopped) = &self.stopped else {
            return;
        };
        let is_of = |names: &Names| names.iter().any(|(member, _)| *member == at);
        let has_returned = returned.is_some();
        if let Some(returned) = returned {
            report.generation = returned.generation;
        }
        if is_of(&self.failing) {
            report.outcome = Outcome::Failed;
            report.problem = Some(stopped.clone());
        } else if is_of(&self.ahead) && !goes_on {
            report.outcome = match has_returned {
                true => Outcome::Aborted,
                false => Outcome::Stale,
            };
            report.problem = Some(went_on_without(stopped));
        } else if report.outcome == Outcome::Aborted && report.problem.is_none() {
            report.problem = Some(went_on_without(stopped));
        }
    }

    fn has_ended(&self, at: usize) -> bool {
        self.ended.iter().any(|one| one.at == at)
    }

    fn note(&mut self, joined: Result<Ended, tokio::task::JoinError>) {
        match joined {
            Ok(one) => self.ended.push(one),
            Err(error) => tracing::error!(%error, "a member's task was lost"),
        }
    }

    fn say(&self, names: &[MemberName], what: &str) {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let note = format!("{}: {what}", names.join(", "));
        self.transaction.hub.events.emit(Event::Note(note));
    }
}

/// Each for itself: the policy was asked already, about all of them together.
fn coordinator(batch: &Batch) -> Coordinator<usize> {
    Coordinator::new(Policy::Each, batch.members.iter().map(|(at, _)| *at), [], 1)
}

fn aborts(batch: &Batch, votes: &BTreeMap<usize, Vote>) -> Vec<CoordinatorAction<usize>> {
    let answers = |at: &usize| matches!(votes.get(at), Some(Vote::Yes | Vote::No));
    let ats = batch.members.iter().map(|(at, _)| *at);
    ats.filter(answers)
        .map(|at| CoordinatorAction::Send(at, Decision::Abort))
        .collect()
}

fn went_on_without(stopped: &Problem) -> Problem {
    let message = format!("The rolling push stopped: {}", stopped.message);
    Problem::new(Code::MemberAborted, message).with_hint(stopped.hint().to_owned())
}

fn named(members: &[(usize, MemberName)]) -> Vec<MemberName> {
    members.iter().map(|(_, name)| name.clone()).collect()
}

fn late(deadline: Duration) -> Problem {
    let seconds = deadline.as_secs();
    Problem::new(
        Code::DeadlineExceeded,
        format!("Not done within the {seconds} s that the task had"),
    )
}
