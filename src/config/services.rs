//! What a server's services and the balancers mean, and whether they get into each other's way.

use super::decode::Item;
use super::inventory::{Balancer, DEFAULT_HEALTH_PORT, Db, Web};
use super::problem::Problems;
use super::schema::{BalancerTable, DbTable, ServerTable, WebTable};
use super::scope::Scope;
use crate::model::{BalancerKind, BalancerName, BalancerTls, ClusterName, DbVia, ServerName};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::ops::Range;
use sync_proto::path::escape;
use toml::Spanned;

const DEFAULT_DB_PORT: u16 = 3306;
/// The longest account name that every version of MariaDB and MySQL takes, in characters.
const MAX_ACCOUNT_CHARS: usize = 32;
/// Members have answered what they were asked by then, or somebody downloads something large.
const DEFAULT_DRAIN_TIMEOUT_S: u32 = 30;

/// A server's web server.
pub(super) fn web(server: &ServerName, table: &WebTable, problems: &mut Problems<'_>) -> Web {
    if let Some(https) = &table.https
        && !table.kind.has_tls()
    {
        problems.push_with(
            https.span(),
            format!(
                "`https` of the server `{server}` means nothing: `{}` is without TLS",
                table.kind
            ),
            format!("kind = \"{}_ssl\" serves TLS", table.kind),
        );
    }
    Web {
        kind: table.kind,
        http: port(table.http.as_ref(), 80),
        https: port(table.https.as_ref(), 443),
        health: port(table.health.as_ref(), DEFAULT_HEALTH_PORT),
    }
}

/// A server's database server.
pub(super) fn db(server: &ServerName, table: &Spanned<DbTable>, problems: &mut Problems<'_>) -> Db {
    let span = table.span();
    let table = table.get_ref();
    let via = table.via.as_ref().map_or(DbVia::Tcp, |via| *via.get_ref());
    if via == DbVia::Tcp && table.admin.is_none() {
        problems.push_with(
            table.via.as_ref().map_or(span, Spanned::span),
            format!("The database server on `{server}` is reached over TCP, but has no `admin`"),
            format!(
                "add admin = \"secret:{server}-admin\", or via = \"agent\" to let its agent log in \
                 by the socket"
            ),
        );
    }
    if let Some(user) = &table.admin_user
        && !is_account(user.get_ref())
    {
        problems.push(
            user.span(),
            format!(
                "`{}` can't be an account: use letters, digits, `-` and `_`, at most \
                 {MAX_ACCOUNT_CHARS}",
                escape(user.get_ref().as_bytes())
            ),
        );
    }
    for network in &table.networks {
        let net = network.get_ref();
        if net.addr() != net.network() {
            problems.push_with(
                network.span(),
                format!("`{net}` is an address within a network, not a network"),
                format!("the network is {}", net.trunc()),
            );
        }
    }
    if let Some(host) = &table.host
        && !is_host(host.get_ref())
    {
        problems.push(
            host.span(),
            format!(
                "`{}` is neither a host name nor an IP address",
                escape(host.get_ref().as_bytes())
            ),
        );
    }
    Db {
        kind: table.kind,
        port: port(table.port.as_ref(), DEFAULT_DB_PORT),
        via,
        admin_user: table
            .admin_user
            .as_ref()
            .map_or_else(|| "fanout".to_owned(), |user| user.get_ref().clone()),
        admin: table.admin.clone(),
        networks: table.networks.iter().map(|net| *net.get_ref()).collect(),
        host: table.host.as_ref().map(|host| host.get_ref().clone()),
    }
}

fn is_account(text: &str) -> bool {
    (1..=MAX_ACCOUNT_CHARS).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// A host name as it may stand in the settings of an application, or an address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.parse::<std::net::IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_label))
}

