//! Stage, prepare, decide, commit: the two-phase commit of [`sync_proto::commit`] with real
//! members.
//!
//! One task for each member stages and prepares at its own pace and reports its vote; the
//! coordinator decides; each task then carries the decision to its member, for ten seconds if the
//! member has to be found again, and after that the member is in doubt.
//!
//! A *no* is a member's own word. One that is lost, makes no progress or isn't ready in time is
//! detached: it is stale, and the policy decides whether the others go on.
//!
//! In a rolling push (`rolling`) all members stage and vote first, and then one batch after the
//! other is decided, each by a transaction of its own.

mod rolling;

use super::encode::Encoder;
use super::kept::kept_serials;
use super::preflight::{Hub, Reached, connect, settle_doubts, state_problem};
use super::problem::{depot_problem, encode_problem};
use super::push::{DECISION, spawn};
use super::session::{Done, Session, SessionError, Staging};
use super::source::{self, Scanned, SourceSpec};
use super::task::{Task, tell};
use crate::codes::{Code, Problem};
use crate::engine::depot::Depot;
use crate::engine::event::{self, Event, MemberReport, Outcome, Phase, Stays};
use crate::fs::fault;
use crate::model::{Serial, ServerName};
use crate::store::{self, NewTransaction, Purpose};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use sync_proto::commit::{Coordinator, CoordinatorAction, Fate, Policy};
use sync_proto::path::escape;
use sync_proto::wire::{Decision, Generation, Plan, TxnKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A transaction that is about to begin.
pub struct Transaction<'a> {
    /// The hub.
    pub hub: &'a Hub,
    /// The task it belongs to.
    pub task: &'a Task,
    /// The depot.
    pub depot: Arc<Depot>,
    /// Makes the objects.
    pub encoder: Arc<Encoder>,
    /// What members will be at.
    pub generation: Generation,
    /// A new state, or an old one restored.
    pub purpose: Purpose,
    /// Which votes are needed of the members that take part.
    pub policy: Policy,
    /// So many of them must commit, whatever the policy.
    pub min_healthy: u32,
    /// The end of all patience.
    pub deadline: Instant,
    /// The source, where there is one.
    pub source: Option<(&'a SourceSpec, &'a Scanned)>,
}

/// How it ended.
#[derive(Default)]
pub struct Settled {
    /// Somebody is at the new generation.
    pub committed: bool,
    /// The source changed; nothing was committed, and it can be tried again.
    pub source_changed: bool,
    /// Member by member.
    pub members: Vec<(usize, MemberReport)>,
    /// When each member switched, Unix microseconds by the hub's clock.
    pub switched_us: Vec<i64>,
    /// How far those may be off.
    pub clock_error_us: i64,
}

/// What a member's task tells the coordinator.
enum Said {
    Vote(usize, Vote),
    /// The hub can go on: the depot holds everything, and the source still is what was scanned.
    HubReady(Result<(), Problem>),
}

/// What is known of a member's vote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vote {
    Yes,
    No,
    /// It was lost before one was heard.
    Lost,
    /// The decision came first.
    Unheard,
}

/// What came of one member.
struct Ended {
    at: usize,
    report: MemberReport,
    vote: Vote,
    /// It confirmed the decision.
    confirmed: bool,
    done: Option<Done>,
}

impl Ended {
    /// What was heard of it only after the decision tells how it stands all the same.
    fn settle(&self, coordinator: &mut Coordinator<usize>) {
        match self.vote {
            Vote::Yes => drop(coordinator.handle_vote(&self.at, true)),
            Vote::No => drop(coordinator.handle_vote(&self.at, false)),
            Vote::Lost => drop(coordinator.handle_lost(&self.at)),
            Vote::Unheard => {}
        }
        if self.confirmed {
            coordinator.handle_settled(&self.at);
        }
    }
}

