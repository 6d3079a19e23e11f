//! `fanout delete site`: what fanout made for a site goes from every server.
//!
//! ORDER: the inventory forgets it before anything goes, so that whatever is cut off is finished by
//! `fanout apply --allow-remove`. The content of its database stays, unless its name was said.

use super::apply::{carried_out, inspected, show};
use super::delete::confirm;
use crate::cli::Context;
use crate::cli::args::DeleteSiteArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::cli::json::ResultLine;
use crate::cli::serving::Request;
use crate::codes::{Code, Exit};
use crate::config::Kind;
use crate::orchestrate::OnFailure;
use serde_json::json;

pub(super) async fn run(context: &Context, args: DeleteSiteArgs) -> Result<Exit, CommandError> {
    let mut hub = Hub::open(context).await?;
    let site = hub.inventory.site(&args.uri).map_err(config_error)?.clone();
    let uri = site.uri.clone();
    let database = hub.store.site_database(&uri).await.map_err(store_error)?;
    let named = database.as_ref().map(|known| known.database.as_str());
    if let Some(typed) = &args.drop_database
        && named != Some(typed.as_str())
    {
        let message = match named {
            Some(name) => format!("--drop-database says `{typed}`, and the database is `{name}`"),
            None => format!("{uri} has no database that fanout made"),
        };
        return Err(CommandError::new(Code::NotConfirmed, message));
    }
    let request = Request {
        allow_remove: vec![uri.to_string()],
        drop_database: args.drop_database.iter().map(|_| uri.to_string()).collect(),
        ..Request::default()
    };
    let lock = match args.dry_run {
        true => None,
        false => Some(hub.lock_serving("delete site", args.wait).await?),
    };
    hub.inventory.sites.remove(&uri);
    let (plan, notes) = inspected(context, &hub, &request).await?;
    show(context, &plan, &notes, "");
    if args.dry_run {
        if context.ui.is_json() {
            context
                .ui
                .json(&ResultLine::new(super::apply::shape(&plan)));
        }
        context.ui.status("Nothing was changed.");
        return Ok(Exit::Done);
    }
    let what = format!("This deletes what fanout made for {uri}, as shown.");
    confirm(
        context,
        "site",
        uri.as_str(),
        args.yes_delete.as_deref(),
        &what,
    )?;
    let mut edit = hub.edit("delete site")?;
    edit.remove(Kind::Site, uri.as_str())
        .map_err(config_error)?;
    edit.save().map_err(config_error)?;
    let exit = carried_out(context, &hub, &plan, &request, OnFailure::Undo, None).await?;
    drop(lock);
    if exit != Exit::Done {
        let hint =
            format!("the inventory has forgotten it; to go on: fanout apply --allow-remove {uri}");
        context.ui.hint(hint);
        return Ok(exit);
    }
    hub.store.forget_site(&uri).await.map_err(store_error)?;
    let mut left = vec![format!(
        "what visitors uploaded, in the tree of {}",
        site.platform
    )];
    if let (Some(known), None) = (&database, &args.drop_database) {
        left.push(format!(
            "the database {} on {}",
            known.database, known.server
        ));
    }
    context.ui.status(format!(
        "{uri} is deleted. What stays: {}.",
        left.join("; ")
    ));
    if context.ui.is_json() {
        let line = json!({ "deleted": {"kind": "site", "name": uri.as_str()}, "left": left });
        context.ui.json(&ResultLine::new(line));
    }
    Ok(exit)
}
