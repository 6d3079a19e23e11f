//! The member's end of a session: one request after the other, each in its phase.
//!
//! The control loop never waits for the disk itself; objects are received beside it by a few
//! workers. Whatever a hub sends is refused by name if it isn't due, and the connection closed;
//! what can't be done is refused with a code, and the session goes on.
//!
//! LIMIT: one tree per session, one session per tree, so many objects at once, so long a silence.

mod claims;
mod comparing;
mod lending;
mod objects;
mod staging;

use self::objects::{Current, WORKERS, receive_objects};
use super::fault::point;
use super::fill::{LocalContents, Sources};
use super::host::{Claim, Host, Proposal};
use super::lists;
use super::phase::Phase;
use super::receive::Receiver;
use super::refusal::{of_fs, refusal};
use super::requests;
use super::stage::StageEvent;
use super::staged::Tree;
use super::transaction::Committed;
use crate::codes::{Code, Problem};
use crate::net::{Connection, NetError, Role};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use sync_proto::filter::Scope;
use sync_proto::manifest::Roots;
use sync_proto::path::escape;
use sync_proto::wire::table::Collector;
use sync_proto::wire::{
    self, Decision, Generation, Item, Needs, Notice, Open, PART_BYTES, Plan, Reply, Request,
    Survey, TreeKey, TxnKey, WireError,
};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often progress is told while something moves.
const PROGRESS: Duration = Duration::from_millis(250);
/// LIMIT: a hub that is silent for so long is gone, whatever its transport says.
const SILENCE: Duration = Duration::from_secs(3600);
/// LIMIT: who has a place must say why it came.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// LIMIT: a hub that doesn't take its answers is gone as well.
const TAKING: Duration = Duration::from_secs(120);
/// LIMIT: refusals of one session that are logged.
const MAX_LOGGED: usize = 20;
/// How long a tree that another session has is waited for: the hub may just have left it.
const CLAIM: Duration = Duration::from_secs(3);
/// How long a hub that is to change a tree waits for a session that was left behind: longer than a
/// connection lives without a sign of life.
const TAKE_OVER: Duration = Duration::from_secs(35);
/// LIMIT: how many notices or names of one sort are told.
const MAX_TOLD: usize = 200;
/// The close code after a violation of the protocol.
const VIOLATION: u32 = 3;

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SessionEnd {
    /// The network, or the hub's goodbye.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The hub sent what it shouldn't.
    #[error("{0}")]
    Violation(Problem),
    /// The hub said nothing for too long.
    #[error("The hub was silent for {} s", SILENCE.as_secs())]
    Silent,
    /// The hub doesn't take what it is told.
    #[error("The hub took no answer for {} s", TAKING.as_secs())]
    Deaf,
    /// A peer that may only join has joined.
    #[error("The peer has joined")]
    Joined,
}

/// Serves one connection until it ends.
pub async fn serve(connection: Connection, role: Role, host: Arc<dyn Host>) -> SessionEnd {
    let current = Current::default();
    let workers = Arc::new(Semaphore::new(WORKERS));
    let objects = tokio::spawn(receive_objects(
        connection.clone(),
        current.clone(),
        workers.clone(),
    ));
    let mut session = Session {
        phase: if role == Role::Hub {
            Phase::Greeting
        } else {
            Phase::Joining
        },
        connection,
        host,
        tree: None,
        list: Collector::default(),
        list_room: Vec::new(),
        tree_room: Vec::new(),
        refused_count: 0,
        announced: None,
        running: None,
        scopes: HashMap::new(),
        current,
        workers,
    };
    let end = session.run().await;
    session.stop_staging().await;
    objects.abort();
    if let SessionEnd::Violation(problem) = &end {
        session
            .connection
            .finish(VIOLATION, &problem.code.id())
            .await;
    } else {
        session.connection.finish(0, "").await;
    }
    end
}

struct Session {
    connection: Connection,
    host: Arc<dyn Host>,
    phase: Phase,
    tree: Option<Tree>,
    list: Collector,
    /// Room for the list that comes, and for what came of those that have come.
    list_room: Vec<lists::Place>,
    tree_room: Vec<lists::Place>,
    refused_count: usize,
    announced: Option<(Roots, Vec<u8>)>,
    running: Option<Running>,
    /// The rules under which trees were opened in this session.
    scopes: HashMap<TreeKey, Scope>,
    current: Current,
    workers: Arc<Semaphore>,
}