/// Carries out a transaction with the members that have planned it.
pub async fn run(
    transaction: &Transaction<'_>,
    planned: Vec<(Reached, Plan)>,
) -> Result<Settled, Problem> {
    let (hub, task) = (transaction.hub, transaction.task);
    let batches = Batch::all(transaction, &planned);
    for batch in &batches {
        let purpose = match task.rolling {
            // What members should be at is decided by the last word of a rolling push alone.
            Some(_) => Purpose::Restore,
            None => transaction.purpose,
        };
        begin(transaction, batch.txn, purpose, &batch.members, &planned).await?;
    }
    let closing: TxnKey = rand::random();
    if task.rolling.is_some() {
        begin(transaction, closing, transaction.purpose, &[], &planned).await?;
    }

    let (say, mut heard) = mpsc::unbounded_channel();
    let reached: Vec<usize> = planned.iter().map(|(one, _)| one.at).collect();
    let mut coordinator =
        Coordinator::new(transaction.policy, reached, [], transaction.min_healthy);
    let mut members = JoinSet::new();
    for (one, plan) in planned {
        let Some(batch) = batches.iter().find(|batch| batch.has(one.at)) else {
            continue;
        };
        let member = Member {
            hub: hub.clone(),
            task: task.clone(),
            txn: batch.txn,
            generation: transaction.generation.clone(),
            encoder: transaction.encoder.clone(),
            say: say.clone(),
            decision: batch.decide.subscribe(),
            changed_entries: plan.added + plan.replaced + plan.touched + plan.deleted,
            stays: Stays::of(&plan),
        };
        members.spawn(member.run(one));
    }
    let mut ready = Box::pin(get_ready(transaction));
    let mut is_ready = false;
    let mut failed: Option<Problem> = None;
    let mut is_late = false;
    let mut actions = Vec::new();
    let mut votes = Vec::new();
    let mut heard_votes = BTreeMap::new();
    while coordinator.decision().is_none() && !actions.contains(&CoordinatorAction::Record) {
        let said = tokio::select! {
            said = heard.recv() => said,
            result = &mut ready, if !is_ready => Some(Said::HubReady(result)),
            () = tokio::time::sleep_until(transaction.deadline) => None,
        };
        if let Some(Said::Vote(at, vote)) = &said {
            heard_votes.insert(*at, *vote);
        }
        match said {
            Some(Said::HubReady(Ok(()))) => {
                is_ready = true;
                for at in votes.drain(..) {
                    actions.extend(coordinator.handle_vote(&at, true));
                }
            }
            Some(Said::HubReady(Err(problem))) => {
                failed = Some(problem);
                actions.extend(coordinator.handle_cancel());
            }
            // A no counts at once, a yes when the hub is ready itself.
            Some(Said::Vote(at, Vote::No)) => actions.extend(coordinator.handle_vote(&at, false)),
            Some(Said::Vote(at, Vote::Lost)) => actions.extend(coordinator.handle_lost(&at)),
            Some(Said::Vote(at, Vote::Yes)) if is_ready => {
                actions.extend(coordinator.handle_vote(&at, true));
            }
            Some(Said::Vote(at, Vote::Yes)) => votes.push(at),
            Some(Said::Vote(_, Vote::Unheard)) => {}
            None => {
                is_late = true;
                actions.extend(match is_ready {
                    true => coordinator.handle_deadline(),
                    false => coordinator.handle_cancel(),
                });
            }
        }
    }
    let is_ready_to_go = actions.contains(&CoordinatorAction::Record);
    if task.rolling.is_some() {
        let voted = rolling::Voted {
            batches,
            closing,
            votes: heard_votes,
            go: is_ready_to_go,
            is_late,
            failed,
        };
        return rolling::run(transaction, voted, members).await;
    }
    let Some(batch) = batches.first() else {
        return Ok(Settled::default());
    };
    let txn = batch.txn;
    if is_ready_to_go {
        fault::point("hub.decision.before").map_err(disk_problem)?;
        // ORDER: the decision is durable before any member hears it (I3).
        let recorded = hub
            .store
            .decide(&txn, store::Decision::Commit, hub.clock.now())
            .await;
        if let Err(error) = recorded {
            return Err(state_problem(error));
        }
        fault::point("hub.decision.after").map_err(disk_problem)?;
        actions = coordinator.handle_recorded();
    }
    let decided = coordinator.decision().unwrap_or(Decision::Abort);
    if decided == Decision::Abort {
        // What is not recorded is an abort anyway; this says when.
        let recorded = hub
            .store
            .decide(&txn, store::Decision::Abort, hub.clock.now())
            .await;
        recorded.map_err(state_problem)?;
    }
    hub.events.emit(Event::Decided {
        decision: match decided {
            Decision::Commit => event::Decision::Commit,
            Decision::Abort => event::Decision::Abort,
        },
        generation: transaction.generation.serial,
    });
    batch.tell(actions);

    let mut ended = Vec::new();
    while let Some(joined) = members.join_next().await {
        match joined {
            Ok(one) => {
                one.settle(&mut coordinator);
                ended.push(one);
            }
            Err(error) => tracing::error!(%error, "a member's task was lost"),
        }
    }
    let mut settled = settle(&coordinator, ended, decided == Decision::Commit);
    explain(&mut settled, is_late, task.deadline);
    // Whoever notices first, a member's sender or the look at the end: the source is scanned again.
    let is_change =
        |problem: &Problem| problem.code == Code::SourceChanged && transaction.source.is_some();
    let mut noticed = settled
        .members
        .iter()
        .filter_map(|(_, report)| report.problem.as_ref());
    settled.source_changed = !settled.committed && noticed.any(is_change);
    if let Some(problem) = failed {
        settled.source_changed = problem.code == Code::SourceChanged;
        if !settled.source_changed {
            return Err(problem);
        }
    }
    Ok(settled)
}

