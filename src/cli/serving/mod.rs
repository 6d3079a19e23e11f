//! From the inventory to the graph of everything that should be true of services.
//!
//! The order, from left to right; what a member has left is taken away last:
//!
//! ```text
//! database, configuration staged -> code -> activation -> application -> proof
//!     -> balancer -> what leaves, former members -> former accounts
//! ```

pub(crate) mod application;
mod bring;
pub(crate) mod databases;
mod graph;
mod materials;
pub(crate) mod proof;
pub(crate) mod reconcile;
pub(crate) mod rotation;
pub(crate) mod shares;
pub(crate) mod standing;
pub(crate) mod updates;

pub(crate) use graph::{Built, graph};
pub(crate) use materials::{SOON_S, certificate_there, ensure, own_template};

use super::error::CommandError;
use super::hub::{Hub, store_error};
use super::plan::target;
use crate::engine::event::EventSink;
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::desired::sites_on;
use crate::orchestrate::resources::activation::ACTIVATION;
use crate::orchestrate::servers::Servers;
use crate::orchestrate::{Outcome, Phase, Plan, Step};
use crate::store::{StepState, TaskId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is asked for beside the inventory itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Servers and sites that are no longer listed and may go.
    pub(crate) allow_remove: Vec<String>,
    /// Servers that will never answer again.
    pub(crate) gone: Vec<String>,
    /// Accounts in databases that fanout didn't make go, too.
    #[serde(default)]
    pub(crate) prune: bool,
    /// Sites whose database is destroyed with them.
    #[serde(default)]
    pub(crate) drop_database: Vec<String>,
    /// Nothing but the configuration of these servers.
    #[serde(default)]
    pub(crate) config_of: Option<Vec<ServerName>>,
}

impl Request {
    fn is_gone(&self, server: &ServerName) -> bool {
        self.gone.iter().any(|name| name == server.as_str())
    }

    fn is_whole(&self) -> bool {
        self.config_of.is_none()
    }

    fn configures(&self, server: &ServerName) -> bool {
        let of = self.config_of.as_ref();
        of.is_none_or(|servers| servers.contains(server))
    }

    fn may_remove(&self, name: &str) -> bool {
        self.allow_remove.iter().any(|allowed| allowed == name)
    }
}

/// Ways to these servers' agents.
pub(crate) async fn servers(
    hub: &Hub,
    names: impl IntoIterator<Item = ServerName>,
) -> Result<Arc<Servers>, CommandError> {
    let identity = hub.identity()?;
    let events = EventSink::none();
    let mut targets = Vec::new();
    for name in names {
        if let Some(server) = hub.inventory.servers.get(&name) {
            let target = target(hub, server, &identity, &events).await?;
            targets.push((name, target));
        }
    }
    Ok(Arc::new(Servers::new(&hub.inventory.hub, targets)))
}

/// The task that was cut off last, if the latest one was. Whoever asks holds the lock, so what has
/// not ended will not end.
pub(crate) async fn cut_off(hub: &Hub) -> Result<Option<TaskId>, CommandError> {
    let tasks = hub.store.tasks(50).await.map_err(store_error)?;
    let last = tasks.into_iter().find(|task| task.kind == "apply");
    Ok(last.filter(|task| task.ended.is_none()).map(|task| task.id))
}

/// Puts on record which server serves which sites, after a plan was carried out: those whose
/// configuration is as it should be serve what is listed, all others what they did before.
pub(crate) async fn note_served(
    hub: &Hub,
    request: &Request,
    plan: &Plan,
    outcome: &Outcome,
) -> Result<(), CommandError> {
    let before = hub.store.served().await.map_err(store_error)?;
    let mut names: Vec<ServerName> = hub.inventory.servers.keys().cloned().collect();
    names.extend(before.iter().map(|(server, _)| server.clone()));
    names.sort();
    names.dedup();
    for name in names {
        let mut sites: Vec<SiteUri> = Vec::new();
        if is_configured(plan, outcome, &name, Phase::Switch) {
            let listed = sites_on(&hub.inventory, &name).into_iter();
            sites.extend(listed.map(|(site, _)| site.uri.clone()));
        }
        // What is no longer listed stays until its removal was allowed, and done.
        let is_cleared = is_configured(plan, outcome, &name, Phase::Settle);
        for (server, site) in &before {
            let may_go = request.may_remove(name.as_str()) || request.may_remove(site.as_str());
            let listed = sites_on(&hub.inventory, &name).into_iter();
            let is_listed = listed.into_iter().any(|(it, _)| it.uri == *site);
            let stays = is_listed || !may_go || !is_cleared;
            if *server == name && stays && !sites.contains(site) && !request.is_gone(&name) {
                sites.push(site.clone());
            }
        }
        hub.store
            .set_served(&name, &sites, hub.clock.now())
            .await
            .map_err(store_error)?;
    }
    Ok(())
}

/// Did a server's configuration of that part of the plan go live, or was it live already? What
/// leaves a server that has nothing to change for it has left.
fn is_configured(plan: &Plan, outcome: &Outcome, server: &ServerName, phase: Phase) -> bool {
    let of_it = |step: &Step| step.resource.member() == Some(server);
    if plan.unknown().any(|(step, _)| of_it(step)) {
        return false;
    }
    let mut all = plan.steps.iter().zip(&outcome.states);
    let live = all.find(|(step, _)| {
        let is_it = step.place.phase == phase && step.resource.describe() == ACTIVATION;
        is_it && of_it(step)
    });
    live.map_or(phase == Phase::Settle, |(_, state)| {
        *state == StepState::Done
    })
}
