//! What a web server must know about an application: which requests PHP answers, what is never
//! served, and what the pool gets.

use super::{AppDriver, AppSite, SETTINGS_NAME, SETTINGS_VARIABLE};
use crate::services::web::{AppRules, Pattern, Plain, Quoted, Scripts, TextError, settings_path};
use sync_proto::wire::service::ServiceFacts;

/// How long browsers may keep style sheets, scripts and images, in seconds.
const STATIC_MAX_AGE_S: u32 = 86_400;

/// Never served, whatever the application: left-overs of editors, and dumps.
const DENY_ALWAYS: [&str; 1] = [r"\.(bak|orig|save|swp|swo|sql|sql\.gz|dist)$|~$"];

/// An application's demands, as text.
struct Demands {
    scripts: Option<&'static [&'static str]>,
    front: Option<&'static str>,
    no_scripts: &'static [&'static str],
    private: &'static [&'static str],
    deny: &'static [&'static str],
}

/// The rules of a site's application on a server that reported these facts. The pool gets the path
/// of the site's settings file there, if it has one.
///
/// # Errors
/// The path of that server's settings holds something that can't stand in a configuration file.
pub fn rules(
    site: &AppSite,
    facts: &ServiceFacts,
    has_settings: bool,
) -> Result<AppRules, TextError> {
    let demands = demands(site.driver);
    let plain = |what: &str, texts: &[&str]| -> Result<Vec<Plain>, TextError> {
        texts.iter().map(|text| Plain::parse(what, text)).collect()
    };
    let quoted = |what: &str, texts: &[&str]| -> Result<Vec<Quoted>, TextError> {
        texts.iter().map(|text| Quoted::parse(what, text)).collect()
    };
    let deny = DENY_ALWAYS.iter().chain(demands.deny);
    let mut env = Vec::new();
    if has_settings {
        let path = settings_path(facts, &site.uri, SETTINGS_NAME);
        env.push((
            Plain::parse("a variable", SETTINGS_VARIABLE)?,
            Quoted::parse("the path of the settings", &path)?,
        ));
    }
    Ok(AppRules {
        scripts: match (site.driver, demands.scripts) {
            (AppDriver::Static, _) => Scripts::None,
            (_, None) => Scripts::Any,
            (_, Some(only)) => Scripts::Only(plain("a script", only)?),
        },
        front: demands
            .front
            .map(|front| Plain::parse("the front controller", front))
            .transpose()?,
        deny: deny
            .map(|text| Pattern::parse(text))
            .collect::<Result<_, _>>()?,
        no_scripts: quoted("a directory", demands.no_scripts)?,
        private: quoted("a directory", demands.private)?,
        env,
        php_admin: Vec::new(),
        static_max_age_s: STATIC_MAX_AGE_S,
    })
}

fn demands(driver: AppDriver) -> Demands {
    let none = Demands {
        scripts: None,
        front: None,
        no_scripts: &[],
        private: &[],
        deny: &[],
    };
    match driver {
        AppDriver::Wordpress => Demands {
            front: Some("/index.php"),
            no_scripts: &["/wp-content/uploads/", "/wp-content/cache/"],
            deny: &[
                r"^/wp-config(-sample)?\.php$",
                r"^/wp-admin/(install|setup-config)\.php$",
                r"^/wp-(admin/includes|includes/theme-compat)/",
                r"^/wp-includes/[^/]+\.php$",
                r"^/wp-cron\.php$",
                r"^/(readme|license|licencia|licenza|lizenz)[^/]*\.(html|txt)$",
                r"^/wp-content/(debug\.log|upgrade/)",
                r"(^|/)composer\.(json|lock)$",
            ],
            ..none
        },
        AppDriver::Mediawiki => Demands {
            scripts: Some(&[
                "/index.php",
                "/api.php",
                "/load.php",
                "/rest.php",
                "/thumb.php",
                "/thumb_handler.php",
                "/img_auth.php",
                "/opensearch_desc.php",
            ]),
            no_scripts: &["/images/", "/cache/"],
            deny: &[
                r"^/(cache|includes|languages|maintenance|mw-config|config|serialized|tests|vendor|docs)(/|$)",
                r"^/images/(deleted|lockdir|tmp|temp)(/|$)",
                r"^/LocalSettings\.php$",
                r"(^|/)composer(\.local)?\.(json|lock)(-sample)?$",
                r"^/(extensions|skins)/.*\.(php|sql|md|sh)$",
            ],
            ..none
        },
        AppDriver::Drupal => Demands {
            scripts: Some(&["/index.php", "/core/modules/statistics/statistics.php"]),
            ..drupal(none)
        },
        AppDriver::Drupal7 => Demands {
            scripts: Some(&["/index.php"]),
            ..drupal(none)
        },
        AppDriver::Php | AppDriver::Command => Demands {
            front: Some("/index.php"),
            deny: &[r"(^|/)composer\.(json|lock)$", r"^/vendor(/|$)"],
            ..none
        },
        AppDriver::Static => Demands {
            deny: &[r"\.php$"],
            ..none
        },
    }
}

fn drupal(none: Demands) -> Demands {
    Demands {
        front: Some("/index.php"),
        no_scripts: &["/sites/"],
        deny: &[
            r"\.(engine|inc|install|make|module|profile|po|sh|theme|twig|tpl(\.php)?|xtmpl|yml|yaml)$",
            r"(^|/)(composer|package)(-lock)?\.(json|lock)$|(^|/)web\.config$",
            r"^/sites/[^/]+/private(/|$)",
            r"^/sites/[^/]+/files/(config_|php/|.*\.php$)",
            r"^/sites/[^/]+/settings[^/]*\.php$",
            r"^/(core/)?(install|update|cron|authorize|rebuild)\.php$",
            r"^/(vendor|scripts|core/scripts)(/|$)",
            r"^/(CHANGELOG|COPYRIGHT|INSTALL|LICENSE|MAINTAINERS|README|UPGRADE|UPDATE)[^/]*\.(txt|md)$",
        ],
        ..none
    }
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
    fn the_rules_of_every_application_can_stand_in_a_configuration_file() {
        let facts = ServiceFacts {
            config_root: b"/etc/fanout/current".to_vec(),
            ..ServiceFacts::default()
        };
        for driver in [
            AppDriver::Drupal,
            AppDriver::Drupal7,
            AppDriver::Wordpress,
            AppDriver::Mediawiki,
            AppDriver::Php,
            AppDriver::Static,
            AppDriver::Command,
        ] {
            let rules = rules(&example(driver), &facts, true).unwrap();
            assert_eq!(
                rules.env[0].1.as_str(),
                "/etc/fanout/current/settings/www.example.com.settings.php"
            );
            assert_eq!(rules.has_scripts(), driver != AppDriver::Static);
        }
    }
}
