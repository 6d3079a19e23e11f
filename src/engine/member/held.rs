//! What a live tree holds that a push may not touch: excluded and preserved names, and mounts.
//!
//! One pass over the directories; what is managed isn't even stat'ed, what is held isn't entered, and
//! a directory that is as an index knows it isn't listed.

use super::keeper::Keeper;
use super::place::Place;
use crate::engine::index::Index;
use crate::fs::walk::{Guide, Verdict, WalkTrouble, walk_guided};
use crate::fs::{Dir, FileKind, FsError, Listed, Stat};
use std::collections::{BTreeSet, HashSet};
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Layout;

/// One name that may not be touched, the topmost one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEntry {
    /// Where.
    pub path: RelPath,
    /// Is it a directory?
    pub is_directory: bool,
    /// What it says, if it is a symlink.
    pub link_target: Option<Box<[u8]>>,
    /// It could not be looked into: another mount, or a directory that can't be read.
    pub is_opaque: bool,
}

/// What is known of a tree before it is surveyed.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// Nothing.
    Nothing,
    /// What was in it once.
    Recorded(&'a Index),
    /// What a look by the same rules found: nothing of it is held.
    LookedAt(&'a Index),
}

/// Finds what is held below `root`, the root of a tree of which something is known; what was changed
/// since is looked at anew.
///
/// # Errors
/// `root` itself can't be read.
pub fn survey_known(
    root: &Dir,
    keeper: &Keeper,
    known: Known<'_>,
) -> Result<Vec<HeldEntry>, FsError> {
    let known = match known {
        _ if !root.dates_its_names() => None,
        Known::Nothing => None,
        Known::Recorded(index) => Some(index),
        Known::LookedAt(index) => {
            if let Some(held) = among(root, keeper, index, index.moved(root)?) {
                return Ok(held);
            }
            Some(index)
        }
    };
    survey_led(root, &RelPath::root(), keeper, known)
}

/// Finds what is held below `dir`, which is at `base` in its tree.
///
/// # Errors
/// `dir` itself can't be read.
pub fn survey(dir: &Dir, base: &RelPath, keeper: &Keeper) -> Result<Vec<HeldEntry>, FsError> {
    survey_led(dir, base, keeper, None)
}

/// The same; `known` is what the tree below `dir` held, if that is its root.
fn survey_led(
    dir: &Dir,
    base: &RelPath,
    keeper: &Keeper,
    known: Option<&Index>,
) -> Result<Vec<HeldEntry>, FsError> {
    let is_held = |path: &RelPath, is_directory| keeper.allow_delete(path, is_directory).is_err();
    let walked = walk_guided(
        dir,
        &Surveying {
            base,
            keeper,
            known,
        },
    )?;
    let mut held = Vec::new();
    for directory in &walked.dirs {
        for entry in &directory.entries {
            let is_directory = entry.stat.is_directory();
            let Some(path) = full_path(base, &directory.path, entry.name.as_bytes()) else {
                // Too long for a path of ours: nothing managed can be there.
                held.extend(opaque(base, directory.path.as_bytes()));
                continue;
            };
            if is_held(&path, is_directory) {
                held.push(HeldEntry {
                    path,
                    is_directory,
                    link_target: entry.link_target.clone(),
                    is_opaque: false,
                });
            }
        }
    }
    for problem in &walked.problems {
        if problem.what != WalkTrouble::Vanished {
            held.extend(opaque(base, &problem.path));
        }
    }
    held.sort_by(|a, b| a.path.cmp(&b.path));
    held.dedup_by(|later, earlier| later.path == earlier.path);
    Ok(held)
}

/// The same for a whole tree that was looked at just now, by the same rules: only directories in
/// which something was left out are read again. `None` if that doesn't tell.
pub fn left_out(root: &Dir, keeper: &Keeper, seen: &Index) -> Option<Vec<HeldEntry>> {
    among(root, keeper, seen, seen.incomplete().collect())
}

/// What is held in some directories of a tree that was looked at by the same rules. `None` if there may
/// be more of it below them.
fn among(
    root: &Dir,
    keeper: &Keeper,
    seen: &Index,
    directories: Vec<&Directory>,
) -> Option<Vec<HeldEntry>> {
    // What is foreign may have been looked at.
    if !keeper.foreign.is_empty() {
        return None;
    }
    let mut held = Vec::new();
    for directory in directories {
        let path = &directory.path;
        let dir = match root.open_dir_at(path) {
            // It went since. What has its name now is seen in the directory above.
            Err(error) if error.is_not_found() || error.is_wrong_kind() => continue,
            other => other.ok()?,
        };
        for listed in dir.list().ok()? {
            let is_directory = listed.kind == FileKind::Directory;
            let child = path.join(&listed.name).ok()?;
            if keeper.holds_child(path, &listed.name, is_directory) {
                let is_symlink = listed.kind == FileKind::Symlink;
                let target = is_symlink.then(|| dir.read_link(&listed.name));
                let target = target.transpose().ok()?;
                held.push(HeldEntry {
                    path: child,
                    is_directory,
                    link_target: target.map(Vec::into_boxed_slice),
                    is_opaque: false,
                });
            } else if listed.kind == FileKind::Unknown
                || is_directory && seen.directory(&child).is_none()
            {
                // Another mount, or what couldn't be read.
                return None;
            }
        }
    }
    held.sort_by(|a, b| a.path.cmp(&b.path));
    Some(held)
}

/// Leads the walk to what is held.
struct Surveying<'a> {
    base: &'a RelPath,
    keeper: &'a Keeper,
    known: Option<&'a Index>,
}

