//! The clock, as a value, so that tests can turn it.
//!
//! Owns: wall-clock time as [`UnixMillis`], and how it is shown. Nothing else in fanout asks the
//! system for the time of day; deadlines use `std::time::Instant` or tokio, never this clock,
//! which can jump.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A point in time: milliseconds since 1970-01-01 00:00 UTC, possibly negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// `2026-11-21T08:05:09Z`, for logs and JSON.
    pub fn utc(self) -> String {
        self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-11-21 09:05:09 CET`, in the system's time zone, for people.
    pub fn local(self) -> String {
        self.zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string()
    }

    /// The day in the system's time zone.
    pub fn date(self) -> Date {
        self.zoned(TimeZone::system()).date()
    }

    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The time that has passed since `earlier`; zero if the clock went back.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Times beyond what a calendar can show are shown as its first or last moment.
    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    fn zoned(self, zone: TimeZone) -> Zoned {
        self.timestamp().to_zoned(zone)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local())
    }
}

/// Where the time of day comes from. Clones of a fixed clock show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { fixed: None }
    }

    /// A clock that stands still until [`Clock::advance`] turns it.
    pub fn fixed(at: UnixMillis) -> Self {
        Self {
            fixed: Some(Arc::new(AtomicI64::new(at.0))),
        }
    }

    /// The time now.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(match &self.fixed {
            Some(millis) => millis.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        })
    }

    /// The day now, in the system's time zone.
    pub fn today(&self) -> Date {
        self.now().date()
    }

    /// Turns a fixed clock forward; the system's clock turns by itself.
    pub fn advance(&self, by: Duration) {
        if let Some(millis) = &self.fixed {
            let later = self.now().after(by);
            millis.store(later.0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_it_is_turned() {
        let clock = Clock::fixed(UnixMillis(1_795_000_000_000));
        let copy = clock.clone();
        assert_eq!(clock.now(), copy.now());
        copy.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), UnixMillis(1_795_000_001_500));
        assert_eq!(clock.now().utc(), "2026-11-18T11:06:41Z");
    }

    #[test]
    fn absurd_times_are_shown_and_not_panicked_on() {
        assert!(UnixMillis(i64::MAX).utc().starts_with("9999-"));
        assert!(UnixMillis(i64::MIN).utc().starts_with('-'));
        assert!(!UnixMillis(i64::MAX).local().is_empty());
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_is_later_than_this_test_was_written() {
        assert!(Clock::system().now() > UnixMillis(1_700_000_000_000));
    }
}
