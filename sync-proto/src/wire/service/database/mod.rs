//! Databases: what a hub asks of the agent beside a database server, and of the members that use
//! one.
//!
//! Typed operations, never SQL: the names in them are parsed where they arrive ([`names`]) and can
//! neither break out of a statement nor be an account or a schema of the server's own.

pub mod names;

pub use names::{
    Account, DatabaseName, HostPattern, NameFault, Password, Privilege, RoleName, SchemaPattern,
    UserName,
};

use serde::{Deserialize, Serialize};

/// A request to the agent that works on a database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseRequest {
    /// Which server it is.
    Facts,
    /// What is there of these.
    Inspect(DatabaseQuery),
    /// Carry these out in this order, up to the first that fails.
    Apply {
        /// What to do.
        operations: Vec<DatabaseOperation>,
    },
}

/// The answer to a [`DatabaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseAnswer {
    /// To Facts.
    Facts(DatabaseFacts),
    /// To Inspect.
    Inspected(DatabaseState),
    /// To Apply.
    Applied(DatabaseApplied),
}

/// Which database server it is, and how it treats addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// As the server says it: `10.11.6-MariaDB-0+deb12u1`, `8.0.36`.
    pub version: String,
    /// It takes addresses of clients as they are and never asks for their names.
    pub skips_name_resolution: bool,
    /// The session that asks is encrypted.
    pub uses_tls: bool,
    /// It accepts no changes.
    pub is_read_only: bool,
    /// The account that asks, as the server names it.
    pub account: String,
}

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseQuery {
    /// Users, with the password that each of their accounts should take.
    pub users: Vec<(UserName, Option<Password>)>,
    /// Roles.
    pub roles: Vec<RoleName>,
    /// Databases.
    pub databases: Vec<DatabaseName>,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Every account of the users that were asked about, by user and host.
    pub accounts: Vec<AccountState>,
    /// Those of the roles that are there.
    pub roles: Vec<RoleState>,
    /// Those of the databases that are there.
    pub databases: Vec<SchemaState>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// Which.
    pub account: Account,
    /// Nobody can log in with it.
    pub is_locked: bool,
    /// It only takes logins over TLS.
    pub needs_tls: bool,
    /// It takes the password that it should take; unknown where the server keeps it salted.
    pub takes_password: Option<bool>,
    /// How many passwords it takes.
    pub passwords: u8,
    /// Roles that it was given.
    pub roles: Vec<String>,
    /// The role that it has when it logs in; empty if it has none.
    pub default_role: String,
    /// Privileges that it holds besides, by schema.
    pub privileges: Vec<(SchemaPattern, Vec<Privilege>)>,
}

/// One role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleState {
    /// Which.
    pub role: RoleName,
    /// What it may do, by schema.
    pub privileges: Vec<(SchemaPattern, Vec<Privilege>)>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaState {
    /// Which.
    pub database: DatabaseName,
    /// How many tables and views it holds.
    pub tables: u64,
}

/// One change of a database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseOperation {
    /// Makes a database; fails if it is there.
    CreateDatabase {
        /// Which.
        database: DatabaseName,
    },
    /// Destroys a database.
    DropDatabase {
        /// Which.
        database: DatabaseName,
        /// Leave it if there is a table in it.
        only_if_empty: bool,
    },
    /// Makes a role without privileges; fails if it is there.
    CreateRole {
        /// Which.
        role: RoleName,
    },
    /// Removes a role.
    DropRole {
        /// Which.
        role: RoleName,
    },
    /// Gives a role what a site needs on its database.
    Grant {
        /// Whom.
        role: RoleName,
        /// Where.
        database: DatabaseName,
    },
    /// Takes privileges away from a role.
    Revoke {
        /// From whom.
        role: RoleName,
        /// Where, as the server lists it.
        schema: SchemaPattern,
        /// Which.
        privileges: Vec<Privilege>,
    },
    /// Makes an account that has the role's privileges as soon as it logs in; fails if it is there.
    CreateAccount {
        /// Which.
        account: Account,
        /// Its password.
        password: Password,
    },
    /// Gives an account a role, and makes it the one that it has when it logs in.
    GiveRole {
        /// Whom.
        account: Account,
        /// Which.
        role: RoleName,
    },
    /// Makes this the only password of an account.
    SetPassword {
        /// Whose.
        account: Account,
        /// The password.
        password: Password,
    },
    /// Lets an account log in with either of two passwords.
    AddPassword {
        /// Whose.
        account: Account,
        /// The one that it has.
        current: Password,
        /// The one that it gets besides.
        added: Password,
    },
    /// Nobody can log in with the account; sessions that are open stay.
    Lock {
        /// Which.
        account: Account,
    },
    /// The account can log in again.
    Unlock {
        /// Which.
        account: Account,
    },
    /// Ends every session of an account.
    EndSessions {
        /// Whose.
        account: Account,
    },
    /// Removes an account.
    DropAccount {
        /// Which.
        account: Account,
    },
}

/// How far an Apply came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseApplied {
    /// So many were carried out.
    pub done: u32,
    /// Why the next one was not.
    pub failure: Option<DatabaseFailure>,
}

/// What a database server said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFailure {
    /// Its error number; 0 if the connection failed.
    pub number: u16,
    /// Its message.
    pub message: String,
}

/// A request to the agent of a member that uses a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeRequest {
    /// As which address does the database server see this member? Knocks without an account.
    Address {
        /// The database server's name or address.
        host: String,
        /// Its TCP port.
        port: u16,
    },
    /// Log in as a site does.
    Login(Box<DatabaseLogin>),
}

/// How a site logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLogin {
    /// The database server's name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The user.
    pub user: UserName,
    /// Its password.
    pub password: Password,
    /// The database.
    pub database: DatabaseName,
}

/// The answer to a [`ProbeRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAnswer {
    /// To Address.
    Seen(SeenAddress),
    /// To Login: it worked.
    LoggedIn(LoggedIn),
    /// To Login: the server answered, and refused.
    Denied(DatabaseFailure),
}

/// How a database server sees a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAddress {
    /// The member's address as the server sees it, as text.
    pub address: String,
    /// What the host name means on this member: addresses as text, sorted.
    pub resolved: Vec<String>,
    /// The address that was connected to.
    pub server: String,
    /// The number of the server's refusal: 1130, 1045 or 1698.
    pub number: u16,
}

/// What a site has when it is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The account that the server chose: `CURRENT_USER()`.
    pub account: String,
    /// The user and address that it saw: `USER()`.
    pub user: String,
    /// The role that is active; empty if none is.
    pub role: String,
    /// Microseconds that it took.
    pub elapsed_us: u64,
}
