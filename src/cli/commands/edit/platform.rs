//! `fanout edit platform`: settings of a platform, and preserve rules that are given up.
//!
//! Rules that are given are added. Giving up a preserve rule shows first how much it protects on
//! each member: after that, a push deletes it.

use crate::cli::Context;
use crate::cli::args::{EditPlatformArgs, RuleArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{self, Hub, config_error, store_error};
use crate::cli::human::{bytes, counted};
use crate::cli::json::ResultLine;
use crate::cli::{members, plan, rules};
use crate::codes::{Code, Exit, Problem};
use crate::config::{Edit, Kind, Platform};
use crate::engine::event::MemberName;
use serde_json::{Value, json};
use sync_proto::filter::Preserve;

const KIND: Kind = Kind::Platform;

pub(super) async fn run(context: &Context, args: EditPlatformArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&args.name)?.clone();
    let mut edit = hub.edit("edit platform")?;
    let mut changed = settings(&mut edit, &platform, &args)?;
    changed.extend(rule_settings(&mut edit, &platform, &args.rules)?);
    let app = edit.change(KIND, &args.name, args.app.settings().keys());
    changed.extend(app.map_err(config_error)?);
    // A service's setting needs a plan, a rule of the tree a push.
    let next = match changed
        .iter()
        .any(|key| ["on", "app", "docroot", "php"].contains(&key.as_str()))
    {
        true => format!("fanout plan{}", context.dir_option()),
        false => format!(
            "fanout push platform {} --dry-run{}",
            args.name,
            context.dir_option()
        ),
    };
    changed.extend(super::unset(&mut edit, KIND, &args.name, &args.unset)?);
    let mut released = Vec::new();
    if !args.release_preserved.is_empty() {
        match release(context, &hub, &platform, &args, &mut edit).await? {
            Some(shapes) => released = shapes,
            None => {
                context.ui.status("Nothing was changed.");
                return Ok(Exit::Done);
            }
        }
    }
    if changed.is_empty() && args.release_preserved.is_empty() {
        return Err(CommandError::usage(
            "There is nothing to change on the command line",
        ));
    }
    edit.save().map_err(config_error)?;
    let file = hub.dir.inventory().display().to_string();
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "platform": args.name, "changed": changed, "released": released, "inventory": file,
        })));
    }
    if !changed.is_empty() {
        context.ui.status(format!(
            "Wrote {} of {} to {file}. Nothing on the servers has changed yet.",
            changed.join(", "),
            args.name
        ));
        context.ui.hint(format!("next: {next}"));
    }
    Ok(Exit::Done)
}

fn settings(
    edit: &mut Edit,
    platform: &Platform,
    args: &EditPlatformArgs,
) -> Result<Vec<String>, CommandError> {
    let name = platform.name.as_str();
    let mut changed = Vec::new();
    if let Some(path) = &args.path {
        let path = crate::cli::commands::add::source_path(path)?;
        edit.set(KIND, name, "path", path.as_str())
            .map_err(config_error)?;
        changed.push("path".to_owned());
    }
    if let Some(on) = &args.on {
        edit.set(KIND, name, "on", on.as_str())
            .map_err(config_error)?;
        changed.push("on".to_owned());
    }
    Ok(changed)
}

fn rule_settings(
    edit: &mut Edit,
    platform: &Platform,
    args: &RuleArgs,
) -> Result<Vec<String>, CommandError> {
    let name = platform.name.as_str();
    rules::check(&args.exclude, &args.preserve)?;
    let mut changed = Vec::new();
    let mut append = |key: &'static str, texts: &[String]| {
        for text in texts {
            let is_new = edit.append(KIND, name, key, text).map_err(config_error)?;
            if is_new && !changed.iter().any(|other| other == key) {
                changed.push(key.to_owned());
            }
        }
        Ok::<(), CommandError>(())
    };
    append("exclude", &args.exclude)?;
    append("preserve", &args.preserve)?;
    append("require", &args.require)?;
    let mut set = |key: &'static str, value: toml_edit::Value| {
        changed.push(key.to_owned());
        edit.set(KIND, name, key, value).map_err(config_error)
    };
    if let Some(owner) = &args.owner {
        set("owner", owner.as_str().into())?;
    }
    if let Some(keep) = args.keep {
        set("keep", i64::from(keep).into())?;
    }
    if let Some(resync) = args.resync {
        set(
            "resync",
            crate::cli::commands::add::resync(resync).as_str().into(),
        )?;
    }
    Ok(changed)
}

