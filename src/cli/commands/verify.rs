//! `fanout verify platform`: what members have, against what was last decided. Changes nothing.

use crate::cli::Context;
use crate::cli::args::{VerifyArgs, VerifyNoun, VerifyPlatformArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::human::counted;
use crate::cli::json::{DriftKind, DriftLine, VerifiedLine, VerifiedState, VerifyLine};
use crate::cli::plan::{self, Wish, level_word};
use crate::cli::progress::Progress;
use crate::cli::show::{Ignored, named};
use crate::cli::work;
use crate::codes::Exit;
use crate::config::Platform;
use crate::engine::event::{Event, TaskKind};
use crate::engine::hub::verify::{Verified, VerifiedMember, VerifyReport, verify};
use std::time::Instant;
use sync_proto::wire::{Item, ItemKind};

pub(crate) async fn run(context: &Context, args: VerifyArgs) -> Result<Exit, CommandError> {
    let VerifyNoun::Platform(args) = args.noun;
    let hub = Hub::open(context).await?;
    let platforms = hub.platforms(&args.names)?;
    let mut exit: Option<Exit> = None;
    for platform in &platforms {
        let one = match one(context, &hub, platform, &args).await {
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

async fn one(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    args: &VerifyPlatformArgs,
) -> Result<Exit, CommandError> {
    let state = hub.state(&platform.name).await?;
    let id = work::start(hub, TaskKind::Verify.word(), &platform.name).await?;
    let progress = Progress::new(&context.ui, platform.name.as_str());
    let engine = hub.engine(progress.sink());
    let wish = Wish {
        members: args.members.clone(),
        level: plan::level(args.level.into()),
        ..Wish::default()
    };
    let began = Instant::now();
    let number = u64::try_from(id.0).unwrap_or_default();
    let verified = async {
        let task = plan::task(hub, platform, &state, number, &wish, &engine.events).await?;
        engine.events.emit(Event::TaskStarted {
            task: number,
            kind: TaskKind::Verify,
            members: task
                .targets
                .iter()
                .map(|target| target.name.clone())
                .collect(),
        });
        Ok::<_, CommandError>(verify(&engine, hub.depot()?, &task).await?)
    };
    let verified = verified.await;
    engine.events.emit(Event::TaskFinished {
        elapsed: began.elapsed(),
    });
    progress.finish();
    let mut report = match verified {
        Ok(report) => report,
        Err(error) => {
            work::end(hub, id, error.exit(), &error.problem().message).await?;
            return Err(error);
        }
    };
    overlook(&mut report, &Ignored::of(platform, &hub.clock));
    let exit = exit_of(&report);
    work::end(hub, id, exit, exit.meaning()).await?;
    if context.ui.is_json() {
        context.ui.json(&line(platform, &report));
    } else {
        text(context, platform, &report);
    }
    Ok(exit)
}

/// Takes out what somebody allowed for a while.
fn overlook(report: &mut VerifyReport, ignored: &Ignored) {
    for member in &mut report.members {
        if let Verified::Drift(items) = &member.state {
            let rest = ignored.rest(&member.name, items);
            member.state = match rest.is_empty() {
                true => Verified::Clean,
                false => Verified::Drift(rest),
            };
        }
    }
}

fn exit_of(report: &VerifyReport) -> Exit {
    let count = |is: fn(&Verified) -> bool| {
        report
            .members
            .iter()
            .filter(|member| is(&member.state))
            .count()
    };
    let drifted = count(|state| matches!(state, Verified::Drift(_)));
    let unreachable = count(|state| matches!(state, Verified::Unreachable(_)));
    match (drifted, unreachable) {
        (0, 0) => Exit::Done,
        (1.., _) => Exit::Differences,
        (0, lost) if lost == report.members.len() => Exit::Failed,
        (0, _) => Exit::Partial,
    }
}

const fn kind(item: &Item) -> DriftKind {
    match item.kind {
        // What a repair would add is missing, what it would take away is extra.
        ItemKind::Added => DriftKind::Missing,
        ItemKind::Removed => DriftKind::Extra,
        ItemKind::Content => DriftKind::Content,
        ItemKind::Meta => DriftKind::Metadata,
    }
}

fn line(platform: &Platform, report: &VerifyReport) -> VerifyLine {
    let mut line = VerifyLine::new(
        platform.name.as_str(),
        Some(report.generation),
        level_word(report.level),
    );
    line.members = report.members.iter().map(member_line).collect();
    line
}

fn member_line(member: &VerifiedMember) -> VerifiedLine {
    let (state, drift, error) = match &member.state {
        Verified::Clean => (VerifiedState::Clean, Vec::new(), None),
        Verified::Drift(items) => {
            let lines = items
                .iter()
                .map(|item| DriftLine::new(&item.path, kind(item)));
            (VerifiedState::Drift, lines.collect(), None)
        }
        Verified::Unreachable(problem) => {
            (VerifiedState::Unreachable, Vec::new(), Some(problem.into()))
        }
    };
    VerifiedLine {
        name: member.name.to_string(),
        state,
        generation: member.generation,
        drift,
        error,
    }
}

fn text(context: &Context, platform: &Platform, report: &VerifyReport) {
    context.ui.status(format!(
        "{} against generation #{}, level {}:",
        platform.name,
        report.generation,
        level_word(report.level)
    ));
    for member in &report.members {
        let at = match member.generation {
            Some(serial) if serial != report.generation => format!(" (it is at #{serial})"),
            None if !matches!(member.state, Verified::Unreachable(_)) => {
                " (nothing was published there)".into()
            }
            _ => String::new(),
        };
        match &member.state {
            Verified::Clean => context.ui.out(format!("{}: clean{at}", member.name)),
            Verified::Drift(items) => {
                let differ = counted(items.len() as u64, "entry differs", "entries differ");
                context.ui.out(format!("{}: {differ}{at}", member.name));
                for item in items {
                    if context.ui.is_closed() {
                        return;
                    }
                    context.ui.out(format!("  {}", item_line(item)));
                }
            }
            Verified::Unreachable(problem) => {
                context
                    .ui
                    .out(format!("{}: unreachable: {problem}", member.name));
                context.ui.hint(problem.hint());
            }
        }
    }
}

fn item_line(item: &Item) -> String {
    let word = match kind(item) {
        DriftKind::Missing => "missing ",
        DriftKind::Extra => "extra   ",
        DriftKind::Content => "content ",
        DriftKind::Metadata => "metadata",
    };
    format!("{word} {}", named(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{Code, Problem};
    use sync_proto::wire::Level;

    fn report(states: Vec<Verified>) -> VerifyReport {
        let members = states.into_iter().map(|state| VerifiedMember {
            name: "web1".into(),
            state,
            generation: Some(7),
        });
        VerifyReport {
            generation: 7,
            level: Level::Stat,
            members: members.collect(),
        }
    }

    #[test]
    fn drift_anywhere_exits_with_2() {
        let drift = || {
            let (path, kind) = (b"a".to_vec(), ItemKind::Removed);
            Verified::Drift(vec![Item {
                path,
                kind,
                sort: b'f',
                attributes: String::new(),
            }])
        };
        let lost = || Verified::Unreachable(Problem::new(Code::Unreachable, "No answer"));
        assert_eq!(exit_of(&report(vec![Verified::Clean])), Exit::Done);
        assert_eq!(
            exit_of(&report(vec![Verified::Clean, drift()])),
            Exit::Differences
        );
        assert_eq!(exit_of(&report(vec![lost(), drift()])), Exit::Differences);
        assert_eq!(
            exit_of(&report(vec![lost(), Verified::Clean])),
            Exit::Partial
        );
        assert_eq!(exit_of(&report(vec![lost()])), Exit::Failed);
    }
}
