//! `fanout check site`: one site as every member, and the balancer in front of them, answer for it
//! over the network. Changes nothing.

use crate::cli::Context;
use crate::cli::args::{CheckArgs, CheckNoun, CheckSiteArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error};
use crate::cli::human::{bytes, time};
use crate::cli::json::ResultLine;
use crate::cli::serving;
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit};
use crate::config::{Balancer, Platform, Server, Site};
use crate::model::{BalancerKind, BalancerTls, SiteTls, WebKind};
use crate::net::http::{Question, probe};
use crate::orchestrate::servers::Servers;
use crate::services::probe::{Asked, Compared, Different, compare, hex};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::service::{MemberAnswer, MemberRequest, Probe, Probed};
use sync_proto::wire::{ServiceAnswer, ServiceRequest, TreeKey};
use tokio::task::JoinSet;

/// How long finding out about an agent may take, beyond the question itself.
const MARGIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(context: &Context, args: CheckArgs) -> Result<Exit, CommandError> {
    let CheckNoun::Site(args) = args.noun;
    let hub = Hub::open(context).await?;
    let site = hub.inventory.site(&args.uri).map_err(config_error)?;
    let platform = hub
        .inventory
        .platform(site.platform.as_str())
        .map_err(config_error)?;
    let asked = ask_all(&hub, site, platform, &args).await?;
    let (compared, different) = compare(&asked, args.marker.as_deref());
    show(context, site, &asked, compared, &different);
    Ok(match different.is_empty() {
        true => Exit::Done,
        false => Exit::Differences,
    })
}

/// Somebody to ask, and how.
struct Stop {
    who: String,
    question: Question,
    /// The member, to be asked through its agent where only its balancer is believed.
    member: Option<Arc<Member>>,
}

struct Member {
    servers: Arc<Servers>,
    server: Server,
    tree: TreeKey,
    /// A balancer ends TLS before it.
    is_terminated: bool,
}

async fn ask_all(
    hub: &Hub,
    site: &Site,
    platform: &Platform,
    args: &CheckSiteArgs,
) -> Result<Vec<Asked>, CommandError> {
    let servers = serving::servers(hub, hub.inventory.servers.keys().cloned()).await?;
    let balancer = hub.inventory.balancer_of(platform);
    let tree = *hub.state(&platform.name).await?.tree.as_bytes();
    let question = |at, tls| question(site, args, at, tls);
    let mut stops = Vec::new();
    for server in hub.inventory.members(platform) {
        let Some(web) = &server.web else {
            continue;
        };
        let has_tls = matches!(web.kind, WebKind::NginxSsl | WebKind::ApacheSsl);
        let tls = has_tls && site.tls != SiteTls::Off;
        let port = if tls { web.https } else { web.http };
        stops.push(Stop {
            who: server.name.to_string(),
            question: question(address(server, port).await?, tls),
            member: Some(Arc::new(Member {
                servers: servers.clone(),
                server: server.clone(),
                tree,
                is_terminated: balancer.is_some_and(|it| it.tls == BalancerTls::Terminate),
            })),
        });
    }
    if let Some(balancer) = balancer.filter(|it| it.kind != BalancerKind::External) {
        for name in &balancer.servers {
            let server = hub.inventory.server(name.as_str()).map_err(config_error)?;
            let (port, tls) = entrance(balancer, site);
            stops.push(Stop {
                who: format!("{} ({name})", balancer.name),
                question: question(address(server, port).await?, tls),
                member: None,
            });
        }
    }
    if stops.is_empty() {
        return Err(CommandError::new(
            Code::NoMembers,
            format!(
                "No server has {}: none of the members of {} serves the web",
                site.uri, platform.on
            ),
        ));
    }
    let mut asking = JoinSet::new();
    let count = stops.len();
    for (at, stop) in stops.into_iter().enumerate() {
        asking.spawn(async move { (at, ask(stop).await) });
    }
    let mut asked: Vec<Option<Asked>> = (0..count).map(|_| None).collect();
    while let Some(joined) = asking.join_next().await {
        let (at, answer) =
            joined.map_err(|error| CommandError::bug(format!("A probe was lost: {error}")))?;
        asked[at] = Some(answer);
    }
    Ok(asked.into_iter().flatten().collect())
}

/// The port through which visitors of the site come.
fn entrance(balancer: &Balancer, site: &Site) -> (u16, bool) {
    match site.tls {
        SiteTls::Off => (balancer.http, false),
        SiteTls::Optional | SiteTls::Required => (balancer.https, true),
    }
}

fn question(site: &Site, args: &CheckSiteArgs, at: SocketAddr, tls: bool) -> Question {
    let below = match site.uri.subdirectory() {
        Some(path) => format!("/{path}"),
        None => String::new(),
    };
    Question {
        at,
        tls,
        host: site.uri.host().to_owned(),
        path: format!("{below}/{}", args.path.trim_start_matches('/')),
        head: false,
        forwarded_tls: false,
        within: Duration::from_secs(args.timeout.into()),
    }
}

/// The first address that others know the server by.
async fn address(server: &Server, port: u16) -> Result<SocketAddr, CommandError> {
    if let Some(address) = server.addresses.first() {
        return Ok(SocketAddr::new(*address, port));
    }
    crate::net::http::resolve(server.address.host(), port)
        .await
        .map_err(|error| {
            CommandError::new(
                Code::AddressUnresolved,
                format!("{}: {}: {error}", server.name, server.address.host()),
            )
        })
}

