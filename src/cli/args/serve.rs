//! Commands that work on services: plan, apply and the log of what they did.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use std::path::PathBuf;

/// What of the inventory to work on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ScopeArgs {
    /// Carry out the removal of what is no longer listed: servers or sites, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = NonEmpty::new())]
    pub(crate) allow_remove: Vec<String>,
    /// Servers that will never answer again, separated by commas: nothing is asked of them
    #[arg(long, value_name = "SERVERS", value_delimiter = ',', value_parser = NonEmpty::new())]
    pub(crate) gone: Vec<String>,
}

/// `fanout plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing on any server changes.

Examples:
  fanout plan                        what `apply` would do, member by member
  fanout plan --out change.plan      keep it, to be applied exactly as shown
  fanout plan --detailed-exitcode    exit with 2 if there is something to do")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Write the plan into a file for `fanout apply FILE`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Exit with 2 if there is something to do
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

/// `fanout apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the plan first and asks; --yes or a saved plan answer beforehand. What fails is undone where
it can be.

Examples:
  fanout apply --yes                 bring every server to what the inventory says
  fanout apply change.plan           exactly what that plan says, or nothing
  fanout apply --resume              go on after an apply that was cut off")]
pub(crate) struct ApplyArgs {
    /// A plan that `fanout plan --out` wrote
    #[arg(value_name = "FILE", conflicts_with_all = ["allow_remove", "gone"])]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Go on after an apply that was cut off: what it had done stays, the rest is done
    #[arg(long, conflicts_with = "file")]
    pub(crate) resume: bool,
    /// Where a step fails, leave what was done as it is
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `fanout log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout log                         the latest tasks
  fanout log 42                      one task: its steps and the members")]
pub(crate) struct LogArgs {
    /// Number of a task
    pub(crate) task: Option<i64>,
    /// How many tasks to list
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) last: u32,
}
