//! The two machines alone: single cases, and any course of events against what may never be.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn coordinator(policy: Policy) -> Coordinator<u8> {
    Coordinator::new(policy, [1, 2, 3], [4], 1)
}

#[test]
fn nothing_is_told_before_the_decision_is_durable() {
    let mut hub = coordinator(Policy::Reachable);
    assert!(hub.handle_vote(&1, true).is_empty());
    assert!(hub.handle_vote(&2, true).is_empty());
    assert_eq!(hub.handle_vote(&3, true), [CoordinatorAction::Record]);
    assert_eq!(hub.decision(), None);
    let told = hub.handle_recorded();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter()
            .all(|a| matches!(a, CoordinatorAction::Send(_, Decision::Commit)))
    );
    hub.handle_settled(&1);
    let fates = hub.fates().unwrap();
    assert_eq!(fates[&1], Fate::Committed);
    assert_eq!(fates[&2], Fate::InDoubt);
    assert_eq!(fates[&4], Fate::Stale);
}

#[test]
fn one_no_aborts_where_all_reachable_members_must_agree() {
    let mut hub = coordinator(Policy::Reachable);
    hub.handle_vote(&1, true);
    let told = hub.handle_vote(&2, false);
    assert!(
        told.iter()
            .all(|a| matches!(a, CoordinatorAction::Send(_, Decision::Abort)))
    );
    assert_eq!(hub.decision(), Some(Decision::Abort));
    assert!(
        hub.handle_vote(&3, true).is_empty(),
        "a late vote changes nothing"
    );
    assert_eq!(hub.decision(), Some(Decision::Abort));
    assert_eq!(hub.fates().unwrap()[&2], Fate::Failed);
    assert_eq!(hub.fates().unwrap()[&1], Fate::InDoubt);
    hub.handle_settled(&1);
    assert_eq!(hub.fates().unwrap()[&1], Fate::Aborted);
}

#[test]
fn one_that_is_lost_before_its_vote_is_no_no() {
    let mut hub = coordinator(Policy::Reachable);
    hub.handle_vote(&1, true);
    assert!(hub.handle_lost(&2).is_empty());
    assert_eq!(hub.handle_vote(&3, true), [CoordinatorAction::Record]);
    let told = hub.handle_recorded();
    assert_eq!(
        told,
        [
            CoordinatorAction::Send(1, Decision::Commit),
            CoordinatorAction::Send(3, Decision::Commit)
        ]
    );
    assert_eq!(hub.fates().unwrap()[&2], Fate::Stale);
}

#[test]
fn one_that_is_lost_after_its_vote_still_counts_and_is_in_doubt() {
    let mut hub = coordinator(Policy::Reachable);
    hub.handle_vote(&1, true);
    assert!(hub.handle_lost(&1).is_empty());
    hub.handle_lost(&2);
    assert_eq!(hub.handle_lost(&3), [CoordinatorAction::Record]);
    assert_eq!(
        hub.handle_recorded(),
        [CoordinatorAction::Send(1, Decision::Commit)]
    );
    assert_eq!(hub.fates().unwrap()[&1], Fate::InDoubt);
}

#[test]
fn where_all_must_vote_one_that_is_lost_aborts() {
    let mut hub = Coordinator::new(Policy::All, [1, 2], [], 1);
    hub.handle_vote(&1, true);
    hub.handle_lost(&2);
    assert_eq!(hub.decision(), Some(Decision::Abort));
    assert_eq!(hub.fates().unwrap()[&2], Fate::Stale);
}

#[test]
fn all_means_those_too_that_were_not_reached() {
    let mut hub = coordinator(Policy::All);
    hub.handle_vote(&1, true);
    assert_eq!(hub.decision(), Some(Decision::Abort));
}

