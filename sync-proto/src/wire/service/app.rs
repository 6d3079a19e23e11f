//! What a hub asks of a site's application: to be installed, updated, checked, run by the clock.
//!
//! A site is named by its tree, its directory and its driver; what runs is a script that is built
//! into the agent, as the site's own system user. Secrets come from the site's settings file, which
//! the live configuration set holds; only the first administrator's password travels here, once.

use super::super::TreeKey;
use serde::{Deserialize, Serialize};

/// How an application is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AppDriver {
    /// Drupal 8 and later.
    Drupal,
    /// Drupal 7.
    Drupal7,
    /// WordPress.
    Wordpress,
    /// MediaWiki.
    Mediawiki,
    /// PHP without an installer.
    Php,
    /// Files only.
    Static,
    /// Through commands that the member's administrator named.
    Command,
}

/// One site on a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTarget {
    /// How it is handled.
    pub driver: AppDriver,
    /// The tree that it runs from.
    pub tree: TreeKey,
    /// Where visitors' requests begin, relative to the tree's root.
    pub docroot: Vec<u8>,
    /// Its address: a host name and perhaps one path component.
    pub site: String,
    /// Its own directory, where the application knows several sites; else empty.
    pub dir: String,
    /// It is served over TLS.
    pub is_tls: bool,
    /// The system user that it runs as. Never root.
    pub user: String,
    /// The version of PHP, such as `8.2`; empty: the only one.
    pub php: String,
    /// The file in [`ConfigArea::Settings`](super::ConfigArea::Settings) with its secrets; empty if
    /// it has none.
    pub settings: String,
}

/// What to do with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppAction {
    /// What is there; changes nothing.
    Look,
    /// Put the files into place that lead the application to its settings, and make the directories
    /// that it writes into. Files of somebody else stay as they are.
    Prepare {
        /// Every host of the platform with the directory of its site, where the application has a
        /// list of them.
        hosts: Vec<(String, String)>,
        /// The absolute path of the share that its uploads lie on; empty: on this server's own disk.
        share: Vec<u8>,
    },
    /// Can it run here? Changes nothing.
    Requirements,
    /// Install it, unless it is.
    Install(AppInstall),
    /// Bring the schema of its database to its code.
    Update,
    /// Its periodic work.
    Cron,
    /// Its own maintenance mode.
    Maintenance {
        /// On or off.
        on: bool,
    },
    /// Let go of what it remembers.
    ClearCaches,
    /// An address that logs somebody in, once.
    LoginLink {
        /// Who; empty: the first administrator.
        user: String,
    },
}

impl std::fmt::Debug for AppAction {
    // An installation carries a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl AppAction {
    /// Its name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Prepare { .. } => "prepare",
            Self::Requirements => "requirements",
            Self::Install(_) => "install",
            Self::Update => "update",
            Self::Cron => "cron",
            Self::Maintenance { .. } => "maintenance",
            Self::ClearCaches => "clear caches",
            Self::LoginLink { .. } => "login link",
        }
    }
}

/// What an installation is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppInstall {
    /// The site's title.
    pub title: String,
    /// The first administrator's name.
    pub admin: String,
    /// The first administrator's mail address.
    pub mail: String,
    /// The first administrator's password.
    pub password: String,
    /// The installation profile, where the application has some; empty: its usual one.
    pub profile: String,
}

impl std::fmt::Debug for AppInstall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppInstall")
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

/// A request about an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRequest {
    /// Which site.
    pub target: AppTarget,
    /// What to do.
    pub action: AppAction,
    /// LIMIT: it is ended after so many seconds.
    pub limit_s: u32,
}

/// The answer to an [`AppRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppAnswer {
    /// To Look.
    State(AppState),
    /// To Requirements: what is missing; nothing if it can run.
    Missing(Vec<String>),
    /// To everything that changes something.
    Done(AppDone),
    /// To LoginLink.
    Link(String),
}

/// What is there of a site's application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// The version of its code; empty if that can't be told.
    pub version: String,
    /// What leads it to its settings.
    pub settings: AppSettings,
    /// Its database holds an installation. `None`: it couldn't be asked.
    pub is_installed: Option<bool>,
    /// Schema updates that wait, in its own words.
    pub pending: Vec<String>,
    /// It is in its own maintenance mode.
    pub is_in_maintenance: bool,
    /// An installation died halfway and what it left was not removed yet.
    pub is_half_installed: bool,
    /// Files and directories that a preparation would make.
    pub unprepared: Vec<String>,
    /// Its own tool that is used for what that can do, such as `wp-cli 2.12.0`; empty: none.
    pub tool: String,
    /// What else should be known, one sentence each.
    pub warnings: Vec<String>,
}

/// What leads an application to its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppSettings {
    /// It needs none.
    #[default]
    Unneeded,
    /// There is nothing.
    Absent,
    /// The file that fanout put there.
    Ours,
    /// Somebody else's file, which includes the settings.
    Including,
    /// Somebody else's file, which doesn't.
    Foreign,
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDone {
    /// Something was changed.
    pub changed: bool,
    /// What came of it, in a few words.
    pub message: String,
    /// The end of what the application said.
    pub output: String,
}
