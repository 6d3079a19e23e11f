//! What a push or a rollback does about the schemas of a platform's sites: decided before anything
//! is written, carried out once, on one member.
//!
//! ORDER, `maintenance`: pages, code, updates, pages away. `expand`: one member leaves the rotation
//! and gets the code, the schema is updated from there, it comes back, the others follow. `after`:
//! code, updates. What fails in between leaves pages where they are: a site whose schema fits no
//! code must not open by itself.

use super::install::brought;
use super::push::carried_out;
use crate::cli::Context;
use crate::cli::args::PushPlatformArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::plan::Wish;

use crate::cli::serving::application::{OneSite, all_servers, driver, one, source_version};
use crate::cli::work::{self, Aim};
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::event::TaskKind;
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::Resource as _;
use crate::orchestrate::applications::is_absence;
use crate::orchestrate::resources::application::SchemaUpdated;
use crate::orchestrate::rotation::Rotation;
use crate::services::app::is_installable;
use crate::services::app::update::{
    SiteVersions, Undecided, UpdatePlan, UpdateWhen, decide, rollback_warning,
};
use crate::store::{Cause, SiteMode};

/// Tasks that are looked through for updates.
const TASKS: u32 = 1000;

/// A push with what its sites' schemas need around it.
pub(super) async fn push(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &PushPlatformArgs,
    wish: Wish,
    aim: Aim,
) -> Result<Exit, CommandError> {
    let plan = plan(hub, platform, args).await?;
    if let Some(why) = &plan.irreversible {
        context.ui.warn(format!("This can't be taken back: {why}"));
    }
    if args.dry_run || plan.when == UpdateWhen::Never {
        return carried_out(context, hub, platform, args, wish, aim).await;
    }
    let sites: Vec<SiteUri> = plan.sites.iter().map(|(site, _)| site.clone()).collect();
    let closed = match plan.in_maintenance {
        true => close(context, hub, &sites).await?,
        false => Vec::new(),
    };
    let pushed = match plan.when {
        UpdateWhen::Before => expand(context, hub, platform, args, wish, aim, &sites).await,
        _ => {
            let exit = carried_out(context, hub, platform, args, wish, aim).await?;
            match exit {
                Exit::Done | Exit::Partial => updated(context, hub, &sites).await.map(|()| exit),
                _ => Ok(exit),
            }
        }
    };
    if let Err(error) = &pushed
        && !closed.is_empty()
    {
        context
            .ui
            .warn(format!("{} stays in maintenance: {error}", names(&closed)));
        context.ui.hint(format!(
            "after it is repaired: fanout update site {0}, then fanout enable site {0}",
            closed[0]
        ));
    }
    let exit = pushed?;
    open(context, hub, &closed).await?;
    Ok(exit)
}

