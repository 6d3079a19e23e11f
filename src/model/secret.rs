//! Where a secret is: the inventory never holds one itself.

use super::{AbsPath, SecretName, serde_as_text};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Why some text is not a reference to a secret. The text isn't shown: it may be the secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "A secret is referred to as `secret:NAME`, `file:/PATH`, `command:PROGRAM ARGUMENTS`, \
     `credential:NAME` or `env:NAME`, and never written down here"
)]
pub struct SecretRefError;

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretRef {
    /// In the hub's store, put there by `fanout secret set`.
    Stored(SecretName),
    /// In a file on the hub that only its owner can read.
    File(AbsPath),
    /// What a program prints, split into words as a shell would.
    Command(Box<str>),
    /// A systemd credential of the running unit.
    Credential(SecretName),
    /// A variable of the environment; on a terminal only.
    Env(SecretName),
}

impl FromStr for SecretRef {
    type Err = SecretRefError;
    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        let (kind, rest) = text.split_once(':').ok_or(SecretRefError)?;
        let name = || rest.parse().map_err(|_| SecretRefError);
        match kind {
            "secret" => name().map(Self::Stored),
            "credential" => name().map(Self::Credential),
            "env" => name().map(Self::Env),
            "file" => rest.parse().map(Self::File).map_err(|_| SecretRefError),
            "command" if !rest.trim().is_empty() && !rest.contains(char::is_control) => {
                Ok(Self::Command(rest.into()))
            }
            _ => Err(SecretRefError),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(name) => write!(f, "secret:{name}"),
            Self::File(path) => write!(f, "file:{}", path.as_str()),
            Self::Command(line) => write!(f, "command:{line}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

serde_as_text!(SecretRef, "pattern": "^(secret|file|command|credential|env):.+$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_from_what_they_show() {
        for text in [
            "secret:db1-admin",
            "file:/etc/fanout/db1",
            "command:pass show db1",
            "credential:db1",
            "env:DB1",
        ] {
            let reference: SecretRef = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn a_secret_written_down_is_refused_and_not_repeated() {
        for text in [
            "hunter2",
            "",
            "secret:",
            "file:relative",
            "password:hunter2",
        ] {
            let error = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
