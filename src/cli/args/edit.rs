//! `fanout edit`: settings of what is in the inventory.

use super::RuleArgs;
use super::services::{AppArgs, BalancerArgs, ClusterArgs, DbArgs, WebArgs};
use super::sites::SiteArgs;
use super::values::TransportArg;
use crate::cli::complete;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use std::net::IpAddr;
use std::path::PathBuf;

/// `fanout edit`.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    #[command(subcommand)]
    pub(crate) noun: EditNoun,
}

/// What to edit.
#[derive(Debug, Subcommand)]
pub(crate) enum EditNoun {
    /// Change a server; networks that are given are added to those it has
    Server(EditServerArgs),
    /// Change a cluster
    Cluster(EditClusterArgs),
    /// Change a balancer
    Balancer(EditBalancerArgs),
    /// Change a platform; rules that are given are added to those it has
    Platform(EditPlatformArgs),
    /// Change a site; aliases and redirects that are given are added to those it has
    Site(EditSiteArgs),
}

/// `fanout edit platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout edit platform drupal --keep 10 --require index.php
  fanout edit platform drupal --on back
  fanout edit platform drupal --release-preserved /private")]
pub(crate) struct EditPlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    /// Another source: a directory on the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Another server or cluster
    #[arg(
        long,
        value_name = "TARGET",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::targets)
    )]
    pub(crate) on: Option<String>,
    #[command(flatten)]
    pub(crate) app: AppArgs,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    #[command(flatten)]
    pub(crate) unset: UnsetArgs,
    /// Give up a preserve rule, after showing what it protects (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = NonEmpty::new())]
    pub(crate) release_preserved: Vec<String>,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Settings that are taken out of the file.
#[derive(Debug, Args)]
pub(crate) struct UnsetArgs {
    /// Take a setting out of the file, so that its default holds: `KEY`, or `TABLE.KEY` (can be
    /// repeated)
    #[arg(long, value_name = "KEY", value_parser = NonEmpty::new())]
    pub(crate) unset: Vec<String>,
}

/// `fanout edit server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout edit server web1 --web nginx_ssl
  fanout edit server db1 --db-network 10.0.0.0/24
  fanout edit server web1 --unset web")]
pub(crate) struct EditServerArgs {
    /// Name of the server
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::servers))]
    pub(crate) name: String,
    /// Where the hub reaches the agent: a name or an address, and a port
    #[arg(long, value_name = "HOST:PORT", value_parser = NonEmpty::new())]
    pub(crate) address: Option<String>,
    /// How to reach the agent
    #[arg(long, value_name = "HOW")]
    pub(crate) transport: Option<TransportArg>,
    /// Labels instead of those it has, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = NonEmpty::new())]
    pub(crate) labels: Vec<String>,
    /// IP addresses instead of those it has, separated by commas
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    pub(crate) addresses: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) web: WebArgs,
    #[command(flatten)]
    pub(crate) db: DbArgs,
    #[command(flatten)]
    pub(crate) unset: UnsetArgs,
}

/// `fanout edit cluster`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout edit cluster front --add-members web3
  fanout edit cluster front --balancer edge --min-healthy 2")]
pub(crate) struct EditClusterArgs {
    /// Name of the cluster
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::clusters))]
    pub(crate) name: String,
    /// Servers to take in, separated by commas
    #[arg(
        long,
        value_name = "SERVERS",
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    pub(crate) add_members: Vec<String>,
    /// Servers to take out, separated by commas
    #[arg(
        long,
        value_name = "SERVERS",
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    pub(crate) remove_members: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: ClusterArgs,
    #[command(flatten)]
    pub(crate) unset: UnsetArgs,
}

/// `fanout edit balancer`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout edit balancer edge --servers lb1,lb2
  fanout edit balancer edge --drain-timeout 2m")]
pub(crate) struct EditBalancerArgs {
    /// Name of the balancer
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::balancers))]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) settings: BalancerArgs,
    #[command(flatten)]
    pub(crate) unset: UnsetArgs,
}

/// `fanout edit site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout edit site www.example.com --alias example.com --redirect-aliases
  fanout edit site www.example.com --tls required --hsts 180d
  fanout edit site www.example.com --cron=false --unset uploads")]
pub(crate) struct EditSiteArgs {
    /// Address of the site
    #[arg(
        value_name = "ADDRESS",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::sites)
    )]
    pub(crate) uri: String,
    /// Another platform
    #[arg(
        long,
        value_name = "PLATFORM",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::platforms)
    )]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SiteArgs,
    /// Alias to take out (can be repeated)
    #[arg(long, value_name = "HOST", value_parser = NonEmpty::new())]
    pub(crate) remove_alias: Vec<String>,
    /// Path that shall not lead elsewhere any more (can be repeated)
    #[arg(long, value_name = "PATH", value_parser = NonEmpty::new())]
    pub(crate) remove_redirect: Vec<String>,
    #[command(flatten)]
    pub(crate) unset: UnsetArgs,
}
