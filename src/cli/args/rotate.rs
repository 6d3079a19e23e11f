//! `fanout rotate`: secrets replaced while everything goes on.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};

/// `fanout rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(subcommand)]
    pub(crate) what: RotateWhat,
}

/// What to replace.
#[derive(Debug, Subcommand)]
pub(crate) enum RotateWhat {
    /// Replace a password
    Password(RotatePasswordArgs),
}

/// `fanout rotate password`.
#[derive(Debug, Args)]
pub(crate) struct RotatePasswordArgs {
    #[command(subcommand)]
    pub(crate) noun: RotateNoun,
}

/// Whose.
#[derive(Debug, Subcommand)]
pub(crate) enum RotateNoun {
    /// The password of a site's accounts in its database, without a moment in which none is valid
    Site(RotateSiteArgs),
}

/// `fanout rotate password site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every account first takes both passwords; then every member gets its settings with the new one and
logs in with it; then the former one ends. What is cut off in between is finished by `fanout apply`.

Examples:
  fanout rotate password site www.example.com")]
pub(crate) struct RotateSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) uri: String,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}
