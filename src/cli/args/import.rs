//! `fanout import`: what another system knows, as an inventory.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `fanout import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) noun: ImportNoun,
}

/// Where to import from.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportNoun {
    /// Write an inventory from the contexts of an Aegir hub, and change nothing there
    Aegir(ImportAegirArgs),
}

/// `fanout import aegir`.
#[derive(Debug, Args)]
#[command(after_help = "\
Passwords and private keys go into the hub's own store, and the inventory refers to them. What has no
counterpart is named in a comment. Nothing in Aegir's home is executed or changed.

Examples:
  fanout import aegir /var/aegir
  fanout import aegir /var/aegir --dry-run | less")]
pub(crate) struct ImportAegirArgs {
    /// Aegir's home, with its `.drush` and its `config`
    #[arg(value_name = "HOME")]
    pub(crate) home: PathBuf,
    /// Name of the hub, shown in every plan and prompt [default: this machine's name]
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) name: Option<String>,
    /// Print the inventory and keep nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}
