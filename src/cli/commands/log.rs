//! `fanout log`: the recorded tasks, and one of them as a matrix of steps and members.

use crate::cli::Context;
use crate::cli::args::LogArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::human;
use crate::cli::json::ResultLine;
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit};
use crate::store::{StepRecord, StepState, Task, TaskId};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) async fn run(context: &Context, args: LogArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    match args.task {
        Some(number) => one(context, &hub, TaskId(number)).await,
        None => list(context, &hub, args.last).await,
    }
}

async fn list(context: &Context, hub: &Hub, at_most: u32) -> Result<Exit, CommandError> {
    let tasks = hub.store.tasks(at_most).await.map_err(store_error)?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({ "tasks": tasks })));
        return Ok(Exit::Done);
    }
    if tasks.is_empty() {
        context.ui.status("No task was recorded yet.");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("task", Align::Right),
        ("started", Align::Left),
        ("took", Align::Right),
        ("what", Align::Left),
        ("who", Align::Left),
        ("exit", Align::Right),
        ("result", Align::Left),
    ]);
    for task in &tasks {
        table.row([
            task.id.to_string(),
            task.started.to_string(),
            took(task),
            format!("{} {}", task.kind, task.target),
            task.who.clone(),
            task.exit
                .map_or_else(|| "-".into(), |exit| exit.to_string()),
            task.summary
                .clone()
                .unwrap_or_else(|| "running, or cut off".into()),
        ]);
    }
    context.ui.out(table);
    Ok(Exit::Done)
}

async fn one(context: &Context, hub: &Hub, id: TaskId) -> Result<Exit, CommandError> {
    let task = hub.store.task(id).await.map_err(store_error)?;
    let Some(task) = task else {
        return Err(CommandError::new(
            Code::UnknownTask,
            format!("There is no task {id}"),
        ));
    };
    let steps = hub.store.steps(id).await.map_err(store_error)?;
    if context.ui.is_json() {
        let line = ResultLine::new(json!({ "task": task, "steps": steps }));
        context.ui.json(&line);
        return Ok(Exit::Done);
    }
    let ui = &context.ui;
    ui.out(format!("task {id}: {} {}", task.kind, task.target));
    ui.out(format!("  by       {}", task.who));
    ui.out(format!("  command  {}", task.command_line));
    ui.out(format!("  started  {}, took {}", task.started, took(&task)));
    let result = task.summary.as_deref().unwrap_or("running, or cut off");
    ui.out(format!("  result   {result}"));
    if !steps.is_empty() {
        ui.out("");
        matrix(context, &steps, task.ended.is_some());
        for step in steps.iter().filter(|step| !step.message.is_empty()) {
            let member = step
                .member
                .as_deref()
                .map_or_else(String::new, |m| format!(" on {m}"));
            ui.out(format!("{}{member}: {}", step.title, step.message));
        }
    }
    Ok(Exit::Done)
}

/// One row a kind of step, one column a member.
fn matrix(context: &Context, steps: &[StepRecord], has_ended: bool) {
    let mut members: Vec<&str> = Vec::new();
    let mut titles: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for step in steps {
        let member = step.member.as_deref().unwrap_or("hub");
        if !members.contains(&member) {
            members.push(member);
        }
        if !titles.contains(&step.title.as_str()) {
            titles.push(&step.title);
        }
        cells.insert((&step.title, member), cell(step, has_ended));
    }
    let widest = |column: &str| {
        let cells = titles
            .iter()
            .filter_map(|title| cells.get(&(*title, column)));
        let widest = cells.map(String::len).max().unwrap_or(0);
        widest.max(column.len())
    };
    let title_width = titles.iter().map(|title| title.len()).max().unwrap_or(0);
    let mut line = " ".repeat(title_width);
    for member in &members {
        line.push_str(&format!("  {member:width$}", width = widest(member)));
    }
    context.ui.out(line.trim_end());
    for title in &titles {
        let mut line = format!("{title:title_width$}");
        for member in &members {
            let cell = cells.get(&(*title, *member)).map_or("", String::as_str);
            line.push_str(&format!("  {cell:width$}", width = widest(member)));
        }
        context.ui.out(line.trim_end());
    }
}

fn cell(step: &StepRecord, has_ended: bool) -> String {
    let state = match step.state {
        StepState::Running if has_ended => "cut off",
        state => state.as_str(),
    };
    match (step.started, step.ended) {
        (Some(started), Some(ended)) => {
            format!("{state} {}", human::time(between(started.0, ended.0)))
        }
        _ => state.to_owned(),
    }
}

fn took(task: &Task) -> String {
    let took = |ended: crate::clock::UnixMillis| human::time(between(task.started.0, ended.0));
    task.ended.map_or_else(|| "-".into(), took)
}

fn between(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}