async fn ask(stop: Stop) -> Asked {
    let mut first = probe(&stop.question).await;
    let mut second = probe(&stop.question).await;
    let mut generation = None;
    if let Some(member) = &stop.member {
        if member.is_terminated && sends_to_tls(&second, &stop.question) {
            // Only its balancer is believed about TLS, so the page itself is asked for over there.
            (first, second) = match deeper(member, &stop.question).await {
                Some(answers) => answers,
                None => (first, second),
            };
        }
        let survey = member.servers.survey(&member.server.name, member.tree);
        let survey = tokio::time::timeout(MARGIN, survey).await;
        generation = survey.ok().and_then(Result::ok).and_then(|it| it.live);
    }
    Asked {
        who: stop.who,
        answers: [first, second],
        generation,
    }
}

/// Is it the redirect of a site that is served over TLS only?
fn sends_to_tls(answer: &Probed, question: &Question) -> bool {
    let own = format!("https://{}", question.host);
    !question.tls && (300..400).contains(&answer.status) && answer.location.starts_with(&own)
}

async fn deeper(member: &Member, question: &Question) -> Option<(Probed, Probed)> {
    let one = async || {
        let probe = Probe {
            port: question.at.port(),
            tls: false,
            host: question.host.clone(),
            path: question.path.clone(),
            head: false,
            forwarded_tls: true,
            within_ms: u32::try_from(question.within.as_millis()).unwrap_or(u32::MAX),
        };
        let request = ServiceRequest::Member(MemberRequest::Probe(probe));
        let limit = question.within + MARGIN;
        match member
            .servers
            .ask(&member.server.name, request, limit)
            .await
        {
            Ok(ServiceAnswer::Member(MemberAnswer::Probed(probed))) => Some(*probed),
            _ => None,
        }
    };
    Some((one().await?, one().await?))
}

fn show(
    context: &Context,
    site: &Site,
    asked: &[Asked],
    compared: Compared,
    different: &[Different],
) {
    let how = |who: &str| {
        let found = different.iter().find(|it| it.who == who);
        found.map_or("", |it| it.how.as_str())
    };
    if context.ui.is_json() {
        let answers: Vec<_> = asked
            .iter()
            .map(|one| json_of(one, how(&one.who)))
            .collect();
        context.ui.json(&ResultLine::new(json!({
            "site": site.uri, "same": different.is_empty(), "answers": answers,
            "compared": match compared {
                Compared::Bytes => "bytes",
                Compared::Title => "title",
                Compared::Marker => "marker",
            },
        })));
        return;
    }
    let mut table = Table::new(&[
        ("who", Align::Left),
        ("status", Align::Right),
        ("took", Align::Right),
        ("page", Align::Left),
        ("size", Align::Right),
        ("code", Align::Left),
        ("certificate", Align::Left),
        ("differs in", Align::Left),
    ]);
    for one in asked {
        let answer = &one.answers[1];
        let has_answer = answer.status != 0;
        let only = |text: String| if has_answer { text } else { "-".into() };
        table.row([
            one.who.clone(),
            only(answer.status.to_string()),
            only(time(Duration::from_micros(answer.elapsed_us))),
            only(hex(&answer.digest)),
            only(bytes(answer.body_bytes)),
            one.generation
                .map_or_else(|| "-".into(), |it| format!("#{it}")),
            certificate(answer),
            how(&one.who).to_owned(),
        ]);
    }
    context.ui.out(table);
    match different.len() {
        0 => context
            .ui
            .status(format!("{}: all answers agree.", site.uri)),
        count => {
            context.ui.status(format!(
                "{}: {count} of {} answers differ or are errors.",
                site.uri,
                asked.len()
            ));
            context.ui.hint(Code::SiteDiffers.hint());
        }
    }
    if compared == Compared::Title {
        context.ui.status(
            "The page is different at each visit, so its title was compared; --marker TEXT looks \
             for a text.",
        );
    }
}

fn certificate(answer: &Probed) -> String {
    let Some(shown) = &answer.certificate else {
        return "-".into();
    };
    let issuer = match shown.is_self_signed {
        true => "self-signed".to_owned(),
        false => shown.issuer.clone(),
    };
    let until = jiff::Timestamp::from_second(shown.not_after)
        .map_or_else(|_| "?".into(), |it| it.strftime("%Y-%m-%d").to_string());
    let wrong = if shown.matches {
        ""
    } else {
        ", for another name"
    };
    format!("{issuer}, until {until}{wrong}")
}

fn json_of(one: &Asked, how: &str) -> serde_json::Value {
    let answer = &one.answers[1];
    let certificate = answer.certificate.as_ref().map(|it| {
        json!({
            "subject": it.subject, "issuer": it.issuer, "names": it.names, "matches": it.matches,
            "self_signed": it.is_self_signed, "not_after": it.not_after,
        })
    });
    json!({
        "who": one.who, "status": answer.status, "error": answer.error,
        "location": answer.location, "digest": data_encoding::HEXLOWER.encode(&answer.digest),
        "bytes": answer.body_bytes, "elapsed_us": answer.elapsed_us,
        "generation": one.generation, "certificate": certificate, "differs": how,
    })
}
