//! The agents that a task talks to: one session each, opened when it is first needed.

use crate::codes::{Code, Problem};
use crate::engine::hub::session::{Session, SessionError};
use crate::engine::hub::task::{Dial, Target};
use crate::model::ServerName;
use std::collections::BTreeMap;
use std::time::Duration;
use sync_proto::wire::service::{ConfigAnswer, ConfigRequest, ServiceFacts};
use sync_proto::wire::{ServiceAnswer, ServiceRequest, Survey, TreeKey};
use tokio::sync::Mutex;

/// How long an agent may take to answer what it only has to look up.
pub const LOOK: Duration = Duration::from_secs(30);
/// How long an agent may take to test, reload and prove.
pub const WORK: Duration = Duration::from_secs(120);

/// Ways to the agents of an inventory.
pub struct Servers {
    hub: String,
    servers: BTreeMap<ServerName, Server>,
}

struct Server {
    dial: Dial,
    /// Requests of one session are answered one after the other.
    session: Mutex<Option<Session>>,
}

impl Servers {
    /// Ways to these agents; `hub` is what they are told we are called.
    pub fn new(hub: &str, targets: Vec<(ServerName, Target)>) -> Self {
        let server = |(name, target): (ServerName, Target)| {
            let session = Mutex::new(None);
            let dial = target.dial;
            (name, Server { dial, session })
        };
        Self {
            hub: hub.to_owned(),
            servers: targets.into_iter().map(server).collect(),
        }
    }

    /// Asks one agent.
    ///
    /// # Errors
    /// It can't be reached, it refuses, or it doesn't answer in time. The message names it.
    pub async fn ask(
        &self,
        name: &ServerName,
        request: ServiceRequest,
        limit: Duration,
    ) -> Result<ServiceAnswer, Problem> {
        self.asked(name, request, limit)
            .await
            .map_err(|problem| about(name, problem))
    }

    async fn asked(
        &self,
        name: &ServerName,
        request: ServiceRequest,
        limit: Duration,
    ) -> Result<ServiceAnswer, Problem> {
        self.session(name, async |session| session.service(request, limit).await)
            .await
    }

    /// Software and version of an agent, and by how many microseconds its clock is ahead of ours.
    ///
    /// # Errors
    /// As [`Servers::ask`].
    pub async fn greeting(&self, name: &ServerName) -> Result<(String, i64), Problem> {
        self.session(name, async |session| {
            let skew_us = session.clock_skew_us().await?;
            Ok((session.facts().software.clone(), skew_us))
        })
        .await
        .map_err(|problem| about(name, problem))
    }

    /// What a server has of a tree.
    ///
    /// # Errors
    /// As [`Servers::ask`].
    pub async fn survey(&self, name: &ServerName, tree: TreeKey) -> Result<Survey, Problem> {
        self.session(name, async |session| session.survey(tree).await)
            .await
            .map_err(|problem| about(name, problem))
    }

    async fn session<T>(
        &self,
        name: &ServerName,
        work: impl AsyncFnOnce(&Session) -> Result<T, SessionError>,
    ) -> Result<T, Problem> {
        let Some(server) = self.servers.get(name) else {
            let message = format!("There is no server `{name}` in the inventory");
            return Err(Problem::new(Code::UnknownServer, message));
        };
        // Held over the answer: requests of one session come one after the other.
        let mut slot = server.session.lock().await;
        let session = match slot.take() {
            Some(session) => session,
            None => {
                let connection = (server.dial)().await?;
                let session = Session::begin(connection, &self.hub).await;
                session.map_err(|error| error.problem())?
            }
        };
        let answer = work(&session).await;
        // After a lost connection the next request dials again.
        if matches!(answer, Ok(_) | Err(SessionError::Refused(_))) {
            *slot = Some(session);
        }
        answer.map_err(|error| error.problem())
    }

    /// What is installed there.
    ///
    /// # Errors
    /// As [`Servers::ask`].
    pub async fn facts(&self, name: &ServerName) -> Result<ServiceFacts, Problem> {
        match self.ask(name, ServiceRequest::Facts, LOOK).await? {
            ServiceAnswer::Facts(facts) => Ok(*facts),
            _ => Err(unexpected(name)),
        }
    }

    /// Asks about configuration sets.
    ///
    /// # Errors
    /// As [`Servers::ask`].
    pub async fn config(
        &self,
        name: &ServerName,
        request: ConfigRequest,
        limit: Duration,
    ) -> Result<ConfigAnswer, Problem> {
        match self
            .ask(name, ServiceRequest::Config(request), limit)
            .await?
        {
            ServiceAnswer::Config(answer) => Ok(answer),
            _ => Err(unexpected(name)),
        }
    }
}

/// An answer to something else.
pub fn unexpected(name: &ServerName) -> Problem {
    let message = format!("{name} answered something else than it was asked");
    Problem::new(Code::ProtocolViolation, message)
}

/// A problem with the name of its server in front, once.
fn about(name: &ServerName, problem: Problem) -> Problem {
    let prefix = format!("{name}: ");
    if problem.message.starts_with(&prefix) {
        return problem;
    }
    let hint = problem.hint().to_owned();
    Problem::new(problem.code, format!("{prefix}{}", problem.message)).with_hint(hint)
}
