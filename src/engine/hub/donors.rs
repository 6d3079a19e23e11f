//! Contents that neither the depot nor the source has, from a member that has them: a donor.
//!
//! A content is fetched once for a whole task, into a spool on the hub's disk, and its hash is
//! checked before any byte of it goes to anybody: donors are believed as little as anybody else.
//! One that can't be reached, hasn't the content, or has something else by now costs time; then
//! the next one is asked. Donors are only looked at, under no fence, and nothing changes on them.
//!
//! Not asked: members that take part in the same transaction, whose trees are taken.

use super::offer::Offer;
use super::preflight::{Hub, connect};
use super::session::{Session, SessionError};
use super::task::{Target, Task};
use crate::codes::Problem;
use crate::engine::depot::{Depot, DepotError, MAX_STORED_BYTES, Spool, Spooled};
use crate::engine::event::{Event, MemberName};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;
use sync_proto::manifest::Content;
use sync_proto::path::escape;
use sync_proto::wire::{Level, MAX_LEND_BYTES, Open};
use thiserror::Error;
use tokio::sync::OnceCell;

/// Why nobody supplies a content.
#[derive(Clone, Debug, Error)]
pub enum NoDonor {
    /// Everybody was asked.
    #[error(
        "`{path}` ({} MiB) can't be sent: the depot keeps no files above {} MiB, the source no \
         longer has it, and no other member supplies it: {}",
        .size >> 20, MAX_STORED_BYTES >> 20, in_words(.tried)
    )]
    Nobody {
        /// A path with that content, escaped.
        path: String,
        /// How long it is.
        size: u64,
        /// Who was asked, and what came of it.
        tried: Vec<(MemberName, String)>,
    },
    /// The hub can't keep what a donor sends.
    #[error("What another member supplies can't be kept on the hub: {0}")]
    Spool(String),
}

