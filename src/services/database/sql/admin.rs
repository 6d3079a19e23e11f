//! The administration session: connects for one request, asks or changes, and leaves.

use super::inspect;
use super::render::{self, Rendered};
use super::sessions;
use crate::codes::{Code, Problem};
use crate::services::database::{Dialect, DialectError};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use std::path::PathBuf;
use std::time::Duration;
use sync_proto::wire::service::database::{
    DatabaseAnswer, DatabaseApplied, DatabaseFacts, DatabaseFailure, DatabaseName,
    DatabaseOperation, DatabaseRequest,
};
use thiserror::Error;

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take: a DROP waits for whoever uses a table.
const REQUEST: Duration = Duration::from_secs(120);
/// How long a statement waits for a lock, in seconds.
const LOCK_WAIT_S: u32 = 20;

/// Why a database server can't be worked on.
#[derive(Debug, Error)]
pub enum SqlError {
    /// It can't be reached, or the login failed.
    #[error("Can't log in to the database server at {at}")]
    Connect {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It doesn't answer in time.
    #[error("The database server at {at} doesn't answer within {} s", limit.as_secs())]
    Silent {
        /// Where.
        at: String,
        /// Our limit.
        limit: Duration,
    },
    /// A question was refused.
    #[error("The database server refused a question")]
    Refused(#[from] sqlx::Error),
    /// It isn't one that we know.
    #[error(transparent)]
    Dialect(#[from] DialectError),
    /// It lists something that can't be.
    #[error("The database server lists an impossible {what}: {value}")]
    Impossible {
        /// What.
        what: &'static str,
        /// Which, escaped.
        value: String,
    },
}

impl SqlError {
    /// For people.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::Dialect(_) => Code::DatabaseUnsupported,
            _ => Code::DatabaseUnreachable,
        };
        Problem::from_error(code, self)
    }
}

/// Where a database server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this machine.
    Socket(PathBuf),
    /// A host and its port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// An administration account, and where it is used.
#[derive(Clone)]
pub struct Admin {
    endpoint: Endpoint,
    user: String,
    password: Option<String>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({} at {})", self.user, self.endpoint)
    }
}

/// A connection with a known meaning of quotes.
pub(super) async fn connect(
    endpoint: &Endpoint,
    user: &str,
    password: Option<&str>,
    database: Option<&str>,
) -> Result<MySqlConnection, SqlError> {
    let options = MySqlConnectOptions::new()
        .username(user)
        .pipes_as_concat(false)
        .statement_cache_capacity(0);
    let mut options = match endpoint {
        Endpoint::Socket(path) => options.socket(path).ssl_mode(MySqlSslMode::Disabled),
        // TLS where the server has it.
        Endpoint::Tcp { host, port } => options
            .host(host)
            .port(*port)
            .ssl_mode(MySqlSslMode::Preferred),
    };
    if let Some(password) = password {
        options = options.password(password);
    }
    if let Some(database) = database {
        options = options.database(database);
    }
    let at = || endpoint.to_string();
    match tokio::time::timeout(CONNECT, options.disable_statement_logging().connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(SqlError::Connect { at: at(), source }),
        Err(_) => Err(SqlError::Silent {
            at: at(),
            limit: CONNECT,
        }),
    }
}

impl Admin {
    /// An account, not yet used.
    pub fn new(endpoint: Endpoint, user: impl Into<String>, password: Option<String>) -> Self {
        Self {
            endpoint,
            user: user.into(),
            password,
        }
    }

    /// Where it is used.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The server can't be reached or doesn't let the account in or look. A change that fails is
    /// an answer, not an error.
    pub async fn answer(&self, request: &DatabaseRequest) -> Result<DatabaseAnswer, SqlError> {
        match tokio::time::timeout(REQUEST, self.work(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SqlError::Silent {
                at: self.endpoint.to_string(),
                limit: REQUEST,
            }),
        }
    }

