//! What a receiver allows. A sender's numbers are only ever compared with these.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{error::NetError, key::NodeKey, tuning};

/// LIMIT: no control message is larger than this, whatever an [`Options`] says.
pub const CONTROL_MAX_BYTES: usize = 1024 * 1024 + 4 * 1024;

/// LIMIT: nor the header of an object.
pub const HEADER_MAX_BYTES: usize = 64 * 1024;

/// What a node allows its peers, and how it expects the way to them to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The largest control message that is received, at most [`CONTROL_MAX_BYTES`].
    pub control_max_bytes: usize,
    /// The largest object header that is received, at most [`HEADER_MAX_BYTES`].
    pub header_max_bytes: usize,
    /// What the objects in memory may take together; clones share it.
    pub budget: Budget,
    /// Objects that the peer may have open towards a connecting side. 0 where none are read: what
    /// nobody reads would wait in its windows.
    pub objects_open_max: u32,
    /// How long connecting may take, name lookup included.
    pub handshake: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_max_bytes: CONTROL_MAX_BYTES,
            header_max_bytes: HEADER_MAX_BYTES,
            budget: Budget::new(256 * 1024 * 1024),
            objects_open_max: tuning::OBJECTS_OPEN_MAX,
            handshake: tuning::HANDSHAKE,
        }
    }
}

impl Options {
    /// For one connection of this peer.
    pub(super) fn for_peer(&self, peer: NodeKey) -> Self {
        Self {
            budget: self.budget.of(peer),
            ..self.clone()
        }
    }

    pub(super) fn check_control(&self, announced_bytes: u64) -> Result<usize, NetError> {
        check(
            "A control message",
            announced_bytes,
            self.control_max_bytes.min(CONTROL_MAX_BYTES),
        )
    }

    pub(super) fn check_header(&self, announced_bytes: u64) -> Result<usize, NetError> {
        check(
            "An object's header",
            announced_bytes,
            self.header_max_bytes.min(HEADER_MAX_BYTES),
        )
    }
}

/// Compares what a peer announces with what we allow.
pub(super) fn check(
    what: &'static str,
    announced_bytes: u64,
    limit_bytes: usize,
) -> Result<usize, NetError> {
    match usize::try_from(announced_bytes) {
        Ok(bytes) if bytes <= limit_bytes => Ok(bytes),
        _ => Err(NetError::Limit {
            what,
            limit_bytes: limit_bytes as u64,
            announced_bytes,
        }),
    }
}

/// Bytes that received objects may occupy together. Clones share the same bytes.
///
/// An object takes its room as a whole before its first byte is read, and gives it back when it is
/// dropped, so objects never wait for each other half received.
#[derive(Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    total_bytes: u32,
    /// One peer's part of it; none of it is set aside.
    own: Option<Arc<Semaphore>>,
    shares: Arc<Mutex<HashMap<NodeKey, Weak<Semaphore>>>>,
}

/// The largest object must fit into one peer's share.
const SHARE_LEAST_BYTES: u32 = 72 * 1024 * 1024;

impl Budget {
    /// Room for `total_bytes`.
    pub fn new(total_bytes: u32) -> Self {
        // LIMIT: permits are counted in bytes; the semaphore holds 2^29 of them at least.
        let total_bytes = total_bytes.min(1 << 29);
        Self {
            room: Arc::new(Semaphore::new(total_bytes as usize)),
            total_bytes,
            own: None,
            shares: Arc::default(),
        }
    }

    /// The same budget for all connections of one peer. LIMIT: they take half of it at most, so
    /// that who announces objects and never sends them doesn't keep others from sending theirs.
    pub(super) fn of(&self, peer: NodeKey) -> Self {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        let own = shares.get(&peer).and_then(Weak::upgrade);
        let own = own.unwrap_or_else(|| {
            let bytes = (self.total_bytes / 2)
                .max(SHARE_LEAST_BYTES)
                .min(self.total_bytes);
            Arc::new(Semaphore::new(bytes as usize))
        });
        shares.insert(peer, Arc::downgrade(&own));
        drop(shares);
        Self {
            own: Some(own),
            ..self.clone()
        }
    }

