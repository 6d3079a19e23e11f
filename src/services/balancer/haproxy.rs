//! HAProxy's configuration, for 2.6 and later.
//!
//! What a visitor sends that has no effect may be sent to another member where the first one fails;
//! what has one may not, unless the connection was never made. A member that is drained gets nothing
//! new, not even what is pinned to it: one other member takes that over meanwhile.

use super::routes::{Backend, Routes, Server, SiteRoute};
use super::{Ingredients, bundle_name, directory};
use crate::config::Balancer;
use crate::model::{BalancerTls, SiteTls};
use std::fmt::Write as _;
use sync_proto::wire::service::ConfigArea;

/// The run-time socket, below the server's data directory.
pub const ADMIN_SOCKET: &str = "haproxy/admin.sock";
/// What members were told, below the server's data directory: read at every start.
pub const STATE_FILE: &str = "haproxy/servers.state";

/// A configuration that stands alone.
pub(super) fn render(
    balancer: &Balancer,
    routes: &Routes,
    ingredients: &Ingredients<'_>,
) -> String {
    let mut text = String::new();
    let data = directory(&ingredients.facts.data_root);
    let _infallible = write!(
        text,
        "# Balancer {name}, by fanout. A change made here by hand is undone by the next apply.

global
    log /dev/log local0
    user haproxy
    group haproxy
    stats socket {data}/{ADMIN_SOCKET} mode 600 level admin expose-fd listeners
    stats timeout 1m
    server-state-file {data}/{STATE_FILE}
    hard-stop-after 1h
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    tune.ssl.default-dh-param 2048

defaults
    log global
    mode http
    option httplog
    option dontlognull
    option redispatch 1
    retries 3
    timeout connect 3s
    timeout check 2s
    timeout queue 30s
    timeout client 60s
    timeout server 300s
    timeout http-request 15s
    timeout http-keep-alive 30s
    timeout tunnel 1h
    load-server-state-from-file global
    default-server check inter 500ms fastinter 250ms downinter 500ms fall 2 rise 2 init-addr last,libc,none
",
        name = balancer.name,
    );
    frontend(&mut text, balancer, routes, ingredients);
    if balancer.tls == BalancerTls::Passthrough {
        passthrough(&mut text, balancer, routes);
    }
    for one in &routes.backends {
        backend(&mut text, one);
    }
    text
}

fn frontend(
    text: &mut String,
    balancer: &Balancer,
    routes: &Routes,
    ingredients: &Ingredients<'_>,
) {
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line("\nfrontend visitors".into());
    line(format!("    bind :::{} v4v6", balancer.http));
    let root = directory(&ingredients.facts.config_root);
    let keys = super::area_directory(ConfigArea::Keys);
    let certificates: Vec<String> = routes
        .terminated(balancer)
        .iter()
        .filter(|site| ingredients.bundles.contains_key(&site.uri))
        .map(|site| format!("crt {root}/{keys}/{}", bundle_name(&site.uri)))
        .collect();
    let ends_tls = !certificates.is_empty();
    if ends_tls {
        line(format!(
            "    bind :::{} v4v6 ssl {} alpn h2,http/1.1",
            balancer.https,
            certificates.join(" ")
        ));
    }
    // What a visitor claims about itself is not passed on.
    for header in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "Forwarded",
        "X-Real-IP",
    ] {
        line(format!("    http-request del-header {header}"));
    }
    // What is idle at a reload ends with an answer that says so.
    line("    option idle-close-on-response".into());
    line("    option forwardfor".into());
    line("    http-request set-header X-Forwarded-Proto https if { ssl_fc }".into());
    line("    http-request set-header X-Forwarded-Proto http unless { ssl_fc }".into());
    line("    http-request set-header X-Forwarded-Port %[dst_port]".into());
    line("    http-request set-var(txn.host) req.hdr(host),field(1,:),lower".into());
    line("    acl is_challenge path_beg /.well-known/acme-challenge/".into());
    line("    acl is_write method POST PUT PATCH DELETE".into());
    for (number, site) in routes.sites.iter().enumerate() {
        line(format!("    # {}", site.uri));
        for host in &site.hosts {
            line(format!("    acl host_{number} var(txn.host) -m str {host}"));
        }
        if let Some(path) = site.uri.subdirectory() {
            line(format!("    acl path_{number} path -m str /{path}"));
            line(format!("    acl path_{number} path_beg /{path}/"));
        }
        for path in site.administration.iter().filter(|_| site.is_pinned) {
            let below = site
                .uri
                .subdirectory()
                .map_or(String::new(), |at| format!("/{at}"));
            line(format!("    acl admin_{number} path_beg {below}{path}"));
        }
    }
    let is_of = |number: usize, site: &SiteRoute| match site.uri.subdirectory() {
        Some(_) => format!("host_{number} path_{number}"),
        None => format!("host_{number}"),
    };
    let every = (0..routes.sites.len()).map(|number| format!("!host_{number}"));
    let nobodys: Vec<String> = every.collect();
    // LIMIT: HAProxy takes 64 words a line, so the hosts of many sites are asked one after another.
    line("    http-request set-var(txn.known) bool(false)".into());
    for number in 0..nobodys.len() {
        line(format!(
            "    http-request set-var(txn.known) bool(true) if host_{number}"
        ));
    }
    line(
        "    http-request return status 404 content-type text/plain lf-string \"No such site\\n\" \
         unless { var(txn.known) -m bool }"
            .into(),
    );
    for (number, site) in routes.sites.iter().enumerate() {
        if site.tls == SiteTls::Required && ends_tls {
            line(format!(
                "    http-request redirect scheme https code 308 if {} !{{ ssl_fc }} !is_challenge",
                is_of(number, site)
            ));
        }
    }
    for (number, site) in routes.sites.iter().enumerate() {
        let is = is_of(number, site);
        let writes = &site.writes;
        line(format!("    use_backend {writes} if {is} is_write"));
        if site.is_pinned && !site.administration.is_empty() {
            line(format!("    use_backend {writes} if {is} admin_{number}"));
        }
        line(format!("    use_backend {} if {is}", site.backend));
    }
}

