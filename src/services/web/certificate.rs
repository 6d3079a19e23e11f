//! A certificate with its chain and its key, as the hub hands them to a set. How one is made or
//! checked is `net`'s business.

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, then its chain, as PEM.
    pub chain_pem: String,
    /// Its private key, as PEM.
    pub key_pem: String,
    /// Made by fanout itself: browsers are never told to insist on it (HSTS).
    pub is_self_signed: bool,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({} bytes of chain)", self.chain_pem.len())
    }
}
