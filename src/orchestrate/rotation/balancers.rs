//! What stands in front of a cluster, asked and told in the way of its kind: HAProxy at run time,
//! nginx by a new configuration, and everybody else's balancer by the members' health endpoints.

use super::Standing;
use crate::codes::{Code, Problem};
use crate::config::Balancer;
use crate::model::{BalancerKind, ServerName};
use crate::orchestrate::servers::{LOOK, Servers, WORK, unexpected};
use crate::services::balancer::{NGINX_FILE, mark_down, marked_down};
use crate::store::OutOfRotation;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::service::{
    BalancerAnswer, BalancerRequest, ConfigAnswer, ConfigArea, ConfigFile, ConfigRequest, Content,
    MemberAnswer, MemberRequest, Rotation, Waited,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a balancer with a new configuration may go unconfirmed, in seconds.
const CONFIRM_WITHIN_S: u32 = 30;
/// Beyond what is waited for over there.
const MARGIN: Duration = Duration::from_secs(15);

/// What stands in front of a cluster.
pub(super) struct Front {
    servers: Arc<Servers>,
    /// None: nobody sends visitors to members by turns, so nobody has to be told.
    pub(super) balancer: Option<Balancer>,
}

impl Front {
    pub(super) fn new(servers: Arc<Servers>, balancer: Option<Balancer>) -> Self {
        Self { servers, balancer }
    }

    /// How each member stands with every balancer.
    pub(super) async fn standing(
        &self,
        members: &[ServerName],
        out: &BTreeMap<ServerName, OutOfRotation>,
    ) -> Result<BTreeMap<ServerName, Standing>, Problem> {
        let mut said: BTreeMap<ServerName, Standing> = members
            .iter()
            .map(|name| (name.clone(), standing(!out.contains_key(name))))
            .collect();
        match &self.balancer {
            Some(balancer) if balancer.kind == BalancerKind::Haproxy => {
                for server in &balancer.servers {
                    let BalancerAnswer::State(state) =
                        self.ask(server, BalancerRequest::State, LOOK).await?
                    else {
                        return Err(unexpected(server));
                    };
                    for (name, standing) in &mut said {
                        let mut is_known = false;
                        for one in &state.members {
                            if one.member != name.as_str() {
                                continue;
                            }
                            is_known = true;
                            standing.serves &= one.is_up && one.rotation == Rotation::Ready;
                            standing.sessions += one.sessions;
                            note(&mut standing.status, &one.status);
                        }
                        if !is_known {
                            standing.serves = false;
                            note(&mut standing.status, &format!("unknown to {server}"));
                        }
                    }
                }
            }
            Some(balancer) if balancer.kind == BalancerKind::Nginx => {
                for server in &balancer.servers {
                    let file = self.nginx(server).await?;
                    for (name, standing) in &mut said {
                        let is_down = marked_down(&file, name);
                        standing.serves &= is_down == Some(false);
                        note(
                            &mut standing.status,
                            match is_down {
                                Some(false) => "listed",
                                Some(true) => "down",
                                None => "not listed",
                            },
                        );
                    }
                }
            }
            None => {}
            Some(_) => {
                for (name, standing) in &mut said {
                    let asked = self.mark(name, MemberRequest::Marked).await;
                    let status = match asked {
                        Ok(false) => "ready",
                        Ok(true) => "marked as out",
                        Err(_) => "unreachable",
                    };
                    standing.serves &= status == "ready";
                    note(&mut standing.status, status);
                }
            }
        }
        Ok(said)
    }

    /// Nothing new for these members, from any balancer.
    pub(super) async fn drain(&self, members: &[ServerName]) -> Result<(), Problem> {
        self.rotate(members, true).await
    }

    /// Their share for these members again, from every balancer.
    pub(super) async fn ready(&self, members: &[ServerName]) -> Result<(), Problem> {
        self.rotate(members, false).await
    }

    async fn rotate(&self, members: &[ServerName], out: bool) -> Result<(), Problem> {
        let Some(balancer) = &self.balancer else {
            return Ok(());
        };
        if balancer.kind == BalancerKind::External {
            for name in members {
                self.mark(name, MemberRequest::Mark { out }).await?;
            }
            return Ok(());
        }
        // Every one is told, whatever the others answer: what one can't be told, the rest know.
        let mut silent = None;
        for server in &balancer.servers {
            let told = match balancer.kind {
                BalancerKind::Nginx => self.rewrite(server, members, out).await,
                _ => self.tell(server, members, out).await,
            };
            silent = silent.or(told.err());
        }
        silent.map_or(Ok(()), Err)
    }

    async fn tell(
        &self,
        server: &ServerName,
        members: &[ServerName],
        out: bool,
    ) -> Result<(), Problem> {
        let to = match out {
            true => Rotation::Drain,
            false => Rotation::Ready,
        };
        for name in members {
            let member = name.to_string();
            self.ask(server, BalancerRequest::Rotate { member, to }, LOOK)
                .await?;
        }
        Ok(())
    }

    /// Waits until no balancer has anything for these members any more.
    pub(super) async fn idle(&self, members: &[ServerName], cut_off: bool) -> Result<(), Problem> {
        let Some(balancer) = &self.balancer else {
            return Ok(());
        };
        if balancer.kind == BalancerKind::External {
            // It can't be asked: the time that the inventory gives it is waited.
            tokio::time::sleep(Duration::from_secs(balancer.drain_timeout_s.into())).await;
            return Ok(());
        }
        let within = Duration::from_secs(balancer.drain_timeout_s.into());
        let until = Instant::now() + within;
        let (server, name, waited) = loop {
            let is_idle =
                |member: String, within_ms: u32| BalancerRequest::AwaitIdle { member, within_ms };
            let left = until.saturating_duration_since(Instant::now());
            let Some((server, name, waited)) = self.wait(members, left, is_idle).await? else {
                return Ok(());
            };
            if !waited.is_lost || left.is_zero() {
                break (server, name, waited);
            }
            tracing::warn!(%server, %name, "the balancer has forgotten who is out, and is told again");
            self.drain(members).await?;
        };
        if cut_off {
            for server in &balancer.servers {
                for name in members {
                    let member = name.to_string();
                    self.ask(server, BalancerRequest::CutOff { member }, LOOK)
                        .await?;
                }
            }
            return Ok(());
        }
        Err(Problem::new(
            Code::MemberBusy,
            format!(
                "{name} still has {} sessions at {server} after {} s",
                waited.sessions,
                within.as_secs()
            ),
        ))
    }

    /// Waits until every balancer finds these members up.
    pub(super) async fn up(&self, members: &[ServerName], within: Duration) -> Result<(), Problem> {
        if self
            .balancer
            .as_ref()
            .is_none_or(|it| it.kind != BalancerKind::Haproxy)
        {
            return Ok(());
        }
        let is_up = |member: String, within_ms: u32| BalancerRequest::AwaitUp { member, within_ms };
        let Some((server, name, waited)) = self.wait(members, within, is_up).await? else {
            return Ok(());
        };
        Err(Problem::new(
            Code::MemberUnproved,
            format!(
                "{server} doesn't find {name} up after {} s, but {}",
                within.as_secs(),
                waited.status
            ),
        ))
    }

    /// Waits at every balancer for every member at once; returns the first for which it was in vain.
    async fn wait(
        &self,
        members: &[ServerName],
        within: Duration,
        request: impl Fn(String, u32) -> BalancerRequest,
    ) -> Result<Option<(ServerName, ServerName, Waited)>, Problem> {
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let mut waiting = JoinSet::new();
        let balancers = self.balancer.iter().flat_map(|it| &it.servers);
        for server in balancers.cloned() {
            // One session answers one question after the other.
            let (servers, members) = (self.servers.clone(), members.to_vec());
            let requests: Vec<BalancerRequest> = members
                .iter()
                .map(|name| request(name.to_string(), within_ms))
                .collect();
            waiting.spawn(async move {
                for (name, request) in members.into_iter().zip(requests) {
                    let request = ServiceRequest::Balancer(request);
                    match servers.ask(&server, request, within + MARGIN).await? {
                        ServiceAnswer::Balancer(BalancerAnswer::Waited(waited)) => {
                            if !waited.is_reached {
                                return Ok(Some((server, name, waited)));
                            }
                        }
                        _ => return Err(unexpected(&server)),
                    }
                }
                Ok(None)
            });
        }
        let mut in_vain = None;
        while let Some(joined) = waiting.join_next().await {
            let waited = joined.map_err(|error| Problem::from_error(Code::Bug, &error))??;
            in_vain = in_vain.or(waited);
        }
        Ok(in_vain)
    }

    async fn ask(
        &self,
        server: &ServerName,
        request: BalancerRequest,
        limit: Duration,
    ) -> Result<BalancerAnswer, Problem> {
        let request = ServiceRequest::Balancer(request);
        match self.servers.ask(server, request, limit).await? {
            ServiceAnswer::Balancer(answer) => Ok(answer),
            _ => Err(unexpected(server)),
        }
    }

    async fn mark(&self, name: &ServerName, request: MemberRequest) -> Result<bool, Problem> {
        let request = ServiceRequest::Member(request);
        match self.servers.ask(name, request, LOOK).await? {
            ServiceAnswer::Member(MemberAnswer::Marked(out)) => Ok(out),
            _ => Err(unexpected(name)),
        }
    }

    /// nginx's file as it is live.
    async fn nginx(&self, server: &ServerName) -> Result<String, Problem> {
        let request = ConfigRequest::Read {
            area: ConfigArea::NginxBalancer,
            name: NGINX_FILE.into(),
        };
        match self.servers.config(server, request, LOOK).await? {
            ConfigAnswer::Read { bytes } => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Err(unexpected(server)),
        }
    }

    /// A new set with the same files but one, in which members are `down` or not.
    async fn rewrite(
        &self,
        server: &ServerName,
        members: &[ServerName],
        out: bool,
    ) -> Result<(), Problem> {
        let old = self.nginx(server).await?;
        let new = mark_down(&old, members, out);
        if new == old {
            return Ok(());
        }
        let ConfigAnswer::State(state) = self
            .servers
            .config(server, ConfigRequest::State, LOOK)
            .await?
        else {
            return Err(unexpected(server));
        };
        let files = state.files.into_iter().map(|file| {
            let is_it = file.area == ConfigArea::NginxBalancer && file.name == NGINX_FILE;
            ConfigFile {
                content: match is_it {
                    true => Content::Bytes(new.clone().into_bytes()),
                    false => Content::Same(file.digest),
                },
                area: file.area,
                name: file.name,
                group: String::new(),
            }
        });
        let set = rand::random();
        let files: Vec<ConfigFile> = files.collect();
        self.config(server, ConfigRequest::Put { set, files })
            .await?;
        if let ConfigAnswer::Tested(tested) =
            self.config(server, ConfigRequest::Test { set }).await?
            && let Some(fault) = tested.faults.first()
        {
            return Err(Problem::new(
                Code::BalancerUnfit,
                format!("{server} refuses its new upstreams: {}", fault.message),
            ));
        }
        let confirm_within_s = CONFIRM_WITHIN_S;
        self.config(
            server,
            ConfigRequest::Activate {
                set,
                confirm_within_s,
            },
        )
        .await?;
        self.config(server, ConfigRequest::Confirm { set }).await?;
        Ok(())
    }

    async fn config(
        &self,
        server: &ServerName,
        request: ConfigRequest,
    ) -> Result<ConfigAnswer, Problem> {
        self.servers.config(server, request, WORK).await
    }
}

fn standing(serves: bool) -> Standing {
    Standing {
        serves,
        status: Vec::new(),
        sessions: 0,
        out: None,
    }
}

fn note(status: &mut Vec<String>, said: &str) {
    if !status.iter().any(|known| known == said) {
        status.push(said.to_owned());
    }
}
