//! What inventories say about services and sites, and what is refused.

use super::super::*;
use super::documented;
use crate::model::{AppKind, BalancerKind, BalancerTls, DbVia, SiteTls, Uploads, WebKind};

const GROUND: &str = r#"
[servers]
web1 = { address = "web1", web = { kind = "nginx" } }
web2 = { address = "web2", web = { kind = "apache_ssl" } }
db1 = { address = "db1", db = { kind = "mysql", admin = "secret:db1" } }
lb1 = { address = "lb1" }

[balancers.edge]
servers = ["lb1"]
kind = "haproxy"

[clusters]
front = { members = ["web1", "web2"], balancer = "edge" }
plain = { members = ["web1", "web2"] }

[platforms]
shop = { on = "front", path = "/srv/src/shop", root = "/srv/shop", app = "php" }
wiki = { on = "plain", path = "/srv/src/wiki", root = "/srv/wiki", app = "static" }
"#;

fn parsed(rest: &str) -> Inventory {
    Inventory::parse(&format!("{GROUND}{rest}"), "fanout.toml").unwrap()
}

/// The faults of `rest`, which begins at line 1.
fn faults(rest: &str) -> Vec<(usize, String, String)> {
    let text = format!("{GROUND}{rest}");
    let ground = GROUND.matches('\n').count();
    let invalid = Inventory::parse(&text, "fanout.toml").unwrap_err();
    let problems = invalid.problems().iter();
    problems
        .map(|p| {
            (
                p.line - ground,
                p.message.clone(),
                p.hint.clone().unwrap_or_default(),
            )
        })
        .collect()
}

#[track_caller]
fn the_fault(rest: &str, line: usize, message: &str, hint: &str) {
    assert_eq!(faults(rest), [(line, message.to_owned(), hint.to_owned())]);
}

#[test]
fn the_documented_services_mean_what_they_say() {
    let inventory = Inventory::parse(&documented(0), "docs/inventory.md").unwrap();
    let web = |name| inventory.server(name).unwrap().web.clone().unwrap();
    assert_eq!(web("web1"), Web::new(WebKind::Nginx));
    assert_eq!(
        (web("web2").kind, web("web2").health),
        (WebKind::ApacheSsl, 4681)
    );
    let db = inventory.server("db1").unwrap().db.clone().unwrap();
    assert_eq!(
        (db.port, db.via, db.admin_user.as_str()),
        (3306, DbVia::Tcp, "fanout")
    );
    assert_eq!(db.admin.unwrap().to_string(), "secret:db1-admin");
    let drupal = inventory.platform("drupal").unwrap();
    assert_eq!(drupal.app, Some(AppKind::Drupal));
    assert_eq!(drupal.docroot.as_bytes(), b"web");
    let edge = inventory.balancer_of(drupal).unwrap();
    assert_eq!(
        (edge.kind, edge.tls),
        (BalancerKind::Haproxy, BalancerTls::Terminate)
    );
    assert_eq!((edge.http, edge.https, edge.drain_timeout_s), (80, 443, 30));
    let site = inventory.site("www.example.com").unwrap();
    assert_eq!(site.tls, SiteTls::Required);
    assert_eq!(site.hsts_s, Some(180 * 86_400));
    assert_eq!(site.uploads, Some(Uploads::Pin("web1".parse().unwrap())));
    assert_eq!(site.redirects["/shop"], "https://shop.example.com/");
    assert!(site.cron && site.redirect_aliases);
    assert_eq!(inventory.sites_of(&drupal.name), [site]);
    assert!(inventory.sites_without_uploads().is_empty());
}

#[test]
fn an_application_brings_preserve_rules_below_its_document_root() {
    let text = "[platforms.d]\non = \"plain\"\npath = \"/s/d\"\nroot = \"/r/d\"\napp = \"drupal\"\n\
                docroot = \"web\"\npreserve = [\"/web/sites/*/files/\", \"/private\"]\n";
    let inventory = parsed(text);
    let preserve = &inventory.platform("d").unwrap().preserve;
    assert_eq!(
        preserve,
        &["/web/sites/*/files/", "/private", "/web/sites/*/private"]
    );
}

