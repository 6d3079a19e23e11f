//! What an agent does for a hub besides trees: the fixed verbs of
//! [`sync_proto::wire::service`], each only where this server's administrator offers it.
//!
//! Refuses: a service that `agent.toml` doesn't offer, and any name or value that its verb doesn't
//! allow. Nothing here runs a command line that a hub wrote.

pub mod app;
pub mod share;
pub mod uploads;

use super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir};
use crate::model::Offer;
use crate::net::NodeKey;
use app::Apps;
use std::collections::BTreeSet;
use std::sync::Arc;
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
use uploads::Uploads;

/// The services of this server.
#[derive(Debug)]
pub struct Services {
    offers: BTreeSet<Offer>,
    apps: Apps,
    uploads: Arc<Uploads>,
}

impl Services {
    /// As its administrator configured them.
    pub fn new(dir: &AgentDir, config: &AgentConfig) -> Self {
        let settings = dir.state().join("services/live/settings");
        Self {
            offers: config.offers.clone(),
            apps: Apps::new(dir.state(), settings, config),
            uploads: Arc::default(),
        }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The service isn't offered, or its verb failed.
    pub async fn answer(
        &self,
        trees: &Arc<Trees>,
        hub: NodeKey,
        request: ServiceRequest,
    ) -> Result<ServiceAnswer, Problem> {
        match request {
            ServiceRequest::Facts | ServiceRequest::Config(_) => {
                self.offered(Offer::Web)?;
                Err(Problem::new(Code::ServiceNotOffered, "Not yet"))
            }
            ServiceRequest::App(request) => {
                self.offered(Offer::App)?;
                let answer = self.apps.answer(trees, hub, *request).await?;
                Ok(ServiceAnswer::App(answer))
            }
            ServiceRequest::Uploads(request) => {
                self.offered(Offer::App)?;
                let (uploads, trees) = (self.uploads.clone(), trees.clone());
                let work = move || uploads.answer(&trees, hub, request);
                let answered = tokio::task::spawn_blocking(work).await;
                let answer = answered.map_err(|error| Problem::from_error(Code::Bug, &error))??;
                Ok(ServiceAnswer::Uploads(answer))
            }
        }
    }

    /// Finishes what an earlier run of this agent left half done.
    pub async fn recover(&self, trees: &Trees) {
        if self.offers.contains(&Offer::App) {
            self.apps.recover_all(trees).await;
        }
    }

    fn offered(&self, service: Offer) -> Result<(), Problem> {
        if self.offers.contains(&service) {
            return Ok(());
        }
        Err(Problem::new(
            Code::ServiceNotOffered,
            format!("This agent doesn't offer `{service}`"),
        ))
    }
}
