//! Schemas of a platform's sites around a push and a rollback: an update on the record, a push that
//! updates first, and what going back means.

use super::push::push;
use crate::cli::Context;
use crate::cli::args::{MemberArgs, PushPlatformArgs, UpdateArg};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::plan::Wish;
use crate::cli::serving::application::{OneSite, all_servers};
use crate::cli::work::{self, Aim};
use crate::clock::UnixMillis;
use crate::codes::Exit;
use crate::config::Platform;
use crate::engine::event::TaskKind;
use crate::model::ServerName;
use crate::orchestrate::Resource as _;
use crate::orchestrate::resources::application::SchemaUpdated;
use crate::orchestrate::rotation::Rotation;
use crate::services::app::update::rollback_warning;
use crate::store::Cause;

/// Tasks that are looked through for updates.
const TASKS: u32 = 1000;

/// Updates one site's schema on one of these members, on the record.
pub(crate) async fn update(
    context: &Context,
    hub: &Hub,
    site: &OneSite<'_>,
    members: &[ServerName],
) -> Result<String, CommandError> {
    let uri = &site.site.uri;
    let id = work::start_for(hub, "update", &format!("site {uri}")).await?;
    let step = SchemaUpdated {
        app: site.app.clone(),
        members: members.to_vec(),
    };
    match step.apply().await {
        Ok(applied) => {
            work::end(hub, id, Exit::Done, &applied.message).await?;
            for warning in &applied.warnings {
                context.ui.warning(warning);
            }
            context.ui.status(format!("{uri}: {}", applied.message));
            Ok(applied.message)
        }
        Err(problem) => {
            work::end(hub, id, problem.code.exit(), &problem.message).await?;
            Err(problem.into())
        }
    }
}

/// `--update expand`: one member first, out of rotation. From there the schema is updated while the
/// others still serve the old code; then they follow.
pub(super) async fn expand(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &PushPlatformArgs,
) -> Result<Exit, CommandError> {
    let is_whole = args.members.limit.is_empty() && args.members.skip.is_empty();
    if !is_whole {
        return Err(CommandError::usage(
            "`--update expand` chooses the members itself: leave out --limit and --skip",
        ));
    }
    let mut alone = args.clone();
    alone.update = Some(UpdateArg::After);
    let members = hub.inventory.members(platform);
    let (Some(first), 2..) = (members.first(), members.len()) else {
        // There is nobody to serve the old code meanwhile.
        return Box::pin(push(context, hub, platform, &alone)).await;
    };
    let only: [ServerName; 1] = [first.name.clone()];
    alone.members = MemberArgs {
        limit: vec![first.name.to_string()],
        ..MemberArgs::default()
    };
    alone.rolling = None;
    let rotation = Rotation::of(
        &hub.inventory,
        platform,
        all_servers(hub).await?,
        hub.store.clone(),
        hub.clock.clone(),
        &hub.who.to_string(),
    );
    if let Some(rotation) = &rotation {
        let reason = "its code is ahead until the schema is updated";
        rotation.take_out(&only, Cause::Push, reason, false).await?;
    }
    let pushed = Box::pin(push(context, hub, platform, &alone)).await;
    if !matches!(pushed, Ok(Exit::Done | Exit::Partial)) {
        context.ui.warn(format!(
            "{} is out of rotation; the other members have the old code",
            first.name
        ));
        context.ui.hint(format!(
            "repair it and push again, or: fanout rollback platform {}",
            platform.name
        ));
        return pushed;
    }
    let wish = Wish {
        task: args.task.clone(),
        rolling: args.rolling,
        ..Wish::default()
    };
    let kind = TaskKind::Resync;
    let outcome = work::carry_out(context, hub, platform, kind, wish, Aim::Desired, None).await?;
    super::push::say(
        context,
        platform,
        &outcome.report,
        outcome.before.map(|serial| serial.0),
    );
    if let Some(rotation) = &rotation {
        rotation.prove(&only).await?;
        rotation.put_back(&only, false).await?;
    }
    Ok(outcome.exit)
}

/// What going back to a generation means for sites whose schema was updated since it was committed;
/// `ends` are the generations that it goes from and to.
pub(super) async fn warn_of_rollback(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    committed: UnixMillis,
    ends: (&str, &str),
) -> Result<(), CommandError> {
    let tasks = hub.store.tasks(TASKS).await.map_err(store_error)?;
    for site in hub.inventory.sites_of(&platform.name) {
        let target = format!("site {}", site.uri);
        let was_updated = tasks.iter().any(|task| {
            task.kind == "update"
                && task.target == target
                && task.exit == Some(0)
                && task.started > committed
        });
        if was_updated {
            context.ui.warn(rollback_warning(&site.uri, ends.0, ends.1));
        }
    }
    Ok(())
}
