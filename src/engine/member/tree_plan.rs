//! The plan: what a commit would do on this member, entry by entry.
//!
//! One list serves `--dry-run`, the brakes, staging and the commit, so none of them can mean
//! something else than the others. Nothing is written here.

use super::held::{HeldEntry, Kept, Known, left_out, survey_known};
use super::keeper::{Keeper, Untouchable};
use super::plan_summary::{attributes, meta_letters};
use crate::engine::index::Index;
use crate::fs::space::Space;
use crate::fs::{Dir, FsError};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use sync_proto::entry::{Entry, Kind};
use sync_proto::manifest::{Change as Differs, Manifest, diff};
use sync_proto::path::RelPath;
use sync_proto::wire::{Item, ItemKind, Layout, Notice, Plan, sort_letter};

const IN_THE_WAY: &str =
    "is wanted as something else than a directory, and holds names that may not be touched";

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The live tree; `None` if there is none yet.
    pub live: Option<&'a Dir>,
    /// How it lies.
    pub layout: Layout,
    /// What was found there.
    pub observed: &'a Index,
    /// It was just looked at, rather than taken from the record.
    pub is_looked_at: bool,
    /// What was last committed, if it is known.
    pub committed: Option<&'a Index>,
    /// What it is to be.
    pub desired: &'a Manifest,
    /// What may not be touched. Its foreign paths are empty if their removal was asked for.
    pub keeper: &'a Keeper,
    /// Deliver preserved paths where they are absent.
    pub seed: bool,
    /// What is free.
    pub space: Option<Space>,
    /// In a few words, if the root isn't what it was: see
    /// [`Place::root_changed`](super::place::Place::root_changed).
    pub root_changed: Option<&'a str>,
}

/// What happens to one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new: staged.
    Add,
    /// Another thing or other content: staged.
    Replace,
    /// Only metadata.
    Touch,
    /// It goes.
    Remove,
}

/// One entry that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where; the root's path for the root's own metadata.
    pub path: RelPath,
    /// What happens.
    pub action: Action,
    /// What is there now isn't what was committed, and is moved aside.
    pub is_drift: bool,
    /// The sort letter of [`Item`].
    pub sort: u8,
    /// The attribute letters of [`Item`].
    pub attributes: String,
}

/// The plan of one member.
#[derive(Clone, Debug, Default)]
pub struct TreePlan {
    /// The numbers, as they are sent.
    pub summary: Plan,
    /// Every entry that changes, in path order.
    pub changes: Vec<Change>,
    /// Preserved paths that will be delivered because they are absent, the topmost ones.
    pub seeds: Vec<RelPath>,
    is_switched: bool,
}

impl TreePlan {
    /// True if a commit would change nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The entries that must be staged anew. In the layout `switched` an unchanged entry is linked
    /// to the live generation's, whose metadata can't be touched, so touched ones are among them.
    pub fn staged(&self) -> impl Iterator<Item = &RelPath> {
        self.changes
            .iter()
            .filter(|change| is_made(change, self.is_switched))
            .map(|change| &change.path)
    }

    /// The entries to which a commit in place gives another ctime: those that it changes, and the
    /// directories in which it makes, renames or removes a name.
    pub fn touched(&self) -> HashSet<RelPath> {
        let changed = self.changes.iter().map(|change| &change.path);
        let parents = changed.clone().chain(&self.seeds).map(RelPath::parent);
        changed.cloned().chain(parents.flatten()).collect()
    }

    /// What changes, as it is sent.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.changes.iter().map(|change| Item {
            path: change.path.as_bytes().to_vec(),
            kind: match change.action {
                Action::Add => ItemKind::Added,
                Action::Replace => ItemKind::Content,
                Action::Touch => ItemKind::Meta,
                Action::Remove => ItemKind::Removed,
            },
            sort: change.sort,
            attributes: change.attributes.clone(),
        })
    }
}

/// Compares, and decides about each entry.
///
/// # Errors
/// The live tree can't be read.
pub fn plan(input: &PlanInput<'_>) -> Result<TreePlan, FsError> {
    let held = match input.live {
        Some(live) => held(live, input)?,
        None => Vec::new(),
    };
    let observed = input.observed.manifest();
    let exists = |path: &RelPath| observed.entry(path).is_some();
    let kept = Kept::new(&held, input.keeper, exists);
    let mut planner = Planner {
        input,
        kept,
        held: held
            .iter()
            .map(|held| (held.path.clone(), held.is_directory))
            .collect(),
        changes: BTreeMap::new(),
        seeds: BTreeSet::new(),
        stays: BTreeSet::new(),
        ignored: BTreeMap::new(),
        summary: Plan::default(),
    };
    for difference in diff(observed, input.desired) {
        planner.consider(difference.path, &difference.change);
    }
    planner.restage_groups();
    planner.check_symlinks();
    planner.check_mounts(&held);
    planner.count();
    Ok(TreePlan {
        summary: planner.summary,
        changes: planner.changes.into_values().collect(),
        seeds: planner.seeds.into_iter().collect(),
        is_switched: input.layout == Layout::Switched,
    })
}

