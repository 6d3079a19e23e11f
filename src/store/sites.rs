//! What is remembered of sites: what their visitors see, who runs their periodic work, and which
//! uploads were brought to whom.

use super::{Store, StoreError, bytes, corrupt, parsed};
use crate::clock::UnixMillis;
use crate::model::{ServerName, SiteUri};
use sqlx::Row;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use sync_proto::digest::Digest;
use sync_proto::path::RelPath;

/// What visitors see instead of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SiteMode {
    /// A page that says that there is no such site at the moment.
    Disabled,
    /// A page that says that it is worked on.
    Maintenance,
}

impl SiteMode {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for SiteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SiteMode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "disabled" => Ok(Self::Disabled),
            "maintenance" => Ok(Self::Maintenance),
            _ => Err(()),
        }
    }
}

/// A mode with who set it, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteModeState {
    /// Which.
    pub mode: SiteMode,
    /// Since when.
    pub since: UnixMillis,
    /// By whom.
    pub set_by: String,
}

/// A site's periodic work as it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CronState {
    /// Who ran it last, or runs it.
    pub runner: Option<ServerName>,
    /// Until when nobody else may.
    pub lease_until: Option<UnixMillis>,
    /// When the last run that ended well began.
    pub ended_well: Option<UnixMillis>,
    /// What the last run said.
    pub message: String,
}

/// The right to run a site's periodic work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronLease([u8; 16]);

