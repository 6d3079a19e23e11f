//! `fanout deliver uploads`: files that visitors left on one member, brought to the others.

use crate::cli::Context;
use crate::cli::args::{DeliverArgs, DeliverNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::human::{bytes, counted};
use crate::cli::serving::application::{OneSite, all_servers, one};
use crate::codes::{Code, Exit, Problem};
use crate::model::{ServerName, Uploads};
use crate::orchestrate::servers::Servers;
use crate::orchestrate::uploads::{Brought, Pinned};
use crate::services::app::{UploadPath, upload_paths};
use std::sync::Arc;
use sync_proto::path::{RelPath, escape};
use tokio::task::JoinSet;

pub(crate) async fn run(context: &Context, args: DeliverArgs) -> Result<Exit, CommandError> {
    let DeliverNoun::Uploads(args) = args.noun;
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    let is_pinned = |uploads: &Option<Uploads>| matches!(uploads, Some(Uploads::Pin(_)));
    let uris: Vec<String> = match args.uris.is_empty() {
        true => {
            let all = hub.inventory.sites.values();
            let pinned = all.filter(|site| is_pinned(&site.uploads));
            pinned.map(|site| site.uri.to_string()).collect()
        }
        false => args.uris,
    };
    let mut exit = Exit::Done;
    for uri in uris {
        let site = one(&hub, &servers, &uri).await?;
        let done = deliver(context, &hub, &servers, &site, None).await;
        let done = done.unwrap_or_else(|error| {
            context.ui.error(&error);
            error.exit()
        });
        exit = exit.and(done);
    }
    Ok(exit)
}

/// Brings one site's uploads from the member that they are pinned to to all others, or to those of
/// them that are in `only`.
pub(crate) async fn deliver(
    context: &Context,
    hub: &Hub,
    servers: &Arc<Servers>,
    site: &OneSite<'_>,
    only: Option<&[ServerName]>,
) -> Result<Exit, CommandError> {
    let uri = &site.site.uri;
    let Some(Uploads::Pin(pinned)) = &site.site.uploads else {
        return Err(CommandError::usage(format!(
            "The uploads of {uri} are pinned to no member"
        )));
    };
    let others = hub.inventory.members_of_site(site.site).into_iter();
    let others: Vec<ServerName> = others
        .filter(|server| server.web.is_some() && server.name != *pinned)
        .map(|server| server.name.clone())
        .filter(|name| only.is_none_or(|only| only.contains(name)))
        .collect();
    let work = Arc::new(Pinned {
        servers: servers.clone(),
        store: hub.store.clone(),
        site: uri.clone(),
        tree: site.app.target.tree,
        paths: paths(site)?,
        pinned: pinned.clone(),
    });
    let mut bringing = JoinSet::new();
    for member in others {
        let work = work.clone();
        bringing.spawn(async move {
            let brought = work.bring(&member).await;
            (member, brought)
        });
    }
    let (mut done, mut failed) = (0_u32, 0_u32);
    while let Some(joined) = bringing.join_next().await {
        let (member, brought) =
            joined.map_err(|error| CommandError::bug(format!("A delivery was lost: {error}")))?;
        match brought {
            Ok(brought) => {
                done += 1;
                failed += u32::from(!brought.problems.is_empty());
                tell(context, &format!("{uri} on {member}"), &brought);
            }
            Err(problem) => {
                failed += 1;
                let message = format!("{uri}: uploads are not on {member}: {}", problem.message);
                context
                    .ui
                    .failure(&Problem::new(Code::UploadsPartial, message));
            }
        }
    }
    Ok(match (done, failed) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Partial,
    })
}

/// Where visitors' files are. An application that fanout knows nothing about says it by what it has
/// preserved.
fn paths(site: &OneSite<'_>) -> Result<Vec<UploadPath>, Problem> {
    let known = upload_paths(&site.app.site);
    if !known.is_empty() {
        return Ok(known);
    }
    let is_plain = |rule: &&String| !rule.contains(['*', '?', '[']);
    let preserved = site.platform.preserve.iter().filter(is_plain);
    let paths: Vec<UploadPath> = preserved
        .filter_map(|rule| {
            Some(UploadPath {
                path: RelPath::parse(rule.trim_matches('/').as_bytes()).ok()?,
                skip: Vec::new(),
            })
        })
        .collect();
    if paths.is_empty() {
        let platform = &site.platform.name;
        let message = format!(
            "Where visitors of {} put files is not known: {platform} preserves no directory",
            site.site.uri
        );
        return Err(
            Problem::new(Code::UploadsRefused, message).with_hint(format!(
                "fanout edit platform {platform} --preserve /DIRECTORY"
            )),
        );
    }
    Ok(paths)
}

fn tell(context: &Context, who: &str, brought: &Brought) {
    if brought.written + brought.removed > 0 {
        context.ui.status(format!(
            "{who}: {} ({}), {} removed",
            counted(brought.written, "upload delivered", "uploads delivered"),
            bytes(brought.written_bytes),
            brought.removed
        ));
    }
    for kept in &brought.kept_aside {
        context.ui.warn(format!(
            "{who}: another version was kept as `{}`",
            escape(kept.as_bytes())
        ));
    }
    if brought.own > 0 {
        context.ui.detail(format!(
            "{who}: {} that only this member has",
            counted(brought.own, "upload", "uploads")
        ));
    }
    for problem in &brought.problems {
        context.ui.failure(problem);
    }
}
