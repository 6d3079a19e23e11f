use super::*;
use crate::clock::{Clock, UnixMillis};
use crate::codes::{Code, Exit, Problem};
use crate::model::ServerName;
use crate::store::{NewTask, StepState, Store};
use std::sync::{Arc, Mutex};

/// What happened, in order.
type Journal = Arc<Mutex<Vec<String>>>;

/// Something that is true once it was applied.
struct Fact {
    name: &'static str,
    member: Option<ServerName>,
    is_true: Mutex<bool>,
    fails: bool,
    stays: bool,
    is_final: bool,
    is_away: bool,
    is_unclear: bool,
    follows: bool,
    journal: Journal,
}

impl Fact {
    fn new(name: &'static str, journal: &Journal) -> Self {
        Self {
            name,
            member: None,
            is_true: Mutex::new(false),
            fails: false,
            stays: false,
            is_final: false,
            is_away: false,
            is_unclear: false,
            follows: false,
            journal: journal.clone(),
        }
    }

    fn note(&self, what: &str) {
        self.journal
            .lock()
            .unwrap()
            .push(format!("{what} {}", self.name));
    }
}

impl Resource for Fact {
    fn describe(&self) -> String {
        self.name.into()
    }

    fn member(&self) -> Option<&ServerName> {
        self.member.as_ref()
    }

    fn follows(&self) -> bool {
        self.follows
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            for (is_so, code) in [
                (self.is_away, Code::Unreachable),
                (self.is_unclear, Code::ProtocolViolation),
            ] {
                if is_so {
                    return Err(Problem::new(code, "no"));
                }
            }
            let is_true = *self.is_true.lock().unwrap();
            Ok(Difference {
                changes: match is_true || self.follows {
                    true => Vec::new(),
                    false => vec![Change::new(Sign::Add, "it")],
                },
                seen: is_true.to_string(),
                irreversible: self
                    .is_final
                    .then(|| format!("{} can't be undone", self.name)),
                ..Difference::default()
            })
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            self.note("apply");
            if self.fails {
                return Err(Problem::new(Code::CommitFailed, "no"));
            }
            *self.is_true.lock().unwrap() = true;
            Ok(Applied {
                undo: (!self.stays && !self.follows).then(String::new),
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async {
            self.note("undo");
            *self.is_true.lock().unwrap() = false;
            Ok(())
        })
    }
}

async fn record(dir: &tempfile::TempDir) -> Record {
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let task = NewTask {
        kind: "apply".into(),
        target: "everything".into(),
        who: "alice".into(),
        command_line: "fanout apply".into(),
        started: UnixMillis(1),
    };
    let task = store.start_task(&task).await.unwrap();
    Record {
        store: Arc::new(store),
        task,
        clock: Clock::system(),
    }
}

async fn states(record: &Record) -> Vec<(String, StepState)> {
    let steps = record.store.steps(record.task).await.unwrap();
    steps
        .into_iter()
        .map(|step| (step.title, step.state))
        .collect()
}

#[tokio::test]
async fn steps_run_in_their_order_and_what_is_true_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let there = Fact::new("there", &journal);
    *there.is_true.lock().unwrap() = true;
    let a = graph.add(Place::default(), Arc::new(Fact::new("a", &journal)), &[]);
    let there = graph.add(Place::default(), Arc::new(there), &[a]);
    let b = graph.add(
        Place::default(),
        Arc::new(Fact::new("b", &journal)),
        &[there],
    );
    graph.add(
        Place::default(),
        Arc::new(Fact::new("c", &journal)),
        &[a, b],
    );
    let plan = graph.clone().inspect().await;
    assert_eq!(plan.counts().added, 3);
    let record = record(&dir).await;
    let outcome = run(&plan, OnFailure::Undo, &record, &|_| {}).await.unwrap();
    assert_eq!(outcome.exit(), Exit::Done);
    assert_eq!(*journal.lock().unwrap(), ["apply a", "apply b", "apply c"]);
    let again = graph.inspect().await;
    assert!(again.is_empty());
    assert_ne!(again.fingerprint(), plan.fingerprint());
}

#[tokio::test]
async fn after_a_failure_what_was_done_is_taken_back_the_last_first() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let mut lasting = Fact::new("lasting", &journal);
    lasting.stays = true;
    let mut failing = Fact::new("failing", &journal);
    failing.fails = true;
    let a = graph.add(Place::default(), Arc::new(Fact::new("a", &journal)), &[]);
    let b = graph.add(Place::default(), Arc::new(Fact::new("b", &journal)), &[a]);
    let lasting = graph.add(Place::default(), Arc::new(lasting), &[b]);
    let failing = graph.add(Place::default(), Arc::new(failing), &[lasting]);
    graph.add(
        Place::default(),
        Arc::new(Fact::new("never", &journal)),
        &[failing],
    );
    let plan = graph.inspect().await;
    let record = record(&dir).await;
    let outcome = run(&plan, OnFailure::Undo, &record, &|_| {}).await.unwrap();
    assert_eq!(outcome.exit(), Exit::Partial, "one step stays done");
    assert_eq!(outcome.failure().unwrap().code, Code::CommitFailed);
    let journal = journal.lock().unwrap().clone();
    let expected = [
        "apply a",
        "apply b",
        "apply lasting",
        "apply failing",
        "undo b",
        "undo a",
    ];
    assert_eq!(journal, expected);
    use StepState::{Done, Failed, Skipped, Undone};
    let expected = [
        ("a", Undone),
        ("b", Undone),
        ("lasting", Done),
        ("failing", Failed),
        ("never", Skipped),
    ];
    assert_eq!(
        states(&record).await,
        expected.map(|(name, state)| (name.to_owned(), state))
    );
}

