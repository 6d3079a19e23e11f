//! What must lie in the staged tree, entry by entry, before anything is looked for or asked for.
//!
//! In the layout `switched` that is the whole tree; in place only what the plan adds or replaces,
//! with the directories above it as scaffolding. What belongs to the member is never in it, but for
//! seeds, which in the layout `switched` have a tree of their own.

use super::compare::Target;
use super::keeper::Keeper;
use super::tree_plan::Action;
use crate::engine::index::{Index, Stamp, Stamps};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind};
use sync_proto::filter::Side;
use sync_proto::manifest::{Content, Directory};
use sync_proto::path::RelPath;
use sync_proto::wire::Layout;

/// One entry of the wanted tree, by its place in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Which directory of the manifest.
    pub directory: u32,
    /// Which of its entries.
    pub entry: u32,
    /// It is delivered into the tree of seeds.
    pub is_seed: bool,
}

impl At {
    /// The directory that holds it.
    pub fn staged_directory(self) -> StagedDirectory {
        StagedDirectory {
            is_seed: self.is_seed,
            directory: self.directory,
        }
    }
}

/// A directory of the staged tree, or of the tree of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedDirectory {
    /// It is in the tree of seeds.
    pub is_seed: bool,
    /// Which directory of the manifest.
    pub directory: u32,
}

/// Everything that is to be staged.
pub struct Work {
    /// What the tree is to become.
    pub target: Arc<Target>,
    /// The distinct contents of the whole manifest.
    pub contents: Vec<Content>,
    by_digest: HashMap<Digest, u32>,
    /// For each content, the files that hold it and are to be staged.
    pub files: Vec<Vec<At>>,
    /// Empty files.
    pub empty: Vec<At>,
    /// Further names of files.
    pub links: Vec<At>,
    /// The first names of those files.
    pub leaders: HashSet<RelPath>,
    /// Pipes, sockets and devices.
    pub nodes: Vec<At>,
    /// Symlinks.
    pub symlinks: Vec<At>,
    /// Directories, parents first. True if they get their final metadata.
    pub directories: BTreeMap<StagedDirectory, bool>,
    /// For each directory of the manifest, which one of the observed tree has its path.
    twins: Vec<Option<u32>>,
}

impl Work {
    /// Collects what is to be staged.
    pub fn new(target: Arc<Target>, layout: Layout, keeper: &Keeper, observed: &Index) -> Self {
        let contents = target.desired.contents();
        let by_digest = (0_u32..)
            .zip(&contents)
            .map(|(at, content)| (content.digest, at))
            .collect();
        let mut work = Self {
            files: vec![Vec::new(); contents.len()],
            contents,
            by_digest,
            empty: Vec::new(),
            links: Vec::new(),
            leaders: HashSet::new(),
            nodes: Vec::new(),
            symlinks: Vec::new(),
            directories: BTreeMap::new(),
            twins: observed.twins(&target.desired),
            target: target.clone(),
        };
        match layout {
            Layout::Switched => work.whole_tree(&target, keeper),
            Layout::InPlace => work.changes(&target),
        }
        work
    }

    fn whole_tree(&mut self, target: &Target, keeper: &Keeper) {
        #[derive(Clone, Copy, PartialEq)]
        enum Is {
            Managed,
            Seed,
            Theirs,
        }
        let directories = target.desired.directories();
        let mut standing = vec![Is::Theirs; directories.len()];
        if let Some(root) = standing.first_mut() {
            *root = Is::Managed;
        }
        for (at, directory) in (0_u32..).zip(directories) {
            let own = standing.get(at as usize).copied().unwrap_or(Is::Theirs);
            match own {
                Is::Theirs => continue,
                Is::Managed => self.directory(at, false, true),
                Is::Seed => self.directory(at, true, true),
            }
            for (nth, entry) in (0_u32..).zip(&directory.entries) {
                let is_directory = entry.kind.is_directory();
                let is_managed = own == Is::Managed
                    && keeper
                        .scope
                        .of_child(Side::Sender, &directory.path, &entry.name, is_directory)
                        .is_managed();
                let path = || directory.path_of(&entry.name);
                let is = if is_managed {
                    Is::Managed
                } else if own == Is::Seed && keeper.allow_seed(&path()).is_ok()
                    || own == Is::Managed && target.plan.seeds.binary_search(&path()).is_ok()
                {
                    Is::Seed
                } else {
                    continue;
                };
                if is == Is::Seed && own == Is::Managed {
                    self.scaffold(target, at, true);
                }
                if is_directory {
                    if let Some(child) = self.index_of(&path())
                        && let Some(standing) = standing.get_mut(child as usize)
                    {
                        *standing = is;
                    }
                } else {
                    let at = At {
                        directory: at,
                        entry: nth,
                        is_seed: is == Is::Seed,
                    };
                    self.entry(at, entry);
                }
            }
        }
    }

