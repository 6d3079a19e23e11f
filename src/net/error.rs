//! What can go wrong on the way to a peer, told apart by what a person would do about it.

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;

use super::key::NodeKey;

/// Close codes of this layer. Applications start at [`code::FIRST_OF_THE_APPLICATION`].
pub mod code {
    /// The work is done.
    pub const DONE: u32 = 0;
    /// The peer's key was revoked.
    pub const REVOKED: u32 = 1;
    /// The peer sent more than the receiver allows.
    pub const LIMIT: u32 = 2;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 3;
    /// The peer's key isn't accepted, although its certificate was signed by one that is.
    pub const NOT_ACCEPTED: u32 = 4;
    /// Whoever began this no longer wants it.
    pub const CANCELLED: u32 = 5;
    /// The peer has as many connections as one key may have.
    pub const BUSY: u32 = 6;
    /// Codes from here on belong to the layers above.
    pub const FIRST_OF_THE_APPLICATION: u32 = 16;
}

/// Why a connection couldn't be made, or ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum NetError {
    /// The name has no address, or the resolver failed.
    #[error("Host name {host:?} could not be resolved")]
    Resolve {
        /// The name that was asked for.
        host: String,
        /// The resolver's answer.
        source: Arc<io::Error>,
    },
    /// Nothing came back at all: most likely UDP is blocked on the way.
    #[error("No answer from {address} over UDP within {:.1} s", waited.as_secs_f32())]
    NoAnswer {
        /// Where the packets went.
        address: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The host answered that no program has the port.
    #[error("Nothing listens on UDP port {address}")]
    NothingListens {
        /// The address that was tried.
        address: String,
    },
    /// The host answered, after a silence, that no program has the port any more.
    #[error("Nothing listens on UDP port {address} any more: the process has ended")]
    PeerEnded {
        /// Where the peer was.
        address: String,
    },
    /// The local system or a router said that there is no way.
    #[error("{address} can't be reached")]
    Unreachable {
        /// The address that was tried.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The peer ended the handshake: it doesn't accept our key.
    #[error("The peer doesn't accept this node's key ({detail})")]
    Refused {
        /// The peer's alert.
        detail: String,
    },
    /// We ended the handshake: the peer has another key than the pinned one.
    #[error("The peer isn't {expected}, it has another key ({detail})")]
    WrongPeer {
        /// Whom we wanted to reach.
        expected: NodeKey,
        /// Why its certificate was refused.
        detail: String,
    },
    /// We ended the handshake as the listening side.
    #[error("The peer's key isn't accepted here ({detail})")]
    NotAccepted {
        /// Why.
        detail: String,
    },
    /// There are more handshakes under way, or more connections of one key, than are allowed.
    #[error("The peer has too many connections or handshakes already")]
    Busy,
    /// A limit of ours in time.
    #[error("{what} took longer than {:.1} s", limit.as_secs_f32())]
    TimedOut {
        /// What we waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The peer said goodbye.
    #[error("The peer closed the connection (code {code}): {reason}")]
    Closed {
        /// Its code.
        code: u32,
        /// Its words, escaped and shortened.
        reason: String,
    },
    /// This side said goodbye.
    #[error("The connection was closed on this side (code {code}): {reason}")]
    ClosedHere {
        /// Our code.
        code: u32,
        /// Our words.
        reason: String,
    },
    /// The connection broke without a goodbye.
    #[error("The connection was lost: {detail}")]
    Lost {
        /// What was seen.
        detail: String,
    },
    /// The receiver doesn't want this object. The connection lives.
    #[error("The peer stopped the object (code {code})")]
    ObjectStopped {
        /// The peer's code.
        code: u32,
    },
    /// More than the receiver allows.
    #[error("{what} of {announced_bytes} bytes is over the limit of {limit_bytes} bytes")]
    Limit {
        /// What was too large.
        what: &'static str,
        /// What the receiver allows.
        limit_bytes: u64,
        /// What was announced.
        announced_bytes: u64,
    },
    /// The peer sent what no correct peer sends.
    #[error("The peer broke the protocol: {what}")]
    Protocol {
        /// The rule that was broken.
        what: String,
    },
    /// A system call failed.
    #[error("{what} failed")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Our own keys or settings don't make a TLS configuration.
    #[error("TLS could not be set up: {detail}")]
    Tls {
        /// What the library said.
        detail: String,
    },
}

impl NetError {
    /// What to do next, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoAnswer { address, .. } => {
                let port = address.rsplit(':').next().unwrap_or(address);
                Some(format!(
                    "let UDP port {port} in on that host (ufw allow {port}/udp, or nft add rule \
                     inet filter input udp dport {port} accept) and in any firewall in front of \
                     it, or use transport = \"ssh\""
                ))
            }
            Self::NothingListens { .. } | Self::PeerEnded { .. } => {
                Some("start the agent on that host: systemctl start fanout-agent".into())
            }
            Self::Refused { .. } => Some(
                "its agent doesn't know this hub: join it with a new token (one is good for a \
                 single use and a limited time)"
                    .into(),
            ),
            Self::WrongPeer { .. } => Some(
                "another machine answers at this address, or the agent got a new key. If it was set \
                 up anew, and you know why: fanout add server NAME --replace-key"
                    .into(),
            ),
            _ => None,
        }
    }

    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source: Arc::new(source),
        }
    }

    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    /// The code with which to close a connection that ended in this error.
    pub(super) fn close_code(&self) -> u32 {
        match self {
            Self::Limit { .. } => code::LIMIT,
            Self::Protocol { .. } => code::PROTOCOL,
            Self::NotAccepted { .. } => code::NOT_ACCEPTED,
            Self::Busy => code::BUSY,
            _ => code::CANCELLED,
        }
    }

    /// A TLS error seen by the side that connects.
    pub(super) fn of_tls_as_client(error: &rustls::Error, expected: NodeKey) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::WrongPeer {
                expected,
                detail: why.to_string(),
            },
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
                Self::protocol("it speaks another version than fanout/1")
            }
            rustls::Error::AlertReceived(alert) => Self::Refused {
                detail: format!("{alert:?}"),
            },
            other => Self::protocol(format!("TLS handshake: {other}")),
        }
    }

    /// A TLS error seen by the side that listens.
    pub(super) fn of_tls_as_server(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Self::NotAccepted {
                    detail: error.to_string(),
                }
            }
            rustls::Error::AlertReceived(alert) => Self::Refused {
                detail: format!("{alert:?}"),
            },
            other => Self::protocol(format!("TLS handshake: {other}")),
        }
    }
}

/// Words of a peer, fit for a log line: lossy, escaped, short.
pub(super) fn words_of_a_peer(bytes: &[u8]) -> String {
    // LIMIT: a reason may not flood a terminal, nor steer it.
    const WORDS_MAX_BYTES: usize = 200;
    let shown = &bytes[..bytes.len().min(WORDS_MAX_BYTES)];
    String::from_utf8_lossy(shown)
        .chars()
        .flat_map(char::escape_debug)
        .collect()
}
