//! Which members stand behind a balancer, and which requests go to which of them.

use crate::codes::{Code, Problem};
use crate::config::{Balancer, Inventory, On, Platform};
use crate::model::{
    AppKind, BalancerKind, BalancerTls, ClusterName, ServerName, SiteTls, SiteUri, Uploads,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What is behind one balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Backends, by name. Each cluster has one, and one for what is written; each member that writes
    /// are pinned to has one more.
    pub backends: Vec<Backend>,
    /// Sites, those in subdirectories before the one that has the rest of their host.
    pub sites: Vec<SiteRoute>,
}

/// Members that can answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name: the cluster's, or the cluster's with the pinned member's.
    pub name: String,
    /// Its members, in the order of the inventory.
    pub servers: Vec<Server>,
    /// The one that gets everything while it is in rotation. While it isn't, one other gets it.
    pub pinned: Option<ServerName>,
    /// It gets what has an effect. Nobody may send that a second time, so it never goes out on a
    /// connection that the member may be closing at that very moment.
    pub is_for_writes: bool,
    /// What the health check asks for.
    pub health_path: &'static str,
}

/// One member as a balancer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its address: the first of those that balancers see, or the host that the hub reaches it by.
    pub address: String,
    /// The port of plain requests.
    pub http: u16,
    /// The port of requests over TLS.
    pub https: u16,
    /// The port of the health endpoint.
    pub health: u16,
}

impl Server {
    /// Address and port as balancers write them.
    pub fn at(&self, port: u16) -> String {
        match self.address.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, port).to_string(),
            Err(_) => format!("{}:{port}", self.address),
        }
    }
}

/// Where one site's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRoute {
    /// The site.
    pub uri: SiteUri,
    /// The host names that it answers to, its own first.
    pub hosts: Vec<String>,
    /// Where TLS is used.
    pub tls: SiteTls,
    /// The backend.
    pub backend: String,
    /// The backend for writes.
    pub writes: String,
    /// The administration's paths go there as well, since uploads are pinned to one member.
    pub is_pinned: bool,
    /// Paths of the administration, without the site's own subdirectory.
    pub administration: &'static [&'static str],
}

impl Routes {
    /// What is behind this balancer.
    pub fn of(inventory: &Inventory, balancer: &Balancer) -> Self {
        let mut backends: BTreeMap<String, Backend> = BTreeMap::new();
        let mut sites = Vec::new();
        for cluster in inventory.clusters.values() {
            if cluster.balancer.as_ref() != Some(&balancer.name) {
                continue;
            }
            let servers = servers(inventory, &cluster.members);
            let on_it = platforms(inventory, &cluster.name);
            let health_path = match on_it.iter().any(|platform| runs_php(platform)) {
                true => "/fpm-ping",
                false => "/healthz",
            };
            let backend = |name: &str, pinned: Option<ServerName>, is_for_writes| Backend {
                name: name.to_owned(),
                servers: servers.clone(),
                pinned,
                is_for_writes,
                health_path,
            };
            let name = cluster.name.as_str();
            backends.insert(name.to_owned(), backend(name, None, false));
            for platform in on_it {
                for site in inventory.sites_of(&platform.name) {
                    let pinned = match &site.uploads {
                        Some(Uploads::Pin(member)) => Some(member),
                        _ => None,
                    };
                    let pinned = pinned
                        .filter(|pinned| servers.iter().any(|server| server.name == **pinned))
                        .cloned();
                    // No server's name begins like that.
                    let writes = match &pinned {
                        Some(pinned) => format!("{name}:{pinned}"),
                        None => format!("{name}:_writes"),
                    };
                    let is_pinned = pinned.is_some();
                    backends
                        .entry(writes.clone())
                        .or_insert_with(|| backend(&writes, pinned, true));
                    let own = std::iter::once(&site.uri);
                    let hosts = own.chain(&site.aliases).map(|uri| uri.host().to_owned());
                    let mut seen = BTreeSet::new();
                    sites.push(SiteRoute {
                        uri: site.uri.clone(),
                        hosts: hosts.filter(|host| seen.insert(host.clone())).collect(),
                        tls: site.tls,
                        backend: name.to_owned(),
                        writes,
                        is_pinned,
                        administration: administration(platform.app),
                    });
                }
            }
        }
        // The more particular address is asked for first.
        sites.sort_by_key(|site| (site.uri.subdirectory().is_none(), site.uri.clone()));
        Self {
            backends: backends.into_values().collect(),
            sites,
        }
    }

    /// The sites whose certificates this balancer needs: one for each host that is served over TLS.
    pub fn terminated(&self, balancer: &Balancer) -> Vec<&SiteRoute> {
        if balancer.tls != BalancerTls::Terminate {
            return Vec::new();
        }
        let mut hosts = BTreeSet::new();
        let over_tls = self.sites.iter().filter(|site| site.tls != SiteTls::Off);
        over_tls
            .filter(|site| hosts.insert(site.uri.host()))
            .collect()
    }
}

