//! `agent.toml`: what one agent is called, where it listens, and what it lets a hub do.
//!
//! Everything here is the server's own word: no hub can change or widen it.

use super::decode::{document, table};
use super::list::push_in_style;
use super::local_database::LocalDatabase;
use super::problem::{Invalid, Problems};
use super::schema::Table;
use super::{ConfigError, file, rules};
use crate::model::{AbsPath, DEFAULT_PORT, Offer, ServerName, SpecialFile};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use toml::Spanned;
use toml::de::DeValue;
use toml_edit::{Array, DocumentMut, Value};

/// One agent's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// The name that it is known by.
    pub name: ServerName,
    /// The UDP address that it listens on.
    pub listen: SocketAddr,
    /// Roots of trees must lie strictly below one of these.
    pub allow: Vec<AbsPath>,
    /// Everything that the agent manages lies below this, as with DESTDIR.
    pub prefix: Option<AbsPath>,
    /// The administrator's own preserve rules, by root. They add to those that a hub sends.
    pub preserve: BTreeMap<AbsPath, Vec<String>>,
    /// Special files that a hub may make here, where its platform allows them as well.
    pub special_files: Vec<SpecialFile>,
    /// The services that hubs may manage on this server. Without any, only trees.
    pub offers: BTreeSet<Offer>,
    /// How the agent logs in to the database server on its machine.
    pub database: LocalDatabase,
    /// What applications behind commands do, by action: programs with their arguments.
    pub commands: BTreeMap<String, Vec<String>>,
    /// What the agent spends on a hub's behalf at most.
    pub limits: Limits,
}

/// What an agent spends on a hub's behalf at most (I8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Entries in one tree; about 250 bytes of memory each.
    pub entries: u64,
    /// Memory for content on its way to the disk, in bytes.
    pub memory_bytes: u64,
    /// Sessions at a time.
    pub sessions: u32,
    /// How long an unfinished staging area is kept, in hours.
    pub staging_hours: u32,
    /// How long overwritten local edits are kept, in days.
    pub overwritten_days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            memory_bytes: 256 << 20,
            sessions: 32,
            staging_hours: 24,
            overwritten_days: 14,
        }
    }
}

/// `agent.toml` as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    name: ServerName,
    listen: Option<SocketAddr>,
    allow: Spanned<Vec<AbsPath>>,
    prefix: Option<AbsPath>,
    #[serde(default)]
    preserve: BTreeMap<AbsPath, Vec<Spanned<String>>>,
    special_files: Option<Vec<SpecialFile>>,
    #[serde(default)]
    offers: BTreeSet<Offer>,
    #[serde(default)]
    database: LocalDatabase,
    #[serde(default)]
    commands: BTreeMap<String, Spanned<Vec<String>>>,
    #[serde(default)]
    limits: Limits,
}

impl Table for AgentTable {
    const WHAT: &'static str = "agent";
    const KEYS: &'static [&'static str] = &[
        "name",
        "listen",
        "allow",
        "prefix",
        "special_files",
        "preserve",
        "offers",
        "database",
        "commands",
        "limits",
    ];
    const REQUIRED: &'static [&'static str] = &["name", "allow"];
}

impl AgentConfig {
    /// A configuration with nothing but defaults beside these.
    pub fn new(name: ServerName, allow: Vec<AbsPath>) -> Self {
        Self {
            name,
            listen: default_listen(),
            allow,
            prefix: None,
            preserve: BTreeMap::new(),
            special_files: SpecialFile::ALL.to_vec(),
            offers: BTreeSet::new(),
            database: LocalDatabase::default(),
            commands: BTreeMap::new(),
            limits: Limits::default(),
        }
    }

