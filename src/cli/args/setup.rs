//! `fanout setup`: what a role needs on a server, once.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use std::net::IpAddr;

/// `fanout setup`.
#[derive(Debug, Args)]
#[command(after_help = "\
The plan is shown first. `--print` shows it in a form to be carried out by hand.")]
pub(crate) struct SetupArgs {
    #[command(subcommand)]
    pub(crate) noun: SetupNoun,
}

/// What to set up.
#[derive(Debug, Subcommand)]
pub(crate) enum SetupNoun {
    /// Make the narrow administration account of a database server
    Db(SetupDbArgs),
    /// Install what a web server or a balancer needs, and the one line that includes fanout's files
    Server(SetupServerArgs),
}

/// `fanout setup server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing of the server's own configuration is changed, and no server program is restarted. The agent
must offer `setup`.

Examples:
  fanout setup server web1                    shows what is left to do, asks, and does it
  fanout setup server web1 --php 8.2 --extension gd --yes
  fanout setup server web1 --print            the same to be done by hand
  fanout setup server lb1                     one that a balancer lists: HAProxy or nginx")]
pub(crate) struct SetupServerArgs {
    /// Name of the server
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    /// A version of PHP, such as 8.2 (can be repeated) [default: those of its platforms, or the
    /// distribution's]
    #[arg(long, value_name = "VERSION", value_parser = NonEmpty::new())]
    pub(crate) php: Vec<String>,
    /// An extension of PHP besides the usual ones (can be repeated)
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) extension: Vec<String>,
    /// Print the commands and change nothing
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) print: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// `fanout setup db`.
#[derive(Debug, Args)]
#[command(after_help = "\
Root's password is read from standard input or asked for, used once and not kept. The account's own
password is kept as the secret that `admin` of the server names.

Examples:
  fanout setup db db1                        shows what it will do, asks, and does it
  fanout setup db db1 --yes < root-password
  fanout setup db db1 --print                the statements, to be run by hand")]
pub(crate) struct SetupDbArgs {
    /// Name of the server
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    /// The account that may make accounts
    #[arg(long, value_name = "USER", default_value = "root", value_parser = NonEmpty::new())]
    pub(crate) root: String,
    /// The hub's address as the database sees it, instead of asking the database
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<IpAddr>,
    /// Print the statements, the new password among them, and change nothing but the hub's secrets
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) print: bool,
    /// With --print and --dry-run: for MySQL 8 instead of MariaDB
    #[arg(long)]
    pub(crate) mysql: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Show the plan and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}
