//! `fanout lock` and `fanout unlock`: a person's lock, which stays until it is taken off.

use crate::cli::Context;
use crate::cli::args::{LockArgs, LockNoun, LockPlatformArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::store::PlatformLock;
use serde_json::json;

pub(crate) async fn lock(context: &Context, args: LockArgs) -> Result<Exit, CommandError> {
    let LockNoun::Platform(LockPlatformArgs { name, reason }) = args.noun;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&name)?;
    hub.state(&platform.name).await?;
    let new = PlatformLock {
        by: hub.who.to_string(),
        reason: reason.unwrap_or_default(),
        since: hub.clock.now(),
    };
    let there = hub
        .store
        .lock_platform(&platform.name, &new)
        .await
        .map_err(store_error)?;
    if let Some(there) = there {
        let reason = if there.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", there.reason)
        };
        return Err(CommandError::new(
            Code::PlatformLocked,
            format!(
                "{name} was locked by {} already, since {}{reason}",
                there.by, there.since
            ),
        ));
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "platform": name, "locked": true, "by": new.by, "reason": new.reason,
            "since": new.since.utc(),
        })));
    }
    context.ui.status(format!(
        "{name} is locked: pushes and rollbacks are refused, resync only reports."
    ));
    context
        .ui
        .hint(format!("`fanout unlock platform {name}` ends it"));
    Ok(Exit::Done)
}

pub(crate) async fn unlock(context: &Context, args: LockArgs) -> Result<Exit, CommandError> {
    let LockNoun::Platform(LockPlatformArgs { name, .. }) = args.noun;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&name)?;
    let was = hub
        .store
        .unlock_platform(&platform.name)
        .await
        .map_err(store_error)?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"platform": name, "locked": false, "was_locked": was}),
        ));
    }
    context.ui.status(if was {
        format!("{name} is unlocked.")
    } else {
        format!("{name} was not locked.")
    });
    Ok(Exit::Done)
}
