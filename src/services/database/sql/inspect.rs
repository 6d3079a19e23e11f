//! What is there: from the tables that the server itself reads, never from the text of SHOW GRANTS.

use super::SqlError;
use crate::services::database::Dialect;
use serde_json::Value;
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use std::collections::BTreeMap;
use std::str::FromStr;
use sync_proto::path::escape;
use sync_proto::wire::service::database::{
    Account, AccountState, DatabaseName, DatabaseQuery, DatabaseState, Password, Privilege,
    RoleName, RoleState, SchemaPattern, SchemaState, UserName,
};

const NATIVE: &str = "mysql_native_password";

type Privileges = Vec<(SchemaPattern, Vec<Privilege>)>;

/// Answers a query.
pub(super) async fn inspect(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    query: &DatabaseQuery,
) -> Result<DatabaseState, SqlError> {
    let mut state = DatabaseState::default();
    for (user, password) in &query.users {
        let mut accounts = match dialect {
            Dialect::MariaDb(..) => mariadb_accounts(connection, user, password.as_ref()).await?,
            Dialect::MySql(..) => mysql_accounts(connection, user).await?,
        };
        for account in &mut accounts {
            account.privileges = privileges(connection, &account.account.to_string()).await?;
        }
        state.accounts.extend(accounts);
    }
    for role in &query.roles {
        if let Some(found) = role_state(connection, dialect, role).await? {
            state.roles.push(found);
        }
    }
    for database in &query.databases {
        let there: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?",
        )
        .bind(database.as_str())
        .fetch_one(&mut *connection)
        .await?;
        if there > 0 {
            state.databases.push(SchemaState {
                database: database.clone(),
                tables: tables(connection, database).await?,
            });
        }
    }
    Ok(state)
}

/// How many tables and views a database holds.
pub(super) async fn tables(
    connection: &mut MySqlConnection,
    database: &DatabaseName,
) -> Result<u64, sqlx::Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?")
            .bind(database.as_str())
            .fetch_one(&mut *connection)
            .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

