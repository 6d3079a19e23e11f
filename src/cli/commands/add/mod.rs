//! `fanout add`: servers, clusters, balancers, platforms and sites into the inventory.
//!
//! Each ends with what was written, that nothing on the servers has changed yet, and the next
//! command. The inventory is checked as a whole before anything is saved or any server is asked.

mod server;
mod site;
mod ssh;

use crate::cli::Context;
use crate::cli::args::{AddArgs, AddClusterArgs, AddNoun, AddPlatformArgs, LayoutArg, ResyncArg};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid, store_error};
use crate::cli::json::ResultLine;
use crate::cli::rules;
use crate::codes::{Code, Exit};
use crate::config::{Edit, Kind, NewCluster, NewPlatform, Platform};
use crate::model::{AbsPath, ClusterName, Layout, PlatformName, ResyncMode};
use serde_json::json;
use std::path::{Path, PathBuf};

pub(crate) async fn run(context: &Context, args: AddArgs) -> Result<Exit, CommandError> {
    match args.noun {
        AddNoun::Server(args) => server::run(context, args).await,
        AddNoun::Cluster(args) => cluster(context, args).await,
        AddNoun::Balancer(args) => site::balancer(context, args).await,
        AddNoun::Platform(args) => platform(context, args).await,
        AddNoun::Site(args) => site::site(context, args).await,
    }
}

async fn cluster(context: &Context, args: AddClusterArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let name: ClusterName = args
        .name
        .parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    if hub.inventory.servers.contains_key(name.as_str()) {
        return Err(taken(&name, "server"));
    }
    let mut edit = hub.edit("add cluster")?;
    let new = NewCluster {
        members: args.members,
        settings: args.settings.settings(),
    };
    edit.add_cluster(&name, &new).map_err(config_error)?;
    edit.save().map_err(config_error)?;
    let option = context.dir_option();
    let next = format!("fanout add platform NAME --path SOURCE --root ROOT --on {name}{option}");
    written(context, &hub, "cluster", name.as_str(), &next);
    Ok(Exit::Done)
}

async fn platform(context: &Context, args: AddPlatformArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let name: PlatformName = args
        .name
        .parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    let path = source_path(&args.path)?;
    let root = absolute(&args.root)?;
    rules::check(&args.rules.exclude, &args.rules.preserve)?;
    let owner = match &args.rules.owner {
        Some(owner) => Some(
            owner
                .parse()
                .map_err(|error| invalid(Code::Usage, &error))?,
        ),
        None => None,
    };
    let new = NewPlatform {
        on: args.on,
        path,
        root,
        layout: args.layout.map(layout),
        owner,
        exclude: (!args.rules.exclude.is_empty()).then_some(args.rules.exclude),
        preserve: args.rules.preserve,
        keep: args.rules.keep,
        resync: args.rules.resync.map(resync),
        app: args.app.settings(),
    };
    let mut edit = hub.edit("add platform")?;
    edit.add_platform(&name, &new).map_err(config_error)?;
    for required in &args.rules.require {
        require(&mut edit, &name, required)?;
    }
    let inventory = edit.check().map_err(config_error)?;
    // A name that was removed and is added again is another platform: a new tree, a new history.
    // ORDER: the id first, so that a platform in the inventory always has one.
    hub.store
        .forget_platform(&name)
        .await
        .map_err(store_error)?;
    hub.state(&name).await?;
    edit.save().map_err(config_error)?;
    let option = context.dir_option();
    let next = format!("fanout push platform {name} --dry-run{option}");
    let added = inventory.platform(name.as_str()).map_err(config_error)?;
    written(context, &hub, "platform", name.as_str(), &next);
    advise(context, added);
    Ok(Exit::Done)
}

/// Things about a new platform that a person should look at before the first push.
fn advise(context: &Context, platform: &Platform) {
    let is_directory = platform.path.as_path().is_dir();
    if !is_directory {
        context
            .ui
            .warn(format!("The source {} is not there yet", platform.path));
    }
    if platform.preserve.is_empty() {
        context.ui.hint(format!(
            "uploads and local settings need a rule, or a push may delete them: \
             fanout edit platform {} --preserve /PATH",
            platform.name
        ));
    }
    context.ui.hint(format!(
        "where {} has content already: fanout adopt platform {}",
        platform.root, platform.name
    ));
}

pub(super) fn require(
    edit: &mut Edit,
    platform: &PlatformName,
    path: &str,
) -> Result<bool, CommandError> {
    edit.append(Kind::Platform, platform.as_str(), "require", path)
        .map_err(config_error)
}

/// The source may be given relative to the current directory; the inventory has it absolute.
pub(super) fn source_path(path: &Path) -> Result<AbsPath, CommandError> {
    let path = std::path::absolute(path).map_err(|error| invalid(Code::Usage, &error))?;
    // Without `.` and doubled slashes; `..` is for the inventory to refuse.
    let clean: PathBuf = path.components().collect();
    absolute(&clean)
}

fn absolute(path: &Path) -> Result<AbsPath, CommandError> {
    let text = path
        .to_str()
        .ok_or_else(|| CommandError::usage(format!("The path {} is not UTF-8", path.display())))?;
    text.parse().map_err(|error| invalid(Code::Usage, &error))
}

fn layout(arg: LayoutArg) -> Layout {
    match arg {
        LayoutArg::Switched => Layout::Switched,
        LayoutArg::InPlace => Layout::InPlace,
    }
}

pub(super) fn resync(arg: ResyncArg) -> ResyncMode {
    match arg {
        ResyncArg::Repair => ResyncMode::Repair,
        ResyncArg::Report => ResyncMode::Report,
    }
}

fn taken(name: &impl std::fmt::Display, kind: &str) -> CommandError {
    CommandError::new(
        Code::NameTaken,
        format!("There is a {kind} `{name}` in the inventory already"),
    )
}

/// What was written, that nothing has changed yet, and what comes next.
fn written(context: &Context, hub: &Hub, kind: &str, name: &str, next: &str) {
    let file = hub.dir.inventory().display().to_string();
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "added": {"kind": kind, "name": name}, "inventory": file, "next": next,
        })));
    }
    context.ui.status(format!(
        "Wrote the {kind} {name} to {file}. Nothing on the servers has changed yet."
    ));
    context.ui.hint(format!("next: {next}"));
}
