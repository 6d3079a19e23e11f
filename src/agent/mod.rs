//! The agent on a server: what `fanout agent init`, `run`, `invite` and `connect` do.
//!
//! Owns which hub may do what with which directory. A hub proposes; the files in the agent's own
//! directory decide, and no hub can change them.

pub mod authorize;
pub mod facts;
mod places;
pub mod serve;
pub mod services;
pub mod trees;

use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir, ConfigError};
use crate::engine::member::refusal::of_fs;
use crate::fs::lock::{Lock, LockError};
use crate::fs::{Dir, fault, probe_openat2};
use crate::net::{Identity, IdentityError, NetError, NodeKey, Token, bridge};
use authorize::Peers;
use serve::Agent;
pub use serve::Ready;
use std::path::Path;
use std::time::Duration;
use sync_proto::path::{Name, escape};

/// How long a token can be used, unless somebody says otherwise.
pub const TOKEN_LIFETIME: Duration = crate::net::token::LIFETIME;
/// How long an invitation waits for the running agent to take note.
const NOTICE: Duration = Duration::from_secs(3);

/// Prepares this server: directories, key and configuration.
///
/// # Errors
/// There is an agent already, or something can't be written.
pub fn init(dir: &AgentDir, config: &AgentConfig) -> Result<NodeKey, Problem> {
    probe_openat2().map_err(|error| Problem::from_error(Code::Openat2Missing, &error))?;
    match AgentConfig::load(dir.config()) {
        Err(ConfigError::Missing { .. }) => {}
        _ => {
            let message = format!("There is an agent at {} already", dir.config().display());
            return Err(Problem::new(Code::AlreadyInitialised, message));
        }
    }
    // What was typed must be what a start accepts.
    AgentConfig::parse(&config.to_toml(), "agent.toml")
        .map_err(|error| Problem::from_error(Code::Usage, &error))?;
    dir.create().map_err(|error| of_config(&error))?;
    let identity =
        Identity::load_or_create(&dir.identity()).map_err(|error| of_identity(&error))?;
    // ORDER: the configuration comes last: an agent that has one is complete.
    config
        .save(dir.config())
        .map_err(|error| of_config(&error))?;
    Ok(identity.key())
}

/// Serves in the foreground until a signal ends it; `ready` is called once it listens.
///
/// # Errors
/// It can't start.
pub async fn run(dir: &AgentDir, ready: impl FnOnce(&Ready)) -> Result<(), Problem> {
    probe_openat2().map_err(|error| Problem::from_error(Code::Openat2Missing, &error))?;
    fault::check().map_err(|error| Problem::new(Code::Usage, error))?;
    let config = load(dir)?;
    dir.create().map_err(|error| of_config(&error))?;
    let identity = Identity::load(&dir.identity()).map_err(|error| of_identity(&error))?;
    let _alone = lock(&dir.lock())?;
    make_prefix(&config)?;
    make_socket_directory(dir.socket())?;
    let own = dir.clone();
    let opened = tokio::task::spawn_blocking(move || Agent::open(&own, config, identity)).await;
    let agent = opened.map_err(|error| Problem::from_error(Code::Bug, &error))??;
    serve::listen(agent, dir, ready).await
}

/// Makes a token that lets one hub in, once. A running agent has taken note when this returns.
///
/// # Errors
/// There is no agent, or the grant can't be written.
pub async fn invite(dir: &AgentDir, lifetime: Duration) -> Result<Token, Problem> {
    let config = load(dir)?;
    let identity = Identity::load(&dir.identity()).map_err(|error| of_identity(&error))?;
    let port = Some(config.listen.port()).filter(|port| *port != 0);
    let (token, grant) = Token::mint(identity.key(), port, lifetime)
        .map_err(|error| Problem::from_error(Code::TokenInvalid, &error))?;
    let peers = Peers::open(&dir.peers())?;
    peers.offer(&grant)?;
    noticed(dir, || peers.is_offered(&grant)).await?;
    Ok(token)
}

/// Waits until a running agent has taken note of a change; false if it didn't in time.
async fn noticed(
    dir: &AgentDir,
    is_pending: impl Fn() -> Result<bool, Problem>,
) -> Result<bool, Problem> {
    let until = tokio::time::Instant::now() + NOTICE;
    while is_pending()? && is_running(dir)? {
        if tokio::time::Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(serve::RELOAD / 4).await;
    }
    Ok(true)
}

/// The hubs that are let in.
///
/// # Errors
/// There is no agent, or its directory can't be read.
pub fn hubs(dir: &AgentDir) -> Result<Vec<NodeKey>, Problem> {
    load(dir)?;
    Peers::open(&dir.peers())?.hubs()
}

