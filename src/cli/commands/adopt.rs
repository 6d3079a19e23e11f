//! `fanout adopt platform`: takes over roots that have content.
//!
//! Records on each member that the root is this platform's, and nothing else: no entry changes.
//! Then a dry run shows, by top directory, what a push would replace and what is foreign.

use crate::cli::Context;
use crate::cli::args::{AdoptArgs, AdoptNoun, AdoptPlatformArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{self, Hub, config_error};
use crate::cli::human::{count, counted};
use crate::cli::json::ResultLine;
use crate::cli::plan::{self, Wish};
use crate::cli::progress::Progress;
use crate::cli::table::{Align, Table};
use crate::cli::work::{self, Aim, Outcome};
use crate::cli::{members, show};
use crate::codes::{Code, Exit, Problem};
use crate::config::{Kind, Platform};
use crate::engine::event::{MemberName, TaskKind};
use crate::engine::hub::source::Released;
use crate::engine::hub::task::{PlannedChange, warning};
use crate::model::Layout;
use crate::store::PlatformState;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use sync_proto::path::escape;
use sync_proto::wire::{self, ItemKind, Notice};

type Found = Vec<(MemberName, Result<Adopted, Problem>)>;

/// What a member said.
struct Adopted {
    /// Names in the root; `None` if the root was this platform's before.
    entries: Option<u64>,
    notices: Vec<Notice>,
}

pub(crate) async fn run(context: &Context, args: AdoptArgs) -> Result<Exit, CommandError> {
    let AdoptNoun::Platform(args) = args.noun;
    let mut hub = Hub::open(context).await?;
    let name = hub.platform(&args.name)?.name.clone();
    let state = hub.state(&name).await?;
    if let Some(refusal) = hub::locked(&state).filter(|_| !args.dry_run) {
        return Err(refusal.into());
    }
    let platform = hub.platform(&args.name)?.clone();
    if platform.layout == Layout::Switched && state.desired.is_some() {
        let message = format!("{name} was pushed as `switched`: there is nothing to adopt");
        return Err(Problem::new(Code::LayoutUnsupported, message)
            .with_hint(format!("fanout push platform {name}"))
            .into());
    }
    if args.dry_run {
        return look(context, &hub, &platform, &state, &args).await;
    }
    if !args.yes && context.ui.is_interactive() {
        let question = format!(
            "Record {} on {} as the root of {name}?",
            platform.root, platform.on
        );
        if !context.ui.confirm(&question, "`--yes`")? {
            context.ui.status("Nothing was changed.");
            return Ok(Exit::Done);
        }
    }
    let _lock = hub
        .lock(&name, &format!("adopt platform {name}"), false)
        .await?;
    if platform.layout == Layout::Switched {
        in_place(context, &mut hub, &platform)?;
    }
    let platform = hub.platform(&args.name)?.clone();
    let id = work::start(&hub, TaskKind::Adopt.word(), &name).await?;
    let found = bind(context, &hub, &platform, &state, &args).await?;
    let adopted = found.iter().filter(|(_, answer)| answer.is_ok()).count();
    let exit = match adopted {
        0 => Exit::Failed,
        all if all == found.len() => Exit::Done,
        _ => Exit::Partial,
    };
    let summary = format!(
        "{adopted} of {}",
        counted(found.len() as u64, "member", "members")
    );
    work::end(&hub, id, exit, &summary).await?;
    report(context, &platform, &found);
    if adopted > 0 {
        preview(context, &hub, &platform, &args, &found).await?;
    } else if context.ui.is_json() {
        context.ui.json(&result(&platform, &found, None));
    }
    // A refusal on every member says why better than the number alone.
    let first = found.iter().find_map(|(_, answer)| answer.as_ref().err());
    Ok(match (exit, first) {
        (Exit::Failed, Some(problem)) => problem.code.exit(),
        _ => exit,
    })
}

/// A root that is a directory stays one; `switched` would replace it by a symlink.
fn in_place(context: &Context, hub: &mut Hub, platform: &Platform) -> Result<(), CommandError> {
    let mut edit = hub.edit("adopt platform")?;
    edit.set(
        Kind::Platform,
        platform.name.as_str(),
        "layout",
        Layout::InPlace.as_str(),
    )
    .map_err(config_error)?;
    hub.inventory = edit.save().map_err(config_error)?;
    context.ui.status(format!(
        "Wrote layout = \"in-place\" for {} to {}: an adopted root stays a directory.",
        platform.name,
        hub.dir.inventory().display()
    ));
    Ok(())
}

async fn bind(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    args: &AdoptPlatformArgs,
) -> Result<Found, CommandError> {
    let progress = Progress::new(&context.ui, platform.name.as_str());
    let engine = hub.engine(progress.sink());
    let wish = Wish {
        members: args.members.clone(),
        ..Wish::default()
    };
    let task = plan::task(hub, platform, state, 0, &wish, &engine.events).await?;
    let (tree, root) = (task.tree, task.root.clone());
    let found = members::of_task(&engine, &task, None, |session| {
        let root = root.clone();
        async move {
            let was_bound = session.survey(tree).await?.bound;
            let bound = session.bind(tree, &root, wire::Layout::InPlace, true).await;
            let (entries, notices) = bound?;
            Ok(Adopted {
                entries: (!was_bound).then_some(entries),
                notices,
            })
        }
    })
    .await;
    progress.finish();
    Ok(found)
}

fn report(context: &Context, platform: &Platform, found: &Found) {
    for (member, answer) in found {
        match answer {
            Ok(Adopted { entries, notices }) => {
                let (root, name) = (&platform.root, &platform.name);
                context.ui.status(match entries {
                    Some(entries) => format!(
                        "{member}: {root} is recorded as the root of {name}; it holds {}.",
                        counted(*entries, "entry", "entries")
                    ),
                    None => format!("{member}: {root} is the root of {name} already."),
                });
                for notice in notices {
                    match warning(member, notice) {
                        Some(problem) => context.ui.warning(&problem),
                        None => context.ui.status(format!("{member}: {}", notice.message)),
                    }
                }
            }
            Err(problem) => context.ui.failure(&problem.of(member)),
        }
    }
}

/// What a push would do with what was found.
async fn preview(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &AdoptPlatformArgs,
    found: &Found,
) -> Result<(), CommandError> {
    let wish = Wish {
        members: args.members.clone(),
        dry_run: true,
        ..Wish::default()
    };
    let aim = Aim::Source(Released::default());
    let outcome = work::carry_out(context, hub, platform, TaskKind::Adopt, wish, aim, None).await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            // The roots are adopted all the same.
            context.ui.warning(error.problem());
            if context.ui.is_json() {
                context.ui.json(&result(platform, found, None));
            }
            return Ok(());
        }
    };
    for refusal in &outcome.report.refusals {
        context.ui.warning(refusal);
    }
    if context.ui.is_json() {
        context.ui.json(&result(platform, found, Some(&outcome)));
        return Ok(());
    }
    for change in &outcome.report.planned {
        context.ui.status(format!(
            "What a push would do on {}:",
            show::names(&change.members)
        ));
        context.ui.out(tops(change));
        context.ui.out(show::numbers(&change.plan));
    }
    if outcome
        .report
        .planned
        .iter()
        .any(|change| change.plan.foreign > 0)
    {
        context.ui.hint(
            "foreign entries stay; a rule protects them for good (fanout edit platform --preserve), \
             and `push --delete-foreign` deletes them",
        );
    }
    context.ui.hint(format!(
        "entry by entry: fanout push platform {} --dry-run",
        platform.name
    ));
    Ok(())
}