/// Members that switch together, by one decision.
struct Batch {
    txn: TxnKey,
    members: Vec<(usize, event::MemberName)>,
    decide: watch::Sender<Told>,
}

/// What each member of a batch is told, once it is decided.
type Told = Option<Arc<HashMap<usize, Decision>>>;

impl Batch {
    /// All members in one, or in as many as the rolling push wants.
    fn all(transaction: &Transaction<'_>, planned: &[(Reached, Plan)]) -> Vec<Self> {
        let at_once = match &transaction.task.rolling {
            Some(rolling) => rolling.at_once.get(),
            None => planned.len().max(1),
        };
        planned
            .chunks(at_once)
            .map(|members| Self {
                txn: rand::random(),
                members: members
                    .iter()
                    .map(|(one, _)| (one.at, one.name.clone()))
                    .collect(),
                decide: watch::channel(None).0,
            })
            .collect()
    }

    fn has(&self, at: usize) -> bool {
        self.members.iter().any(|(member, _)| *member == at)
    }

    fn tell(&self, actions: Vec<CoordinatorAction<usize>>) {
        let told = actions.into_iter().filter_map(|action| match action {
            CoordinatorAction::Send(at, decision) => Some((at, decision)),
            CoordinatorAction::Record => None,
        });
        self.decide.send_replace(Some(Arc::new(told.collect())));
    }
}

async fn begin(
    transaction: &Transaction<'_>,
    txn: TxnKey,
    purpose: Purpose,
    members: &[(usize, event::MemberName)],
    planned: &[(Reached, Plan)],
) -> Result<(), Problem> {
    let (hub, task) = (transaction.hub, transaction.task);
    let servers: Vec<ServerName> = members
        .iter()
        .filter_map(|(_, name)| name.parse().ok())
        .collect();
    let new = NewTransaction {
        txn,
        platform: task.platform.clone(),
        serial: Serial(transaction.generation.serial),
        fence: planned.iter().map(|(one, _)| one.fence).max().unwrap_or(0),
        purpose,
        members: servers,
        author: task.author.clone(),
        begun: hub.clock.now(),
    };
    hub.store
        .begin_transaction(&new)
        .await
        .map_err(state_problem)
}

fn disk_problem(error: crate::fs::FsError) -> Problem {
    Problem::from_error(Code::StateDamaged, &error)
}

/// Encodes what the depot lacks, looks at the source once more, and makes the depot durable.
async fn get_ready(transaction: &Transaction<'_>) -> Result<(), Problem> {
    transaction
        .encoder
        .fill_depot()
        .await
        .map_err(|error| encode_problem(&error))?;
    if let Some((spec, scanned)) = transaction.source {
        let again = {
            let spec = spec.clone();
            let (root, index) = (scanned.root.clone(), scanned.index.clone());
            spawn(move || source::is_unchanged(&spec, &root, &index)).await?
        };
        if !again {
            return Err(Problem::new(
                Code::SourceChanged,
                "The source changed while it was being pushed",
            ));
        }
    }
    let depot = transaction.depot.clone();
    spawn(move || depot.sync().map_err(|error| depot_problem(&error))).await
}

fn settle(coordinator: &Coordinator<usize>, ended: Vec<Ended>, committed: bool) -> Settled {
    by_fate(&coordinator.fates().unwrap_or_default(), ended, committed)
}

fn by_fate(fates: &BTreeMap<usize, Fate>, ended: Vec<Ended>, committed: bool) -> Settled {
    let mut settled = Settled {
        committed,
        ..Settled::default()
    };
    for mut one in ended {
        one.report.outcome = match fates.get(&one.at) {
            Some(Fate::Committed) => Outcome::Committed,
            Some(Fate::InDoubt) => Outcome::InDoubt,
            Some(Fate::Aborted) | None => Outcome::Aborted,
            Some(Fate::Failed) => Outcome::Failed,
            Some(Fate::Stale) => Outcome::Stale,
        };
        if let Some(done) = &one.done {
            settled.switched_us.push(done.switched_us);
            settled.clock_error_us = settled.clock_error_us.max(done.error_us);
        }
        settled.members.push((one.at, one.report));
    }
    settled
}

