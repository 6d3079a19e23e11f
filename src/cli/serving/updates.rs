//! A push and the sites that run on its platform: whether their schemas have to be updated and who
//! decided about that, and the proof that they answer afterwards.
//!
//! ORDER: maintenance pages before the switch, the update after it, the sites again after that. A
//! failed update leaves the pages up: new code on an old schema is nothing to show.

use super::application::{OneSite, all_servers, one, source_version};
use super::{Request, graph};
use crate::cli::Context;
use crate::cli::commands::{carried_out, update};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::work::Outcome;
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::event::Outcome as Fate;
use crate::model::{ServerName, SiteUri, UpdateMode};
use crate::orchestrate::OnFailure;
use crate::orchestrate::rotation::Sites;
use crate::services::app::is_installable;
use crate::services::app::update::{SiteVersions, Undecided, UpdatePlan, UpdateWhen, decide};
use crate::store::SiteMode;
use std::collections::BTreeSet;

/// The sites of a platform, before, during and after a push of it.
pub(crate) struct Served<'a> {
    context: &'a Context,
    hub: &'a Hub,
    sites: Vec<OneSite<'a>>,
    plan: UpdatePlan,
    proof: Option<Sites>,
    /// Sites that this push put into maintenance.
    hidden: Vec<SiteUri>,
}

impl<'a> Served<'a> {
    /// Looks at the sites of a platform that is about to be pushed; nothing if it has none.
    ///
    /// # Errors
    /// [`Code::UpdatesUndecided`] where updates are to come and `mode` says nothing.
    pub(crate) async fn before(
        context: &'a Context,
        hub: &'a Hub,
        platform: &'a Platform,
        mode: Option<UpdateMode>,
    ) -> Result<Option<Self>, CommandError> {
        let uris = hub.inventory.sites_of(&platform.name);
        let is_new = hub.state(&platform.name).await?.desired.is_none();
        if uris.is_empty() || is_new {
            return Ok(None);
        }
        let servers = all_servers(hub).await?;
        let mut sites = Vec::new();
        for site in uris {
            sites.push(one(hub, &servers, site.uri.as_str()).await?);
        }
        let mut versions = Vec::new();
        for site in &sites {
            versions.extend(versions_of(site).await);
        }
        let plan = decide(&versions, mode).map_err(|undecided| {
            CommandError::from_error(Code::UpdatesUndecided, &undecided).hint(Undecided::HINT)
        })?;
        let proof = proof(hub, platform, &servers, &versions).await?;
        if let Some(proof) = &proof {
            proof.remember(&members(hub, platform)).await;
        }
        Ok(Some(Self {
            context,
            hub,
            sites,
            plan,
            proof,
            hidden: Vec::new(),
        }))
    }

    /// What can't be taken back, for the person who pushes.
    pub(crate) fn say(&self) {
        if let Some(why) = &self.plan.irreversible {
            self.context.ui.warn(format!("can't be taken back: {why}"));
        }
    }

    /// Puts sites whose schema will be updated into maintenance, if that was decided.
    ///
    /// # Errors
    /// The pages could not be brought to every member.
    pub(crate) async fn hide(&mut self) -> Result<(), CommandError> {
        if !self.plan.in_maintenance {
            return Ok(());
        }
        let modes = self.hub.store.site_modes().await.map_err(store_error)?;
        for (uri, _) in &self.plan.sites {
            if !modes.contains_key(uri) {
                self.set(uri, Some(SiteMode::Maintenance)).await?;
                self.hidden.push(uri.clone());
            }
        }
        match self.apply().await? {
            Exit::Done => Ok(()),
            _ => {
                self.show().await?;
                let message = "The maintenance pages could not be brought to every member";
                Err(CommandError::new(Code::ConfigRefused, message))
            }
        }
    }

    /// Updates schemas, shows the sites again and has every member prove itself.
    ///
    /// # Errors
    /// The update failed: then the sites stay in maintenance; or a member doesn't answer as it
    /// did: then `true` in the second place says that going back is safe.
    pub(crate) async fn after(&mut self, outcome: &Outcome) -> Result<(), (CommandError, bool)> {
        let switched = switched(outcome);
        if outcome.exit != Exit::Done && switched.is_empty() {
            return self.show().await.map_err(|error| (error, false));
        }
        let updates = self.plan.when != UpdateWhen::Never;
        if updates {
            self.update(&switched)
                .await
                .map_err(|error| (error, false))?;
        }
        self.show().await.map_err(|error| (error, false))?;
        let Some(proof) = &self.proof else {
            return Ok(());
        };
        let Err(problem) = proof.prove(&switched).await else {
            return Ok(());
        };
        if updates {
            // The old code may not cope with the new schema, and the new code doesn't work.
            self.close().await.map_err(|error| (error, false))?;
        }
        Err((problem.into(), !updates))
    }

