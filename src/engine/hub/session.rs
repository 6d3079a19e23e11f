//! The hub's end of one member's session: asks, waits within limits, and sends what is needed.
//!
//! Methods are in the order of the protocol. Every wait has a limit of our own: a member that
//! makes no progress for [`IDLE`] is given up, whatever it says. That a member is gone is the
//! connection's own finding, and ends a wait at once.

mod opening;

use super::encode::{EncodeError, Encoder};
use super::sending::{Order, Sent, send_ordered};
use crate::net::error::code;
use crate::net::{Connection, NetError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sync_proto::manifest::Roots;
use sync_proto::wire::{
    self, Decision, Doubt, Facts, Generation, Need, Notice, Open, Refusal, Reply, Request,
    ServiceAnswer, ServiceRequest, TreeKey, TxnKey, WireError,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A member that makes no progress for so long is given up.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a member may take to look at its tree, or to make everything durable and vote.
pub const PREPARE: Duration = Duration::from_secs(300);
/// LIMIT: how often a member may ask for one content.
const MAX_ASKED: u8 = 2;
/// How often the clocks are compared before a vote.
const PINGS: usize = 3;
/// How often whoever watches is told how far it is.
const TICK: Duration = Duration::from_millis(200);

/// Why a session can't go on.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The member said what it shouldn't.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The member refuses.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The member is silent.
    #[error("No progress for {} s while {doing}", .limit.as_secs())]
    Silent {
        /// What it was asked to do.
        doing: &'static str,
        /// Our limit.
        limit: Duration,
    },
    /// The hub can't make what the member needs.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a member says after it has looked at its tree.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its live generation, as committed.
    pub generation: Option<Generation>,
    /// What is there.
    pub observed: Roots,
    /// Entries seen.
    pub entries: u64,
    /// What is there isn't what was committed.
    pub drift: bool,
    /// Things worth saying.
    pub notices: Vec<Notice>,
}

/// A commit that was carried out.
#[derive(Clone, Debug)]
pub struct Done {
    /// When the member switched, Unix microseconds by the hub's clock.
    pub switched_us: i64,
    /// How far that may be off.
    pub error_us: i64,
    /// Entries changed.
    pub changed_entries: u64,
    /// Things worth saying.
    pub notices: Vec<Notice>,
}

/// What a member reports while it stages.
#[derive(Clone, Copy, Debug)]
pub enum Staging {
    /// So many objects will be sent, with so many contents in them.
    Needs {
        /// Contents needed.
        contents: u64,
        /// Their size before compression.
        raw_bytes: u64,
    },
    /// Content that was handed to the connection, before compression.
    Sent {
        /// So far.
        sent_bytes: u64,
        /// In all, as far as the member said what it needs.
        needed_bytes: u64,
    },
    /// Entries and bytes in place.
    Progress {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
}

/// One member's session.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    facts: Facts,
    doubts: Vec<Doubt>,
    clock_offset_us: i64,
    clock_error_us: i64,
    content_bytes: Arc<AtomicU64>,
}

impl Session {
    /// Greets the member.
    pub async fn begin(connection: Connection, hub: &str) -> Result<Self, SessionError> {
        Self::greet(connection, hub, None).await
    }

    /// Greets the member and has it open a tree in the same breath; [`Self::opened`] brings the
    /// answer, and must be called before anything else is asked.
    pub async fn begin_with(
        connection: Connection,
        hub: &str,
        open: Open,
    ) -> Result<Self, SessionError> {
        Self::greet(connection, hub, Some(open)).await
    }

    async fn greet(
        connection: Connection,
        hub: &str,
        open: Option<Open>,
    ) -> Result<Self, SessionError> {
        let mut session = Self {
            connection,
            facts: Facts::default(),
            doubts: Vec::new(),
            clock_offset_us: 0,
            clock_error_us: 0,
            content_bytes: Arc::default(),
        };
        let hello = Request::Hello {
            versions: wire::VERSIONS,
            software: software(),
            hub: hub.into(),
        };
        session.send(&hello).await?;
        if let Some(open) = open {
            session.send(&Request::Open(open)).await?;
        }
        match session.receive("greeting", IDLE).await? {
            Reply::Hello {
                versions,
                facts,
                doubts,
            } => {
                wire::agree(versions)?;
                // LIMIT: a tree has one open transaction at most.
                let trees: BTreeSet<TreeKey> = doubts.iter().map(|doubt| doubt.tree).collect();
                if trees.len() != doubts.len() {
                    return Err(malformed("two doubts about one tree"));
                }
                session.facts = facts;
                session.doubts = doubts;
                Ok(session)
            }
            other => Err(unexpected(&other, "Hello")),
        }
    }

    /// What the member says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The transactions that it must have settled.
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// Bytes of content among what was sent, as encoded.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes.load(Ordering::Relaxed)
    }

    /// The connection underneath.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction and sends whatever the member needs, until everything is in place.
    pub async fn stage(
        &self,
        txn: TxnKey,
        generation: Generation,
        delete_foreign: bool,
        encoder: &Arc<Encoder>,
        report: impl Fn(Staging),
    ) -> Result<Vec<Notice>, SessionError> {
        self.send(&Request::Stage {
            txn,
            generation,
            delete_foreign,
        })
        .await?;
        let (orders, waiting) = mpsc::unbounded_channel();
        let raw_bytes = Arc::new(AtomicU64::new(0));
        let sender = send_ordered(
            self.connection.clone(),
            encoder.clone(),
            waiting,
            Sent {
                content_bytes: self.content_bytes.clone(),
                raw_bytes: raw_bytes.clone(),
            },
        );
        tokio::pin!(sender);
        let (mut needed_contents, mut needed_bytes) = (0, 0);
        let mut tick = tokio::time::interval(TICK);
        let count = encoder.contents().len() as u32;
        let mut asked = vec![0_u8; encoder.contents().len()];
        let mut in_place = (0, 0);
        // Bytes that flow are progress, even where no message says so.
        let mut moved = self.moved_bytes();
        let (mut told_bytes, mut silent_at) = (0, Instant::now() + IDLE);
        loop {
            let reply = tokio::select! {
                reply = self.connection.recv() => reply?,
                _ = tick.tick() => {
                    if std::mem::replace(&mut moved, self.moved_bytes()) != moved {
                        silent_at = Instant::now() + IDLE;
                    }
                    let sent_bytes = raw_bytes.load(Ordering::Relaxed).min(needed_bytes);
                    if std::mem::replace(&mut told_bytes, sent_bytes) != sent_bytes {
                        report(Staging::Sent { sent_bytes, needed_bytes });
                    }
                    continue;
                }
                result = &mut sender => {
                    result?;
                    // The sender ends only when its orders do, which is when we return.
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => {
                    // Who waits for what another member supplies is no reason to give up.
                    if encoder.is_searching() {
                        silent_at = Instant::now() + IDLE;
                        continue;
                    }
                    return Err(SessionError::Silent { doing: "staging", limit: IDLE });
                }
            };
            match decode(&reply)? {
                Reply::Need { needs, last: _ } => {
                    silent_at = Instant::now() + IDLE;
                    let mut all: Vec<(u32, Need)> = Vec::new();
                    for (index, need) in needs.iter(count) {
                        // LIMIT: a content is asked for once, and once more if its check failed.
                        match asked.get_mut(index as usize) {
                            Some(times) if *times < MAX_ASKED => *times += 1,
                            _ => return Err(malformed("a content is asked for again and again")),
                        }
                        all.push((index, need));
                    }
                    if all.is_empty() {
                        return Err(malformed("a need of nothing"));
                    }
                    let sizes = all
                        .iter()
                        .filter_map(|(i, _)| encoder.contents().get(*i as usize));
                    needed_contents += all.len() as u64;
                    needed_bytes += sizes.map(|content| content.size).sum::<u64>();
                    report(Staging::Needs {
                        contents: needed_contents,
                        raw_bytes: needed_bytes,
                    });
                    let whole = all
                        .iter()
                        .filter(|(_, need)| *need == Need::Whole)
                        .map(|(i, _)| *i);
                    for key in encoder.whole(whole)? {
                        let _sender_gone = orders.send(Order::Object(key));
                    }
                    for (index, need) in all.into_iter().filter(|(_, need)| *need != Need::Whole) {
                        let _sender_gone = orders.send(Order::Particular(index, need));
                    }
                }
                Reply::Progress {
                    staged_entries,
                    staged_bytes,
                } => {
                    let before = std::mem::replace(&mut in_place, (staged_entries, staged_bytes));
                    // To say the same again is no progress.
                    if in_place > before {
                        silent_at = Instant::now() + IDLE;
                    }
                    report(Staging::Progress {
                        entries: staged_entries,
                        bytes: staged_bytes,
                    });
                }
                Reply::Staged { notices } => return Ok(notices),
                Reply::Refused(refusal) => return Err(SessionError::Refused(refusal)),
                other => return Err(unexpected(&other, "Staged")),
            }
        }
    }

    /// Has everything made durable; `Ok` is a vote of yes. Before, in the same breath, measures how
    /// the member's clock differs from ours, as the best of three says.
    pub async fn prepare(&mut self, txn: TxnKey) -> Result<Vec<Notice>, SessionError> {
        let mut pings = [0; PINGS];
        for sent in &mut pings {
            *sent = now_us();
            self.send(&Request::Ping).await?;
        }
        self.send(&Request::Prepare { txn }).await?;
        let mut best = i64::MAX;
        for sent in pings {
            let theirs = match self.receive("a ping", IDLE).await? {
                Reply::Pong { now_us } => now_us,
                other => return Err(unexpected(&other, "Pong")),
            };
            let error = (now_us() - sent) / 2;
            if error < best {
                best = error;
                self.clock_offset_us = theirs - (sent + error);
                self.clock_error_us = error;
            }
        }
        match self.receive("preparing", PREPARE).await? {
            Reply::Voted { overwritten } => Ok(overwritten),
            other => Err(unexpected(&other, "Voted")),
        }
    }

    /// True where the way to the member and back takes long.
    pub fn is_long_way(&self) -> bool {
        self.connection.is_long_way()
    }

    /// By how many microseconds the member's clock is ahead of ours, as one ping shows it.
    pub async fn clock_skew_us(&self) -> Result<i64, SessionError> {
        let sent = now_us();
        match self.ask(&Request::Ping, "a ping", IDLE).await? {
            Reply::Pong { now_us: theirs } => Ok(theirs - (sent + now_us()) / 2),
            other => Err(unexpected(&other, "Pong")),
        }
    }

    /// Tells the decision `commit` and waits until it is carried out.
    pub async fn commit(&self, txn: TxnKey) -> Result<Done, SessionError> {
        let request = Request::Decide {
            txn,
            decision: Decision::Commit,
        };
        match self.ask(&request, "committing", PREPARE).await? {
            Reply::Done {
                switched_us,
                changed_entries,
                notices,
                ..
            } => Ok(Done {
                switched_us: switched_us - self.clock_offset_us,
                error_us: self.clock_error_us,
                changed_entries,
                notices,
            }),
            other => Err(unexpected(&other, "Done")),
        }
    }

    /// Tells the decision `abort`, and waits so long for it to be confirmed. It may overtake what
    /// the member was still saying.
    pub async fn abort(&self, txn: TxnKey, limit: Duration) -> Result<(), SessionError> {
        let silent = || SessionError::Silent {
            doing: "aborting",
            limit,
        };
        let told = tokio::time::timeout(limit, self.tell_abort(txn)).await;
        told.unwrap_or_else(|_| Err(silent()))
    }

    async fn tell_abort(&self, txn: TxnKey) -> Result<(), SessionError> {
        let decision = Decision::Abort;
        self.send(&Request::Decide { txn, decision }).await?;
        loop {
            match self.receive("aborting", PREPARE).await? {
                Reply::Ok { .. } => return Ok(()),
                Reply::Need { .. }
                | Reply::Progress { .. }
                | Reply::Staged { .. }
                | Reply::Pong { .. }
                | Reply::Voted { .. } => {}
                other => return Err(unexpected(&other, "Ok")),
            }
        }
    }

    /// Gives the member up: whatever it still does in this session, nobody waits for it.
    pub fn detach(&self) {
        let connection = &self.connection;
        connection.close(code::CANCELLED, "the hub goes on without this member");
    }

    /// Ends work on a tree without a transaction.
    pub async fn leave(&self) -> Result<(), SessionError> {
        self.expect_ok(&Request::Leave, "leaving").await.map(drop)
    }

    /// Says which generations are kept.
    pub async fn keep(
        &self,
        tree: TreeKey,
        serials: Vec<u64>,
    ) -> Result<Vec<Notice>, SessionError> {
        self.expect_ok(
            &Request::Keep { tree, serials },
            "collecting old generations",
        )
        .await
    }

    /// Narrows the preserve rules; entries and bytes that the rule protected.
    pub async fn release(
        &self,
        tree: TreeKey,
        rule: &str,
        dry_run: bool,
    ) -> Result<(u64, u64), SessionError> {
        let request = Request::Release {
            tree,
            rule: rule.into(),
            dry_run,
        };
        match self.ask(&request, "releasing a rule", PREPARE).await? {
            Reply::Released { entries, bytes } => Ok((entries, bytes)),
            other => Err(unexpected(&other, "Released")),
        }
    }

    /// Has the tree forgotten; what stays where.
    pub async fn forget(&self, tree: TreeKey) -> Result<Vec<Notice>, SessionError> {
        self.expect_left(&Request::Forget { tree }).await
    }

    /// Has the tree removed; what stays where.
    pub async fn delete(&self, tree: TreeKey, root: &[u8]) -> Result<Vec<Notice>, SessionError> {
        self.expect_left(&Request::Delete {
            tree,
            root: root.into(),
        })
        .await
    }

    /// Asks about the member's services, and waits `limit` for the answer.
    pub async fn service(
        &self,
        request: ServiceRequest,
        limit: Duration,
    ) -> Result<ServiceAnswer, SessionError> {
        let request = Request::Service(request);
        match self.ask(&request, "working on its services", limit).await? {
            Reply::Service(answer) => Ok(answer),
            other => Err(unexpected(&other, "Service")),
        }
    }

    async fn expect_left(&self, request: &Request) -> Result<Vec<Notice>, SessionError> {
        match self.ask(request, "removing", PREPARE).await? {
            Reply::Left { notices } => Ok(notices),
            other => Err(unexpected(&other, "Left")),
        }
    }

    async fn expect_ok(
        &self,
        request: &Request,
        doing: &'static str,
    ) -> Result<Vec<Notice>, SessionError> {
        match self.ask(request, doing, PREPARE).await? {
            Reply::Ok { notices } => Ok(notices),
            other => Err(unexpected(&other, "Ok")),
        }
    }

    async fn ask(
        &self,
        request: &Request,
        doing: &'static str,
        limit: Duration,
    ) -> Result<Reply, SessionError> {
        self.send(request).await?;
        self.receive(doing, limit).await
    }

    async fn send(&self, request: &Request) -> Result<(), SessionError> {
        let bytes = wire::encode(request)?;
        match tokio::time::timeout(IDLE, self.connection.send(&bytes)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(SessionError::Silent {
                doing: "taking a message",
                limit: IDLE,
            }),
        }
    }

    async fn receive(&self, doing: &'static str, limit: Duration) -> Result<Reply, SessionError> {
        match tokio::time::timeout(limit, self.connection.recv()).await {
            Ok(bytes) => match decode(&bytes?)? {
                Reply::Refused(refusal) => Err(SessionError::Refused(refusal)),
                reply => Ok(reply),
            },
            Err(_) => Err(SessionError::Silent { doing, limit }),
        }
    }

    fn moved_bytes(&self) -> u64 {
        self.connection.stats().sent_bytes
    }
}

fn decode(bytes: &[u8]) -> Result<Reply, SessionError> {
    Ok(wire::decode(bytes)?)
}

fn malformed(what: &str) -> SessionError {
    WireError::Malformed(what.into()).into()
}

fn unexpected(got: &Reply, expected: &'static str) -> SessionError {
    WireError::Unexpected {
        got: got.name(),
        expected,
    }
    .into()
}

/// Name and version of this software, for the other side's messages.
pub fn software() -> String {
    concat!("fanout ", env!("CARGO_PKG_VERSION")).into()
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
