//! [`Place`]: where a tree lies on this member's disk, and where its state lies.
//!
//! The parent directory of the root is resolved once, by whoever knows what is allowed, and pinned;
//! the root's last name is never followed. State lies beside the root in `.NAME.fanout/` if names can be renamed between the two
//! (a trial proves it, a device number doesn't), otherwise in `ROOT/.fanout/`, which allows the
//! layout `in-place` only.
//!
//! ```text
//! .NAME.fanout/  0711   record  foreign  index     what is bound, live and known
//!   gen/         0711   000042/  000042.index      generations of the layout `switched`
//!   shared/      0711   preserved paths of the layout `switched`
//!   stage/       0700   one directory for each transaction that is being staged
//!   undo/        0700   000042/: what commit 42 replaced and removed, in place
//!   aside/       0700   000042/: what a commit found that wasn't committed, until it is moved on
//!   overwritten/ 0700   the same, where the agent's own directory is on another file system
//!   journal/     0700   steps  vote
//! ```
//!
//! It refuses a root that is a symlink of somebody else, another kind of thing, or has content
//! that nobody asked to adopt; and a state directory that isn't this process's own: whoever may
//! rename in the directory above could put one there, and with it a journal to be carried out.

pub use super::place_error::PlaceError;
use super::record::TreeRecord;
use crate::fs::owner::own_user;
use crate::fs::space::trial_rename;
use crate::fs::{Dir, FsError};
use std::path::Path;
use sync_proto::path::{Name, RESERVED_NAME, escape};
use sync_proto::wire::{Layout, TreeKey};

/// The directories of a state directory, with their modes.
const DIRECTORIES: [(&[u8], u32); 8] = [
    (b"gen", 0o711),
    (b"shared", 0o711),
    (b"stage", 0o700),
    (b"spare", 0o700),
    (b"undo", 0o700),
    (b"aside", 0o700),
    (b"overwritten", 0o700),
    (b"journal", 0o700),
];

/// What bears the root's name at the moment.
#[derive(Debug)]
pub enum RootState {
    /// Nothing.
    Absent,
    /// A directory.
    Directory(Dir),
    /// A symlink of ours to a generation, with the generation's directory name.
    Generation(Name),
    /// Something that isn't ours, in a few words.
    Other(&'static str),
}

/// Where a root is to be: the pinned directory that holds it, and its name there.
#[derive(Debug)]
pub struct Seat {
    /// The directory.
    pub parent: Dir,
    /// The name.
    pub name: Name,
}

impl Seat {
    /// The seat of a root whose whole path is trusted: symlinks on the way are followed.
    pub fn trusted(root: &Path) -> Result<Self, FsError> {
        let (parent, name) = Dir::open_parent_of(root)?;
        Ok(Self { parent, name })
    }

    fn try_clone(&self) -> Result<Self, FsError> {
        Ok(Self {
            parent: self.parent.try_clone()?,
            name: self.name.clone(),
        })
    }

    fn for_messages(&self) -> String {
        escape(&self.parent.path_of(&self.name))
    }
}

/// A tree's place on disk.
#[derive(Debug)]
pub struct Place {
    parent: Dir,
    name: Name,
    state: Dir,
    is_state_beside_root: bool,
    layout: Layout,
}

/// What [`Place::create`] found.
#[derive(Debug)]
pub struct Created {
    /// The place.
    pub place: Place,
    /// Names that were in the root already, where it was adopted.
    pub found_entries: usize,
}

impl Place {
    /// Binds `root` to a tree: finds out where its state can lie, and makes what is needed. It may
    /// be called again for the same tree.
    ///
    /// # Errors
    /// The root isn't free, or can't be had in this layout.
    pub fn create(
        seat: Seat,
        tree: TreeKey,
        layout: Layout,
        adopt: bool,
    ) -> Result<Created, PlaceError> {
        match Self::open(seat.try_clone()?) {
            Ok(place) => return place.bind_again(tree, layout),
            Err(PlaceError::Unbound(_)) => {}
            Err(error) => return Err(error),
        }
        let message = {
            let shown = seat.for_messages();
            move || shown.clone()
        };
        let Seat { parent, name } = seat;
        let directory = match parent.stat(&name)? {
            None => None,
            Some(stat) if stat.is_directory() => Some(parent.open_dir_or_mount(&name)?),
            Some(stat) if stat.is_symlink() => return Err(PlaceError::ForeignSymlink(message())),
            Some(_) => return Err(PlaceError::NotADirectory(message())),
        };
        let entries = directory.as_ref().map_or(Ok(0), count_names)?;
        if entries > 0 && !adopt {
            return Err(PlaceError::NotEmpty {
                root: message(),
                entries,
            });
        }
        if entries > 0 && layout == Layout::Switched {
            return Err(PlaceError::AdoptSwitched(message()));
        }
        let directory = match (directory, layout) {
            (None, Layout::InPlace) => Some(parent.create_dir(&name, 0o755)?),
            (directory, _) => directory,
        };
        let (state, is_state_beside_root) =
            make_state(&parent, &name, directory.as_ref(), layout, message)?;
        refuse_foreign_state(&state)?;
        for (name, mode) in DIRECTORIES {
            state.create_dir_if_absent(&own(name)?, mode)?;
        }
        let place = Self {
            parent,
            name,
            state,
            is_state_beside_root,
            layout,
        };
        let mut record = TreeRecord::new(tree, layout);
        record.adopted = entries > 0;
        record.save(&place)?;
        place.state.sync()?;
        place.parent.sync()?;
        Ok(Created {
            place,
            found_entries: entries,
        })
    }

