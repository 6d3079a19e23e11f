//! `fanout status`: servers, members, generations, locks, and the tasks that run at this moment.
//! Asks members for a few seconds at most.
//!
//! `--check` speaks to monitoring: one line, and exit 0 only if every member is at its desired
//! generation and none is in doubt; 3 if some are not, 1 if none is.

use crate::cli::Context;
use crate::cli::args::StatusArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::human::counted;
use crate::cli::json::ResultLine;
use crate::cli::members;
use crate::cli::plan::{self, Wish};
use crate::cli::serving::standing::{Place, places};
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit, Problem};
use crate::config::Platform;
use crate::engine::event::{EventSink, MemberName};
use crate::model::{Outcome, Serial, ServerName};
use crate::store::{Holder, MemberState, PlatformState};
use serde_json::{Value, json};
use std::time::Duration;
use sync_proto::wire::Survey;

/// How long a member may take to answer: a status is to be read now.
const PATIENCE: Duration = Duration::from_secs(4);

/// One platform as it is.
struct Seen {
    state: PlatformState,
    /// The task that has the platform's lock at this moment.
    running: Option<Holder>,
    on: String,
    root: String,
    members: Vec<Member>,
}

/// One member as it is.
struct Member {
    name: MemberName,
    standing: Standing,
    live: Option<Serial>,
    last: Option<MemberState>,
    problem: Option<Problem>,
    /// Where it is with its balancer, if there is one.
    place: Option<Place>,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// At the desired generation.
    UpToDate,
    /// At another one, or at none.
    Stale,
    /// It voted and doesn't know the decision.
    InDoubt,
    /// A task works on it at this moment.
    Busy,
    /// It doesn't answer.
    Unreachable,
    /// Nothing was pushed yet.
    New,
}

impl Standing {
    const fn word(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::Stale => "stale",
            Self::InDoubt => "in-doubt",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::New => "new",
        }
    }

    const fn is_good(self) -> bool {
        matches!(self, Self::UpToDate | Self::New | Self::Busy)
    }
}

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut seen = Vec::new();
    for platform in hub.inventory.platforms.values() {
        seen.push(look(&hub, platform).await?);
    }
    let exit = match args.check {
        true => exit_of(&seen),
        false => Exit::Done,
    };
    if context.ui.is_json() {
        let platforms: Vec<Value> = seen.iter().map(shape).collect();
        let servers: Vec<Value> = hub
            .inventory
            .servers
            .values()
            .map(|server| {
                json!({"name": server.name.as_str(), "address": server.address.to_string(),
                       "transport": server.transport.as_str()})
            })
            .collect();
        context.ui.json(&ResultLine::new(json!({
            "hub": hub.inventory.hub, "ok": exit_of(&seen) == Exit::Done,
            "servers": servers, "platforms": platforms, "tasks": tasks(&seen),
        })));
    } else if args.check {
        context.ui.out(check_line(&seen, exit));
    } else {
        text(context, &hub, &seen).await?;
    }
    Ok(exit)
}

/// The tasks that run, with who started them and what they do.
fn tasks(seen: &[Seen]) -> Vec<Value> {
    let running = seen
        .iter()
        .filter_map(|platform| Some((&platform.state.name, platform.running.as_ref()?)));
    running
        .map(|(platform, task)| {
            let is_known = task.pid != 0;
            json!({"platform": platform.as_str(), "by": task.who, "what": task.what,
                   "process": is_known.then_some(task.pid),
                   "since": is_known.then(|| task.since.utc())})
        })
        .collect()
}

async fn look(hub: &Hub, platform: &Platform) -> Result<Seen, CommandError> {
    let state = hub.state(&platform.name).await?;
    let running = hub.running(&platform.name)?;
    let engine = hub.engine(EventSink::none());
    let task = plan::task(hub, platform, &state, 0, &Wish::default(), &engine.events).await;
    let known = hub
        .store
        .members(&platform.name)
        .await
        .map_err(store_error)?;
    let tree = *state.tree.as_bytes();
    // Both at once: whoever doesn't answer is waited for once.
    let places = places(hub, platform, PATIENCE);
    let answers = async {
        match &task {
            Ok(task) => {
                let survey = |session: crate::engine::hub::session::Session| async move {
                    session.survey(tree).await
                };
                members::of_task(&engine, task, Some(PATIENCE), survey).await
            }
            // A cluster without members is a finding, not a failure of `status`.
            Err(_) => Vec::new(),
        }
    };
    let (answers, mut places) = tokio::join!(answers, places);
    let members = answers
        .into_iter()
        .map(|(name, answer)| {
            let last = known
                .iter()
                .find(|known| known.server.as_str() == &*name)
                .cloned();
            let place = name
                .parse()
                .ok()
                .and_then(|name: ServerName| places.remove(&name));
            Member {
                place,
                ..member(name, answer, state.desired, last)
            }
        })
        .collect();
    Ok(Seen {
        on: platform.on.to_string(),
        root: platform.root.to_string(),
        state,
        running,
        members,
    })
}

