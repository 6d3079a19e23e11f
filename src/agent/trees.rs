//! The trees that are bound to this server, and the one session that may work on each.
//!
//! `trees/ID` says for each tree where its root is, as the hub named it, and whose it is. A root is
//! bound once, strictly below an allowed directory, reached without following a symlink; it never
//! is, holds or lies in another tree or another tree's state.

use super::{of_fs, open_dir};
use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir};
use crate::engine::member::host::{Bound, Claim, Proposal};
use crate::engine::member::place::{Place, PlaceError};
use crate::engine::member::record::{TreeRecord, Vote};
use crate::engine::member::refusal::of_place;
use crate::engine::member::transaction::{self, CommitError};
use crate::fs::durable::write_atomically;
use crate::fs::read::read_small;
use crate::fs::{Dir, FsError, Stat};
use crate::model::{AbsPath, TreeId};
use crate::net::NodeKey;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sync_proto::commit::Participant;
use sync_proto::filter::Preserve;
use sync_proto::path::Name;
use sync_proto::wire::{Doubt, TreeKey};

/// LIMIT: bytes of one binding.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a tree is, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding {
    /// The root as the hub named it.
    root: AbsPath,
    /// The hub that bound it.
    hub: NodeKey,
}

/// All bound trees.
#[derive(Debug)]
pub(super) struct Trees {
    config: AgentConfig,
    dir: Dir,
    overwritten: PathBuf,
    bound: Mutex<HashMap<TreeKey, Binding>>,
    claimed: Arc<Mutex<HashSet<TreeKey>>>,
}

