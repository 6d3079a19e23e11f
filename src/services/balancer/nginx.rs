//! nginx as a balancer: upstreams and virtual hosts for its `http` context.
//!
//! This nginx can't be told anything while it runs. A member leaves the rotation by `down` in a new
//! configuration, and is idle when the last worker with an older one has ended. Members that die are
//! noticed by the requests that fail on them, which go to another one if they have no effect.

use super::routes::{Backend, Routes, SiteRoute};
use super::{CLOSING_MARK, CONNECTIONS_PAGE, Ingredients, area_directory, bundle_name, directory};
use crate::config::Balancer;
use crate::model::{ServerName, SiteTls};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use sync_proto::wire::service::ConfigArea;

/// How long a visitor's connection stays open between two requests, in seconds. A new configuration
/// waits that long at most.
pub const KEEP_OPEN_S: u64 = 5;
/// Without it nobody can say when the last connection is idle.
const STATUS: &str = "http_stub_status_module";

pub(super) fn render(
    balancer: &Balancer,
    routes: &Routes,
    ingredients: &Ingredients<'_>,
) -> String {
    let mut text = format!(
        "# Balancer {}, by fanout. A change made here by hand is undone by the next apply.\n",
        balancer.name
    );
    for one in &routes.backends {
        upstream(&mut text, one, ingredients.out);
    }
    let mut hosts: Vec<(&str, Vec<(usize, &SiteRoute)>)> = Vec::new();
    for (number, site) in routes.sites.iter().enumerate() {
        for host in &site.hosts {
            match hosts.iter_mut().find(|(known, _)| known == host) {
                Some((_, sites)) => sites.push((number, site)),
                None => hosts.push((host, vec![(number, site)])),
            }
        }
    }
    for (number, site) in routes.sites.iter().enumerate() {
        choice(&mut text, number, site);
    }
    for (host, sites) in &hosts {
        let tls = ingredients.bundles.iter().find(|(uri, _)| {
            let is_terminated = routes.terminated(balancer).iter().any(|it| it.uri == **uri);
            is_terminated && sites.iter().any(|(_, site)| site.uri.host() == uri.host())
        });
        let bundle = tls.map(|(uri, _)| bundle_name(uri));
        let needs_tls = sites.iter().all(|(_, site)| site.tls == SiteTls::Required);
        virtual_host(
            &mut text,
            balancer,
            host,
            sites,
            bundle.as_deref(),
            needs_tls,
            ingredients,
        );
    }
    text
}

/// Where the agent finds out which configuration set the workers have read.
pub(super) fn health(ingredients: &Ingredients<'_>, port: u16) -> String {
    let root = directory(&ingredients.facts.config_root);
    let connections = match can_close(ingredients) {
        true => format!("    location = {CONNECTIONS_PAGE} {{\n        stub_status;\n    }}\n"),
        false => String::new(),
    };
    format!(
        "server {{
    listen 127.0.0.1:{port};
    server_name _;
    access_log off;
    default_type text/plain;
    keepalive_timeout 0;
    location = /.fanout/generation {{
        include {root}/nginx.generation;
    }}
{connections}    location / {{
        return 404;
    }}
}}
"
    )
}

/// Can connections be ended before a new configuration is read? Otherwise nginx closes those that
/// are idle without a word, and a form that is sent in that moment is lost.
fn can_close(ingredients: &Ingredients<'_>) -> bool {
    let nginx = ingredients.facts.nginx.as_ref();
    nginx.is_some_and(|nginx| nginx.modules.iter().any(|it| it == STATUS))
}

fn upstream_name(backend: &str) -> String {
    format!("fanout_{}", backend.replace(':', "_pin_"))
}

fn upstream(text: &mut String, one: &Backend, out: &BTreeSet<ServerName>) {
    let _infallible = writeln!(text, "\nupstream {} {{", upstream_name(&one.name));
    text.push_str("    least_conn;\n");
    for server in &one.servers {
        let is_other = one.pinned.as_ref().is_some_and(|name| *name != server.name);
        let _infallible = writeln!(
            text,
            "    server {} max_fails=1 fail_timeout=2s{}{}; # {}",
            server.at(server.http),
            if is_other { " backup" } else { "" },
            if out.contains(&server.name) {
                " down"
            } else {
                ""
            },
            server.name
        );
    }
    if !one.is_for_writes {
        text.push_str("    keepalive 64;\n");
    }
    text.push_str("}\n");
}

/// Which upstream one site's requests go to.
fn choice(text: &mut String, number: usize, site: &SiteRoute) {
    let below = site
        .uri
        .subdirectory()
        .map_or(String::new(), |at| format!("/{at}"));
    let (usual, pinned) = (upstream_name(&site.backend), upstream_name(&site.writes));
    let _infallible = write!(
        text,
        "\nmap \"$request_method $uri\" $fanout_site_{number} {{\n    default {usual};\n    \
         \"~^(POST|PUT|PATCH|DELETE) \" {pinned};\n"
    );
    for path in site.administration.iter().filter(|_| site.is_pinned) {
        let escaped = path.replace('.', "\\.");
        let _infallible = writeln!(text, "    \"~^[A-Z]+ {below}{escaped}\" {pinned};");
    }
    text.push_str("}\n");
}