fn member(
    name: MemberName,
    answer: Result<Survey, Problem>,
    desired: Option<Serial>,
    last: Option<MemberState>,
) -> Member {
    let (standing, live, problem) = match answer {
        Ok(survey) => {
            let live = survey.live.map(Serial);
            let standing = match () {
                () if survey.doubt.is_some() => Standing::InDoubt,
                () if live == desired && desired.is_some() => Standing::UpToDate,
                () if desired.is_none() => Standing::New,
                () => Standing::Stale,
            };
            (standing, live, None)
        }
        Err(problem) => {
            let live = last.as_ref().and_then(|last| last.serial);
            match problem.code {
                // It answers, and is at work. What it was at before says how it stands.
                Code::TaskLocked if live == desired || desired.is_none() => {
                    (Standing::Busy, live, None)
                }
                Code::TaskLocked => (Standing::Stale, live, Some(problem)),
                _ => (Standing::Unreachable, live, Some(problem)),
            }
        }
    };
    Member {
        name,
        standing,
        live,
        last,
        problem,
        place: None,
    }
}

fn exit_of(seen: &[Seen]) -> Exit {
    let members = || seen.iter().flat_map(|platform| &platform.members);
    let good = members().filter(|member| member.standing.is_good()).count();
    match (members().count(), good) {
        (all, good) if all == good => Exit::Done,
        (_, 0) => Exit::Failed,
        _ => Exit::Partial,
    }
}

fn check_line(seen: &[Seen], exit: Exit) -> String {
    let all: usize = seen.iter().map(|platform| platform.members.len()).sum();
    let bad: Vec<String> = seen
        .iter()
        .flat_map(|platform| {
            let bad = platform
                .members
                .iter()
                .filter(|member| !member.standing.is_good());
            bad.map(|member| {
                let (name, word) = (&platform.state.name, member.standing.word());
                match (member.standing, member.live, platform.state.desired) {
                    (Standing::Stale, Some(live), Some(desired)) => {
                        format!(
                            "{name} on {} {word} ({live}, wanted {desired})",
                            member.name
                        )
                    }
                    _ => format!("{name} on {} {word}", member.name),
                }
            })
        })
        .collect();
    match exit {
        Exit::Done => format!(
            "OK: {}, {} at the desired generation",
            counted(seen.len() as u64, "platform", "platforms"),
            counted(all as u64, "member", "members")
        ),
        Exit::Failed => format!("CRITICAL: {}", bad.join(", ")),
        _ => format!("WARNING: {}", bad.join(", ")),
    }
}

async fn text(context: &Context, hub: &Hub, seen: &[Seen]) -> Result<(), CommandError> {
    context.ui.out(format!(
        "hub {}: {}, {}",
        hub.inventory.hub,
        counted(hub.inventory.servers.len() as u64, "server", "servers"),
        counted(seen.len() as u64, "platform", "platforms")
    ));
    for platform in seen {
        let desired = match platform.state.desired {
            Some(serial) => match hub.store.generation(&platform.state.name, serial).await {
                Ok(found) => match found.label {
                    Some(label) => format!("{serial} ({label}) since {}", found.committed),
                    None => format!("{serial} since {}", found.committed),
                },
                Err(_) => serial.to_string(),
            },
            None => "never pushed".into(),
        };
        context.ui.out(format!(
            "\n{} on {}, {}: {desired}",
            platform.state.name, platform.on, platform.root
        ));
        if let Some(refusal) = crate::cli::hub::locked(&platform.state) {
            context.ui.out(format!("  {}", refusal.message));
        }
        if let Some(task) = &platform.running {
            context.ui.out(format!("  running: {task}"));
        }
        if platform.members.is_empty() {
            context.ui.out("  no members");
            continue;
        }
        context.ui.out(members_table(&platform.members));
    }
    Ok(())
}

