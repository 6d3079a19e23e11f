//! What the tests of this module share: real trees in temporary directories, observed, staged and
//! pushed as the member's session does it, without any connection.

use super::foreign::ForeignPaths;
use super::keeper::Keeper;
use super::live_index::{load_index, refresh_index, save_index};
use super::place::Place;
use super::record::TreeRecord;
use super::transaction::{CommitError, Committed, Job, Prepared, commit, prepare};
use super::tree_plan::{PlanInput, TreePlan, plan};
use crate::engine::index::{Index, Stamp};
use crate::fs::meta::{Apply, Wanted, apply_meta};
use crate::fs::owner::Principals;
use crate::fs::walk::{Verdict, walk};
use crate::fs::xattr::{Target, XattrPolicy, read_xattrs_at};
use crate::fs::{Dir, FileKind, Stat};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Principal};
use sync_proto::filter::{Preserve, Rules, Scope};
use sync_proto::manifest::{Change, Directory, Manifest, diff};
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Generation, Layout, TxnKey};

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

/// One entry of a tree to build.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Dir(u32),
    File(&'static str),
    /// Content, mode, mtime in seconds.
    Exact(&'static str, u32, i64),
    Link(&'static str),
    /// A further name of an earlier file.
    Hard(&'static str),
    Fifo,
}

/// Builds a tree with times in the past. Parents are made as needed.
pub(super) fn build(root: &Path, nodes: &[(&str, Node)]) {
    std::fs::create_dir_all(root).unwrap();
    for (at, node) in nodes {
        let at = root.join(at);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        match node {
            Node::Dir(mode) => {
                std::fs::create_dir_all(&at).unwrap();
                std::fs::set_permissions(&at, PermissionsExt::from_mode(*mode)).unwrap();
            }
            Node::File(content) => std::fs::write(&at, content).unwrap(),
            Node::Exact(content, mode, seconds) => {
                std::fs::write(&at, content).unwrap();
                std::fs::set_permissions(&at, PermissionsExt::from_mode(*mode)).unwrap();
                set_mtime(&at, *seconds);
            }
            Node::Link(target) => symlink(target, &at).unwrap(),
            Node::Hard(leader) => std::fs::hard_link(root.join(leader), &at).unwrap(),
            Node::Fifo => {
                let dir = Dir::open_absolute(at.parent().unwrap()).unwrap();
                let last = name(at.file_name().unwrap().to_str().unwrap());
                dir.mknod(&last, FileKind::Fifo, 0o644, (0, 0)).unwrap();
            }
        }
        if matches!(node, Node::File(_)) {
            set_mtime(&at, 1_600_000_000);
        }
    }
    let mut dirs: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect();
    dirs.reverse();
    for dir in dirs {
        set_mtime(&dir, 1_500_000_000);
    }
}

pub(super) fn set_mtime(at: &Path, seconds: i64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.try_into().unwrap());
    std::fs::File::open(at).unwrap().set_modified(time).unwrap();
}

pub(super) fn principals() -> Principals {
    Principals::numeric()
}

pub(super) fn resolve(meta: &Meta) -> Result<Wanted, crate::fs::owner::Missing> {
    Wanted::resolve(meta, &principals())
}

/// The index of a real tree, everything hashed.
pub(super) fn observe(root: &Dir, keeper: &Keeper) -> Index {
    let walked = walk(root, |parent, last, is_directory| {
        let at = parent.join(&Name::parse(last).unwrap()).unwrap();
        match keeper.allow_delete_scoped(&at, is_directory) {
            Ok(()) => Verdict::Descend,
            Err(_) => Verdict::Skip,
        }
    })
    .unwrap();
    assert_eq!(walked.problems, []);
    let mut leaders = HashMap::new();
    let mut left_out: HashSet<RelPath> = HashSet::new();
    for dir in &walked.dirs {
        if dir.left_out {
            left_out.insert(dir.path.clone());
        }
    }
    let (mut directories, mut stamps) = (Vec::new(), Vec::new());
    for dir in &walked.dirs {
        let open = root.open_dir_at(&dir.path).unwrap();
        let mut entries = Vec::new();
        for entry in &dir.entries {
            let at = dir.path.join(&entry.name).unwrap();
            let kind = kind_of(&open, &at, &entry.name, &entry.stat, &mut leaders);
            let mut meta = meta_of(&open, &entry.name, &entry.stat);
            if left_out.contains(&at) {
                meta.mtime = None;
            }
            if matches!(kind, Kind::HardLink { .. }) {
                meta = Meta::of_link();
            }
            stamps.push(Stamp::from(&entry.stat));
            entries.push(Entry {
                name: entry.name.clone(),
                kind,
                meta,
            });
        }
        directories.push(Directory {
            path: dir.path.clone(),
            entries,
        });
    }
    let stat = root.stat_self().unwrap();
    let mut meta = stat_meta(&stat);
    if left_out.contains(&RelPath::root()) {
        meta.mtime = None;
    }
    let manifest = Manifest::new(meta, directories).unwrap();
    Index::new(manifest, Stamp::from(&stat), stamps).unwrap()
}

fn kind_of(
    dir: &Dir,
    at: &RelPath,
    last: &Name,
    stat: &Stat,
    leaders: &mut HashMap<u64, RelPath>,
) -> Kind {
    match stat.kind() {
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink {
            target: dir.read_link(last).unwrap().into(),
        },
        FileKind::Fifo => Kind::Fifo,
        FileKind::File => {
            if let Some(leader) = leaders.get(&stat.ino) {
                return Kind::HardLink {
                    leader: leader.clone(),
                };
            }
            leaders.insert(stat.ino, at.clone());
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut dir.open_file(last).unwrap(), &mut content).unwrap();
            Kind::File {
                size: stat.size,
                content: Digest::of(&content),
            }
        }
        other => panic!("{at}: {other:?}"),
    }
}

fn meta_of(dir: &Dir, last: &Name, stat: &Stat) -> Meta {
    let xattrs = read_xattrs_at(dir, last, XattrPolicy::Ordinary, &principals()).unwrap();
    Meta {
        xattrs: xattrs.map(Arc::new),
        mode: if stat.is_symlink() {
            0o777
        } else {
            stat.permissions()
        },
        ..stat_meta(stat)
    }
}

fn stat_meta(stat: &Stat) -> Meta {
    Meta {
        mode: stat.permissions(),
        user: Principal::Id(stat.uid),
        group: Principal::Id(stat.gid),
        mtime: Some(stat.mtime),
        xattrs: None,
    }
}

pub(super) fn keeper(exclude: &[&str], preserve: &[&str]) -> Keeper {
    Keeper {
        scope: Scope {
            exclude: Rules::parse(exclude).unwrap(),
            preserve: Preserve::parse(preserve).unwrap(),
        },
        foreign: ForeignPaths::default(),
        shared: std::collections::BTreeSet::new(),
    }
}

/// A member with one tree.
pub(super) struct World {
    pub(super) tmp: tempfile::TempDir,
    pub(super) place: Place,
    pub(super) keeper: Keeper,
    pub(super) overwritten: Dir,
    serial: u64,
}

/// A transaction that is staged.
pub(super) struct Staged {
    pub(super) observed: Index,
    pub(super) desired: Index,
    pub(super) staged: Index,
    pub(super) plan: TreePlan,
    pub(super) record: TreeRecord,
    pub(super) foreign_after: ForeignPaths,
    pub(super) generation: Generation,
    pub(super) txn: TxnKey,
    pub(super) stage: Name,
}

impl World {
    pub(super) fn new(layout: Layout, keeper: Keeper) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), layout, keeper, false)
    }

    pub(super) fn in_dir(
        tmp: tempfile::TempDir,
        layout: Layout,
        keeper: Keeper,
        adopt: bool,
    ) -> Self {
        std::fs::create_dir(tmp.path().join("overwritten")).unwrap();
        let overwritten = Dir::open_absolute(&tmp.path().join("overwritten")).unwrap();
        let place = Place::create(&tmp.path().join("www"), [7; 16], layout, adopt)
            .unwrap()
            .place;
        Self {
            tmp,
            place,
            keeper,
            overwritten,
            serial: 0,
        }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.tmp.path().join("www")
    }

    /// As after a restart.
    pub(super) fn reopen(&mut self) {
        self.place = Place::open(&self.root()).unwrap();
    }

    pub(super) fn source(&self, label: &str, nodes: &[(&str, Node)]) -> PathBuf {
        let root = self.tmp.path().join(label);
        build(&root, nodes);
        root
    }

    pub(super) fn observe(&self) -> Index {
        match self.place.live().unwrap() {
            Some(live) => observe(&live, &self.keeper),
            None => {
                let empty = self.tmp.path().join("nothing");
                std::fs::create_dir_all(&empty).unwrap();
                observe(&Dir::open_absolute(&empty).unwrap(), &self.keeper)
            }
        }
    }

    pub(super) fn plan(&self, source: &Path, seed: bool) -> (Index, Index, TreePlan) {
        let observed = self.observe();
        let desired = observe(&Dir::open_absolute(source).unwrap(), &keeper(&[], &[]));
        let committed = load_index(&self.place).unwrap();
        let live = self.place.live().unwrap();
        let plan = plan(&PlanInput {
            live: live.as_ref(),
            layout: self.place.layout(),
            observed: &observed,
            committed: committed.as_ref(),
            desired: desired.manifest(),
            keeper: &self.keeper,
            seed,
            space: None,
            root_changed: None,
        })
        .unwrap();
        (observed, desired, plan)
    }

    pub(super) fn stage(&mut self, source: &Path) -> Staged {
        self.stage_with(source, false)
    }

    pub(super) fn stage_with(&mut self, source: &Path, seed: bool) -> Staged {
        self.serial += 1;
        let (observed, desired, plan) = self.plan(source, seed);
        let stage = name(&format!("t{}", self.serial));
        let staging = Staging {
            world: self,
            source: Dir::open_absolute(source).unwrap(),
            desired: &desired,
            observed: &observed,
            plan: &plan,
        };
        let staged = staging.run(&stage);
        let record = TreeRecord::load(&self.place).unwrap();
        let foreign_after = self
            .keeper
            .foreign
            .after(observed.manifest(), desired.manifest());
        let generation = Generation {
            serial: self.serial,
            roots: desired.manifest().roots(),
            label: format!("push {}", self.serial),
            created_ms: 0,
        };
        Staged {
            observed,
            staged,
            plan,
            record,
            foreign_after,
            generation,
            txn: [u8::try_from(self.serial).unwrap(); 16],
            stage,
            desired,
        }
    }

    pub(super) fn prepare(&self, staged: &Staged) -> Result<Prepared, CommitError> {
        prepare(&Job {
            place: &self.place,
            record: &staged.record,
            keeper: &self.keeper,
            observed: &staged.observed,
            desired: staged.desired.manifest(),
            staged: &staged.staged,
            plan: &staged.plan,
            foreign_after: &staged.foreign_after,
            generation: &staged.generation,
            txn: staged.txn,
            fence: 1,
            stage: &staged.stage,
            resolve: &resolve,
            principals: &principals(),
            xattrs: XattrPolicy::Ordinary,
        })
    }

    pub(super) fn commit(&self, txn: TxnKey) -> Result<Committed, CommitError> {
        commit(&self.place, txn, Some(&self.overwritten))
    }

    /// Everything after the commit.
    pub(super) fn settle(&self, staged: &Staged) {
        let index = refresh_index(&self.place, &staged.staged).unwrap().unwrap();
        save_index(&self.place, &index).unwrap();
    }

    pub(super) fn push(&mut self, source: &Path) -> Committed {
        let staged = self.stage(source);
        self.prepare(&staged).unwrap();
        let committed = self.commit(staged.txn).unwrap();
        self.settle(&staged);
        committed
    }

    /// What differs between the live tree and what was pushed, as far as it is managed.
    pub(super) fn difference(&self, desired: &Index) -> Vec<String> {
        let observed = self.observe();
        let live = self.place.live().unwrap().unwrap();
        let held = super::held::survey(&live, &RelPath::root(), &self.keeper).unwrap();
        let is_kept = |at: &RelPath| held.iter().any(|held| held.path.is_within(at));
        diff(observed.manifest(), desired.manifest())
            .into_iter()
            .filter(|it| self.keeper.allow_write(&it.path, true).is_ok())
            .filter(|it| !matches!(it.change, Change::Removed(_)) || !is_kept(&it.path))
            .map(|it| format!("{} {:?}", it.path, it.change))
            .collect()
    }
}

