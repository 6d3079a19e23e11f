//! `fanout secret`: none is ever an argument.

use crate::cli::complete;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

/// `fanout secret`.
#[derive(Debug, Args)]
#[command(after_help = "\
The inventory refers to a secret as `secret:NAME`.")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) noun: SecretNoun,
}

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretNoun {
    /// Keep a secret: read from standard input, or asked for without echo
    Set(SecretSetArgs),
    /// List the names of the secrets, and what refers to them
    List,
    /// Remove a secret that nothing refers to
    Remove(SecretRemoveArgs),
}

/// `fanout secret set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout secret set db1-admin                    asks for it, without echo
  fanout secret set db1-admin < password-file
  fanout secret set db1-admin --generate         32 letters and digits that nobody has seen")]
pub(crate) struct SecretSetArgs {
    /// Name of the secret
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::secrets))]
    pub(crate) name: String,
    /// Make one instead of reading one
    #[arg(long)]
    pub(crate) generate: bool,
}

/// `fanout secret remove`.
#[derive(Debug, Args)]
pub(crate) struct SecretRemoveArgs {
    /// Name of the secret
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::secrets))]
    pub(crate) name: String,
}