/// Shows what the rules protect, asks, and gives them up on every member. `None` if the answer was
/// no.
async fn release(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &EditPlatformArgs,
    edit: &mut Edit,
) -> Result<Option<Vec<Value>>, CommandError> {
    let state = hub.state(&platform.name).await?;
    if let Some(refusal) = hub::locked(&state) {
        return Err(refusal.into());
    }
    let known = plan::rules(hub, platform).await?.scope.preserve.to_lines();
    let given = Preserve::parse(&args.release_preserved)
        .map_err(|error| CommandError::from_error(Code::RuleInvalid, &error))?
        .to_lines();
    if let Some(unknown) = given.iter().find(|rule| !known.contains(rule)) {
        return Err(CommandError::new(
            Code::RuleInvalid,
            format!("{} has no preserve rule `{unknown}`", platform.name),
        )
        .hint(format!("it has: {}", known.join("  "))));
    }
    let _lock = hub
        .lock(&platform.name, "releasing a preserve rule", false)
        .await?;
    let tree = *state.tree.as_bytes();
    let count = |rule: String, dry_run: bool| {
        members::ask(context, hub, platform, &state, move |session| {
            let rule = rule.clone();
            async move {
                match session.survey(tree).await?.bound {
                    true => session.release(tree, &rule, dry_run).await,
                    false => Ok((0, 0)),
                }
            }
        })
    };
    for rule in &given {
        for (member, answer) in count(rule.clone(), true).await? {
            let (entries, size) = answer.map_err(|problem| unreachable(&member, rule, problem))?;
            context.ui.status(format!(
                "{member}: `{rule}` protects {}, {}",
                counted(entries, "entry", "entries"),
                bytes(size)
            ));
        }
    }
    if !args.yes {
        let question = "Give up the protection? A push will delete what isn't in the source. In an \
                        adopted root it stays, as foreign, until --delete-foreign.";
        if !context.ui.confirm(question, "`--yes`")? {
            return Ok(None);
        }
    }
    let mut shapes = Vec::new();
    for rule in &given {
        for (member, answer) in count(rule.clone(), false).await? {
            let (entries, size) = answer.map_err(|problem| unreachable(&member, rule, problem))?;
            shapes.push(json!({
                "rule": rule, "member": member.as_ref(), "entries": entries, "bytes": size,
            }));
        }
        let who = hub.who.to_string();
        let now = hub.clock.now();
        hub.store
            .release_rule(&platform.name, rule, &who, now)
            .await
            .map_err(store_error)?;
        // In whatever spelling it is in the file.
        for written in &platform.preserve {
            let same = Preserve::parse(&[written]).is_ok_and(|it| it.to_lines() == [rule.as_str()]);
            if same {
                edit.take_out(KIND, platform.name.as_str(), "preserve", written)
                    .map_err(config_error)?;
            }
        }
        context
            .ui
            .status(format!("`{rule}` is given up on every member."));
    }
    let what = format!("released {}", given.join("  "));
    crate::cli::commands::record(hub, "edit", &platform.name, Exit::Done, &what).await?;
    Ok(Some(shapes))
}

/// A rule that still holds on one member must not look as if it were gone.
fn unreachable(member: &MemberName, rule: &str, problem: Problem) -> CommandError {
    let hint = problem.hint().to_owned();
    CommandError::new(
        problem.code,
        format!(
            "`{rule}` can't be given up, for {member} doesn't answer: {}",
            problem.message
        ),
    )
    .hint(hint)
}
