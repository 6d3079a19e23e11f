//! The balancer that runs on this server, told through HAProxy's own socket; and this server as a
//! member: the mark that its health endpoint shows balancers, and a look at its own web server.
//!
//! Refuses a member that the balancer doesn't know, and to ask any address but this machine's own.
//! Invariant: what a member was told is in HAProxy's state file before the answer, so that it
//! survives a reload and a restart.

mod nginx;

use super::Services;
use super::app::opcache::forget_all;
use crate::codes::{Code, Problem};
use crate::fs::durable::write_atomically;
use crate::fs::{Dir, FsError, system};
use crate::net::http::{Question, probe};
use crate::net::local;
use crate::services::balancer::{ADMIN_SOCKET, NGINX_FILE, STATE_FILE, stats};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sync_proto::wire::service::{
    BackendMember, BalancerAnswer, BalancerRequest, BalancerState, MemberAnswer, MemberRequest,
    Probe, Rotation, Waited,
};

/// How long HAProxy may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long its socket may be away while it is restarted.
const RESTART: Duration = Duration::from_secs(5);
/// How often a state is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// LIMIT: the longest wait that a hub may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The file in the data directory whose being there turns the health endpoint off.
pub(super) const DRAIN_MARK: &str = "drain";

/// The run-time side of one HAProxy.
#[derive(Clone, Debug)]
pub struct Haproxy {
    data_root: PathBuf,
}

impl Haproxy {
    /// The one whose socket lies below this directory.
    pub fn new(data_root: &Path) -> Self {
        Self {
            data_root: data_root.to_owned(),
        }
    }

    /// Makes the directory of its socket and of what its members were told.
    ///
    /// # Errors
    /// The disk doesn't take it.
    pub fn prepare(&self) -> Result<(), Problem> {
        let socket = self.data_root.join(ADMIN_SOCKET);
        let made = || {
            let (dir, name) = Dir::open_parent_of(socket.parent().unwrap_or(&self.data_root))?;
            dir.create_dir_if_absent(&name, 0o700).map(drop)
        };
        made().map_err(|error| disk(&error))
    }

