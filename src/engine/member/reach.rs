//! The way to what belongs to the member in a live tree: preserved directories and files, wherever
//! the layout keeps them.
//!
//! Goes name by name from the live root. The only symlinks that it takes are our own, which lead
//! from a generation into `shared/` under the same path; any other is an error, as is another kind
//! of thing. Never looks at what a directory holds.

use super::place::Place;
use super::shared::shared_target;
use crate::fs::{Dir, FsError};
use rustix::io::Errno;
use sync_proto::path::{Name, RelPath};

/// Opens the directory at `path` of the live tree; `None` if it or one above isn't there, or if
/// nothing was published. With `make`, what is missing is made.
///
/// # Errors
/// Something else than a directory is in the way.
pub fn directory(place: &Place, path: &RelPath, make: bool) -> Result<Option<Dir>, FsError> {
    let Some(mut dir) = place.live()? else {
        return Ok(None);
    };
    let mut so_far = RelPath::root();
    for component in path.components() {
        let name = Name::parse(component).map_err(|_| FsError::bad_name(component))?;
        so_far = so_far
            .join(&name)
            .map_err(|_| FsError::bad_name(component))?;
        dir = match dir.stat(&name)? {
            None if make => dir.create_dir_if_absent(&name, 0o755)?,
            None => return Ok(None),
            Some(stat) if stat.is_symlink() => match shared(place, &dir, &name, &so_far)? {
                Some(shared) => match shared.open_dir_at(&so_far) {
                    Err(error) if error.is_not_found() && !make => return Ok(None),
                    other => other?,
                },
                None => return Err(in_the_way(&dir, &name, Errno::LOOP)),
            },
            Some(_) => dir.open_dir(&name)?,
        };
    }
    Ok(Some(dir))
}

/// The directory that really holds the entry at `path`, and its name there; `None` if the directory
/// isn't there. The entry itself need not be.
///
/// # Errors
/// As [`directory`].
pub fn entry(place: &Place, path: &RelPath, make: bool) -> Result<Option<(Dir, Name)>, FsError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FsError::bad_name(path.as_bytes()));
    };
    let Some(dir) = directory(place, &parent, make)? else {
        return Ok(None);
    };
    if dir.stat(&name)?.is_some_and(|stat| stat.is_symlink())
        && let Some(shared) = shared(place, &dir, &name, path)?
    {
        return Ok(shared.try_open_dir_at(&parent)?.map(|dir| (dir, name)));
    }
    Ok(Some((dir, name)))
}

/// The directory of shared paths, if the symlink is ours.
fn shared(place: &Place, dir: &Dir, name: &Name, path: &RelPath) -> Result<Option<Dir>, FsError> {
    if dir.read_link(name)? != shared_target(path) {
        return Ok(None);
    }
    place.sub(b"shared").map(Some)
}

fn in_the_way(dir: &Dir, name: &Name, why: Errno) -> FsError {
    FsError::new("go through", &dir.path_of(name), why)
}
