//! `fanout demo`: the whole story on this machine alone.

use crate::cli::Context;
use crate::cli::args::DemoArgs;
use crate::cli::demo;
use crate::cli::error::CommandError;
use crate::codes::Exit;

pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<Exit, CommandError> {
    demo::run(context, args).await
}
