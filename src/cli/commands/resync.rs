//! `fanout resync`: members back to what was last decided. Made for cron.
//!
//! Never reads the source. Silent without drift (one line on a terminal), one line for each member
//! that changed or should have, and nothing else, however it is run. A platform that a person
//! locked, or that says `resync = "report"`, is only looked at.

use crate::cli::Context;
use crate::cli::args::ResyncArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{self, Hub};
use crate::cli::human::{bytes, counted};
use crate::cli::plan::{self, Wish};
use crate::cli::show::{self, Ignored};
use crate::cli::work::{self, Aim, Outcome};
use crate::codes::{Code, Exit};
use crate::config::Platform;
use crate::engine::event::{Outcome as Fate, TaskKind};
use crate::model::ResyncMode;

pub(crate) async fn run(context: &Context, args: ResyncArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let platforms: Vec<&Platform> = match args.names.is_empty() {
        true => hub.inventory.platforms.values().collect(),
        false => hub.platforms(&args.names)?,
    };
    let mut exit: Option<Exit> = None;
    for platform in &platforms {
        let one = match resync(context, &hub, platform, &args).await {
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

async fn resync(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &ResyncArgs,
) -> Result<Exit, CommandError> {
    let state = hub.state(&platform.name).await?;
    if state.desired.is_none() {
        if args.names.is_empty() {
            context
                .ui
                .detail(format!("{} was never pushed.", platform.name));
            return Ok(Exit::Done);
        }
        return Err(CommandError::new(
            Code::NothingPushed,
            format!(
                "{} was never pushed, so there is nothing to restore",
                platform.name
            ),
        ));
    }
    let locked = hub::locked(&state);
    let why = match (&locked, platform.resync) {
        (Some(lock), _) => Some(lock.message.clone()),
        (None, ResyncMode::Report) => Some("resync = \"report\"".to_owned()),
        (None, ResyncMode::Repair) => None,
    };
    let wish = Wish {
        members: args.members.clone(),
        level: plan::level(args.level),
        task: args.task.clone(),
        dry_run: args.dry_run,
        report_only: why.is_some() && !args.dry_run,
        ..Wish::default()
    };
    let mut outcome =
        work::carry_out(context, hub, platform, TaskKind::Resync, wish, Aim::Desired).await?;
    if args.dry_run {
        show::planned(context, platform, &outcome, "a resync");
        show::closing(context, &outcome.report, false);
        return Ok(outcome.exit);
    }
    if why.is_some() {
        Ignored::of(platform, &hub.clock).filter(&mut outcome.report.planned);
        let drifts = outcome
            .report
            .planned
            .iter()
            .any(|change| !change.items.is_empty());
        if !drifts && outcome.exit == Exit::Differences {
            outcome.exit = Exit::Done;
        }
        for change in &mut outcome.report.members {
            let name = &change.name;
            let is_listed = outcome
                .report
                .planned
                .iter()
                .any(|p| p.members.contains(name));
            if !is_listed && change.problem.is_none() {
                change.outcome = Fate::UpToDate;
            }
        }
    }
    if context.ui.is_json() {
        show::plan_lines(context, platform, &outcome.report);
    }
    lines(context, platform, &outcome, why.as_deref());
    show::closing(context, &outcome.report, false);
    Ok(outcome.exit)
}

/// One line for each member that changed, or that isn't where it should be.
fn lines(context: &Context, platform: &Platform, outcome: &Outcome, why: Option<&str>) {
    let report = &outcome.report;
    if context.ui.is_json() || !report.refusals.is_empty() {
        return;
    }
    let name = &platform.name;
    let serial = report
        .generation
        .map_or(String::new(), |serial| format!(" #{serial}"));
    let mut silent = true;
    for member in &report.members {
        let drift = report
            .planned
            .iter()
            .find(|change| change.members.contains(&member.name))
            .map(|change| change.items.len() as u64);
        let text = match (member.outcome, drift) {
            (Fate::UpToDate, _) => continue,
            (Fate::Committed, _) => format!(
                "back at{serial}: {} changed, {} sent",
                counted(member.changed_entries, "entry", "entries"),
                bytes(member.sent_bytes)
            ),
            (_, Some(entries)) if why.is_some() => format!(
                "{} not as in{serial}, and left alone ({})",
                counted(entries, "entry is", "entries are"),
                why.unwrap_or_default()
            ),
            (fate, _) => match &member.problem {
                Some(problem) => format!("{}: {problem}", fate.as_str()),
                None => fate.as_str().to_owned(),
            },
        };
        silent = false;
        context.ui.out(format!("{name} {}: {text}", member.name));
    }
    if silent {
        let text = format!(
            "{name}: {} at{serial}, nothing differs.",
            counted(report.members.len() as u64, "member is", "members are")
        );
        // A line that says nothing new would be a mail from cron every few minutes.
        if context.ui.is_interactive() {
            context.ui.status(text);
        } else {
            context.ui.detail(text);
        }
    }
}
