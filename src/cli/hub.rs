//! The hub that a command works on: its directories, its inventory, its state, and who works.
//!
//! The one place where errors of the configuration and of the state database become what a person
//! reads, with a code and a way on. Invariant: a platform of the inventory has a tree id in the
//! state before anything is done with it.

use super::Context;
use super::error::CommandError;
use crate::clock::Clock;
use crate::codes::{Code, Problem};
use crate::config::{ConfigError, Edit, HubDir, Inventory, Kind, Platform, SecretError, backup};
use crate::engine::depot::Depot;
use crate::engine::event::EventSink;
use crate::engine::hub::preflight;
use crate::fs::owner::Principals;
use crate::fs::{Dir, fault};
use crate::model::{PlatformName, TreeId, Who};
use crate::net::Identity;
use crate::store::{Holder, Lock, LockError, PlatformState, SecretFileError, Store, StoreError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sync_proto::path::Name;

/// How long `--wait` waits for a lock.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// An opened hub.
pub(crate) struct Hub {
    /// Its directories.
    pub(crate) dir: HubDir,
    /// What it keeps identical, and where.
    pub(crate) inventory: Inventory,
    /// What it remembers.
    pub(crate) store: Arc<Store>,
    /// The time.
    pub(crate) clock: Clock,
    /// Who works on it.
    pub(crate) who: Who,
    /// Platforms whose state came out of a backup, and may be older than what was decided.
    outdated: Arc<BTreeSet<PlatformName>>,
}

impl Hub {
    /// Opens the hub in the directory that the command line names.
    pub(crate) async fn open(context: &Context) -> Result<Self, CommandError> {
        let dir = context.hub_dir();
        let inventory = Inventory::load(dir.inventory()).map_err(config_error)?;
        // A hub whose inventory came out of version control has no state yet.
        dir.create().map_err(config_error)?;
        let may_commit: fn() -> bool = || fault::point("hub.store.commit").is_ok();
        let store = Store::open_watched(&dir.database(), fault::is_armed().then_some(may_commit))
            .await
            .map_err(store_error)?;
        let outdated = Arc::new(backup::restored(&dir).map_err(config_error)?);
        Ok(Self {
            outdated,
            dir,
            inventory,
            store: Arc::new(store),
            clock: Clock::system(),
            who: who(),
        })
    }

    /// The platform of that name.
    pub(crate) fn platform(&self, name: &str) -> Result<&Platform, CommandError> {
        self.inventory.platform(name).map_err(config_error)
    }

    /// The platforms of those names; without any, the only one there is.
    pub(crate) fn platforms(&self, names: &[String]) -> Result<Vec<&Platform>, CommandError> {
        if !names.is_empty() {
            let mut chosen: Vec<&Platform> = Vec::new();
            for name in names {
                let platform = self.platform(name)?;
                if !chosen.iter().any(|other| other.name == platform.name) {
                    chosen.push(platform);
                }
            }
            return Ok(chosen);
        }
        let all: Vec<&Platform> = self.inventory.platforms.values().collect();
        match all.len() {
            0 => Err(CommandError::new(
                Code::UnknownPlatform,
                "There is no platform in the inventory",
            )
            .hint("fanout add platform NAME --path SOURCE --root ROOT --on TARGET")),
            1 => Ok(all),
            _ => {
                let names: Vec<&str> = all.iter().map(|p| p.name.as_str()).collect();
                Err(CommandError::new(
                    Code::PlatformAmbiguous,
                    format!("There are several platforms: {}", names.join(", ")),
                ))
            }
        }
    }

    /// What the hub remembers of a platform. One that was written into the inventory by hand gets
    /// its tree id here.
    pub(crate) async fn state(&self, name: &PlatformName) -> Result<PlatformState, CommandError> {
        if let Some(state) = self.store.platform(name).await.map_err(store_error)? {
            return Ok(state);
        }
        let tree = TreeId::from_bytes(rand::random());
        match self.store.add_platform(name, tree).await {
            // RACE: another command was first, and its id is as good as ours.
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(store_error(error)),
        }
        let state = self.store.platform(name).await.map_err(store_error)?;
        state.ok_or_else(|| store_error(StoreError::UnknownPlatform(name.clone())))
    }

    /// Who holds a lock, and what for.
    pub(crate) fn holder(&self, what: &str) -> Holder {
        Holder::this_process(self.who.to_string(), what, self.clock.now())
    }

    /// Takes a platform's lock, at once or after waiting for it.
    pub(crate) async fn lock(
        &self,
        platform: &PlatformName,
        what: &str,
        wait: bool,
    ) -> Result<Lock, CommandError> {
        let path = self.dir.platform_lock(platform);
        self.take(path, format!("The platform {platform}"), what, wait)
            .await
    }

    /// Takes the lock of whoever changes services, at once or after waiting for it.
    pub(crate) async fn lock_serving(&self, what: &str, wait: bool) -> Result<Lock, CommandError> {
        let path = self.dir.services_lock();
        self.take(path, "Work on services".into(), what, wait).await
    }

    async fn take(
        &self,
        path: PathBuf,
        locked: String,
        what: &str,
        wait: bool,
    ) -> Result<Lock, CommandError> {
        let holder = self.holder(what);
        let limit = if wait { LONGEST_WAIT } else { Duration::ZERO };
        let taken = tokio::task::spawn_blocking(move || Lock::wait(&path, &holder, limit)).await;
        match taken {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(error)) => Err(lock_error(&error, &locked)),
            Err(error) => Err(CommandError::bug(format!(
                "Waiting for a lock stopped: {error}"
            ))),
        }
    }

    /// The task that has a platform's lock at this moment.
    pub(crate) fn running(&self, platform: &PlatformName) -> Result<Option<Holder>, CommandError> {
        let path = self.dir.platform_lock(platform);
        Lock::holder(&path).map_err(|error| lock_error(&error, &format!("The platform {platform}")))
    }

    /// Begins an edit of the inventory.
    pub(crate) fn edit(&self, what: &str) -> Result<Edit, CommandError> {
        Edit::open(&self.dir, &self.holder(what)).map_err(config_error)
    }

    /// The hub's key.
    pub(crate) fn identity(&self) -> Result<Identity, CommandError> {
        identity(&self.dir.identity())
    }

    /// The hub as the engine takes it.
    pub(crate) fn engine(&self, events: EventSink) -> preflight::Hub {
        preflight::Hub {
            store: self.store.clone(),
            events,
            clock: self.clock.clone(),
            outdated: self.outdated.clone(),
        }
    }

    /// Notes whether a platform's members have all said what they know.
    pub(crate) fn recovered(&self, platform: &PlatformName, all: bool) -> Result<(), CommandError> {
        let noted = match all {
            true => backup::recovered(&self.dir, platform),
            false => backup::outdated(&self.dir, platform),
        };
        noted.map_err(config_error)
    }

    /// The hub's store of manifests and contents.
    pub(crate) fn depot(&self) -> Result<Arc<Depot>, CommandError> {
        Depot::open(&self.dir.depot())
            .map(Arc::new)
            .map_err(|error| CommandError::from_error(Code::DepotDamaged, &error))
    }
}

