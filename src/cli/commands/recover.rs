//! `fanout init --recover`: what the members know, read back into a hub whose state is older.
//!
//! For each platform: the highest fence, the generations and the transactions of its members. A
//! transaction that any member committed was decided so, and is recorded before a member in doubt
//! can ask, also one that can't be reached now. What most members are live at becomes the desired generation.
//!
//! Until all members of a platform that came out of a backup were asked, nobody is answered with
//! abort about what this hub doesn't know.
//!
//! Refuses nothing and asks nobody to change anything. What it can't do: read back a tree's id or
//! an agent's key, which only a backup of the state has.

use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::human::counted;
use crate::cli::json::ResultLine;
use crate::cli::members;
use crate::clock::UnixMillis;
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::event::MemberName;
use crate::model::{PlatformName, Serial, ServerName};
use crate::store::{Decision, NewGeneration, NewTransaction, PlatformState, Purpose, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use sync_proto::commit::{Witness, known_commits};
use sync_proto::wire::{Generation, Survey, TxnKey};

pub(super) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut exit: Option<Exit> = None;
    let mut shapes = Vec::new();
    for platform in hub.inventory.platforms.values() {
        let (one, shape) = recover(context, &hub, platform).await?;
        exit = Some(exit.map_or(one, |exit| exit.and(one)));
        shapes.push(shape);
    }
    if context.ui.is_json() {
        context
            .ui
            .json(&ResultLine::new(json!({"recovered": shapes})));
    }
    if shapes.is_empty() {
        context.ui.status("There is no platform in the inventory.");
    } else {
        context.ui.hint(
            "`fanout status` shows where the members are; `fanout resync` brings them together",
        );
    }
    Ok(exit.unwrap_or(Exit::Done))
}

async fn recover(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
) -> Result<(Exit, Value), CommandError> {
    let name = &platform.name;
    let _lock = hub
        .lock(name, &format!("init --recover of {name}"), false)
        .await?;
    let state = hub.state(name).await?;
    let tree = *state.tree.as_bytes();
    let answers = members::ask(context, hub, platform, &state, |session| async move {
        session.survey(tree).await
    })
    .await?;
    let mut surveys = Vec::new();
    let mut silent = Vec::new();
    for (member, answer) in answers {
        match answer {
            Ok(survey) if survey.bound => surveys.push((member, survey)),
            Ok(_) => context
                .ui
                .detail(format!("{member} has nothing of {name}.")),
            Err(problem) => {
                context.ui.warning(&problem.of(&member));
                silent.push(member);
            }
        }
    }
    let fence = surveys
        .iter()
        .map(|(_, survey)| survey.fence)
        .max()
        .unwrap_or(0);
    if fence > state.last_fence {
        hub.store
            .next_fence(name, fence)
            .await
            .map_err(store_error)?;
    }
    let known = restore_generations(context, hub, name, &state, &surveys).await?;
    let settled = settle(hub, name, &surveys).await?;
    let desired = most_live(&surveys);
    if let Some(desired) = desired {
        if hub.store.generation(name, desired).await.is_ok() {
            hub.store
                .recover_desired(name, desired)
                .await
                .map_err(store_error)?;
        } else {
            context.ui.warning(
                &Problem::new(
                    Code::GenerationUnknown,
                    format!("{name}: most members are at {desired}, which this hub can't take up"),
                )
                .with_hint(format!("fanout push platform {name} publishes anew")),
            );
        }
    }
    // ORDER: what others committed is on record before anybody may be answered with abort.
    hub.recovered(name, silent.is_empty())?;
    let exit = match (surveys.is_empty(), silent.is_empty()) {
        (_, true) => Exit::Done,
        (true, false) => Exit::Failed,
        (false, false) => Exit::Partial,
    };
    let text = format!(
        "{name}: {} and {} read back from {}; {}",
        counted(known as u64, "generation", "generations"),
        counted(settled as u64, "decision", "decisions"),
        counted(surveys.len() as u64, "member", "members"),
        desired.map_or("none has anything live".into(), |serial| format!(
            "{serial} is desired"
        ))
    );
    super::record(hub, "recover", name, exit, &text).await?;
    context.ui.status(format!("{text}."));
    let silent: Vec<&str> = silent.iter().map(AsRef::as_ref).collect();
    let shape = json!({
        "platform": name.as_str(), "generations": known, "decisions": settled,
        "generation": desired.map(|serial| serial.0), "fence": fence, "silent": silent,
    });
    Ok((exit, shape))
}

type Surveys = Vec<(MemberName, Survey)>;

/// The generation that most members are live at, or will be once they are told what was decided;
/// the newer of two.
fn most_live(surveys: &Surveys) -> Option<Serial> {
    let is_known = |txn| surveys.iter().any(|(_, it)| it.last_committed == Some(txn));
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, survey) in surveys {
        let awaited = survey.doubt.as_ref().filter(|doubt| is_known(doubt.txn));
        if let Some(serial) = awaited.map(|doubt| doubt.serial).or(survey.live) {
            *votes.entry(serial).or_default() += 1;
        }
    }
    votes
        .into_iter()
        .max_by_key(|&(serial, count)| (count, serial))
        .map(|(serial, _)| Serial(serial))
}

