//! Reaching the members: connect, settle what is in doubt, open the tree.

use super::session::{Opened, Session, SessionError};
use super::task::{Target, Task, tell};
use crate::clock::Clock;
use crate::codes::{Code, Problem};
use crate::engine::event::{Event, EventSink, MemberName, Phase};
use crate::model::PlatformName;
use crate::store::{self, Store};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use sync_proto::wire::{Decision, Doubt, Open};

/// A member that answered and has looked at its tree.
#[derive(Debug)]
pub struct Reached {
    /// Its place among the task's targets.
    pub at: usize,
    /// Its name.
    pub name: MemberName,
    /// Its session.
    pub session: Session,
    /// What it saw.
    pub opened: Opened,
    /// The fence it accepted.
    pub fence: u64,
}

/// A member that takes no part.
#[derive(Debug)]
pub struct Unreached {
    /// Its place among the task's targets.
    pub at: usize,
    /// Why.
    pub problem: Problem,
    /// It said itself that it can't. One that was lost while it was asked is as one that was never
    /// reached.
    pub answered: bool,
}

/// Why a member can't be worked on, and whether that is its own word.
#[derive(Debug)]
pub struct Trouble {
    /// Why.
    pub problem: Problem,
    /// It is not merely lost.
    pub answered: bool,
}

impl From<SessionError> for Trouble {
    fn from(error: SessionError) -> Self {
        Self {
            problem: error.problem(),
            answered: !error.is_lost(),
        }
    }
}

impl From<store::StoreError> for Trouble {
    fn from(error: store::StoreError) -> Self {
        Self {
            problem: state_problem(error),
            answered: true,
        }
    }
}

/// What preflight needs besides the task.
#[derive(Clone)]
pub struct Hub {
    /// The state.
    pub store: Arc<Store>,
    /// Where events go.
    pub events: EventSink,
    /// The clock.
    pub clock: Clock,
    /// Platforms whose state may be older than what was decided (it came out of a backup).
    pub outdated: Arc<BTreeSet<PlatformName>>,
}

/// Reaches one member and opens the tree there. `fence` is 0 to look only.
pub async fn reach(
    hub: &Hub,
    task: &Task,
    at: usize,
    target: &Target,
    fence: u64,
) -> Result<Reached, Unreached> {
    let phase = |phase| {
        hub.events.emit(Event::Phase {
            member: target.name.clone(),
            phase,
        });
    };
    phase(Phase::Connecting);
    let unreached = |Trouble { problem, answered }| Unreached {
        at,
        problem,
        answered,
    };
    // Opening in the same breath as greeting: a member in doubt about the tree refuses, and is
    // settled then.
    let connected = greet(hub, task, target, Some(open_request(task, fence))).await;
    let session = connected.map_err(|problem| Unreached {
        at,
        problem,
        answered: false,
    })?;
    phase(Phase::Scanning);
    let (opened, fence) = opened(hub, task, target, &session, fence)
        .await
        .map_err(unreached)?;
    for notice in &opened.notices {
        tell(&hub.events, &target.name, notice);
    }
    Ok(Reached {
        at,
        name: target.name.clone(),
        session,
        opened,
        fence,
    })
}

/// Connects and greets.
pub async fn connect(hub: &Hub, task: &Task, target: &Target) -> Result<Session, Problem> {
    greet(hub, task, target, None).await
}

async fn greet(
    hub: &Hub,
    task: &Task,
    target: &Target,
    open: Option<Open>,
) -> Result<Session, Problem> {
    let began = Instant::now();
    let connection = (target.dial)().await?;
    let session = match open {
        Some(open) => Session::begin_with(connection, &task.hub, open).await,
        None => Session::begin(connection, &task.hub).await,
    };
    let session = session.map_err(|error| error.problem())?;
    tracing::debug!(member = %target.name, elapsed = ?began.elapsed(), "connected");
    let name = &session.facts().name;
    if !name.is_empty() && **name != *target.name {
        hub.events
            .emit(Event::Note(format!("{} calls itself {name}", target.name)));
    }
    Ok(session)
}

/// Answers every doubt that a member has about the task's tree: what was not decided is an abort
/// (I3).
pub async fn settle_doubts(
    hub: &Hub,
    task: &Task,
    session: &Session,
    target: &Target,
) -> Result<(), Trouble> {
    for doubt in session
        .doubts()
        .iter()
        .filter(|doubt| doubt.tree == task.tree)
    {
        settle_doubt(hub, task, session, target, doubt).await?;
    }
    Ok(())
}

