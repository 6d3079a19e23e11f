//! The running agent: listens over QUIC and on a Unix socket, one session for each connection.

use super::peers::{Found, LOOK_EVERY, Peers};
use super::trees::Trees;
use super::{load, of_fs, of_key, open_dir};
use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir};
use crate::engine::hub::session::software;
use crate::engine::member::host::{Bound, Claim, Host, Proposal};
use crate::engine::member::session::{self, SessionEnd};
use crate::fs::lock::{Lock, LockError};
use crate::fs::{fault, owner, probe_openat2};
use crate::net::{
    Budget, Connection, Endpoint, Identity, NetError, NodeKey, Options, PipeListener, TrustStore,
    bridge,
};
use std::net::SocketAddr;
use std::sync::Arc;
use sync_proto::path::Name;
use sync_proto::wire::{Doubt, Facts, TreeKey};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// What an agent says when it can be reached.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its key.
    pub key: NodeKey,
}

/// Runs the agent until it is told to stop. `ready` is called once it can be reached.
pub async fn run(dir: &AgentDir, ready: impl FnOnce(&Ready)) -> Result<(), Problem> {
    let config = load(dir)?;
    probe_openat2().map_err(|error| Problem::from_error(Code::Openat2Missing, &error))?;
    fault::check().map_err(|error| Problem::new(Code::Usage, error))?;
    let identity = Identity::load(&dir.identity()).map_err(|error| of_key(&error))?;
    let _running = take_lock(dir)?;

    let trust = TrustStore::new();
    let peers = Arc::new(Peers::open(dir).map_err(|error| of_fs(&error))?);
    let mut found = Found::default();
    peers
        .refresh(&trust, &mut found)
        .map_err(|error| of_fs(&error))?;
    let trees = Trees::open(dir, config.clone())?;
    // ORDER: what was interrupted is settled before anybody is served (I1).
    let trees = tokio::task::spawn_blocking(move || {
        trees.recover();
        trees
    })
    .await
    .map_err(|error| Problem::from_error(Code::Bug, &error))?;

    let key = identity.key();
    let listening = Listening::start(dir, &config, &identity, &trust).await?;
    let agent = Arc::new(Agent {
        config,
        trust: trust.clone(),
        peers: peers.clone(),
        trees,
    });
    let announced = Ready {
        name: agent.config.name.to_string(),
        address: listening.endpoint.address(),
        key,
    };
    ready(&announced);
    // Without systemd this does nothing; a notice that isn't heard changes nothing either.
    let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    listening.serve(&agent, &peers, found).await
}

/// Carries a session between this process's input and output and the running agent.
pub async fn connect(dir: &AgentDir) -> Result<(), Problem> {
    load(dir)?;
    bridge(tokio::io::stdin(), tokio::io::stdout(), dir.socket())
        .await
        .map_err(|error| {
            let code = match error {
                NetError::Unreachable { .. } => Code::AgentMissing,
                _ => Code::SessionLost,
            };
            Problem::from_error(code, &error)
        })
}

fn take_lock(dir: &AgentDir) -> Result<Lock, Problem> {
    let state = open_dir(dir.state()).map_err(|error| of_fs(&error))?;
    let name =
        Name::parse(b"agent.lock").map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let holder = format!("the agent with process id {}", std::process::id());
    Lock::try_acquire(&state, &name, &holder).map_err(|error| match error {
        LockError::Held { holder } => Problem::new(
            Code::TaskLocked,
            format!(
                "An agent runs in {} already: {holder}",
                dir.state().display()
            ),
        ),
        LockError::Fs(error) => of_fs(&error),
    })
}

struct Listening {
    endpoint: Endpoint,
    pipes: Option<PipeListener>,
    sessions: Arc<Semaphore>,
}

