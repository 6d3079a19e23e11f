//! What of a tree could not be seen.

use crate::fs::FsError;
use crate::fs::read::ReadError;
use crate::fs::walk::{WalkProblem, WalkTrouble};
use sync_proto::path::RelPath;
use thiserror::Error;

/// One entry that could not be seen, or not to its end.
#[derive(Debug, Error)]
pub enum ObserveProblem {
    /// The walk didn't get there.
    #[error(transparent)]
    Walk(WalkProblem),
    /// A file that changes, vanishes, or can't be read.
    #[error("{source}")]
    Read {
        /// Where.
        path: RelPath,
        /// Why.
        source: ReadError,
    },
    /// Extended attributes or a kind of thing that can't be read.
    #[error("{source}")]
    Meta {
        /// Where.
        path: RelPath,
        /// Why.
        source: FsError,
    },
}

impl ObserveProblem {
    /// Where.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Walk(problem) => &problem.path,
            Self::Read { path, .. } | Self::Meta { path, .. } => path.as_bytes(),
        }
    }

    /// True if the entry was there and then was not what it had been: looking again may help.
    pub fn is_unrest(&self) -> bool {
        match self {
            Self::Walk(problem) => problem.what == WalkTrouble::Vanished,
            Self::Read { source, .. } => {
                matches!(
                    source,
                    ReadError::Changed { .. } | ReadError::Vanished { .. }
                )
            }
            Self::Meta { source, .. } => source.is_not_found(),
        }
    }
}
