//! The layout `in-place`, before the vote: the plan becomes steps.
//!
//! Every path that the commit will touch is stat'ed again. What is there and wasn't expected is
//! drift: it will be moved aside, never destroyed. What makes the staged tree wrong (a file that
//! would only get new metadata has got new content) is an error, and the member votes no.

use super::held::{Kept, survey_known};
use super::journal::{Made, Work};
use super::live::Tree;
use super::prepare::Job;
use super::step::{Attributes, Old, Seen, Step};
use super::transaction::CommitError;
use super::tree_plan::{Action, Change, notice};
use crate::engine::index::Stamp;
use crate::fs::xattr::read_xattrs_at;
use crate::fs::{Dir, Stat};
use std::collections::BTreeSet;
use sync_proto::digest::Digest;
use sync_proto::entry::{Kind, Meta, Time};
use sync_proto::path::RelPath;
use sync_proto::wire::Notice;

/// What a layout's own part of prepare found and planned.
pub(super) struct Planned {
    pub(super) work: Work,
    pub(super) made: Vec<Made>,
    pub(super) overwritten: Vec<Notice>,
}

/// Turns the plan into steps.
pub(super) fn prepare(job: &Job<'_>, live: Tree, staged: Tree) -> Result<Planned, CommitError> {
    let held = survey_known(live.root(), job.keeper, job.known)?;
    let observed = job.observed.manifest();
    let exists = |path: &RelPath| observed.entry(path).is_some();
    let mut builder = Builder {
        job,
        kept: Kept::new(&held, job.keeper, exists),
        live,
        staged,
        steps: Vec::new(),
        touched: BTreeSet::new(),
        overwritten: Vec::new(),
    };
    let mut changes = job.plan.changes.iter().peekable();
    while let Some(change) = changes.next() {
        let mut below = Vec::new();
        let covers = matches!(change.action, Action::Add | Action::Replace);
        while let Some(next) = changes
            .next_if(|next| covers && !change.path.is_root() && next.path.is_within(&change.path))
        {
            below.push(next);
        }
        builder.add(change, &below)?;
    }
    builder.finish()
}

struct Builder<'a> {
    job: &'a Job<'a>,
    kept: Kept,
    live: Tree,
    staged: Tree,
    steps: Vec<Step>,
    /// Directories whose entries change.
    touched: BTreeSet<RelPath>,
    overwritten: Vec<Notice>,
}

