//! The end of a tree: removed with exceptions, or just forgotten. Both say what stays where.
//!
//! Invariant I4 holds here as everywhere: what is preserved, excluded or foreign stays, with the
//! directories above it.

use super::held::{Kept, survey};
use super::keeper::Keeper;
use super::live::{Hands, LiveError, Spot, Tree};
use super::place::{Place, PlaceError, RootState};
use super::record::{TreeRecord, Vote};
use super::transaction::CommitError;
use crate::fs::walk::{Verdict, walk};
use crate::fs::{Dir, FsError};
use sync_proto::path::{RESERVED_NAME, RelPath, escape};
use sync_proto::wire::{Layout, Notice};

/// Lets go of a tree. Everything stays where it is, and is listed.
///
/// # Errors
/// A transaction is open, or the record can't be written.
pub fn forget(place: &Place) -> Result<Vec<Notice>, CommitError> {
    refuse_open(place)?;
    let mut record = TreeRecord::load(place)?;
    record.is_forgotten = true;
    record.save(place)?;
    let root = place.root_for_messages();
    let state = place.state().path_for_messages();
    Ok(vec![
        stays(root.as_bytes(), "the tree itself"),
        stays(state, "generations, undo areas and shared paths"),
    ])
}

/// Removes a tree: the live one, its generations and its state. Lists what stays. May be repeated.
///
/// # Errors
/// A transaction is open, or the first entry that can't be removed.
pub fn delete_tree(place: Place, keeper: &Keeper) -> Result<Vec<Notice>, CommitError> {
    refuse_open(&place)?;
    match place.layout() {
        Layout::InPlace => delete_in_place(&place, keeper),
        Layout::Switched => delete_switched(&place, keeper),
    }
}

fn refuse_open(place: &Place) -> Result<(), CommitError> {
    match Vote::load(place)? {
        Some(_) => Err(CommitError::OtherTransaction),
        None => Ok(()),
    }
}

fn delete_in_place(place: &Place, keeper: &Keeper) -> Result<Vec<Notice>, CommitError> {
    let mut left = Vec::new();
    if let RootState::Directory(root) = place.root_state()? {
        let swap = place.sub(b"aside")?;
        let hands = Hands {
            keeper,
            swap: &swap,
        };
        left = empty(root, &hands)?;
    }
    if place.is_state_beside_root() {
        remove_state(place, &[])?;
        let name = state_name(place)?;
        place.parent().remove_dir(&name)?;
    } else if let RootState::Directory(root) = place.root_state()? {
        remove_state(place, &[])?;
        root.remove_dir(&place.own_name(RESERVED_NAME)?)?;
    }
    if left.is_empty() && matches!(place.root_state()?, RootState::Directory(_)) {
        match place.parent().remove_dir(place.name()) {
            // A mount point, or somebody put something there just now.
            Err(error) if error.is_exists() || error.is_busy() => {
                left.push(stays(place.root_for_messages().as_bytes(), "it is in use"));
            }
            other => other?,
        }
    }
    Ok(left)
}

/// Removes everything that is managed below a root.
fn empty(root: Dir, hands: &Hands<'_>) -> Result<Vec<Notice>, CommitError> {
    let held = survey(&root, &RelPath::root(), hands.keeper)?;
    let kept = Kept::new(&held, hands.keeper, |_| true);
    let walked = walk(&root, |parent, name, is_directory| {
        let path = sync_proto::path::Name::parse(name)
            .ok()
            .and_then(|name| parent.join(&name).ok());
        let Some(path) = path else {
            return Verdict::Prune;
        };
        match hands.keeper.allow_delete(&path, is_directory) {
            Ok(()) => Verdict::Descend,
            Err(_) => Verdict::Prune,
        }
    })?;
    let mut tree = Tree::new(root);
    let mut left = Vec::new();
    for directory in walked.dirs.iter().rev() {
        for entry in &directory.entries {
            let path = directory.path.join(&entry.name)?;
            let is_directory = entry.stat.is_directory();
            if let Err(why) = hands.keeper.allow_delete(&path, is_directory) {
                if path.as_bytes() != RESERVED_NAME {
                    left.push(stays(path.as_bytes(), &why.to_string()));
                }
                continue;
            }
            if is_directory {
                tree.forget();
            }
            let Some(at) = tree.spot(&path)? else {
                continue;
            };
            match remove(hands, &path, is_directory, &at) {
                Err(LiveError::Fs(error)) if error.is_not_found() => {}
                Err(LiveError::Fs(error))
                    if is_directory && (error.is_exists() || error.is_busy()) =>
                {
                    let why = if kept.contains(&path) {
                        "it holds names that stay"
                    } else {
                        "something appeared in it"
                    };
                    left.push(stays(path.as_bytes(), why));
                }
                Err(LiveError::Fs(error)) => return Err(error.into()),
                Err(other) => left.push(stays(path.as_bytes(), &other.to_string())),
                Ok(()) => {}
            }
        }
    }
    left.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(left)
}