#[test]
fn a_site_on_several_members_without_an_uploads_policy_is_found() {
    let inventory = parsed(
        "[sites]\n\"a.example\" = { platform = \"shop\" }\n\"b.example\" = { platform = \"wiki\" }\n\
         \"c.example\" = { platform = \"shop\", uploads = \"external\" }\n",
    );
    let open: Vec<&str> = inventory
        .sites_without_uploads()
        .iter()
        .map(|site| site.uri.as_str())
        .collect();
    assert_eq!(open, ["a.example"]);
}

#[test]
fn names_that_are_not_there_are_reported_with_the_closest() {
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shpo\" }\n",
        2,
        "There is no platform `shpo`, which the site `a.example` names",
        "did you mean `shop`?",
    );
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\", db = \"db2\" }\n",
        2,
        "There is no server `db2`, which the site `a.example` names",
        "did you mean `db1`?",
    );
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\", db = \"web1\" }\n",
        2,
        "The server `web1` of the site `a.example`'s database has no database server",
        "fanout edit server web1 --db mysql",
    );
    the_fault(
        "[clusters.more]\nmembers = [\"web1\"]\nbalancer = \"egde\"\n",
        3,
        "There is no balancer `egde`, which the cluster `more` names",
        "did you mean `edge`?",
    );
    the_fault(
        "[balancers.b2]\nkind = \"nginx\"\nservers = [\"web9\"]\n",
        3,
        "There is no server `web9`, which the balancer `b2` names",
        "did you mean `web1`?",
    );
}

#[test]
fn an_address_belongs_to_one_site_on_a_member_and_behind_a_balancer() {
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\" }\n\
         \"b.example\" = { platform = \"wiki\", aliases = [\"a.example\"] }\n",
        3,
        "`a.example` is an address of the site `b.example`, and of the site `a.example` (line 20)",
        "",
    );
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\", aliases = [\"b.example\", \"b.example\"] }\n",
        2,
        "The site `a.example` answers to `b.example` twice",
        "",
    );
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\", aliases = [\"b.example/x\"] }\n",
        2,
        "The alias `b.example/x` of the site `a.example` must be a host name alone",
        "",
    );
    // Another member and no balancer in common, or another subdirectory: no clash.
    parsed(
        "[servers.other]\naddress = \"other\"\nweb = { kind = \"nginx\" }\n\
         [platforms.p]\non = \"other\"\npath = \"/s/p\"\nroot = \"/r/p\"\n\
         [sites]\n\"a.example\" = { platform = \"shop\", aliases = [\"www.a.example\"] }\n\
         \"b.example\" = { platform = \"p\", aliases = [\"a.example\"] }\n\
         \"a.example/blog\" = { platform = \"shop\", aliases = [\"www.a.example\"] }\n",
    );
}

#[test]
fn tls_needs_members_that_serve_it_unless_it_ends_at_the_balancer() {
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"wiki\", tls = \"required\" }\n",
        2,
        "The site `a.example` is served over TLS, but the web server of `web1` is `nginx`, without TLS",
        "fanout edit server web1 --web nginx_ssl",
    );
    parsed("[sites]\n\"a.example\" = { platform = \"shop\", tls = \"required\" }\n");
}

#[test]
fn every_member_of_a_site_has_a_web_server() {
    the_fault(
        "[servers.bare]\naddress = \"bare\"\n[platforms.p]\non = \"bare\"\npath = \"/s\"\nroot = \"/r/p\"\n\
         [sites]\n\"a.example\" = { platform = \"p\" }\n",
        8,
        "The site `a.example` is on the server `bare`, which has no web server",
        "fanout edit server bare --web nginx",
    );
}

