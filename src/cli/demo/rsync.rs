//! The competitor: `rsync -a`, one member after the other, as such scripts do it.
//!
//! It runs locally, without a network and without encryption, so it pays for neither; fanout pays
//! for both. What it doesn't do at all (staging, one switch for all, hashes) isn't in its time.

use crate::proc::{Program, RunError};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// LIMIT: how long one transfer may take.
const TIME: Duration = Duration::from_secs(1_800);

/// The rsync of this machine.
pub(super) struct Rsync {
    /// What it calls itself: `rsync version 3.2.7`.
    pub(super) version: String,
}

/// What some transfers took together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfers {
    pub(super) elapsed: Duration,
    pub(super) sent_bytes: u64,
}

impl Rsync {
    /// Looks for it; `None` where it isn't installed.
    pub(super) async fn find() -> Option<Self> {
        let output = Program::new("rsync")
            .arg("--version")
            .succeed()
            .await
            .ok()?;
        let text = output.text();
        let first = text.lines().next()?.split_whitespace();
        Some(Self {
            version: first.take(3).collect::<Vec<_>>().join(" "),
        })
    }

    /// `rsync -a --delete` to each of the directories.
    pub(super) async fn push(&self, from: &Path, to: &[PathBuf]) -> Result<Transfers, RunError> {
        self.run(&["-a", "--delete", "--stats"], from, to).await
    }

    /// The nearest it has to a verify: comparing every byte, changing nothing.
    pub(super) async fn compare(&self, from: &Path, to: &[PathBuf]) -> Result<Transfers, RunError> {
        let options = ["-a", "--delete", "--stats", "--checksum", "--dry-run"];
        self.run(&options, from, to).await
    }

    async fn run(
        &self,
        options: &[&str],
        from: &Path,
        to: &[PathBuf],
    ) -> Result<Transfers, RunError> {
        let start = Instant::now();
        let mut sent_bytes = 0;
        for to in to {
            let output = Program::new("rsync")
                .args(options)
                .arg(with_slash(from))
                .arg(with_slash(to))
                .env("LC_ALL", "C")
                .timeout(TIME)
                .succeed()
                .await?;
            sent_bytes += sent(&output.text());
        }
        Ok(Transfers {
            elapsed: start.elapsed(),
            sent_bytes,
        })
    }
}

/// The content of the directory, not the directory.
fn with_slash(path: &Path) -> OsString {
    let mut path = path.as_os_str().to_owned();
    path.push("/");
    path
}

/// The number in `Total bytes sent: 1,234,567`.
fn sent(statistics: &str) -> u64 {
    let line = statistics
        .lines()
        .find_map(|line| line.strip_prefix("Total bytes sent:"));
    let digits = line.unwrap_or_default().bytes().filter(u8::is_ascii_digit);
    digits.fold(0, |number: u64, digit| {
        number
            .saturating_mul(10)
            .saturating_add((digit - b'0').into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_read_from_its_statistics() {
        let text =
            "Number of files: 3 (reg: 2)\nTotal bytes sent: 1,234,567\nTotal bytes received: 9\n";
        assert_eq!(sent(text), 1_234_567);
        assert_eq!(sent("nothing of the kind"), 0);
    }
}
