//! The shared paths of the layout `switched`: what belongs to the member (preserved, and excluded,
//! which a new generation would otherwise hide) lives once, in `shared/`, and generations hold
//! relative symlinks to it.
//!
//! Invariant I4: a real entry of that kind is moved here whole, unread and unchanged, and at no
//! moment its path leads nowhere: the symlink is put at the destination, then both names are
//! exchanged.

use super::fault::point;
use super::held::{HeldEntry, Known, survey_known};
use super::journal::{Journal, SEED};
use super::live::{Spot, Tree, exchange, rename_noreplace};
use super::overwritten::Aside;
use super::place::Place;
use super::transaction::CommitError;
use crate::fs::{Dir, FsError};
use sync_proto::path::{Name, RelPath};

/// What the symlink at `path` of any generation says.
pub(super) fn shared_target(path: &RelPath) -> Vec<u8> {
    let mut target = b"../".repeat(path.depth() + 1);
    target.extend_from_slice(b"shared/");
    target.extend_from_slice(path.as_bytes());
    target
}

pub(super) fn is_shared_link(held: &HeldEntry) -> bool {
    held.link_target
        .as_deref()
        .is_some_and(|target| target == shared_target(&held.path))
}

/// Moves a real entry that belongs to the member out of a generation into `shared/`, and leaves a
/// symlink in its place.
///
/// The keeper would refuse this for any other purpose: the entry is moved whole, unread and
/// unchanged, and at no moment its path leads nowhere.
pub(super) fn share(
    place: &Place,
    generation: &mut Tree,
    path: &RelPath,
    aside: &Aside<'_>,
) -> Result<(), CommitError> {
    let Some(live) = generation.find(path)? else {
        return Ok(());
    };
    let target = shared_target(path);
    let says = |spot: &Spot<'_>| -> Result<Option<bool>, FsError> {
        Ok(match spot.dir.stat(&spot.name)? {
            None => None,
            Some(stat) if stat.is_symlink() => Some(spot.dir.read_link(&spot.name)? == target),
            Some(_) => Some(false),
        })
    };
    if says(&live)? != Some(false) {
        return Ok(());
    }
    let shared = shared_spot(place, path)?;
    let shared = Spot {
        dir: &shared.0,
        name: shared.1,
    };
    match says(&shared)? {
        // A crash came between the two steps.
        Some(true) => {}
        // Somebody replaced the symlink by something new; what it led to goes aside.
        Some(false) => {
            let whole = [b"shared/", path.as_bytes()].concat();
            aside.take(shared.dir, &shared.name, &RelPath::parse(&whole)?)?;
            point("member.share.link")?;
            shared.dir.symlink(&target, &shared.name)?;
        }
        None => {
            point("member.share.link")?;
            shared.dir.symlink(&target, &shared.name)?;
        }
    }
    point("member.share.exchange")?;
    match exchange(&shared, &live) {
        Err(error) if error.is_unsupported() => {
            // RACE: without an exchange the name is absent between these calls.
            shared.dir.unlink(&shared.name)?;
            rename_noreplace(&live, &shared)?;
            live.dir.symlink(&target, &live.name)?;
        }
        other => other?,
    }
    Ok(())
}

/// The directory in `shared/` that holds `path`, made if need be.
fn shared_spot(place: &Place, path: &RelPath) -> Result<(Dir, Name), FsError> {
    let mut dir = place.sub(b"shared")?;
    for component in path.parent().unwrap_or_default().components() {
        let name = Name::parse(component).map_err(|_| FsError::bad_name(component))?;
        dir = dir.create_dir_if_absent(&name, 0o755)?;
    }
    let name = path
        .file_name()
        .ok_or_else(|| FsError::bad_name(path.as_bytes()))?;
    Ok((dir, name))
}

/// Delivers a preserved path once, where it is absent.
pub(super) fn plant(place: &Place, journal: &Journal, path: &RelPath) -> Result<(), CommitError> {
    let stage = place.sub(b"stage")?.try_open_dir(&journal.stage)?;
    let seeds = match stage {
        Some(stage) => stage.try_open_dir(&place.own_name(SEED)?)?,
        None => None,
    };
    let Some(mut seeds) = seeds.map(Tree::new) else {
        return Ok(());
    };
    let (dir, name) = shared_spot(place, path)?;
    let Some(from) = seeds.spot(path)? else {
        return Ok(());
    };
    point("member.seed")?;
    match rename_noreplace(&from, &Spot { dir: &dir, name }) {
        // Done before, or the member has one of its own by now.
        Err(error) if error.is_not_found() || error.is_exists() => Ok(()),
        other => Ok(other?),
    }
}

/// What the member made in the old generation after the vote moves to `shared/` as well, so that
/// it is neither out of sight nor collected with that generation. `before` comes with what was found
/// there before the vote.
pub(super) fn share_strays(
    place: &Place,
    journal: &Journal,
    (before, known): (&mut Tree, Known<'_>),
    after: &mut Tree,
    aside: &Aside<'_>,
) -> Result<(), CommitError> {
    before.forget();
    for held in survey_known(before.root(), &journal.keeper, known)? {
        let Some(spot) = after.find(&held.path)? else {
            continue;
        };
        let there = spot.dir.stat(&spot.name)?;
        let is_managed = there.is_some_and(|stat| !stat.is_symlink());
        if held.is_opaque || is_managed || is_shared_link(&held) && there.is_some() {
            continue;
        }
        share(place, before, &held.path, aside)?;
        if there.is_none() {
            point("member.share.stray")?;
            spot.dir.symlink(&shared_target(&held.path), &spot.name)?;
        }
    }
    Ok(())
}
