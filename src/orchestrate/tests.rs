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

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            let is_true = *self.is_true.lock().unwrap();
            Ok(Difference {
                changes: match is_true {
                    true => Vec::new(),
                    false => vec![Change::new(Sign::Add, "it")],
                },
                seen: is_true.to_string(),
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
                undo: (!self.stays).then(String::new),
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
    let a = graph.add(Arc::new(Fact::new("a", &journal)), &[]);
    let there = graph.add(Arc::new(there), &[a]);
    let b = graph.add(Arc::new(Fact::new("b", &journal)), &[there]);
    graph.add(Arc::new(Fact::new("c", &journal)), &[a, b]);
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
    let a = graph.add(Arc::new(Fact::new("a", &journal)), &[]);
    let b = graph.add(Arc::new(Fact::new("b", &journal)), &[a]);
    let lasting = graph.add(Arc::new(lasting), &[b]);
    let failing = graph.add(Arc::new(failing), &[lasting]);
    graph.add(Arc::new(Fact::new("never", &journal)), &[failing]);
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
    let failing = graph.add(Arc::new(failing), &[]);
    graph.add(Arc::new(Fact::new("after", &journal)), &[failing]);
    graph.add(Arc::new(Fact::new("beside", &journal)), &[]);
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
        graph.add(Arc::new(fact), &[]);
    }
    graph.add(Arc::new(Fact::new("database", &journal)), &[]);
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
