//! WordPress: settings.

use super::php::{constant, quoted};
use super::{AppSite, SiteDatabase, SiteKey};

/// The constants that WordPress signs cookies and nonces with.
const SALTS: [&str; 8] = [
    "AUTH_KEY",
    "SECURE_AUTH_KEY",
    "LOGGED_IN_KEY",
    "NONCE_KEY",
    "AUTH_SALT",
    "SECURE_AUTH_SALT",
    "LOGGED_IN_SALT",
    "NONCE_SALT",
];

pub(super) fn settings(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("DB_NAME", database.name.as_str()),
        ("DB_USER", &database.user),
        ("DB_PASSWORD", &database.password),
        ("DB_HOST", &database.authority()),
        ("DB_CHARSET", "utf8mb4"),
        ("DB_COLLATE", ""),
    ] {
        text += &constant(name, &quoted(value));
    }
    for name in SALTS {
        text += &constant(name, &quoted(&key.hex(name)));
    }
    for name in ["WP_HOME", "WP_SITEURL"] {
        text += &constant(name, &site.url_in_php());
    }
    if let Some(dir) = &site.dir {
        text += &constant("UPLOADS", &quoted(&format!("wp-content/uploads/{dir}")));
    }
    text += "\n// One member runs what is due, and code comes by a push: a plugin that is installed\n\
             // in the browser would be on one member only.\n";
    for name in [
        "DISABLE_WP_CRON",
        "DISALLOW_FILE_MODS",
        "AUTOMATIC_UPDATER_DISABLED",
    ] {
        text += &constant(name, "true");
    }
    text += &constant("WP_AUTO_UPDATE_CORE", "false");
    text += "\n// The prefix of the tables, unless the file that includes this one says another.\n\
             if (!isset($table_prefix)) {\n    $table_prefix = 'wp_';\n}\n";
    text
}
