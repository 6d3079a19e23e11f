//! Why a tree has no place on a member's disk.

use crate::fs::FsError;
use crate::fs::durable::CheckedError;
use sync_proto::filter::RuleError;
use sync_proto::path::PathError;
use thiserror::Error;

/// Why a tree has no place.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The disk said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file of ours can't be read.
    #[error(transparent)]
    Checked(#[from] CheckedError),
    /// More preserve rules than a tree may have.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// A name is too long, or the root has none.
    #[error("`{0}` can't be the root of a tree: {1}")]
    Name(String, PathError),
    /// The root is a symlink that fanout didn't make.
    #[error("The root `{0}` is a symlink that fanout did not make")]
    ForeignSymlink(String),
    /// The root is neither a directory nor absent.
    #[error("The root `{0}` is not a directory")]
    NotADirectory(String),
    /// The root has content.
    #[error("The root `{root}` holds {} that fanout did not make", crate::model::counted(*.entries as u64, "entry", "entries"))]
    NotEmpty {
        /// Which root.
        root: String,
        /// How many names are in it.
        entries: usize,
    },
    /// An existing directory can't be taken over by the layout `switched`.
    #[error("The root `{0}` is a directory with content: only the layout in-place can adopt it")]
    AdoptSwitched(String),
    /// The layout `switched` needs its state beside the root.
    #[error("State can't lie beside `{root}`, so the layout switched is not possible there")]
    NoStateBeside {
        /// Which root.
        root: String,
        /// Why not.
        source: FsError,
    },
    /// Another tree has this root.
    #[error("The root `{0}` belongs to another tree")]
    BoundToOther(String),
    /// The same tree, laid out otherwise.
    #[error("The tree at `{0}` was bound with another layout")]
    OtherLayout(String),
    /// The state directory isn't ours alone.
    #[error("The state directory `{0}` does not belong to the agent's user alone")]
    ForeignState(String),
    /// There is no tree of ours.
    #[error("No tree of fanout is at `{0}`")]
    Unbound(String),
    /// A file of ours isn't one.
    #[error("`{0}` is damaged, or was written by a newer version")]
    Damaged(String),
}
