//! `fanout setup db`: the narrow administration account of a database server.
//!
//! ORDER: the new password is kept before the account takes it, so that no account is left whose
//! password nobody knows. Root's password lives in this process only.

use crate::cli::Context;
use crate::cli::args::SetupDbArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid, secret_error, store_error};
use crate::cli::json::ResultLine;
use crate::cli::{serving, work};
use crate::codes::{Code, Exit, Problem};
use crate::config::{Db, Secrets, Server};
use crate::model::{DbVia, SecretRef};
use crate::net::mysql::knock;
use crate::orchestrate::databases::DatabaseServer;
use crate::services::database::sql::{Admin, Administrator, Endpoint, Made, SqlError};
use crate::services::database::{Account, Dialect, HostPattern, PREFIX};
use crate::store::{Generator, MAX_SECRET_BYTES};
use serde_json::json;
use std::io::{self, IsTerminal, Read};
use sync_proto::path::escape;
use sync_proto::wire::service::database::DatabaseRequest;
use zeroize::Zeroizing;

/// What a statement shows in the place of a password.
const HIDDEN: &str = "********";
/// For `--print` and `--dry-run`, which don't ask the server.
const USUAL_MARIADB: Dialect = Dialect::MariaDb(10, 11, 0);
const USUAL_MYSQL: Dialect = Dialect::MySql(8, 0, 36);

pub(super) async fn run(context: &Context, args: SetupDbArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let server = hub.inventory.server(&args.name).map_err(config_error)?;
    let Some(db) = &server.db else {
        let message = format!("{} has no database server in the inventory", server.name);
        return Err(CommandError::new(Code::DatabaseAccountMissing, message)
            .hint(format!("fanout edit server {} --db mysql", server.name)));
    };
    if db.via == DbVia::Agent {
        return through_agent(context, &hub, server).await;
    }
    let host = db.host.clone();
    let endpoint = Endpoint::Tcp {
        host: host.unwrap_or_else(|| server.address.host().to_owned()),
        port: db.port,
    };
    let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
    let host = from(&args, &endpoint).await?;
    // A plan that nobody carries out keeps nothing either.
    let password = match args.dry_run {
        true => HIDDEN.to_owned(),
        false => password(&secrets, server, db).await?,
    };
    let admin = administrator(&hub, server, db, host, &password).await?;
    let dialect = match args.mysql {
        true => USUAL_MYSQL,
        false => USUAL_MARIADB,
    };
    if args.print {
        for line in admin.statements(dialect) {
            context.ui.out(format!("{line};"));
        }
        return Ok(Exit::Done);
    }
    show(context, server, &args, &endpoint, &admin, dialect);
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !args.yes && !context.ui.confirm("Make this account?", "`--yes`")? {
        return Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"));
    }
    let root = root_password(context, &args, server)?;
    let id = work::start_for(&hub, "setup db", server.name.as_str()).await?;
    let made = make(&admin, &endpoint, &args.root, &root).await;
    let (exit, said) = match &made {
        Ok(_) => (Exit::Done, "the administration account is there".to_owned()),
        Err(error) => (error.exit(), error.problem().message.clone()),
    };
    work::end(&hub, id, exit, &said).await?;
    report(context, server, &admin, &made?);
    Ok(Exit::Done)
}

/// With an agent beside it, a database needs no account: whether the agent may work on it is the
/// word of its own administrator.
async fn through_agent(
    context: &Context,
    hub: &Hub,
    server: &Server,
) -> Result<Exit, CommandError> {
    let servers = serving::servers(hub, [server.name.clone()]).await?;
    let database =
        DatabaseServer::new(servers, hub.store.clone(), hub.clock.clone(), server, None)?;
    let (facts, dialect) = database.facts().await?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "server": server.name, "version": facts.version, "account": facts.account,
        })));
    }
    context.ui.status(format!(
        "Nothing to do: the agent on {} works on {dialect} as {}.",
        server.name,
        escape(facts.account.as_bytes())
    ));
    Ok(Exit::Done)
}

/// The hub's address as the database sees it.
async fn from(args: &SetupDbArgs, endpoint: &Endpoint) -> Result<HostPattern, CommandError> {
    if let Some(address) = args.from {
        return Ok(HostPattern::address(address));
    }
    let Endpoint::Tcp { host, port } = endpoint else {
        return Err(CommandError::bug("A socket has no address"));
    };
    let seen = knock(host, *port).await.map_err(|error| {
        CommandError::from_error(Code::DatabaseAddressUnknown, &error)
            .hint("--from ADDRESS says how the database sees this hub")
    })?;
    Ok(HostPattern::address(seen.address))
}