async fn settle_doubt(
    hub: &Hub,
    task: &Task,
    session: &Session,
    target: &Target,
    doubt: &Doubt,
) -> Result<(), Trouble> {
    if hub.outdated.contains(&task.platform) && !is_decided(hub, doubt).await? {
        // What this state doesn't know may have been decided after it was saved (I3).
        let problem = Problem::new(
            Code::HubOutdated,
            format!(
                "{} is in doubt about generation #{}, and this hub came out of a backup: it can't \
                 know what was decided until all members have been asked",
                target.name, doubt.serial
            ),
        );
        return Err(Trouble {
            problem,
            answered: true,
        });
    }
    let decision = decide_doubt(hub, task, doubt).await?;
    let notices = session.settle(doubt, decision).await?;
    let word = match decision {
        Decision::Commit => "committed",
        Decision::Abort => "aborted",
    };
    // A line of its own, in cron too: the member may have switched just now.
    hub.events.warn(
        Problem::new(
            Code::MemberInDoubt,
            format!(
                "{} was in doubt about generation #{}: it was {word}",
                target.name, doubt.serial
            ),
        )
        .with_hint("it is settled, nothing needs to be done"),
    );
    for notice in &notices {
        tell(&hub.events, &target.name, notice);
    }
    Ok(())
}

async fn is_decided(hub: &Hub, doubt: &Doubt) -> Result<bool, store::StoreError> {
    let known = hub.store.transaction(&doubt.txn).await?;
    Ok(known.is_some_and(|known| known.decision.is_some()))
}

async fn decide_doubt(
    hub: &Hub,
    task: &Task,
    doubt: &Doubt,
) -> Result<Decision, store::StoreError> {
    // To answer is to call off what wasn't decided: another platform's transaction may be one whose
    // votes are just being collected, and is none of a member's business here.
    let known = hub.store.transaction(&doubt.txn).await?;
    let others = known.filter(|known| known.platform != task.platform);
    let decided = match others {
        Some(known) => known.decision.map_or(store::Decision::Abort, |it| it.0),
        None => hub.store.settle(&doubt.txn, hub.clock.now()).await?,
    };
    Ok(match decided {
        store::Decision::Commit => Decision::Commit,
        store::Decision::Abort => Decision::Abort,
    })
}

fn open_request(task: &Task, fence: u64) -> Open {
    Open {
        tree: task.tree,
        fence,
        level: task.level,
        exclude: task.exclude.clone(),
        preserve: task.preserve.clone(),
        options: task.options,
    }
}

/// Hears what the member says to the `Open` that it was greeted with, and does what it needs first.
async fn opened(
    hub: &Hub,
    task: &Task,
    target: &Target,
    session: &Session,
    fence: u64,
) -> Result<(Opened, u64), Trouble> {
    let mut opened = session.opened().await;
    let is_in_doubt = session.doubts().iter().any(|doubt| doubt.tree == task.tree);
    // Only whoever holds the platform's lock may settle: an answer to a member whose votes are
    // still being collected would abort the push that collects them.
    if fence > 0 && is_in_doubt && refused_with(&opened) == Some(Code::TransactionOpen) {
        settle_doubts(hub, task, session, target).await?;
        opened = session.open(open_request(task, fence)).await;
    }
    let refused = refused_with(&opened);
    let first = match opened {
        Ok(opened) => return Ok((opened, fence)),
        Err(error) => error,
    };
    match refused {
        // A member that sees the tree for the first time; a look doesn't bind anything.
        Some(Code::TreeUnknown) if fence > 0 => {
            let (notices, opened) = session
                .bind_and_open(&task.root, task.layout, open_request(task, fence))
                .await?;
            for notice in &notices {
                tell(&hub.events, &target.name, notice);
            }
            Ok((opened, fence))
        }
        // It voted in a session that was left behind, and could not say so when it was greeted.
        Some(Code::TransactionOpen) if fence > 0 => {
            let survey = session.survey(task.tree).await?;
            if let Some(doubt) = &survey.doubt {
                settle_doubt(hub, task, session, target, doubt).await?;
            }
            let opened = session.open(open_request(task, fence)).await?;
            Ok((opened, fence))
        }
        // The member knows a higher fence than this hub: its state was lost or restored.
        Some(Code::FenceTooOld) => {
            let survey = session.survey(task.tree).await?;
            let fence = hub.store.next_fence(&task.platform, survey.fence).await?;
            let opened = session.open(open_request(task, fence)).await?;
            Ok((opened, fence))
        }
        _ => Err(first.into()),
    }
}

fn refused_with(opened: &Result<Opened, SessionError>) -> Option<Code> {
    match opened {
        Err(SessionError::Refused(refusal)) => refusal.code.parse().ok(),
        _ => None,
    }
}

/// An error of the state database as a person should hear it.
pub fn state_problem(error: store::StoreError) -> Problem {
    error.problem()
}
