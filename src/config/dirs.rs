//! Which file lies where, on the hub and on a server. The only place that knows.

use super::ConfigError;
use super::file::{self, make_directory};
use crate::model::{PlatformName, TreeId};
use std::path::{Path, PathBuf};

/// The hub's files: `--dir DIR` or `FANOUT_DIR` puts the inventory and `state/` into one
/// directory; without it they are in `/etc/fanout` and `/var/lib/fanout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubDir {
    inventory: PathBuf,
    state: PathBuf,
}

impl HubDir {
    /// The directory given, or the system's.
    pub fn new(dir: Option<&Path>) -> Self {
        match dir.map(absolute).as_deref() {
            Some(dir) => Self {
                inventory: dir.join("fanout.toml"),
                state: dir.join("state"),
            },
            None => Self {
                inventory: "/etc/fanout/fanout.toml".into(),
                state: "/var/lib/fanout".into(),
            },
        }
    }

    /// Makes the directories that aren't there, the state's readable by its owner alone.
    pub fn create(&self) -> Result<(), ConfigError> {
        if let Some(parent) = self.inventory.parent() {
            make_directory(parent, false)?;
        }
        for dir in [
            self.state.clone(),
            self.depot(),
            self.identity(),
            self.secrets(),
            self.locks(),
            self.sources(),
        ] {
            make_directory(&dir, true)?;
        }
        Ok(())
    }

    /// `fanout.toml`.
    pub fn inventory(&self) -> &Path {
        &self.inventory
    }

    /// Certificates that were put together with their chains: beside the inventory, for they are
    /// no secret.
    pub fn certificates(&self) -> PathBuf {
        self.inventory.with_file_name("certificates")
    }

    /// Everything that isn't the inventory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The state database.
    pub fn database(&self) -> PathBuf {
        self.state.join("state.sqlite")
    }

    /// Manifests and packs.
    pub fn depot(&self) -> PathBuf {
        self.state.join("depot")
    }

    /// The hub's key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// What is referred to as `secret:NAME`; apart from the database and its history.
    pub fn secrets(&self) -> PathBuf {
        self.state.join("secrets")
    }

    /// Lock files.
    pub fn locks(&self) -> PathBuf {
        self.state.join("locks")
    }

    /// The lock that a task on this platform holds.
    pub fn platform_lock(&self, platform: &PlatformName) -> PathBuf {
        self.locks().join(format!("platform-{platform}.lock"))
    }

    /// The lock of whoever changes services.
    pub fn services_lock(&self) -> PathBuf {
        self.locks().join("services.lock")
    }

    /// What the last scan of this platform's source saw.
    pub fn source_index(&self, platform: &PlatformName) -> PathBuf {
        self.sources().join(format!("{platform}.index"))
    }

    /// What scans of sources saw.
    pub fn sources(&self) -> PathBuf {
        self.state.join("sources")
    }

    /// Platforms whose state came out of a backup and was not yet compared with what members know.
    pub fn restored(&self) -> PathBuf {
        self.state.join("restored")
    }

    /// There while a backup is being unpacked.
    pub fn restoring(&self) -> PathBuf {
        self.state.join("restoring")
    }

    /// The lock that an edit of the inventory holds.
    pub fn inventory_lock(&self) -> PathBuf {
        self.locks().join("inventory.lock")
    }
}

/// An agent's files: `--dir DIR` puts them into one directory; without it they are in
/// `/etc/fanout/agent.toml` and `/var/lib/fanout/agent`, so that a hub may be a server too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentDir {
    config: PathBuf,
    state: PathBuf,
    overwritten: PathBuf,
    socket: PathBuf,
    services: PathBuf,
}

