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
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::config::{Edit, Inventory, NewServer, Server};
use crate::model::{Label, Offer, ServerName, Transport};
use crate::net::{NodeKey, Token};
use crate::store::KnownServer;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
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
    let listed = hub.inventory.servers.get(name.as_str());
    let new = match (args.replace_key, listed) {
        (false, _) => new_server(&args)?,
        (true, Some(server)) => as_listed(&args, server)?,
        (true, None) => {
            let message = format!("There is no server `{name}` in the inventory");
            return Err(CommandError::new(Code::UnknownServer, message)
                .hint("without `--replace-key` a server is added"));
        }
    };
    let mut edit = hub.edit("add server")?;
    let known = hub.store.server(&name).await.map_err(store_error)?;
    // A server that is in the inventory and whose key isn't here, as after the state was lost or
    // the inventory was written by hand, only needs its key.
    let needs_key = args.replace_key || known.is_none() && listed.is_some();
    if listed.is_some() && !needs_key {
        return Err(taken(&name, "server").hint(format!(
            "if it was set up anew: fanout add server {name} --replace-key ..."
        )));
    }
    if needs_key {
        context.ui.status(format!(
            "{name} is in the inventory and stays as it is there."
        ));
    } else {
        edit.add_server(&name, &new).map_err(config_error)?;
        edit.check().map_err(config_error)?;
    }
    let asked = ssh::Asked {
        offers: offers(&args, &hub.inventory),
        allow: args.allow.clone(),
    };
    let facts = match (&args.token_file, &args.ssh) {
        (None, None) if args.no_agent => {
            edit.save().map_err(config_error)?;
            None
        }
        (Some(file), _) => Some(by_token(&hub, &name, &new, file, edit).await?),
        (None, Some(_)) => Some(ssh::run(context, &hub, &name, &new, asked, edit).await?),
        (None, None) => return Err(no_way_in(&name)),
    };
    if let Some(facts) = &facts {
        introduce(context, &name, facts);
    }
    if needs_key {
        return Ok(key_replaced(context, &hub, &name));
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

fn key_replaced(context: &Context, hub: &Hub, name: &ServerName) -> Exit {
    let next = format!("fanout resync --limit {name}{}", context.dir_option());
    if context.ui.is_json() {
        let file = hub.dir.inventory().display().to_string();
        context.ui.json(&ResultLine::new(json!({
            "key": {"server": name.as_str()}, "inventory": file, "next": next,
        })));
    }
    context
        .ui
        .status(format!("The key of {name} is on record."));
    context.ui.hint(format!("next: {next}"));
    Exit::Done
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
            .as_deref()
            .unwrap_or_default()
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

/// What the agent has to offer for the server's roles, or what is said. The inventory may have it
/// already, as when it was written by hand or imported.
fn offers(args: &AddServerArgs, inventory: &Inventory) -> BTreeSet<Offer> {
    if !args.offer.is_empty() {
        return args.offer.iter().copied().collect();
    }
    let listed = inventory.servers.get(args.name.as_str());
    let mut offers = BTreeSet::new();
    if args.web.settings().kind.is_some() || listed.is_some_and(|server| server.web.is_some()) {
        offers.extend([Offer::Web, Offer::App, Offer::Setup]);
    }
    if args.db.settings().kind.is_some() || listed.is_some_and(|server| server.db.is_some()) {
        offers.extend([Offer::Db, Offer::Setup]);
    }
    let mut balancers = inventory.balancers.values();
    if balancers.any(|it| it.servers.iter().any(|server| server.as_str() == args.name)) {
        offers.extend([Offer::Balancer, Offer::Setup]);
    }
    offers
}

/// A server that only gets another key is reached as the inventory says.
fn as_listed(args: &AddServerArgs, server: &Server) -> Result<NewServer, CommandError> {
    let ssh = match &args.ssh {
        Some(ssh) => Some(ssh.parse().map_err(|error| invalid(Code::Usage, &error))?),
        None => None,
    };
    Ok(NewServer {
        address: server.address.clone(),
        addresses: Vec::new(),
        labels: Vec::new(),
        transport: Some(server.transport),
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
    let token = read_token(file, name)?;
    let parsed = Token::parse(&token)
        .map_err(|error| CommandError::from_error(Code::TokenInvalid, &error))?;
    check_key(hub, name, parsed.agent).await?;
    let identity = hub.identity()?;
    let joined = join(&token, &identity, &new.address, Transport::Quic, None).await?;
    remember(hub, name, joined.key).await?;
    edit.save().map_err(config_error)?;
    Ok(joined.facts)
}

fn read_token(file: &Path, name: &ServerName) -> Result<String, CommandError> {
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
        let mode = opened.metadata().map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            let message = format!(
                "Others may read the token in {shown} (mode {:04o}), and whoever has it can be the \
                 hub",
                mode & 0o7777
            );
            return Err(CommandError::new(Code::SecretExposed, message).hint(format!(
                "chmod 600 {shown}, or better: ssh HOST fanout agent invite | fanout add server \
                 {name} ... --token-file -"
            )));
        }
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
