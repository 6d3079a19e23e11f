//! `fanout doctor`: what the environment of an inventory lacks, each with its remedy. Changes
//! nothing.

mod members;
mod sites;

use crate::cli::Context;
use crate::cli::args::DoctorArgs;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error};
use crate::cli::json::ResultLine;
use crate::cli::serving::{self, application};
use crate::codes::Exit;
use crate::config::{Server, Site};
use crate::model::ServerName;
use crate::orchestrate::servers::{LOOK, Servers, unexpected};
use crate::services::app::is_installable;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_proto::wire::service::database::{ProbeAnswer, ProbeRequest, SeenAddress};
use sync_proto::wire::service::{
    AppAction, AppAnswer, BalancerAnswer, BalancerRequest, ServiceFacts,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The server, if it is about one.
    server: Option<String>,
    /// What was looked at.
    check: &'static str,
    /// What was found.
    message: String,
    /// What to do about it.
    remedy: String,
}

/// What was looked at, and what was found.
#[derive(Default)]
struct Diagnosis {
    checks: usize,
    findings: Vec<Finding>,
}

impl Diagnosis {
    fn found(
        &mut self,
        server: Option<&ServerName>,
        check: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            server: server.map(ToString::to_string),
            check,
            message: message.into(),
            remedy: remedy.into(),
        });
    }
}

pub(crate) async fn run(context: &Context, args: DoctorArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    for name in &args.servers {
        hub.inventory.server(name).map_err(config_error)?;
    }
    let chosen: Vec<&Server> = hub
        .inventory
        .servers
        .values()
        .filter(|server| {
            let name = server.name.as_str();
            args.servers.is_empty() || args.servers.iter().any(|wanted| wanted == name)
        })
        .collect();
    let servers = serving::servers(&hub, hub.inventory.servers.keys().cloned()).await?;
    let mut diagnosis = Diagnosis::default();
    let mut facts = BTreeMap::new();
    for server in &chosen {
        if let Some(of_it) = agent(&servers, server, &mut diagnosis).await {
            facts.insert(server.name.clone(), of_it);
        }
    }
    for server in &chosen {
        if let Some(facts) = facts.get(&server.name) {
            programs(server, facts, &mut diagnosis);
        }
        balancer(&hub, &servers, server, &mut diagnosis).await;
    }
    members::disks(&facts, &mut diagnosis);
    members::numbers(&hub, &servers, &facts, &mut diagnosis).await;
    sites::templates(&hub, &mut diagnosis);
    for site in hub.inventory.sites.values() {
        sites::certificate(&hub, site, &mut diagnosis).await;
        members::share(&hub, &servers, site, &facts, &mut diagnosis).await;
        site_on_members(&hub, &servers, site, &facts, &mut diagnosis).await?;
    }
    Ok(report(context, &diagnosis))
}

/// Does its agent answer, in this version?
async fn agent(
    servers: &Arc<Servers>,
    server: &Server,
    diagnosis: &mut Diagnosis,
) -> Option<ServiceFacts> {
    diagnosis.checks += 1;
    let name = &server.name;
    let (software, skew_us) = match servers.greeting(name).await {
        Ok(greeting) => greeting,
        Err(problem) => {
            let hint = problem.hint().to_owned();
            diagnosis.found(Some(name), "agent", problem.message, hint);
            return None;
        }
    };
    let own = concat!("fanout ", env!("CARGO_PKG_VERSION"));
    if software != own {
        let message = format!("the agent is {software}, this hub {own}");
        let remedy = "install the same binary there and restart the agent";
        diagnosis.found(Some(name), "version", message, remedy);
    }
    diagnosis.checks += 1;
    if skew_us.unsigned_abs() > 2_000_000 {
        let message = format!(
            "its clock differs from the hub's by {} s",
            skew_us / 1_000_000
        );
        let remedy = "let both follow the same time: systemd-timesyncd or chrony";
        diagnosis.found(Some(name), "clock", message, remedy);
    }
    let is_used = server.web.is_some();
    if !is_used {
        return None;
    }
    diagnosis.checks += 1;
    match servers.facts(name).await {
        Ok(facts) => Some(facts),
        Err(problem) => {
            let hint = problem.hint().to_owned();
            diagnosis.found(Some(name), "services", problem.message, hint);
            None
        }
    }
}

/// Web server and PHP: there, running, and including what fanout writes.
fn programs(server: &Server, facts: &ServiceFacts, diagnosis: &mut Diagnosis) {
    let name = &server.name;
    let setup = format!("fanout setup server {name}");
    let Some(web) = &server.web else { return };
    let is_apache = web.kind.as_str().starts_with("apache");
    let (word, program) = match is_apache {
        true => ("apache", &facts.apache),
        false => ("nginx", &facts.nginx),
    };
    diagnosis.checks += 2;
    match program {
        None => diagnosis.found(Some(name), "web", format!("{word} isn't installed"), &setup),
        Some(program) => {
            if !program.is_included {
                let message = format!("{} doesn't include fanout's files", program.config);
                diagnosis.found(Some(name), "web", message, &setup);
            }
            if !program.is_running {
                let message = format!("{word} isn't running");
                diagnosis.found(
                    Some(name),
                    "web",
                    message,
                    format!("start {word} on {name}"),
                );
            }
        }
    }
    diagnosis.checks += facts.php.len();
    for php in &facts.php {
        if !php.is_included {
            let message = format!("PHP-FPM {} doesn't include fanout's pools", php.version);
            diagnosis.found(Some(name), "php", message, &setup);
        }
    }
    for warning in &facts.warnings {
        let remedy = match warning.contains("fanout setup server") {
            true => setup.as_str(),
            false => "see the message",
        };
        diagnosis.found(Some(name), "services", warning, remedy);
    }
}

