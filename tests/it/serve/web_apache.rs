//! Configuration sets on a real apache: it must not end whatever happens, and it is told of new
//! roots.

use super::head::{Head, SERVICES, TestSite, text_of};
use super::load::Load;
use crate::support::root_or_skip;
use fanout::model::{SiteTls, WebKind};
use fanout::services::web::{Mode, passwords};
use std::net::SocketAddr;
use std::time::Duration;
use sync_proto::wire::service::{ConfigArea, ConfigRequest, Content};

/// A head with apache, two generations and the site `www.example.com`.
fn head() -> Option<Head> {
    if !root_or_skip("a host with a web server") {
        return None;
    }
    let head = Head::start().with_apache();
    head.generation("one");
    head.generation("two");
    head.switch_to("one");
    Some(head)
}

fn site() -> TestSite {
    TestSite::new("www.example.com")
}

#[test]
fn a_site_is_served_by_its_own_pool_and_with_everything_it_has() {
    let Some(mut head) = head() else { return };
    let facts = head.facts();
    let apache = facts.apache.as_ref().unwrap();
    assert!(apache.is_included && apache.is_running, "{apache:?}");
    assert_eq!(apache.own_ports, [80, 443], "as in Debian's ports.conf");
    assert_eq!(apache.own_defaults, [80], "Debian's default site is one");
    let mut locked = TestSite::new("locked.example").tls(SiteTls::Required);
    locked.passwords = Some(passwords(&locked.site.uri, "ann:secret\n").unwrap());
    locked
        .site
        .redirects
        .insert("/old".into(), "https://elsewhere.example/new".into());
    let sub = TestSite::new("www.example.com/shop").tls(SiteTls::Optional);
    let alone = TestSite::new("below.example/part");
    let down = TestSite::new("down.example").mode(Mode::Maintenance);
    let main = site()
        .aliases(&["example.com"], true)
        .tls(SiteTls::Optional);
    head.apply(head.rendered(WebKind::ApacheSsl, &[main, locked, sub, alone, down]));
    let page = head.page("www.example.com", "/");
    assert!(
        page.starts_with("one /index.php 127.0.0.1 plain fo-www-example-com-"),
        "{page}"
    );
    let deep = head.page("www.example.com", "/x/y?z");
    assert!(
        deep.starts_with("one /index.php") && deep.ends_with("200 "),
        "{deep}"
    );
    let redirected = head.page("example.com", "/a?b=c");
    assert!(
        redirected.ends_with("\n301 http://www.example.com/a?b=c"),
        "{redirected}"
    );
    let tls = head.curl("--resolve www.example.com:443:127.0.0.1 https://www.example.com/");
    assert!(tls.contains("one /index.php 127.0.0.1 on "), "{tls}");
    let unknown = head.curl("--resolve no.example:443:127.0.0.1 https://no.example/");
    assert!(unknown.ends_with("421 "), "{unknown}");
    // Only a balancer is believed.
    let word = "-H 'Host: www.example.com' -H 'X-Forwarded-Proto: https' \
                -H 'X-Forwarded-For: 203.0.113.7'";
    let balancer = head.curl(&format!("--interface 127.0.0.9 {word} http://127.0.0.1/"));
    assert!(balancer.contains("203.0.113.7 on "), "{balancer}");
    let stranger = head.curl(&format!("{word} http://127.0.0.1/"));
    assert!(stranger.contains("127.0.0.1 plain "), "{stranger}");
    // Sites in subdirectories.
    let shop = head.page("www.example.com", "/shop/some/path");
    assert!(shop.starts_with("one /shop/index.php"), "{shop}");
    assert!(shop.contains(" fo-www-example-com-shop-"), "{shop}");
    let style = head.page("www.example.com", "/shop/static.css");
    assert!(style.starts_with("/* one */"), "{style}");
    let alone = head.page("below.example", "/part/");
    assert!(alone.starts_with("one /part/index.php"), "{alone}");
    assert!(head.page("below.example", "/").ends_with("404 "));
    // TLS only, passwords, redirects.
    head.host
        .write("/srv/gen/one/web/.well-known/token", "token");
    let to_tls = head.page("locked.example", "/x?y=z");
    assert!(
        to_tls.ends_with("301 https://locked.example/x?y=z"),
        "{to_tls}"
    );
    assert_eq!(
        head.page("locked.example", "/.well-known/token"),
        "token\n200 "
    );
    let locked = |arguments: &str, path: &str| {
        head.curl(&format!(
            "{arguments} --resolve locked.example:443:127.0.0.1 https://locked.example{path}"
        ))
    };
    assert!(locked("", "/").ends_with("401 "));
    assert!(locked("-u ann:secret", "/").contains("one /index.php 127.0.0.1 on "));
    let old = locked("-u ann:secret", "/old");
    assert!(old.ends_with("301 https://elsewhere.example/new"), "{old}");
    // What isn't for visitors.
    assert!(
        head.page("www.example.com", "/.git/config")
            .ends_with("404 ")
    );
    // The health endpoint, and its mark.
    let health = |path: &str| head.curl(&format!("http://127.0.0.1:4680{path}"));
    assert_eq!(health("/healthz"), "ok\n\n200 ");
    assert_eq!(health("/fpm-ping"), "pong\n200 ");
    head.host.write(format!("{SERVICES}/data/drain"), "");
    assert!(health("/healthz").ends_with("503 ") && health("/fpm-ping").ends_with("503 "));
    // The hub has no part in a page of maintenance.
    head.kill_agent();
    let page = head.curl("-i -X POST -d x -H 'Host: down.example' http://127.0.0.1/any/path");
    assert!(
        page.contains("503") && page.contains("being worked on"),
        "{page}"
    );
    assert!(page.to_lowercase().contains("retry-after: 120"), "{page}");
}

