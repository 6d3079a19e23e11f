//! What the hub has for its sites beside the inventory: secrets, certificates, templates, and what
//! the source of their platform is.
//!
//! Secrets that nobody chose are made here once and kept; nothing on any server changes by that.

use super::application::driver;
use super::databases::Databases;
use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::codes::{Code, Problem};
use crate::config::{Secrets, Site};
use crate::model::{Secret, SecretName, SiteUri};
use crate::net::certificate;
use crate::orchestrate::desired::{Materials, SiteMaterials, needs_certificate};
use crate::services::app::SiteKey;
use crate::services::web::{self, Certificate, Custom, Mode, Templates};
use crate::store::{Generator, SiteMode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Directories beside the inventory.
const TEMPLATES: &str = "templates";
const CUSTOM: &str = "custom.d";
/// LIMIT: bytes of a template, a snippet, a certificate.
const MAX_BYTES: u64 = 1 << 20;
/// A certificate that ends sooner is warned about.
pub(crate) const SOON_S: i64 = 21 * 24 * 3600;

/// The materials of every site, and what is worth saying about them.
pub(super) async fn materials(
    context: &Context,
    hub: &Hub,
    closed: &BTreeSet<SiteUri>,
    databases: &Databases,
) -> Result<(Materials, Vec<Problem>), CommandError> {
    let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
    let beside = hub.dir.inventory().parent().unwrap_or(Path::new("."));
    let templates = files_in(&beside.join(TEMPLATES))?;
    let templates = Templates::with(templates)
        .map_err(|error| CommandError::from_error(Code::InventoryInvalid, &error))?;
    let modes = hub.store.site_modes().await.map_err(store_error)?;
    let mut notes = Vec::new();
    let mut sites = BTreeMap::new();
    for site in hub.inventory.sites.values() {
        let Some(platform) = hub.inventory.platforms.get(&site.platform) else {
            continue;
        };
        let custom = files_in(&beside.join(CUSTOM).join(site.uri.file_name()))?;
        let custom = Custom::from_files(custom).map_err(|name| {
            let message = format!(
                "custom.d of {} has a file `{name}`, which means nothing",
                site.uri
            );
            CommandError::new(Code::InventoryInvalid, message)
                .hint("pre.conf, post.conf, and pre|post.nginx|apache.conf mean something")
        })?;
        let material = SiteMaterials {
            driver: driver(platform),
            key: SiteKey::of_secret(ensure(&secrets, &site.uri, "key", Generator::Salt)?.expose()),
            database: databases.access(site).await?,
            certificate: of_site(hub, &secrets, site, &mut notes).await?,
            passwords: passwords(&secrets, site).await?,
            custom,
            mode: match modes.get(&site.uri) {
                Some(SiteMode::Disabled) => Mode::Disabled,
                Some(SiteMode::Maintenance) => Mode::Maintenance,
                None if closed.contains(&site.uri) => Mode::Maintenance,
                None => Mode::Enabled,
            },
        };
        sites.insert(site.uri.clone(), material);
    }
    let out = hub.store.out_of_rotation().await.map_err(store_error)?;
    let materials = Materials {
        templates,
        sites,
        out: out.into_iter().map(|out| out.server).collect(),
    };
    Ok((materials, notes))
}

/// A site's secret for one purpose, made if there is none.
pub(crate) fn ensure(
    secrets: &Secrets,
    site: &SiteUri,
    purpose: &str,
    generator: Generator,
) -> Result<Secret, CommandError> {
    secrets
        .store()
        .ensure(&SecretName::of_site(purpose, site), generator)
        .map_err(|error| CommandError::from_error(Code::StateDamaged, &error))
}

async fn passwords(secrets: &Secrets, site: &Site) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(auth) = &site.auth else {
        return Ok(None);
    };
    let lines = secrets
        .resolve(auth)
        .await
        .map_err(|error| CommandError::from_error(Code::StateDamaged, &error))?;
    web::passwords(&site.uri, lines.expose())
        .map(Some)
        .map_err(|error| CommandError::from_error(Code::InventoryInvalid, &error))
}

