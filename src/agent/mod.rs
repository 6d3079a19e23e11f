//! The daemon on a server: serves sessions, authorises peers, owns the trees bound to it.
//!
//! [`serve`] listens and hands every connection of an accepted peer to a session
//! ([`crate::engine::member`]); [`peers`] holds who is accepted, [`trees`] what is bound where.
//! What a hub may do is the server's own word: its directories, its preserve rules, its limits.
//!
//! It refuses to start where `openat2` is missing, where its key is open to others, or where
//! another agent runs; and it serves no tree before an interrupted commit there is settled (I1).

mod peers;
mod serve;
mod trees;

pub use serve::{Ready, connect, run};

use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir, ConfigError};
use crate::fs::{Dir, FsError};
use crate::net::{Identity, IdentityError, NodeKey, Token};
use peers::Peers;
use std::path::Path;
use std::time::Duration;

/// How long a token can be used, unless somebody says otherwise.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Makes an agent in `dir`: its key and its configuration.
pub fn init(dir: &AgentDir, config: &AgentConfig) -> Result<NodeKey, Problem> {
    if dir.config().exists() {
        return Err(Problem::new(
            Code::AlreadyInitialised,
            format!("There is an agent already: {}", dir.config().display()),
        ));
    }
    dir.create().map_err(|error| of_config(&error))?;
    let identity = Identity::load_or_create(&dir.identity()).map_err(|error| of_key(&error))?;
    // The configuration comes last: an agent that has one is complete.
    config
        .save(dir.config())
        .map_err(|error| of_config(&error))?;
    Ok(identity.key())
}

/// Mints a token that one hub can use once. A running agent has taken note when this returns.
pub async fn invite(dir: &AgentDir, lifetime: Duration) -> Result<Token, Problem> {
    let config = load(dir)?;
    let identity = Identity::load(&dir.identity()).map_err(|error| of_key(&error))?;
    let port = config.listen.port();
    let (token, grant) = Token::mint(identity.key(), (port != 0).then_some(port), lifetime)
        .map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let peers = Peers::open(dir).map_err(|error| of_fs(&error))?;
    peers.offer(&grant).await?;
    Ok(token)
}

fn load(dir: &AgentDir) -> Result<AgentConfig, Problem> {
    if !dir.config().exists() {
        return Err(Problem::new(
            Code::AgentMissing,
            format!(
                "There is no agent here: {} is missing",
                dir.config().display()
            ),
        ));
    }
    AgentConfig::load(dir.config()).map_err(|error| of_config(&error))
}

fn open_dir(path: &Path) -> Result<Dir, FsError> {
    Dir::open_absolute(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn of_config(error: &ConfigError) -> Problem {
    let problem = Problem::from_error(Code::InventoryInvalid, error);
    match error.hint() {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

fn of_key(error: &IdentityError) -> Problem {
    Problem::from_error(Code::SecretExposed, error)
}

fn of_fs(error: &FsError) -> Problem {
    Problem::from_error(Code::AgentStateDamaged, error)
}