/// New, replaced, touched, gone and foreign by the first name of the path.
fn by_top(change: &PlannedChange) -> BTreeMap<&[u8], [u64; 5]> {
    let mut tops: BTreeMap<&[u8], [u64; 5]> = BTreeMap::new();
    for foreign in &change.plan.foreign_paths {
        tops.entry(top_of(foreign)).or_default()[4] += 1;
    }
    for item in &change.items {
        let top = top_of(&item.path);
        let column = match item.kind {
            ItemKind::Added => 0,
            ItemKind::Content => 1,
            ItemKind::Meta => 2,
            ItemKind::Removed => 3,
        };
        tops.entry(top).or_default()[column] += 1;
    }
    tops
}

fn top_of(path: &[u8]) -> &[u8] {
    let mut names = path.split(|&byte| byte == b'/');
    names.next().unwrap_or_default()
}

fn tops(change: &PlannedChange) -> Table {
    let mut table = Table::new(&[
        ("in", Align::Left),
        ("new", Align::Right),
        ("replaced", Align::Right),
        ("metadata", Align::Right),
        ("deleted", Align::Right),
        ("foreign", Align::Right),
    ]);
    for (top, counts) in by_top(change) {
        let name = if top.is_empty() {
            ".".to_owned()
        } else {
            escape(top)
        };
        table.row(std::iter::once(name).chain(counts.into_iter().map(count)));
    }
    table
}

