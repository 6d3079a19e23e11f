//! POSIX ACLs: the kernel's binary form with this machine's numbers, and a text form with names.
//!
//! What travels is the text, one entry after the other in the kernel's order, such as
//! `user::rw-,user:www-data:r--,group::r--,mask::r--,other::---`; a number stands as `#1234`.
//! Both forms are read strictly: anything that the kernel wouldn't write is an error.

use super::owner::{Missing, Principals};
use std::fmt::Write as _;
use sync_proto::entry::Principal;
use thiserror::Error;

/// `ACL_EA_VERSION` of `linux/posix_acl_xattr.h`.
const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// The id of entries that name nobody.
const UNDEFINED_ID: u32 = u32::MAX;

/// `(tag, word, whether it names somebody)`, in the order that the kernel demands.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// Why an ACL can't be read or applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AclError {
    /// Not an ACL.
    #[error("The ACL is malformed")]
    Malformed,
    /// It names somebody whom this machine doesn't have.
    #[error("The ACL can't be applied")]
    Missing(#[from] Missing),
}

/// Turns the kernel's form into text.
pub fn to_text(binary: &[u8], principals: &Principals) -> Result<String, AclError> {
    let (version, entries) = binary.split_first_chunk().ok_or(AclError::Malformed)?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() {
        return Err(AclError::Malformed);
    }
    let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else {
        return Err(AclError::Malformed);
    };
    let mut text = String::new();
    for &[tag_low, tag_high, perm_low, perm_high, id @ ..] in entries {
        let tag = u16::from_le_bytes([tag_low, tag_high]);
        let perm = u16::from_le_bytes([perm_low, perm_high]);
        let id = u32::from_le_bytes(id);
        let (_, word, names) = *TAGS
            .iter()
            .find(|known| known.0 == tag)
            .ok_or(AclError::Malformed)?;
        if perm > 7 {
            return Err(AclError::Malformed);
        }
        let who = match (names, word) {
            (false, _) => String::new(),
            (true, "user") => spelled(&principals.user(id)),
            (true, _) => spelled(&principals.group(id)),
        };
        let flag = |bit: u16, letter: char| if perm & bit == 0 { '-' } else { letter };
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a String can't fail.
        let _infallible = write!(
            text,
            "{separator}{word}:{who}:{}{}{}",
            flag(4, 'r'),
            flag(2, 'w'),
            flag(1, 'x')
        );
    }
    Ok(text)
}

/// Turns text into the kernel's form, with this machine's numbers.
pub fn from_text(text: &[u8], principals: &Principals) -> Result<Vec<u8>, AclError> {
    let text = std::str::from_utf8(text).map_err(|_| AclError::Malformed)?;
    let mut entries = Vec::new();
    for entry in text.split(',') {
        let parts: Vec<&str> = entry.split(':').collect();
        let [word, who, perm] = parts[..] else {
            return Err(AclError::Malformed);
        };
        let (tag, _, names) = *TAGS
            .iter()
            .find(|known| known.1 == word && known.2 != who.is_empty())
            .ok_or(AclError::Malformed)?;
        let id = match (names, word) {
            (false, _) => UNDEFINED_ID,
            (true, "user") => principals.uid(&read_who(who)?)?,
            (true, _) => principals.gid(&read_who(who)?)?,
        };
        entries.push((tag, id, read_perm(perm)?));
    }
    // The kernel wants named entries by number, which may differ from the sender's order.
    entries.sort_unstable();
    let mut binary = VERSION.to_le_bytes().to_vec();
    for (tag, id, perm) in entries {
        binary.extend(tag.to_le_bytes());
        binary.extend(perm.to_le_bytes());
        binary.extend(id.to_le_bytes());
    }
    Ok(binary)
}

/// `#` can't begin a user's name, so a number is never taken for one.
fn spelled(who: &Principal) -> String {
    match who {
        Principal::Id(id) => format!("#{id}"),
        Principal::Name(name) => name.to_string(),
    }
}

fn read_who(who: &str) -> Result<Principal, AclError> {
    match who.strip_prefix('#') {
        Some(id) => id
            .parse()
            .map(Principal::Id)
            .map_err(|_| AclError::Malformed),
        None => Ok(Principal::Name(who.into())),
    }
}

fn read_perm(perm: &str) -> Result<u16, AclError> {
    let [r, w, x] = *perm.as_bytes() else {
        return Err(AclError::Malformed);
    };
    let bit = |byte, letter, value| match byte {
        b'-' => Ok(0),
        _ if byte == letter => Ok(value),
        _ => Err(AclError::Malformed),
    };
    Ok(bit(r, b'r', 4)? | bit(w, b'w', 2)? | bit(x, b'x', 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_survives_the_way_through_text() {
        let text = "user::rwx,user:root:rw-,user:#4000000:r--,group::r-x,group:root:--x,mask::rwx,\
                    other::---";
        let principals = Principals::by_name();
        let binary = from_text(text.as_bytes(), &principals).unwrap();
        assert_eq!(binary.len(), 4 + 7 * ENTRY_BYTES);
        assert_eq!(to_text(&binary, &principals).unwrap(), text);
    }

    #[test]
    fn what_is_no_acl_is_refused_in_both_forms() {
        let principals = Principals::by_name();
        for bad in [
            &b""[..],
            b"user",
            b"user::rw",
            b"user::rwz",
            b"mask:root:rwx",
            b"owner::rwx",
            b"user:#x:rwx",
            b"user::rwx,",
            b"\xff::rwx",
        ] {
            let error = from_text(bad, &principals).unwrap_err();
            assert_eq!(error, AclError::Malformed, "{bad:?}");
        }
        let good = from_text(b"user::rwx,group::r-x,other::---", &principals).unwrap();
        for cut in 0..good.len() {
            // A whole number of entries is an ACL again.
            if cut < 12 || (cut - 4) % ENTRY_BYTES != 0 {
                assert!(to_text(&good[..cut], &principals).is_err(), "{cut}");
            }
        }
        assert!(matches!(
            from_text(b"user:no-such-user-here:rwx", &principals),
            Err(AclError::Missing(_))
        ));
    }
}