impl Trees {
    /// Reads all bindings.
    pub(super) fn open(dir: &AgentDir, config: AgentConfig) -> Result<Self, Problem> {
        let trees = Self {
            config,
            dir: open_dir(&dir.trees()).map_err(|error| of_fs(&error))?,
            overwritten: dir.overwritten().to_owned(),
            bound: Mutex::default(),
            claimed: Arc::default(),
        };
        for listed in trees.dir.list().map_err(|error| of_fs(&error))? {
            let Some(id) = text(&listed.name).and_then(|name| name.parse::<TreeId>().ok()) else {
                continue;
            };
            let binding = read_small(&trees.dir, &listed.name, None, MAX_BYTES)
                .ok()
                .and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok())
                .ok_or_else(|| {
                    Problem::new(
                        Code::AgentStateDamaged,
                        format!("The note about tree {id} can't be read"),
                    )
                })?;
            trees.bound().insert(*id.as_bytes(), binding);
        }
        Ok(trees)
    }

    /// Settles what an interrupted agent left: what was decided goes forward, what never came to
    /// a vote is taken back. A tree that can't be settled is not served, and said to be so.
    pub(super) fn recover(&self) {
        let all: Vec<(TreeKey, Binding)> = self
            .bound()
            .iter()
            .map(|(tree, binding)| (*tree, binding.clone()))
            .collect();
        for (tree, binding) in all {
            match self.recover_one(tree, &binding) {
                Ok(()) => {}
                Err(error) => {
                    let root = binding.root.as_str();
                    tracing::error!(root, %error, "a tree can't be settled");
                }
            }
        }
    }

    fn recover_one(&self, tree: TreeKey, binding: &Binding) -> Result<(), CommitError> {
        let place = Place::open(&self.on_disk(&binding.root))?;
        let recovered = transaction::recover(&place)?;
        if let Participant::Forward { txn } = recovered.participant {
            let overwritten = self.overwritten_of(tree);
            let done = transaction::commit(&place, txn, overwritten.as_ref())?;
            let (root, serial) = (binding.root.as_str(), done.serial);
            tracing::info!(root, serial, "an interrupted commit was finished");
        }
        Ok(())
    }

    /// What the trees of this hub must have settled.
    pub(super) fn doubts(&self, hub: NodeKey) -> Vec<Doubt> {
        let own: Vec<(TreeKey, AbsPath)> = self
            .bound()
            .iter()
            .filter(|(_, binding)| binding.hub == hub)
            .map(|(tree, binding)| (*tree, binding.root.clone()))
            .collect();
        let claimed = self.claimed();
        own.into_iter()
            .filter(|(tree, _)| !claimed.contains(tree))
            .filter_map(|(tree, root)| {
                let place = Place::open(&self.on_disk(&root)).ok()?;
                let vote = Vote::load(&place).ok()??;
                (!vote.is_forward).then(|| vote.doubt(tree))
            })
            .collect()
    }

    /// Binds a tree to a root.
    pub(super) fn bind(&self, hub: NodeKey, proposal: &Proposal<'_>) -> Result<Bound, Problem> {
        let root = std::str::from_utf8(proposal.root)
            .ok()
            .and_then(|root| root.parse::<AbsPath>().ok())
            .ok_or_else(|| {
                Problem::new(
                    Code::PathNotAllowed,
                    "The root that the hub proposes is not a path",
                )
            })?;
        let mut bound = self.bound();
        if let Some(there) = bound.get(&proposal.tree)
            && (there.hub != hub || there.root != root)
        {
            return Err(Problem::new(
                Code::TreeBoundElsewhere,
                format!("This tree is bound to `{}` already", there.root),
            ));
        }
        let path = self.prepare_parent(&root)?;
        for (tree, other) in bound.iter().filter(|(tree, _)| **tree != proposal.tree) {
            self.refuse_overlap(&root, &path, *tree, other)?;
        }
        let created = Place::create(&path, proposal.tree, proposal.layout, proposal.adopt)
            .map_err(|error| of_place(&error))?;
        let binding = Binding { root, hub };
        let bytes = serde_json::to_vec_pretty(&binding)
            .map_err(|error| Problem::from_error(Code::Bug, &error))?;
        write_atomically(&self.dir, &name_of(proposal.tree), &bytes, 0o600)
            .map_err(|error| of_fs(&error))?;
        bound.insert(proposal.tree, binding);
        Ok(Bound {
            found_entries: u64::try_from(created.found_entries).unwrap_or(u64::MAX),
            state_beside_root: created.place.is_state_beside_root(),
            notices: Vec::new(),
        })
    }

    /// Takes a tree for one session alone.
    pub(super) fn claim(&self, hub: NodeKey, tree: TreeKey) -> Result<Claim, Problem> {
        let binding = self
            .bound()
            .get(&tree)
            .cloned()
            .ok_or_else(|| Problem::new(Code::TreeUnknown, "This tree is not bound here"))?;
        if binding.hub != hub {
            return Err(Problem::new(
                Code::TreeBoundElsewhere,
                format!("The tree at `{}` belongs to another hub", binding.root),
            ));
        }
        if !self.claimed().insert(tree) {
            return Err(Problem::new(
                Code::TaskLocked,
                format!("Another session works on `{}`", binding.root),
            ));
        }
        let guard = Guard {
            tree,
            claimed: self.claimed.clone(),
        };
        let path = self.on_disk(&binding.root);
        let place = match Place::open(&path) {
            Err(PlaceError::Unbound(_)) => {
                return Err(Problem::new(
                    Code::TreeUnknown,
                    "This tree is not bound here any more",
                ));
            }
            other => other.map_err(|error| of_place(&error))?,
        };
        if TreeRecord::load(&place)
            .map_err(|error| of_place(&error))?
            .tree
            != tree
        {
            return Err(Problem::new(
                Code::TreeBoundElsewhere,
                format!("Another tree lies at `{}` now", binding.root),
            ));
        }
        let preserve = self
            .config
            .preserve
            .get(&binding.root)
            .map_or(&[][..], Vec::as_slice);
        let preserve = Preserve::parse(preserve)
            .map_err(|error| Problem::from_error(Code::RuleInvalid, &error))?;
        let shown = if self.config.prefix.is_some() {
            format!("{} ({})", binding.root, path.display())
        } else {
            binding.root.to_string()
        };
        Ok(Claim {
            place: Arc::new(place),
            overwritten: self.overwritten_of(tree),
            preserve,
            shown,
            root: binding.root.as_str().as_bytes().to_vec(),
            guard: Box::new(guard),
        })
    }

    /// Lets go of a tree.
    pub(super) fn forget(&self, tree: TreeKey) -> Result<(), Problem> {
        let name = name_of(tree);
        match self.dir.unlink(&name) {
            Err(error) if !error.is_not_found() => return Err(of_fs(&error)),
            _ => self.dir.sync().map_err(|error| of_fs(&error))?,
        }
        self.bound().remove(&tree);
        Ok(())
    }

    /// Where a tree's overwritten entries are kept.
    pub(super) fn overwritten_of(&self, tree: TreeKey) -> Option<Dir> {
        let all = open_dir(&self.overwritten).ok()?;
        all.create_dir_if_absent(&name_of(tree), 0o700).ok()
    }

    /// The path on this disk of a root as the hub names it.
    fn on_disk(&self, root: &AbsPath) -> PathBuf {
        match &self.config.prefix {
            Some(prefix) => prefix.as_path().join(root.as_str().trim_start_matches('/')),
            None => root.as_path().to_owned(),
        }
    }

    /// Makes sure that the root's parent is there, below an allowed directory and reached without
    /// a symlink or a mount in between. Returns the root's path on this disk.
    fn prepare_parent(&self, root: &AbsPath) -> Result<PathBuf, Problem> {
        let allowed = self
            .config
            .allow
            .iter()
            .find(|allowed| root.is_within(allowed) && root != *allowed)
            .ok_or_else(|| {
                let list: Vec<&str> = self.config.allow.iter().map(AbsPath::as_str).collect();
                Problem::new(
                    Code::PathNotAllowed,
                    format!("`{root}` is not below a directory that this agent allows"),
                )
                .with_hint(format!("it allows: {}", list.join(", ")))
            })?;
        let not_allowed = |error: FsError| Problem::from_error(Code::PathNotAllowed, &error);
        let base = self.on_disk(allowed);
        if self.config.prefix.is_some() {
            make_path(&base).map_err(not_allowed)?;
        }
        let mut dir = Dir::open_absolute(&base).map_err(not_allowed)?;
        let below: Vec<&str> = root
            .components()
            .skip(allowed.components().count())
            .collect();
        let Some((_, above)) = below.split_last() else {
            return Err(Problem::new(
                Code::PathNotAllowed,
                format!("`{root}` has no name"),
            ));
        };
        for component in above {
            let name = Name::parse(component.as_bytes())
                .map_err(|error| Problem::from_error(Code::PathNotAllowed, &error))?;
            dir = dir
                .create_dir_if_absent(&name, 0o755)
                .map_err(not_allowed)?;
        }
        Ok(self.on_disk(root))
    }

    fn refuse_overlap(
        &self,
        root: &AbsPath,
        path: &Path,
        tree: TreeKey,
        other: &Binding,
    ) -> Result<(), Problem> {
        let overlap = |how: &str| {
            Err(Problem::new(
                Code::RootsOverlap,
                format!(
                    "`{root}` {how} `{}`, the root of tree {}",
                    other.root,
                    TreeId::from_bytes(tree)
                ),
            ))
        };
        let there = self.on_disk(&other.root);
        if path == there {
            return overlap("is");
        }
        // By inode: two paths may lead to one directory through a symlink or a bind mount.
        let (Some(mine), Some(theirs)) = (ancestors(path), ancestors(&there)) else {
            return Ok(());
        };
        let holds = |line: &[Stat], one: Option<&Stat>| {
            one.is_some_and(|one| line.iter().any(|stat| stat.same_inode(one)))
        };
        let own = mine.itself.as_ref();
        if own.is_some() && holds(&theirs.itself.into_iter().collect::<Vec<_>>(), own) {
            return overlap("is");
        }
        if holds(&mine.above, theirs.itself.as_ref()) || holds(&mine.above, theirs.state.as_ref()) {
            return overlap("lies inside");
        }
        if holds(&theirs.above, own) {
            return overlap("lies above");
        }
        Ok(())
    }

    fn bound(&self) -> MutexGuard<'_, HashMap<TreeKey, Binding>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claimed(&self) -> MutexGuard<'_, HashSet<TreeKey>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a claim.
