//! Edits of the inventory's text that keep its comments, its order and its style.
//!
//! Knows the shape of the file and nothing of its meaning: whoever saves the result parses it
//! first ([`super::edit`] does).

use super::ConfigError;
use super::list::{push_in_style, raw, remove_in_style};
use super::settings::{
    AppSettings, ClusterSettings, DbSettings, Keys, WebSettings, inline, put, put_list,
};
use crate::model::{
    AbsPath, Address, Label, Layout, OwnerPolicy, ResyncMode, SshDestination, Transport,
};
use std::fmt;
use std::net::IpAddr;
use toml_edit::{Array, Decor, DocumentMut, Item, Table, TableLike, TomlError, Value};

/// What the inventory lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `[servers.*]`
    Server,
    /// `[clusters.*]`
    Cluster,
    /// `[balancers.*]`
    Balancer,
    /// `[platforms.*]`
    Platform,
    /// `[sites.*]`
    Site,
}

impl Kind {
    /// The section of the file.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Cluster => "clusters",
            Self::Balancer => "balancers",
            Self::Platform => "platforms",
            Self::Site => "sites",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Cluster => "cluster",
            Self::Balancer => "balancer",
            Self::Platform => "platform",
            Self::Site => "site",
        })
    }
}

/// A server to be added. What is empty or `None` isn't written.
#[derive(Clone, Debug)]
pub struct NewServer {
    /// How the hub reaches the agent.
    pub address: Address,
    /// What databases and balancers see.
    pub addresses: Vec<IpAddr>,
    /// Groups.
    pub labels: Vec<Label>,
    /// How to talk to the agent.
    pub transport: Option<Transport>,
    /// The way in by ssh.
    pub ssh: Option<SshDestination>,
    /// Whether to become root by sudo over there.
    pub sudo: bool,
    /// Its web server.
    pub web: WebSettings,
    /// Its database server.
    pub db: DbSettings,
}

/// A cluster to be added.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// Servers or clusters, by name.
    pub members: Vec<String>,
    /// The rest.
    pub settings: ClusterSettings,
}

/// A platform to be added. What is empty or `None` isn't written.
#[derive(Clone, Debug)]
pub struct NewPlatform {
    /// A server or cluster, by name.
    pub on: String,
    /// The source.
    pub path: AbsPath,
    /// The destination.
    pub root: AbsPath,
    /// How it lies on the members' disks.
    pub layout: Option<Layout>,
    /// Who owns its entries.
    pub owner: Option<OwnerPolicy>,
    /// Exclude rules; the defaults if `None`.
    pub exclude: Option<Vec<String>>,
    /// Preserve rules.
    pub preserve: Vec<String>,
    /// Generations to keep.
    pub keep: Option<u32>,
    /// What `resync` does about drift.
    pub resync: Option<ResyncMode>,
    /// The application that it is.
    pub app: AppSettings,
}

impl NewServer {
    pub(super) fn keys(&self) -> Keys {
        let mut keys: Keys = vec![("address".into(), self.address.to_string().into())];
        put_list(&mut keys, "addresses", &self.addresses);
        put_list(&mut keys, "labels", &self.labels);
        put(&mut keys, "transport", self.transport.as_ref());
        put(&mut keys, "ssh", self.ssh.as_ref());
        if self.sudo {
            keys.push(("sudo".into(), true.into()));
        }
        for (key, table) in [("web", self.web.keys()), ("db", self.db.keys())] {
            if !table.is_empty() {
                keys.push((key.into(), inline(table)));
            }
        }
        keys
    }
}

impl NewCluster {
    pub(super) fn keys(&self) -> Keys {
        let members = self.members.iter().map(String::as_str);
        let mut keys: Keys = vec![("members".into(), Value::from_iter(members))];
        keys.extend(self.settings.keys());
        keys
    }
}

impl NewPlatform {
    pub(super) fn keys(&self) -> Keys {
        let mut keys: Keys = vec![
            ("on".into(), self.on.as_str().into()),
            ("path".into(), self.path.as_str().into()),
            ("root".into(), self.root.as_str().into()),
        ];
        keys.extend(self.app.keys());
        put(&mut keys, "layout", self.layout.as_ref());
        put(&mut keys, "owner", self.owner.as_ref());
        if let Some(exclude) = &self.exclude {
            keys.push((
                "exclude".into(),
                exclude.iter().map(String::as_str).collect(),
            ));
        }
        put_list(&mut keys, "preserve", &self.preserve);
        if let Some(keep) = self.keep {
            keys.push(("keep".into(), i64::from(keep).into()));
        }
        put(&mut keys, "resync", self.resync.as_ref());
        keys
    }
}

