//! One database server and the members that use it: the way to its administration account, and
//! what the members see of it.
//!
//! Refuses to guess: where a member can't be asked, its address stays unknown. What a member said
//! is asked once for all sites of a task.

use super::servers::{LOOK, Servers, WORK, unexpected};
use crate::clock::Clock;
use crate::codes::{Code, Problem};
use crate::config::{Db, Server};
use crate::model::{DbVia, ServerName};
use crate::services::database::sql::{Admin, Endpoint};
use crate::services::database::{Desired, Dialect, Operation, SeenFrom};
use crate::store::Store;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use sync_proto::path::escape;
use sync_proto::wire::service::database::{
    DatabaseAnswer, DatabaseApplied, DatabaseFacts, DatabaseLogin, DatabaseQuery, DatabaseRequest,
    DatabaseState, LoggedIn, ProbeAnswer, ProbeRequest,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
use tokio::sync::{Mutex, OnceCell, Semaphore};

/// Sessions of the administration account at a time.
const SESSIONS: usize = 4;

/// The way to the administration account.
#[derive(Debug)]
enum Way {
    /// From here.
    Tcp(Admin),
    /// Through the agent on its machine.
    Agent,
}

type Seen = Arc<OnceCell<Result<SeenFrom, Problem>>>;

/// One database server.
pub struct DatabaseServer {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// What was made is on record here.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Clock,
    /// Its name in the inventory.
    pub name: ServerName,
    /// What the inventory says about it.
    pub db: Db,
    host: String,
    way: Way,
    facts: OnceCell<(DatabaseFacts, Dialect)>,
    seen: Mutex<BTreeMap<ServerName, Seen>>,
    sessions: Semaphore,
}

impl DatabaseServer {
    /// A server of the inventory. `password` is what its `admin` leads to.
    ///
    /// # Errors
    /// It has no database, or no administration account where one is needed.
    pub fn new(
        servers: Arc<Servers>,
        store: Arc<Store>,
        clock: Clock,
        server: &Server,
        password: Option<String>,
    ) -> Result<Self, Problem> {
        let name = &server.name;
        let missing = |message| Problem::new(Code::DatabaseAccountMissing, message);
        let Some(db) = server.db.clone() else {
            return Err(missing(format!("{name} has no `db` in the inventory")));
        };
        let host = db.host.clone();
        let host = host.unwrap_or_else(|| server.address.host().to_owned());
        let way = match (db.via, password) {
            (DbVia::Agent, _) => Way::Agent,
            (DbVia::Tcp, Some(password)) => {
                let endpoint = Endpoint::Tcp {
                    host: host.clone(),
                    port: db.port,
                };
                Way::Tcp(Admin::new(endpoint, &db.admin_user, Some(password)))
            }
            (DbVia::Tcp, None) => {
                let message = format!("No administration account for {name}: `admin` is not set");
                return Err(missing(message)
                    .with_hint(format!("`fanout setup db {name}` makes one and keeps it")));
            }
        };
        Ok(Self {
            servers,
            store,
            clock,
            name: name.clone(),
            db,
            host,
            way,
            facts: OnceCell::new(),
            seen: Mutex::default(),
            sessions: Semaphore::new(SESSIONS),
        })
    }

    /// The name or address by which members reach it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Which server it is; asked once.
    ///
    /// # Errors
    /// It can't be reached, or is none that fanout works on.
    pub async fn facts(&self) -> Result<&(DatabaseFacts, Dialect), Problem> {
        self.facts
            .get_or_try_init(async || {
                let DatabaseAnswer::Facts(facts) = self.ask(DatabaseRequest::Facts).await? else {
                    return Err(unexpected(&self.name));
                };
                let dialect = Dialect::parse(&facts.version)
                    .map_err(|error| Problem::from_error(Code::DatabaseUnsupported, &error))?;
                Ok((facts, dialect))
            })
            .await
    }

    /// What is there.
    ///
    /// # Errors
    /// It can't be reached, or doesn't let the account look.
    pub async fn inspect(&self, query: DatabaseQuery) -> Result<DatabaseState, Problem> {
        match self.ask(DatabaseRequest::Inspect(query)).await? {
            DatabaseAnswer::Inspected(state) => Ok(state),
            _ => Err(unexpected(&self.name)),
        }
    }

    /// Carries out operations up to the first that fails.
    ///
    /// # Errors
    /// It can't be reached. A refusal is in the answer.
    pub async fn apply(&self, operations: Vec<Operation>) -> Result<DatabaseApplied, Problem> {
        if operations.is_empty() {
            return Ok(DatabaseApplied::default());
        }
        match self.ask(DatabaseRequest::Apply { operations }).await? {
            DatabaseAnswer::Applied(applied) => Ok(applied),
            _ => Err(unexpected(&self.name)),
        }
    }

    async fn ask(&self, request: DatabaseRequest) -> Result<DatabaseAnswer, Problem> {
        // The semaphore is never closed.
        let _place = self.sessions.acquire().await;
        match &self.way {
            Way::Tcp(admin) => admin.answer(&request).await.map_err(|error| {
                let problem = error.problem();
                Problem::new(problem.code, format!("{}: {}", self.name, problem.message))
            }),
            Way::Agent => {
                let request = ServiceRequest::Database(request);
                match self.servers.ask(&self.name, request, WORK).await? {
                    ServiceAnswer::Database(answer) => Ok(answer),
                    _ => Err(unexpected(&self.name)),
                }
            }
        }
    }

    /// How the server sees a member; asked once.
    ///
    /// # Errors
    /// The member can't be asked ([`is_silent`]), or its knock failed.
    pub async fn seen_from(&self, member: &ServerName) -> Result<SeenFrom, Problem> {
        let cell = self
            .seen
            .lock()
            .await
            .entry(member.clone())
            .or_default()
            .clone();
        cell.get_or_init(|| self.knock(member)).await.clone()
    }

    async fn knock(&self, member: &ServerName) -> Result<SeenFrom, Problem> {
        let request = ProbeRequest::Address {
            host: self.host.clone(),
            port: self.db.port,
        };
        let ProbeAnswer::Seen(seen) = self.probe(member, request).await? else {
            return Err(unexpected(member));
        };
        let address = |text: &String| -> Result<IpAddr, Problem> {
            text.parse().map_err(|_| {
                let shown = escape(text.as_bytes());
                let message = format!("{member} reports `{shown}`, which is no address");
                Problem::new(Code::DatabaseAddressUnknown, message)
            })
        };
        Ok(SeenFrom {
            address: address(&seen.address)?,
            resolved: seen
                .resolved
                .iter()
                .map(address)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Logs in from a member as the site does.
    ///
    /// # Errors
    /// The member can't be asked, the server can't be reached from there, or it refuses.
    pub async fn login(&self, member: &ServerName, site: &Desired) -> Result<LoggedIn, Denied> {
        let request = ProbeRequest::Login(Box::new(DatabaseLogin {
            host: self.host.clone(),
            port: self.db.port,
            user: site.names.user.clone(),
            password: site.password.clone(),
            database: site.names.database.clone(),
        }));
        let failed = |problem| Denied { number: 0, problem };
        match self.probe(member, request).await.map_err(failed)? {
            ProbeAnswer::LoggedIn(found) if found.role == site.names.role.as_str() => Ok(found),
            ProbeAnswer::LoggedIn(found) => Err(failed(Problem::new(
                Code::DatabaseLoginFailed,
                format!(
                    "{member} is logged in as {} without the role {}",
                    escape(found.account.as_bytes()),
                    site.names.role
                ),
            ))),
            ProbeAnswer::Denied(failure) => Err(Denied {
                number: failure.number,
                problem: Problem::new(
                    Code::DatabaseLoginFailed,
                    format!(
                        "{member} can't log in to the database of {}: {} {}",
                        site.site,
                        failure.number,
                        escape(failure.message.as_bytes())
                    ),
                ),
            }),
            ProbeAnswer::Seen(_) => Err(failed(unexpected(member))),
        }
    }

    async fn probe(
        &self,
        member: &ServerName,
        request: ProbeRequest,
    ) -> Result<ProbeAnswer, Problem> {
        let request = ServiceRequest::DatabaseProbe(request);
        match self.servers.ask(member, request, LOOK).await? {
            ServiceAnswer::DatabaseProbe(answer) => Ok(answer),
            _ => Err(unexpected(member)),
        }
    }
}

/// A login that didn't work.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The server's error number; 0 if it wasn't the server that refused.
    pub number: u16,
    /// For people.
    pub problem: Problem,
}

/// The member itself didn't answer, so nothing is known about its way to the database.
pub fn is_silent(problem: &Problem) -> bool {
    matches!(
        problem.code,
        Code::Unreachable
            | Code::UdpBlocked
            | Code::HandshakeRefused
            | Code::SessionLost
            | Code::NoProgress
            | Code::SshFailed
            | Code::AddressUnresolved
            | Code::NotTrusted
    )
}
