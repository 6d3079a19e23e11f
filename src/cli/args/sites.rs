//! What is said about balancers and sites.

use super::services::BalancerArgs;
use super::values::{redirect, word};
use crate::cli::complete;
use crate::config::SiteSettings;
use crate::model::{AbsPath, Seconds, SecretRef, SiteTls, SiteUri, Uploads};
use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap_complete::ArgValueCandidates;

/// `fanout add balancer`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout add balancer edge --servers lb1,lb2 --kind haproxy
  fanout add balancer edge --kind external --tls passthrough")]
pub(crate) struct AddBalancerArgs {
    /// Name of the balancer in the inventory
    #[arg(value_parser = NonEmpty::new())]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) settings: BalancerArgs,
}

/// `fanout add site`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout add site www.example.com --platform drupal --db db1 --uploads pin:web1
  fanout add site www.example.com --platform wiki --db db1 --alias example.com --redirect-aliases \\
      --tls required --certificate /etc/ssl/example.pem --key file:/etc/ssl/private/example.key
  fanout add site www.example.com/shop --platform shop --db db1 --uploads mount:/mnt/shop")]
pub(crate) struct AddSiteArgs {
    /// Address of the site: a host name, or a host name and one path component
    #[arg(value_name = "ADDRESS", value_parser = NonEmpty::new())]
    pub(crate) uri: String,
    /// The platform that it runs on
    #[arg(
        long,
        value_name = "PLATFORM",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::platforms)
    )]
    pub(crate) platform: String,
    #[command(flatten)]
    pub(crate) settings: SiteArgs,
}

/// A site, but for its platform; in `add` and `edit`.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    /// Name of its own directory, where the application keeps several sites apart
    #[arg(long, value_name = "DIR", value_parser = NonEmpty::new())]
    site_dir: Option<String>,
    /// Server of its database
    #[arg(
        long,
        value_name = "SERVER",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    db: Option<String>,
    /// Another host name that it answers to (can be repeated)
    #[arg(long, value_name = "HOST")]
    alias: Vec<SiteUri>,
    /// Redirect the aliases to its address
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    redirect_aliases: Option<bool>,
    /// Path that leads elsewhere, and where to (can be repeated)
    #[arg(long, value_name = "PATH=TARGET", value_parser = redirect)]
    redirect: Vec<(String, String)>,
    /// Whether it is served over TLS [default: off]
    #[arg(long, value_name = "MODE", value_parser = word(SiteTls::ALL, SiteTls::as_str))]
    tls: Option<SiteTls>,
    /// Its certificate with the chain, on the hub [default: a self-signed one]
    #[arg(long, value_name = "FILE")]
    certificate: Option<AbsPath>,
    /// Where the certificate's private key is, such as `file:/etc/ssl/private/example.key`
    #[arg(long, value_name = "REFERENCE")]
    key: Option<SecretRef>,
    /// Tell browsers to come back over TLS only, for so long, such as `180d`
    #[arg(long, value_name = "TIME")]
    hsts: Option<Seconds>,
    /// What becomes of files that visitors upload: `pin:SERVER`, `mount:/PATH` or `external`
    #[arg(long, value_name = "POLICY")]
    uploads: Option<Uploads>,
    /// System user that its PHP runs as [default: one of its own]
    #[arg(long, value_name = "USER", value_parser = NonEmpty::new())]
    user: Option<String>,
    /// Largest request body, in MiB [default: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    upload: Option<u32>,
    /// Where the users and passwords of basic authentication are
    #[arg(long, value_name = "REFERENCE")]
    auth: Option<SecretRef>,
    /// Its title, for the installation
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    title: Option<String>,
    /// The first administrator's mail address, for the installation
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmpty::new())]
    mail: Option<String>,
    /// Run its periodic work, on one member
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cron: Option<bool>,
}

impl SiteArgs {
    /// What is said, on that platform if one is said.
    pub(crate) fn settings(&self, platform: Option<&str>) -> SiteSettings {
        SiteSettings {
            platform: platform.map(str::to_owned),
            dir: self.site_dir.clone(),
            db: self.db.clone(),
            aliases: self.alias.clone(),
            redirect_aliases: self.redirect_aliases,
            redirects: self.redirect.clone(),
            tls: self.tls,
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            hsts: self.hsts,
            uploads: self.uploads.clone(),
            user: self.user.clone(),
            upload: self.upload,
            auth: self.auth.clone(),
            title: self.title.clone(),
            mail: self.mail.clone(),
            cron: self.cron,
        }
    }
}