    /// Bytes that nobody occupies at the moment.
    pub fn free_bytes(&self) -> usize {
        self.room.available_permits()
    }

    /// Waits for room. Nothing is taken if the waiting is given up.
    pub(super) async fn take(&self, bytes: usize) -> Result<Room, NetError> {
        let over = || NetError::Limit {
            what: "An object",
            limit_bytes: self.total_bytes.into(),
            announced_bytes: bytes as u64,
        };
        let wanted = u32::try_from(bytes).map_err(|_| over())?;
        if wanted > self.total_bytes {
            return Err(over());
        }
        let own = match &self.own {
            Some(own) => {
                let taken = Arc::clone(own).acquire_many_owned(wanted).await;
                Some(taken.map_err(|_| over())?)
            }
            None => None,
        };
        let taken = Arc::clone(&self.room).acquire_many_owned(wanted).await;
        let taken = taken.map_err(|_| over())?;
        Ok(Room { taken, own })
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Budget({} of {} bytes free)",
            self.free_bytes(),
            self.total_bytes
        )
    }
}

/// A part of a [`Budget`].
#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop")]
pub struct Room {
    taken: OwnedSemaphorePermit,
    own: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Room {
    /// For tests of what holds it: of a budget of its own.
    pub(crate) fn alone() -> Self {
        let taken = Arc::new(Semaphore::new(1)).try_acquire_many_owned(1);
        Self {
            taken: taken.expect("there is one"),
            own: None,
        }
    }
}

/// A received object. It occupies its part of the receiver's [`Budget`] until it is dropped, so
/// keep it for as long as the body is in memory.
#[derive(Debug)]
pub struct Object {
    /// What the sender says about the body.
    pub header: Bytes,
    /// The body, of exactly the length that was announced.
    pub body: Bytes,
    /// The body's part of the budget.
    pub room: Room,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_peer_takes_no_more_than_half_with_all_its_connections() {
        const MIB: u32 = 1024 * 1024;
        let budget = Budget::new(256 * MIB);
        let [one, same, other] = [1, 1, 2].map(|key| budget.of(NodeKey::from_bytes([key; 32])));
        let size = 64 * MIB as usize;
        let held = (
            one.take(size).await.unwrap(),
            same.take(size).await.unwrap(),
        );
        let third = tokio::time::timeout(Duration::from_millis(20), one.take(size)).await;
        assert!(third.is_err(), "three quarters of all for one peer");
        let of_another = other.take(size).await.unwrap();
        assert_eq!(budget.free_bytes(), size);
        drop((held, of_another));
        assert_eq!(budget.free_bytes(), 4 * size);
        assert!(same.take(size).await.is_ok());
    }

    #[tokio::test]
    async fn each_connection_of_a_peer_gets_its_part_and_who_is_gone_is_forgotten() {
        let options = Options::default();
        let key = |of| NodeKey::from_bytes([of; 32]);
        let (one, same) = (options.for_peer(key(1)), options.for_peer(key(1)));
        let size = 100 * 1024 * 1024;
        let _held = one.budget.take(size).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(20), same.budget.take(size)).await;
        assert!(more.is_err(), "200 of 256 MiB for one peer");
        let of_another = options.for_peer(key(2));
        let known = || options.budget.shares.lock().unwrap().len();
        assert_eq!(known(), 2);
        drop(of_another);
        let _third = options.for_peer(key(3));
        assert_eq!(known(), 2, "the second is gone");
    }

    #[tokio::test]
    async fn room_comes_back_when_it_is_dropped_and_none_is_given_beyond_the_total() {
        let budget = Budget::new(100);
        let first = budget.take(60).await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(20), budget.take(60)).await;
        assert!(second.is_err(), "60 + 60 bytes went into 100");
        drop(first);
        assert!(budget.take(60).await.is_ok());
        assert!(matches!(
            budget.take(101).await,
            Err(NetError::Limit { .. })
        ));
    }
}
