//! `fanout login site`: an address that logs somebody in, once.

use crate::cli::Context;
use crate::cli::args::{LoginArgs, LoginNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::Hub;
use crate::cli::json::ResultLine;
use crate::cli::serving::application::{all_servers, one};
use crate::cli::work;
use crate::codes::{Code, Exit};
use serde_json::json;
use sync_proto::wire::service::{AppAction, AppAnswer};

pub(crate) async fn run(context: &Context, args: LoginArgs) -> Result<Exit, CommandError> {
    let LoginNoun::Site(args) = args.noun;
    let hub = Hub::open(context).await?;
    let servers = all_servers(&hub).await?;
    let site = one(&hub, &servers, &args.uri).await?;
    let uri = &site.site.uri;
    let user = args.user.unwrap_or_default();
    let id = work::start_for(&hub, "login", &format!("site {uri}")).await?;
    let action = AppAction::LoginLink { user };
    let link = match site.app.act_once(&site.members, &action).await {
        Ok((_, AppAnswer::Link(link))) => link,
        Ok((member, _)) => {
            let message = format!("{member} answered something else than it was asked");
            work::end(&hub, id, Exit::Failed, &message).await?;
            return Err(CommandError::new(Code::ProtocolViolation, message));
        }
        Err(problem) => {
            work::end(&hub, id, problem.code.exit(), &problem.message).await?;
            return Err(problem.into());
        }
    };
    // The address itself is never recorded.
    work::end(&hub, id, Exit::Done, "an address was made").await?;
    if context.ui.is_json() {
        let line = json!({ "site": uri.as_str(), "link": link });
        context.ui.json(&ResultLine::new(line));
    } else {
        context.ui.out(link);
    }
    Ok(Exit::Done)
}