#[tokio::test]
async fn where_the_rest_goes_on_only_what_comes_after_a_failure_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let mut failing = Fact::new("failing", &journal);
    failing.fails = true;
    let failing = graph.add(Place::default(), Arc::new(failing), &[]);
    graph.add(
        Place::default(),
        Arc::new(Fact::new("after", &journal)),
        &[failing],
    );
    graph.add(
        Place::default(),
        Arc::new(Fact::new("beside", &journal)),
        &[],
    );
    let plan = graph.inspect().await;
    let record = record(&dir).await;
    let outcome = run(&plan, OnFailure::Continue, &record, &|_| {})
        .await
        .unwrap();
    assert_eq!(outcome.exit(), Exit::Partial);
    let journal = journal.lock().unwrap().clone();
    assert!(journal.contains(&"apply beside".to_owned()));
    assert!(!journal.contains(&"apply after".to_owned()));
    assert!(!journal.iter().any(|line| line.starts_with("undo")));
}

#[tokio::test]
async fn servers_with_the_same_changes_are_shown_once() {
    let journal = Journal::default();
    let mut graph = Graph::default();
    for server in ["web1", "web2"] {
        let mut fact = Fact::new("configuration", &journal);
        fact.member = Some(server.parse().unwrap());
        graph.add(Place::default(), Arc::new(fact), &[]);
    }
    graph.add(
        Place::default(),
        Arc::new(Fact::new("database", &journal)),
        &[],
    );
    let groups = graph.inspect().await.groups();
    assert_eq!(groups.len(), 2);
    let members: Vec<&str> = groups[0].members.iter().map(ServerName::as_str).collect();
    assert_eq!(members, ["web1", "web2"]);
    assert!(groups[1].members.is_empty());
}

#[tokio::test]
async fn which_server_serves_what_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let server: ServerName = "web1".parse().unwrap();
    let sites = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.parse().unwrap())
            .collect::<Vec<_>>()
    };
    let both = sites(&["a.example", "b.example"]);
    store
        .set_served(&server, &both, UnixMillis(1))
        .await
        .unwrap();
    let one = sites(&["b.example"]);
    store
        .set_served(&server, &one, UnixMillis(2))
        .await
        .unwrap();
    assert_eq!(store.served().await.unwrap(), [(server, one[0].clone())]);
}

/// Members with a staged and a switched step each, after what they share; journal and outcome.
async fn deploy(
    fate: impl Fn(&str) -> Fate,
    on_failure: OnFailure,
    change: impl Fn(&str, &mut Fact),
) -> (Vec<String>, Outcome) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let mut add = |name: &'static str, place: Place, after: &[NodeId]| {
        let mut fact = Fact::new(name, &journal);
        change(name, &mut fact);
        graph.add(place, Arc::new(fact), after)
    };
    let own = Place::default();
    let database = add("database", own.clone(), &[]);
    let mut proofs = Vec::new();
    for [staged, live, proof, member] in [
        ["staged 1", "live 1", "proof 1", "web1"],
        ["staged 2", "live 2", "proof 2", "web2"],
    ] {
        let place = Place {
            fate: fate(member),
            may_be_absent: true,
            ..Place::default()
        };
        let staged = add(staged, place.clone(), &[]);
        let live = add(live, place.within(Phase::Switch), &[staged, database]);
        proofs.push(add(proof, place.within(Phase::Switch), &[live]));
    }
    let settle = own.within(Phase::Settle);
    add("balancer", settle.clone(), &[]);
    add("clean", settle, &proofs);
    let plan = graph.inspect().await;
    let record = record(&dir).await;
    let outcome = run(&plan, on_failure, &record, &|_| {}).await.unwrap();
    let lines = journal.lock().unwrap().clone();
    (lines, outcome)
}

fn alone(member: &str) -> Fate {
    Fate::Member(member.parse().unwrap())
}

fn together(_member: &str) -> Fate {
    Fate::Together(1)
}

fn failing(which: &'static str) -> impl Fn(&str, &mut Fact) {
    move |name, fact| fact.fails = name == which
}

