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
        is_passed_through: false,
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

fn file(files: &[ConfigFile], name: &str) -> String {
    let own: Vec<ConfigFile> = files.iter().filter(|it| it.name == name).cloned().collect();
    assert_eq!(own.len(), 1, "{name}");
    shown(&own)
}

#[test]
fn files_of_a_site_on_nginx() {
    let templates = Templates::built_in().unwrap();
    let mut all = sites(SiteTls::Required);
    // What fanout signed itself may be replaced by anything: no word about insisting on it.
    all[0].certificate = Some("/etc/ssl/own.pem".parse().unwrap());
    let inventory = inventory(WebKind::NginxSsl, all);
    let mut facts = facts("1.22.1");
    facts.addresses = vec!["10.0.0.11".into(), "2001:db8::11".into()];
    let files = render(&inputs(&inventory, &facts, &templates)).unwrap();
    insta::assert_snapshot!("nginx-site", file(&files, "site-www.example.com.conf"));
    insta::assert_snapshot!("nginx-sub", file(&files, "sub-www.example.com+blog.inc"));
    insta::assert_snapshot!("nginx-host", file(&files, "host-below.example.com.conf"));
    insta::assert_snapshot!("nginx-health", file(&files, "00-health-4680.conf"));
    insta::assert_snapshot!("nginx-default", file(&files, "00-default.conf"));
    insta::assert_snapshot!("pool", file(&files, "8.2-www.example.com.conf"));
    insta::assert_snapshot!("page", file(&files, "www.example.com.maintenance.html"));
}

#[test]
fn files_of_a_site_on_apache() {
    let templates = Templates::built_in().unwrap();
    let inventory = inventory(WebKind::ApacheSsl, sites(SiteTls::Optional));
    let mut facts = facts("2.4.57");
    facts.apache.as_mut().unwrap().own_ports = vec![80];
    facts.apache.as_mut().unwrap().own_defaults = vec![80];
    let files = render(&inputs(&inventory, &facts, &templates)).unwrap();
    insta::assert_snapshot!("apache-site", file(&files, "site-www.example.com.conf"));
    insta::assert_snapshot!("apache-sub", file(&files, "sub-www.example.com+blog.inc"));
    insta::assert_snapshot!("apache-roots", file(&files, "00-roots.conf"));
    insta::assert_snapshot!("apache-base", file(&files, "00-base.conf"));
    insta::assert_snapshot!("apache-default", file(&files, "00-default.conf"));
    insta::assert_snapshot!("apache-health", file(&files, "00-health-4680.conf"));
}

#[test]
fn the_way_to_say_http_2_follows_the_version_of_nginx() {
    let templates = Templates::built_in().unwrap();
    let inventory = inventory(WebKind::NginxSsl, sites(SiteTls::Optional));
    let listen = |version: &str| {
        let facts = facts(version);
        let files = render(&inputs(&inventory, &facts, &templates)).unwrap();
        file(&files, "site-www.example.com.conf")
    };
    let (old, new) = (listen("1.22.1"), listen("1.26.3"));
    assert!(old.contains("listen 443 ssl http2;") && !old.contains("http2 on;"));
    assert!(new.contains("listen 443 ssl;") && new.contains("http2 on;"));
    let files = render(&inputs(&inventory, &facts("1.18.0"), &templates)).unwrap();
    assert!(!file(&files, "00-default.conf").contains("ssl_reject_handshake"));
}

#[test]
fn no_value_of_an_inventory_ends_its_place() {
    let templates = Templates::built_in().unwrap();
    let refused = |change: &dyn Fn(&mut Site)| {
        for kind in [WebKind::Nginx, WebKind::Apache] {
            let mut one = a_site("www.example.com", SiteTls::Off);
            change(&mut one);
            let inventory = inventory(kind, vec![one]);
            let facts = facts("1.22.1");
            let error = render(&inputs(&inventory, &facts, &templates)).unwrap_err();
            assert!(matches!(error, RenderError::Text { .. }), "{error}");
            let shown = error.to_string();
            assert!(
                shown.contains("www.example.com") && !shown.contains('\n'),
                "{shown}"
            );
        }
    };
    for bad in [
        "/x\"; } server { listen 81; root /; }",
        "/x\ninclude /etc/shadow;",
        "/x;return 200",
        "/x$http_host",
        "/x y",
        "/x`id`",
        "/x{",
        "/x\\",
    ] {
        refused(&|site| {
            site.redirects.insert("/old".into(), bad.into());
        });
        refused(&|site| {
            site.redirects.insert(bad.into(), "/new".into());
        });
        refused(&|site| site.user = Some(bad.into()));
    }
}

