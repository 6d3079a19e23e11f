//! The steps of a task, written before and after each, and which server serves which site.

use super::TaskId;
use super::{Store, StoreError, corrupt};
use crate::clock::UnixMillis;
use crate::model::{ServerName, SiteUri};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::fmt;
use std::str::FromStr;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Something before it isn't done yet.
    Waiting,
    /// It is being worked on; if its task has ended, it was cut off.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// Something before it failed.
    Skipped,
    /// It was done and taken back.
    Undone,
    /// It was done, and taking it back failed.
    Stuck,
}

impl StepState {
    /// The word for it in the database, in JSON and for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Undone => "undone",
            Self::Stuck => "stuck",
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StepState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [
            Self::Waiting,
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Skipped,
            Self::Undone,
            Self::Stuck,
        ];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// A recorded step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepRecord {
    /// Its place in the task.
    pub number: u32,
    /// What it works on.
    pub title: String,
    /// The server, if it is about one.
    pub member: Option<String>,
    /// Where it stands.
    pub state: StepState,
    /// When it began.
    pub started: Option<UnixMillis>,
    /// When it ended.
    pub ended: Option<UnixMillis>,
    /// What came of it.
    pub message: String,
    /// What its undo needs.
    #[serde(skip)]
    pub undo: Option<String>,
}

impl Store {
    /// Records the steps that a task is going to take.
    pub async fn plan_steps(&self, task: TaskId, steps: &[StepRecord]) -> Result<(), StoreError> {
        let mut changing = self.begin().await?;
        for step in steps {
            sqlx::query(
                "INSERT INTO steps (task, number, title, member, state, message) \
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(task.0)
            .bind(i64::from(step.number))
            .bind(&step.title)
            .bind(&step.member)
            .bind(step.state.as_str())
            .bind(&step.message)
            .execute(&mut *changing)
            .await?;
        }
        changing.commit().await?;
        Ok(())
    }

    /// Records that a step begins.
    pub async fn begin_step(
        &self,
        task: TaskId,
        number: u32,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE steps SET state = 'running', started = ? WHERE task = ? AND number = ?",
        )
        .bind(now.0)
        .bind(task.0)
        .bind(i64::from(number))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records how a step ended. `undo` stays what it was if there is none.
    pub async fn end_step(
        &self,
        task: TaskId,
        number: u32,
        state: StepState,
        now: UnixMillis,
        message: &str,
        undo: Option<&str>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE steps SET state = ?, ended = ?, message = ?, undo = coalesce(?, undo) \
             WHERE task = ? AND number = ?",
        )
        .bind(state.as_str())
        .bind(now.0)
        .bind(message)
        .bind(undo)
        .bind(task.0)
        .bind(i64::from(number))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The steps of a task, in their order.
    pub async fn steps(&self, task: TaskId) -> Result<Vec<StepRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM steps WHERE task = ? ORDER BY number")
            .bind(task.0)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Records which sites a server serves now; those that it served before are forgotten.
    pub async fn set_served(
        &self,
        server: &ServerName,
        sites: &[SiteUri],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut changing = self.begin().await?;
        let known = sqlx::query("SELECT site FROM served WHERE server = ?")
            .bind(server.as_str())
            .fetch_all(&mut *changing)
            .await?;
        for row in &known {
            let site: String = row.try_get("site")?;
            if !sites.iter().any(|kept| kept.as_str() == site) {
                sqlx::query("DELETE FROM served WHERE server = ? AND site = ?")
                    .bind(server.as_str())
                    .bind(site)
                    .execute(&mut *changing)
                    .await?;
            }
        }
        for site in sites {
            sqlx::query("INSERT OR IGNORE INTO served (server, site, since) VALUES (?, ?, ?)")
                .bind(server.as_str())
                .bind(site.as_str())
                .bind(now.0)
                .execute(&mut *changing)
                .await?;
        }
        changing.commit().await?;
        Ok(())
    }

    /// Which server serves which sites, as far as fanout put them there.
    pub async fn served(&self) -> Result<Vec<(ServerName, SiteUri)>, StoreError> {
        let rows = sqlx::query("SELECT server, site FROM served ORDER BY server, site")
            .fetch_all(&self.pool)
            .await?;
        let read =
            |row: &SqliteRow| Ok((super::parsed(row, "server")?, super::parsed(row, "site")?));
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<StepRecord, StoreError> {
    let state: String = row.try_get("state")?;
    let number: i64 = row.try_get("number")?;
    Ok(StepRecord {
        number: u32::try_from(number).map_err(|_| corrupt("number", number))?,
        title: row.try_get("title")?,
        member: row.try_get("member")?,
        state: state.parse().map_err(|()| corrupt("state", state))?,
        started: row.try_get::<Option<i64>, _>("started")?.map(UnixMillis),
        ended: row.try_get::<Option<i64>, _>("ended")?.map(UnixMillis),
        message: row.try_get("message")?,
        undo: row.try_get("undo")?,
    })
}