/// Lets a hub in no more, durably. A running agent has shut it out when this returns. `digits` are
/// the first of its key.
///
/// # Errors
/// There is no such hub, there are several, its file can't be removed, or the running agent takes
/// no note of it.
pub async fn revoke(dir: &AgentDir, digits: &str) -> Result<NodeKey, Problem> {
    load(dir)?;
    let peers = Peers::open(&dir.peers())?;
    let hubs = peers.hubs()?;
    let digits = digits.to_ascii_lowercase();
    let mut fitting = hubs
        .iter()
        .filter(|hub| hub.to_string().starts_with(&digits));
    let (first, second) = (fitting.next(), fitting.next());
    match (first, second) {
        (Some(hub), None) => {
            peers.revoke(*hub)?;
            if noticed(dir, || peers.is_leaving(*hub)).await? {
                return Ok(*hub);
            }
            let message = format!("The hub {hub} is revoked, but the running agent didn't react");
            Err(Problem::new(Code::NoProgress, message)
                .with_hint("restart the agent: it lets the hub in no more when it starts"))
        }
        (None, _) => {
            let message = format!(
                "No hub with the key `{}` is let in",
                escape(digits.as_bytes())
            );
            Err(Problem::new(Code::Usage, message)
                .with_hint("`fanout agent revoke` lists the hubs that are"))
        }
        (Some(_), Some(_)) => {
            let message = format!("Several hubs have a key that begins with `{digits}`");
            Err(Problem::new(Code::Usage, message).with_hint("give more digits"))
        }
    }
}

/// True if an agent has its lock.
fn is_running(dir: &AgentDir) -> Result<bool, Problem> {
    match lock(&dir.lock()) {
        Ok(_free) => Ok(false),
        Err(problem) if problem.code == Code::TaskLocked => Ok(true),
        Err(problem) => Err(problem),
    }
}

/// Carries a session between standard input and output and the running agent. The caller should
/// end the process afterwards.
///
/// # Errors
/// The agent doesn't run, or the connection broke.
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

/// The configuration of the agent that should be here.
fn load(dir: &AgentDir) -> Result<AgentConfig, Problem> {
    AgentConfig::load(dir.config()).map_err(|error| of_config(&error))
}

/// Two agents with one state would undo each other's work.
fn lock(path: &Path) -> Result<Lock, Problem> {
    let (dir, name) = Dir::open_parent_of(path).map_err(|error| of_fs(&error))?;
    let holder = format!("fanout agent run (process {})", std::process::id());
    Lock::try_acquire(&dir, &name, &holder).map_err(|error| match error {
        LockError::Held { holder } => Problem::new(
            Code::TaskLocked,
            format!("An agent runs here already: {holder}"),
        ),
        LockError::Fs(error) => of_fs(&error),
    })
}

/// With a prefix, the allowed directories are made below it: it is a place of the agent's own.
fn make_prefix(config: &AgentConfig) -> Result<(), Problem> {
    let Some(prefix) = &config.prefix else {
        return Ok(());
    };
    let mut paths = vec![prefix.components().collect::<Vec<_>>()];
    for allowed in &config.allow {
        paths.push(prefix.components().chain(allowed.components()).collect());
    }
    for names in paths {
        let mut dir = Dir::open_absolute(Path::new("/")).map_err(|error| of_fs(&error))?;
        let mut path = std::path::PathBuf::from("/");
        for name in names {
            path.push(name);
            let name = Name::parse(name.as_bytes())
                .map_err(|error| Problem::from_error(Code::PathNotAllowed, &error))?;
            // Symlinks and mounts on the way to it are its administrator's business.
            dir = match Dir::open_absolute(&path) {
                Err(error) if error.is_not_found() => dir.create_dir(&name, 0o755),
                other => other,
            }
            .map_err(|error| of_fs(&error))?;
        }
    }
    Ok(())
}

/// The directory of the socket is gone after every boot.
fn make_socket_directory(socket: &Path) -> Result<(), Problem> {
    let Some(parent) = socket.parent() else {
        return Ok(());
    };
    match Dir::open_absolute(parent) {
        Err(error) if error.is_not_found() => Dir::open_parent_of(parent)
            .and_then(|(above, name)| above.create_dir_if_absent(&name, 0o700))
            .map(drop)
            .map_err(|error| of_fs(&error)),
        other => other.map(drop).map_err(|error| of_fs(&error)),
    }
}

fn of_config(error: &ConfigError) -> Problem {
    let code = match error {
        ConfigError::Missing { .. } => Code::AgentMissing,
        ConfigError::Invalid(_) => Code::InventoryInvalid,
        _ => Code::DiskError,
    };
    let problem = Problem::from_error(code, error);
    match error.hint() {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

fn of_identity(error: &IdentityError) -> Problem {
    let code = match error {
        IdentityError::Exposed { .. } => Code::SecretExposed,
        _ => Code::AgentMissing,
    };
    Problem::from_error(code, error)
}

#[cfg(test)]
mod tests;
