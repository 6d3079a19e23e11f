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
    }

    /// The `count`-th point from now on fails in this thread, and every one after it: a process
    /// that died doesn't go on. `None` disarms.
    pub(crate) fn fail_at(count: Option<u32>) {
        LEFT.set(count);
    }

    pub(super) fn pass(name: &'static str) -> Result<(), FsError> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(FsError::from_io(
                "pass the failpoint",
                name.as_bytes(),
                &std::io::ErrorKind::Other.into(),
            )),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
