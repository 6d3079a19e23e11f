//! The layout `switched`: complete generations, and a root symlink that names the live one.
//!
//! What belongs to the member (preserved, and excluded, which a new generation would otherwise
//! hide) lives once, in `shared/`; generations hold relative symlinks to it. A real entry of that
//! kind that appears in the live generation is moved there by the commit: the symlink is put at the
//! destination, then both names are exchanged, so there is no moment without it.
//!
//! Invariant I1: the root resolves to one complete generation at every instant.

use super::fault::point;
use super::held::{HeldEntry, survey};
use super::in_place::Prepared;
use super::journal::{Journal, Made, SEED, TREE, Work};
use super::live::{Spot, Tree, exchange, rename_noreplace};
use super::overwritten::Aside;
use super::place::{Place, RootState};
use super::step::Attributes;
use super::transaction::{CommitError, Job};
use super::tree_plan::{Action, notice};
use crate::engine::index::Stamp;
use crate::fs::{Dir, FsError, Stat};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::time::Instant;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Notice;

/// Plans the switch, and what must be in the staged tree besides the manifest.
pub(super) fn prepare(
    job: &Job<'_>,
    live: Option<Tree>,
    mut staged: Tree,
) -> Result<Prepared, CommitError> {
    verify_staged(staged.root(), job)?;
    let from = match job.place.root_state()? {
        RootState::Generation(name) => Some(name),
        _ => None,
    };
    let held = match &live {
        Some(live) => survey(live.root(), &RelPath::root(), job.keeper)?,
        None => Vec::new(),
    };
    let (mut shares, mut links) = (Vec::new(), BTreeSet::new());
    for held in held {
        if held.is_opaque {
            return Err(CommitError::Kept(held.path));
        }
        // What is only protected from deletion may be in the manifest nevertheless.
        if staged.stat(&held.path)?.is_some() {
            continue;
        }
        links.insert(held.path.clone());
        if !is_shared_link(&held) {
            shares.push(held.path);
        }
    }
    // What is preserved stays in sight, even if its symlink was lost. What is only excluded and
    // was removed by the member doesn't come back: it may be the mark of a maintenance that is over.
    let preserve = &job.keeper.scope.preserve;
    let shared = job.place.sub(b"shared")?;
    for held in survey(&shared, &RelPath::root(), job.keeper)? {
        if live.is_none() || preserve.covers(&held.path).is_some() {
            links.insert(held.path);
        }
    }
    links.extend(job.plan.seeds.iter().cloned());
    let made = additions(&links, live, &mut staged)?;
    let (drift, overwritten) = drift(job)?;
    let ino = staged.root().stat_self()?.ino;
    Ok(Prepared {
        work: Work::Switched {
            from,
            ino,
            shares,
            seeds: job.plan.seeds.clone(),
            drift,
        },
        made,
        overwritten,
    })
}

/// Unchanged files share their inode with the live generation, so somebody may have written to
/// one since it was verified.
fn verify_staged(tree: &Dir, job: &Job<'_>) -> Result<(), CommitError> {
    let (staged, keeper) = (job.staged, job.keeper);
    let directories: Vec<_> = staged.directories().collect();
    directories
        .into_par_iter()
        .filter(|(directory, _)| keeper.allow_write(&directory.path, true).is_ok())
        .try_for_each(|(directory, stamps)| {
            let dir = tree
                .try_open_dir_at(&directory.path)?
                .ok_or_else(|| CommitError::NotStaged(directory.path.clone()))?;
            for (entry, stamp) in directory.entries.iter().zip(stamps) {
                let path = || directory.path_of(&entry.name);
                // What belongs to the member wasn't staged, and has no stamp.
                if *stamp == Stamp::default()
                    && keeper
                        .allow_write(&path(), entry.kind.is_directory())
                        .is_err()
                {
                    continue;
                }
                let now = dir
                    .stat(&entry.name)?
                    .ok_or_else(|| CommitError::NotStaged(path()))?;
                let is_same = entry.kind.is_directory() && now.is_directory()
                    || now.ino == stamp.ino && now.size == stamp.size && now.mtime == stamp.mtime;
                if !is_same {
                    return Err(CommitError::Changed(path()));
                }
            }
            Ok(())
        })
}

