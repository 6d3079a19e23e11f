//! The hub's state database: SQLite, in WAL mode with `synchronous=FULL`, readable by its owner
//! alone. Beside it, apart from its history, the lock files of running tasks and the hub's secrets.
//!
//! Owns: every line of SQL, and what it means. Refuses: a database from a newer fanout.
//! Invariants: what a call wrote is durable when it returns; a decision about a transaction
//! never changes (I3); serials and fences only rise. Times are the caller's.

mod databases;
mod generations;
mod lock;
mod members;
mod platforms;
mod rotation;
mod rules;
mod secrets;
mod servers;
mod sites;
mod steps;
mod tasks;
#[cfg(test)]
mod tests;
mod transactions;

pub use databases::{AccountHosts, SiteDatabase};
pub use generations::{Generation, NewGeneration};
pub use lock::{Holder, Lock, LockError};
pub use members::{MemberError, MemberState};
pub use platforms::{PlatformLock, PlatformState};
pub use rotation::{Cause, OutOfRotation};
pub use rules::PreserveRule;
pub use secrets::{
    Generator, MAX_SECRET_BYTES, SecretFileError, SecretStore, read_secret_file, secret_of,
};
pub use servers::KnownServer;
pub use sites::{CronLease, CronState, SiteMode, SiteModeState};
pub use steps::{StepRecord, StepState};
pub use tasks::{NewTask, Task, TaskId};
pub use transactions::{Decision, NewTransaction, Purpose, Transaction, TxnBytes};

use crate::codes::{Code, Problem};
use crate::model::{PlatformName, Serial};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Sqlite};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// Why the state could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file can't be made or opened.
    #[error("Can't open the state database {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was written by a newer version.
    #[error(
        "The state database {} was written by a newer fanout (schema {found}; this fanout knows {known})",
        path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// It can't be brought to this version's schema.
    #[error("Can't bring the state database {} up to date", path.display())]
    Migrate {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// SQLite refused something.
    #[error("The state database failed")]
    Sql(#[from] sqlx::Error),
    /// A value that no version of fanout writes.
    #[error("The state database holds an impossible {column}: {value}")]
    Corrupt {
        /// In which column.
        column: &'static str,
        /// What.
        value: String,
    },
    /// A platform that has no state.
    #[error("The state database knows no platform `{0}`")]
    UnknownPlatform(PlatformName),
    /// A generation that isn't there.
    #[error("The platform `{0}` has no generation {1}")]
    UnknownGeneration(PlatformName, Serial),
    /// A transaction that was never begun.
    #[error("The state database knows no such transaction")]
    UnknownTransaction,
    /// A decision that was made otherwise.
    #[error("The transaction was decided already: {0}")]
    AlreadyDecided(Decision),
    /// A name or tree id that is taken.
    #[error("The {what} `{name}` is in the state database already")]
    Exists {
        /// What.
        what: &'static str,
        /// Which.
        name: String,
    },
}

impl StoreError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some("use the newer fanout; a downgrade is not supported"),
            Self::Sql(error) if is_kept_out(error) => Some(
                "it is not damaged: look at free space, permissions and the limit of open files \
                 (`ulimit -n`)",
            ),
            _ => None,
        }
    }

    /// The same as people should hear it.
    pub fn problem(&self) -> Problem {
        let problem = Problem::from_error(Code::StateDamaged, self);
        match self.hint() {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        }
    }
}

/// SQLite can't get at the file: its errors READONLY, IOERR, FULL and CANTOPEN, without what the upper
/// bytes say of them.
fn is_kept_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|it| it.code());
    let code = code.and_then(|it| it.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xFF, 8 | 10 | 13 | 14))
}

/// The open state database. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database, makes it if it isn't there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a database that a newer fanout wrote.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_watched(path, None).await
    }

    /// The same; `may_commit` is asked before each commit, and may refuse it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_watched(
        path: &Path,
        may_commit: Option<fn() -> bool>,
    ) -> Result<Self, StoreError> {
        make_private(path).map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if let Some(may_commit) = may_commit {
                        connection.lock_handle().await?.set_commit_hook(may_commit);
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        MIGRATIONS.run(&pool).await.map_err(|source| {
            let path = path.to_owned();
            match source {
                MigrateError::VersionMissing(found) => StoreError::Newer {
                    path,
                    found,
                    known: MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0),
                },
                source => StoreError::Migrate { path, source },
            }
        })?;
        Ok(Self { pool })
    }

    /// Closes every connection, and folds the write-ahead log into the database.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Writes everything as it is at one moment into the file `path`, which must be new or empty;
    /// whoever writes meanwhile goes on.
    ///
    /// # Errors
    /// Something is in that file, or it can't be written.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO ?")
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A transaction that writes. It takes the write lock at once, so that what it reads first
    /// can't change before it writes.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// The journal and shared-memory files get the mode of the database file.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            file.sync_all()?;
            // ORDER: SQLite makes its content durable, but not the name of a file that is there.
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = options.open(path)?;
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A count as SQLite stores it. Nothing that fanout counts comes near the limit.
fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A column that holds a count.
fn count(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| corrupt(column, value))
}

/// A column that holds a serial or nothing.
fn maybe_serial(row: &SqliteRow, column: &'static str) -> Result<Option<Serial>, StoreError> {
    let value: Option<i64> = row.try_get(column)?;
    value
        .map(|value| match u64::try_from(value) {
            Ok(number) if number > 0 => Ok(Serial(number)),
            _ => Err(corrupt(column, value)),
        })
        .transpose()
}

/// A column that holds a serial.
fn serial(row: &SqliteRow, column: &'static str) -> Result<Serial, StoreError> {
    maybe_serial(row, column)?.ok_or_else(|| corrupt(column, "nothing"))
}

/// A column that holds the text form of a domain type.
fn parsed<T: std::str::FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| corrupt(column, text))
}

/// A column that holds exactly so many bytes.
fn bytes<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    let value: Vec<u8> = row.try_get(column)?;
    let length = value.len();
    value
        .try_into()
        .map_err(|_| corrupt(column, format!("{length} bytes")))
}

fn corrupt(column: &'static str, value: impl ToString) -> StoreError {
    StoreError::Corrupt {
        column,
        value: sync_proto::path::escape(value.to_string().as_bytes()),
    }
}

/// A second row with the same key, as an error of its own.
fn unless_taken(error: sqlx::Error, what: &'static str, name: impl ToString) -> StoreError {
    match error.as_database_error() {
        Some(refused) if refused.is_unique_violation() => StoreError::Exists {
            what,
            name: name.to_string(),
        },
        _ => error.into(),
    }
}
