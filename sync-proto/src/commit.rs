//! The two-phase commit as two pure state machines.
//!
//! [`Coordinator`] runs on the hub, one per transaction; [`Participant`] on each member, one per
//! tree. Neither does I/O: events go in by `handle_*`, what to do comes out as actions. Whoever
//! drives them makes the durable steps durable *before* it feeds the event that says so; the
//! machines never let a message out before that.
//!
//! Invariants (by the numbers of `docs/invariants.md`):
//! - I2 A participant votes only after [`ParticipantEvent::RecordDurable`].
//! - I3 A coordinator sends `commit` only after [`Coordinator::handle_recorded`], never changes
//!   its mind, and a participant in doubt does nothing until it is told.
//! - I9 Every member ends with one [`Fate`].
//!
//! A *no* is only what a member says. One that is lost, or not ready in time, before its vote was
//! heard is out, as if it had never been reached; the policy decides whether the others go on. It
//! may have voted all the same, unheard: then it holds a record, asks when it returns, and is told
//! what was decided, whatever that was.

use crate::wire::{Decision, TxnKey};
use std::collections::BTreeMap;

/// Which votes a commit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No member says no; those that were never reached, or were lost before they voted, don't
    /// count.
    Reachable,
    /// Every member of the cluster votes yes.
    All,
    /// At least so many vote yes; the others don't matter.
    Quorum(u32),
    /// Each for itself: one yes is enough.
    Each,
}

/// Where one member stands in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Standing {
    /// Staging or preparing.
    Working,
    /// It was never reached, or it dropped out before its vote was heard.
    Out,
    /// It voted no.
    No,
    /// It voted yes.
    Yes,
    /// It voted yes and confirmed the decision.
    Settled,
}

/// How a transaction ended on one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is at the new generation.
    Committed,
    /// It is as it was.
    Aborted,
    /// It voted no, or failed while staging; it is as it was.
    Failed,
    /// It never took part, or dropped out before its vote was heard.
    Stale,
    /// It voted yes and has not confirmed the decision.
    InDoubt,
}

/// What the hub must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorAction<M> {
    /// Make the decision `commit` durable, then call [`Coordinator::handle_recorded`].
    Record,
    /// Tell this member.
    Send(M, Decision),
}

/// The hub's half of one transaction. `M` names a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator<M: Ord> {
    policy: Needed,
    members: BTreeMap<M, Standing>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Voting,
    Recording,
    Decided(bool),
}

/// A policy, resolved to what it needs of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Needed {
    /// A single no aborts.
    unanimous: bool,
    /// So many votes at least.
    votes: usize,
}

impl<M: Ord + Clone> Coordinator<M> {
    /// Begins with the members that were reached at preflight and those that weren't. Fewer than
    /// `min_healthy` votes abort, unless each member commits for itself.
    pub fn new(
        policy: Policy,
        reached: impl IntoIterator<Item = M>,
        unreached: impl IntoIterator<Item = M>,
        min_healthy: u32,
    ) -> Self {
        let mut members: BTreeMap<M, Standing> = reached
            .into_iter()
            .map(|member| (member, Standing::Working))
            .collect();
        members.extend(unreached.into_iter().map(|member| (member, Standing::Out)));
        let least = usize::try_from(min_healthy).unwrap_or(usize::MAX).max(1);
        let policy = match policy {
            Policy::Reachable => Needed {
                unanimous: true,
                votes: least,
            },
            Policy::All => Needed {
                unanimous: true,
                votes: members.len().max(1),
            },
            Policy::Quorum(count) => Needed {
                unanimous: false,
                votes: usize::try_from(count).unwrap_or(usize::MAX).max(least),
            },
            Policy::Each => Needed {
                unanimous: false,
                votes: 1,
            },
        };
        Self {
            policy,
            members,
            phase: Phase::Voting,
        }
    }

    /// A member voted. A vote that comes after the decision changes nothing but its own fate.
    pub fn handle_vote(&mut self, member: &M, yes: bool) -> Vec<CoordinatorAction<M>> {
        self.settle(member, if yes { Standing::Yes } else { Standing::No })
    }

    /// A member was lost before its vote was heard. After its vote this changes nothing: only what
    /// it confirms ends its doubt.
    pub fn handle_lost(&mut self, member: &M) -> Vec<CoordinatorAction<M>> {
        self.settle(member, Standing::Out)
    }

    /// No more waiting: whoever is still working is out.
    pub fn handle_deadline(&mut self) -> Vec<CoordinatorAction<M>> {
        if self.phase != Phase::Voting {
            return Vec::new();
        }
        for standing in self
            .members
            .values_mut()
            .filter(|s| **s == Standing::Working)
        {
            *standing = Standing::Out;
        }
        self.advance()
    }

