//! What `fanout resync` restores beside the code: accounts in databases, uploads, the rotation.
//!
//! Silent where nothing differs. Never removes what is merely not listed any more; that takes an
//! `apply --allow-remove`. Invariant: a member leaves the rotation only if it fails alone: where no
//! member answers, it isn't the members that fail.

use super::application::{all_servers, one};
use super::databases::{Databases, settled};
use super::graph::former;
use super::rotation::{rotation_of, said, shown_sites};
use super::{Built, Request};
use crate::cli::Context;
use crate::cli::commands::{carried_out, deliver, show};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::codes::{Code, Exit, Problem};
use crate::config::{Platform, Site};
use crate::engine::event::MemberReport;
use crate::engine::hub::task::TaskReport;
use crate::model::{ServerName, SiteUri, Uploads};
use crate::orchestrate::resources::database::Part;
use crate::orchestrate::rotation::Sites;
use crate::orchestrate::{Graph, OnFailure, Place, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// After a resync of a platform's code; `only_look` for one that only reports.
pub(crate) async fn sites_of(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    report: &TaskReport,
    only_look: bool,
) -> Result<Exit, CommandError> {
    let sites = hub.inventory.sites_of(&platform.name);
    if sites.is_empty() || !report.refusals.is_empty() {
        return Ok(Exit::Done);
    }
    let exit = accounts(context, hub, &sites, only_look).await?;
    if only_look {
        return Ok(exit);
    }
    let good = good_members(report);
    let delivered = uploads(context, hub, &sites, &good).await?;
    for problem in failing(hub, platform, &good).await? {
        context.ui.warning(&problem);
    }
    Ok(exit.and(delivered))
}

fn good_members(report: &TaskReport) -> Vec<ServerName> {
    let is_good = |it: &&MemberReport| it.outcome.is_good() && it.generation == report.generation;
    let members = report.members.iter().filter(is_good);
    members.filter_map(|it| it.name.parse().ok()).collect()
}

/// The accounts of every site, made for the members that there are, and ended where no member comes
/// from any more.
async fn accounts(
    context: &Context,
    hub: &Hub,
    sites: &[&Site],
    only_look: bool,
) -> Result<Exit, CommandError> {
    if sites.iter().all(|site| site.db.is_none()) {
        return Ok(Exit::Done);
    }
    let _lock = match only_look {
        true => None,
        false => match hub.lock_serving("resync", false).await {
            Ok(lock) => Some(lock),
            // Whoever works on services does this as well.
            Err(error) if error.problem().code == Code::TaskLocked => return Ok(Exit::Done),
            Err(error) => return Err(error),
        },
    };
    let plan = planned(context, hub, sites).await?;
    if plan.is_empty() && plan.unknown().next().is_none() {
        return Ok(Exit::Done);
    }
    if only_look {
        show(context, &plan, &[], "Nothing has been changed.");
        return Ok(Exit::Differences);
    }
    let request = Request::default();
    carried_out(context, hub, &plan, &request, OnFailure::Undo, None).await
}

async fn planned(context: &Context, hub: &Hub, sites: &[&Site]) -> Result<Plan, CommandError> {
    let request = Request::default();
    let servers = all_servers(hub).await?;
    let mut staying: BTreeMap<SiteUri, BTreeSet<ServerName>> = BTreeMap::new();
    for (server, sites) in former(hub).await? {
        for site in sites {
            staying.entry(site).or_default().insert(server.clone());
        }
    }
    let databases = Databases::open(context, hub, &servers).await?;
    let databases = databases.with_staying(staying);
    let mut built = Built {
        graph: Graph::default(),
        notes: Vec::new(),
    };
    for site in sites {
        let (make, clean) = (
            databases.of_site(hub, &request, site, Part::Make).await?,
            databases.of_site(hub, &request, site, Part::Clean).await?,
        );
        if let (Some(make), Some(clean)) = (make, clean) {
            let made = built.graph.add(Place::default(), Arc::new(make), &[]);
            built.graph.add(settled(), Arc::new(clean), &[made]);
        }
    }
    Ok(built.graph.inspect().await)
}

/// What visitors left on the member that a site's uploads are pinned to, brought to the others.
async fn uploads(
    context: &Context,
    hub: &Hub,
    sites: &[&Site],
    good: &[ServerName],
) -> Result<Exit, CommandError> {
    let mut exit = Exit::Done;
    let servers = all_servers(hub).await?;
    for site in sites {
        // One that isn't as it should be was said to be so.
        if matches!(&site.uploads, Some(Uploads::Pin(pinned)) if good.contains(pinned)) {
            let site = one(hub, &servers, site.uri.as_str()).await?;
            exit = exit.and(deliver(context, hub, &servers, &site, Some(good)).await?);
        }
    }
    Ok(exit)
}

/// Takes members out that don't answer for their sites as others do.
async fn failing(
    hub: &Hub,
    platform: &Platform,
    good: &[ServerName],
) -> Result<Vec<Problem>, CommandError> {
    if hub.inventory.balancer_of(platform).is_none() {
        return Ok(Vec::new());
    }
    let out = hub.store.out_of_rotation().await.map_err(store_error)?;
    let is_asked = |name: &&ServerName| {
        let server = hub.inventory.servers.get(*name);
        server.is_some_and(|it| it.web.is_some()) && !out.iter().any(|out| out.server == **name)
    };
    let members: Vec<ServerName> = good.iter().filter(is_asked).cloned().collect();
    let inventory = shown_sites(hub).await?;
    let sites = Sites::of(&inventory, &[platform], all_servers(hub).await?);
    let suspects = sites.failing(&members).await;
    if suspects.is_empty() || suspects.len() == members.len() {
        return Ok(Vec::new());
    }
    let unproved = sites.unproved(&suspects).await;
    let Some(rotation) = rotation_of(hub, platform).await? else {
        return Ok(Vec::new());
    };
    let of = |(name, problem): &(ServerName, Problem)| (name.clone(), problem.message.clone());
    let bad: Vec<(ServerName, String)> = unproved.iter().map(of).collect();
    let done = rotation.reconcile(&[], &bad).await?;
    let mut problems = said(done.problems);
    for (name, problem) in unproved {
        if done.left.contains(&name) {
            let message = format!("{name} left the rotation: {}", problem.message);
            problems.push(Problem::new(problem.code, message));
        }
    }
    Ok(problems)
}
