//! What is said about services, in `add` and in `edit`.

use super::values::word;
use crate::cli::complete;
use crate::config::{AppSettings, BalancerSettings, ClusterSettings, DbSettings, WebSettings};
use crate::model::{
    AppKind, BalancerKind, BalancerTls, CommitPolicy, DbKind, DbVia, IpNet, Seconds, SecretRef,
    WebKind,
};
use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap_complete::ArgValueCandidates;
use std::num::NonZeroU16;

/// A server's web server.
#[derive(Debug, Args)]
pub(crate) struct WebArgs {
    /// Its web server
    #[arg(long, value_name = "KIND", value_parser = word(WebKind::ALL, WebKind::as_str))]
    web: Option<WebKind>,
    /// Port of the web server's plain requests [default: 80]
    #[arg(long, value_name = "PORT")]
    web_http: Option<NonZeroU16>,
    /// Port of the web server's requests over TLS [default: 443]
    #[arg(long, value_name = "PORT")]
    web_https: Option<NonZeroU16>,
    /// Port of the health endpoint [default: 4680]
    #[arg(long, value_name = "PORT")]
    web_health: Option<NonZeroU16>,
}

impl WebArgs {
    /// What is said.
    pub(crate) fn settings(&self) -> WebSettings {
        WebSettings {
            kind: self.web,
            http: self.web_http,
            https: self.web_https,
            health: self.web_health,
        }
    }
}

/// A server's database server.
#[derive(Debug, Args)]
pub(crate) struct DbArgs {
    /// Its database server: `mysql` is MariaDB and MySQL
    #[arg(long, value_name = "KIND", value_parser = word(DbKind::ALL, DbKind::as_str))]
    db: Option<DbKind>,
    /// TCP port of the database server [default: 3306]
    #[arg(long, value_name = "PORT")]
    db_port: Option<NonZeroU16>,
    /// How the hub reaches the database server [default: tcp]
    #[arg(long, value_name = "HOW", value_parser = word(DbVia::ALL, DbVia::as_str))]
    db_via: Option<DbVia>,
    /// Account that makes databases and accounts [default: fanout]
    #[arg(long, value_name = "USER", value_parser = NonEmpty::new())]
    db_admin_user: Option<String>,
    /// Where that account's password is, such as `secret:db1-admin`
    #[arg(long, value_name = "REFERENCE")]
    db_admin: Option<SecretRef>,
    /// Network whose members share one account, as the database sees them (can be repeated)
    #[arg(long, value_name = "NETWORK")]
    db_network: Vec<IpNet>,
    /// Name or address by which members reach the database server [default: the server's address]
    #[arg(long, value_name = "HOST", value_parser = NonEmpty::new())]
    db_host: Option<String>,
}

impl DbArgs {
    /// What is said.
    pub(crate) fn settings(&self) -> DbSettings {
        DbSettings {
            kind: self.db,
            port: self.db_port,
            via: self.db_via,
            admin_user: self.db_admin_user.clone(),
            admin: self.db_admin.clone(),
            networks: self.db_network.clone(),
            host: self.db_host.clone(),
        }
    }
}

/// A cluster, but for its members.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Balancer in front of it
    #[arg(
        long,
        value_name = "BALANCER",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::balancers)
    )]
    balancer: Option<String>,
    /// Which votes a commit needs: `reachable`, `all`, `quorum:N` or `each` [default: reachable]
    #[arg(long, value_name = "POLICY")]
    commit: Option<CommitPolicy>,
    /// Least number of members that must take part [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    min_healthy: Option<u32>,
}

impl ClusterArgs {
    /// What is said.
    pub(crate) fn settings(&self) -> ClusterSettings {
        ClusterSettings {
            balancer: self.balancer.clone(),
            commit: self.commit,
            min_healthy: self.min_healthy,
        }
    }
}

/// A balancer.
#[derive(Debug, Args)]
pub(crate) struct BalancerArgs {
    /// Servers that it runs on, separated by commas
    #[arg(
        long,
        value_name = "SERVERS",
        value_delimiter = ',',
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::servers)
    )]
    servers: Vec<String>,
    /// Which balancer: `external` is one that fanout doesn't manage
    #[arg(long, value_name = "KIND", value_parser = word(BalancerKind::ALL, BalancerKind::as_str))]
    kind: Option<BalancerKind>,
    /// Where TLS ends [default: terminate]
    #[arg(long, value_name = "WHERE", value_parser = word(BalancerTls::ALL, BalancerTls::as_str))]
    tls: Option<BalancerTls>,
    /// Port of plain requests [default: 80]
    #[arg(long, value_name = "PORT")]
    http: Option<NonZeroU16>,
    /// Port of requests over TLS [default: 443]
    #[arg(long, value_name = "PORT")]
    https: Option<NonZeroU16>,
    /// How long a member may take to become idle when it is drained [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Seconds>,
}

impl BalancerArgs {
    /// What is said.
    pub(crate) fn settings(&self) -> BalancerSettings {
        BalancerSettings {
            servers: self.servers.clone(),
            kind: self.kind,
            tls: self.tls,
            http: self.http,
            https: self.https,
            drain_timeout: self.drain_timeout,
        }
    }
}

/// What a platform's sites need to know of it.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// The application that it is
    #[arg(long, value_name = "APP", value_parser = word(AppKind::ALL, AppKind::as_str))]
    app: Option<AppKind>,
    /// Directory in the source that web servers serve, `.` for the source itself
    #[arg(long, value_name = "DIR", value_parser = NonEmpty::new())]
    docroot: Option<String>,
    /// Version of PHP that its sites run with, such as 8.2
    #[arg(long, value_name = "VERSION", value_parser = NonEmpty::new())]
    php: Option<String>,
}

impl AppArgs {
    /// What is said.
    pub(crate) fn settings(&self) -> AppSettings {
        AppSettings {
            app: self.app,
            docroot: self.docroot.clone(),
            php: self.php.clone(),
        }
    }
}