fn in_doubt(name: &str, decision: &str, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        Code::MemberInDoubt,
        format!("{name} voted and has not confirmed the {decision}: {why}"),
    )
}

/// Gives every member that isn't at the new generation a reason, its own or that of another.
fn explain(settled: &mut Settled, is_late: bool, deadline: Duration) {
    let late = || {
        let seconds = deadline.as_secs();
        Problem::new(
            Code::DeadlineExceeded,
            format!("Not ready within the {seconds} s that the task had"),
        )
    };
    let reports = || settled.members.iter().map(|(_, report)| report);
    let cause = reports()
        .filter(|report| report.outcome == Outcome::Failed)
        .chain(reports().filter(|report| report.outcome == Outcome::Stale))
        .find_map(|report| {
            let (name, message) = (&report.name, &report.problem.as_ref()?.message);
            Some(match report.outcome {
                Outcome::Failed => format!("{name} said no: {message}"),
                _ => format!("{name} was lost before its vote: {message}"),
            })
        });
    for (_, report) in &mut settled.members {
        let is_missing = report.problem.is_none();
        match report.outcome {
            Outcome::Stale if is_missing => report.problem = Some(late()),
            Outcome::Aborted if is_missing => {
                let cause = match (&cause, is_late) {
                    (Some(cause), _) => cause.clone(),
                    (None, true) => late().message,
                    (None, false) => "The votes that the policy needs didn't come".into(),
                };
                report.problem = Some(Problem::new(Code::MemberAborted, cause));
            }
            _ => {}
        }
    }
}

/// One member's part.
struct Member {
    hub: Hub,
    task: Task,
    txn: TxnKey,
    generation: Generation,
    encoder: Arc<Encoder>,
    say: mpsc::UnboundedSender<Said>,
    decision: watch::Receiver<Told>,
    changed_entries: u64,
    /// What its plan leaves alone.
    stays: Stays,
}

impl Member {
    async fn run(mut self, mut one: Reached) -> Ended {
        let at = one.at;
        let mut report = MemberReport::new(one.name.clone(), Outcome::Failed);
        report.generation = one
            .opened
            .generation
            .as_ref()
            .map(|generation| generation.serial);
        let mut decision = self.decision.clone();
        let voted = tokio::select! {
            voted = self.vote(&mut one.session, &one.name) => Some(voted),
            // Decided without waiting for us.
            _ = decision.wait_for(Option::is_some) => None,
        };
        let mut vote = match &voted {
            Some(Ok(())) => Vote::Yes,
            Some(Err(error)) if error.is_lost() => Vote::Lost,
            Some(Err(_)) => Vote::No,
            None => Vote::Unheard,
        };
        if let Some(Err(error)) = &voted {
            report.problem = Some(error.problem());
        }
        if vote == Vote::Lost {
            one.session.detach();
        }
        let _coordinator_gone = self.say.send(Said::Vote(at, vote));
        let all = match self.decision.wait_for(Option::is_some).await {
            Ok(told) => told.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        };
        let told = all.get(&at).copied();
        let is_commit = all.values().any(|it| *it == Decision::Commit);
        let (mut done, mut confirmed) = (None, false);
        match told {
            Some(Decision::Commit) => match self.commit(&mut one).await {
                Ok(committed) => {
                    report.generation = Some(self.generation.serial);
                    report.changed_entries = committed.changed_entries;
                    report.stays = std::mem::take(&mut self.stays);
                    if self.task.overrides.delete_foreign {
                        report.stays.foreign.clear();
                    }
                    for notice in &committed.notices {
                        if notice.code == Code::Drift.id() {
                            report.kept_aside = Some(escape(&notice.path));
                        } else {
                            tell(&self.hub.events, &one.name, notice);
                        }
                    }
                    (done, confirmed) = (Some(committed), true);
                }
                Err(problem) => report.problem = Some(problem),
            },
            // What it holds it is told when it comes back.
            _ if vote == Vote::Lost => {}
            // It may have voted by now, and others commit (I3): it is left behind, and asks.
            None if is_commit => {
                one.session.detach();
                vote = Vote::Lost;
            }
            _ => match one.session.abort(self.txn, DECISION).await {
                Ok(()) => confirmed = true,
                Err(error) => {
                    tracing::debug!(member = %one.name, %error, "the abort was not confirmed");
                    match vote {
                        Vote::Yes => report.problem = Some(in_doubt(&one.name, "abort", &error)),
                        Vote::Unheard if error.is_lost() => {
                            vote = Vote::Lost;
                            report.problem = Some(error.problem());
                        }
                        _ => {}
                    }
                }
            },
        }
        let stats = one.session.connection().stats();
        report.sent_bytes = stats.sent_bytes;
        report.received_bytes = stats.received_bytes;
        report.round_trips = stats.round_trips;
        report.content_bytes = one.session.content_bytes();
        Ended {
            at,
            report,
            vote,
            confirmed,
            done,
        }
    }