/// Staging under way.
struct Running {
    receiver: Arc<Receiver>,
    events: UnboundedReceiver<StageEvent>,
    filler: JoinHandle<()>,
    is_filled: bool,
    told: (u64, u64),
}

/// What a request came to: a reply, or none for now.
type Outcome = Option<Reply>;

impl Session {
    async fn run(&mut self) -> SessionEnd {
        loop {
            let step = match self.running.is_some() {
                true => self.step_staging().await,
                false => self.step().await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn step(&mut self) -> Result<(), SessionEnd> {
        let limit = match self.phase {
            Phase::Joining | Phase::Greeting => FIRST_WORD,
            _ => SILENCE,
        };
        let bytes = match tokio::time::timeout(limit, self.connection.recv()).await {
            Ok(bytes) => bytes?,
            Err(_) => return Err(SessionEnd::Silent),
        };
        self.take(&bytes).await
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), SessionEnd> {
        let request: Request = match wire::decode(bytes) {
            Ok(request) => request,
            Err(error) => return self.violation(&error).await,
        };
        if let Err(error) = self.phase.admit(&request) {
            return self.violation(&error).await;
        }
        match self.handle(request).await {
            Ok(Some(reply)) => {
                self.send(&reply).await?;
                if matches!(reply, Reply::Joined { .. }) {
                    return Err(SessionEnd::Joined);
                }
                if matches!(reply, Reply::Done { .. }) {
                    self.after_commit().await;
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            // It is logged as what ended the session.
            Err(problem)
                if problem.code == Code::ProtocolViolation || self.phase == Phase::Joining =>
            {
                self.send(&Reply::Refused(refusal(&problem))).await?;
                Err(SessionEnd::Violation(problem))
            }
            Err(problem) => self.refuse(&problem).await,
        }
    }

    async fn handle(&mut self, request: Request) -> Result<Outcome, Problem> {
        point("member.request").map_err(|error| of_fs(&error))?;
        let reply = match request {
            Request::Hello { versions, .. } => self.hello(versions)?,
            Request::Join { certificate } => {
                self.host.join(self.connection.peer(), &certificate)?;
                Reply::Joined {
                    facts: self.host.facts(),
                }
            }
            Request::Ping => Reply::Pong { now_us: now_us() },
            Request::Service(request) => {
                let host = self.host.clone();
                Reply::Service(host.service(self.connection.peer(), request).await?)
            }
            Request::Bind {
                tree,
                root,
                layout,
                adopt,
            } => {
                let (host, peer) = (self.host.clone(), self.connection.peer());
                let bound = blocking(move || {
                    host.bind(
                        peer,
                        &Proposal {
                            tree,
                            root: &root,
                            layout,
                            adopt,
                        },
                    )
                });
                let bound = bound.await?;
                Reply::Bound {
                    found_entries: bound.found_entries,
                    state_beside_root: bound.state_beside_root,
                    notices: told(bound.notices),
                }
            }
            Request::Settle {
                tree,
                txn,
                decision,
            } => {
                let claim = self.claim_over(tree).await?;
                let done = blocking(move || requests::settle(&claim, txn, decision)).await?;
                done.map_or(
                    Reply::Ok {
                        notices: Vec::new(),
                    },
                    done_reply,
                )
            }
            Request::Survey { tree } => self.survey(tree).await?,
            Request::Open(open) => self.open(open).await?,
            Request::Compare { roots, root_meta } => {
                self.announced = Some((roots, root_meta));
                self.list = Collector::default();
                self.list_room.clear();
                self.tree_room.clear();
                self.phase = Phase::Table;
                return Ok(None);
            }
            Request::Table { part, last } => {
                self.collect(&part)?;
                return if last { self.compare().await } else { Ok(None) };
            }
            Request::Listings { part, last } => {
                self.collect(&part)?;
                if !last {
                    return Ok(None);
                }
                self.plan().await?
            }
            Request::Itemise => return self.itemise().await,
            Request::Lend {
                content,
                offset,
                length,
            } => return self.lend(content, offset, length).await,
            Request::Stage {
                txn,
                generation,
                delete_foreign,
            } => return self.stage(txn, generation, delete_foreign).await,
            Request::Prepare { txn } => {
                let prepared = self.with_tree(move |tree| tree.prepare(txn)).await;
                match prepared {
                    Ok(overwritten) => {
                        self.phase = Phase::Voted;
                        Reply::Voted {
                            overwritten: told(overwritten),
                        }
                    }
                    Err(problem) => {
                        self.phase = Phase::Planned;
                        return Err(problem);
                    }
                }
            }
            Request::Decide { txn, decision } => self.decide(txn, decision).await?,
            Request::Leave => {
                self.leave().await;
                Reply::Ok {
                    notices: Vec::new(),
                }
            }
            Request::Keep { tree, serials } => {
                let claim = self.claim(tree).await?;
                let scope = self.scopes.get(&tree).cloned();
                let notices = blocking(move || requests::keep(&claim, &serials, scope)).await?;
                Reply::Ok {
                    notices: told(notices),
                }
            }
            Request::Release {
                tree,
                rule,
                dry_run,
            } => {
                let claim = self.claim(tree).await?;
                let released = blocking(move || requests::release(&claim, &rule, dry_run));
                let (entries, bytes) = released.await?;
                Reply::Released { entries, bytes }
            }
            Request::Forget { tree } => {
                let claim = self.claim(tree).await?;
                let host = self.host.clone();
                let notices = blocking(move || {
                    let notices = requests::let_go(&claim)?;
                    host.forget(tree)?;
                    Ok(notices)
                });
                Reply::Left {
                    notices: told(notices.await?),
                }
            }
            Request::Delete { tree, root } => {
                let claim = self.claim(tree).await?;
                let (host, scope) = (self.host.clone(), self.scopes.get(&tree).cloned());
                let notices = blocking(move || {
                    let notices = requests::delete(claim, &root, scope)?;
                    host.forget(tree)?;
                    Ok(notices)
                });
                Reply::Left {
                    notices: told(notices.await?),
                }
            }
        };
        Ok(Some(reply))
    }

    fn hello(&mut self, versions: (u16, u16)) -> Result<Reply, Problem> {
        wire::agree(versions)
            .map_err(|error| Problem::from_error(Code::VersionMismatch, &error))?;
        self.phase = Phase::Idle;
        Ok(Reply::Hello {
            versions: wire::VERSIONS,
            facts: self.host.facts(),
            doubts: self.host.doubts(self.connection.peer()),
        })
    }

    async fn survey(&self, tree: TreeKey) -> Result<Reply, Problem> {
        match self.claim(tree).await {
            Ok(claim) => {
                let survey = blocking(move || requests::survey(&claim, tree)).await?;
                Ok(Reply::Survey(survey))
            }
            Err(problem) if problem.code == Code::TreeUnknown => {
                Ok(Reply::Survey(Survey::default()))
            }
            Err(problem) => Err(problem),
        }
    }

    async fn open(&mut self, open: Open) -> Result<Reply, Problem> {
        let claim = match open.fence {
            0 => self.claim(open.tree).await?,
            _ => self.claim_over(open.tree).await?,
        };
        let key = open.tree;
        let tree = blocking(move || Tree::open(claim, &open)).await?;
        let seen = &tree.seen;
        let reply = Reply::Opened {
            generation: seen.live_generation().cloned(),
            observed: seen.roots,
            entries: seen.observed.manifest().entry_count() as u64,
            drift: seen.is_drift(),
            notices: told(seen.notices.clone()),
        };
        self.scopes.insert(key, seen.keeper.scope.clone());
        self.tree = Some(tree);
        self.phase = Phase::Opened;
        Ok(reply)
    }

    async fn decide(&mut self, txn: TxnKey, decision: Decision) -> Result<Reply, Problem> {
        let is_voted = self.phase == Phase::Voted;
        if !is_voted {
            // Only an abort is heard before a vote; nothing but the staging area was written.
            self.leave().await;
            return Ok(Reply::Ok {
                notices: Vec::new(),
            });
        }
        let decided = self.with_tree(move |tree| tree.decide(txn, decision)).await;
        match decided {
            Ok(Some(done)) => {
                self.host.clone().committed().await;
                Ok(done_reply(done))
            }
            Ok(None) => {
                self.leave().await;
                Ok(Reply::Ok {
                    notices: Vec::new(),
                })
            }
            Err(problem) => {
                if problem.code != Code::TransactionOpen {
                    self.leave().await;
                }
                Err(problem)
            }
        }
    }

    /// The hub has been told; what is live is remembered, and the tree let go.
    async fn after_commit(&mut self) {
        if self.tree.is_some() {
            let remembered = self.with_tree(|tree| {
                tree.remember();
                Ok(())
            });
            // A cache; why it can't be written was logged.
            let _logged = remembered.await;
        }
        self.leave().await;
    }

    async fn leave(&mut self) {
        self.stop_staging().await;
        if self.tree.is_some() {
            // A cache; why it can't be written was logged.
            let saved = self.with_tree(|tree| {
                tree.seen.save_look();
                Ok(())
            });
            let _logged = saved.await;
        }
        self.tree = None;
        self.list = Collector::default();
        self.list_room.clear();
        self.tree_room.clear();
        self.phase = Phase::Idle;
    }

    /// Works on the open tree where waiting for the disk is allowed.
    async fn with_tree<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Tree) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(mut tree) = self.tree.take() else {
            return Err(Problem::new(Code::ProtocolViolation, "No tree is open"));
        };
        let joined = tokio::task::spawn_blocking(move || {
            let done = act(&mut tree);
            (tree, done)
        });
        match joined.await {
            Ok((tree, done)) => {
                self.tree = Some(tree);
                done
            }
            Err(error) => Err(Problem::from_error(Code::Bug, &error)),
        }
    }

    async fn send(&self, reply: &Reply) -> Result<(), SessionEnd> {
        let bytes = match wire::encode(reply) {
            Ok(bytes) => bytes,
            Err(error) => {
                let problem = Problem::from_error(Code::Bug, &error);
                wire::encode(&Reply::Refused(refusal(&problem))).unwrap_or_default()
            }
        };
        match tokio::time::timeout(TAKING, self.connection.send(&bytes)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(SessionEnd::Deaf),
        }
    }

    async fn send_quietly(&self, reply: &Reply) -> Result<(), Problem> {
        self.send(reply).await.map_err(|end| lost(&end))
    }

    async fn refuse(&mut self, problem: &Problem) -> Result<(), SessionEnd> {
        let shown = escape(problem.to_string().as_bytes());
        let peer = self.connection.peer();
        self.refused_count += 1;
        if problem.code == Code::TreeUnknown || self.refused_count > MAX_LOGGED {
            // So every first push begins.
            tracing::debug!(%peer, problem = %shown, "refused");
        } else {
            let more = (self.refused_count == MAX_LOGGED).then_some("the session's others are not");
            tracing::warn!(%peer, problem = %shown, logged = more, "refused");
        }
        self.send(&Reply::Refused(refusal(problem))).await
    }

    async fn violation(&self, error: &WireError) -> Result<(), SessionEnd> {
        let code = match error {
            WireError::Unexpected { .. } if self.phase == Phase::Joining => Code::RoleForbidden,
            WireError::Version(..) => Code::VersionMismatch,
            _ => Code::ProtocolViolation,
        };
        let problem = Problem::from_error(code, error);
        self.send(&Reply::Refused(refusal(&problem))).await?;
        Err(SessionEnd::Violation(problem))
    }
}

fn lost(end: &SessionEnd) -> Problem {
    Problem::from_error(Code::SessionLost, end)
}

fn done_reply(done: Committed) -> Reply {
    Reply::Done {
        serial: done.serial,
        switched_us: done.switched_us,
        changed_entries: done.changed_entries,
        notices: told(done.notices),
    }
}

/// As many notices as fit into a message, and how many more there are.
fn told(mut notices: Vec<Notice>) -> Vec<Notice> {
    if notices.len() > MAX_TOLD {
        let more = notices.len() - MAX_TOLD;
        notices.truncate(MAX_TOLD);
        notices.push(Notice {
            code: String::new(),
            path: Vec::new(),
            message: format!("and {more} more"),
        });
    }
    notices
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let joined = tokio::task::spawn_blocking(act).await;
    joined.unwrap_or_else(|error| Err(Problem::from_error(Code::Bug, &error)))
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests;
