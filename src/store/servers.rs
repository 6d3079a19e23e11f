//! The servers whose keys the hub accepted.

use super::{Store, StoreError, parsed, unless_taken};
use crate::clock::UnixMillis;
use crate::model::ServerName;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A server and its identity, as accepted when it was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownServer {
    /// Its name in the inventory.
    pub name: ServerName,
    /// The hash of its public key, in hexadecimal.
    pub node_key: String,
    /// Its certificate: the trust anchor for it.
    pub certificate_der: Vec<u8>,
    /// When it was added.
    pub added: UnixMillis,
}

impl Store {
    /// Records a server's identity.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the name or the key is known; a key is replaced by forgetting
    /// the server first, never silently.
    pub async fn add_server(&self, server: &KnownServer) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO servers (name, node_key, certificate, added) VALUES (?, ?, ?, ?)")
            .bind(server.name.as_str())
            .bind(&server.node_key)
            .bind(&server.certificate_der)
            .bind(server.added.0)
            .execute(&self.pool)
            .await
            .map_err(|error| unless_taken(error, "server", &server.name))?;
        Ok(())
    }

    /// Every server, by name.
    pub async fn servers(&self) -> Result<Vec<KnownServer>, StoreError> {
        let rows = sqlx::query("SELECT * FROM servers ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// One server, if it is known.
    pub async fn server(&self, name: &ServerName) -> Result<Option<KnownServer>, StoreError> {
        let row = sqlx::query("SELECT * FROM servers WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The server with this key, if there is one.
    pub async fn server_by_key(&self, node_key: &str) -> Result<Option<KnownServer>, StoreError> {
        let row = sqlx::query("SELECT * FROM servers WHERE node_key = ?")
            .bind(node_key)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Forgets a server's identity and its state on every platform. False if it wasn't known.
    pub async fn forget_server(&self, name: &ServerName) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM members WHERE server = ?")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        let deleted = sqlx::query("DELETE FROM servers WHERE name = ?")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected() > 0)
    }
}

fn read(row: &SqliteRow) -> Result<KnownServer, StoreError> {
    Ok(KnownServer {
        name: parsed(row, "name")?,
        node_key: row.try_get("node_key")?,
        certificate_der: row.try_get("certificate")?,
        added: UnixMillis(row.try_get("added")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_known_key_is_never_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let server = |name: &str, key: &str| KnownServer {
            name: name.parse().unwrap(),
            node_key: key.into(),
            certificate_der: vec![0x30, 0],
            added: UnixMillis(5),
        };
        let web1 = server("web1", "aa");
        store.add_server(&web1).await.unwrap();
        for twin in [server("web1", "bb"), server("web2", "aa")] {
            let error = store.add_server(&twin).await.unwrap_err();
            assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        }
        assert_eq!(store.servers().await.unwrap()[0], web1);
        assert_eq!(store.server(&web1.name).await.unwrap(), Some(web1.clone()));
        assert_eq!(store.server_by_key("aa").await.unwrap(), Some(web1.clone()));
        assert!(store.forget_server(&web1.name).await.unwrap());
        assert!(!store.forget_server(&web1.name).await.unwrap());
        store.add_server(&server("web1", "bb")).await.unwrap();
    }
}
