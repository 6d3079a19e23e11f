//! Faults on demand: named points in the code where a test may kill the process, fail or wait.
//!
//! `FANOUT_FAILPOINTS` is read once. It holds `NAME=ACTION`, several separated by commas; an action
//! is `kill` (SIGKILL to this very process), `error:ERRNO`, `pause:MILLISECONDS` or `log:FILE`
//! (appends the name of the point), and `@3` after it means only the third time that the point is
//! passed. The name `*` is every point; after `since=NAME` nothing counts before that point was
//! passed for the first time. Without the variable a point costs one atomic load.
//!
//! [`POINTS`] is the list of all names: a specification with another one, or that can't be read, is
//! an error at the start and at the first point, so that no test passes only because its fault was
//! misspelled. `tests/it/agent/crash_points.rs` compares the list with the code and kills at each.

use super::error::FsError;
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static ARMED: OnceLock<Result<Armed, Misspelled>> = OnceLock::new();

/// The environment variable that arms the points.
pub const VARIABLE: &str = "FANOUT_FAILPOINTS";

/// Every point that there is.
pub const POINTS: &[&str] = &[
    "durable.create",
    "durable.overwrite",
    "durable.overwrite.sync",
    "durable.rename",
    "durable.sync",
    "durable.sync_dir",
    "durable.write",
    "fs.create_dir",
    "fs.create_file",
    "fs.exchange",
    "fs.hard_link",
    "fs.mknod",
    "fs.remove_dir",
    "fs.rename",
    "fs.symlink",
    "fs.sync_dir",
    "fs.syncfs",
    "fs.unlink",
    "hub.batch.after",
    "hub.batch.before",
    "hub.closing.after",
    "hub.closing.before",
    "hub.decision.after",
    "hub.decision.before",
    "hub.depot.collect",
    "hub.depot.put",
    "hub.depot.rename",
    "hub.depot.spool",
    "hub.depot.sync",
    "hub.index",
    "hub.store.commit",
    "member.abort.journal",
    "member.abort.unmake",
    "member.abort.vote",
    "member.aside",
    "member.aside.link",
    "member.collect.generation",
    "member.collect.record",
    "member.collect.undo",
    "member.commit.forward",
    "member.commit.record",
    "member.commit.sync",
    "member.exchange",
    "member.generation",
    "member.index.rename",
    "member.index.write",
    "member.lend",
    "member.overwritten",
    "member.overwritten.expire",
    "member.prepare.journal",
    "member.prepare.make",
    "member.prepare.sync",
    "member.prepare.vote",
    "member.put",
    "member.request",
    "member.retire.journal",
    "member.retire.stage",
    "member.retire.vote",
    "member.rmdir",
    "member.seed",
    "member.share.exchange",
    "member.share.link",
    "member.share.stray",
    "member.stage.directories",
    "member.stage.finish",
    "member.stage.seal",
    "member.stage.write",
    "member.swap.linked",
    "member.swap.parked",
    "member.swap.replaced",
    "member.switch",
    "member.switch.exchanged",
    "member.switched",
    "member.take",
    "member.touch",
    "member.undo.index",
    "member.undo.tree",
    "member.unlink",
    "member.window.done",
];

/// In the place of a name: every point.
const ANY: &str = "*";

struct Misspelled;

/// What the environment asked for.
#[derive(Debug, Default)]
struct Armed {
    points: Vec<Failpoint>,
    since: Option<String>,
    has_begun: AtomicBool,
}

#[derive(Debug)]
struct Failpoint {
    name: String,
    action: Action,
    /// Act only the n-th time; every time if `None`.
    only: Option<u64>,
    passed: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Fail(Errno),
    Pause(Duration),
    Log(PathBuf),
}

/// Passes the point `name`: normally nothing; under test whatever was asked for.
///
/// # Errors
/// The injected error, or `EINVAL` if the specification can't be read.
pub fn point(name: &'static str) -> Result<(), FsError> {
    errno(name).map_err(|errno| FsError::new("pass the failpoint", name.as_bytes(), errno))
}

/// The same for the system calls of [`Dir`](super::Dir), which say themselves what failed.
pub(super) fn errno(name: &'static str) -> Result<(), Errno> {
    #[cfg(test)]
    super::power::tick()?;
    match ARMED.get_or_init(from_environment) {
        Ok(armed) if armed.points.is_empty() => Ok(()),
        Ok(armed) => armed.pass(name),
        Err(Misspelled) => Err(Errno::INVAL),
    }
}

