//! `fanout setup server`: packages and the lines that include fanout's files, on one server.

use crate::cli::Context;
use crate::cli::args::SetupServerArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error};
use crate::cli::json::ResultLine;
use crate::cli::{serving, work};
use crate::codes::{Code, Exit, Problem};
use crate::config::Server;
use crate::model::{BalancerKind, WebKind};
use crate::orchestrate::servers::Servers;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use sync_proto::path::escape;
use sync_proto::wire::service::{
    SetupAnswer, SetupBalancer, SetupRequest, SetupStep, SetupWeb, SetupWish,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// How long a server may take to say what is left.
const LOOK: Duration = Duration::from_secs(120);
/// How long it may take to install it.
const WORK: Duration = Duration::from_secs(3600);
/// Extensions that the applications which fanout knows ask for.
const USUAL: [&str; 8] = [
    "mysql", "xml", "mbstring", "gd", "curl", "intl", "opcache", "zip",
];

pub(super) async fn run(context: &Context, args: SetupServerArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    let server = hub.inventory.server(&args.name).map_err(config_error)?;
    let wish = wish(&hub, server, &args)?;
    let servers = serving::servers(&hub, [server.name.clone()]).await?;
    let SetupAnswer::Plan(steps) =
        ask(&servers, server, SetupRequest::Plan(wish.clone()), LOOK).await?
    else {
        return Err(CommandError::bug("A plan was answered with something else"));
    };
    if args.print {
        for step in &steps {
            context.ui.out(&step.by_hand);
        }
        return Ok(Exit::Done);
    }
    let is_ours = |it: &&SetupStep| !it.is_done && !it.by_person;
    show(context, server, &steps);
    if !steps.iter().any(|it| is_ours(&it)) {
        leave_to_a_person(context, server, &steps);
        context
            .ui
            .status(format!("Nothing to do on {}.", server.name));
        return Ok(Exit::Done);
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !args.yes && !context.ui.confirm("Do this?", "`--yes`")? {
        return Err(CommandError::new(Code::NotConfirmed, "Nothing was changed"));
    }
    let id = work::start_for(&hub, "setup server", server.name.as_str()).await?;
    let done = ask(&servers, server, SetupRequest::Apply(wish), WORK).await;
    let (exit, said) = match &done {
        Ok(_) => (Exit::Done, "the server is prepared".to_owned()),
        Err(problem) => (Exit::Failed, problem.message.clone()),
    };
    work::end(&hub, id, exit, &said).await?;
    done?;
    leave_to_a_person(context, server, &steps);
    context
        .ui
        .status(format!("{} is prepared. Next: fanout plan", server.name));
    Ok(Exit::Done)
}

/// What the server shall be able to do, by the inventory.
fn wish(hub: &Hub, server: &Server, args: &SetupServerArgs) -> Result<SetupWish, CommandError> {
    let balancers = hub.inventory.balancers.values();
    let mut balancers = balancers.filter(|it| it.servers.contains(&server.name));
    let balancer = balancers.find_map(|balancer| match balancer.kind {
        BalancerKind::Haproxy => Some(SetupBalancer::Haproxy),
        BalancerKind::Nginx => Some(SetupBalancer::Nginx),
        BalancerKind::External => None,
    });
    let web = server.web.as_ref().map(|web| match web.kind {
        WebKind::Nginx | WebKind::NginxSsl => SetupWeb::Nginx,
        WebKind::Apache | WebKind::ApacheSsl => SetupWeb::Apache,
    });
    if web.is_none() && balancer.is_none() {
        let name = &server.name;
        let message = format!("{name} has no web server and no balancer in the inventory");
        return Err(CommandError::new(Code::SetupFailed, message).hint(format!(
            "fanout edit server {name} --web nginx, or fanout add balancer NAME --servers {name}"
        )));
    }
    let platforms = hub.inventory.platforms_on(&server.name);
    let own: BTreeSet<String> = platforms.iter().filter_map(|it| it.php.clone()).collect();
    let usual = USUAL.iter().map(|it| (*it).to_owned());
    Ok(SetupWish {
        web,
        balancer,
        php: match args.php.is_empty() {
            true => own.into_iter().collect(),
            false => args.php.clone(),
        },
        extensions: usual.chain(args.extension.iter().cloned()).collect(),
    })
}

fn leave_to_a_person(context: &Context, server: &Server, steps: &[SetupStep]) {
    for step in steps.iter().filter(|it| it.by_person && !it.is_done) {
        context.ui.hint(format!(
            "left to you on {}: {}",
            server.name,
            escape(step.by_hand.as_bytes())
        ));
    }
}

async fn ask(
    servers: &Servers,
    server: &Server,
    request: SetupRequest,
    limit: Duration,
) -> Result<SetupAnswer, Problem> {
    let request = ServiceRequest::Setup(request);
    match servers.ask(&server.name, request, limit).await? {
        ServiceAnswer::Setup(answer) => Ok(answer),
        _ => Err(Problem::new(
            Code::ProtocolViolation,
            format!("{} answered something else than it was asked", server.name),
        )),
    }
}

fn show(context: &Context, server: &Server, steps: &[SetupStep]) {
    if context.ui.is_json() {
        let steps: Vec<_> = steps
            .iter()
            .map(|it| json!({ "what": it.what, "by_hand": it.by_hand, "done": it.is_done, "by_person": it.by_person }))
            .collect();
        let line = json!({ "server": server.name, "steps": steps });
        context.ui.json(&ResultLine::new(line));
        return;
    }
    context.ui.out(format!("{}:", server.name));
    for step in steps {
        let sign = match (step.is_done, step.by_person) {
            (true, _) => "=",
            (false, true) => "!",
            (false, false) => "+",
        };
        // A server's word about itself.
        context
            .ui
            .out(format!("  {sign} {}", escape(step.what.as_bytes())));
    }
}
