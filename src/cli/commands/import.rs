//! `fanout import aegir`: an Aegir hub's contexts as an inventory.
//!
//! ORDER: certificates, secrets and the names of databases first, the inventory last: one that is
//! there refers to nothing that isn't.

use super::init::machine_name;
use crate::cli::Context;
use crate::cli::args::{ImportAegirArgs, ImportArgs, ImportNoun};
use crate::cli::error::CommandError;
use crate::cli::hub::{config_error, identity, invalid, secret_error, store_error, who};
use crate::cli::json::ResultLine;
use crate::clock::Clock;
use crate::codes::{Code, Exit};
use crate::config::{
    AegirError, CarriedOver, ConfigError, Edit, HubDir, Inventory, Secrets, carry_over,
};
use crate::model::AbsPath;
use crate::services::database::Names;
use crate::store::{Holder, SiteDatabase, Store, StoreError};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

pub(crate) async fn run(context: &Context, args: ImportArgs) -> Result<Exit, CommandError> {
    let ImportNoun::Aegir(args) = args.noun;
    let dir = context.hub_dir();
    let name = hub_name(&dir, &args)?;
    let carried = carry_over(&args.home, &name, &dir.certificates()).map_err(|error| {
        let code = match &error {
            AegirError::NotAegir { .. } | AegirError::NoContexts { .. } => Code::NotAegir,
        };
        CommandError::from_error(code, &error)
    })?;
    let shown = dir.inventory().display().to_string();
    if args.dry_run {
        context.ui.raw(carried.text.as_bytes());
        return Ok(Exit::Done);
    }
    let inventory = Inventory::parse(&carried.text, &shown).map_err(|invalid| {
        config_error(ConfigError::Invalid(invalid)).hint(format!(
            "nothing was written; `fanout import aegir {} --dry-run` prints it, to be corrected by hand",
            args.home.display()
        ))
    })?;
    save(&dir, &carried).await?;
    report(context, &args, &carried, &inventory);
    Ok(Exit::Done)
}

/// What the hub is called: as it is already, or as the command line says.
fn hub_name(dir: &HubDir, args: &ImportAegirArgs) -> Result<String, CommandError> {
    let given = args.name.clone();
    match Inventory::load(dir.inventory()) {
        Ok(there) if args.dry_run || there.is_empty() => Ok(given.unwrap_or(there.hub)),
        Ok(_) => Err(CommandError::new(
            Code::AlreadyInitialised,
            format!(
                "{} lists servers or platforms already",
                dir.inventory().display()
            ),
        )
        .hint("import into a directory of its own: --dir DIR")),
        Err(ConfigError::Missing { .. }) => Ok(given.unwrap_or_else(machine_name)),
        Err(error) => Err(config_error(error)),
    }
}

async fn save(dir: &HubDir, carried: &CarriedOver) -> Result<(), CommandError> {
    dir.create().map_err(config_error)?;
    identity(&dir.identity())?;
    let store = Store::open(&dir.database()).await.map_err(store_error)?;
    let secrets = Secrets::new(dir, false);
    for (name, secret) in &carried.secrets {
        let written = secrets.store().write(name, secret);
        written.map_err(|error| secret_error(&error.into()))?;
    }
    let clock = Clock::system();
    for database in &carried.databases {
        // A name that can't be one of fanout's is said in the plan, where it can be changed.
        let Ok(names) = Names::called(&database.name) else {
            continue;
        };
        let name = names.secret().map_err(|error| invalid(Code::Bug, &error))?;
        let written = secrets.store().write(&name, &database.password);
        written.map_err(|error| secret_error(&error.into()))?;
        let recorded = store
            .add_site_database(&SiteDatabase {
                site: database.site.clone(),
                server: database.server.clone(),
                database: names.database.to_string(),
                user: names.user.to_string(),
                role: names.role.to_string(),
                created: SiteDatabase::THERE_BEFORE,
            })
            .await;
        match recorded {
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(store_error(error)),
        }
    }
    store.close().await;
    let holder = Holder::this_process(who().to_string(), "import", clock.now());
    Edit::import(dir, &carried.text, &carried.certificates, &holder).map_err(config_error)?;
    Ok(())
}

fn report(context: &Context, args: &ImportAegirArgs, carried: &CarriedOver, found: &Inventory) {
    let file = context.hub_dir().inventory().display().to_string();
    let option = context.dir_option();
    // A database server that is reached over TCP needs no agent.
    let servers = found.servers.values().filter(|it| it.web.is_some());
    let next: Vec<String> = servers
        .map(|it| {
            // Roots lie strictly below what an agent allows.
            let roots = found.platforms_on(&it.name).into_iter();
            let roots: Vec<AbsPath> = roots.map(|it| it.root.clone()).collect();
            let parents = roots.iter().filter_map(|root| root.as_path().parent());
            let parents: BTreeSet<&Path> = parents.filter(|it| it.parent().is_some()).collect();
            let allow: String = parents
                .iter()
                .map(|it| format!(" --allow {}", it.display()))
                .collect();
            let (name, address) = (&it.name, &it.address);
            let host = address.host();
            format!("fanout add server {name} --address {address} --ssh root@{host}{allow}{option}")
        })
        .collect();
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "imported": {
                "servers": found.servers.len(), "clusters": found.clusters.len(),
                "platforms": found.platforms.len(), "sites": found.sites.len(),
                "secrets": carried.secrets.len() + carried.databases.len(),
            },
            "not_carried_over": carried.left, "inventory": file, "next": next,
        })));
    }
    context.ui.status(format!(
        "Wrote {} servers, {} clusters, {} platforms and {} sites to {file}, and kept {} secrets. \
         Nothing in {} and nothing on any server was changed.",
        found.servers.len(),
        found.clusters.len(),
        found.platforms.len(),
        found.sites.len(),
        carried.secrets.len() + carried.databases.len(),
        args.home.display()
    ));
    if !carried.left.is_empty() {
        context
            .ui
            .status("Not carried over, as the comments there say:");
        for line in &carried.left {
            context.ui.status(format!("  {line}"));
        }
    }
    for command in next {
        context.ui.hint(format!("next: {command}"));
    }
    context.ui.hint(format!("then: fanout plan{option}"));
}
