//! Changing `fanout.toml`: one writer at a time, checked before it is saved, replaced as a whole.

use super::document::{Document, Kind, NewCluster, NewPlatform, NewServer};
use super::inventory::Inventory;
use super::settings::{BalancerSettings, Keys, SiteSettings};
use super::{ConfigError, HubDir, file};
use crate::model::{BalancerName, ClusterName, PlatformName, ServerName, SiteUri};
use crate::store::{Holder, Lock};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::Value;

/// How long an edit waits for another one: an edit takes milliseconds.
const WAIT: Duration = Duration::from_secs(5);

/// An edit in progress. Holds the lock until it is saved or dropped.
#[derive(Debug)]
pub struct Edit {
    path: PathBuf,
    before: String,
    document: Document,
    inventory: Inventory,
    _lock: Lock,
}

impl Edit {
    /// Writes a new inventory that names the hub and nothing else.
    ///
    /// # Errors
    /// [`ConfigError::FileExists`] if there is one.
    pub fn create(dir: &HubDir, hub: &str, holder: &Holder) -> Result<Inventory, ConfigError> {
        let path = dir.inventory();
        let _lock = Lock::wait(&dir.inventory_lock(), holder, WAIT)?;
        match file::read(path, "inventory") {
            Err(ConfigError::Missing { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(ConfigError::FileExists {
                    path: path.to_owned(),
                });
            }
        }
        let text = format!(
            "# What fanout keeps identical, and where. `fanout add` and `fanout edit` keep comments.\n\n\
             [hub]\nname = {}\n",
            Value::from(hub)
        );
        let inventory = Inventory::parse(&text, &path.display().to_string())?;
        file::replace(path, text.as_bytes(), 0o644)?;
        Ok(inventory)
    }

    /// Writes an inventory that came from elsewhere, with the certificates that it refers to. One
    /// that is there already must be empty.
    ///
    /// # Errors
    /// [`ConfigError::FileExists`] if there is one that isn't, [`ConfigError::Invalid`] if the text
    /// isn't one.
    pub fn import(
        dir: &HubDir,
        text: &str,
        certificates: &[(String, String)],
        holder: &Holder,
    ) -> Result<Inventory, ConfigError> {
        let path = dir.inventory();
        let inventory = Inventory::parse(text, &path.display().to_string())?;
        let _lock = Lock::wait(&dir.inventory_lock(), holder, WAIT)?;
        match Inventory::load(path) {
            Err(ConfigError::Missing { .. }) => {}
            Err(error) => return Err(error),
            Ok(there) if there.is_empty() => {}
            Ok(_) => {
                return Err(ConfigError::FileExists {
                    path: path.to_owned(),
                });
            }
        }
        if !certificates.is_empty() {
            file::make_directory(&dir.certificates(), false)?;
        }
        for (name, content) in certificates {
            file::replace(&dir.certificates().join(name), content.as_bytes(), 0o644)?;
        }
        file::replace(path, text.as_bytes(), 0o644)?;
        Ok(inventory)
    }

    /// Takes the lock and reads the inventory, which must be without faults.
    pub fn open(dir: &HubDir, holder: &Holder) -> Result<Self, ConfigError> {
        let lock = Lock::wait(&dir.inventory_lock(), holder, WAIT)?;
        let path = dir.inventory().to_owned();
        let bytes = file::read(&path, "inventory")?;
        let inventory = Inventory::from_bytes(&bytes, &path.display().to_string())?;
        let before = String::from_utf8_lossy(&bytes).into_owned();
        let document = Document::parse(&before).map_err(|error| unreadable(&path, &error))?;
        Ok(Self {
            path,
            before,
            document,
            inventory,
            _lock: lock,
        })
    }

    /// The inventory as it was when the edit began.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Adds a server.
    pub fn add_server(&mut self, name: &ServerName, new: &NewServer) -> Result<(), ConfigError> {
        self.document.add(Kind::Server, name.as_str(), new.keys())
    }

    /// Adds a cluster.
    pub fn add_cluster(&mut self, name: &ClusterName, new: &NewCluster) -> Result<(), ConfigError> {
        self.document.add(Kind::Cluster, name.as_str(), new.keys())
    }

    /// Adds a platform.
    pub fn add_platform(
        &mut self,
        name: &PlatformName,
        new: &NewPlatform,
    ) -> Result<(), ConfigError> {
        self.document.add(Kind::Platform, name.as_str(), new.keys())
    }

    /// Adds a balancer.
    pub fn add_balancer(
        &mut self,
        name: &BalancerName,
        new: &BalancerSettings,
    ) -> Result<(), ConfigError> {
        self.document.add(Kind::Balancer, name.as_str(), new.keys())
    }

    /// Adds a site.
    pub fn add_site(&mut self, uri: &SiteUri, new: &SiteSettings) -> Result<(), ConfigError> {
        self.document.add(Kind::Site, uri.as_str(), new.keys())
    }

    /// Sets several keys, and says which.
    pub fn change(
        &mut self,
        kind: Kind,
        name: &str,
        keys: Keys,
    ) -> Result<Vec<String>, ConfigError> {
        let mut changed = Vec::new();
        for (key, value) in keys {
            self.set(kind, name, &key, value)?;
            changed.push(key.into_owned());
        }
        Ok(changed)
    }

    /// Sets several keys of a table within a table, such as `web` of a server, and says which.
    pub fn change_within(
        &mut self,
        kind: Kind,
        name: &str,
        inner: &str,
        keys: Keys,
    ) -> Result<Vec<String>, ConfigError> {
        let changed: Vec<String> = keys
            .iter()
            .map(|(key, _)| format!("{inner}.{key}"))
            .collect();
        if !keys.is_empty() {
            self.document
                .set_within(kind, name, inner, keys)
                .map_err(|error| self.suggesting(error))?;
        }
        Ok(changed)
    }

    /// Removes a key that must be there, `KEY` or `TABLE.KEY`.
    ///
    /// # Errors
    /// [`ConfigError::NotSet`] if there is no such key.
    pub fn drop_key(&mut self, kind: Kind, name: &str, key: &str) -> Result<(), ConfigError> {
        let dropped = match key.split_once('.') {
            Some((inner, key)) => self
                .document
                .unset_within(kind, name, inner, key)
                .map_err(|error| self.suggesting(error))?,
            None => self.unset(kind, name, key)?,
        };
        match dropped {
            true => Ok(()),
            false => Err(ConfigError::NotSet {
                kind,
                name: name.to_owned(),
                key: sync_proto::path::escape(key.as_bytes()),
            }),
        }
    }

    /// Removes a key of a table within a table, such as one redirect. False if it wasn't there.
    pub fn unset_within(
        &mut self,
        kind: Kind,
        name: &str,
        inner: &str,
        key: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .unset_within(kind, name, inner, key)
            .map_err(|error| self.suggesting(error))
    }

    /// Removes a table with the comment right above it. Nothing else is changed: what still
    /// refers to it makes [`Edit::save`] refuse.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Result<(), ConfigError> {
        self.document
            .remove(kind, name)
            .map_err(|error| self.suggesting(error))
    }

