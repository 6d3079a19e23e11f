//! `fanout delete platform`: destroys a platform's code on its members.
//!
//! Preserved paths stay and are listed. The inventory forgets the platform once every member has
//! done it; until then the command can be repeated.

use crate::cli::Context;
use crate::cli::args::{DeleteArgs, DeleteNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{self, Hub, config_error, store_error};
use crate::cli::human::counted;
use crate::cli::json::ResultLine;
use crate::cli::{members, work};
use crate::codes::{Code, Exit, Problem};
use crate::config::{Kind, Platform};
use crate::engine::event::TaskKind;
use crate::store::PlatformState;
use serde_json::{Value, json};
use sync_proto::path::escape;
use sync_proto::wire::Notice;

pub(crate) async fn run(context: &Context, args: DeleteArgs) -> Result<Exit, CommandError> {
    let args = match args.noun {
        DeleteNoun::Platform(args) => args,
        DeleteNoun::Site(args) => return super::delete_site::run(context, args).await,
    };
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&args.name)?.clone();
    let state = hub.state(&platform.name).await?;
    if args.dry_run {
        return look(context, &hub, &platform, &state).await;
    }
    if let Some(refusal) = hub::locked(&state) {
        return Err(refusal.into());
    }
    let name = platform.name.as_str();
    let what = format!(
        "This deletes {} on {} with all its generations; preserved paths stay.",
        platform.root, platform.on
    );
    confirm(context, "platform", name, args.yes_delete.as_deref(), &what)?;
    let name = &platform.name;
    let _lock = hub
        .lock(name, &format!("delete platform {name}"), false)
        .await?;
    let id = work::start(&hub, TaskKind::Delete.word(), name).await?;
    let tree = *state.tree.as_bytes();
    let root = platform.root.as_str().as_bytes().to_vec();
    let answers = members::ask(context, &hub, &platform, &state, |session| {
        let root = root.clone();
        async move {
            match session.survey(tree).await?.bound {
                true => session.delete(tree, &root).await,
                // Nothing was ever published there.
                false => Ok(Vec::new()),
            }
        }
    })
    .await?;
    let gone = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    let exit = match gone {
        all if all == answers.len() => Exit::Done,
        0 => Exit::Failed,
        _ => Exit::Partial,
    };
    let mut shapes = Vec::new();
    for (member, answer) in &answers {
        tell(context, &platform, member, answer);
        shapes.push(shape(member, answer));
    }
    work::end(
        &hub,
        id,
        exit,
        &format!(
            "deleted on {gone} of {}",
            counted(answers.len() as u64, "member", "members")
        ),
    )
    .await?;
    if exit == Exit::Done {
        let mut edit = hub.edit("delete platform")?;
        edit.remove(Kind::Platform, name.as_str())
            .map_err(config_error)?;
        edit.save().map_err(config_error)?;
        hub.store.forget_platform(name).await.map_err(store_error)?;
        context.ui.status(format!(
            "{name} is deleted. The source {} stays.",
            platform.path
        ));
    } else {
        context.ui.hint(format!(
            "{name} stays in the inventory; when the members answer: \
             fanout delete platform {name} --yes-delete {name}"
        ));
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"platform": name.as_str(), "members": shapes}),
        ));
    }
    Ok(exit)
}

/// Has the name typed of what is destroyed.
pub(super) fn confirm(
    context: &Context,
    kind: &str,
    name: &str,
    typed: Option<&str>,
    what: &str,
) -> Result<(), CommandError> {
    let how = format!("`--yes-delete {name}`");
    match typed {
        Some(typed) if typed == name => return Ok(()),
        Some(typed) => {
            return Err(CommandError::new(
                Code::NotConfirmed,
                format!("--yes-delete says `{typed}`, and the {kind} is `{name}`"),
            ));
        }
        None => {}
    }
    if context.ui.is_interactive() {
        context.ui.status(what);
    }
    if context.ui.confirm_by_typing(name, &how)? {
        return Ok(());
    }
    Err(CommandError::new(
        Code::NotConfirmed,
        "The name was not typed; nothing was changed",
    ))
}

fn tell(
    context: &Context,
    platform: &Platform,
    member: &str,
    answer: &Result<Vec<Notice>, Problem>,
) {
    match answer {
        Ok(left) if left.is_empty() => {
            context
                .ui
                .status(format!("{member}: {} is deleted.", platform.root));
        }
        Ok(left) => {
            context.ui.status(format!(
                "{member}: {} is deleted. What stays:",
                platform.root
            ));
            for notice in left {
                context
                    .ui
                    .status(format!("  {}  {}", escape(&notice.path), notice.message));
            }
        }
        Err(problem) => context.ui.failure(&problem.of(member)),
    }
}

fn shape(member: &str, answer: &Result<Vec<Notice>, Problem>) -> Value {
    let left: Vec<Value> = answer
        .iter()
        .flatten()
        .map(|notice| json!({"path": escape(&notice.path), "message": notice.message}))
        .collect();
    let error = answer.as_ref().err().map(|problem| {
        json!({"code": problem.code.id(), "message": problem.message, "hint": problem.hint()})
    });
    json!({"name": member, "deleted": answer.is_ok(), "left": left, "error": error})
}

async fn look(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
) -> Result<Exit, CommandError> {
    let tree = *state.tree.as_bytes();
    let answers = members::ask(context, hub, platform, state, |session| async move {
        session.survey(tree).await
    })
    .await?;
    let mut shapes = Vec::new();
    let mut exit = Exit::Done;
    for (member, answer) in &answers {
        let text = match answer {
            Ok(survey) if survey.bound => {
                let kept = match survey.preserve.is_empty() {
                    true => "nothing is preserved".to_owned(),
                    false => format!("preserved: {}", survey.preserve.join("  ")),
                };
                format!(
                    "{} with {}; {kept}",
                    escape(&survey.root),
                    counted(survey.generations.len() as u64, "generation", "generations")
                )
            }
            Ok(_) => "nothing: no root is recorded there".to_owned(),
            Err(problem) => {
                exit = Exit::Partial;
                problem.to_string()
            }
        };
        if !context.ui.is_json() {
            context.ui.out(format!("{member}: {text}"));
        }
        shapes.push(json!({"name": member.as_ref(), "text": text}));
    }
    if context.ui.is_json() {
        let name = platform.name.as_str();
        context.ui.json(&ResultLine::new(
            json!({"platform": name, "dry_run": true, "members": shapes}),
        ));
    }
    context.ui.status("Nothing was changed.");
    Ok(exit)
}
