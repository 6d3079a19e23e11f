//! The command line.

use clap::Parser;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// fanout next to rsync, tar, git and cp. Needs root; changes nothing outside `--out`.
#[derive(Debug, Parser)]
#[command(name = "vs_rsync")]
pub(crate) struct Options {
    /// Cases to run, such as P1 P4; a word ending in `*` takes all that begin so [default: all]
    pub(crate) cases: Vec<String>,
    /// Rounds of each case; every side runs once in each, and medians are printed
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: usize,
    /// Small trees and one round: shows that each case works, measures nothing worth printing
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where `vs_rsync.md` and `vs_rsync.json` go
    #[arg(long, value_name = "DIR", default_value = "target/vs_rsync")]
    pub(crate) out: PathBuf,
    /// Where the disks' images are made, such as a directory of a real disk [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub(crate) on: Option<PathBuf>,
    /// The program to measure, such as another version [default: the one just built]
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_fanout"))]
    #[arg(hide_default_value = true)]
    pub(crate) fanout: PathBuf,
    /// Name the cases and end
    #[arg(long)]
    pub(crate) list: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The program to measure.
    pub(crate) fn program(&self) -> &'static Path {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| self.fanout.clone())
    }

    /// Rounds of each case.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.runs.max(1) }
    }

    /// Files of the generated platform.
    pub(crate) fn platform_files(&self) -> usize {
        if self.quick {
            2_000
        } else {
            fanout::cli::demo::corpus::FULL_FILES
        }
    }

    /// Files of the large tree of P13.
    pub(crate) fn many_files(&self) -> usize {
        if self.quick { 20_000 } else { 1_000_000 }
    }

    /// The large file of so many MiB, or a small one.
    pub(crate) fn large_mib(&self, mib: u64) -> u64 {
        if self.quick { mib / 8 } else { mib }
    }

    /// LIMIT: how long one side may take in one round. What isn't done then is noted as such.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(if self.quick { 60 } else { 300 })
    }

    /// True if the case of this name was asked for.
    pub(crate) fn wants(&self, id: &str) -> bool {
        let is_it = |word: &String| match word.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == word || id.strip_prefix(word.as_str()).is_some_and(is_variant),
        };
        self.cases.is_empty() || self.cases.iter().any(is_it)
    }
}

/// `P4` means `P4-durable` as well.
fn is_variant(rest: &str) -> bool {
    rest.starts_with('-')
}
