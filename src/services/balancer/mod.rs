//! Load balancers: the configuration of HAProxy and nginx from the inventory, and what HAProxy's
//! run-time socket says.
//!
//! Owns who stands in which backend, and where each site's requests go ([`Routes`]). Refuses, as
//! [`check`], what can't be balanced. Invariant: the same inventory and facts give the same bytes,
//! and no value gets into a configuration that was not parsed as a name, an address or a path
//! component before.

mod haproxy;
mod nginx;
mod routes;
pub mod stats;

#[cfg(test)]
mod tests;

pub use haproxy::{ADMIN_SOCKET, STATE_FILE};
pub use nginx::{KEEP_OPEN_S, mark_down, marked_down};
pub use routes::{Backend, Routes, Server, SiteRoute, bundle_name, check, is_bundle};

use crate::config::{Balancer, Inventory};
use crate::model::{BalancerKind, ServerName, SiteUri};
use std::collections::{BTreeMap, BTreeSet};
use sync_proto::wire::service::{ConfigArea, ConfigFile, Content, ServiceFacts};

/// HAProxy's file.
pub const HAPROXY_FILE: &str = "haproxy.cfg";
/// nginx's file with the upstreams.
pub const NGINX_FILE: &str = "balancer.conf";
/// Where an nginx that balances shows, on its own machine alone, which configuration it has read.
pub const NGINX_HEALTH_PORT: u16 = 4681;

/// The file in the data directory while whose being there an nginx that balances ends each visitor's
/// connection with the answer.
pub const CLOSING_MARK: &str = "closing";
/// How many visitors' connections are idle, on the health endpoint of an nginx that balances.
pub const CONNECTIONS_PAGE: &str = "/.fanout/connections";

/// What a balancer's files are made of besides the inventory.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    /// What the balancer's server said about itself.
    pub facts: &'a ServiceFacts,
    /// Certificate, chain and key of each site whose TLS ends here, as PEM. Sites that share a
    /// host name share the first one's.
    pub bundles: &'a BTreeMap<SiteUri, Vec<u8>>,
    /// Members that are out of rotation, for balancers that can't be told while they run.
    pub out: &'a BTreeSet<ServerName>,
}

/// Every file of one balancer for one of its servers. None for one that isn't fanout's.
pub fn render(
    inventory: &Inventory,
    balancer: &Balancer,
    ingredients: &Ingredients<'_>,
) -> Vec<ConfigFile> {
    let routes = Routes::of(inventory, balancer);
    let mut files = match balancer.kind {
        BalancerKind::Haproxy => vec![file(
            ConfigArea::Haproxy,
            HAPROXY_FILE.into(),
            haproxy::render(balancer, &routes, ingredients).into_bytes(),
        )],
        BalancerKind::Nginx => vec![
            file(
                ConfigArea::NginxBalancer,
                NGINX_FILE.into(),
                nginx::render(balancer, &routes, ingredients).into_bytes(),
            ),
            file(
                ConfigArea::NginxBalancer,
                format!("00-health-{NGINX_HEALTH_PORT}.conf"),
                nginx::health(ingredients, NGINX_HEALTH_PORT).into_bytes(),
            ),
        ],
        BalancerKind::External => return Vec::new(),
    };
    for site in routes.terminated(balancer) {
        if let Some(bundle) = ingredients.bundles.get(&site.uri) {
            let name = bundle_name(&site.uri);
            files.push(file(ConfigArea::Keys, name, bundle.clone()));
        }
    }
    files
}

fn file(area: ConfigArea, name: String, bytes: Vec<u8>) -> ConfigFile {
    ConfigFile {
        area,
        name,
        group: String::new(),
        content: Content::Bytes(bytes),
    }
}

/// A directory of the server, as text for a configuration.
fn directory(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('/')
        .to_owned()
}

/// Where an area lies below the live configuration set.
const fn area_directory(area: ConfigArea) -> &'static str {
    match area {
        ConfigArea::Keys => "keys",
        ConfigArea::Certificates => "certificates",
        _ => "",
    }
}