/// TLS as it comes, by the name in the greeting.
fn passthrough(text: &mut String, balancer: &Balancer, routes: &Routes) {
    let _infallible = write!(
        text,
        "\nfrontend visitors_tls\n    bind :::{} v4v6\n    mode tcp\n    option tcplog\n    \
         tcp-request inspect-delay 5s\n    tcp-request content accept if {{ req.ssl_hello_type 1 }}\n",
        balancer.https
    );
    for site in routes.sites.iter().filter(|site| site.tls != SiteTls::Off) {
        for host in &site.hosts {
            let _infallible = writeln!(
                text,
                "    use_backend {}:tls if {{ req.ssl_sni -i {host} }}",
                site.backend
            );
        }
    }
    for one in routes.backends.iter().filter(|one| !one.is_for_writes) {
        let _infallible = write!(text, "\nbackend {}:tls\n    mode tcp\n", one.name);
        check(text, one);
        for server in &one.servers {
            server_line(text, server, server.https, "");
        }
    }
}

fn backend(text: &mut String, one: &Backend) {
    let _infallible = write!(text, "\nbackend {}\n    balance leastconn\n", one.name);
    text.push_str(match one.is_for_writes {
        true => "    option http-server-close\n",
        false => "    http-reuse safe\n",
    });
    check(text, one);
    // Once is enough to be sure that a member is gone; a page of the site itself is never asked for
    // twice if asking has an effect.
    text.push_str("    retry-on conn-failure empty-response 502 503\n");
    text.push_str(
        "    http-request disable-l7-retry unless { method GET } || { method HEAD } || \
         { method OPTIONS }\n",
    );
    for server in &one.servers {
        let is_other = one.pinned.as_ref().is_some_and(|name| *name != server.name);
        server_line(
            text,
            server,
            server.http,
            if is_other { " backup" } else { "" },
        );
    }
}

fn check(text: &mut String, one: &Backend) {
    let _infallible = write!(
        text,
        "    option httpchk\n    http-check send meth GET uri {} ver HTTP/1.1 hdr Host fanout\n    \
         http-check expect status 200\n",
        one.health_path
    );
}

fn server_line(text: &mut String, server: &Server, port: u16, more: &str) {
    let _infallible = writeln!(
        text,
        "    server {} {} port {}{more}",
        server.name,
        server.at(port),
        server.health
    );
}
