//! A tree that a session has opened: the fence is raised, the rules are known, and what lies there
//! was looked at.
//!
//! Invariants: a fence above zero is durable before anybody is answered; what a hub once asked to
//! preserve stays preserved, whatever this hub sends today.

use super::foreign::ForeignPaths;
use super::held::{Known, shared};
use super::host::Claim;
use super::keeper::Keeper;
use super::live_index::{load_index, save_index};
use super::place::PlaceError;
use super::record::{TreeRecord, Vote};
use super::recycle::give_up;
use super::refusal::{information, of_commit, of_fs, of_observe, of_place};
use super::transaction::CommitError;
use crate::codes::{Code, Problem, error_chain};
use crate::engine::index::{Index, Stamp};
use crate::engine::observe::{LeftOutTime, Look, ObserveProblem, Observed, observe};
use crate::fs::owner::Principals;
use crate::fs::read::FsClock;
use crate::fs::walk::WalkTrouble;
use crate::fs::xattr::XattrPolicy;
use std::collections::BTreeSet;
use std::sync::Arc;
use sync_proto::entry::{Meta, Principal};
use sync_proto::filter::{Preserve, Rules, Scope, Side};
use sync_proto::manifest::{Directory, Manifest, Roots};
use sync_proto::path::RelPath;
use sync_proto::special::SpecialFiles;
use sync_proto::wire::{Generation, Level, Notice, Open, Options};

/// How often a tree is looked at again that doesn't hold still.
const LOOKS: usize = 3;
/// How many paths of one sort are named.
const EXAMPLES: usize = 5;

/// A tree, opened and looked at.
pub struct Seen {
    /// The tree in our hands.
    pub claim: Claim,
    /// Its record.
    pub record: TreeRecord,
    /// Under which fence; 0 only looks.
    pub fence: u64,
    /// What it may hold.
    pub options: Options,
    /// What may not be touched.
    pub keeper: Keeper,
    /// What is there.
    pub observed: Arc<Index>,
    /// Its hashes.
    pub roots: Roots,
    /// What was committed last, if it is known.
    pub committed: Option<Arc<Index>>,
    /// Names of users and groups.
    pub principals: Arc<Principals>,
    /// Things worth saying.
    pub notices: Vec<Notice>,
    /// That is from a look, not from the record.
    pub is_looked_at: bool,
    is_unsaved: bool,
}

impl Seen {
    /// Opens a claimed tree.
    pub fn open(claim: Claim, open: &Open) -> Result<Self, Problem> {
        let place = &claim.place;
        let mut record = TreeRecord::load(place).map_err(|error| of_place(&error))?;
        let sent = Preserve::parse(&open.preserve).map_err(|error| rule(&error))?;
        let mut keeper = Keeper {
            scope: Scope {
                exclude: excluded(open)?,
                preserve: record
                    .preserve
                    .union(&sent)
                    .and_then(|all| all.union(&claim.preserve))
                    .map_err(|error| rule(&error))?,
            },
            foreign: ForeignPaths::load(place).map_err(|error| of_place(&error))?,
            shared: BTreeSet::new(),
        };
        keeper.shared = shared(place, &keeper).map_err(|error| of_fs(&error))?;
        if open.fence > 0 {
            raise(&claim, &mut record, open.fence, &sent, &keeper)?;
            place.make_root().map_err(|error| of_fs(&error))?;
        }
        let known = load_index(place)
            .map_err(|error| of_place(&error))?
            .map(Arc::new);
        let mut seen = Self {
            record,
            fence: open.fence,
            options: open.options,
            keeper,
            observed: Arc::new(nothing()),
            roots: Roots {
                content: sync_proto::digest::Digest::from_bytes([0; 32]),
                meta: sync_proto::digest::Digest::from_bytes([0; 32]),
            },
            committed: None,
            principals: Arc::new(Principals::by_name()),
            notices: Vec::new(),
            is_looked_at: false,
            is_unsaved: false,
            claim,
        };
        seen.look(open.level, known)?;
        Ok(seen)
    }