    /// Puts updated sites into maintenance, until a person says otherwise.
    async fn close(&self) -> Result<(), CommandError> {
        for (uri, _) in &self.plan.sites {
            self.set(uri, Some(SiteMode::Maintenance)).await?;
            self.context.ui.warn(format!(
                "{uri} is in maintenance: its schema was updated, and a member is not proved"
            ));
            let hint = format!("when it is mended: fanout enable site {uri}");
            self.context.ui.hint(hint);
        }
        self.apply().await.map(drop)
    }

    async fn update(&self, switched: &[ServerName]) -> Result<(), CommandError> {
        for site in &self.sites {
            let uri = &site.site.uri;
            if !self.plan.sites.iter().any(|(listed, _)| listed == uri) {
                continue;
            }
            let mut members = switched.to_vec();
            members.sort_by_key(|name| !site.members.contains(name));
            let updated = update(self.context, self.hub, site, &members).await;
            updated.map_err(|error| {
                error.hint(format!(
                    "the code is live; fanout update site {uri} tries again"
                ))
            })?;
        }
        Ok(())
    }

    /// Ends the maintenance that [`Served::hide`] began.
    pub(crate) async fn show(&mut self) -> Result<(), CommandError> {
        if self.hidden.is_empty() {
            return Ok(());
        }
        for uri in std::mem::take(&mut self.hidden) {
            self.set(&uri, None).await?;
        }
        self.apply().await.map(drop)
    }

    async fn set(&self, uri: &SiteUri, mode: Option<SiteMode>) -> Result<(), CommandError> {
        let hub = self.hub;
        let by = hub.who.to_string();
        let noted = hub.store.set_site_mode(uri, mode, hub.clock.now(), &by);
        noted.await.map(drop).map_err(store_error)
    }

    async fn apply(&self) -> Result<Exit, CommandError> {
        let _lock = self.hub.lock_serving("push", true).await?;
        let request = Request::default();
        let built = graph(self.context, self.hub, &request).await?;
        let plan = built.graph.inspect().await;
        if plan.is_empty() {
            return Ok(Exit::Done);
        }
        let (context, hub) = (self.context, self.hub);
        carried_out(context, hub, &plan, &request, OnFailure::Undo, None).await
    }
}

async fn versions_of(site: &OneSite<'_>) -> Option<SiteVersions> {
    let driver = site.app.site.driver;
    if !is_installable(driver) || site.site.db.is_none() {
        return None;
    }
    let found = site.app.look_anywhere(&site.members).await.ok();
    let state = found.map(|(_, state)| state);
    Some(SiteVersions {
        site: site.site.uri.clone(),
        driver,
        next: source_version(site.platform),
        // One that can't be asked may well be installed.
        is_installed: state
            .as_ref()
            .is_none_or(|state| state.is_installed != Some(false)),
        live: state
            .as_ref()
            .map_or_else(String::new, |it| it.version.clone()),
        pending: state.map_or_else(Vec::new, |state| state.pending),
    })
}

/// The questions that prove the members of a platform: about its sites that are installed and shown.
async fn proof(
    hub: &Hub,
    platform: &Platform,
    servers: &std::sync::Arc<crate::orchestrate::servers::Servers>,
    versions: &[SiteVersions],
) -> Result<Option<Sites>, CommandError> {
    let modes = hub.store.site_modes().await.map_err(store_error)?;
    let absent = versions.iter().filter(|version| !version.is_installed);
    let hidden: BTreeSet<&SiteUri> = modes.keys().chain(absent.map(|it| &it.site)).collect();
    let mut inventory = hub.inventory.clone();
    inventory.sites.retain(|uri, _| !hidden.contains(uri));
    if inventory.sites_of(&platform.name).is_empty() {
        return Ok(None);
    }
    Ok(Some(Sites::of(&inventory, &[platform], servers.clone())))
}

pub(super) fn members(hub: &Hub, platform: &Platform) -> Vec<ServerName> {
    let members = hub.inventory.members(platform).into_iter();
    let members = members.filter(|server| server.web.is_some());
    members.map(|server| server.name.clone()).collect()
}

/// Members that are at the new generation.
pub(super) fn switched(outcome: &Outcome) -> Vec<ServerName> {
    let members = outcome.report.members.iter();
    let good = members.filter(|member| matches!(member.outcome, Fate::Committed | Fate::UpToDate));
    good.filter_map(|member| member.name.parse().ok()).collect()
}

/// What a person reads when a push was taken back.
pub(crate) fn taken_back(platform: &Platform, problem: &Problem) -> Problem {
    Problem::new(
        problem.code,
        format!(
            "{} was taken back, because after the switch {}",
            platform.name, problem.message
        ),
    )
    .with_hint(problem.hint().to_owned())
}
