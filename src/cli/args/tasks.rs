//! Commands that work on members: push and its relatives, and what looks at them.

use super::values::{LevelArg, PolicyArg, UpdateArg, VerifyLevelArg, duration, serial};
use crate::cli::complete;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Which members to work on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct MemberArgs {
    /// Only these members: names or label:LABEL, separated by commas
    #[arg(
        long,
        value_name = "MEMBERS",
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    pub(crate) limit: Vec<String>,
    /// Not these members: names or label:LABEL, separated by commas
    #[arg(
        long,
        value_name = "MEMBERS",
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    pub(crate) skip: Vec<String>,
}

/// How long a task may take, and what it does about a lock.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TaskArgs {
    /// Members that are not ready after this time are left out [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `fanout push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(subcommand)]
    pub(crate) noun: PushNoun,
}

/// What to push.
#[derive(Debug, Subcommand)]
pub(crate) enum PushNoun {
    /// Publish the source of platforms as new generations
    Platform(PushPlatformArgs),
    /// Bring the configuration of web servers and balancers, and nothing else
    Config(PushConfigArgs),
}

/// `fanout push config`.
#[derive(Debug, Args)]
#[command(after_help = "\
The part of `fanout apply` that is about configuration: vhosts, PHP pools, certificates, settings,
pages and balancers. No code, no database and no account changes, and nothing is removed.

Examples:
  fanout push config                          every server
  fanout push config front --dry-run          the members of a cluster, shown only
  fanout push config www.example.com --yes    the members that serve a site")]
pub(crate) struct PushConfigArgs {
    /// Servers, clusters, balancers, platforms or sites; none means all
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::anything))]
    pub(crate) targets: Vec<String>,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Where a step fails, leave what was done as it is
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `fanout push platform`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Staged and verified on every member first; then all switch, or none.

Examples:
  fanout push platform                        the only platform there is
  fanout push platform drupal --dry-run       what would change, member by member
  fanout push platform drupal --limit web1    one member first
  fanout push platform drupal --allow-delete 412")]
pub(crate) struct PushPlatformArgs {
    /// Names of the platforms; none means the only one there is
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) names: Vec<String>,
    /// Every platform of the inventory
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) members: MemberArgs,
    /// Show what would change, member by member, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Label of the new generation [default: the source's git commit]
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    pub(crate) label: Option<String>,
    /// How members find out what they have
    #[arg(long, value_name = "LEVEL", default_value = "stat")]
    pub(crate) level: LevelArg,
    /// Which members must be ready before any switches: reachable, all, quorum:N or each
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<PolicyArg>,
    /// What to do about schema updates that the new code brings to its sites: maintenance, expand,
    /// after or none; without a word a push that brings some is refused
    #[arg(long, value_name = "WHEN")]
    pub(crate) update: Option<UpdateArg>,
    /// COUNT members at a time: each batch leaves the rotation, switches, proves itself, comes back
    #[arg(long, value_name = "COUNT")]
    pub(crate) rolling: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) brakes: BrakeArgs,
}

/// One option for each brake that a person may release.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Brakes, each with the one option that releases it")]
pub(crate) struct BrakeArgs {
    /// Delete up to COUNT entries per member, top-level directories included
    #[arg(long, value_name = "COUNT")]
    pub(crate) allow_delete: Option<u64>,
    /// Publish a source that is empty
    #[arg(long)]
    pub(crate) allow_empty_source: bool,
    /// Publish a source that has a .fanout-building file
    #[arg(long)]
    pub(crate) allow_half_built: bool,
    /// Publish a source that is in the middle of a merge
    #[arg(long)]
    pub(crate) allow_unfinished_merge: bool,
    /// Publish a source that lacks files which the platform requires
    #[arg(long)]
    pub(crate) skip_require: bool,
    /// Replace a root that is a directory by a symlink, or the other way round
    #[arg(long)]
    pub(crate) allow_kind_change: bool,
    /// Begin even if the space or the inodes don't seem to suffice
    #[arg(long)]
    pub(crate) skip_space_check: bool,
    /// Delete what was in an adopted root and is not in the source
    #[arg(long)]
    pub(crate) delete_foreign: bool,
}

/// `fanout resync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Made for cron: silent or one line without drift, one line per changed member otherwise.

