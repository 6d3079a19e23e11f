//! Rendered files, seen as a whole, and what must never be in one.

use super::*;
use crate::config::{Inventory, Platform, Server, Site, Web};
use crate::model::{SiteTls, WebKind};
use std::fmt::Write as _;
use sync_proto::path::RelPath;
use sync_proto::wire::service::{PhpFacts, ProgramFacts, ServiceFacts};

const INVENTORY: &str = r#"
[hub]
name = "test"
[servers.web1]
address = "web1"
[platforms.shop]
path = "/srv/src/shop"
root = "/srv/platforms/shop"
on = "web1"
"#;

/// One server, one platform, and the sites of these addresses.
fn inventory(kind: WebKind, sites: Vec<Site>) -> Inventory {
    let mut inventory = Inventory::parse(INVENTORY, "fanout.toml").unwrap();
    for server in inventory.servers.values_mut() {
        server.web = Some(Web::new(kind));
    }
    for platform in inventory.platforms.values_mut() {
        platform.docroot = RelPath::parse(b"web").unwrap();
    }
    inventory.sites = sites.into_iter().map(|it| (it.uri.clone(), it)).collect();
    inventory
}

fn a_site(uri: &str, tls: SiteTls) -> Site {
    Site {
        uri: uri.parse().unwrap(),
        platform: "shop".parse().unwrap(),
        dir: None,
        db: None,
        aliases: Vec::new(),
        redirect_aliases: false,
        redirects: BTreeMap::new(),
        tls,
        certificate: None,
        key: None,
        hsts_s: None,
        uploads: None,
        user: None,
        upload_mib: 64,
        auth: None,
        title: None,
        mail: None,
        cron: false,
    }
}

fn sites(tls: SiteTls) -> Vec<Site> {
    let mut main = a_site("www.example.com", tls);
    main.aliases = vec!["example.com".parse().unwrap()];
    main.redirect_aliases = true;
    main.hsts_s = Some(3600);
    main.redirects
        .insert("/old".into(), "https://www.example.com/new".into());
    vec![
        main,
        a_site("www.example.com/blog", tls),
        a_site("below.example.com/a", tls),
    ]
}

fn facts(version: &str) -> ServiceFacts {
    let program = |modules: &[&str]| ProgramFacts {
        version: version.into(),
        modules: modules.iter().map(|it| (*it).to_owned()).collect(),
        ..ProgramFacts::default()
    };
    let apache = [
        "rewrite_module",
        "proxy_module",
        "proxy_fcgi_module",
        "headers_module",
        "expires_module",
        "remoteip_module",
        "setenvif_module",
        "alias_module",
        "dir_module",
        "ssl_module",
        "http2_module",
    ];
    ServiceFacts {
        config_root: b"/var/lib/fanout-services/current".to_vec(),
        data_root: b"/var/lib/fanout-services/data".to_vec(),
        nginx: Some(program(&["http_v2_module"])),
        apache: Some(program(&apache)),
        php: vec![PhpFacts {
            version: "8.2".into(),
            socket_dir: "/run/php".into(),
            ..PhpFacts::default()
        }],
        web_group: "www-data".into(),
        ..ServiceFacts::default()
    }
}

fn certificate() -> Certificate {
    Certificate {
        chain_pem: "CHAIN\n".into(),
        key_pem: "KEY\n".into(),
        is_self_signed: false,
    }
}

fn app() -> AppRules {
    let mut app = AppRules::php().unwrap();
    app.deny.push(Pattern::parse(r"^/composer\.json$").unwrap());
    app.no_scripts
        .push(Quoted::parse("x", "/uploads/").unwrap());
    app.private.push(Quoted::parse("x", "/private/").unwrap());
    app
}

fn site<'a>(site: &'a Site, platform: &'a Platform) -> SiteInputs<'a> {
    SiteInputs {
        site,
        platform,
        mode: Mode::Enabled,
        certificate: Some(certificate()),
        passwords: None,
        settings: vec![Settings {
            name: "settings.php".into(),
            bytes: b"<?php\n".to_vec(),
        }],
        app: app(),
        custom: Custom::default(),
    }
}

fn inputs<'a>(
    inventory: &'a Inventory,
    facts: &'a ServiceFacts,
    templates: &'a Templates,
) -> Inputs<'a> {
    let server: &Server = inventory.server("web1").unwrap();
    let sites = inventory.sites.values();
    Inputs {
        server,
        facts,
        sites: sites
            .map(|it| site(it, &inventory.platforms[it.platform.as_str()]))
            .collect(),
        trusted_proxies: vec!["10.0.0.20/32".parse().unwrap()],
        templates,
    }
}

fn shown(files: &[ConfigFile]) -> String {
    let mut text = String::new();
    for file in files {
        let Content::Bytes(bytes) = &file.content else {
            panic!("rendered files are bytes");
        };
        writeln!(text, "==== {:?} {} {}", file.area, file.name, file.group).unwrap();
        text.push_str(&String::from_utf8_lossy(bytes));
    }
    text
}

#[test]
fn every_kind_of_web_server_is_rendered_the_same_way_twice() {
    let templates = Templates::built_in().unwrap();
    for kind in [
        WebKind::Nginx,
        WebKind::NginxSsl,
        WebKind::Apache,
        WebKind::ApacheSsl,
    ] {
        let inventory = inventory(kind, sites(SiteTls::Required));
        let facts = facts("1.22.1");
        let once = shown(&render(&inputs(&inventory, &facts, &templates)).unwrap());
        let again = shown(&render(&inputs(&inventory, &facts, &templates)).unwrap());
        assert_eq!(once, again);
    }
}
