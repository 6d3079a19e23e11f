//! What the lists of directories and entries that hubs send may take in this agent's memory, over
//! all sessions: counted in entries, as its administrator does.
//!
//! LIMIT: `limits.entries` of `agent.toml`. A list takes its place while it comes and for as long as
//! the tree that it describes is worked on; who finds none is refused, and nobody waits.

use crate::codes::{Code, Problem};
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::manifest::ManifestError;
use sync_proto::wire::table::ENTRY_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room for lists.
#[derive(Clone, Debug)]
pub struct Lists {
    room: Arc<Semaphore>,
    /// One list grows at a time, so that none grows into the room of another.
    growing: Arc<Mutex<()>>,
    most: usize,
}

/// A list's part of it.
pub type Place = OwnedSemaphorePermit;

impl Lists {
    /// Room for so many entries.
    pub fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            room: Arc::new(Semaphore::new(most)),
            growing: Arc::default(),
            most,
        }
    }

    /// Room for a part of a list as it travels.
    ///
    /// # Errors
    /// There is none.
    pub fn part(&self, bytes: usize) -> Result<Place, Problem> {
        self.take(bytes / ENTRY_BYTES + 1)
    }

    /// Has a list read, into as many entries as there is room for.
    ///
    /// # Errors
    /// It needs more, or is no list.
    pub fn read<T>(
        &self,
        list: impl FnOnce(usize) -> Result<(T, usize), ManifestError>,
    ) -> Result<(T, Place), Problem> {
        let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, cost) = list(self.room.available_permits()).map_err(|error| match error {
            ManifestError::TooMany => self.full(),
            error => Problem::from_error(Code::ProtocolViolation, &error),
        })?;
        Ok((read, self.take(cost)?))
    }

    fn take(&self, entries: usize) -> Result<Place, Problem> {
        let wanted = u32::try_from(entries).map_err(|_| self.full())?;
        let taken = self.room.clone().try_acquire_many_owned(wanted);
        taken.map_err(|_| self.full())
    }

    fn full(&self) -> Problem {
        let message = format!(
            "The tree, with what other sessions compare, has more entries than the {} that this agent \
             allows",
            self.most
        );
        Problem::new(Code::AgentLimit, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_together_take_what_the_administrator_allows_and_give_it_back() {
        let lists = Lists::new(1000);
        let (_, first) = lists.read(|most| Ok(((), most - 100))).unwrap();
        let refused = lists.read(|most| match most {
            0..=100 => Err::<((), usize), _>(ManifestError::TooMany),
            _ => Ok(((), 101)),
        });
        assert_eq!(refused.unwrap_err().code, Code::AgentLimit);
        assert!(lists.part(100 * ENTRY_BYTES).is_err());
        drop(first);
        assert!(lists.part(900 * ENTRY_BYTES).is_ok());
    }
}
