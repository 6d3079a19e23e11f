//! The scripts that the agent hands to PHP's command line: built in, one for an action of a
//! driver.
//!
//! A script goes to PHP by its standard input, with what it has to know as data in its first line,
//! so that no secret is in an argument, the environment or a file. It answers with one line that
//! begins with a word which the application can't guess.

use super::AppDriver;
use serde::{Deserialize, Serialize};

/// What a script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// What is there of an installation, and which updates wait.
    Look,
    /// Can it run here?
    Requirements,
    /// Install it.
    Install,
    /// Bring the schema to the code.
    Update,
    /// Periodic work.
    Cron,
    /// Its own maintenance mode.
    Maintenance,
    /// Forget what it remembers.
    ClearCaches,
    /// An address that logs in once.
    LoginLink,
    /// The names of all tables of the database.
    Tables,
    /// Removes the tables that are not among those named.
    DropOthers,
    /// Notes which schema the database has, for an application that keeps no such note.
    Note,
}

/// What a script has to know.
#[derive(Clone, Default, Serialize)]
pub struct Input {
    /// The word that begins the answer.
    pub word: String,
    /// `wordpress` and so on.
    pub driver: &'static str,
    /// The directory of the documents.
    pub docroot: String,
    /// `https://www.example.com/shop`.
    pub url: String,
    /// `www.example.com`.
    pub host: String,
    /// `/shop`, or nothing.
    pub base: String,
    /// The site's own directory, or nothing.
    pub dir: String,
    /// It is served over TLS.
    pub is_tls: bool,
    /// A directory of its own to write into, for installers that insist on a file.
    pub scratch: String,
    /// The site's title.
    pub title: String,
    /// A user's name.
    pub admin: String,
    /// The first administrator's mail address.
    pub mail: String,
    /// The first administrator's password.
    pub password: String,
    /// An installation profile.
    pub profile: String,
    /// Maintenance on or off.
    pub on: bool,
    /// Tables that stay.
    pub tables: Vec<String>,
}

/// What a script answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Why it could not be done.
    pub error: String,
    /// What came of it.
    pub message: String,
    /// Something was changed.
    pub changed: bool,
    /// There is an installation.
    pub installed: Option<bool>,
    /// Updates that wait.
    pub pending: Vec<String>,
    /// It is in its own maintenance mode.
    pub maintenance: bool,
    /// What is missing.
    pub missing: Vec<String>,
    /// Names of tables.
    pub tables: Vec<String>,
    /// An address.
    pub link: String,
}

const PRELUDE: &str = include_str!("scripts/prelude.php");
const DATABASE: &str = include_str!("scripts/database.php");
const TABLES: &str = include_str!("scripts/tables.php");
const DROP_OTHERS: &str = include_str!("scripts/drop-others.php");

/// The source that PHP is given; `None` where the driver knows no such thing.
pub fn source(driver: AppDriver, script: Script, input: &Input) -> Option<String> {
    let body: &[&str] = match script {
        Script::Tables => &[DATABASE, TABLES],
        Script::DropOthers => &[DATABASE, DROP_OTHERS],
        _ => match driver {
            AppDriver::Wordpress => wordpress(script)?,
            AppDriver::Mediawiki => mediawiki(script)?,
            AppDriver::Drupal => drupal(script)?,
            AppDriver::Drupal7 => drupal_7(script)?,
            AppDriver::Php | AppDriver::Static | AppDriver::Command => return None,
        },
    };
    let json = serde_json::to_vec(input).ok()?;
    let data = data_encoding::BASE64.encode(&json);
    let mut text = format!("<?php $fanout = json_decode(base64_decode('{data}'), true);\n");
    for part in std::iter::once(&PRELUDE).chain(body) {
        text.push_str(part.strip_prefix("<?php\n").unwrap_or(part));
    }
    Some(text)
}

