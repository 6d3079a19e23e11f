//! Places for sessions.
//!
//! LIMIT: so many at once; and the last quarter of them goes to peers that have none, so that no
//! peer, whatever it does with its own, keeps the others out.

use crate::net::NodeKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places. Clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<NodeKey, usize>>>,
}

/// One session's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    peer: NodeKey,
    places: Places,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// A place for a session of this peer; `None` if it gets none.
    pub(super) fn take(&self, peer: NodeKey) -> Option<Place> {
        let mut taken = self.lock();
        let all: usize = taken.values().sum();
        let has_one = taken.contains_key(&peer);
        let most = if has_one {
            self.most - self.most / 4
        } else {
            self.most
        };
        if all >= most {
            return None;
        }
        *taken.entry(peer).or_default() += 1;
        drop(taken);
        Some(Place {
            peer,
            places: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeKey, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_for_those_who_have_none() {
        let places = Places::new(8);
        let peer = |byte: u8| NodeKey::from_bytes([byte; 32]);
        let mut of_one: Vec<Place> = (0..8).map_while(|_| places.take(peer(1))).collect();
        assert_eq!(of_one.len(), 6);
        let others: Vec<Place> = (2..9).map_while(|byte| places.take(peer(byte))).collect();
        assert_eq!(others.len(), 2, "more sessions than places");
        drop(others);
        of_one.pop();
        assert!(places.take(peer(1)).is_some(), "a place was not given back");
        let few = Places::new(1);
        assert!(few.take(peer(1)).is_some() && few.take(peer(1)).is_some());
    }
}
