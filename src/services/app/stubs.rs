//! The files that lead an application to its settings, for a source that has none. They hold no
//! secret, are the same on every member and belong to the member, where a push doesn't touch them.

use super::paths::docroot;
use super::{AppDriver, AppSite, SETTINGS_VARIABLE};
use crate::services::app::php::quoted;

/// In the first lines of every such file. A file without it is somebody else's and stays as it is.
pub const MARK: &str = "Put here by fanout";

/// One such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Where, relative to the tree's root.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// It includes the settings file.
    pub includes: bool,
}

/// The files that a site needs. `hosts` are the hosts of all sites of its platform, each with the
/// site's directory.
pub fn stubs(site: &AppSite, hosts: &[(String, String)]) -> Vec<Stub> {
    let docroot = docroot(&site.docroot);
    let stub = |path: &str, body: &str, includes| Stub {
        path: super::detect::below(&docroot, path),
        text: format!(
            "<?php\n// {MARK}, because the platform's source has no such file. To have one of your \
             own, put it\n// into the source, with the line that includes the settings.\n\n{body}"
        ),
        includes,
    };
    let include = include();
    match site.driver {
        AppDriver::Wordpress => {
            let body = format!("{include}\nrequire_once ABSPATH . 'wp-settings.php';\n");
            vec![stub("wp-config.php", &body, true)]
        }
        AppDriver::Mediawiki => {
            let body = format!(
                "if (!defined('MEDIAWIKI')) {{\n    exit;\n}}\n{include}\n\
                 foreach (['Vector', 'MonoBook', 'Timeless', 'MinervaNeue'] as $fanoutSkin) {{\n    \
                 if (is_file(\"$IP/skins/$fanoutSkin/skin.json\")) {{\n        \
                 wfLoadSkin($fanoutSkin);\n    }}\n}}\n"
            );
            vec![stub("LocalSettings.php", &body, true)]
        }
        AppDriver::Drupal | AppDriver::Drupal7 => {
            let settings = format!("sites/{}/settings.php", site.site_dir());
            let mut files = vec![stub(&settings, &include, true)];
            if !hosts.is_empty() {
                let lines = hosts
                    .iter()
                    .map(|(host, dir)| format!("$sites[{}] = {};\n", quoted(host), quoted(dir)));
                files.push(stub("sites/sites.php", &lines.collect::<String>(), false));
            }
            files
        }
        AppDriver::Php | AppDriver::Static | AppDriver::Command => Vec::new(),
    }
}

/// What includes the settings, and what a visitor sees where there are none.
pub(super) fn include() -> String {
    format!(
        "if (!is_readable((string) getenv('{SETTINGS_VARIABLE}'))) {{\n    http_response_code(503);\n    \
         exit('This site has no settings here.');\n}}\n{}\n",
        include_line()
    )
}

/// The line that a settings file of the user's own must have.
pub(super) fn include_line() -> String {
    format!("require getenv('{SETTINGS_VARIABLE}');")
}
