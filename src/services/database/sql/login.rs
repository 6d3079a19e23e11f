//! A site's own login, as its members make it.

use super::SqlError;
use super::admin::{CONNECT, Endpoint, connect, failure};
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use std::time::Instant;
use sync_proto::wire::service::database::{DatabaseLogin, LoggedIn, ProbeAnswer};

/// Logs in with a site's account, and asks who it is there.
///
/// # Errors
/// The server can't be reached. One that refuses has answered.
pub async fn try_login(login: &DatabaseLogin) -> Result<ProbeAnswer, SqlError> {
    let endpoint = Endpoint::Tcp {
        host: login.host.clone(),
        port: login.port,
    };
    let began = Instant::now();
    let user = login.user.as_str();
    let (password, database) = (Some(login.password.as_str()), Some(login.database.as_str()));
    let mut connection = match connect(&endpoint, user, password, database).await {
        Ok(connection) => connection,
        Err(SqlError::Connect { source, .. }) if source.as_database_error().is_some() => {
            return Ok(ProbeAnswer::Denied(failure(&source)));
        }
        Err(error) => return Err(error),
    };
    let asked = tokio::time::timeout(CONNECT, ask(&mut connection)).await;
    let (account, user, role) = match asked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) if error.as_database_error().is_some() => {
            return Ok(ProbeAnswer::Denied(failure(&error)));
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            return Err(SqlError::Silent {
                at: endpoint.to_string(),
                limit: CONNECT,
            });
        }
    };
    let _closed = connection.close().await;
    Ok(ProbeAnswer::LoggedIn(LoggedIn {
        account,
        user,
        role: role.filter(|it| it != "NONE").unwrap_or_default(),
        elapsed_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    }))
}

async fn ask(
    connection: &mut MySqlConnection,
) -> Result<(String, String, Option<String>), sqlx::Error> {
    let row = sqlx::query(
        "SELECT CONVERT(CURRENT_USER() USING utf8mb4), CONVERT(USER() USING utf8mb4), \
         CONVERT(CURRENT_ROLE() USING utf8mb4), \
         (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE())",
    )
    .fetch_one(connection)
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}
