//! Who may connect: the hubs that were accepted, and the one-time keys of open invitations.
//!
//! ```text
//! peers/KEY.hub    an accepted hub
//! peers/KEY.token  a token's one-time key with its end, which the running agent hasn't seen yet
//! peers/KEY.grant  the same, seen
//! peers/KEY.gone   a hub that was revoked, which the running agent hasn't seen yet
//! ```
//!
//! `fanout agent invite` is another process, so the directory is looked at again and again; what
//! vanished from it is refused from then on, and its connections are closed.
//!
//! Invariant: a token is gone from the disk before the key that it brings is accepted, so that no
//! crash gives it a second use.

use crate::codes::{Code, Problem};
use crate::engine::member::refusal::of_fs;
use crate::fs::durable::write_atomically;
use crate::fs::read::read_small;
use crate::fs::{Dir, FsError};
use crate::net::{JoinError, JoinGrant, NodeKey, Role, TrustStore};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use sync_proto::path::Name;

const HUB: &str = ".hub";
const TOKEN: &str = ".token";
const GRANT: &str = ".grant";
const GONE: &str = ".gone";
/// LIMIT: bytes of one file.
const MAX_BYTES: u64 = 4096;

/// The accepted peers.
#[derive(Debug)]
pub struct Peers {
    dir: Dir,
    trust: TrustStore,
    /// Nobody reads the directory while a key is exchanged for another.
    changing: Mutex<()>,
}

impl Peers {
    /// Opens the directory, and accepts nobody yet.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Ok(Self {
            dir: Dir::open_absolute(path).map_err(|error| of_fs(&error))?,
            trust: TrustStore::new(),
            changing: Mutex::new(()),
        })
    }

    /// The store that handshakes ask.
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// Takes over what the directory says now.
    pub fn reload(&self) -> Result<(), Problem> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut accepted, mut grants, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        let mut gone = Vec::new();
        for listed in self.dir.list().map_err(|error| of_fs(&error))? {
            let Some((key, kind)) = parse(&listed.name) else {
                continue;
            };
            if kind == HUB {
                accepted.push((key, Role::Hub));
            } else if kind == GONE {
                gone.push(listed.name);
            } else if let Some(grant) = self.grant(&listed.name, key) {
                if kind == TOKEN {
                    seen.push((listed.name, key));
                }
                grants.push(grant);
            }
        }
        let mut known: Vec<_> = self
            .trust
            .accepted()
            .into_iter()
            .filter(|(_, role)| *role != Role::Join)
            .collect();
        accepted.sort_by_key(|(key, _)| *key);
        known.sort_by_key(|(key, _)| *key);
        if accepted != known {
            let closed = self.trust.replace(accepted);
            tracing::info!(closed, "the accepted keys changed");
        }
        let wanted: Vec<NodeKey> = grants.iter().map(|grant: &JoinGrant| grant.key).collect();
        for (key, role) in self.trust.accepted() {
            if role == Role::Join && !wanted.contains(&key) {
                self.trust.revoke(key);
            }
        }
        for grant in grants {
            if self.trust.role(grant.key).is_none() {
                self.trust.grant(grant);
            }
        }
        // ORDER: whoever waits for this to be seen may use the token at once.
        for (name, key) in seen {
            let grant = file_name(key, GRANT).map_err(|error| of_fs(&error))?;
            let moved = self.dir.rename_to(&name, &self.dir, &grant);
            moved.map_err(|error| of_fs(&error))?;
        }
        // ORDER: likewise, who revoked it may rely on its being shut out.
        for name in gone {
            self.dir.unlink(&name).map_err(|error| of_fs(&error))?;
        }
        Ok(())
    }

    /// A grant that holds still; one that ended is removed.
    fn grant(&self, name: &Name, key: NodeKey) -> Option<JoinGrant> {
        let (bytes, _) = read_small(&self.dir, name, None, MAX_BYTES).ok()?;
        let grant: JoinGrant = serde_json::from_slice(&bytes).ok()?;
        if grant.key != key {
            return None;
        }
        if grant.expires() > SystemTime::now() {
            return Some(grant);
        }
        // It is refused whether its file goes or not.
        let _stays = self.dir.unlink(name);
        None
    }

    /// The hubs on the disk.
    pub fn hubs(&self) -> Result<Vec<NodeKey>, Problem> {
        let listed = self.dir.list().map_err(|error| of_fs(&error))?;
        let hubs = listed.iter().filter_map(|listed| parse(&listed.name));
        let mut keys: Vec<NodeKey> = hubs.filter(|it| it.1 == HUB).map(|it| it.0).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Takes a hub off the list, durably; a running agent closes its connections when it sees it.
    pub fn revoke(&self, hub: NodeKey) -> Result<(), Problem> {
        let (accepted, gone) = (file_name(hub, HUB), file_name(hub, GONE));
        accepted
            .and_then(|accepted| self.dir.rename_to(&accepted, &self.dir, &gone?))
            .and_then(|()| self.dir.sync())
            .map_err(|error| of_fs(&error))
    }

    /// True if no agent has taken note of the revocation yet.
    pub fn is_leaving(&self, hub: NodeKey) -> Result<bool, Problem> {
        file_name(hub, GONE)
            .and_then(|name| self.dir.stat(&name))
            .map(|stat| stat.is_some())
            .map_err(|error| of_fs(&error))
    }

    /// Keeps a grant for a token that was just made; the running agent will find it.
    pub fn offer(&self, grant: &JoinGrant) -> Result<(), Problem> {
        let name = file_name(grant.key, TOKEN).map_err(|error| of_fs(&error))?;
        let bytes =
            serde_json::to_vec(grant).map_err(|error| Problem::from_error(Code::Bug, &error))?;
        write_atomically(&self.dir, &name, &bytes, 0o600).map_err(|error| of_fs(&error))
    }

    /// True if no agent has taken note of the grant yet.
    pub fn is_offered(&self, grant: &JoinGrant) -> Result<bool, Problem> {
        file_name(grant.key, TOKEN)
            .and_then(|name| self.dir.stat(&name))
            .map(|stat| stat.is_some())
            .map_err(|error| of_fs(&error))
    }

    /// Puts the key of a certificate in the place of a one-time key, as a hub.
    pub fn join(&self, token: NodeKey, certificate: &[u8]) -> Result<NodeKey, Problem> {
        let lasting = NodeKey::of_certificate_der(certificate)
            .map_err(|error| Problem::from_error(Code::ProtocolViolation, &error))?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.trust
            .redeem(token, lasting, Role::Hub)
            .map_err(|error| {
                let code = match error {
                    JoinError::Expired => Code::TokenExpired,
                    JoinError::NotGranted => Code::TokenSpent,
                    _ => Code::TokenInvalid,
                };
                Problem::from_error(code, &error)
            })?;
        self.record(token, lasting).map_err(|error| {
            self.trust.revoke(lasting);
            of_fs(&error)
        })?;
        Ok(lasting)
    }

    fn record(&self, token: NodeKey, lasting: NodeKey) -> Result<(), FsError> {
        // ORDER: the token is spent, durably, before the key that replaces it is accepted.
        for kind in [TOKEN, GRANT] {
            let spent = file_name(token, kind)?;
            if self.dir.stat(&spent)?.is_some() {
                self.dir.unlink(&spent)?;
            }
        }
        self.dir.sync()?;
        write_atomically(&self.dir, &file_name(lasting, HUB)?, b"", 0o600)
    }
}

