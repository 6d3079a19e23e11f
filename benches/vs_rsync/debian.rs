//! Debian's WordPress and MediaWiki, fetched as the tests fetch them, before the sandbox is
//! entered: in there is no way out. They are kept in `target/tmp/debian`.

use crate::disk::text;
use crate::options::Options;
use crate::shell;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

#[path = "../../tests/it/support/debian.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod packages;
#[path = "../../tests/it/support/run.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod run;

/// What `packages` needs of the tests' `tree`.
mod tree {
    pub(crate) use super::change_time as set_mtime;
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fetches what the chosen cases need. What can't be had is missing later, where it is noted.
pub(crate) fn prepare(options: &Options) -> Result<()> {
    for (id, fetch) in [
        ("D1", packages::wordpress as fn() -> PathBuf),
        ("D2", packages::mediawiki),
    ] {
        if options.wants(id) {
            // It panics with the reason, as tests do.
            let _reason_was_printed = std::thread::spawn(fetch).join();
        }
    }
    Ok(())
}

/// Copies an unpacked package to `to`.
pub(crate) fn copy(name: &str, to: &Path) -> Result<()> {
    let cached = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("debian")
        .join(name);
    shell::run(&["cp", "-a", text(&cached)?, text(to)?])
        .with_context(|| format!("Debian's {name} could not be fetched before"))
}

pub(crate) fn change_time(path: &Path, seconds: i64, nanoseconds: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| panic!("set the time of {}: {error}", path.display()));
}