struct Guard {
    tree: TreeKey,
    claimed: Arc<Mutex<HashSet<TreeKey>>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.tree);
    }
}

/// A root as inodes.
struct Line {
    /// The directories above it.
    above: Vec<Stat>,
    /// What it leads to, if it is there.
    itself: Option<Stat>,
    /// The state directory beside it.
    state: Option<Stat>,
}

fn ancestors(path: &Path) -> Option<Line> {
    let stat = |path: &Path| {
        Dir::open_absolute(path)
            .ok()
            .and_then(|dir| dir.stat_self().ok())
    };
    let name = path.file_name()?.to_str()?;
    Some(Line {
        above: path.ancestors().skip(1).filter_map(stat).collect(),
        itself: stat(path),
        state: stat(&path.with_file_name(format!(".{name}.fanout"))),
    })
}

/// Makes a configured directory with everything above it.
fn make_path(path: &Path) -> Result<(), FsError> {
    let mut dir = Dir::open_absolute(Path::new("/"))?;
    let mut at = PathBuf::from("/");
    for component in path.components().skip(1) {
        at.push(component);
        dir = match Dir::open_absolute(&at) {
            Err(error) if error.is_not_found() => {
                let name =
                    Name::parse(component.as_os_str().as_encoded_bytes()).map_err(|_| error)?;
                dir.create_dir_if_absent(&name, 0o755)?
            }
            other => other?,
        };
    }
    Ok(())
}

fn name_of(tree: TreeKey) -> Name {
    Name::parse(TreeId::from_bytes(tree).to_string().as_bytes())
        .expect("an id is made of hexadecimal digits")
}

fn text(name: &Name) -> Option<&str> {
    std::str::from_utf8(name.as_bytes()).ok()
}
