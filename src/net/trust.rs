//! Whose keys this node accepts, in which role, and the connections that they have open.
//!
//! Changes hold for the next handshake, without a restart. Taking a key out closes its connections:
//! both happen under one lock, so no connection slips in between. Keys are kept by whoever owns the
//! agent's state; this is the copy in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustls::pki_types::TrustAnchor;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    connection::{Connection, WeakConnection},
    error::{NetError, code},
    key::NodeKey,
    token::JoinGrant,
};

/// LIMIT: connections that one key may have open. A hub needs one, a relaying member a few.
const CONNECTIONS_PER_KEY_MAX: usize = 32;

/// What a peer may do. Which messages that means is decided by the layers above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// May push.
    Hub,
    /// May feed and be fed.
    Member,
    /// May send one message: put this key in my place.
    Join,
}

/// Why a one-time key can't be exchanged for a lasting one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Used already, revoked, or never granted.
    #[error("This token was used already or is not known here")]
    NotGranted,
    /// Too late.
    #[error("This token has expired")]
    Expired,
    /// The one-time key has been in a token, on clipboards and screens: it can't become a lasting
    /// one.
    #[error("A token's own key can't be the key that replaces it")]
    SameKey,
}

/// The accepted keys. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct TrustStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Rises with each change of `accepted`, so that TLS configurations can be cached.
    version: u64,
    accepted: BTreeMap<NodeKey, Accepted>,
    open: Vec<(NodeKey, WeakConnection)>,
}

#[derive(Debug, Clone, Copy)]
struct Accepted {
    role: Role,
    expires: Option<SystemTime>,
}

impl TrustStore {
    /// A store that accepts nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `key` in `role` from the next handshake on.
    pub fn accept(&self, key: NodeKey, role: Role) {
        self.lock().insert(
            key,
            Accepted {
                role,
                expires: None,
            },
        );
    }

    /// Accepts a token's one-time key until it is redeemed or expires.
    pub fn grant(&self, grant: JoinGrant) {
        let expires = Some(grant.expires());
        self.lock().insert(
            grant.key,
            Accepted {
                role: Role::Join,
                expires,
            },
        );
    }

    /// Puts `lasting` in the place of the one-time key `join`. Of any number of attempts with one
    /// token, exactly one succeeds.
    pub fn redeem(&self, join: NodeKey, lasting: NodeKey, role: Role) -> Result<(), JoinError> {
        if join == lasting {
            return Err(JoinError::SameKey);
        }
        let mut state = self.lock();
        match state.accepted.get(&join) {
            Some(Accepted {
                role: Role::Join,
                expires,
            }) if expires.is_none_or(|end| SystemTime::now() < end) => {}
            Some(Accepted {
                role: Role::Join, ..
            }) => return Err(JoinError::Expired),
            _ => return Err(JoinError::NotGranted),
        }
        state.accepted.remove(&join);
        state.insert(
            lasting,
            Accepted {
                role,
                expires: None,
            },
        );
        Ok(())
    }

    /// Refuses `key` from now on and closes its connections; returns how many were open.
    pub fn revoke(&self, key: NodeKey) -> usize {
        let mut state = self.lock();
        if state.accepted.remove(&key).is_some() {
            state.version += 1;
        }
        state.close(|peer| peer == key)
    }

    /// Accepts exactly these keys, as after reading them from a file again, and closes the
    /// connections of all others; returns how many were open. Grants stay.
    pub fn replace(&self, accepted: impl IntoIterator<Item = (NodeKey, Role)>) -> usize {
        let mut state = self.lock();
        state.version += 1;
        state
            .accepted
            .retain(|_, accepted| accepted.role == Role::Join);
        for (key, role) in accepted {
            state.insert(
                key,
                Accepted {
                    role,
                    expires: None,
                },
            );
        }
        let kept: Vec<NodeKey> = state.accepted.keys().copied().collect();
        state.close(|peer| kept.binary_search(&peer).is_err())
    }

    /// What `key` may do at this moment. Ask for each decision, not once per connection.
    pub fn role(&self, key: NodeKey) -> Option<Role> {
        self.lock().role(key, SystemTime::now())
    }

    /// All accepted keys, by key.
    pub fn accepted(&self) -> Vec<(NodeKey, Role)> {
        let mut state = self.lock();
        state.forget_expired(SystemTime::now());
        state
            .accepted
            .iter()
            .map(|(key, accepted)| (*key, accepted.role))
            .collect()
    }

