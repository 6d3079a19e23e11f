//! The running agent: finishes what was decided, listens, serves sessions, keeps house, and ends
//! when it is told.
//!
//! LIMIT: so many sessions at once (`places`), so many bytes of objects in memory over all of them.

use super::authorize::Peers;
use super::facts::facts;
use super::places::{Place, Places};
use super::services::Services;
use super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir};
use crate::engine::member::host::{Bound, Claim, Host, Proposal, Serving};
use crate::engine::member::overwritten::expire;
use crate::engine::member::record::Vote;
use crate::engine::member::session::{SessionEnd, serve};
use crate::engine::member::staged::settled;
use crate::fs::FsError;
use crate::fs::read::FsClock;
use crate::net::error::code;
use crate::net::limits::{Budget, Options};
use crate::net::{Connection, Endpoint, Identity, NetError, NodeKey, PipeListener, Role};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::path::escape;
use sync_proto::wire::{Doubt, Facts, MAX_HEADER_BYTES, ServiceRequest, TreeKey};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How often the directory of peers is looked at.
pub(super) const RELOAD: Duration = Duration::from_millis(100);
/// How often old left-overs are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// How long sessions have to come to an end when the agent is told to stop.
const GOODBYE: Duration = Duration::from_secs(10);
/// Close code of an agent that stops.
const STOPPING: u32 = 16;
const BUSY: u32 = 17;

/// An agent that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its name.
    pub name: String,
    /// Where it listens, with the port that the system chose if none was given.
    pub address: std::net::SocketAddr,
    /// Its socket.
    pub socket: std::path::PathBuf,
    /// Its key.
    pub key: NodeKey,
    /// Transactions that wait for their hub's word.
    pub doubts: usize,
}

/// The agent around its sessions.
pub struct Agent {
    config: AgentConfig,
    identity: Identity,
    trees: Arc<Trees>,
    peers: Peers,
    services: Services,
}

impl Agent {
    /// Opens the agent's state and finishes what was decided before it stopped.
    pub fn open(dir: &AgentDir, config: AgentConfig, identity: Identity) -> Result<Self, Problem> {
        let agent = Self {
            trees: Arc::new(Trees::open(dir, &config)?),
            peers: Peers::open(&dir.peers())?,
            services: Services::open(dir, &config)?,
            config,
            identity,
        };
        agent.peers.reload()?;
        // ORDER: what was decided is carried out before anybody is served (I1).
        agent.recover();
        Ok(agent)
    }

    /// The accepted peers.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The trees.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// Finishes every commit that was decided. A tree where that fails is tried again when its hub
    /// asks for it.
    fn recover(&self) {
        for tree in self.trees.keys() {
            let Some(binding) = self.trees.binding(tree) else {
                continue;
            };
            let done = self
                .trees
                .claim(binding.hub, tree)
                .and_then(|claim| settled(&claim));
            if let Err(problem) = done {
                let problem = escape(problem.to_string().as_bytes());
                tracing::error!(root = %escape(binding.root.as_bytes()), %problem, "not recovered");
            }
        }
    }

    /// Removes what was kept long enough.
    fn keep_house(&self) {
        let hours = i64::from(self.config.limits.staging_hours);
        let days = i64::from(self.config.limits.overwritten_days);
        for tree in self.trees.keys() {
            let Some(binding) = self.trees.binding(tree) else {
                continue;
            };
            // A tree that is worked on is looked at the next time.
            let Ok(claim) = self.trees.claim(binding.hub, tree) else {
                continue;
            };
            if let Err(error) = tidy(&claim, hours * 3600, days * 86_400) {
                tracing::warn!(%error, "left-overs can't be removed");
            }
        }
    }

    fn doubts_of_all(&self) -> usize {
        let keys = self.trees.keys();
        let bindings = keys.into_iter().filter_map(|tree| self.trees.binding(tree));
        let hubs: std::collections::BTreeSet<NodeKey> = bindings.map(|it| it.hub).collect();
        hubs.into_iter()
            .map(|hub| self.trees.doubts(hub).len())
            .sum()
    }
}

pub(super) fn tidy(
    claim: &Claim,
    stage_seconds: i64,
    overwritten_seconds: i64,
) -> Result<(), FsError> {
    let place = &claim.place;
    // What is staged, and what was moved aside, belongs to a transaction that is open.
    if !matches!(Vote::load(place), Ok(None)) {
        return Ok(());
    }
    let now = FsClock::open(place.state())?.now()?;
    expire(place, claim.overwritten.as_ref(), now, overwritten_seconds)?;
    let stages = place.stages()?;
    for listed in stages.list()? {
        let stat = stages.stat(&listed.name)?;
        if stat.is_some_and(|it| now.seconds.saturating_sub(it.ctime.seconds) > stage_seconds) {
            stages.remove_tree(&listed.name)?;
        }
    }
    Ok(())
}

impl Host for Agent {
    fn facts(&self) -> Facts {
        facts(&self.config)
    }

    fn doubts(&self, hub: NodeKey) -> Vec<Doubt> {
        self.trees.doubts(hub)
    }

    fn join(&self, token: NodeKey, certificate: &[u8]) -> Result<(), Problem> {
        let hub = self.peers.join(token, certificate)?;
        tracing::info!(%hub, "a hub joined");
        Ok(())
    }

