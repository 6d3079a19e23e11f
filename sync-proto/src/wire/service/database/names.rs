//! Names in a database server, parsed where they arrive.
//!
//! Refuses: whatever could end the quotes around it, and everything that belongs to the server
//! itself: its schemas, its system accounts, `root`. So no operation that a hub can express
//! touches those.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

// As values; `core`, since nothing here opens a socket.
use core::net::{IpAddr, Ipv4Addr};

/// Why some text can't be used in a database server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// It isn't a name of that kind. The text is escaped.
    #[error("`{text}` is not a {what}: {rule}")]
    Form {
        /// What it was meant to be.
        what: &'static str,
        /// What it is.
        text: String,
        /// What would do.
        rule: &'static str,
    },
    /// The server's own.
    #[error("`{text}` belongs to the database server itself")]
    Reserved {
        /// Which.
        text: String,
    },
    /// A password with characters that no statement may hold. It isn't shown.
    #[error(
        "The password can't be used: 8 to 64 printable ASCII characters without spaces, quotes and backslashes"
    )]
    Password,
}

const RESERVED_SCHEMAS: [&str; 5] = [
    "mysql",
    "information_schema",
    "performance_schema",
    "sys",
    "ndbinfo",
];
/// Compared without regard to case, as careful people would.
const RESERVED_USERS: [&str; 9] = [
    "root",
    "mysql",
    "mariadb.sys",
    "mysql.sys",
    "mysql.session",
    "mysql.infoschema",
    "public",
    "none",
    "debian-sys-maint",
];

fn form(what: &'static str, text: &str, rule: &'static str) -> NameFault {
    let start: String = text.chars().take(80).collect();
    NameFault::Form {
        what,
        text: crate::path::escape(start.as_bytes()),
        rule,
    }
}

fn reserved(text: &str, list: &[&str]) -> Result<(), NameFault> {
    if list.iter().any(|it| it.eq_ignore_ascii_case(text)) {
        return Err(NameFault::Reserved { text: text.into() });
    }
    Ok(())
}

fn is_plain(text: &str, max: usize) -> bool {
    let ends_well = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    ends_well
        && text.len() <= max
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn database(text: &str) -> Result<(), NameFault> {
    let rule = "1 to 64 letters, digits, `_` and `-`, beginning with a letter or a digit";
    if !is_plain(text, 64) || text.contains('.') {
        return Err(form("database", text, rule));
    }
    reserved(text, &RESERVED_SCHEMAS)
}

fn user(text: &str) -> Result<(), NameFault> {
    let rule = "1 to 32 letters, digits, `_`, `-` and `.`, beginning with a letter or a digit";
    if !is_plain(text, 32) {
        return Err(form("database user", text, rule));
    }
    reserved(text, &RESERVED_USERS)
}

fn host(text: &str) -> Result<(), NameFault> {
    let rule = "an address, a network, or a name as the server lists it";
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:%/".contains(c);
    match text.len() <= 255 && text.chars().all(allowed) {
        true => Ok(()),
        false => Err(form("host of an account", text, rule)),
    }
}

fn schema(text: &str) -> Result<(), NameFault> {
    let rule = "a schema as the server lists it";
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '`' | '\'' | '"');
    if !(1..=192).contains(&text.len()) || !text.chars().all(allowed) {
        return Err(form("schema", text, rule));
    }
    Ok(())
}

fn privilege(text: &str) -> Result<(), NameFault> {
    let rule = "words in capitals";
    let allowed = |c: char| c.is_ascii_uppercase() || c == ' ';
    match (1..=40).contains(&text.len()) && text.chars().all(allowed) {
        true => Ok(()),
        false => Err(form("privilege", text, rule)),
    }
}

fn password(text: &str) -> Result<(), NameFault> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '`' | '\\');
    match (8..=64).contains(&text.len()) && text.chars().all(allowed) {
        true => Ok(()),
        false => Err(NameFault::Password),
    }
}

macro_rules! parsed {
    ($(#[$doc:meta])* $type:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Box<str>);

        impl $type {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameFault;
            fn from_str(text: &str) -> Result<Self, NameFault> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameFault;
            fn try_from(text: String) -> Result<Self, NameFault> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.into()
            }
        }
    };
}

