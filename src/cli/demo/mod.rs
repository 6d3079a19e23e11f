//! `fanout demo`: the whole story on this machine alone, real from end to end.
//!
//! A hub and members run as processes of this program on loopback addresses, and are used through
//! the public commands only. Nothing is believed: after each step the members' trees are read and
//! compared. Whatever the end is (success, failure, Ctrl-C), every process is ended and the
//! directory removed.

pub mod corpus;
mod disk;
mod machines;
mod place;
pub mod release;
mod report;
mod rsync;
mod snapshot;
mod story;

use super::Context;
use super::args::DemoArgs;
use super::error::CommandError;
use crate::codes::{Code, Exit};
use place::Place;
use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the demo.
pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<Exit, CommandError> {
    let ui = &context.ui;
    let interrupted = interrupted()?;
    let place = Place::create()?;
    // What is dropped with the story's future ends with it: agents, commands, transfers.
    let told = tokio::select! {
        told = story::tell(ui, &args, &place) => told,
        () = interrupted => Err(CommandError::new(Code::Interrupted, "The demo was interrupted")
            .hint("No process of it is left, and no file unless --keep asked for that")),
    };
    if args.keep {
        ui.status(format!(
            "Kept everything in {}; no process is left.",
            place.path().display()
        ));
    } else {
        ui.detail("Cleaning up.");
        let removed = place.remove().await;
        return told.and(removed).map(|()| Exit::Done);
    }
    told.map(|()| Exit::Done)
}

/// Resolves when somebody wants the end. From here on the process doesn't end by itself.
fn interrupted() -> Result<impl Future<Output = ()>, CommandError> {
    let failed = |error: io::Error| CommandError::from_error(Code::Bug, &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// Work on the disk, beside which signals are still heard.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull => Code::DiskFull,
                _ => Code::DiskError,
            };
            CommandError::from_error(code, &error)
        }),
        Err(error) => Err(CommandError::from_error(Code::Bug, &error)),
    }
}
