//! Carrying a plan out: in parallel where its order allows, each step on record before and after
//! it, and back again in reverse where a step failed.
//!
//! What goes back is decided by one rule, at the end of each part of a deployment: after a failure
//! while things are prepared, everything; after one while members switch, whatever shares the fate
//! of the step that failed, unless a step of it that can't be undone was done; after that, nothing.
//!
//! ORDER: a step is recorded as running before it touches anything, and what its undo needs is
//! recorded before anything that comes after it begins.

use super::graph::{Fate, NodeId, Phase, Plan, Step};
use super::resource::{Applied, Resource};
use crate::clock::Clock;
use crate::codes::{Code, Exit, Problem};
use crate::model::ServerName;
use crate::store::{StepRecord, StepState, Store, StoreError, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What to do about the rest where a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// What the failed step takes along is undone.
    Undo,
    /// Only what comes after the failed step is left out; the others stay done.
    Continue,
}

/// Something happened; for progress and for the log.
#[derive(Clone, Debug)]
pub enum StepEvent {
    /// A step began.
    Began {
        /// Which.
        step: NodeId,
    },
    /// A step ended.
    Ended {
        /// Which.
        step: NodeId,
        /// How.
        state: StepState,
    },
}

/// One step that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What it worked on.
    pub title: String,
    /// The server, if it is about one.
    pub member: Option<ServerName>,
    /// How it ended.
    pub state: StepState,
    /// What it did.
    pub applied: Applied,
    /// Why it failed.
    pub problem: Option<Problem>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What came of a plan.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Every step that was needed, in the plan's order.
    pub steps: Vec<Ended>,
    /// How each step of the plan ended, those that were not needed included.
    pub states: Vec<StepState>,
    /// Members that failed by themselves while others went on, with the reason.
    pub failed_alone: BTreeMap<ServerName, Problem>,
    /// Why something that failed was not taken back: what can't be undone was done already.
    pub kept: Vec<String>,
}

impl Outcome {
    /// What the command exits with.
    pub fn exit(&self) -> Exit {
        let count = |wanted: StepState| self.steps.iter().filter(|s| s.state == wanted).count();
        match (count(StepState::Failed), count(StepState::Done)) {
            (0, _) if count(StepState::Stuck) == 0 => Exit::Done,
            (_, 0) => Exit::Failed,
            _ => Exit::Partial,
        }
    }

    /// The first failure: what the others were undone for.
    pub fn failure(&self) -> Option<&Problem> {
        self.steps.iter().find_map(|step| step.problem.as_ref())
    }
}

/// Where steps are recorded.
pub struct Record {
    /// The state.
    pub store: Arc<Store>,
    /// The task.
    pub task: TaskId,
    /// The time.
    pub clock: Clock,
}

/// Carries out a plan.
///
/// # Errors
/// The state can't be written; whatever ran is then recorded as running.
pub async fn run(
    plan: &Plan,
    on_failure: OnFailure,
    record: &Record,
    tell: &(dyn Fn(StepEvent) + Sync),
) -> Result<Outcome, StoreError> {
    let mut running = Running::new(plan, on_failure, record, tell).await?;
    for (id, step) in plan.steps.iter().enumerate() {
        if let Err(problem) = &step.found {
            running.stop(id, problem);
        }
    }
    for phase in Phase::ALL {
        while running.advance(phase).await? {}
        running.take_back(phase).await?;
    }
    Ok(running.finish())
}

/// What a step came to, on its way back from its task.
type Done = (NodeId, Duration, Result<Applied, Problem>);

struct Running<'a> {
    plan: &'a Plan,
    record: &'a Record,
    tell: &'a (dyn Fn(StepEvent) + Sync),
    states: Vec<StepState>,
    ended: Vec<Option<Ended>>,
    /// In the order in which they were done.
    done: Vec<NodeId>,
    begun: BTreeSet<NodeId>,
    work: JoinSet<Done>,
    takes_back: bool,
    /// Nothing may stay, and nothing more may begin.
    is_doomed: bool,
    /// The same of what has one of these fates.
    stopped: BTreeSet<Fate>,
    kept: Vec<String>,
}

