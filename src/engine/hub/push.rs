//! A task on one platform, from the source to the last member's confirmation.
//!
//! Phases in order: look at the source and reach the members, both at the same time; compare; the
//! brakes; stage, prepare and commit (`transact`); record. Push, rollback and
//! resync differ in their [`Goal`] alone.

mod weigh;

use super::donors::Donors;
use super::encode::Encoder;
use super::kept::{kept_offer, roots_of, seeded};
use super::offer::Offer;
use super::preflight::{Hub, Reached, Unreached, reach, state_problem};
use super::problem::encode_problem;
use super::source::{self, Scanned, SourceSpec};
use super::supply::Supply;
use super::task::{Goal, Task, TaskReport};
use super::transact::{self, Transaction};
use crate::codes::{Code, Exit, Problem};
use crate::engine::depot::Depot;
use crate::engine::event::{Event, MemberName, MemberReport, Outcome, Stays};
use crate::model::Serial;
use crate::store::{Generation, MemberError, MemberState, NewGeneration, Purpose};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_proto::commit::Policy;
use sync_proto::wire::{self, Plan};
use tokio::task::JoinSet;

/// A change of the source while it is pushed is followed once.
const SCANS: usize = 2;

/// Carries out a task. Whatever happens to single members is in the report.
pub async fn run(hub: &Hub, depot: Arc<Depot>, task: &Task, goal: Goal) -> TaskReport {
    let mut run = Run {
        hub,
        depot,
        task,
        began: Instant::now(),
        report: TaskReport::new(task),
        reports: vec![None; task.targets.len()],
        known: HashMap::new(),
        is_repair: matches!(goal, Goal::Desired),
    };
    if let Err(problem) = run.all(goal).await {
        run.report.refusals.push(problem);
    }
    run.finish().await
}

/// What all members are to have, and where its contents come from.
struct Aim {
    offer: Arc<Offer>,
    scanned: Option<Scanned>,
}

struct Run<'a> {
    hub: &'a Hub,
    depot: Arc<Depot>,
    task: &'a Task,
    began: Instant,
    report: TaskReport,
    reports: Vec<Option<MemberReport>>,
    /// The generations that members were at when last seen.
    known: HashMap<MemberName, u64>,
    /// Each member on its own is brought to what was decided before.
    is_repair: bool,
}

