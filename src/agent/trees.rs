//! The trees that are bound here: which hub, where, and who works on them at the moment.
//!
//! A root lies strictly below an allowed directory, reached without following any symlink from
//! there on, and is neither in nor above another tree or a state directory. With a prefix, the
//! path that hubs know lies below that; messages show both.

use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir};
use crate::engine::member::host::{Bound, Claim, Proposal};
use crate::engine::member::lists::Lists;
use crate::engine::member::place::{Place, PlaceError, Seat};
use crate::engine::member::record::{TreeRecord, Vote};
use crate::engine::member::refusal::{of_fs, of_place};
use crate::fs::durable::{read_checked, write_checked};
use crate::fs::{Dir, FsError};
use crate::model::{AbsPath, SpecialFile, TreeId};
use crate::net::{Connection, NodeKey};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sync_proto::filter::Preserve;
use sync_proto::path::{Name, escape};
use sync_proto::special::SpecialFiles;
use sync_proto::wire::{Doubt, Layout, TreeKey};

/// The close code of a session that another took over from.
const SUPERSEDED: u32 = 18;

const FILE: &[u8] = b"binding";
const MAGIC: &[u8; 5] = b"FOBI\x01";
/// LIMIT: bytes of a binding.
const MAX_BYTES: u64 = 64 * 1024;

/// One tree's binding, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The hub that may push it.
    pub hub: NodeKey,
    /// The root as the hub knows it.
    pub root: String,
    /// Where it really lies.
    pub path: PathBuf,
    /// How it lies there.
    pub layout: Layout,
}

/// Every tree that is bound here.
#[derive(Debug)]
pub struct Trees {
    dir: Dir,
    own: AgentDir,
    config: AgentConfig,
    lists: Lists,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    bindings: BTreeMap<TreeKey, Binding>,
    /// Claimed trees, with the connection of a session that may change one.
    busy: HashMap<TreeKey, Option<Connection>>,
}

impl Trees {
    /// Reads all bindings.
    pub fn open(own: &AgentDir, config: &AgentConfig) -> Result<Self, Problem> {
        let dir = Dir::open_absolute(&own.trees()).map_err(|error| of_fs(&error))?;
        let mut bindings = BTreeMap::new();
        for listed in dir.list().map_err(|error| of_fs(&error))? {
            let id = std::str::from_utf8(listed.name.as_bytes()).ok();
            let Some(id) = id.and_then(|id| id.parse::<TreeId>().ok()) else {
                continue;
            };
            if let Some(binding) = load(&dir, &listed.name)? {
                bindings.insert(*id.as_bytes(), binding);
            }
        }
        Ok(Self {
            dir,
            own: own.clone(),
            config: config.clone(),
            lists: Lists::new(usize::try_from(config.limits.entries).unwrap_or(usize::MAX)),
            state: Arc::new(Mutex::new(State {
                bindings,
                busy: HashMap::new(),
            })),
        })
    }

    /// All trees.
    pub fn keys(&self) -> Vec<TreeKey> {
        self.lock().bindings.keys().copied().collect()
    }

    /// One tree's binding.
    pub fn binding(&self, tree: TreeKey) -> Option<Binding> {
        self.lock().bindings.get(&tree).cloned()
    }

    /// Binds a tree to a root.
    pub fn bind(&self, hub: NodeKey, proposal: &Proposal<'_>) -> Result<Bound, Problem> {
        let root = self.allowed_root(proposal.root)?;
        let shown = self.shown(&root);
        if let Some(known) = self.binding(proposal.tree) {
            if known.hub != hub {
                return Err(elsewhere(&shown, "another hub has this tree"));
            }
            if known.root != root.as_str() {
                let message = format!("this tree lies at `{}`", escape(known.root.as_bytes()));
                return Err(elsewhere(&shown, &message));
            }
        }
        let claim = self.take(proposal.tree, &shown)?;
        let path = self.real(&root);
        let way = self.way(&root, &path, true)?;
        self.refuse_overlap(proposal.tree, &path, &way, &shown)?;
        let created = Place::create(way.seat, proposal.tree, proposal.layout, proposal.adopt)
            .map_err(|error| of_place(&error).with_hint_for(&error))?;
        let binding = Binding {
            hub,
            root: root.as_str().to_owned(),
            path,
            layout: proposal.layout,
        };
        self.save(proposal.tree, &binding)
            .map_err(|error| of_fs(&error))?;
        self.lock().bindings.insert(proposal.tree, binding);
        drop(claim);
        tracing::info!(root = %shown, "a tree was bound");
        Ok(Bound {
            found_entries: created.found_entries as u64,
            state_beside_root: created.place.is_state_beside_root(),
            notices: Vec::new(),
        })
    }