#[test]
fn nothing_that_is_wrong_with_a_set_ends_apache() {
    let Some(mut head) = head() else { return };
    let pid = head.host.sh("cat /run/apache2/apache2.pid").text();
    let first = head.apply(head.rendered(WebKind::ApacheSsl, &[site().tls(SiteTls::Optional)]));
    // A broken site, and one whose name another vhost has.
    let broken = TestSite::new("broken.example").custom("NoSuchDirective on");
    let double = TestSite::new("double.example").aliases(&["www.example.com"], false);
    let mut files = head.rendered(WebKind::ApacheSsl, &[broken, double]);
    let own = head.rendered(WebKind::ApacheSsl, &[site()]);
    files.extend(
        own.into_iter()
            .filter(|it| it.name.contains("www.example.com")),
    );
    let (_, tested) = head.put(files);
    let mut named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(
        named,
        ["site-broken.example.conf", "site-www.example.com.conf"],
        "{tested:#?}"
    );
    // One that only works as long as another one brings something.
    let lender = TestSite::new("a-lender.example").custom("Define lent on");
    let borrower = TestSite::new("b-borrower.example")
        .custom("<IfDefine !lent>\nNoSuchDirective on\n</IfDefine>");
    let (_, tested) = head.put(head.rendered(WebKind::Apache, &[lender, borrower]));
    let named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(named, ["site-b-borrower.example.conf"], "{tested:#?}");
    // A key that isn't the certificate's: apache's own test passes, and its reload would end it.
    let mut files = head.rendered(WebKind::ApacheSsl, &[site().tls(SiteTls::Optional)]);
    let other = head.rendered(WebKind::ApacheSsl, &[site().tls(SiteTls::Optional)]);
    let key = text_of(&other, ConfigArea::Keys, "www.example.com.pem");
    for file in files.iter_mut().filter(|it| it.area == ConfigArea::Keys) {
        file.content = Content::Bytes(key.clone().into_bytes());
    }
    let (_, tested) = head.put(files);
    assert!(
        tested
            .faults
            .iter()
            .any(|it| it.message.contains("doesn't belong")),
        "{tested:#?}"
    );
    // A port that another program has.
    let mut thief = head.host.spawn(&["php8.2", "-S", "0.0.0.0:8080"]);
    assert!(
        head.waits_for(|head| head.host.sh("ss -ltn | grep -q :8080 || exit 1").code == Some(0))
    );
    let moved = head.rendered_with(WebKind::Apache, &[site()], |web| web.http = 8080);
    let (_, tested) = head.put(moved);
    assert!(
        tested
            .faults
            .iter()
            .any(|it| it.message.contains("8080 is taken")),
        "{tested:#?}"
    );
    thief.kill();
    // A broken file of the machine's own: the set is not at fault, and nothing is told to apache.
    let (set, tested) = head.put(head.rendered(WebKind::Apache, &[site()]));
    assert!(tested.faults.is_empty(), "{tested:#?}");
    head.host.write(
        "/etc/apache2/sites-enabled/own.conf",
        "NoSuchDirective on\n",
    );
    let refusal = head.refused(ConfigRequest::Activate {
        set,
        confirm_within_s: 30,
    });
    assert!(refusal.contains("NoSuchDirective"), "{refusal}");
    assert_eq!(head.state().live, Some(first));
    assert_eq!(head.host.sh("cat /run/apache2/apache2.pid").text(), pid);
    assert!(head.page("www.example.com", "/").starts_with("one "));
}

#[test]
fn a_commit_is_served_at_once_and_nobody_notices() {
    let Some(mut head) = head() else { return };
    head.apply(head.rendered(WebKind::Apache, &[site()]));
    // A real commit, by a real hub on the same host.
    head.host
        .sh("rm /srv/platforms/shop && mkdir -p /srv/src")
        .success();
    head.host.sh("cp -r /srv/gen/one /srv/src/shop").success();
    head.join_a_hub();
    let push = || {
        head.host
            .run(&["fanout", "push", "platform", "shop", "--yes"])
            .success()
    };
    push();
    assert!(head.page("www.example.com", "/").starts_with("one "));
    let at = SocketAddr::new(head.host.address(), 80);
    let load = Load::start(&head.host, at, "www.example.com", [3, 0, 0]);
    for name in ["two", "three", "four", "five"] {
        head.generation(name);
        head.host
            .sh(&format!("cp /srv/gen/{name}/web/* /srv/src/shop/web/"))
            .success();
        push();
        // The commit was answered: no visitor sees the old one any more.
        let page = head.page("www.example.com", "/");
        assert!(page.starts_with(name), "{name}: {page}");
        std::thread::sleep(Duration::from_millis(300));
    }
    let tally = load.end();
    assert!(tally.failed.is_empty(), "{:?}", tally.failures());
    assert!(tally.total() > 50, "{}", tally.line());
}
