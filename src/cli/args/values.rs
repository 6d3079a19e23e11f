//! Values of options that have a form of their own.

use crate::model::UpdateMode;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SignedDuration;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `--level` of a task: how members find out what they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    /// From the last commit's record, without looking
    Index,
    /// By a walk that compares size, times, inode and metadata
    Stat,
    /// By reading and hashing everything
    Content,
}

/// `--level` of `verify`, which always looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyLevelArg {
    /// By a walk that compares size, times, inode and metadata
    Stat,
    /// By reading and hashing everything
    Content,
}

impl From<VerifyLevelArg> for LevelArg {
    fn from(level: VerifyLevelArg) -> Self {
        match level {
            VerifyLevelArg::Stat => Self::Stat,
            VerifyLevelArg::Content => Self::Content,
        }
    }
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// Complete generations beside the root, which is a symlink to the live one
    Switched,
    /// The root stays a directory; changes are applied inside it
    InPlace,
}

/// `--resync` of a platform: what `fanout resync` does about drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResyncArg {
    /// Repair exactly what drifted
    Repair,
    /// Only report it
    Report,
}

/// `--update`: what a push does about schema updates of its sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UpdateArg {
    /// Maintenance pages, switch, update once, show the sites again
    Maintenance,
    /// Update before the switch: the old code must cope with the new schema
    Expand,
    /// Switch, then update
    After,
    /// Update nothing now
    None,
}

impl From<UpdateArg> for UpdateMode {
    fn from(arg: UpdateArg) -> Self {
        match arg {
            UpdateArg::Maintenance => Self::Maintenance,
            UpdateArg::Expand => Self::Expand,
            UpdateArg::After => Self::After,
            UpdateArg::None => Self::None,
        }
    }
}

/// `--transport`: how the hub reaches an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// QUIC, or SSH where UDP doesn't get through
    Auto,
    /// QUIC only
    Quic,
    /// SSH only
    Ssh,
}

/// `--policy`: which members must be ready before any switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyArg {
    /// Those that answer when the task begins.
    Reachable,
    /// All of them.
    All,
    /// At least that many.
    Quorum(u32),
    /// Each for itself.
    Each,
}

/// Why a value is not what its option wants.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ValueError {
    #[error("expected `reachable`, `all`, `each` or `quorum:N` with N of at least 1")]
    Policy,
    #[error("expected a time with its unit, such as `90s`, `10m` or `1h30m`")]
    Duration,
    #[error("expected a generation's serial, such as `42`")]
    Serial,
    #[error("expected `USER:GROUP` or `keep`")]
    Owner,
    #[error("expected `PATH=TARGET`, such as `/shop=https://shop.example.com/`")]
    Redirect,
}

impl FromStr for PolicyArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "reachable" => Ok(Self::Reachable),
            "all" => Ok(Self::All),
            "each" => Ok(Self::Each),
            _ => text
                .strip_prefix("quorum:")
                .and_then(|count| count.parse().ok())
                .filter(|&count| count > 0)
                .map(Self::Quorum)
                .ok_or(ValueError::Policy),
        }
    }
}

/// Reads `90s`, `10m`, `1h 30m`. A bare number is refused: nobody can see its unit.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or(ValueError::Duration)
}

/// Reads a generation's serial as it is shown, `#42`, or bare.
pub(super) fn serial(text: &str) -> Result<u64, ValueError> {
    text.strip_prefix('#')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|&serial| serial > 0)
        .ok_or(ValueError::Serial)
}

/// Checks the form of an owner; whether the names exist is for each member to say.
pub(super) fn owner(text: &str) -> Result<String, ValueError> {
    let is_pair = text
        .split_once(':')
        .is_some_and(|(user, group)| !user.is_empty() && !group.is_empty() && !group.contains(':'));
    if text == "keep" || is_pair {
        Ok(text.to_owned())
    } else {
        Err(ValueError::Owner)
    }
}

/// A word out of a few of the model's, each shown in the help.
pub(super) fn word<T>(
    all: &'static [T],
    as_str: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err: std::error::Error + Send + Sync> + Send + Sync + 'static,
{
    let words = all.iter().map(|choice| as_str(*choice));
    PossibleValuesParser::new(words).try_map(|text| text.parse::<T>())
}

/// Reads `/old=/new`; what may stand there is for the inventory to check.
pub(super) fn redirect(text: &str) -> Result<(String, String), ValueError> {
    let (from, to) = text.split_once('=').ok_or(ValueError::Redirect)?;
    match from.is_empty() || to.is_empty() {
        true => Err(ValueError::Redirect),
        false => Ok((from.to_owned(), to.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_of_four() {
        assert_eq!("reachable".parse(), Ok(PolicyArg::Reachable));
        assert_eq!("quorum:3".parse(), Ok(PolicyArg::Quorum(3)));
        for text in ["", "some", "quorum", "quorum:", "quorum:0", "quorum:-1"] {
            assert_eq!(text.parse::<PolicyArg>(), Err(ValueError::Policy), "{text}");
        }
    }

    #[test]
    fn a_time_needs_its_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "90", "-5s", "0s", "soon"] {
            assert_eq!(duration(text), Err(ValueError::Duration), "{text}");
        }
    }

    #[test]
    fn a_serial_may_be_given_as_it_is_shown() {
        assert_eq!(serial("42"), Ok(42));
        assert_eq!(serial("#42"), Ok(42));
        assert!(serial("0").is_err() && serial("##1").is_err() && serial("-1").is_err());
    }

    #[test]
    fn an_owner_is_a_pair_or_keep() {
        assert!(owner("root:www-data").is_ok() && owner("keep").is_ok());
        for text in ["", "root", "root:", ":www-data", "a:b:c"] {
            assert_eq!(owner(text), Err(ValueError::Owner), "{text}");
        }
    }
}
