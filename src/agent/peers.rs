//! Who is accepted: hubs by their keys, and tokens that wait for their one use.
//!
//! ```text
//! peers/KEY.hub    an accepted hub; its content says since when
//! peers/KEY.token  a token's one-time key with its end, not yet known to the running agent
//! peers/KEY.grant  the same, known
//! ```
//!
//! The directory is the truth: the running agent looks at it several times a second, so a file
//! that goes is a hub revoked. Nobody but the owner may read or write here.
//!
//! Invariant: a token is gone from the disk before the key that it brings is accepted, so that no
//! crash gives it a second use.

use super::{of_fs, open_dir};
use crate::codes::{Code, Problem};
use crate::config::AgentDir;
use crate::fs::durable::write_atomically;
use crate::fs::read::read_small;
use crate::fs::{Dir, FsError};
use crate::net::{JoinGrant, NodeKey, Role, TrustStore};
use std::time::{Duration, SystemTime};
use sync_proto::path::Name;

/// How often the running agent looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an invitation waits for the running agent to notice.
const NOTICE: Duration = Duration::from_secs(3);
/// LIMIT: bytes of one file here.
const MAX_BYTES: u64 = 4096;

/// The directory of peers.
#[derive(Debug)]
pub(super) struct Peers(Dir);

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    hubs: Vec<NodeKey>,
    grants: Vec<JoinGrant>,
}

impl Peers {
    pub(super) fn open(dir: &AgentDir) -> Result<Self, FsError> {
        open_dir(&dir.peers()).map(Self)
    }

    /// Leaves a grant for the running agent, and waits until it has taken note. Without a running
    /// agent the next one finds it.
    pub(super) async fn offer(&self, grant: &JoinGrant) -> Result<(), Problem> {
        let name = file(&grant.key, "token");
        let text = grant.expires_unix_s.to_string();
        write_atomically(&self.0, &name, text.as_bytes(), 0o600).map_err(|error| of_fs(&error))?;
        let until = tokio::time::Instant::now() + NOTICE;
        while tokio::time::Instant::now() < until {
            let waits = self.0.stat(&name).map_err(|error| of_fs(&error))?.is_some();
            if !waits || !self.is_served() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY / 4).await;
        }
        Ok(())
    }

    /// True if an agent runs that looks here.
    fn is_served(&self) -> bool {
        let beat = Name::parse(b"beat")
            .ok()
            .and_then(|name| self.0.stat(&name).ok()?);
        beat.is_some_and(|stat| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.is_ok_and(|now| i64::try_from(now.as_secs()).unwrap_or(0) - stat.mtime.seconds < 3)
        })
    }

    /// Takes the directory's word for who is accepted. `last` is what it said before.
    pub(super) fn refresh(&self, trust: &TrustStore, last: &mut Found) -> Result<(), FsError> {
        let found = self.look()?;
        if found != *last {
            for key in found.hubs.iter().filter(|key| !last.hubs.contains(key)) {
                trust.accept(*key, Role::Hub);
            }
            for key in last.hubs.iter().filter(|key| !found.hubs.contains(key)) {
                let closed = trust.revoke(*key);
                tracing::info!(hub = %key, closed, "a hub was revoked");
            }
            for grant in found
                .grants
                .iter()
                .filter(|grant| !last.grants.contains(grant))
            {
                trust.grant(*grant);
            }
            *last = found;
        }
        let beat = Name::parse(b"beat").map_err(|_| FsError::bad_name(b"beat"))?;
        let file = match self.0.create_file(&beat, 0o600) {
            Err(error) if error.is_exists() => self.0.open_file_for_update(&beat)?,
            other => other?,
        };
        file.set_modified(SystemTime::now())
            .map_err(|error| FsError::from_io("touch", b"beat", &error))
    }

    fn look(&self) -> Result<Found, FsError> {
        let mut found = Found::default();
        for listed in self.0.list()? {
            let Some((key, kind)) = parse(&listed.name) else {
                continue;
            };
            match kind {
                "hub" => found.hubs.push(key),
                "token" | "grant" => {
                    let Some(grant) = self.grant(key, &listed.name) else {
                        continue;
                    };
                    if grant.expires() < SystemTime::now() {
                        self.0.unlink(&listed.name)?;
                        continue;
                    }
                    if kind == "token" {
                        self.0
                            .rename_to(&listed.name, &self.0, &file(&key, "grant"))?;
                    }
                    found.grants.push(grant);
                }
                _ => {}
            }
        }
        found.hubs.sort_unstable();
        found.grants.sort_unstable_by_key(|grant| grant.key);
        Ok(found)
    }

    fn grant(&self, key: NodeKey, name: &Name) -> Option<JoinGrant> {
        let (content, _) = read_small(&self.0, name, None, MAX_BYTES).ok()?;
        let expires_unix_s = std::str::from_utf8(&content).ok()?.trim().parse().ok()?;
        Some(JoinGrant {
            key,
            expires_unix_s,
        })
    }

    /// Accepts `hub` in the place of a token's one-time key.
    pub(super) fn redeem(
        &self,
        trust: &TrustStore,
        token: NodeKey,
        hub: NodeKey,
    ) -> Result<(), Problem> {
        trust.redeem(token, hub, Role::Hub).map_err(|error| {
            let code = match error {
                crate::net::JoinError::Expired => Code::TokenExpired,
                _ => Code::TokenSpent,
            };
            Problem::from_error(code, &error)
        })?;
        let kept = (|| {
            // ORDER: the token goes before the key comes.
            self.0.unlink(&file(&token, "grant"))?;
            self.0.sync()?;
            let since = jiff::Timestamp::now().to_string();
            write_atomically(&self.0, &file(&hub, "hub"), since.as_bytes(), 0o600)
        })();
        kept.map_err(|error| of_fs(&error))
    }
}

/// `KEY.kind`.
fn file(key: &NodeKey, kind: &str) -> Name {
    Name::parse(format!("{key}.{kind}").as_bytes()).expect("a key is made of hexadecimal digits")
}

fn parse(name: &Name) -> Option<(NodeKey, &str)> {
    let (key, kind) = std::str::from_utf8(name.as_bytes()).ok()?.split_once('.')?;
    Some((key.parse().ok()?, kind))
}