fn in_words(tried: &[(MemberName, String)]) -> String {
    if tried.is_empty() {
        return "there is none".into();
    }
    let each = tried.iter().map(|(name, why)| format!("{name}: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

/// Why one donor was of no use.
enum Failed {
    /// It, or the way to it.
    Donor(String),
    /// The hub's own disk.
    Hub(DepotError),
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        Self::Donor(error.problem().message)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Donor(problem.message)
    }
}

impl From<DepotError> for Failed {
    fn from(error: DepotError) -> Self {
        Self::Hub(error)
    }
}

/// A search under way, also if whoever waits for it is gone before its end.
struct Searching<'a>(&'a AtomicU64);

impl<'a> Searching<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Searching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Cell = Arc<OnceCell<Result<Arc<Spooled>, NoDonor>>>;

/// The members that may have what a task needs.
pub struct Donors {
    hub: Hub,
    task: Task,
    depot: Arc<Depot>,
    offer: Arc<Offer>,
    /// Members whose trees this task has taken.
    taken: HashSet<MemberName>,
    cells: Mutex<HashMap<Digest, Cell>>,
    /// How many searches are under way: each ends by the limits of its own waits.
    searches: AtomicU64,
}

impl Donors {
    /// The donors of a task that works on `taken` itself.
    pub fn new(
        hub: Hub,
        task: Task,
        depot: Arc<Depot>,
        offer: Arc<Offer>,
        taken: HashSet<MemberName>,
    ) -> Self {
        Self {
            hub,
            task,
            depot,
            offer,
            taken,
            cells: Mutex::default(),
            searches: AtomicU64::new(0),
        }
    }

    /// True while a content is being fetched; members that need it have nothing to show meanwhile.
    pub fn is_searching(&self) -> bool {
        self.searches.load(Ordering::Relaxed) > 0
    }

    /// A content, fetched once however many ask; an answer that nobody has it is final, too.
    pub async fn fetch(&self, content: &Content) -> Result<Arc<Spooled>, NoDonor> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(content.digest).or_default().clone()
        };
        let fetched = cell.get_or_init(|| async {
            let _searching = Searching::begin(&self.searches);
            self.search(content).await.map(Arc::new)
        });
        fetched.await.clone()
    }

    async fn search(&self, content: &Content) -> Result<Spooled, NoDonor> {
        let path = self.path_of(content);
        let mut tried = Vec::new();
        for (target, is_there) in self.candidates().await {
            if self.taken.contains(&target.name) {
                if is_there {
                    let why = "is being repaired itself; it may be asked after that";
                    tried.push((target.name.clone(), why.to_owned()));
                }
                continue;
            }
            self.note(format!(
                "{} is asked for `{path}`, which neither the depot nor the source has",
                target.name
            ));
            match self.fetch_from(target, content).await {
                Ok(spooled) => return Ok(spooled),
                Err(Failed::Hub(error)) => {
                    return Err(NoDonor::Spool(crate::codes::error_chain(&error)));
                }
                Err(Failed::Donor(why)) => {
                    let prefix = format!("{}: ", target.name);
                    let why = why.strip_prefix(&prefix).unwrap_or(&why).to_owned();
                    self.note(format!("{prefix}{why}"));
                    tried.push((target.name.clone(), why));
                }
            }
        }
        Err(NoDonor::Nobody {
            path,
            size: content.size,
            tried,
        })
    }

    fn note(&self, text: String) {
        self.hub.events.emit(Event::Note(text));
    }

    /// All members, those first that were last known to be at the wanted generation, which is
    /// said of each.
    async fn candidates(&self) -> Vec<(&Target, bool)> {
        let (store, platform) = (&self.hub.store, &self.task.platform);
        let generations = store.generations(platform).await.unwrap_or_default();
        let members = store.members(platform).await.unwrap_or_default();
        let is_there = |target: &Target| {
            let state = members
                .iter()
                .find(|state| state.server.as_str() == &*target.name);
            let serial = state.and_then(|state| state.serial);
            generations.iter().any(|generation| {
                Some(generation.serial) == serial
                    && super::kept::roots_of(generation) == self.offer.roots
            })
        };
        let donors = self.task.donors.iter();
        let mut all: Vec<_> = donors.map(|donor| (donor, is_there(donor))).collect();
        all.sort_by_key(|(_, is_there)| !is_there);
        all
    }

    async fn fetch_from(&self, target: &Target, content: &Content) -> Result<Spooled, Failed> {
        let session = connect(&self.hub, &self.task, target).await?;
        // The same look as a dry run's: what was changed there since its last commit is noticed.
        let open = Open {
            tree: self.task.tree,
            fence: 0,
            level: Level::Stat,
            exclude: self.task.exclude.clone(),
            preserve: self.task.preserve.clone(),
            options: self.task.options,
        };
        session.open(open).await?;
        let spool = self.spool(&session, content).await?;
        let _goodbye = session.leave().await;
        let wanted = *content;
        let finished = tokio::task::spawn_blocking(move || spool.finish(&wanted)).await;
        finished.ok().flatten().ok_or_else(|| {
            Failed::Donor("what it sent does not have the hash that it should have".into())
        })
    }

    async fn spool(&self, session: &Session, content: &Content) -> Result<Spool, Failed> {
        let mut spool = self.depot.spool()?;
        while spool.bytes() < content.size {
            let left = content.size - spool.bytes();
            let length = u32::try_from(left)
                .unwrap_or(MAX_LEND_BYTES)
                .min(MAX_LEND_BYTES);
            let end = spool.bytes() + u64::from(length);
            session
                .borrow(content.digest, spool.bytes(), length)
                .await?;
            while spool.bytes() < end {
                let part = session.borrowed(end - spool.bytes()).await?;
                let written = tokio::task::spawn_blocking(move || {
                    let done = spool.append(&part);
                    (spool, done)
                });
                let (back, done) = written
                    .await
                    .map_err(|_| Failed::Donor("writing was stopped".into()))?;
                done?;
                spool = back;
            }
        }
        Ok(spool)
    }

    fn path_of(&self, content: &Content) -> String {
        let mut entries = self.offer.manifest.entries();
        let found = entries.find_map(|(directory, entry)| match entry.kind {
            Kind::File { content: one, .. } if one == content.digest => {
                Some(directory.path_of(&entry.name))
            }
            _ => None,
        });
        found.map_or_else(
            || format!("{:?}", content.digest),
            |path| escape(path.as_bytes()),
        )
    }
}
