//! Configuration sets on a real nginx with a real PHP-FPM: every trap that was measured has its
//! test here.

use super::head::{Head, SERVICES, TestSite, text_of};
use super::load::Load;
use crate::support::root_or_skip;
use crate::support::run::wait_until;
use fanout::model::{SiteTls, WebKind};
use fanout::services::web::{Mode, passwords};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use sync_proto::wire::service::{ConfigArea, ConfigFile, ConfigRequest, Content};

/// A head with nginx, one generation and the site `www.example.com`.
fn head() -> Option<Head> {
    if !root_or_skip("a host with a web server") {
        return None;
    }
    let head = Head::start().with_nginx();
    head.generation("one");
    head.generation("two");
    head.switch_to("one");
    Some(head)
}

fn site() -> TestSite {
    TestSite::new("www.example.com")
}

#[test]
fn a_site_is_served_by_its_own_pool_and_nobody_else_s_name_is() {
    let Some(mut head) = head() else { return };
    let facts = head.facts();
    let nginx = facts.nginx.as_ref().unwrap();
    assert!(nginx.is_included && nginx.is_running, "{nginx:?}");
    assert_eq!(nginx.own_defaults, [80], "Debian's default site is one");
    let php = &facts.php[0];
    assert!(
        php.is_included && php.is_running && php.validates_timestamps,
        "{php:?}"
    );
    assert_eq!(php.control_timeout_s, 10);
    let set = head.apply(
        head.rendered(
            WebKind::NginxSsl,
            &[
                site()
                    .aliases(&["example.com"], true)
                    .tls(SiteTls::Optional),
                TestSite::new("other.example"),
            ],
        ),
    );
    let page = head.page("www.example.com", "/");
    assert!(
        page.starts_with("one /index.php 127.0.0.1 plain fo-www-example-com-"),
        "{page}"
    );
    assert!(page.ends_with("\n200 "), "{page}");
    let other = head.page("other.example", "/x/y");
    assert!(other.contains(" fo-other-example-"), "{other}");
    let redirected = head.page("example.com", "/a?b=c");
    assert!(
        redirected.ends_with("\n301 http://www.example.com/a?b=c"),
        "{redirected}"
    );
    let state = head.state();
    assert_eq!((state.live, state.is_unconfirmed), (Some(set), false));
    assert!(state.files.iter().all(|it| it.digest == it.put));
    assert_eq!(head.facts().live, Some(set));
    // Over TLS, and to a name that no site has.
    let tls = head.curl("--resolve www.example.com:443:127.0.0.1 https://www.example.com/");
    assert!(tls.contains("one /index.php"), "{tls}");
    let unknown = head.curl("--resolve no.example:443:127.0.0.1 https://no.example/");
    assert!(unknown.contains("000"), "{unknown}");
    // Only a balancer is believed.
    let word = "-H 'Host: www.example.com' -H 'X-Forwarded-Proto: https' \
                -H 'X-Forwarded-For: 203.0.113.7'";
    let balancer = head.curl(&format!("--interface 127.0.0.9 {word} http://127.0.0.1/"));
    assert!(balancer.contains("203.0.113.7 on "), "{balancer}");
    let stranger = head.curl(&format!("{word} http://127.0.0.1/"));
    assert!(stranger.contains("127.0.0.1 plain "), "{stranger}");
    // The health endpoint, and its mark.
    let health = |path: &str| head.curl(&format!("http://127.0.0.1:4680{path}"));
    assert_eq!(health("/healthz"), "ok\n\n200 ");
    assert_eq!(health("/fpm-ping"), "pong\n200 ");
    head.host.write(format!("{SERVICES}/data/drain"), "");
    assert!(health("/healthz").ends_with("503 ") && health("/fpm-ping").ends_with("503 "));
}