/// The file with certificate, chain and key of a site, in the area of keys.
pub fn bundle_name(site: &SiteUri) -> String {
    format!("balancer_{}.pem", site.file_name())
}

/// Is this the name of such a file? No other file in that area begins like it.
pub fn is_bundle(name: &str) -> bool {
    name.starts_with("balancer_")
}

/// What can't be balanced, and why: nothing is rendered while there is any of it.
pub fn check(inventory: &Inventory, balancer: &Balancer) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |message: String, hint: &str| {
        problems.push(Problem::new(Code::BalancerUnfit, message).with_hint(hint));
    };
    let name = &balancer.name;
    let passes = balancer.tls == BalancerTls::Passthrough;
    if balancer.kind == BalancerKind::Nginx && passes {
        wrong(
            format!("The balancer {name} is nginx, and nginx passes no TLS through here"),
            "set `tls = \"terminate\"`, or use haproxy",
        );
    }
    for other in inventory.balancers.values().filter(|it| it.name > *name) {
        let both = other
            .servers
            .iter()
            .find(|it| balancer.servers.contains(it));
        if let Some(server) = both.filter(|_| other.kind == balancer.kind) {
            wrong(
                format!(
                    "{server} runs both the balancer {name} and the balancer {}",
                    other.name
                ),
                "put one balancer in front of both clusters, or use another server",
            );
        }
    }
    let mut owners: BTreeMap<String, (&ClusterName, &SiteUri)> = BTreeMap::new();
    for cluster in inventory.clusters.values() {
        if cluster.balancer.as_ref() != Some(name) {
            continue;
        }
        for member in &cluster.members {
            let server = inventory.servers.get(member);
            if server.is_some_and(|server| server.web.is_none()) {
                wrong(
                    format!(
                        "{member} is a member of {} behind the balancer {name} and serves no web",
                        cluster.name
                    ),
                    "give it `web = { kind = \"nginx\" }`, or take it out of the cluster",
                );
            }
        }
        for platform in platforms(inventory, &cluster.name) {
            for site in inventory.sites_of(&platform.name) {
                if passes && matches!(site.uploads, Some(Uploads::Pin(_))) {
                    wrong(
                        format!(
                            "Uploads of {} are pinned, and the balancer {name} can't see which \
                             requests write: TLS isn't ended there",
                            site.uri
                        ),
                        "set `tls = \"terminate\"` for the balancer, or `uploads = { mount = ... }`",
                    );
                }
                let own = std::iter::once(&site.uri);
                for host in own.chain(&site.aliases).map(SiteUri::host) {
                    let (other, whose) = *owners
                        .entry(host.to_owned())
                        .or_insert((&cluster.name, &site.uri));
                    if passes && *other != cluster.name {
                        wrong(
                            format!(
                                "{} and {whose} share the host {host} on different clusters, and \
                                 the balancer {name} sees nothing but the host",
                                site.uri
                            ),
                            "put both on one cluster, or set `tls = \"terminate\"`",
                        );
                    }
                }
            }
        }
    }
    problems
}

fn platforms<'a>(inventory: &'a Inventory, cluster: &ClusterName) -> Vec<&'a Platform> {
    let is_on = |platform: &&Platform| platform.on == On::Cluster(cluster.clone());
    inventory.platforms.values().filter(is_on).collect()
}

fn servers(inventory: &Inventory, members: &[ServerName]) -> Vec<Server> {
    let known = members
        .iter()
        .filter_map(|name| inventory.servers.get(name));
    known
        .filter_map(|server| {
            let web = server.web.as_ref()?;
            let address = match server.addresses.first() {
                Some(address) => address.to_string(),
                None => server.address.host().to_owned(),
            };
            Some(Server {
                name: server.name.clone(),
                address,
                http: web.http,
                https: web.https,
                health: web.health,
            })
        })
        .collect()
}

/// A platform without an application may hold PHP as well; one that is static holds none.
fn runs_php(platform: &Platform) -> bool {
    platform.app.is_none_or(|app| app != AppKind::Static)
}

/// Where an application's administration begins: what is uploaded or changed there is written to
/// files, even by some requests that only read.
const fn administration(app: Option<AppKind>) -> &'static [&'static str] {
    match app {
        Some(AppKind::Wordpress) => &["/wp-admin", "/wp-login.php"],
        Some(AppKind::Drupal) => &["/admin", "/user", "/node/add", "/batch", "/system/ajax"],
        Some(AppKind::Mediawiki) => &["/mw-config"],
        _ => &[],
    }
}
