//! An application that fanout knows nothing about: its administrator on this server names a command
//! for each action. The hub chooses among them and never writes one.

use super::run::{self, Ran};
use super::site::LocalSite;
use crate::codes::{Code, Problem};
use crate::services::app::scripts::Input;
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs the command that is named for an action, as the site's user, in its documents. It hears on
/// standard input, as JSON, what a script would be told.
pub(super) async fn run(
    site: &LocalSite,
    commands: &BTreeMap<String, Vec<String>>,
    action: &str,
    input: &Input,
    limit: Duration,
) -> Result<Ran, Problem> {
    let words = commands.get(action).map(Vec::as_slice);
    let Some((program, arguments)) = words.and_then(<[String]>::split_first) else {
        let message = format!("agent.toml names no command `{action}`");
        return Err(Problem::new(Code::AppActionMissing, message));
    };
    let json = serde_json::to_vec(input).map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let program = run::as_user(site.ids, program.into())
        .args(arguments)
        .stdin(json);
    let program = run::environment(site, program)
        .env("FANOUT_ACTION", action)
        .env("FANOUT_SITE", &site.target.site)
        .env("FANOUT_URL", &input.url)
        .env("FANOUT_DOCROOT", &site.docroot)
        .directory(&site.docroot);
    let mut ran = run::finish(program, limit, &input.word).await?;
    ran.take_exit_as_answer();
    Ok(ran)
}
