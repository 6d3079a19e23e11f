//! Whether a member serves its sites as it should: asked on the member itself, as a visitor would.

use crate::codes::{Code, Problem};
use crate::config::{Inventory, Platform, Web};
use crate::model::{ServerName, SiteTls, SiteUri, WebKind};
use crate::orchestrate::servers::{LOOK, Servers, unexpected};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_proto::wire::service::{MemberAnswer, MemberRequest, Probe, Probed};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a member may take to warm up until each site answers.
const WARM: Duration = Duration::from_secs(10);
/// How long one page may take.
const PAGE: Duration = Duration::from_secs(20);
/// Between two questions to a member that doesn't answer as it should yet.
const AGAIN: Duration = Duration::from_millis(200);
/// How often each site is asked for after it has answered: what is compiled and cached at the first
/// visits, no visitor has to wait for.
const ROUNDS: usize = 3;

/// The sites that members are asked for.
#[derive(Clone)]
pub struct Sites(Arc<Asked>);

struct Asked {
    servers: Arc<Servers>,
    sites: Vec<(SiteUri, SiteTls)>,
    webs: BTreeMap<ServerName, Web>,
    /// What each member answered before it was changed.
    before: Mutex<BTreeMap<(ServerName, SiteUri), u16>>,
}

impl Sites {
    /// Every site of these platforms.
    pub fn of(inventory: &Inventory, platforms: &[&Platform], servers: Arc<Servers>) -> Self {
        let sites = platforms
            .iter()
            .flat_map(|platform| inventory.sites_of(&platform.name))
            .map(|site| (site.uri.clone(), site.tls));
        let webs = inventory
            .servers
            .values()
            .filter_map(|server| Some((server.name.clone(), server.web.clone()?)));
        Self(Arc::new(Asked {
            servers,
            sites: sites.collect(),
            webs: webs.collect(),
            before: Mutex::default(),
        }))
    }

    /// True if there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.0.sites.is_empty()
    }

    /// Notes what members answer now: a site in maintenance, or one that never worked, is no worse
    /// afterwards.
    pub async fn remember(&self, members: &[ServerName]) {
        self.remember_if(members, |status| status != 0).await;
    }

    /// The same of sites that are closed: going back is to mend all others.
    pub async fn remember_closed(&self, members: &[ServerName]) {
        self.remember_if(members, |status| status == 503).await;
    }

    async fn remember_if(&self, members: &[ServerName], counts: fn(u16) -> bool) {
        let answers = self.on_each(members, |asked, name| async move {
            for (uri, tls) in &asked.sites {
                if let Ok(probed) = asked.ask(&name, uri, *tls).await
                    && counts(probed.status)
                {
                    let of = (name.clone(), uri.clone());
                    asked.before().insert(of, probed.status);
                }
            }
        });
        answers.await;
    }

    /// Members at the same time, with what came of each in their order.
    async fn on_each<T, F>(
        &self,
        members: &[ServerName],
        work: impl Fn(Arc<Asked>, ServerName) -> F,
    ) -> Vec<(ServerName, T)>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut working = JoinSet::new();
        for name in members {
            let one = work(self.0.clone(), name.clone());
            let name = name.clone();
            working.spawn(async move { (name, one.await) });
        }
        let mut done = Vec::new();
        while let Some(joined) = working.join_next().await {
            done.extend(joined.ok());
        }
        let place = |name: &ServerName| members.iter().position(|member| member == name);
        done.sort_by_key(|(name, _)| place(name));
        done
    }

    /// Has PHP forget what it compiled, on members that no visitor is on: a proof is about the code
    /// that is there, not about what was remembered of it.
    pub(super) async fn forget(&self, members: &[ServerName]) -> Result<(), Problem> {
        for name in members {
            if !self.is_empty() && self.0.webs.contains_key(name) {
                let request = ServiceRequest::Member(MemberRequest::Forget);
                self.0.servers.ask(name, request, LOOK).await?;
            }
        }
        Ok(())
    }

    /// Asks each member for each site until it answers as it should.
    ///
    /// # Errors
    /// [`Code::MemberUnproved`], with the site and the answer.
    pub async fn prove(&self, members: &[ServerName]) -> Result<(), Problem> {
        let unproved = self.unproved(members).await;
        unproved
            .into_iter()
            .next()
            .map_or(Ok(()), |(_, it)| Err(it))
    }

    /// The members that don't answer as they should, each with the first site and the answer.
    pub async fn unproved(&self, members: &[ServerName]) -> Vec<(ServerName, Problem)> {
        let proved = self.on_each(members, |asked, name| async move {
            for (uri, tls) in &asked.sites {
                asked.prove_one(&name, uri, *tls).await?;
            }
            Ok(())
        });
        let failed = |(name, proved): (_, Result<(), Problem>)| Some((name, proved.err()?));
        proved.await.into_iter().filter_map(failed).collect()
    }

    /// The members that don't answer as they should at the first question.
    pub async fn failing(&self, members: &[ServerName]) -> Vec<ServerName> {
        let asked = self.on_each(members, |asked, name| async move {
            for (uri, tls) in &asked.sites {
                let probed = asked.ask(&name, uri, *tls).await;
                if !probed.is_ok_and(|probed| as_expected(probed.status)) {
                    return true;
                }
            }
            false
        });
        let failing = asked
            .await
            .into_iter()
            .filter(|(_, is_failing)| *is_failing);
        failing.map(|(name, _)| name).collect()
    }
}

