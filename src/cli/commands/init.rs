//! `fanout init`: makes this machine the hub.
//!
//! The inventory is written last: a hub that has one is complete, and whatever an interrupted
//! `init` left is taken over by the next.

use super::recover;
use crate::cli::Context;
use crate::cli::args::InitArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{config_error, identity, store_error, who};
use crate::cli::json::ResultLine;
use crate::clock::Clock;
use crate::codes::{Code, Exit};
use crate::config::Edit;
use crate::store::{Holder, Store};
use serde_json::json;

pub(crate) async fn run(context: &Context, args: InitArgs) -> Result<Exit, CommandError> {
    if args.recover {
        return recover::run(context).await;
    }
    let dir = context.hub_dir();
    let shown = dir.inventory().display().to_string();
    // A file that can't be read is for the edit below to complain about.
    if let Ok(true) = dir.inventory().try_exists() {
        return Err(CommandError::new(
            Code::AlreadyInitialised,
            format!("There is a hub already: {shown}"),
        ));
    }
    dir.create().map_err(config_error)?;
    let identity = identity(&dir.identity())?;
    let store = Store::open(&dir.database()).await.map_err(store_error)?;
    store.close().await;
    let name = args.name.unwrap_or_else(machine_name);
    let holder = Holder::this_process(who().to_string(), "init", Clock::system().now());
    Edit::create(&dir, &name, &holder).map_err(config_error)?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "hub": name,
            "inventory": shown,
            "state": dir.state().display().to_string(),
            "key": identity.key().to_string(),
        })));
    }
    context.ui.status(format!(
        "Wrote {shown}, and the hub's key and state to {}.",
        dir.state().display()
    ));
    let option = context.dir_option();
    context.ui.hint(format!(
        "next, for each server: fanout add server NAME --address HOST --ssh USER@HOST{option}"
    ));
    context.ui.hint(format!(
        "or without ssh: `fanout agent invite` there, and here: \
         fanout add server NAME --address HOST --token-file -{option}"
    ));
    Ok(Exit::Done)
}

/// The machine's own name as the kernel has it, without its domain.
pub(super) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = name.trim().split('.').next().unwrap_or_default();
    if short.is_empty() {
        "fanout".into()
    } else {
        short.into()
    }
}
