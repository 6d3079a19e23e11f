//! Every preserve rule that the hub ever sent for a platform. A member goes on enforcing a rule
//! until it is released, whatever the inventory says today.

use super::{Store, StoreError};
use crate::clock::UnixMillis;
use crate::model::PlatformName;
use sqlx::Row;

/// One rule, and whether it still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreserveRule {
    /// The rule as it was sent.
    pub rule: String,
    /// When it was first sent.
    pub sent: UnixMillis,
    /// When and by whom it was released, if it was.
    pub released: Option<(UnixMillis, String)>,
}

impl Store {
    /// Records rules before they are sent. One that was released holds again. Rules that are on the
    /// record as they are cost no write.
    pub async fn send_rules(
        &self,
        platform: &PlatformName,
        rules: &[String],
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for rule in rules {
            sqlx::query(
                "INSERT INTO preserve_rules (platform, rule, sent) VALUES (?, ?, ?) \
                 ON CONFLICT (platform, rule) DO UPDATE SET released = NULL, released_by = NULL \
                 WHERE released IS NOT NULL",
            )
            .bind(platform.as_str())
            .bind(rule)
            .bind(at.0)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Every rule ever sent, in order of first sending.
    pub async fn rules(&self, platform: &PlatformName) -> Result<Vec<PreserveRule>, StoreError> {
        let rows = sqlx::query("SELECT * FROM preserve_rules WHERE platform = ? ORDER BY rowid")
            .bind(platform.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let released: Option<i64> = row.try_get("released")?;
                let by: Option<String> = row.try_get("released_by")?;
                Ok(PreserveRule {
                    rule: row.try_get("rule")?,
                    sent: UnixMillis(row.try_get("sent")?),
                    released: released.map(|at| (UnixMillis(at), by.unwrap_or_default())),
                })
            })
            .collect()
    }

    /// Releases a rule. False if it didn't hold.
    pub async fn release_rule(
        &self,
        platform: &PlatformName,
        rule: &str,
        by: &str,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "UPDATE preserve_rules SET released = ?, released_by = ? \
             WHERE platform = ? AND rule = ? AND released IS NULL",
        )
        .bind(at.0)
        .bind(by)
        .bind(platform.as_str())
        .bind(rule)
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::platform_store;
    use super::*;

    #[tokio::test]
    async fn a_rule_holds_until_it_is_released_and_again_when_it_is_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let rules = ["/files".to_owned(), "/private".to_owned()];
        store
            .send_rules(&name, &rules, UnixMillis(1))
            .await
            .unwrap();
        store
            .send_rules(&name, &rules[1..], UnixMillis(2))
            .await
            .unwrap();
        let at = UnixMillis(3);
        assert!(
            store
                .release_rule(&name, "/files", "alice", at)
                .await
                .unwrap()
        );
        assert!(
            !store
                .release_rule(&name, "/files", "bob", at)
                .await
                .unwrap()
        );
        assert!(
            !store
                .release_rule(&name, "/other", "bob", at)
                .await
                .unwrap()
        );
        let known = store.rules(&name).await.unwrap();
        assert_eq!(known[0].released, Some((at, "alice".into())));
        assert_eq!(known[1].released, None);
        assert_eq!(known[1].sent, UnixMillis(1));
        store
            .send_rules(&name, &rules, UnixMillis(4))
            .await
            .unwrap();
        let known = store.rules(&name).await.unwrap();
        assert!(known.iter().all(|rule| rule.released.is_none()));
    }
}
