//! Databases of sites: which database, role and accounts there should be, and the operations that
//! lead there.
//!
//! One role per site holds the privileges ([`PRIVILEGES`]), on the site's own database and no
//! other; one user per site has an account for each address that its members come from, and every
//! account has the role and nothing else. [`mod@hosts`] says for which addresses, [`mod@difference`] what
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
pub use difference::{Change, Desired, Difference, Mark, Recorded, Undo, difference, removal};
pub use hosts::{HostFault, MemberAddresses, SeenFrom, hosts};
pub use naming::{Names, PREFIX};
pub use sync_proto::wire::service::database::{
    Account, DatabaseName, DatabaseOperation as Operation, HostPattern, NameFault, Password,
    RoleName, UserName,
};

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
