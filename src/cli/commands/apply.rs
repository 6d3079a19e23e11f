//! `fanout plan` and `fanout apply`: what the inventory says, compared with what is there, and the
//! difference closed.

use crate::cli::Context;
use crate::cli::args::{ApplyArgs, PlanArgs, PushConfigArgs, ScopeArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::cli::human::counted;
use crate::cli::json::{ErrorShape, ResultLine};
use crate::cli::serving::{self, Request};
use crate::cli::work;
use crate::codes::{Code, Exit, Problem};
use crate::config::write_private;
use crate::orchestrate::{
    Counts, Ended, Group, OnFailure, Outcome, Plan, Record, StepEvent, run as carry_out,
};
use crate::store::{Lock, StepState, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The version of a saved plan.
const SAVED: u32 = 1;

/// A plan in a file: which requests it was made of, and what it was made for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    hub: String,
    made: String,
    by: String,
    request: Request,
    fingerprint: String,
}

pub(crate) async fn plan(context: &Context, args: PlanArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let request = request(&args.scope);
    let (plan, notes) = inspected(context, &hub, &request).await?;
    if let Some(path) = &args.out {
        let saved = Saved {
            version: SAVED,
            hub: hub.inventory.hub.clone(),
            made: hub.clock.now().to_string(),
            by: hub.who.to_string(),
            request,
            fingerprint: plan.fingerprint(),
        };
        save(path, &saved)?;
    }
    show(context, &plan, &notes, "Nothing has been changed.");
    if let Some(path) = &args.out {
        context
            .ui
            .status(format!("Apply with: fanout apply {}", path.display()));
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(shape(&plan)));
    }
    let unknown = plan.unknown().count();
    Ok(match (plan.is_empty(), unknown) {
        (_, 1..) => Exit::Partial,
        (false, 0) if args.detailed_exitcode => Exit::Differences,
        _ => Exit::Done,
    })
}

pub(crate) async fn apply(context: &Context, args: ApplyArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let saved = args.file.as_deref().map(read).transpose()?;
    let request = saved
        .as_ref()
        .map_or_else(|| request(&args.scope), |saved| saved.request.clone());
    let _lock: Option<Lock> = match args.dry_run {
        true => None,
        false => Some(hub.lock_serving("apply", args.wait).await?),
    };
    let cut_off = serving::cut_off(&hub).await?;
    if let Some(task) = cut_off.filter(|_| !args.resume) {
        context.ui.warn(format!(
            "task {task} was cut off; what it had done is part of what is compared now"
        ));
    }
    let (plan, notes) = inspected(context, &hub, &request).await?;
    if let Some(saved) = &saved
        && saved.fingerprint != plan.fingerprint()
    {
        show(context, &plan, &notes, "This is what would be done now.");
        return Err(CommandError::new(
            Code::PlanOutdated,
            format!("The plan of {} was made for another state", saved.made),
        ));
    }
    if args.dry_run {
        show(context, &plan, &notes, "Nothing has been changed.");
        if context.ui.is_json() {
            context.ui.json(&ResultLine::new(shape(&plan)));
        }
        return Ok(Exit::Done);
    }
    show(context, &plan, &notes, "");
    let is_agreed = args.yes || saved.is_some() || args.resume;
    agree(context, &plan, is_agreed)?;
    let on_failure = on_failure(args.keep_going);
    serving::shares::are_one(context, &hub, &request).await?;
    carried_out(context, &hub, &plan, &request, on_failure, cut_off).await
}

fn request(scope: &ScopeArgs) -> Request {
    Request {
        allow_remove: scope.allow_remove.clone(),
        gone: scope.gone.clone(),
        prune: scope.prune,
        ..Request::default()
    }
}

/// `fanout push config`: the part of it that is about configuration.
pub(super) async fn push_config(
    context: &Context,
    args: PushConfigArgs,
) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let request = Request {
        config_of: Some(
            hub.inventory
                .servers_of(&args.targets)
                .map_err(config_error)?,
        ),
        ..Request::default()
    };
    let _lock: Option<Lock> = match args.dry_run {
        true => None,
        false => Some(hub.lock_serving("push config", args.wait).await?),
    };
    let (plan, notes) = inspected(context, &hub, &request).await?;
    if args.dry_run {
        show(context, &plan, &notes, "Nothing has been changed.");
        if context.ui.is_json() {
            context.ui.json(&ResultLine::new(shape(&plan)));
        }
        return Ok(Exit::Done);
    }
    show(context, &plan, &notes, "");
    agree(context, &plan, args.yes)?;
    let on_failure = on_failure(args.keep_going);
    carried_out(context, &hub, &plan, &request, on_failure, None).await
}

