//! What quinn's errors mean to a person.

use quinn::{ConnectionError, ReadError, TransportErrorCode, VarInt, WriteError};

use super::super::{
    error::{NetError, code, words_of_a_peer},
    key::NodeKey,
    tuning,
};

pub(super) fn lost(detail: &str) -> NetError {
    NetError::Lost {
        detail: detail.into(),
    }
}

pub(super) fn too_long(bytes: &[u8]) -> NetError {
    NetError::Limit {
        what: "A message",
        limit_bytes: u32::MAX.into(),
        announced_bytes: bytes.len() as u64,
    }
}

fn code_of(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

pub(super) fn of_read(error: ReadError) -> NetError {
    match error {
        ReadError::ConnectionLost(error) => of_connection(error),
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}

pub(super) fn of_write(error: WriteError) -> NetError {
    match error {
        WriteError::ConnectionLost(error) => of_connection(error),
        WriteError::Stopped(code) => NetError::ObjectStopped {
            code: code_of(code),
        },
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}

/// What the end of an established connection means.
pub(super) fn of_connection(error: ConnectionError) -> NetError {
    match error {
        ConnectionError::ApplicationClosed(close) => NetError::Closed {
            code: code_of(close.error_code),
            reason: words_of_a_peer(&close.reason),
        },
        ConnectionError::LocallyClosed => NetError::ClosedHere {
            code: code::DONE,
            reason: String::new(),
        },
        ConnectionError::TimedOut => NetError::TimedOut {
            what: "An answer of the peer",
            limit: tuning::IDLE,
        },
        ConnectionError::TransportError(error) => NetError::protocol(error.to_string()),
        ConnectionError::ConnectionClosed(close) => NetError::Lost {
            detail: words_of_a_peer(close.to_string().as_bytes()),
        },
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}

/// The number of a TLS alert within a QUIC error (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<rustls::AlertDescription> {
    let number = u64::from(code).checked_sub(0x100)?;
    u8::try_from(number)
        .ok()
        .map(rustls::AlertDescription::from)
}

/// What the failure of a handshake means to the side that connects.
pub(in super::super) fn of_connecting(error: ConnectionError, expected: NodeKey) -> NetError {
    match error {
        // The peer's word.
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => {
                NetError::of_tls_as_client(&rustls::Error::AlertReceived(alert), expected)
            }
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => NetError::Busy,
            None => of_connection(ConnectionError::ConnectionClosed(close)),
        },
        ConnectionError::ApplicationClosed(close)
            if close.error_code == code::NOT_ACCEPTED.into() =>
        {
            NetError::Refused {
                detail: words_of_a_peer(&close.reason),
            }
        }
        // Our own.
        ConnectionError::TransportError(error) if alert(error.code).is_some() => {
            NetError::WrongPeer {
                expected,
                detail: error.reason,
            }
        }
        other => of_connection(other),
    }
}

/// And to the side that listens.
pub(in super::super) fn of_listening(error: ConnectionError) -> NetError {
    match error {
        ConnectionError::TransportError(error) if alert(error.code).is_some() => {
            NetError::NotAccepted {
                detail: error.reason,
            }
        }
        other => of_connection(other),
    }
}
