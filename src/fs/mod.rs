//! The only door to the disk.
//!
//! Everything below a tree's root goes through [`Dir`], which holds a directory descriptor: no
//! path string is ever resolved twice, no symlink is followed, no mount is crossed and nothing
//! outside the directory can be reached (invariant I5). Names and paths are `sync_proto`'s
//! [`Name`](sync_proto::path::Name) and [`RelPath`](sync_proto::path::RelPath), which can't hold
//! `..` or a slash too many.
//!
//! It refuses to work on a kernel or in a sandbox without `openat2`; there is no weaker fallback.

pub mod acl;
mod change;
pub mod clone;
mod create;
mod dir;
pub mod durable;
mod error;
pub mod fault;
mod list;
pub mod lock;
pub mod meta;
mod own;
pub mod owner;
#[cfg(test)]
pub(crate) mod power;
pub mod read;
mod remove;
pub mod space;
mod stat;
pub mod system;
pub mod walk;
pub mod write_back;
pub mod xattr;

pub use dir::{Dir, NoOpenat2, probe_openat2};
pub use error::{FsError, absent_is_fine};
pub use list::Listed;
pub use own::own_executable;
pub use stat::{FileKind, Stat};

#[cfg(test)]
mod tests;