    /// The transaction is given up before it was decided.
    pub fn handle_cancel(&mut self) -> Vec<CoordinatorAction<M>> {
        if self.phase == Phase::Voting {
            self.abort()
        } else {
            Vec::new()
        }
    }

    /// The decision `commit` is durable.
    pub fn handle_recorded(&mut self) -> Vec<CoordinatorAction<M>> {
        if self.phase != Phase::Recording {
            return Vec::new();
        }
        self.phase = Phase::Decided(true);
        self.tell(|standing| match standing {
            Standing::Yes => Decision::Commit,
            _ => Decision::Abort,
        })
    }

    /// A member confirmed the decision.
    pub fn handle_settled(&mut self, member: &M) {
        if let (Phase::Decided(_), Some(standing @ Standing::Yes)) =
            (self.phase, self.members.get_mut(member))
        {
            *standing = Standing::Settled;
        }
    }

    /// The decision, once there is one that may be told.
    pub fn decision(&self) -> Option<Decision> {
        match self.phase {
            Phase::Decided(true) => Some(Decision::Commit),
            Phase::Decided(false) => Some(Decision::Abort),
            Phase::Voting | Phase::Recording => None,
        }
    }

    /// How it ended, member by member; `None` before the decision.
    pub fn fates(&self) -> Option<BTreeMap<M, Fate>> {
        let committed = self.decision()? == Decision::Commit;
        let fate = |standing: &Standing| match standing {
            Standing::Out => Fate::Stale,
            Standing::No => Fate::Failed,
            Standing::Working => Fate::Aborted,
            Standing::Yes => Fate::InDoubt,
            Standing::Settled if committed => Fate::Committed,
            Standing::Settled => Fate::Aborted,
        };
        Some(
            self.members
                .iter()
                .map(|(m, standing)| (m.clone(), fate(standing)))
                .collect(),
        )
    }

    fn settle(&mut self, member: &M, to: Standing) -> Vec<CoordinatorAction<M>> {
        match self.members.get_mut(member) {
            Some(standing @ Standing::Working) => *standing = to,
            _ => return Vec::new(),
        }
        match self.phase {
            Phase::Voting => self.advance(),
            Phase::Recording | Phase::Decided(_) => Vec::new(),
        }
    }

    fn advance(&mut self) -> Vec<CoordinatorAction<M>> {
        let count = |wanted| self.members.values().filter(|s| **s == wanted).count();
        let (yes, working, no) = (
            count(Standing::Yes),
            count(Standing::Working),
            count(Standing::No),
        );
        if self.policy.unanimous && no > 0 || yes + working < self.policy.votes {
            return self.abort();
        }
        if working > 0 {
            return Vec::new();
        }
        self.phase = Phase::Recording;
        vec![CoordinatorAction::Record]
    }

    fn abort(&mut self) -> Vec<CoordinatorAction<M>> {
        self.phase = Phase::Decided(false);
        self.tell(|_| Decision::Abort)
    }

    fn tell(&self, decision: impl Fn(Standing) -> Decision) -> Vec<CoordinatorAction<M>> {
        self.members
            .iter()
            .filter(|(_, standing)| **standing != Standing::Out)
            .map(|(member, standing)| CoordinatorAction::Send(member.clone(), decision(*standing)))
            .collect()
    }
}

/// What happens to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParticipantEvent {
    /// The hub opens a transaction under this fence; everything is staged and verified.
    Prepare {
        /// The transaction.
        txn: TxnKey,
        /// Its fence.
        fence: u64,
    },
    /// The record of the vote is durable, and so is everything staged.
    RecordDurable,
    /// The hub's decision.
    Decide {
        /// The transaction it is about.
        txn: TxnKey,
        /// The decision.
        decision: Decision,
    },
    /// The note that this transaction goes forward only is durable.
    ForwardDurable,
    /// The switch is done and durable.
    Switched,
    /// What was staged is put away, the record is gone.
    Undone,
}

/// What a participant must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParticipantAction {
    /// Write the record durably, then report [`ParticipantEvent::RecordDurable`].
    Record,
    /// Tell the hub yes.
    VoteYes,
    /// Tell the hub no: the event doesn't fit.
    Refuse,
    /// Note durably that it goes forward only, then [`ParticipantEvent::ForwardDurable`].
    RecordForward,
    /// Switch (idempotent), then [`ParticipantEvent::Switched`].
    Switch,
    /// Undo (idempotent), then [`ParticipantEvent::Undone`].
    Undo,
    /// Tell the hub that the decision is carried out.
    Confirm,
    /// Nothing.
    Wait,
}

