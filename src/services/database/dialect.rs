//! MariaDB and MySQL: which one a server is, and what that changes.

use std::fmt;
use thiserror::Error;

/// The oldest MariaDB: accounts with several passwords, and account locks.
const OLDEST_MARIADB: (u32, u32, u32) = (10, 4, 2);
/// The oldest MySQL: two passwords at a time.
const OLDEST_MYSQL: (u32, u32, u32) = (8, 0, 14);
/// From here on MySQL compares networks by the length of their prefix.
const MYSQL_WITH_CIDR: (u32, u32, u32) = (8, 0, 23);

/// Why a server can't be worked on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DialectError {
    /// Neither.
    #[error("`{0}` is not a version of MariaDB or MySQL")]
    Unknown(String),
    /// It lacks what fanout needs.
    #[error("{0} is too old: MariaDB 10.4.2 or MySQL 8.0.14 at least")]
    TooOld(Dialect),
}

/// Which server, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// MariaDB.
    MariaDb(u32, u32, u32),
    /// MySQL, or one of its own kind (Percona Server).
    MySql(u32, u32, u32),
}

impl Dialect {
    /// From what `SELECT VERSION()` says.
    ///
    /// # Errors
    /// Not a version, or one that is too old.
    pub fn parse(version: &str) -> Result<Self, DialectError> {
        let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
        // Old clients were told that MariaDB is a 5.5.5.
        let plain = version.strip_prefix("5.5.5-").filter(|_| is_mariadb);
        let numbers = plain
            .unwrap_or(version)
            .split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<u32> = numbers
            .map_while(|part| part.parse().ok())
            .take(3)
            .collect();
        let [major, minor, patch] = numbers[..] else {
            return Err(DialectError::Unknown(sync_proto::path::escape(
                version.as_bytes(),
            )));
        };
        let (dialect, oldest) = match is_mariadb {
            true => (Self::MariaDb(major, minor, patch), OLDEST_MARIADB),
            false => (Self::MySql(major, minor, patch), OLDEST_MYSQL),
        };
        match (major, minor, patch) >= oldest {
            true => Ok(dialect),
            false => Err(DialectError::TooOld(dialect)),
        }
    }

    /// Is it MariaDB?
    pub const fn is_mariadb(self) -> bool {
        matches!(self, Self::MariaDb(..))
    }

    /// Does it compare `10.0.0.0/8`? MariaDB accepts that and never matches it.
    pub fn compares_cidr(self) -> bool {
        match self {
            Self::MariaDb(..) => false,
            Self::MySql(major, minor, patch) => (major, minor, patch) >= MYSQL_WITH_CIDR,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb(major, minor, patch) => write!(f, "MariaDB {major}.{minor}.{patch}"),
            Self::MySql(major, minor, patch) => write!(f, "MySQL {major}.{minor}.{patch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_which_one_it_is() {
        let parse = |text: &str| Dialect::parse(text);
        assert_eq!(
            parse("10.11.6-MariaDB-0+deb12u1"),
            Ok(Dialect::MariaDb(10, 11, 6))
        );
        assert_eq!(
            parse("5.5.5-10.6.16-MariaDB-log"),
            Ok(Dialect::MariaDb(10, 6, 16))
        );
        assert_eq!(parse("8.0.36"), Ok(Dialect::MySql(8, 0, 36)));
        assert_eq!(parse("8.4.0-0ubuntu0.24"), Ok(Dialect::MySql(8, 4, 0)));
        assert!(matches!(parse("5.7.44-log"), Err(DialectError::TooOld(_))));
        assert!(matches!(
            parse("10.3.39-MariaDB"),
            Err(DialectError::TooOld(_))
        ));
        assert!(matches!(
            parse("PostgreSQL 15"),
            Err(DialectError::Unknown(_))
        ));
    }

    #[test]
    fn only_a_newer_mysql_compares_prefix_lengths() {
        assert!(!Dialect::MariaDb(11, 8, 1).compares_cidr());
        assert!(!Dialect::MySql(8, 0, 22).compares_cidr());
        assert!(Dialect::MySql(8, 0, 23).compares_cidr());
    }
}
