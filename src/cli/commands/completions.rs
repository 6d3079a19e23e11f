//! `fanout completions`: the script that makes a shell complete.

use crate::cli::Context;
use crate::cli::args::CompletionsArgs;
use crate::cli::complete;
use crate::cli::error::CommandError;
use crate::codes::{Code, Exit};

pub(crate) async fn run(context: &Context, args: CompletionsArgs) -> Result<Exit, CommandError> {
    let script = complete::script(args.shell)
        .map_err(|error| CommandError::from_error(Code::OutputFailed, &error))?;
    context.ui.raw(&script);
    Ok(Exit::Done)
}
