//! A site's application, as the hub asks its members about it.

use super::desired::app_site;
use super::servers::{Servers, unexpected};
use crate::codes::{Code, Problem};
use crate::config::{Platform, Site};
use crate::model::{ServerName, SiteUri};
use crate::services::app::{AppSite, has_settings, settings_name};
use crate::services::web::pool_user;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::service::{
    AppAction, AppAnswer, AppDone, AppDriver, AppRequest, AppState, AppTarget,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest, TreeKey};

/// How long a look at a site may take.
pub const LOOK: Duration = Duration::from_secs(60);
/// How long an action of an application may take.
pub const ACT: Duration = Duration::from_secs(900);
/// What an answer may take on its way, beyond the action itself.
const MARGIN: Duration = Duration::from_secs(15);

/// One site's application.
#[derive(Clone)]
pub struct Application {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// The site as its driver sees it.
    pub site: AppSite,
    /// The same, as members are told.
    pub target: AppTarget,
}

impl Application {
    /// The application of a site, from the inventory.
    pub fn new(
        servers: Arc<Servers>,
        site: &Site,
        platform: &Platform,
        tree: TreeKey,
        driver: AppDriver,
    ) -> Self {
        let app = app_site(site, platform, driver);
        let target = AppTarget {
            driver,
            tree,
            docroot: platform.docroot.as_bytes().to_vec(),
            site: site.uri.to_string(),
            dir: site.dir.clone().unwrap_or_default(),
            is_tls: app.is_tls,
            user: pool_user(site),
            php: platform.php.clone().unwrap_or_default(),
            settings: match has_settings(driver, site.db.is_some()) {
                true => settings_name(&site.uri),
                false => String::new(),
            },
        };
        Self {
            servers,
            site: app,
            target,
        }
    }

    /// The site's address.
    pub fn uri(&self) -> &SiteUri {
        &self.site.uri
    }

    /// Asks one member.
    ///
    /// # Errors
    /// It can't be reached, or it couldn't do it.
    pub async fn ask(
        &self,
        member: &ServerName,
        action: AppAction,
        limit: Duration,
    ) -> Result<AppAnswer, Problem> {
        let request = ServiceRequest::App(Box::new(AppRequest {
            target: self.target.clone(),
            action,
            limit_s: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX),
        }));
        match self.servers.ask(member, request, limit + MARGIN).await? {
            ServiceAnswer::App(answer) => Ok(answer),
            _ => Err(unexpected(member)),
        }
    }

    /// What is there on one member.
    ///
    /// # Errors
    /// As [`Application::ask`].
    pub async fn look(&self, member: &ServerName) -> Result<AppState, Problem> {
        match self.ask(member, AppAction::Look, LOOK).await? {
            AppAnswer::State(state) => Ok(state),
            _ => Err(unexpected(member)),
        }
    }

    /// Has something done on one member.
    ///
    /// # Errors
    /// As [`Application::ask`].
    pub async fn act(&self, member: &ServerName, action: AppAction) -> Result<AppDone, Problem> {
        match self.ask(member, action, ACT).await? {
            AppAnswer::Done(done) => Ok(done),
            _ => Err(unexpected(member)),
        }
    }

    /// What is there on the first member that answers, and which that is.
    ///
    /// # Errors
    /// None answers: what the last one said.
    pub async fn look_anywhere(
        &self,
        members: &[ServerName],
    ) -> Result<(ServerName, AppState), Problem> {
        let mut last = no_member(self.uri());
        for member in members {
            match self.look(member).await {
                Ok(state) => return Ok((member.clone(), state)),
                Err(problem) if is_absence(&problem) => last = problem,
                Err(problem) => return Err(problem),
            }
        }
        Err(last)
    }

    /// Has something done once, on the first member that answers. A member that answered and failed
    /// is not followed by another: what it began may be done by halves.
    ///
    /// # Errors
    /// None answers, or the one that did couldn't.
    pub async fn act_once(
        &self,
        members: &[ServerName],
        action: &AppAction,
    ) -> Result<(ServerName, AppAnswer), Problem> {
        let mut last = no_member(self.uri());
        for member in members {
            match self.ask(member, action.clone(), ACT).await {
                Ok(answer) => return Ok((member.clone(), answer)),
                Err(problem) if is_absence(&problem) => last = problem,
                Err(problem) => return Err(problem),
            }
        }
        Err(last)
    }
}

/// Nobody was there who could have begun anything.
pub fn is_absence(problem: &Problem) -> bool {
    matches!(
        problem.code,
        Code::Unreachable
            | Code::UdpBlocked
            | Code::HandshakeRefused
            | Code::AddressUnresolved
            | Code::SshFailed
            | Code::NotTrusted
            | Code::ServiceNotOffered
    )
}

fn no_member(site: &SiteUri) -> Problem {
    Problem::new(Code::NoMembers, format!("No server runs {site}"))
}
