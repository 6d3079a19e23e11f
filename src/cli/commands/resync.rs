//! `fanout resync`: members back to what was last decided. Made for cron.
//!
//! Beside the code, restores accounts in databases, uploads and the rotation of its sites.
//! Never publishes the source, but for a platform that says `follow = true` and was not rolled back
//! since. Silent without drift (one line on a terminal), one line for each member
//! that changed or should have, and nothing else, however it is run. A platform that a person
//! locked, or that says `resync = "report"`, is only looked at.

use crate::cli::Context;
use crate::cli::args::ResyncArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{self, Hub};
use crate::cli::human::{bytes, counted};
use crate::cli::plan::{self, Wish};
use crate::cli::serving::reconcile;
use crate::cli::show::{self, Ignored};
use crate::cli::work::{self, Aim};
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::event::{EventSink, MemberReport, Outcome as Fate, TaskKind};
use crate::engine::hub::source::Released;
use crate::engine::hub::task::TaskReport;
use crate::engine::hub::verify::{Verified, verify};
use crate::model::ResyncMode;
use crate::store::PlatformState;

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
    let mut wish = Wish {
        members: args.members.clone(),
        level: plan::level(args.level),
        task: args.task.clone(),
        dry_run: args.dry_run,
        report_only: why.is_some() && !args.dry_run,
        ..Wish::default()
    };
    let ignored = Ignored::of(platform, &hub.clock);
    let mut spared = Spared::default();
    // The one case in which the clock publishes: the platform asks for it, and no rollback has
    // suspended it since (I12).
    let follows = platform.follow && !state.follow_suspended && why.is_none() && !args.dry_run;
    if why.is_none() && !args.dry_run && !follows {
        spared = spare(hub, platform, &state, &wish, &ignored).await?;
        wish.members.skip.extend(spared.names());
    }
    if spared.is_everyone {
        return Ok(only_spared(context, platform, spared));
    }
    let (kind, aim) = match follows {
        true => (TaskKind::Push, Aim::Source(Released::default())),
        false => (TaskKind::Resync, Aim::Desired),
    };
    let mut outcome = work::carry_out(context, hub, platform, kind, wish, aim, None).await?;
    if args.dry_run {
        show::planned(context, platform, &outcome, "a resync");
        show::closing(context, &outcome.report, false);
        return Ok(outcome.exit);
    }
    for member in spared.members {
        if member.problem.is_some() {
            outcome.exit = outcome.exit.and(Exit::Differences);
        }
        outcome.report.members.push(member);
    }
    if why.is_some() {
        ignored.filter(&mut outcome.report.planned);
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
    lines(context, platform, &outcome.report, why.as_deref());
    show::closing(context, &outcome.report, false);
    let only_look = why.is_some();
    let report = &outcome.report;
    let restored = reconcile::sites_of(context, hub, platform, report, only_look).await?;
    // That nothing else was to be done makes a failure of the code no smaller.
    Ok(match restored {
        Exit::Done => outcome.exit,
        restored => outcome.exit.and(restored),
    })
}

/// Members that a repair leaves alone, because it would undo what `drift_ignore` allows.
#[derive(Default)]
struct Spared {
    members: Vec<MemberReport>,
    is_everyone: bool,
    report: Option<TaskReport>,
}

impl Spared {
    fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.members.iter().map(|member| member.name.to_string())
    }
}

/// Looks at the members that may differ. A repair is exact, so one that differs in more than what
/// is allowed is left alone as well, and reported: repairing the rest would undo the allowed part.
async fn spare(
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    wish: &Wish,
    ignored: &Ignored,
) -> Result<Spared, CommandError> {
    let engine = hub.engine(EventSink::none());
    let mut task = plan::task(hub, platform, state, 0, wish, &engine.events).await?;
    let all = task.targets.len();
    task.targets.retain(|target| ignored.is_about(&target.name));
    if task.targets.is_empty() {
        return Ok(Spared::default());
    }
    let verified = verify(&engine, hub.depot()?, &task).await?;
    let mut members = Vec::new();
    for member in &verified.members {
        // One that is behind is brought forward, as a push would do it.
        let is_there = member.generation == Some(verified.generation);
        let Verified::Drift(items) = &member.state else {
            continue;
        };
        let rest = ignored.rest(&member.name, items);
        if !is_there || rest.len() == items.len() {
            continue;
        }
        let mut report = MemberReport::new(member.name.clone(), Fate::UpToDate);
        report.generation = member.generation;
        if !rest.is_empty() {
            report.outcome = Fate::Stale;
            report.problem = Some(beside(rest.len() as u64));
        }
        members.push(report);
    }
    let is_everyone = members.len() == all;
    let mut report = TaskReport::new(&task);
    report.generation = Some(verified.generation);
    Ok(Spared {
        members,
        is_everyone,
        report: Some(report),
    })
}

fn beside(entries: u64) -> Problem {
    Problem::new(
        Code::Drift,
        format!(
            "{} beside what `drift_ignore` allows, and left alone: a repair would undo both",
            counted(entries, "entry differs", "entries differ")
        ),
    )
    .with_hint("`fanout verify platform NAME` lists them; end the `drift_ignore` entry to repair")
}

/// Nobody is left to work on.
fn only_spared(context: &Context, platform: &Platform, spared: Spared) -> Exit {
    let Some(mut report) = spared.report else {
        return Exit::Done;
    };
    report.members = spared.members;
    lines(context, platform, &report, None);
    show::closing(context, &report, false);
    match report.members.iter().any(|member| member.problem.is_some()) {
        true => Exit::Differences,
        false => Exit::Done,
    }
}

/// One line for each member that changed, or that isn't where it should be.
fn lines(context: &Context, platform: &Platform, report: &TaskReport, why: Option<&str>) {
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
                "back at{serial}: {} changed, {} sent{}",
                counted(member.changed_entries, "entry", "entries"),
                bytes(member.sent_bytes),
                match &member.kept_aside {
                    Some(at) => format!("; what nobody had committed is kept in `{at}`"),
                    None => String::new(),
                }
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
