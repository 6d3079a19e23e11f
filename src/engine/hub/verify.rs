//! Verify: what members have, against what was last decided. Read-only, always.

use super::kept::{kept_offer, roots_of};
use super::offer::Offer;
use super::preflight::{Hub, Reached, reach, state_problem};
use super::task::Task;
use crate::codes::{Code, Problem};
use crate::engine::depot::Depot;
use crate::engine::event::MemberName;
use std::sync::Arc;
use sync_proto::wire::{Item, Level};
use tokio::task::JoinSet;

/// What one member has.
#[derive(Clone, Debug)]
pub enum Verified {
    /// What was decided.
    Clean,
    /// Something else, entry by entry.
    Drift(Vec<Item>),
    /// It can't be asked.
    Unreachable(Problem),
}

/// One member with what it has.
#[derive(Clone, Debug)]
pub struct VerifiedMember {
    /// Who.
    pub name: MemberName,
    /// What.
    pub state: Verified,
    /// The generation that it says it is at.
    pub generation: Option<u64>,
}

/// What all members have.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// The desired generation.
    pub generation: u64,
    /// How closely members looked.
    pub level: Level,
    /// Member by member, in the order of the inventory.
    pub members: Vec<VerifiedMember>,
}

/// Compares every member with the desired generation.
pub async fn verify(hub: &Hub, depot: Arc<Depot>, task: &Task) -> Result<VerifyReport, Problem> {
    let state = hub
        .store
        .platform(&task.platform)
        .await
        .map_err(state_problem)?;
    let serial = state.and_then(|state| state.desired).ok_or_else(|| {
        Problem::new(
            Code::NoGeneration,
            "Nothing was pushed yet, so there is nothing to verify",
        )
    })?;
    let desired = hub
        .store
        .generation(&task.platform, serial)
        .await
        .map_err(state_problem)?;
    let offer = Arc::new(kept_offer(task, depot, roots_of(&desired)).await?);
    let mut asking = JoinSet::new();
    for (at, target) in task.targets.iter().enumerate() {
        let (hub, task, target, offer) = (hub.clone(), task.clone(), target.clone(), offer.clone());
        asking.spawn(async move {
            let (state, generation) = match reach(&hub, &task, at, &target, 0).await {
                Ok(one) => {
                    let generation = one.opened.generation.as_ref().map(|g| g.serial);
                    let state = compare(&one, &offer)
                        .await
                        .unwrap_or_else(Verified::Unreachable);
                    let _goodbye = one.session.leave().await;
                    (state, generation)
                }
                Err(unreached) => (Verified::Unreachable(unreached.problem), None),
            };
            (
                at,
                VerifiedMember {
                    name: target.name.clone(),
                    state,
                    generation,
                },
            )
        });
    }
    let mut members = Vec::new();
    while let Some(joined) = asking.join_next().await {
        match joined {
            Ok(member) => members.push(member),
            Err(error) => return Err(Problem::from_error(Code::Bug, &error)),
        }
    }
    members.sort_by_key(|(at, _)| *at);
    let members = members.into_iter().map(|(_, member)| member).collect();
    Ok(VerifyReport {
        generation: serial.0,
        level: task.level,
        members,
    })
}

async fn compare(one: &Reached, offer: &Offer) -> Result<Verified, Problem> {
    if one.opened.observed == offer.observed {
        return Ok(Verified::Clean);
    }
    one.session
        .compare(offer, one.opened.entries == 0)
        .await
        .map_err(|error| error.problem())?;
    let items = one.session.items().await.map_err(|error| error.problem())?;
    // Only times that are left open differ: no entry does.
    Ok(if items.is_empty() {
        Verified::Clean
    } else {
        Verified::Drift(items)
    })
}
