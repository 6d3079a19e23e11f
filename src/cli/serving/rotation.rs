//! After a task: members that aren't where they should be leave the rotation, and those that are
//! again prove themselves and come back.
//!
//! A member that a person took out stays out.

use super::servers;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::codes::Problem;
use crate::config::{Inventory, Platform};
use crate::engine::hub::task::TaskReport;
use crate::model::ServerName;
use crate::orchestrate::rotation::Rotation;
use crate::orchestrate::{Outcome, Plan};
use crate::store::{Cause, StepState};
use std::collections::BTreeMap;

/// Brings the rotation to what a task on a platform found. What goes against it is a warning: the
/// task itself has ended.
pub(crate) async fn reconcile(hub: &Hub, platform: &Platform, report: &mut TaskReport) {
    match settled(hub, platform, report).await {
        Ok(problems) => report.warnings.extend(problems),
        Err(error) => report.warnings.push(error.problem().clone()),
    }
}

async fn settled(
    hub: &Hub,
    platform: &Platform,
    report: &TaskReport,
) -> Result<Vec<Problem>, CommandError> {
    let is_refused = !report.refusals.is_empty();
    let desired = report.generation.filter(|_| !is_refused);
    if hub.inventory.balancer_of(platform).is_none() || desired.is_none() {
        return Ok(Vec::new());
    }
    let out = hub.store.out_of_rotation().await.map_err(store_error)?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for member in &report.members {
        let Ok(name) = member.name.parse::<ServerName>() else {
            continue;
        };
        let is_there = member.generation == desired && member.outcome.is_good();
        let is_out = out.iter().find(|out| out.server == name);
        match (is_there, is_out) {
            (true, Some(out)) if out.cause != Cause::Person => good.push(name),
            (false, None) if member.generation != desired => {
                let why = member.problem.as_ref().map(|it| it.message.clone());
                bad.push((name, why.unwrap_or_else(|| "it is stale".into())));
            }
            _ => {}
        }
    }
    if good.is_empty() && bad.is_empty() {
        return Ok(Vec::new());
    }
    match rotation_of(hub, platform).await? {
        Some(rotation) => Ok(said(rotation.reconcile(&good, &bad).await?.problems)),
        None => Ok(Vec::new()),
    }
}

/// The rotation of a platform's members, with ways to all servers.
pub(crate) async fn rotation_of(
    hub: &Hub,
    platform: &Platform,
) -> Result<Option<Rotation>, CommandError> {
    let agents = servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let author = hub.who.to_string();
    let (store, clock) = (hub.store.clone(), hub.clock.clone());
    let inventory = shown_sites(hub).await?;
    Ok(Rotation::of(
        &inventory, platform, agents, store, clock, &author,
    ))
}

pub(super) fn said(problems: Vec<(ServerName, Problem)>) -> Vec<Problem> {
    let on = |(name, problem): (ServerName, Problem)| {
        let message = format!("{name} and the rotation: {}", problem.message);
        Problem::new(problem.code, message).with_hint(problem.hint().to_owned())
    };
    problems.into_iter().map(on).collect()
}

/// After an apply: members that failed by themselves leave, those that were out and are proved now
/// come back. What goes against it is for the person to read.
pub(crate) async fn after_apply(hub: &Hub, plan: &Plan, outcome: &Outcome) -> Vec<Problem> {
    let done = applied(hub, plan, outcome).await;
    done.unwrap_or_else(|error| vec![error.problem().clone()])
}

async fn applied(hub: &Hub, plan: &Plan, outcome: &Outcome) -> Result<Vec<Problem>, CommandError> {
    let out = hub.store.out_of_rotation().await.map_err(store_error)?;
    let is_out = |name: &ServerName| out.iter().any(|out| out.server == *name);
    let bad = outcome.failed_alone.iter();
    let bad: BTreeMap<&ServerName, &Problem> = bad.filter(|(name, _)| !is_out(name)).collect();
    let is_whole = |name: &ServerName| {
        let mut of_it = plan.steps.iter().zip(&outcome.states);
        of_it.all(|(step, state)| step.resource.member() != Some(name) || *state == StepState::Done)
    };
    let by_fanout = out.iter().filter(|out| out.cause != Cause::Person);
    let good: Vec<&ServerName> = by_fanout
        .map(|out| &out.server)
        .filter(|name| is_whole(name))
        .collect();
    if bad.is_empty() && good.is_empty() {
        return Ok(Vec::new());
    }
    let agents = servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let author = hub.who.to_string();
    let inventory = shown_sites(hub).await?;
    let mut problems = Vec::new();
    for name in bad.keys().chain(&good) {
        let all = Rotation::of_server(&inventory, name, &agents, &hub.store, &hub.clock, &author);
        let done = match bad.get(name) {
            Some(why) => leave(&all, name, &why.message).await,
            None => come_back(&all, name).await,
        };
        problems.extend(done.err().map(|problem| ((*name).clone(), problem)));
    }
    Ok(said(problems))
}

async fn leave(all: &[Rotation], name: &ServerName, why: &str) -> Result<(), Problem> {
    for rotation in all {
        let one = std::slice::from_ref(name);
        rotation.take_out(one, Cause::Stale, why, false).await?;
    }
    Ok(())
}

async fn come_back(all: &[Rotation], name: &ServerName) -> Result<(), Problem> {
    let one = std::slice::from_ref(name);
    // ORDER: all of it is proved before any balancer sends a visitor.
    for rotation in all {
        rotation.prove(one).await?;
    }
    for rotation in all {
        rotation.put_back(one, false).await?;
    }
    Ok(())
}

/// The inventory with those sites only that show themselves: the page of another proves nothing.
pub(crate) async fn shown_sites(hub: &Hub) -> Result<Inventory, CommandError> {
    let modes = hub.store.site_modes().await.map_err(store_error)?;
    let mut inventory = hub.inventory.clone();
    inventory.sites.retain(|uri, _| !modes.contains_key(uri));
    Ok(inventory)
}
