//! Operations as statements, in the dialect of the server.
//!
//! Everything in quotes is one of the parsed names, which can't hold the quote; nothing else is
//! ever put into a statement.

use crate::services::database::Dialect;
use crate::services::database::PRIVILEGES;
use sync_proto::wire::service::database::{
    Account, DatabaseName, DatabaseOperation as Operation, Password, RoleName, SchemaPattern,
};

/// What an operation is on a server.
pub(super) enum Rendered {
    /// Run these one after the other.
    Statements(Vec<String>),
    /// Kill what is listed, one by one: MySQL has no statement for it, and MariaDB's `KILL USER`
    /// finds neither who is listed by a host name nor who came through a network's account.
    EndSessions(Account),
    /// Count its tables, and drop it only if there are none.
    DropIfEmpty(DatabaseName),
}

fn role(role: &RoleName, dialect: Dialect) -> String {
    match dialect {
        Dialect::MariaDb(..) => format!("`{role}`"),
        // A role is an account that can't log in; its host is a formality.
        Dialect::MySql(..) => format!("'{role}'@'%'"),
    }
}

fn schema(schema: &SchemaPattern) -> String {
    match schema.as_str() {
        "*" => "*.*".to_owned(),
        name => format!("`{name}`.*"),
    }
}

/// The statements of one operation.
pub(super) fn statements(operation: &Operation, dialect: Dialect) -> Rendered {
    use Operation as O;
    let text = match operation {
        O::CreateDatabase { database } => {
            format!("CREATE DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
        }
        O::DropDatabase {
            database,
            only_if_empty: true,
        } => return Rendered::DropIfEmpty(database.clone()),
        O::DropDatabase { database, .. } => drop_database(database),
        O::CreateRole { role: name } => format!("CREATE ROLE {}", role(name, dialect)),
        O::DropRole { role: name } => format!("DROP ROLE {}", role(name, dialect)),
        O::Grant {
            role: name,
            database,
        } => format!(
            "GRANT {} ON {} TO {}",
            PRIVILEGES.join(", "),
            schema(&database.pattern()),
            role(name, dialect)
        ),
        O::Revoke {
            role: name,
            schema: place,
            privileges,
        } => {
            let list: Vec<&str> = privileges.iter().map(|it| it.as_str()).collect();
            format!(
                "REVOKE {} ON {} FROM {}",
                list.join(", "),
                schema(place),
                role(name, dialect)
            )
        }
        // Never IF NOT EXISTS: that would keep the password of an account that is there.
        O::CreateAccount { account, password } => {
            format!(
                "CREATE USER {account} IDENTIFIED BY '{}'",
                password.as_str()
            )
        }
        O::GiveRole {
            account,
            role: name,
        } => {
            let by_default = match dialect {
                Dialect::MariaDb(..) => format!("SET DEFAULT ROLE `{name}` FOR {account}"),
                Dialect::MySql(..) => {
                    format!("ALTER USER {account} DEFAULT ROLE {}", role(name, dialect))
                }
            };
            return Rendered::Statements(vec![
                format!("GRANT {} TO {account}", role(name, dialect)),
                by_default,
            ]);
        }
        O::SetPassword { account, password } => {
            let set = format!("ALTER USER {account} IDENTIFIED BY '{}'", password.as_str());
            return Rendered::Statements(match dialect {
                Dialect::MariaDb(..) => vec![set],
                // The one before would stay valid otherwise.
                Dialect::MySql(..) => {
                    vec![set, format!("ALTER USER {account} DISCARD OLD PASSWORD")]
                }
            });
        }
        O::AddPassword {
            account,
            current,
            added,
        } => add_password(account, current, added, dialect),
        O::Lock { account } => format!("ALTER USER {account} ACCOUNT LOCK"),
        O::Unlock { account } => format!("ALTER USER {account} ACCOUNT UNLOCK"),
        O::EndSessions { account } => return Rendered::EndSessions(account.clone()),
        O::DropAccount { account } => format!("DROP USER {account}"),
    };
    Rendered::Statements(vec![text])
}

fn add_password(
    account: &Account,
    current: &Password,
    added: &Password,
    dialect: Dialect,
) -> String {
    let (current, added) = (current.as_str(), added.as_str());
    match dialect {
        Dialect::MariaDb(..) => format!(
            "ALTER USER {account} IDENTIFIED VIA mysql_native_password USING PASSWORD('{current}') \
             OR mysql_native_password USING PASSWORD('{added}')"
        ),
        Dialect::MySql(..) => {
            format!("ALTER USER {account} IDENTIFIED BY '{added}' RETAIN CURRENT PASSWORD")
        }
    }
}

pub(super) fn drop_database(database: &DatabaseName) -> String {
    format!("DROP DATABASE `{database}`")
}