    /// The verifier's trust anchors, with a number that changes when they do.
    pub(super) fn anchors(&self) -> (u64, Vec<TrustAnchor<'static>>) {
        let mut state = self.lock();
        state.forget_expired(SystemTime::now());
        (
            state.version,
            state.accepted.keys().map(NodeKey::anchor).collect(),
        )
    }

    /// The number alone.
    pub(super) fn version(&self) -> u64 {
        let mut state = self.lock();
        state.forget_expired(SystemTime::now());
        state.version
    }

    /// Counts a new connection in, or refuses it: its key may have been taken out since the
    /// handshake began, or be one that only an accepted key vouches for.
    pub(super) fn admit(&self, connection: &Connection) -> Result<(), NetError> {
        let peer = connection.peer();
        let mut state = self.lock();
        if state.role(peer, SystemTime::now()).is_none() {
            return Err(NetError::NotAccepted {
                detail: format!("key {peer}"),
            });
        }
        state.open.retain(|(_, open)| open.is_open());
        let of_this_peer = state.open.iter().filter(|(key, _)| *key == peer).count();
        if of_this_peer >= CONNECTIONS_PER_KEY_MAX {
            return Err(NetError::Busy);
        }
        state.open.push((peer, connection.downgrade()));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, key: NodeKey, accepted: Accepted) {
        self.accepted.insert(key, accepted);
        self.version += 1;
    }

    fn role(&self, key: NodeKey, now: SystemTime) -> Option<Role> {
        let accepted = self.accepted.get(&key)?;
        accepted
            .expires
            .is_none_or(|end| now < end)
            .then_some(accepted.role)
    }

    fn forget_expired(&mut self, now: SystemTime) {
        let before = self.accepted.len();
        self.accepted
            .retain(|_, accepted| accepted.expires.is_none_or(|end| now < end));
        if self.accepted.len() != before {
            self.version += 1;
        }
    }

    fn close(&mut self, which: impl Fn(NodeKey) -> bool) -> usize {
        let (gone, kept): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(key, _)| which(*key));
        self.open = kept;
        let connections = gone.iter().filter_map(|(_, open)| open.upgrade());
        connections
            .filter(|connection| connection.is_open())
            .map(|connection| connection.close(code::REVOKED, "this key was revoked"))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(byte: u8) -> NodeKey {
        NodeKey::from_bytes([byte; 32])
    }

    #[test]
    fn a_grant_is_good_for_one_exchange() {
        let trust = TrustStore::new();
        trust.grant(JoinGrant::until(
            key(1),
            SystemTime::now() + Duration::from_secs(60),
        ));
        assert_eq!(trust.role(key(1)), Some(Role::Join));
        assert_eq!(
            trust.redeem(key(1), key(1), Role::Hub),
            Err(JoinError::SameKey)
        );
        assert_eq!(trust.redeem(key(1), key(2), Role::Hub), Ok(()));
        assert_eq!(trust.role(key(1)), None);
        assert_eq!(trust.role(key(2)), Some(Role::Hub));
        assert_eq!(
            trust.redeem(key(1), key(3), Role::Hub),
            Err(JoinError::NotGranted)
        );
        assert_eq!(
            trust.redeem(key(2), key(3), Role::Hub),
            Err(JoinError::NotGranted)
        );
    }

    #[test]
    fn an_expired_grant_is_no_grant() {
        let trust = TrustStore::new();
        trust.grant(JoinGrant::until(
            key(1),
            SystemTime::now() - Duration::from_secs(1),
        ));
        assert_eq!(trust.role(key(1)), None);
        assert_eq!(
            trust.redeem(key(1), key(2), Role::Hub),
            Err(JoinError::Expired)
        );
        let (_, anchors) = trust.anchors();
        assert!(anchors.is_empty(), "an expired key is still an anchor");
    }

    #[test]
    fn every_change_of_the_anchors_changes_their_version() {
        let trust = TrustStore::new();
        let mut seen = vec![trust.version()];
        trust.accept(key(1), Role::Hub);
        seen.push(trust.version());
        let in_a_minute = SystemTime::now() + Duration::from_secs(60);
        trust.grant(JoinGrant::until(key(2), in_a_minute));
        seen.push(trust.version());
        trust
            .lock()
            .forget_expired(in_a_minute + Duration::from_secs(2));
        seen.push(trust.version());
        trust.revoke(key(1));
        seen.push(trust.version());
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    }
}
