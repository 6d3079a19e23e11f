//! The way to a member: QUIC, or the same session through the system's ssh.
//!
//! Whoever answers must have the pinned key, whichever way it is reached, so neither a name
//! service nor ssh is trusted with anything. `auto` tries QUIC first; where no packet comes back
//! and an ssh destination is known, it goes over ssh and says which firewall rule would help.

use super::problem::net_problem;
use super::task::Dial;
use crate::codes::{Code, Problem};
use crate::engine::event::{EventSink, MemberName};
use crate::model::{Address, SshDestination, Transport};
use crate::net::stdio::{AGENT_PATH, CONNECT_SCRIPT};
use crate::net::{Connection, Identity, NetError, NodeKey, Options, Side, connect};
use crate::proc::{Life, PipedIo, Program};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long ssh may take to log in, jump hosts and a passphrase typed by hand included.
const LOGIN: Duration = Duration::from_secs(60);
/// How long ssh has to say on standard error why it ended.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// What to run instead of `ssh`, as words of a shell: for tests, and for wrappers.
const SSH_VARIABLE: &str = "FANOUT_SSH";

/// A hub sends objects and takes none.
fn options() -> Options {
    Options {
        objects_open_max: 0,
        ..Options::default()
    }
}

/// How one member is reached.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: MemberName,
    /// Its agent's address.
    pub address: Address,
    /// The key that it must have.
    pub key: NodeKey,
    /// Which way.
    pub transport: Transport,
    /// The way by ssh, where there is one.
    pub ssh: Option<SshRoute>,
}

/// The way by ssh.
#[derive(Clone, Debug)]
pub struct SshRoute {
    /// What ssh is given.
    pub destination: SshDestination,
    /// Become root over there by `sudo`.
    pub sudo: bool,
}

impl SshRoute {
    /// What the login shell is told: carry a session to the agent, wherever an installation puts
    /// it, of root or of an ordinary user.
    fn command(&self) -> Result<String, String> {
        let script = format!("{AGENT_PATH}; {CONNECT_SCRIPT}");
        let quoted = shlex::try_quote(&script).map_err(|error| error.to_string())?;
        let sudo = if self.sudo { "sudo -n " } else { "" };
        Ok(format!("{sudo}sh -c {quoted}"))
    }
}

/// The way to a member as the engine takes it.
pub fn dial(route: Route, identity: Identity, events: EventSink) -> Dial {
    let route = Arc::new(route);
    Arc::new(move || {
        let (route, identity, events) = (route.clone(), identity.clone(), events.clone());
        Box::pin(async move { reach(&route, &identity, &events).await })
    })
}

/// A way that leads nowhere, and why.
pub fn nowhere(problem: Problem) -> Dial {
    Arc::new(move || {
        let problem = problem.clone();
        Box::pin(async move { Err(problem) })
    })
}

/// Connects by the route's way.
pub async fn reach(
    route: &Route,
    identity: &Identity,
    events: &EventSink,
) -> Result<Connection, Problem> {
    let ssh = match (route.transport, &route.ssh) {
        (Transport::Ssh, Some(ssh)) => return over_ssh(route, ssh, identity).await,
        (Transport::Ssh, None) => {
            return Err(Problem::new(
                Code::SshFailed,
                format!("{} is to be reached over ssh and has no `ssh`", route.name),
            ));
        }
        (Transport::Quic, _) | (Transport::Auto, None) => None,
        (Transport::Auto, Some(ssh)) => Some(ssh),
    };
    let error = match over_quic(route, identity).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let problem = about(&route.name, net_problem(&error));
    match ssh {
        Some(ssh) if is_blocked(&error) => {
            let connection = over_ssh(route, ssh, identity).await.map_err(|other| {
                // Both ways fail: what UDP says is the more telling, unless ssh got further.
                Problem::new(
                    problem.code,
                    format!("{}; {}", problem.message, other.message),
                )
                .with_hint(other.hint().to_owned())
            })?;
            events.warn(
                Problem::new(
                    Code::UdpBlocked,
                    format!(
                        "{}: UDP doesn't get through, so it goes over ssh, which is slower",
                        route.name
                    ),
                )
                .with_hint(firewall_rule(&route.name, route.address.port())),
            );
            Ok(connection)
        }
        _ => Err(problem),
    }
}

