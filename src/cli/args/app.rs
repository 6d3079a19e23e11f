//! Commands that work on the application of a site.

use crate::cli::complete;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

/// `fanout enable`, `fanout disable` and `fanout maintenance`.
#[derive(Debug, Args)]
pub(crate) struct ModeArgs {
    #[command(subcommand)]
    pub(crate) noun: ModeNoun,
}

/// What to enable, disable or put into maintenance.
#[derive(Debug, Subcommand)]
pub(crate) enum ModeNoun {
    /// One site, on every member
    Site(ModeSiteArgs),
}

/// `fanout enable site` and its like.
#[derive(Debug, Args)]
#[command(after_help = "\
What visitors see is noted on the hub and applied at once, as `fanout apply` does: the plan is shown
first. The pages lie on the members and work while the hub is down. `fanout enable site` ends both
of the others.

Examples:
  fanout maintenance site www.example.com
  fanout enable site www.example.com --yes")]
pub(crate) struct ModeSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `fanout update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(subcommand)]
    pub(crate) noun: UpdateNoun,
}

/// What to update.
#[derive(Debug, Subcommand)]
pub(crate) enum UpdateNoun {
    /// The database of one site, to the schema that its code wants
    Site(UpdateSiteArgs),
}

/// `fanout update site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs once, on one member that has the code that was pushed last. It can't be taken back: back up the
database first.

Example:
  fanout update site www.example.com")]
pub(crate) struct UpdateSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
    /// Say what waits, and change nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// `fanout cron`.
#[derive(Debug, Args)]
#[command(after_help = "\
For a timer, such as that in scripts/systemd: without a site it runs whatever is due. One member
runs a site's work at a time; where it is gone, another takes over, and what was missed is run once.
Silent where nothing was done.

Examples:
  fanout cron                          what is due
  fanout cron site www.example.com     one site, due or not")]
pub(crate) struct CronArgs {
    #[command(subcommand)]
    pub(crate) noun: Option<CronNoun>,
}

/// Whose periodic work to run.
#[derive(Debug, Subcommand)]
pub(crate) enum CronNoun {
    /// That of one site, now
    Site(CronSiteArgs),
}

/// `fanout cron site`.
#[derive(Debug, Args)]
pub(crate) struct CronSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
}

/// `fanout login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    #[command(subcommand)]
    pub(crate) noun: LoginNoun,
}

/// Where to log in.
#[derive(Debug, Subcommand)]
pub(crate) enum LoginNoun {
    /// One site: an address that logs in once
    Site(LoginSiteArgs),
}

/// `fanout login site`.
#[derive(Debug, Args)]
#[command(after_help = "\
The address is a secret: whoever opens it first is logged in.

Examples:
  fanout login site www.example.com
  fanout login site www.example.com --user editor")]
pub(crate) struct LoginSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
    /// Who logs in [default: the first administrator]
    #[arg(long, value_name = "USER", value_parser = NonEmpty::new())]
    pub(crate) user: Option<String>,
}

/// `fanout deliver`.
#[derive(Debug, Args)]
pub(crate) struct DeliverArgs {
    #[command(subcommand)]
    pub(crate) noun: DeliverNoun,
}

/// What to deliver.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliverNoun {
    /// Uploads of sites that are pinned to one member, to the other members
    Uploads(DeliverUploadsArgs),
}

/// `fanout deliver uploads`.
#[derive(Debug, Args)]
#[command(after_help = "\
The pinned member's files win. Another version that a member has under the same name is kept aside
there; what only it has stays; nothing is removed that fanout didn't bring. Silent where nothing was
done, so that a timer can run it.

Examples:
  fanout deliver uploads                    all sites that pin their uploads
  fanout deliver uploads www.example.com    one of them")]
pub(crate) struct DeliverUploadsArgs {
    /// Addresses of sites [default: all that pin their uploads]
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uris: Vec<String>,
}

/// `fanout install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(subcommand)]
    pub(crate) noun: InstallNoun,
}

/// What to install.
#[derive(Debug, Subcommand)]
pub(crate) enum InstallNoun {
    /// A site's application, once, on one member
    Site(InstallSiteArgs),
}

/// `fanout install site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Brings the site's database, accounts, settings and configuration to its members first, as `fanout
apply` does; then installs on one member and opens the site on all. A second run changes nothing. An
installation that dies halfway is taken back.

Examples:
  fanout install site www.example.com --yes
  fanout install site www.example.com --admin alice --mail alice@example.com")]
pub(crate) struct InstallSiteArgs {
    /// Address of the site
    #[arg(value_parser = NonEmpty::new(), add = ArgValueCandidates::new(complete::sites))]
    pub(crate) uri: String,
    /// Name of the first administrator
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new(), default_value = "admin")]
    pub(crate) admin: String,
    /// Mail address of the first administrator [default: the site's `mail`]
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmpty::new())]
    pub(crate) mail: Option<String>,
    /// Installation profile, where the application has some
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    pub(crate) profile: Option<String>,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Wait for the lock instead of exiting with 4
    #[arg(long)]
    pub(crate) wait: bool,
}