#[test]
fn a_port_in_use_loses_the_reload_is_noticed_and_taken_back() {
    let Some(mut head) = head() else { return };
    let first = head.apply(head.rendered(WebKind::Nginx, &[site()]));
    let moved = head.rendered_with(WebKind::Nginx, &[site()], |web| web.http = 8080);
    let (set, tested) = head.put(moved.clone());
    assert!(tested.faults.is_empty(), "{tested:#?}");
    // Somebody takes the port between the test and the reload.
    let mut thief = head.host.spawn(&["php8.2", "-S", "0.0.0.0:8080"]);
    let taken = || head.host.sh("ss -ltn | grep -q :8080 || exit 1").code == Some(0);
    assert!(wait_until(Duration::from_secs(20), taken));
    let started = Instant::now();
    let refusal = head.refused(ConfigRequest::Activate {
        set,
        confirm_within_s: 30,
    });
    assert!(
        refusal.contains("doesn't serve the new configuration"),
        "{refusal}"
    );
    assert!(
        refusal.contains("8080") && refusal.contains("in use"),
        "{refusal}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(head.state().live, Some(first));
    assert!(head.page("www.example.com", "/").contains("one /index.php"));
    // While it is there, the test already says so.
    let (_, tested) = head.put(moved);
    assert!(
        tested
            .faults
            .iter()
            .any(|it| it.message.contains("8080 is taken")),
        "{tested:#?}"
    );
    thief.kill();
}

#[test]
fn a_broken_site_is_named_and_the_others_go_live_without_it() {
    let Some(mut head) = head() else { return };
    let good = TestSite::new("good.example");
    let broken = TestSite::new("broken.example")
        .custom("location /x { proxy_pass http://no-such-host.invalid; }");
    let unclosed = TestSite::new("unclosed.example").custom("location /x {");
    let double = TestSite::new("double.example").aliases(&["own.example"], false);
    head.host.write(
        "/etc/nginx/conf.d/own.conf",
        "server { listen 80; server_name own.example; return 204; }\n",
    );
    let sites = [good.clone(), broken, unclosed, double];
    let (set, tested) = head.put(head.rendered(WebKind::Nginx, &sites));
    let mut named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "site-broken.example.conf",
            "site-double.example.conf",
            "site-unclosed.example.conf"
        ],
        "{tested:#?}"
    );
    let said = |name: &str| {
        let fault = tested
            .faults
            .iter()
            .find(|it| it.name.contains(name))
            .unwrap();
        fault.message.clone()
    };
    assert!(
        said("broken").contains("host not found in upstream"),
        "{}",
        said("broken")
    );
    assert!(
        said("double").contains("conflicting server name"),
        "{}",
        said("double")
    );
    let refusal = head.refused(ConfigRequest::Activate {
        set,
        confirm_within_s: 30,
    });
    assert!(refusal.contains("not tested without faults"), "{refusal}");
    head.apply(head.rendered(WebKind::Nginx, &[good]));
    assert!(head.page("good.example", "/").contains("one /index.php"));
}

#[test]
fn a_site_that_lives_on_what_another_one_brings_is_refused() {
    let Some(mut head) = head() else { return };
    let lender = TestSite::new("a-lender.example").custom("set $lent 1;");
    let borrower = TestSite::new("b-borrower.example").custom("add_header X-Lent $lent;");
    // Together nginx takes them, until the first one goes.
    let (_, tested) = head.put(head.rendered(WebKind::Nginx, &[lender.clone(), borrower]));
    let named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(named, ["site-b-borrower.example.conf"], "{tested:#?}");
    assert!(
        tested.faults[0]
            .message
            .contains("unknown \"lent\" variable"),
        "{tested:#?}"
    );
    // One that is live and unchanged is not asked again, and none of the many leaves a file.
    let mut many = vec![lender];
    for number in 0..9 {
        many.push(TestSite::new(&format!("s{number}.example")));
    }
    head.apply(head.rendered(WebKind::Nginx, &many));
    let left = head.host.sh("ls -A /etc/nginx | grep fanout-test || true");
    assert_eq!(left.text(), "");
}

#[test]
fn two_sites_of_ours_with_one_name_are_told_apart_from_one() {
    let Some(mut head) = head() else { return };
    let mut files = head.rendered(WebKind::Nginx, &[site()]);
    let again = text_of(&files, ConfigArea::Nginx, "site-www.example.com.conf");
    let mut copy = files[0].clone();
    copy.name = "site-zz.example.conf".into();
    copy.content = Content::Bytes(again.into_bytes());
    copy.area = ConfigArea::Nginx;
    files.push(copy);
    let (_, tested) = head.put(files);
    let named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(named, ["site-zz.example.conf"], "{tested:#?}");
}