impl AgentDir {
    /// The directory given, or the system's.
    pub fn new(dir: Option<&Path>) -> Self {
        match dir.map(absolute).as_deref() {
            Some(dir) => Self {
                config: dir.join("agent.toml"),
                state: dir.to_owned(),
                overwritten: dir.join("overwritten"),
                socket: dir.join("run.sock"),
                services: dir.join("services"),
            },
            None => Self {
                config: "/etc/fanout/agent.toml".into(),
                state: "/var/lib/fanout/agent".into(),
                overwritten: "/var/lib/fanout/overwritten".into(),
                socket: "/run/fanout/agent.sock".into(),
                services: "/var/lib/fanout-services".into(),
            },
        }
    }

    /// Makes the directories that aren't there, all readable by their owner alone.
    pub fn create(&self) -> Result<(), ConfigError> {
        if let Some(parent) = self.config.parent()
            && parent != self.state
        {
            make_directory(parent, false)?;
        }
        file::make_closed_directory(&self.state)?;
        for dir in [
            self.identity(),
            self.peers(),
            self.trees(),
            self.overwritten.clone(),
        ] {
            make_directory(&dir, true)?;
        }
        Ok(())
    }

    /// Lets workers of web servers and PHP pass through to what [`Self::services`] holds, where that
    /// lies in the agent's own directory. What is private there is so by itself.
    pub fn let_services_be_reached(&self) -> Result<(), ConfigError> {
        match self.services.starts_with(&self.state) {
            true => file::let_pass(&self.state),
            false => Ok(()),
        }
    }

    /// `agent.toml`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The directory that holds the rest.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The agent's key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// The certificates of accepted peers.
    pub fn peers(&self) -> PathBuf {
        self.state.join("peers")
    }

    /// One directory per tree that is bound here.
    pub fn trees(&self) -> PathBuf {
        self.state.join("trees")
    }

    /// What the agent knows about one tree.
    pub fn tree(&self, id: &TreeId) -> PathBuf {
        self.trees().join(id.to_string())
    }

    /// The socket of the running agent, for sessions over SSH and for `fanout agent invite`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Local edits that a commit moved aside, kept for a while.
    pub fn overwritten(&self) -> &Path {
        &self.overwritten
    }

    /// Configuration sets and the data of services. Apart from the rest, which is private: workers
    /// of web servers read below it.
    pub fn services(&self) -> &Path {
        &self.services
    }

    /// The lock that a running agent holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("agent.lock")
    }
}

/// A directory as it is meant now, wherever the process may go.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn one_directory_holds_inventory_and_state() {
        let temporary = tempfile::tempdir().unwrap();
        let hub = HubDir::new(Some(temporary.path()));
        hub.create().unwrap();
        hub.create().unwrap();
        assert_eq!(hub.inventory(), temporary.path().join("fanout.toml"));
        assert_eq!(mode(hub.state()), 0o700);
        assert_eq!(mode(&hub.secrets()), 0o700);
        assert!(hub.database().starts_with(hub.state()));
    }

    #[test]
    fn the_system_directories_of_hub_and_agent_do_not_meet() {
        let (hub, agent) = (HubDir::new(None), AgentDir::new(None));
        assert_eq!(hub.inventory(), Path::new("/etc/fanout/fanout.toml"));
        assert_eq!(agent.config(), Path::new("/etc/fanout/agent.toml"));
        assert_ne!(hub.identity(), agent.identity());
    }

    #[test]
    fn an_agent_directory_is_private() {
        let temporary = tempfile::tempdir().unwrap();
        let agent = AgentDir::new(Some(&temporary.path().join("agent")));
        agent.create().unwrap();
        assert_eq!(mode(agent.state()), 0o700);
        assert_eq!(mode(&agent.identity()), 0o700);
        assert_eq!(mode(agent.overwritten()), 0o700);
        // Services are passed through to, also after the next start; nothing can be listed.
        agent.let_services_be_reached().unwrap();
        agent.create().unwrap();
        assert_eq!(mode(agent.state()), 0o711);
        assert_eq!(mode(&agent.identity()), 0o700);
        fs::set_permissions(agent.state(), fs::Permissions::from_mode(0o755)).unwrap();
        agent.create().unwrap();
        assert_eq!(mode(agent.state()), 0o711);
    }
}
