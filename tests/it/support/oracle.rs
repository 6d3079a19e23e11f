//! rsync, the tool that fanout measures itself by, as an independent witness of what a copy of a
//! tree has to look like.

use super::run::{run, run_within};
use super::snapshot::Snapshot;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// The options that preserve whatever rsync can preserve. Without the last one rsync takes times
/// in the same second for equal, and leaves the fraction of those that it finds so.
pub(crate) const EVERYTHING: [&str; 4] =
    ["-aHAXS", "--numeric-ids", "--delete", "--modify-window=-1"];

/// Makes `destination` a copy of the content of `source` by `rsync` with the options
/// [`EVERYTHING`] and then `extra`.
#[track_caller]
pub(crate) fn rsync_copy(source: &Path, destination: &Path, extra: &[&str]) {
    announce();
    std::fs::create_dir_all(destination).expect("create the destination");
    let mut command = Command::new("rsync");
    command
        .args(EVERYTHING)
        .args(extra)
        .arg("--")
        .arg(source.join(""))
        .arg(destination.join(""));
    run_within(&mut command, b"", LIMIT).success();
}

/// What rsync makes of `source` in an empty place, as a value.
#[track_caller]
pub(crate) fn expected(source: &Path) -> Snapshot {
    let place = tempfile::tempdir().expect("a temporary directory");
    let copy = place.path().join("expected");
    rsync_copy(source, &copy, &[]);
    Snapshot::read(&copy)
}

/// The first line of `rsync --version`.
#[track_caller]
pub(crate) fn rsync_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let text = run(Command::new("rsync").arg("--version")).success().text();
        text.lines().next().unwrap_or_default().to_owned()
    })
}

fn announce() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| eprintln!("oracle: {}", rsync_version()));
}
