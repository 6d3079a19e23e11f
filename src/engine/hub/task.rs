//! What a task on one platform is about, and what came of it.

use super::source::SourceSpec;
use crate::codes::{Exit, Problem};
use crate::engine::event::{Event, EventSink, MemberName, MemberReport};
use crate::model::PlatformName;
use crate::net::Connection;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::commit::Policy;
use sync_proto::manifest::Roots;
use sync_proto::wire::{Item, Layout, Level, Notice, Options, Plan, TreeKey};

/// Reaches one member, by whatever way the inventory says.
pub type Dial = Arc<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<Connection, Problem>> + Send>> + Send + Sync,
>;

/// One member to work on.
#[derive(Clone)]
pub struct Target {
    /// Its name.
    pub name: MemberName,
    /// The way to it.
    pub dial: Dial,
}

/// The state that a task brings its members to.
#[derive(Clone, Debug)]
pub enum Goal {
    /// What the source holds; a new generation if it is new.
    Source(Box<SourceSpec>),
    /// A kept state, as a new generation.
    Kept {
        /// Which.
        roots: Roots,
        /// What it is called.
        label: String,
    },
    /// The desired generation, as it is.
    Desired,
}

/// The brakes that somebody decided to release, one by one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// So many entries may go, vanishing top-level names included.
    pub delete_entries: Option<u64>,
    /// The root may have become another kind of thing.
    pub kind_change: bool,
    /// Free space and inodes aren't looked at.
    pub skip_space: bool,
    /// Foreign entries of an adopted root are deleted.
    pub delete_foreign: bool,
}

/// Where the last scanned source lies, for contents that are too large for the depot.
#[derive(Clone, Debug)]
pub struct Spare {
    /// The source's root.
    pub root: PathBuf,
    /// The index of its last scan.
    pub index: PathBuf,
}

/// What surrounds the switch of each batch of a rolling push: the balancers, and the proof that a
/// member serves as it should.
pub trait Rotation: Send + Sync {
    /// Takes members out of rotation; done when they have nothing to do any more.
    ///
    /// # Errors
    /// Too few others would be left, a balancer doesn't answer, or a member doesn't become idle.
    /// Whoever was taken out is in rotation again.
    fn leave<'a>(&'a self, members: &'a [MemberName]) -> Asked<'a>;

    /// Asks members for their sites, directly, until they answer as they should.
    ///
    /// # Errors
    /// One doesn't.
    fn prove<'a>(&'a self, members: &'a [MemberName]) -> Asked<'a>;

    /// Puts members into rotation again; done when balancers find them up.
    ///
    /// # Errors
    /// A balancer doesn't answer, or doesn't find one up.
    fn back<'a>(&'a self, members: &'a [MemberName]) -> Asked<'a>;
}

/// An answer that is being worked on.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send + 'a>>;

/// How a push goes over its members batch by batch.
#[derive(Clone)]
pub struct Rolling {
    /// So many members at once.
    pub at_once: NonZeroUsize,
    /// What surrounds each switch.
    pub rotation: Arc<dyn Rotation>,
}

/// A task on one platform.
#[derive(Clone)]
pub struct Task {
    /// Its number in the record.
    pub id: u64,
    /// The platform.
    pub platform: PlatformName,
    /// The hub's name.
    pub hub: String,
    /// The tree.
    pub tree: TreeKey,
    /// Where the tree lies on members.
    pub root: Vec<u8>,
    /// How it lies there.
    pub layout: Layout,
    /// The members to work on.
    pub targets: Vec<Target>,
    /// All members of the platform, selected or not: what neither the depot nor the source has is
    /// fetched from one of them.
    pub donors: Vec<Target>,
    /// Members of the platform that were not selected.
    pub left_out: Vec<MemberName>,
    /// Which votes a commit needs.
    pub policy: Policy,
    /// At least so many members must be at the new generation.
    pub min_healthy: u32,
    /// How closely members look.
    pub level: Level,
    /// Exclude rules.
    pub exclude: Vec<String>,
    /// Preserve rules.
    pub preserve: Vec<String>,
    /// What the tree may hold.
    pub options: Options,
    /// The source, for what the depot doesn't store.
    pub spare: Option<Spare>,
    /// How many generations are kept.
    pub keep: u32,
    /// Released brakes.
    pub overrides: Overrides,
    /// Plan only.
    pub dry_run: bool,
    /// Drift is reported, not repaired.
    pub report_only: bool,
    /// The whole task's time limit.
    pub deadline: Duration,
    /// Label of a new generation.
    pub label: Option<String>,
    /// Who does it.
    pub author: String,
    /// Batch by batch, instead of all at once.
    pub rolling: Option<Rolling>,
}

/// What would change on some members; identical ones together.
#[derive(Clone, Debug)]
pub struct PlannedChange {
    /// The members.
    pub members: Vec<MemberName>,
    /// In numbers.
    pub plan: Plan,
    /// Entry by entry.
    pub items: Vec<Item>,
}

/// What came of a task on one platform.
#[derive(Clone, Debug)]
pub struct TaskReport {
    /// Which task.
    pub task: u64,
    /// Which platform.
    pub platform: PlatformName,
    /// The generation that members should be at now.
    pub generation: Option<u64>,
    /// How closely members looked.
    pub level: Level,
    /// Member by member, in the order of the inventory.
    pub members: Vec<MemberReport>,
    /// From the first to the last member switched, microseconds.
    pub commit_window_us: Option<u64>,
    /// How far that may be off.
    pub commit_window_error_us: Option<u64>,
    /// What would change, for a dry run or a report.
    pub planned: Vec<PlannedChange>,
    /// Why it was refused before anything was written.
    pub refusals: Vec<Problem>,
    /// Things worth saying.
    pub warnings: Vec<Problem>,
    /// Objects that were encoded, however many members they were sent to.
    pub encoded_objects: u64,
    /// What they are in bytes, as they travel.
    pub encoded_bytes: u64,
}

impl TaskReport {
    /// An empty report.
    pub fn new(task: &Task) -> Self {
        Self {
            task: task.id,
            platform: task.platform.clone(),
            generation: None,
            level: task.level,
            members: Vec::new(),
            commit_window_us: None,
            commit_window_error_us: None,
            planned: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
            encoded_objects: 0,
            encoded_bytes: 0,
        }
    }

    /// What a command about it exits with.
    pub fn exit(&self) -> Exit {
        match self.refusals.first() {
            Some(refusal) => refusal.code.exit(),
            None if self.members.is_empty() => Exit::Failed,
            None => MemberReport::exit(&self.members),
        }
    }
}

/// A member's notice as an event: a warning if it has a code, otherwise information.
pub fn tell(events: &EventSink, member: &str, notice: &Notice) {
    match warning(member, notice) {
        Some(problem) => events.warn(problem),
        None => events.emit(Event::Note(in_words(member, notice))),
    }
}

/// A member's notice as a warning; `None` if it is mere information.
pub fn warning(member: &str, notice: &Notice) -> Option<Problem> {
    let code = notice.code.parse().ok()?;
    Some(Problem::new(code, in_words(member, notice)))
}

fn in_words(member: &str, notice: &Notice) -> String {
    let path = sync_proto::path::escape(&notice.path);
    if path.is_empty() {
        format!("{member}: {}", notice.message)
    } else {
        format!("{member}: `{path}` {}", notice.message)
    }
}
