//! MediaWiki: settings.

use super::php::quoted;
use super::{AppSite, SiteDatabase, SiteKey};
use std::fmt::Write as _;

pub(super) fn settings(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let scheme = if site.is_tls { "https" } else { "http" };
    let server = format!("{scheme}://{}", site.uri.host());
    let secret = key.hex("wgSecretKey");
    let upgrade = key.hex("wgUpgradeKey");
    let mut text = String::new();
    for (name, value) in [
        ("wgSitename", site.shown_title()),
        ("wgServer", &server),
        ("wgCanonicalServer", &server),
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