/// The member's half: one tree's place in a transaction. What is durable of it is exactly its
/// variant, so that a restart resumes from the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Participant {
    /// No transaction.
    #[default]
    Idle,
    /// The record is being written. A crash here leaves [`Self::Idle`] or [`Self::Prepared`].
    Recording {
        /// The transaction.
        txn: TxnKey,
    },
    /// Voted yes; only the hub can end it.
    Prepared {
        /// The transaction.
        txn: TxnKey,
    },
    /// Told to commit; being noted.
    Accepting {
        /// The transaction.
        txn: TxnKey,
    },
    /// Forward only.
    Forward {
        /// The transaction.
        txn: TxnKey,
    },
    /// Told to abort.
    Undoing {
        /// The transaction.
        txn: TxnKey,
    },
    /// It was committed; kept so that a repeated decision is confirmed again.
    Done {
        /// The transaction.
        txn: TxnKey,
    },
}

/// What one member knows of transactions, for a hub that lost its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The last transaction that it committed, or goes forward with.
    pub last_committed: Option<TxnKey>,
    /// What it voted for, and hasn't heard of since.
    pub doubt: Option<TxnKey>,
}

impl Witness {
    /// From the two records of a member: its vote, if it has one, with whether that goes forward
    /// only, and the last transaction that it committed.
    pub fn of(vote: Option<(TxnKey, bool)>, last_committed: Option<TxnKey>) -> Self {
        match vote {
            // Told to commit: it is as good as done, and nobody else may hear otherwise.
            Some((txn, true)) => Self {
                last_committed: Some(txn),
                doubt: None,
            },
            Some((txn, false)) => Self {
                last_committed,
                doubt: Some(txn),
            },
            None => Self {
                last_committed,
                doubt: None,
            },
        }
    }
}

/// What was decided to be committed, as far as members can tell a hub that lost its state: it
/// records all of it before it answers anybody, since who is in doubt about it may be one that
/// isn't there now. About everything else that it doesn't know it says abort. A transaction that
/// every member followed by another is not among these: whoever is in doubt about that is behind
/// anyway.
pub fn known_commits(witnesses: &[Witness]) -> Vec<TxnKey> {
    let mut committed: Vec<TxnKey> = witnesses
        .iter()
        .filter_map(|it| it.last_committed)
        .collect();
    committed.sort_unstable();
    committed.dedup();
    committed
}

impl Participant {
    /// Where a member stands after a restart, from what is durable of it: its vote, if it has one,
    /// with whether that goes forward only, and the last transaction that it committed. One that
    /// is [`Self::Forward`] must switch before it serves anything else.
    pub fn resume(vote: Option<(TxnKey, bool)>, last_committed: Option<TxnKey>) -> Self {
        match (vote, last_committed) {
            (Some((txn, true)), _) => Self::Forward { txn },
            (Some((txn, false)), _) => Self::Prepared { txn },
            (None, Some(txn)) => Self::Done { txn },
            (None, None) => Self::Idle,
        }
    }

    /// Takes an event; `fence` is the highest that the member ever accepted.
    pub fn handle(&mut self, event: ParticipantEvent, fence: u64) -> ParticipantAction {
        use ParticipantAction as Do;
        use ParticipantEvent as On;
        let (next, action) = match (*self, event) {
            (Self::Idle | Self::Done { .. }, On::Prepare { txn, fence: theirs }) => {
                if theirs == fence {
                    (Self::Recording { txn }, Do::Record)
                } else {
                    (*self, Do::Refuse)
                }
            }
            (Self::Recording { txn }, On::RecordDurable) => (Self::Prepared { txn }, Do::VoteYes),
            (Self::Prepared { txn: ours }, On::Prepare { txn, .. }) if ours == txn => {
                (*self, Do::VoteYes)
            }
            (Self::Prepared { txn: ours }, On::Decide { txn, decision }) if ours == txn => {
                match decision {
                    Decision::Commit => (Self::Accepting { txn }, Do::RecordForward),
                    Decision::Abort => (Self::Undoing { txn }, Do::Undo),
                }
            }
            (Self::Accepting { txn }, On::ForwardDurable) => (Self::Forward { txn }, Do::Switch),
            (Self::Forward { txn }, On::Switched) => (Self::Done { txn }, Do::Confirm),
            (Self::Undoing { .. }, On::Undone) => (Self::Idle, Do::Confirm),
            (
                Self::Done { txn: ours },
                On::Decide {
                    txn,
                    decision: Decision::Commit,
                },
            ) if ours == txn => (*self, Do::Confirm),
            // What we don't hold has been undone, or never was: an abort is already true.
            (
                Self::Idle,
                On::Decide {
                    decision: Decision::Abort,
                    ..
                },
            ) => (*self, Do::Confirm),
            (
                Self::Done { txn: ours },
                On::Decide {
                    txn,
                    decision: Decision::Abort,
                },
            ) if ours != txn => (*self, Do::Confirm),
            _ => (*self, Do::Refuse),
        };
        *self = next;
        action
    }

    /// The transaction that must be settled before anything else may begin.
    pub fn unsettled(&self) -> Option<TxnKey> {
        match *self {
            Self::Prepared { txn } | Self::Accepting { txn } | Self::Forward { txn } => Some(txn),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