    /// Opens the place of a tree that was bound.
    ///
    /// # Errors
    /// [`PlaceError::Unbound`] if there is none.
    pub fn open(seat: Seat) -> Result<Self, PlaceError> {
        let shown = seat.for_messages();
        let unbound = || PlaceError::Unbound(shown.clone());
        let Seat { parent, name } = seat;
        let beside = parent.try_open_dir(&state_name(&name)?)?;
        let inside = match (&beside, parent.stat(&name)?) {
            (None, Some(stat)) if stat.is_directory() => parent
                .open_dir_or_mount(&name)?
                .try_open_dir(&own(RESERVED_NAME)?)?,
            _ => None,
        };
        let is_state_beside_root = beside.is_some();
        let state = beside.or(inside).ok_or_else(unbound)?;
        refuse_foreign_state(&state)?;
        let record = TreeRecord::load_from(&state)?.ok_or_else(unbound)?;
        Ok(Self {
            parent,
            name,
            state,
            is_state_beside_root,
            layout: record.layout,
        })
    }

    fn bind_again(self, tree: TreeKey, layout: Layout) -> Result<Created, PlaceError> {
        let mut record = TreeRecord::load(&self)?;
        if record.is_forgotten {
            record.tree = tree;
            record.is_forgotten = false;
            record.save(&self)?;
        }
        if record.tree != tree {
            return Err(PlaceError::BoundToOther(self.root_for_messages()));
        }
        if record.layout != layout {
            return Err(PlaceError::OtherLayout(self.root_for_messages()));
        }
        Ok(Created {
            place: self,
            found_entries: 0,
        })
    }

    /// The tree's layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// True if the state lies beside the root and not in it.
    pub fn is_state_beside_root(&self) -> bool {
        self.is_state_beside_root
    }

    /// The state directory.
    pub fn state(&self) -> &Dir {
        &self.state
    }

    /// The directory that holds the root.
    pub fn parent(&self) -> &Dir {
        &self.parent
    }

    /// The root's last name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The directory under which transactions are staged.
    pub fn stages(&self) -> Result<Dir, FsError> {
        self.sub(b"stage")
    }

    /// What bears the root's name.
    pub fn root_state(&self) -> Result<RootState, FsError> {
        let Some(stat) = self.parent.stat(&self.name)? else {
            return Ok(RootState::Absent);
        };
        if stat.is_directory() {
            return Ok(RootState::Directory(
                self.parent.open_dir_or_mount(&self.name)?,
            ));
        }
        if !stat.is_symlink() {
            return Ok(RootState::Other("neither a directory nor a symlink"));
        }
        let target = self.parent.read_link(&self.name)?;
        let generation = target
            .strip_prefix(self.generation_prefix().as_slice())
            .and_then(|name| Name::parse(name).ok());
        Ok(generation.map_or(
            RootState::Other("a symlink that fanout did not make"),
            RootState::Generation,
        ))
    }

    /// The directory that visitors see: the root, or the generation that it resolves to. `None` if
    /// the root isn't there, or isn't ours.
    pub fn live(&self) -> Result<Option<Dir>, FsError> {
        match (self.layout, self.root_state()?) {
            (Layout::InPlace, RootState::Directory(dir)) => Ok(Some(dir)),
            (Layout::Switched, RootState::Generation(name)) => {
                self.sub(b"gen")?.try_open_dir(&name)
            }
            _ => Ok(None),
        }
    }

    /// In a few words what is wrong with the root, if anything is: the layout's own kind of root,
    /// or none before the first commit, is right.
    pub fn root_changed(&self, record: &TreeRecord) -> Result<Option<String>, FsError> {
        let live = record.live_directory();
        Ok(match (self.layout, self.root_state()?) {
            (Layout::InPlace, RootState::Directory(_)) => None,
            // Where nothing is, nothing can be lost: a repair makes it anew.
            (_, RootState::Absent) => None,
            (Layout::Switched, RootState::Directory(dir)) if live.is_none() => {
                (count_names(&dir)? > 0).then(|| "a directory with content".to_owned())
            }
            (Layout::Switched, RootState::Generation(name)) => {
                (live != Some(name.as_bytes())).then(|| format!("a symlink to generation {name}"))
            }
            (_, RootState::Directory(_)) => Some("a directory".to_owned()),
            (_, RootState::Generation(_)) => Some("a symlink".to_owned()),
            (_, RootState::Other(what)) => Some(what.to_owned()),
        })
    }