#[test]
fn a_quorum_goes_on_without_the_others() {
    let mut hub = coordinator(Policy::Quorum(2));
    hub.handle_vote(&1, true);
    hub.handle_vote(&2, false);
    assert_eq!(hub.handle_vote(&3, true), [CoordinatorAction::Record]);
    let told = hub.handle_recorded();
    assert!(told.contains(&CoordinatorAction::Send(2, Decision::Abort)));
    assert!(told.contains(&CoordinatorAction::Send(3, Decision::Commit)));
}

#[test]
fn too_few_for_min_healthy_aborts() {
    let mut hub = Coordinator::new(Policy::Reachable, [1], [2], 2);
    assert!(
        !hub.handle_vote(&1, true)
            .contains(&CoordinatorAction::Record)
    );
    assert_eq!(hub.decision(), Some(Decision::Abort));
}

#[test]
fn a_participant_in_doubt_waits_for_the_hub() {
    use ParticipantAction as Do;
    use ParticipantEvent as On;
    let (txn, other) = ([1; 16], [2; 16]);
    let mut member = Participant::Idle;
    assert_eq!(
        member.handle(On::Prepare { txn, fence: 6 }, 7),
        Do::Refuse,
        "an old fence"
    );
    assert_eq!(member.handle(On::Prepare { txn, fence: 7 }, 7), Do::Record);
    assert_eq!(member.handle(On::RecordDurable, 7), Do::VoteYes);
    assert_eq!(member.unsettled(), Some(txn));
    assert_eq!(
        member.handle(
            On::Prepare {
                txn: other,
                fence: 8
            },
            8
        ),
        Do::Refuse
    );
    let commit = On::Decide {
        txn,
        decision: Decision::Commit,
    };
    assert_eq!(member.handle(commit, 8), Do::RecordForward);
    assert_eq!(
        member.handle(
            On::Decide {
                txn,
                decision: Decision::Abort
            },
            8
        ),
        Do::Refuse,
        "after commit there is no way back"
    );
    assert_eq!(member.handle(On::ForwardDurable, 8), Do::Switch);
    assert_eq!(member.handle(On::Switched, 8), Do::Confirm);
    assert_eq!(
        member.handle(commit, 8),
        Do::Confirm,
        "a repeated decision is confirmed"
    );
}

#[test]
fn what_is_cancelled_before_the_decision_is_called_off_everywhere() {
    let mut hub = coordinator(Policy::Reachable);
    hub.handle_vote(&1, true);
    let abort = |m| CoordinatorAction::Send(m, Decision::Abort);
    assert_eq!(hub.handle_cancel(), [abort(1), abort(2), abort(3)]);
    assert_eq!(hub.decision(), Some(Decision::Abort));
    let mut late = coordinator(Policy::Each);
    late.handle_vote(&1, true);
    late.handle_deadline();
    assert_eq!(late.handle_cancel(), [], "it is being recorded");
    assert_eq!(
        late.handle_recorded(),
        [CoordinatorAction::Send(1, Decision::Commit)]
    );
}

/// Each place of a participant, what it is told there, and what comes of it.
#[test]
fn a_participant_follows_its_own_transaction_only() {
    use Participant as At;
    use ParticipantAction as Do;
    use ParticipantEvent as On;
    let (txn, other, fence) = ([1; 16], [2; 16], 7);
    let prepare = |txn| On::Prepare { txn, fence };
    let decide = |txn, decision| On::Decide { txn, decision };
    let (commit, abort) = (Decision::Commit, Decision::Abort);
    let (prepared, done) = (At::Prepared { txn }, At::Done { txn });
    for (at, event, action, next) in [
        (At::Idle, decide(txn, abort), Do::Confirm, At::Idle),
        (At::Idle, decide(txn, commit), Do::Refuse, At::Idle),
        (prepared, prepare(txn), Do::VoteYes, prepared),
        (prepared, prepare(other), Do::Refuse, prepared),
        (prepared, decide(other, commit), Do::Refuse, prepared),
        (prepared, decide(other, abort), Do::Refuse, prepared),
        (prepared, decide(txn, abort), Do::Undo, At::Undoing { txn }),
        (At::Undoing { txn }, On::Undone, Do::Confirm, At::Idle),
        (
            At::Undoing { txn },
            decide(txn, commit),
            Do::Refuse,
            At::Undoing { txn },
        ),
        (
            At::Forward { txn },
            decide(txn, abort),
            Do::Refuse,
            At::Forward { txn },
        ),
        (done, decide(txn, commit), Do::Confirm, done),
        (done, decide(other, commit), Do::Refuse, done),
        (done, decide(other, abort), Do::Confirm, done),
        (done, decide(txn, abort), Do::Refuse, done),
    ] {
        let mut it = at;
        assert_eq!(it.handle(event, fence), action, "{at:?} {event:?}");
        assert_eq!(it, next, "{at:?} {event:?}");
    }
}