impl Builder<'_> {
    /// `below` are the changes under an entry that is put as a whole.
    fn add(&mut self, change: &Change, below: &[&Change]) -> Result<(), CommitError> {
        let path = &change.path;
        let now = self.live.stat(path)?;
        match change.action {
            Action::Add | Action::Replace => {
                let old = now.map(|now| self.old(path, &now, change)).transpose()?;
                self.put(path, old, below)
            }
            Action::Touch => {
                let step = self.touch(path, now)?;
                self.steps.push(step);
                Ok(())
            }
            Action::Remove => {
                let Some(now) = now else {
                    return Ok(());
                };
                self.remove(change, &now)
            }
        }
    }

    fn put(
        &mut self,
        path: &RelPath,
        old: Option<Old>,
        below: &[&Change],
    ) -> Result<(), CommitError> {
        let staged = self.staged.stat(path)?;
        let wanted = self.job.desired.entry(path).map(|entry| &entry.kind);
        let staged = match (staged, wanted) {
            (Some(staged), Some(kind)) if is_of_kind(&staged, kind) => staged,
            _ => return Err(CommitError::NotStaged(path.clone())),
        };
        let is_directory_lost =
            old.as_ref().is_some_and(|old| old.seen.is_directory) && !staged.is_directory();
        let is_kept =
            || self.kept.contains(path) || self.job.keeper.allow_replace(path, true).is_err();
        if is_directory_lost && is_kept() {
            return Err(CommitError::Kept(path.clone()));
        }
        let mut inside = Vec::new();
        if is_directory_lost {
            for change in below.iter().filter(|it| it.action == Action::Remove) {
                if let Some(now) = self.live.stat(&change.path)? {
                    inside.push((change.path.clone(), self.old(&change.path, &now, change)?));
                }
            }
        }
        let is_seed = self.job.plan.seeds.iter().any(|seed| path.is_within(seed));
        if !is_seed {
            self.touched.extend(path.parent());
        }
        self.steps.push(Step::Put {
            path: path.clone(),
            new: Seen::from(&staged),
            old: if is_seed { None } else { old },
            below: inside,
            is_seed,
        });
        Ok(())
    }

    fn touch(&self, path: &RelPath, now: Option<Stat>) -> Result<Step, CommitError> {
        let changed = || CommitError::Changed(path.clone());
        let now = now.ok_or_else(changed)?;
        let (meta, stamp) = if path.is_root() {
            (self.job.desired.root_meta(), self.job.observed.root_stamp())
        } else {
            let stamp = self.job.observed.entry(path).map(|(_, stamp)| stamp);
            let entry = self.job.desired.entry(path);
            (&entry.ok_or_else(changed)?.meta, stamp.ok_or_else(changed)?)
        };
        // Nothing but metadata is staged for this entry: its content must be what was seen.
        if !is_unchanged(stamp, &now) {
            return Err(changed());
        }
        let mut new = Attributes::from((self.job.resolve)(meta)?);
        if now.is_directory() && self.kept.is_parent(path) {
            new = new.without_mtime();
        }
        let xattrs = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let how = self.job.how();
                let dir = self.live.root().open_dir_at(&parent)?;
                read_xattrs_at(&dir, &name, how.policy, how.principals)?
            }
            _ => None,
        };
        Ok(Step::Meta {
            path: path.clone(),
            ino: now.ino,
            new,
            old: Attributes::of(&now, xattrs),
        })
    }

    fn remove(&mut self, change: &Change, now: &Stat) -> Result<(), CommitError> {
        let path = &change.path;
        let was_directory = change.sort == b'd';
        if was_directory != now.is_directory() {
            self.overwritten.push(notice(
                path,
                "became another kind of entry in the meantime, and stays",
            ));
            return Ok(());
        }
        if was_directory {
            if !self.kept.contains(path) {
                self.steps.push(Step::RemoveDirectory {
                    path: path.clone(),
                    ino: now.ino,
                });
                self.touched.extend(path.parent());
            }
            return Ok(());
        }
        let old = self.old(path, now, change)?;
        self.steps.push(Step::Remove {
            path: path.clone(),
            old,
        });
        self.touched.extend(path.parent());
        Ok(())
    }

    /// What is there now and will be taken out.
    fn old(&mut self, path: &RelPath, now: &Stat, change: &Change) -> Result<Old, CommitError> {
        let known = self.job.observed.entry(path);
        let is_known = known.is_some_and(|(_, stamp)| is_unchanged(stamp, now));
        let is_drift = change.is_drift || !is_known;
        if is_drift {
            let message = if is_known {
                "is not what was committed, and is moved aside"
            } else {
                "appeared or changed while the push was prepared, and is moved aside"
            };
            self.overwritten.push(notice(path, message));
        }
        let content = known
            .filter(|_| is_known)
            .and_then(|(entry, _)| self.content(&entry.kind));
        Ok(Old {
            seen: Seen::from(now),
            content,
            is_drift,
        })
    }

    fn content(&self, kind: &Kind) -> Option<(Digest, u64)> {
        match kind {
            Kind::File { size, content } => Some((*content, *size)),
            Kind::HardLink { leader } => match self.job.observed.manifest().entry(leader)?.kind {
                Kind::File { size, content } => Some((content, size)),
                _ => None,
            },
            _ => None,
        }
    }

    fn finish(mut self) -> Result<Planned, CommitError> {
        self.check_permissions()?;
        let made = self.missing_directories()?;
        let times = self.times();
        // ORDER: new before changed before gone; what goes, deepest first.
        let (mut gone, mut steps): (Vec<_>, Vec<_>) =
            self.steps.into_iter().partition(|step| step.phase() == 3);
        steps.sort_by_key(Step::phase);
        gone.sort_by(|a, b| b.path().cmp(a.path()));
        steps.extend(gone);
        Ok(Planned {
            work: Work::InPlace { steps, times },
            made,
            overwritten: self.overwritten,
        })
    }

    /// What this process may not do is found out before the vote, not in the window.
    fn check_permissions(&mut self) -> Result<(), CommitError> {
        let mut changed: BTreeSet<&RelPath> = self.touched.iter().collect();
        // A directory that moves gets another `..`, so it must be writable itself.
        for step in &self.steps {
            if let Step::Put { path, old, .. } = step
                && old.as_ref().is_some_and(|old| old.seen.is_directory)
            {
                changed.insert(path);
            }
        }
        for path in changed {
            let is_writable = self.live.dir(path)?.is_none_or(Dir::is_writable);
            if !is_writable {
                return Err(CommitError::Unwritable(path.clone()));
            }
        }
        for step in &self.steps {
            if let Step::Put { path, new, .. } = step
                && new.is_directory
                && !self.staged.dir(path)?.is_none_or(Dir::is_writable)
            {
                return Err(CommitError::Unwritable(path.clone()));
            }
        }
        Ok(())
    }

    /// The directories in the staged tree that will receive what is removed.
    fn missing_directories(&mut self) -> Result<Vec<Made>, CommitError> {
        let mut missing = BTreeSet::new();
        for step in &self.steps {
            let mut above = match step {
                Step::Remove { path, .. } => path.parent(),
                _ => None,
            };
            while let Some(directory) = above.filter(|it| !it.is_root()) {
                if missing.contains(&directory) || self.staged.stat(&directory)?.is_some() {
                    break;
                }
                above = directory.parent();
                missing.insert(directory);
            }
        }
        Ok(missing
            .into_iter()
            .map(|path| Made::Directory(path, None))
            .collect())
    }

    fn times(&self) -> Vec<(RelPath, Time)> {
        let wanted = |path: &RelPath| -> Option<&Meta> {
            if path.is_root() {
                return Some(self.job.desired.root_meta());
            }
            let entry = self.job.desired.entry(path)?;
            entry.kind.is_directory().then_some(&entry.meta)
        };
        // A directory whose metadata is set anyway may stand above one that changes.
        let touched = self.steps.iter().filter_map(|step| match step {
            Step::Meta { path, .. } => Some(path),
            _ => None,
        });
        let mut all: BTreeSet<&RelPath> = self.touched.iter().collect();
        all.extend(touched.filter(|path| wanted(path).is_some()));
        all.into_iter()
            .rev()
            .filter(|path| !self.kept.is_parent(path))
            .filter_map(|path| Some((path.clone(), wanted(path)?.mtime?)))
            .collect()
    }
}

/// True if nothing was done to an entry since it was looked at. A stamp that may not be trusted
/// for content has no ctime; everything else must match.
fn is_unchanged(stamp: &Stamp, now: &Stat) -> bool {
    let fresh = Stamp::from(now);
    if now.is_directory() {
        return stamp.ino == fresh.ino && stamp.same_ownership(&fresh);
    }
    fresh == *stamp || stamp.ctime == Time::default() && fresh.distrusted() == *stamp
}

pub(super) fn is_of_kind(stat: &Stat, kind: &Kind) -> bool {
    use crate::fs::FileKind as Is;
    match kind {
        Kind::Directory => stat.is_directory(),
        Kind::File { size, .. } => stat.is_file() && stat.size == *size,
        Kind::HardLink { .. } => stat.is_file(),
        Kind::Symlink { .. } => stat.is_symlink(),
        Kind::Fifo => stat.kind() == Is::Fifo,
        Kind::Socket => stat.kind() == Is::Socket,
        Kind::CharDevice { .. } => stat.kind() == Is::CharDevice,
        Kind::BlockDevice { .. } => stat.kind() == Is::BlockDevice,
    }
}
