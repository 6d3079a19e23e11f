//! `fanout secret`: what the inventory refers to as `secret:NAME`.
//!
//! A secret comes from standard input, from a terminal without echo, or out of nothing; it is never
//! an argument, never shown, and not in the record of tasks.

use crate::cli::Context;
use crate::cli::args::{SecretArgs, SecretNoun, SecretRemoveArgs, SecretSetArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, invalid, secret_error, store_error};
use crate::cli::json::ResultLine;
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit};
use crate::config::{ConfigError, SecretError, Secrets};
use crate::model::{Secret, SecretName, SecretRef};
use crate::services::database::Names;
use crate::store::{Generator, MAX_SECRET_BYTES, secret_of};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Read};
use zeroize::Zeroizing;

pub(crate) async fn run(context: &Context, args: SecretArgs) -> Result<Exit, CommandError> {
    match args.noun {
        SecretNoun::Set(args) => set(context, &args),
        SecretNoun::List => list(context).await,
        SecretNoun::Remove(args) => remove(context, &args).await,
    }
}

/// Works with a faulty inventory, too: a secret is often what is missing.
fn set(context: &Context, args: &SecretSetArgs) -> Result<Exit, CommandError> {
    let name = parse(&args.name)?;
    let dir = context.hub_dir();
    if !dir.inventory().exists() {
        return Err(crate::cli::hub::config_error(ConfigError::Missing {
            what: "inventory",
            path: dir.inventory().to_owned(),
        }));
    }
    dir.create().map_err(crate::cli::hub::config_error)?;
    let secret = match args.generate {
        true => Generator::Password.generate(),
        false => read(context, &name)?,
    };
    let secrets = Secrets::new(&dir, context.ui.is_interactive());
    let written = secrets.store().write(&name, &secret);
    let is_new = written.map_err(|error| secret_error(&error.into()))?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"secret": name, "new": is_new, "reference": SecretRef::Stored(name.clone())}),
        ));
    }
    let done = if is_new { "is kept" } else { "was replaced" };
    context.ui.status(format!(
        "The secret {name} {done}. Refer to it as `secret:{name}`."
    ));
    Ok(Exit::Done)
}

fn read(context: &Context, name: &SecretName) -> Result<Secret, CommandError> {
    let text = if io::stdin().is_terminal() {
        let first = context.ui.ask_hidden(&format!("The secret {name}: "))?;
        let second = context.ui.ask_hidden("Once more: ")?;
        if *first != *second {
            return Err(CommandError::new(
                Code::SecretUnusable,
                "The two are not the same; nothing was kept",
            ));
        }
        first
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .take(MAX_SECRET_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|error| CommandError::from_error(Code::SecretUnusable, &error))?;
        text
    };
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(CommandError::new(
            Code::SecretUnusable,
            format!("A secret has at most {MAX_SECRET_BYTES} bytes"),
        ));
    }
    secret_of(&text).ok_or_else(|| {
        CommandError::new(Code::SecretUnusable, "There is no secret on standard input")
            .hint("as in: fanout secret set NAME < FILE; --generate makes one")
    })
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let names = stored(context, &hub)?;
    let users = users(&hub, &names).await?;
    let all: BTreeSet<&SecretName> = names.iter().chain(users.keys()).collect();
    if context.ui.is_json() {
        let list: Vec<_> = all
            .iter()
            .map(|name| {
                json!({
                    "name": name, "is_set": names.contains(*name), "used_by": users.get(*name),
                })
            })
            .collect();
        context
            .ui
            .json(&ResultLine::new(json!({ "secrets": list })));
        return Ok(Exit::Done);
    }
    if all.is_empty() {
        context.ui.status("There are no secrets.");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("SECRET", Align::Left),
        ("STATE", Align::Left),
        ("USED BY", Align::Left),
    ]);
    for name in all {
        let state = if names.contains(name) {
            "set"
        } else {
            "missing"
        };
        let used = users.get(name).map_or_else(String::new, |by| by.join(", "));
        table.row([name.to_string(), state.to_owned(), used]);
    }
    context.ui.out(table);
    Ok(Exit::Done)
}

async fn remove(context: &Context, args: &SecretRemoveArgs) -> Result<Exit, CommandError> {
    let name = parse(&args.name)?;
    let hub = Hub::open(context).await?;
    let users = users(&hub, &stored(context, &hub)?).await?;
    if let Some(by) = users.get(&name) {
        return Err(CommandError::new(
            Code::StillInUse,
            format!("The secret {name} is still used by {}", by.join(", ")),
        ));
    }
    let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
    let removed = secrets.store().remove(&name);
    if !removed.map_err(|error| secret_error(&error.into()))? {
        return Err(secret_error(&SecretError::Unknown(name)));
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"removed": {"kind": "secret", "name": name}}),
        ));
    }
    context.ui.status(format!("The secret {name} is gone."));
    Ok(Exit::Done)
}

fn parse(text: &str) -> Result<SecretName, CommandError> {
    text.parse()
        .map_err(|error| invalid(Code::NameInvalid, &error))
}

fn stored(context: &Context, hub: &Hub) -> Result<BTreeSet<SecretName>, CommandError> {
    let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
    let names = secrets.store().names();
    let names = names.map_err(|error| secret_error(&error.into()))?;
    Ok(names.into_iter().collect())
}

/// What uses each secret of the store: by reference, or because fanout made it for a site.
async fn users(
    hub: &Hub,
    stored: &BTreeSet<SecretName>,
) -> Result<BTreeMap<SecretName, Vec<String>>, CommandError> {
    let mut users: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
    for (by, reference) in hub.inventory.secret_references() {
        if let SecretRef::Stored(name) = reference {
            users.entry(name.clone()).or_default().push(by);
        }
    }
    for uri in hub.inventory.sites.keys() {
        let database = hub.store.site_database(uri).await.map_err(store_error)?;
        let names = database.and_then(|it| Names::called(&it.user).ok());
        let password = names.and_then(|names| names.secret().ok());
        let made = stored
            .iter()
            .filter(|name| name.is_of_site(uri) || password.as_ref() == Some(*name));
        for name in made {
            let by = format!("the site {uri}");
            users.entry(name.clone()).or_default().push(by);
        }
    }
    Ok(users)
}