fn parse(name: &Name) -> Option<(NodeKey, &'static str)> {
    let name = std::str::from_utf8(name.as_bytes()).ok()?;
    [HUB, TOKEN, GRANT, GONE]
        .into_iter()
        .find_map(|kind| Some((name.strip_suffix(kind)?.parse().ok()?, kind)))
}

fn file_name(key: NodeKey, kind: &str) -> Result<Name, FsError> {
    let name = format!("{key}{kind}");
    Name::parse(name.as_bytes()).map_err(|_| FsError::bad_name(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Identity, Token};
    use std::time::Duration;

    fn invited(peers: &Peers) -> NodeKey {
        let agent = Identity::generate().unwrap().key();
        let (_, grant) = Token::mint(agent, None, Duration::from_secs(60)).unwrap();
        peers.offer(&grant).unwrap();
        grant.key
    }

    #[test]
    fn a_token_is_good_for_one_hub_and_the_hub_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::open(dir.path()).unwrap();
        // Another process invites.
        let token = invited(&Peers::open(dir.path()).unwrap());
        assert_eq!(peers.trust().role(token), None);
        peers.reload().unwrap();
        assert_eq!(peers.trust().role(token), Some(Role::Join));
        let hub = Identity::generate().unwrap();
        let joined = peers.join(token, hub.certificate()).unwrap();
        assert_eq!(joined, hub.key());
        let other = Identity::generate().unwrap();
        let again = peers.join(token, other.certificate()).unwrap_err();
        assert_eq!(again.code, Code::TokenSpent);
        let later = Peers::open(dir.path()).unwrap();
        later.reload().unwrap();
        assert_eq!(later.trust().role(hub.key()), Some(Role::Hub));
        assert_eq!(later.trust().role(token), None);
    }

    #[test]
    fn a_removed_file_is_a_refused_key() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::open(dir.path()).unwrap();
        let token = invited(&peers);
        peers.reload().unwrap();
        let hub = Identity::generate().unwrap();
        peers.join(token, hub.certificate()).unwrap();
        std::fs::remove_file(dir.path().join(format!("{}.hub", hub.key()))).unwrap();
        peers.reload().unwrap();
        assert_eq!(peers.trust().role(hub.key()), None);
    }

    #[test]
    fn a_revocation_counts_as_noticed_only_when_the_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::open(dir.path()).unwrap();
        let token = invited(&peers);
        peers.reload().unwrap();
        let hub = Identity::generate().unwrap();
        peers.join(token, hub.certificate()).unwrap();
        let other = Peers::open(dir.path()).unwrap();
        other.revoke(hub.key()).unwrap();
        assert!(other.is_leaving(hub.key()).unwrap());
        assert_eq!(other.hubs().unwrap(), []);
        peers.reload().unwrap();
        assert_eq!(peers.trust().role(hub.key()), None);
        assert!(!other.is_leaving(hub.key()).unwrap());
    }
}
