//! Removes a whole tree, whatever it has become in the meantime.
//!
//! Relative to descriptors, never following a symlink and never entering another mount; the stack
//! of open directories is bounded, so that no depth can exhaust descriptors: what lies deeper is
//! first moved up to the top of the tree that is being removed.

use super::dir::Dir;
use super::error::FsError;
use super::list::read_names;
use super::stat::FileKind;
use rustix::io::Errno;
use sync_proto::path::Name;

/// Directories held open at once.
const MAX_HELD: usize = 64;

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
        match self.stat(name)? {
            None => return Ok(()),
            Some(stat) if !stat.is_directory() => return absent_is_fine(self.unlink(name)),
            Some(_) => {}
        }
        let mut lifted = 0;
        let mut stack = vec![self.empty_of_files(name)?];
        while let Some(top) = stack.last_mut() {
            if let Some(child) = top.pending.pop() {
                if stack.len() < MAX_HELD {
                    if let Some(doomed) = descend(&stack, &child)? {
                        stack.push(doomed);
                    }
                } else {
                    lift(&mut stack, &child, &mut lifted)?;
                }
                continue;
            }
            let Some(done) = stack.pop() else { break };
            let parent = stack.last().map_or(self, |above| &above.dir);
            match parent.remove_dir(&done.name) {
                // RACE: somebody still writes here. Another look; it ends when they do.
                Err(error) if error.source == Errno::NOTEMPTY => {
                    let again = parent.empty_of_files(&done.name)?;
                    stack.push(again);
                }
                other => absent_is_fine(other)?,
            }
        }
        Ok(())
    }

    /// Opens the directory `name`, removes what isn't a directory from it, and notes the rest.
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
}

/// Opens a child of the innermost directory; `None` if it went away or is no directory any more.
fn descend(stack: &[Doomed], child: &Name) -> Result<Option<Doomed>, FsError> {
    let Some(top) = stack.last() else {
        return Ok(None);
    };
    match top.dir.empty_of_files(child) {
        Ok(doomed) => Ok(Some(doomed)),
        Err(error) if error.is_not_found() => Ok(None),
        // RACE: it became a symlink or a file after it was listed.
        Err(error) if matches!(error.source, Errno::NOTDIR | Errno::LOOP) => {
            absent_is_fine(top.dir.unlink(child)).map(|()| None)
        }
        Err(error) => Err(error),
    }
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

fn absent_is_fine(result: Result<(), FsError>) -> Result<(), FsError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
