//! Two-phase commit, the hub's half that must not be forgotten.
//!
//! I3: a decision is durable before [`Store::decide`] returns, and never changes afterwards; the
//! schema refuses that too. What isn't known was not committed: the answer is abort.

use super::{Store, StoreError, bytes, count, parsed, serial, to_sql};
use crate::clock::UnixMillis;
use crate::model::{PlatformName, Serial, ServerName};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite};
use std::fmt;
use std::str::FromStr;

/// A transaction's id: 16 random bytes, drawn by the caller.
pub type TxnBytes = [u8; 16];

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Every member that voted switches.
    Commit,
    /// Every member stays as it was.
    Abort,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A push or rollback: its commit sets the desired generation.
    Publish,
    /// A resync or a join: brings members to what is desired already (I12).
    Restore,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "commit" => Ok(Self::Commit),
            "abort" => Ok(Self::Abort),
            _ => Err(()),
        }
    }
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Restore => "restore",
        }
    }
}

impl FromStr for Purpose {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "publish" => Ok(Self::Publish),
            "restore" => Ok(Self::Restore),
            _ => Err(()),
        }
    }
}

/// A transaction that is about to ask for votes.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    /// Its id.
    pub txn: TxnBytes,
    /// On which platform.
    pub platform: PlatformName,
    /// The generation that members switch to.
    pub serial: Serial,
    /// The fence that the members were given.
    pub fence: u64,
    /// What for.
    pub purpose: Purpose,
    /// Who takes part.
    pub members: Vec<ServerName>,
    /// Who started it.
    pub author: String,
    /// When.
    pub begun: UnixMillis,
}

/// A transaction as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub txn: TxnBytes,
    /// On which platform.
    pub platform: PlatformName,
    /// The generation that members switch to.
    pub serial: Serial,
    /// The fence that the members were given.
    pub fence: u64,
    /// What for.
    pub purpose: Purpose,
    /// Who takes part.
    pub members: Vec<ServerName>,
    /// Who started it.
    pub author: String,
    /// When.
    pub begun: UnixMillis,
    /// How and when it was decided, if it was.
    pub decision: Option<(Decision, UnixMillis)>,
}