    /// Reads and checks `agent.toml`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = file::read(path, "agent configuration")?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Checks the text of an `agent.toml`; `file` is what messages call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, Invalid> {
        let mut problems = Problems::new(file, text);
        let config = read(text, &mut problems);
        if config.is_none() && problems.is_empty() {
            problems.push(0..0, "The agent configuration can't be used");
        }
        problems.finish(config)
    }

    /// Writes the configuration, replacing the file as a whole. Comments that were there are lost.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        file::replace(path, self.to_toml().as_bytes(), 0o600)
    }

    /// Adds services to `offers` in the file, whose comments stay. False if they are in there all.
    pub fn offer(path: &Path, more: &BTreeSet<Offer>) -> Result<bool, ConfigError> {
        let bytes = file::read(path, "agent configuration")?;
        let text = String::from_utf8_lossy(&bytes);
        let shown = path.display().to_string();
        let config = Self::parse(&text, &shown)?;
        if more.is_subset(&config.offers) {
            return Ok(false);
        }
        let broken = |error: toml_edit::TomlError| ConfigError::Read {
            path: path.to_owned(),
            source: std::io::Error::other(error.message().to_owned()),
        };
        let mut document: DocumentMut = text.parse().map_err(broken)?;
        let list = document.entry("offers").or_insert(Array::new().into());
        if let Some(list) = list.as_array_mut() {
            for offer in more.difference(&config.offers) {
                push_in_style(list, offer.as_str());
            }
        }
        let text = document.to_string();
        Self::parse(&text, &shown)?;
        file::replace(path, text.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// The text that [`AgentConfig::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let mut text =
            String::from("# The configuration of a fanout agent. No hub can change it.\n\n");
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!("name = {}", quoted(self.name.as_str())));
        line(format!("listen = {}", quoted(&self.listen.to_string())));
        line("# Roots of trees must lie strictly below one of these.".into());
        let allow = self.allow.iter().map(AbsPath::as_str);
        line(format!("allow = {}", Value::from_iter(allow)));
        if let Some(prefix) = &self.prefix {
            line("# Everything that the agent manages lies below this.".into());
            line(format!("prefix = {}", quoted(prefix.as_str())));
        }
        if self.special_files != SpecialFile::ALL {
            line("# Special files that a hub may make here.".into());
            let kinds = self.special_files.iter().map(|kind| kind.as_str());
            line(format!("special_files = {}", Value::from_iter(kinds)));
        }
        if !self.offers.is_empty() {
            line("# The services that hubs may manage here.".into());
            let offers = self.offers.iter().map(|offer| offer.as_str());
            line(format!("offers = {}", Value::from_iter(offers)));
        }
        if !self.preserve.is_empty() {
            line("\n# What no push may touch, by root, whatever a hub says.\n[preserve]".into());
            for (root, list) in &self.preserve {
                let list = Value::from_iter(list.iter().map(String::as_str));
                line(format!("{} = {list}", quoted(root.as_str())));
            }
        }
        if !self.commands.is_empty() {
            line("\n# What applications behind commands do, by action.\n[commands]".into());
            for (action, words) in &self.commands {
                let words = Value::from_iter(words.iter().map(String::as_str));
                line(format!("{} = {words}", quoted(action)));
            }
        }
        text.push_str(&self.database.to_toml());
        let limits = &self.limits;
        let _infallible = write!(
            text,
            "\n[limits]\nentries = {}\nmemory_bytes = {}\nsessions = {}\nstaging_hours = {}\noverwritten_days = {}\n",
            limits.entries,
            limits.memory_bytes,
            limits.sessions,
            limits.staging_hours,
            limits.overwritten_days
        );
        text
    }
}

fn read(text: &str, problems: &mut Problems<'_>) -> Option<AgentConfig> {
    let root = document(text, problems)?;
    let root = Spanned::new(0..0, DeValue::Table(root));
    let table: AgentTable = table(root, &(0..0), "the agent configuration", problems)?;
    if table.allow.get_ref().is_empty() {
        problems.push(
            table.allow.span(),
            "`allow` is empty, so no tree could ever be bound",
        );
    }
    let preserve = table
        .preserve
        .into_iter()
        .map(|(root, list)| (root, rules::preserve(&list, problems)))
        .collect();
    let mut commands = BTreeMap::new();
    for (action, words) in table.commands {
        let is_absolute = |program: &String| program.starts_with('/');
        if !words.get_ref().first().is_some_and(is_absolute) {
            let message =
                format!("The command `{action}` doesn't begin with a program's whole path");
            problems.push(words.span(), message);
        }
        commands.insert(action, words.into_inner());
    }
    Some(AgentConfig {
        name: table.name,
        listen: table.listen.unwrap_or_else(default_listen),
        allow: table.allow.into_inner(),
        prefix: table.prefix,
        preserve,
        special_files: table
            .special_files
            .unwrap_or_else(|| SpecialFile::ALL.to_vec()),
        offers: table.offers,
        database: table.database,
        commands,
        limits: table.limits,
    })
}

fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let mut config = AgentConfig::new("web1".parse().unwrap(), vec!["/srv".parse().unwrap()]);
        config.listen = "127.0.0.1:4601".parse().unwrap();
        config.prefix = Some("/tmp/one \"two\"".parse().unwrap());
        config.limits.sessions = 3;
        config.special_files = vec![SpecialFile::Fifos];
        config.offers.insert(Offer::Web);
        config.database.user = "fanout".into();
        config.database.password_file = Some("/etc/fanout/db".parse().unwrap());
        let words = ["/usr/local/bin/shop", "cron \"now\""];
        config
            .commands
            .insert("cron".into(), words.map(str::to_owned).into());
        config
            .preserve
            .insert("/srv/a".parse().unwrap(), vec!["/files".into()]);
        config.save(&path).unwrap();
        assert_eq!(AgentConfig::load(&path).unwrap(), config);
    }

    #[test]
    fn services_are_offered_without_losing_a_comment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let text = "name = \"web1\" # rack 3\nallow = [\"/srv\"]\n\n[limits]\nsessions = 3\n";
        std::fs::write(&path, text).unwrap();
        let both = BTreeSet::from([Offer::Web, Offer::App]);
        assert!(AgentConfig::offer(&path, &both).unwrap());
        assert!(!AgentConfig::offer(&path, &BTreeSet::from([Offer::App])).unwrap());
        assert!(AgentConfig::offer(&path, &BTreeSet::from([Offer::Db])).unwrap());
        let config = AgentConfig::load(&path).unwrap();
        assert_eq!(
            config.offers,
            BTreeSet::from([Offer::Web, Offer::App, Offer::Db])
        );
        assert_eq!(config.limits.sessions, 3);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("# rack 3") && text.contains("offers = [\"web\", \"app\", \"db\"]"),
            "{text}"
        );
    }

    #[test]
    fn a_minimal_file_gets_the_defaults() {
        let config =
            AgentConfig::parse("name = \"web1\"\nallow = [\"/srv\"]\n", "agent.toml").unwrap();
        assert_eq!(config.listen.to_string(), "[::]:4600");
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.special_files, SpecialFile::ALL);
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = "nmae = \"web1\"\nlisten = \"4601\"\nallow = []\n[limits]\nentires = 5\n";
        insta::assert_snapshot!(AgentConfig::parse(text, "agent.toml").unwrap_err(), @r#"
        Unknown key `nmae` in the agent configuration
         --> agent.toml:1:1
          |
        1 | nmae = "web1"
          | ^^^^
          = hint: did you mean `name`?

        Invalid socket address syntax
         --> agent.toml:2:10
          |
        2 | listen = "4601"
          |          ^^^^^^

        Unknown key `entires`, expected one of `entries`, `memory_bytes`, `sessions`, `staging_hours`, `overwritten_days`
         --> agent.toml:5:1
          |
        5 | entires = 5
          | ^^^^^^^
        "#);
    }

    #[test]
    fn allowing_the_whole_system_or_nothing_is_refused() {
        let parse =
            |allow: &str| AgentConfig::parse(&format!("name = \"a\"\nallow = {allow}"), "f");
        assert!(parse("[]").is_err());
        assert!(parse("[\"/\"]").is_err());
        assert!(parse("[\"srv\"]").is_err());
        let error = parse("[\"/srv\"]\n[preserve]\n\"/srv/a\" = [\"files\"]").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("write: \"/srv/a\" = [\"/files\"]"),
            "{error}"
        );
    }
}
