//! Configuration sets on this server: put beside the live one, tested by the programs that will
//! read them, activated by one rename, proved, confirmed or reverted.
//!
//! Refuses: names that aren't one component, sets of another hub than the one that began, a set
//! that wasn't tested without faults, a second change while one waits for its confirmation.
//!
//! Invariants: a set that isn't confirmed in time is reverted by this server itself, after a
//! restart of the agent too; nothing is reloaded that its own program's test refuses; no file of a
//! confirmed set changes but `apache.roots`; private keys and settings that the live set doesn't
//! have are gone with its confirmation.

mod activate;
pub(super) mod place;
mod put;
mod test;

use super::programs::Programs;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::net::NodeKey;
use place::{Place, disk, hex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sync_proto::wire::service::{
    ConfigAnswer, ConfigArea, ConfigRequest, ConfigSetId, ConfigState,
};
use tokio::sync::Mutex;

/// LIMIT: the longest that a set may wait for its confirmation.
const LONGEST_CONFIRMATION: Duration = Duration::from_secs(600);

/// The sets of this server.
#[derive(Debug)]
pub(super) struct Sets {
    place: Place,
    programs: Programs,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Sets {
    pub(super) fn open(root: &Path) -> Result<Self, Problem> {
        let place = Place::create(root).map_err(disk)?;
        Ok(Self {
            programs: Programs::new(&place),
            place,
            changing: Mutex::new(()),
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The set that is live and confirmed.
    pub(super) fn confirmed(&self) -> Option<ConfigSetId> {
        match self.place.pending() {
            Ok(None) => self.place.live(),
            Ok(Some(pending)) => pending.previous,
            Err(_) => None,
        }
    }

    pub(super) async fn answer(
        self: &Arc<Self>,
        hub: NodeKey,
        request: ConfigRequest,
    ) -> Result<ConfigAnswer, Problem> {
        self.belongs_to(hub)?;
        let _changing = self.changing.lock().await;
        Ok(match request {
            ConfigRequest::State => ConfigAnswer::State(self.state().await?),
            ConfigRequest::Read { area, name } => ConfigAnswer::Read {
                bytes: self.read(area, &name)?,
            },
            ConfigRequest::Put { set, files } => {
                self.claim(hub)?;
                let sets = Arc::clone(self);
                blocking(move || sets.put(&set, files)).await?;
                ConfigAnswer::Done
            }
            ConfigRequest::Test { set } => ConfigAnswer::Tested(self.test(&set).await?),
            ConfigRequest::Activate {
                set,
                confirm_within_s,
            } => {
                let within = Duration::from_secs(confirm_within_s.into());
                let within = within.min(LONGEST_CONFIRMATION);
                let activated = self.activate(&set, within).await?;
                self.revert_later(set, within);
                ConfigAnswer::Activated(activated)
            }
            ConfigRequest::Confirm { set } => {
                self.confirm(&set).await?;
                ConfigAnswer::Done
            }
            ConfigRequest::Revert { set } => {
                self.revert(&set).await?;
                ConfigAnswer::Done
            }
        })
    }

    /// Reverts what nobody confirmed while the agent didn't run; the rest goes on waiting. To be
    /// called once, before anybody is served.
    pub(super) async fn settle(self: &Arc<Self>) {
        let _changing = self.changing.lock().await;
        self.programs.settle();
        match self.place.pending() {
            Ok(None) => {}
            Ok(Some(pending)) if pending.until_s > now_s() => {
                let left = Duration::from_secs(pending.until_s.saturating_sub(now_s()));
                self.revert_later(pending.set, left.min(LONGEST_CONFIRMATION));
            }
            Ok(Some(pending)) => {
                tracing::warn!(set = hex(&pending.set), "not confirmed: reverting");
                if let Err(problem) = self.revert(&pending.set).await {
                    tracing::error!(%problem, "a configuration set could not be reverted");
                }
            }
            Err(problem) => tracing::error!(%problem, "the pending set can't be read"),
        }
    }

    /// Reverts the set unless it was confirmed by then.
    fn revert_later(self: &Arc<Self>, set: ConfigSetId, within: Duration) {
        let sets = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(within).await;
            let _changing = sets.changing.lock().await;
            let waits = matches!(
                sets.place.pending(),
                Ok(Some(pending)) if pending.set == set
            );
            if waits {
                tracing::warn!(set = hex(&set), "not confirmed in time: reverting");
                if let Err(problem) = sets.revert(&set).await {
                    tracing::error!(%problem, "a configuration set could not be reverted");
                }
            }
        });
    }

    async fn state(self: &Arc<Self>) -> Result<ConfigState, Problem> {
        let sets = Arc::clone(self);
        blocking(move || {
            let live = sets.place.live();
            let files = match &live {
                Some(live) => sets.files(live)?,
                None => Vec::new(),
            };
            let pending = sets.place.pending()?;
            Ok(ConfigState {
                is_unconfirmed: pending.is_some_and(|it| Some(it.set) == live),
                live,
                files,
            })
        })
        .await
    }

    fn read(&self, area: ConfigArea, name: &str) -> Result<Vec<u8>, Problem> {
        if is_secret(area) {
            let message = format!("Files of the area {area:?} hold secrets and are never read out");
            return Err(Problem::new(Code::SetRefused, message));
        }
        let Some(live) = self.place.live() else {
            return Err(Problem::new(
                Code::SetUnknown,
                "No configuration set is live",
            ));
        };
        Ok(self.content(&live, area, name)?.unwrap_or_default())
    }

    /// Everything that fanout configures here belongs to one hub: the first that put something.
    ///
    /// # Errors
    /// It is another one's.
    pub(super) fn belongs_to(&self, hub: NodeKey) -> Result<(), Problem> {
        match self.owner()? {
            Some(owner) if owner != hub.to_string() => {
                let message = format!(
                    "The services of this server belong to the hub {owner} (said by {})",
                    self.owner_file().display()
                );
                Err(Problem::new(Code::ServicesOfAnother, message))
            }
            _ => Ok(()),
        }
    }

    /// Under the lock, so that of two hubs one is the first.
    fn claim(&self, hub: NodeKey) -> Result<(), Problem> {
        self.belongs_to(hub)?;
        if self.owner()?.is_some() {
            return Ok(());
        }
        let line = format!("{hub}\n");
        system::replace(&self.owner_file(), line.as_bytes(), 0o600).map_err(disk)
    }

    fn owner_file(&self) -> PathBuf {
        self.place.root().join("owner")
    }

    fn owner(&self) -> Result<Option<String>, Problem> {
        match system::read_text(&self.owner_file()) {
            Ok(owner) => Ok(Some(owner.trim().to_owned())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(disk(error)),
        }
    }
}

/// Does the area hold secrets?
fn is_secret(area: ConfigArea) -> bool {
    matches!(
        area,
        ConfigArea::Keys | ConfigArea::Passwords | ConfigArea::Settings
    )
}

/// There is no such set here.
fn unknown(set: &ConfigSetId) -> Problem {
    let message = format!("There is no configuration set {} here", hex(set));
    Problem::new(Code::SetUnknown, message)
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| it.as_secs())
}

/// Work on the disk, away from the threads that serve the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failure) => Err(Problem::from_error(Code::Bug, &failure)),
    }
}
