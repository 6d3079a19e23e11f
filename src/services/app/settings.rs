//! The one settings file of a site: database, salts and what many members need, as PHP that the
//! application's own settings file includes.

use super::{AppDriver, AppSite, drupal, mediawiki, wordpress};
use crate::model::SiteUri;
use crate::services::app::php::quoted;
use std::fmt;

/// What a site's salts and keys are made from: one secret, made once and kept in the hub's store.
/// Everything else is derived, so it is the same on all members and in every run.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey([u8; 32]);

impl SiteKey {
    /// The key behind a secret of the hub's store.
    pub fn of_secret(secret: &str) -> Self {
        Self(blake3::derive_key(
            "fanout 2026-11 application key of a site",
            secret.as_bytes(),
        ))
    }

    /// Bytes for one purpose; of two purposes, neither says anything about the other.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, purpose.as_bytes()).as_bytes()
    }

    /// As hexadecimal digits.
    pub(super) fn hex(&self, purpose: &str) -> String {
        super::php::hex(&self.derive(purpose))
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteKey")
    }
}

/// A site's database as its members reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteDatabase {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The site's account.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for SiteDatabase {
    // The password never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteDatabase")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("name", &self.name)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl SiteDatabase {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The name of the settings file among those of its site.
pub const SETTINGS_NAME: &str = "settings.php";

/// The name of a site's settings file in its area of the configuration set.
pub fn settings_name(uri: &SiteUri) -> String {
    format!("{}.{SETTINGS_NAME}", uri.file_name())
}

/// What the settings file holds; `None` for an application that has none.
pub fn settings(site: &AppSite, database: Option<&SiteDatabase>, key: &SiteKey) -> Option<String> {
    let body = match (site.driver, database) {
        (AppDriver::Wordpress, Some(database)) => wordpress::settings(site, database, key),
        (AppDriver::Mediawiki, Some(database)) => mediawiki::settings(site, database, key),
        (AppDriver::Drupal, Some(database)) => drupal::settings(site, database, key),
        (AppDriver::Drupal7, Some(database)) => drupal::settings_7(site, database, key),
        (AppDriver::Php | AppDriver::Command, Some(database)) => variables(site, database, key),
        (AppDriver::Static, _) | (_, None) => return None,
    };
    Some(format!(
        "<?php\n// Settings of {}, written by fanout: edits are lost. They belong into the \
         application's\n// own settings file, after the line that includes this one.\n\n{body}",
        site.uri
    ))
}

/// For an application that fanout knows nothing about: one array.
fn variables(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let SiteDatabase {
        host,
        port,
        name,
        user,
        password,
    } = database;
    format!(
        "return [\n    'url' => {},\n    'secret' => {},\n    'database' => [\n        'host' => {},\n        \
         'port' => {port},\n        'name' => {},\n        'user' => {},\n        'password' => {},\n    ],\n];\n",
        quoted(&site.url()),
        quoted(&key.hex("secret")),
        quoted(host),
        quoted(name),
        quoted(user),
        quoted(password),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::services::app::example;

    pub(crate) fn database() -> SiteDatabase {
        SiteDatabase {
            host: "10.0.0.30".into(),
            port: 3306,
            name: "shop".into(),
            user: "shop".into(),
            password: "p'a\\ss\"$x".into(),
        }
    }

    const DRIVERS: [AppDriver; 6] = [
        AppDriver::Wordpress,
        AppDriver::Mediawiki,
        AppDriver::Drupal,
        AppDriver::Drupal7,
        AppDriver::Php,
        AppDriver::Command,
    ];

    #[test]
    fn the_same_secret_gives_the_same_file_and_another_one_other_salts() {
        for driver in DRIVERS {
            let site = example(driver);
            let of = |secret: &str| {
                settings(&site, Some(&database()), &SiteKey::of_secret(secret)).unwrap()
            };
            assert_eq!(of("one"), of("one"), "{driver:?}");
            assert_ne!(of("one"), of("two"), "{driver:?}");
        }
    }

    #[test]
    fn a_password_with_quotes_stays_one_literal() {
        for driver in DRIVERS {
            let key = SiteKey::of_secret("one");
            let text = settings(&example(driver), Some(&database()), &key).unwrap();
            assert!(text.contains(r#"'p\'a\\ss"$x'"#), "{driver:?}: {text}");
        }
    }

    #[test]
    fn nothing_that_is_shown_for_debugging_holds_a_secret() {
        let shown = format!("{:?} {:?}", database(), SiteKey::of_secret("hush"));
        assert!(
            !shown.contains("ss\"$x") && !shown.contains("hush"),
            "{shown}"
        );
    }
}