#[test]
fn without_a_confirmation_the_server_goes_back_also_when_its_agent_was_killed() {
    let Some(mut head) = head() else { return };
    let first = head.apply(head.rendered(WebKind::Nginx, &[site()]));
    let down = [site().mode(Mode::Disabled)];
    let (second, _) = head.put(head.rendered(WebKind::Nginx, &down));
    let activated = head.activate(second, 2);
    assert_eq!(activated.previous, Some(first));
    assert_eq!(activated.proved, ["nginx"]);
    assert!(head.state().is_unconfirmed);
    assert!(head.page("www.example.com", "/").contains("switched off"));
    let (third, _) = head.put(head.rendered(WebKind::Nginx, &down));
    let refusal = head.refused(ConfigRequest::Activate {
        set: third,
        confirm_within_s: 2,
    });
    assert!(refusal.contains("waits for its confirmation"), "{refusal}");
    let is_back = |head: &Head| head.state().live == Some(first);
    assert!(head.waits_for(is_back));
    assert!(head.page("www.example.com", "/").contains("one /index.php"));
    let refusal = head.refused(ConfigRequest::Confirm { set: second });
    assert!(
        refusal.contains("There is no configuration set"),
        "{refusal}"
    );
    // The same with an agent that isn't there when the time is up.
    let (fourth, tested) = head.put(head.rendered(WebKind::Nginx, &down));
    assert!(tested.faults.is_empty(), "{tested:#?}");
    head.activate(fourth, 1);
    head.kill_agent();
    std::thread::sleep(Duration::from_secs(2));
    assert!(head.page("www.example.com", "/").contains("switched off"));
    head.start_agent();
    assert!(is_back(&head), "{:?}", head.state().live);
    assert!(head.page("www.example.com", "/").contains("one /index.php"));
}

#[test]
fn the_keys_of_a_site_that_left_are_gone() {
    let Some(mut head) = head() else { return };
    let leaving = TestSite::new("leaving.example").tls(SiteTls::Required);
    let staying = site().tls(SiteTls::Optional);
    head.apply(head.rendered(WebKind::NginxSsl, &[staying.clone(), leaving]));
    let keys = "find /var/lib/fanout-services -name '*.pem' -path '*/keys/*' -printf '%f %m %u\\n'";
    let found = head.host.sh(keys).text();
    assert!(found.contains("leaving.example.pem 600 root"), "{found}");
    head.apply(head.rendered(WebKind::NginxSsl, &[staying]));
    let found = head.host.sh(keys).text();
    assert!(found.contains("www.example.com.pem 600 root"), "{found}");
    assert!(!found.contains("leaving"), "{found}");
    let plain = head
        .host
        .sh("grep -rl leaving.example /var/lib/fanout-services/current/ || true");
    assert_eq!(plain.text().trim(), "");
}

#[test]
fn a_new_generation_is_served_at_once_with_and_without_timestamp_validation() {
    for validate in ["1", "0"] {
        if !root_or_skip("a host with a web server") {
            return;
        }
        let head = Head::start();
        head.host.write(
            "/etc/php/8.2/fpm/conf.d/99-test.ini",
            format!(
                "opcache.validate_timestamps={validate}\nopcache.revalidate_freq=60\n\
                 realpath_cache_ttl=600\n"
            ),
        );
        let mut head = head.with_nginx();
        head.generation("one");
        head.generation("two");
        head.switch_to("one");
        assert_eq!(head.facts().php[0].validates_timestamps, validate == "1");
        head.apply(head.rendered(WebKind::Nginx, &[site()]));
        for _ in 0..5 {
            assert!(head.page("www.example.com", "/").starts_with("one "));
        }
        for name in ["two", "one", "two"] {
            head.switch_to(name);
            let page = head.page("www.example.com", "/");
            assert!(
                page.starts_with(name),
                "validate_timestamps={validate}: {page}"
            );
        }
    }
}