impl Run<'_> {
    async fn all(&mut self, goal: Goal) -> Result<(), Problem> {
        let (store, platform) = (&self.hub.store, &self.task.platform);
        let state = store.platform(platform).await.map_err(state_problem)?;
        let known = store.members(platform).await.map_err(state_problem)?;
        self.known = known
            .into_iter()
            .filter_map(|one| Some((one.server.as_str().into(), one.serial?.0)))
            .collect();
        let desired = match state.and_then(|state| state.desired) {
            Some(serial) => Some(
                store
                    .generation(platform, serial)
                    .await
                    .map_err(state_problem)?,
            ),
            None => None,
        };
        self.report.generation = desired.as_ref().map(|generation| generation.serial.0);
        if let Goal::Source(spec) = &goal {
            source::check(spec)?;
        }
        let fence = match self.task.dry_run || self.task.report_only {
            true => 0,
            false => store.next_fence(platform, 0).await.map_err(state_problem)?,
        };
        let (aim, reached) = tokio::join!(self.aim(&goal, desired.as_ref()), self.preflight(fence));
        let mut aim = aim?;
        let (mut reached, unreached) = reached;
        let unreached = match self.task.dry_run {
            true => self.itemise_unbound(&aim, unreached),
            false => unreached,
        };
        let said_no = self.note_unreached(unreached);
        if !self.report.refusals.is_empty() || said_no.is_some() {
            self.call_off(reached, said_no).await;
            return Ok(());
        }
        if reached.is_empty() {
            return Ok(());
        }
        for attempt in 1..=SCANS {
            let again = self
                .attempt(&goal, &aim, desired.as_ref(), &mut reached)
                .await?;
            if !again {
                break;
            }
            if attempt == SCANS {
                return Err(Problem::new(
                    Code::SourceChanged,
                    "The source keeps changing while it is being pushed",
                ));
            }
            aim = self.aim(&goal, desired.as_ref()).await?;
            let (back, lost) = self.preflight(fence).await;
            for one in &back {
                // One that was lost on the way may be back.
                if let Some(report) = self.reports.get_mut(one.at) {
                    *report = None;
                }
            }
            let said_no = self.note_unreached(lost);
            if said_no.is_some() {
                self.call_off(back, said_no).await;
                return Ok(());
            }
            reached = back;
        }
        Ok(())
    }

    /// What members should have.
    async fn aim(&self, goal: &Goal, desired: Option<&Generation>) -> Result<Aim, Problem> {
        let depot = self.depot.clone();
        let roots = match goal {
            Goal::Source(spec) => return self.scan(spec).await,
            Goal::Kept { roots, .. } => *roots,
            Goal::Desired => roots_of(desired.ok_or_else(|| {
                Problem::new(
                    Code::NoGeneration,
                    "Nothing was pushed yet, so there is nothing to restore",
                )
            })?),
        };
        let offer = kept_offer(self.task, depot, roots).await?;
        Ok(Aim {
            offer: Arc::new(offer),
            scanned: None,
        })
    }

    async fn scan(&self, spec: &SourceSpec) -> Result<Aim, Problem> {
        let (spec, events) = (spec.clone(), self.hub.events.clone());
        let (seeded, depot) = (seeded(self.task)?, self.depot.clone());
        spawn(move || {
            let mut scanned = source::scan(&spec, Some(&depot), &events)?;
            for problem in std::mem::take(&mut scanned.warnings) {
                events.warn(problem);
            }
            let offer = Arc::new(Offer::new(scanned.manifest.clone(), seeded.as_ref()));
            Ok(Aim {
                offer,
                scanned: Some(scanned),
            })
        })
        .await
    }

    /// Reaches every member at once.
    async fn preflight(&self, fence: u64) -> (Vec<Reached>, Vec<Unreached>) {
        let mut reaching = JoinSet::new();
        for (at, target) in self.task.targets.iter().enumerate() {
            let (hub, task, target) = (self.hub.clone(), self.task.clone(), target.clone());
            // LIMIT: who neither answers nor ends is waited for no longer than for all the rest.
            let until = tokio::time::Instant::now()
                + self.task.deadline.saturating_sub(self.began.elapsed());
            reaching.spawn(async move {
                let reached = reach(&hub, &task, at, &target, fence);
                let reached = tokio::time::timeout_at(until, reached).await;
                reached.unwrap_or_else(|_| {
                    let seconds = task.deadline.as_secs();
                    let message = format!(
                        "{} was not ready within the {seconds} s that the task had",
                        target.name
                    );
                    Err(Unreached {
                        at,
                        problem: Problem::new(Code::DeadlineExceeded, message),
                        answered: false,
                    })
                })
            });
        }
        let (mut reached, mut unreached) = (Vec::new(), Vec::new());
        while let Some(result) = reaching.join_next().await {
            match result {
                Ok(Ok(one)) => reached.push(one),
                Ok(Err(one)) => unreached.push(one),
                Err(error) => tracing::error!(%error, "a member's task was lost"),
            }
        }
        reached.sort_by_key(|one| one.at);
        (reached, unreached)
    }

    /// Records who takes no part. Returns who said no before the vote, and why, where that stops the
    /// others.
    fn note_unreached(&mut self, unreached: Vec<Unreached>) -> Option<String> {
        let mut said_no = None;
        for one in unreached {
            if one.answered && self.is_unanimous() {
                let name = self.task.targets.get(one.at).map(|target| &target.name);
                let name = name.map_or("a member", AsRef::as_ref);
                said_no.get_or_insert_with(|| format!("{name} said no: {}", one.problem.message));
            }
            // A brake on one member's own disk refuses the push for all, as any other does.
            let is_brake = one.answered && one.problem.code.exit() == Exit::Refused;
            if is_brake && !self.is_repair {
                let target = self.task.targets.get(one.at);
                let name = target.map_or("", |target| &*target.name);
                self.report.refusals.push(one.problem.of(name));
            }
            let outcome = match (one.answered, is_brake) {
                (true, true) if !self.is_repair => Outcome::Aborted,
                (true, _) => Outcome::Failed,
                (false, _) => Outcome::Stale,
            };
            self.set(one.at, outcome, Some(one.problem));
        }
        said_no
    }

    /// A single no of a member stops all: a look or a repair stops nobody.
    fn is_unanimous(&self) -> bool {
        let is_look = self.task.dry_run || self.task.report_only;
        let needs_all = matches!(self.task.policy, Policy::Reachable | Policy::All);
        needs_all && !is_look && !self.is_repair
    }

    /// Leaves members before anything was written.
    async fn call_off(&mut self, reached: Vec<Reached>, why: Option<String>) {
        for one in reached {
            let problem = why
                .clone()
                .map(|why| Problem::new(Code::MemberAborted, why));
            self.set_ended(&one, Outcome::Aborted, problem);
            let _goodbye = one.session.leave().await;
        }
    }

    /// Compares, checks and carries out. True if the source changed and all of it must be done
    /// again.
    async fn attempt(
        &mut self,
        goal: &Goal,
        aim: &Aim,
        desired: Option<&Generation>,
        reached: &mut Vec<Reached>,
    ) -> Result<bool, Problem> {
        let roots = aim.offer.roots;
        // A state that is desired already keeps its serial; a rollback is always a new one.
        let keeps = desired.filter(|generation| {
            roots_of(generation) == roots && !matches!(goal, Goal::Kept { .. })
        });
        let keeps = keeps.map(|generation| generation.serial.0);
        // What is foreign is not in the roots, so nothing shows until members compare.
        let clears = self.task.overrides.delete_foreign;
        let is_there = |one: &Reached| {
            !clears
                && one.opened.observed == aim.offer.observed
                && keeps.is_some()
                && serial_of(one) == keeps
        };
        let (there, behind): (Vec<_>, Vec<_>) = reached.drain(..).partition(is_there);
        for one in take_leave(there).await {
            self.set_done(&one, Outcome::UpToDate, 0);
        }
        if keeps.is_some() {
            self.refill(aim).await?;
        }
        if behind.is_empty() {
            return Ok(false);
        }
        let (compared, said_no) = self.compare(aim, behind).await;
        if said_no.is_some() {
            let reached = compared.into_iter().map(|(one, _)| one).collect();
            self.call_off(reached, said_no).await;
            return Ok(false);
        }
        let (mut planned, same): (Vec<_>, Vec<_>) =
            compared.into_iter().partition(|(one, plan)| {
                let is_changed = changes_of(plan) > 0 || clears && plan.foreign > 0;
                serial_of(one) != keeps || keeps.is_none() || is_changed
            });
        // What differs is nothing that a commit would change, such as a directory that is kept.
        for (one, plan) in same {
            let mut report = self.of_session(&one, Outcome::UpToDate);
            report.stays = Stays::of(&plan);
            self.put(one.at, report);
            let _goodbye = one.session.leave().await;
        }
        let refusals = if matches!(goal, Goal::Desired) {
            planned = self.leave_refused(planned).await;
            Vec::new()
        } else {
            self.refusals(&planned)
        };
        if planned.is_empty() {
            return Ok(false);
        }
        if self.task.dry_run || self.task.report_only || !refusals.is_empty() {
            self.itemise(planned, !refusals.is_empty()).await;
            self.report.refusals.extend(refusals);
            return Ok(false);
        }
        self.transact(goal, aim, keeps, planned).await
    }

    /// A push of what is there already gives a depot that was lost its content back: without it
    /// no `resync` would work until the source changes.
    async fn refill(&mut self, aim: &Aim) -> Result<(), Problem> {
        let is_look = self.task.dry_run || self.task.report_only;
        if is_look || aim.scanned.is_none() {
            return Ok(());
        }
        let incomplete = |error| Problem::from_error(Code::DepotIncomplete, &error);
        let (depot, roots) = (self.depot.clone(), aim.offer.roots);
        if spawn(move || depot.has_manifest(roots).map_err(incomplete)).await? {
            return Ok(());
        }
        let encoder = self.encoder(aim, None, &[]).await?;
        let filled = encoder.fill_depot().await;
        filled.map_err(|error| encode_problem(&error))?;
        self.note_encoded(&encoder);
        let depot = self.depot.clone();
        spawn(move || depot.sync().map_err(incomplete)).await
    }

    async fn encoder(
        &self,
        aim: &Aim,
        donors: Option<Donors>,
        planned: &[(Reached, Plan)],
    ) -> Result<Arc<Encoder>, Problem> {
        let are_far = planned.iter().any(|(one, _)| one.session.is_long_way());
        let (depot, offer) = (self.depot.clone(), aim.offer.clone());
        let supply = match (&aim.scanned, &self.task.spare) {
            (Some(scanned), _) => scanned.supply(),
            (None, Some(spare)) => Supply::spare(&spare.root, &spare.index),
            (None, None) => Supply::depot(),
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let encoder = spawn(move || {
            depot
                .put_manifest(&offer.manifest, offer.roots)
                .map_err(|error| Problem::from_error(Code::DepotIncomplete, &error))?;
            Encoder::new(&offer.manifest, depot.clone(), supply, workers)
                .map(|encoder| encoder.with_donors(donors).with_long_ways(are_far))
                .map_err(|error| encode_problem(&error))
        });
        Ok(Arc::new(encoder.await?))
    }

    /// Who has what the hub lacks, where the source isn't what members are brought to.
    fn donors(&self, aim: &Aim, planned: &[(Reached, Plan)]) -> Donors {
        Donors::new(
            self.hub.clone(),
            self.task.clone(),
            self.depot.clone(),
            aim.offer.clone(),
            planned.iter().map(|(one, _)| one.name.clone()).collect(),
        )
    }

    async fn transact(
        &mut self,
        goal: &Goal,
        aim: &Aim,
        keeps: Option<u64>,
        planned: Vec<(Reached, Plan)>,
    ) -> Result<bool, Problem> {
        let donors = aim.scanned.is_none().then(|| self.donors(aim, &planned));
        let encoder = self.encoder(aim, donors, &planned).await?;
        let now = self.hub.clock.now();
        let label = match goal {
            Goal::Kept { label, .. } => Some(label.clone()),
            _ => self.task.label.clone(),
        };
        let (serial, purpose) = match keeps {
            Some(serial) => (serial, Purpose::Restore),
            None => {
                let new = NewGeneration {
                    platform: self.task.platform.clone(),
                    content_root: aim.offer.roots.content,
                    meta_root: aim.offer.roots.meta,
                    label: label.clone(),
                    author: self.task.author.clone(),
                    created: now,
                    source: match goal {
                        Goal::Source(spec) => Some(spec.path.display().to_string()),
                        _ => None,
                    },
                    entries: aim.offer.manifest.entry_count() as u64,
                    content_bytes: aim.offer.manifest.content_bytes(),
                };
                let highest = planned
                    .iter()
                    .filter_map(|(one, _)| one.opened.generation.as_ref().map(|g| g.serial))
                    .max();
                let begun = self
                    .hub
                    .store
                    .begin_generation(&new, highest.unwrap_or(0))
                    .await;
                (begun.map_err(state_problem)?.0, Purpose::Publish)
            }
        };
        let (policy, min_healthy) = self.votes(goal);
        let transaction = Transaction {
            hub: self.hub,
            task: self.task,
            depot: self.depot.clone(),
            encoder: encoder.clone(),
            generation: wire::Generation {
                serial,
                roots: aim.offer.roots,
                label: label.unwrap_or_default(),
                created_ms: now.0,
            },
            purpose,
            policy,
            min_healthy,
            deadline: tokio::time::Instant::now()
                + self.task.deadline.saturating_sub(self.began.elapsed()),
            source: match (goal, &aim.scanned) {
                (Goal::Source(spec), Some(scanned)) => Some((spec.as_ref(), scanned)),
                _ => None,
            },
        };
        let settled = transact::run(&transaction, planned).await?;
        self.note_encoded(&encoder);
        if settled.source_changed {
            return Ok(true);
        }
        if settled.committed {
            self.report.generation = Some(serial);
        }
        let (first, last) = (
            settled.switched_us.iter().min(),
            settled.switched_us.iter().max(),
        );
        if let (Some(first), Some(last)) = (first, last) {
            self.report.commit_window_us = u64::try_from(last - first).ok();
            // Each of the two times may be off by so much.
            self.report.commit_window_error_us = u64::try_from(2 * settled.clock_error_us).ok();
        }
        for (at, mut report) in settled.members {
            let lacks_content = |problem: &Problem| problem.code == Code::DepotIncomplete;
            if self.is_repair && report.problem.as_ref().is_some_and(lacks_content) {
                // Nothing is wrong with it: what it waits for isn't to be had at the moment.
                report.outcome = Outcome::Stale;
            }
            self.put(at, report);
        }
        Ok(false)
    }

    fn note_encoded(&mut self, encoder: &Encoder) {
        self.report.encoded_objects += encoder.made_objects();
        self.report.encoded_bytes += encoder.made_bytes();
    }

    fn set(&mut self, at: usize, outcome: Outcome, problem: Option<Problem>) {
        let Some(target) = self.task.targets.get(at) else {
            return;
        };
        let mut report = MemberReport::new(target.name.clone(), outcome);
        report.problem = problem;
        // It can't be asked, so it is at what it was at when last seen.
        report.generation = self.known.get(&target.name).copied();
        self.put(at, report);
    }

    fn set_done(&mut self, one: &Reached, outcome: Outcome, changed_entries: u64) {
        let report = self.of_session(one, outcome);
        self.put(
            one.at,
            MemberReport {
                changed_entries,
                ..report
            },
        );
    }

    fn set_ended(&mut self, one: &Reached, outcome: Outcome, problem: Option<Problem>) {
        let report = self.of_session(one, outcome);
        self.put(one.at, MemberReport { problem, ..report });
    }

    fn of_session(&self, one: &Reached, outcome: Outcome) -> MemberReport {
        let mut report = MemberReport::new(one.name.clone(), outcome);
        let stats = one.session.connection().stats();
        report.generation = one
            .opened
            .generation
            .as_ref()
            .map(|generation| generation.serial);
        report.sent_bytes = stats.sent_bytes;
        report.received_bytes = stats.received_bytes;
        report.round_trips = stats.round_trips;
        report
    }

    fn put(&mut self, at: usize, mut report: MemberReport) {
        report.elapsed = self.began.elapsed();
        self.hub.events.emit(Event::MemberFinished(report.clone()));
        if let Some(slot) = self.reports.get_mut(at) {
            *slot = Some(report);
        }
    }

    /// Records what became of every member, and collects what is not kept any more.
    async fn finish(mut self) -> TaskReport {
        let refused = !self.report.refusals.is_empty();
        for at in 0..self.reports.len() {
            if self.reports.get(at).is_some_and(Option::is_none) {
                let problem = self.report.refusals.first().cloned();
                let outcome = if refused {
                    Outcome::Aborted
                } else {
                    Outcome::Failed
                };
                self.set(at, outcome, problem);
            }
        }
        self.report.members = self.reports.iter().flatten().cloned().collect();
        if !self.task.dry_run && !self.task.report_only {
            if let Err(error) = self.record().await {
                self.report.warnings.push(state_problem(error));
            }
            // Nothing is wrong with those members: said in the result, and not kept.
            self.explain_rest();
        }
        self.report
    }

    /// Says why members without a problem of their own have not switched.
    fn explain_rest(&mut self) {
        let is_cause = |report: &&MemberReport| {
            let is_out = matches!(report.outcome, Outcome::Failed | Outcome::Stale);
            is_out && report.problem.is_some()
        };
        let cause = self.report.members.iter().find(is_cause);
        let why = match cause {
            Some(cause) => format!("It did not switch, for {} could not", cause.name),
            None => "It did not switch, for the votes of the policy were not in".to_owned(),
        };
        for report in &mut self.report.members {
            report.problem = match (report.outcome, report.problem.take()) {
                (Outcome::Aborted, None) => Some(Problem::new(Code::MemberAborted, &why)),
                (Outcome::Failed | Outcome::Stale, None) => Some(Problem::new(
                    Code::DeadlineExceeded,
                    "It was not ready when the time for the task was up",
                )),
                (_, problem) => problem,
            };
        }
    }

    async fn record(&mut self) -> Result<(), crate::store::StoreError> {
        let (store, platform) = (&self.hub.store, &self.task.platform);
        let known = store.members(platform).await?;
        let mut states = Vec::new();
        for (target, report) in self.task.targets.iter().zip(&self.report.members) {
            let Ok(server) = target.name.parse() else {
                continue;
            };
            let before = known.iter().find(|state| state.server == server);
            let state = MemberState {
                serial: report
                    .generation
                    .map(Serial)
                    .or(before.and_then(|state| state.serial)),
                server,
                outcome: report.outcome,
                since: self.hub.clock.now(),
                error: report.problem.as_ref().map(|problem| MemberError {
                    code: problem.code.id(),
                    message: problem.message.clone(),
                    hint: Some(problem.hint().to_owned()),
                }),
                sent_bytes: report.sent_bytes,
                received_bytes: report.received_bytes,
            };
            states.push(state);
        }
        store.set_members(platform, &states).await
    }
}

/// Ends the work on these members before anything was written, at all of them at once.
async fn take_leave(reached: Vec<Reached>) -> Vec<Reached> {
    let mut leaving = JoinSet::new();
    for one in reached {
        leaving.spawn(async move {
            let _goodbye = one.session.leave().await;
            one
        });
    }
    let mut left = Vec::new();
    while let Some(result) = leaving.join_next().await {
        match result {
            Ok(one) => left.push(one),
            Err(error) => tracing::error!(%error, "a member's task was lost"),
        }
    }
    left.sort_by_key(|one: &Reached| one.at);
    left
}

/// The generation that a member is at.
fn serial_of(one: &Reached) -> Option<u64> {
    one.opened
        .generation
        .as_ref()
        .map(|generation| generation.serial)
}

/// How many entries a plan changes.
fn changes_of(plan: &Plan) -> u64 {
    plan.added + plan.replaced + plan.touched + plan.deleted
}

pub(super) async fn spawn<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let joined = tokio::task::spawn_blocking(act).await;
    joined.unwrap_or_else(|error| Err(Problem::from_error(Code::Bug, &error)))
}

/// How long members have to hear a decision before they count as in doubt.
pub(super) const DECISION: Duration = Duration::from_secs(10);
