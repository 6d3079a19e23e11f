//! Commands that work on services: plan, apply and the log of what they did; the rotation; a site as
//! its visitors see it.

use crate::cli::complete;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
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
    /// Remove accounts of sites' database users that fanout didn't make, too
    #[arg(long)]
    pub(crate) prune: bool,
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
    #[arg(value_name = "FILE", conflicts_with_all = ["allow_remove", "gone", "prune"])]
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

/// `fanout drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(subcommand)]
    pub(crate) noun: DrainNoun,
}

/// What to take out of rotation.
#[derive(Debug, Subcommand)]
pub(crate) enum DrainNoun {
    /// One server: its visitors finish what they began, new ones go to the others
    Server(DrainServerArgs),
}

/// `fanout drain server`.
#[derive(Debug, Args)]
#[command(after_help = "\
It stays out, whatever is pushed or repaired, until `fanout ready server` puts it back.

Example:
  fanout drain server web1 --reason 'a new disk'")]
pub(crate) struct DrainServerArgs {
    /// Name of the server
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::servers))]
    pub(crate) name: String,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    pub(crate) reason: Option<String>,
    /// End the sessions that are left when the time for it is over
    #[arg(long)]
    pub(crate) force: bool,
}

/// `fanout ready`.
#[derive(Debug, Args)]
pub(crate) struct ReadyArgs {
    #[command(subcommand)]
    pub(crate) noun: ReadyNoun,
}

/// What to put into rotation.
#[derive(Debug, Subcommand)]
pub(crate) enum ReadyNoun {
    /// One server, after it has answered for each of its sites
    Server(ReadyServerArgs),
}

/// `fanout ready server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fanout ready server web1")]
pub(crate) struct ReadyServerArgs {
    /// Name of the server
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::servers))]
    pub(crate) name: String,
}

/// `fanout check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    pub(crate) noun: CheckNoun,
}

/// What to look at as a visitor does.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckNoun {
    /// One site, on every member and through the balancer
    Site(CheckSiteArgs),
}

/// `fanout check site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks over the network, with the site's name in the request and in the handshake. Changes nothing.
Exits with 2 if the answers differ or are errors.

Examples:
  fanout check site www.example.com
  fanout check site www.example.com --path /status --marker 'all is well'")]
pub(crate) struct CheckSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) uri: String,
    /// Path and query to ask for, below the site's own
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = NonEmpty::new())]
    pub(crate) path: String,
    /// A text that the page must have, instead of comparing its bytes
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    pub(crate) marker: Option<String>,
    /// How long one answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub(crate) timeout: u32,
}

/// `fanout doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Looks and changes nothing: agents and their versions, clocks, web servers and PHP, balancers, the way
from each member to its databases, and what each site's application needs. Exits with 2 if something
was found.

Examples:
  fanout doctor
  fanout doctor web1 --json")]
pub(crate) struct DoctorArgs {
    /// Servers to look at; none means all
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::servers))]
    pub(crate) servers: Vec<String>,
}