fn remove(
    hands: &Hands<'_>,
    path: &RelPath,
    is_directory: bool,
    at: &Spot<'_>,
) -> Result<(), LiveError> {
    if is_directory {
        hands.remove_empty(path, at)
    } else {
        hands.unlink(path, at)
    }
}

fn delete_switched(place: &Place, keeper: &Keeper) -> Result<Vec<Notice>, CommitError> {
    let mut left = Vec::new();
    // ORDER: first nobody sees it any more.
    match place.root_state()? {
        RootState::Generation(_) => place.parent().unlink(place.name())?,
        RootState::Absent => {}
        RootState::Directory(_) | RootState::Other(_) => {
            let root = place.root_for_messages();
            left.push(stays(root.as_bytes(), "fanout did not make it"));
        }
    }
    let mut except: Vec<&[u8]> = vec![b"shared"];
    for top in [b"gen".as_slice(), b"spare"] {
        let generations = place.sub(top)?;
        left.extend(remove_generations(place, &generations, keeper)?);
        if !generations.list()?.is_empty() {
            except.push(top);
        }
    }
    let shared = place.sub(b"shared")?;
    let base = shared.path_for_messages().to_vec();
    for held in survey(&shared, &RelPath::root(), keeper)? {
        let path = [&base, &b"/"[..], held.path.as_bytes()].concat();
        left.push(stays(&path, "belongs to the member"));
    }
    if left.is_empty() {
        remove_state(place, &[])?;
        place.parent().remove_dir(&state_name(place)?)?;
    } else {
        remove_state(place, &except)?;
    }
    Ok(left)
}

/// Removes complete generations. What belongs to the member stays in them, and is told.
fn remove_generations(
    place: &Place,
    generations: &Dir,
    keeper: &Keeper,
) -> Result<Vec<Notice>, CommitError> {
    let mut left = Vec::new();
    for listed in generations.list()? {
        let is_directory = generations
            .stat(&listed.name)?
            .is_some_and(|stat| stat.is_directory());
        if is_directory {
            // Real entries that belong to the member are only found in the live generation, but
            // they are looked for in each.
            let inside = Tree::new(generations.open_dir(&listed.name)?);
            let held = survey(inside.root(), &RelPath::root(), keeper)?;
            if held.iter().any(|held| held.link_target.is_none()) {
                let swap = place.sub(b"aside")?;
                let hands = Hands {
                    keeper,
                    swap: &swap,
                };
                let dir = generations.open_dir(&listed.name)?;
                let base = generations.path_of(&listed.name);
                for notice in empty(dir, &hands)? {
                    let path = [base.as_slice(), b"/", &notice.path].concat();
                    left.push(stays(&path, &notice.message));
                }
                continue;
            }
        }
        generations.remove_tree(&listed.name)?;
    }
    Ok(left)
}

/// Removes the state directory's content. The record goes last: as long as it is there, the
/// removal can be repeated.
fn remove_state(place: &Place, except: &[&[u8]]) -> Result<(), FsError> {
    let mut names = place.state().list()?;
    names.retain(|listed| !except.contains(&listed.name.as_bytes()));
    names.sort_by_key(|listed| listed.name.as_bytes() == b"record");
    for listed in names {
        place.state().remove_tree(&listed.name)?;
    }
    Ok(())
}

fn state_name(place: &Place) -> Result<sync_proto::path::Name, PlaceError> {
    Ok(place.own_name(&[b".", place.name().as_bytes(), b".fanout"].concat())?)
}

fn stays(path: &[u8], why: &str) -> Notice {
    Notice {
        code: String::new(),
        path: path.to_vec(),
        message: format!("stays: {}", escape(why.as_bytes())),
    }
}