    /// Takes a tree for one session.
    pub fn claim(&self, hub: NodeKey, tree: TreeKey) -> Result<Claim, Problem> {
        let Some(binding) = self.binding(tree) else {
            return Err(unknown());
        };
        let root = binding.root.parse::<AbsPath>();
        let shown = match &root {
            Ok(root) => self.shown(root),
            Err(_) => escape(binding.root.as_bytes()),
        };
        if binding.hub != hub {
            return Err(elsewhere(&shown, "another hub has this tree"));
        }
        let guard = self.take(tree, &shown)?;
        let place = self.place(&binding)?;
        let record = TreeRecord::load(&place).map_err(|error| of_place(&error))?;
        if record.is_forgotten || record.tree != tree {
            return Err(unknown());
        }
        let preserve =
            root.map_or_else(|_| Ok(Preserve::default()), |root| self.preserve(&root))?;
        Ok(Claim {
            place: Arc::new(place),
            preserve,
            special_files: self.special_files(),
            shown,
            root: binding.root.into_bytes(),
            lists: self.lists.clone(),
            overwritten: self.overwritten(tree),
            guard: Box::new(guard),
        })
    }

    /// Where a bound tree lies at the moment.
    pub fn place(&self, binding: &Binding) -> Result<Place, Problem> {
        let root = self.allowed_root(binding.root.as_bytes())?;
        match Place::open(self.way(&root, &binding.path, false)?.seat) {
            Err(PlaceError::Unbound(_)) => Err(unknown()),
            other => other.map_err(|error| of_place(&error)),
        }
    }

    /// Forgets a tree.
    pub fn forget(&self, tree: TreeKey) -> Result<(), Problem> {
        let name = tree_name(tree).map_err(|error| of_fs(&error))?;
        self.dir.remove_tree(&name).map_err(|error| of_fs(&error))?;
        self.lock().bindings.remove(&tree);
        Ok(())
    }

    /// Votes whose decision is not known here.
    pub fn doubts(&self, hub: NodeKey) -> Vec<Doubt> {
        let (bindings, busy) = {
            let state = self.lock();
            (state.bindings.clone(), state.busy.clone())
        };
        // What a session works on at the moment is that session's affair.
        let own = bindings
            .into_iter()
            .filter(|(tree, it)| it.hub == hub && !busy.contains_key(tree));
        own.filter_map(|(tree, binding)| {
            let place = self.place(&binding).ok()?;
            let vote = Vote::load(&place).ok()??;
            (!vote.is_forward).then(|| vote.doubt(tree))
        })
        .collect()
    }

    /// Where what commits of this tree move aside is kept.
    pub fn overwritten(&self, tree: TreeKey) -> Option<Dir> {
        let kept = Dir::open_absolute(self.own.overwritten()).ok()?;
        kept.create_dir_if_absent(&tree_name(tree).ok()?, 0o700)
            .ok()
    }

    fn take(&self, tree: TreeKey, shown: &str) -> Result<Busy, Problem> {
        match self.lock().busy.entry(tree) {
            Entry::Occupied(_) => {
                let message = format!("Another session works on `{shown}`");
                return Err(Problem::new(Code::TaskLocked, message));
            }
            Entry::Vacant(free) => free.insert(None),
        };
        Ok(Busy {
            tree,
            state: self.state.clone(),
        })
    }

    /// Notes whose session changes a claimed tree.
    pub fn note_holder(&self, tree: TreeKey, connection: &Connection) {
        if let Some(holder) = self.lock().busy.get_mut(&tree) {
            *holder = Some(connection.clone());
        }
    }

    /// Ends the session of this hub that changes a tree. A hub has one task on a tree at a time,
    /// by its own lock, so whoever comes under a new fence has outlived the other.
    pub fn take_over(&self, hub: NodeKey, tree: TreeKey) {
        let holder = self.lock().busy.get(&tree).cloned().flatten();
        if let Some(holder) = holder.filter(|holder| holder.peer() == hub) {
            tracing::info!(%hub, "a new session takes over from one that was left behind");
            holder.close(SUPERSEDED, "a new session of this hub took over");
        }
    }

    /// The administrator's own rules for a root: those of the root, and of directories above it.
    fn preserve(&self, root: &AbsPath) -> Result<Preserve, Problem> {
        let rules = self.config.preserve.iter();
        let lines: Vec<&String> = rules
            .filter(|(above, _)| root.is_within(above))
            .flat_map(|(_, lines)| lines)
            .collect();
        Preserve::parse(&lines).map_err(|error| Problem::from_error(Code::RuleInvalid, &error))
    }