/// The symlinks to shared paths, and the directories above them that the manifest doesn't have.
fn additions(
    links: &BTreeSet<RelPath>,
    mut live: Option<Tree>,
    staged: &mut Tree,
) -> Result<Vec<Made>, CommitError> {
    let mut made = Vec::new();
    let mut known = BTreeSet::new();
    for link in links {
        let mut above = Vec::new();
        let mut next = link.parent();
        while let Some(directory) = next.filter(|it| !it.is_root()) {
            next = directory.parent();
            above.push(directory);
        }
        for directory in above.into_iter().rev() {
            if known.contains(&directory) {
                continue;
            }
            match staged.stat(&directory)? {
                Some(stat) if stat.is_directory() => {}
                Some(_) => return Err(CommitError::Kept(directory)),
                None => {
                    let like = match &mut live {
                        Some(live) => live.stat(&directory)?,
                        None => None,
                    };
                    let like = like
                        .filter(Stat::is_directory)
                        .map(|stat| Attributes::of(&stat, None).without_mtime());
                    known.insert(directory.clone());
                    made.push(Made::Directory(directory, like));
                }
            }
        }
        let there = if known.contains(&link.parent().unwrap_or_default()) {
            None
        } else {
            staged.stat(link)?
        };
        if there.is_some() {
            return Err(CommitError::Kept(link.clone()));
        }
        made.push(Made::Link(link.clone()));
    }
    Ok(made)
}

/// What the live generation holds that wasn't committed, and the new one changes.
fn drift(job: &Job<'_>) -> Result<(Vec<RelPath>, Vec<Notice>), CommitError> {
    let Some(live) = job.place.live()? else {
        return Ok(Default::default());
    };
    let mut live = Tree::new(live);
    let (mut paths, mut notices) = (Vec::new(), Vec::new());
    for change in &job.plan.changes {
        let Some(now) = live.stat(&change.path)?.filter(|now| !now.is_directory()) else {
            continue;
        };
        let is_known = job.observed.entry(&change.path).is_some_and(|(_, stamp)| {
            let now = Stamp::from(&now);
            // Staging links to what is unchanged, which changes the ctime of all its names.
            stamp.ino == now.ino && stamp.size == now.size && stamp.mtime == now.mtime
        });
        if !is_known || change.is_drift && change.action != Action::Touch {
            notices.push(notice(
                &change.path,
                "is not what was committed, and is kept aside",
            ));
            paths.push(change.path.clone());
        }
    }
    Ok((paths, notices))
}

/// What the symlink at `path` of any generation says.
pub(super) fn shared_target(path: &RelPath) -> Vec<u8> {
    let mut target = b"../".repeat(path.depth() + 1);
    target.extend_from_slice(b"shared/");
    target.extend_from_slice(path.as_bytes());
    target
}

fn is_shared_link(held: &HeldEntry) -> bool {
    held.link_target
        .as_deref()
        .is_some_and(|target| target == shared_target(&held.path))
}

/// Carries out the switch. Returns when it was done.
pub(super) fn commit(
    place: &Place,
    journal: &Journal,
) -> Result<(std::time::Duration, Vec<Notice>), CommitError> {
    let Work::Switched {
        from,
        ino,
        shares,
        seeds,
        drift,
    } = &journal.work
    else {
        return Ok(Default::default());
    };
    let generations = place.sub(b"gen")?;
    let aside = Aside::new(place, &journal.directory);
    let before = match from {
        Some(from) => generations.try_open_dir(from)?,
        None => None,
    };
    let mut before = before.map(Tree::new);
    let begun = Instant::now();
    if let Some(before) = &mut before {
        for path in shares {
            share(place, before, path, &aside)?;
        }
    }
    for path in seeds {
        plant(place, journal, path)?;
    }
    place_generation(place, journal, *ino)?;
    switch_root(place, &journal.directory, &aside)?;
    let window = begun.elapsed();
    point("member.switched")?;
    let mut notices = Vec::new();
    if let Some(before) = &mut before {
        let after = generations.open_dir(&journal.directory)?;
        share_strays(place, journal, before, &mut Tree::new(after), &aside)?;
        for path in drift {
            let Some(spot) = before.spot(path)? else {
                continue;
            };
            if let Err(error) = aside.link(spot.dir, &spot.name, path) {
                let message = format!("could not be kept aside: {error}");
                notices.push(notice(path, &message));
            }
        }
    }
    Ok((window, notices))
}

