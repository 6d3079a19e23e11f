//! Names of servers, clusters and platforms, and labels: short, printable, safe in a file name.

use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// The longest name, in bytes. With prefix and suffix it still fits into one path component.
const MAX_BYTES: usize = 63;

/// Why some text is not a name. The first field says what it was meant to name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("A {0} name can't be empty")]
    Empty(&'static str),
    /// Over the limit.
    #[error("The {0} name `{1}...` is too long: {2} bytes, at most {MAX_BYTES}")]
    TooLong(&'static str, String, usize),
    /// It starts with punctuation.
    #[error("The {0} name `{1}` must start with a letter or a digit")]
    Start(&'static str, String),
    /// It holds something other than letters, digits, `-`, `_` and `.`.
    #[error("The {0} name `{1}` may hold letters, digits, `-`, `_` and `.` only")]
    Forbidden(&'static str, String),
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty(what));
    };
    if text.len() > MAX_BYTES {
        let start: String = text.chars().take(20).collect();
        return Err(NameError::TooLong(
            what,
            escape(start.as_bytes()),
            text.len(),
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.chars().all(allowed) {
        return Err(NameError::Forbidden(what, escape(text.as_bytes())));
    }
    // A leading `-` would be an option, a leading `.` a hidden file or `..`.
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Start(what, text.to_owned()));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// ASCII letters, digits, `-`, `_` and `.`, starting with a letter or a digit, at most 63
        /// bytes.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        // Equal names are equal text, so maps may be asked by text.
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        serde_as_text!($type, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$");
    };
}

name_type!(
    /// The name of a server in the inventory.
    ServerName,
    "server"
);
name_type!(
    /// The name of a cluster in the inventory.
    ClusterName,
    "cluster"
);
name_type!(
    /// The name of a platform in the inventory.
    PlatformName,
    "platform"
);
name_type!(
    /// The name of a load balancer in the inventory.
    BalancerName,
    "balancer"
);
name_type!(
    /// The name of a secret in the hub's store.
    SecretName,
    "secret"
);
name_type!(
    /// A label that groups servers, as in `--limit label:eu`.
    Label,
    "label"
);

impl SecretName {
    /// The name of what belongs to a site, such as `site.www.example.com.db`: the same each time, and
    /// different for each purpose (a short word of lower-case letters) and site.
    pub fn of_site(purpose: &str, site: &super::SiteUri) -> Self {
        Self(format!("{}{purpose}", Self::site_prefix(site, purpose.len())).into())
    }

    /// Is this the name of what belongs to that site, for whatever purpose?
    pub fn is_of_site(&self, site: &super::SiteUri) -> bool {
        let purpose = self.0.rsplit('.').next().unwrap_or_default();
        *self == Self::of_site(purpose, site)
    }

    fn site_prefix(site: &super::SiteUri, purpose_bytes: usize) -> String {
        // No host name holds an underscore, so the first one separates.
        let whole = format!("site.{}.", site.as_str().replace('/', "_"));
        match whole.len() + purpose_bytes <= MAX_BYTES {
            true => whole,
            false => {
                let hash = blake3::hash(site.as_str().as_bytes()).to_hex();
                format!("site.{}.", &hash[..32])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_commands_and_terminals() {
        for good in ["web1", "a", "Web-1_b.example", "1", &"x".repeat(63)] {
            assert!(good.parse::<ServerName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-rf",
            "a/b",
            "a b",
            "ü",
            "a\n",
            "a:b",
            "a,b",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_purpose_of_every_site_has_a_secret_of_its_own() {
        let of = |purpose: &str, site: &str| SecretName::of_site(purpose, &site.parse().unwrap());
        assert_eq!(of("db", "a.example").as_str(), "site.a.example.db");
        assert_eq!(of("db", "a.example/x_y").as_str(), "site.a.example_x_y.db");
        let (long, longer) = (
            format!("{}.example", "a".repeat(60)),
            format!("{}.example", "a".repeat(61)),
        );
        assert_ne!(of("db", &long), of("db", &longer));
        assert_ne!(of("db", &long), of("salt", &long));
        for (site, name) in [
            (long.as_str(), of("db", &long)),
            ("a.example/shop", of("salt", "a.example/shop")),
        ] {
            assert_eq!(name.as_str().parse::<SecretName>().unwrap(), name);
            assert!(name.is_of_site(&site.parse().unwrap()));
            assert!(!name.is_of_site(&longer.parse().unwrap()));
        }
    }

    #[test]
    fn a_refused_name_says_what_it_was_meant_to_name() {
        let message = |text: &str| text.parse::<PlatformName>().unwrap_err().to_string();
        assert_eq!(message(""), "A platform name can't be empty");
        assert_eq!(
            message("a\x1b[1m"),
            "The platform name `a\\x1B[1m` may hold letters, digits, `-`, `_` and `.` only"
        );
        assert_eq!(
            message("-x"),
            "The platform name `-x` must start with a letter or a digit"
        );
        assert_eq!(
            message(&"x".repeat(90)),
            "The platform name `xxxxxxxxxxxxxxxxxxxx...` is too long: 90 bytes, at most 63"
        );
    }
}
