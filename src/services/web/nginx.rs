//! nginx: base, default server, health endpoint, and a file for each site or host.

use super::facts::Machine;
use super::site::{Host, Place, View};
use super::templates::vars;
use super::{Files, Inputs, RenderError, php};
use sync_proto::wire::service::ConfigArea::Nginx;

/// The first version that can refuse a TLS handshake without a certificate of its own.
const REJECTS_HANDSHAKES: [u32; 3] = [1, 19, 4];

/// The first version that can limit how long a connection lasts.
const LIMITS_LIFETIMES: [u32; 3] = [1, 19, 10];

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
    let (ssl, http2_directive) = machine.http2();
    let brief = machine.is_passed_through.then(|| {
        // It says `Connection: close` in time, so that no visitor asks on a connection that ends.
        match machine.is_at_least(LIMITS_LIFETIMES) {
            true => "keepalive_time 5s",
            false => "keepalive_requests 50",
        }
    });
    files.add(
        Nginx,
        "00-base.conf",
        templates.render("nginx-base.conf", vars! { proxies })?,
    );
    files.add(
        Nginx,
        "00-fastcgi.inc",
        templates.render("nginx-fastcgi.inc", ())?,
    );
    let default = vars! {
        default_http => !machine.own_defaults.contains(&web.http),
        default_https => machine.tls
            && !machine.own_defaults.contains(&web.https)
            && machine.is_at_least(REJECTS_HANDSHAKES),
        listens_http => machine.listens(web.http, ""),
        listens_https => machine.listens(web.https, " ssl"),
    };
    files.add(
        Nginx,
        "00-default.conf",
        templates.render("nginx-default.conf", default)?,
    );
    let health = vars! {
        config_root, data_root,
        listens_health => machine.listens(web.health, ""),
        php => php::pings(&machine.name, hosts)?,
    };
    files.add(
        Nginx,
        format!("00-health-{}.conf", web.health),
        templates.render("nginx-health.conf", health)?,
    );
    let listens = |tls: bool| {
        let mut listens = machine.listens(web.http, "");
        if tls {
            listens.extend(machine.listens(web.https, ssl));
        }
        listens
    };
    let filled = |view: &View, host: &Host<'_>| {
        let mut view = view.clone();
        view.listens = listens(view.tls);
        view.subs = host.subs.iter().map(sub_name).collect();
        let port = machine.shown_port(web.https, 443);
        view.tls_base = format!("https://$host{port}");
        view.redirect_base = match view.tls_only {
            true => format!("https://{}{port}", host.name),
            false => format!("$fanout_scheme://{}$fanout_port", host.name),
        };
        view
    };
    for host in hosts {
        for sub in &host.subs {
            let text = templates.render(
                "nginx-sub.inc",
                vars! { site => sub.view, proxies, config_root },
            )?;
            files.add(Nginx, sub_name(sub), text);
        }
        if let Some(root) = &host.root {
            let site = filled(&root.view, host);
            let context = vars! { site, proxies, config_root, http2_directive, brief };
            let text = templates.render("nginx-site.conf", context)?;
            files.add(Nginx, format!("site-{}.conf", root.view.name), text);
        } else {
            // The sites below share one vhost: what one of them serves over TLS, all do, with its
            // certificate, which names the host that they share.
            let with_tls = host.subs.iter().find(|it| it.view.tls);
            let view = vars! {
                name => host.name,
                listens => listens(with_tls.is_some()),
                tls => with_tls.is_some(),
                tls_only => host.subs.iter().all(|it| it.view.tls_only),
                tls_base => format!("https://$host{}", machine.shown_port(web.https, 443)),
                certificate => with_tls.map(|it| &it.view.certificate),
                key => with_tls.map(|it| &it.view.key),
                subs => host.subs.iter().map(sub_name).collect::<Vec<_>>(),
            };
            let context = vars! { host => view, proxies, config_root, http2_directive, brief };
            let text = templates.render("nginx-host.conf", context)?;
            files.add(Nginx, format!("host-{}.conf", host.name), text);
        }
    }
    Ok(())
}

fn sub_name(place: &Place<'_>) -> String {
    format!("sub-{}.inc", place.view.name)
}
