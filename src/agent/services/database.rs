//! What an agent does about databases: the local server's accounts for a hub (offer `db`), and a
//! member's look at the server that its sites use (offer `web` or `app`).
//!
//! Refuses: names of the server's own accounts and schemas, which don't parse. The administration
//! account is the one that `[database]` of `agent.toml` names; no hub sees its password.

use crate::codes::{Code, Problem};
use crate::config::LocalDatabase;
use crate::net::mysql::{KnockError, knock};
use crate::services::database::sql::{Admin, Endpoint, try_login};
use std::net::SocketAddr;
use sync_proto::wire::service::database::{
    DatabaseAnswer, DatabaseRequest, ProbeAnswer, ProbeRequest, SeenAddress,
};

/// LIMIT: a host name has 253 characters.
const HOST_MAX: usize = 253;

/// Works on the database server of this machine.
pub(super) async fn administer(
    database: &LocalDatabase,
    request: &DatabaseRequest,
) -> Result<DatabaseAnswer, Problem> {
    let password = database
        .password()
        .map_err(|error| Problem::from_error(Code::SecretExposed, &error))?;
    let endpoint = match database.port {
        None => Endpoint::Socket(database.socket_path().to_owned()),
        Some(port) => Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
    };
    let admin = Admin::new(endpoint, &database.user, password);
    admin.answer(request).await.map_err(|error| error.problem())
}

/// Looks at a database server from here.
pub(super) async fn probe(request: &ProbeRequest) -> Result<ProbeAnswer, Problem> {
    let host = match request {
        ProbeRequest::Address { host, .. } => host,
        ProbeRequest::Login(login) => &login.host,
    };
    if host.len() > HOST_MAX {
        return Err(Problem::new(
            Code::ProtocolViolation,
            "A host name is too long",
        ));
    }
    match request {
        ProbeRequest::Address { host, port } => {
            let seen = knock(host, *port)
                .await
                .map_err(|error| knock_problem(&error))?;
            Ok(ProbeAnswer::Seen(SeenAddress {
                address: seen.address.to_string(),
                resolved: seen.resolved.iter().map(ToString::to_string).collect(),
                server: seen.server.to_string(),
                number: seen.number,
            }))
        }
        ProbeRequest::Login(login) => {
            let tried = try_login(login).await;
            tried.map_err(|error| Problem::from_error(Code::DatabaseLoginFailed, &error))
        }
    }
}

fn knock_problem(error: &KnockError) -> Problem {
    let problem = Problem::from_error(Code::DatabaseAddressUnknown, error);
    match error {
        KnockError::LetsAnybodyIn { .. } => {
            problem.with_hint("remove the anonymous accounts of the database: DROP USER ''@'...'")
        }
        KnockError::Other { number: 1129, .. } => {
            problem.with_hint("the database has blocked this address: FLUSH HOSTS there")
        }
        KnockError::Named { .. } => problem.with_hint(
            "set skip-name-resolve in the database's configuration, or declare `addresses`",
        ),
        KnockError::Io { at, .. } | KnockError::Silent { at } if is_here(at) => {
            let message = format!("The database's name leads to {at} here, where nothing answers");
            Problem::new(Code::DatabaseAddressRefused, message)
        }
        _ => problem,
    }
}

fn is_here(at: &str) -> bool {
    at.parse::<SocketAddr>()
        .is_ok_and(|at| at.ip().is_loopback())
}
