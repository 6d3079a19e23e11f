//! Databases of sites: which database, role and accounts there should be, and the operations that
//! lead there.
//!
//! One role per site holds the privileges ([`PRIVILEGES`]), on the site's own database and no
//! other; one user per site has an account for each address that its members come from, and every
//! account has the role and nothing else. [`hosts`] says for which addresses, [`difference`] what
//! is to be done about what is there, [`sql`] is the only place with statements.
//!
//! Invariants: an account is never made for `%` unless the inventory says `0.0.0.0/0` or `::/0`;
//! what isn't on record is never removed unless it was asked for; whatever is removed is locked
//! first and its sessions are ended.

pub mod dialect;
pub mod difference;
pub mod hosts;
pub mod naming;
pub mod sql;

pub use dialect::{Dialect, DialectError};
pub use difference::{Change, Desired, Difference, Mark, Recorded, difference, removal};
pub use hosts::{HostFault, MemberAddresses, SeenFrom, hosts};
pub use naming::{Names, PREFIX};
pub use sync_proto::wire::service::database::{
    Account, DatabaseName, DatabaseOperation as Operation, HostPattern, Password, RoleName,
    UserName,
};

use rand::RngExt;

/// What a site needs on its database; WordPress, MediaWiki and Drupal install and run with it.
pub const PRIVILEGES: [&str; 11] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
];

/// Characters of generated passwords: none that any settings file, URL or shell would treat.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
/// 32 characters of 57 are 186 bits.
const PASSWORD_CHARACTERS: usize = 32;

/// A password from the system's cryptographic generator.
pub fn generate_password() -> String {
    let mut random = rand::rng();
    (0..PASSWORD_CHARACTERS)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_can_be_used_and_differ() {
        let (one, two) = (generate_password(), generate_password());
        assert_ne!(one, two);
        assert!(one.parse::<Password>().is_ok());
        assert_eq!(one.len(), PASSWORD_CHARACTERS);
    }
}
