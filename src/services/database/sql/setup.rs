//! The administration account: what `fanout setup db` runs once as root, and prints for those who
//! prefer to do it by hand.

use crate::services::database::{Account, Dialect, PREFIX, PRIVILEGES, Password};

/// From here on MariaDB lets an account end sessions without being able to do everything.
const MARIADB_WITH_CONNECTION_ADMIN: (u32, u32, u32) = (10, 5, 2);

/// The statements that make an administration account.
///
/// Databases outside the prefix are closed to it. But `CREATE USER` is one privilege in both
/// servers: who may make accounts may change every account that isn't protected by the server
/// itself. On MariaDB that includes root's (and `UPDATE` on `mysql`, which giving a default role
/// needs there, adds nothing to it).
pub fn admin_statements(account: &Account, password: &Password, dialect: Dialect) -> Vec<String> {
    let everywhere = match dialect {
        Dialect::MariaDb(major, minor, patch)
            if (major, minor, patch) >= MARIADB_WITH_CONNECTION_ADMIN =>
        {
            "CREATE USER, PROCESS, CONNECTION ADMIN"
        }
        Dialect::MariaDb(..) => "CREATE USER, PROCESS, SUPER",
        Dialect::MySql(..) => {
            "CREATE USER, CREATE ROLE, DROP ROLE, PROCESS, ROLE_ADMIN, CONNECTION_ADMIN, \
             APPLICATION_PASSWORD_ADMIN"
        }
    };
    let accounts = match dialect {
        Dialect::MariaDb(..) => "SELECT, UPDATE",
        Dialect::MySql(..) => "SELECT",
    };
    let prefix = PREFIX.replace('_', "\\_");
    vec![
        format!(
            "CREATE USER {account} IDENTIFIED BY '{}'",
            password.as_str()
        ),
        format!("GRANT {everywhere} ON *.* TO {account}"),
        format!("GRANT {accounts} ON `mysql`.* TO {account}"),
        format!(
            "GRANT {} ON `{prefix}%`.* TO {account} WITH GRANT OPTION",
            PRIVILEGES.join(", ")
        ),
    ]
}