    async fn vote(
        &self,
        session: &mut Session,
        name: &event::MemberName,
    ) -> Result<(), SessionError> {
        let events = &self.hub.events;
        let phase = |phase| {
            events.emit(Event::Phase {
                member: name.clone(),
                phase,
            });
        };
        phase(Phase::Receiving);
        let total_entries = self.changed_entries;
        let report = |staging| match staging {
            Staging::Needs { raw_bytes, .. } => events.emit(Event::Needs {
                member: name.clone(),
                changed_entries: total_entries,
                total_bytes: raw_bytes,
            }),
            Staging::Sent {
                sent_bytes,
                needed_bytes,
            } => events.emit(Event::Sent {
                member: name.clone(),
                sent_bytes,
                total_bytes: needed_bytes,
            }),
            Staging::Progress { entries, .. } => events.emit(Event::Staged {
                member: name.clone(),
                staged_entries: entries,
                total_entries,
            }),
        };
        let delete_foreign = self.task.overrides.delete_foreign;
        let notices = session
            .stage(
                self.txn,
                self.generation.clone(),
                delete_foreign,
                &self.encoder,
                report,
            )
            .await?;
        for notice in &notices {
            tell(events, name, notice);
        }
        phase(Phase::Preparing);
        let overwritten = session.prepare(self.txn).await?;
        for notice in &overwritten {
            tell(events, name, notice);
        }
        phase(Phase::Voted);
        Ok(())
    }

    /// Tells the member to commit; if it is lost, for ten seconds through new connections.
    async fn commit(&self, one: &mut Reached) -> Result<Done, Problem> {
        let events = &self.hub.events;
        events.emit(Event::Phase {
            member: one.name.clone(),
            phase: Phase::Committing,
        });
        let until = Instant::now() + DECISION;
        let mut last = match one.session.commit(self.txn).await {
            Ok(done) => {
                // Where nothing was, nothing is to be collected.
                if one.opened.generation.is_some() {
                    self.keep(&one.session, &one.name).await;
                }
                return Ok(done);
            }
            Err(error) if !error.is_lost() => return Err(error.problem()),
            Err(error) => error.problem(),
        };
        let Some(target) = self.task.targets.get(one.at) else {
            return Err(last);
        };
        while Instant::now() < until {
            match tokio::time::timeout_at(until, connect(&self.hub, &self.task, target)).await {
                Ok(Ok(session)) => {
                    match settle_doubts(&self.hub, &self.task, &session, target).await {
                        Ok(()) => match session.survey(self.task.tree).await {
                            Ok(survey) if survey.live == Some(self.generation.serial) => {
                                one.session = session;
                                let switched_us = self.hub.clock.now().0.saturating_mul(1000);
                                return Ok(Done {
                                    switched_us,
                                    error_us: 0,
                                    changed_entries: self.changed_entries,
                                    notices: Vec::new(),
                                });
                            }
                            Ok(_) => {}
                            Err(error) => last = error.problem(),
                        },
                        Err(trouble) => last = trouble.problem,
                    }
                }
                Ok(Err(problem)) => last = problem,
                Err(_) => break,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(in_doubt(&one.name, "commit", &last.message))
    }

    /// Has the member collect what is not kept any more; not a reason for anything to fail.
    async fn keep(&self, session: &Session, name: &event::MemberName) {
        let serials = match kept_serials(&self.hub, &self.task).await {
            Ok(serials) => serials,
            Err(error) => return tracing::warn!(%error, "what is kept is not known"),
        };
        match session.keep(self.task.tree, serials).await {
            Ok(notices) => notices.iter().for_each(|notice| {
                tell(&self.hub.events, name, notice);
            }),
            Err(error) => tracing::warn!(member = %name, %error, "old generations stay"),
        }
    }
}

#[cfg(test)]
mod tests;