    fn special_files(&self) -> SpecialFiles {
        let allowed = |kind| self.config.special_files.contains(&kind);
        SpecialFiles {
            setuid: allowed(SpecialFile::Setuid),
            devices: allowed(SpecialFile::Devices),
            fifos: allowed(SpecialFile::Fifos),
        }
    }

    fn allowed_root(&self, root: &[u8]) -> Result<AbsPath, Problem> {
        let shown = escape(root);
        let refused = |why: String| {
            Problem::new(
                Code::PathNotAllowed,
                format!("The root `{shown}` is refused: {why}"),
            )
        };
        let text = std::str::from_utf8(root).map_err(|_| refused("it is not UTF-8".into()))?;
        let root: AbsPath = text.parse().map_err(|error| refused(format!("{error}")))?;
        match self.allowing(&root) {
            Some(_) => Ok(root),
            None => {
                let allowed: Vec<_> = self.config.allow.iter().map(AbsPath::as_str).collect();
                let why = format!("this agent allows roots below {} only", allowed.join(", "));
                Err(refused(why))
            }
        }
    }

    /// The allowed directory that a root is strictly below.
    fn allowing(&self, root: &AbsPath) -> Option<&AbsPath> {
        let mut allow = self.config.allow.iter();
        allow.find(|allowed| root.is_within(allowed) && root != *allowed)
    }

    /// Where a path that hubs know really lies.
    pub fn real(&self, path: &AbsPath) -> PathBuf {
        match &self.config.prefix {
            Some(prefix) => PathBuf::from(format!("{prefix}{path}")),
            None => path.as_path().to_owned(),
        }
    }

    /// A path for messages.
    fn shown(&self, root: &AbsPath) -> String {
        let known = escape(root.as_str().as_bytes());
        match &self.config.prefix {
            Some(prefix) => format!("{known} (in {})", escape(prefix.as_str().as_bytes())),
            None => known,
        }
    }

    /// Goes from the allowed directory to the one that holds the root, each name from the directory
    /// before it, and makes what is missing if asked to. Symlinks could lead out, and are refused.
    ///
    /// Invariant (I5): whoever owns a directory on the way gets us nowhere but below the allowed one.
    fn way(&self, root: &AbsPath, path: &Path, make: bool) -> Result<Way, Problem> {
        let Some(allowed) = self.allowing(root) else {
            return Err(unknown());
        };
        let base = self.real(allowed);
        let Ok(below) = path.strip_prefix(&base) else {
            // Bound under another prefix.
            return Err(unknown());
        };
        let mut dir = match Dir::open_absolute(&base) {
            Err(error) if error.is_not_found() => {
                let message = format!("The allowed directory `{}` is not there", base.display());
                return Err(Problem::new(Code::PathNotAllowed, message));
            }
            other => other.map_err(|error| of_fs(&error))?,
        };
        let mut names = Vec::new();
        for component in below.components() {
            let name = Name::parse(component.as_os_str().as_bytes());
            names.push(name.map_err(|error| Problem::from_error(Code::PathNotAllowed, &error))?);
        }
        let Some(last) = names.pop() else {
            return Err(unknown());
        };
        let mut above = chain(&base);
        for name in names {
            // A mount below the allowed directory is its administrator's doing.
            let next = match dir.open_dir_or_mount(&name) {
                Err(error) if make && error.is_not_found() => {
                    dir.create_dir_if_absent(&name, 0o755)
                }
                other => other,
            };
            dir = next.map_err(|error| match error.is_wrong_kind() {
                true => {
                    let shown = self.shown(root);
                    let at = escape(&dir.path_of(&name));
                    let message = format!("The root {shown} is refused: `{at}` is no directory");
                    Problem::new(Code::PathNotAllowed, message)
                }
                false => of_fs(&error),
            })?;
            above.extend(inode_of(&dir));
        }
        Ok(Way {
            seat: Seat {
                parent: dir,
                name: last,
            },
            above,
        })
    }

