//! Entries that a tree holds only where it is allowed to.
//!
//! A web platform needs none of them, and on a member they are a way to become root. The hub looks
//! at its source, and every member at what it is to become, by the same words.

use crate::entry::{Entry, Kind};
use serde::{Deserialize, Serialize};

/// Which special files a tree may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialFiles {
    /// Set-user-id and set-group-id bits on regular files.
    pub setuid: bool,
    /// Block and character devices.
    pub devices: bool,
    /// Named pipes and sockets.
    pub fifos: bool,
}

impl SpecialFiles {
    /// Every kind.
    pub const ALL: Self = Self {
        setuid: true,
        devices: true,
        fifos: true,
    };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            setuid: self.setuid && other.setuid,
            devices: self.devices && other.devices,
            fifos: self.fifos && other.fifos,
        }
    }

    /// May the tree hold this entry? A further name of a file is what its first name is.
    pub fn allow(self, entry: &Entry) -> bool {
        match entry.kind {
            Kind::Fifo | Kind::Socket => self.fifos,
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => self.devices,
            Kind::File { .. } => self.setuid || entry.meta.mode & 0o6000 == 0,
            Kind::Directory | Kind::HardLink { .. } | Kind::Symlink { .. } => true,
        }
    }
}