    /// Looks, at this level, given what was known after the last commit.
    fn look(&mut self, level: Level, known: Option<Arc<Index>>) -> Result<(), Problem> {
        let live = self.live_generation().map(|generation| generation.roots);
        let known_roots = known.as_ref().map(|known| known.manifest().roots());
        // Only what is known to be the last commit tells drift.
        self.committed = known
            .clone()
            .filter(|_| known_roots.is_some() && known_roots == live);
        if let (Level::Index, Some(known), Some(roots)) = (level, &self.committed, live) {
            self.observed = known.clone();
            self.roots = roots;
            return Ok(());
        }
        let observed = self.observe(level, known.as_deref())?;
        self.is_looked_at = true;
        self.roots = observed.index.manifest().roots();
        self.observed = Arc::new(observed.index);
        let is_as_committed = live.is_some_and(|live| live == self.roots);
        self.is_unsaved = is_as_committed && known.as_deref() != Some(&*self.observed);
        if observed.hashed_files > 0 {
            self.save_look();
        }
        Ok(())
    }

    /// Saves what was seen, if the saved index knows less. What was hashed is saved at once; stamps
    /// and listings that are trusted by now can wait for the end of a push that changes nothing.
    pub fn save_look(&mut self) {
        if std::mem::take(&mut self.is_unsaved) {
            // A cache: if it can't be written, the next look takes longer.
            if let Err(error) = save_index(&self.claim.place, &self.observed) {
                tracing::warn!(%error, "the index of a tree can't be saved");
            }
        }
    }

    /// What was seen isn't what is there any more.
    pub fn outdate_look(&mut self) {
        self.is_unsaved = false;
    }

    /// Looks again, at everything that was passed over as foreign, too.
    pub fn look_at_foreign(&mut self) -> Result<(), Problem> {
        self.keeper.foreign = ForeignPaths::default();
        let known = self.observed.clone();
        let observed = self.observe(Level::Stat, Some(&known))?;
        self.roots = observed.index.manifest().roots();
        self.observed = Arc::new(observed.index);
        Ok(())
    }

    fn observe(&mut self, level: Level, known: Option<&Index>) -> Result<Observed, Problem> {
        let Some(live) = self.claim.place.live().map_err(|error| of_fs(&error))? else {
            return Ok(Observed {
                index: nothing(),
                hashed_files: 0,
                hashed_bytes: 0,
                problems: Vec::new(),
            });
        };
        let clock = FsClock::open(self.claim.place.state()).map_err(|error| of_fs(&error))?;
        let foreign = &self.keeper.foreign;
        let shared = &self.keeper.shared;
        let pass_over = |path: &RelPath| foreign.contains(path) || shared.contains(path);
        let how = Look {
            known,
            rehash: level == Level::Content,
            scope: &self.keeper.scope,
            side: Side::Receiver,
            pass_over: if foreign.is_empty() && shared.is_empty() {
                None
            } else {
                Some(&pass_over)
            },
            principals: &self.principals,
            xattrs: self.xattrs(),
            left_out_time: LeftOutTime::AsWanted,
            fresh: None,
            progress: &|_, _| {},
        };
        let mut observed = observe(&live, &clock, &how).map_err(|error| of_observe(&error))?;
        for _ in 1..LOOKS {
            if !observed.problems.iter().any(ObserveProblem::is_unrest) {
                break;
            }
            let known = observed.index;
            let how = Look {
                known: Some(&known),
                rehash: false,
                ..how
            };
            observed = observe(&live, &clock, &how).map_err(|error| of_observe(&error))?;
        }
        self.consider(&observed.problems)?;
        Ok(observed)
    }

    /// What could not be seen: a restless file is told, anything else stops a push.
    fn consider(&mut self, problems: &[ObserveProblem]) -> Result<(), Problem> {
        let blocking = problems.iter().find(|problem| !problem.is_unrest());
        if let Some(problem) = blocking.filter(|_| self.fence > 0) {
            return Err(unseen(problem));
        }
        let told = problems.iter().take(EXAMPLES);
        self.notices
            .extend(told.map(|it| information(it.path(), error_chain(it))));
        if problems.len() > EXAMPLES {
            let more = format!(
                "{} more entries could not be seen",
                problems.len() - EXAMPLES
            );
            self.notices.push(information(b"", more));
        }
        Ok(())
    }