#[test]
fn pages_redirects_passwords_and_subdirectories() {
    let Some(mut head) = head() else { return };
    let mut locked = TestSite::new("locked.example").tls(SiteTls::Required);
    locked.passwords = Some(passwords(&locked.site.uri, "ann:secret\n").unwrap());
    locked
        .site
        .redirects
        .insert("/old".into(), "https://elsewhere.example/new".into());
    let mut files = site();
    files.site.upload_mib = 1;
    let sub = TestSite::new("www.example.com/shop").tls(SiteTls::Optional);
    let down = TestSite::new("down.example").mode(Mode::Maintenance);
    head.apply(head.rendered(
        WebKind::NginxSsl,
        &[locked, files.tls(SiteTls::Optional), sub, down],
    ));
    // The hub has no part in a page of maintenance.
    head.kill_agent();
    let page = head.curl("-i -X POST -d x -H 'Host: down.example' http://127.0.0.1/any/path");
    assert!(
        page.contains("503") && page.contains("being worked on"),
        "{page}"
    );
    assert!(page.to_lowercase().contains("retry-after: 120"), "{page}");
    // TLS only, but for those who check names.
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
    assert!(locked("-u ann:wrong", "/").ends_with("401 "));
    assert!(locked("-u ann:secret", "/").contains("one /index.php 127.0.0.1 on "));
    assert!(locked("-u ann:secret", "/old").ends_with("301 https://elsewhere.example/new"));
    // A site in a subdirectory, also over TLS, with a pool of its own.
    let shop = head.page("www.example.com", "/shop/some/path");
    assert!(shop.contains("one /shop/index.php"), "{shop}");
    assert!(shop.contains(" fo-www-example-com-shop-"), "{shop}");
    let shop = head.curl("--resolve www.example.com:443:127.0.0.1 https://www.example.com/shop/");
    assert!(shop.contains("one /shop/index.php 127.0.0.1 on "), "{shop}");
    assert!(
        head.page("www.example.com", "/shop/static.css")
            .starts_with("/* one */")
    );
    assert!(head.page("www.example.com", "/shop").contains("301"));
    // What isn't for visitors, and what is too large.
    assert!(
        head.page("www.example.com", "/.git/config")
            .ends_with("404 ")
    );
    assert!(
        head.page("www.example.com", "/missing.php")
            .ends_with("404 ")
    );
    let large = "head -c 1500000 /dev/zero >/root/large";
    head.host.sh(large).success();
    let sent = head.curl("--data-binary @/root/large -H 'Host: www.example.com' http://127.0.0.1/");
    assert!(sent.ends_with("413 "), "{sent}");
}

#[test]
fn php_fpm_without_time_for_its_requests_is_told() {
    let Some(head) = head() else { return };
    head.host
        .sh("sed -i /process_control/d /etc/php/8.2/fpm/pool.d/fanout.conf")
        .success();
    let facts = head.facts();
    assert_eq!(facts.php[0].control_timeout_s, 0);
    let warned = |it: &String| it.contains("process_control_timeout = 10s");
    assert!(facts.warnings.iter().any(warned), "{:?}", facts.warnings);
}

#[test]
fn names_owners_and_edits_by_hand_are_looked_at() {
    let Some(mut head) = head() else { return };
    let files = head.rendered(WebKind::Nginx, &[site()]);
    let mut bad = files[0].clone();
    bad.name = "../../../etc/cron.d/x".into();
    let refusal = head.refused(ConfigRequest::Put {
        set: [9; 16],
        files: vec![bad],
    });
    assert!(
        refusal.contains("is not the name of a configuration file"),
        "{refusal}"
    );
    let refusal = head.ask_from_elsewhere(ConfigRequest::Put {
        set: [8; 16],
        files: files.clone(),
    });
    assert!(refusal.contains("belong to the hub"), "{refusal}");
    let set = head.apply(files.clone());
    // An edit by hand shows, and can't slip into the next set.
    let path = format!("{SERVICES}/current/nginx/site-www.example.com.conf");
    head.host
        .sh(&format!("echo '# by hand' >>{path}"))
        .success();
    let state = head.state();
    let changed: Vec<&str> = state
        .files
        .iter()
        .filter(|it| it.digest != it.put)
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(changed, ["site-www.example.com.conf"]);
    let mut same = files
        .iter()
        .find(|it| it.name == "site-www.example.com.conf")
        .unwrap()
        .clone();
    let put = state
        .files
        .iter()
        .find(|it| it.name == same.name)
        .unwrap()
        .put;
    same.content = Content::Same(put);
    let refusal = head.refused(ConfigRequest::Put {
        set: [7; 16],
        files: vec![same],
    });
    assert!(refusal.contains("isn't what was put there"), "{refusal}");
    let refusal = head.refused(ConfigRequest::Read {
        area: ConfigArea::Keys,
        name: "x.pem".into(),
    });
    assert!(refusal.contains("secrets"), "{refusal}");
    assert_eq!(head.state().live, Some(set));
    assert!(head.has("/var/lib/fanout-services/current/record"));
    // What doesn't run is said to be so, and never started.
    head.host.sh("nginx -s quit").success();
    let stopped = |head: &Head| head.facts().nginx.is_some_and(|it| !it.is_running);
    assert!(head.waits_for(stopped));
    let (set, tested) = head.put(files);
    assert!(
        tested
            .warnings
            .iter()
            .any(|it| it.contains("nginx isn't running")),
        "{tested:?}"
    );
    let refusal = head.refused(ConfigRequest::Activate {
        set,
        confirm_within_s: 5,
    });
    assert!(refusal.contains("nginx isn't running here"), "{refusal}");
    assert!(stopped(&head));
}

