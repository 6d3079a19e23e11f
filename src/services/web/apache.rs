//! apache: roots, base, default vhost, health endpoint, and a file for each site or host.

use super::facts::Machine;
use super::site::{Host, Place, Port, View};
use super::templates::vars;
use super::text::{Pattern, Plain, Quoted};
use super::{Files, Inputs, RenderError, php};
use serde::Serialize;
use std::collections::BTreeMap;
use sync_proto::wire::service::ConfigArea::{Apache, Pages};

#[derive(Serialize)]
struct Root {
    variable: Plain,
    path: Quoted,
}

pub(super) fn render(
    inputs: &Inputs<'_>,
    machine: &Machine,
    hosts: &[Host<'_>],
    files: &mut Files,
) -> Result<(), RenderError> {
    let templates = inputs.templates;
    let (config_root, data_root) = (&machine.config_root, &machine.data_root);
    let proxies = &machine.proxies;
    let web = &machine.web;
    let text = |source| RenderError::Text {
        site: machine.name.clone(),
        source,
    };
    files.add(
        Apache,
        super::roots::ROOTS,
        templates.render(
            "apache-roots.conf",
            vars! { config_root, roots => roots(hosts) },
        )?,
    );
    let wanted = [Some(web.http), machine.tls.then_some(web.https)];
    let listens: Vec<u16> = wanted
        .into_iter()
        .flatten()
        .filter(|port| !machine.own_ports.contains(port))
        .collect();
    files.add(
        Apache,
        "00-base.conf",
        templates.render("apache-base.conf", vars! { listens })?,
    );
    // A vhost for TLS needs a certificate even to refuse; that of the first site does.
    let with_tls = places(hosts).find(|it| it.view.tls);
    let default = vars! {
        default_http => !machine.own_defaults.contains(&web.http),
        default_https => with_tls.is_some() && !machine.own_defaults.contains(&web.https),
        http => web.http,
        https => web.https,
        default_certificate => with_tls.map(|it| &it.view.certificate),
        default_key => with_tls.map(|it| &it.view.key),
    };
    files.add(
        Apache,
        "00-default.conf",
        templates.render("apache-default.conf", default)?,
    );
    let health = vars! {
        config_root, data_root,
        health => web.health,
        php => php::pings(&machine.name, hosts)?,
    };
    files.add(
        Apache,
        format!("00-health-{}.conf", web.health),
        templates.render("apache-health.conf", health)?,
    );
    files.add(Pages, "fanout-health.txt", "ok\n");
    let ports = |tls: bool| {
        let plain = Port {
            number: web.http,
            tls: false,
        };
        let with_tls = Port {
            number: web.https,
            tls: true,
        };
        [Some(plain), tls.then_some(with_tls)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let trusted = trusted(proxies);
    let http_port = machine.shown_port(web.http, 80);
    let https_port = machine.shown_port(web.https, 443);
    let brief = machine.is_passed_through;
    let http2 = machine.modules.iter().any(|it| it == "http2_module");
    let filled = |view: &View, host: &Host<'_>| {
        let mut view = view.clone();
        view.ports = ports(view.tls);
        view.subs = host.subs.iter().map(sub_name).collect();
        view.sub_bases = host.subs.iter().map(|it| it.view.base.clone()).collect();
        if let Some(pattern) = &view.no_scripts
            && !view.sub_bases.is_empty()
        {
            // What the site itself doesn't run may be run by one below it.
            let bases: Vec<&str> = view.sub_bases.iter().map(Plain::as_str).collect();
            let below = format!("(?!(?:{})/|", bases.join("|"));
            view.no_scripts = Some(pattern.replacen("(?!", &below, 1));
        }
        view.redirect_base_plain = view
            .tls_only
            .then(|| format!("https://{}{https_port}", host.name));
        view
    };
    for host in hosts {
        for sub in &host.subs {
            let context = vars! { site => sub.view, config_root };
            let text = templates.render("apache-sub.inc", context)?;
            files.add(Apache, sub_name(sub), text);
        }
        if let Some(root) = &host.root {
            let context = vars! {
                site => filled(&root.view, host),
                proxies, trusted, config_root, http_port, https_port, http2, brief,
            };
            let text = templates.render("apache-site.conf", context)?;
            files.add(Apache, format!("site-{}.conf", root.view.name), text);
        } else {
            let with_tls = host.subs.iter().find(|it| it.view.tls);
            let view = vars! {
                name => host.name,
                ports => ports(with_tls.is_some()),
                tls_only => host.subs.iter().all(|it| it.view.tls_only),
                certificate => with_tls.map(|it| &it.view.certificate),
                key => with_tls.map(|it| &it.view.key),
                subs => host.subs.iter().map(sub_name).collect::<Vec<_>>(),
                elsewhere => elsewhere(&host.subs).map_err(text)?,
            };
            let context = vars! {
                host => view, proxies, trusted, config_root, https_port, brief,
            };
            let text = templates.render("apache-host.conf", context)?;
            files.add(Apache, format!("host-{}.conf", host.name), text);
        }
    }
    Ok(())
}

fn places<'h, 'a>(hosts: &'h [Host<'a>]) -> impl Iterator<Item = &'h Place<'a>> {
    hosts.iter().flat_map(|it| it.root.iter().chain(&it.subs))
}

/// The variables with the roots of the platforms that are served here.
fn roots(hosts: &[Host<'_>]) -> Vec<Root> {
    let roots: BTreeMap<&Plain, &Quoted> = places(hosts)
        .map(|it| (&it.view.root_variable, &it.view.root_path))
        .collect();
    let roots = roots.into_iter().map(|(variable, path)| Root {
        variable: variable.clone(),
        path: path.clone(),
    });
    roots.collect()
}

/// The condition under which a request's word about TLS is believed.
fn trusted(proxies: &[Plain]) -> Option<String> {
    if proxies.is_empty() {
        return None;
    }
    let from: Vec<String> = proxies
        .iter()
        .map(|it| format!("%{{CONN_REMOTE_ADDR}} -ipmatch '{it}'"))
        .collect();
    Some(format!(
        "req('X-Forwarded-Proto') == 'https' && ({})",
        from.join(" || ")
    ))
}

/// Paths that none of these sites has.
fn elsewhere(subs: &[Place<'_>]) -> Result<Pattern, super::TextError> {
    let bases: Vec<&str> = subs
        .iter()
        .map(|it| it.view.base.as_str().trim_start_matches('/'))
        .collect();
    Pattern::parse(&format!(r"^/(?!(?:{})(?:/|$)|\.fanout/)", bases.join("|")))
}

fn sub_name(place: &Place<'_>) -> String {
    format!("sub-{}.inc", place.view.name)
}
