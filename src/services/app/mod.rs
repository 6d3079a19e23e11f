//! Applications: what each needs of the web server, of its tree, of its settings and of its
//! members, and when its schema may be updated.
//!
//! A driver knows one application: how to recognise it, which paths belong to the member, which
//! requests are answered by which file, what its settings file holds, and what goes wrong where
//! several members run it. It refuses to write into the user's own files: an application's own
//! settings file includes what fanout renders, by the path in the variable [`SETTINGS_VARIABLE`].
//!
//! Invariant: equal inputs give equal files, so that settings and salts are the same on every
//! member and in every run (T15).

pub mod cron;
mod detect;
mod drupal;
mod mediawiki;
mod paths;
mod php;
mod rules;
pub mod scripts;
mod settings;
mod stubs;
pub mod tools;
mod traps;
pub mod update;
pub mod uploads;
mod wordpress;

pub use detect::{Detected, Files, detect, version};
pub use paths::{UploadPath, preserve, preserve_owned, upload_paths, written_dirs};
pub use rules::{rules, warm_urls};
pub use settings::{SETTINGS_NAME, SiteDatabase, SiteKey, settings, settings_name};
pub use stubs::{MARK, Stub, stubs};
pub use traps::{Trap, TrapKind, traps};

use crate::model::{AppKind, SiteUri};
use sync_proto::path::RelPath;
pub use sync_proto::wire::service::AppDriver;

/// The variable of the pool's and of the command line's environment that holds the path of the
/// site's settings file, as PHP sees it.
pub const SETTINGS_VARIABLE: &str = "FANOUT_SETTINGS";

/// One site as its driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSite {
    /// How it is handled.
    pub driver: AppDriver,
    /// Its address.
    pub uri: SiteUri,
    /// Other host names that it answers to.
    pub aliases: Vec<SiteUri>,
    /// Its own directory, where the application knows several sites.
    pub dir: Option<String>,
    /// Where visitors' requests begin, relative to the tree's root.
    pub docroot: RelPath,
    /// It is served over TLS.
    pub is_tls: bool,
    /// It is served without TLS as well, so what it links to has to follow the request.
    pub is_also_plain: bool,
    /// Its title.
    pub title: Option<String>,
}

impl AppSite {
    /// `https://www.example.com/shop`, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.uri)
    }

    /// The same as a PHP expression, which follows the request where both are served.
    fn url_in_php(&self) -> String {
        match self.is_also_plain {
            false => php::quoted(&self.url()),
            true => format!(
                "(empty($_SERVER['HTTPS']) || $_SERVER['HTTPS'] === 'off' ? 'http' : 'https') . {}",
                php::quoted(&format!("://{}", self.uri))
            ),
        }
    }

    /// The path before every path of the site: `/shop`, or nothing.
    pub fn base_path(&self) -> String {
        match self.uri.subdirectory() {
            Some(below) => format!("/{below}"),
            None => String::new(),
        }
    }

    /// The directory below `sites` of a Drupal site.
    pub fn site_dir(&self) -> &str {
        self.dir.as_deref().unwrap_or("default")
    }

    /// The title, or the address.
    pub fn shown_title(&self) -> &str {
        self.title.as_deref().unwrap_or(self.uri.as_str())
    }
}

/// The driver of an application of the inventory. Drupal is told apart by its files: `detected`.
pub fn driver_of(kind: AppKind, detected: Option<AppDriver>) -> AppDriver {
    match (kind, detected) {
        (AppKind::Drupal, Some(AppDriver::Drupal7)) => AppDriver::Drupal7,
        (AppKind::Drupal, _) => AppDriver::Drupal,
        (AppKind::Wordpress, _) => AppDriver::Wordpress,
        (AppKind::Mediawiki, _) => AppDriver::Mediawiki,
        (AppKind::Php, _) => AppDriver::Php,
        (AppKind::Static, _) => AppDriver::Static,
        (AppKind::Command, _) => AppDriver::Command,
    }
}

/// It has a settings file: its driver renders one, from a database.
pub const fn has_settings(driver: AppDriver, has_database: bool) -> bool {
    needs_php(driver) && has_database
}

/// What people call it.
pub const fn driver_name(driver: AppDriver) -> &'static str {
    match driver {
        AppDriver::Drupal => "Drupal",
        AppDriver::Drupal7 => "Drupal 7",
        AppDriver::Wordpress => "WordPress",
        AppDriver::Mediawiki => "MediaWiki",
        AppDriver::Php => "a PHP application",
        AppDriver::Static => "static files",
        AppDriver::Command => "an application behind commands",
    }
}

/// It has an installer and a database of its own that fanout knows.
pub const fn is_installable(driver: AppDriver) -> bool {
    matches!(
        driver,
        AppDriver::Drupal
            | AppDriver::Drupal7
            | AppDriver::Wordpress
            | AppDriver::Mediawiki
            | AppDriver::Command
    )
}

/// Its pages are made by PHP.
pub const fn needs_php(driver: AppDriver) -> bool {
    !matches!(driver, AppDriver::Static)
}

/// Why an installation can't be taken back, for plans; `None` where nothing is installed.
pub fn why_install_is_final(driver: AppDriver) -> Option<String> {
    is_installable(driver).then(|| {
        format!(
            "the installation of {} writes into the site's database and stays; one that dies \
             halfway is removed by itself",
            driver_name(driver)
        )
    })
}

#[cfg(test)]
pub(crate) fn example(driver: AppDriver) -> AppSite {
    let parse = |text: &str| text.parse::<SiteUri>().expect("an address");
    AppSite {
        driver,
        uri: parse("www.example.com"),
        aliases: vec![parse("example.com")],
        dir: None,
        docroot: RelPath::root(),
        is_tls: true,
        is_also_plain: false,
        title: Some("Ours & theirs' \\ \"site\"".into()),
    }
}
