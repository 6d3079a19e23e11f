//! The tools that applications have for the command line, and what each is told: wp-cli for
//! WordPress, Drush for Drupal. (MediaWiki's are maintenance scripts of its own tree.)
//!
//! A tool does what it has a command for; what it hasn't is done by a script that is built in, which
//! also says afterwards whether it worked. No password stands on a command line, where every user of
//! the machine could read it.

use super::scripts::{Input, Script};
use super::{AppDriver, detect::below};

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// wp-cli.
    WpCli,
    /// Drush.
    Drush,
}

/// What a tool is told to do: several calls, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The arguments of each call.
    pub calls: Vec<Vec<String>>,
    /// What each reads.
    pub stdin: Vec<u8>,
    /// A file that is put into the directory of the moment first: name and content.
    pub file: Option<(&'static str, String)>,
}

/// The tool of an application.
pub const fn tool_of(driver: AppDriver) -> Option<Tool> {
    match driver {
        AppDriver::Wordpress => Some(Tool::WpCli),
        AppDriver::Drupal | AppDriver::Drupal7 => Some(Tool::Drush),
        AppDriver::Mediawiki | AppDriver::Php | AppDriver::Static | AppDriver::Command => None,
    }
}

/// What people call it.
pub const fn tool_name(tool: Tool) -> &'static str {
    match tool {
        Tool::WpCli => "wp-cli",
        Tool::Drush => "Drush",
    }
}

/// Where it may be in a tree, relative to its root: Composer puts tools there.
pub fn places_in_tree(tool: Tool, docroot: &str) -> Vec<String> {
    let file = format!("vendor/bin/{}", program(tool));
    let mut places = vec![file.clone(), below(docroot, &file)];
    places.dedup();
    places
}

/// The name of its program.
pub const fn program(tool: Tool) -> &'static str {
    match tool {
        Tool::WpCli => "wp",
        Tool::Drush => "drush",
    }
}

/// The version in what a tool says about itself.
pub fn version_said(said: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.') && word.len() < 32
    };
    let found = said.split_whitespace().find(is_version)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    found.chars().all(plain).then(|| found.to_owned())
}

/// Can this version work on that application? Drush 8 is the last one for Drupal 7, and none for
/// what came after Drupal 8.
pub fn fits(driver: AppDriver, version: &str) -> bool {
    match driver {
        AppDriver::Wordpress => major(version) >= 2,
        AppDriver::Drupal => major(version) >= 9,
        AppDriver::Drupal7 => (7..=8).contains(&major(version)),
        _ => false,
    }
}