    /// Sets a key.
    pub fn set(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), ConfigError> {
        self.document
            .set(kind, name, key, value.into())
            .map_err(|error| self.suggesting(error))
    }

    /// Removes a key, so that its default holds. False if it wasn't there.
    pub fn unset(&mut self, kind: Kind, name: &str, key: &str) -> Result<bool, ConfigError> {
        self.document
            .unset(kind, name, key)
            .map_err(|error| self.suggesting(error))
    }

    /// Adds a text to a list, such as a member or a rule. False if it is in there already.
    pub fn append(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .append(kind, name, key, text)
            .map_err(|error| self.suggesting(error))
    }

    /// Adds a text to a list of a table within a table, such as the networks of `db`. False if it
    /// is in there already.
    pub fn append_within(
        &mut self,
        kind: Kind,
        name: &str,
        place: (&str, &str),
        text: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .append_within(kind, name, place, text)
            .map_err(|error| self.suggesting(error))
    }

    /// Takes a text out of a list. False if it wasn't in there.
    pub fn take_out(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .take_out(kind, name, key, text)
            .map_err(|error| self.suggesting(error))
    }

    /// The text as it would be saved.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// The inventory as it would be, or every fault that the edit would bring.
    pub fn check(&self) -> Result<Inventory, ConfigError> {
        let file = self.path.display().to_string();
        Ok(Inventory::parse(&self.text(), &file)?)
    }

    /// Checks the result and replaces the file. Nothing is written if it has a fault, or if
    /// somebody without a lock (an editor) saved the file meanwhile.
    pub fn save(self) -> Result<Inventory, ConfigError> {
        let inventory = self.check()?;
        let text = self.text();
        if text != self.before {
            // RACE: an editor that saves between this look and the rename loses its change.
            if file::read(&self.path, "inventory")? != self.before.as_bytes() {
                return Err(ConfigError::ChangedMeanwhile { path: self.path });
            }
            file::replace(&self.path, text.as_bytes(), 0o644)?;
        }
        Ok(inventory)
    }

    /// The document knows that a name is unknown; the inventory knows which one is close.
    fn suggesting(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Unknown { kind, name, .. } => {
                let found = match kind {
                    Kind::Server => self.inventory.server(&name).err(),
                    Kind::Cluster => self.inventory.cluster(&name).err(),
                    Kind::Balancer => self.inventory.balancer(&name).err(),
                    Kind::Platform => self.inventory.platform(&name).err(),
                    Kind::Site => self.inventory.site(&name).err(),
                };
                found.unwrap_or(ConfigError::Unknown {
                    kind,
                    name,
                    closest: None,
                })
            }
            other => other,
        }
    }
}

/// Both parsers read the same language, so this is not expected after the first one agreed.
fn unreadable(path: &Path, error: &toml_edit::TomlError) -> ConfigError {
    ConfigError::Read {
        path: path.to_owned(),
        source: std::io::Error::other(error.message().to_owned()),
    }
}
