//! Numbers as people read them.

pub(crate) use crate::model::{count, counted};
use std::time::Duration;

/// Bytes in binary units: `18.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_235 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A time: `3 ms`, `0.9 s`, `4m10s`, `2h05m`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() < 100 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_at_most_four_digits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (19_293_798, "18.4 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_are_as_exact_as_they_matter() {
        for (millis, text) in [
            (3, "3 ms"),
            (950, "0.9 s"),
            (12_340, "12.3 s"),
            (250_000, "4m10s"),
            (7_500_000, "2h05m"),
        ] {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
    }
}
