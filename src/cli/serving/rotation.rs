//! After a task: members that aren't where they should be leave the rotation, and those that are
//! again prove themselves and come back.

use super::servers;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::codes::Problem;
use crate::config::Platform;
use crate::engine::hub::task::TaskReport;
use crate::model::ServerName;
use crate::orchestrate::rotation::Rotation;
use crate::store::Cause;

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
    let agents = servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let author = hub.who.to_string();
    let (inventory, store) = (&hub.inventory, hub.store.clone());
    let rotation = Rotation::of(
        inventory,
        platform,
        agents,
        store,
        hub.clock.clone(),
        &author,
    );
    let Some(rotation) = rotation else {
        return Ok(Vec::new());
    };
    let done = rotation.reconcile(&good, &bad).await?;
    let on = |(name, problem): (ServerName, Problem)| {
        let message = format!("{name} and the rotation: {}", problem.message);
        Problem::new(problem.code, message).with_hint(problem.hint().to_owned())
    };
    Ok(done.problems.into_iter().map(on).collect())
}
