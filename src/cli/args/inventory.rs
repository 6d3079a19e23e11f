//! Commands that edit the inventory, and those that begin or end a platform's life.

use super::services::{AppArgs, ClusterArgs, DbArgs, WebArgs};
use super::sites::{AddBalancerArgs, AddSiteArgs};
use super::values::{LayoutArg, ResyncArg, TransportArg, owner, word};
use crate::cli::complete;
use crate::model::{AbsPath, Offer};
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use std::net::IpAddr;
use std::path::PathBuf;

/// `fanout init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout init
  fanout init --dir /srv/fanout --name production
  fanout init --recover                     after the state was restored from an old backup")]
pub(crate) struct InitArgs {
    /// Name of the hub, shown in every plan and prompt [default: this machine's name]
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) name: Option<String>,
    /// Read fences, generations and open transactions back from the members
    ///
    /// For a hub whose state is older than what its members know, such as one that was restored
    /// from a backup. What most members are live at becomes the desired generation.
    #[arg(long, conflicts_with = "name")]
    pub(crate) recover: bool,
}

/// `fanout add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(subcommand)]
    pub(crate) noun: AddNoun,
}

/// What to add.
#[derive(Debug, Subcommand)]
pub(crate) enum AddNoun {
    /// Add a server and exchange keys with its agent
    Server(AddServerArgs),
    /// Add a cluster: servers that all receive the same code
    Cluster(AddClusterArgs),
    /// Add a load balancer in front of clusters
    Balancer(AddBalancerArgs),
    /// Add a platform: a code base and where it goes
    Platform(AddPlatformArgs),
    /// Add a site: an address, on a platform
    Site(AddSiteArgs),
}

/// `fanout add server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout add server web1 --address web1.example.com:4600 --token-file web1.token
  ssh web1 fanout agent invite | fanout add server web1 --address web1:4600 --token-file -
  fanout add server web1 --address web1:4600 --ssh admin@web1 --sudo --web nginx
  fanout add server lb1 --address lb1:4600 --ssh admin@lb1 --sudo --offer balancer,setup
  fanout add server db1 --address db1:4600 --ssh admin@db1 --sudo --db mysql --db-via agent
  fanout add server db1 --address db1.internal --no-agent --db mysql --db-admin secret:db1-admin
  ssh web1 fanout agent invite | fanout add server web1 --replace-key --token-file -")]
pub(crate) struct AddServerArgs {
    /// Name of the server in the inventory
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    /// Where the hub reaches the agent: a name or an address, and a port
    #[arg(
        long,
        value_name = "HOST:PORT",
        required_unless_present = "replace_key",
        value_parser = NonEmpty::new()
    )]
    pub(crate) address: Option<String>,
    /// The server was set up anew: accept its new key; in the inventory it stays as it is
    #[arg(long, conflicts_with_all = ["address", "labels", "transport"])]
    pub(crate) replace_key: bool,
    /// File with the token of `fanout agent invite`; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ssh", "no_agent"])]
    pub(crate) token_file: Option<PathBuf>,
    /// Install the agent and exchange keys over ssh
    #[arg(long, value_name = "USER@HOST", conflicts_with = "no_agent", value_parser = NonEmpty::new())]
    pub(crate) ssh: Option<String>,
    /// Become root on the server with sudo
    #[arg(long, requires = "ssh", conflicts_with = "token_file")]
    pub(crate) sudo: bool,
    /// Only write it down: there is no agent, as on somebody else's database server
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Directory below which roots may lie, instead of /srv and /var/www (can be repeated)
    #[arg(long, value_name = "DIR", requires = "ssh")]
    pub(crate) allow: Vec<AbsPath>,
    /// Services that the agent shall let hubs manage, separated by commas [default: what the roles
    /// need]
    #[arg(
        long,
        value_name = "SERVICES",
        value_delimiter = ',',
        requires = "ssh",
        value_parser = word(Offer::ALL, Offer::as_str)
    )]
    pub(crate) offer: Vec<Offer>,
    /// How to reach the agent
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) transport: TransportArg,
    /// Labels that `--limit label:NAME` selects by, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = NonEmpty::new())]
    pub(crate) labels: Vec<String>,
    /// IP addresses that databases and balancers see, separated by commas
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    pub(crate) addresses: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) web: WebArgs,
    #[command(flatten)]
    pub(crate) db: DbArgs,
}

/// `fanout add cluster`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout add cluster front --members web1,web2
  fanout add cluster front --members web1,web2,web3 --balancer edge --min-healthy 2")]
pub(crate) struct AddClusterArgs {
    /// Name of the cluster in the inventory
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    /// Servers that belong to it, separated by commas
    #[arg(
        long,
        value_name = "SERVERS",
        required = true,
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    pub(crate) members: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: ClusterArgs,
}

