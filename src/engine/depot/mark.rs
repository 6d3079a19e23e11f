//! The mark of a depot that holds what may not be durable yet.
//!
//! A file gets its final name before its content is on the disk; one `syncfs` before the decision
//! makes all of a push durable at once. After an outage in between, what bears a final name may be
//! torn, and the next push would take it for stored. So the mark is durable before the first file,
//! and goes after the `syncfs`; whoever finds one that no living process holds reads everything and
//! removes what isn't what its name says.

use super::objects::digest_of;
use super::{Depot, DepotError, fixed_name, hex_name, read, unpack_manifest};
use crate::fs::lock::{Lock, LockError};
use crate::fs::{Dir, FsError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sync_proto::delta::chunk::ChunkList;
use sync_proto::digest::Digest;
use sync_proto::path::Name;

const PREFIX: &str = "unsynced.";

/// The mark of one process.
#[derive(Debug)]
pub(super) struct Mark {
    dir: Dir,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<(Name, Lock)>,
    /// Files begun, and those of them that are not in place yet.
    begun: u64,
    running: u64,
    names: u64,
}

/// One file on its way.
pub(super) struct Putting<'a>(&'a Mark);

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

impl Mark {
    pub(super) fn new(dir: Dir) -> Self {
        Self {
            dir,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while a file is put.
    pub(super) fn putting(&self) -> Result<Putting<'_>, FsError> {
        let mut state = self.state();
        while state.held.is_none() {
            let name = format!("{PREFIX}{}.{}", std::process::id(), state.names);
            let name = fixed_name(name.as_bytes());
            state.names += 1;
            match Lock::try_acquire(&self.dir, &name, "") {
                Ok(lock) => {
                    // ORDER: the mark is durable before what it is about.
                    self.dir.sync()?;
                    state.held = Some((name, lock));
                }
                // Somebody looks whether it was abandoned.
                Err(LockError::Held { .. }) => {}
                Err(LockError::Fs(error)) => return Err(error),
            }
        }
        state.begun += 1;
        state.running += 1;
        Ok(Putting(self))
    }

    /// Runs `sync`, and takes the mark away if nothing was put meanwhile.
    pub(super) fn settle(&self, sync: impl FnOnce() -> Result<(), FsError>) -> Result<(), FsError> {
        let before = Some(self.state())
            .filter(|state| state.running == 0)
            .map(|state| state.begun);
        sync()?;
        let mut state = self.state();
        if Some(state.begun) == before
            && let Some((name, _lock)) = state.held.take()
        {
            self.dir.unlink(&name)?;
        }
        Ok(())
    }

    /// The marks of processes that are gone, now ours.
    pub(super) fn abandoned(&self) -> Result<Vec<(Name, Lock)>, FsError> {
        let mut found = Vec::new();
        for listed in self.dir.list()? {
            if listed.name.as_bytes().starts_with(PREFIX.as_bytes()) {
                match Lock::try_acquire(&self.dir, &listed.name, "") {
                    Ok(lock) => found.push((listed.name, lock)),
                    Err(LockError::Held { .. }) => {}
                    Err(LockError::Fs(error)) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Takes away marks of processes that are gone.
    pub(super) fn forget(&self, abandoned: Vec<(Name, Lock)>) -> Result<(), FsError> {
        for (name, _lock) in abandoned {
            match self.dir.unlink(&name) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Depot {
    /// Removes what an interrupted push left torn, if one was interrupted.
    pub(super) fn mend(&self) -> Result<(), DepotError> {
        let abandoned = self.mark.abandoned()?;
        if abandoned.is_empty() {
            return Ok(());
        }
        let mut removed = remove_torn(&self.manifests, |id, bytes| {
            unpack_manifest(*id, bytes).is_ok_and(|manifest| manifest.roots().id() == *id)
        })?;
        removed += remove_torn(&self.chunks, |id, bytes| {
            ChunkList::parse(bytes).is_ok_and(|list| list.content() == *id)
        })?;
        for shard in self.objects.list()? {
            if let Some(dir) = self.objects.try_open_dir(&shard.name)? {
                removed += remove_torn(&dir, |id, bytes| Digest::of(bytes) == *id)?;
            }
        }
        tracing::info!(removed, "the depot was read through after an interruption");
        // ORDER: what was found whole was perhaps so in memory only.
        self.objects.syncfs()?;
        Ok(self.mark.forget(abandoned)?)
    }
}

fn remove_torn(dir: &Dir, is_whole: impl Fn(&Digest, &[u8]) -> bool) -> Result<u64, DepotError> {
    let mut removed = 0;
    for listed in dir.list()? {
        let Some(id) = digest_of(&listed.name).filter(|id| hex_name(id) == listed.name) else {
            continue;
        };
        if read(dir, &listed.name)?.is_some_and(|bytes| !is_whole(&id, &bytes)) {
            dir.unlink(&listed.name)?;
            removed += 1;
        }
    }
    Ok(removed)
}