/// What is done and was not undone, by name.
fn left(lines: &[String], outcome: &Outcome) -> Vec<String> {
    let failed = outcome.states.iter().filter(|it| **it == StepState::Failed);
    assert!(failed.count() <= 1);
    let undone = |name: &str| lines.iter().any(|line| *line == format!("undo {name}"));
    let names = lines.iter().filter_map(|line| line.strip_prefix("apply "));
    let mut left: Vec<String> = names
        .filter(|name| !undone(name))
        .map(str::to_owned)
        .collect();
    left.sort();
    left
}

#[tokio::test]
async fn nothing_is_switched_anywhere_before_everything_is_prepared_everywhere() {
    let (lines, outcome) = deploy(alone, OnFailure::Undo, |_, _| {}).await;
    assert_eq!(outcome.exit(), Exit::Done);
    let at = |name: &str| lines.iter().position(|it| it.ends_with(name)).unwrap();
    for prepared in ["database", "staged 1", "staged 2"] {
        for switched in ["live 1", "live 2"] {
            assert!(at(prepared) < at(switched), "{lines:?}");
        }
    }
    assert!(
        at("balancer") > at("proof 1").max(at("proof 2")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_failure_while_things_are_prepared_leaves_everything_as_it_was() {
    for fate in [alone, together] {
        for step in ["staged 2", "database"] {
            let (lines, outcome) = deploy(fate, OnFailure::Undo, failing(step)).await;
            assert_eq!(left(&lines, &outcome), [step], "{lines:?}");
            assert!(!lines.iter().any(|it| it.contains("live")), "{lines:?}");
            assert_eq!(outcome.exit(), Exit::Failed);
            assert!(outcome.failed_alone.is_empty());
        }
    }
}

#[tokio::test]
async fn a_failure_while_members_switch_takes_back_those_that_decide_together() {
    let (lines, outcome) = deploy(together, OnFailure::Undo, failing("proof 2")).await;
    // What all members share is nobody's fate, and does no harm.
    let expected = ["balancer", "database", "proof 2"];
    assert_eq!(left(&lines, &outcome), expected, "{lines:?}");
    assert!(lines.contains(&"undo live 1".to_owned()));
    assert!(outcome.failed_alone.is_empty());
    // A proof of what was taken back proves nothing.
    let (_, outcome) = deploy(together, OnFailure::Undo, |name, fact| {
        fact.fails = name == "proof 2";
        fact.follows = name.starts_with("proof");
    })
    .await;
    let proofs = outcome.steps.iter().filter(|it| it.title == "proof 1");
    let states: Vec<StepState> = proofs.map(|it| it.state).collect();
    assert_eq!(states, [StepState::Undone]);
    assert!(!lines.contains(&"apply clean".to_owned()));
}

#[tokio::test]
async fn a_member_that_decides_for_itself_goes_back_alone() {
    let (lines, outcome) = deploy(alone, OnFailure::Undo, failing("proof 2")).await;
    let expected = [
        "balancer", "database", "live 1", "proof 1", "proof 2", "staged 1",
    ];
    assert_eq!(left(&lines, &outcome), expected, "{lines:?}");
    let names: Vec<&str> = outcome.failed_alone.keys().map(|it| it.as_str()).collect();
    assert_eq!(names, ["web2"]);
    assert_eq!(outcome.exit(), Exit::Partial);
    // Whatever is taken away for good waits until all members are proved.
    assert!(!lines.contains(&"apply clean".to_owned()));
}

#[tokio::test]
async fn what_cant_be_undone_keeps_its_members_from_going_back() {
    let (lines, outcome) = deploy(together, OnFailure::Undo, |name, fact| {
        fact.fails = name == "proof 2";
        fact.is_final = name == "live 1";
    })
    .await;
    assert!(!lines.iter().any(|it| it.starts_with("undo")), "{lines:?}");
    assert_eq!(outcome.kept, ["live 1 can't be undone"]);
    assert_eq!(outcome.exit(), Exit::Partial);
}

#[tokio::test]
async fn a_server_that_is_away_is_left_behind_and_stops_nobody() {
    let away = |name: &str, fact: &mut Fact| fact.is_away = name.ends_with('2');
    let (lines, outcome) = deploy(together, OnFailure::Undo, away).await;
    for done in ["apply proof 1", "apply balancer"] {
        assert!(lines.contains(&done.to_owned()), "{lines:?}");
    }
    assert!(!lines.iter().any(|it| it.starts_with("undo")), "{lines:?}");
    assert_eq!(outcome.exit(), Exit::Partial);
}

#[tokio::test]
async fn what_could_not_be_looked_at_stops_everything_before_it_begins() {
    let lost = |name: &str, fact: &mut Fact| fact.is_unclear = name == "live 2";
    let (lines, outcome) = deploy(alone, OnFailure::Undo, lost).await;
    assert_eq!(lines, [] as [&str; 0]);
    assert_eq!(outcome.exit(), Exit::Failed);
    // Whoever wants to go on nevertheless gets everything that doesn't need it.
    let (lines, outcome) = deploy(alone, OnFailure::Continue, lost).await;
    assert!(lines.contains(&"apply proof 1".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"apply clean".to_owned()), "{lines:?}");
    assert_eq!(outcome.exit(), Exit::Partial);
}
