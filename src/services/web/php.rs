//! PHP-FPM pools: one for each site with scripts, and one for each version that answers pings.

use super::facts::Machine;
use super::site::Host;
use super::templates::vars;
use super::text::Plain;
use super::{Files, Inputs, RenderError};
use serde::Serialize;
use std::collections::BTreeMap;
use sync_proto::wire::service::{ConfigArea, PhpFacts};

/// A version's pool that answers pings.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ping {
    version: Plain,
    pool: Plain,
    socket: Plain,
    path: Plain,
}

/// The pools of pings, one for each version that a site uses. `/fpm-ping` asks the highest.
pub(super) fn pings(server: &str, hosts: &[Host<'_>]) -> Result<Vec<Ping>, RenderError> {
    let used = versions(hosts);
    let count = used.len();
    let mut pings = Vec::new();
    for (index, php) in used.into_values().enumerate() {
        let ping = |path: String| -> Result<Ping, super::TextError> {
            let directory = php.socket_dir.trim_end_matches('/');
            Ok(Ping {
                version: Plain::parse("the version of PHP", &php.version)?,
                pool: Plain::parse("the pool", &format!("fanout-health-{}", php.version))?,
                socket: Plain::parse(
                    "the socket",
                    &format!("{directory}/fanout-health-{}.sock", php.version),
                )?,
                path: Plain::parse("the path", &path)?,
            })
        };
        let text = |source| RenderError::Text {
            site: server.to_owned(),
            source,
        };
        if index + 1 == count {
            pings.push(ping("/fpm-ping".into()).map_err(text)?);
        }
        pings.push(ping(format!("/fpm-ping-{}", php.version)).map_err(text)?);
    }
    Ok(pings)
}

/// The versions in use, lowest first.
fn versions<'a>(hosts: &[Host<'a>]) -> BTreeMap<Vec<u32>, &'a PhpFacts> {
    let places = hosts.iter().flat_map(|it| it.root.iter().chain(&it.subs));
    let used = places.filter_map(|it| it.php);
    let number = |php: &PhpFacts| {
        let parts = php.version.split('.');
        parts.map_while(|part| part.parse().ok()).collect()
    };
    used.map(|php| (number(php), php)).collect()
}

pub(super) fn render(
    inputs: &Inputs<'_>,
    machine: &Machine,
    hosts: &[Host<'_>],
    files: &mut Files,
) -> Result<(), RenderError> {
    let web_group = &machine.web_group;
    for ping in pings(&machine.name, hosts)? {
        let text = inputs
            .templates
            .render("php-fpm-health.conf", vars! { php => ping, web_group })?;
        let name = format!("{}-00-health.conf", ping.version);
        files.add(ConfigArea::PhpFpm, name, text);
    }
    for place in hosts.iter().flat_map(|it| it.root.iter().chain(&it.subs)) {
        let Some(php) = place.php else { continue };
        let text = inputs
            .templates
            .render("php-fpm-pool.conf", vars! { site => place.view, web_group })?;
        let name = format!("{}-{}.conf", php.version, place.view.name);
        files.add(ConfigArea::PhpFpm, name, text);
    }
    Ok(())
}