/// The answer among what a script printed, and what else it printed.
pub fn answer(word: &str, printed: &str) -> (Option<Answer>, String) {
    let mut answer = None;
    let mut rest = String::new();
    for line in printed.lines() {
        match line.strip_prefix(word).map(serde_json::from_str) {
            Some(Ok(said)) => answer = Some(said),
            _ => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (answer, rest)
}

/// The name of a driver in scripts.
pub const fn driver_word(driver: AppDriver) -> &'static str {
    match driver {
        AppDriver::Drupal => "drupal",
        AppDriver::Drupal7 => "drupal7",
        AppDriver::Wordpress => "wordpress",
        AppDriver::Mediawiki => "mediawiki",
        AppDriver::Php => "php",
        AppDriver::Static => "static",
        AppDriver::Command => "command",
    }
}

fn wordpress(script: Script) -> Option<&'static [&'static str]> {
    const LOAD: &str = include_str!("scripts/wordpress/load.php");
    Some(match script {
        Script::Look => &[LOAD, include_str!("scripts/wordpress/look.php")],
        Script::Requirements => &[include_str!("scripts/wordpress/requirements.php")],
        Script::Install => &[LOAD, include_str!("scripts/wordpress/install.php")],
        Script::Update => &[LOAD, include_str!("scripts/wordpress/update.php")],
        Script::Cron => &[include_str!("scripts/wordpress/cron.php")],
        Script::ClearCaches => &[LOAD, include_str!("scripts/wordpress/clear-caches.php")],
        Script::LoginLink => &[LOAD, include_str!("scripts/wordpress/login-link.php")],
        Script::Maintenance | Script::Tables | Script::DropOthers | Script::Note => return None,
    })
}

fn mediawiki(script: Script) -> Option<&'static [&'static str]> {
    Some(match script {
        Script::Look => &[DATABASE, include_str!("scripts/mediawiki/look.php")],
        Script::Requirements => &[include_str!("scripts/mediawiki/requirements.php")],
        Script::Install => &[DATABASE, include_str!("scripts/mediawiki/install.php")],
        Script::Update => &[include_str!("scripts/mediawiki/update.php")],
        Script::Cron => &[include_str!("scripts/mediawiki/cron.php")],
        Script::Note => &[DATABASE, include_str!("scripts/mediawiki/note.php")],
        _ => return None,
    })
}

fn drupal(script: Script) -> Option<&'static [&'static str]> {
    const BOOT: &str = include_str!("scripts/drupal/boot.php");
    Some(match script {
        Script::Look => &[
            DATABASE,
            include_str!("scripts/drupal/look.php"),
            BOOT,
            include_str!("scripts/drupal/pending.php"),
        ],
        Script::Requirements => &[include_str!("scripts/drupal/requirements.php")],
        Script::Install => &[DATABASE, include_str!("scripts/drupal/install.php")],
        Script::Update => &[BOOT, include_str!("scripts/drupal/update.php")],
        Script::Cron => &[BOOT, include_str!("scripts/drupal/cron.php")],
        Script::Maintenance => &[BOOT, include_str!("scripts/drupal/maintenance.php")],
        Script::ClearCaches => &[BOOT, include_str!("scripts/drupal/clear-caches.php")],
        Script::LoginLink => &[BOOT, include_str!("scripts/drupal/login-link.php")],
        Script::Tables | Script::DropOthers | Script::Note => return None,
    })
}

fn drupal_7(script: Script) -> Option<&'static [&'static str]> {
    const BOOT: &str = include_str!("scripts/drupal7/boot.php");
    Some(match script {
        Script::Look => &[
            DATABASE,
            include_str!("scripts/drupal7/look.php"),
            BOOT,
            include_str!("scripts/drupal7/pending.php"),
        ],
        Script::Requirements => &[include_str!("scripts/drupal7/requirements.php")],
        Script::Install => &[DATABASE, include_str!("scripts/drupal7/install.php")],
        Script::Update => &[BOOT, include_str!("scripts/drupal7/update.php")],
        Script::Cron => &[BOOT, include_str!("scripts/drupal7/cron.php")],
        Script::Maintenance => &[BOOT, include_str!("scripts/drupal7/maintenance.php")],
        Script::ClearCaches => &[BOOT, include_str!("scripts/drupal7/clear-caches.php")],
        Script::LoginLink => &[BOOT, include_str!("scripts/drupal7/login-link.php")],
        Script::Tables | Script::DropOthers | Script::Note => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_can_not_become_source() {
        let input = Input {
            title: "'); evil(); //".into(),
            password: "?><?php evil();".into(),
            ..Input::default()
        };
        let text = source(AppDriver::Wordpress, Script::Install, &input).unwrap();
        assert!(!text.contains("evil"), "{text}");
        assert_eq!(text.matches("<?php").count(), 1);
    }

    #[test]
    fn only_a_line_with_the_word_is_an_answer() {
        let printed =
            "Notice: x\nguess{\"error\":\"no\"}\nw0rd{\"changed\":true,\"message\":\"m\"}\nend\n";
        let (said, rest) = answer("w0rd", printed);
        let said = said.unwrap();
        assert!(said.changed && said.error.is_empty());
        assert_eq!(rest, "Notice: x\nguess{\"error\":\"no\"}\nend\n");
        assert_eq!(answer("w0rd", "w0rd{broken").0, None);
    }
}
