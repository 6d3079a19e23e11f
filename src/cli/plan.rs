//! From the inventory and the command line to what the engine is asked: the one place where the
//! two meet.

use super::args::{LevelArg, MemberArgs, PolicyArg, TaskArgs};
use super::error::CommandError;
use super::hub::{Hub, invalid, store_error};
use super::{rules, serving};
use crate::codes::{Code, Problem};
use crate::config::{Platform, Server};
use crate::engine::event::{EventSink, MemberName};
use crate::engine::hub::dial::{Route, SshRoute, dial, nowhere};
use crate::engine::hub::ownership::Ownership;
use crate::engine::hub::source::{Released, SourceSpec};
use crate::engine::hub::task::{Overrides, Rolling, Spare, Target, Task};
use crate::model::{self, CommitPolicy, Member, OwnerPolicy, Selection, Selector, SpecialFile};
use crate::net::{Identity, NodeKey};
use crate::orchestrate::rotation::Rotation;
use crate::store::PlatformState;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::commit::Policy;
use sync_proto::filter::Scope;
use sync_proto::path::escape;
use sync_proto::special::SpecialFiles;
use sync_proto::wire::{self, Level};

/// How long a task may take without `--deadline`.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What the command line says about a task.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) members: MemberArgs,
    pub(crate) level: Level,
    pub(crate) policy: Option<PolicyArg>,
    pub(crate) task: TaskArgs,
    pub(crate) overrides: Overrides,
    pub(crate) dry_run: bool,
    pub(crate) report_only: bool,
    pub(crate) label: Option<String>,
    /// So many members at a time.
    pub(crate) rolling: Option<NonZeroUsize>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            members: MemberArgs::default(),
            level: Level::Stat,
            policy: None,
            task: TaskArgs::default(),
            overrides: Overrides::default(),
            dry_run: false,
            report_only: false,
            label: None,
            rolling: None,
        }
    }
}

/// The rules of a platform as members enforce them.
pub(crate) struct PlatformRules {
    /// Excludes, and everything that was ever preserved and not released.
    pub(crate) scope: Scope,
    /// Preserve rules that the inventory doesn't have any more, and that still hold.
    pub(crate) narrowed: Vec<String>,
}

/// The platform's rules, with those that the hub sent before.
pub(crate) async fn rules(hub: &Hub, platform: &Platform) -> Result<PlatformRules, CommandError> {
    let sent = hub.store.rules(&platform.name).await.map_err(store_error)?;
    let own = [
        &platform.preserve[..],
        &serving::application::preserve(&hub.inventory, platform)[..],
    ]
    .concat();
    let here = rules::scope(&platform.exclude, &own)?.preserve.to_lines();
    let narrowed: Vec<String> = sent
        .into_iter()
        .filter(|rule| rule.released.is_none() && !here.contains(&rule.rule))
        .map(|rule| rule.rule)
        .collect();
    let preserve = [&here[..], &narrowed[..]].concat();
    Ok(PlatformRules {
        scope: rules::scope(&platform.exclude, &preserve)?,
        narrowed,
    })
}

/// The task as the engine takes it.
pub(crate) async fn task(
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    id: u64,
    wish: &Wish,
    events: &EventSink,
) -> Result<Task, CommandError> {
    let rules = rules(hub, platform).await?;
    let (targets, others) = targets(hub, platform, &wish.members, events).await?;
    let left_out = others.iter().map(|target| target.name.clone()).collect();
    let donors = targets.iter().cloned().chain(others).collect();
    let (policy, min_healthy) = hub.inventory.commit_policy(platform);
    Ok(Task {
        id,
        platform: platform.name.clone(),
        hub: hub.inventory.hub.clone(),
        tree: *state.tree.as_bytes(),
        root: platform.root.as_str().as_bytes().to_vec(),
        layout: match platform.layout {
            model::Layout::Switched => wire::Layout::Switched,
            model::Layout::InPlace => wire::Layout::InPlace,
        },
        targets,
        donors,
        left_out,
        policy: wish
            .policy
            .map_or_else(|| of_inventory(policy), of_command_line),
        min_healthy,
        level: wish.level,
        exclude: rules.scope.exclude.to_lines(),
        preserve: rules.scope.preserve.to_lines(),
        options: wire::Options {
            special_files: special_files(platform),
            privileged_xattrs: platform.privileged_xattrs,
            delete_excluded: platform.delete_excluded,
            seed: platform.seed,
        },
        spare: Some(Spare {
            root: platform.path.as_path().to_owned(),
            index: source_index(hub, platform),
        }),
        keep: platform.keep,
        overrides: wish.overrides,
        dry_run: wish.dry_run,
        report_only: wish.report_only,
        deadline: wish.task.deadline.unwrap_or(DEADLINE),
        label: wish.label.clone(),
        author: hub.who.to_string(),
        rolling: rolling(hub, platform, wish).await?,
    })
}

/// Batch by batch, with what surrounds each switch.
async fn rolling(
    hub: &Hub,
    platform: &Platform,
    wish: &Wish,
) -> Result<Option<Rolling>, CommandError> {
    let Some(at_once) = wish.rolling.filter(|_| !wish.dry_run) else {
        return Ok(None);
    };
    let names = hub.inventory.servers.keys().cloned();
    let servers = serving::servers(hub, names).await?;
    let (inventory, store) = (&hub.inventory, hub.store.clone());
    let author = hub.who.to_string();
    let rotation = Rotation::of(
        inventory,
        platform,
        servers,
        store,
        hub.clock.clone(),
        &author,
    );
    let Some(rotation) = rotation else {
        return Err(CommandError::new(
            Code::Usage,
            format!(
                "{} lives on one server: there is nothing to roll over",
                platform.name
            ),
        ));
    };
    Ok(Some(Rolling {
        at_once,
        rotation: Arc::new(rotation),
    }))
}

