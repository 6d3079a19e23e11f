//! Faults on demand: named points in the code where a test may kill the process, fail or wait.
//!
//! `FANOUT_FAILPOINTS` is read once. It holds `NAME=ACTION`, several separated by commas; an action
//! is `kill` (SIGKILL to this very process), `error:ERRNO` or `pause:MILLISECONDS`, and `@3` after
//! it means only the third time that the point is passed. Without the variable a point costs one
//! atomic load.
//!
//! A specification that can't be read is an error at the first point, so that no test passes only
//! because its fault was misspelled.

use super::error::FsError;
use rustix::io::Errno;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static ARMED: OnceLock<Result<Vec<Failpoint>, Misspelled>> = OnceLock::new();

/// The environment variable that arms the points.
pub const VARIABLE: &str = "FANOUT_FAILPOINTS";

struct Misspelled;

#[derive(Debug)]
struct Failpoint {
    name: String,
    action: Action,
    /// Act only the n-th time; every time if `None`.
    only: Option<u64>,
    passed: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Fail(Errno),
    Pause(Duration),
}

/// Passes the point `name`: normally nothing; under test whatever was asked for.
///
/// # Errors
/// The injected error, or `EINVAL` if the specification can't be read.
pub fn point(name: &'static str) -> Result<(), FsError> {
    errno(name).map_err(|errno| FsError::new("pass the failpoint", name.as_bytes(), errno))
}

/// The same for the system calls of [`Dir`](super::Dir), which say themselves what failed. Their
/// points are `fs.create_file`, `fs.create_dir`, `fs.symlink`, `fs.hard_link`, `fs.rename`, `fs.unlink`,
/// `fs.remove_dir`, `fs.sync_dir` and `fs.syncfs`.
pub(super) fn errno(name: &'static str) -> Result<(), Errno> {
    match ARMED.get_or_init(from_environment) {
        Ok(points) if points.is_empty() => Ok(()),
        Ok(points) => points
            .iter()
            .filter(|point| point.name == name)
            .try_for_each(Failpoint::pass),
        Err(Misspelled) => Err(Errno::INVAL),
    }
}

/// Whether the specification can be read; to be called at start, for a message that says why.
///
/// # Errors
/// The part that can't be read.
pub fn check() -> Result<(), String> {
    std::env::var(VARIABLE).map_or(Ok(()), |specification| parse(&specification).map(drop))
}

fn from_environment() -> Result<Vec<Failpoint>, Misspelled> {
    std::env::var(VARIABLE).map_or_else(
        |_| Ok(Vec::new()),
        |specification| parse(&specification).map_err(|_| Misspelled),
    )
}

fn parse(specification: &str) -> Result<Vec<Failpoint>, String> {
    specification
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(|one| parse_one(one).ok_or_else(|| one.to_owned()))
        .collect()
}

fn parse_one(one: &str) -> Option<Failpoint> {
    let (name, action) = one.split_once('=')?;
    let (action, only) = match action.split_once('@') {
        Some((action, count)) => (action, Some(count.parse().ok().filter(|&n| n > 0)?)),
        None => (action, None),
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        Some(("error", errno)) => Action::Fail(errno_of(errno)?),
        Some(("pause", millis)) => Action::Pause(Duration::from_millis(millis.parse().ok()?)),
        _ => return None,
    };
    Some(Failpoint {
        name: name.to_owned(),
        action,
        only,
        passed: AtomicU64::new(0),
    })
}

fn errno_of(name: &str) -> Option<Errno> {
    Some(match name {
        "EACCES" => Errno::ACCESS,
        "EDQUOT" => Errno::DQUOT,
        "EEXIST" => Errno::EXIST,
        "EIO" => Errno::IO,
        "EMFILE" => Errno::MFILE,
        "ENOENT" => Errno::NOENT,
        "ENOSPC" => Errno::NOSPC,
        "EPERM" => Errno::PERM,
        "EROFS" => Errno::ROFS,
        "EXDEV" => Errno::XDEV,
        _ => return None,
    })
}

impl Failpoint {
    fn pass(&self) -> Result<(), Errno> {
        let times = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.only.is_some_and(|only| only != times) {
            return Ok(());
        }
        match self.action {
            Action::Kill => kill_this_process(),
            Action::Fail(errno) => Err(errno),
            Action::Pause(duration) => {
                std::thread::sleep(duration);
                Ok(())
            }
        }
    }
}

/// Dies like by the out-of-memory killer or a power switch: nothing is flushed or dropped.
fn kill_this_process() -> Result<(), Errno> {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    // The signal is delivered before the system call returns, unless a debugger holds it back.
    Err(Errno::INTR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_failpoint_is_an_error_and_not_silence() {
        for bad in [
            "a",
            "a=die",
            "a=error:EWHAT",
            "a=kill@0",
            "a=kill@x",
            "a=pause:soon",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_counted_failpoint_acts_only_that_time() {
        let points = parse("commit.step=error:ENOSPC@3, other=pause:1").unwrap();
        let point = &points[0];
        assert_eq!(points[1].action, Action::Pause(Duration::from_millis(1)));
        assert_eq!(point.pass(), Ok(()));
        assert_eq!(point.pass(), Ok(()));
        assert!(point.pass() == Err(Errno::NOSPC));
        assert_eq!(point.pass(), Ok(()));
    }
}