/// Takes up the generations that were published after the backup, in their order.
async fn restore_generations(
    context: &Context,
    hub: &Hub,
    name: &PlatformName,
    state: &PlatformState,
    surveys: &Surveys,
) -> Result<usize, CommandError> {
    let all: BTreeMap<u64, &Generation> = surveys
        .iter()
        .flat_map(|(_, survey)| &survey.generations)
        .map(|generation| (generation.serial, generation))
        .collect();
    let mut count = 0;
    for (serial, generation) in all {
        match hub.store.generation(name, Serial(serial)).await {
            Ok(_) => continue,
            Err(StoreError::UnknownGeneration(..)) => {}
            Err(error) => return Err(store_error(error)),
        }
        if serial <= state.last_serial {
            // Given out and aborted, or collected: not ours to bring back.
            context
                .ui
                .detail(format!("{name}: #{serial} was collected here."));
            continue;
        }
        let created = UnixMillis(generation.created_ms);
        let new = NewGeneration {
            platform: name.clone(),
            content_root: generation.roots.content,
            meta_root: generation.roots.meta,
            label: (!generation.label.is_empty()).then(|| generation.label.clone()),
            author: "recovered".into(),
            created,
            source: None,
            entries: 0,
            content_bytes: 0,
        };
        let given = hub
            .store
            .begin_generation(&new, serial - 1)
            .await
            .map_err(store_error)?;
        let members = having(surveys, serial);
        let published = Committed {
            txn: rand::random(),
            serial: given,
            fence: 0,
            purpose: Purpose::Publish,
        };
        commit(hub, name, published, members, created).await?;
        count += 1;
    }
    Ok(count)
}

fn having(surveys: &Surveys, serial: u64) -> Vec<ServerName> {
    surveys
        .iter()
        .filter(|(_, survey)| {
            survey
                .generations
                .iter()
                .any(|known| known.serial == serial)
        })
        .filter_map(|(member, _)| member.parse().ok())
        .collect()
}

/// What a member committed was decided: commit. All of it is recorded, since a member that doesn't
/// answer now may come back in doubt about it.
async fn settle(hub: &Hub, name: &PlatformName, surveys: &Surveys) -> Result<usize, CommandError> {
    let mut settled = 0;
    let witnesses: Vec<Witness> = surveys
        .iter()
        .map(|(_, survey)| Witness {
            last_committed: survey.last_committed,
            doubt: survey.doubt.as_ref().map(|doubt| doubt.txn),
        })
        .collect();
    for txn in known_commits(&witnesses) {
        let known = hub.store.transaction(&txn).await.map_err(store_error)?;
        let now = hub.clock.now();
        match known.as_ref().map(|known| known.decision) {
            Some(Some((Decision::Commit, _))) => continue,
            Some(Some((Decision::Abort, _))) => {
                return Err(CommandError::new(
                    Code::StateDamaged,
                    format!("{name}: a member committed what this hub decided to abort"),
                ));
            }
            Some(None) => hub
                .store
                .decide(&txn, Decision::Commit, now)
                .await
                .map_err(store_error)?,
            None => {
                let (serial, fence) = about(&txn, surveys);
                let members = having(surveys, serial.0);
                let committed = Committed {
                    txn,
                    serial,
                    fence,
                    purpose: Purpose::Restore,
                };
                commit(hub, name, committed, members, now).await?;
            }
        }
        settled += 1;
    }
    Ok(settled)
}

/// Which generation a transaction was about, and its fence, as its witnesses know it.
fn about(txn: &TxnKey, surveys: &Surveys) -> (Serial, u64) {
    let surveys = || surveys.iter().map(|(_, survey)| survey);
    let mut doubts = surveys().filter_map(|survey| survey.doubt.as_ref());
    if let Some(doubt) = doubts.find(|doubt| doubt.txn == *txn) {
        return (Serial(doubt.serial), doubt.fence);
    }
    let witness = surveys().find(|survey| survey.last_committed == Some(*txn));
    let live = witness.and_then(|survey| survey.live).unwrap_or(1);
    (Serial(live), witness.map_or(0, |survey| survey.fence))
}

/// A transaction as it is read back.
struct Committed {
    txn: TxnKey,
    serial: Serial,
    fence: u64,
    purpose: Purpose,
}

async fn commit(
    hub: &Hub,
    name: &PlatformName,
    committed: Committed,
    members: Vec<ServerName>,
    at: UnixMillis,
) -> Result<(), CommandError> {
    let txn = committed.txn;
    let new = NewTransaction {
        txn,
        platform: name.clone(),
        serial: committed.serial,
        fence: committed.fence,
        purpose: committed.purpose,
        members,
        author: "recovered".into(),
        begun: at,
    };
    hub.store
        .begin_transaction(&new)
        .await
        .map_err(store_error)?;
    hub.store
        .decide(&txn, Decision::Commit, at)
        .await
        .map_err(store_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_proto::wire::Doubt;

    #[test]
    fn what_most_members_are_live_at_is_desired_and_the_newer_of_two() {
        let surveys = |live: &[Option<u64>]| -> Surveys {
            let survey = |live: &Option<u64>| Survey {
                bound: true,
                live: *live,
                ..Survey::default()
            };
            live.iter()
                .map(|live| ("web".into(), survey(live)))
                .collect()
        };
        assert_eq!(
            most_live(&surveys(&[Some(41), Some(42), Some(41)])),
            Some(Serial(41))
        );
        assert_eq!(
            most_live(&surveys(&[Some(41), Some(42), None])),
            Some(Serial(42))
        );
        assert_eq!(most_live(&surveys(&[None])), None);
        // Two wait for a decision that the third one proves: they will be where it is.
        let mut surveys = surveys(&[Some(41), Some(41), Some(42)]);
        for (_, survey) in &mut surveys[..2] {
            survey.doubt = Some(Doubt {
                tree: [1; 16],
                txn: [2; 16],
                serial: 42,
                fence: 7,
            });
        }
        assert_eq!(most_live(&surveys), Some(Serial(41)));
        surveys[2].1.last_committed = Some([2; 16]);
        assert_eq!(most_live(&surveys), Some(Serial(42)));
    }
}