/// What may not be touched. Somebody may add to it at any time from now on, so before the vote, and when
/// the tree is switched, the directories themselves are asked.
fn held(live: &Dir, input: &PlanInput<'_>) -> Result<Vec<HeldEntry>, FsError> {
    if input.is_looked_at
        && let Some(held) = left_out(live, input.keeper, input.observed)
    {
        return Ok(held);
    }
    survey_known(live, input.keeper, Known::Recorded(input.observed))
}

pub(super) struct Planner<'a> {
    pub(super) input: &'a PlanInput<'a>,
    kept: Kept,
    /// What may not be touched, and whether it is a directory.
    held: BTreeMap<RelPath, bool>,
    pub(super) changes: BTreeMap<RelPath, Change>,
    seeds: BTreeSet<RelPath>,
    /// Directories that left the manifest, but hold what may not go.
    pub(super) stays: BTreeSet<RelPath>,
    /// Wanted paths that belong to the member: the topmost ones, with how many entries.
    pub(super) ignored: BTreeMap<RelPath, u64>,
    pub(super) summary: Plan,
}

impl Planner<'_> {
    fn consider(&mut self, path: RelPath, change: &Differs<'_>) {
        match *change {
            Differs::Added(new) => {
                if self.may_write(&path, new) {
                    if self.held.get(&path) == Some(&true) && !new.kind.is_directory() {
                        self.conflict(&path, IN_THE_WAY);
                    }
                    self.note(path, Action::Add, new, String::new());
                }
            }
            Differs::Removed(old) => self.consider_removal(path, old),
            Differs::Replaced { old, new } => {
                if !self.may_write(&path, new) {
                    return;
                }
                let is_kept = || {
                    let keeper = self.input.keeper;
                    self.kept.contains(&path) || keeper.allow_replace(&path, true).is_err()
                };
                if old.kind.is_directory() && is_kept() {
                    self.conflict(&path, IN_THE_WAY);
                }
                let attributes = attributes(Some(old), new);
                self.note(path, Action::Replace, new, attributes);
            }
            Differs::Meta { old, new, kind } => {
                let is_directory = kind.is_none_or(Kind::is_directory);
                let letters = meta_letters(old, new);
                // A time that only holds a held name's traces is nobody's business.
                let is_only_time = letters == "t" && is_directory && self.kept.is_parent(&path);
                if is_only_time || self.input.keeper.allow_write(&path, is_directory).is_err() {
                    return;
                }
                let change = Change {
                    action: Action::Touch,
                    is_drift: false,
                    sort: kind.map_or(b'd', sort_letter),
                    attributes: letters,
                    path: path.clone(),
                };
                self.changes.insert(path, change);
            }
        }
    }

    fn consider_removal(&mut self, path: RelPath, old: &Entry) {
        let is_directory = old.kind.is_directory();
        match self.input.keeper.allow_delete(&path, is_directory) {
            Err(_) => {}
            Ok(()) if is_directory && self.kept.contains(&path) => {
                self.stays.insert(path);
            }
            Ok(()) => self.note(path, Action::Remove, old, String::new()),
        }
    }

    fn note(&mut self, path: RelPath, action: Action, entry: &Entry, attributes: String) {
        let change = Change {
            is_drift: matches!(action, Action::Replace | Action::Remove) && self.is_drift(&path),
            sort: sort_letter(&entry.kind),
            path: path.clone(),
            action,
            attributes,
        };
        self.changes.insert(path, change);
    }

    /// True if what is there isn't what was committed there.
    fn is_drift(&self, path: &RelPath) -> bool {
        let (Some(committed), Some((now, _))) =
            (self.input.committed, self.input.observed.entry(path))
        else {
            return self.input.committed.is_none();
        };
        committed
            .manifest()
            .entry(path)
            .is_none_or(|before| before.kind != now.kind)
    }

    /// Decides about an entry that the manifest wants, and notes what it may not have.
    fn may_write(&mut self, path: &RelPath, new: &Entry) -> bool {
        let keeper = self.input.keeper;
        let Err(why) = keeper.allow_write(path, new.kind.is_directory()) else {
            return true;
        };
        let Some(top) = top_of(keeper, path, &why) else {
            return false;
        };
        let is_preserved = matches!(why, Untouchable::Preserved(_));
        if self.input.seed && is_preserved && !self.held.contains_key(&top) {
            self.seeds.insert(top);
            return true;
        }
        if is_preserved && *path == top && matches!(new.kind, Kind::Symlink { .. }) {
            self.conflict(path, "is preserved here, and wanted as a symlink");
        }
        *self.ignored.entry(top).or_default() += 1;
        false
    }

    /// A hard-link group is staged whole if any of its names is: staging never links to a live
    /// inode.
    fn restage_groups(&mut self) {
        let desired = self.input.desired;
        let mut groups: HashMap<&RelPath, Vec<RelPath>> = HashMap::new();
        for (directory, entry) in desired.entries() {
            if let Kind::HardLink { leader } = &entry.kind {
                let names = groups.entry(leader).or_insert_with(|| vec![leader.clone()]);
                names.push(directory.path_of(&entry.name));
            }
        }
        for names in groups.into_values() {
            if !names.iter().any(|name| self.is_staged(name)) {
                continue;
            }
            let changes = names.iter().filter_map(|name| self.changes.get(name));
            let is_touched_whole = changes.into_iter().all(|it| it.action == Action::Touch);
            for name in names {
                if self.is_staged(&name) || self.input.keeper.allow_write(&name, false).is_err() {
                    continue;
                }
                let (old, new) = (
                    self.input.observed.manifest().entry(&name),
                    desired.entry(&name),
                );
                if let Some(new) = new {
                    let action = match old {
                        None => Action::Add,
                        Some(_) if is_touched_whole => Action::Touch,
                        Some(_) => Action::Replace,
                    };
                    self.note(name, action, new, attributes(old, new));
                }
            }
        }
    }

    fn is_staged(&self, path: &RelPath) -> bool {
        let is_switched = self.input.layout == Layout::Switched;
        let change = self.changes.get(path);
        change.is_some_and(|it| is_made(it, is_switched))
    }

    /// Uploads must not end up behind a symlink that a manifest brings.
    fn check_symlinks(&mut self) {
        let preserve = &self.input.keeper.scope.preserve;
        if preserve.is_empty() {
            return;
        }
        for (directory, entry) in self.input.desired.entries() {
            if !matches!(entry.kind, Kind::Symlink { .. }) {
                continue;
            }
            let path = directory.path_of(&entry.name);
            if preserve.may_hold(&path)
                && let Some(pattern) = preserve.iter().find(|it| leads_through(it.line(), &path))
            {
                let what = format!("is wanted as a symlink above the preserved `{pattern}`");
                self.conflict(&path, &what);
            }
        }
    }

    /// The layout `switched` moves what is held to its shared place, which a mount refuses.
    fn check_mounts(&mut self, held: &[HeldEntry]) {
        if self.input.layout == Layout::Switched {
            for held in held.iter().filter(|held| held.is_opaque) {
                self.conflict(&held.path, "is another mount, or can't be read");
            }
        }
    }

    fn conflict(&mut self, path: &RelPath, message: &str) {
        self.summary.conflicts.push(notice(path, message));
    }
}

