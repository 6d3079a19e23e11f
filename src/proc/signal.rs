//! Signals to server programs that this process didn't start.

use rustix::process::{Pid, Signal, kill_process};
use std::io;

/// What a server program is told by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Begin anew with the configuration on the disk (USR2, as PHP-FPM and HAProxy take it).
    Reload,
    /// Nothing: is it there?
    Nothing,
}

/// Tells a process something.
///
/// # Errors
/// There is no such process, or it isn't ours to tell.
pub fn tell(pid: u32, what: Tell) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let done = match what {
        Tell::Reload => kill_process(pid, Signal::USR2),
        Tell::Nothing => rustix::process::test_kill_process(pid),
    };
    Ok(done?)
}
