//! Whether a member serves its sites as it should: asked on the member itself, as a visitor would.

use crate::codes::{Code, Problem};
use crate::config::{Inventory, Platform, Web};
use crate::model::{ServerName, SiteTls, SiteUri, WebKind};
use crate::orchestrate::servers::{LOOK, Servers, unexpected};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_proto::wire::service::{MemberAnswer, MemberRequest, Probe, Probed};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
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
pub struct Sites {
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
        Self {
            servers,
            sites: sites.collect(),
            webs: webs.collect(),
            before: Mutex::default(),
        }
    }

    /// Notes what members answer now: a site in maintenance, or one that never worked, is no worse
    /// afterwards.
    pub async fn remember(&self, members: &[ServerName]) {
        for name in members {
            for (uri, tls) in &self.sites {
                if let Ok(probed) = self.ask(name, uri, *tls).await
                    && probed.status != 0
                {
                    self.before()
                        .insert((name.clone(), uri.clone()), probed.status);
                }
            }
        }
    }

    /// Has PHP forget what it compiled, on members that no visitor is on: a proof is about the code
    /// that is there, not about what was remembered of it.
    pub(super) async fn forget(&self, members: &[ServerName]) -> Result<(), Problem> {
        for name in members {
            if !self.sites.is_empty() && self.webs.contains_key(name) {
                let request = ServiceRequest::Member(MemberRequest::Forget);
                self.servers.ask(name, request, LOOK).await?;
            }
        }
        Ok(())
    }

    /// Asks each member for each site until it answers as it should.
    ///
    /// # Errors
    /// [`Code::MemberUnproved`], with the site and the answer.
    pub async fn prove(&self, members: &[ServerName]) -> Result<(), Problem> {
        for name in members {
            for (uri, tls) in &self.sites {
                self.prove_one(name, uri, *tls).await?;
            }
        }
        Ok(())
    }

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
