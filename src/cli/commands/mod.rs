//! The commands, one file a verb.

mod completions;
mod demo;
mod explain;
mod man;

use super::Context;
use super::args::Command;
use super::error::CommandError;
use crate::codes::Exit;

/// Runs one command.
pub(crate) async fn dispatch(context: &Context, command: Command) -> Result<Exit, CommandError> {
    match command {
        Command::Explain(args) => explain::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Completions(args) => completions::run(context, args).await,
        Command::Man(args) => man::run(context, args).await,
        _ => Err(CommandError::bug(
            "The command is not built into this binary",
        )),
    }
}