/// A balancer answers at its run-time socket.
async fn balancer(hub: &Hub, servers: &Arc<Servers>, server: &Server, diagnosis: &mut Diagnosis) {
    let is_one = |balancer: &&crate::config::Balancer| {
        balancer.servers.contains(&server.name)
            && !crate::orchestrate::desired::is_external(balancer)
    };
    let Some(balancer) = hub.inventory.balancers.values().find(is_one) else {
        return;
    };
    diagnosis.checks += 1;
    let request = ServiceRequest::Balancer(BalancerRequest::State);
    match servers.ask(&server.name, request, LOOK).await {
        Ok(ServiceAnswer::Balancer(BalancerAnswer::State(state))) => {
            for member in state.members.iter().filter(|member| !member.is_up) {
                let message = format!(
                    "{} finds {} {} in {}",
                    balancer.name, member.member, member.status, member.backend
                );
                let remedy = "fanout check site ADDRESS shows what the member answers";
                diagnosis.found(Some(&server.name), "balancer", message, remedy);
            }
        }
        Ok(_) => {
            let problem = unexpected(&server.name);
            diagnosis.found(Some(&server.name), "balancer", problem.message, "");
        }
        Err(problem) => {
            let hint = problem.hint().to_owned();
            diagnosis.found(Some(&server.name), "balancer", problem.message, hint);
        }
    }
}

/// A site can run on its members: its database is reached from each, under one address, and its
/// application finds what it needs.
async fn site_on_members(
    hub: &Hub,
    servers: &Arc<Servers>,
    site: &Site,
    facts: &BTreeMap<ServerName, ServiceFacts>,
    diagnosis: &mut Diagnosis,
) -> Result<(), CommandError> {
    let members = hub.inventory.members_of_site(site);
    let members: Vec<&ServerName> = members
        .iter()
        .map(|server| &server.name)
        .filter(|name| facts.contains_key(*name))
        .collect();
    let database = site
        .db
        .as_ref()
        .and_then(|name| hub.inventory.servers.get(name));
    if let Some((server, db)) = database.and_then(|server| Some((server, server.db.as_ref()?))) {
        let host = db.host.clone();
        let host = host.unwrap_or_else(|| server.address.host().to_owned());
        let account = sites::account(hub, site, &host, db.port).await;
        let mut seen: BTreeMap<Vec<String>, Vec<&ServerName>> = BTreeMap::new();
        for name in &members {
            diagnosis.checks += 1;
            match knock(servers, name, &host, db.port).await {
                Ok(found) => {
                    seen.entry(found.resolved).or_default().push(name);
                    if let Some(account) = &account {
                        sites::login(servers, site, name, account, diagnosis).await;
                    }
                }
                Err(problem) => {
                    let hint = problem.hint().to_owned();
                    diagnosis.found(Some(name), "database", problem.message, hint);
                }
            }
        }
        if seen.len() > 1 {
            let message = format!(
                "{host} leads to different addresses on the members of {}",
                site.uri
            );
            let remedy = "use an address: db = { host = \"10.0.0.30\" }";
            diagnosis.found(None, "database", message, remedy);
        }
    }
    let one = application::one(hub, servers, site.uri.as_str()).await?;
    if !is_installable(one.app.site.driver) {
        return Ok(());
    }
    for name in members
        .into_iter()
        .filter(|name| one.members.contains(name))
    {
        diagnosis.checks += 1;
        let asked = one.app.ask(name, AppAction::Requirements, LOOK).await;
        match asked {
            Ok(AppAnswer::Missing(missing)) => {
                for what in missing {
                    let message = format!("{}: {what}", site.uri);
                    let remedy = format!("fanout setup server {name}");
                    diagnosis.found(Some(name), "application", message, remedy);
                }
            }
            Ok(_) => {}
            Err(problem) => {
                let hint = problem.hint().to_owned();
                diagnosis.found(Some(name), "application", problem.message, hint);
            }
        }
    }
    Ok(())
}

async fn knock(
    servers: &Arc<Servers>,
    name: &ServerName,
    host: &str,
    port: u16,
) -> Result<SeenAddress, crate::codes::Problem> {
    let request = ServiceRequest::DatabaseProbe(ProbeRequest::Address {
        host: host.to_owned(),
        port,
    });
    match servers.ask(name, request, LOOK).await? {
        ServiceAnswer::DatabaseProbe(ProbeAnswer::Seen(seen)) => Ok(seen),
        _ => Err(unexpected(name)),
    }
}

fn report(context: &Context, diagnosis: &Diagnosis) -> Exit {
    let ui = &context.ui;
    if ui.is_json() {
        ui.json(&ResultLine::new(json!({
            "checks": diagnosis.checks,
            "findings": diagnosis.findings,
        })));
    } else {
        for finding in &diagnosis.findings {
            let server = finding.server.as_deref().unwrap_or("hub");
            ui.out(format!("{server}  {}: {}", finding.check, finding.message));
            if !finding.remedy.is_empty() {
                ui.out(format!("  remedy: {}", finding.remedy));
            }
        }
        let found = diagnosis.findings.len();
        ui.status(format!("{} checks, {found} findings.", diagnosis.checks));
    }
    match diagnosis.findings.is_empty() {
        true => Exit::Done,
        false => Exit::Differences,
    }
}
