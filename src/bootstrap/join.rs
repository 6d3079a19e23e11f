//! Exchanges keys with an agent by an invitation, over QUIC or over ssh.

use super::ssh::{SshTarget, quoted};
use crate::codes::{Code, Problem};
use crate::engine::hub::problem::net_problem;
use crate::model::{Address, Transport};
use crate::net::stdio::{AGENT_PATH, CONNECT_SCRIPT};
use crate::net::{
    Connection, Identity, Invitation, NetError, NodeKey, Options, Side, Token, TokenError,
};
use crate::proc::Life;
use std::time::Duration;
use sync_proto::wire::{self, Facts, Reply, Request};

/// LIMIT: how long the agent may take to write down who its hub is.
const ANSWER: Duration = Duration::from_secs(10);
/// LIMIT: a login over jump hosts takes longer than a handshake.
const LOGIN: Duration = Duration::from_secs(45);

/// A server that accepts this hub.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The agent's key: nobody else will be accepted in its place.
    pub key: NodeKey,
    /// What the agent says of itself.
    pub facts: Facts,
    /// How it was reached: `quic` or `ssh`.
    pub carrier: Transport,
    /// What a person should know.
    pub notices: Vec<Problem>,
}

/// Becomes the hub of the agent that handed out the token. With `ssh`, what QUIC can't reach is
/// reached over ssh, unless the transport says otherwise.
pub async fn join(
    token: &str,
    hub: &Identity,
    address: &Address,
    transport: Transport,
    ssh: Option<(&SshTarget, Option<&str>)>,
) -> Result<Joined, Problem> {
    let invitation = Token::parse(token).map_err(|error| not_a_token(&error))?;
    let mut notices = Vec::new();
    if transport != Transport::Ssh {
        match over_quic(&invitation, address).await {
            Ok(connection) => {
                let facts = exchange(&connection, hub, address).await?;
                return Ok(Joined {
                    key: invitation.agent,
                    facts,
                    carrier: Transport::Quic,
                    notices,
                });
            }
            Err(error)
                if transport == Transport::Auto && ssh.is_some() && may_be_blocked(&error) =>
            {
                notices.push(blocked(&error, address));
            }
            Err(error) => return Err(unreached(&error, &invitation, address)),
        }
    }
    let Some((target, agent_dir)) = ssh else {
        return Err(Problem::new(
            Code::Usage,
            "A server that is reached over ssh needs `--ssh USER@HOST`",
        ));
    };
    let (connection, life) = connect_over_ssh(
        target,
        agent_dir,
        &invitation.identity,
        invitation.agent,
        &Options::default(),
    )
    .await?;
    let facts = exchange(&connection, hub, address).await;
    connection.finish(0, "joined").await;
    drop(life);
    Ok(Joined {
        key: invitation.agent,
        facts: facts?,
        carrier: Transport::Ssh,
        notices,
    })
}

/// A session with an agent over the system's ssh. The connection ends when the [`Life`] is
/// dropped. `agent_dir` is the agent's directory where it isn't the usual one.
pub async fn connect_over_ssh(
    target: &SshTarget,
    agent_dir: Option<&str>,
    identity: &Identity,
    agent: NodeKey,
    options: &Options,
) -> Result<(Connection, Life), Problem> {
    let (pipe, life) = target.pipe(&connect_command(agent_dir))?.split();
    let mut options = options.clone();
    options.handshake = LOGIN;
    let remote = format!("ssh {}", target.destination);
    let side = Side::Client(agent);
    match Connection::over_pipe(pipe, &remote, identity, side, &options).await {
        Ok(connection) => Ok((connection, life)),
        Err(error) => {
            let said = life.complaint();
            let problem = net_problem(&error);
            Err(match (&error, said.lines().last()) {
                // What ssh or the remote shell said explains more than an end of file.
                (NetError::Lost { .. } | NetError::TimedOut { .. }, Some(last)) => {
                    Problem::new(Code::SshFailed, format!("No session over {remote}: {last}"))
                }
                _ => problem,
            })
        }
    }
}

/// Finds the agent where an installation puts it, of root or of an ordinary user.
fn connect_command(agent_dir: Option<&str>) -> String {
    match agent_dir {
        Some(dir) => format!(
            "{AGENT_PATH}; exec fanout agent connect --dir {}",
            quoted(dir)
        ),
        None => format!("{AGENT_PATH}; {CONNECT_SCRIPT}"),
    }
}