/// Asks, unless that was answered beforehand or nothing would be done.
fn agree(context: &Context, plan: &Plan, is_agreed: bool) -> Result<(), CommandError> {
    let how = "`--yes` or a saved plan";
    if is_agreed || plan.is_empty() || context.ui.confirm("Apply this?", how)? {
        return Ok(());
    }
    Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"))
}

const fn on_failure(keeps_going: bool) -> OnFailure {
    match keeps_going {
        true => OnFailure::Continue,
        false => OnFailure::Undo,
    }
}

/// The plan, and what the inventory itself gives reason to say.
pub(super) async fn inspected(
    context: &Context,
    hub: &Hub,
    request: &Request,
) -> Result<(Plan, Vec<Problem>), CommandError> {
    let built = serving::graph(context, hub, request).await?;
    Ok((built.graph.inspect().await, built.notes))
}

/// Carries a plan out as a recorded task, and says what came of it.
pub(crate) async fn carried_out(
    context: &Context,
    hub: &Hub,
    plan: &Plan,
    request: &Request,
    on_failure: OnFailure,
    resumed: Option<TaskId>,
) -> Result<Exit, CommandError> {
    let id = work::start_for(hub, "apply", "services").await?;
    let record = Record {
        store: hub.store.clone(),
        task: id,
        clock: hub.clock.clone(),
    };
    let tell = |event: StepEvent| progress(context, plan, &event);
    let outcome = carry_out(plan, on_failure, &record, &tell)
        .await
        .map_err(store_error)?;
    let exit = worst(&outcome);
    work::end(hub, id, exit, &summary(&outcome)).await?;
    if let Some(resumed) = resumed {
        let message = format!("cut off; continued by task {id}");
        work::end(hub, resumed, Exit::Partial, &message).await?;
    }
    serving::note_served(hub, request, plan, &outcome).await?;
    let rotated = serving::rotation::after_apply(hub, plan, &outcome).await;
    report(context, &outcome, id);
    rotated
        .iter()
        .for_each(|problem| context.ui.warning(problem));
    Ok(exit)
}

/// Warnings that stand for something left undone count as well.
fn worst(outcome: &Outcome) -> Exit {
    let warnings = outcome.steps.iter().flat_map(|step| &step.applied.warnings);
    warnings.fold(outcome.exit(), |exit, warning| match warning.code.exit() {
        Exit::Partial => exit.and(Exit::Partial),
        _ => exit,
    })
}

fn progress(context: &Context, plan: &Plan, event: &StepEvent) {
    match event {
        StepEvent::Began { step } => {
            if let Some(step) = plan.steps.get(*step) {
                let on = step
                    .resource
                    .member()
                    .map_or_else(String::new, |m| format!(" on {m}"));
                context
                    .ui
                    .detail(format!("{}{on} ...", step.resource.describe()));
            }
        }
        StepEvent::Ended { step, state } => {
            if let Some(step) = plan.steps.get(*step) {
                let on = step
                    .resource
                    .member()
                    .map_or_else(String::new, |m| format!(" on {m}"));
                let mark = if *state == StepState::Done {
                    "ok"
                } else {
                    state.as_str()
                };
                context
                    .ui
                    .status(format!("{mark:8} {}{on}", step.resource.describe()));
            }
        }
    }
}

fn summary(outcome: &Outcome) -> String {
    let done = outcome
        .steps
        .iter()
        .filter(|s| s.state == StepState::Done)
        .count();
    match outcome.failure() {
        Some(problem) => problem.message.clone(),
        None => counted(done as u64, "step done", "steps done"),
    }
}

