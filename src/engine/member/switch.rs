//! The layout `switched`, after the decision: shared paths, the generation's name, the root symlink.
//!
//! Forward only, and every step looks before it acts, so the whole may be repeated.
//!
//! Invariant I1: the root resolves to one complete generation at every instant.

use super::apply::Applied;
use super::fault::point;
use super::held::Known;
use super::journal::{Journal, TREE, Work};
use super::live::{Spot, Tree, exchange, rename_noreplace};
use super::overwritten::Aside;
use super::place::{Place, RootState};
use super::shared::{plant, share, share_strays};
use super::transaction::{CommitError, now_us};
use super::tree_plan::notice;
use std::time::{Duration, Instant};
use sync_proto::path::{Name, RelPath};

/// How long the old generation is let alone after the switch. Whoever is in the middle of something
/// writes there still, and members that share a machine switch meanwhile: looking through the tree
/// takes all its cores, and eight members on two waited 14 ms for each other, which are now 2.
const PAUSE: Duration = Duration::from_millis(3);

/// Carries out the switch. Returns when it was done.
pub(super) fn commit(
    place: &Place,
    journal: &Journal,
    known: Known<'_>,
) -> Result<Applied, CommitError> {
    let Work::Switched {
        from,
        ino,
        shares,
        seeds,
        drift,
    } = &journal.work
    else {
        return Ok(Applied::default());
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
    let (window, switched_us) = (begun.elapsed(), now_us());
    point("member.switched")?;
    let mut notices = Vec::new();
    if let Some(before) = &mut before {
        std::thread::sleep(PAUSE);
        let after = generations.open_dir(&journal.directory)?;
        let after = &mut Tree::new(after);
        share_strays(place, journal, (before, known), after, &aside)?;
        for path in drift {
            let Some(spot) = before.find(path)? else {
                continue;
            };
            if let Err(error) = aside.link(spot.dir, &spot.name, path) {
                let message = format!("could not be kept aside: {error}");
                notices.push(notice(path, &message));
            }
        }
    }
    Ok(Applied {
        switched_us,
        window,
        notices,
    })
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
