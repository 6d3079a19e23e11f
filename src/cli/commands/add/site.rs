//! `fanout add balancer` and `fanout add site`.

use super::{taken, written};
use crate::cli::Context;
use crate::cli::args::{AddBalancerArgs, AddSiteArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid};
use crate::codes::{Code, Exit};
use crate::config::Inventory;
use crate::model::{BalancerName, SiteUri};

pub(super) async fn balancer(
    context: &Context,
    args: AddBalancerArgs,
) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let name: BalancerName = args
        .name
        .parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    let mut edit = hub.edit("add balancer")?;
    edit.add_balancer(&name, &args.settings.settings())
        .map_err(config_error)?;
    let inventory = edit.save().map_err(config_error)?;
    let option = context.dir_option();
    let next = match inventory.clusters.keys().next() {
        Some(cluster) => format!("fanout edit cluster {cluster} --balancer {name}{option}"),
        None => {
            format!("fanout add cluster NAME --members SERVER,SERVER --balancer {name}{option}")
        }
    };
    written(context, &hub, "balancer", name.as_str(), &next);
    Ok(Exit::Done)
}

pub(super) async fn site(context: &Context, args: AddSiteArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let uri: SiteUri = args
        .uri
        .parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))?;
    if hub.inventory.sites.contains_key(uri.as_str()) {
        return Err(taken(&uri, "site"));
    }
    let mut edit = hub.edit("add site")?;
    let settings = args.settings.settings(Some(&args.platform));
    edit.add_site(&uri, &settings).map_err(config_error)?;
    let inventory = edit.save().map_err(config_error)?;
    let next = format!("fanout plan{}", context.dir_option());
    written(context, &hub, "site", uri.as_str(), &next);
    advise(context, &inventory, &uri);
    Ok(Exit::Done)
}

/// What a plan will refuse, said while the person is still at it.
fn advise(context: &Context, inventory: &Inventory, uri: &SiteUri) {
    let open = inventory.sites_without_uploads();
    let Some(site) = open.into_iter().find(|site| site.uri == *uri) else {
        return;
    };
    let members = inventory.members_of_site(site);
    let Some(first) = members.first() else { return };
    context.ui.hint(format!(
        "{} members serve {uri}, so a plan wants to know what becomes of uploads: \
         fanout edit site {uri} --uploads pin:{}",
        members.len(),
        first.name
    ));
}
