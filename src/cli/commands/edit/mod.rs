//! `fanout edit`: settings in the inventory, with its comments and its order kept.
//!
//! Nothing on the servers changes. Lists of rules, networks, aliases and redirects grow by what is
//! given; everything else is replaced. [`platform`] also gives up preserve rules on the members.

mod platform;

use crate::cli::Context;
use crate::cli::args::{
    EditArgs, EditBalancerArgs, EditClusterArgs, EditNoun, EditServerArgs, EditSiteArgs,
    TransportArg, UnsetArgs,
};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid};
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::config::{Edit, Kind};
use crate::model::{Address, Label, Transport};
use serde_json::json;

pub(crate) async fn run(context: &Context, args: EditArgs) -> Result<Exit, CommandError> {
    match args.noun {
        EditNoun::Server(args) => server(context, args).await,
        EditNoun::Cluster(args) => cluster(context, args).await,
        EditNoun::Balancer(args) => balancer(context, args).await,
        EditNoun::Platform(args) => platform::run(context, args).await,
        EditNoun::Site(args) => site(context, args).await,
    }
}

async fn server(context: &Context, args: EditServerArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut edit = hub.edit("edit server")?;
    let (kind, name) = (Kind::Server, args.name.as_str());
    let mut keys = Vec::new();
    if let Some(address) = &args.address {
        let address: Address = address
            .parse()
            .map_err(|error| invalid(Code::Usage, &error))?;
        keys.push(("address".into(), address.to_string().into()));
    }
    if !args.addresses.is_empty() {
        let list = args.addresses.iter().map(ToString::to_string);
        keys.push(("addresses".into(), list.collect()));
    }
    if !args.labels.is_empty() {
        let labels: Result<Vec<Label>, _> = args.labels.iter().map(|label| label.parse()).collect();
        let labels = labels.map_err(|error| invalid(Code::NameInvalid, &error))?;
        keys.push(("labels".into(), labels.iter().map(Label::as_str).collect()));
    }
    if let Some(transport) = args.transport {
        let transport = match transport {
            TransportArg::Auto => Transport::Auto,
            TransportArg::Quic => Transport::Quic,
            TransportArg::Ssh => Transport::Ssh,
        };
        keys.push(("transport".into(), transport.as_str().into()));
    }
    let mut changed = edit.change(kind, name, keys).map_err(config_error)?;
    let web = edit.change_within(kind, name, "web", args.web.settings().keys());
    changed.extend(web.map_err(config_error)?);
    let mut db = args.db.settings();
    for network in std::mem::take(&mut db.networks) {
        let text = network.to_string();
        let is_new = edit.append_within(kind, name, ("db", "networks"), &text);
        if is_new.map_err(config_error)? {
            changed.push("db.networks".to_owned());
        }
    }
    let db = edit.change_within(kind, name, "db", db.keys());
    changed.extend(db.map_err(config_error)?);
    changed.extend(unset(&mut edit, kind, name, &args.unset)?);
    finish(context, &hub, edit, kind, name, changed)
}

async fn cluster(context: &Context, args: EditClusterArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut edit = hub.edit("edit cluster")?;
    let (kind, name) = (Kind::Cluster, args.name.as_str());
    hub.inventory.cluster(name).map_err(config_error)?;
    let mut members_changed = false;
    for member in &args.add_members {
        members_changed |= edit
            .append(kind, name, "members", member)
            .map_err(config_error)?;
    }
    for member in &args.remove_members {
        let was_there = edit
            .take_out(kind, name, "members", member)
            .map_err(config_error)?;
        if !was_there {
            return Err(CommandError::new(
                Code::UnknownServer,
                format!("The cluster {name} doesn't list {member}"),
            ));
        }
        members_changed = true;
    }
    let mut changed = Vec::new();
    if members_changed {
        changed.push("members".to_owned());
    }
    let settings = edit.change(kind, name, args.settings.settings().keys());
    changed.extend(settings.map_err(config_error)?);
    changed.extend(unset(&mut edit, kind, name, &args.unset)?);
    finish(context, &hub, edit, kind, name, changed)
}

async fn balancer(context: &Context, args: EditBalancerArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut edit = hub.edit("edit balancer")?;
    let (kind, name) = (Kind::Balancer, args.name.as_str());
    let settings = edit.change(kind, name, args.settings.settings().keys());
    let mut changed = settings.map_err(config_error)?;
    changed.extend(unset(&mut edit, kind, name, &args.unset)?);
    finish(context, &hub, edit, kind, name, changed)
}

async fn site(context: &Context, args: EditSiteArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let mut edit = hub.edit("edit site")?;
    let (kind, uri) = (Kind::Site, args.uri.as_str());
    let settings = args.settings.settings(args.platform.as_deref());
    let plain = edit.change(kind, uri, settings.plain_keys());
    let mut changed = plain.map_err(config_error)?;
    let mut aliases_changed = false;
    for alias in &settings.aliases {
        let is_new = edit.append(kind, uri, "aliases", alias.as_str());
        aliases_changed |= is_new.map_err(config_error)?;
    }
    for alias in &args.remove_alias {
        let was_there = edit.take_out(kind, uri, "aliases", alias);
        if !was_there.map_err(config_error)? {
            return Err(CommandError::usage(format!(
                "The site {uri} has no alias {alias}"
            )));
        }
        aliases_changed = true;
    }
    if aliases_changed {
        changed.push("aliases".to_owned());
    }
    let mut redirects_changed = !settings.redirects.is_empty();
    let redirects = edit.change_within(kind, uri, "redirects", settings.redirect_keys());
    redirects.map_err(config_error)?;
    for path in &args.remove_redirect {
        let was_there = edit.unset_within(kind, uri, "redirects", path);
        if !was_there.map_err(config_error)? {
            return Err(CommandError::usage(format!(
                "The site {uri} doesn't redirect {path}"
            )));
        }
        redirects_changed = true;
    }
    if redirects_changed {
        changed.push("redirects".to_owned());
    }
    changed.extend(unset(&mut edit, kind, uri, &args.unset)?);
    finish(context, &hub, edit, kind, uri, changed)
}

/// Takes settings out of the file, and says which.
fn unset(
    edit: &mut Edit,
    kind: Kind,
    name: &str,
    args: &UnsetArgs,
) -> Result<Vec<String>, CommandError> {
    for key in &args.unset {
        edit.drop_key(kind, name, key).map_err(config_error)?;
    }
    Ok(args.unset.clone())
}

fn finish(
    context: &Context,
    hub: &Hub,
    edit: Edit,
    kind: Kind,
    name: &str,
    changed: Vec<String>,
) -> Result<Exit, CommandError> {
    if changed.is_empty() {
        return Err(CommandError::usage(
            "There is nothing to change on the command line",
        ));
    }
    edit.save().map_err(config_error)?;
    let file = hub.dir.inventory().display().to_string();
    let next = format!("fanout plan{}", context.dir_option());
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "edited": {"kind": kind.to_string(), "name": name},
            "changed": changed, "inventory": file, "next": next,
        })));
    }
    context.ui.status(format!(
        "Wrote {} of {name} to {file}. Nothing on the servers has changed yet.",
        changed.join(", ")
    ));
    context.ui.hint(format!("next: {next}"));
    Ok(Exit::Done)
}