macro_rules! shown {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

parsed!(
    /// The name of a database.
    DatabaseName,
    database
);
parsed!(
    /// The name of a user: what its accounts have in common.
    UserName,
    user
);
parsed!(
    /// The name of a role.
    RoleName,
    user
);
parsed!(
    /// From where an account may log in, as the server compares it. May be empty or a name in what
    /// a server lists.
    HostPattern,
    host
);
parsed!(
    /// A schema in a list of privileges: escaped wildcards, as the server keeps them.
    SchemaPattern,
    schema
);
parsed!(
    /// A privilege, as `CREATE TEMPORARY TABLES`.
    Privilege,
    privilege
);
parsed!(
    /// A password. Never shown.
    Password,
    password
);

shown!(DatabaseName);
shown!(UserName);
shown!(RoleName);
shown!(HostPattern);
shown!(SchemaPattern);
shown!(Privilege);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

impl DatabaseName {
    /// The name in a GRANT, where `_` and `%` would match anything.
    pub fn pattern(&self) -> SchemaPattern {
        SchemaPattern(self.0.replace('_', "\\_").into())
    }
}

impl HostPattern {
    /// One address, as a server writes it.
    pub fn address(address: IpAddr) -> Self {
        Self(address.to_canonical().to_string().into())
    }

    /// A network with its netmask: what MariaDB and every MySQL understand. IPv4 only, as there.
    pub fn netmask(network: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(prefix.min(32)))
            .unwrap_or(0);
        let network = Ipv4Addr::from_bits(network.to_bits() & mask);
        Self(format!("{network}/{}", Ipv4Addr::from_bits(mask)).into())
    }

    /// A network by the length of its prefix: MySQL 8.0.23 and later; MariaDB takes it and never
    /// matches it.
    pub fn cidr(network: Ipv4Addr, prefix: u8) -> Self {
        Self(format!("{network}/{}", prefix.min(32)).into())
    }

    /// Anywhere. Nothing but the inventory's own word leads here.
    pub fn anywhere() -> Self {
        Self("%".into())
    }

    /// Is it one address?
    pub fn as_address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

/// A user from somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// Who.
    pub user: UserName,
    /// From where.
    pub host: HostPattern,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.user, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_quote_is_a_name() {
        for bad in [
            "", "a'b", "a`b", "a\\b", "a b", "a\nb", "a;b", "-a", "\u{fc}", "a\"", "a%",
        ] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        for bad in ["a'b", "a`b", "a\\b", "a b", "a\nb"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(33).parse::<UserName>().is_err());
        assert!("x".repeat(65).parse::<DatabaseName>().is_err());
    }

    #[test]
    fn what_the_server_lists_is_read_and_nothing_else() {
        for good in [
            "10.0.0.1",
            "10.0.0.0/255.255.255.0",
            "%",
            "web-1.example",
            "::1",
        ] {
            assert!(host(good).is_ok(), "{good}");
        }
        assert!(host(&"h".repeat(255)).is_ok());
        assert!(host(&"h".repeat(256)).is_err());
        assert_eq!(
            "10.0.0.1".parse::<HostPattern>().unwrap().as_address(),
            "10.0.0.1".parse().ok()
        );
        assert_eq!("%".parse::<HostPattern>().unwrap().as_address(), None);
        for (name, fits) in [
            ("site\\_1", true),
            ("*", true),
            (&"s".repeat(192)[..], true),
            (&"s".repeat(193)[..], false),
            ("", false),
            ("a`b", false),
            ("a'b", false),
            ("a\"b", false),
            ("a b", false),
            ("a\nb", false),
        ] {
            assert_eq!(schema(name).is_ok(), fits, "{name:?}");
        }
        for (name, fits) in [
            ("CREATE TEMPORARY TABLES", true),
            (&"P".repeat(40)[..], true),
            (&"P".repeat(41)[..], false),
            ("", false),
            ("select", false),
            ("ALL, GRANT", false),
        ] {
            assert_eq!(privilege(name).is_ok(), fits, "{name:?}");
        }
    }

    #[test]
    fn what_belongs_to_the_server_can_not_be_named() {
        for name in ["mysql", "SYS", "information_schema", "performance_schema"] {
            assert!(name.parse::<DatabaseName>().is_err(), "{name}");
        }
        for name in ["root", "Root", "mariadb.sys", "mysql.session", "PUBLIC"] {
            assert!(name.parse::<UserName>().is_err(), "{name}");
            assert!(name.parse::<RoleName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let password: Password = "hunter2-hunter2".parse().unwrap();
        assert!(!format!("{password:?}").contains("hunter"));
        let error = "hunter2' OR".parse::<Password>().unwrap_err();
        assert!(!error.to_string().contains("hunter"));
    }

    #[test]
    fn a_bad_name_does_not_survive_the_wire() {
        let good = postcard::to_stdvec("site_a").unwrap();
        assert!(postcard::from_bytes::<DatabaseName>(&good).is_ok());
        let bad = postcard::to_stdvec("site`; DROP DATABASE x").unwrap();
        assert!(postcard::from_bytes::<DatabaseName>(&bad).is_err());
    }

    #[test]
    fn hosts_are_written_as_the_server_compares_them() {
        let ip = |text: &str| HostPattern::address(text.parse().unwrap()).to_string();
        assert_eq!(ip("::ffff:10.77.0.3"), "10.77.0.3");
        assert_eq!(ip("FD77:0:0:0::3"), "fd77::3");
        let network = Ipv4Addr::new(10, 77, 3, 9);
        let shown = HostPattern::netmask(network, 20).to_string();
        assert_eq!(shown, "10.77.0.0/255.255.240.0");
        assert_eq!(
            HostPattern::netmask(network, 0).to_string(),
            "0.0.0.0/0.0.0.0"
        );
        assert_eq!(
            "site_a".parse::<DatabaseName>().unwrap().pattern().as_str(),
            "site\\_a"
        );
    }
}
