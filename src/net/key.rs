//! Who a peer is: its public key and nothing else.
//!
//! A [`NodeKey`] *is* the Ed25519 public key, not a hash of it: with the same 32 bytes a verifier's
//! trust anchor can be rebuilt, so neither tokens nor trust files have to carry certificates.
//! Invariant: the subject of every node's certificate follows from its key (see [`NodeKey::id`]).

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, TrustAnchor},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `AlgorithmIdentifier` of Ed25519, then the head of a 32 byte BIT STRING (RFC 8410, section 4).
const SPKI_HEAD: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// One `RelativeDistinguishedName` with a common name of 32 UTF-8 bytes (RFC 5280, section 4.1.2.4).
const SUBJECT_HEAD: [u8; 11] = [
    0x31, 0x29, 0x30, 0x27, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x20,
];

/// The Ed25519 public key of a node. Printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeKey([u8; 32]);

/// Not a node's key.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text form is fixed.
    #[error("A node key is 64 hexadecimal digits")]
    Text,
    /// Not X.509, or not what a node of ours makes.
    #[error("The certificate is not that of a node: {detail}")]
    Certificate {
        /// What is wrong with it.
        detail: String,
    },
}

impl NodeKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in a certificate, whoever signed it: possession is proven by the handshake alone.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, KeyError> {
        let refuse = |detail: String| KeyError::Certificate { detail };
        let mut parsed = RootCertStore::empty();
        parsed
            .add(der.clone())
            .map_err(|error| refuse(error.to_string()))?;
        let spki = parsed
            .roots
            .first()
            .map(|anchor| anchor.subject_public_key_info.as_ref());
        spki.and_then(|spki| spki.strip_prefix(&SPKI_HEAD))
            .and_then(|key| key.try_into().ok())
            .map(Self)
            .ok_or_else(|| refuse("its key is not an Ed25519 key".into()))
    }

    /// The key in a certificate that came as bytes.
    pub fn of_certificate_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::of_certificate(&CertificateDer::from(der))
    }

    /// The node id: the first half of the key in hexadecimal, the common name of its certificate.
    pub fn id(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0[..16])
    }

    /// What the verifier accepts as the issuer of this node's self-signed certificate.
    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        TrustAnchor {
            subject: [&SUBJECT_HEAD[..], self.id().as_bytes()].concat().into(),
            subject_public_key_info: [&SPKI_HEAD[..], &self.0[..]].concat().into(),
            name_constraints: None,
        }
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({}…)", &self.id()[..12])
    }
}

impl FromStr for NodeKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| KeyError::Text)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::Text)
    }
}

impl From<NodeKey> for String {
    fn from(key: NodeKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for NodeKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    #[test]
    fn the_anchor_rebuilt_from_a_key_is_the_one_in_the_certificate() {
        let node = Identity::generate().unwrap();
        let mut parsed = RootCertStore::empty();
        parsed.add(node.certificate().clone()).unwrap();
        assert_eq!(parsed.roots, [node.key().anchor()]);
    }

    #[test]
    fn a_key_survives_its_text_form_and_nothing_else_parses() {
        let key = Identity::generate().unwrap().key();
        assert_eq!(key.to_string().parse::<NodeKey>().unwrap(), key);
        assert_eq!(
            key.to_string().to_uppercase().parse::<NodeKey>().unwrap(),
            key
        );
        for wrong in [
            "",
            "00",
            &key.to_string()[1..],
            &format!("{key}00"),
            &"g".repeat(64),
        ] {
            assert!(wrong.parse::<NodeKey>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_with_another_kind_of_key_is_not_a_nodes() {
        let foreign = rcgen::generate_simple_self_signed(["fanout".to_owned()]).unwrap();
        assert!(NodeKey::of_certificate(foreign.cert.der()).is_err());
        assert!(NodeKey::of_certificate(&CertificateDer::from(vec![0x30, 0x00])).is_err());
    }
}