#[test]
fn uploads_are_pinned_to_a_member() {
    the_fault(
        "[sites]\n\"a.example\" = { platform = \"shop\", uploads = { pin = \"db1\" } }\n",
        2,
        "Uploads of the site `a.example` can't be pinned to `db1`, which is no member of the platform `shop`",
        "its members are web1, web2",
    );
    for bad in [
        "\"collect\"",
        "\"elsewhere\"",
        "{}",
        "{ pin = \"web1\", mount = \"/m\" }",
        "{ mount = \"m\" }",
        "{ pni = \"web1\" }",
        "3",
    ] {
        let found = faults(&format!(
            "[sites]\n\"a.example\" = {{ platform = \"shop\", uploads = {bad} }}\n"
        ));
        assert_eq!((found.len(), found[0].0), (1, 2), "{bad}: {found:?}");
    }
}

#[test]
fn no_port_of_a_server_is_wanted_twice() {
    the_fault(
        "[servers.s]\naddress = \"s\"\nweb = { kind = \"nginx\", http = 8080, health = 8080 }\n",
        3,
        "Port 8080 of the server `s` is wanted by its health endpoint, and by its web server (line 21)",
        "",
    );
    the_fault(
        "[balancers.two]\nkind = \"nginx\"\nhttps = 8443\nservers = [\"web1\"]\n",
        4,
        "Port 80 of the server `web1` is wanted by the balancer `two`, and by its web server (line 3)",
        "",
    );
    the_fault(
        "[servers.s]\naddress = \"s\"\nweb = { kind = \"nginx\", https = 8443 }\n",
        3,
        "`https` of the server `s` means nothing: `nginx` is without TLS",
        "kind = \"nginx_ssl\" serves TLS",
    );
}

#[test]
fn databases_say_how_they_are_reached() {
    let found = faults("[servers.s]\naddress = \"s\"\ndb = { kind = \"mysql\" }\n");
    assert_eq!(
        found[0].1,
        "The database server on `s` is reached over TCP, but has no `admin`"
    );
    parsed("[servers.s]\naddress = \"s\"\ndb = { kind = \"mysql\", via = \"agent\" }\n");
    the_fault(
        "[servers.s]\naddress = \"s\"\n\
         db = { kind = \"mysql\", via = \"agent\", networks = [\"10.0.0.5/24\"] }\n",
        3,
        "`10.0.0.5/24` is an address within a network, not a network",
        "the network is 10.0.0.0/24",
    );
    the_fault(
        "[servers.s]\naddress = \"s\"\n\
         db = { kind = \"mysql\", via = \"agent\", host = \"127.0.0.1\" }\n\
         [sites]\n\"a.example\" = { platform = \"shop\", db = \"s\" }\n",
        5,
        "The site `a.example` is on `web1`, where `127.0.0.1`, the host of the database server on `s`, is another machine",
        "",
    );
}