impl Store {
    /// Records a transaction before the first member hears of it.
    pub async fn begin_transaction(&self, new: &NewTransaction) -> Result<(), StoreError> {
        let members: Vec<&str> = new.members.iter().map(ServerName::as_str).collect();
        sqlx::query(
            "INSERT INTO transactions (txn, platform, serial, fence, purpose, members, author, \
             begun) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&new.txn[..])
        .bind(new.platform.as_str())
        .bind(to_sql(new.serial.0))
        .bind(to_sql(new.fence))
        .bind(new.purpose.as_str())
        .bind(members.join(","))
        .bind(&new.author)
        .bind(new.begun.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Decides a transaction. Durable when it returns; only then may a member hear of it. In the
    /// same step a commit of a push or rollback sets the desired generation and lists the
    /// generation, and an abort forgets the generation that it would have made. Repeating a
    /// decision changes nothing.
    ///
    /// # Errors
    /// [`StoreError::AlreadyDecided`] for the other decision, [`StoreError::UnknownTransaction`].
    pub async fn decide(
        &self,
        txn: &TxnBytes,
        decision: Decision,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let known = find(&mut tx, txn)
            .await?
            .ok_or(StoreError::UnknownTransaction)?;
        match known.decision {
            Some((there, _)) if there == decision => return Ok(()),
            Some((there, _)) => return Err(StoreError::AlreadyDecided(there)),
            None => record(&mut tx, &known, decision, at).await?,
        }
        // ORDER: synchronous=FULL makes this durable; whoever calls tells the members afterwards.
        tx.commit().await?;
        Ok(())
    }

    /// The decision as recorded; `None` means undecided or unknown.
    pub async fn decision(&self, txn: &TxnBytes) -> Result<Option<Decision>, StoreError> {
        Ok(self
            .transaction(txn)
            .await?
            .and_then(|known| known.decision)
            .map(|(decision, _)| decision))
    }

    /// Answers a member in doubt, for good: what is undecided is aborted first, durably, so that
    /// no later [`Store::decide`] can contradict the answer. Not for a transaction whose votes
    /// are just being collected, unless it shall be called off.
    pub async fn settle(&self, txn: &TxnBytes, at: UnixMillis) -> Result<Decision, StoreError> {
        let mut tx = self.begin().await?;
        let Some(known) = find(&mut tx, txn).await? else {
            return Ok(Decision::Abort);
        };
        if let Some((decision, _)) = known.decision {
            return Ok(decision);
        }
        record(&mut tx, &known, Decision::Abort, at).await?;
        tx.commit().await?;
        Ok(Decision::Abort)
    }

    /// One transaction, if it is known.
    pub async fn transaction(&self, txn: &TxnBytes) -> Result<Option<Transaction>, StoreError> {
        let row = sqlx::query("SELECT * FROM transactions WHERE txn = ?")
            .bind(&txn[..])
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The undecided transactions of a platform, oldest first: what a killed hub left behind.
    pub async fn open_transactions(
        &self,
        platform: &PlatformName,
    ) -> Result<Vec<Transaction>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM transactions WHERE platform = ? AND decision IS NULL \
             ORDER BY begun, rowid",
        )
        .bind(platform.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }
}

async fn find(
    tx: &mut sqlx::Transaction<'static, Sqlite>,
    txn: &TxnBytes,
) -> Result<Option<Transaction>, StoreError> {
    let row = sqlx::query("SELECT * FROM transactions WHERE txn = ?")
        .bind(&txn[..])
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read).transpose()
}

async fn record(
    tx: &mut sqlx::Transaction<'static, Sqlite>,
    known: &Transaction,
    decision: Decision,
    at: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE transactions SET decision = ?, decided = ? WHERE txn = ?")
        .bind(decision.as_str())
        .bind(at.0)
        .bind(&known.txn[..])
        .execute(&mut **tx)
        .await?;
    let (platform, serial) = (known.platform.as_str(), to_sql(known.serial.0));
    match (decision, known.purpose) {
        (Decision::Commit, Purpose::Publish) => {
            sqlx::query("UPDATE platforms SET desired = ? WHERE name = ?")
                .bind(serial)
                .bind(platform)
                .execute(&mut **tx)
                .await?;
            sqlx::query(
                "UPDATE generations SET committed = coalesce(committed, ?) \
                 WHERE platform = ? AND serial = ?",
            )
            .bind(at.0)
            .bind(platform)
            .bind(serial)
            .execute(&mut **tx)
            .await?;
        }
        (Decision::Abort, Purpose::Publish) => {
            sqlx::query(
                "DELETE FROM generations WHERE platform = ? AND serial = ? AND committed IS NULL",
            )
            .bind(platform)
            .bind(serial)
            .execute(&mut **tx)
            .await?;
        }
        (_, Purpose::Restore) => {}
    }
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Transaction, StoreError> {
    let members: String = row.try_get("members")?;
    let members = members
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.parse().map_err(|_| super::corrupt("members", name)))
        .collect::<Result<_, _>>()?;
    let decided: Option<i64> = row.try_get("decided")?;
    let decision = match decided {
        Some(at) => Some((parsed(row, "decision")?, UnixMillis(at))),
        None => None,
    };
    Ok(Transaction {
        txn: bytes(row, "txn")?,
        platform: parsed(row, "platform")?,
        serial: serial(row, "serial")?,
        fence: count(row, "fence")?,
        purpose: parsed(row, "purpose")?,
        members,
        author: row.try_get("author")?,
        begun: UnixMillis(row.try_get("begun")?),
        decision,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::NewGeneration;
    use super::*;
    use crate::model::TreeId;
    use sync_proto::digest::Digest;

    pub(in crate::store) async fn platform_store(dir: &tempfile::TempDir) -> (Store, PlatformName) {
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let name: PlatformName = "drupal".parse().unwrap();
        let tree = TreeId::from_bytes([7; 16]);
        store.add_platform(&name, tree).await.unwrap();
        (store, name)
    }

    pub(in crate::store) fn new_generation(platform: &PlatformName) -> NewGeneration {
        NewGeneration {
            platform: platform.clone(),
            content_root: Digest::of(b"content"),
            meta_root: Digest::of(b"metadata"),
            label: Some("v1.2-3-gabcdef".into()),
            author: "alice".into(),
            created: UnixMillis(1_000),
            source: Some("/srv/src/drupal".into()),
            entries: 20_000,
            content_bytes: 1 << 33,
        }
    }

    /// A transaction on a fresh generation, its id made from the serial.
    async fn begun(store: &Store, platform: &PlatformName) -> (TxnBytes, Serial) {
        let new = new_generation(platform);
        let serial = store.begin_generation(&new, 0).await.unwrap();
        let txn = begun_for(store, platform, serial, Purpose::Publish).await;
        (txn, serial)
    }

    async fn begun_for(
        store: &Store,
        platform: &PlatformName,
        serial: Serial,
        purpose: Purpose,
    ) -> TxnBytes {
        let fence = store.next_fence(platform, 0).await.unwrap();
        let txn = u128::from(fence).to_le_bytes();
        let new = NewTransaction {
            txn,
            platform: platform.clone(),
            serial,
            fence,
            purpose,
            members: vec!["web1".parse().unwrap(), "web2".parse().unwrap()],
            author: "alice".into(),
            begun: UnixMillis(2_000),
        };
        store.begin_transaction(&new).await.unwrap();
        txn
    }

    pub(in crate::store) async fn committed(store: &Store, platform: &PlatformName) -> Serial {
        let (txn, serial) = begun(store, platform).await;
        let at = UnixMillis(3_000);
        store.decide(&txn, Decision::Commit, at).await.unwrap();
        serial
    }

    #[tokio::test]
    async fn a_decision_survives_a_restart_and_never_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let (txn, serial) = begun(&store, &name).await;
        assert_eq!(store.decision(&txn).await.unwrap(), None);
        assert_eq!(store.open_transactions(&name).await.unwrap().len(), 1);
        let at = UnixMillis(3_000);
        store.decide(&txn, Decision::Commit, at).await.unwrap();
        // Not closed, as after a kill: another connection reads what is on the disk.
        let other = Store::open(&dir.path().join("db")).await.unwrap();
        assert_eq!(other.decision(&txn).await.unwrap(), Some(Decision::Commit));
        let later = UnixMillis(9_000);
        other.decide(&txn, Decision::Commit, later).await.unwrap();
        let error = other
            .decide(&txn, Decision::Abort, later)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::AlreadyDecided(Decision::Commit)),
            "{error}"
        );
        assert_eq!(other.settle(&txn, later).await.unwrap(), Decision::Commit);
        let known = other.transaction(&txn).await.unwrap().unwrap();
        assert_eq!(known.decision, Some((Decision::Commit, at)));
        assert_eq!(known.members.len(), 2);
        assert_eq!(known.serial, serial);
        assert_eq!(other.open_transactions(&name).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_schema_itself_refuses_to_change_a_decision() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        committed(&store, &name).await;
        for statement in [
            "UPDATE transactions SET decision = 'abort'",
            "UPDATE transactions SET decision = NULL, decided = NULL",
        ] {
            let error = sqlx::query(statement)
                .execute(&store.pool)
                .await
                .unwrap_err();
            assert!(error.to_string().contains("a decision is final"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_commit_sets_what_is_desired_and_an_abort_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let desired = || async { store.platform(&name).await.unwrap().unwrap().desired };
        let (txn, first) = begun(&store, &name).await;
        assert_eq!(desired().await, None);
        let at = UnixMillis(3_000);
        store.decide(&txn, Decision::Commit, at).await.unwrap();
        assert_eq!(desired().await, Some(first));
        let listed = store.generations(&name).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].committed, at);
        assert_eq!(listed[0].content_root, Digest::of(b"content"));
        assert_eq!(listed[0].content_bytes, 1 << 33);

        let (txn, _) = begun(&store, &name).await;
        store.decide(&txn, Decision::Abort, at).await.unwrap();
        assert_eq!(desired().await, Some(first));
        assert_eq!(store.generations(&name).await.unwrap().len(), 1);
        assert_eq!(committed(&store, &name).await, Serial(3));

        // A rollback commits an old generation again, which stays as it was.
        let txn = begun_for(&store, &name, first, Purpose::Publish).await;
        store
            .decide(&txn, Decision::Commit, UnixMillis(7_000))
            .await
            .unwrap();
        assert_eq!(desired().await, Some(first));
        assert_eq!(store.generation(&name, first).await.unwrap().committed, at);
    }

    #[tokio::test]
    async fn a_resync_never_sets_what_is_desired() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let old = committed(&store, &name).await;
        let new = committed(&store, &name).await;
        let txn = begun_for(&store, &name, old, Purpose::Restore).await;
        store
            .decide(&txn, Decision::Commit, UnixMillis(4_000))
            .await
            .unwrap();
        assert_eq!(
            store.platform(&name).await.unwrap().unwrap().desired,
            Some(new)
        );
        let txn = begun_for(&store, &name, old, Purpose::Restore).await;
        store
            .decide(&txn, Decision::Abort, UnixMillis(4_000))
            .await
            .unwrap();
        assert_eq!(store.generations(&name).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_is_unknown_or_undecided_is_answered_with_abort_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let at = UnixMillis(3_000);
        assert_eq!(store.settle(&[9; 16], at).await.unwrap(), Decision::Abort);
        assert!(matches!(
            store.decide(&[9; 16], Decision::Commit, at).await,
            Err(StoreError::UnknownTransaction)
        ));
        let (txn, _) = begun(&store, &name).await;
        assert_eq!(store.settle(&txn, at).await.unwrap(), Decision::Abort);
        assert!(matches!(
            store.decide(&txn, Decision::Commit, at).await,
            Err(StoreError::AlreadyDecided(Decision::Abort))
        ));
    }

    #[tokio::test]
    async fn only_one_of_two_contradicting_decisions_wins_a_race() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        for _ in 0..10 {
            let (txn, _) = begun(&store, &name).await;
            let committer = store.clone();
            let commit = tokio::spawn(async move {
                committer
                    .decide(&txn, Decision::Commit, UnixMillis(1))
                    .await
                    .is_ok()
            });
            let answer = store.settle(&txn, UnixMillis(1)).await.unwrap();
            let committed = commit.await.unwrap();
            assert_eq!(committed, answer == Decision::Commit);
            assert_eq!(store.decision(&txn).await.unwrap(), Some(answer));
        }
    }

    #[tokio::test]
    async fn a_member_in_doubt_gets_its_answer_after_the_platform_was_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (store, name) = platform_store(&dir).await;
        let (txn, _) = begun(&store, &name).await;
        store
            .decide(&txn, Decision::Commit, UnixMillis(1))
            .await
            .unwrap();
        store.forget_platform(&name).await.unwrap();
        assert_eq!(
            store.settle(&txn, UnixMillis(2)).await.unwrap(),
            Decision::Commit
        );
    }
}
