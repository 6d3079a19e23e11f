//! Stateless resets that survive a restart.
//!
//! An agent that was killed and came back knows nothing of its former connections. To a packet of
//! one of them its endpoint answers with a stateless reset (RFC 9000, section 10.3), which the
//! other side believes if it ends in a token that was given out when the connection was made. The
//! token comes from a key; quinn draws a new one at each start, and a hub then waits the whole idle
//! time for an agent that is there again. This key comes from the node's own secret.

use super::identity::Identity;
use quinn_proto::crypto::{CryptoError, HmacKey};

const LENGTH: usize = 32;

/// A key for reset tokens: keyed BLAKE3.
pub(super) struct ResetKey([u8; LENGTH]);

impl ResetKey {
    /// The key of this node, the same at every start.
    pub(super) fn of(identity: &Identity) -> Self {
        Self(identity.derived_key("fanout 2026 stateless reset"))
    }

    /// The key by which this node knows its connection ids again, the same at every start.
    pub(super) fn for_connection_ids(identity: &Identity) -> u64 {
        let key = identity.derived_key("fanout 2026 connection ids");
        key.first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn hash(&self, data: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, data)
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let length = signature_out.len().min(LENGTH);
        let hash = self.hash(data);
        for (out, byte) in signature_out.iter_mut().zip(&hash.as_bytes()[..length]) {
            *out = *byte;
        }
    }

    fn signature_len(&self) -> usize {
        LENGTH
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // `blake3::Hash` compares in constant time.
        let signature: [u8; LENGTH] = signature.try_into().map_err(|_| CryptoError)?;
        if self.hash(data) == blake3::Hash::from_bytes(signature) {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_same_tokens_after_a_restart_and_no_other_has() {
        let identity = Identity::generate().unwrap();
        let sign = |identity: &Identity| {
            let mut token = [0; LENGTH];
            ResetKey::of(identity).sign(b"connection id", &mut token);
            token
        };
        assert_eq!(sign(&identity), sign(&identity.clone()));
        assert_ne!(sign(&identity), sign(&Identity::generate().unwrap()));
        let key = ResetKey::of(&identity);
        assert!(key.verify(b"connection id", &sign(&identity)).is_ok());
        assert!(key.verify(b"another", &sign(&identity)).is_err());
    }
}
