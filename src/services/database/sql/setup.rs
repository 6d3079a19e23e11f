//! The administration account: what `fanout setup db` runs once as root, and prints for those who
//! prefer to do it by hand.

use super::SqlError;
use super::admin::{Endpoint, connect, failure, run, settle};
use crate::services::database::{
    Account, DatabaseName, Dialect, PREFIX, PRIVILEGES, Password, RoleName,
};
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use sync_proto::wire::service::database::{DatabaseFailure, HostPattern};

/// From here on MariaDB lets an account end sessions without being able to do everything.
const MARIADB_WITH_CONNECTION_ADMIN: (u32, u32, u32) = (10, 5, 2);

/// An administration account as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// Who, and from where: the hub as the database sees it.
    pub account: Account,
    /// Its password.
    pub password: Password,
    /// Databases without the prefix that it works on, too: such as were there before fanout.
    pub databases: Vec<DatabaseName>,
    /// Roles that were made by another account.
    pub roles: Vec<RoleName>,
}

impl Administrator {
    /// The statements that make it.
    ///
    /// Databases outside the prefix are closed to it. But `CREATE USER` is one privilege in both
    /// servers: who may make accounts may change every account that the server itself doesn't
    /// protect. On MariaDB that includes root's (and `UPDATE` on `mysql`, which giving a default
    /// role needs there, adds nothing to it).
    pub fn statements(&self, dialect: Dialect) -> Vec<String> {
        let create = format!(
            "CREATE USER {} IDENTIFIED BY '{}'",
            self.account,
            self.password.as_str()
        );
        [
            vec![create],
            self.grants(dialect),
            self.role_grants(dialect),
        ]
        .concat()
    }

    fn grants(&self, dialect: Dialect) -> Vec<String> {
        let account = &self.account;
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
        let mut list = vec![
            format!("GRANT {everywhere} ON *.* TO {account}"),
            format!("GRANT {accounts} ON `mysql`.* TO {account}"),
        ];
        let patterns = self
            .databases
            .iter()
            .map(|it| it.pattern().as_str().to_owned());
        for pattern in [format!("{prefix}%")].into_iter().chain(patterns) {
            list.push(format!(
                "GRANT {} ON `{pattern}`.* TO {account} WITH GRANT OPTION",
                PRIVILEGES.join(", ")
            ));
        }
        list
    }

    /// MariaDB lets only those give a role who may; MySQL's `ROLE_ADMIN` may give any.
    fn role_grants(&self, dialect: Dialect) -> Vec<String> {
        if !dialect.is_mariadb() {
            return Vec::new();
        }
        let grant =
            |role: &RoleName| format!("GRANT `{role}` TO {} WITH ADMIN OPTION", self.account);
        self.roles.iter().map(grant).collect()
    }

    /// Makes it, as somebody who may. An account of that user for another host, as before the hub
    /// moved, moves along: roles that it made stay its own.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn make(
        &self,
        endpoint: &Endpoint,
        user: &str,
        password: &str,
    ) -> Result<Made, SqlError> {
        let mut connection = connect(endpoint, user, Some(password), None).await?;
        let (_, dialect) = settle(&mut connection).await?;
        let mut made = Made::default();
        let hosts = self.hosts(&mut connection).await?;
        let is_there = hosts.contains(&self.account.host);
        match hosts.first().filter(|_| !is_there) {
            Some(former) => {
                let former = Account {
                    user: self.account.user.clone(),
                    host: former.clone(),
                };
                run(
                    &mut connection,
                    &format!("RENAME USER {former} TO {}", self.account),
                )
                .await?;
                made.moved_from = Some(former);
            }
            None if is_there => {}
            None => run(&mut connection, &self.statements(dialect)[0]).await?,
        }
        if !hosts.is_empty() {
            let secret = self.password.as_str();
            let text = format!("ALTER USER {} IDENTIFIED BY '{secret}'", self.account);
            run(&mut connection, &text).await?;
        }
        for text in self.grants(dialect) {
            run(&mut connection, &text).await?;
        }
        for text in self.role_grants(dialect) {
            if let Err(error) = run(&mut connection, &text).await {
                made.refused.push((text, failure(&error)));
            }
        }
        let _closed = connection.close().await;
        Ok(made)
    }

    async fn hosts(&self, connection: &mut MySqlConnection) -> Result<Vec<HostPattern>, SqlError> {
        let listed: Vec<String> = sqlx::query_scalar(
            "SELECT CONVERT(Host USING utf8mb4) FROM mysql.user WHERE User = ? ORDER BY Host",
        )
        .bind(self.account.user.as_str())
        .fetch_all(connection)
        .await?;
        Ok(listed.iter().filter_map(|host| host.parse().ok()).collect())
    }
}

/// How an administration account came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The account that it was.
    pub moved_from: Option<Account>,
    /// Roles that somebody else has to give it.
    pub refused: Vec<(String, DatabaseFailure)>,
}
