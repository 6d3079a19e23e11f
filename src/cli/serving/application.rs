//! What a platform's source says about its application, and its sites' applications as members are
//! asked about them.

use super::servers;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::cli::rules;
use crate::codes::{Code, Problem};
use crate::config::{Inventory, Platform, Site};
use crate::fs::Dir;
use crate::fs::read::read_range;
use crate::model::{AppKind, ServerName, Uploads};
use crate::orchestrate::applications::Application;
use crate::orchestrate::desired::app_site;
use crate::orchestrate::servers::Servers;
use crate::services::app::{AppDriver, Files, TrapKind, detect, driver_of, preserve_owned, traps};
use std::sync::Arc;
use sync_proto::filter::{Rules, Side};
use sync_proto::path::RelPath;

/// A platform's source, looked into without scanning it: what a push would publish of it.
pub(crate) struct SourceFiles {
    dir: Dir,
    exclude: Rules,
}

impl SourceFiles {
    /// Opens a platform's source; `None` if it isn't there, or nothing is in it.
    pub(crate) fn published(platform: &Platform) -> Option<Self> {
        let dir = Dir::open_absolute(platform.path.as_path()).ok()?;
        if dir.list().ok()?.is_empty() {
            return None;
        }
        let scope = rules::scope(&platform.exclude, &[]).ok()?;
        Some(Self {
            dir,
            exclude: scope.exclude,
        })
    }
}

impl SourceFiles {
    /// The same with what a push leaves out.
    fn with_excluded(self) -> Self {
        Self {
            exclude: Rules::default(),
            ..self
        }
    }
}

impl Files for SourceFiles {
    fn head(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>> {
        let path = RelPath::parse(path.as_bytes()).ok()?;
        if self
            .exclude
            .decide_deep(Side::Sender, &path, false)
            .is_excluded()
        {
            return None;
        }
        let (dir, name) = self.dir.open_parent_at(&path).ok()??;
        let file = dir.open_file_quietly(&name).ok()?.0;
        read_range(&file, 0, limit_bytes).ok()
    }
}

/// How a platform's application is handled; Drupal's versions are told apart by its source.
pub(crate) fn driver(platform: &Platform) -> AppDriver {
    let kind = platform.app.unwrap_or(AppKind::Php);
    let detected = match kind {
        AppKind::Drupal => SourceFiles::published(platform)
            .and_then(|files| detect(&files))
            .map(|detected| detected.driver),
        _ => None,
    };
    driver_of(kind, detected)
}

/// The preserve rules that the application brings: what its sites write, and its settings file where
/// the source has none. Where the source can't be seen, nothing is said about it: a rule too many
/// would stay.
pub(crate) fn preserve(inventory: &Inventory, platform: &Platform) -> Vec<String> {
    match (platform.app, SourceFiles::published(platform)) {
        (Some(_), Some(files)) => {
            // What is excluded belongs to the member anyway.
            let whole = files.with_excluded();
            let sites = inventory.sites.values();
            let sites = sites.filter(|site| site.platform == platform.name);
            let dirs: Vec<&str> = sites.filter_map(|site| site.dir.as_deref()).collect();
            preserve_owned(driver(platform), &platform.docroot, &whole, &dirs)
        }
        _ => Vec::new(),
    }
}

/// What would go wrong where several members run the platforms' applications: refused where it loses
/// something.
pub(super) fn look_for_traps(hub: &Hub) -> Result<Vec<Problem>, CommandError> {
    let mut notes = Vec::new();
    for site in hub.inventory.sites.values() {
        let Some(platform) = hub.inventory.platforms.get(&site.platform) else {
            continue;
        };
        let Some(files) = SourceFiles::published(platform) else {
            continue;
        };
        let app = app_site(site, platform, driver(platform));
        let members = hub.inventory.members_of_site(site).len();
        let writes_meet = matches!(site.uploads, Some(Uploads::Pin(_)));
        for trap in traps(&app, &files, members, writes_meet) {
            // Without a database of ours there are no settings to include.
            if trap.what == TrapKind::NotIncluded && site.db.is_none() {
                continue;
            }
            let code = match trap.what {
                TrapKind::NotIncluded => Code::SettingsNotIncluded,
                TrapKind::Shared => Code::AppTrap,
            };
            let problem = Problem::new(code, format!("{}: {}", site.uri, trap.message));
            let problem = problem.with_hint(trap.hint);
            match trap.refuses {
                true => return Err(problem.into()),
                false => notes.push(problem),
            }
        }
    }
    Ok(notes)
}

/// The version of the application that a platform's source holds; empty if that can't be told.
pub(crate) fn source_version(platform: &Platform) -> String {
    let docroot = String::from_utf8_lossy(platform.docroot.as_bytes()).into_owned();
    SourceFiles::published(platform)
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
