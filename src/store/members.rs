//! What the hub last saw of each member of each platform.

use super::{Store, StoreError, count, maybe_serial, parsed, to_sql};
use crate::clock::UnixMillis;
use crate::model::{Outcome, PlatformName, Serial, ServerName};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// The last thing that happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// Which server.
    pub server: ServerName,
    /// The generation that it is at, as far as the hub knows.
    pub serial: Option<Serial>,
    /// What became of it in the last task.
    pub outcome: Outcome,
    /// Since when it has had this outcome and generation.
    pub since: UnixMillis,
    /// What went wrong, if anything.
    pub error: Option<MemberError>,
    /// Stream bytes from the hub in the last task.
    pub sent_bytes: u64,
    /// Stream bytes to the hub in the last task.
    pub received_bytes: u64,
}

/// What went wrong on a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberError {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Store {
    /// Records what became of a member. `since` stays while outcome and generation stay.
    pub async fn set_member(
        &self,
        platform: &PlatformName,
        state: &MemberState,
    ) -> Result<(), StoreError> {
        self.set_members(platform, std::slice::from_ref(state))
            .await
    }

    /// The same of several, all at once.
    pub async fn set_members(
        &self,
        platform: &PlatformName,
        states: &[MemberState],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for state in states {
            write(&mut tx, platform, state).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The members of a platform that were seen, by name.
    pub async fn members(&self, platform: &PlatformName) -> Result<Vec<MemberState>, StoreError> {
        let rows = sqlx::query("SELECT * FROM members WHERE platform = ? ORDER BY server")
            .bind(platform.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Forgets one member of one platform. False if it wasn't known.
    pub async fn forget_member(
        &self,
        platform: &PlatformName,
        server: &ServerName,
    ) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM members WHERE platform = ? AND server = ?")
            .bind(platform.as_str())
            .bind(server.as_str())
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }
}

async fn write(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    platform: &PlatformName,
    state: &MemberState,
) -> Result<(), StoreError> {
    let error = state.error.as_ref();
    let written = sqlx::query(
        "INSERT INTO members (platform, server, serial, outcome, since, error_code, \
         error_message, error_hint, sent_bytes, received_bytes) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (platform, server) DO UPDATE SET \
         since = iif(serial IS excluded.serial AND outcome = excluded.outcome, \
                     since, excluded.since), \
         serial = excluded.serial, outcome = excluded.outcome, \
         error_code = excluded.error_code, error_message = excluded.error_message, \
         error_hint = excluded.error_hint, sent_bytes = excluded.sent_bytes, \
         received_bytes = excluded.received_bytes",
    )
    .bind(platform.as_str())
    .bind(state.server.as_str())
    .bind(state.serial.map(|serial| to_sql(serial.0)))
    .bind(state.outcome.as_str())
    .bind(state.since.0)
    .bind(error.map(|error| &error.code))
    .bind(error.map(|error| &error.message))
    .bind(error.and_then(|error| error.hint.as_ref()))
    .bind(to_sql(state.sent_bytes))
    .bind(to_sql(state.received_bytes))
    .execute(&mut **tx)
    .await;
    match written {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.as_database_error() {
            Some(refused) if refused.is_foreign_key_violation() => {
                StoreError::UnknownPlatform(platform.clone())
            }
            _ => error.into(),
        }),
    }
}

fn read(row: &SqliteRow) -> Result<MemberState, StoreError> {
    let code: Option<String> = row.try_get("error_code")?;
    let error = match code {
        Some(code) => Some(MemberError {
            code,
            message: row
                .try_get::<Option<_>, _>("error_message")?
                .unwrap_or_default(),
            hint: row.try_get("error_hint")?,
        }),
        None => None,
    };
    Ok(MemberState {
        server: parsed(row, "server")?,
        serial: maybe_serial(row, "serial")?,
        outcome: parsed(row, "outcome")?,
        since: UnixMillis(row.try_get("since")?),
        error,
        sent_bytes: count(row, "sent_bytes")?,
        received_bytes: count(row, "received_bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::platform_store;
    use super::*;

    fn state(outcome: Outcome, serial: u64, since: i64) -> MemberState {
        MemberState {
            server: "web1".parse().unwrap(),
            serial: Some(Serial(serial)),
            outcome,
            since: UnixMillis(since),
            error: None,
            sent_bytes: 10,
            received_bytes: 20,
        }
    }

    #[tokio::test]
    async fn since_tells_how_long_a_member_has_been_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let mut expected = state(Outcome::Stale, 4, 100);
        expected.error = Some(MemberError {
            code: "unreachable".into(),
            message: "No answer in 5 s".into(),
            hint: Some("open UDP port 4600".into()),
        });
        store.set_member(&name, &expected).await.unwrap();
        assert_eq!(store.members(&name).await.unwrap(), [expected.clone()]);

        expected.since = UnixMillis(200);
        expected.sent_bytes = 99;
        store.set_member(&name, &expected).await.unwrap();
        let seen = store.members(&name).await.unwrap();
        assert_eq!((seen[0].since, seen[0].sent_bytes), (UnixMillis(100), 99));

        let next = state(Outcome::Committed, 5, 300);
        store.set_member(&name, &next).await.unwrap();
        assert_eq!(store.members(&name).await.unwrap()[0], next);
        assert!(store.forget_member(&name, &next.server).await.unwrap());
        assert_eq!(store.members(&name).await.unwrap(), []);
    }

    #[tokio::test]
    async fn forgetting_a_server_or_a_platform_forgets_the_member() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let member = state(Outcome::Committed, 1, 1);
        store.set_member(&name, &member).await.unwrap();
        store.forget_server(&member.server).await.unwrap();
        assert_eq!(store.members(&name).await.unwrap(), []);
        store.forget_platform(&name).await.unwrap();
        assert!(matches!(
            store.set_member(&name, &member).await,
            Err(StoreError::UnknownPlatform(_))
        ));
    }
}
