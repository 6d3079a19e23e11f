//! A task on one platform from its lock to its record: what push, resync and rollback share.
//!
//! ORDER: a person's lock, then the task's lock, then the record of the task, then the members.
//! A dry run takes no lock and changes nothing, not even on the hub, except the task's record.

use super::Context;
use super::error::CommandError;
use super::fresh::{self, Origin};
use super::hub::{self, Hub, store_error};
use super::human::counted;
use super::plan::{self, Wish};
use super::progress::Progress;
use super::serving;
use super::tidy::tidy;
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::depot::Depot;
use crate::engine::event::{Event, MemberName, MemberReport, TaskKind};
use crate::engine::hub::source::Released;
use crate::engine::hub::task::{Goal, Task, TaskReport};
use crate::engine::hub::{kept, preflight, push};
use crate::model::{PlatformName, Serial};
use crate::proc::git;
use crate::store::{Lock, NewTask, PlatformState, TaskId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use sync_proto::manifest::Roots;

/// What a task brings members to.
#[derive(Clone, Debug)]
pub(crate) enum Aim {
    /// The source.
    Source(Released),
    /// A kept state.
    Kept {
        /// Which.
        roots: Roots,
        /// What it will be called.
        label: String,
    },
    /// What was decided last.
    Desired,
}

/// A task that has ended.
pub(crate) struct Outcome {
    /// What came of it.
    pub(crate) report: TaskReport,
    /// What the command exits with.
    pub(crate) exit: Exit,
    /// The desired generation before it.
    pub(crate) before: Option<Serial>,
    /// The rules that it went by.
    pub(crate) task: Task,
}

/// Carries out a task on one platform. `held` is its lock, where the caller has taken it.
pub(crate) async fn carry_out(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    kind: TaskKind,
    mut wish: Wish,
    aim: Aim,
    held: Option<Lock>,
) -> Result<Outcome, CommandError> {
    let name = &platform.name;
    let what = format!("{} platform {name}", kind.word());
    let state = hub.state(name).await?;
    let changes = !wish.dry_run && !wish.report_only;
    let _lock: Option<Lock> = match held {
        None if changes => Some(hub.lock(name, &what, wish.task.wait).await?),
        held => held,
    };
    // Read again: it may have changed while the lock was waited for.
    let state = if changes {
        hub.state(name).await?
    } else {
        state
    };
    if changes && let Some(refusal) = hub::locked(&state) {
        return Err(refusal.into());
    }
    if changes && kind == TaskKind::Push {
        refuse_narrowed(hub, platform).await?;
    }
    if matches!(aim, Aim::Source(_)) && wish.label.is_none() {
        wish.label = label(context, platform).await;
    }
    if !matches!(aim, Aim::Source(_)) {
        // How much may go is asked when a state is published. This one was, and going back to it
        // must not depend on how far members are from it.
        wish.overrides.delete_entries = Some(u64::MAX);
    }
    let began = Instant::now();
    let id = start(hub, kind.word(), name).await?;
    let progress = Progress::new(&context.ui, name.as_str());
    let engine = hub.engine(progress.sink());
    let prepared = prepare(hub, platform, &state, id, &wish, aim, &engine).await;
    let (task, goal) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            end(hub, id, error.exit(), &error.problem().message).await?;
            return Err(error);
        }
    };
    engine.events.emit(Event::TaskStarted {
        task: task.id,
        kind,
        members: task
            .targets
            .iter()
            .map(|target| target.name.clone())
            .collect(),
    });
    let depot = hub.depot()?;
    let origin = match &goal {
        Goal::Source(spec) => Some(Origin::Source(spec.clone())),
        Goal::Kept { roots, .. } => Some(Origin::Depot(*roots)),
        Goal::Desired => desired_roots(hub, name).await?.map(Origin::Depot),
    };
    let mut report = push::run(&engine, depot.clone(), &task, goal).await;
    if changes && let Err(problem) = tidy(hub, &engine, &depot, platform, kind, &mut report).await {
        report.warnings.push(problem);
    }
    if changes {
        serving::rotation::reconcile(hub, platform, &mut report).await;
    }
    engine.events.emit(Event::TaskFinished {
        elapsed: began.elapsed(),
    });
    progress.finish();
    if report.refusals.is_empty()
        && let Some(refusal) = refused_by_all(&report)
    {
        report.refusals.push(refusal);
    }
    if task.dry_run {
        plan_fresh(&mut report, origin, depot).await;
        in_order(&mut report);
    }
    let exit = exit_of(&report, &task);
    end(hub, id, exit, &summary(&report)).await?;
    Ok(Outcome {
        report,
        exit,
        before: state.desired,
        task,
    })
}

async fn desired_roots(hub: &Hub, platform: &PlatformName) -> Result<Option<Roots>, CommandError> {
    let Some(serial) = hub.state(platform).await?.desired else {
        return Ok(None);
    };
    let generation = hub.store.generation(platform, serial).await;
    Ok(Some(kept::roots_of(&generation.map_err(store_error)?)))
}

/// Members that never had the tree would get all of it.
async fn plan_fresh(report: &mut TaskReport, origin: Option<Origin>, depot: Arc<Depot>) {
    let members = fresh::take(report);
    let Some(origin) = origin.filter(|_| !members.is_empty()) else {
        return;
    };
    match fresh::plan(members, origin, depot).await {
        Ok(change) => {
            let entries = change.plan.added;
            for member in &mut report.members {
                if change.members.contains(&member.name) {
                    member.changed_entries = entries;
                }
            }
            report.planned.push(change);
        }
        Err(problem) => report.warnings.push(problem),
    }
}