    /// Makes the root of the layout `in-place` where there is nothing.
    pub(super) fn make_root(&self) -> Result<(), FsError> {
        match (self.layout, self.root_state()?) {
            (Layout::InPlace, RootState::Absent) => {
                self.parent.create_dir(&self.name, 0o755).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What the root symlink says for the generation in `gen/NAME`.
    pub(super) fn root_target(&self, generation: &Name) -> Vec<u8> {
        [self.generation_prefix().as_slice(), generation.as_bytes()].concat()
    }

    fn generation_prefix(&self) -> Vec<u8> {
        [b".", self.name.as_bytes(), b".fanout/gen/"].concat()
    }

    /// One of the directories in the state directory.
    pub(super) fn sub(&self, name: &[u8]) -> Result<Dir, FsError> {
        let name = self.own_name(name)?;
        let mode = DIRECTORIES
            .iter()
            .find_map(|(own, mode)| (*own == name.as_bytes()).then_some(*mode));
        self.state
            .create_dir_if_absent(&name, mode.unwrap_or(0o700))
    }

    /// A name that this module chose itself.
    pub(super) fn own_name(&self, name: &[u8]) -> Result<Name, FsError> {
        own(name)
    }

    pub(super) fn damaged(&self, file: &[u8]) -> PlaceError {
        let path = [self.state.path_for_messages(), b"/", file].concat();
        PlaceError::Damaged(escape(&path))
    }

    /// The root's path as it was resolved, escaped.
    pub fn root_for_messages(&self) -> String {
        escape(&self.parent.path_of(&self.name))
    }
}

/// Whoever may rename in the directory above can put a state directory of their own making there;
/// what they can't do is to make it belong to us.
fn refuse_foreign_state(state: &Dir) -> Result<(), PlaceError> {
    const OTHERS_WRITE: u32 = 0o022;
    let stat = state.stat_self()?;
    match stat.uid == own_user() && stat.permissions() & OTHERS_WRITE == 0 {
        true => Ok(()),
        false => Err(PlaceError::ForeignState(escape(state.path_for_messages()))),
    }
}

fn make_state(
    parent: &Dir,
    name: &Name,
    root: Option<&Dir>,
    layout: Layout,
    message: impl Fn() -> String,
) -> Result<(Dir, bool), PlaceError> {
    let state_name = state_name(name)?;
    let is_new = parent.stat(&state_name)?.is_none();
    let beside = parent
        .create_dir_if_absent(&state_name, 0o711)
        .and_then(|state| {
            #[cfg(test)]
            no_rename::check()?;
            let tried = trial_rename(parent, &state)
                .and_then(|()| root.map_or(Ok(()), |root| trial_rename(root, &state)));
            match tried {
                // The file system can't exchange names: there is a fallback for that.
                Err(error) if !error.is_unsupported() => Err(error),
                _ => Ok(state),
            }
        });
    match (beside, layout, root) {
        (Ok(state), _, _) => Ok((state, true)),
        (Err(error), Layout::InPlace, Some(root)) => {
            if is_new && parent.stat(&state_name)?.is_some() {
                parent.remove_dir(&state_name)?;
            }
            let refused = error.is_other_mount() || error.is_permission() || error.is_read_only();
            if !refused {
                return Err(error.into());
            }
            let inside = root.create_dir_if_absent(&own(RESERVED_NAME)?, 0o700)?;
            Ok((inside, false))
        }
        (Err(source), _, _) => Err(PlaceError::NoStateBeside {
            root: message(),
            source,
        }),
    }
}

fn state_name(name: &Name) -> Result<Name, PlaceError> {
    Name::parse(&[b".", name.as_bytes(), b".fanout"].concat())
        .map_err(|error| PlaceError::Name(name.to_string(), error))
}

fn own(name: &[u8]) -> Result<Name, FsError> {
    Name::parse(name).map_err(|_| FsError::bad_name(name))
}

fn count_names(dir: &Dir) -> Result<usize, FsError> {
    let names = dir.list()?;
    Ok(names
        .iter()
        .filter(|listed| listed.name.as_bytes() != RESERVED_NAME)
        .count())
}

/// A parent that names can't be moved out of, for tests.
#[cfg(test)]
pub(super) mod no_rename {
    use crate::fs::FsError;
    use rustix::io::Errno;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn set(on: bool) {
        ON.set(on);
    }

    pub(super) fn check() -> Result<(), FsError> {
        match ON.get() {
            true => Err(FsError::new("rename", b"", Errno::XDEV)),
            false => Ok(()),
        }
    }
}
