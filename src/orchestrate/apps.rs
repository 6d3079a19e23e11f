//! The way to the applications of sites: who is asked about which site, and as whom.

use super::servers::{Servers, unexpected};
use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::service::{AppAction, AppAnswer, AppDone, AppRequest, AppState, AppTarget};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// How long an application may take to say what is there, in seconds.
const LOOK_S: u32 = 60;
/// How long an action may take, in seconds.
const ACT_S: u32 = 1800;
/// How long the agent may take beyond that.
const MARGIN: Duration = Duration::from_secs(15);

/// The applications of an inventory's sites.
pub struct Apps {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// Each site as an agent finds it.
    pub targets: BTreeMap<SiteUri, AppTarget>,
}

impl Apps {
    /// What is there of a site on a member.
    ///
    /// # Errors
    /// The member can't be reached, or has neither the code nor the site.
    pub async fn look(&self, server: &ServerName, site: &SiteUri) -> Result<AppState, Problem> {
        match self.ask(server, site, AppAction::Look, LOOK_S).await? {
            AppAnswer::State(state) => Ok(state),
            _ => Err(unexpected(server)),
        }
    }

    /// What is missing for the application to run there.
    ///
    /// # Errors
    /// As [`Apps::look`].
    pub async fn missing(
        &self,
        server: &ServerName,
        site: &SiteUri,
    ) -> Result<Vec<String>, Problem> {
        let action = AppAction::Requirements;
        match self.ask(server, site, action, LOOK_S).await? {
            AppAnswer::Missing(missing) => Ok(missing),
            _ => Err(unexpected(server)),
        }
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Apps::look`], and whatever the application says.
    pub async fn act(
        &self,
        server: &ServerName,
        site: &SiteUri,
        action: AppAction,
    ) -> Result<AppDone, Problem> {
        match self.ask(server, site, action, ACT_S).await? {
            AppAnswer::Done(done) => Ok(done),
            _ => Err(unexpected(server)),
        }
    }

    async fn ask(
        &self,
        server: &ServerName,
        site: &SiteUri,
        action: AppAction,
        limit_s: u32,
    ) -> Result<AppAnswer, Problem> {
        let Some(target) = self.targets.get(site) else {
            let message = format!("There is no site `{site}` in the inventory");
            return Err(Problem::new(Code::UnknownSite, message));
        };
        let request = ServiceRequest::App(Box::new(AppRequest {
            target: target.clone(),
            action,
            limit_s,
        }));
        let limit = Duration::from_secs(limit_s.into()) + MARGIN;
        match self.servers.ask(server, request, limit).await? {
            ServiceAnswer::App(answer) => Ok(answer),
            _ => Err(unexpected(server)),
        }
    }
}