fn result(platform: &Platform, found: &Found, outcome: Option<&Outcome>) -> ResultLine<Value> {
    let planned = outcome.map_or(&[][..], |outcome| &outcome.report.planned);
    let members: Vec<Value> = found
        .iter()
        .map(|(member, answer)| {
            let change = planned
                .iter()
                .find(|change| change.members.contains(member));
            let tops: Option<Value> = change.map(|change| {
                let shape =
                    |(top, [new, replaced, touched, deleted, foreign]): (&[u8], [u64; 5])| {
                        json!({"in": escape(top), "added": new, "replaced": replaced,
                           "touched": touched, "deleted": deleted, "foreign": foreign})
                    };
                by_top(change).into_iter().map(shape).collect()
            });
            json!({
                "name": member.as_ref(),
                "adopted": answer.is_ok(),
                "already": answer.as_ref().is_ok_and(|answer| answer.entries.is_none()),
                "found_entries": answer.as_ref().ok().and_then(|answer| answer.entries),
                "foreign": change.map(|change| change.plan.foreign),
                "would_change": tops,
                "error": answer.as_ref().err().map(|problem| json!({
                    "code": problem.code.id(), "message": problem.message, "hint": problem.hint(),
                })),
            })
        })
        .collect();
    ResultLine::new(json!({
        "platform": platform.name.as_str(), "root": platform.root.as_str(), "members": members,
    }))
}

/// `--dry-run`: what is recorded already, and nothing more: only a member that has bound a tree
/// compares it.
async fn look(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    args: &AdoptPlatformArgs,
) -> Result<Exit, CommandError> {
    let progress = Progress::new(&context.ui, platform.name.as_str());
    let engine = hub.engine(progress.sink());
    let wish = Wish {
        members: args.members.clone(),
        ..Wish::default()
    };
    let task = plan::task(hub, platform, state, 0, &wish, &engine.events).await?;
    let tree = task.tree;
    let answers = members::of_task(&engine, &task, None, |session| async move {
        session.survey(tree).await
    })
    .await;
    progress.finish();
    let mut shapes = Vec::new();
    let mut exit = Exit::Done;
    for (member, answer) in &answers {
        let (text, bound) = match answer {
            Ok(survey) if survey.bound => (
                format!("{} is this platform's already", escape(&survey.root)),
                Some(true),
            ),
            Ok(_) => (
                format!("{} would be recorded as its root", platform.root),
                Some(false),
            ),
            Err(problem) => {
                exit = Exit::Partial;
                (problem.to_string(), None)
            }
        };
        if !context.ui.is_json() {
            context.ui.out(format!("{member}: {text}"));
        }
        shapes.push(json!({"name": member.as_ref(), "adopted": bound, "text": text}));
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "platform": platform.name.as_str(), "dry_run": true, "members": shapes,
        })));
    }
    if answers.iter().all(|(_, answer)| answer.is_err()) {
        return Err(CommandError::new(Code::Unreachable, "No member answered"));
    }
    context.ui.status("Nothing was changed.");
    Ok(exit)
}