/// Moves a real entry that belongs to the member out of a generation into `shared/`, and leaves a
/// symlink in its place.
///
/// The keeper would refuse this for any other purpose: the entry is moved whole, unread and
/// unchanged, and at no moment its path leads nowhere.
fn share(
    place: &Place,
    generation: &mut Tree,
    path: &RelPath,
    aside: &Aside<'_>,
) -> Result<(), CommitError> {
    let Some(live) = generation.spot(path)? else {
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
fn plant(place: &Place, journal: &Journal, path: &RelPath) -> Result<(), CommitError> {
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

/// Gives the staged tree its final name.
fn place_generation(place: &Place, journal: &Journal, ino: u64) -> Result<(), CommitError> {
    let generations = place.sub(b"gen")?;
    if generations
        .stat(&journal.directory)?
        .is_some_and(|there| there.ino == ino)
    {
        return Ok(());
    }
    let stage = place
        .sub(b"stage")?
        .try_open_dir(&journal.stage)?
        .ok_or(CommitError::StagingLost)?;
    point("member.generation")?;
    let tree = place.own_name(TREE)?;
    let (from, to) = (
        Spot {
            dir: &stage,
            name: tree,
        },
        Spot {
            dir: &generations,
            name: journal.directory.clone(),
        },
    );
    Ok(rename_noreplace(&from, &to)?)
}

/// Lets the root symlink say the new generation, atomically.
fn switch_root(place: &Place, generation: &Name, aside: &Aside<'_>) -> Result<(), CommitError> {
    let fresh = place.own_name(b"root.new")?;
    let target = place.root_target(generation);
    clear_fresh_root(place, &fresh, aside)?;
    let (parent, name) = (place.parent(), place.name());
    let is_ours = match place.root_state()? {
        RootState::Generation(live) if live == *generation => return Ok(()),
        RootState::Absent | RootState::Generation(_) => true,
        RootState::Directory(_) | RootState::Other(_) => false,
    };
    place.state().symlink(&target, &fresh)?;
    point("member.switch")?;
    if is_ours {
        return Ok(place.state().rename_to(&fresh, parent, name)?);
    }
    // Something that isn't ours stands there: it comes out whole, and is kept.
    let (from, to) = (
        Spot {
            dir: place.state(),
            name: fresh.clone(),
        },
        Spot {
            dir: parent,
            name: name.clone(),
        },
    );
    match exchange(&from, &to) {
        Err(error) if error.is_unsupported() => {
            // RACE: without an exchange the root is absent between these calls.
            let old = place.own_name(b"root.old")?;
            parent.rename_to(name, place.state(), &old)?;
            place.state().rename_to(&fresh, parent, name)?;
            place.state().rename_to(&old, place.state(), &fresh)?;
        }
        other => other?,
    }
    point("member.switch.exchanged")?;
    clear_fresh_root(place, &fresh, aside)
}

/// Puts away what an earlier attempt left under the temporary name of the root.
fn clear_fresh_root(place: &Place, fresh: &Name, aside: &Aside<'_>) -> Result<(), CommitError> {
    let state = place.state();
    match state.stat(fresh)? {
        None => Ok(()),
        Some(stat) if stat.is_symlink() && state.read_link(fresh)?.starts_with(b".") => {
            Ok(state.unlink(fresh)?)
        }
        Some(stat) if stat.is_directory() && state.open_dir(fresh)?.list()?.is_empty() => {
            Ok(state.remove_dir(fresh)?)
        }
        Some(_) => aside.take(state, fresh, &RelPath::root().join(fresh)?),
    }
}

/// What the member made in the old generation after the vote moves to `shared/` as well, so that
/// it is neither out of sight nor collected with that generation.
fn share_strays(
    place: &Place,
    journal: &Journal,
    before: &mut Tree,
    after: &mut Tree,
    aside: &Aside<'_>,
) -> Result<(), CommitError> {
    before.forget();
    for held in survey(before.root(), &RelPath::root(), &journal.keeper)? {
        let Some(spot) = after.spot(&held.path)? else {
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
