//! `fanout update site`: the database of a site, brought to the schema that its code wants.

use super::schema::update;
use crate::cli::Context;
use crate::cli::args::{UpdateArgs, UpdateNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::json::ResultLine;
use crate::cli::serving::application::{OneSite, all_servers, one};
use crate::codes::{Code, Exit};
use serde_json::json;

pub(crate) async fn run(context: &Context, args: UpdateArgs) -> Result<Exit, CommandError> {
    let UpdateNoun::Site(args) = args.noun;
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    let site = one(&hub, &servers, &args.uri).await?;
    let uri = &site.site.uri;
    let (_, state) = site.app.look_anywhere(&site.members).await?;
    match state.is_installed {
        Some(true) => {}
        Some(false) => {
            let message = format!("{uri} is not installed yet");
            return Err(CommandError::new(Code::NotInstalled, message)
                .hint(format!("fanout install site {uri}")));
        }
        None => {
            let why = state.warnings.first().map_or("", String::as_str);
            let message = format!("{uri} can't be asked about its schema: {why}");
            return Err(CommandError::new(Code::AppFailed, message));
        }
    }
    for pending in &state.pending {
        context.ui.out(format!("~ {pending}"));
    }
    if state.pending.is_empty() {
        context
            .ui
            .status(format!("{uri} has the schema that its code wants."));
        result(context, &site, false, "");
        return Ok(Exit::Done);
    }
    if args.dry_run {
        context.ui.status("Nothing has been changed.");
        return Ok(Exit::Done);
    }
    let question = format!("Update {uri}? This can't be taken back");
    if !args.yes && !context.ui.confirm(&question, "`--yes`")? {
        return Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"));
    }
    // Nobody pushes other code meanwhile.
    let _lock = hub.lock(&site.platform.name, "update site", false).await?;
    let message = update(context, &hub, &site, &site.members).await?;
    result(context, &site, true, &message);
    Ok(Exit::Done)
}

fn result(context: &Context, site: &OneSite<'_>, changed: bool, message: &str) {
    if context.ui.is_json() {
        let uri = site.site.uri.as_str();
        let line = json!({ "site": uri, "changed": changed, "message": message });
        context.ui.json(&ResultLine::new(line));
    }
}