/// A balancer.
pub(super) fn balancer(
    name: BalancerName,
    at: &Range<usize>,
    table: BalancerTable,
    scope: &Scope,
    problems: &mut Problems<'_>,
) -> Balancer {
    let kind = *table.kind.get_ref();
    match (kind, table.servers.first()) {
        (BalancerKind::External, Some(first)) => problems.push_with(
            first.span(),
            format!("The balancer `{name}` is external, so fanout manages no server of it"),
            "leave `servers` out",
        ),
        (BalancerKind::Haproxy | BalancerKind::Nginx, None) => problems.push_with(
            at.clone(),
            format!("The balancer `{name}` has no servers"),
            "`servers` lists those that it runs on; somebody else's balancer is kind = \"external\"",
        ),
        _ => {}
    }
    let mut servers: Vec<ServerName> = Vec::new();
    for server in &table.servers {
        let text = server.get_ref();
        if scope
            .server(server, &format!("the balancer `{name}`"), problems)
            .is_none()
        {
            continue;
        }
        if servers.contains(text) {
            problems.push(
                server.span(),
                format!("The balancer `{name}` lists `{text}` twice"),
            );
        } else {
            servers.push(text.clone());
        }
    }
    Balancer {
        servers,
        kind,
        tls: table.tls.unwrap_or(BalancerTls::Terminate),
        http: port(table.http.as_ref(), 80),
        https: port(table.https.as_ref(), 443),
        drain_timeout_s: table
            .drain_timeout
            .map_or(DEFAULT_DRAIN_TIMEOUT_S, |time| time.get()),
        name,
    }
}

/// The balancer of a cluster, if there is one of that name.
pub(super) fn balancer_of(
    cluster: &ClusterName,
    name: &Spanned<String>,
    balancers: &BTreeSet<BalancerName>,
    problems: &mut Problems<'_>,
) -> Option<BalancerName> {
    super::scope::reference(
        name,
        "balancer",
        &format!("the cluster `{cluster}`"),
        balancers,
        problems,
    )
}

fn port(given: Option<&Spanned<NonZeroU16>>, default: u16) -> u16 {
    given.map_or(default, |port| port.get_ref().get())
}

/// Who listens on a port of a server, and where that is said.
struct Listener {
    what: String,
    at: Range<usize>,
}

/// No two services of one server listen on the same port.
pub(super) fn separate_ports(
    servers: &[Item<ServerName, ServerTable>],
    balancers: &[Item<BalancerName, BalancerTable>],
    problems: &mut Problems<'_>,
) {
    for item in servers {
        let Some(table) = &item.table else { continue };
        let mut taken: BTreeMap<u16, Listener> = BTreeMap::new();
        let mut take = |port: u16, at: Range<usize>, what: String| {
            if let Some(other) = taken.get(&port) {
                problems.push(
                    at,
                    format!(
                        "Port {port} of the server `{}` is wanted by {what}, and by {} (line {})",
                        item.name,
                        other.what,
                        problems.line(other.at.start)
                    ),
                );
            } else {
                taken.insert(port, Listener { what, at });
            }
        };
        let mut wanted =
            |given: Option<&Spanned<NonZeroU16>>, default, whole: &Range<usize>, what: &str| {
                let at = given.map_or_else(|| whole.clone(), Spanned::span);
                take(port(given, default), at, what.to_owned());
            };
        if let Some(web) = &table.web {
            let (span, web) = (web.span(), web.get_ref());
            wanted(web.http.as_ref(), 80, &span, "its web server");
            if web.kind.has_tls() {
                wanted(web.https.as_ref(), 443, &span, "its web server's TLS");
            }
            wanted(
                web.health.as_ref(),
                DEFAULT_HEALTH_PORT,
                &span,
                "its health endpoint",
            );
        }
        // A database with a host of its own needn't be on this machine.
        if let Some(db) = table.db.as_ref().filter(|db| db.get_ref().host.is_none()) {
            wanted(
                db.get_ref().port.as_ref(),
                DEFAULT_DB_PORT,
                &db.span(),
                "its database server",
            );
        }
        for balancer in balancers {
            let Some(table) = &balancer.table else {
                continue;
            };
            let Some(here) = table.servers.iter().find(|s| *s.get_ref() == item.name) else {
                continue;
            };
            let what = format!("the balancer `{}`", balancer.name);
            wanted(table.http.as_ref(), 80, &here.span(), &what);
            wanted(table.https.as_ref(), 443, &here.span(), &what);
        }
    }
}
