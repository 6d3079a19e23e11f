//! What a platform's source says about its application, and its sites' applications as members are
//! asked about them.

use super::servers;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::config::{Platform, Site};
use crate::fs::Dir;
use crate::fs::read::read_range;
use crate::model::{AppKind, ServerName, Uploads};
use crate::orchestrate::applications::Application;
use crate::orchestrate::servers::Servers;
use crate::services::app::{AppDriver, Files, detect, driver_of, preserve_owned};
use std::path::Path;
use std::sync::Arc;
use sync_proto::path::RelPath;

/// A platform's source, looked into without scanning it.
pub(crate) struct SourceFiles(Dir);

impl SourceFiles {
    /// Opens a source; `None` if it isn't there.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        Dir::open_absolute(path).ok().map(Self)
    }

    /// Nothing is in it, or it can't be listed.
    fn is_empty(&self) -> bool {
        self.0.list().map_or(true, |names| names.is_empty())
    }
}

impl Files for SourceFiles {
    fn head(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>> {
        let path = RelPath::parse(path.as_bytes()).ok()?;
        let (dir, name) = self.0.open_parent_at(&path).ok()??;
        let file = dir.open_file_quietly(&name).ok()?.0;
        read_range(&file, 0, limit_bytes).ok()
    }
}

/// How a platform's application is handled; Drupal's versions are told apart by its source.
pub(crate) fn driver(platform: &Platform) -> AppDriver {
    let kind = platform.app.unwrap_or(AppKind::Php);
    let detected = match kind {
        AppKind::Drupal => SourceFiles::open(platform.path.as_path())
            .and_then(|files| detect(&files))
            .map(|detected| detected.driver),
        _ => None,
    };
    driver_of(kind, detected)
}

/// The preserve rules that the application brings: what its sites write, and its settings file where
/// the source has none. Where the source can't be seen, nothing is said about it: a rule too many
/// would stay.
pub(crate) fn preserve(platform: &Platform) -> Vec<String> {
    let Some(files) = SourceFiles::open(platform.path.as_path()) else {
        return Vec::new();
    };
    // A source that isn't there yet, or is being built.
    if platform.app.is_none() || files.is_empty() {
        return Vec::new();
    }
    preserve_owned(driver(platform), &platform.docroot, &files)
}

/// The version of the application that a platform's source holds; empty if that can't be told.
pub(crate) fn source_version(platform: &Platform) -> String {
    let docroot = String::from_utf8_lossy(platform.docroot.as_bytes()).into_owned();
    SourceFiles::open(platform.path.as_path())
        .and_then(|files| crate::services::app::version(driver(platform), &docroot, &files))
        .unwrap_or_default()
}

/// A site with its platform, its application, and the members that may work on it: those at the
/// desired generation, the one that its uploads are pinned to first.
pub(crate) struct OneSite<'a> {
    pub(crate) site: &'a Site,
    pub(crate) platform: &'a Platform,
    pub(crate) app: Application,
    pub(crate) members: Vec<ServerName>,
}

/// A site of the inventory, as its members are asked about it.
pub(crate) async fn one<'a>(
    hub: &'a Hub,
    servers: &Arc<Servers>,
    uri: &str,
) -> Result<OneSite<'a>, CommandError> {
    let site = hub.inventory.site(uri).map_err(config_error)?;
    let platform = hub
        .inventory
        .platform(site.platform.as_str())
        .map_err(config_error)?;
    let state = hub.state(&platform.name).await?;
    let known = hub.store.members(&platform.name).await;
    let known = known.map_err(store_error)?;
    let is_current = |name: &ServerName| {
        let of_it = known.iter().find(|member| member.server == *name);
        of_it.is_some_and(|member| member.serial == state.desired)
    };
    let names = hub.inventory.members_of_site(site).into_iter();
    let names = names.filter(|server| server.web.is_some());
    let names: Vec<ServerName> = names.map(|server| server.name.clone()).collect();
    let mut members: Vec<ServerName> = names.iter().filter(|it| is_current(it)).cloned().collect();
    if let Some(Uploads::Pin(pinned)) = &site.uploads {
        members.sort_by_key(|name| name != pinned);
    }
    let tree = *state.tree.as_bytes();
    let app = Application::new(servers.clone(), site, platform, tree, driver(platform));
    Ok(OneSite {
        site,
        platform,
        app,
        members,
    })
}

/// Ways to all servers.
pub(crate) async fn all_servers(hub: &Hub) -> Result<Arc<Servers>, CommandError> {
    servers(hub, hub.inventory.servers.keys().cloned()).await
}