/// What is decided; what isn't, is refused with the list of the sites.
async fn plan(
    hub: &Hub,
    platform: &Platform,
    args: &PushPlatformArgs,
) -> Result<UpdatePlan, CommandError> {
    let next = source_version(platform);
    let mut versions = Vec::new();
    let listed = hub.inventory.sites_of(&platform.name);
    let with_schema =
        |site: &&&crate::config::Site| site.db.is_some() && is_installable(driver(platform));
    let listed: Vec<_> = listed.iter().filter(with_schema).collect();
    if !listed.is_empty() {
        let servers = all_servers(hub).await?;
        for site in listed {
            let site = one(hub, &servers, site.uri.as_str()).await?;
            match site.app.look_anywhere(&site.members).await {
                Ok((_, state)) => versions.push(SiteVersions {
                    site: site.site.uri.clone(),
                    driver: site.app.site.driver,
                    live: state.version,
                    next: next.clone(),
                    is_installed: state.is_installed == Some(true),
                    pending: state.pending,
                }),
                // Nobody has it yet, so there is nothing to update.
                Err(problem) if is_unborn(&problem) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
    }
    decide(&versions, args.update).map_err(|undecided: Undecided| {
        CommandError::new(Code::UpdatesUndecided, undecided.to_string()).hint(Undecided::HINT)
    })
}

fn is_unborn(problem: &Problem) -> bool {
    is_absence(problem)
        || matches!(
            problem.code,
            Code::NoMembers | Code::NothingPushed | Code::TreeUnknown
        )
}

/// Maintenance pages for the sites that show themselves; the answer is which those were.
async fn close(
    context: &Context,
    hub: &Hub,
    sites: &[SiteUri],
) -> Result<Vec<SiteUri>, CommandError> {
    let modes = hub.store.site_modes().await.map_err(store_error)?;
    let by = hub.who.to_string();
    let mut closed = Vec::new();
    for site in sites.iter().filter(|site| !modes.contains_key(*site)) {
        let mode = Some(SiteMode::Maintenance);
        let set = hub.store.set_site_mode(site, mode, hub.clock.now(), &by);
        set.await.map_err(store_error)?;
        closed.push(site.clone());
    }
    if !closed.is_empty() {
        context
            .ui
            .status(format!("{} goes into maintenance.", names(&closed)));
        let exit = brought(context, hub, true).await?;
        if exit != Exit::Done {
            let message = "The maintenance pages are not on every member, so nothing was pushed";
            return Err(CommandError::new(Code::ConfigRefused, message));
        }
    }
    Ok(closed)
}

async fn open(context: &Context, hub: &Hub, closed: &[SiteUri]) -> Result<(), CommandError> {
    if closed.is_empty() {
        return Ok(());
    }
    let by = hub.who.to_string();
    for site in closed {
        let set = hub.store.set_site_mode(site, None, hub.clock.now(), &by);
        set.await.map_err(store_error)?;
    }
    brought(context, hub, true).await?;
    context
        .ui
        .status(format!("{} shows itself again.", names(closed)));
    Ok(())
}

/// Updates the schemas of these sites, one after the other, each on one member with the new code.
async fn updated(context: &Context, hub: &Hub, sites: &[SiteUri]) -> Result<(), CommandError> {
    let servers = all_servers(hub).await?;
    for uri in sites {
        let site = one(hub, &servers, uri.as_str()).await?;
        update(context, hub, &site).await?;
    }
    Ok(())
}

/// Updates one site's schema, on the record.
pub(super) async fn update(
    context: &Context,
    hub: &Hub,
    site: &OneSite<'_>,
) -> Result<String, CommandError> {
    let uri = &site.site.uri;
    let id = work::start_for(hub, "update", &format!("site {uri}")).await?;
    let step = SchemaUpdated {
        app: site.app.clone(),
        members: site.members.clone(),
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

/// One member first, out of rotation: from there the schema is updated while the others still serve
/// the old code. Then they follow.
async fn expand(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &PushPlatformArgs,
    wish: Wish,
    aim: Aim,
    sites: &[SiteUri],
) -> Result<Exit, CommandError> {
    let members = hub.inventory.members(platform);
    let Some(first) = members.first().map(|server| server.name.clone()) else {
        return carried_out(context, hub, platform, args, wish, aim).await;
    };
    if !wish.members.limit.is_empty() || !wish.members.skip.is_empty() {
        return Err(CommandError::usage(
            "`--update expand` chooses the members itself: leave out --limit and --skip",
        ));
    }
    let rotation = Rotation::of(
        &hub.inventory,
        platform,
        all_servers(hub).await?,
        hub.store.clone(),
        hub.clock.clone(),
        &hub.who.to_string(),
    );
    let only: [ServerName; 1] = [first.clone()];
    if let Some(rotation) = &rotation {
        let reason = "its code is ahead until the schema is updated";
        rotation.take_out(&only, Cause::Push, reason, false).await?;
    }
    let mut alone = wish.clone();
    alone.members.limit = vec![first.to_string()];
    alone.rolling = None;
    let exit = carried_out(context, hub, platform, args, alone, aim).await?;
    if !matches!(exit, Exit::Done | Exit::Partial) {
        return Ok(exit);
    }
    let done = updated(context, hub, sites).await;
    if let Err(error) = done {
        context.ui.warn(format!(
            "{first} has the new code and is out of rotation; the others have the old one"
        ));
        context.ui.hint(format!(
            "repair it and push again, or: fanout rollback platform {}",
            platform.name
        ));
        return Err(error);
    }
    let rest = work::carry_out(
        context,
        hub,
        platform,
        TaskKind::Resync,
        wish,
        Aim::Desired,
        None,
    );
    let outcome = rest.await?;
    super::push::say(
        context,
        platform,
        &outcome.report,
        outcome.before.map(|it| it.0),
    );
    if let Some(rotation) = &rotation {
        rotation.prove(&only).await?;
        rotation.put_back(&only, false).await?;
    }
    Ok(outcome.exit)
}

/// What going back to a generation means for sites whose schema was updated since it was committed.
pub(super) async fn warn_of_rollback(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    committed: crate::clock::UnixMillis,
    shown: (&str, &str),
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
            context
                .ui
                .warn(rollback_warning(&site.uri, shown.0, shown.1));
        }
    }
    Ok(())
}

fn names(sites: &[SiteUri]) -> String {
    let names: Vec<&str> = sites.iter().map(SiteUri::as_str).collect();
    names.join(", ")
}