impl Guide for Surveying<'_> {
    fn verdict(&self, parent: &RelPath, name: &[u8], is_directory: bool) -> Verdict {
        let is_held = if self.base.is_root() {
            let Ok(name) = Name::parse(name) else {
                return Verdict::Prune;
            };
            // Only managed directories are entered.
            self.keeper.holds_child(parent, &name, is_directory)
        } else {
            full_path(self.base, parent, name)
                .is_none_or(|path| self.keeper.allow_delete(&path, is_directory).is_err())
        };
        match (is_held, is_directory) {
            (true, _) => Verdict::Prune,
            (false, true) => Verdict::Descend,
            (false, false) => Verdict::Skip,
        }
    }

    fn names(&self, path: &RelPath, stat: &Stat) -> Option<Vec<Listed>> {
        self.known?.names(path, stat)
    }
}

/// The member's own directories that the layout `switched` keeps in its shared place.
///
/// # Errors
/// The shared place can't be read.
pub fn shared(place: &Place, keeper: &Keeper) -> Result<BTreeSet<RelPath>, FsError> {
    if place.layout() != Layout::Switched {
        return Ok(BTreeSet::new());
    }
    let held = survey(&place.sub(b"shared")?, &RelPath::root(), keeper)?;
    let directories = held.into_iter().filter(|held| held.is_directory);
    Ok(directories.map(|held| held.path).collect())
}

/// A place that nobody can look into; the nearest one that has a path.
fn opaque(base: &RelPath, below: &[u8]) -> Option<HeldEntry> {
    let mut below = below;
    loop {
        let full = match (base.is_root(), below.is_empty()) {
            (true, _) => below.to_vec(),
            (false, true) => base.as_bytes().to_vec(),
            (false, false) => [base.as_bytes(), b"/", below].concat(),
        };
        if let Ok(path) = RelPath::parse(&full) {
            return (!path.is_root()).then_some(HeldEntry {
                path,
                is_directory: true,
                link_target: None,
                is_opaque: true,
            });
        }
        below = &below[..below.iter().rposition(|&b| b == b'/')?];
    }
}

fn full_path(base: &RelPath, parent: &RelPath, name: &[u8]) -> Option<RelPath> {
    let name = Name::parse(name).ok()?;
    if base.is_root() {
        return parent.join(&name).ok();
    }
    let mut full = base.clone();
    for component in parent.components() {
        full = full.join(&Name::parse(component).ok()?).ok()?;
    }
    full.join(&name).ok()
}

/// The directories that must stay because something below them does.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    directories: HashSet<RelPath>,
    parents: HashSet<RelPath>,
}

impl Kept {
    /// Everything above the held entries, and above what is foreign and `exists`.
    pub fn new(held: &[HeldEntry], keeper: &Keeper, exists: impl Fn(&RelPath) -> bool) -> Self {
        let mut kept = Self::default();
        let foreign = keeper.foreign.tops().iter().filter(|top| exists(top));
        for path in held.iter().map(|held| &held.path).chain(foreign) {
            let mut above = path.parent();
            kept.parents.extend(above.clone());
            while let Some(directory) = above {
                above = directory.parent();
                if !kept.directories.insert(directory) {
                    break;
                }
            }
        }
        // A directory that can't be looked into stays itself.
        let opaque = held.iter().filter(|held| held.is_opaque);
        kept.directories
            .extend(opaque.map(|held| held.path.clone()));
        kept
    }

    /// True if something that stays is below this directory.
    pub fn contains(&self, directory: &RelPath) -> bool {
        self.directories.contains(directory)
    }

    /// True if something that stays is right in this directory, so that its time isn't ours.
    pub fn is_parent(&self, directory: &RelPath) -> bool {
        self.parents.contains(directory)
    }
}