#[test]
fn visitors_notice_neither_new_configurations_nor_new_generations() {
    let Some(mut head) = head() else { return };
    head.apply(head.rendered(WebKind::Nginx, &[site()]));
    let at = SocketAddr::new(head.host.address(), 80);
    let load = Load::start(&head.host, at, "www.example.com", [4, 0, 0]);
    let started = Instant::now();
    let mut slowest = 0;
    for round in 0..5 {
        head.switch_to(["two", "one"][round % 2]);
        // Another site comes and goes: nginx and PHP-FPM both begin anew.
        let more = TestSite::new("other.example");
        let sites = match round % 2 {
            0 => vec![site(), more],
            _ => vec![site()],
        };
        let (set, tested) = head.put(head.rendered(WebKind::Nginx, &sites));
        assert!(tested.faults.is_empty(), "{tested:#?}");
        let activated = head.activate(set, 60);
        // A pool is there before it is asked for, and goes after.
        let order = [["php8.2-fpm", "nginx"], ["nginx", "php8.2-fpm"]];
        assert_eq!(activated.proved, order[round % 2]);
        slowest = slowest.max(activated.elapsed_us);
        head.config(ConfigRequest::Confirm { set });
    }
    let tally = load.end();
    eprintln!(
        "5 sets in {:?}, the slowest live and proved in {} ms: {}",
        started.elapsed(),
        slowest / 1000,
        tally.line()
    );
    assert!(tally.failed.is_empty(), "{:?}", tally.failures());
    assert!(tally.total() > 50, "{}", tally.line());
}

#[test]
fn a_broken_pool_is_named_and_php_never_runs_as_root() {
    let Some(mut head) = head() else { return };
    let sites = [site(), TestSite::new("broken.example")];
    let mut files = head.rendered(WebKind::Nginx, &sites);
    let pool = "8.2-broken.example.conf";
    let broken = text_of(&files, ConfigArea::PhpFpm, pool).replace("pm = ondemand", "pm = often");
    let replace = |files: &mut Vec<ConfigFile>, text: String| {
        let own = files.iter_mut().find(|it| it.name == pool).unwrap();
        own.content = Content::Bytes(text.into_bytes());
    };
    replace(&mut files, broken);
    let (_, tested) = head.put(files.clone());
    let named: Vec<&str> = tested.faults.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(named, [pool], "{tested:#?}");
    let said = &tested.faults[0].message;
    assert!(said.contains("invalid process manager"), "{tested:#?}");
    let sound = head.rendered(WebKind::Nginx, &sites);
    let root = text_of(&sound, ConfigArea::PhpFpm, pool);
    let user = root
        .lines()
        .find(|it| it.starts_with("user = "))
        .unwrap()
        .to_owned();
    replace(&mut files, root.replace(&user, "user = root"));
    let (_, tested) = head.put(files);
    let said = &tested.faults[0].message;
    assert!(said.contains("PHP may not run as `root`"), "{tested:#?}");
    assert_eq!(tested.faults[0].name, pool);
}

#[test]
fn a_confirmed_set_can_be_taken_back_while_the_one_before_is_whole() {
    let Some(mut head) = head() else { return };
    let down = |uri: &str| TestSite::new(uri).mode(Mode::Disabled);
    let first = head.apply(head.rendered(WebKind::Nginx, &[site()]));
    let second = head.apply(head.rendered(WebKind::Nginx, &[down("www.example.com")]));
    assert!(head.page("www.example.com", "/").contains("switched off"));
    head.config(ConfigRequest::Revert { set: second });
    assert_eq!(head.state().live, Some(first));
    assert!(head.page("www.example.com", "/").contains("one /index.php"));
    // With a site's key gone the one before isn't whole any more.
    let leaving = TestSite::new("leaving.example").tls(SiteTls::Optional);
    let both = [site(), leaving];
    head.apply(head.rendered(WebKind::NginxSsl, &both));
    let last = head.apply(head.rendered(WebKind::NginxSsl, &[site()]));
    let refusal = head.refused(ConfigRequest::Revert { set: last });
    assert!(
        refusal.contains("lacks keys/leaving.example.pem"),
        "{refusal}"
    );
    assert_eq!(head.state().live, Some(last));
}