Examples:
  fanout resync
  fanout resync drupal --level content --limit web3")]
pub(crate) struct ResyncArgs {
    /// Names of the platforms; none means all of them
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) members: MemberArgs,
    /// Show what would change, member by member, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// How members find out what they have
    #[arg(long, value_name = "LEVEL", default_value = "stat")]
    pub(crate) level: LevelArg,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
}

/// `fanout verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(subcommand)]
    pub(crate) noun: VerifyNoun,
}

/// What to verify.
#[derive(Debug, Subcommand)]
pub(crate) enum VerifyNoun {
    /// Compare members with the desired generation, entry by entry
    Platform(VerifyPlatformArgs),
}

/// `fanout verify platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 2 if anything differs.

Example:
  fanout verify platform drupal --level content")]
pub(crate) struct VerifyPlatformArgs {
    /// Names of the platforms; none means the only one there is
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) members: MemberArgs,
    /// How members find out what they have
    #[arg(long, value_name = "LEVEL", default_value = "stat")]
    pub(crate) level: VerifyLevelArg,
}

/// `fanout rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(subcommand)]
    pub(crate) noun: RollbackNoun,
}

/// What to roll back.
#[derive(Debug, Subcommand)]
pub(crate) enum RollbackNoun {
    /// Go back to the last good generation, or to the one that is named
    Platform(RollbackPlatformArgs),
}

/// `fanout rollback platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout rollback platform drupal
  fanout rollback platform drupal --to 42")]
pub(crate) struct RollbackPlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    /// Serial of the generation [default: the last good one]
    #[arg(long, value_name = "SERIAL", value_parser = serial)]
    pub(crate) to: Option<u64>,
    /// Show what would change, member by member, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Which members must be ready before any switches: reachable, all, quorum:N or each
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<PolicyArg>,
    /// COUNT members at a time: each batch leaves the rotation, switches, proves itself, comes back
    #[arg(long, value_name = "COUNT")]
    pub(crate) rolling: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `fanout generations`.
#[derive(Debug, Args)]
pub(crate) struct GenerationsArgs {
    #[command(subcommand)]
    pub(crate) noun: GenerationsNoun,
}

/// Whose generations to list.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerationsNoun {
    /// List a platform's generations: serial, label, author, time, members
    Platform(super::NamedArgs),
}

/// `fanout pin` and `fanout unpin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    #[command(subcommand)]
    pub(crate) noun: PinNoun,
}

/// What to pin or unpin.
#[derive(Debug, Subcommand)]
pub(crate) enum PinNoun {
    /// One generation of a platform
    Platform(PinPlatformArgs),
}

/// `fanout pin platform` and `fanout unpin platform`.
#[derive(Debug, Args)]
pub(crate) struct PinPlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    /// Serial of the generation
    #[arg(value_parser = serial)]
    pub(crate) serial: u64,
}

/// `fanout mark-bad`.
#[derive(Debug, Args)]
pub(crate) struct MarkBadArgs {
    #[command(subcommand)]
    pub(crate) noun: MarkBadNoun,
}

/// What to mark.
#[derive(Debug, Subcommand)]
pub(crate) enum MarkBadNoun {
    /// One generation of a platform
    Platform(MarkBadPlatformArgs),
}

/// `fanout mark-bad platform`.
#[derive(Debug, Args)]
pub(crate) struct MarkBadPlatformArgs {
    #[command(flatten)]
    pub(crate) generation: PinPlatformArgs,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    pub(crate) reason: Option<String>,
}

/// `fanout lock` and `fanout unlock`.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(subcommand)]
    pub(crate) noun: LockNoun,
}

/// What to lock or unlock.
#[derive(Debug, Subcommand)]
pub(crate) enum LockNoun {
    /// One platform
    Platform(LockPlatformArgs),
}

/// `fanout lock platform` and `fanout unlock platform`.
#[derive(Debug, Args)]
pub(crate) struct LockPlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    pub(crate) reason: Option<String>,
}

/// `fanout status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout status
  fanout status --check && echo all is well")]
pub(crate) struct StatusArgs {
    /// For monitoring: one line, and exit 0 only if every member is where it should be
    #[arg(long)]
    pub(crate) check: bool,
}
