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
    /// Sets nothing: a resync or a join, which brings members to what is desired already (I12), or a
    /// batch of a rolling push, whose last word is a transaction of its own.
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