    fn changes(&mut self, target: &Target) {
        for change in &target.plan.changes {
            if !matches!(change.action, Action::Add | Action::Replace) {
                continue;
            }
            let (Some(parent), Some(name)) = (change.path.parent(), change.path.file_name()) else {
                continue;
            };
            let Some(at) = self.index_of(&parent) else {
                continue;
            };
            let directory = target.desired.directories().get(at as usize);
            let entries = directory.map_or(&[][..], |directory| directory.entries.as_slice());
            let Ok(nth) = entries.binary_search_by(|entry| entry.name.cmp(&name)) else {
                continue;
            };
            let Some(entry) = entries.get(nth) else {
                continue;
            };
            self.scaffold(target, at, false);
            if entry.kind.is_directory() {
                if let Some(own) = self.index_of(&change.path) {
                    self.directory(own, false, true);
                }
            } else {
                let at = At {
                    directory: at,
                    entry: nth as u32,
                    is_seed: false,
                };
                self.entry(at, entry);
            }
        }
    }

    /// Makes sure that a directory and those above it are there.
    fn scaffold(&mut self, target: &Target, directory: u32, is_seed: bool) {
        let mut next = Some(directory);
        while let Some(directory) = next {
            let known = StagedDirectory { is_seed, directory };
            if self.directories.contains_key(&known) {
                return;
            }
            self.directories.insert(known, false);
            next = target
                .desired
                .directories()
                .get(directory as usize)
                .and_then(|directory| directory.path.parent())
                .and_then(|parent| self.index_of(&parent));
        }
    }

    fn directory(&mut self, directory: u32, is_seed: bool, is_final: bool) {
        self.directories
            .insert(StagedDirectory { is_seed, directory }, is_final);
    }

    fn entry(&mut self, at: At, entry: &Entry) {
        match &entry.kind {
            Kind::Directory => {}
            Kind::File { size: 0, .. } => self.empty.push(at),
            Kind::File { content, .. } => {
                let index = self.by_digest.get(content).copied();
                if let Some(files) = index.and_then(|index| self.files.get_mut(index as usize)) {
                    files.push(at);
                }
            }
            Kind::HardLink { leader } => {
                self.links.push(at);
                self.leaders.insert(leader.clone());
            }
            Kind::Symlink { .. } => self.symlinks.push(at),
            Kind::Fifo | Kind::Socket | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                self.nodes.push(at);
            }
        }
    }

    /// True if this is a file that gets further names, and with them another ctime.
    pub fn is_leader(&self, directory: &Directory, entry: &Entry) -> bool {
        !self.leaders.is_empty() && self.leaders.contains(&directory.path_of(&entry.name))
    }

    /// The index of a content.
    pub fn content(&self, digest: &Digest) -> Option<u32> {
        self.by_digest.get(digest).copied()
    }

    /// The place of a directory in the manifest.
    pub fn index_of(&self, path: &RelPath) -> Option<u32> {
        let at = self.target.desired.position(path)?;
        u32::try_from(at).ok()
    }

    /// The directory of the `observed` tree that has the path of this one. It is the very same one
    /// where nothing in it is another entry than it was.
    pub fn live<'a>(
        &self,
        observed: &'a Index,
        directory: u32,
    ) -> Option<(&'a Arc<Directory>, &'a Stamps)> {
        let twin = *self.twins.get(directory as usize)?;
        observed.nth(twin? as usize)
    }

    /// The stamp of the same entry in the `observed` tree, if there is one, with the same metadata.
    pub fn unchanged(&self, observed: &Index, at: At) -> Option<Stamp> {
        let (directory, entry) = self.at(at)?;
        let (live, stamps) = self.live(observed, at.directory)?;
        let nth = if std::ptr::eq(&raw const **live, directory) {
            at.entry as usize
        } else {
            let entries = &live.entries;
            let nth = entries.binary_search_by(|it| it.name.cmp(&entry.name));
            nth.ok().filter(|nth| entries.get(*nth) == Some(entry))?
        };
        stamps.get(nth).copied()
    }

    /// The directory with this number.
    pub fn directory_at(&self, directory: u32) -> Option<&Directory> {
        let directories = self.target.desired.directories();
        directories.get(directory as usize).map(AsRef::as_ref)
    }

    /// The entry at its place, with its directory.
    pub fn at(&self, at: At) -> Option<(&Directory, &Entry)> {
        let directory = self.directory_at(at.directory)?;
        Some((directory, directory.entries.get(at.entry as usize)?))
    }

    /// Where an entry is.
    pub fn path(&self, at: At) -> RelPath {
        self.at(at)
            .map(|(directory, entry)| directory.path_of(&entry.name))
            .unwrap_or_default()
    }
}
