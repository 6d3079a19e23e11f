//! What fanout made in database servers, site by site. Names are text here; whoever asks parses
//! them.

use super::{Store, StoreError, parsed, unless_taken};
use crate::clock::UnixMillis;
use crate::model::{ServerName, SiteUri};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet};

/// A site's database, as it was called when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteDatabase {
    /// The site.
    pub site: SiteUri,
    /// The database server.
    pub server: ServerName,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The role.
    pub role: String,
    /// When it was recorded; [`SiteDatabase::THERE_BEFORE`] if it was there before fanout was.
    pub created: UnixMillis,
}

impl SiteDatabase {
    /// When a database was made that fanout didn't make.
    pub const THERE_BEFORE: UnixMillis = UnixMillis(0);

    /// It was there before fanout was, with what is installed in it.
    pub fn was_there(&self) -> bool {
        self.created == Self::THERE_BEFORE
    }
}

/// Hosts of a site's accounts, with the members that come from there.
pub type AccountHosts = BTreeMap<String, BTreeSet<ServerName>>;

impl Store {
    /// A site's database, if it has one.
    pub async fn site_database(&self, site: &SiteUri) -> Result<Option<SiteDatabase>, StoreError> {
        let row = sqlx::query("SELECT * FROM site_databases WHERE site = ?")
            .bind(site.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Every site's database on a server, by site.
    pub async fn site_databases(
        &self,
        server: &ServerName,
    ) -> Result<Vec<SiteDatabase>, StoreError> {
        let rows = sqlx::query("SELECT * FROM site_databases WHERE server = ? ORDER BY site")
            .bind(server.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Records what a site's database is called: one that is about to be made, or one that was
    /// there before fanout.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the site has one, or another site has that name.
    pub async fn add_site_database(&self, it: &SiteDatabase) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO site_databases (site, server, database, user, role, created) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(it.site.as_str())
        .bind(it.server.as_str())
        .bind(&it.database)
        .bind(&it.user)
        .bind(&it.role)
        .bind(it.created.0)
        .execute(&self.pool)
        .await
        .map_err(|error| unless_taken(error, "database", &it.database))?;
        Ok(())
    }

    /// Forgets a site's database and its accounts. False if there was none.
    pub async fn forget_site_database(&self, site: &SiteUri) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM site_databases WHERE site = ?")
            .bind(site.as_str())
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Hosts of the accounts that fanout made for a site.
    pub async fn account_hosts(&self, site: &SiteUri) -> Result<AccountHosts, StoreError> {
        let rows = sqlx::query(
            "SELECT a.host, m.member FROM database_accounts a \
             LEFT JOIN database_account_members m ON m.site = a.site AND m.host = a.host \
             WHERE a.site = ? ORDER BY a.host, m.member",
        )
        .bind(site.as_str())
        .fetch_all(&self.pool)
        .await?;
        let mut found = AccountHosts::new();
        for row in &rows {
            let members = found.entry(row.try_get("host")?).or_default();
            let member: Option<String> = row.try_get("member")?;
            if member.is_some() {
                members.insert(parsed(row, "member")?);
            }
        }
        Ok(found)
    }

    /// Records that an account for `host` is about to be made, or who comes from there now.
    pub async fn record_account(
        &self,
        site: &SiteUri,
        host: &str,
        members: &BTreeSet<ServerName>,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO database_accounts (site, host, created) VALUES (?, ?, ?) \
             ON CONFLICT (site, host) DO NOTHING",
        )
        .bind(site.as_str())
        .bind(host)
        .bind(at.0)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM database_account_members WHERE site = ? AND host = ?")
            .bind(site.as_str())
            .bind(host)
            .execute(&mut *tx)
            .await?;
        for member in members {
            sqlx::query(
                "INSERT INTO database_account_members (site, host, member) VALUES (?, ?, ?)",
            )
            .bind(site.as_str())
            .bind(host)
            .bind(member.as_str())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets an account that is gone.
    pub async fn forget_account(&self, site: &SiteUri, host: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM database_accounts WHERE site = ? AND host = ?")
            .bind(site.as_str())
            .bind(host)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<SiteDatabase, StoreError> {
    Ok(SiteDatabase {
        site: parsed(row, "site")?,
        server: parsed(row, "server")?,
        database: row.try_get("database")?,
        user: row.try_get("user")?,
        role: row.try_get("role")?,
        created: UnixMillis(row.try_get("created")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_is_remembered_with_its_members_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let site: SiteUri = "www.example.com".parse().unwrap();
        let named = |site: &str, name: &str| SiteDatabase {
            site: site.parse().unwrap(),
            server: "db1".parse().unwrap(),
            database: name.into(),
            user: name.into(),
            role: format!("{name}_rw"),
            created: UnixMillis(7),
        };
        let ours = named("www.example.com", "fo_a");
        store.add_site_database(&ours).await.unwrap();
        assert_eq!(store.site_database(&site).await.unwrap(), Some(ours));
        let twin = store
            .add_site_database(&named("b.example.com", "fo_a"))
            .await;
        assert!(matches!(twin, Err(StoreError::Exists { .. })), "{twin:?}");
        let members = |names: &[&str]| names.iter().map(|it| it.parse().unwrap()).collect();
        let (one, two) = (members(&["web1", "web2"]), members(&["web2"]));
        store
            .record_account(&site, "10.0.0.1", &one, UnixMillis(8))
            .await
            .unwrap();
        store
            .record_account(&site, "10.0.0.1", &two, UnixMillis(9))
            .await
            .unwrap();
        store
            .record_account(&site, "10.0.0.2", &members(&[]), UnixMillis(9))
            .await
            .unwrap();
        let hosts = store.account_hosts(&site).await.unwrap();
        assert_eq!(hosts["10.0.0.1"], two);
        assert!(hosts["10.0.0.2"].is_empty());
        store.forget_account(&site, "10.0.0.2").await.unwrap();
        assert_eq!(store.account_hosts(&site).await.unwrap().len(), 1);
        assert!(store.forget_site_database(&site).await.unwrap());
        assert!(store.account_hosts(&site).await.unwrap().is_empty());
    }
}
