//! POSIX ACLs as the kernel stores them in `system.posix_acl_*`, written and read here without
//! libacl, so that tests neither trust the product's code nor run a program per file.

/// Name of the attribute that holds the access ACL.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the attribute that holds a directory's default ACL.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

/// An extended ACL: the three classes, named users and groups, and a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl {
    owner: u16,
    users: Vec<(u32, u16)>,
    group: u16,
    groups: Vec<(u32, u16)>,
    mask: u16,
    other: u16,
}

impl Acl {
    /// The classes of `mode` (as `0o640`), to which named users and groups are added.
    pub(crate) fn of_mode(mode: u16) -> Self {
        let (owner, group, other) = (mode >> 6 & 7, mode >> 3 & 7, mode & 7);
        let (users, groups) = (Vec::new(), Vec::new());
        Self {
            owner,
            users,
            group,
            groups,
            mask: 7,
            other,
        }
    }

    /// Grants `permissions` (0 to 7) to the user `id`.
    pub(crate) fn user(mut self, id: u32, permissions: u16) -> Self {
        self.users.retain(|&(other, _)| other != id);
        self.users.push((id, permissions));
        self.users.sort_unstable();
        self
    }

    /// Grants `permissions` (0 to 7) to the group `id`.
    pub(crate) fn group(mut self, id: u32, permissions: u16) -> Self {
        self.groups.retain(|&(other, _)| other != id);
        self.groups.push((id, permissions));
        self.groups.sort_unstable();
        self
    }

    /// Limits named entries and the owning group to `permissions`.
    pub(crate) fn mask(mut self, permissions: u16) -> Self {
        self.mask = permissions;
        self
    }

    /// The attribute's value: version 2, then (tag, permissions, id), little-endian, in the order
    /// that the kernel demands.
    pub(crate) fn to_xattr(&self) -> Vec<u8> {
        let mut entries = vec![(USER_OBJ, self.owner, NO_ID)];
        entries.extend(self.users.iter().map(|&(id, bits)| (USER, bits, id)));
        entries.push((GROUP_OBJ, self.group, NO_ID));
        entries.extend(self.groups.iter().map(|&(id, bits)| (GROUP, bits, id)));
        entries.push((MASK, self.mask, NO_ID));
        entries.push((OTHER, self.other, NO_ID));
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&bits.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }
}

/// An ACL attribute's value as `u::rw-,u:1000:r--,...`; hexadecimal if it isn't one.
pub(crate) fn describe(value: &[u8]) -> String {
    let describe_entry = |entry: &[u8]| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let bits = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let class = match tag {
            USER_OBJ | USER => "u",
            GROUP_OBJ | GROUP => "g",
            MASK => "m",
            OTHER => "o",
            _ => "?",
        };
        let id = if id == NO_ID {
            String::new()
        } else {
            id.to_string()
        };
        let bit = |mask: u16, letter| if bits & mask == 0 { '-' } else { letter };
        format!("{class}:{id}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'))
    };
    match value.split_at_checked(4) {
        Some((version, entries)) if version == VERSION.to_le_bytes() && entries.len() % 8 == 0 => {
            entries
                .chunks_exact(8)
                .map(describe_entry)
                .collect::<Vec<_>>()
                .join(",")
        }
        _ => format!("not an ACL: {value:02x?}"),
    }
}
