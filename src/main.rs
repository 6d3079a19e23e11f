//! The one binary: hub, agent and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanout::cli::run()
}
