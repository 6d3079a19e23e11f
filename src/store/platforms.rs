//! Platforms: which tree, which desired generation, which fence, locked or not.

use super::{Store, StoreError, bytes, count, maybe_serial, parsed, to_sql, unless_taken};
use crate::clock::UnixMillis;
use crate::model::{PlatformName, Serial, TreeId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// What the hub remembers about a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformState {
    /// Its name in the inventory.
    pub name: PlatformName,
    /// Its tree's id on every member.
    pub tree: TreeId,
    /// The generation that all members should be at; none before the first commit.
    pub desired: Option<Serial>,
    /// The highest serial that was ever given out.
    pub last_serial: u64,
    /// The highest fence that was ever given out.
    pub last_fence: u64,
    /// A rollback suspended `follow` until the next explicit push.
    pub follow_suspended: bool,
    /// The lock that a person put on it.
    pub locked: Option<PlatformLock>,
}

/// A lock that a person put on a platform: nothing changes while it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformLock {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: UnixMillis,
}

impl Store {
    /// Records a platform, under an id that the caller drew.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name or the id is known.
    pub async fn add_platform(&self, name: &PlatformName, tree: TreeId) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO platforms (name, tree_id) VALUES (?, ?)")
            .bind(name.as_str())
            .bind(&tree.as_bytes()[..])
            .execute(&self.pool)
            .await
            .map_err(|error| unless_taken(error, "platform", name))?;
        Ok(())
    }

    /// Every platform, by name.
    pub async fn platforms(&self) -> Result<Vec<PlatformState>, StoreError> {
        let rows = sqlx::query("SELECT * FROM platforms ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// One platform, if it is known.
    pub async fn platform(&self, name: &PlatformName) -> Result<Option<PlatformState>, StoreError> {
        let row = sqlx::query("SELECT * FROM platforms WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Forgets a platform, its generations, members and rules. Its transactions stay: a member
    /// in doubt may still ask. False if it wasn't known.
    pub async fn forget_platform(&self, name: &PlatformName) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM platforms WHERE name = ?")
            .bind(name.as_str())
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// A fence above every one that was given out here and above `at_least`, the highest that a
    /// member reported. Durable when it returns.
    pub async fn next_fence(&self, name: &PlatformName, at_least: u64) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "UPDATE platforms SET last_fence = max(last_fence, ?) + 1 WHERE name = ? \
             RETURNING last_fence",
        )
        .bind(to_sql(at_least))
        .bind(name.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let row = row.ok_or_else(|| StoreError::UnknownPlatform(name.clone()))?;
        count(&row, "last_fence")
    }

    /// Sets the desired generation by hand, for a hub that reads its state back from the members.
    /// A push or rollback does it by [`Store::decide`].
    pub async fn recover_desired(
        &self,
        name: &PlatformName,
        desired: Serial,
    ) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE platforms SET desired = ?1, last_serial = max(last_serial, ?1) WHERE name = ?2",
        )
        .bind(to_sql(desired.0))
        .bind(name.as_str())
        .execute(&self.pool)
        .await?;
        self.expect_platform(name, changed.rows_affected())
    }

    /// Suspends or resumes `follow`.
    pub async fn suspend_follow(
        &self,
        name: &PlatformName,
        suspended: bool,
    ) -> Result<(), StoreError> {
        // After every push, which mostly changes nothing about it: that needs no write.
        let state = self.platform(name).await?;
        if state.is_some_and(|state| state.follow_suspended == suspended) {
            return Ok(());
        }
        let changed = sqlx::query("UPDATE platforms SET follow_suspended = ? WHERE name = ?")
            .bind(suspended)
            .bind(name.as_str())
            .execute(&self.pool)
            .await?;
        self.expect_platform(name, changed.rows_affected())
    }

    /// Puts a person's lock on a platform. The one that is there stays, and is returned.
    pub async fn lock_platform(
        &self,
        name: &PlatformName,
        lock: &PlatformLock,
    ) -> Result<Option<PlatformLock>, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT * FROM platforms WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::UnknownPlatform(name.clone()))?;
        if let Some(there) = read(&row)?.locked {
            return Ok(Some(there));
        }
        sqlx::query(
            "UPDATE platforms SET locked_by = ?, locked_reason = ?, locked_since = ? \
             WHERE name = ?",
        )
        .bind(&lock.by)
        .bind(&lock.reason)
        .bind(lock.since.0)
        .bind(name.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Takes a person's lock off. False if there was none.
    pub async fn unlock_platform(&self, name: &PlatformName) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "UPDATE platforms SET locked_by = NULL, locked_reason = NULL, locked_since = NULL \
             WHERE name = ? AND locked_since IS NOT NULL",
        )
        .bind(name.as_str())
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    fn expect_platform(&self, name: &PlatformName, changed_rows: u64) -> Result<(), StoreError> {
        match changed_rows {
            0 => Err(StoreError::UnknownPlatform(name.clone())),
            _ => Ok(()),
        }
    }
}

