//! The same cluster behind balancers of other kinds, and over TLS: nobody notices what fanout does.

use super::edge::{Edge, MEMBERS, PLAIN, Plan, SITE, is_ready, write_release};
use super::load::{Kind, Load};
use crate::support::run::{USUAL_TIME, wait_until};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn members_leave_an_nginx_balancer_by_its_configuration_and_nobody_notices() {
    if !is_ready() {
        return;
    }
    let edge = Edge::start(Plan {
        kind: "nginx",
        ..PLAIN
    });
    let world = &edge.world;
    let file = world
        .agent_services(MEMBERS)
        .join("current/nginx-balancer/balancer.conf");
    let name = edge.member(0);
    edge.unnoticed("nginx: drain and ready", || {
        edge.fanout(&["drain", "server", name]).success();
        let down = fs::read_to_string(&file).unwrap();
        assert!(down.contains(&format!(" down; # {name}")), "{down}");
        // What a person took out, apply doesn't put back.
        edge.fanout(&["apply", "--yes"]).success();
        assert!(fs::read_to_string(&file).unwrap().contains(" down; "));
        edge.fanout(&["ready", "server", name]).success();
        assert!(!fs::read_to_string(&file).unwrap().contains(" down; "));
    });
    write_release(world, 2);
    edge.unnoticed("nginx: rolling push, in-place", || {
        let pushed = world.push("shop", &["--rolling", "1"]).success();
        pushed.all("committed");
    });
    edge.unnoticed("nginx: rolling rollback", || {
        let rollback = ["rollback", "platform", "shop", "--rolling", "1", "--yes"];
        edge.fanout(&rollback).success();
    });
    edge.unnoticed("nginx: configuration change", || {
        let section = format!("sites.\"{SITE}\"");
        world.configure(&section, &["aliases = [\"www.shop.example.com\"]"]);
        edge.fanout(&["apply", "--yes"]).success();
    });
    let mark = world.agent_services(MEMBERS).join("data/closing");
    assert!(!mark.exists(), "connections are kept again");
    // What it is worth: the same visitors while nginx is told by itself.
    let lb = world.agent_host(MEMBERS);
    let at = SocketAddr::new(lb.address(), 80);
    let load = Load::with(world.hub_host(), at, SITE, &[(Kind::Write, 10)]);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(400));
        lb.sh("nginx -s reload").success();
    }
    let tally = load.end();
    eprintln!(
        "eight reloads by themselves: {} {:?}",
        tally.line(),
        tally.failures()
    );
    assert!(
        !tally.failed.is_empty(),
        "the measure beside it fails, or it measures nothing"
    );
    edge.fanout(&["check", "site", SITE, "--path", "/index.php"])
        .success();
}

#[test]
fn a_change_of_configuration_on_every_server_goes_unnoticed() {
    if !is_ready() {
        return;
    }
    let edge = Edge::start(PLAIN);
    let (world, lb) = (&edge.world, edge.world.agent_host(MEMBERS));
    let check = ["check", "site", SITE, "--path", "/index.php"];
    edge.fanout(&check).success();
    let name = edge.member(1);
    edge.fanout(&["drain", "server", name]).success();
    edge.unnoticed("configuration change on all servers", || {
        let section = format!("sites.\"{SITE}\"");
        world.configure(&section, &["aliases = [\"www.shop.example.com\"]"]);
        edge.fanout(&["apply", "--yes"]).success();
    });
    // Who was out stayed out over the reload, and the new name is served.
    let refused = edge.fanout(&["drain", "server", edge.member(0)]).exits(5);
    assert!(
        refused.everything_said().contains("FX0214"),
        "{}",
        refused.describe()
    );
    edge.fanout(&["ready", "server", name]).success();
    let ask = format!(
        "curl -s -H 'Host: www.shop.example.com' http://{}/index.php",
        lb.address()
    );
    assert_eq!(world.hub_host().sh(&ask).text().trim(), "release 1");
}