impl Armed {
    fn pass(&self, name: &str) -> Result<(), Errno> {
        if self.since.as_deref().is_none_or(|since| since == name) {
            self.has_begun.store(true, Ordering::Relaxed);
        }
        if !self.has_begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.points
            .iter()
            .filter(|point| point.name == name || point.name == ANY)
            .try_for_each(|point| point.pass(name))
    }
}

/// Whether the specification can be read; to be called at start, for a message that says why.
///
/// # Errors
/// The part that can't be read.
pub fn check() -> Result<(), String> {
    let said = |one| format!("{VARIABLE}: `{one}` is no failpoint with an action");
    std::env::var(VARIABLE).map_or(Ok(()), |specification| {
        parse(&specification).map(drop).map_err(said)
    })
}

/// Whether anything was asked for.
pub fn is_armed() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

fn from_environment() -> Result<Armed, Misspelled> {
    std::env::var(VARIABLE).map_or_else(
        |_| Ok(Armed::default()),
        |specification| parse(&specification).map_err(|_| Misspelled),
    )
}

fn parse(specification: &str) -> Result<Armed, String> {
    let mut armed = Armed::default();
    let all = specification.split(',').map(str::trim);
    for one in all.filter(|one| !one.is_empty()) {
        match one.split_once('=') {
            Some(("since", name)) if POINTS.contains(&name) => armed.since = Some(name.to_owned()),
            _ => armed
                .points
                .push(parse_one(one).ok_or_else(|| one.to_owned())?),
        }
    }
    Ok(armed)
}

fn parse_one(one: &str) -> Option<Failpoint> {
    let (name, action) = one.split_once('=')?;
    if name != ANY && !POINTS.contains(&name) {
        return None;
    }
    let (action, only) = match action.split_once('@') {
        Some((action, count)) => (action, Some(count.parse().ok().filter(|&n| n > 0)?)),
        None => (action, None),
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        Some(("error", errno)) => Action::Fail(errno_of(errno)?),
        Some(("pause", millis)) => Action::Pause(Duration::from_millis(millis.parse().ok()?)),
        Some(("log", path)) => Action::Log(path.into()),
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
        "EINVAL" => Errno::INVAL,
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
    fn pass(&self, name: &str) -> Result<(), Errno> {
        let times = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.only.is_some_and(|only| only != times) {
            return Ok(());
        }
        match &self.action {
            Action::Kill => kill_this_process(),
            Action::Fail(errno) => Err(*errno),
            Action::Pause(duration) => {
                std::thread::sleep(*duration);
                Ok(())
            }
            Action::Log(path) => log(path, name),
        }
    }
}

/// One write, so that the lines of threads and processes don't mix.
fn log(path: &Path, name: &str) -> Result<(), Errno> {
    let mut options = File::options();
    let file = options.append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
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
            "fs.rename",
            "fs.rename=die",
            "fs.rename=error:EWHAT",
            "fs.rename=kill@0",
            "fs.rename=kill@x",
            "fs.rename=pause:soon",
            "fs.renam=kill",
            "member.switch=kill,member.swich=kill",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("").unwrap().points.is_empty());
        assert!(parse("since=member.switc,*=kill").is_err());
    }

    #[test]
    fn a_counted_failpoint_acts_only_that_time() {
        let points = parse("member.put=error:ENOSPC@3, *=pause:1")
            .unwrap()
            .points;
        let point = &points[0];
        assert_eq!(points[1].action, Action::Pause(Duration::from_millis(1)));
        assert_eq!(point.pass("member.put"), Ok(()));
        assert_eq!(point.pass("member.put"), Ok(()));
        assert!(point.pass("member.put") == Err(Errno::NOSPC));
        assert_eq!(point.pass("member.put"), Ok(()));
    }
    #[test]
    fn before_its_beginning_nothing_counts() {
        let armed = parse("since=member.switch,fs.rename=error:EIO@2").unwrap();
        assert_eq!(armed.pass("fs.rename"), Ok(()));
        assert_eq!(armed.pass("fs.rename"), Ok(()));
        assert_eq!(armed.pass("member.switch"), Ok(()));
        assert_eq!(armed.pass("fs.rename"), Ok(()));
        assert_eq!(armed.pass("fs.rename"), Err(Errno::IO));
    }
}
