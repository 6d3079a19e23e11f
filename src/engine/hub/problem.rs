//! What goes wrong on the way to a member, as a person should hear it.

use super::donors::NoDonor;
use super::encode::EncodeError;
use super::session::SessionError;
use super::supply::SupplyError;
use crate::codes::{Code, Problem};
use crate::engine::depot::DepotError;
use crate::net::NetError;
use sync_proto::wire::WireError;

impl SessionError {
    /// The session is over: nothing more can be heard from this member in it. Anything else is the
    /// member's word, or the hub's own trouble.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Net(NetError::ObjectStopped { .. }) => false,
            Self::Net(_) | Self::Silent { .. } | Self::Wire(_) => true,
            Self::Refused(_) | Self::Encode(_) => false,
        }
    }

    /// As a person should hear it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Refused(refusal) => {
                let code = refusal.code.parse().unwrap_or(Code::ProtocolViolation);
                let problem = Problem::new(code, &refusal.message);
                if refusal.hint.is_empty() {
                    problem
                } else {
                    problem.with_hint(&refusal.hint)
                }
            }
            Self::Net(error) => net_problem(error),
            Self::Wire(WireError::Version(..)) => Problem::from_error(Code::VersionMismatch, self),
            Self::Wire(_) => Problem::from_error(Code::ProtocolViolation, self),
            Self::Silent { .. } => Problem::from_error(Code::NoProgress, self),
            Self::Encode(error) => encode_problem(error),
        }
    }
}

/// A network error as a person should hear it.
pub fn net_problem(error: &NetError) -> Problem {
    let code = match error {
        NetError::Resolve { .. } => Code::AddressUnresolved,
        NetError::NoAnswer { .. } => Code::UdpBlocked,
        NetError::NothingListens { .. } | NetError::Unreachable { .. } => Code::Unreachable,
        NetError::Refused { .. } | NetError::WrongPeer { .. } | NetError::NotAccepted { .. } => {
            Code::HandshakeRefused
        }
        NetError::Protocol { .. } | NetError::Limit { .. } => Code::ProtocolViolation,
        _ => Code::SessionLost,
    };
    let problem = Problem::from_error(code, error);
    match error.hint() {
        Some(hint) if problem.code == code => problem.with_hint(hint),
        _ => problem,
    }
}

/// A failure on the hub's own side as a person should hear it.
pub fn encode_problem(error: &EncodeError) -> Problem {
    let code = match error {
        EncodeError::Supply(SupplyError::Changed(_)) => Code::SourceChanged,
        EncodeError::Supply(SupplyError::Nowhere(..))
        | EncodeError::NoDonor(NoDonor::Nobody { .. }) => Code::DepotIncomplete,
        EncodeError::NoDonor(NoDonor::Spool(_)) => Code::DiskError,
        EncodeError::Supply(SupplyError::Fs(_)) => Code::SourceUnreadable,
        EncodeError::Supply(SupplyError::Depot(error)) | EncodeError::Depot(error) => {
            return depot_problem(error);
        }
        EncodeError::Format(_) | EncodeError::Stopped => Code::Bug,
    };
    let problem = Problem::from_error(code, error);
    match error {
        EncodeError::NoDonor(NoDonor::Nobody { .. }) => problem
            .with_hint("resync again once a member that has it answers, or push from the source"),
        _ => problem,
    }
}

/// A failure of the depot as a person should hear it.
pub fn depot_problem(error: &DepotError) -> Problem {
    let code = match error {
        DepotError::Fs(error) if error.is_no_space() => Code::DepotFull,
        _ => Code::DepotIncomplete,
    };
    Problem::from_error(code, error)
}
