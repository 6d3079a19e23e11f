//! The only door to other programs.
//!
//! Programs are started without a shell, with arguments that stay apart, a time limit, and a
//! bound on what they may print. A program that outlives its limit is killed with everything it
//! started. Nothing here knows what the programs are for; [`git`] alone knows one.
//!
//! Secrets are never arguments: they go through [`Program::stdin`].

pub mod git;
mod output;
mod piped;
mod program;
mod running;
mod signal;

pub use output::Output;
pub use piped::{Life, Piped, PipedIo};
pub use program::Program;
pub use signal::{Tell, tell};

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a program could not do its work.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no such program on the `PATH`.
    #[error("There is no program `{program}`")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// The directory that it should run in is not there, or not open to us.
    #[error("Can't run `{program}` in {}", directory.display())]
    Directory {
        /// Which program.
        program: String,
        /// Where.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be started.
    #[error("Can't start `{program}`")]
    Start {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Talking with it through its pipes failed.
    #[error("Lost contact with `{program}`")]
    Contact {
        /// Which program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` did not end within {limit:?} and was killed")]
    TimedOut {
        /// Which program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// It printed more than anyone wants to read and was killed.
    #[error("`{program}` printed more than {limit_bytes} bytes and was killed")]
    TooMuchOutput {
        /// Which program.
        program: String,
        /// How much it was allowed to print.
        limit_bytes: usize,
    },
    /// It ended, but not well.
    #[error("`{program}` ended with {ending}{}", said(complaint))]
    Failed {
        /// Which program.
        program: String,
        /// The exit status in words: `exit status: 255`, `signal: 9 (SIGKILL)`.
        ending: String,
        /// Its exit code, if it wasn't killed by a signal.
        code: Option<i32>,
        /// The end of what it said on standard error, trimmed.
        complaint: String,
    },
}

fn said(complaint: &str) -> String {
    match complaint.lines().last() {
        Some(line) if !line.trim().is_empty() => format!(": {}", line.trim()),
        _ => String::new(),
    }
}
