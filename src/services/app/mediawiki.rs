//! MediaWiki: settings.

use super::php::quoted;
use super::{AppSite, SiteDatabase, SiteKey};
use std::fmt::Write as _;

pub(super) fn settings(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let scheme = if site.is_tls { "https" } else { "http" };
    let canonical = format!("{scheme}://{}", site.uri.host());
    // Without a scheme, links follow the request.
    let server = match site.is_also_plain {
        true => format!("//{}", site.uri.host()),
        false => canonical.clone(),
    };
    let secret = key.hex("wgSecretKey");
    let upgrade = key.hex("wgUpgradeKey");
    let mut text = String::new();
    for (name, value) in [
        ("wgSitename", site.shown_title()),
        ("wgServer", &server),
        ("wgCanonicalServer", &canonical),
        ("wgScriptPath", &site.base_path()),
        ("wgDBtype", "mysql"),
        ("wgDBserver", &database.authority()),
        ("wgDBname", &database.name),
        ("wgDBuser", &database.user),
        ("wgDBpassword", &database.password),
        ("wgDBTableOptions", "ENGINE=InnoDB, DEFAULT CHARSET=binary"),
        ("wgSecretKey", &secret),
        ("wgUpgradeKey", upgrade.get(..16).unwrap_or(&upgrade)),
        ("wgAuthenticationTokenVersion", "1"),
    ] {
        // Writing to a string can't fail.
        let _infallible = writeln!(text, "${name} = {};", quoted(value));
    }
    // A cache in one member's memory would log people out wherever the next request goes.
    text + "$wgUsePathInfo = false;\n\
            $wgEnableUploads = true;\n\
            $wgShowExceptionDetails = false;\n\
            \n\
            // What is remembered is remembered for all members, in the database: 1 is CACHE_DB.\n\
            $wgMainCacheType = 1;\n\
            $wgMessageCacheType = 1;\n\
            $wgParserCacheType = 1;\n\
            $wgSessionCacheType = 1;\n\
            \n\
            // One member runs the jobs, by the clock.\n\
            $wgJobRunRate = 0;\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::app::settings::tests::database;
    use crate::services::app::{AppDriver, example};

    #[test]
    fn links_follow_the_request_where_both_schemes_are_served() {
        let mut site = example(AppDriver::Mediawiki);
        let of = |site: &AppSite| settings(site, &database(), &SiteKey::of_secret("x"));
        let server = "$wgServer = 'https://www.example.com';";
        assert!(of(&site).contains(server));
        site.is_also_plain = true;
        let both = of(&site);
        assert!(both.contains("$wgServer = '//www.example.com';"), "{both}");
        assert!(both.contains("$wgCanonicalServer = 'https://www.example.com';"));
        site.driver = AppDriver::Wordpress;
        let both =
            crate::services::app::settings(&site, Some(&database()), &SiteKey::of_secret("x"));
        let both = both.unwrap();
        let home = "define('WP_HOME', (empty($_SERVER['HTTPS']) || $_SERVER['HTTPS'] === 'off' ? \
                    'http' : 'https') . '://www.example.com');";
        assert!(both.contains(home), "{both}");
    }
}