/// The key in this directory, made if there is none.
pub(crate) fn identity(dir: &Path) -> Result<Identity, CommandError> {
    use crate::net::IdentityError;
    Identity::load_or_create(dir).map_err(|error| {
        let code = match &error {
            IdentityError::Exposed { .. } => Code::SecretExposed,
            _ => Code::StateDamaged,
        };
        CommandError::from_error(code, &error)
    })
}

/// The login user of this process, and who called sudo.
pub(crate) fn who() -> Who {
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = process_user()
        .or_else(|| text("LOGNAME"))
        .or_else(|| text("USER"))
        .unwrap_or_else(|| "unknown".into());
    let sudo_user = text("SUDO_USER").filter(|person| *person != user);
    Who { user, sudo_user }
}

/// The environment can say anything; the owner of our own process can't.
fn process_user() -> Option<String> {
    let name = Name::parse(std::process::id().to_string().as_bytes()).ok()?;
    let uid = Dir::open_absolute(Path::new("/proc"))
        .ok()?
        .stat(&name)
        .ok()??
        .uid;
    Some(Principals::by_name().user(uid).to_string())
}

/// An error of the configuration, with its code and its hint.
pub(crate) fn config_error(error: ConfigError) -> CommandError {
    let code = match &error {
        ConfigError::Missing {
            what: "inventory", ..
        } => Code::InventoryMissing,
        ConfigError::Missing { .. } => Code::AgentMissing,
        ConfigError::FileExists { .. } => Code::AlreadyInitialised,
        ConfigError::Write { .. } => Code::OutputFailed,
        ConfigError::Unknown { kind, .. } => match kind {
            Kind::Server => Code::UnknownServer,
            Kind::Cluster => Code::UnknownCluster,
            Kind::Platform => Code::UnknownPlatform,
            Kind::Balancer => Code::UnknownBalancer,
            Kind::Site => Code::UnknownSite,
        },
        ConfigError::Exists { .. } => Code::NameTaken,
        ConfigError::Lock(inner) => return lock_error(inner, "The inventory"),
        _ => Code::InventoryInvalid,
    };
    let hint = error.hint();
    let shown = CommandError::from_error(code, &error);
    match hint {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

/// An error of the state database, with its code and its hint.
pub(crate) fn store_error(error: StoreError) -> CommandError {
    let code = match &error {
        StoreError::UnknownGeneration(..) => Code::GenerationUnknown,
        StoreError::Exists { .. } => Code::NameTaken,
        _ => Code::StateDamaged,
    };
    let hint = error.hint();
    let shown = CommandError::from_error(code, &error);
    match hint {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

/// A secret that can't be had or kept, with its code and its hint.
pub(crate) fn secret_error(error: &SecretError) -> CommandError {
    let code = match error {
        SecretError::Unknown(_) => Code::UnknownSecret,
        SecretError::File(SecretFileError::Exposed { .. }) => Code::SecretExposed,
        _ => Code::SecretUnusable,
    };
    let shown = CommandError::from_error(code, error);
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

fn lock_error(error: &LockError, what: &str) -> CommandError {
    match error {
        LockError::Held { holder } => {
            CommandError::new(Code::TaskLocked, format!("{what} is locked by {holder}"))
        }
        LockError::Io { .. } => CommandError::from_error(Code::OutputFailed, error),
    }
}

/// A name, a path or a word of the command line that isn't one.
pub(crate) fn invalid(code: Code, error: &(dyn std::error::Error + 'static)) -> CommandError {
    CommandError::from_error(code, error)
}

/// The refusal of a platform that a person locked.
pub(crate) fn locked(state: &PlatformState) -> Option<Problem> {
    let lock = state.locked.as_ref()?;
    let reason = if lock.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", lock.reason)
    };
    Some(
        Problem::new(
            Code::PlatformLocked,
            format!(
                "{} is locked by {} since {}{reason}",
                state.name, lock.by, lock.since
            ),
        )
        .with_hint(format!(
            "ask {}; `fanout unlock platform {}` ends it",
            lock.by, state.name
        )),
    )
}
