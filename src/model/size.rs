//! A number of bytes, as people write it: `20GiB`.

use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// Not a size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a size: use a whole number from 1 with KiB, MiB, GiB or TiB, such as `20GiB`"
)]
pub struct SizeError(String);

/// A number of bytes above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(u64);

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl ByteSize {
    /// So many GiB.
    pub const fn gib(count: u32) -> Self {
        Self((count as u64) << 30)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let parsed = UNITS.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?;
            let number = number.strip_suffix(' ').unwrap_or(number);
            let is_plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
            let count: u64 = number.parse().ok().filter(|_| is_plain)?;
            count.checked_mul(1 << shift)
        });
        parsed
            .map(Self)
            .ok_or_else(|| SizeError(escape(text.as_bytes())))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = UNITS
            .iter()
            .find(|(_, shift)| self.0.is_multiple_of(1 << shift));
        let (unit, shift) = largest.copied().unwrap_or(("B", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

serde_as_text!(ByteSize, "pattern": "^[1-9][0-9]* ?(KiB|MiB|GiB|TiB)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_back_from_what_it_shows() {
        for (text, bytes, shown) in [
            ("20GiB", 20 << 30, "20GiB"),
            ("1 KiB", 1024, "1KiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("3TiB", 3 << 40, "3TiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn what_could_mean_something_else_is_no_size() {
        for text in [
            "",
            "20",
            "20GB",
            "20G",
            "0GiB",
            "-1GiB",
            "+1GiB",
            "1.5GiB",
            "020GiB",
            "GiB",
            "20  GiB",
            "20gib",
            "99999999999TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