/// The chain and the key that a site is served with as far as they are there, as PEM, and whether
/// they are the administrator's own. Makes none.
pub(crate) async fn certificate_there(
    hub: &Hub,
    site: &Site,
) -> Result<Option<(String, String, bool)>, String> {
    let secrets = Secrets::new(&hub.dir, false);
    let shown = |error: &(dyn std::error::Error + 'static)| crate::codes::error_chain(error);
    if let Some((path, key)) = site.certificate.as_ref().zip(site.key.as_ref()) {
        let chain = text(path.as_path())
            .map_err(|error| format!("{} can't be read: {error}", path.as_path().display()))?;
        let key = secrets.resolve(key).await.map_err(|error| shown(&error))?;
        return Ok(Some((chain, key.expose().to_owned(), true)));
    }
    let made = secrets.store().read(&SecretName::of_site("tls", &site.uri));
    let Some(made) = made.map_err(|error| shown(&error))? else {
        return Ok(None);
    };
    let (chain, key) = made.expose().split_at(key_begins(made.expose()));
    Ok(Some((chain.to_owned(), key.to_owned(), false)))
}

/// Where the key begins in what is kept of a certificate that was made here.
fn key_begins(kept: &str) -> usize {
    kept.find("-----BEGIN PRIVATE KEY-----").unwrap_or(0)
}

/// An administrator's own version of a template.
pub(crate) fn own_template(hub: &Hub, name: &str) -> Option<String> {
    let beside = hub.dir.inventory().parent().unwrap_or(Path::new("."));
    text(&beside.join(TEMPLATES).join(name)).ok()
}

/// The certificate that a site is served with: the administrator's, or one made here once.
async fn of_site(
    hub: &Hub,
    secrets: &Secrets,
    site: &Site,
    notes: &mut Vec<Problem>,
) -> Result<Option<Certificate>, CommandError> {
    if !needs_certificate(&hub.inventory, site) {
        return Ok(None);
    }
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let message = format!("{}: {}", site.uri, crate::codes::error_chain(error));
        CommandError::new(Code::InventoryInvalid, message)
    };
    let own = site.certificate.as_ref().zip(site.key.as_ref());
    let (chain_pem, key_pem) = match own {
        Some((path, key)) => {
            let chain = text(path.as_path()).map_err(|error| failed(&error))?;
            let key = secrets.resolve(key).await.map_err(|error| failed(&error))?;
            (chain, key.expose().to_owned())
        }
        None => {
            let hosts: Vec<&str> = std::iter::once(site.uri.host())
                .chain(site.aliases.iter().map(SiteUri::host))
                .collect();
            let (chain, key) = certificate::self_signed(&hosts).map_err(|error| failed(&error))?;
            let name = SecretName::of_site("tls", &site.uri);
            let made = Secret::new(format!("{chain}{key}"));
            let kept = secrets
                .store()
                .ensure_with(&name, || made)
                .map_err(|error| failed(&error))?;
            let (chain, key) = kept.expose().split_at(key_begins(kept.expose()));
            (chain.to_owned(), key.to_owned())
        }
    };
    let facts = certificate::check(&chain_pem, &key_pem).map_err(|error| failed(&error))?;
    if own.is_some() {
        let left_s = facts.not_after_s - hub.clock.now().0 / 1000;
        if left_s < SOON_S {
            let message = match left_s {
                ..=0 => format!("The certificate of {} has expired", site.uri),
                _ => format!(
                    "The certificate of {} ends in {} days",
                    site.uri,
                    left_s / 86_400
                ),
            };
            notes.push(Problem::new(Code::ConfigWarning, message));
        }
        for host in std::iter::once(&site.uri).chain(&site.aliases) {
            if !facts.covers(host.host()) {
                let message = format!(
                    "The certificate of {} doesn't name {}",
                    site.uri,
                    host.host()
                );
                notes.push(Problem::new(Code::ConfigWarning, message));
            }
        }
    }
    Ok(Some(Certificate {
        chain_pem,
        key_pem,
        is_self_signed: facts.is_self_signed,
    }))
}

/// The regular files of a directory as text, by name; nothing if there is no such directory.
fn files_in(directory: &Path) -> Result<BTreeMap<String, String>, CommandError> {
    let failed = |error: &io::Error| {
        let message = format!("Can't read {}: {error}", directory.display());
        CommandError::new(Code::InventoryInvalid, message)
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') && !name.ends_with('~') {
            files.insert(name, text(&entry.path()).map_err(|error| failed(&error))?);
        }
    }
    Ok(files)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