/// Where the index of the platform's source lies: what was seen without privileged attributes says
/// nothing about them, so each has its own.
fn source_index(hub: &Hub, platform: &Platform) -> PathBuf {
    let index = hub.dir.source_index(&platform.name);
    match platform.privileged_xattrs {
        true => index.with_extension("privileged"),
        false => index,
    }
}

fn special_files(platform: &Platform) -> SpecialFiles {
    let allowed = |kind| platform.special_files.contains(&kind);
    SpecialFiles {
        setuid: allowed(SpecialFile::Setuid),
        devices: allowed(SpecialFile::Devices),
        fifos: allowed(SpecialFile::Fifos),
    }
}

/// The source as the engine takes it.
pub(crate) async fn source(
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    released: Released,
) -> Result<SourceSpec, CommandError> {
    let rules = rules(hub, platform).await?;
    let owner = match &platform.owner {
        OwnerPolicy::Keep => None,
        OwnerPolicy::Fixed { user, group } => Some((user.clone(), group.clone())),
    };
    Ok(SourceSpec {
        path: platform.path.as_path().to_owned(),
        scope: rules.scope,
        require: platform
            .require
            .iter()
            .map(|path| escape(path.as_bytes()))
            .collect(),
        ownership: Ownership {
            owner,
            numeric_ids: platform.numeric_ids,
            directory_mode: platform.dirs.map(model::Mode::bits),
            file_mode: platform.files.map(model::Mode::bits),
        },
        special_files: special_files(platform),
        privileged_xattrs: platform.privileged_xattrs,
        // What the first push let pass was looked at then.
        preserved_seen: state.desired.is_some() || platform.seed,
        seed: platform.seed,
        released,
        index: source_index(hub, platform),
    })
}

/// The members that are meant, and the others, each with the way to it.
pub(crate) async fn targets(
    hub: &Hub,
    platform: &Platform,
    args: &MemberArgs,
    events: &EventSink,
) -> Result<(Vec<Target>, Vec<Target>), CommandError> {
    let servers = hub.inventory.members(platform);
    let members: Vec<Member> = servers.iter().map(|server| server.member()).collect();
    if members.is_empty() {
        return Err(CommandError::new(
            Code::NoMembers,
            format!("{} has no members: {} is empty", platform.name, platform.on),
        ));
    }
    let selection = Selection {
        limit: selectors(&args.limit)?,
        skip: selectors(&args.skip)?,
    };
    let chosen = selection
        .choose(&members)
        .map_err(|error| invalid(Code::UnknownServer, &error))?;
    let identity = hub.identity()?;
    let (mut targets, mut others) = (Vec::new(), Vec::new());
    for server in servers {
        let target = target(hub, server, &identity, events).await?;
        if chosen.iter().any(|member| member.name == server.name) {
            targets.push(target);
        } else {
            others.push(target);
        }
    }
    Ok((targets, others))
}

/// One server with the way to it. A server without a key is reported as a member that can't be
/// reached, so that the others go on.
pub(crate) async fn target(
    hub: &Hub,
    server: &Server,
    identity: &Identity,
    events: &EventSink,
) -> Result<Target, CommandError> {
    let name: MemberName = server.name.as_str().into();
    let known = hub.store.server(&server.name).await.map_err(store_error)?;
    let key: Option<NodeKey> = known.and_then(|known| known.node_key.parse().ok());
    let dial = match key {
        Some(key) => dial(route(server, key), identity.clone(), events.clone()),
        None => nowhere(
            Problem::new(
                Code::NotTrusted,
                format!("{name}: this hub has no key of its agent"),
            )
            .with_hint(format!(
                "join it: `fanout agent invite` there, and here: fanout add server {name} \
                     --address HOST --token-file -"
            )),
        ),
    };
    Ok(Target { name, dial })
}

/// How a server is reached that has this key.
pub(crate) fn route(server: &Server, key: NodeKey) -> Route {
    Route {
        name: server.name.as_str().into(),
        address: server.address.clone(),
        key,
        transport: server.transport,
        ssh: server.ssh.as_ref().map(|ssh| SshRoute {
            destination: ssh.destination.clone(),
            sudo: ssh.sudo,
        }),
    }
}

fn selectors(texts: &[String]) -> Result<Vec<Selector>, CommandError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| invalid(Code::Usage, &error)))
        .collect()
}

/// The level as the wire has it.
pub(crate) fn level(arg: LevelArg) -> Level {
    match arg {
        LevelArg::Index => Level::Index,
        LevelArg::Stat => Level::Stat,
        LevelArg::Content => Level::Content,
    }
}

/// The word for a level that results show.
pub(crate) const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Index => "index",
        Level::Stat => "stat",
        Level::Content => "content",
    }
}

fn of_inventory(policy: CommitPolicy) -> Policy {
    match policy {
        CommitPolicy::Reachable => Policy::Reachable,
        CommitPolicy::All => Policy::All,
        CommitPolicy::Quorum(votes) => Policy::Quorum(votes.get()),
        CommitPolicy::Each => Policy::Each,
    }
}

fn of_command_line(policy: PolicyArg) -> Policy {
    match policy {
        PolicyArg::Reachable => Policy::Reachable,
        PolicyArg::All => Policy::All,
        PolicyArg::Quorum(votes) => Policy::Quorum(votes),
        PolicyArg::Each => Policy::Each,
    }
}
