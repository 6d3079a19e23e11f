//! `fanout agent init|run|invite|connect`: the daemon on a server.

use super::init::machine_name;
use crate::agent;
use crate::cli::Context;
use crate::cli::args::{AgentArgs, AgentCommand, AgentInitArgs, AgentInviteArgs};
use crate::cli::error::CommandError;
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::config::AgentConfig;
use crate::model::AbsPath;
use serde_json::json;
use std::path::Path;

pub(crate) async fn run(context: &Context, args: AgentArgs) -> Result<Exit, CommandError> {
    match args.command {
        AgentCommand::Init(args) => init(context, args),
        AgentCommand::Run(_) => serve(context).await,
        AgentCommand::Invite(args) => invite(context, args).await,
        AgentCommand::Connect(_) => {
            agent::connect(&context.agent_dir()).await?;
            Ok(Exit::Done)
        }
    }
}

fn init(context: &Context, args: AgentInitArgs) -> Result<Exit, CommandError> {
    let dir = context.agent_dir();
    let name = args.name.unwrap_or_else(machine_name);
    let name = name
        .parse()
        .map_err(|error| CommandError::from_error(Code::NameInvalid, &error))?;
    let allow = args
        .allow
        .iter()
        .map(|path| absolute(path))
        .collect::<Result<Vec<_>, _>>()?;
    let mut config = AgentConfig::new(name, allow);
    config.listen = args.listen;
    config.prefix = args.prefix.as_deref().map(absolute).transpose()?;
    if !args.preserve.is_empty() {
        for root in config.allow.clone() {
            config.preserve.insert(root, args.preserve.clone());
        }
    }
    let key = agent::init(&dir, &config)?;
    let shown = dir.config().display().to_string();
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "agent": config.name.to_string(),
            "configuration": shown,
            "key": key.to_string(),
        })));
    }
    let option = context.dir_option();
    context
        .ui
        .status(format!("Wrote {shown}; the agent's key is {key}."));
    context.ui.hint(format!(
        "next: fanout agent run{option}, and then fanout agent invite{option}"
    ));
    Ok(Exit::Done)
}

async fn serve(context: &Context) -> Result<Exit, CommandError> {
    agent::run(&context.agent_dir(), |ready| {
        context.ui.status(format!(
            "{} is ready: it listens on UDP {}.",
            ready.name, ready.address
        ));
    })
    .await?;
    Ok(Exit::Done)
}

async fn invite(context: &Context, args: AgentInviteArgs) -> Result<Exit, CommandError> {
    let lifetime = args.valid.unwrap_or(agent::TOKEN_LIFETIME);
    let token = agent::invite(&context.agent_dir(), lifetime).await?;
    if context.ui.is_json() {
        context
            .ui
            .json(&ResultLine::new(json!({ "token": token.text() })));
    } else {
        // The token alone: it is made for a pipe.
        context.ui.out(token.text());
    }
    Ok(Exit::Done)
}

/// Paths are taken as they are typed from here, and kept absolute.
fn absolute(path: &Path) -> Result<AbsPath, CommandError> {
    let absolute =
        std::path::absolute(path).map_err(|error| CommandError::from_error(Code::Usage, &error))?;
    absolute
        .to_string_lossy()
        .trim_end_matches('/')
        .parse()
        .map_err(|error| CommandError::from_error(Code::Usage, &error))
}
