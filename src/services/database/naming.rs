//! What a site's database, user and role are called.
//!
//! Derived from the site's address once, and recorded: a later version may derive otherwise.

use crate::model::{NameError, SecretName, SiteUri};
use data_encoding::BASE32_NOPAD;
use sync_proto::digest::Digest;
use sync_proto::wire::service::database::{DatabaseName, NameFault, RoleName, UserName};

/// What every name begins with, so that the administration account can be limited to databases
/// of that form.
pub const PREFIX: &str = "fo_";
/// The readable part of a name. With prefix, mark and the role's suffix it stays within MySQL's 32.
const READABLE_BYTES: usize = 18;
/// 35 bits of the address's hash: two addresses that look alike still differ.
const MARK_BYTES: usize = 7;

/// Names of one site in a database server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Names {
    /// Its database.
    pub database: DatabaseName,
    /// Its user, of which each member has an account.
    pub user: UserName,
    /// The role that holds the privileges.
    pub role: RoleName,
}

impl Names {
    /// For a site that has none yet.
    ///
    /// # Errors
    /// Never for an address; the names are parsed like any others.
    pub fn derive(site: &SiteUri) -> Result<Self, NameFault> {
        let text = site.as_str();
        let plain = text.strip_prefix("www.").unwrap_or(text);
        let readable: String = plain
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .take(READABLE_BYTES)
            .collect();
        let readable = readable.trim_end_matches('_');
        let hash = Digest::of(text.as_bytes());
        let mark = BASE32_NOPAD.encode(hash.as_bytes()).to_ascii_lowercase();
        let mark: String = mark.chars().take(MARK_BYTES).collect();
        let name = format!("{PREFIX}{readable}_{mark}");
        Self::called(&name)
    }

    /// The name of the secret that is the password of the user's accounts.
    ///
    /// # Errors
    /// Never: a user is a shorter name of the same kind.
    pub fn secret(&self) -> Result<SecretName, NameError> {
        format!("database-{}", self.user).parse()
    }

    /// All three after one word, as a database that was there before.
    ///
    /// # Errors
    /// It isn't a name for all of them.
    pub fn called(name: &str) -> Result<Self, NameFault> {
        Ok(Self {
            database: name.parse()?,
            user: name.parse()?,
            role: format!("{name}_rw").parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(uri: &str) -> Names {
        Names::derive(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_name_can_be_read_and_fits_every_server() {
        let shop = names("www.example.com/shop");
        assert!(
            shop.database.as_str().starts_with("fo_example_com_shop_"),
            "{}",
            shop.database
        );
        let long = names(&format!("{}.example.com", "a".repeat(63)));
        assert!(long.user.as_str().len() <= 32);
        assert!(long.role.as_str().len() <= 32);
        assert!(long.secret().is_ok());
        assert_eq!(names("www.example.com"), names("www.example.com"));
    }

    #[test]
    fn addresses_that_look_alike_get_different_names() {
        let alike = [
            "www.example.com",
            "example.com",
            "example.com/shop",
            "example.com/Shop",
            "example-com",
            "drupal-commerce-shop.example.com",
            "drupal-commerce-shop2.example.com",
        ];
        let all: BTreeSet<Names> = alike.iter().map(|uri| names(uri)).collect();
        assert_eq!(all.len(), alike.len());
    }
}
