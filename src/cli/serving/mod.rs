//! From the inventory to the graph of everything that should be true of services.

pub(crate) mod application;
mod bring;

use super::Context;
use super::error::CommandError;
use super::hub::{Hub, locked, store_error};
use super::plan::target;
use crate::codes::Problem;
use crate::engine::event::EventSink;
use crate::model::ServerName;
use crate::orchestrate::resources::code::Code;
use crate::orchestrate::servers::Servers;
use crate::orchestrate::{Graph, NodeId};
use crate::store::TaskId;
use bring::Resync;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is asked for beside the inventory itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Servers and sites that are no longer listed and may go.
    pub(crate) allow_remove: Vec<String>,
    /// Servers that will never answer again.
    pub(crate) gone: Vec<String>,
}

impl Request {
    fn is_gone(&self, server: &ServerName) -> bool {
        self.gone.iter().any(|name| name == server.as_str())
    }
}

/// A graph, and what the inventory itself gives reason to say.
pub(crate) struct Built {
    pub(crate) graph: Graph,
    pub(crate) notes: Vec<Problem>,
}

/// Ways to these servers' agents.
pub(crate) async fn servers(
    hub: &Hub,
    names: impl IntoIterator<Item = ServerName>,
) -> Result<Arc<Servers>, CommandError> {
    let identity = hub.identity()?;
    let events = EventSink::none();
    let mut targets = Vec::new();
    for name in names {
        if let Some(server) = hub.inventory.servers.get(&name) {
            let target = target(hub, server, &identity, &events).await?;
            targets.push((name, target));
        }
    }
    Ok(Arc::new(Servers::new(&hub.inventory.hub, targets)))
}

/// Everything that should be true.
pub(crate) async fn graph(
    context: &Context,
    hub: &Hub,
    request: &Request,
) -> Result<Built, CommandError> {
    let mut built = Built {
        graph: Graph::default(),
        notes: Vec::new(),
    };
    let servers = servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let _code = code(context, hub, request, &servers, &mut built).await?;
    Ok(built)
}

/// The code of every platform that was pushed, on each of its members.
async fn code(
    context: &Context,
    hub: &Hub,
    request: &Request,
    servers: &Arc<Servers>,
    built: &mut Built,
) -> Result<BTreeMap<ServerName, Vec<NodeId>>, CommandError> {
    let by = Arc::new(Resync::new(context));
    let mut nodes: BTreeMap<ServerName, Vec<NodeId>> = BTreeMap::new();
    for platform in hub.inventory.platforms.values() {
        let state = hub.state(&platform.name).await?;
        let Some(desired) = state.desired else {
            continue;
        };
        if let Some(locked) = locked(&state) {
            built.notes.push(locked);
            continue;
        }
        for server in hub.inventory.members(platform) {
            if request.is_gone(&server.name) {
                continue;
            }
            let node = built.graph.add(
                Arc::new(Code {
                    servers: servers.clone(),
                    by: by.clone(),
                    platform: platform.name.clone(),
                    tree: *state.tree.as_bytes(),
                    desired: desired.0,
                    server: server.name.clone(),
                }),
                &[],
            );
            nodes.entry(server.name.clone()).or_default().push(node);
        }
    }
    Ok(nodes)
}

/// The task that was cut off last, if the latest one was. Whoever asks holds the lock, so what has
/// not ended will not end.
pub(crate) async fn cut_off(hub: &Hub) -> Result<Option<TaskId>, CommandError> {
    let tasks = hub.store.tasks(50).await.map_err(store_error)?;
    let last = tasks.into_iter().find(|task| task.kind == "apply");
    Ok(last.filter(|task| task.ended.is_none()).map(|task| task.id))
}
