//! The record of tasks: what was done, on what, by whom, and how it ended.

use super::{Store, StoreError};
use crate::clock::UnixMillis;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::fmt;

/// A task's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TaskId(pub i64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task that is about to start.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// `push`, `resync`, `rollback`, ...
    pub kind: String,
    /// What it works on, such as `platform drupal`.
    pub target: String,
    /// Who started it.
    pub who: String,
    /// The command line, which never holds a secret.
    pub command_line: String,
    /// When.
    pub started: UnixMillis,
}

/// A recorded task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// `push`, `resync`, `rollback`, ...
    pub kind: String,
    /// What it works on.
    pub target: String,
    /// Who started it.
    pub who: String,
    /// The command line.
    pub command_line: String,
    /// When it started.
    pub started: UnixMillis,
    /// When it ended; `None` while it runs, or if it was killed.
    pub ended: Option<UnixMillis>,
    /// Its exit code.
    pub exit: Option<i32>,
    /// Its result in one line.
    pub summary: Option<String>,
}

impl Store {
    /// Records the start of a task.
    pub async fn start_task(&self, new: &NewTask) -> Result<TaskId, StoreError> {
        let done = sqlx::query(
            "INSERT INTO tasks (kind, target, who, command_line, started) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&new.kind)
        .bind(&new.target)
        .bind(&new.who)
        .bind(&new.command_line)
        .bind(new.started.0)
        .execute(&self.pool)
        .await?;
        Ok(TaskId(done.last_insert_rowid()))
    }

    /// Records how a task ended. A task ends once.
    pub async fn end_task(
        &self,
        id: TaskId,
        ended: UnixMillis,
        exit: i32,
        summary: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE tasks SET ended = ?, exit = ?, summary = ? WHERE id = ? AND ended IS NULL",
        )
        .bind(ended.0)
        .bind(exit)
        .bind(summary)
        .bind(id.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The latest tasks, newest first.
    pub async fn tasks(&self, at_most: u32) -> Result<Vec<Task>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tasks ORDER BY id DESC LIMIT ?")
            .bind(i64::from(at_most))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// One task, if it is known.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let row = sqlx::query("SELECT * FROM tasks WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }
}

fn read(row: &SqliteRow) -> Result<Task, StoreError> {
    Ok(Task {
        id: TaskId(row.try_get("id")?),
        kind: row.try_get("kind")?,
        target: row.try_get("target")?,
        who: row.try_get("who")?,
        command_line: row.try_get("command_line")?,
        started: UnixMillis(row.try_get("started")?),
        ended: row.try_get::<Option<i64>, _>("ended")?.map(UnixMillis),
        exit: row.try_get("exit")?,
        summary: row.try_get("summary")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_is_recorded_before_it_ends_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let new = NewTask {
            kind: "push".into(),
            target: "platform drupal".into(),
            who: "alice (sudo root)".into(),
            command_line: "fanout push platform drupal".into(),
            started: UnixMillis(1),
        };
        let first = store.start_task(&new).await.unwrap();
        let second = store.start_task(&new).await.unwrap();
        assert!(second > first);
        store
            .end_task(first, UnixMillis(2), 3, "2 of 3 members")
            .await
            .unwrap();
        store
            .end_task(first, UnixMillis(9), 0, "again")
            .await
            .unwrap();
        let task = store.task(first).await.unwrap().unwrap();
        assert_eq!((task.ended, task.exit), (Some(UnixMillis(2)), Some(3)));
        assert_eq!(task.summary.as_deref(), Some("2 of 3 members"));
        let latest = store.tasks(1).await.unwrap();
        assert_eq!(latest.len(), 1);
        assert_eq!((latest[0].id, latest[0].ended), (second, None));
    }
}
