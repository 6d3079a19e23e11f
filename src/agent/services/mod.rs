//! What an agent does for a hub besides trees: the fixed verbs of
//! [`sync_proto::wire::service`], each only where this server's administrator offers it.
//!
//! Refuses: a service that `agent.toml` doesn't offer, and any name or value that its verb doesn't
//! allow. Nothing here runs a command line that a hub wrote.

pub mod app;
pub mod balancer;
mod config;
mod database;
mod facts;
mod programs;
mod setup;
pub mod share;
pub mod uploads;

use super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, AgentDir, LocalDatabase};
use crate::model::Offer;
use crate::net::NodeKey;
use crate::services::balancer::is_bundle;
use app::Apps;
use config::Sets;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use sync_proto::wire::service::{ConfigArea, ConfigRequest};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};
use uploads::Uploads;

/// The services of this server.
#[derive(Debug)]
pub struct Services {
    offers: BTreeSet<Offer>,
    database: LocalDatabase,
    data_root: PathBuf,
    config: AgentConfig,
    /// Where anything is offered that needs them.
    sets: Option<Arc<Sets>>,
    apps: Apps,
    uploads: Arc<Uploads>,
}

impl Services {
    /// As its administrator configured them.
    ///
    /// # Errors
    /// The directories of configuration sets can't be made.
    pub fn open(dir: &AgentDir, config: &AgentConfig) -> Result<Self, Problem> {
        let sets = match config.offers.is_empty() {
            true => None,
            false => {
                let opened = dir.let_services_be_reached();
                opened.map_err(|error| Problem::from_error(Code::DiskError, &error))?;
                Some(Arc::new(Sets::open(dir.services())?))
            }
        };
        let data_root = dir.services().join("data");
        if config.offers.contains(&Offer::Balancer) {
            balancer::Haproxy::new(&data_root).prepare()?;
        }
        let settings = dir.services().join("current/settings");
        Ok(Self {
            offers: config.offers.clone(),
            database: config.database.clone(),
            data_root,
            apps: Apps::new(dir.state(), settings, config),
            uploads: Arc::default(),
            config: config.clone(),
            sets,
        })
    }

    /// Finishes what the agent's end interrupted. To be called before anybody is served.
    pub async fn settle(&self) {
        if let Some(sets) = &self.sets {
            sets.settle().await;
        }
    }

    /// A tree was committed: programs that remember where its root led are told.
    pub async fn tree_committed(&self) {
        if let Some(sets) = &self.sets
            && let Err(problem) = sets.tree_committed().await
        {
            tracing::error!(%problem, "a web server was not told of a commit");
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
            ServiceRequest::Facts => {
                let sets = self.sets()?;
                Ok(ServiceAnswer::Facts(Box::new(
                    facts::facts(&self.config, sets).await,
                )))
            }
            ServiceRequest::Config(request) => {
                if let ConfigRequest::Put { files, .. } = &request {
                    for file in files {
                        self.offered(match file.area {
                            ConfigArea::Haproxy | ConfigArea::NginxBalancer => Offer::Balancer,
                            // Where TLS ends at the balancer, it needs keys.
                            ConfigArea::Keys if is_bundle(&file.name) => Offer::Balancer,
                            _ => Offer::Web,
                        })?;
                    }
                }
                self.offered(Offer::Web)
                    .or_else(|_| self.offered(Offer::Balancer))?;
                Ok(ServiceAnswer::Config(
                    self.sets()?.answer(hub, request).await?,
                ))
            }
            ServiceRequest::Database(request) => {
                self.offered(Offer::Db)?;
                let answer = database::administer(&self.database, &request).await?;
                Ok(ServiceAnswer::Database(answer))
            }
            ServiceRequest::DatabaseProbe(request) => {
                // Both kinds of members run sites.
                self.offered(Offer::Web)
                    .or_else(|_| self.offered(Offer::App))?;
                Ok(ServiceAnswer::DatabaseProbe(
                    database::probe(&request).await?,
                ))
            }
            ServiceRequest::Balancer(request) => {
                self.offered(Offer::Balancer)?;
                self.sets()?.belongs_to(hub)?;
                Ok(ServiceAnswer::Balancer(self.balancer(request).await?))
            }
            ServiceRequest::Member(request) => {
                self.offered(Offer::Web)?;
                self.sets()?.belongs_to(hub)?;
                Ok(ServiceAnswer::Member(self.as_member(request).await?))
            }
            ServiceRequest::App(request) => {
                self.offered(Offer::App)?;
                let answer = self.apps.answer(trees, hub, *request).await?;
                Ok(ServiceAnswer::App(answer))
            }
            ServiceRequest::Setup(request) => {
                self.offered(Offer::Setup)?;
                let current = self.sets()?.place().current();
                let answer = setup::answer(&current, request).await?;
                Ok(ServiceAnswer::Setup(answer))
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

    /// The configuration sets of a server that offers anything.
    fn sets(&self) -> Result<&Arc<Sets>, Problem> {
        self.sets.as_ref().ok_or_else(|| {
            Problem::new(
                Code::ServiceNotOffered,
                "This agent offers no service at all",
            )
        })
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