    /// Refuses a root that is in, above or the same as another tree or one of our directories.
    fn refuse_overlap(
        &self,
        tree: TreeKey,
        path: &Path,
        way: &Way,
        shown: &str,
    ) -> Result<(), Problem> {
        // By inode: two paths may lead to one directory through a symlink or a bind mount.
        let own = way.root_inode();
        let mut above = way.above.clone();
        above.extend(own);
        let refuse = |other: &Path, inodes: &[Inode], at: Option<Inode>, what: &str| {
            let is_above = at.is_some_and(|at| above.contains(&at));
            let is_inside = own.is_some_and(|own| inodes.contains(&own));
            if other == path || other.starts_with(path) || is_above || is_inside {
                let message = format!("The root `{shown}` overlaps {what}");
                return Err(Problem::new(Code::RootsOverlap, message));
            }
            Ok(())
        };
        for ours in [self.own.state(), self.own.overwritten()] {
            let what = "the agent's own directory";
            refuse(ours, &chain(ours), inode(ours), what)?;
        }
        let bindings = self.lock().bindings.clone();
        for (_, binding) in bindings.iter().filter(|(other, _)| **other != tree) {
            let what = format!("the tree at `{}`", escape(binding.root.as_bytes()));
            // One whose way is gone is told by its path alone.
            let root = self.allowed_root(binding.root.as_bytes());
            let other = root.and_then(|root| self.way(&root, &binding.path, false));
            let (mut inodes, mut at, mut state) = (Vec::new(), None, None);
            if let Ok(other) = &other {
                at = other.root_inode();
                state = other.state_inode();
                inodes.clone_from(&other.above);
                inodes.extend(at);
            }
            refuse(&state_path(&binding.path), &inodes, state, &what)?;
            refuse(&binding.path, &inodes, at, &what)?;
        }
        Ok(())
    }

    fn save(&self, tree: TreeKey, binding: &Binding) -> Result<(), FsError> {
        let dir = self.dir.create_dir_if_absent(&tree_name(tree)?, 0o700)?;
        let bytes =
            postcard::to_extend(binding, MAGIC.to_vec()).map_err(|_| FsError::bad_name(FILE))?;
        let file = Name::parse(FILE).map_err(|_| FsError::bad_name(FILE))?;
        write_checked(&dir, &file, &bytes, 0o600)?;
        self.dir.sync()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tree that a session has.
#[derive(Debug)]
struct Busy {
    tree: TreeKey,
    state: Arc<Mutex<State>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy.remove(&self.tree);
    }
}

trait HintFor {
    fn with_hint_for(self, error: &PlaceError) -> Self;
}

impl HintFor for Problem {
    fn with_hint_for(self, error: &PlaceError) -> Self {
        match error {
            PlaceError::NotEmpty { .. } => {
                self.with_hint("`fanout adopt platform NAME` takes over what is there")
            }
            _ => self,
        }
    }
}

fn load(dir: &Dir, name: &Name) -> Result<Option<Binding>, Problem> {
    let damaged = || {
        let message = format!("The binding of the tree {name} can't be read");
        Problem::new(Code::AgentStateDamaged, message)
    };
    let file = Name::parse(FILE).map_err(|_| damaged())?;
    let Some(own) = dir.try_open_dir(name).map_err(|error| of_fs(&error))? else {
        return Ok(None);
    };
    let Some(bytes) = read_checked(&own, &file, MAX_BYTES).map_err(|_| damaged())? else {
        return Ok(None);
    };
    let body = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    postcard::from_bytes(body).map(Some).map_err(|_| damaged())
}

type Inode = (u64, u64);

/// The way from an allowed directory to a root.
struct Way {
    seat: Seat,
    /// Every directory above the root.
    above: Vec<Inode>,
}

impl Way {
    /// The root itself, if it is a directory.
    fn root_inode(&self) -> Option<Inode> {
        self.inode_at(&self.seat.name)
    }

    fn state_inode(&self) -> Option<Inode> {
        let state = state_path(Path::new(std::ffi::OsStr::from_bytes(
            self.seat.name.as_bytes(),
        )));
        self.inode_at(&Name::parse(state.as_os_str().as_bytes()).ok()?)
    }

    fn inode_at(&self, name: &Name) -> Option<Inode> {
        inode_of(&self.seat.parent.open_dir_or_mount(name).ok()?)
    }
}

/// The inodes of a trusted path and of everything above it, as far as they exist.
fn chain(path: &Path) -> Vec<Inode> {
    path.ancestors().filter_map(inode).collect()
}

/// The directory that a trusted path leads to, if it does.
fn inode(path: &Path) -> Option<Inode> {
    inode_of(&Dir::open_absolute(path).ok()?)
}

fn inode_of(dir: &Dir) -> Option<Inode> {
    let stat = dir.stat_self().ok()?;
    Some((stat.dev, stat.ino))
}

fn state_path(root: &Path) -> PathBuf {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    root.with_file_name(format!(".{name}.fanout"))
}

fn tree_name(tree: TreeKey) -> Result<Name, FsError> {
    let name = TreeId::from_bytes(tree).to_string();
    Name::parse(name.as_bytes()).map_err(|_| FsError::bad_name(name.as_bytes()))
}

fn unknown() -> Problem {
    Problem::new(Code::TreeUnknown, "This agent has no such tree")
}

fn elsewhere(shown: &str, why: &str) -> Problem {
    Problem::new(
        Code::TreeBoundElsewhere,
        format!("`{shown}` can't be used: {why}"),
    )
}