fn major(version: &str) -> u32 {
    let first = version.split('.').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

/// What a tool is told for a script's work; `None` where it has no command for that.
pub fn told(driver: AppDriver, script: Script, input: &Input) -> Option<Told> {
    match tool_of(driver)? {
        Tool::WpCli => wp_cli(script, input),
        Tool::Drush => drush(driver, script, input),
    }
}

fn words(common: &[String], words: &[&str]) -> Vec<String> {
    let words = words.iter().map(|&word| word.to_owned());
    words.chain(common.iter().cloned()).collect()
}

fn wp_cli(script: Script, input: &Input) -> Option<Told> {
    let mut common = vec![
        format!("--path={}", input.docroot),
        format!("--url={}", input.url),
        "--no-color".to_owned(),
        "--skip-packages".to_owned(),
        // Its page would take the place of what went wrong.
        "--exec=define('WP_DISABLE_FATAL_ERROR_HANDLER', true);".to_owned(),
    ];
    let mut told = Told::default();
    let calls: &[&[&str]] = match script {
        Script::Install => {
            common.extend([
                format!("--title={}", input.title),
                format!("--admin_user={}", input.admin),
                format!("--admin_email={}", input.mail),
                "--skip-email".to_owned(),
                "--prompt=admin_password".to_owned(),
            ]);
            told.stdin = format!("{}\n", input.password).into_bytes();
            &[&["core", "install"]]
        }
        Script::Update => &[&["core", "update-db"]],
        Script::Cron => &[&["cron", "event", "run", "--due-now"]],
        Script::ClearCaches => &[&["cache", "flush"], &["transient", "delete", "--expired"]],
        _ => return None,
    };
    told.calls = calls.iter().map(|it| words(&common, it)).collect();
    Some(told)
}

fn drush(driver: AppDriver, script: Script, input: &Input) -> Option<Told> {
    let is_old = driver == AppDriver::Drupal7;
    let common = [
        format!("--root={}", input.docroot),
        format!("--uri={}", input.url),
        "--yes".to_owned(),
    ];
    let mut told = Told::default();
    let pick = |new: &[&str], old: &[&str]| words(&common, if is_old { old } else { new });
    let call = match script {
        Script::Install => {
            let dir = match input.dir.as_str() {
                "" => "default",
                dir => dir,
            };
            let profile = match input.profile.as_str() {
                "" => "standard",
                profile => profile,
            };
            let (name, text) = drush_options(is_old, &input.password);
            let mut call = pick(&["site:install", profile], &["site-install", profile]);
            call.extend([
                format!("--site-name={}", input.title),
                format!("--site-mail={}", input.mail),
                format!("--account-name={}", input.admin),
                format!("--account-mail={}", input.mail),
                format!("--sites-subdir={dir}"),
                format!("--config={}/{name}", input.scratch),
            ]);
            told.file = Some((name, text));
            call
        }
        Script::Update => pick(&["updatedb"], &["updatedb"]),
        Script::Cron => pick(&["core:cron"], &["core-cron"]),
        Script::ClearCaches => pick(&["cache:rebuild"], &["cache-clear", "all"]),
        Script::Maintenance => {
            let value = if input.on { "1" } else { "0" };
            let new = ["state:set", "system.maintenance_mode", value];
            let mut call = pick(&new, &["variable-set", "maintenance_mode", value]);
            call.push(
                if is_old {
                    "--exact"
                } else {
                    "--input-format=integer"
                }
                .to_owned(),
            );
            call
        }
        Script::LoginLink => {
            let mut call = match (input.admin.as_str(), is_old) {
                ("", _) => pick(&["user:login"], &["user-login"]),
                (admin, true) => pick(&[], &["user-login", admin]),
                (admin, false) => {
                    let mut call = pick(&["user:login"], &[]);
                    call.push(format!("--name={admin}"));
                    call
                }
            };
            call.push("--no-browser".to_owned());
            call
        }
        _ => return None,
    };
    told.calls = vec![call];
    Some(told)
}

/// A file of options that holds the administrator's password: Drush takes it from nowhere else but
/// the command line.
fn drush_options(is_old: bool, password: &str) -> (&'static str, String) {
    match is_old {
        true => {
            let value = super::php::quoted(password);
            let text =
                format!("<?php\n$command_specific['site-install']['account-pass'] = {value};\n");
            ("drushrc.php", text)
        }
        false => {
            let value = password.replace('\'', "''");
            let text = format!(
                "command:\n  site:\n    install:\n      options:\n        account-pass: '{value}'\n"
            );
            ("drush.yml", text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Input {
        Input {
            docroot: "/srv/d".into(),
            url: "https://www.example.com".into(),
            title: "--path=/etc; \"x\"".into(),
            admin: "editor".into(),
            mail: "e@example.com".into(),
            password: "it's secret".into(),
            scratch: "/tmp/fanout-1".into(),
            ..Input::default()
        }
    }

    #[test]
    fn versions_decide_which_tool_is_used() {
        for (said, version) in [
            ("WP-CLI 2.12.0\n", Some("2.12.0")),
            (" Drush Version   :  8.1.16 \n", Some("8.1.16")),
            ("Drush Commandline Tool 12.4.3.0\n", Some("12.4.3.0")),
            ("PHP Fatal error:  Uncaught Error\n", None),
            ("", None),
        ] {
            assert_eq!(version_said(said).as_deref(), version, "{said}");
        }
        assert!(fits(AppDriver::Wordpress, "2.12.0") && !fits(AppDriver::Wordpress, "1.5"));
        assert!(fits(AppDriver::Drupal, "12.4.3") && !fits(AppDriver::Drupal, "8.1.16"));
        assert!(fits(AppDriver::Drupal7, "8.1.16") && !fits(AppDriver::Drupal7, "12.4.3"));
        assert!(!fits(AppDriver::Mediawiki, "9.9"));
        assert_eq!(
            places_in_tree(Tool::Drush, "web"),
            ["vendor/bin/drush", "web/vendor/bin/drush"]
        );
        assert_eq!(places_in_tree(Tool::Drush, ""), ["vendor/bin/drush"]);
    }

    #[test]
    fn no_password_is_an_argument_and_no_value_an_option() {
        for driver in [AppDriver::Wordpress, AppDriver::Drupal, AppDriver::Drupal7] {
            for script in [
                Script::Install,
                Script::Update,
                Script::Cron,
                Script::ClearCaches,
                Script::Maintenance,
                Script::LoginLink,
            ] {
                let Some(told) = told(driver, script, &input()) else {
                    continue;
                };
                for word in told.calls.iter().flatten() {
                    assert!(!word.contains("secret"), "{driver:?} {word}");
                    assert!(!word.starts_with("--path=/etc"), "{driver:?} {word}");
                }
            }
        }
    }

    #[test]
    fn each_tool_is_told_in_its_own_words() {
        let line = |driver, script| {
            let told = told(driver, script, &input()).unwrap();
            told.calls.iter().map(|it| it.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            line(AppDriver::Drupal, Script::Update),
            ["updatedb --root=/srv/d --uri=https://www.example.com --yes"]
        );
        assert_eq!(
            line(AppDriver::Drupal7, Script::ClearCaches),
            ["cache-clear all --root=/srv/d --uri=https://www.example.com --yes"]
        );
        assert_eq!(
            line(AppDriver::Drupal, Script::LoginLink),
            [
                "user:login --root=/srv/d --uri=https://www.example.com --yes --name=editor --no-browser"
            ]
        );
        assert_eq!(line(AppDriver::Wordpress, Script::ClearCaches).len(), 2);
        // What a tool has no command for is a script's.
        assert_eq!(told(AppDriver::Wordpress, Script::Look, &input()), None);
        assert_eq!(
            told(AppDriver::Wordpress, Script::LoginLink, &input()),
            None
        );
        assert_eq!(told(AppDriver::Mediawiki, Script::Install, &input()), None);
        let (name, text) = told(AppDriver::Drupal, Script::Install, &input())
            .unwrap()
            .file
            .unwrap();
        assert_eq!(name, "drush.yml");
        assert!(text.ends_with("account-pass: 'it''s secret'\n"), "{text}");
    }
}