    async fn work(&self, request: &DatabaseRequest) -> Result<DatabaseAnswer, SqlError> {
        let mut connection =
            connect(&self.endpoint, &self.user, self.password.as_deref(), None).await?;
        // ORDER: first what quotes and backslashes mean, whatever the server's own settings are.
        run(
            &mut connection,
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES'",
        )
        .await?;
        let wait = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}");
        run(&mut connection, &wait).await?;
        let facts = facts(&mut connection).await?;
        let dialect = Dialect::parse(&facts.version)?;
        let answer = match request {
            DatabaseRequest::Facts => DatabaseAnswer::Facts(facts),
            DatabaseRequest::Inspect(query) => {
                let state = inspect::inspect(&mut connection, dialect, query).await?;
                DatabaseAnswer::Inspected(state)
            }
            DatabaseRequest::Apply { operations } => {
                DatabaseAnswer::Applied(apply(&mut connection, dialect, operations).await)
            }
        };
        // What was asked for is done; how the session ends says nothing.
        let _closed = connection.close().await;
        Ok(answer)
    }
}

/// Settles how this session is understood, and finds out with whom.
pub(super) async fn settle(
    connection: &mut MySqlConnection,
) -> Result<(DatabaseFacts, Dialect), SqlError> {
    // ORDER: first what quotes and backslashes mean, whatever the server's own settings are.
    run(connection, "SET SESSION sql_mode = 'STRICT_ALL_TABLES'").await?;
    let wait = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}");
    run(connection, &wait).await?;
    let facts = facts(connection).await?;
    let dialect = Dialect::parse(&facts.version)?;
    Ok((facts, dialect))
}

async fn facts(connection: &mut MySqlConnection) -> Result<DatabaseFacts, SqlError> {
    let row = sqlx::query("SELECT VERSION(), @@skip_name_resolve, @@read_only, CURRENT_USER()")
        .fetch_one(&mut *connection)
        .await?;
    let cipher = sqlx::query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .fetch_optional(&mut *connection)
        .await?;
    let cipher: Option<String> = cipher.map(|row| row.try_get(1)).transpose()?;
    Ok(DatabaseFacts {
        version: row.try_get(0)?,
        skips_name_resolution: row.try_get::<i64, _>(1)? != 0,
        is_read_only: row.try_get::<i64, _>(2)? != 0,
        account: row.try_get(3)?,
        uses_tls: cipher.is_some_and(|it| !it.is_empty()),
    })
}

/// Runs a statement of [`super::render`]: everything in it is a parsed name.
pub(super) async fn run(connection: &mut MySqlConnection, text: &str) -> Result<(), sqlx::Error> {
    let text = AssertSqlSafe(text.to_owned());
    sqlx::raw_sql(text).execute(connection).await?;
    Ok(())
}

async fn apply(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    operations: &[DatabaseOperation],
) -> DatabaseApplied {
    let mut done = 0;
    for operation in operations {
        if let Err(error) = one(connection, dialect, operation).await {
            return DatabaseApplied {
                done,
                failure: Some(failure(&error)),
            };
        }
        done += 1;
    }
    DatabaseApplied {
        done,
        failure: None,
    }
}

async fn one(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    operation: &DatabaseOperation,
) -> Result<(), sqlx::Error> {
    match render::statements(operation, dialect) {
        Rendered::Statements(list) => {
            for text in &list {
                run(connection, text).await?;
            }
            Ok(())
        }
        Rendered::EndSessions(account) => sessions::end(connection, dialect, &account).await,
        Rendered::DropIfEmpty(database) => drop_if_empty(connection, &database).await,
    }
}

async fn drop_if_empty(
    connection: &mut MySqlConnection,
    database: &DatabaseName,
) -> Result<(), sqlx::Error> {
    // RACE: a table made between the two is lost; the site's accounts are gone by then.
    match inspect::tables(connection, database).await? {
        0 => run(connection, &render::drop_database(database)).await,
        _ => Ok(()),
    }
}

/// What the server said.
pub(super) fn failure(error: &sqlx::Error) -> DatabaseFailure {
    use sqlx::mysql::MySqlDatabaseError;
    match error {
        sqlx::Error::Database(refused) => {
            let known = refused.try_downcast_ref::<MySqlDatabaseError>();
            DatabaseFailure {
                number: known.map_or(0, MySqlDatabaseError::number),
                message: refused.message().to_owned(),
            }
        }
        other => DatabaseFailure {
            number: 0,
            message: other.to_string(),
        },
    }
}
