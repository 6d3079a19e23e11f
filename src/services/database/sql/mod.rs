//! The only place with statements for a database server, and the only door to one.
//!
//! Owns: an administration session ([`Admin`]) that answers a
//! [`DatabaseRequest`](sync_proto::wire::service::database::DatabaseRequest), over TCP from the hub
//! or over the socket from the agent beside it, and a site's own login ([`try_login`]). Refuses:
//! text. What goes into a statement is a parsed name between quotes.

mod admin;
mod inspect;
mod login;
mod render;
mod sessions;
mod setup;

pub use admin::{Admin, Endpoint, SqlError};
pub use login::try_login;
pub use setup::{Administrator, Made};

use super::Dialect;
use render::Rendered;
use sync_proto::wire::service::database::DatabaseOperation;

/// The statements behind an operation, for people who prefer to run them by hand, and for tests.
/// Passwords are in them.
pub fn statements(operation: &DatabaseOperation, dialect: Dialect) -> Vec<String> {
    match render::statements(operation, dialect) {
        Rendered::Statements(list) => list,
        Rendered::EndSessions(account) => vec![sessions::described(&account)],
        Rendered::DropIfEmpty(database) => vec![render::drop_database(&database)],
    }
}

#[cfg(test)]
mod tests;