/// `fanout add platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout add platform drupal --path /srv/src/drupal --root /srv/platforms/drupal --on front
  fanout add platform wiki --path /usr/share/mediawiki --root /srv/wiki --on front --app mediawiki
  fanout add platform shop --path /srv/src/shop --root /var/www/shop --on front \\
      --layout in-place --preserve '/web/sites/*/files/' --preserve /private/")]
pub(crate) struct AddPlatformArgs {
    /// Name of the platform in the inventory
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    /// The source: a directory on the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// The root: where it goes on the members
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// The server or cluster that it lives on
    #[arg(
        long,
        value_name = "TARGET",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::targets)
    )]
    pub(crate) on: String,
    /// How a new generation goes live [default: switched]
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) layout: Option<LayoutArg>,
    #[command(flatten)]
    pub(crate) app: AppArgs,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
}

/// What a push does with a platform's tree; in `add` and `edit`.
#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    /// Rule of rsync's language for what is neither sent nor deleted (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = NonEmpty::new())]
    pub(crate) exclude: Vec<String>,
    /// Path that belongs to the members, beginning with `/` (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = NonEmpty::new())]
    pub(crate) preserve: Vec<String>,
    /// Who owns the files on the members: `keep`, or `USER:GROUP`
    #[arg(long, value_name = "OWNER", value_parser = owner)]
    pub(crate) owner: Option<String>,
    /// Generations to keep for rollback
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// File that the source must have, or a push is refused (can be repeated)
    #[arg(long, value_name = "PATH", value_parser = NonEmpty::new())]
    pub(crate) require: Vec<String>,
    /// What `fanout resync` does about drift
    #[arg(long, value_name = "WHAT")]
    pub(crate) resync: Option<ResyncArg>,
}

/// `fanout adopt`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    #[command(subcommand)]
    pub(crate) noun: AdoptNoun,
}

/// What to adopt.
#[derive(Debug, Subcommand)]
pub(crate) enum AdoptNoun {
    /// Take over the existing roots of a platform, and list what a push would replace
    Platform(AdoptPlatformArgs),
}

/// `fanout adopt platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing in the root changes. Entries that the source doesn't have are foreign: they stay until a
push is given --delete-foreign.

Example:
  fanout adopt platform drupal")]
pub(crate) struct AdoptPlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) members: super::MemberArgs,
    /// Show it without recording anything
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `fanout remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing on the servers changes. `fanout delete platform` destroys.")]
pub(crate) struct RemoveArgs {
    #[command(subcommand)]
    pub(crate) noun: RemoveNoun,
}

/// What to forget.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoveNoun {
    /// Forget a server and its key
    Server(NamedArgs),
    /// Forget a cluster
    Cluster(NamedArgs),
    /// Forget a balancer; it goes on as it is
    Balancer(NamedArgs),
    /// Forget a platform; its roots stay as they are
    Platform(NamedArgs),
    /// Forget a site; its database, its files and its configuration stay as they are
    Site(NamedArgs),
}

/// The name of something in the inventory.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Its name in the inventory
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::anything))]
    pub(crate) name: String,
}

/// `fanout delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(subcommand)]
    pub(crate) noun: DeleteNoun,
}

/// What to destroy.
#[derive(Debug, Subcommand)]
pub(crate) enum DeleteNoun {
    /// Delete a platform's code on its members; preserved paths stay and are listed
    Platform(DeletePlatformArgs),
    /// Delete a site's configuration, keys and accounts on every server; its database and its files
    /// stay
    Site(DeleteSiteArgs),
}

/// `fanout delete site`.
#[derive(Debug, Args)]
#[command(after_help = "\
The inventory forgets the site first; then everything that fanout made for it is taken away, as
`fanout apply --allow-remove` does it. The content of its database goes only with --drop-database,
without a backup of it, and can't be brought back. Uploads and other files in the platform's tree
stay on its members.

Examples:
  fanout delete site www.example.com --dry-run
  fanout delete site www.example.com --yes-delete www.example.com")]
pub(crate) struct DeleteSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
    /// The site's address once more, instead of being asked for it
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmpty::new())]
    pub(crate) yes_delete: Option<String>,
    /// Destroy the content of its database, too; wants the database's name
    #[arg(long, value_name = "DATABASE", value_parser = NonEmpty::new())]
    pub(crate) drop_database: Option<String>,
    /// Show what would be deleted, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `fanout delete platform`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fanout delete platform drupal --yes-delete drupal")]
pub(crate) struct DeletePlatformArgs {
    /// Name of the platform
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::platforms))]
    pub(crate) name: String,
    /// The platform's name once more, instead of being asked for it
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) yes_delete: Option<String>,
    /// Show what would be deleted, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}
