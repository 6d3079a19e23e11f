//! Contents that were just read, for whoever needs them next.
//!
//! A first push reads every file of the source to hash it, and needs it again a moment later to
//! pack it. Small files, where opening costs more than reading, are kept in between. Of a large
//! file that changed, its chunks are kept: they are cut while it is hashed.
//!
//! Invariants: what is kept is what was hashed; never more than `MAX_BYTES` of contents are held;
//! each content is handed out once, since what is packed is packed for everybody.

use super::depot::{Depot, MAX_STORED_BYTES};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::delta::chunk::{ChunkList, Chunker};
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;

/// LIMIT: bytes of all kept contents.
const MAX_BYTES: u64 = 64 << 20;
/// Contents up to this are kept. Reading a larger one again costs little more than copying it.
pub const SMALL_BYTES: u64 = 64 << 10;

/// Kept contents and chunk lists, by the content's hash.
#[derive(Debug, Default)]
pub struct Fresh {
    contents: Mutex<HashMap<Digest, Vec<u8>>>,
    bytes: AtomicU64,
    lists: Mutex<HashMap<Digest, ChunkList>>,
    depot: Option<Arc<Depot>>,
}

impl Fresh {
    /// Nothing yet. The depot has the chunks of earlier contents.
    pub fn beside(depot: Option<Arc<Depot>>) -> Self {
        Self {
            depot,
            ..Self::default()
        }
    }

    /// Cuts what has become of this file, if it was large and its chunks are known.
    pub fn chunker(&self, old: &Kind) -> Option<Chunker> {
        match old {
            Kind::File { size, content } if *size > MAX_STORED_BYTES => {
                let list = self.depot.as_ref()?.chunks(content).ok()??;
                Some(Chunker::after(list))
            }
            _ => None,
        }
    }

    /// Keeps the chunks of a content.
    pub fn put_chunks(&self, list: Option<ChunkList>) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.extend(list.map(|list| (list.content(), list)));
    }

    /// Hands the chunks of a content out.
    pub fn take_chunks(&self, content: &Digest) -> Option<ChunkList> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.remove(content)
    }

    /// True if there is room for a content of this size.
    pub fn has_room(&self, bytes: u64) -> bool {
        bytes <= SMALL_BYTES && self.bytes.load(Ordering::Relaxed) + bytes <= MAX_BYTES
    }

    /// Keeps a content, if there is room.
    pub fn put(&self, digest: Digest, content: Vec<u8>) {
        let size = content.len() as u64;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_room(size) && contents.insert(digest, content).is_none() {
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// Hands a content out.
    pub fn take(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let content = contents.remove(digest)?;
        let size = content.len() as u64;
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_for_and_each_content_once() {
        let fresh = Fresh::default();
        let content = |at: u32| {
            let mut content = vec![0; SMALL_BYTES as usize];
            content[..4].copy_from_slice(&at.to_le_bytes());
            content
        };
        let most = (MAX_BYTES / SMALL_BYTES) as u32;
        let digest = |at: u32| Digest::of(&content(at));
        for at in 0..most + 5 {
            fresh.put(digest(at), content(at));
            fresh.put(digest(at), content(at));
        }
        assert!(!fresh.has_room(1));
        assert_eq!(fresh.take(&digest(most)), None);
        assert_eq!(fresh.take(&digest(0)), Some(content(0)));
        assert_eq!(fresh.take(&digest(0)), None);
        assert!(fresh.has_room(SMALL_BYTES));
        assert!(!fresh.has_room(SMALL_BYTES + 1));
    }
}
