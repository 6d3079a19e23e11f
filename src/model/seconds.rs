//! Lengths of time as the inventory has them: a number and its unit.

use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

const UNITS: [(&str, u32); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Why some text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a length of time: use a number and its unit, such as `30s`, `5m`, `12h` or `180d`"
)]
pub struct SecondsError(String);

/// A length of time in whole seconds, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seconds(u32);

impl Seconds {
    /// The number of seconds.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Seconds {
    type Err = SecondsError;
    fn from_str(text: &str) -> Result<Self, SecondsError> {
        UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
            .filter(|(digits, _)| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|(digits, factor)| digits.parse::<u32>().ok()?.checked_mul(*factor))
            .filter(|seconds| *seconds > 0)
            .map(Self)
            .ok_or_else(|| SecondsError(escape(text.as_bytes())))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS
            .iter()
            .find(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(&("s", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

serde_as_text!(Seconds, "pattern": "^[0-9]+[smhd]$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_its_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("12h", 43_200),
            ("365d", 31_536_000),
        ] {
            let read: Seconds = text.parse().unwrap();
            assert_eq!(read.get(), seconds);
            assert_eq!(read.to_string(), text);
        }
        for bad in [
            "",
            "30",
            "s",
            "0s",
            "-5s",
            "+5s",
            "1.5h",
            "5 m",
            "99999999d",
        ] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad:?}");
        }
    }
}