async fn over_quic(invitation: &Invitation, address: &Address) -> Result<Connection, NetError> {
    crate::net::connect(
        address.host(),
        address.port(),
        &invitation.identity,
        invitation.agent,
        &Options::default(),
    )
    .await
}

/// Sends the one message that a token is good for.
async fn exchange(
    connection: &Connection,
    hub: &Identity,
    address: &Address,
) -> Result<Facts, Problem> {
    let request = Request::Join {
        certificate: hub.certificate().to_vec(),
    };
    let request = wire::encode(&request)
        .map_err(|error| Problem::from_error(Code::ProtocolViolation, &error))?;
    let asked = async {
        connection.send(&request).await?;
        connection.recv().await
    };
    let lost = |error: &NetError| spent(error).unwrap_or_else(|| net_problem(error));
    let reply = match tokio::time::timeout(ANSWER, asked).await {
        Ok(reply) => reply.map_err(|error| lost(&error))?,
        Err(_) => {
            return Err(Problem::new(
                Code::SessionLost,
                format!("The agent at {address} did not answer within {ANSWER:?}"),
            ));
        }
    };
    match wire::decode::<Reply>(&reply) {
        Ok(Reply::Joined { facts }) => Ok(facts),
        Ok(other) => Err(Problem::new(
            Code::ProtocolViolation,
            format!("The agent at {address} answered {} to Join", other.name()),
        )),
        Err(error) => Err(Problem::from_error(Code::ProtocolViolation, &error)),
    }
}

fn not_a_token(error: &TokenError) -> Problem {
    Problem::from_error(Code::TokenInvalid, error)
}

/// Worth trying over ssh: nobody answered. A wrong or a refusing peer is no matter of the way.
fn may_be_blocked(error: &NetError) -> bool {
    matches!(
        error,
        NetError::NoAnswer { .. }
            | NetError::NothingListens { .. }
            | NetError::Unreachable { .. }
            | NetError::TimedOut { .. }
            | NetError::Resolve { .. }
    )
}

fn blocked(error: &NetError, address: &Address) -> Problem {
    let problem = Problem::new(
        Code::UdpBlocked,
        format!("UDP to {address} does not get through, using ssh: {error}"),
    );
    match error.hint() {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

fn unreached(error: &NetError, invitation: &Invitation, address: &Address) -> Problem {
    match error {
        NetError::WrongPeer { .. } => Problem::new(
            Code::TokenInvalid,
            format!("The token was made by another agent than the one at {address}"),
        ),
        // An agent that forgot the one-time key can't say more than that it doesn't know it.
        NetError::Refused { .. } | NetError::Lost { .. } => Problem::new(
            Code::TokenSpent,
            format!("The agent at {address} does not accept the token: it was used, or is too old"),
        )
        .with_hint("Make a new one: `fanout agent invite` on the server"),
        _ => match invitation.port {
            Some(port) if port != address.port() => net_problem(error).with_hint(format!(
                "The agent says that it listens on port {port}: is the address right?"
            )),
            _ => net_problem(error),
        },
    }
}

/// An agent that closes after Join says why.
fn spent(error: &NetError) -> Option<Problem> {
    match error {
        NetError::Closed { reason, .. } => Some(Problem::new(
            Code::TokenSpent,
            format!("The agent did not accept the token: {reason}"),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_found_wherever_an_installation_puts_it() {
        assert_eq!(
            connect_command(Some("/opt/a b")),
            "PATH=\"$PATH:/usr/local/bin:$HOME/.local/bin\"; \
             exec fanout agent connect --dir '/opt/a b'"
        );
        assert!(connect_command(None).ends_with("exec fanout agent connect"));
    }

    #[tokio::test]
    async fn a_text_that_is_no_token_is_refused_before_anything_is_sent() {
        let hub = Identity::generate().unwrap();
        let address = "127.0.0.1:9".parse().unwrap();
        let joined = join("hello", &hub, &address, Transport::Auto, None).await;
        assert_eq!(joined.unwrap_err().code, Code::TokenInvalid);
    }
}
