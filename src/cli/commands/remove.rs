//! `fanout remove`: forgets, and lists what stays where.
//!
//! No file on any server changes. Members are told to forget a platform, so that another one may
//! have the root later; one that can't be reached keeps the record, which is said.

use crate::cli::Context;
use crate::cli::args::{NamedArgs, RemoveArgs, RemoveNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::cli::json::ResultLine;
use crate::cli::members;
use crate::codes::{Code, Exit};
use crate::config::{Kind, On};
use serde_json::json;
use sync_proto::path::escape;

pub(crate) async fn run(context: &Context, args: RemoveArgs) -> Result<Exit, CommandError> {
    match args.noun {
        RemoveNoun::Server(NamedArgs { name }) => server(context, &name).await,
        RemoveNoun::Cluster(NamedArgs { name }) => cluster(context, &name).await,
        RemoveNoun::Balancer(NamedArgs { name }) => balancer(context, &name).await,
        RemoveNoun::Platform(NamedArgs { name }) => platform(context, &name).await,
        RemoveNoun::Site(NamedArgs { name }) => site(context, &name).await,
    }
}

async fn server(context: &Context, name: &str) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let server = hub
        .inventory
        .server(name)
        .map_err(config_error)?
        .name
        .clone();
    let clusters = hub
        .inventory
        .clusters
        .values()
        .filter(|c| c.members.contains(&server));
    let alone = |on: &On| *on == On::Server(server.clone());
    let platforms = hub.inventory.platforms.values().filter(|p| alone(&p.on));
    let balancers = hub.inventory.balancers.values();
    let balancers = balancers.filter(|b| b.servers.contains(&server));
    let databases = hub.inventory.sites_with_db_on(&server).into_iter();
    let users: Vec<String> = clusters
        .map(|c| format!("the cluster {}", c.name))
        .chain(platforms.map(|p| format!("the platform {}", p.name)))
        .chain(balancers.map(|b| format!("the balancer {}", b.name)))
        .chain(databases.map(|s| format!("the site {}", s.uri)))
        .collect();
    if !users.is_empty() {
        return Err(in_use("server", name, &users));
    }
    let mut edit = hub.edit("remove server")?;
    edit.remove(Kind::Server, name).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    // ORDER: the inventory first. A key without a server harms nobody and goes with the next try.
    hub.store
        .forget_server(&server)
        .await
        .map_err(store_error)?;
    let left = vec![
        "its agent goes on running, with its trees and their generations".to_owned(),
        "its agent still accepts this hub's key; removing KEY.hub in its `peers` directory ends that".to_owned(),
    ];
    forgotten(context, "server", name, &left);
    Ok(Exit::Done)
}

async fn cluster(context: &Context, name: &str) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let cluster = hub
        .inventory
        .cluster(name)
        .map_err(config_error)?
        .name
        .clone();
    let on_it = |on: &On| *on == On::Cluster(cluster.clone());
    let users: Vec<String> = hub
        .inventory
        .platforms
        .values()
        .filter(|p| on_it(&p.on))
        .map(|p| format!("the platform {}", p.name))
        .collect();
    if !users.is_empty() {
        return Err(in_use("cluster", name, &users));
    }
    let mut edit = hub.edit("remove cluster")?;
    edit.remove(Kind::Cluster, name).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    forgotten(
        context,
        "cluster",
        name,
        &["its servers stay in the inventory".to_owned()],
    );
    Ok(Exit::Done)
}

async fn balancer(context: &Context, name: &str) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let balancer = hub.inventory.balancer(name).map_err(config_error)?;
    let clusters = hub.inventory.clusters.values();
    let users: Vec<String> = clusters
        .filter(|cluster| cluster.balancer.as_ref() == Some(&balancer.name))
        .map(|cluster| format!("the cluster {}", cluster.name))
        .collect();
    if !users.is_empty() {
        return Err(in_use("balancer", name, &users));
    }
    let servers = balancer.servers.iter();
    let left: Vec<String> = servers
        .map(|server| format!("{server}: its configuration, and the balancer that runs with it"))
        .collect();
    let mut edit = hub.edit("remove balancer")?;
    edit.remove(Kind::Balancer, name).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    forgotten(context, "balancer", name, &left);
    Ok(Exit::Done)
}

async fn site(context: &Context, name: &str) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let site = hub.inventory.site(name).map_err(config_error)?;
    let members = hub.inventory.members_of_site(site).into_iter();
    let mut left: Vec<String> = members
        .map(|member| format!("{}: its configuration and its files", member.name))
        .collect();
    left.extend(
        site.db
            .as_ref()
            .map(|db| format!("{db}: its database and its accounts")),
    );
    let mut edit = hub.edit("remove site")?;
    edit.remove(Kind::Site, name).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    forgotten(context, "site", name, &left);
    Ok(Exit::Done)
}

async fn platform(context: &Context, name: &str) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let platform = hub.platform(name)?.clone();
    let sites = hub.inventory.sites_of(&platform.name);
    let users: Vec<String> = sites
        .iter()
        .map(|s| format!("the site {}", s.uri))
        .collect();
    if !users.is_empty() {
        return Err(in_use("platform", name, &users));
    }
    let state = hub.state(&platform.name).await?;
    if let Some(refusal) = crate::cli::hub::locked(&state) {
        return Err(refusal.into());
    }
    let _lock = hub
        .lock(&platform.name, &format!("remove platform {name}"), false)
        .await?;
    let mut left = vec![format!("the source {} on this machine", platform.path)];
    let tree = *state.tree.as_bytes();
    let answers = members::ask(context, &hub, &platform, &state, |session| async move {
        let survey = session.survey(tree).await?;
        match survey.bound {
            true => session.forget(tree).await.map(Some),
            false => Ok(None),
        }
    })
    .await?;
    for (member, answer) in answers {
        match answer {
            Ok(Some(notices)) => {
                if notices.is_empty() {
                    left.push(format!("{member}: {} with everything in it", platform.root));
                }
                left.extend(notices.iter().map(|notice| {
                    format!("{member}: {} {}", escape(&notice.path), notice.message)
                }));
            }
            Ok(None) => {}
            Err(problem) => left.push(format!(
                "{member}: {} and the agent's record of it, for the agent wasn't reached ({})",
                platform.root, problem.message
            )),
        }
    }
    let mut edit = hub.edit("remove platform")?;
    edit.remove(Kind::Platform, name).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    hub.store
        .forget_platform(&platform.name)
        .await
        .map_err(store_error)?;
    super::record(&hub, "remove", &platform.name, Exit::Done, "forgotten").await?;
    forgotten(context, "platform", name, &left);
    Ok(Exit::Done)
}

fn in_use(kind: &str, name: &str, users: &[String]) -> CommandError {
    CommandError::new(
        Code::StillInUse,
        format!("The {kind} {name} is still used by {}", users.join(", ")),
    )
}

fn forgotten(context: &Context, kind: &str, name: &str, left: &[String]) {
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "removed": {"kind": kind, "name": name}, "left": left,
        })));
    }
    context.ui.status(format!(
        "Forgot the {kind} {name}. No file on any server has changed. What stays:"
    ));
    for line in left {
        context.ui.status(format!("  {line}"));
    }
}
