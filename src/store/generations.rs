//! Generations: what was pushed, by whom, and what may be collected.

use super::{Store, StoreError, bytes, count, serial, to_sql};
use crate::clock::UnixMillis;
use crate::model::{PlatformName, Serial};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use sync_proto::digest::Digest;

/// A generation that is about to be staged.
#[derive(Clone, Debug)]
pub struct NewGeneration {
    /// Of which platform.
    pub platform: PlatformName,
    /// The manifest's root over the content.
    pub content_root: Digest,
    /// The manifest's root over the metadata.
    pub meta_root: Digest,
    /// The source's git commit, or whatever else names it.
    pub label: Option<String>,
    /// Who pushed it.
    pub author: String,
    /// When.
    pub created: UnixMillis,
    /// The source's path.
    pub source: Option<String>,
    /// How many entries it has.
    pub entries: u64,
    /// How much content it has.
    pub content_bytes: u64,
}

/// A committed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub serial: Serial,
    /// The manifest's root over the content.
    pub content_root: Digest,
    /// The manifest's root over the metadata.
    pub meta_root: Digest,
    /// The source's git commit, or whatever else names it.
    pub label: Option<String>,
    /// Who pushed it.
    pub author: String,
    /// When it was begun.
    pub created: UnixMillis,
    /// When its commit was decided.
    pub committed: UnixMillis,
    /// The source's path.
    pub source: Option<String>,
    /// How many entries it has.
    pub entries: u64,
    /// How much content it has.
    pub content_bytes: u64,
    /// Never collected.
    pub pinned: bool,
    /// Never rolled back to.
    pub bad: bool,
}

impl Store {
    /// Gives out the next serial: above every one that was given out here, and above `at_least`,
    /// the highest that a member reported. A serial is never used twice, not even after an abort.
    /// The generation is not listed until its transaction is decided.
    pub async fn begin_generation(
        &self,
        new: &NewGeneration,
        at_least: u64,
    ) -> Result<Serial, StoreError> {
        let mut tx = self.begin().await?;
        // What a killed hub began and never made a transaction of.
        sqlx::query(
            "DELETE FROM generations WHERE platform = ?1 AND committed IS NULL AND serial NOT IN \
             (SELECT serial FROM transactions WHERE platform = ?1 AND decision IS NULL)",
        )
        .bind(new.platform.as_str())
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(
            "UPDATE platforms SET last_serial = max(last_serial, ?) + 1 WHERE name = ? \
             RETURNING last_serial",
        )
        .bind(to_sql(at_least))
        .bind(new.platform.as_str())
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| StoreError::UnknownPlatform(new.platform.clone()))?;
        let number = serial(&row, "last_serial")?;
        sqlx::query(
            "INSERT INTO generations (platform, serial, content_root, meta_root, label, author, \
             created, source, entries, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.platform.as_str())
        .bind(to_sql(number.0))
        .bind(&new.content_root.as_bytes()[..])
        .bind(&new.meta_root.as_bytes()[..])
        .bind(&new.label)
        .bind(&new.author)
        .bind(new.created.0)
        .bind(&new.source)
        .bind(to_sql(new.entries))
        .bind(to_sql(new.content_bytes))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(number)
    }

