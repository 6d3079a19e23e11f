//! `fanout man`: one page a command.

use crate::cli::Context;
use crate::cli::args::ManArgs;
use crate::cli::error::CommandError;
use crate::cli::man;
use crate::codes::{Code, Exit};

pub(crate) async fn run(context: &Context, args: ManArgs) -> Result<Exit, CommandError> {
    let count = man::write(&args.directory).map_err(|error| {
        CommandError::new(
            Code::OutputFailed,
            format!(
                "Can't write man pages to {}: {error}",
                args.directory.display()
            ),
        )
    })?;
    context.ui.status(format!(
        "Wrote {count} man pages to {}.",
        args.directory.display()
    ));
    Ok(Exit::Done)
}
