//! The files and directories of a site that belong to the member: what leads the application to its
//! settings, and what it writes into.
//!
//! Refuses to touch a file that doesn't say that fanout put it there.

use super::super::super::trees::Trees;
use super::site::LocalSite;
use crate::codes::{Code, Problem};
use crate::engine::member::reach;
use crate::engine::member::refusal::of_fs;
use crate::fs::durable::write_atomically;
use crate::fs::read::read_small;
use crate::fs::{Dir, owner};
use crate::services::app::{MARK, SETTINGS_VARIABLE, Stub, stubs, upload_paths, written_dirs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use sync_proto::path::{Name, RelPath, escape};
use sync_proto::wire::service::AppSettings;

/// LIMIT: bytes of a settings file that are read.
pub(super) const SETTINGS_BYTES: u64 = 4 << 20;
/// The mark is looked for in so many bytes at the beginning.
const MARK_WITHIN: usize = 512;

/// A settings file as it is.
pub(super) enum Found {
    Absent,
    File(Vec<u8>),
    /// A symlink or the like: somebody's own arrangement.
    Other,
}

impl LocalSite {
    /// Puts everything into place. True if something was changed.
    pub(super) fn prepare(
        &self,
        trees: &Trees,
        hosts: &[(String, String)],
        share: &[u8],
    ) -> Result<bool, Problem> {
        // Before anything is made: a share that is none stops it all.
        let share = match share {
            [] => None,
            path => Some(super::super::share::share(trees, path)?),
        };
        let mut changed = false;
        for stub in stubs(&self.app, hosts) {
            changed |= self.place_stub(&stub)?;
        }
        let uploads: Vec<RelPath> = upload_paths(&self.app)
            .into_iter()
            .map(|upload| upload.path)
            .collect();
        for path in written_dirs(&self.app) {
            changed |= match &share {
                Some(share) if uploads.contains(&path) => self.lead_to_share(&path, share)?,
                _ => self.make_dir(&path)?,
            };
        }
        Ok(changed)
    }

    /// What a preparation would make, as far as that depends on this site alone.
    pub(super) fn unprepared(&self) -> Result<Vec<String>, Problem> {
        let mut paths = Vec::new();
        for stub in stubs(&self.app, &[]) {
            let is_due = match self.found(&stub.path)? {
                Found::Absent => true,
                Found::File(bytes) => is_ours(&bytes) && bytes != stub.text.as_bytes(),
                Found::Other => false,
            };
            if is_due {
                paths.push(stub.path);
            }
        }
        for path in written_dirs(&self.app) {
            // Something else in its place is somebody's own arrangement.
            if matches!(reach::directory(&self.place, &path, false), Ok(None)) {
                paths.push(escape(path.as_bytes()));
            }
        }
        Ok(paths)
    }

    /// Puts one stub into its place, unless there is a file of somebody else.
    pub(super) fn place_stub(&self, stub: &Stub) -> Result<bool, Problem> {
        match self.found(&stub.path)? {
            Found::File(bytes) if bytes == stub.text.as_bytes() => return Ok(false),
            Found::File(bytes) if !is_ours(&bytes) => return Ok(false),
            Found::Other => return Ok(false),
            Found::File(_) | Found::Absent => {}
        }
        self.write(&stub.path, stub.text.as_bytes())?;
        Ok(true)
    }

    /// Writes our stub again, so that it has a new time. False if the file isn't ours.
    pub(super) fn renew_stub(&self) -> Result<bool, Problem> {
        let Some(stub) = stubs(&self.app, &[]).into_iter().find(|stub| stub.includes) else {
            return Ok(false);
        };
        match self.found(&stub.path)? {
            Found::File(bytes) if is_ours(&bytes) => {
                self.write(&stub.path, &bytes)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What leads the application to its settings.
    pub(super) fn settings_state(&self) -> Result<AppSettings, Problem> {
        let Some(stub) = stubs(&self.app, &[]).into_iter().find(|stub| stub.includes) else {
            return Ok(AppSettings::Unneeded);
        };
        Ok(match self.found(&stub.path)? {
            Found::Absent => AppSettings::Absent,
            Found::File(bytes) if is_ours(&bytes) => AppSettings::Ours,
            Found::File(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                match text.contains(SETTINGS_VARIABLE) {
                    true => AppSettings::Including,
                    false => AppSettings::Foreign,
                }
            }
            Found::Other => AppSettings::Foreign,
        })
    }

    /// The settings file's path, for messages.
    pub(super) fn settings_shown(&self) -> String {
        let stub = stubs(&self.app, &[]).into_iter().find(|stub| stub.includes);
        stub.map_or_else(String::new, |stub| stub.path)
    }

    /// What lies at a path of the tree.
    pub(super) fn found(&self, path: &str) -> Result<Found, Problem> {
        let entry = reach::entry(&self.place, &rel(path)?, false).map_err(|error| of_fs(&error))?;
        let Some((dir, name)) = entry else {
            return Ok(Found::Absent);
        };
        match dir.stat(&name).map_err(|error| of_fs(&error))? {
            None => Ok(Found::Absent),
            Some(stat) if stat.is_file() => {
                let (bytes, _) = read_small(&dir, &name, None, SETTINGS_BYTES)
                    .map_err(|error| Problem::from_error(Code::UploadsRefused, &error))?;
                Ok(Found::File(bytes))
            }
            Some(_) => Ok(Found::Other),
        }
    }

    /// Replaces a file of ours.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Problem> {
        let (dir, name) = self.entry(path)?;
        write_atomically(&dir, &name, bytes, 0o644).map_err(|error| of_fs(&error))
    }

    /// Removes a file of ours.
    pub(super) fn remove(&self, path: &str) -> Result<(), Problem> {
        let (dir, name) = self.entry(path)?;
        match dir.unlink(&name) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map_err(|error| of_fs(&error)),
        }
    }

    fn entry(&self, path: &str) -> Result<(Dir, Name), Problem> {
        // Only then there is a live tree to put something into.
        self.live()?;
        let entry = reach::entry(&self.place, &rel(path)?, true).map_err(|error| of_fs(&error))?;
        entry.ok_or_else(|| {
            let shown = escape(path.as_bytes());
            Problem::new(
                Code::PathChanged,
                format!("The directory of `{shown}` went away"),
            )
        })
    }

    /// Makes a directory that the application writes into.
    fn make_dir(&self, path: &RelPath) -> Result<bool, Problem> {
        self.live()?;
        let there = reach::entry(&self.place, path, true).map_err(|error| of_fs(&error))?;
        let Some((parent, name)) = there else {
            return Ok(false);
        };
        // A symlink of somebody's own, or a mount: where they lead is that person's arrangement.
        match parent.stat(&name).map_err(|error| of_fs(&error))? {
            Some(stat) if !stat.is_directory() => return Ok(false),
            Some(_) => {
                return match parent.open_dir(&name) {
                    Err(error) if error.is_other_mount() => Ok(false),
                    Err(error) => Err(of_fs(&error)),
                    Ok(dir) => self.take_over(&dir),
                };
            }
            None => {}
        }
        let mode = if name.as_bytes() == b"private" {
            0o750
        } else {
            0o755
        };
        let dir = parent
            .create_dir(&name, mode)
            .map_err(|error| of_fs(&error))?;
        owner::give(&dir, self.ids, dir.path_for_messages()).map_err(|error| of_fs(&error))?;
        Ok(true)
    }

    /// Gives an empty directory, such as a push made it, to the site's user. One with content has an
    /// owner for some reason.
    fn take_over(&self, dir: &Dir) -> Result<bool, Problem> {
        let stat = dir.stat_self().map_err(|error| of_fs(&error))?;
        if (stat.uid, stat.gid) == self.ids || !dir.list().map_err(|e| of_fs(&e))?.is_empty() {
            return Ok(false);
        }
        owner::give(dir, self.ids, dir.path_for_messages()).map_err(|error| of_fs(&error))?;
        Ok(true)
    }

    /// Lets the upload directory be a symlink to a directory of the site's own on the share.
    fn lead_to_share(
        &self,
        path: &RelPath,
        (on_share, share): &(Dir, PathBuf),
    ) -> Result<bool, Problem> {
        self.live()?;
        let base = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string());
        let own = format!("{}-{base}", self.app.uri.file_name());
        let own = Name::parse(own.as_bytes())
            .map_err(|error| Problem::from_error(Code::NameInvalid, &error))?;
        let target = [share.as_os_str().as_bytes(), b"/", own.as_bytes()].concat();
        let entry = reach::entry(&self.place, path, true).map_err(|error| of_fs(&error))?;
        let Some((parent, name)) = entry else {
            return Ok(false);
        };
        match parent.stat(&name).map_err(|error| of_fs(&error))? {
            Some(stat) if stat.is_symlink() => {
                let there = parent.read_link(&name).map_err(|error| of_fs(&error))?;
                if there == target {
                    return Ok(false);
                }
                let message = format!(
                    "`{}` leads to `{}`, and should lead to `{}`",
                    escape(path.as_bytes()),
                    escape(&there),
                    escape(&target)
                );
                return Err(Problem::new(Code::ShareWrong, message));
            }
            Some(stat) if stat.is_directory() => {
                let dir = match parent.open_dir(&name) {
                    // The share is mounted right there.
                    Err(error) if error.is_other_mount() => return Ok(false),
                    other => other.map_err(|error| of_fs(&error))?,
                };
                if !dir.list().map_err(|error| of_fs(&error))?.is_empty() {
                    let shown = escape(path.as_bytes());
                    let message = format!("`{shown}` holds files that are not on the share");
                    return Err(Problem::new(Code::ShareWrong, message).with_hint(format!(
                        "move them to `{}` on the share, and remove the directory",
                        escape(&target)
                    )));
                }
                drop(dir);
                parent.remove_dir(&name).map_err(|error| of_fs(&error))?;
            }
            Some(_) => {
                let message = format!("`{}` is no directory", escape(path.as_bytes()));
                return Err(Problem::new(Code::ShareWrong, message));
            }
            None => {}
        }
        if on_share
            .stat(&own)
            .map_err(|error| of_fs(&error))?
            .is_none()
        {
            let dir = on_share
                .create_dir_if_absent(&own, 0o755)
                .map_err(|error| of_fs(&error))?;
            owner::give(&dir, self.ids, dir.path_for_messages()).map_err(|error| of_fs(&error))?;
        }
        parent
            .symlink(&target, &name)
            .map_err(|error| of_fs(&error))?;
        Ok(true)
    }
}

/// Does the file say that fanout put it there?
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    let head = bytes.get(..MARK_WITHIN).unwrap_or(bytes);
    String::from_utf8_lossy(head).contains(MARK)
}

fn rel(path: &str) -> Result<RelPath, Problem> {
    RelPath::parse(path.as_bytes())
        .map_err(|error| Problem::from_error(Code::PathNotAllowed, &error))
}