    /// What is known of the live tree, for whoever looks for what is held.
    pub fn known(&self) -> Known<'_> {
        match self.is_looked_at {
            true => Known::LookedAt(&self.observed),
            false => Known::Recorded(&self.observed),
        }
    }

    /// The live generation, as it was committed.
    pub fn live_generation(&self) -> Option<&Generation> {
        self.record.live_generation().map(|kept| &kept.generation)
    }

    /// What is there isn't what was committed.
    pub fn is_drift(&self) -> bool {
        self.live_generation()
            .is_some_and(|live| live.roots != self.roots)
    }

    /// Which special files may be made here: what the hub allows, and the administrator as well.
    pub fn special_files(&self) -> SpecialFiles {
        self.options.special_files.and(self.claim.special_files)
    }

    /// Which attributes count.
    pub fn xattrs(&self) -> XattrPolicy {
        if self.options.privileged_xattrs {
            XattrPolicy::Privileged
        } else {
            XattrPolicy::Ordinary
        }
    }
}

/// Raises the fence and notes what is preserved from now on. Durable when it returns.
fn raise(
    claim: &Claim,
    record: &mut TreeRecord,
    fence: u64,
    sent: &Preserve,
    keeper: &Keeper,
) -> Result<(), Problem> {
    if let Some(vote) = Vote::load(&claim.place).map_err(|error| of_place(&error))? {
        let serial = vote.generation.serial;
        let message = format!(
            "A transaction on `{}` (generation #{serial}) is open and must be settled first",
            claim.shown
        );
        return Err(Problem::new(Code::TransactionOpen, message));
    }
    let preserve = record.preserve.union(sent).map_err(|error| rule(&error))?;
    let is_more = preserve != record.preserve;
    record.preserve = preserve;
    let mut raised = record.raise_fence(&claim.place, fence);
    if matches!(&raised, Err(PlaceError::Fs(error)) if error.is_no_space()) {
        // What an attempt left that used the disk up must not be in the way of the next one.
        make_way(claim, keeper).map_err(|error| of_commit(&error))?;
        raised = record.raise_fence(&claim.place, fence);
    }
    if !raised.map_err(|error| of_place(&error))? {
        let highest = record.fence;
        let message = format!(
            "The task's number {fence} on `{}` is not above {highest}, which a newer task used",
            claim.shown
        );
        return Err(Problem::new(Code::FenceTooOld, message));
    }
    if is_more {
        tracing::info!(tree = %claim.shown, "preserve rules were added");
    }
    Ok(())
}

/// Removes every staging area. No transaction is open: nothing refers to them, and what they hold
/// only saves a transfer.
fn make_way(claim: &Claim, keeper: &Keeper) -> Result<(), CommitError> {
    let stages = claim.place.stages()?;
    for listed in stages.list()? {
        stages.remove_tree(&listed.name)?;
    }
    give_up(&claim.place, keeper, claim.overwritten.as_ref())?;
    tracing::warn!("the disk is full; what was staged was removed");
    Ok(())
}

/// The rules under which nothing is deleted here.
fn excluded(open: &Open) -> Result<Rules, Problem> {
    let rules = Rules::parse(&open.exclude).map_err(|error| rule(&error))?;
    if open.options.delete_excluded {
        return rules.delete_excluded().map_err(|error| rule(&error));
    }
    Ok(rules)
}

fn rule(error: &sync_proto::filter::RuleError) -> Problem {
    Problem::from_error(Code::RuleInvalid, error)
}

fn unseen(problem: &ObserveProblem) -> Problem {
    let code = match problem {
        ObserveProblem::Walk(walk) if walk.what == WalkTrouble::OtherMount => Code::MountInside,
        ObserveProblem::Walk(walk) => match &walk.what {
            WalkTrouble::Unreadable(error) => of_fs(error).code,
            _ => Code::NameUnsupported,
        },
        ObserveProblem::Meta { source, .. } => of_fs(source).code,
        ObserveProblem::Read { .. } => Code::DiskError,
    };
    Problem::from_error(code, problem)
}

/// The index of a tree that isn't there.
fn nothing() -> Index {
    let meta = Meta {
        mode: 0o755,
        user: Principal::Id(0),
        group: Principal::Id(0),
        mtime: None,
        xattrs: None,
    };
    let root = Directory {
        path: RelPath::root(),
        entries: Vec::new(),
    };
    Manifest::new(meta, vec![root])
        .ok()
        .and_then(|manifest| Index::new(manifest, Stamp::default(), Vec::new()))
        .unwrap_or_else(|| unreachable!("an empty manifest is a manifest"))
}
