//! Shares that sites' uploads lie on: before anything is changed, whether they still are what they were
//! taken for.

use super::{Request, servers};
use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::codes::Code;
use crate::model::{ServerName, Uploads};
use crate::orchestrate::resources::share::ANYBODY;
use crate::orchestrate::uploads::prove_share;

/// Has a word that one member leaves on each share read by all others. What isn't mounted, or is
/// another file system, stops everything; a member that doesn't answer is another matter.
pub(crate) async fn are_one(
    context: &Context,
    hub: &Hub,
    request: &Request,
) -> Result<(), CommandError> {
    for site in hub.inventory.sites.values() {
        let Some(Uploads::Mount(path)) = &site.uploads else {
            continue;
        };
        let members = hub.inventory.members_of_site(site).into_iter();
        let members = members.filter(|it| it.web.is_some() && !request.is_gone(&it.name));
        let members: Vec<ServerName> = members.map(|it| it.name.clone()).collect();
        if members.len() < 2 {
            continue;
        }
        let ways = servers(hub, members.iter().cloned()).await?;
        match prove_share(&ways, path.as_str(), ANYBODY, &members).await {
            Err(problem) if problem.code == Code::ShareWrong => return Err(problem.into()),
            Err(problem) => context.ui.warn(format!(
                "the share of {} is not proved: {}",
                site.uri, problem.message
            )),
            Ok(_) => {}
        }
    }
    Ok(())
}
