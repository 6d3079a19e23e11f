//! Settings with a value inside: when to commit, who owns, which mode.

use super::serde_as_text;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use sync_proto::entry::Principal;
use sync_proto::path::escape;
use thiserror::Error;

/// Why some text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not a commit policy.
    #[error("`{0}` is not a commit policy: use `reachable`, `all`, `quorum:N`, `each`")]
    Commit(String),
    /// Not an owner.
    #[error("`{0}` is not an owner: use `keep` or `USER:GROUP`")]
    Owner(String),
    /// Not a file mode.
    #[error("`{0}` is not a file mode: use three or four octal digits, such as `0644`")]
    Mode(String),
}

/// Which votes a commit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CommitPolicy {
    /// Of all members that answer at preflight; one no aborts. The others become stale.
    #[default]
    Reachable,
    /// Of all members.
    All,
    /// Of at least this many members.
    Quorum(NonZeroU32),
    /// Each member commits by itself.
    Each,
}

impl FromStr for CommitPolicy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "reachable" => Ok(Self::Reachable),
            "all" => Ok(Self::All),
            "each" => Ok(Self::Each),
            _ => text
                .strip_prefix("quorum:")
                .filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|number| number.parse().ok())
                .map(Self::Quorum)
                .ok_or_else(|| PolicyError::Commit(escape(text.as_bytes()))),
        }
    }
}

impl fmt::Display for CommitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reachable => f.write_str("reachable"),
            Self::All => f.write_str("all"),
            Self::Quorum(votes) => write!(f, "quorum:{votes}"),
            Self::Each => f.write_str("each"),
        }
    }
}

serde_as_text!(CommitPolicy, "pattern": "^(reachable|all|quorum:[1-9][0-9]*|each)$");

/// Who owns the entries of a tree on the members.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum OwnerPolicy {
    /// The owner and group of the source, by name.
    #[default]
    Keep,
    /// One user and one group for everything.
    Fixed {
        /// The owner of every entry.
        user: Principal,
        /// The group of every entry.
        group: Principal,
    },
}

impl FromStr for OwnerPolicy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "keep" {
            return Ok(Self::Keep);
        }
        let error = || PolicyError::Owner(escape(text.as_bytes()));
        let (user, group) = text.split_once(':').ok_or_else(error)?;
        Ok(Self::Fixed {
            user: principal(user).ok_or_else(error)?,
            group: principal(group).ok_or_else(error)?,
        })
    }
}

/// A number is an id; anything else that `useradd` could have made is a name.
fn principal(text: &str) -> Option<Principal> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // The last id means "unchanged" to chown(2).
        return text
            .parse()
            .ok()
            .filter(|id| *id != u32::MAX)
            .map(Principal::Id);
    }
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ':' | '/');
    let fits = (1..=255).contains(&text.len()) && !text.starts_with('-');
    (fits && text.chars().all(allowed)).then(|| Principal::Name(text.into()))
}

impl fmt::Display for OwnerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Fixed { user, group } => write!(f, "{user}:{group}"),
        }
    }
}

serde_as_text!(OwnerPolicy, "pattern": "^(keep|[^:/\\s]+:[^:/\\s]+)$");

/// Permission bits, at most `07777`. Written in octal, shown with four digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u32);

impl Mode {
    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(text, 8) {
            Ok(bits) if octal => Ok(Self(bits)),
            _ => Err(PolicyError::Mode(escape(text.as_bytes()))),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

serde_as_text!(Mode, "pattern": "^[0-7]{3,4}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_policies_read_back_from_what_they_show() {
        for text in ["reachable", "all", "quorum:2", "each"] {
            let policy: CommitPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
        }
        for bad in [
            "",
            "quorum",
            "quorum:",
            "quorum:0",
            "quorum:-1",
            "quorum:+2",
            "ALL",
        ] {
            assert!(bad.parse::<CommitPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let owner: OwnerPolicy = "root:33".parse().unwrap();
        let OwnerPolicy::Fixed { user, group } = &owner else {
            panic!("{owner}");
        };
        assert_eq!(*user, Principal::Name("root".into()));
        assert_eq!(*group, Principal::Id(33));
        assert_eq!(owner.to_string(), "root:33");
        for bad in [
            "root",
            "root:",
            ":www-data",
            "a:b:c",
            "a b:c",
            "-a:b",
            "root:4294967295",
        ] {
            assert!(bad.parse::<OwnerPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal_text() {
        assert_eq!("644".parse::<Mode>().unwrap().to_string(), "0644");
        assert_eq!("2755".parse::<Mode>().unwrap().bits(), 0o2755);
        for bad in ["", "8", "64", "0o644", "00644", "0688", "-644", "+644"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad}");
        }
    }
}
