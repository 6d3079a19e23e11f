//! What the engine says while it works: events, never text on a terminal.
//!
//! The engine is mute. Whoever starts a task hands it an [`EventSink`]; the command line draws
//! progress from it, `--json` prints it, the agent logs it, tests collect it. Events are hints
//! for a reader: nothing may depend on one arriving, and the reports at the end carry everything
//! that counts.

pub use crate::model::Outcome;

use crate::codes::{Exit, Problem};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_proto::path::escape;
use sync_proto::wire::Plan;

/// A member's name, cheap to copy into every event.
pub type MemberName = Arc<str>;

/// Something that happened in one task on one platform.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The task has its lock and begins.
    TaskStarted {
        /// The number under which the hub records it.
        task: u64,
        /// What it does.
        kind: TaskKind,
        /// The members it works on.
        members: Vec<MemberName>,
    },
    /// The hub's own scan of the source has come this far.
    Scanned {
        /// Entries seen.
        entries: u64,
        /// Bytes of content hashed or known from the index.
        content_bytes: u64,
    },
    /// The hub is through with the scan.
    ScanFinished {
        /// Entries in the manifest.
        entries: u64,
        /// Bytes of content they have.
        content_bytes: u64,
        /// Bytes that had to be read, because the index did not know them.
        read_bytes: u64,
    },
    /// A member entered a phase.
    Phase {
        /// Who.
        member: MemberName,
        /// Where it is now.
        phase: Phase,
    },
    /// What a member needs is known.
    Needs {
        /// Who.
        member: MemberName,
        /// Entries that differ.
        changed_entries: u64,
        /// Stream bytes that will be sent, as far as they are encoded.
        total_bytes: u64,
    },
    /// Content was handed to a member's connection. Counted before compression, so that it has a
    /// known end.
    Sent {
        /// Who.
        member: MemberName,
        /// Bytes so far in this task.
        sent_bytes: u64,
        /// Bytes in all, as far as the member said what it needs.
        total_bytes: u64,
    },
    /// A member has verified entries in its staging area.
    Staged {
        /// Who.
        member: MemberName,
        /// Entries staged so far.
        staged_entries: u64,
        /// Entries to stage in all.
        total_entries: u64,
    },
    /// The hub decided, durably.
    Decided {
        /// What.
        decision: Decision,
        /// The generation that it is about.
        generation: u64,
    },
    /// A member is through.
    MemberFinished(MemberReport),
    /// Something that a person should know; the task goes on.
    Warning(Problem),
    /// Something that a person may like to know.
    Note(String),
    /// The task ended and its lock is free.
    TaskFinished {
        /// How long it took.
        elapsed: Duration,
    },
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Publishes the source.
    Push,
    /// Brings members to the desired generation.
    Resync,
    /// Compares only.
    Verify,
    /// Goes back to a kept generation.
    Rollback,
    /// Records an existing root as the platform's.
    Adopt,
    /// Removes the tree from the members.
    Delete,
}

impl TaskKind {
    /// The command's own word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Resync => "resync",
            Self::Verify => "verify",
            Self::Rollback => "rollback",
            Self::Adopt => "adopt",
            Self::Delete => "delete",
        }
    }
}

/// Where a member is on its way, in the order of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Waiting for its turn.
    Waiting,
    /// The hub connects and opens the tree.
    Connecting,
    /// The member looks at what it has.
    Scanning,
    /// Hub and member find what differs.
    Comparing,
    /// The member fills from content that it has already.
    Filling,
    /// Content is on its way.
    Receiving,
    /// The member writes and verifies its staging area.
    Staging,
    /// The member makes everything durable and votes.
    Preparing,
    /// It voted, and waits for the others and the decision.
    Voted,
    /// It switches.
    Committing,
    /// It records the new state and collects old generations.
    Recording,
}

impl Phase {
    /// One word for a progress line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Scanning => "scanning",
            Self::Comparing => "comparing",
            Self::Filling => "filling",
            Self::Receiving => "receiving",
            Self::Staging => "staging",
            Self::Preparing => "preparing",
            Self::Voted => "voted",
            Self::Committing => "committing",
            Self::Recording => "recording",
        }
    }
}

/// The hub's decision about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Every prepared member switches.
    Commit,
    /// None does.
    Abort,
}