/// The text of an inventory, ready to be changed.
#[derive(Clone, Debug)]
pub(super) struct Document(DocumentMut);

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, TomlError> {
        text.parse().map(Self)
    }

    /// Adds a table after the last of its kind.
    pub(super) fn add(&mut self, kind: Kind, name: &str, keys: Keys) -> Result<(), ConfigError> {
        let section = self
            .0
            .as_table_mut()
            .entry(kind.section())
            .or_insert_with(|| {
                let mut section = Table::new();
                section.set_implicit(true);
                Item::Table(section)
            })
            .as_table_like_mut()
            .ok_or_else(|| unknown(kind, name))?;
        if section.contains_key(name) {
            return Err(ConfigError::Exists {
                kind,
                name: name.to_owned(),
            });
        }
        let mut table = Table::new();
        for (key, value) in keys {
            table.insert(&key, Item::Value(value));
        }
        section.insert(name, Item::Table(table));
        Ok(())
    }

    /// Removes a table and the comment right above it. Comments further up, with an empty line
    /// in between, belong to the file and stay.
    pub(super) fn remove(&mut self, kind: Kind, name: &str) -> Result<(), ConfigError> {
        let removed = self
            .0
            .get_mut(kind.section())
            .and_then(Item::as_table_like_mut)
            .and_then(|section| section.remove(name))
            .ok_or_else(|| unknown(kind, name))?;
        if let Item::Table(table) = removed {
            let above = raw(table.decor().prefix());
            let kept = above.rfind("\n\n").map(|at| &above[..at + 1]);
            if let Some(kept) = kept.filter(|kept| kept.contains('#')) {
                self.keep_comment(kept, table.position());
            }
        }
        Ok(())
    }

    /// Puts `comment` above the first table behind `position`, or at the end.
    fn keep_comment(&mut self, comment: &str, position: Option<isize>) {
        let root = self.0.as_table_mut();
        match first_behind(root, position) {
            Some(next) => prepend(next.decor_mut(), comment),
            None => {
                let rest = self.0.trailing().as_str().unwrap_or_default().to_owned();
                self.0.set_trailing(format!("{comment}{rest}"));
            }
        }
    }

    /// Sets a key, keeping the comments around it.
    pub(super) fn set(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        set_value(self.table(kind, name)?, key, value);
        Ok(())
    }

    /// Sets keys of a table within a table, such as `web` of a server, which is made if it isn't
    /// there.
    pub(super) fn set_within(
        &mut self,
        kind: Kind,
        name: &str,
        inner: &str,
        keys: Keys,
    ) -> Result<(), ConfigError> {
        let table = self.table(kind, name)?;
        let Some(there) = table.get_mut(inner) else {
            table.insert(inner, Item::Value(inline(keys)));
            return Ok(());
        };
        let table = there
            .as_table_like_mut()
            .ok_or_else(|| ConfigError::NotATable {
                kind,
                name: name.to_owned(),
                key: inner.to_owned(),
            })?;
        for (key, value) in keys {
            set_value(table, &key, value);
        }
        // A table on one line can't hold a comment, and its blanks belong between the values.
        if let Some(line) = there.as_inline_table_mut() {
            line.fmt();
        }
        Ok(())
    }

    /// Adds a text to a list of a table within a table, such as the networks of `db`. False if it
    /// is in there already.
    pub(super) fn append_within(
        &mut self,
        kind: Kind,
        name: &str,
        (inner, key): (&str, &str),
        text: &str,
    ) -> Result<bool, ConfigError> {
        let there = self.table(kind, name)?.get(inner);
        let there = there.and_then(Item::as_table_like);
        let Some(table) = there else {
            let list = Value::from_iter([text]);
            let keys = vec![(key.to_owned().into(), list)];
            return self.set_within(kind, name, inner, keys).map(|()| true);
        };
        let mut list = match table.get(key) {
            None => Array::new(),
            Some(item) => item
                .as_array()
                .cloned()
                .ok_or_else(|| ConfigError::NotAList {
                    kind,
                    name: name.to_owned(),
                    key: format!("{inner}.{key}"),
                })?,
        };
        if list.iter().any(|entry| entry.as_str() == Some(text)) {
            return Ok(false);
        }
        push_in_style(&mut list, text);
        let keys = vec![(key.to_owned().into(), Value::Array(list))];
        self.set_within(kind, name, inner, keys).map(|()| true)
    }

    /// Removes a key of a table within a table, and the table when it was the last. False if it
    /// wasn't there.
    pub(super) fn unset_within(
        &mut self,
        kind: Kind,
        name: &str,
        inner: &str,
        key: &str,
    ) -> Result<bool, ConfigError> {
        let table = self.table(kind, name)?;
        let there = table.get_mut(inner).and_then(Item::as_table_like_mut);
        let Some(there) = there.filter(|there| there.contains_key(key)) else {
            return Ok(false);
        };
        there.remove(key);
        if there.is_empty() {
            table.remove(inner);
        }
        Ok(true)
    }

    /// Removes a key, so that its default holds. False if it wasn't there.
    pub(super) fn unset(&mut self, kind: Kind, name: &str, key: &str) -> Result<bool, ConfigError> {
        Ok(self.table(kind, name)?.remove(key).is_some())
    }

    /// Adds a text to a list, in the style of the list. False if it is in there already.
    pub(super) fn append(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        let table = self.table(kind, name)?;
        if !table.contains_key(key) {
            table.insert(key, Item::Value(Value::Array(Array::new())));
        }
        let list = list(table, kind, name, key)?;
        if list.iter().any(|entry| entry.as_str() == Some(text)) {
            return Ok(false);
        }
        push_in_style(list, text);
        Ok(true)
    }

    /// Takes a text out of a list. False if it wasn't in there.
    pub(super) fn take_out(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        let table = self.table(kind, name)?;
        if !table.contains_key(key) {
            return Ok(false);
        }
        let list = list(table, kind, name, key)?;
        let Some(at) = list.iter().position(|entry| entry.as_str() == Some(text)) else {
            return Ok(false);
        };
        remove_in_style(list, at);
        Ok(true)
    }

    fn table(&mut self, kind: Kind, name: &str) -> Result<&mut dyn TableLike, ConfigError> {
        self.0
            .get_mut(kind.section())
            .and_then(Item::as_table_like_mut)
            .and_then(|section| section.get_mut(name))
            .and_then(Item::as_table_like_mut)
            .ok_or_else(|| unknown(kind, name))
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sets a key, keeping the comments around it.
fn set_value(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

fn unknown(kind: Kind, name: &str) -> ConfigError {
    ConfigError::Unknown {
        kind,
        name: sync_proto::path::escape(name.as_bytes()),
        closest: None,
    }
}

fn list<'d>(
    table: &'d mut dyn TableLike,
    kind: Kind,
    name: &str,
    key: &str,
) -> Result<&'d mut Array, ConfigError> {
    table
        .get_mut(key)
        .and_then(Item::as_array_mut)
        .ok_or_else(|| ConfigError::NotAList {
            kind,
            name: name.to_owned(),
            key: key.to_owned(),
        })
}

/// The table with a header of its own that comes first behind `position` in the file.
fn first_behind(table: &mut Table, position: Option<isize>) -> Option<&mut Table> {
    let mut first: Option<&mut Table> = None;
    let children = table.iter_mut().flat_map(|(_, item)| match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(list) => list.iter_mut().collect(),
        _ => Vec::new(),
    });
    for child in children {
        let is_header = !child.is_implicit() && !child.is_dotted();
        let candidate = if is_header && child.position() > position {
            Some(child)
        } else {
            first_behind(child, position)
        };
        if let Some(candidate) = candidate
            && first
                .as_ref()
                .is_none_or(|first| candidate.position() < first.position())
        {
            first = Some(candidate);
        }
    }
    first
}

fn prepend(decor: &mut Decor, comment: &str) {
    let text = format!("{comment}{}", raw(decor.prefix()));
    decor.set_prefix(text);
}