fn members_table(members: &[Member]) -> Table {
    let is_balanced = members.iter().any(|member| member.place.is_some());
    let mut heads = vec![
        ("member", Align::Left),
        ("state", Align::Left),
        ("generation", Align::Right),
        ("last task", Align::Left),
        ("since", Align::Left),
        ("error", Align::Left),
    ];
    if is_balanced {
        heads.insert(2, ("rotation", Align::Left));
    }
    let mut table = Table::new(&heads);
    for member in members {
        let last = member.last.as_ref();
        let error = match (&member.problem, last.and_then(|last| last.error.as_ref())) {
            (Some(problem), _) => problem.to_string(),
            // What went wrong last time is news only while it isn't mended.
            (None, Some(error)) if !member.standing.is_good() => {
                format!("{} [{}]", error.message, error.code)
            }
            _ => String::new(),
        };
        let place = member.place.as_ref();
        let rotation = is_balanced.then(|| place.map_or("-".into(), Place::text));
        let first = [member.name.to_string(), member.standing.word().into()];
        let rest = [
            member.live.map_or("-".into(), |serial| serial.to_string()),
            last.map_or("-".into(), |last| last.outcome.as_str().to_owned()),
            last.map_or(String::new(), |last| last.since.to_string()),
            error,
        ];
        table.row(first.into_iter().chain(rotation).chain(rest));
    }
    table
}

fn shape(platform: &Seen) -> Value {
    let members: Vec<Value> = platform
        .members
        .iter()
        .map(|member| {
            let last = member.last.as_ref();
            json!({
                "name": member.name.as_ref(),
                "state": member.standing.word(),
                "generation": member.live.map(|serial| serial.0),
                "last_outcome": last.map(|last| Outcome::as_str(last.outcome)),
                "since": last.map(|last| last.since.utc()),
                "rotation": member.place.as_ref().map(Place::shape),
                "error": member.problem.as_ref().map(|problem| json!({
                    "code": problem.code.id(), "message": problem.message, "hint": problem.hint(),
                })),
            })
        })
        .collect();
    let locked = platform
        .state
        .locked
        .as_ref()
        .map(|lock| json!({"by": lock.by, "reason": lock.reason, "since": lock.since.utc()}));
    json!({
        "name": platform.state.name.as_str(),
        "on": platform.on,
        "root": platform.root,
        "generation": platform.state.desired.map(|serial| serial.0),
        "locked": locked,
        "members": members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TreeId;

    fn seen(members: Vec<Member>) -> Seen {
        let state = PlatformState {
            name: "drupal".parse().unwrap(),
            tree: TreeId::from_bytes([1; 16]),
            desired: Some(Serial(42)),
            last_serial: 42,
            last_fence: 1,
            follow_suspended: false,
            locked: None,
        };
        Seen {
            state,
            running: None,
            on: "front".into(),
            root: "/srv/x".into(),
            members,
        }
    }

    fn at(serial: u64) -> Member {
        let survey = Survey {
            bound: true,
            live: Some(serial),
            ..Survey::default()
        };
        member("web1".into(), Ok(survey), Some(Serial(42)), None)
    }

    #[test]
    fn monitoring_is_told_in_one_line_who_is_behind() {
        let good = vec![seen(vec![at(42), at(42)])];
        assert_eq!(exit_of(&good), Exit::Done);
        assert_eq!(
            check_line(&good, Exit::Done),
            "OK: 1 platform, 2 members at the desired generation"
        );
        let lost = Problem::new(Code::Unreachable, "No answer");
        let lost = member("web2".into(), Err(lost), Some(Serial(42)), None);
        let some = vec![seen(vec![at(42), at(41), lost])];
        assert_eq!(exit_of(&some), Exit::Partial);
        assert_eq!(
            check_line(&some, Exit::Partial),
            "WARNING: drupal on web1 stale (#41, wanted #42), drupal on web2 unreachable"
        );
        assert_eq!(exit_of(&[seen(vec![at(41)])]), Exit::Failed);
        // One at work answers: an alarm for each push would be ignored soon.
        let busy = Problem::new(Code::TaskLocked, "Another session works there");
        let busy = member("web3".into(), Err(busy), None, None);
        assert_eq!(busy.standing, Standing::Busy);
        assert_eq!(exit_of(&[seen(vec![at(42), busy])]), Exit::Done);
        assert_eq!(exit_of(&[]), Exit::Done);
    }
}