#[test]
fn a_restart_resumes_from_what_is_durable() {
    let (txn, before) = ([2; 16], Some([1; 16]));
    for last in [None, before] {
        let forward = Participant::resume(Some((txn, true)), last);
        assert_eq!(forward, Participant::Forward { txn });
        let prepared = Participant::resume(Some((txn, false)), last);
        assert_eq!(prepared, Participant::Prepared { txn });
    }
    assert_eq!(
        Participant::resume(None, before),
        Participant::Done { txn: [1; 16] }
    );
    assert_eq!(Participant::resume(None, None), Participant::Idle);
    // One that goes forward knows of the commit, one that only voted doesn't.
    let witnesses = [
        Witness::of(Some(([3; 16], true)), before),
        Witness::of(Some(([4; 16], false)), before),
        Witness::of(None, Some(txn)),
        Witness::of(None, None),
    ];
    assert_eq!(known_commits(&witnesses), [[1; 16], [2; 16], [3; 16]]);
    assert_eq!(witnesses[1].doubt, Some([4; 16]));
}

/// Something that happens to a coordinator of members 0 to 5.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Vote(u8, bool),
    Lost(u8),
    Deadline,
    Cancel,
    Recorded,
    Settled(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0..6u8, prop::bool::weighted(0.8)).prop_map(|(m, yes)| Happens::Vote(m, yes)),
        3 => (0..6u8).prop_map(Happens::Lost),
        1 => Just(Happens::Deadline),
        1 => Just(Happens::Cancel),
        3 => Just(Happens::Recorded),
        2 => (0..6u8).prop_map(Happens::Settled),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Reachable),
        Just(Policy::All),
        (1..5u32).prop_map(Policy::Quorum),
        Just(Policy::Each),
    ]
}

/// What a reader of the events knows, without the machine.
#[derive(Default)]
struct Known {
    /// First words heard, before any decision.
    yes: BTreeSet<u8>,
    no: BTreeSet<u8>,
    out: BTreeSet<u8>,
    /// Votes first heard after it.
    late: BTreeSet<u8>,
    settled: BTreeSet<u8>,
}