    /// The committed generations of a platform, newest first.
    pub async fn generations(
        &self,
        platform: &PlatformName,
    ) -> Result<Vec<Generation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM generations WHERE platform = ? AND committed IS NOT NULL \
             ORDER BY serial DESC",
        )
        .bind(platform.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// One committed generation.
    ///
    /// # Errors
    /// [`StoreError::UnknownGeneration`].
    pub async fn generation(
        &self,
        platform: &PlatformName,
        serial: Serial,
    ) -> Result<Generation, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM generations WHERE platform = ? AND serial = ? AND committed IS NOT NULL",
        )
        .bind(platform.as_str())
        .bind(to_sql(serial.0))
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| StoreError::UnknownGeneration(platform.clone(), serial))?;
        read(&row)
    }

    /// What `rollback` means without `--to`: the newest generation before the desired one that
    /// isn't marked bad.
    pub async fn last_good_generation(
        &self,
        platform: &PlatformName,
    ) -> Result<Option<Generation>, StoreError> {
        let row = sqlx::query(
            "SELECT g.* FROM generations g JOIN platforms p ON p.name = g.platform \
             WHERE g.platform = ? AND g.committed IS NOT NULL AND NOT g.bad \
             AND g.serial < p.desired ORDER BY g.serial DESC LIMIT 1",
        )
        .bind(platform.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// The generations beyond the newest `keep`, oldest first: neither pinned nor desired.
    pub async fn collectable_generations(
        &self,
        platform: &PlatformName,
        keep: u32,
    ) -> Result<Vec<Generation>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.* FROM generations g JOIN platforms p ON p.name = g.platform \
             WHERE g.platform = ?1 AND g.committed IS NOT NULL AND NOT g.pinned \
             AND g.serial IS NOT p.desired AND g.serial NOT IN \
             (SELECT serial FROM generations WHERE platform = ?1 AND committed IS NOT NULL \
              ORDER BY serial DESC LIMIT ?2) ORDER BY g.serial",
        )
        .bind(platform.as_str())
        .bind(i64::from(keep))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Forgets a generation that was collected.
    pub async fn forget_generation(
        &self,
        platform: &PlatformName,
        serial: Serial,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM generations WHERE platform = ? AND serial = ?")
            .bind(platform.as_str())
            .bind(to_sql(serial.0))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Pins a generation, so that it is kept, or lets go of it.
    pub async fn pin_generation(
        &self,
        platform: &PlatformName,
        serial: Serial,
        pinned: bool,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE generations SET pinned = ? WHERE platform = ? AND serial = ? \
             AND committed IS NOT NULL",
        );
        self.flag(query, platform, serial, pinned).await
    }

    /// Marks a generation bad, so that a rollback passes over it, or good again.
    pub async fn mark_generation(
        &self,
        platform: &PlatformName,
        serial: Serial,
        bad: bool,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE generations SET bad = ? WHERE platform = ? AND serial = ? \
             AND committed IS NOT NULL",
        );
        self.flag(query, platform, serial, bad).await
    }

    async fn flag(
        &self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
        platform: &PlatformName,
        serial: Serial,
        value: bool,
    ) -> Result<(), StoreError> {
        let changed = query
            .bind(value)
            .bind(platform.as_str().to_owned())
            .bind(to_sql(serial.0))
            .execute(&self.pool)
            .await?;
        match changed.rows_affected() {
            0 => Err(StoreError::UnknownGeneration(platform.clone(), serial)),
            _ => Ok(()),
        }
    }
}

fn read(row: &SqliteRow) -> Result<Generation, StoreError> {
    Ok(Generation {
        serial: serial(row, "serial")?,
        content_root: Digest::from_bytes(bytes(row, "content_root")?),
        meta_root: Digest::from_bytes(bytes(row, "meta_root")?),
        label: row.try_get("label")?,
        author: row.try_get("author")?,
        created: UnixMillis(row.try_get("created")?),
        committed: UnixMillis(row.try_get("committed")?),
        source: row.try_get("source")?,
        entries: count(row, "entries")?,
        content_bytes: count(row, "bytes")?,
        pinned: row.try_get("pinned")?,
        bad: row.try_get("bad")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{committed, new_generation, platform_store};
    use super::*;

    #[tokio::test]
    async fn serials_rise_past_aborts_and_past_what_members_know() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let new = new_generation(&name);
        assert_eq!(store.begin_generation(&new, 0).await.unwrap(), Serial(1));
        assert_eq!(store.begin_generation(&new, 0).await.unwrap(), Serial(2));
        assert_eq!(store.begin_generation(&new, 41).await.unwrap(), Serial(42));
        assert_eq!(
            store.generations(&name).await.unwrap(),
            [],
            "none committed"
        );
    }

    #[tokio::test]
    async fn rollback_passes_over_bad_generations() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        assert_eq!(store.last_good_generation(&name).await.unwrap(), None);
        for _ in 0..3 {
            committed(&store, &name).await;
        }
        let good = || async { store.last_good_generation(&name).await.unwrap() };
        assert_eq!(good().await.unwrap().serial, Serial(2));
        store.mark_generation(&name, Serial(2), true).await.unwrap();
        assert_eq!(good().await.unwrap().serial, Serial(1));
        store
            .mark_generation(&name, Serial(2), false)
            .await
            .unwrap();
        assert_eq!(good().await.unwrap().serial, Serial(2));
        assert!(store.mark_generation(&name, Serial(9), true).await.is_err());
    }

    #[tokio::test]
    async fn pinned_and_desired_generations_are_never_collected() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        for _ in 0..6 {
            committed(&store, &name).await;
        }
        store.pin_generation(&name, Serial(2), true).await.unwrap();
        store.recover_desired(&name, Serial(3)).await.unwrap();
        let old = store.collectable_generations(&name, 2).await.unwrap();
        let serials: Vec<u64> = old.iter().map(|g| g.serial.0).collect();
        assert_eq!(serials, [1, 4]);
        store.forget_generation(&name, Serial(1)).await.unwrap();
        assert!(store.generation(&name, Serial(1)).await.is_err());
        assert_eq!(store.generations(&name).await.unwrap().len(), 5);
        assert!(store.generation(&name, Serial(2)).await.unwrap().pinned);
    }
}
