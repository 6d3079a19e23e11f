//! `fanout cron`: the periodic work of sites, each on one member at a time.

use crate::cli::Context;
use crate::cli::args::{CronArgs, CronNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::serving::application::{OneSite, all_servers, one};
use crate::clock::UnixMillis;
use crate::codes::{Code, Exit, Problem};
use crate::orchestrate::applications::is_absence;
use crate::services::app::cron::{CronRecord, CronStep, LONGEST_MS, step};
use crate::services::app::is_installable;
use crate::store::{CronLease, SiteMode};
use sync_proto::wire::service::AppAction;

pub(crate) async fn run(context: &Context, args: CronArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    if let Some(CronNoun::Site(args)) = args.noun {
        let site = one(&hub, &servers, &args.uri).await?;
        return site_now(context, &hub, &site, true).await;
    }
    let mut exit = Exit::Done;
    for listed in hub.inventory.sites.values().filter(|site| site.cron) {
        let site = one(&hub, &servers, listed.uri.as_str()).await?;
        if !is_installable(site.app.site.driver) {
            continue;
        }
        let done = match site_now(context, &hub, &site, false).await {
            Ok(done) => done,
            // One site that fails doesn't stop the others.
            Err(error) => {
                context.ui.error(&error);
                error.exit()
            }
        };
        exit = exit.and(done);
    }
    Ok(exit)
}

/// One site: what is due, or at once.
async fn site_now(
    context: &Context,
    hub: &Hub,
    site: &OneSite<'_>,
    forced: bool,
) -> Result<Exit, CommandError> {
    let uri = &site.site.uri;
    let mode = hub.store.site_mode(uri).await.map_err(store_error)?;
    let is_disabled = mode.is_some_and(|state| state.mode == SiteMode::Disabled);
    if is_disabled && !forced {
        return Ok(Exit::Done);
    }
    let known = hub.store.cron(uri).await.map_err(store_error)?;
    let record = CronRecord {
        runner: known.runner,
        lease_until_ms: known.lease_until.map(|time| time.0),
        last_ms: known.ended_well.map(|time| time.0),
    };
    let now = hub.clock.now();
    let (candidates, missed) = match step(&record, &site.members, now.0, forced) {
        CronStep::NotYet => return Ok(Exit::Done),
        CronStep::Running(runner) => {
            if forced {
                let message = format!("{runner} runs the periodic work of {uri} just now");
                return Err(CommandError::new(Code::TaskLocked, message));
            }
            return Ok(Exit::Done);
        }
        CronStep::Run { candidates, missed } => (candidates, missed),
    };
    let until = UnixMillis(now.0.saturating_add(LONGEST_MS));
    let lease = hub.store.take_cron(uri, now, until).await;
    let Some(lease) = lease.map_err(store_error)? else {
        // Another `fanout cron` was first.
        return Ok(Exit::Done);
    };
    let ran = on_one(hub, site, &candidates, lease).await;
    let (ended_well, message) = match &ran {
        Ok(message) => (true, message.clone()),
        Err(problem) => (false, problem.message.clone()),
    };
    let ended = hub.store.end_cron(uri, lease, ended_well, &message);
    ended.await.map_err(store_error)?;
    match ran {
        Ok(message) => {
            if missed > 0 {
                context
                    .ui
                    .detail(format!("{uri}: {missed} runs were missed, and run as one"));
            }
            let said = format!("{uri}: {message}");
            match forced {
                true => context.ui.status(said),
                false => context.ui.detail(said),
            }
            Ok(Exit::Done)
        }
        Err(problem) if problem.code == Code::AppActionMissing && !forced => Ok(Exit::Done),
        Err(problem) => Err(problem.into()),
    }
}

/// On the first member that answers.
async fn on_one(
    hub: &Hub,
    site: &OneSite<'_>,
    candidates: &[crate::model::ServerName],
    lease: CronLease,
) -> Result<String, Problem> {
    let uri = &site.site.uri;
    let mut last = Problem::new(Code::NoMembers, format!("No server runs {uri}"));
    for member in candidates {
        let noted = hub.store.note_cron_runner(uri, lease, member).await;
        noted.map_err(|error| error.problem())?;
        match site.app.act(member, AppAction::Cron).await {
            Ok(done) if done.message.is_empty() => return Ok(format!("ran on {member}")),
            Ok(done) => return Ok(format!("{} (on {member})", done.message)),
            Err(problem) if is_absence(&problem) => last = problem,
            Err(problem) => return Err(problem),
        }
    }
    Err(last)
}
