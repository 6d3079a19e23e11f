//! The proof of members after a rollback: every site that is shown, asked on every member at once.
//!
//! A rollback is not taken back, for what it went away from is what somebody wanted to leave. It says
//! which members don't serve as they should; those leave the rotation as long as others do.

use super::application::all_servers;
use super::rotation::{rotation_of, shown_sites};
use super::updates::{members, switched};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::work::Outcome;
use crate::codes::{Code, Problem};
use crate::config::Platform;
use crate::orchestrate::rotation::Sites;

/// The questions, with what is closed anyway.
pub(crate) struct Proof {
    sites: Sites,
}

impl Proof {
    /// Looks at the sites of a platform; nothing if none is shown.
    pub(crate) async fn before(
        hub: &Hub,
        platform: &Platform,
    ) -> Result<Option<Self>, CommandError> {
        let inventory = shown_sites(hub).await?;
        let servers = all_servers(hub).await?;
        let sites = Sites::of(&inventory, &[platform], servers);
        if sites.is_empty() {
            return Ok(None);
        }
        sites.remember_closed(&members(hub, platform)).await;
        Ok(Some(Self { sites }))
    }

    /// Asks every member that has switched.
    ///
    /// # Errors
    /// [`Code::MemberUnproved`], with every member that doesn't answer as it should.
    pub(crate) async fn after(
        &self,
        hub: &Hub,
        platform: &Platform,
        outcome: &Outcome,
    ) -> Result<(), CommandError> {
        let mut switched = switched(outcome);
        let members = members(hub, platform);
        switched.retain(|name| members.contains(name));
        let unproved = self.sites.unproved(&switched).await;
        if unproved.is_empty() {
            return Ok(());
        }
        let mut messages: Vec<String> = unproved.iter().map(|(_, it)| it.message.clone()).collect();
        if unproved.len() < switched.len()
            && hub.inventory.balancer_of(platform).is_some()
            && let Some(rotation) = rotation_of(hub, platform).await?
        {
            let bad: Vec<_> = unproved
                .into_iter()
                .map(|(name, it)| (name, it.message))
                .collect();
            let done = rotation.reconcile(&[], &bad).await?;
            messages.extend(
                done.left
                    .iter()
                    .map(|name| format!("{name} is out of rotation")),
            );
            messages.extend(done.problems.into_iter().map(|(_, it)| it.message));
        }
        let name = &platform.name;
        let problem = Problem::new(
            Code::MemberUnproved,
            format!(
                "{name} is rolled back, and not proved: {}",
                messages.join("; ")
            ),
        );
        Err(problem
            .with_hint(format!(
                "`fanout check site` shows the answers; `fanout generations platform {name}` shows \
                 what else there is to go to"
            ))
            .into())
    }
}
