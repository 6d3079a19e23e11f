//! `fanout drain server` and `fanout ready server`: a person's word about the rotation.

use crate::cli::Context;
use crate::cli::args::{DrainArgs, DrainNoun, ReadyArgs, ReadyNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error};
use crate::cli::json::ResultLine;
use crate::cli::serving;
use crate::codes::{Code, Exit};
use crate::config::Server;
use crate::orchestrate::rotation::Rotation;
use crate::store::Cause;
use serde_json::json;

pub(crate) async fn drain(context: &Context, args: DrainArgs) -> Result<Exit, CommandError> {
    let DrainNoun::Server(args) = args.noun;
    let hub = Hub::open(context).await?;
    let server = hub.inventory.server(&args.name).map_err(config_error)?;
    let name = std::slice::from_ref(&server.name);
    let reason = args.reason.as_deref().unwrap_or_default();
    for rotation in rotations(&hub, server).await? {
        rotation
            .take_out(name, Cause::Person, reason, args.force)
            .await?;
    }
    if context.ui.is_json() {
        let line = ResultLine::new(json!({ "server": args.name, "in_rotation": false }));
        context.ui.json(&line);
    }
    context.ui.status(format!(
        "{} is out of rotation and has no visitors left.",
        args.name
    ));
    context
        .ui
        .hint(format!("`fanout ready server {}` puts it back", args.name));
    Ok(Exit::Done)
}

pub(crate) async fn ready(context: &Context, args: ReadyArgs) -> Result<Exit, CommandError> {
    let ReadyNoun::Server(args) = args.noun;
    let hub = Hub::open(context).await?;
    let server = hub.inventory.server(&args.name).map_err(config_error)?;
    let name = std::slice::from_ref(&server.name);
    let rotations = rotations(&hub, server).await?;
    // ORDER: all of it is proved before any balancer sends a visitor.
    for rotation in &rotations {
        rotation.prove(name).await?;
    }
    for rotation in &rotations {
        rotation.put_back(name, true).await?;
    }
    if context.ui.is_json() {
        let line = ResultLine::new(json!({ "server": args.name, "in_rotation": true }));
        context.ui.json(&line);
    }
    context
        .ui
        .status(format!("{} is in rotation again.", args.name));
    Ok(Exit::Done)
}

async fn rotations(hub: &Hub, server: &Server) -> Result<Vec<Rotation>, CommandError> {
    let servers = serving::servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let author = hub.who.to_string();
    let (inventory, store) = (&hub.inventory, &hub.store);
    let all = Rotation::of_server(
        inventory,
        &server.name,
        &servers,
        store,
        &hub.clock,
        &author,
    );
    if all.is_empty() {
        return Err(CommandError::new(
            Code::NotBehindBalancer,
            format!("{} is behind no balancer", server.name),
        ));
    }
    Ok(all)
}
