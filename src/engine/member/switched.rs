//! The layout `switched`, before the vote: a complete generation, and what belongs to the member.
//!
//! The staged tree holds the whole manifest; added to it are symlinks to what belongs to the
//! member, and the directories above them that the manifest doesn't have. Unchanged files share
//! their inode with the live generation, so all of it is stat'ed once more before the vote.

use super::held::{survey, survey_known};
use super::in_place::Planned;
use super::journal::{Made, Work};
use super::live::Tree;
use super::place::RootState;
use super::prepare::Job;
use super::shared::is_shared_link;
use super::step::Attributes;
use super::transaction::CommitError;
use super::tree_plan::{Action, notice};
use crate::engine::index::Stamp;
use crate::fs::xattr::read_xattrs_at;
use crate::fs::{Dir, Stat};
use rayon::prelude::*;
use std::collections::BTreeSet;
use sync_proto::manifest::Directory;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Notice;

/// Plans the switch, and what must be in the staged tree besides the manifest.
pub(super) fn prepare(
    job: &Job<'_>,
    mut live: Option<Tree>,
    mut staged: Tree,
) -> Result<Planned, CommitError> {
    verify_staged(staged.root(), job)?;
    let from = match job.place.root_state()? {
        RootState::Generation(name) => Some(name),
        _ => None,
    };
    let held = match &live {
        Some(live) => survey_known(live.root(), job.keeper, job.known)?,
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
    check_permissions(job, live.as_mut(), &shares)?;
    let made = additions(job, &links, live, &mut staged)?;
    let (drift, overwritten) = drift(job)?;
    let ino = staged.root().stat_self()?.ino;
    Ok(Planned {
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

/// What this process may not do is found out before the vote, not in the window.
fn check_permissions(
    job: &Job<'_>,
    live: Option<&mut Tree>,
    shares: &[RelPath],
) -> Result<(), CommitError> {
    if !job.place.parent().is_writable() {
        return Err(CommitError::Unwritable(RelPath::root()));
    }
    let Some(live) = live else {
        return Ok(());
    };
    for path in shares {
        // A directory that moves gets another `..`, so it must be writable itself.
        let is_directory = live.stat(path)?.is_some_and(|stat| stat.is_directory());
        let itself = is_directory.then(|| path.clone());
        for path in path.parent().into_iter().chain(itself) {
            if !live.dir(&path)?.is_none_or(Dir::is_writable) {
                return Err(CommitError::Unwritable(path));
            }
        }
    }
    Ok(())
}

/// Unchanged files share their inode with the live generation, so somebody may have written to
/// one since it was verified. The others were made in an area that nobody else can enter.
fn verify_staged(tree: &Dir, job: &Job<'_>) -> Result<(), CommitError> {
    let (staged, keeper) = (job.staged, job.keeper);
    let directories: Vec<_> = staged.directories().collect();
    directories
        .into_par_iter()
        .filter(|(directory, _)| keeper.allow_write(&directory.path, true).is_ok())
        .try_for_each(|(directory, stamps)| {
            let observed = job.observed.directory(&directory.path);
            let mut open = None;
            for (nth, (entry, stamp)) in directory.entries.iter().zip(stamps).enumerate() {
                let path = || directory.path_of(&entry.name);
                let is_staged = *stamp != Stamp::default();
                if is_staged && !is_shared(observed, nth, &entry.name, stamp) {
                    continue;
                }
                // What belongs to the member wasn't staged, and has no stamp.
                let is_directory = entry.kind.is_directory();
                if !is_staged && keeper.allow_write(&path(), is_directory).is_err() {
                    continue;
                }
                let dir = match &open {
                    Some(dir) => dir,
                    None => open.insert(
                        tree.try_open_dir_at(&directory.path)?
                            .ok_or_else(|| CommitError::NotStaged(directory.path.clone()))?,
                    ),
                };
                let now = dir
                    .stat(&entry.name)?
                    .ok_or_else(|| CommitError::NotStaged(path()))?;
                let is_same = is_directory && now.is_directory()
                    || now.ino == stamp.ino && now.size == stamp.size && now.mtime == stamp.mtime;
                if !is_same {
                    return Err(CommitError::Changed(path()));
                }
            }
            Ok(())
        })
}

/// True if this is the live tree's inode. The entry is most likely the `nth` there, too.
fn is_shared(
    observed: Option<(&Directory, &[Stamp])>,
    nth: usize,
    name: &Name,
    stamp: &Stamp,
) -> bool {
    observed.is_some_and(|(live, stamps)| {
        let is_there = live.entries.get(nth).is_some_and(|it| it.name == *name);
        let at = match is_there {
            true => Some(nth),
            false => live.entries.binary_search_by(|it| it.name.cmp(name)).ok(),
        };
        let seen = at.and_then(|at| stamps.get(at));
        seen.is_some_and(|seen| seen.ino == stamp.ino)
    })
}

/// The symlinks to shared paths, and the directories above them that the manifest doesn't have.
fn additions(
    job: &Job<'_>,
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
                        Some(live) => like_live(job, live, &directory)?,
                        None => None,
                    };
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

/// What a directory looks like that isn't ours any more, and stays for what is in it: its ACL, too.
fn like_live(
    job: &Job<'_>,
    live: &mut Tree,
    path: &RelPath,
) -> Result<Option<Attributes>, CommitError> {
    let Some(stat) = live.stat(path)?.filter(Stat::is_directory) else {
        return Ok(None);
    };
    let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or_default()) else {
        return Ok(None);
    };
    let xattrs = match live.dir(&parent)? {
        Some(dir) => read_xattrs_at(dir, &name, job.xattrs, job.principals)?,
        None => None,
    };
    Ok(Some(Attributes::of(&stat, xattrs).without_mtime()))
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
