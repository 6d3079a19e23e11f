//! Lock files of running tasks: two tasks on one thing never run at once, and the one that has
//! to wait can say for whom.
//!
//! The lock is the kernel's, on the open file: it goes with the process, also when that is
//! killed. The file stays and names the last holder: a line for people, and the same in fields.

use crate::clock::UnixMillis;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use sync_proto::path::escape;
use thiserror::Error;

/// How often a waiting task looks.
const POLL: Duration = Duration::from_millis(50);
/// How often, and how soon after each other, a task tries before it takes a lock for held: somebody
/// may just be looking, see [`Lock::holder`].
const TRIES: (u32, Duration) = (5, Duration::from_millis(4));
/// LIMIT: a holder describes itself in a few lines.
const MAX_HOLDER_BYTES: u64 = 4096;

/// Why a lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another task has it.
    #[error("Locked by {holder}")]
    Held {
        /// Who, what, since when.
        holder: String,
    },
    /// The lock file can't be used.
    #[error("Can't use the lock file {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Who takes a lock, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The person.
    pub who: String,
    /// The command.
    pub what: String,
    /// When.
    pub since: UnixMillis,
}

impl Holder {
    /// This process.
    pub fn this_process(
        who: impl Into<String>,
        what: impl Into<String>,
        since: UnixMillis,
    ) -> Self {
        Self {
            pid: std::process::id(),
            who: who.into(),
            what: what.into(),
            since,
        }
    }
}

impl Holder {
    /// Its fields, a line each. None of them has a line break when it is escaped.
    fn fields(&self) -> String {
        let (who, what) = (escape(self.who.as_bytes()), escape(self.what.as_bytes()));
        format!("{who}\n{what}\n{}\n{}\n", self.pid, self.since.0)
    }

    fn parse<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            who: lines.next()?.to_owned(),
            what: lines.next()?.to_owned(),
            pid: lines.next()?.parse().ok()?,
            since: UnixMillis(lines.next()?.parse().ok()?),
        })
    }
}

impl fmt::Display for Holder {
    /// `alice: push platform drupal (process 4242) since 2026-11-21 09:05:09 CET`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} (process {}) since {}",
            escape(self.who.as_bytes()),
            escape(self.what.as_bytes()),
            self.pid,
            self.since
        )
    }
}

/// A lock that this process holds until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says at once who has it.
    pub fn acquire(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let (mut tries, pause) = TRIES;
        loop {
            tries -= 1;
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries > 0 => sleep(pause),
                Err(TryLockError::WouldBlock) => {
                    let holder = current_holder(&mut file).map_err(failed)?;
                    return Err(LockError::Held { holder });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        // RACE: until this is written, a loser reads the last holder's line, or none. It is only
        // told the wrong name.
        describe(&mut file, holder).map_err(failed)?;
        Ok(Self { file })
    }

    /// Who has the lock at this moment, without waiting for it; `None` if nobody has. Whoever just
    /// took it may not have said yet who it is: then it is described as unknown, without a process.
    pub fn holder(path: &Path) -> Result<Option<Holder>, LockError> {
        let failed = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // A shared lock, for as long as it takes to give it back: it keeps nobody from anything
        // but a task that begins right now, and that tries more than once.
        match file.try_lock_shared() {
            Ok(()) => {
                file.unlock().map_err(failed)?;
                return Ok(None);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let text = described(&mut file).map_err(failed)?;
        Ok(Some(Holder::parse(text.lines().skip(1)).unwrap_or_else(
            || Holder {
                pid: 0,
                who: "unknown".into(),
                what: "a task that just started".into(),
                since: UnixMillis(0),
            },
        )))
    }

    /// Takes the lock, waiting for it at most this long.
    pub fn wait(path: &Path, holder: &Holder, at_most: Duration) -> Result<Self, LockError> {
        let start = Instant::now();
        loop {
            match Self::acquire(path, holder) {
                Err(LockError::Held { .. }) if start.elapsed() < at_most => sleep(POLL),
                done => return done,
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Best effort: the lock goes with the file in any case, and the line is only a name.
        let _emptied = self.file.set_len(0);
    }
}

fn describe(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = format!("{holder}\n{}", holder.fields());
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

fn described(file: &mut File) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(MAX_HOLDER_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn current_holder(file: &mut File) -> io::Result<String> {
    let mut line = Vec::new();
    file.take(MAX_HOLDER_BYTES).read_to_end(&mut line)?;
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    Ok(match escape(line) {
        line if line.is_empty() => "another task that just started".into(),
        line => line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(who: &str) -> Holder {
        Holder {
            pid: 4242,
            who: who.into(),
            what: "push platform drupal".into(),
            since: UnixMillis(0),
        }
    }

    #[test]
    fn the_loser_learns_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("platform-drupal.lock");
        let lock = Lock::acquire(&path, &holder("alice")).unwrap();
        let error = Lock::acquire(&path, &holder("bob")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("Locked by alice: push platform drupal (process 4242) since "),
            "{text}"
        );
        drop(lock);
        Lock::acquire(&path, &holder("bob")).unwrap();
    }

    #[test]
    fn a_look_names_the_holder_and_keeps_nobody_from_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(Lock::holder(&path).unwrap(), None);
        let lock = Lock::acquire(&path, &holder("alice")).unwrap();
        assert_eq!(Lock::holder(&path).unwrap(), Some(holder("alice")));
        drop(lock);
        assert_eq!(Lock::holder(&path).unwrap(), None);
        // What a killed task left says nothing, for nobody has the lock.
        std::fs::write(&path, format!("x\n{}", holder("bob").fields())).unwrap();
        assert_eq!(Lock::holder(&path).unwrap(), None);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..5_000).for_each(|_| drop(Lock::holder(&path).unwrap())));
            for _ in 0..500 {
                drop(Lock::acquire(&path, &holder("carol")).unwrap());
            }
        });
    }

    #[test]
    fn a_waiting_task_gets_the_lock_when_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::acquire(&path, &holder("alice")).unwrap();
        let second = Lock::wait(&path, &holder("bob"), Duration::from_millis(60));
        assert!(matches!(second, Err(LockError::Held { .. })));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(100));
                drop(lock);
            });
            Lock::wait(&path, &holder("bob"), Duration::from_secs(30)).unwrap();
        });
    }

    #[test]
    fn what_a_crashed_task_left_in_the_file_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(
            &path,
            "mallory\x1b[2J: a longer line than the next one will be, by far, \n",
        )
        .unwrap();
        let _lock = Lock::acquire(&path, &holder("bob")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("bob: push"), "{text}");
    }

    #[test]
    fn a_lock_file_that_cannot_be_made_is_an_error_with_its_path() {
        let error = Lock::acquire(Path::new("/nonexistent/lock"), &holder("bob")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/lock"), "{error}");
    }
}
