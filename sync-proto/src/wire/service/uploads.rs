//! Files that visitors upload: read on one member, written on others; and shares that hold them.
//!
//! Every path lies below a path that the tree preserves, is taken name by name, and follows no
//! symlink. What comes from one member is checked against its digest before it gets a name on
//! another.

use super::super::TreeKey;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// LIMIT: bytes of one file that one message carries.
pub const UPLOAD_PART_BYTES: usize = 512 * 1024;
/// LIMIT: bytes of one uploaded file.
pub const UPLOAD_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// LIMIT: files of one listing's part.
pub const UPLOAD_LIST_FILES: usize = 4_000;

/// A directory of uploads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UploadPlace {
    /// The tree.
    pub tree: TreeKey,
    /// The directory, relative to the tree's root. A preserve rule of the tree covers it.
    pub path: Vec<u8>,
}

/// One uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadFile {
    /// Its path below the directory.
    pub path: Vec<u8>,
    /// Its length.
    pub size: u64,
    /// The digest of what it holds.
    pub digest: Digest,
    /// When it was changed, seconds since 1970.
    pub mtime_s: i64,
    /// Its permissions.
    pub mode: u32,
}

/// A request about uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadRequest {
    /// What is there, in the order of the paths.
    List {
        /// Where.
        place: UploadPlace,
        /// Only what comes after this path; empty: from the beginning.
        after: Vec<u8>,
        /// Directories right below it that every member makes for itself.
        skip: Vec<String>,
    },
    /// Part of a file.
    Read {
        /// Where.
        place: UploadPlace,
        /// Its path below the directory.
        path: Vec<u8>,
        /// From here on.
        offset: u64,
    },
    /// Part of a new file. It gets its name with its last part, if it has its digest.
    Write {
        /// Where.
        place: UploadPlace,
        /// What it is when it is complete.
        file: UploadFile,
        /// The digest of what it may replace; anything else that bears its name is kept aside.
        replaces: Option<Digest>,
        /// From here on; 0 begins anew.
        offset: u64,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Removes a file, if it still is what was delivered.
    Remove {
        /// Where.
        place: UploadPlace,
        /// Its path below the directory.
        path: Vec<u8>,
        /// What was delivered.
        digest: Digest,
    },
    /// What is mounted at an absolute path.
    Mounted {
        /// Where.
        path: Vec<u8>,
        /// The user whose id counts.
        user: String,
    },
    /// Writes a word into the share at an absolute path.
    Leave {
        /// Where.
        path: Vec<u8>,
        /// The word.
        nonce: [u8; 16],
    },
    /// Does the share at an absolute path hold the word? With `take` it is removed.
    Find {
        /// Where.
        path: Vec<u8>,
        /// The word.
        nonce: [u8; 16],
        /// Remove it.
        take: bool,
    },
}

/// The answer to an [`UploadRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadAnswer {
    /// To List.
    Listed {
        /// Some files.
        files: Vec<UploadFile>,
        /// There are no more.
        last: bool,
        /// Entries that are neither files nor directories, or that can't be read.
        left_out: u64,
    },
    /// To Read.
    Read {
        /// The part; empty at the end.
        bytes: Vec<u8>,
    },
    /// To Write.
    Written {
        /// It has its name now.
        complete: bool,
        /// What was there under its name was kept aside, under this name.
        kept_aside: Option<Vec<u8>>,
    },
    /// To Remove.
    Removed {
        /// It is gone; otherwise it was changed, and stays.
        gone: bool,
    },
    /// To Mounted.
    Mounted(MountFacts),
    /// To Leave.
    Done,
    /// To Find.
    Found {
        /// The word is there.
        found: bool,
    },
}

/// What is mounted somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFacts {
    /// Something is mounted at exactly that path.
    pub is_mount_point: bool,
    /// The kind of file system, such as `nfs4`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// It can't be written to.
    pub is_read_only: bool,
    /// The number of the user here.
    pub uid: u32,
    /// The number of the user's group here.
    pub gid: u32,
}