struct Staging<'a> {
    world: &'a World,
    source: Dir,
    desired: &'a Index,
    observed: &'a Index,
    plan: &'a TreePlan,
}

impl Staging<'_> {
    fn run(&self, stage: &Name) -> Index {
        let stages = self.world.place.stages().unwrap();
        let stage = stages.create_dir_if_absent(stage, 0o700).unwrap();
        let tree = stage.create_dir_if_absent(&name("tree"), 0o700).unwrap();
        let staged: HashSet<&RelPath> = self.plan.staged().collect();
        let switched = self.world.place.layout() == Layout::Switched;
        let live = self.world.place.live().unwrap();
        let mut whole = Vec::new();
        for (directory, entry) in self.desired.manifest().entries() {
            let at = directory.path_of(&entry.name);
            let is_seed = self.plan.seeds.iter().any(|seed| at.is_within(seed));
            let top = if is_seed && switched {
                stage.create_dir_if_absent(&name("seed"), 0o700).unwrap()
            } else {
                tree.try_clone().unwrap()
            };
            let is_held = self
                .world
                .keeper
                .allow_write(&at, entry.kind.is_directory())
                .is_err();
            if staged.contains(&at) || switched && !is_held && entry.kind.is_directory() {
                self.create(&top, &at, entry);
                if entry.kind.is_directory() {
                    whole.push((top, at, entry));
                }
            } else if switched && !is_held {
                let live = live.as_ref().unwrap();
                let (from, last) = live.open_parent_at(&at).unwrap().unwrap();
                let (to, _) = parents(&top, &at);
                if to.stat(&last).unwrap().is_none() {
                    to.hard_link(&from, &last, &last).unwrap();
                }
            }
        }
        for (top, at, entry) in whole.iter().rev() {
            let (dir, last) = parents(top, at);
            finish(&dir, &last, &entry.meta);
        }
        if switched {
            let target = Target::open(&tree);
            let wanted = resolve(self.desired.manifest().root_meta()).unwrap();
            apply_meta(&target, &wanted, how(&principals())).unwrap();
        }
        self.index(&tree)
    }

    fn create(&self, top: &Dir, at: &RelPath, entry: &Entry) {
        let (dir, last) = parents(top, at);
        if dir.stat(&last).unwrap().is_some() {
            return;
        }
        match &entry.kind {
            Kind::Directory => {
                dir.create_dir(&last, 0o700).unwrap();
                return;
            }
            Kind::File { .. } => {
                let (from, from_name) = self.source.open_parent_at(at).unwrap().unwrap();
                let mut file = dir.create_file(&last, 0o600).unwrap();
                std::io::copy(&mut from.open_file(&from_name).unwrap(), &mut file).unwrap();
            }
            Kind::HardLink { leader } => {
                let (from, from_name) = top.open_parent_at(leader).unwrap().unwrap();
                dir.hard_link(&from, &from_name, &last).unwrap();
                return;
            }
            Kind::Symlink { target } => dir.symlink(target, &last).unwrap(),
            Kind::Fifo => dir.mknod(&last, FileKind::Fifo, 0o600, (0, 0)).unwrap(),
            other => panic!("{other:?}"),
        }
        finish(&dir, &last, &entry.meta);
    }

    fn index(&self, tree: &Dir) -> Index {
        let stat = |at: &RelPath| {
            let (dir, last) = match tree.open_parent_at(at) {
                Ok(Some(spot)) => spot,
                _ => return None,
            };
            dir.stat(&last).unwrap()
        };
        let stamps = self
            .desired
            .manifest()
            .entries()
            .map(|(directory, entry)| {
                let at = directory.path_of(&entry.name);
                let is_staged = self.world.place.layout() == Layout::Switched
                    || self.plan.staged().any(|staged| *staged == at);
                match stat(&at).filter(|_| is_staged) {
                    Some(stat) => Stamp::from(&stat),
                    None => self
                        .observed
                        .entry(&at)
                        .map_or(Stamp::default(), |(_, stamp)| *stamp),
                }
            })
            .collect();
        Index::new(self.desired.manifest().clone(), Stamp::default(), stamps).unwrap()
    }
}

