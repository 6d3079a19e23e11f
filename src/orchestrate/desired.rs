//! What each server's configuration set should hold: the inventory, what the servers reported, and
//! the hub's secrets, put together.
//!
//! Pure: whoever calls has read secrets, certificates and templates, and has asked for the facts.

use super::resources::configuration::Wanted;
use crate::codes::{Code, Problem};
use crate::config::{Balancer, Inventory, Platform, Server, Site};
use crate::model::{BalancerKind, BalancerTls, IpNet, ServerName, SiteTls, SiteUri};
use crate::services::app::{self, AppSite, SETTINGS_NAME, SiteDatabase, SiteKey};
use crate::services::web::{self, Custom, Inputs, Mode, Settings, SiteInputs, Templates};
use crate::services::{balancer, web::RenderError};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use sync_proto::wire::service::{AppDriver, ServiceFacts};

/// What the hub has for its sites, beside the inventory.
pub struct Materials {
    /// Templates, the administrator's in place of the built-in ones.
    pub templates: Templates,
    /// Of each site.
    pub sites: BTreeMap<SiteUri, SiteMaterials>,
    /// Members that are out of rotation, for balancers that can't be told while they run.
    pub out: BTreeSet<ServerName>,
}

/// What the hub has for one site.
pub struct SiteMaterials {
    /// How its application is handled.
    pub driver: AppDriver,
    /// What its salts are made from.
    pub key: SiteKey,
    /// How it reaches its database.
    pub database: Option<SiteDatabase>,
    /// Its certificate, where fanout serves it over TLS.
    pub certificate: Option<web::Certificate>,
    /// Its password file.
    pub passwords: Option<Vec<u8>>,
    /// The administrator's lines.
    pub custom: Custom,
    /// What visitors see.
    pub mode: Mode,
}

/// The web server's part of one server's set.
///
/// # Errors
/// A site can't be served there as the inventory says; the message says which and why.
pub fn web(
    inventory: &Inventory,
    materials: &Materials,
    server: &Server,
    facts: &ServiceFacts,
) -> Result<Vec<Wanted>, Problem> {
    let sites = sites_on(inventory, &server.name);
    let mut inputs = Vec::new();
    for (site, platform) in &sites {
        let Some(material) = materials.sites.get(&site.uri) else {
            continue;
        };
        let settings = settings(site, platform, material);
        let has_settings = !settings.is_empty();
        inputs.push(SiteInputs {
            site,
            platform,
            mode: material.mode,
            certificate: material.certificate.clone(),
            passwords: material.passwords.clone(),
            settings,
            app: app::rules(
                &app_site(site, platform, material.driver),
                facts,
                has_settings,
            )
            .map_err(|error| Problem::from_error(Code::InventoryInvalid, &error))?,
            custom: material.custom.clone(),
        });
    }
    let files = web::render(&Inputs {
        server,
        facts,
        sites: inputs,
        trusted_proxies: proxies(inventory, &sites),
        is_passed_through: sites.iter().any(|(_, platform)| {
            let balancer = inventory.balancer_of(platform);
            balancer.is_some_and(|it| it.tls == BalancerTls::Passthrough)
        }),
        templates: &materials.templates,
    })
    .map_err(|error| rendered(&error))?;
    let uris: Vec<&SiteUri> = sites.iter().map(|(site, _)| &site.uri).collect();
    Ok(files
        .into_iter()
        .map(|file| Wanted {
            site: web::site_of(file.area, &file.name, uris.iter().copied()).cloned(),
            file,
        })
        .collect())
}

/// A balancer's part of one of its servers' sets.
pub fn balancing(
    inventory: &Inventory,
    materials: &Materials,
    balancer: &Balancer,
    facts: &ServiceFacts,
) -> Vec<Wanted> {
    let bundle = |(uri, material): (&SiteUri, &SiteMaterials)| {
        let certificate = material.certificate.as_ref()?;
        let pem = format!("{}{}", certificate.chain_pem, certificate.key_pem);
        Some((uri.clone(), pem.into_bytes()))
    };
    let bundles = materials.sites.iter().filter_map(bundle).collect();
    let ingredients = balancer::Ingredients {
        facts,
        bundles: &bundles,
        out: &materials.out,
    };
    balancer::render(inventory, balancer, &ingredients)
        .into_iter()
        .map(|file| Wanted { file, site: None })
        .collect()
}

/// True for a balancer that fanout neither configures nor drives.
pub fn is_external(balancer: &Balancer) -> bool {
    balancer.kind == BalancerKind::External
}

/// The sites that a server serves, with their platforms.
pub fn sites_on<'a>(
    inventory: &'a Inventory,
    server: &ServerName,
) -> Vec<(&'a Site, &'a Platform)> {
    let on_it = |site: &'a Site| {
        let platform = inventory.platforms.get(&site.platform)?;
        let members = inventory.members(platform);
        members
            .iter()
            .any(|member| member.name == *server)
            .then_some((site, platform))
    };
    inventory.sites.values().filter_map(on_it).collect()
}

/// A site as its driver sees it.
pub fn app_site(site: &Site, platform: &Platform, driver: AppDriver) -> AppSite {
    AppSite {
        driver,
        uri: site.uri.clone(),
        aliases: site.aliases.clone(),
        dir: site.dir.clone(),
        docroot: platform.docroot.clone(),
        is_tls: site.tls != SiteTls::Off,
        is_also_plain: site.tls == SiteTls::Optional,
        title: site.title.clone(),
    }
}

fn settings(site: &Site, platform: &Platform, material: &SiteMaterials) -> Vec<Settings> {
    let app = app_site(site, platform, material.driver);
    let text = app::settings(&app, material.database.as_ref(), &material.key);
    let file = |text: String| Settings {
        name: SETTINGS_NAME.into(),
        bytes: text.into_bytes(),
    };
    text.map(file).into_iter().collect()
}

/// Addresses of the balancers in front of these sites.
fn proxies(inventory: &Inventory, sites: &[(&Site, &Platform)]) -> Vec<IpNet> {
    let mut found = BTreeSet::new();
    for (_, platform) in sites {
        let Some(balancer) = inventory.balancer_of(platform) else {
            continue;
        };
        for name in &balancer.servers {
            if let Some(server) = inventory.servers.get(name) {
                found.extend(server.addresses.iter().copied());
                found.extend(server.address.host().parse::<IpAddr>().ok());
            }
        }
    }
    if !found.is_empty() {
        // The agent asks as the balancer does, on the member itself.
        found.extend([IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]);
    }
    found.into_iter().map(IpNet::from).collect()
}

/// Does fanout need a certificate for a site: at its members, or at a balancer that ends TLS?
pub fn needs_certificate(inventory: &Inventory, site: &Site) -> bool {
    if site.tls == SiteTls::Off {
        return false;
    }
    let platform = inventory.platforms.get(&site.platform);
    let balancer = platform.and_then(|platform| inventory.balancer_of(platform));
    let ends_before = balancer.is_some_and(|it| it.tls == BalancerTls::Terminate);
    let at_members = inventory.members_of_site(site).iter().any(|server| {
        let kind = server.web.as_ref().map(|web| web.kind);
        kind.is_some_and(|kind| kind.has_tls())
    });
    ends_before || at_members
}

fn rendered(error: &RenderError) -> Problem {
    Problem::from_error(Code::InventoryInvalid, error).with_hint(error.hint())
}