impl Known {
    fn is_open(&self, member: u8) -> bool {
        [&self.yes, &self.no, &self.out, &self.late]
            .iter()
            .all(|set| !set.contains(&member))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Any votes, losses and deadlines in any order: `commit` goes only to members whose yes was
    /// heard, only after it is durable, only with the policy's votes and no no of a member; a
    /// decision stays; a loss is never a vote and never takes one back.
    #[test]
    fn no_course_of_events_commits_without_the_votes(
        policy in policy(),
        reached in prop::collection::btree_set(0..6u8, 1..6),
        min_healthy in 0..4u32,
        course in prop::collection::vec(happens(), 0..40),
    ) {
        let unreached: BTreeSet<u8> = (0..6).filter(|m| !reached.contains(m)).collect();
        // Half of the clusters have nobody who wasn't reached.
        let unreached = if course.len() % 2 == 0 { unreached } else { BTreeSet::new() };
        let mut hub = Coordinator::new(policy, reached.clone(), unreached.clone(), min_healthy);
        let mut known = Known::default();
        let mut recording = false;
        let mut decided = None;
        for event in course {
            let may_decide = decided.is_none() && !recording;
            let actions = match event {
                Happens::Vote(m, yes) => {
                    if reached.contains(&m) && known.is_open(m) {
                        match (may_decide, yes) {
                            (true, true) => known.yes.insert(m),
                            (true, false) => known.no.insert(m),
                            (false, _) => known.late.insert(m),
                        };
                    }
                    hub.handle_vote(&m, yes)
                }
                Happens::Lost(m) => {
                    if reached.contains(&m) && known.is_open(m) {
                        known.out.insert(m);
                    }
                    hub.handle_lost(&m)
                }
                Happens::Deadline => {
                    if may_decide {
                        let open: Vec<u8> =
                            reached.iter().copied().filter(|m| known.is_open(*m)).collect();
                        known.out.extend(open);
                    }
                    hub.handle_deadline()
                }
                Happens::Cancel => hub.handle_cancel(),
                Happens::Recorded => hub.handle_recorded(),
                Happens::Settled(m) => {
                    if decided.is_some() && (known.yes.contains(&m) || known.late.contains(&m)) {
                        known.settled.insert(m);
                    }
                    hub.handle_settled(&m);
                    Vec::new()
                }
            };
            let asks = actions.contains(&CoordinatorAction::Record);
            if asks {
                prop_assert!(may_decide);
                let votes = known.yes.len();
                let enough = match policy {
                    Policy::Reachable => {
                        known.no.is_empty() && votes >= (min_healthy as usize).max(1)
                    }
                    Policy::All => votes == reached.len() + unreached.len(),
                    Policy::Quorum(n) => votes >= (n.max(min_healthy) as usize).max(1),
                    Policy::Each => votes >= 1,
                };
                prop_assert!(enough, "recorded with {:?} and {:?}", known.yes, known.no);
                recording = true;
            }
            for action in &actions {
                if let CoordinatorAction::Send(m, Decision::Commit) = action {
                    prop_assert!(recording && matches!(event, Happens::Recorded));
                    prop_assert!(known.yes.contains(m), "{m} is told to commit and never voted");
                }
            }
            if matches!(event, Happens::Recorded) && recording && decided.is_none() {
                for m in &known.yes {
                    prop_assert!(actions.contains(&CoordinatorAction::Send(*m, Decision::Commit)));
                }
            }
            match (decided, hub.decision()) {
                (Some(before), now) => prop_assert_eq!(Some(before), now, "it changed its mind"),
                (None, Some(Decision::Commit)) => {
                    prop_assert!(recording && matches!(event, Happens::Recorded));
                    decided = hub.decision();
                }
                (None, now) => decided = now,
            }
            let open = reached.iter().any(|m| known.is_open(*m));
            prop_assert!(
                open || recording || decided.is_some(),
                "everybody was heard or is lost, and nothing happens"
            );
        }
        let Some(decision) = hub.decision() else {
            prop_assert!(hub.fates().is_none());
            return Ok(());
        };
        let fates = hub.fates().unwrap();
        prop_assert_eq!(fates.len(), reached.len() + unreached.len());
        for (m, fate) in fates {
            let expected = if unreached.contains(&m) || known.out.contains(&m) {
                &[Fate::Stale][..]
            } else if known.no.contains(&m) {
                &[Fate::Failed][..]
            } else if known.settled.contains(&m) && decision == Decision::Commit {
                &[Fate::Committed][..]
            } else if known.yes.contains(&m) && !known.settled.contains(&m) {
                &[Fate::InDoubt][..]
            } else if known.late.contains(&m) {
                &[Fate::Aborted, Fate::Failed, Fate::InDoubt][..]
            } else {
                &[Fate::Aborted][..]
            };
            prop_assert!(expected.contains(&fate), "{m} is {fate:?}, not {expected:?}");
        }
    }
}
