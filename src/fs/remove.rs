//! Removes a whole tree, whatever it has become in the meantime.
//!
//! Relative to descriptors, never following a symlink and never entering another mount; the stack
//! of open directories is bounded, so that no depth can exhaust descriptors: what lies deeper is
//! first moved up to the top of the tree that is being removed.

use super::dir::Dir;
use super::error::{FsError, absent_is_fine};
use super::list::read_names;
use super::stat::FileKind;
use super::xattr::Target;
use rustix::fs::Mode;
use rustix::io::Errno;
use sync_proto::path::Name;

/// Directories held open at once.
const MAX_HELD: usize = 64;
/// LIMIT: how often somebody who keeps writing below may make us start over.
const MAX_SECOND_LOOKS: u32 = 1_000;

/// A directory that is being emptied.
struct Doomed {
    dir: Dir,
    name: Name,
    /// Directories in it that are still to be emptied.
    pending: Vec<Name>,
}

impl Dir {
    /// Removes `name` and everything below it. It is no error if nothing bears that name.
    ///
    /// # Errors
    /// The first entry that can't be removed, such as another mount; the rest may be gone.
    pub fn remove_tree(&self, name: &Name) -> Result<(), FsError> {
        let mut lifted = 0;
        let mut second_looks = 0;
        let mut stack = Vec::from_iter(self.empty_or_unlink(name)?);
        while let Some(top) = stack.last_mut() {
            if let Some(child) = top.pending.pop() {
                if stack.len() >= MAX_HELD {
                    lift(&mut stack, &child, &mut lifted)?;
                } else if let Some(top) = stack.last()
                    && let Some(doomed) = top.dir.empty_or_unlink(&child)?
                {
                    stack.push(doomed);
                }
                continue;
            }
            let Some(done) = stack.pop() else { break };
            let parent = stack.last().map_or(self, |above| &above.dir);
            match parent.remove_dir(&done.name) {
                // RACE: somebody still writes or swaps names here. Another look.
                Err(error) if is_swapped(&error) && second_looks < MAX_SECOND_LOOKS => {
                    second_looks += 1;
                    stack.extend(parent.empty_or_unlink(&done.name)?);
                }
                other => absent_is_fine(other)?,
            }
        }
        Ok(())
    }

    /// Removes what isn't a directory from the directory `name`, and notes the rest; removes `name`
    /// itself if it is none. `None` if nothing is left to do.
    fn empty_or_unlink(&self, name: &Name) -> Result<Option<Doomed>, FsError> {
        let emptied = match self.empty_of_files(name) {
            // An ordinary user can't empty a directory without its write bit, not even their own.
            Err(error) if error.source == Errno::ACCESS && self.make_passable(name) => {
                self.empty_of_files(name)
            }
            other => other,
        };
        match emptied {
            Ok(doomed) => Ok(Some(doomed)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if matches!(error.source, Errno::NOTDIR | Errno::LOOP) => {
                match self.unlink(name) {
                    // RACE: it was no directory a moment ago. It stays, the directory above isn't
                    // empty then, and that takes another look.
                    Err(error) if error.source == Errno::ISDIR => Ok(None),
                    other => absent_is_fine(other).map(|()| None),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn empty_of_files(&self, name: &Name) -> Result<Doomed, FsError> {
        let dir = self.open_dir(name)?;
        let names = read_names(&dir).map_err(|errno| dir.error("list", b"", errno))?;
        let mut pending = Vec::new();
        for entry in names {
            let is_directory = match entry.kind {
                FileKind::Directory => true,
                FileKind::Unknown => dir.stat(&entry.name)?.is_some_and(|s| s.is_directory()),
                _ => false,
            };
            if is_directory {
                pending.push(entry.name);
                continue;
            }
            match dir.unlink(&entry.name) {
                // RACE: it was replaced by a directory after it was listed.
                Err(error) if error.source == Errno::ISDIR => pending.push(entry.name),
                other => absent_is_fine(other)?,
            }
        }
        Ok(Doomed {
            dir,
            name: name.clone(),
            pending,
        })
    }

    /// Gives the owner of the directory `name` all rights to it; false if that is not us.
    fn make_passable(&self, name: &Name) -> bool {
        Target::entry(self, name).is_ok_and(|target| {
            target.stat().is_ok_and(|stat| stat.is_directory())
                && rustix::fs::chmod(target.magic_link(), Mode::RWXU).is_ok()
        })
    }
}

/// The directory has entries again, or its name names something else.
fn is_swapped(error: &FsError) -> bool {
    matches!(error.source, Errno::NOTEMPTY | Errno::NOTDIR)
}

/// Moves a directory that lies too deep up to the top of the doomed tree, to be removed there.
fn lift(stack: &mut [Doomed], child: &Name, lifted: &mut u32) -> Result<(), FsError> {
    loop {
        let free = format!(".removing-{lifted}");
        *lifted += 1;
        let [first, .., last] = stack else {
            return Ok(());
        };
        let free = Name::parse(free.as_bytes())
            .map_err(|_| last.dir.error("lift", child.as_bytes(), Errno::INVAL))?;
        match last.dir.rename_noreplace(child, &first.dir, &free) {
            Ok(()) => {
                first.pending.push(free);
                return Ok(());
            }
            Err(error) if error.source == Errno::EXIST => {}
            other => return absent_is_fine(other),
        }
    }
}
