//! `fanout agent`: the daemon on a server, and what prepares it.

use super::init::machine_name;
use crate::agent;
use crate::cli::Context;
use crate::cli::args::{
    AgentArgs, AgentCommand, AgentInitArgs, AgentInviteArgs, AgentOfferArgs, AgentRevokeArgs,
};
use crate::cli::error::CommandError;
use crate::cli::hub::{config_error, invalid};
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::config::AgentConfig;
use crate::model::{AbsPath, Offer};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use sync_proto::filter::Preserve;

pub(crate) async fn run(context: &Context, args: AgentArgs) -> Result<Exit, CommandError> {
    match args.command {
        AgentCommand::Init(args) => init(context, args),
        AgentCommand::Offer(args) => offer(context, args),
        AgentCommand::Run(_) => serve(context).await,
        AgentCommand::Invite(args) => invite(context, args).await,
        AgentCommand::Revoke(args) => revoke(context, &args).await,
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
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    let allow: Result<Vec<AbsPath>, _> = args.allow.iter().map(|path| directory(path)).collect();
    let mut config = AgentConfig::new(name, allow?);
    config.listen = args.listen;
    config.prefix = match &args.prefix {
        Some(prefix) => Some(super::add::source_path(prefix)?),
        None => None,
    };
    config.preserve = preserve(&args.preserve)?;
    config.offers = args.offer.into_iter().collect();
    let key = agent::init(&dir, &config)?;
    let file = dir.config().display().to_string();
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "name": config.name.as_str(), "config": file, "key": key.to_string(),
            "listen": config.listen.to_string(),
        })));
    }
    context.ui.status(format!(
        "Wrote {file}, and the key of {} beside it.",
        config.name
    ));
    let option = context.dir_option();
    context.ui.hint(format!("next: fanout agent run{option}"));
    context
        .ui
        .hint(format!("then, for the hub: fanout agent invite{option}"));
    Ok(Exit::Done)
}

fn offer(context: &Context, args: AgentOfferArgs) -> Result<Exit, CommandError> {
    let dir = context.agent_dir();
    let services: BTreeSet<Offer> = args.services.into_iter().collect();
    let changed = AgentConfig::offer(dir.config(), &services).map_err(config_error)?;
    let config = AgentConfig::load(dir.config()).map_err(config_error)?;
    let all: Vec<&str> = config.offers.iter().map(|offer| offer.as_str()).collect();
    if context.ui.is_json() {
        context
            .ui
            .json(&ResultLine::new(json!({"offers": all, "changed": changed})));
    }
    context.ui.status(format!(
        "{} offers {} to hubs.",
        config.name,
        all.join(", ")
    ));
    if changed {
        context
            .ui
            .hint("restart the agent: systemctl restart fanout-agent");
    }
    Ok(Exit::Done)
}

/// A directory as hubs will name it, so never relative to where somebody stood.
fn directory(path: &Path) -> Result<AbsPath, CommandError> {
    let text = path
        .to_str()
        .ok_or_else(|| CommandError::usage(format!("The path {} is not UTF-8", path.display())))?;
    text.parse().map_err(|error| invalid(Code::Usage, &error))
}

/// `ROOT=RULE`, by root.
fn preserve(texts: &[String]) -> Result<BTreeMap<AbsPath, Vec<String>>, CommandError> {
    let mut rules: BTreeMap<AbsPath, Vec<String>> = BTreeMap::new();
    for text in texts {
        let (root, rule) = text.split_once('=').ok_or_else(|| {
            CommandError::usage(format!("`{text}` is not ROOT=RULE"))
                .hint("as in --preserve /srv/platforms/drupal=/web/sites/*/files")
        })?;
        Preserve::parse(&[rule]).map_err(|error| {
            CommandError::from_error(Code::RuleInvalid, &error).hint(error.hint())
        })?;
        rules
            .entry(directory(Path::new(root))?)
            .or_default()
            .push(rule.to_owned());
    }
    Ok(rules)
}

async fn serve(context: &Context) -> Result<Exit, CommandError> {
    let ready = |ready: &agent::Ready| {
        if context.ui.is_json() {
            context.ui.json(&ResultLine::of_type(
                "ready",
                json!({
                    "name": ready.name, "listen": ready.address.to_string(),
                    "key": ready.key.to_string(),
                }),
            ));
        }
        context.ui.status(format!(
            "{} is ready: it listens on UDP {}, key {}.",
            ready.name, ready.address, ready.key
        ));
    };
    agent::run(&context.agent_dir(), ready).await?;
    context.ui.status("The agent has stopped.");
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
        // Standard output is often a pipe to the hub: the token and nothing else.
        context.ui.raw(format!("{}\n", token.text()).as_bytes());
    }
    Ok(Exit::Done)
}

async fn revoke(context: &Context, args: &AgentRevokeArgs) -> Result<Exit, CommandError> {
    let dir = context.agent_dir();
    let Some(digits) = &args.key else {
        let hubs = agent::hubs(&dir)?;
        if context.ui.is_json() {
            let hubs: Vec<String> = hubs.iter().map(ToString::to_string).collect();
            context.ui.json(&ResultLine::new(json!({ "hubs": hubs })));
        } else if hubs.is_empty() {
            context.ui.status("No hub is let in.");
        } else {
            for hub in hubs {
                context.ui.out(hub);
            }
        }
        return Ok(Exit::Done);
    };
    let hub = agent::revoke(&dir, digits).await?;
    if context.ui.is_json() {
        let shape = json!({ "revoked": hub.to_string() });
        context.ui.json(&ResultLine::new(shape));
    }
    context.ui.status(format!(
        "The hub {hub} is let in no more. What it published stays."
    ));
    context.ui.hint("to let a hub in: fanout agent invite");
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrators_rule_names_its_root() {
        let texts = ["/srv/a=/files".to_owned(), "/srv/a=/x=y".to_owned()];
        let rules = preserve(&texts).unwrap();
        assert_eq!(rules.values().next().unwrap(), &["/files", "/x=y"]);
        for bad in ["/files", "srv=/files", "/srv/a=files"] {
            assert!(preserve(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
