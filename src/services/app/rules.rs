//! What a web server must know about an application: which requests PHP answers, what is never
//! served, and what the pool gets.

use super::{AppDriver, AppSite, needs_php, settings_name};

/// Which files PHP is run for. All others of that kind are not found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PhpFiles {
    /// None.
    #[default]
    None,
    /// These paths, as requests name them, such as `/index.php`.
    Only(Vec<String>),
    /// Every one that is there and isn't denied.
    Any,
}

/// The rules of an application, for the web servers that render them. Paths are those of requests
/// and begin with a slash; for a site in a subdirectory they are meant below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppRules {
    /// The file in the area of settings whose path the pool gets in
    /// [`SETTINGS_VARIABLE`](super::SETTINGS_VARIABLE).
    pub settings: Option<String>,
    /// What PHP is run for.
    pub php: PhpFiles,
    /// Files among them that take a path after their name, such as `/rest.php`.
    pub path_info: Vec<String>,
    /// The file that answers where nothing else is there, with the request's own query.
    pub front_controller: Option<String>,
    /// Regular expressions (PCRE, case-insensitive) of paths that are never served: not found.
    /// Without quotes, braces, blanks and semicolons.
    pub deny: Vec<String>,
    /// Directories below which PHP is never run: whatever a visitor uploaded there is a file.
    pub no_php: Vec<String>,
    /// Endings of files that browsers may keep.
    pub assets: Vec<String>,
}

/// What a browser may keep for a while, without dots.
const ASSETS: [&str; 18] = [
    "css", "js", "mjs", "png", "jpg", "jpeg", "gif", "webp", "avif", "svg", "ico", "woff", "woff2",
    "ttf", "otf", "mp4", "webm", "pdf",
];

/// Never served, whatever the application: hidden files (those of `.well-known` excepted),
/// left-overs of editors, and dumps.
const DENY_ALWAYS: [&str; 2] = [
    r"(^|/)\.(?!well-known(/|$))",
    r"\.(bak|orig|save|swp|swo|sql|sql\.gz|dist)$|~$",
];

/// The rules of a site's application.
pub fn rules(site: &AppSite) -> AppRules {
    let own = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    let mut rules = AppRules {
        settings: needs_php(site.driver).then(|| settings_name(&site.uri)),
        deny: own(&DENY_ALWAYS),
        assets: own(&ASSETS),
        ..AppRules::default()
    };
    let deny: &[&str] = match site.driver {
        AppDriver::Wordpress => {
            rules.php = PhpFiles::Any;
            rules.front_controller = Some("/index.php".into());
            rules.no_php = own(&["/wp-content/uploads", "/wp-content/cache"]);
            &[
                r"^/wp-config(-sample)?\.php$",
                r"^/wp-admin/(install|setup-config)\.php$",
                r"^/wp-(admin/includes|includes/(theme-compat|js/tinymce/langs))/",
                r"^/wp-includes/[^/]+\.php$",
                r"^/wp-cron\.php$",
                r"^/(readme|license|licencia|licenza|lizenz)[^/]*\.(html|txt)$",
                r"^/wp-content/(debug\.log|upgrade/)",
                r"(^|/)composer\.(json|lock)$",
            ]
        }
        AppDriver::Mediawiki => {
            rules.php = PhpFiles::Only(own(&[
                "/index.php",
                "/api.php",
                "/load.php",
                "/rest.php",
                "/thumb.php",
                "/thumb_handler.php",
                "/img_auth.php",
                "/opensearch_desc.php",
            ]));
            rules.path_info = own(&["/rest.php", "/img_auth.php", "/index.php"]);
            rules.no_php = own(&["/images", "/cache"]);
            &[
                r"^/(cache|includes|languages|maintenance|mw-config|config|serialized|tests|vendor|docs)(/|$)",
                r"^/images/(deleted|lockdir|tmp|temp)(/|$)",
                r"^/LocalSettings\.php$",
                r"(^|/)composer(\.local)?\.(json|lock)(-sample)?$",
                r"^/(extensions|skins)/.*\.(php|sql|md|sh)$",
            ]
        }
        AppDriver::Drupal | AppDriver::Drupal7 => {
            let mut php = own(&["/index.php"]);
            if site.driver == AppDriver::Drupal {
                php.push("/core/modules/statistics/statistics.php".to_owned());
            }
            rules.php = PhpFiles::Only(php);
            rules.front_controller = Some("/index.php".into());
            rules.no_php = own(&["/sites"]);
            &[
                r"\.(engine|inc|install|make|module|profile|po|sh|theme|twig|tpl(\.php)?|xtmpl|yml|yaml)$",
                r"(^|/)(composer|package)(-lock)?\.(json|lock)$|(^|/)web\.config$",
                r"^/sites/[^/]+/private(/|$)",
                r"^/sites/[^/]+/files/(config_|php/|.*\.php$)",
                r"^/sites/[^/]+/settings[^/]*\.php$",
                r"^/(core/)?(install|update|cron|authorize|rebuild)\.php$",
                r"^/(vendor|scripts|core/scripts)(/|$)",
                r"^/(CHANGELOG|COPYRIGHT|INSTALL|LICENSE|MAINTAINERS|README|UPGRADE|UPDATE)[^/]*\.(txt|md)$",
            ]
        }
        AppDriver::Php | AppDriver::Command => {
            rules.php = PhpFiles::Any;
            rules.front_controller = Some("/index.php".into());
            &[r"(^|/)composer\.(json|lock)$", r"^/vendor(/|$)"]
        }
        AppDriver::Static => &[r"\.php$"],
    };
    rules.deny.extend(deny.iter().map(|&path| path.to_owned()));
    rules
}

/// Requests that fill a member's caches before visitors come, relative to the site's address. The
/// first is its front page, which must answer.
pub fn warm_urls(site: &AppSite) -> Vec<String> {
    let paths: &[&str] = match site.driver {
        AppDriver::Wordpress => &["/", "/wp-login.php", "/feed/"],
        AppDriver::Mediawiki => &["/index.php", "/load.php?modules=startup&only=scripts"],
        AppDriver::Drupal | AppDriver::Drupal7 => &["/", "/user/login"],
        AppDriver::Php | AppDriver::Static | AppDriver::Command => &["/"],
    };
    paths.iter().map(|&path| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::app::example;

    #[test]
    fn nothing_in_a_rule_can_break_out_of_a_configuration_file() {
        for driver in [
            AppDriver::Drupal,
            AppDriver::Drupal7,
            AppDriver::Wordpress,
            AppDriver::Mediawiki,
            AppDriver::Php,
            AppDriver::Static,
            AppDriver::Command,
        ] {
            let rules = rules(&example(driver));
            let all = rules.deny.iter().chain(&rules.no_php);
            let all = all.chain(&rules.path_info).chain(&rules.assets);
            for text in all.chain(&rules.front_controller) {
                let is_safe = |c: char| c.is_ascii_graphic() && !"\"'{};#`".contains(c);
                assert!(text.chars().all(is_safe), "{driver:?}: {text}");
            }
        }
    }
}