/// What came of one member. Bytes are stream bytes as the hub sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    /// Who.
    pub name: MemberName,
    /// How it came out.
    pub outcome: Outcome,
    /// The generation it is at now, if it is at one: by its own word, or where it can't be asked
    /// the last that is known.
    pub generation: Option<u64>,
    /// Stream bytes that the hub sent to it.
    pub sent_bytes: u64,
    /// Stream bytes that the hub received from it.
    pub received_bytes: u64,
    /// Bytes of file content among what was sent, after compression.
    pub content_bytes: u64,
    /// How often the hub waited for its answer.
    pub round_trips: u64,
    /// Entries that the task changed, or would have.
    pub changed_entries: u64,
    /// From the start of the task until the member was through.
    pub elapsed: Duration,
    /// Why it is not at the new generation.
    pub problem: Option<Problem>,
    /// Where the member keeps what it found that nobody had committed; escaped.
    pub kept_aside: Option<String>,
    /// What the task let stay that the new state doesn't have.
    pub stays: Stays,
}

/// What stays on a member though the new state doesn't have it; names are escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stays {
    /// Directories that hold something preserved or excluded.
    pub kept: Vec<String>,
    /// What is foreign, by top-level name.
    pub foreign: Vec<String>,
}

impl Stays {
    /// What a member's plan leaves alone.
    pub fn of(plan: &Plan) -> Self {
        let escaped = |paths: &[Vec<u8>]| paths.iter().map(|path| escape(path)).collect();
        Self {
            kept: escaped(&plan.kept),
            foreign: escaped(&plan.foreign_paths),
        }
    }
}

impl MemberReport {
    /// A report with an outcome and nothing counted yet.
    pub fn new(name: impl Into<MemberName>, outcome: Outcome) -> Self {
        Self {
            name: name.into(),
            outcome,
            generation: None,
            sent_bytes: 0,
            received_bytes: 0,
            content_bytes: 0,
            round_trips: 0,
            changed_entries: 0,
            elapsed: Duration::ZERO,
            problem: None,
            kept_aside: None,
            stays: Stays::default(),
        }
    }

    /// What a command about these members exits with, if nothing refused it: done on all, on
    /// some, or on none of them.
    pub fn exit<'a>(members: impl IntoIterator<Item = &'a Self>) -> Exit {
        let (mut good, mut bad) = (0_usize, 0_usize);
        for member in members {
            if member.outcome.is_good() {
                good += 1;
            } else {
                bad += 1;
            }
        }
        match (good, bad) {
            (_, 0) => Exit::Done,
            (0, _) => Exit::Failed,
            _ => Exit::Partial,
        }
    }
}

/// Where events go. Cheap to clone and to call from any thread; never blocks for long.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(Event) + Send + Sync>);

impl EventSink {
    /// Hands every event to `render`.
    pub fn new(render: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(drop)
    }

    /// Keeps every event, for whoever looks later.
    pub fn collect() -> (Self, Collected) {
        let collected = Collected::default();
        let shared = collected.clone();
        let sink = Self::new(move |event| shared.lock().push(event));
        (sink, collected)
    }

    /// Says that something happened.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }

    /// Says that a person should know about `problem`.
    pub fn warn(&self, problem: Problem) {
        self.emit(Event::Warning(problem));
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

/// The events that a collecting sink has kept.
#[derive(Clone, Debug, Default)]
pub struct Collected(Arc<Mutex<Vec<Event>>>);

impl Collected {
    /// Takes what came in since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_in_order_from_every_clone() {
        let (sink, collected) = EventSink::collect();
        sink.emit(Event::Note("first".into()));
        sink.clone().emit(Event::Note("second".into()));
        let notes = collected.take();
        assert_eq!(
            notes,
            [Event::Note("first".into()), Event::Note("second".into())]
        );
        assert!(collected.take().is_empty());
    }

    #[test]
    fn done_on_some_members_is_an_exit_of_its_own() {
        let report = |outcome| MemberReport::new("web1", outcome);
        let exit = |outcomes: &[Outcome]| {
            let members: Vec<_> = outcomes.iter().copied().map(report).collect();
            MemberReport::exit(&members)
        };
        assert_eq!(exit(&[]), Exit::Done);
        assert_eq!(exit(&[Outcome::Committed, Outcome::UpToDate]), Exit::Done);
        assert_eq!(exit(&[Outcome::Committed, Outcome::Stale]), Exit::Partial);
        assert_eq!(exit(&[Outcome::Committed, Outcome::InDoubt]), Exit::Partial);
        assert_eq!(exit(&[Outcome::Aborted, Outcome::Failed]), Exit::Failed);
    }
}