impl Asked {
    async fn prove_one(
        &self,
        name: &ServerName,
        uri: &SiteUri,
        tls: SiteTls,
    ) -> Result<(), Problem> {
        let until = Instant::now() + WARM;
        let before = self.before().get(&(name.clone(), uri.clone())).copied();
        let mut rounds = 0;
        loop {
            let probed = self.ask(name, uri, tls).await?;
            if as_expected(probed.status) || before == Some(probed.status) {
                rounds += 1;
                if rounds == ROUNDS {
                    return Ok(());
                }
                continue;
            }
            if Instant::now() >= until {
                return Err(Problem::new(
                    Code::MemberUnproved,
                    format!("{name}: {uri} {}", said(&probed)),
                ));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask(&self, name: &ServerName, uri: &SiteUri, tls: SiteTls) -> Result<Probed, Problem> {
        let Some(web) = self.webs.get(name) else {
            return Err(Problem::new(
                Code::MemberUnproved,
                format!("{name} serves no web, so {uri} can't be asked there"),
            ));
        };
        let has_tls = matches!(web.kind, WebKind::NginxSsl | WebKind::ApacheSsl);
        let is_tls = has_tls && tls != SiteTls::Off;
        let path = uri
            .subdirectory()
            .map_or_else(|| "/".into(), |at| format!("/{at}/"));
        let probe = Probe {
            port: if is_tls { web.https } else { web.http },
            tls: is_tls,
            host: uri.host().to_owned(),
            path,
            head: false,
            forwarded_tls: !is_tls && tls != SiteTls::Off,
            within_ms: u32::try_from(PAGE.as_millis()).unwrap_or(u32::MAX),
        };
        let request = ServiceRequest::Member(MemberRequest::Probe(probe));
        match self.servers.ask(name, request, PAGE + LOOK).await? {
            ServiceAnswer::Member(MemberAnswer::Probed(probed)) => Ok(*probed),
            _ => Err(unexpected(name)),
        }
    }

    fn before(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ServerName, SiteUri), u16>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that says that a site works: a page, a redirect, or a question for a password.
pub const fn as_expected(status: u16) -> bool {
    matches!(status, 200..=399 | 401)
}

fn said(probed: &Probed) -> String {
    match probed.status {
        0 => format!("doesn't answer: {}", probed.error),
        status => format!("answers {status}"),
    }
}