async fn mariadb_accounts(
    connection: &mut MySqlConnection,
    user: &UserName,
    password: Option<&Password>,
) -> Result<Vec<AccountState>, SqlError> {
    let hash: Option<String> = match password {
        Some(password) => {
            let asked = sqlx::query_scalar("SELECT PASSWORD(?)").bind(password.as_str());
            Some(asked.fetch_one(&mut *connection).await?)
        }
        None => None,
    };
    let rows = sqlx::query(
        "SELECT CONVERT(Host USING utf8mb4), CONVERT(Priv USING utf8mb4) \
         FROM mysql.global_priv WHERE User = ? ORDER BY Host",
    )
    .bind(user.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::new();
    for row in &rows {
        let text: String = row.try_get(1)?;
        let kept: Value = serde_json::from_str(&text).map_err(|_| SqlError::Impossible {
            what: "account",
            value: user.to_string(),
        })?;
        if truth(&kept["is_role"]) {
            continue;
        }
        let account = account(user, row)?;
        let roles = strings(
            connection,
            "SELECT CONVERT(Role USING utf8mb4) FROM mysql.roles_mapping \
             WHERE User = ? AND Host = ? ORDER BY Role",
            &account,
        )
        .await?;
        let (takes_password, passwords) = methods(&kept, hash.as_deref());
        found.push(AccountState {
            is_locked: truth(&kept["account_locked"]),
            needs_tls: kept["ssl_type"].as_i64().unwrap_or(0) > 0,
            takes_password,
            passwords,
            roles,
            default_role: kept["default_role"].as_str().unwrap_or_default().to_owned(),
            privileges: Vec::new(),
            account,
        });
    }
    Ok(found)
}

fn truth(value: &Value) -> bool {
    value.as_bool().unwrap_or(false) || value.as_i64().unwrap_or(0) != 0
}

/// Does one of the ways to log in take this password, and how many ways with passwords are there?
fn methods(kept: &Value, hash: Option<&str>) -> (Option<bool>, u8) {
    let alternatives = kept["auth_or"].as_array();
    // An empty alternative stands for the way beside the list.
    let ways: Vec<&Value> = match alternatives {
        Some(list) => list
            .iter()
            .map(|it| if it["plugin"].is_null() { kept } else { it })
            .collect(),
        None => vec![kept],
    };
    let plugin = |way: &Value| way["plugin"].as_str().unwrap_or(NATIVE).to_owned();
    let native: Vec<&Value> = ways
        .iter()
        .copied()
        .filter(|way| plugin(way) == NATIVE)
        .collect();
    let passwords = u8::try_from(native.len()).unwrap_or(u8::MAX);
    let takes = hash.and_then(|hash| {
        let fits = |way: &&Value| way["authentication_string"].as_str() == Some(hash);
        let others_by_socket =
            |way: &&Value| matches!(plugin(way).as_str(), NATIVE | "unix_socket");
        if native.iter().any(fits) {
            Some(true)
        } else if ways.iter().all(others_by_socket) {
            Some(false)
        } else {
            // ed25519 and others: only a login tells.
            None
        }
    });
    (takes, passwords)
}

async fn mysql_accounts(
    connection: &mut MySqlConnection,
    user: &UserName,
) -> Result<Vec<AccountState>, SqlError> {
    let rows = sqlx::query(
        "SELECT CONVERT(Host USING utf8mb4), account_locked = 'Y', ssl_type <> '', \
         JSON_CONTAINS_PATH(COALESCE(User_attributes, '{}'), 'one', '$.additional_password') \
         FROM mysql.user WHERE User = ? ORDER BY Host",
    )
    .bind(user.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::new();
    for row in &rows {
        let account = account(user, row)?;
        let roles = strings(
            connection,
            "SELECT CONVERT(FROM_USER USING utf8mb4) FROM mysql.role_edges \
             WHERE TO_USER = ? AND TO_HOST = ? ORDER BY FROM_USER",
            &account,
        )
        .await?;
        let by_default = strings(
            connection,
            "SELECT CONVERT(DEFAULT_ROLE_USER USING utf8mb4) FROM mysql.default_roles \
             WHERE USER = ? AND HOST = ? ORDER BY DEFAULT_ROLE_USER",
            &account,
        )
        .await?;
        found.push(AccountState {
            is_locked: row.try_get::<i64, _>(1)? != 0,
            needs_tls: row.try_get::<i64, _>(2)? != 0,
            // Salted: whether a password fits shows at a login only.
            takes_password: None,
            passwords: 1 + u8::from(row.try_get::<i64, _>(3)? != 0),
            roles,
            default_role: by_default.into_iter().next().unwrap_or_default(),
            privileges: Vec::new(),
            account,
        });
    }
    Ok(found)
}

async fn role_state(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    role: &RoleName,
) -> Result<Option<RoleState>, SqlError> {
    let (text, host) = match dialect {
        Dialect::MariaDb(..) => (
            "SELECT COUNT(*) FROM mysql.user WHERE User = ? AND is_role = 'Y'",
            "",
        ),
        Dialect::MySql(..) => (
            "SELECT COUNT(*) FROM mysql.user WHERE User = ? AND Host = '%'",
            "%",
        ),
    };
    let there: i64 = sqlx::query_scalar(text)
        .bind(role.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if there == 0 {
        return Ok(None);
    }
    let privileges = privileges(connection, &format!("'{role}'@'{host}'")).await?;
    Ok(Some(RoleState {
        role: role.clone(),
        privileges,
    }))
}

/// Everything that a grantee was given, roles apart; `*` is everywhere.
async fn privileges(
    connection: &mut MySqlConnection,
    grantee: &str,
) -> Result<Privileges, SqlError> {
    let rows = sqlx::query(
        "SELECT CONVERT(TABLE_SCHEMA USING utf8mb4), CONVERT(PRIVILEGE_TYPE USING utf8mb4) \
         FROM information_schema.schema_privileges WHERE GRANTEE = ? \
         UNION ALL \
         SELECT '*', CONVERT(PRIVILEGE_TYPE USING utf8mb4) \
         FROM information_schema.user_privileges WHERE GRANTEE = ? AND PRIVILEGE_TYPE <> 'USAGE' \
         ORDER BY 1, 2",
    )
    .bind(grantee)
    .bind(grantee)
    .fetch_all(&mut *connection)
    .await?;
    let mut found: BTreeMap<SchemaPattern, Vec<Privilege>> = BTreeMap::new();
    for row in &rows {
        let schema = parsed("schema", row.try_get(0)?)?;
        let privilege = parsed("privilege", row.try_get(1)?)?;
        found.entry(schema).or_default().push(privilege);
    }
    Ok(found.into_iter().collect())
}

async fn strings(
    connection: &mut MySqlConnection,
    text: &'static str,
    account: &Account,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(text)
        .bind(account.user.as_str())
        .bind(account.host.as_str())
        .fetch_all(connection)
        .await
}

fn account(user: &UserName, row: &MySqlRow) -> Result<Account, SqlError> {
    Ok(Account {
        user: user.clone(),
        host: parsed("host", row.try_get(0)?)?,
    })
}

fn parsed<T: FromStr>(what: &'static str, text: String) -> Result<T, SqlError> {
    text.parse().map_err(|_| SqlError::Impossible {
        what,
        value: escape(text.as_bytes()),
    })
}
