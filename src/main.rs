//! The one binary: hub, agent and command line.

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// It gives memory back to the system that isn't used any more, which glibc's hardly does where many
/// threads allocated it: an agent would keep what its largest push took (decision 17).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    fanout::cli::run()
}
