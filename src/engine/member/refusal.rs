//! What goes wrong on a member, as a hub hears it: a stable code, what happened to what, and what
//! to do next.

use super::place::PlaceError;
use super::transaction::CommitError;
use crate::codes::{Code, Problem};
use crate::engine::observe::ObserveError;
use crate::fs::FsError;
use crate::fs::durable::CheckedError;
use crate::fs::meta::MetaError;
use crate::fs::read::ReadError;
use sync_proto::wire::{Notice, Refusal};

/// A problem as it crosses the wire.
pub fn refusal(problem: &Problem) -> Refusal {
    let path = problem.path.as_deref().map(sync_proto::path::escape);
    let message = match path {
        Some(path) => format!("`{path}`: {}", problem.message),
        None => problem.message.clone(),
    };
    Refusal {
        code: problem.code.id(),
        message,
        hint: problem.hint().to_owned(),
    }
}

/// What the disk said.
pub fn of_fs(error: &FsError) -> Problem {
    let code = match error {
        _ if error.is_no_space() => Code::DiskFull,
        _ if error.is_read_only() => Code::ReadOnly,
        _ if error.is_permission() => Code::PermissionDenied,
        _ if error.is_no_openat2() => Code::Openat2Missing,
        _ => Code::DiskError,
    };
    Problem::from_error(code, error)
}

/// Why metadata could not be applied.
pub fn of_meta(error: &MetaError) -> Problem {
    match error {
        MetaError::Fs(error) => of_fs(error),
        MetaError::Missing(missing) => Problem::from_error(Code::OwnerMissing, missing),
    }
}

/// Why a file of ours can't be read: what the disk says is no damage of the file.
pub fn of_checked(error: &CheckedError) -> Problem {
    match error {
        CheckedError::Read(ReadError::Io(error)) => of_fs(error),
        CheckedError::Read(_) | CheckedError::Damaged { .. } => {
            Problem::from_error(Code::AgentStateDamaged, error)
        }
    }
}

/// Why a tree has no place.
pub fn of_place(error: &PlaceError) -> Problem {
    let code = match error {
        PlaceError::Fs(error) => return of_fs(error),
        PlaceError::Checked(error) => return of_checked(error),
        PlaceError::Damaged(_) => Code::AgentStateDamaged,
        PlaceError::ForeignState(_) => Code::StateNotOurs,
        PlaceError::Name(..) => Code::PathNotAllowed,
        PlaceError::Rules(_) => Code::RuleInvalid,
        PlaceError::ForeignSymlink(_)
        | PlaceError::NotADirectory(_)
        | PlaceError::NotEmpty { .. }
        | PlaceError::AdoptSwitched(_) => Code::RootNotOurs,
        PlaceError::NoStateBeside { .. } | PlaceError::OtherLayout(_) => Code::LayoutUnsupported,
        PlaceError::BoundToOther(_) => Code::TreeBoundElsewhere,
        PlaceError::Unbound(_) => Code::TreeUnknown,
    };
    Problem::from_error(code, error)
}

/// Why a transaction doesn't go on.
pub fn of_commit(error: &CommitError) -> Problem {
    let code = match error {
        CommitError::Place(error) => return of_place(error),
        CommitError::Fs(error) => return of_fs(error),
        CommitError::Meta(error) => return of_meta(error),
        CommitError::Missing(_) => Code::OwnerMissing,
        CommitError::Path(_) => Code::NameUnsupported,
        CommitError::Conflicts(_) | CommitError::Kept(_) => Code::PreservedConflict,
        CommitError::RootChanged(_) | CommitError::RootGone => Code::RootKindChanged,
        CommitError::NotStaged(_) | CommitError::StagingLost => Code::CommitFailed,
        CommitError::Changed(_) => Code::PathChanged,
        CommitError::Unwritable(_) => Code::PermissionDenied,
        CommitError::NoTransaction | CommitError::OtherTransaction | CommitError::Decided => {
            Code::TransactionOpen
        }
    };
    Problem::from_error(code, error)
}

/// Why a tree could not be looked at.
pub fn of_observe(error: &ObserveError) -> Problem {
    match error {
        ObserveError::Fs(error) => of_fs(error),
        ObserveError::Manifest(error) => Problem::from_error(Code::TooManyEntries, error),
    }
}

/// Something worth saying about one path.
pub fn notice(code: Code, path: &[u8], message: impl Into<String>) -> Notice {
    Notice {
        code: code.id(),
        path: path.to_vec(),
        message: message.into(),
    }
}

/// Something worth saying, and nothing more.
pub fn information(path: &[u8], message: impl Into<String>) -> Notice {
    Notice {
        code: String::new(),
        path: path.to_vec(),
        message: message.into(),
    }
}
