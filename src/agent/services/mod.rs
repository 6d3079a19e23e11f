//! What an agent does for a hub besides trees: the fixed verbs of
//! [`sync_proto::wire::service`], each only where this server's administrator offers it.
//!
//! Refuses: a service that `agent.toml` doesn't offer, and any name or value that its verb doesn't
//! allow. Nothing here runs a command line that a hub wrote.

pub mod balancer;
mod database;

use crate::codes::{Code, Problem};
use crate::config::{AgentConfig, LocalDatabase};
use crate::model::Offer;
use crate::net::NodeKey;
use std::collections::BTreeSet;
use std::path::PathBuf;
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// Files that outlive configuration sets.
const DATA_ROOT: &str = "/var/lib/fanout/services";

/// The services of this server.
#[derive(Debug)]
pub struct Services {
    offers: BTreeSet<Offer>,
    database: LocalDatabase,
    data_root: PathBuf,
}

impl Services {
    /// As its administrator configured them.
    pub fn new(config: &AgentConfig) -> Self {
        Self {
            offers: config.offers.clone(),
            database: config.database.clone(),
            data_root: DATA_ROOT.into(),
        }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The service isn't offered, or its verb failed.
    pub async fn answer(
        &self,
        _hub: NodeKey,
        request: ServiceRequest,
    ) -> Result<ServiceAnswer, Problem> {
        match request {
            ServiceRequest::Facts | ServiceRequest::Config(_) => {
                self.offered(Offer::Web)?;
                Err(Problem::new(Code::ServiceNotOffered, "Not yet"))
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
                Ok(ServiceAnswer::Balancer(self.balancer(request).await?))
            }
            ServiceRequest::Member(request) => {
                self.offered(Offer::Web)?;
                Ok(ServiceAnswer::Member(self.as_member(request).await?))
            }
            ServiceRequest::App(_) | ServiceRequest::Uploads(_) => {
                self.offered(Offer::App)?;
                Err(Problem::new(Code::ServiceNotOffered, "Not yet"))
            }
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
