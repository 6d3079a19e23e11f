//! The failpoints of a member's commit, and for its own tests a counter over all of them.
//!
//! `FANOUT_FAILPOINTS` names points and is read once for a whole process. The tests of this module
//! want "fail at the n-th point, whichever it is", in one thread of many: the same points, counted.

use crate::fs::{FsError, fault};

/// Passes the failpoint `name`.
///
/// # Errors
/// The injected one.
pub fn point(name: &'static str) -> Result<(), FsError> {
    #[cfg(test)]
    counted::pass(name)?;
    fault::point(name)
}

#[cfg(test)]
pub(super) mod counted {
    use crate::fs::FsError;
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static ONCE: Cell<Option<i32>> = const { Cell::new(None) };
        static FAILED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// The `count`-th point from now on fails in this thread, and every one after it: a process
    /// that died doesn't go on. `None` disarms.
    pub(crate) fn fail_at(count: Option<u32>) {
        LEFT.set(count);
        ONCE.set(None);
    }

    /// The `count`-th point from now on fails in this thread with that error of the kernel, and
    /// none after it.
    pub(crate) fn fail_once(count: u32, errno: i32) {
        LEFT.set(Some(count));
        ONCE.set(Some(errno));
        FAILED.set(None);
    }

    /// The point that [`fail_once`] let fail. Disarms.
    pub(crate) fn failed() -> Option<&'static str> {
        fail_at(None);
        FAILED.take()
    }

    pub(super) fn pass(name: &'static str) -> Result<(), FsError> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                let mut error = std::io::ErrorKind::Other.into();
                if let Some(errno) = ONCE.get() {
                    fail_at(None);
                    FAILED.set(Some(name));
                    error = std::io::Error::from_raw_os_error(errno);
                }
                let op = "pass the failpoint";
                Err(FsError::from_io(op, name.as_bytes(), &error))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