/// What `admin` leads to; made and kept if it is a secret of the hub that isn't there yet.
async fn password(secrets: &Secrets, server: &Server, db: &Db) -> Result<String, CommandError> {
    match &db.admin {
        Some(SecretRef::Stored(name)) => {
            let kept = secrets.store().ensure(name, Generator::Password);
            let kept = kept.map_err(|error| secret_error(&error.into()))?;
            Ok(kept.expose().to_owned())
        }
        Some(reference) => {
            let secret = secrets.resolve(reference).await;
            Ok(secret
                .map_err(|error| secret_error(&error))?
                .expose()
                .to_owned())
        }
        None => Err(CommandError::new(
            Code::DatabaseAccountMissing,
            format!(
                "No administration account for {}: `admin` is not set",
                server.name
            ),
        )),
    }
}

async fn administrator(
    hub: &Hub,
    server: &Server,
    db: &Db,
    host: HostPattern,
    password: &str,
) -> Result<Administrator, CommandError> {
    let known = hub
        .store
        .site_databases(&server.name)
        .await
        .map_err(store_error)?;
    let names = known.iter().map(|it| it.database.as_str());
    let names = names.filter(|name| !name.starts_with(PREFIX));
    Ok(Administrator {
        account: Account {
            user: db
                .admin_user
                .parse()
                .map_err(|error| invalid(Code::NameInvalid, &error))?,
            host,
        },
        password: password
            .parse()
            .map_err(|error| invalid(Code::SecretUnusable, &error))?,
        databases: names.filter_map(|name| name.parse().ok()).collect(),
        roles: known.iter().filter_map(|it| it.role.parse().ok()).collect(),
    })
}

fn show(
    context: &Context,
    server: &Server,
    args: &SetupDbArgs,
    endpoint: &Endpoint,
    admin: &Administrator,
    dialect: Dialect,
) {
    if context.ui.is_json() {
        return;
    }
    context
        .ui
        .out(format!("{}, as {} at {endpoint}:", server.name, args.root));
    for line in admin.statements(dialect) {
        let line = line.replace(admin.password.as_str(), HIDDEN);
        context.ui.out(format!("  + {line}"));
    }
    context.ui.hint(format!(
        "databases whose names don't begin with {PREFIX} stay closed to it; but whoever may make \
         accounts may change those of others: keep {} for this hub alone",
        admin.account
    ));
}

/// Root's password: asked for without echo, or the first line of standard input.
fn root_password(
    context: &Context,
    args: &SetupDbArgs,
    server: &Server,
) -> Result<Zeroizing<String>, CommandError> {
    let mut text = if io::stdin().is_terminal() {
        let prompt = format!("Password of {} on {}: ", args.root, server.name);
        context.ui.ask_hidden(&prompt)?
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .take(MAX_SECRET_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| CommandError::from_error(Code::SecretUnusable, &error))?;
        text
    };
    let end = text.find(['\r', '\n']).unwrap_or(text.len());
    text.truncate(end);
    if text.is_empty() {
        let message = format!("There is no password of {} on standard input", args.root);
        return Err(CommandError::new(Code::SecretUnusable, message)
            .hint("--print shows what to do by hand where root has no password"));
    }
    Ok(text)
}

async fn make(
    admin: &Administrator,
    endpoint: &Endpoint,
    root: &str,
    password: &str,
) -> Result<Made, CommandError> {
    let failed = |error: SqlError| CommandError::from(error.problem());
    let made = admin.make(endpoint, root, password).await.map_err(failed)?;
    // It is there when it has logged in.
    let own = Some(admin.password.as_str().to_owned());
    let own = Admin::new(endpoint.clone(), admin.account.user.as_str(), own);
    own.answer(&DatabaseRequest::Facts).await.map_err(failed)?;
    Ok(made)
}

fn report(context: &Context, server: &Server, admin: &Administrator, made: &Made) {
    for (statement, failure) in &made.refused {
        let message = format!("{}: {} ({})", statement, failure.message, failure.number);
        let problem = Problem::new(Code::DatabaseRefused, message)
            .with_hint("run it as the account that made the role");
        context.ui.warning(&problem);
    }
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(json!({
            "server": server.name, "account": admin.account.to_string(),
        })));
    }
    let moved = made.moved_from.as_ref();
    let moved = moved.map_or_else(String::new, |it| format!(" It was {it} before."));
    context.ui.status(format!(
        "{} is there, and has logged in.{moved} Next: fanout plan",
        admin.account
    ));
}
