//! The agent's own commands, run on a server.

use super::values::{duration, word};
use crate::model::Offer;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `fanout agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    pub(crate) command: AgentCommand,
}

/// What the agent is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Prepare this server: identity, address, allowed directories
    Init(AgentInitArgs),
    /// Let hubs manage services of this server: web, db, balancer, app, setup
    Offer(AgentOfferArgs),
    /// Serve the hub in the foreground, and say when ready
    Run(AgentRunArgs),
    /// Print a one-time token that lets a hub in, and nothing else
    Invite(AgentInviteArgs),
    /// List the hubs that are let in, or let one in no more
    Revoke(AgentRevokeArgs),
    /// Carry a session between standard input and output and the agent
    #[command(hide = true)]
    Connect(AgentConnectArgs),
}

/// `fanout agent init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout agent init --name web1 --allow /srv
  fanout agent init --name web1 --allow /srv --offer web,app
  fanout agent init --dir AGENT --name web1 --listen 127.0.0.1:4601 --allow /srv --prefix /tmp/web1")]
pub(crate) struct AgentInitArgs {
    /// Name of this server [default: this machine's name]
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) name: Option<String>,
    /// Address and UDP port to listen at
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:4600")]
    pub(crate) listen: SocketAddr,
    /// Directory below which hubs may place roots (can be repeated)
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) allow: Vec<PathBuf>,
    /// Put everything the agent manages below this directory, as DESTDIR does
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: Option<PathBuf>,
    /// What no hub may ever touch in a root, such as `/srv/drupal=/files` (can be repeated)
    #[arg(long, value_name = "ROOT=RULE", value_parser = NonEmpty::new())]
    pub(crate) preserve: Vec<String>,
    /// Services that hubs may manage here, separated by commas
    #[arg(long, value_name = "SERVICES", value_delimiter = ',', value_parser = word(Offer::ALL, Offer::as_str))]
    pub(crate) offer: Vec<Offer>,
}

/// `fanout agent offer`.
#[derive(Debug, Args)]
#[command(after_help = "\
What a hub may do with a service is close to root's power: offer what this server is for.

Example:
  fanout agent offer web app")]
pub(crate) struct AgentOfferArgs {
    /// Services that hubs may manage here
    #[arg(value_name = "SERVICE", required = true, value_delimiter = ',', value_parser = word(Offer::ALL, Offer::as_str))]
    pub(crate) services: Vec<Offer>,
}

/// `fanout agent run`.
#[derive(Debug, Args)]
pub(crate) struct AgentRunArgs {}

/// `fanout agent invite`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fanout agent invite | ssh hub fanout add server web1 --address web1:4600 --token-file -")]
pub(crate) struct AgentInviteArgs {
    /// How long the token can be used [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) valid: Option<Duration>,
}

/// `fanout agent revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
A running agent closes the hub's connections within a second. What the hub published stays.

Examples:
  fanout agent revoke                        which hubs are let in
  fanout agent revoke 5f0c2a91e7             the key, or its first digits")]
pub(crate) struct AgentRevokeArgs {
    /// Key of the hub, or the first digits of it; none lists the hubs
    #[arg(value_name = "KEY", value_parser = NonEmpty::new())]
    pub(crate) key: Option<String>,
}

/// `fanout agent connect`.
#[derive(Debug, Args)]
pub(crate) struct AgentConnectArgs {}
