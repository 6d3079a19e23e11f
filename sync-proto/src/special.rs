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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::entry::Meta;
    use crate::path::{Name, RelPath};

    #[test]
    fn each_sort_is_allowed_by_its_own_switch_only() {
        let none = SpecialFiles::default();
        let switches = [
            SpecialFiles {
                setuid: true,
                ..none
            },
            SpecialFiles {
                devices: true,
                ..none
            },
            SpecialFiles {
                fifos: true,
                ..none
            },
        ];
        let (major, minor) = (1, 3);
        let file = Kind::File {
            size: 1,
            content: Digest::of(b"x"),
        };
        let leader = RelPath::parse(b"a").unwrap();
        // The kind, its mode, and the switch that allows it.
        for (kind, mode, switch) in [
            (file.clone(), 0o4755, Some(0)),
            (file.clone(), 0o2755, Some(0)),
            (file.clone(), 0o6755, Some(0)),
            (file, 0o1777, None),
            (Kind::CharDevice { major, minor }, 0o600, Some(1)),
            (Kind::BlockDevice { major, minor }, 0o600, Some(1)),
            (Kind::Fifo, 0o600, Some(2)),
            (Kind::Socket, 0o600, Some(2)),
            (Kind::Directory, 0o2775, None),
            (Kind::HardLink { leader }, 0, None),
        ] {
            let meta = Meta {
                mode,
                ..Meta::of_link()
            };
            let name = Name::parse(b"n").unwrap();
            let entry = Entry { name, kind, meta };
            assert_eq!(none.allow(&entry), switch.is_none(), "{entry:?}");
            assert!(SpecialFiles::ALL.allow(&entry), "{entry:?}");
            for (at, allowed) in switches.into_iter().enumerate() {
                let expected = switch.is_none_or(|it| it == at);
                assert_eq!(allowed.allow(&entry), expected, "{allowed:?} {entry:?}");
            }
        }
        for one in switches {
            assert_eq!(one.and(SpecialFiles::ALL), one);
            assert_eq!(SpecialFiles::ALL.and(one), one);
            assert_eq!(one.and(none), none);
            assert_eq!(none.and(one), none);
        }
    }
}