impl Listening {
    async fn start(
        dir: &AgentDir,
        config: &AgentConfig,
        identity: &Identity,
        trust: &TrustStore,
    ) -> Result<Self, Problem> {
        let failed = |error: NetError| Problem::from_error(Code::ListenFailed, &error);
        let mut options = Options::default();
        let memory = u32::try_from(config.limits.memory_bytes).unwrap_or(u32::MAX);
        options.budget = Budget::new(memory);
        let endpoint = Endpoint::server(
            config.listen,
            identity.clone(),
            trust.clone(),
            options.clone(),
        )
        .map_err(failed)?;
        let pipes = PipeListener::bind(
            dir.socket(),
            0o600,
            identity.clone(),
            trust.clone(),
            options,
        )
        .await;
        let pipes = match pipes {
            Ok(pipes) => Some(pipes),
            Err(error) => {
                // Sessions over ssh are the second way in; the first one works.
                tracing::warn!(%error, "sessions over ssh are not possible");
                None
            }
        };
        let sessions = usize::try_from(config.limits.sessions).unwrap_or(usize::MAX);
        Ok(Self {
            endpoint,
            pipes,
            sessions: Arc::new(Semaphore::new(sessions.clamp(1, 1 << 16))),
        })
    }

    async fn serve(
        self,
        agent: &Arc<Agent>,
        peers: &Peers,
        mut found: Found,
    ) -> Result<(), Problem> {
        let failed = |error: std::io::Error| Problem::from_error(Code::Bug, &error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                Some(connection) = self.endpoint.accept() => self.begin(connection, agent),
                Some(connection) = accept_pipe(self.pipes.as_ref()) => self.begin(connection, agent),
                _ = look.tick() => {
                    if let Err(error) = peers.refresh(&agent.trust, &mut found) {
                        tracing::error!(%error, "the list of accepted hubs can't be read");
                    }
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("the agent stops");
        self.endpoint.close(0, "the agent stops").await;
        Ok(())
    }

    fn begin(&self, connection: Connection, agent: &Arc<Agent>) {
        let (peer, remote) = (connection.peer(), connection.remote().to_owned());
        let Ok(permit) = self.sessions.clone().try_acquire_owned() else {
            tracing::warn!(%peer, remote, "too many sessions, one more was refused");
            connection.close(TOO_MANY, "too many sessions");
            return;
        };
        let Some(role) = agent.trust.role(peer) else {
            connection.close(TOO_MANY, "not accepted any more");
            return;
        };
        let host: Arc<dyn Host> = agent.clone();
        tokio::spawn(async move {
            let _permit = permit;
            tracing::debug!(%peer, remote, "a session begins");
            match session::serve(connection, role, host).await {
                SessionEnd::Violation(problem) => {
                    tracing::warn!(%peer, remote, %problem, "a peer broke the protocol");
                }
                end => tracing::debug!(%peer, remote, %end, "a session ended"),
            }
        });
    }
}

/// The first close code that belongs to this layer.
const TOO_MANY: u32 = 16;

async fn accept_pipe(pipes: Option<&PipeListener>) -> Option<Connection> {
    match pipes {
        Some(pipes) => pipes.accept().await,
        None => std::future::pending().await,
    }
}

/// The agent, as its sessions see it.
#[derive(Debug)]
struct Agent {
    config: AgentConfig,
    trust: TrustStore,
    peers: Arc<Peers>,
    trees: Trees,
}

impl Host for Agent {
    fn facts(&self) -> Facts {
        Facts {
            name: self.config.name.to_string(),
            software: software(),
            system: format!("linux {}", std::env::consts::ARCH),
            privileged: owner::is_privileged(),
            allow: self
                .config
                .allow
                .iter()
                .map(|path| path.as_str().into())
                .collect(),
        }
    }

    fn doubts(&self, hub: NodeKey) -> Vec<Doubt> {
        self.trees.doubts(hub)
    }

    fn join(&self, token: NodeKey, certificate: &[u8]) -> Result<(), Problem> {
        let key = NodeKey::of_certificate(&certificate.to_vec().into())
            .map_err(|error| Problem::from_error(Code::TokenInvalid, &error))?;
        self.peers.redeem(&self.trust, token, key)?;
        tracing::info!(hub = %key, "a hub joined with a token");
        Ok(())
    }

    fn bind(&self, hub: NodeKey, proposal: &Proposal<'_>) -> Result<Bound, Problem> {
        self.trees.bind(hub, proposal)
    }

    fn claim(&self, hub: NodeKey, tree: TreeKey) -> Result<Claim, Problem> {
        self.trees.claim(hub, tree)
    }

    fn forget(&self, tree: TreeKey) -> Result<(), Problem> {
        self.trees.forget(tree)
    }
}
