//! The agent on a server: what `fanout agent init`, `run`, `invite` and `connect` do.
//!
//! Owns which hub may do what with which directory. A hub proposes; the files in the agent's own
//! directory decide, and no hub can change them.

pub mod authorize;
pub mod facts;
pub mod serve;
pub mod trees;

use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir, ConfigError};
use crate::engine::member::refusal::of_fs;
use crate::fs::lock::{Lock, LockError};
use crate::fs::{Dir, probe_openat2};
use crate::model::{AbsPath, ServerName};
use crate::net::{Identity, IdentityError, NodeKey, Token, bridge};
use authorize::Peers;
use serve::{Agent, Ready};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use sync_proto::path::Name;

/// How a new agent is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What it is called.
    pub name: ServerName,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where roots may lie.
    pub allow: Vec<AbsPath>,
    /// Below which everything lies.
    pub prefix: Option<AbsPath>,
    /// What no hub may touch, in every root.
    pub preserve: Vec<String>,
}

/// Prepares this server: directories, key and configuration.
///
/// # Errors
/// There is an agent already, or something can't be written.
pub fn init(dir: &AgentDir, setup: Setup) -> Result<NodeKey, Problem> {
    probe_openat2().map_err(|error| Problem::from_error(Code::Openat2Missing, &error))?;
    match AgentConfig::load(dir.config()) {
        Err(ConfigError::Missing { .. }) => {}
        _ => {
            let message = format!("There is an agent at {} already", dir.config().display());
            return Err(Problem::new(Code::AlreadyInitialised, message));
        }
    }
    dir.create().map_err(|error| of_config(&error))?;
    let identity =
        Identity::load_or_create(&dir.identity()).map_err(|error| of_identity(&error))?;
    let mut config = AgentConfig::new(setup.name, setup.allow);
    config.listen = setup.listen;
    config.prefix = setup.prefix;
    if !setup.preserve.is_empty() {
        let rules = config
            .allow
            .iter()
            .map(|allowed| (allowed.clone(), setup.preserve.clone()));
        config.preserve = rules.collect();
    }
    // What was typed must be what a start accepts.
    AgentConfig::parse(&config.to_toml(), "agent.toml")
        .map_err(|error| Problem::from_error(Code::Usage, &error))?;
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

/// Makes a token that lets one hub in, once. The running agent notices by itself.
///
/// # Errors
/// There is no agent, or the grant can't be written.
pub fn invite(dir: &AgentDir, valid: Option<Duration>) -> Result<Token, Problem> {
    let config = load(dir)?;
    let identity = Identity::load(&dir.identity()).map_err(|error| of_identity(&error))?;
    let port = Some(config.listen.port()).filter(|port| *port != 0);
    let lifetime = valid.unwrap_or(crate::net::token::LIFETIME);
    let (token, grant) = Token::mint(identity.key(), port, lifetime)
        .map_err(|error| Problem::from_error(Code::TokenInvalid, &error))?;
    Peers::open(&dir.peers())?.invite(&grant)?;
    Ok(token)
}

/// Carries a session between standard input and output and the running agent. The caller should
/// end the process afterwards.
///
/// # Errors
/// The agent doesn't run, or the connection broke.
pub async fn connect(dir: &AgentDir) -> Result<(), Problem> {
    bridge(tokio::io::stdin(), tokio::io::stdout(), dir.socket())
        .await
        .map_err(|error| Problem::from_error(Code::AgentMissing, &error))
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
            Code::ListenFailed,
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