/// Members stand in the inventory's order, whoever answered first.
fn in_order(report: &mut TaskReport) {
    let places: HashMap<MemberName, usize> = (0..)
        .zip(&report.members)
        .map(|(at, member)| (member.name.clone(), at))
        .collect();
    let place = |name: &MemberName| places.get(name).copied().unwrap_or(usize::MAX);
    for change in &mut report.planned {
        change.members.sort_by_key(place);
    }
    report
        .planned
        .sort_by_key(|change| change.members.first().map(place));
}

async fn prepare(
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    id: TaskId,
    wish: &Wish,
    aim: Aim,
    engine: &preflight::Hub,
) -> Result<(Task, Goal), CommandError> {
    let number = u64::try_from(id.0).unwrap_or_default();
    let task = plan::task(hub, platform, state, number, wish, &engine.events).await?;
    if !task.dry_run && !task.report_only {
        // ORDER: on the record before any member hears of a rule.
        let now = hub.clock.now();
        let sent = hub
            .store
            .send_rules(&platform.name, &task.preserve, now)
            .await;
        sent.map_err(store_error)?;
    }
    let goal = match aim {
        Aim::Source(released) => Goal::Source(Box::new(
            plan::source(hub, platform, state, released).await?,
        )),
        Aim::Kept { roots, label } => Goal::Kept { roots, label },
        Aim::Desired => Goal::Desired,
    };
    Ok((task, goal))
}

/// A rule that was lost in an edit must not turn uploads into something that the next push
/// deletes.
async fn refuse_narrowed(hub: &Hub, platform: &Platform) -> Result<(), CommandError> {
    let rules = plan::rules(hub, platform).await?;
    let Some(rule) = rules.narrowed.first() else {
        return Ok(());
    };
    Err(CommandError::new(
        Code::PreserveNarrowed,
        format!(
            "`{}` {} preserved on the members of {} and not in {}",
            rules.narrowed.join("`, `"),
            if rules.narrowed.len() == 1 {
                "is"
            } else {
                "are"
            },
            platform.name,
            hub.dir.inventory().display()
        ),
    )
    .hint(format!(
        "put it back, or: fanout edit platform {} --release-preserved {rule}",
        platform.name
    )))
}

/// The source's git commit, where it has one.
async fn label(context: &Context, platform: &Platform) -> Option<String> {
    match git::label(platform.path.as_path()).await {
        Ok(label) => label.map(|label| label.to_string()),
        Err(error) => {
            context.ui.warn(crate::codes::error_chain(&error));
            None
        }
    }
}

/// The refusal of a task whose every member refused by a brake, such as a root with content.
fn refused_by_all(report: &TaskReport) -> Option<Problem> {
    let refusal = |member: &MemberReport| {
        let problem = member.problem.as_ref()?;
        (problem.code.exit() == Exit::Refused).then(|| problem.clone())
    };
    let mut all = report
        .members
        .iter()
        .map(refusal)
        .collect::<Option<Vec<Problem>>>()?;
    (!all.is_empty()).then(|| all.swap_remove(0))
}

fn exit_of(report: &TaskReport, task: &Task) -> Exit {
    if !report.refusals.is_empty() {
        return report.exit();
    }
    if !task.dry_run && !task.report_only {
        return report.exit();
    }
    // Nothing was to be changed: a member that would change has done well.
    let is_failed = |member: &&MemberReport| member.problem.is_some();
    let failed = report.members.iter().filter(is_failed).count();
    match failed {
        0 if task.report_only && report.planned.iter().any(|group| !group.items.is_empty()) => {
            Exit::Differences
        }
        0 => Exit::Done,
        _ if failed == report.members.len() => Exit::Failed,
        _ => Exit::Partial,
    }
}

fn summary(report: &TaskReport) -> String {
    if let Some(refusal) = report.refusals.first() {
        return format!("refused: {}", refusal.message);
    }
    let is_good = |member: &&MemberReport| member.outcome.is_good();
    let good = report.members.iter().filter(is_good).count();
    let all = counted(report.members.len() as u64, "member", "members");
    match report.generation {
        Some(serial) => format!("#{serial} on {good} of {all}"),
        None => format!("{good} of {all}"),
    }
}

/// Records that a task on a platform begins.
pub(crate) async fn start(
    hub: &Hub,
    kind: &str,
    platform: &PlatformName,
) -> Result<TaskId, CommandError> {
    start_for(hub, kind, &format!("platform {platform}")).await
}

/// Records that a task begins.
pub(crate) async fn start_for(hub: &Hub, kind: &str, target: &str) -> Result<TaskId, CommandError> {
    let new = NewTask {
        kind: kind.to_owned(),
        target: target.to_owned(),
        who: hub.who.to_string(),
        command_line: command_line(),
        started: hub.clock.now(),
    };
    hub.store.start_task(&new).await.map_err(store_error)
}

/// Records how a task ended.
pub(crate) async fn end(
    hub: &Hub,
    id: TaskId,
    exit: Exit,
    summary: &str,
) -> Result<(), CommandError> {
    let ended = hub
        .store
        .end_task(id, hub.clock.now(), exit.number().into(), summary)
        .await;
    ended.map_err(store_error)
}

/// What was typed. No option takes a secret, so none is in here.
fn command_line() -> String {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}