/// True if a change is staged as an entry of its own.
pub(super) fn is_made(change: &Change, is_switched: bool) -> bool {
    match change.action {
        Action::Add | Action::Replace => true,
        Action::Touch => is_switched && change.sort != b'd',
        Action::Remove => false,
    }
}

/// The topmost path, at or above `path`, that is untouchable for the same reason.
fn top_of(keeper: &Keeper, path: &RelPath, why: &Untouchable) -> Option<RelPath> {
    let mut top = path.clone();
    loop {
        let parent = top.parent()?;
        if keeper.allow_write(&parent, true).as_ref() != Err(why) {
            return Some(top);
        }
        top = parent;
    }
}

/// True if `path` is the literal beginning of a pattern that goes on below it. A wildcard leads
/// nowhere in particular: what such a pattern really protects is found on the disk.
fn leads_through(line: &str, path: &RelPath) -> bool {
    let mut names = line.split('/').filter(|name| !name.is_empty());
    let is_literal = |name: &str| !name.contains(['*', '?', '[', '\\']);
    path.components().all(|component| {
        names
            .next()
            .is_some_and(|name| is_literal(name) && name.as_bytes() == component)
    }) && names.next().is_some()
}

pub(super) fn notice(path: &RelPath, message: &str) -> Notice {
    Notice {
        code: String::new(),
        path: path.as_bytes().to_vec(),
        message: message.to_owned(),
    }
}
