//! Contents that were just read, for whoever needs them next.
//!
//! A first push reads every file of the source to hash it, and needs it again a moment later to
//! pack it. Small files, where opening costs more than reading, are kept in between.
//!
//! Invariants: what is kept is what was hashed; never more than `MAX_BYTES` are held; each
//! content is handed out once, since what is packed is packed for everybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use sync_proto::digest::Digest;

/// LIMIT: bytes of all kept contents.
const MAX_BYTES: u64 = 64 << 20;
/// Contents up to this are kept. Reading a larger one again costs little more than copying it.
pub const SMALL_BYTES: u64 = 64 << 10;

/// Kept contents, by their hash.
#[derive(Debug, Default)]
pub struct Fresh {
    contents: Mutex<HashMap<Digest, Vec<u8>>>,
    bytes: AtomicU64,
}

impl Fresh {
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
