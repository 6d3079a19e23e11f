//! Runs a program for which syncing does nothing: the calls return 0 at once.
//!
//! Two of the comparisons are without durability on either side. fanout has no option for that,
//! and shall have none, so a seccomp filter answers in the kernel's place.

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The first argument that makes this program one that becomes another.
pub(crate) const WORD: &str = "--become-without-sync";

const CALLS: [i64; 6] = [
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// Becomes the program that the arguments name.
pub(crate) fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let program = arguments.next().context("no program")?;
    let rules: BTreeMap<i64, _> = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(0),
        std::env::consts::ARCH.try_into()?,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(program).args(arguments).exec()).context("exec")
}
