//! Somebody who works against a push: threads that exchange, move and replace names in a tree and
//! above it, each as the user that it is told, from the first moment to the last.

use super::is_root;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The site's own user and group.
pub(crate) const SITE_USER: u32 = 33;
/// Somebody else who may write there.
pub(crate) const OTHER_USER: u32 = 54_321;

/// How long attackers work and rest.
const CYCLE_MILLIS: u128 = 610;
const WORK_MILLIS: u128 = 330;

/// Attackers at work; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Attack {
    begun: Instant,
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        assert!(is_root(), "attackers become other users");
        Self {
            begun: Instant::now(),
            is_over: Arc::default(),
            done: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// One more attacker: `act` again and again as this user, each time with the number of the
    /// round. It returns whether it changed anything.
    pub(crate) fn by(
        mut self,
        user: u32,
        mut act: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Self {
        let (is_over, done) = (self.is_over.clone(), self.done.clone());
        let begun = self.begun;
        self.threads.push(std::thread::spawn(move || {
            become_user(user);
            for round in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let is_done = act(round);
                done.fetch_add(u64::from(is_done), Ordering::Relaxed);
                let rest = if is_done { 20 + round % 200 } else { 1_000 };
                std::thread::sleep(Duration::from_micros(rest));
                // All of them rest at the same time now and then, so that a push gets further than
                // its first look; it has its end in the next attack then.
                while begun.elapsed().as_millis() % CYCLE_MILLIS > WORK_MILLIS
                    && !is_over.load(Ordering::Relaxed)
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }));
        self
    }

    /// How many changes the attackers have made so far.
    pub(crate) fn changes(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the attack; returns how many changes were made.
    pub(crate) fn end(mut self) -> u64 {
        self.stop();
        self.changes()
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("an attacker");
            }
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Only this thread becomes that user: its rights on the disk are that user's.
fn become_user(user: u32) {
    if user == 0 {
        return;
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[gid]).expect("setgroups");
    set_thread_res_gid(gid, gid, gid).expect("setresgid");
    set_thread_res_uid(uid, uid, uid).expect("setresuid");
}

/// Exchanges two names; false if that isn't possible at the moment.
pub(crate) fn swap(a: &Path, b: &Path) -> bool {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

/// Exchanges two names and back again; false if nothing happened. It ends as it began, unless
/// somebody else renamed one of them in between.
pub(crate) fn flip(a: &Path, b: &Path, hold: Duration) -> bool {
    let is_done = swap(a, b);
    if is_done {
        std::thread::sleep(hold);
        for _ in 0..3 {
            if swap(a, b) {
                break;
            }
        }
    }
    is_done
}

/// Moves a name where nothing is.
pub(crate) fn shift(from: &Path, to: &Path) -> bool {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).is_ok()
}

/// A symlink to `target` at `path`, in the place of any file there; false if it can't be made.
pub(crate) fn trap(target: &Path, path: &Path) -> bool {
    let _absent = std::fs::remove_file(path);
    std::os::unix::fs::symlink(target, path).is_ok()
}

/// The directory that a root resolves to at the moment.
pub(crate) fn resolved(root: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(root).ok()
}