impl Store {
    /// What visitors of a site see; `None`: the site.
    pub async fn site_mode(&self, site: &SiteUri) -> Result<Option<SiteModeState>, StoreError> {
        let row = sqlx::query("SELECT mode, since, set_by FROM site_modes WHERE site = ?")
            .bind(site.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let mode: String = row.try_get("mode")?;
            Ok(SiteModeState {
                mode: mode.parse().map_err(|()| corrupt("mode", &mode))?,
                since: UnixMillis(row.try_get("since")?),
                set_by: row.try_get("set_by")?,
            })
        })
        .transpose()
    }

    /// Every site whose visitors see something else.
    pub async fn site_modes(&self) -> Result<BTreeMap<SiteUri, SiteMode>, StoreError> {
        let rows = sqlx::query("SELECT site, mode FROM site_modes")
            .fetch_all(&self.pool)
            .await?;
        let read = |row| {
            let mode: String = Row::try_get(row, "mode")?;
            let mode = mode.parse().map_err(|()| corrupt("mode", &mode))?;
            Ok((parsed(row, "site")?, mode))
        };
        rows.iter().map(read).collect()
    }

    /// Sets what visitors of a site see. True if it was something else before.
    pub async fn set_site_mode(
        &self,
        site: &SiteUri,
        mode: Option<SiteMode>,
        now: UnixMillis,
        by: &str,
    ) -> Result<bool, StoreError> {
        let done = match mode {
            None => {
                sqlx::query("DELETE FROM site_modes WHERE site = ?")
                    .bind(site.as_str())
                    .execute(&self.pool)
                    .await?
            }
            Some(mode) => {
                sqlx::query(
                    "INSERT INTO site_modes (site, mode, since, set_by) VALUES (?, ?, ?, ?) \
                     ON CONFLICT (site) DO UPDATE SET mode = excluded.mode, \
                     since = excluded.since, set_by = excluded.set_by WHERE mode != excluded.mode",
                )
                .bind(site.as_str())
                .bind(mode.as_str())
                .bind(now.0)
                .bind(by)
                .execute(&self.pool)
                .await?
            }
        };
        Ok(done.rows_affected() > 0)
    }

    /// A site's periodic work.
    pub async fn cron(&self, site: &SiteUri) -> Result<CronState, StoreError> {
        let row = sqlx::query("SELECT * FROM cron_runs WHERE site = ?")
            .bind(site.as_str())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else {
            return Ok(CronState::default());
        };
        let runner: Option<String> = row.try_get("runner")?;
        let runner = runner
            .map(|name| name.parse().map_err(|_| corrupt("runner", name)))
            .transpose()?;
        let time = |column| -> Result<Option<UnixMillis>, StoreError> {
            let value: Option<i64> = row.try_get(column)?;
            Ok(value.map(UnixMillis))
        };
        Ok(CronState {
            runner,
            lease_until: time("lease_until")?,
            ended_well: time("ended_well")?,
            message: row.try_get("message")?,
        })
    }

    /// Takes the right to run a site's periodic work until then; `None` if somebody else has it.
    pub async fn take_cron(
        &self,
        site: &SiteUri,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<CronLease>, StoreError> {
        let lease: [u8; 16] = rand::random();
        let done = sqlx::query(
            "INSERT INTO cron_runs (site, lease, lease_until, started) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (site) DO UPDATE SET lease = ?2, lease_until = ?3, started = ?4 \
             WHERE lease IS NULL OR lease_until <= ?4",
        )
        .bind(site.as_str())
        .bind(&lease[..])
        .bind(until.0)
        .bind(now.0)
        .execute(&self.pool)
        .await?;
        Ok((done.rows_affected() > 0).then_some(CronLease(lease)))
    }

    /// Notes who is asked to run it now.
    pub async fn note_cron_runner(
        &self,
        site: &SiteUri,
        lease: CronLease,
        runner: &ServerName,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE cron_runs SET runner = ? WHERE site = ? AND lease = ?")
            .bind(runner.as_str())
            .bind(site.as_str())
            .bind(&lease.0[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Gives the right back, with what came of it. Whoever outlived their lease changes nothing.
    pub async fn end_cron(
        &self,
        site: &SiteUri,
        lease: CronLease,
        ended_well: bool,
        message: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE cron_runs SET lease = NULL, lease_until = NULL, message = ?1, \
             ended_well = CASE WHEN ?2 THEN started ELSE ended_well END \
             WHERE site = ?3 AND lease = ?4",
        )
        .bind(message)
        .bind(ended_well)
        .bind(site.as_str())
        .bind(&lease.0[..])
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What was brought to a member of one directory of uploads.
    pub async fn delivered(
        &self,
        site: &SiteUri,
        member: &ServerName,
        place: &RelPath,
    ) -> Result<BTreeMap<RelPath, Digest>, StoreError> {
        let rows = sqlx::query(
            "SELECT path, digest FROM delivered_uploads WHERE site = ? AND member = ? AND place = ?",
        )
        .bind(site.as_str())
        .bind(member.as_str())
        .bind(place.as_bytes())
        .fetch_all(&self.pool)
        .await?;
        let read = |row| {
            let path: Vec<u8> = Row::try_get(row, "path")?;
            let path = RelPath::parse(&path)
                .map_err(|_| corrupt("path", sync_proto::path::escape(&path)))?;
            Ok((path, Digest::from_bytes(bytes(row, "digest")?)))
        };
        rows.iter().map(read).collect()
    }

    /// Notes what was brought to a member, before it is brought: a note too many is forgotten the
    /// next time, one too few would leave a file for ever.
    pub async fn note_delivered(
        &self,
        site: &SiteUri,
        member: &ServerName,
        place: &RelPath,
        files: &[(RelPath, Option<Digest>)],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (path, digest) in files {
            let query = match digest {
                Some(_) => {
                    "INSERT INTO delivered_uploads (site, member, place, path, digest) \
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET digest = ?5"
                }
                None => {
                    "DELETE FROM delivered_uploads \
                     WHERE site = ?1 AND member = ?2 AND place = ?3 AND path = ?4"
                }
            };
            let mut query = sqlx::query(query)
                .bind(site.as_str())
                .bind(member.as_str())
                .bind(place.as_bytes())
                .bind(path.as_bytes());
            if let Some(digest) = digest {
                query = query.bind(&digest.as_bytes()[..]);
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets everything about a site.
    pub async fn forget_site(&self, site: &SiteUri) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for query in [
            "DELETE FROM site_modes WHERE site = ?",
            "DELETE FROM cron_runs WHERE site = ?",
            "DELETE FROM delivered_uploads WHERE site = ?",
        ] {
            sqlx::query(query)
                .bind(site.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.sqlite")).await.unwrap();
        (dir, store)
    }

    fn site() -> SiteUri {
        "www.example.com".parse().unwrap()
    }

    #[tokio::test]
    async fn a_mode_is_set_once_and_taken_back() {
        let (_dir, store) = store().await;
        let set = async |mode, now| {
            let site = site();
            let changed = store.set_site_mode(&site, mode, UnixMillis(now), "alice");
            changed.await.unwrap()
        };
        assert!(!set(None, 1).await);
        assert!(set(Some(SiteMode::Disabled), 2).await);
        assert!(!set(Some(SiteMode::Disabled), 3).await);
        let state = store.site_mode(&site()).await.unwrap().unwrap();
        assert_eq!(
            (state.mode, state.since),
            (SiteMode::Disabled, UnixMillis(2))
        );
        assert!(set(Some(SiteMode::Maintenance), 4).await);
        assert_eq!(store.site_modes().await.unwrap().len(), 1);
        assert!(set(None, 5).await);
        assert_eq!(store.site_mode(&site()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_lease_at_a_time_and_a_dead_one_ends_by_itself() {
        let (_dir, store) = store().await;
        let take = async |now, until| {
            let site = site();
            let lease = store.take_cron(&site, UnixMillis(now), UnixMillis(until));
            lease.await.unwrap()
        };
        let first = take(10, 100).await.unwrap();
        assert_eq!(take(50, 150).await, None);
        let web1 = "web1".parse().unwrap();
        store.note_cron_runner(&site(), first, &web1).await.unwrap();
        // The first one's process died; its lease ran out.
        let second = take(100, 200).await.unwrap();
        store.end_cron(&site(), first, true, "late").await.unwrap();
        assert_eq!(store.cron(&site()).await.unwrap().ended_well, None);
        store.end_cron(&site(), second, true, "ran").await.unwrap();
        let state = store.cron(&site()).await.unwrap();
        assert_eq!(state.ended_well, Some(UnixMillis(100)));
        assert_eq!((state.runner, state.lease_until), (Some(web1), None));
        let third = take(120, 220).await.unwrap();
        store
            .end_cron(&site(), third, false, "failed")
            .await
            .unwrap();
        let state = store.cron(&site()).await.unwrap();
        assert_eq!(state.ended_well, Some(UnixMillis(100)));
        assert_eq!(state.message, "failed");
    }

    #[tokio::test]
    async fn what_was_brought_is_remembered_by_member_and_directory() {
        let (_dir, store) = store().await;
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let (web1, web2): (ServerName, ServerName) =
            ("web1".parse().unwrap(), "web2".parse().unwrap());
        let digest = Digest::of(b"x");
        let files = [(path("a/b"), Some(digest)), (path("c"), Some(digest))];
        store
            .note_delivered(&site(), &web1, &path("files"), &files)
            .await
            .unwrap();
        let gone = [(path("c"), None), (path("a/b"), Some(Digest::of(b"y")))];
        store
            .note_delivered(&site(), &web1, &path("files"), &gone)
            .await
            .unwrap();
        let there = store
            .delivered(&site(), &web1, &path("files"))
            .await
            .unwrap();
        assert_eq!(there, BTreeMap::from([(path("a/b"), Digest::of(b"y"))]));
        assert!(
            store
                .delivered(&site(), &web2, &path("files"))
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            store
                .delivered(&site(), &web1, &path("private"))
                .await
                .unwrap()
                .is_empty()
        );
        store.forget_site(&site()).await.unwrap();
        assert!(
            store
                .delivered(&site(), &web1, &path("files"))
                .await
                .unwrap()
                .is_empty()
        );
    }
}
