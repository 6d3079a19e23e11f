//! `fanout install site`: everything that the site needs, then its installation on one member, once,
//! and its opening on all of them.

use super::apply::{carried_out, show};
use super::deliver::deliver;
use crate::cli::Context;
use crate::cli::args::{InstallArgs, InstallNoun, InstallSiteArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::json::ResultLine;
use crate::cli::serving::application::{OneSite, all_servers, one};
use crate::cli::serving::{self, Request};
use crate::cli::work;
use crate::codes::{Code, Exit};
use crate::config::Secrets;
use crate::model::Uploads;
use crate::orchestrate::resources::application::Installed;
use crate::orchestrate::{OnFailure, Resource as _};
use crate::services::app::{driver_name, is_installable};
use crate::store::Generator;
use serde_json::json;
use sync_proto::wire::service::AppInstall;

pub(crate) async fn run(context: &Context, args: InstallArgs) -> Result<Exit, CommandError> {
    let InstallNoun::Site(args) = args.noun;
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    let site = one(&hub, &servers, &args.uri).await?;
    let uri = site.site.uri.clone();
    let driver = site.app.site.driver;
    if !is_installable(driver) {
        let message = format!(
            "{uri} is {}, which needs no installation",
            driver_name(driver)
        );
        return Err(CommandError::new(Code::AppActionMissing, message).hint("fanout apply"));
    }
    let lock = hub.lock_serving("install site", args.wait).await?;
    // What the installer needs: the database, the settings, the pool.
    let exit = brought(context, &hub, args.yes).await?;
    if exit == Exit::Failed {
        return Ok(exit);
    }
    let site = one(&hub, &servers, &args.uri).await?;
    if site.members.is_empty() {
        let message = format!("No member of {} is at its generation", site.platform.name);
        let hint = format!("fanout push platform {}", site.platform.name);
        return Err(CommandError::new(Code::NoMembers, message).hint(hint));
    }
    let is_done = install(context, &hub, &site, &args).await?;
    // Open it: the page that says it isn't installed goes, and every member is proved.
    let exit = exit.and(brought(context, &hub, true).await?);
    drop(lock);
    if matches!(site.site.uploads, Some(Uploads::Pin(_))) && site.members.len() > 1 {
        // An installer leaves files behind on the member that it ran on.
        deliver(context, &hub, &servers, &site, None).await?;
    }
    if context.ui.is_json() {
        let line = json!({ "site": uri.as_str(), "installed": is_done });
        context.ui.json(&ResultLine::new(line));
    }
    Ok(exit)
}

/// Applies whatever differs.
pub(super) async fn brought(
    context: &Context,
    hub: &Hub,
    is_agreed: bool,
) -> Result<Exit, CommandError> {
    let request = Request::default();
    let built = serving::graph(context, hub, &request).await?;
    let plan = built.graph.inspect().await;
    if plan.is_empty() && plan.unknown().next().is_none() {
        return Ok(Exit::Done);
    }
    if !is_agreed {
        show(context, &plan, &[], "");
        if !context.ui.confirm("Apply this first?", "`--yes`")? {
            return Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"));
        }
    }
    carried_out(context, hub, &plan, &request, OnFailure::Undo, None).await
}

/// Installs the application, unless it is. True if that was done now.
async fn install(
    context: &Context,
    hub: &Hub,
    site: &OneSite<'_>,
    args: &InstallSiteArgs,
) -> Result<bool, CommandError> {
    let uri = &site.site.uri;
    let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
    let password = serving::ensure(&secrets, uri, "admin", Generator::Password)?;
    let mail = args.mail.clone().or_else(|| site.site.mail.clone());
    let step = Installed {
        app: site.app.clone(),
        members: site.members.clone(),
        with: AppInstall {
            title: site.app.site.shown_title().to_owned(),
            admin: args.admin.clone(),
            mail: mail.unwrap_or_else(|| format!("{}@{}", args.admin, uri.host())),
            password: password.expose().to_owned(),
            profile: args.profile.clone().unwrap_or_default(),
        },
    };
    let found = step.inspect().await?;
    if found.changes.is_empty() {
        context.ui.status(format!("{uri} is installed already."));
        return Ok(false);
    }
    let id = work::start_for(hub, "install", &format!("site {uri}")).await?;
    match step.apply().await {
        Ok(applied) => {
            work::end(hub, id, Exit::Done, &applied.message).await?;
            for warning in &applied.warnings {
                context.ui.warning(warning);
            }
            context.ui.status(format!("{uri}: {}", applied.message));
            let name = crate::model::SecretName::of_site("admin", uri);
            context.ui.hint(format!(
                "the password of `{}` is the secret {name}; or: fanout login site {uri}",
                args.admin
            ));
            Ok(true)
        }
        Err(problem) => {
            work::end(hub, id, problem.code.exit(), &problem.message).await?;
            Err(problem.into())
        }
    }
}