impl<'a> Running<'a> {
    async fn new(
        plan: &'a Plan,
        on_failure: OnFailure,
        record: &'a Record,
        tell: &'a (dyn Fn(StepEvent) + Sync),
    ) -> Result<Self, StoreError> {
        let states: Vec<StepState> = plan.steps.iter().map(first_state).collect();
        let mut rows = Vec::new();
        for (id, step) in plan.steps.iter().enumerate() {
            if step.is_needed() || step.found.is_err() {
                rows.push(StepRecord {
                    number: number(id),
                    title: step.resource.describe(),
                    member: step.resource.member().map(ToString::to_string),
                    state: states[id],
                    started: None,
                    ended: None,
                    message: step
                        .found
                        .as_ref()
                        .err()
                        .map_or_else(String::new, |p| p.message.clone()),
                    undo: None,
                });
            }
        }
        record.store.plan_steps(record.task, &rows).await?;
        Ok(Self {
            plan,
            record,
            tell,
            ended: plan.steps.iter().map(first_end).collect(),
            states,
            done: Vec::new(),
            begun: BTreeSet::new(),
            work: JoinSet::new(),
            takes_back: on_failure == OnFailure::Undo,
            is_doomed: false,
            stopped: BTreeSet::new(),
            kept: Vec::new(),
        })
    }

    /// What a failure stops. What could not even be looked at stops everything before it begins,
    /// but for what comes after the proof.
    fn stop(&mut self, id: NodeId, problem: &Problem) {
        let step = &self.plan.steps[id];
        if !self.takes_back || step.is_excused(problem) {
            return;
        }
        match step.place.phase {
            Phase::Settle => {}
            Phase::Switch if step.found.is_ok() => {
                if step.place.fate != Fate::Own {
                    self.stopped.insert(step.place.fate.clone());
                }
            }
            Phase::Prepare | Phase::Switch => self.is_doomed = true,
        }
    }

    /// Takes back what the failures of a part take along.
    async fn take_back(&mut self, phase: Phase) -> Result<(), StoreError> {
        match phase {
            Phase::Prepare if self.is_doomed => self.undo(|_| true).await?,
            Phase::Switch => {
                for fate in self.stopped.clone() {
                    let why = self.what_stays(&fate);
                    match why.is_empty() {
                        true => self.undo(|step| step.place.fate == fate).await?,
                        false => self.kept.extend(why),
                    }
                }
            }
            Phase::Prepare | Phase::Settle => {}
        }
        Ok(())
    }

    /// What was done with a fate and can't be undone.
    fn what_stays(&self, fate: &Fate) -> Vec<String> {
        let done = self.done.iter().map(|id| &self.plan.steps[*id]);
        let of_it = done.filter(|step| step.place.fate == *fate);
        let why = of_it.filter_map(|step| step.found.as_ref().ok()?.irreversible.clone());
        why.collect()
    }

    /// Starts what can start in a part, and waits for one step to end. False when nothing is left.
    async fn advance(&mut self, phase: Phase) -> Result<bool, StoreError> {
        self.start_what_can(phase).await?;
        let Some(next) = self.work.join_next().await else {
            return self.end_cut_off().await;
        };
        match next {
            Ok((id, elapsed, result)) => self.end(id, elapsed, result).await?,
            // A panic in a resource: its step is one that was begun and never ends.
            Err(error) => {
                tracing::error!(%error, "a step was cut off");
            }
        }
        Ok(true)
    }

    /// Steps that nothing will be heard of have failed. False if there is none.
    async fn end_cut_off(&mut self) -> Result<bool, StoreError> {
        let is_open = |id: &NodeId| self.states[*id] == StepState::Waiting;
        let lost: Vec<NodeId> = self.begun.iter().copied().filter(is_open).collect();
        for id in &lost {
            let problem = Problem::new(Code::Bug, "The step was cut off");
            self.end(*id, Duration::ZERO, Err(problem)).await?;
        }
        Ok(!lost.is_empty())
    }

    async fn start_what_can(&mut self, phase: Phase) -> Result<(), StoreError> {
        loop {
            let mut is_changed = false;
            for id in 0..self.plan.steps.len() {
                let is_waiting = self.states[id] == StepState::Waiting && !self.begun.contains(&id);
                if !is_waiting || self.plan.steps[id].place.phase != phase {
                    continue;
                }
                let before: Vec<StepState> = self.before(id).collect();
                let is_stopped =
                    self.is_doomed || self.stopped.contains(&self.plan.steps[id].place.fate);
                if is_stopped || before.iter().any(|state| is_bad(*state)) {
                    self.skip(id).await?;
                    is_changed = true;
                } else if before.iter().all(|state| *state == StepState::Done) {
                    self.start(id).await?;
                }
            }
            // A skipped step may let others be skipped.
            if !is_changed {
                return Ok(());
            }
        }
    }

    fn before(&self, id: NodeId) -> impl Iterator<Item = StepState> {
        self.plan.steps[id]
            .after
            .iter()
            .map(|node| self.states[*node])
    }

    async fn skip(&mut self, id: NodeId) -> Result<(), StoreError> {
        let step = &self.plan.steps[id];
        self.states[id] = StepState::Skipped;
        if step.is_needed() {
            self.ended[id] = Some(ended(step, StepState::Skipped));
            let message = "something before it failed";
            self.write(id, StepState::Skipped, message, None).await?;
        }
        Ok(())
    }

