//! `fanout enable`, `fanout disable` and `fanout maintenance`: what visitors of a site see.

use super::apply;
use crate::cli::Context;
use crate::cli::args::{ApplyArgs, ModeArgs, ModeNoun, ScopeArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::serving::application::{all_servers, one};
use crate::cli::work;
use crate::codes::Exit;
use crate::store::SiteMode;
use sync_proto::wire::service::{AppAction, AppDriver};

/// Notes the mode and brings it to the members.
pub(crate) async fn run(
    context: &Context,
    args: ModeArgs,
    mode: Option<SiteMode>,
) -> Result<Exit, CommandError> {
    let ModeNoun::Site(args) = args.noun;
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    let site = one(&hub, &servers, &args.uri).await?;
    let by = hub.who.to_string();
    let noted = hub
        .store
        .set_site_mode(&site.site.uri, mode, hub.clock.now(), &by);
    let is_new = noted.await.map_err(store_error)?;
    let (kind, words) = match mode {
        None => ("enable", "shows itself"),
        Some(SiteMode::Disabled) => ("disable", "is disabled"),
        Some(SiteMode::Maintenance) => ("maintenance", "is in maintenance"),
    };
    let uri = &site.site.uri;
    if is_new {
        let id = work::start_for(&hub, kind, &format!("site {uri}")).await?;
        work::end(&hub, id, Exit::Done, words).await?;
    }
    context.ui.status(match is_new {
        true => format!("Noted: {uri} {words}. Its members are told now."),
        false => format!("{uri} {words} already. Its members are looked at."),
    });
    // ORDER: an application that is to show itself is opened before its page goes, so that nobody
    // sees its own maintenance page.
    if mode.is_none() {
        own_mode(context, &site, false).await;
    }
    let exit = apply::apply(
        context,
        ApplyArgs {
            file: None,
            scope: ScopeArgs::default(),
            yes: args.yes,
            dry_run: false,
            resume: false,
            keep_going: false,
            wait: args.wait,
        },
    )
    .await?;
    if mode == Some(SiteMode::Maintenance) {
        own_mode(context, &site, true).await;
    }
    Ok(exit)
}

/// The application's own maintenance mode, where it has one: its commands and periodic work look at
/// it. The web server's page doesn't depend on it, so that a failure is a warning.
async fn own_mode(
    context: &Context,
    site: &crate::cli::serving::application::OneSite<'_>,
    on: bool,
) {
    let has_own = matches!(
        site.app.site.driver,
        AppDriver::Drupal | AppDriver::Drupal7 | AppDriver::Command
    );
    if !has_own || site.members.is_empty() {
        return;
    }
    let action = AppAction::Maintenance { on };
    if let Err(problem) = site.app.act_once(&site.members, &action).await {
        context.ui.warning(&problem);
    }
}