fn report(context: &Context, outcome: &Outcome, id: TaskId) {
    let mut said: Vec<&Problem> = Vec::new();
    for step in &outcome.steps {
        for warning in &step.applied.warnings {
            context.ui.warning(warning);
        }
        if let Some(problem) = step.problem.as_ref().filter(|it| !said.contains(it)) {
            context.ui.failure(problem);
            said.push(problem);
        }
    }
    for why in &outcome.kept {
        context.ui.warn(format!("not taken back, because {why}"));
    }
    if context.ui.is_json() {
        let steps: Vec<Value> = outcome.steps.iter().map(ended).collect();
        let alone: Vec<&str> = outcome.failed_alone.keys().map(|it| it.as_str()).collect();
        context.ui.json(&ResultLine::new(json!({
            "task": id.0, "steps": steps, "failed_alone": alone, "kept": outcome.kept,
        })));
        return;
    }
    if outcome.steps.is_empty() {
        return;
    }
    let count = |state: StepState| outcome.steps.iter().filter(|s| s.state == state).count() as u64;
    let mut line = counted(count(StepState::Done), "step", "steps") + " done";
    for (state, word) in [
        (StepState::Failed, "failed"),
        (StepState::Skipped, "skipped"),
        (StepState::Undone, "undone"),
        (StepState::Stuck, "not undone"),
    ] {
        if count(state) > 0 {
            line.push_str(&format!(", {} {word}", count(state)));
        }
    }
    context
        .ui
        .status(format!("{line}. `fanout log {id}` shows them."));
}

fn ended(step: &Ended) -> Value {
    json!({
        "title": step.title,
        "member": step.member.as_ref().map(|member| member.as_str()),
        "state": step.state,
        "message": step.applied.message,
        "elapsed_us": u64::try_from(step.elapsed.as_micros()).unwrap_or(u64::MAX),
        "error": step.problem.as_ref().map(ErrorShape::from),
    })
}

/// The plan for a person.
pub(crate) fn show(context: &Context, plan: &Plan, notes: &[Problem], end: &str) {
    let ui = &context.ui;
    for note in notes {
        ui.warning(note);
    }
    let mut said: Vec<&Problem> = Vec::new();
    for (step, problem) in plan.unknown() {
        tracing::debug!(step = step.resource.describe(), "not inspected");
        // A server that doesn't answer is unknown in every respect, and says so once.
        if !said.contains(&problem) {
            ui.failure(problem);
            said.push(problem);
        }
    }
    for warning in plan.warnings() {
        ui.warning(warning);
    }
    if ui.is_json() {
        return;
    }
    for group in plan.groups() {
        ui.out(head(&group));
        for change in &group.changes {
            ui.out(format!("  {change}"));
            if ui.is_verbose() {
                for line in change.detail.lines() {
                    ui.out(format!("      {line}"));
                }
            }
        }
        if let Some(why) = &group.irreversible {
            ui.out(format!("  can't be undone: {why}"));
        }
    }
    let closing = closing(plan.counts());
    ui.out(format!("{closing} {end}").trim_end());
}

fn head(group: &Group) -> String {
    let members: Vec<&str> = group.members.iter().map(|member| member.as_str()).collect();
    match members.is_empty() {
        true => group.title.clone(),
        false => format!("{}  {}", group.title, members.join(" ")),
    }
}

fn closing(counts: Counts) -> String {
    if counts == Counts::default() {
        return "No changes: everything is as the inventory says.".into();
    }
    let mut line = format!(
        "Plan: {} to add, {} to change, {} to remove.",
        counts.added, counts.changed, counts.removed
    );
    if counts.unlisted > 0 {
        line.push_str(&format!(
            " {} no longer listed: --allow-remove NAME removes it.",
            counts.unlisted
        ));
    }
    line
}

pub(super) fn shape(plan: &Plan) -> Value {
    let counts = plan.counts();
    let groups: Vec<Value> = plan.groups().iter().map(group_shape).collect();
    let unknown: Vec<ErrorShape> = plan.unknown().map(|(_, problem)| problem.into()).collect();
    json!({
        "add": counts.added,
        "change": counts.changed,
        "remove": counts.removed,
        "unlisted": counts.unlisted,
        "groups": groups,
        "unknown": unknown,
    })
}

fn group_shape(group: &Group) -> Value {
    json!({
        "title": group.title,
        "members": group.members.iter().map(|member| member.as_str()).collect::<Vec<_>>(),
        "changes": group.changes,
        "irreversible": group.irreversible,
    })
}

fn save(path: &Path, saved: &Saved) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(saved)
        .map_err(|error| CommandError::from_error(Code::Bug, &error))?;
    write_private(path, text.as_bytes())
        .map_err(|error| CommandError::from_error(Code::OutputFailed, &error))
}

fn read(path: &Path) -> Result<Saved, CommandError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::from_error(Code::PlanOutdated, &error))?;
    let saved: Saved = serde_json::from_str(&text)
        .map_err(|error| CommandError::from_error(Code::PlanOutdated, &error))?;
    if saved.version != SAVED {
        return Err(CommandError::new(
            Code::PlanOutdated,
            format!("{} was written by another version", path.display()),
        ));
    }
    Ok(saved)
}