    async fn ask(&self, question: &str) -> Result<String, Problem> {
        let socket = self.data_root.join(ADMIN_SOCKET);
        let began = Instant::now();
        let answer = loop {
            let answer = local::ask(&socket, question, ANSWER).await;
            // One that ends while it is asked says half of it or nothing; each question may be asked
            // again.
            let is_away = match &answer {
                Ok(said) => said.is_empty() && question.starts_with("show "),
                Err(error) => matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                ),
            };
            if !is_away || began.elapsed() >= RESTART {
                break answer;
            }
            tokio::time::sleep(LOOK).await;
        };
        answer.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "it has no socket there".to_owned(),
                io::ErrorKind::ConnectionRefused => "it doesn't run".to_owned(),
                _ => error.to_string(),
            };
            Problem::new(
                Code::BalancerSilent,
                format!("HAProxy doesn't answer at {}: {why}", socket.display()),
            )
        })
    }

    /// A command that answers nothing where it worked.
    async fn tell(&self, command: &str) -> Result<(), Problem> {
        let said = self.ask(command).await?;
        match said.trim() {
            "" => Ok(()),
            said => Err(Problem::new(
                Code::BalancerSilent,
                format!("HAProxy refuses `{command}`: {said}"),
            )),
        }
    }

    async fn members(&self) -> Result<Vec<BackendMember>, Problem> {
        let table = self.ask("show stat").await?;
        let mut members = stats::members(&table).map_err(|error| {
            Problem::new(
                Code::BalancerSilent,
                format!("HAProxy's answer can't be read: {error}"),
            )
        })?;
        let used = stats::used_connections(&self.ask("show servers conn").await?);
        let told = stats::told(&self.ask("show servers state").await?);
        for one in &mut members {
            let key = format!("{}/{}", one.backend, one.member);
            if let Some(told) = told.get(&key) {
                one.rotation = *told;
            }
            if let Some(used) = used.get(&key) {
                one.sessions = one.sessions.max(*used);
            }
        }
        Ok(members)
    }

    /// The member in every backend that has it.
    async fn of(&self, member: &str) -> Result<Vec<BackendMember>, Problem> {
        let mut members = self.members().await?;
        members.retain(|one| one.member == member);
        if members.is_empty() {
            return Err(Problem::new(
                Code::NotBehindBalancer,
                format!("The balancer that runs here has no member {member}"),
            ));
        }
        Ok(members)
    }

    /// What it knows.
    pub async fn state(&self) -> Result<BalancerState, Problem> {
        let info = self.ask("show info").await?;
        let of = |name: &str| {
            let mut lines = info.lines();
            let found = lines.find_map(|line| line.strip_prefix(name));
            found.map_or_else(String::new, |value| value.trim().to_owned())
        };
        Ok(BalancerState {
            program: "haproxy".into(),
            version: of("Version:"),
            members: self.members().await?,
            retiring_workers: 0,
        })
    }

    /// The worker that answers: another one after each reload.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn worker(&self) -> Result<String, Problem> {
        let info = self.ask("show info").await?;
        let mut lines = info.lines();
        let pid = lines.find_map(|line| line.strip_prefix("Pid:"));
        Ok(pid.unwrap_or_default().trim().to_owned())
    }

    async fn rotate(&self, member: &str, to: Rotation) -> Result<u32, Problem> {
        let there = self.of(member).await?;
        let word = match to {
            Rotation::Ready => "ready",
            Rotation::Drain => "drain",
            Rotation::Maintenance => "maint",
        };
        for one in &there {
            self.tell(&format!("set server {}/{member} state {word}", one.backend))
                .await?;
        }
        self.save().await?;
        Ok(u32::try_from(there.len()).unwrap_or(u32::MAX))
    }

    /// Writes down what members were told: read by the next workers and after a restart.
    ///
    /// # Errors
    /// HAProxy doesn't answer, or the disk doesn't take it.
    pub async fn save(&self) -> Result<(), Problem> {
        let state = self.ask("show servers state").await?;
        let path = self.data_root.join(STATE_FILE);
        let written = tokio::task::spawn_blocking(move || replace(&path, state.as_bytes())).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(disk(&error)),
            Err(error) => Err(Problem::from_error(Code::Bug, &error)),
        }
    }

    async fn cut_off(&self, member: &str) -> Result<u32, Problem> {
        let there = self.of(member).await?;
        for one in &there {
            self.tell(&format!(
                "shutdown sessions server {}/{member}",
                one.backend
            ))
            .await?;
        }
        Ok(u32::try_from(there.len()).unwrap_or(u32::MAX))
    }

    async fn wait(
        &self,
        member: &str,
        within_ms: u32,
        is_reached: impl Fn(&BackendMember) -> bool,
        is_lost: impl Fn(&BackendMember) -> bool,
    ) -> Result<Waited, Problem> {
        let began = Instant::now();
        let within = Duration::from_millis(u64::from(within_ms)).min(LONGEST_WAIT);
        loop {
            let there = self.of(member).await?;
            let waited = Waited {
                is_reached: there.iter().all(&is_reached),
                is_lost: there.iter().any(&is_lost),
                elapsed_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                sessions: there.iter().map(|one| one.sessions + one.queued).sum(),
                status: there
                    .iter()
                    .find(|one| !is_reached(one))
                    .or(there.first())
                    .map_or_else(String::new, |one| one.status.clone()),
            };
            if waited.is_reached || waited.is_lost || began.elapsed() >= within {
                return Ok(waited);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Services {
    /// About the balancer that runs here.
    pub(super) async fn balancer(
        &self,
        request: BalancerRequest,
    ) -> Result<BalancerAnswer, Problem> {
        if self.is_nginx() {
            return nginx::answer(request).await;
        }
        let haproxy = Haproxy::new(&self.data_root);
        Ok(match request {
            BalancerRequest::State => BalancerAnswer::State(haproxy.state().await?),
            BalancerRequest::Rotate { member, to } => BalancerAnswer::Done {
                backends: haproxy.rotate(known(&member)?, to).await?,
            },
            BalancerRequest::AwaitIdle { member, within_ms } => {
                // One that was started anew without its memory sends visitors again.
                let is_lost = |one: &BackendMember| one.rotation == Rotation::Ready;
                let is_idle =
                    |one: &BackendMember| !is_lost(one) && one.sessions == 0 && one.queued == 0;
                let member = known(&member)?;
                let waited = haproxy.wait(member, within_ms, is_idle, is_lost).await?;
                BalancerAnswer::Waited(waited)
            }
            BalancerRequest::AwaitUp { member, within_ms } => {
                let is_up = |one: &BackendMember| one.is_up && one.rotation == Rotation::Ready;
                let member = known(&member)?;
                let waited = haproxy.wait(member, within_ms, is_up, |_| false).await?;
                BalancerAnswer::Waited(waited)
            }
            BalancerRequest::CutOff { member } => BalancerAnswer::Done {
                backends: haproxy.cut_off(known(&member)?).await?,
            },
        })
    }

    /// Is it nginx that balances here?
    fn is_nginx(&self) -> bool {
        let live = self.data_root.parent().map(|it| it.join("current"));
        let file = live.map(|it| it.join("nginx-balancer").join(NGINX_FILE));
        file.is_some_and(|it| system::exists(&it))
    }

    /// About this server as a member.
    pub(super) async fn as_member(&self, request: MemberRequest) -> Result<MemberAnswer, Problem> {
        match request {
            MemberRequest::Marked => Ok(MemberAnswer::Marked(
                self.data_root.join(DRAIN_MARK).exists(),
            )),
            MemberRequest::Mark { out } => {
                let path = self.data_root.join(DRAIN_MARK);
                let marked = tokio::task::spawn_blocking(move || mark(&path, out)).await;
                match marked {
                    Ok(Ok(())) => Ok(MemberAnswer::Marked(out)),
                    Ok(Err(error)) => Err(disk(&error)),
                    Err(error) => Err(Problem::from_error(Code::Bug, &error)),
                }
            }
            MemberRequest::Probe(probe) => look(probe).await,
            MemberRequest::Forget => Ok(MemberAnswer::Forgotten(forget_all().await?)),
        }
    }
}

/// Through the loopback interface: a hub can't have this server ask anybody else.
async fn look(wanted: Probe) -> Result<MemberAnswer, Problem> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if wanted.host.is_empty() || !wanted.host.chars().all(is_name) {
        return Err(Problem::new(Code::NameInvalid, "A probe needs a host name"));
    }
    let is_path = |c: char| c.is_ascii_graphic();
    if !wanted.path.starts_with('/') || !wanted.path.chars().all(is_path) {
        return Err(Problem::new(
            Code::NameInvalid,
            "A probe needs a path that begins with `/`",
        ));
    }
    let within = Duration::from_millis(u64::from(wanted.within_ms)).min(LONGEST_WAIT);
    let question = Question {
        at: SocketAddr::from((Ipv4Addr::LOCALHOST, wanted.port)),
        tls: wanted.tls,
        host: wanted.host,
        path: wanted.path,
        head: wanted.head,
        forwarded_tls: wanted.forwarded_tls,
        within,
    };
    Ok(MemberAnswer::Probed(Box::new(probe(&question).await)))
}

/// A name that HAProxy's socket takes as one word.
fn known(member: &str) -> Result<&str, Problem> {
    match member.parse::<crate::model::ServerName>() {
        Ok(_) => Ok(member),
        Err(error) => Err(Problem::from_error(Code::NameInvalid, &error)),
    }
}

fn mark(path: &Path, out: bool) -> Result<(), FsError> {
    let (dir, name) = Dir::open_parent_of(path)?;
    match out {
        true => write_atomically(&dir, &name, b"Left out of rotation by fanout.\n", 0o644),
        false => match dir.unlink(&name) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        },
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let (dir, name) = Dir::open_parent_of(path)?;
    write_atomically(&dir, &name, bytes, 0o644)
}

fn disk(error: &FsError) -> Problem {
    Problem::from_error(Code::DiskError, error)
}
