//! What the tests of this module share: real trees in temporary directories, observed, staged and
//! pushed as the member's session does it, without any connection.

mod staging;
mod tree;

use staging::Staging;
pub(super) use tree::{Node, build, observe, principals, resolve, set_mtime, snapshot};

use super::foreign::ForeignPaths;
use super::held::Known;
use super::keeper::Keeper;
use super::live_index::{Unchanged, load_index, refresh_index, save_index};
use super::place::{Place, PlaceError, Seat};
use super::prepare::{Job, Prepared, prepare};
use super::record::TreeRecord;
use super::transaction::{CommitError, Committed, commit};
use super::tree_plan::{PlanInput, TreePlan, plan};
use crate::engine::index::Index;
use crate::fs::Dir;
use crate::fs::xattr::XattrPolicy;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::path::{Path, PathBuf};
use sync_proto::filter::{Preserve, Rules, Scope};
use sync_proto::manifest::{Change, diff};
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Generation, Layout, TxnKey};

/// A directory in memory, if there is such a thing: for tests that repeat what waits for a disk.
pub(super) fn quick() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Runs what root does in a thread that may no more than an ordinary user who owns the files.
pub(super) fn without_privileges<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    let ordinary = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::empty();
        set_capabilities(None, sets).unwrap();
        what()
    };
    std::thread::scope(|scope| scope.spawn(ordinary).join().unwrap())
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

/// The seat of a root in a directory of the test's own.
pub(super) fn seat(root: &Path) -> Seat {
    Seat::trusted(root).unwrap()
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
        let place = Place::create(seat(&tmp.path().join("www")), [7; 16], layout, adopt)
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
        self.place = Place::open(seat(&self.root())).unwrap();
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
            is_looked_at: true,
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
            known: Known::LookedAt(&staged.observed),
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
        commit(&self.place, txn, Some(&self.overwritten), Known::Nothing)
    }

    /// Everything after the commit.
    pub(super) fn settle(&self, staged: &Staged) {
        self.try_settle(staged).unwrap();
    }

    /// The same, where the disk may fail.
    pub(super) fn try_settle(&self, staged: &Staged) -> Result<(), PlaceError> {
        let index = refresh_index(&self.place, &staged.staged, Unchanged::None)?;
        save_index(&self.place, &index.unwrap())
    }

    /// After a restart with what was found on the disk.
    pub(super) fn go_on_in(&mut self, tmp: tempfile::TempDir) {
        self.tmp = tmp;
        self.overwritten = Dir::open_absolute(&self.tmp.path().join("overwritten")).unwrap();
        self.reopen();
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
