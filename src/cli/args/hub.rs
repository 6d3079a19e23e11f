//! `fanout hub`: the hub itself, in one file and out of it again.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `fanout hub`.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    #[command(subcommand)]
    pub(crate) noun: HubNoun,
}

/// What to do with the hub.
#[derive(Debug, Subcommand)]
pub(crate) enum HubNoun {
    /// Write the hub's key, state, secrets and inventory into one file
    Backup(HubBackupArgs),
    /// Make this machine the hub that a backup was made of
    Restore(HubRestoreArgs),
}

/// `fanout hub backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds the hub's key and all secrets: whoever has it is the hub. It is made for its owner
alone (0600). It may be written at any time, during a push too.

Examples:
  fanout hub backup /backup/hub.tar
  fanout hub backup --depot /backup/hub-with-contents.tar")]
pub(crate) struct HubBackupArgs {
    /// File to write; an older backup there is replaced
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// With the contents of kept generations, not only their lists of files
    #[arg(long)]
    pub(crate) depot: bool,
    /// Show what would be in it; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `fanout hub restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Never over a hub that is there. What members know and the backup doesn't is read back from them at
once; where one doesn't answer, `fanout init --recover` does it later. Let the old hub not run any
more: there is one hub, whatever the number of machines that have its key.

Example:
  fanout hub restore /backup/hub.tar")]
pub(crate) struct HubRestoreArgs {
    /// File that `fanout hub backup` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Check the file and show what is in it; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
