//! `fanout push platform`: the source of platforms to every member.

use super::schema::expand;
use crate::cli::Context;
use crate::cli::args::{PushArgs, PushNoun, PushPlatformArgs, UpdateArg};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::human::{counted, time};
use crate::cli::plan::{self, Wish};
use crate::cli::serving::updates::{Served, taken_back};
use crate::cli::show;
use crate::cli::work::{self, Aim};
use crate::codes::Exit;
use crate::config::Platform;
use crate::engine::event::TaskKind;
use crate::engine::hub::kept::roots_of;
use crate::engine::hub::source::Released;
use crate::engine::hub::task::{Overrides, TaskReport};
use crate::model::Serial;
use std::time::Duration;

pub(crate) async fn run(context: &Context, args: PushArgs) -> Result<Exit, CommandError> {
    let args = match args.noun {
        PushNoun::Platform(args) => args,
        PushNoun::Config(args) => return super::apply::push_config(context, args).await,
    };
    let hub = Hub::open(context).await?;
    let platforms: Vec<&Platform> = match args.all {
        true => hub.inventory.platforms.values().collect(),
        false => hub.platforms(&args.names)?,
    };
    if args.brakes.delete_foreign && !args.dry_run && !args.yes && context.ui.is_interactive() {
        let names: Vec<&str> = platforms.iter().map(|p| p.name.as_str()).collect();
        let question = format!(
            "Delete what was in the roots of {} before fanout?",
            names.join(", ")
        );
        if !context.ui.confirm(&question, "`--yes`")? {
            context.ui.status("Nothing was changed.");
            return Ok(Exit::Done);
        }
    }
    let mut exit: Option<Exit> = None;
    for platform in &platforms {
        // One platform's trouble doesn't keep the others from being pushed.
        let one = match push(context, &hub, platform, &args).await {
            Ok(one) => one,
            Err(error) if platforms.len() > 1 => {
                context.ui.error(&error);
                error.exit()
            }
            Err(error) => return Err(error),
        };
        exit = Some(exit.map_or(one, |exit| exit.and(one)));
    }
    Ok(exit.unwrap_or(Exit::Done))
}

pub(super) async fn push(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &PushPlatformArgs,
) -> Result<Exit, CommandError> {
    if args.update == Some(UpdateArg::Expand) && !args.dry_run {
        return expand(context, hub, platform, args).await;
    }
    let brakes = &args.brakes;
    let wish = Wish {
        members: args.members.clone(),
        level: plan::level(args.level),
        policy: args.policy,
        task: args.task.clone(),
        overrides: Overrides {
            delete_entries: brakes.allow_delete,
            kind_change: brakes.allow_kind_change,
            skip_space: brakes.skip_space_check,
            delete_foreign: brakes.delete_foreign,
        },
        dry_run: args.dry_run,
        report_only: false,
        label: args.label.clone(),
        rolling: args.rolling,
    };
    let released = Released {
        empty: brakes.allow_empty_source,
        half_built: brakes.allow_half_built,
        unfinished_merge: brakes.allow_unfinished_merge,
        require: brakes.skip_require,
    };
    let aim = Aim::Source(released);
    let mut served = Served::before(context, hub, platform, args.update.map(Into::into)).await?;
    if let Some(served) = &mut served {
        served.say();
        if !args.dry_run {
            served.hide().await?;
        }
    }
    let kind = TaskKind::Push;
    let outcome = match work::carry_out(context, hub, platform, kind, wish, aim, None).await {
        Ok(outcome) => outcome,
        Err(error) => {
            if let Some(served) = &mut served {
                served.show().await?;
            }
            return Err(error);
        }
    };
    if args.dry_run {
        show::planned(context, platform, &outcome, "a push");
        show::closing(context, &outcome.report, false);
        return Ok(outcome.exit);
    }
    if !outcome.report.refusals.is_empty() {
        // What the brake is about, entry by entry, for those who want to look.
        if context.ui.is_verbose() {
            show::planned(context, platform, &outcome, "a push");
        }
    } else {
        hub.store
            .suspend_follow(&platform.name, false)
            .await
            .map_err(store_error)?;
        say(
            context,
            platform,
            &outcome.report,
            outcome.before.map(|serial| serial.0),
        );
    }
    show::closing(context, &outcome.report, true);
    if let Some(served) = &mut served
        && let Err((error, is_safe)) = served.after(&outcome).await
    {
        return match outcome.before.filter(|_| is_safe) {
            Some(before) => take_back(context, hub, platform, before, &error).await,
            None => Err(error),
        };
    }
    Ok(outcome.exit)
}

/// Every member back to the generation before, because one doesn't serve the new one as it should.
async fn take_back(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    before: Serial,
    error: &CommandError,
) -> Result<Exit, CommandError> {
    context.ui.failure(error.problem());
    let generation = hub.store.generation(&platform.name, before).await;
    let generation = generation.map_err(store_error)?;
    let aim = Aim::Kept {
        roots: roots_of(&generation),
        label: format!("back to {before}"),
    };
    let kind = TaskKind::Rollback;
    let wish = Wish::default();
    let outcome = work::carry_out(context, hub, platform, kind, wish, aim, None).await?;
    // Or the clock would publish again what was just taken back.
    let suspended = hub.store.suspend_follow(&platform.name, true).await;
    suspended.map_err(store_error)?;
    let was = outcome.before.map(|serial| serial.0);
    say(context, platform, &outcome.report, was);
    Err(taken_back(platform, error.problem()).into())
}

/// One sentence about what happened.
pub(super) fn say(
    context: &Context,
    platform: &Platform,
    report: &TaskReport,
    before: Option<u64>,
) {
    let name = &platform.name;
    let good = report
        .members
        .iter()
        .filter(|member| member.outcome.is_good())
        .count();
    let window = report.commit_window_us.map(Duration::from_micros);
    let error = report.commit_window_error_us.map(Duration::from_micros);
    let at_it = report
        .members
        .iter()
        .filter(|member| member.generation == report.generation)
        .count();
    context.ui.status(match (report.generation, before) {
        (Some(now), before) if before != Some(now) => {
            let window = match window {
                Some(window) if good > 1 => {
                    // What can't be told from nothing isn't told as if it were exact.
                    let most = window + error.unwrap_or_default();
                    format!(", all within {}", time(most))
                }
                _ => String::new(),
            };
            format!(
                "{name} is at generation #{now} on {good} of {}{window}.",
                counted(report.members.len() as u64, "member", "members")
            )
        }
        (Some(now), _) if good == report.members.len() => {
            let all = match good {
                1 => "its member has".to_owned(),
                more => format!("all {more} members have"),
            };
            format!("{name} stays at generation #{now}, which {all}.")
        }
        (Some(now), _) => {
            format!(
                "{name} stays at generation #{now}; {at_it} of {} have it.",
                counted(report.members.len() as u64, "member", "members")
            )
        }
        (None, _) => format!("{name} was not published."),
    });
}