    fn bind(&self, hub: NodeKey, proposal: &Proposal<'_>) -> Result<Bound, Problem> {
        self.trees.bind(hub, proposal)
    }

    fn claim(&self, hub: NodeKey, tree: TreeKey) -> Result<Claim, Problem> {
        self.trees.claim(hub, tree)
    }

    fn note_holder(&self, tree: TreeKey, connection: &Connection) {
        self.trees.note_holder(tree, connection);
    }

    fn take_over(&self, hub: NodeKey, tree: TreeKey) {
        self.trees.take_over(hub, tree);
    }

    fn forget(&self, tree: TreeKey) -> Result<(), Problem> {
        self.trees.forget(tree)
    }

    fn committed(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.services.tree_committed().await })
    }

    fn service(self: Arc<Self>, hub: NodeKey, request: ServiceRequest) -> Serving {
        Box::pin(async move { self.services.answer(&self.trees, hub, request).await })
    }
}

/// Serves until a signal ends it. `ready` is called once it listens.
pub async fn listen(
    agent: Agent,
    dir: &AgentDir,
    ready: impl FnOnce(&Ready),
) -> Result<(), Problem> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Problem::from_error(Code::ListenFailed, error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let memory = u32::try_from(agent.config.limits.memory_bytes).unwrap_or(u32::MAX);
    let options = Options {
        budget: Budget::new(memory),
        header_max_bytes: MAX_HEADER_BYTES,
        ..Options::default()
    };
    let trust = agent.peers.trust().clone();
    let endpoint = Endpoint::server(
        agent.config.listen,
        agent.identity.clone(),
        trust.clone(),
        options.clone(),
    )
    .map_err(|error| failed(&error))?;
    let socket =
        PipeListener::bind(dir.socket(), 0o600, agent.identity.clone(), trust, options).await;
    let socket = socket.map_err(|error| failed(&error))?;
    let sessions = usize::try_from(agent.config.limits.sessions)
        .unwrap_or(1)
        .max(1);
    let places = Places::new(sessions);
    let agent = Arc::new(agent);
    let announced = Ready {
        name: agent.config.name.to_string(),
        address: endpoint.address(),
        socket: dir.socket().to_owned(),
        key: agent.identity.key(),
        doubts: agent.doubts_of_all(),
    };
    // ORDER: a set that nobody confirmed is taken back before a hub can ask for it.
    agent.services.settle().await;
    agent.services.tree_committed().await;
    tracing::info!(address = %announced.address, doubts = announced.doubts, "ready");
    ready(&announced);
    // Without a supervisor nobody listens to this.
    let _nobody_asked = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut running = JoinSet::new();
    // Apart from the sessions: it may wait for a database that isn't up yet, and the end doesn't
    // wait for it.
    let recovering = agent.clone();
    tokio::spawn(async move { recovering.services.recover(&recovering.trees).await });
    let mut reload = tokio::time::interval(RELOAD);
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        let connection = tokio::select! {
            connection = endpoint.accept() => connection,
            connection = socket.accept() => connection,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            _ = reload.tick() => {
                let agent = agent.clone();
                let reloaded = tokio::task::spawn_blocking(move || agent.peers.reload()).await;
                if let Ok(Err(problem)) = reloaded {
                    tracing::error!(%problem, "the accepted keys can't be read");
                }
                continue;
            }
            _ = housekeeping.tick() => {
                let agent = agent.clone();
                running.spawn_blocking(move || agent.keep_house());
                continue;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let Some(connection) = connection else {
            break;
        };
        match places.take(connection.peer()) {
            Some(place) => {
                running.spawn(session(agent.clone(), connection, place));
            }
            None => {
                // LIMIT: whoever comes when all places are taken is told so.
                tracing::warn!(peer = %connection.peer(), "too many sessions");
                connection.close(BUSY, "this agent has as many sessions as it allows");
            }
        }
    }
    let _nobody_asked = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    endpoint.close(STOPPING, "this agent stops").await;
    drop(socket);
    let ended = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, ended).await.is_err() {
        tracing::warn!("sessions were cut off");
    }
    Ok(())
}

async fn session(agent: Arc<Agent>, connection: Connection, place: Place) {
    let _place = place;
    let (peer, remote) = (connection.peer(), connection.remote().to_owned());
    let Some(role) = agent.peers.trust().role(peer) else {
        connection.close(0, "this key is not accepted");
        return;
    };
    if role == Role::Member {
        connection.close(0, "members have nothing to ask of each other yet");
        return;
    }
    tracing::debug!(%peer, remote = %escape(remote.as_bytes()), "a session begins");
    match serve(connection, role, agent).await {
        SessionEnd::Violation(problem) => {
            let problem = escape(problem.to_string().as_bytes());
            tracing::warn!(%peer, %problem, "a session was ended");
        }
        // The transport noticed what breaks its rules or ours.
        SessionEnd::Net(
            error @ (NetError::Protocol { .. }
            | NetError::Limit { .. }
            | NetError::ClosedHere {
                code: code::LIMIT | code::PROTOCOL,
                ..
            }),
        ) => {
            let problem = escape(error.to_string().as_bytes());
            tracing::warn!(%peer, %problem, "a session was ended");
        }
        end @ (SessionEnd::Silent | SessionEnd::Deaf) => {
            tracing::warn!(%peer, problem = %end, "a session was ended");
        }
        end => tracing::debug!(%peer, %end, "a session ended"),
    }
}