fn parents(top: &Dir, at: &RelPath) -> (Dir, Name) {
    let mut dir = top.try_clone().unwrap();
    for component in at.parent().unwrap().components() {
        let component = Name::parse(component).unwrap();
        dir = dir.create_dir_if_absent(&component, 0o700).unwrap();
    }
    (dir, at.file_name().unwrap())
}

fn how(principals: &Principals) -> Apply<'_> {
    Apply {
        policy: XattrPolicy::Ordinary,
        principals,
        is_fresh: false,
    }
}

fn finish(dir: &Dir, last: &Name, meta: &Meta) {
    let target = Target::entry(dir, last).unwrap();
    let unkept = apply_meta(&target, &resolve(meta).unwrap(), how(&principals())).unwrap();
    assert_eq!(unkept, []);
}

/// Everything about a real tree that a test may want unchanged, by path.
pub(super) fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            let content = if meta.is_file() {
                format!("{:?}", std::fs::read(entry.path()).unwrap())
            } else if meta.is_symlink() {
                format!("{:?}", std::fs::read_link(entry.path()).unwrap())
            } else {
                String::new()
            };
            let line = format!(
                "{} {:o} {}:{} {}.{} {content}",
                meta.ino(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec()
            );
            (entry.path().to_owned(), line)
        })
        .collect()
}
