//! A started program that doesn't outlive its owner.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use tokio::process::Child;

/// A child that doesn't outlive us: dropping it kills it, and the group that it leads.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    group: Option<Pid>,
}

impl Running {
    pub(super) fn new(child: Child, leads_group: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = id.and_then(Pid::from_raw).filter(|_| leads_group);
        Self { child, group }
    }

    /// Kills it and its group, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        self.kill_group();
        self.disarm();
        self.child.kill().await
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            // It may be gone already, which is what we want.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }

    /// Leaves alone what the child left behind on purpose, after it ended by itself.
    pub(super) fn disarm(&mut self) {
        self.group = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // RACE: a child that has been waited for may have had its id taken over by another
        // process group since. `disarm` is called right after each successful wait; an overflow
        // is the one case in which the group is killed after its leader may have ended, and then
        // the kernel keeps the id taken for as long as any process of the group lives.
        self.kill_group();
    }
}
