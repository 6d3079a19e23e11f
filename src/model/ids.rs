//! Numbers and ids that hub and members share.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Why some text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not 32 hexadecimal digits.
    #[error("A tree id is 32 hexadecimal digits")]
    Tree,
    /// Not a positive number.
    #[error("A generation is a number from 1, such as 42 or #42")]
    Serial,
}

/// Which tree on a member is meant: 16 random bytes, drawn once by the hub when the tree is
/// bound. After that no destination path crosses the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeId([u8; 16]);

impl TreeId {
    /// Wraps the bytes; the caller draws them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TreeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError::Tree);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| IdError::Tree)?;
        Ok(Self(number.to_be_bytes()))
    }
}

super::serde_as_text!(TreeId, "pattern": "^[0-9a-f]{32}$");

/// The number of a generation: it only rises, and is the same on every member. Shown as `#42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub u64);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("#{}", self.0))
    }
}

impl FromStr for Serial {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix('#').unwrap_or(text).parse() {
            Ok(number @ 1..) if !text.contains('+') => Ok(Self(number)),
            _ => Err(IdError::Serial),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_id_reads_back_from_what_it_shows() {
        let id = TreeId::from_bytes([0xab, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff]);
        assert_eq!(id.to_string(), "ab000102030405060708090a0b0c0dff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "ab",
            "+b000102030405060708090a0b0c0dff",
            "üb000102030405060708090a0b0c0df",
        ] {
            assert_eq!(bad.parse::<TreeId>(), Err(IdError::Tree));
        }
    }

    #[test]
    fn serials_are_shown_with_a_hash_sign_and_start_at_one() {
        assert_eq!(Serial(42).to_string(), "#42");
        assert_eq!("42".parse(), Ok(Serial(42)));
        assert_eq!("#42".parse(), Ok(Serial(42)));
        for bad in ["0", "", "#", "+4", "-1", "4x", "99999999999999999999"] {
            assert_eq!(bad.parse::<Serial>(), Err(IdError::Serial), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Serial(7)).unwrap(), "7");
    }
}