#[test]
fn visitors_over_tls_that_ends_at_the_balancer_notice_nothing() {
    if !is_ready() {
        return;
    }
    let edge = Edge::start(Plan { tls: true, ..PLAIN });
    edge.rolls_unnoticed("TLS ended at the balancer");
    // The balancer is the only one with a key.
    let check = ["check", "site", SITE, "--path", "/index.php", "--json"];
    let answers = edge.fanout(&check).success().json_result()["answers"].clone();
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["status"], 200, "{answers}");
        let is_balancer = answer["who"].as_str().unwrap().starts_with("edge ");
        assert_eq!(answer["certificate"].is_object(), is_balancer, "{answers}");
        if is_balancer {
            assert_eq!(answer["certificate"]["matches"], true, "{answers}");
        }
    }
    let plain = format!(
        "curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' -H 'Host: {SITE}' http://{}/a",
        edge.world.agent_host(MEMBERS).address()
    );
    assert_eq!(
        edge.world.hub_host().sh(&plain).text().trim(),
        format!("308 https://{SITE}/a")
    );
}

#[test]
fn visitors_over_tls_that_two_balancers_pass_through_notice_nothing() {
    if !is_ready() {
        return;
    }
    let mut edge = Edge::start(Plan {
        balancers: 2,
        balancer: "tls = \"passthrough\"\ndrain_timeout = \"30s\"",
        tls: true,
        web: "nginx_ssl",
        ..PLAIN
    });
    edge.rolls_unnoticed("TLS passed through by two balancers");

    // One of the two doesn't answer: nobody leaves, and it is said which one it is.
    let (first, second) = (MEMBERS, MEMBERS + 1);
    let name = edge.member(0).to_owned();
    let drain = ["drain", "server", name.as_str()];
    edge.haproxy.remove(&second);
    let refused = edge.fanout(&drain).exits(1).everything_said();
    assert!(
        refused.contains("FX0741") && refused.contains(edge.member(second)),
        "{refused}"
    );
    assert_eq!(edge.states(first)[&name], "UP");
    write_release(&edge.world, 3);
    let pushed = edge.world.push("shop", &["--rolling", "1"]);
    assert_ne!(pushed.code, Some(0), "{}", pushed.describe());
    assert_eq!(edge.states(first)[&name], "UP");
    edge.start_haproxy(second);
    edge.wait_until_balanced();

    // It goes away in the middle of a drain, while a download is waited for.
    let load = edge.load(&[(Kind::Download, 4)]);
    std::thread::sleep(Duration::from_millis(700));
    let draining = edge.world.start_fanout(&drain, &[]);
    let is_told = || {
        edge.states(second)
            .get(&name)
            .is_some_and(|it| it == "DRAIN")
    };
    assert!(wait_until(USUAL_TIME, is_told));
    edge.haproxy.remove(&second);
    let said = draining.finish_within(Duration::from_secs(90));
    assert_ne!(
        said.code,
        Some(0),
        "not every one confirmed: {}",
        said.describe()
    );
    assert!(
        said.everything_said().contains(edge.member(second)),
        "{}",
        said.describe()
    );
    drop(load);
    edge.start_haproxy(second);
    // It is where the record says, over the restart, and comes back as a whole.
    edge.fanout(&drain).success();
    for index in [first, second] {
        assert_eq!(edge.states(index)[&name], "DRAIN");
    }
    edge.fanout(&["ready", "server", &name]).success();
    edge.wait_until_balanced();
}

#[test]
fn somebody_elses_balancer_is_told_by_the_health_endpoint() {
    if !is_ready() {
        return;
    }
    let edge = Edge::start(Plan {
        kind: "external",
        ..PLAIN
    });
    let world = &edge.world;
    let (member, name) = (world.agent_host(0), world.agent_name(0));
    let health = || {
        let ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:4680/fpm-ping";
        member.sh(ask).text()
    };
    assert!(wait_until(USUAL_TIME, || health() == "200"), "{}", health());
    world.configure("balancers.edge", &["drain_timeout = \"1s\""]);
    world.fanout(&["drain", "server", name]).success();
    assert_eq!(health(), "503");
    let check = world.fanout(&["check", "site", SITE, "--path", "/index.php"]);
    check.success();
    world.fanout(&["ready", "server", name]).success();
    assert_eq!(health(), "200");
    write_release(world, 2);
    let pushed = world.push("shop", &["--rolling", "1"]).success();
    pushed.all("committed");
    assert_eq!(health(), "200");
}
