//! The layout `in-place`, after the decision: the steps are carried out, forward only.
//!
//! Every step looks before it acts, and what it finds says how far it got before: an entry that
//! bears the new inode number is done. So the whole may be repeated at any time, after a crash at
//! any point. What others did to a path since the vote is never destroyed: it comes out by the
//! same exchange, and is told by its inode number.

use super::fault::point;
use super::journal::{Journal, TREE, Work};
use super::keeper::Untouchable;
use super::live::{Hands, How, LiveError, Tree};
use super::place::Place;
use super::step::{Attributes, Old, Seen, Step};
use super::transaction::{CommitError, now_us};
use super::tree_plan::notice;
use crate::fs::owner::Principals;
use crate::fs::xattr::{Target, XattrPolicy, read_xattrs};
use crate::fs::{Dir, FsError};
use std::time::{Duration, Instant};
use sync_proto::entry::Time;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Notice;

/// How often a path is looked at again that others keep changing.
const TRIES: usize = 8;

/// What a commit did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// When that was done, Unix microseconds; what follows is out of visitors' sight.
    pub(super) switched_us: i64,
    pub(super) window: Duration,
    pub(super) notices: Vec<Notice>,
}

/// Carries out the steps.
pub(super) fn apply(place: &Place, journal: &Journal) -> Result<Applied, CommitError> {
    let Work::InPlace { steps, times } = &journal.work else {
        return Ok(Applied::default());
    };
    let live = place.live()?.ok_or(CommitError::RootGone)?;
    let work = working_tree(place, journal)?.ok_or(CommitError::StagingLost)?;
    let swap = swap_directory(place, journal)?;
    let principals = Principals::by_name();
    let mut worker = Worker {
        hands: Hands {
            keeper: &journal.keeper,
            swap: &swap,
        },
        how: How {
            policy: journal.policy(),
            principals: &principals,
        },
        live: Tree::new(live),
        work: Tree::new(work),
        notices: Vec::new(),
    };
    let begun = Instant::now();
    for step in steps {
        worker.carry_out(step)?;
    }
    worker.live.forget();
    for (path, mtime) in times {
        worker.set_time(path, *mtime)?;
    }
    let (window, switched_us) = (begun.elapsed(), now_us());
    point("member.window.done")?;
    worker.put_away(place, journal, steps)?;
    Ok(Applied {
        switched_us,
        window,
        notices: worker.notices,
    })
}

/// The staged tree, wherever the commit has got to with it: it becomes the undo area.
fn working_tree(place: &Place, journal: &Journal) -> Result<Option<Dir>, FsError> {
    if let Some(staged) = journal.staged_tree(place)? {
        return Ok(Some(staged));
    }
    match place.sub(b"undo")?.try_open_dir(&journal.directory)? {
        Some(undo) => undo.try_open_dir(&place.own_name(TREE)?),
        None => Ok(None),
    }
}

fn swap_directory(place: &Place, journal: &Journal) -> Result<Dir, FsError> {
    let undo = place
        .sub(b"undo")?
        .create_dir_if_absent(&journal.directory, 0o700)?;
    undo.create_dir_if_absent(&place.own_name(b"swap")?, 0o700)
}

pub(super) struct Worker<'a> {
    pub(super) hands: Hands<'a>,
    how: How<'a>,
    live: Tree,
    pub(super) work: Tree,
    notices: Vec<Notice>,
}

