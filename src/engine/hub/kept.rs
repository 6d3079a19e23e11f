//! The generations that are kept: which one a rollback goes to, what of the depot is still needed.

use super::offer::Offer;
use super::preflight::{Hub, state_problem};
use super::push::spawn;
use super::task::Task;
use crate::codes::{Code, Problem};
use crate::engine::depot::{Depot, DepotError};
use crate::model::{PlatformName, Serial};
use crate::store::Generation;
use std::collections::HashSet;
use std::sync::Arc;
use sync_proto::filter::Preserve;
use sync_proto::manifest::Roots;

/// The generation that a rollback goes to: the newest good one before the desired one. One that a
/// rollback returned to counts as the one it was first, so that a second rollback goes further
/// back and not forth again.
pub fn rollback_target(generations: &[Generation], desired: Serial) -> Option<&Generation> {
    let current = generations
        .iter()
        .find(|generation| generation.serial == desired)?;
    let same = |generation: &&Generation| roots_of(generation) == roots_of(current);
    let origin = generations
        .iter()
        .filter(same)
        .map(|generation| generation.serial)
        .min()?;
    generations
        .iter()
        .filter(|generation| generation.serial < origin && !generation.bad && !same(generation))
        .max_by_key(|generation| generation.serial)
}

/// The roots of a recorded generation.
pub fn roots_of(generation: &Generation) -> Roots {
    Roots {
        content: generation.content_root,
        meta: generation.meta_root,
    }
}

/// Takes generations out that are not kept any more, on the hub; says which serials stay.
pub async fn kept_serials(hub: &Hub, task: &Task) -> Result<Vec<u64>, crate::store::StoreError> {
    let all = hub.store.generations(&task.platform).await?;
    let gone: HashSet<Serial> = hub
        .store
        .collectable_generations(&task.platform, task.keep)
        .await?
        .into_iter()
        .map(|generation| generation.serial)
        .collect();
    Ok(all
        .iter()
        .filter(|g| !gone.contains(&g.serial))
        .map(|g| g.serial.0)
        .collect())
}

/// Collects the depot: what no kept generation of any platform needs. Run where no task is.
pub async fn collect(hub: &Hub, depot: &Arc<Depot>, keep: u32) -> Result<(), Problem> {
    let mut roots = Vec::new();
    for platform in hub.store.platforms().await.map_err(state_problem)? {
        let name = &platform.name;
        for gone in hub
            .store
            .collectable_generations(name, keep)
            .await
            .map_err(state_problem)?
        {
            hub.store
                .forget_generation(name, gone.serial)
                .await
                .map_err(state_problem)?;
        }
        let kept = hub.store.generations(name).await.map_err(state_problem)?;
        roots.extend(kept.iter().map(roots_of));
    }
    let depot = depot.clone();
    spawn(move || {
        let damaged = |error| damaged(&error);
        let (mut manifests, mut contents) = (HashSet::new(), HashSet::new());
        for roots in roots {
            if manifests.insert(roots.id()) {
                let manifest = depot.manifest(roots).map_err(damaged)?;
                contents.extend(manifest.contents().iter().map(|content| content.digest));
            }
        }
        depot
            .collect(&manifests, &contents)
            .map_err(damaged)
            .map(drop)
    })
    .await
}

/// What the depot's budget came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Generations that aren't kept any more.
    pub gone: Vec<(PlatformName, Serial)>,
    /// Bytes that the depot holds now.
    pub bytes: u64,
    /// Bytes that were freed.
    pub freed_bytes: u64,
}

/// How much the depot holds.
pub async fn depot_bytes(depot: &Arc<Depot>) -> Result<u64, Problem> {
    let depot = depot.clone();
    spawn(move || depot.bytes().map_err(|error| damaged(&error))).await
}

/// Lets go of the oldest generations of all platforms until the depot is within `budget` bytes:
/// never of a desired or a pinned one. Run where no task is.
pub async fn shrink(hub: &Hub, depot: &Arc<Depot>, budget: u64) -> Result<Shrunk, Problem> {
    let (mut must_stay, mut may_go) = (Vec::new(), Vec::new());
    for platform in hub.store.platforms().await.map_err(state_problem)? {
        let all = hub.store.generations(&platform.name).await;
        for generation in all.map_err(state_problem)? {
            if generation.pinned || platform.desired == Some(generation.serial) {
                must_stay.push(roots_of(&generation));
            } else {
                may_go.push((platform.name.clone(), generation));
            }
        }
    }
    may_go.sort_by_key(|(_, generation)| generation.committed);
    let (holder, roots): (_, Vec<Roots>) = (
        depot.clone(),
        may_go.iter().map(|(_, it)| roots_of(it)).collect(),
    );
    let fit = spawn(move || {
        let fit = holder.fit(&must_stay, &roots, budget);
        fit.map_err(|error| damaged(&error))
    })
    .await?;
    let mut gone = Vec::new();
    for (platform, generation) in fit.goes.iter().filter_map(|nth| may_go.get(*nth)) {
        let forgotten = hub.store.forget_generation(platform, generation.serial);
        forgotten.await.map_err(state_problem)?;
        gone.push((platform.clone(), generation.serial));
    }
    collect(hub, depot, u32::MAX).await?;
    Ok(Shrunk {
        gone,
        bytes: fit.stays_bytes,
        freed_bytes: fit.freed_bytes,
    })
}

fn damaged(error: &DepotError) -> Problem {
    Problem::from_error(Code::DepotIncomplete, error)
}

/// A kept tree, as every member is told about it.
pub(super) async fn kept_offer(
    task: &Task,
    depot: Arc<Depot>,
    roots: Roots,
) -> Result<Offer, Problem> {
    let seeded = seeded(task)?;
    spawn(move || {
        let manifest = depot
            .manifest(roots)
            .map_err(|error| Problem::from_error(Code::DepotIncomplete, &error))?;
        Ok(Offer::new(manifest, seeded.as_ref()))
    })
    .await
}

/// The preserve rules, where the tree brings seeds below them.
pub(super) fn seeded(task: &Task) -> Result<Option<Preserve>, Problem> {
    if !task.options.seed {
        return Ok(None);
    }
    Preserve::parse(&task.preserve)
        .map(Some)
        .map_err(|error| Problem::from_error(Code::RuleInvalid, &error))
}