/// The rule that would let the hub's packets in.
pub fn firewall_rule(name: &str, port: u16) -> String {
    format!(
        "on {name} and in any firewall before it let UDP port {port} in: `ufw allow {port}/udp`, \
         or `nft add rule inet filter input udp dport {port} accept`"
    )
}

/// Nothing came back, or something on the way said no: ssh may get through.
fn is_blocked(error: &NetError) -> bool {
    matches!(
        error,
        NetError::NoAnswer { .. } | NetError::NothingListens { .. } | NetError::Unreachable { .. }
    )
}

async fn over_quic(route: &Route, identity: &Identity) -> Result<Connection, NetError> {
    let (host, port) = (route.address.host(), route.address.port());
    connect(host, port, identity, route.key, &options()).await
}

async fn over_ssh(
    route: &Route,
    ssh: &SshRoute,
    identity: &Identity,
) -> Result<Connection, Problem> {
    let failed = |text: String| about(&route.name, Problem::new(Code::SshFailed, text));
    let program = ssh_program(ssh).map_err(failed)?;
    let (io, life) = program
        .pipe()
        .map_err(|error| about(&route.name, Problem::from_error(Code::SshFailed, &error)))?
        .split();
    let life = Arc::new(life);
    let pipe = SshPipe {
        io,
        _life: life.clone(),
    };
    let options = Options {
        handshake: LOGIN,
        ..options()
    };
    let remote = format!("ssh {}", ssh.destination);
    let made =
        Connection::over_pipe(pipe, &remote, identity, Side::Client(route.key), &options).await;
    match made {
        Ok(connection) => Ok(connection),
        Err(error @ (NetError::Refused { .. } | NetError::WrongPeer { .. })) => {
            Err(about(&route.name, net_problem(&error)))
        }
        Err(error) => {
            tokio::time::sleep(LAST_WORDS).await;
            let complaint = life.complaint();
            Err(failed(match last_words(&complaint) {
                "" => format!("over {remote}: {error}"),
                said => format!("over {remote}: {said}"),
            }))
        }
    }
}

/// What ssh, or the agent behind it, said in the end; the agent's hints are about its own machine.
fn last_words(complaint: &str) -> &str {
    let mut lines = complaint.lines().map(str::trim);
    lines
        .rfind(|line| !line.is_empty() && !line.starts_with("hint: "))
        .unwrap_or_default()
}

/// `ssh`, or what the environment says instead, with everything but the keys and hosts of the
/// person's own configuration.
pub fn ssh_words() -> Result<Vec<String>, String> {
    match std::env::var(SSH_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => {
            shlex::split(&text).ok_or_else(|| format!("{SSH_VARIABLE} is not a command: {text}"))
        }
        _ => Ok(vec!["ssh".into()]),
    }
}

fn ssh_program(ssh: &SshRoute) -> Result<Program, String> {
    let words = ssh_words()?;
    let (name, rest) = words.split_first().ok_or("there is no ssh to run")?;
    Ok(Program::new(name)
        .args(rest)
        .args([
            "-T",
            "-o",
            "ClearAllForwardings=yes",
            "-o",
            "ConnectTimeout=15",
        ])
        .args([
            "-o",
            "ServerAliveInterval=10",
            "-o",
            "ServerAliveCountMax=3",
        ])
        .arg(ssh.destination.as_str())
        .arg(ssh.command()?)
        // A passphrase is asked for on the terminal, if there is one; in cron ssh fails by itself.
        .keep_terminal())
}

fn about(name: &str, problem: Problem) -> Problem {
    Problem {
        message: format!("{name}: {}", problem.message),
        ..problem
    }
}

/// ssh's pipes, with the program itself, which ends when they do.
struct SshPipe {
    io: PipedIo,
    _life: Arc<Life>,
}

impl AsyncRead for SshPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for SshPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn what_went_wrong_behind_ssh_is_told_and_not_the_hint_about_it() {
        let agent = "error: No agent was prepared here [FX0018]\nhint: fanout agent init\n\n";
        assert_eq!(
            last_words(agent),
            "error: No agent was prepared here [FX0018]"
        );
        assert_eq!(
            last_words("Permission denied (publickey).\r\n"),
            "Permission denied (publickey)."
        );
        assert_eq!(last_words(""), "");
    }
}