#[test]
fn clashes_missing_programs_and_missing_certificates_are_errors_with_a_hint() {
    let templates = Templates::built_in().unwrap();
    let error = |kind, all: Vec<Site>, change: &dyn Fn(&mut ServiceFacts)| {
        let inventory = inventory(kind, all);
        let mut facts = facts("1.22.1");
        change(&mut facts);
        let mut inputs = inputs(&inventory, &facts, &templates);
        inputs.trusted_proxies.clear();
        for site in &mut inputs.sites {
            site.certificate = None;
        }
        let error = render(&inputs).unwrap_err();
        assert!(!error.hint().is_empty());
        error.to_string()
    };
    let off = || a_site("www.example.com", SiteTls::Off);
    let same = |_: &mut ServiceFacts| {};
    let mut other = a_site("other.example.com", SiteTls::Off);
    other.aliases = vec!["www.example.com".parse().unwrap()];
    assert_eq!(
        error(WebKind::Nginx, vec![off(), other], &same),
        "other.example.com and www.example.com both have the name `www.example.com`"
    );
    assert_eq!(
        error(
            WebKind::NginxSsl,
            vec![a_site("a.example", SiteTls::Optional)],
            &same
        ),
        "a.example is served over TLS, and there is no certificate for it"
    );
    assert_eq!(
        error(
            WebKind::Apache,
            vec![a_site("a.example", SiteTls::Required)],
            &same
        ),
        "a.example wants TLS only, but web1 serves none (apache) and no balancer ends TLS before it"
    );
    assert_eq!(
        error(WebKind::Nginx, vec![off()], &|facts| facts.nginx = None),
        "web1 has no nginx installed"
    );
    assert_eq!(
        error(WebKind::Nginx, vec![off()], &|facts| facts.php.clear()),
        "www.example.com on web1: it has no PHP-FPM installed"
    );
    assert_eq!(
        error(WebKind::Apache, vec![off()], &|facts| {
            facts
                .apache
                .as_mut()
                .unwrap()
                .modules
                .retain(|it| it != "rewrite_module");
        }),
        "apache on web1 lacks rewrite_module"
    );
    let mut below = a_site("www.example.com/shop", SiteTls::Off);
    below.aliases = vec!["shop.example.com".parse().unwrap()];
    assert_eq!(
        error(WebKind::Nginx, vec![below], &same),
        "www.example.com/shop lies in a subdirectory, and has aliases"
    );
}

#[test]
fn an_administrator_replaces_a_template_or_a_block_of_it() {
    let with =
        |name: &str, text: &str| Templates::with(BTreeMap::from([(name.into(), text.into())]));
    let templates = with(
        "nginx-site.conf",
        "{% extends \"built-in/nginx-site.conf\" %}\n{% block bottom %}\n    # mine\n{% endblock %}",
    )
    .unwrap();
    let inventory = inventory(
        WebKind::Nginx,
        vec![a_site("www.example.com", SiteTls::Off)],
    );
    let facts = facts("1.22.1");
    let mut all = inputs(&inventory, &facts, &templates);
    let lines = BTreeMap::from([
        ("pre.conf".to_owned(), "    # first\n".to_owned()),
        ("post.nginx.conf".to_owned(), "    # last\n".to_owned()),
        ("post.apache.conf".to_owned(), "    # other\n".to_owned()),
    ]);
    all.sites[0].custom = Custom::from_files(lines).unwrap();
    let text = file(&render(&all).unwrap(), "site-www.example.com.conf");
    let places: Vec<_> = ["# first", "location /", "# mine", "# last"]
        .iter()
        .map(|it| text.find(it).unwrap_or_else(|| panic!("no {it} in {text}")))
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert!(!text.contains("# other"));
    // A variable that isn't there is an error, never an empty place.
    let templates = with("nginx-site.conf", "{{ site.no_such_thing }}").unwrap();
    let error = render(&inputs(&inventory, &facts, &templates)).unwrap_err();
    assert!(error.to_string().contains("nginx-site.conf"), "{error}");
    assert!(with("nginx-sites.conf", "").is_err());
    assert!(with("nginx-site.conf", "{% if").is_err());
    assert!(Custom::from_files(BTreeMap::from([("typo.conf".into(), "".into())])).is_err());
}

#[test]
fn a_site_without_scripts_has_no_pool_and_one_that_is_off_has_its_page() {
    let templates = Templates::built_in().unwrap();
    for kind in [WebKind::Nginx, WebKind::Apache] {
        let inventory = inventory(kind, vec![a_site("www.example.com", SiteTls::Off)]);
        let facts = facts("1.22.1");
        let mut all = inputs(&inventory, &facts, &templates);
        all.sites[0].app = AppRules::files();
        let files = render(&all).unwrap();
        assert!(files.iter().all(|it| it.area != ConfigArea::PhpFpm));
        all.sites[0].mode = Mode::Disabled;
        let text = file(&render(&all).unwrap(), "site-www.example.com.conf");
        assert!(
            text.contains("403") && text.contains("www.example.com.disabled.html"),
            "{text}"
        );
    }
}
