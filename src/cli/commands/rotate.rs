//! `fanout rotate password site`: a new password while the site is served.
//!
//! ORDER: every account takes both passwords; the new one becomes the site's own; members get it
//! and log in; the former one ends. Whatever is cut off leaves a password that works everywhere,
//! and the next `apply` goes on from there.

use super::apply::carried_out;
use crate::cli::Context;
use crate::cli::args::{RotateArgs, RotateNoun, RotateSiteArgs, RotateWhat};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid};
use crate::cli::human::counted;
use crate::cli::serving::databases::Databases;
use crate::cli::serving::{self, Request};
use crate::codes::{Code, Exit};
use crate::orchestrate::OnFailure;
use crate::orchestrate::resources::database::Part;
use crate::store::Generator;

pub(crate) async fn run(context: &Context, args: RotateArgs) -> Result<Exit, CommandError> {
    let RotateWhat::Password(args) = args.what;
    let RotateNoun::Site(args) = args.noun;
    site(context, args).await
}

async fn site(context: &Context, args: RotateSiteArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let site = hub.inventory.site(&args.uri).map_err(config_error)?;
    let _lock = hub.lock_serving("rotate password", args.wait).await?;
    let request = Request::default();
    let servers = serving::servers(&hub, hub.inventory.servers.keys().cloned()).await?;
    let databases = Databases::open(context, &hub, &servers).await?;
    let Some(database) = databases.of_site(&hub, &request, site, Part::Make).await? else {
        let message = format!("{} has no database", site.uri);
        return Err(CommandError::new(Code::DatabaseAccountMissing, message));
    };
    if !args.yes
        && !context.ui.confirm(
            &format!("Replace the password of {} in its database?", site.uri),
            "`--yes`",
        )?
    {
        return Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"));
    }
    let new = Generator::Password.generate();
    let added = new
        .expose()
        .parse()
        .map_err(|error| invalid(Code::Bug, &error))?;
    let accounts = database.add_password(&added).await?;
    databases.replace_password(&database.names_of().await?, &new)?;
    let accounts = counted(accounts as u64, "account takes", "accounts take");
    context.ui.status(format!("{accounts} both passwords."));
    // The rest is what any apply does: settings to the members, logins, an end to the former one.
    let built = serving::graph(context, &hub, &request).await?;
    let plan = built.graph.inspect().await;
    carried_out(context, &hub, &plan, &request, OnFailure::Continue, None).await
}
