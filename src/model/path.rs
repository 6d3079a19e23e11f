//! Absolute paths in the inventory: where a source or a root lies.

use super::serde_as_text;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use sync_proto::path::{MAX_NAME_BYTES, escape};
use thiserror::Error;

/// The longest path, in bytes: PATH_MAX without its NUL.
const MAX_BYTES: usize = 4095;

/// Why some text is not an absolute path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AbsPathError {
    /// It depends on the current directory.
    #[error("`{0}` is a relative path")]
    Relative(String),
    /// It holds `.`, `..` or an empty component.
    #[error("The path `{0}` holds `.`, `..` or `//`")]
    NotPlain(String),
    /// The file system's root.
    #[error("The path `/` is the whole system")]
    WholeSystem,
    /// A NUL byte or another control character.
    #[error("The path `{0}` holds a control character")]
    Control(String),
    /// Longer than the system accepts.
    #[error("A path is too long: {0} bytes, at most {MAX_BYTES}")]
    TooLong(usize),
    /// A component longer than any file system accepts.
    #[error("A name in a path is too long: {0} bytes, at most {MAX_NAME_BYTES}")]
    NameTooLong(usize),
}

/// An absolute path in its one spelling: without `.`, `..`, `//`, a trailing slash or control
/// characters, and never `/` itself. It says nothing about symbolic links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AbsPath(Box<str>);

impl AbsPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for the system.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// The components in order.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// True if this path is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(&*other.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for AbsPath {
    type Err = AbsPathError;
    fn from_str(text: &str) -> Result<Self, AbsPathError> {
        let shown = || escape(text.as_bytes());
        if text.len() > MAX_BYTES {
            return Err(AbsPathError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(AbsPathError::Control(shown()));
        }
        let Some(below) = text.strip_prefix('/') else {
            return Err(AbsPathError::Relative(shown()));
        };
        if below.is_empty() {
            return Err(AbsPathError::WholeSystem);
        }
        let below = below.strip_suffix('/').unwrap_or(below);
        if below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(AbsPathError::NotPlain(shown()));
        }
        if let Some(part) = below.split('/').find(|part| part.len() > MAX_NAME_BYTES) {
            return Err(AbsPathError::NameTooLong(part.len()));
        }
        Ok(Self(format!("/{below}").into()))
    }
}

impl PartialOrd for AbsPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AbsPath {
    /// Component by component, so that a directory comes right before what is below it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

serde_as_text!(AbsPath, "pattern": "^/[^/]");

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AbsPath {
        text.parse().unwrap()
    }

    #[test]
    fn there_is_one_spelling_per_path() {
        assert_eq!(path("/srv/x/"), path("/srv/x"));
        for bad in [
            "",
            "srv",
            "./srv",
            "/",
            "//",
            "/srv//x",
            "/srv/../x",
            "/srv/.",
            "/a\0",
            "/a\n",
        ] {
            assert!(bad.parse::<AbsPath>().is_err(), "{bad:?}");
        }
        assert!(
            format!("/srv/{}", "x".repeat(255))
                .parse::<AbsPath>()
                .is_ok()
        );
        assert_eq!(
            format!("/srv/{}/y", "x".repeat(256)).parse::<AbsPath>(),
            Err(AbsPathError::NameTooLong(256))
        );
    }

    #[test]
    fn within_compares_whole_components() {
        assert!(path("/srv/x").is_within(&path("/srv")));
        assert!(path("/srv").is_within(&path("/srv")));
        assert!(!path("/srvx").is_within(&path("/srv")));
        assert!(!path("/srv").is_within(&path("/srv/x")));
    }
}
