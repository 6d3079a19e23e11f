//! What is told of each member when a transaction is over.

use super::*;

fn report(name: &str, outcome: Outcome, problem: Option<(Code, &str)>) -> (usize, MemberReport) {
    let mut report = MemberReport::new(name, outcome);
    report.problem = problem.map(|(code, message)| Problem::new(code, message));
    (0, report)
}

/// The reasons that members are given, in their order.
fn explained(members: Vec<(usize, MemberReport)>, is_late: bool) -> Vec<(Code, String)> {
    let mut settled = Settled {
        members,
        ..Settled::default()
    };
    explain(&mut settled, is_late, Duration::from_secs(90));
    let problems = settled.members.into_iter().map(|(_, it)| it.problem);
    problems
        .map(|it| it.map_or((Code::Bug, "none".to_owned()), |it| (it.code, it.message)))
        .collect()
}

fn expect(code: Code, message: &str) -> (Code, String) {
    (code, message.to_owned())
}

#[test]
fn who_is_left_behind_is_told_because_of_whom() {
    let lost = || report("w2", Outcome::Stale, Some((Code::MemberInDoubt, "cut off")));
    let no = report(
        "w3",
        Outcome::Failed,
        Some((Code::StateDamaged, "disk full")),
    );
    let waits = || report("w1", Outcome::Aborted, None);
    let cut = expect(Code::MemberInDoubt, "cut off");
    // A no comes before a loss, wherever they stand.
    assert_eq!(
        explained(vec![waits(), lost(), no], false),
        [
            expect(Code::MemberAborted, "w3 said no: disk full"),
            cut.clone(),
            expect(Code::StateDamaged, "disk full"),
        ]
    );
    assert_eq!(
        explained(vec![lost(), waits()], true),
        [
            cut,
            expect(Code::MemberAborted, "w2 was lost before its vote: cut off"),
        ]
    );
}

#[test]
fn without_a_culprit_it_was_the_time_or_the_policy() {
    const LATE: &str = "Not ready within the 90 s that the task had";
    let waits = || report("w1", Outcome::Aborted, None);
    assert_eq!(
        explained(vec![waits(), report("w2", Outcome::Stale, None)], true),
        [
            expect(Code::MemberAborted, LATE),
            expect(Code::DeadlineExceeded, LATE)
        ]
    );
    let policy = "The votes that the policy needs didn't come";
    assert_eq!(
        explained(vec![waits()], false),
        [expect(Code::MemberAborted, policy)]
    );
    // Whoever has a reason of its own keeps it, and whoever committed needs none.
    let own = report("w1", Outcome::Aborted, Some((Code::StateDamaged, "own")));
    let done = report("w2", Outcome::Committed, None);
    assert_eq!(
        explained(vec![own, done], true),
        [expect(Code::StateDamaged, "own"), expect(Code::Bug, "none")]
    );
}

#[test]
fn each_member_is_reported_by_its_fate_and_clocks_by_the_worst() {
    let done = |switched_us, error_us| Done {
        switched_us,
        error_us,
        changed_entries: 0,
        notices: Vec::new(),
    };
    let one = |at, done| Ended {
        at,
        report: MemberReport::new("w", Outcome::Failed),
        vote: Vote::Yes,
        confirmed: false,
        done,
    };
    let fates = BTreeMap::from([
        (0, Fate::Committed),
        (1, Fate::InDoubt),
        (2, Fate::Aborted),
        (3, Fate::Failed),
        (4, Fate::Stale),
        (6, Fate::Committed),
    ]);
    let ended = vec![
        one(0, Some(done(5, 3))),
        one(1, None),
        one(2, None),
        one(3, None),
        one(4, None),
        one(5, None),
        one(6, Some(done(7, 2))),
    ];
    let settled = by_fate(&fates, ended, true);
    assert!(settled.committed);
    assert_eq!(
        (settled.switched_us, settled.clock_error_us),
        (vec![5, 7], 3)
    );
    let outcomes: Vec<_> = settled
        .members
        .iter()
        .map(|(at, report)| (*at, report.outcome))
        .collect();
    let expected = [
        (0, Outcome::Committed),
        (1, Outcome::InDoubt),
        (2, Outcome::Aborted),
        (3, Outcome::Failed),
        (4, Outcome::Stale),
        // Nothing is known of it, so nothing was done.
        (5, Outcome::Aborted),
        (6, Outcome::Committed),
    ];
    assert_eq!(outcomes, expected);
}
