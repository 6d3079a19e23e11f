//! What an agent does for a hub besides trees: the fixed verbs of
//! [`sync_proto::wire::service`], each only where this server's administrator offers it.
//!
//! Refuses: a service that `agent.toml` doesn't offer, and any name or value that its verb doesn't
//! allow. Nothing here runs a command line that a hub wrote.

use crate::codes::{Code, Problem};
use crate::config::AgentConfig;
use crate::model::Offer;
use crate::net::NodeKey;
use std::collections::BTreeSet;
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// The services of this server.
#[derive(Debug)]
pub struct Services {
    offers: BTreeSet<Offer>,
}

impl Services {
    /// As its administrator configured them.
    pub fn new(config: &AgentConfig) -> Self {
        Self {
            offers: config.offers.clone(),
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