#[test]
fn a_secret_in_the_place_of_a_reference_is_refused_and_not_repeated() {
    for text in [
        "[servers.s]\naddress = \"s\"\ndb = { kind = \"mysql\", admin = \"hunter2\" }\n",
        "[servers.s]\naddress = \"s\"\ndb = { kind = \"mysqql\", admin = \"hunter2\" }\n",
        "[servers.s]\naddress = \"s\"\ndb = { kind = \"mysql\", admin = \"secret:x\", password = \"hunter2\" }\n",
        "[sites.\"a.example\"]\nplatform = \"shop\"\ncertificate = \"/c\"\nkey = \"hunter2\"\n",
        "[sites]\n\"a.example\" = { platform = \"shpo\", auth = \"hunter2\" }\n",
    ] {
        let text = format!("{GROUND}{text}");
        let shown = Inventory::parse(&text, "fanout.toml")
            .unwrap_err()
            .to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // What only refers to a secret is shown: it says what to correct.
    let text = format!(
        "{GROUND}[servers.s]\naddress = \"s\"\ndb = {{ admin = \"secret:db\", kind = \"x\" }}\n"
    );
    let shown = Inventory::parse(&text, "fanout.toml")
        .unwrap_err()
        .to_string();
    assert!(shown.contains("kind = \"x\""), "{shown}");
}

#[test]
fn keys_of_nested_tables_are_checked_like_all_others() {
    the_fault(
        "[servers.s]\naddress = \"s\"\nweb = { kind = \"nginx\", htpps = 1 }\n",
        3,
        "Unknown key `htpps` in `web` of the server `s`",
        "did you mean `https`?",
    );
}

#[test]
fn a_sites_name_without_quotes_is_explained() {
    let found = faults("[sites.www.example.com]\nplatform = \"shop\"\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].2, "write [sites.\"www.example.com\"]");
}

#[test]
fn values_that_could_break_out_of_a_configuration_are_refused() {
    for (line, ok) in [
        ("redirects = { \"/a\" = \"/b\" }", true),
        (
            "redirects = { \"/a\" = \"https://b.example/?x=1&y\" }",
            true,
        ),
        ("redirects = { \"/a b\" = \"/b\" }", false),
        ("redirects = { \"a\" = \"/b\" }", false),
        ("redirects = { \"/a\" = \"//evil.example\" }", false),
        ("redirects = { \"/a\" = \"/b; return 200\" }", false),
        ("redirects = { \"/a\" = \"/b$uri\" }", false),
        ("redirects = { \"/a{\" = \"/b\" }", false),
        ("dir = \"..\"", false),
        ("user = \"root\"", false),
        ("user = \"a b\"", false),
        ("user = \"shop\"", true),
        ("upload = 0", false),
        ("upload = 512", true),
        ("title = \"a\\nb\"", false),
        ("title = \"Søren's \\\"shop\\\"\"", true),
        ("mail = \"a@b.example\"", true),
        ("mail = \"a@b.example\\nBcc: x\"", false),
        ("hsts = \"180d\"", false),
        ("tls = \"required\"\nhsts = \"180d\"", true),
        ("tls = \"required\"\nhsts = 180", false),
        ("certificate = \"/c.pem\"", false),
        ("key = \"file:/k.pem\"", false),
    ] {
        let text = format!("{GROUND}[sites.\"a.example\"]\nplatform = \"shop\"\n{line}\n");
        let read = Inventory::parse(&text, "fanout.toml");
        assert_eq!(read.is_ok(), ok, "{line}: {read:?}");
    }
}

#[test]
fn balancers_run_on_servers_unless_they_are_somebody_elses() {
    parsed("[balancers.b]\nkind = \"external\"\n");
    assert_eq!(faults("[balancers.b]\nkind = \"haproxy\"\n").len(), 1);
    assert_eq!(
        faults("[balancers.b]\nkind = \"external\"\nservers = [\"db1\"]\n").len(),
        1
    );
    assert_eq!(
        faults("[balancers.b]\nkind = \"haproxy\"\nservers = [\"db1\", \"db1\"]\n").len(),
        1
    );
}

#[test]
fn two_sites_of_a_platform_have_directories_of_their_own() {
    let d = "[platforms.d]\non = \"plain\"\npath = \"/s/d\"\nroot = \"/r/d\"\napp = \"drupal\"\n[sites]\n";
    let found = faults(&format!(
        "{d}\"a.example\" = {{ platform = \"d\", dir = \"x\" }}\n\
         \"b.example\" = {{ platform = \"d\", dir = \"x\" }}\n"
    ));
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].1,
        "The directory `x` is that of the site `a.example` (line 25)"
    );
    let found = faults("[sites]\n\"a.example\" = { platform = \"shop\", dir = \"x\" }\n");
    assert!(found[0].1.contains("means nothing"), "{found:?}");
}