    async fn start(&mut self, id: NodeId) -> Result<(), StoreError> {
        self.begun.insert(id);
        let record = self.record;
        let now = record.clock.now();
        record
            .store
            .begin_step(record.task, number(id), now)
            .await?;
        (self.tell)(StepEvent::Began { step: id });
        let resource: Arc<dyn Resource> = self.plan.steps[id].resource.clone();
        self.work.spawn(async move {
            let began = Instant::now();
            let result = resource.apply().await;
            (id, began.elapsed(), result)
        });
        Ok(())
    }

    async fn end(
        &mut self,
        id: NodeId,
        elapsed: Duration,
        result: Result<Applied, Problem>,
    ) -> Result<(), StoreError> {
        let mut row = ended(&self.plan.steps[id], StepState::Done);
        row.elapsed = elapsed;
        match result {
            Ok(applied) => {
                self.write(
                    id,
                    StepState::Done,
                    &applied.message,
                    applied.undo.as_deref(),
                )
                .await?;
                row.applied = applied;
                self.done.push(id);
            }
            Err(problem) => {
                self.stop(id, &problem);
                row.state = StepState::Failed;
                self.write(id, StepState::Failed, &problem.message, None)
                    .await?;
                row.problem = Some(problem);
            }
        }
        self.states[id] = row.state;
        (self.tell)(StepEvent::Ended {
            step: id,
            state: row.state,
        });
        self.ended[id] = Some(row);
        Ok(())
    }

    /// Takes back those steps that were done, the last first.
    async fn undo(&mut self, goes_back: impl Fn(&Step) -> bool) -> Result<(), StoreError> {
        let (back, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.done)
            .into_iter()
            .partition(|id| goes_back(&self.plan.steps[*id]));
        self.done = stay;
        for id in back.into_iter().rev() {
            let step = &self.plan.steps[id];
            let Some(row) = self.ended[id].as_mut() else {
                continue;
            };
            let Some(note) = row.applied.undo.clone() else {
                // What a step without a change of its own said is not so any more.
                if step.is_follower() {
                    row.state = StepState::Undone;
                    self.states[id] = StepState::Undone;
                    let message = "what it is about was taken back";
                    self.write(id, StepState::Undone, message, None).await?;
                }
                continue;
            };
            let (state, message) = match step.resource.undo(&note).await {
                Ok(()) => (
                    StepState::Undone,
                    "taken back, because another step failed".into(),
                ),
                Err(problem) => {
                    let message = format!("can't be taken back: {}", problem.message);
                    row.problem = Some(problem);
                    (StepState::Stuck, message)
                }
            };
            row.state = state;
            self.states[id] = state;
            self.write(id, state, &message, None).await?;
            (self.tell)(StepEvent::Ended { step: id, state });
        }
        Ok(())
    }

    async fn write(
        &self,
        id: NodeId,
        state: StepState,
        message: &str,
        undo: Option<&str>,
    ) -> Result<(), StoreError> {
        let record = self.record;
        let now = record.clock.now();
        record
            .store
            .end_step(record.task, number(id), state, now, message, undo)
            .await
    }

    fn finish(self) -> Outcome {
        let mut failed_alone = BTreeMap::new();
        for (step, row) in self.plan.steps.iter().zip(&self.ended) {
            let problem = row.as_ref().and_then(|row| row.problem.clone());
            if let (Fate::Member(member), Phase::Switch, Some(problem), Ok(_)) =
                (&step.place.fate, step.place.phase, problem, &step.found)
            {
                failed_alone.entry(member.clone()).or_insert(problem);
            }
        }
        Outcome {
            steps: self.ended.into_iter().flatten().collect(),
            states: self.states,
            failed_alone,
            kept: self.kept,
        }
    }
}

/// What needs nothing is done; what isn't known has failed.
fn first_state(step: &Step) -> StepState {
    match &step.found {
        Ok(_) if step.is_needed() => StepState::Waiting,
        Ok(_) => StepState::Done,
        Err(_) => StepState::Failed,
    }
}

fn first_end(step: &Step) -> Option<Ended> {
    let problem = step.found.as_ref().err()?.clone();
    let mut row = ended(step, StepState::Failed);
    row.problem = Some(problem);
    Some(row)
}

fn is_bad(state: StepState) -> bool {
    matches!(
        state,
        StepState::Failed | StepState::Skipped | StepState::Undone | StepState::Stuck
    )
}

fn ended(step: &Step, state: StepState) -> Ended {
    Ended {
        title: step.resource.describe(),
        member: step.resource.member().cloned(),
        state,
        applied: Applied::default(),
        problem: None,
        elapsed: Duration::ZERO,
    }
}

fn number(id: NodeId) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}
