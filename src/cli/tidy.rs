//! After a task: generations that aren't kept any more go, and those that the depot has no room
//! for.
//!
//! ORDER: all platforms' locks are held meanwhile, because another platform's task may be writing
//! into the depot. Where one is taken, a later task does it.

use super::hub::Hub;
use super::human;
use crate::codes::{Code, Problem};
use crate::config::Platform;
use crate::engine::depot::Depot;
use crate::engine::event::{Outcome, TaskKind};
use crate::engine::hub::kept::{self, Shrunk};
use crate::engine::hub::preflight;
use crate::engine::hub::task::TaskReport;
use crate::model::ByteSize;
use std::sync::Arc;

/// Forgets generations beyond `keep` and beyond the depot's budget, and what only they needed.
/// What is worth saying about it goes into the report.
pub(crate) async fn tidy(
    hub: &Hub,
    engine: &preflight::Hub,
    depot: &Arc<Depot>,
    platform: &Platform,
    kind: TaskKind,
    report: &mut TaskReport,
) -> Result<(), Problem> {
    if kind == TaskKind::Resync {
        return Ok(());
    }
    let store = &hub.store;
    let budget = hub.inventory.depot_budget;
    let gone = store
        .collectable_generations(&platform.name, platform.keep)
        .await
        .map_err(preflight::state_problem)?;
    let mut members = report.members.iter();
    let is_new = members.any(|member| member.outcome == Outcome::Committed);
    let is_over = is_new && kept::depot_bytes(depot).await? > budget.bytes();
    if gone.is_empty() && !is_over {
        return Ok(());
    }
    let mut others = Vec::new();
    for state in store.platforms().await.map_err(preflight::state_problem)? {
        if state.name != platform.name {
            match hub
                .lock(&state.name, "collecting old generations", false)
                .await
            {
                Ok(lock) => others.push(lock),
                Err(_) => return Ok(()),
            }
        }
    }
    for generation in gone {
        let forgotten = store
            .forget_generation(&platform.name, generation.serial)
            .await;
        forgotten.map_err(preflight::state_problem)?;
    }
    // Each platform has its own `keep`; what goes of this one was just forgotten.
    kept::collect(engine, depot, u32::MAX).await?;
    if is_over && kept::depot_bytes(depot).await? > budget.bytes() {
        let shrunk = kept::shrink(engine, depot, budget.bytes()).await?;
        report.warnings.extend(in_words(&shrunk, budget));
    }
    Ok(())
}

/// What had to go, and what is too much all the same.
fn in_words(shrunk: &Shrunk, budget: ByteSize) -> Vec<Problem> {
    let mut said = Vec::new();
    if !shrunk.gone.is_empty() {
        let names: Vec<String> = shrunk
            .gone
            .iter()
            .map(|(platform, serial)| format!("{platform} {serial}"))
            .collect();
        let (they, them) = match names.len() {
            1 => ("This generation is", "it"),
            _ => ("These generations are", "them"),
        };
        said.push(Problem::new(
            Code::DepotFull,
            format!(
                "{they} not kept any more, because the depot's budget is {budget}: {}. No \
                 rollback leads to {them}; {} are free again",
                names.join(", "),
                human::bytes(shrunk.freed_bytes)
            ),
        ));
    }
    if shrunk.bytes > budget.bytes() {
        said.push(Problem::new(
            Code::DepotFull,
            format!(
                "The desired and the pinned generations alone need {} of the depot, whose budget \
                 is {budget}",
                human::bytes(shrunk.bytes)
            ),
        ));
    }
    said
}
