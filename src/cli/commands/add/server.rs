//! `fanout add server`: a server into the inventory, and keys exchanged with its agent.
//!
//! By a token, which names the agent's key and lets one key of ours in, or over ssh
//! ([`super::ssh`]). ORDER: the inventory is checked before the token is spent; the agent
//! accepts our key; its key is on record; the inventory is saved.

use super::{ssh, taken, written};
use crate::bootstrap::join;
use crate::cli::Context;
use crate::cli::args::{AddServerArgs, TransportArg};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid, store_error};
use crate::codes::{Code, Exit};
use crate::config::{Edit, NewServer};
use crate::model::{Label, ServerName, Transport};
use crate::net::{NodeKey, Token};
use crate::store::KnownServer;
use std::io::Read;
use std::path::Path;
use sync_proto::path::escape;
use sync_proto::wire::Facts;

/// LIMIT: a token has 120 characters.
const MAX_TOKEN_BYTES: u64 = 4096;

pub(super) async fn run(context: &Context, args: AddServerArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let name: ServerName = args
        .name
        .parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    if hub.inventory.clusters.contains_key(name.as_str()) {
        return Err(taken(&name, "cluster"));
    }
    let new = new_server(&args)?;
    let mut edit = hub.edit("add server")?;
    let known = hub.store.server(&name).await.map_err(store_error)?;
    // A server that is in the inventory and whose key isn't here, as after the state was lost or
    // the inventory was written by hand, only needs its key.
    let needs_key = known.is_none() && hub.inventory.servers.contains_key(name.as_str());
    if needs_key {
        context.ui.status(format!(
            "{name} is in the inventory and stays as it is there."
        ));
    } else {
        edit.add_server(&name, &new).map_err(config_error)?;
        edit.check().map_err(config_error)?;
    }
    let facts = match (&args.token_file, &args.ssh) {
        (None, None) if args.no_agent => {
            edit.save().map_err(config_error)?;
            None
        }
        (Some(file), _) => Some(by_token(&hub, &name, &new, file, edit).await?),
        (None, Some(_)) => Some(ssh::run(context, &hub, &name, &new, edit).await?),
        (None, None) => return Err(no_way_in(&name)),
    };
    if let Some(facts) = &facts {
        introduce(context, &name, facts);
    }
    let next = match hub.inventory.clusters.is_empty() {
        true => format!(
            "fanout add cluster NAME --members {name}{}",
            context.dir_option()
        ),
        false => format!(
            "add it to a cluster's members in {}, or: fanout add platform NAME --on {name} ...",
            hub.dir.inventory().display()
        ),
    };
    written(context, &hub, "server", name.as_str(), &next);
    Ok(Exit::Done)
}

fn new_server(args: &AddServerArgs) -> Result<NewServer, CommandError> {
    let labels: Result<Vec<Label>, _> = args.labels.iter().map(|label| label.parse()).collect();
    let ssh = match &args.ssh {
        Some(ssh) => Some(ssh.parse().map_err(|error| invalid(Code::Usage, &error))?),
        None => None,
    };
    Ok(NewServer {
        address: args
            .address
            .parse()
            .map_err(|error| invalid(Code::Usage, &error))?,
        addresses: args.addresses.clone(),
        labels: labels.map_err(|error| invalid(Code::NameInvalid, &error))?,
        transport: match args.transport {
            TransportArg::Auto => None,
            TransportArg::Quic => Some(Transport::Quic),
            TransportArg::Ssh => Some(Transport::Ssh),
        },
        ssh,
        sudo: args.sudo,
        web: args.web.settings(),
        db: args.db.settings(),
    })
}

fn no_way_in(name: &ServerName) -> CommandError {
    CommandError::usage("Exchanging keys needs --token-file FILE or --ssh USER@HOST").hint(format!(
        "`fanout agent invite` on the server prints a token: \
         ssh HOST fanout agent invite | fanout add server {name} --address HOST --token-file -"
    ))
}

async fn by_token(
    hub: &Hub,
    name: &ServerName,
    new: &NewServer,
    file: &Path,
    edit: Edit,
) -> Result<Facts, CommandError> {
    let token = read_token(file)?;
    let parsed = Token::parse(&token)
        .map_err(|error| CommandError::from_error(Code::TokenInvalid, &error))?;
    check_key(hub, name, parsed.agent).await?;
    let identity = hub.identity()?;
    let joined = join(&token, &identity, &new.address, Transport::Quic, None).await?;
    remember(hub, name, joined.key).await?;
    edit.save().map_err(config_error)?;
    Ok(joined.facts)
}

fn read_token(file: &Path) -> Result<String, CommandError> {
    let is_stdin = file == Path::new("-");
    let shown = if is_stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let unreadable = |error: std::io::Error| {
        CommandError::new(
            Code::TokenInvalid,
            format!("Can't read a token from {shown}: {error}"),
        )
    };
    let mut text = String::new();
    if is_stdin {
        std::io::stdin()
            .take(MAX_TOKEN_BYTES)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
    } else {
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened
            .take(MAX_TOKEN_BYTES)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
    }
    if text.trim().is_empty() {
        return Err(
            CommandError::new(Code::TokenInvalid, format!("There is no token in {shown}"))
                .hint("`fanout agent invite` on the server prints one"),
        );
    }
    Ok(text)
}

/// One agent is one server: its key must not be another's.
pub(super) async fn check_key(
    hub: &Hub,
    name: &ServerName,
    key: NodeKey,
) -> Result<(), CommandError> {
    let key = key.to_string();
    let known = hub.store.servers().await.map_err(store_error)?;
    match known
        .iter()
        .find(|server| server.node_key == key && server.name != *name)
    {
        // What was removed from the inventory by hand is not there any more.
        Some(other) if hub.inventory.servers.contains_key(other.name.as_str()) => {
            Err(CommandError::new(
                Code::NameTaken,
                format!("This agent is in the inventory already, as {}", other.name),
            ))
        }
        Some(other) => {
            hub.store
                .forget_server(&other.name)
                .await
                .map_err(store_error)?;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Puts an agent's key on record, in the place of one that the name had before.
pub(super) async fn remember(
    hub: &Hub,
    name: &ServerName,
    key: NodeKey,
) -> Result<(), CommandError> {
    hub.store.forget_server(name).await.map_err(store_error)?;
    let server = KnownServer {
        name: name.clone(),
        node_key: key.to_string(),
        // The trust anchor is made from the key alone; there is nothing else to keep.
        certificate_der: Vec::new(),
        added: hub.clock.now(),
    };
    hub.store.add_server(&server).await.map_err(store_error)
}

/// What the agent says about itself, as far as it matters.
pub(super) fn introduce(context: &Context, name: &ServerName, facts: &Facts) {
    let allow: Vec<String> = facts.allow.iter().map(|dir| escape(dir)).collect();
    context.ui.status(format!(
        "{name} runs {} on {}, and accepts roots below {}.",
        facts.software,
        facts.system,
        allow.join(", ")
    ));
    if !facts.name.is_empty() && facts.name != name.as_str() {
        context
            .ui
            .hint(format!("it calls itself {}", escape(facts.name.as_bytes())));
    }
    if !facts.privileged {
        context.ui.warn(format!(
            "{name}: the agent doesn't run as root: owners and some attributes can't be kept"
        ));
    }
}