impl Worker<'_> {
    fn carry_out(&mut self, step: &Step) -> Result<(), CommitError> {
        let done = match step {
            Step::Put {
                path,
                new,
                old,
                is_seed,
                ..
            } => self.put(path, new, old.as_ref(), *is_seed),
            Step::Meta { path, ino, new, .. } => self.touch(path, *ino, new),
            Step::Remove { path, old } => self.remove(path, old),
            Step::RemoveDirectory { path, ino } => self.remove_directory(path, *ino),
        };
        self.skip_races(step.path(), done)
    }

    /// What others do to one path costs that path, not the commit; what the disk does stops it.
    fn skip_races(
        &mut self,
        path: &RelPath,
        done: Result<(), LiveError>,
    ) -> Result<(), CommitError> {
        let message = match done {
            Ok(()) => return Ok(()),
            Err(LiveError::Untouchable(which, why)) => {
                format!("was left as it is, because `{which}` {why}")
            }
            Err(LiveError::Fs(error))
                if error.is_not_found()
                    || error.is_wrong_kind()
                    || error.is_other_mount()
                    || error.is_busy()
                    || error.is_exists() =>
            {
                format!("was changed by somebody else during the commit: {error}")
            }
            // Permissions were checked before the vote. Repeating won't help, and a transaction
            // that can't be finished would keep the whole tree from being served.
            Err(LiveError::Fs(error)) if error.is_permission() => {
                format!("could not be changed: {error}")
            }
            Err(LiveError::Fs(error)) => return Err(error.into()),
            Err(LiveError::Meta(error)) => error.to_string(),
        };
        self.notices.push(notice(path, &message));
        Ok(())
    }

    fn put(
        &mut self,
        path: &RelPath,
        new: &Seen,
        old: Option<&Old>,
        is_seed: bool,
    ) -> Result<(), LiveError> {
        for _ in 0..TRIES {
            let (Some(from), Some(to)) = (self.work.spot(path)?, self.live.spot(path)?) else {
                break;
            };
            let there = to.dir.stat(&to.name)?;
            if there.is_some_and(|there| there.ino == new.ino) {
                if let Some(old) = old {
                    self.hands.finish_swap(old.seen.ino, &from)?;
                }
                return Ok(());
            }
            let Some(staged) = from.dir.stat(&from.name)?.filter(|it| it.ino == new.ino) else {
                // It was put in place before a crash, and somebody replaced it since.
                return Ok(());
            };
            let done = match there {
                None => self.hands.put(path, new.is_directory, is_seed, &from, &to),
                Some(_) if is_seed => {
                    return Err(LiveError::Untouchable(
                        path.clone(),
                        Untouchable::Preserved("it is there by now".to_owned()),
                    ));
                }
                Some(there) if there.is_directory() && new.is_directory => {
                    return self.merge(path);
                }
                Some(there) => self.hands.exchange(path, (&from, &staged), (&to, &there)),
            };
            match done {
                // RACE: the name appeared or went since the look; another look.
                Err(LiveError::Fs(error)) if error.is_exists() || error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    if new.is_directory || old.is_some_and(|old| old.seen.is_directory) {
                        self.live.forget();
                        self.work.forget();
                    }
                    if let (Some(old), Some(from)) = (old, self.work.spot(path)?) {
                        self.hands.finish_swap(old.seen.ino, &from)?;
                    }
                    return Ok(());
                }
            }
        }
        let held = FsError::taken(path.as_bytes());
        Err(LiveError::Fs(held))
    }

    /// A directory appeared where a new one was to be put. What is in it may not be ours, so the
    /// staged entries go into it one by one.
    fn merge(&mut self, path: &RelPath) -> Result<(), LiveError> {
        let Some(staged) = self.work.dir(path)? else {
            return Ok(());
        };
        let mut names: Vec<Name> = staged.list()?.into_iter().map(|it| it.name).collect();
        names.sort();
        let stat = staged.stat_self()?;
        let target = Target::open(staged);
        let xattrs = read_xattrs(&target, self.how.policy, self.how.principals)?;
        let attributes = Attributes::of(&stat, xattrs);
        for name in names {
            let Ok(child) = path.join(&name) else {
                continue;
            };
            let Some(stat) = self.work.stat(&child)? else {
                continue;
            };
            let done = self.put(&child, &Seen::from(&stat), None, false);
            match done {
                Err(LiveError::Untouchable(which, why)) => {
                    let message = format!("was left as it is, because `{which}` {why}");
                    self.notices.push(notice(&child, &message));
                }
                other => other?,
            }
        }
        self.live.forget();
        let ino = self.live.stat(path)?.map(|stat| stat.ino);
        ino.map_or(Ok(()), |ino| self.touch(path, ino, &attributes))
    }

    fn touch(&mut self, path: &RelPath, ino: u64, new: &Attributes) -> Result<(), LiveError> {
        let unkept = if path.is_root() {
            let target = Target::open(self.live.root());
            self.hands.touch(path, &target, new, self.how)?
        } else {
            let Some(spot) = self.live.spot(path)? else {
                return Err(LiveError::Fs(FsError::gone(path.as_bytes())));
            };
            let target = Target::entry(spot.dir, &spot.name)?;
            if target.stat()?.ino != ino {
                let message = "was replaced by somebody else, and kept its metadata";
                self.notices.push(notice(path, message));
                return Ok(());
            }
            self.hands.touch(path, &target, new, self.how)?
        };
        for unkept in unkept {
            let message = format!("could not get its {unkept}");
            self.notices.push(notice(path, &message));
        }
        Ok(())
    }

    fn remove(&mut self, path: &RelPath, old: &Old) -> Result<(), LiveError> {
        let Some(from) = self.live.spot(path)? else {
            return Ok(());
        };
        let Some(there) = from.dir.stat(&from.name)? else {
            return Ok(());
        };
        let Some(to) = self.work.spot(path)? else {
            return Err(LiveError::Fs(FsError::gone(path.as_bytes())));
        };
        let is_taken_already = to.dir.stat(&to.name)?.is_some();
        if is_taken_already || there.is_directory() != old.seen.is_directory {
            // It was taken out before a crash, or became a directory: what is there is new.
            self.notices.push(notice(
                path,
                "appeared while the push was committed, and stays",
            ));
            return Ok(());
        }
        self.hands.take(path, &from, &to)
    }

    fn remove_directory(&mut self, path: &RelPath, ino: u64) -> Result<(), LiveError> {
        self.live.forget();
        let Some(at) = self.live.spot(path)? else {
            return Ok(());
        };
        if at.dir.stat(&at.name)?.is_none_or(|there| there.ino != ino) {
            return Ok(());
        }
        match self.hands.remove_empty(path, &at) {
            Err(LiveError::Fs(error)) if error.is_exists() => {
                let message = "stays: something that is not ours appeared in it";
                self.notices.push(notice(path, message));
                Ok(())
            }
            other => other,
        }
    }

    fn set_time(&mut self, path: &RelPath, mtime: Time) -> Result<(), CommitError> {
        let done = self.try_set_time(path, mtime);
        self.skip_races(path, done)
    }

    fn try_set_time(&mut self, path: &RelPath, mtime: Time) -> Result<(), LiveError> {
        let Some(dir) = self.live.dir(path)? else {
            return Ok(());
        };
        let stat = dir.stat_self()?;
        if stat.mtime == mtime {
            return Ok(());
        }
        let target = Target::open(dir);
        let how = How {
            policy: XattrPolicy::Ignore,
            ..self.how
        };
        let attributes = Attributes::with_mtime(&stat, mtime);
        self.hands.touch(path, &target, &attributes, how)?;
        Ok(())
    }
}
