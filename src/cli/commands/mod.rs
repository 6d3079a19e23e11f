//! The commands, one file a verb.

mod add;
mod adopt;
mod agent;
mod apply;
mod backup;
mod check;
mod completions;
mod cron;
mod delete;
mod delete_site;
mod deliver;
mod demo;
mod doctor;
mod drain;
mod edit;
mod explain;
mod explain_path;
mod generations;
mod import;
mod init;
mod install;
mod lock;
mod log;
mod login;
mod man;
mod mode;
mod push;
mod recover;
mod remove;
mod resync;
mod rollback;
mod rotate;
mod schema;
mod secret;
mod setup;
mod status;
mod update;
mod verify;

pub(crate) use apply::{carried_out, show};
pub(crate) use deliver::deliver;
pub(crate) use schema::update;

use super::Context;
use super::args::Command;
use super::error::CommandError;
use super::hub::Hub;
use super::work;
use crate::codes::Exit;
use crate::model::PlatformName;
use crate::store::SiteMode;

/// Runs one command.
pub(crate) async fn dispatch(context: &Context, command: Command) -> Result<Exit, CommandError> {
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Add(args) => add::run(context, args).await,
        Command::Edit(args) => edit::run(context, args).await,
        Command::Adopt(args) => adopt::run(context, args).await,
        Command::Push(args) => push::run(context, args).await,
        Command::Resync(args) => resync::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Rollback(args) => rollback::run(context, args).await,
        Command::Generations(args) => generations::list(context, args).await,
        Command::Pin(args) => generations::pin(context, args, true).await,
        Command::Unpin(args) => generations::pin(context, args, false).await,
        Command::MarkBad(args) => generations::mark_bad(context, args).await,
        Command::Lock(args) => lock::lock(context, args).await,
        Command::Unlock(args) => lock::unlock(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Remove(args) => remove::run(context, args).await,
        Command::Secret(args) => secret::run(context, args).await,
        Command::Delete(args) => delete::run(context, args).await,
        Command::Plan(args) => apply::plan(context, args).await,
        Command::Apply(args) => apply::apply(context, args).await,
        Command::Rotate(args) => rotate::run(context, args).await,
        Command::Setup(args) => setup::run(context, args).await,
        Command::Install(args) => install::run(context, args).await,
        Command::Log(args) => log::run(context, args).await,
        Command::Drain(args) => drain::drain(context, args).await,
        Command::Ready(args) => drain::ready(context, args).await,
        Command::Check(args) => check::run(context, args).await,
        Command::Enable(args) => mode::run(context, args, None).await,
        Command::Disable(args) => mode::run(context, args, Some(SiteMode::Disabled)).await,
        Command::Maintenance(args) => mode::run(context, args, Some(SiteMode::Maintenance)).await,
        Command::Update(args) => update::run(context, args).await,
        Command::Cron(args) => cron::run(context, args).await,
        Command::Login(args) => login::run(context, args).await,
        Command::Deliver(args) => deliver::run(context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Explain(args) => explain::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Completions(args) => completions::run(context, args).await,
        Command::Man(args) => man::run(context, args).await,
        Command::Import(args) => import::run(context, args).await,
        Command::Hub(args) => backup::run(context, args).await,
        Command::Agent(args) => agent::run(context, args).await,
    }
}

/// Records something that was done in one step.
async fn record(
    hub: &Hub,
    kind: &str,
    platform: &PlatformName,
    exit: Exit,
    summary: &str,
) -> Result<(), CommandError> {
    let id = work::start(hub, kind, platform).await?;
    work::end(hub, id, exit, summary).await
}
