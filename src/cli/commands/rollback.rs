//! `fanout rollback platform`: a kept generation, published again, and proved.

use super::push::say;
use super::schema::warn_of_rollback;
use crate::cli::Context;
use crate::cli::args::{RollbackArgs, RollbackNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::plan::Wish;
use crate::cli::serving::proof::Proof;
use crate::cli::show;
use crate::cli::work::{self, Aim};
use crate::codes::{Code, Exit};
use crate::engine::event::TaskKind;
use crate::engine::hub::kept::{rollback_target, roots_of};
use crate::model::Serial;

pub(crate) async fn run(context: &Context, args: RollbackArgs) -> Result<Exit, CommandError> {
    let RollbackNoun::Platform(args) = args.noun;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&args.name)?;
    let name = &platform.name;
    // ORDER: the lock before the choice, or what is rolled back may not be what was looked at.
    let lock = match args.dry_run {
        true => None,
        false => {
            let what = format!("rollback platform {name}");
            Some(hub.lock(name, &what, args.task.wait).await?)
        }
    };
    let state = hub.state(name).await?;
    let Some(desired) = state.desired else {
        return Err(CommandError::new(
            Code::NothingPushed,
            format!("{name} was never pushed"),
        ));
    };
    let generations = hub.store.generations(name).await.map_err(store_error)?;
    let target = match args.to {
        Some(serial) => {
            let found = generations.iter().find(|g| g.serial == Serial(serial));
            let found = found.ok_or_else(|| unknown(&args.name, serial))?;
            if found.bad {
                return Err(CommandError::new(
                    Code::GenerationBad,
                    format!("{name} {} was marked bad", found.serial),
                ));
            }
            found
        }
        None => rollback_target(&generations, desired).ok_or_else(|| {
            CommandError::new(
                Code::NoGeneration,
                format!("{name} has no good generation before {desired}"),
            )
        })?,
    };
    let shown = match &target.label {
        Some(label) => format!("{} ({label})", target.serial),
        None => target.serial.to_string(),
    };
    let ends = (&*desired.to_string(), &*shown);
    warn_of_rollback(context, &hub, platform, target.committed, ends).await?;
    if !args.dry_run && !args.yes && context.ui.is_interactive() {
        let question = format!(
            "Roll {name} back from {desired} to {shown}, of {}, on {}?",
            target.committed, platform.on
        );
        if !context.ui.confirm(&question, "`--yes`")? {
            context.ui.status("Nothing was changed.");
            return Ok(Exit::Done);
        }
    }
    let wish = Wish {
        policy: args.policy,
        task: args.task.clone(),
        dry_run: args.dry_run,
        rolling: args.rolling,
        ..Wish::default()
    };
    let label = match &target.label {
        Some(label) => format!("rollback to {}: {label}", target.serial),
        None => format!("rollback to {}", target.serial),
    };
    let aim = Aim::Kept {
        roots: roots_of(target),
        label,
    };
    context
        .ui
        .status(format!("Rolling {name} back from {desired} to {shown}."));
    // A rolling one proves each batch before the next leaves.
    let proof = match args.dry_run || args.rolling.is_some() {
        true => None,
        false => Proof::before(&hub, platform).await?,
    };
    let outcome =
        work::carry_out(context, &hub, platform, TaskKind::Rollback, wish, aim, lock).await?;
    if args.dry_run {
        show::planned(context, platform, &outcome, "a rollback");
        show::closing(context, &outcome.report, false);
        return Ok(outcome.exit);
    }
    let before = outcome.before.map(|serial| serial.0);
    if outcome.report.refusals.is_empty() {
        if outcome.report.generation != before {
            // Or the clock would publish again what was just taken back.
            hub.store
                .suspend_follow(name, true)
                .await
                .map_err(store_error)?;
        }
        say(context, platform, &outcome.report, before);
    }
    show::closing(context, &outcome.report, true);
    if let Some(proof) = proof.filter(|_| outcome.report.refusals.is_empty()) {
        proof.after(&hub, platform, &outcome).await?;
    }
    Ok(outcome.exit)
}

fn unknown(platform: &str, serial: u64) -> CommandError {
    CommandError::new(
        Code::GenerationUnknown,
        format!("{platform} has no generation #{serial}"),
    )
    .hint(format!(
        "`fanout generations platform {platform}` lists them"
    ))
}