fn virtual_host(
    text: &mut String,
    balancer: &Balancer,
    host: &str,
    sites: &[(usize, &SiteRoute)],
    bundle: Option<&str>,
    needs_tls: bool,
    ingredients: &Ingredients<'_>,
) {
    let root = directory(&ingredients.facts.config_root);
    let keys = area_directory(ConfigArea::Keys);
    let plain = format!(
        "    listen {port};\n    listen [::]:{port};\n    server_name {host};\n",
        port = balancer.http
    );
    match bundle {
        Some(bundle) if needs_tls => {
            let _infallible = write!(
                text,
                "\nserver {{\n{plain}    location / {{\n        return 308 \
                 https://$host$request_uri;\n        keepalive_timeout 0;\n    }}\n    location /.well-known/acme-challenge/ {{\n"
            );
            pass(text, sites[0].0);
            text.push_str("    }\n}\n");
            let _infallible = write!(
                text,
                "\nserver {{\n{}    server_name {host};\n",
                listen_tls(balancer.https, &format!("{root}/{keys}/{bundle}"))
            );
        }
        Some(bundle) => {
            let _infallible = write!(
                text,
                "\nserver {{\n{plain}{}",
                listen_tls(balancer.https, &format!("{root}/{keys}/{bundle}"))
            );
        }
        None => {
            let _infallible = write!(text, "\nserver {{\n{plain}");
        }
    }
    // What a visitor may send is the member's to say.
    let _infallible = writeln!(
        text,
        "    client_max_body_size 0;\n    keepalive_timeout {KEEP_OPEN_S}s;"
    );
    let mark = can_close(ingredients).then(|| {
        let data = directory(&ingredients.facts.data_root);
        format!("{data}/{CLOSING_MARK}")
    });
    for (number, site) in sites {
        match site.uri.subdirectory() {
            Some(path) => {
                let _infallible = writeln!(text, "    location ~ ^/{path}(/|$) {{");
            }
            None => text.push_str("    location / {\n"),
        }
        if let Some(mark) = &mark {
            let _infallible = write!(
                text,
                "        error_page 418 = @closing_{number};\n        if (-f \"{mark}\") {{\n            \
                 return 418;\n        }}\n"
            );
        }
        pass(text, *number);
        text.push_str("    }\n");
        if mark.is_some() {
            let _infallible = write!(
                text,
                "    location @closing_{number} {{\n        keepalive_timeout 0;\n"
            );
            pass(text, *number);
            text.push_str("    }\n");
        }
    }
    text.push_str("}\n");
}

fn listen_tls(port: u16, bundle: &str) -> String {
    format!(
        "    listen {port} ssl http2;\n    listen [::]:{port} ssl http2;\n    ssl_certificate \
         {bundle};\n    ssl_certificate_key {bundle};\n    ssl_protocols TLSv1.2 TLSv1.3;\n"
    )
}

fn pass(text: &mut String, number: usize) {
    let upstream = format!("$fanout_site_{number}");
    let _infallible = write!(
        text,
        "        proxy_pass http://{upstream};
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Port $server_port;
        proxy_set_header X-Real-IP \"\";
        proxy_set_header Forwarded \"\";
        proxy_connect_timeout 3s;
        proxy_read_timeout 300s;
        proxy_next_upstream error timeout http_502 http_503;
        proxy_next_upstream_tries 3;
"
    );
}

/// The file with these members `down`, or not any more. Lines of others stay as they are.
pub fn mark_down(file: &str, members: &[ServerName], out: bool) -> String {
    let line = |line: &str| {
        let Some((server, name)) = of_member(line) else {
            return line.to_owned();
        };
        if !members.iter().any(|member| member.as_str() == name) {
            return line.to_owned();
        }
        let plain = server.strip_suffix(" down").unwrap_or(server);
        let down = if out { " down" } else { "" };
        format!("{plain}{down}; # {name}")
    };
    let mut text: String = file.lines().map(|it| line(it) + "\n").collect();
    if !file.ends_with('\n') {
        text.pop();
    }
    text
}

/// Is the member `down` anywhere in this file? `None` if it isn't there at all.
pub fn marked_down(file: &str, member: &ServerName) -> Option<bool> {
    let mut lines = file.lines().filter_map(of_member);
    let first = lines.find(|(_, name)| *name == member.as_str())?;
    let is_down =
        |(server, name): (&str, &str)| name == member.as_str() && server.ends_with(" down");
    Some(is_down(first) || lines.any(is_down))
}

/// A line about a server of an upstream: what is before its `;`, and its name.
fn of_member(line: &str) -> Option<(&str, &str)> {
    let (server, name) = line.split_once("; # ")?;
    server
        .trim_start()
        .starts_with("server ")
        .then_some((server, name.trim_end()))
}