fn read(row: &SqliteRow) -> Result<PlatformState, StoreError> {
    let since: Option<i64> = row.try_get("locked_since")?;
    let locked = match since {
        Some(since) => Some(PlatformLock {
            by: row
                .try_get::<Option<_>, _>("locked_by")?
                .unwrap_or_default(),
            reason: row
                .try_get::<Option<_>, _>("locked_reason")?
                .unwrap_or_default(),
            since: UnixMillis(since),
        }),
        None => None,
    };
    Ok(PlatformState {
        name: parsed(row, "name")?,
        tree: TreeId::from_bytes(bytes(row, "tree_id")?),
        desired: maybe_serial(row, "desired")?,
        last_serial: count(row, "last_serial")?,
        last_fence: count(row, "last_fence")?,
        follow_suspended: row.try_get("follow_suspended")?,
        locked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(dir: &tempfile::TempDir) -> (Store, PlatformName) {
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let name: PlatformName = "drupal".parse().unwrap();
        store
            .add_platform(&name, TreeId::from_bytes([7; 16]))
            .await
            .unwrap();
        (store, name)
    }

    #[tokio::test]
    async fn fences_only_rise_also_past_what_a_member_knows_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = store(&dir).await;
        assert_eq!(store.next_fence(&name, 0).await.unwrap(), 1);
        assert_eq!(store.next_fence(&name, 41).await.unwrap(), 42);
        assert_eq!(store.next_fence(&name, 5).await.unwrap(), 43);
        drop(store);
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        assert_eq!(store.next_fence(&name, 0).await.unwrap(), 44);
        let other: PlatformName = "other".parse().unwrap();
        assert!(matches!(
            store.next_fence(&other, 0).await,
            Err(StoreError::UnknownPlatform(_))
        ));
    }

    #[tokio::test]
    async fn fences_given_out_at_the_same_time_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = store(&dir).await;
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (store, name) = (store.clone(), name.clone());
                tokio::spawn(async move { store.next_fence(&name, 0).await.unwrap() })
            })
            .collect();
        let mut fences = Vec::new();
        for task in tasks {
            fences.push(task.await.unwrap());
        }
        fences.sort_unstable();
        assert_eq!(fences, (1..=20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_second_lock_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = store(&dir).await;
        let lock = |by: &str| PlatformLock {
            by: by.into(),
            reason: "release".into(),
            since: UnixMillis(9),
        };
        assert_eq!(
            store.lock_platform(&name, &lock("alice")).await.unwrap(),
            None
        );
        let there = store.lock_platform(&name, &lock("bob")).await.unwrap();
        assert_eq!(there, Some(lock("alice")));
        let state = store.platform(&name).await.unwrap().unwrap();
        assert_eq!(state.locked, Some(lock("alice")));
        assert!(store.unlock_platform(&name).await.unwrap());
        assert!(!store.unlock_platform(&name).await.unwrap());
    }

    #[tokio::test]
    async fn a_forgotten_platform_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = store(&dir).await;
        store.suspend_follow(&name, true).await.unwrap();
        store.recover_desired(&name, Serial(3)).await.unwrap();
        let state = store.platform(&name).await.unwrap().unwrap();
        assert!(state.follow_suspended);
        assert_eq!((state.desired, state.last_serial), (Some(Serial(3)), 3));
        assert!(store.forget_platform(&name).await.unwrap());
        assert_eq!(store.platforms().await.unwrap(), []);
        assert!(store.suspend_follow(&name, true).await.is_err());
    }
}
