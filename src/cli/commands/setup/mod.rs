//! `fanout setup`: what a role needs on a server, shown first.

mod db;
mod server;

use crate::cli::Context;
use crate::cli::args::{SetupArgs, SetupNoun};
use crate::cli::error::CommandError;
use crate::codes::Exit;

pub(crate) async fn run(context: &Context, args: SetupArgs) -> Result<Exit, CommandError> {
    match args.noun {
        SetupNoun::Db(args) => db::run(context, args).await,
        SetupNoun::Server(args) => server::run(context, args).await,
    }
}
