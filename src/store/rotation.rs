//! Which servers were taken out of rotation, by whom, and why: so that a hub that died in between
//! knows whom to put back, and nobody puts back what a person took out.

use super::{Store, StoreError, parsed};
use crate::clock::UnixMillis;
use crate::model::ServerName;
use sqlx::Row;
use std::fmt;
use std::str::FromStr;

/// Why a server is out of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody wants it so: only a person puts it back.
    Person,
    /// It was being changed.
    Push,
    /// It isn't at the desired generation, or doesn't answer as it should.
    Stale,
}

impl Cause {
    /// The word for it in the database, in JSON and for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Push => "push",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "person" => Ok(Self::Person),
            "push" => Ok(Self::Push),
            "stale" => Ok(Self::Stale),
            _ => Err(()),
        }
    }
}

/// One server out of rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfRotation {
    /// Which.
    pub server: ServerName,
    /// Why, in one word.
    pub cause: Cause,
    /// Why, for those who ask later.
    pub reason: String,
    /// Who took it out.
    pub author: String,
    /// When.
    pub since: UnixMillis,
}

impl Store {
    /// Records that a server is out of rotation. What a person decided stays a person's.
    pub async fn take_out(&self, out: &OutOfRotation) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO out_of_rotation (server, cause, reason, author, since) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (server) DO UPDATE SET cause = excluded.cause, \
             reason = excluded.reason, author = excluded.author, since = excluded.since \
             WHERE cause <> 'person' OR excluded.cause = 'person'",
        )
        .bind(out.server.as_str())
        .bind(out.cause.as_str())
        .bind(&out.reason)
        .bind(&out.author)
        .bind(out.since.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that a server is meant to serve. False if it was.
    pub async fn put_back(&self, server: &ServerName) -> Result<bool, StoreError> {
        let changed = sqlx::query("DELETE FROM out_of_rotation WHERE server = ?")
            .bind(server.as_str())
            .execute(&self.pool)
            .await?;
        Ok(changed.rows_affected() > 0)
    }

    /// Every server that is out, by name.
    pub async fn out_of_rotation(&self) -> Result<Vec<OutOfRotation>, StoreError> {
        let rows = sqlx::query("SELECT * FROM out_of_rotation ORDER BY server")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(OutOfRotation {
                    server: parsed(row, "server")?,
                    cause: parsed(row, "cause")?,
                    reason: row.try_get("reason")?,
                    author: row.try_get("author")?,
                    since: UnixMillis(row.try_get("since")?),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_person_took_out_no_task_claims() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.sqlite")).await.unwrap();
        let out = |cause, reason: &str| OutOfRotation {
            server: "web1".parse().unwrap(),
            cause,
            reason: reason.into(),
            author: "eve".into(),
            since: UnixMillis(5),
        };
        store.take_out(&out(Cause::Push, "a push")).await.unwrap();
        store.take_out(&out(Cause::Person, "a disk")).await.unwrap();
        store.take_out(&out(Cause::Stale, "stale")).await.unwrap();
        let all = store.out_of_rotation().await.unwrap();
        assert_eq!(all, [out(Cause::Person, "a disk")]);
        assert!(store.put_back(&"web1".parse().unwrap()).await.unwrap());
        assert!(!store.put_back(&"web1".parse().unwrap()).await.unwrap());
    }
}
