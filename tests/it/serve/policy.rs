//! What becomes of the others where one member fails: by the commit policy of its cluster, on two
//! real web servers behind HAProxy.

use super::farm::{Farm, SERVICES, Server};
use crate::support::root_or_skip;
use crate::support::run::wait_until;
use serde_json::Value;
use std::time::Duration;

const SITE: &str = "shop.example.com";
const OTHER: &str = "two.example.com";
const PAGE: &str = "/srv/src/shop/index.php";

#[test]
fn netns_one_member_fails_and_the_policy_decides_about_the_others() {
    if !root_or_skip("hosts of their own") {
        return;
    }
    let mut farm = start();
    let broken = "/etc/nginx/conf.d/zz-broken.conf";

    // A configuration that doesn't pass its test on one member goes live on none, and the apply
    // that goes on nevertheless brings it to the other.
    farm.web[1].host.write(broken, "this is no configuration\n");
    redirect(&farm, "one");
    for policy in ["reachable", "each"] {
        commit(&farm, policy);
        let failed = farm.fanout("apply --yes").exits(1);
        assert!(
            failed.error_text().contains("web2"),
            "{}",
            failed.describe()
        );
        assert_eq!(redirected(&farm, "one"), [false, false], "{policy}");
    }
    let sets = || {
        let listed = farm.web[0].host.sh(&format!("ls {SERVICES}/sets | wc -l"));
        listed.success().text()
    };
    let before = sets();
    farm.fanout("apply --yes").exits(1);
    assert_eq!(sets(), before, "what was staged is cleared away");
    farm.fanout("apply --yes --keep-going").exits(3);
    assert_eq!(redirected(&farm, "one"), [true, false]);
    farm.web[1].host.run(&["rm", broken]).success();
    farm.fanout("apply --yes").success();
    assert_eq!(redirected(&farm, "one"), [true, true]);

    // A member that doesn't prove itself: together all go back.
    commit(&farm, "reachable");
    stop_php(&farm.web[1]);
    redirect(&farm, "two");
    let failed = farm.fanout("apply --yes").exits(1);
    assert!(
        failed.error_text().contains("FX0744"),
        "{}",
        failed.describe()
    );
    assert!(
        failed.error_text().contains("undone"),
        "{}",
        failed.describe()
    );
    assert_eq!(redirected(&farm, "two"), [false, false]);
    assert_eq!(redirected(&farm, "one"), [true, true]);
    assert_eq!(places(&farm)[0], "in");

    // Each for itself: only that one goes back, and leaves the rotation; who serves what is on
    // record for the other.
    commit(&farm, "each");
    let site = format!("add site {OTHER} --platform shop --uploads external");
    farm.fanout(&site).success();
    farm.fanout("apply --yes").exits(3);
    assert_eq!(redirected(&farm, "two"), [true, false]);
    assert_eq!(places(&farm), ["in", "out"]);
    assert_eq!(farm.visit(OTHER, "/").0, 200);
    let status = farm.fanout("status").success();
    assert!(status.text().contains("out: "), "{}", status.describe());
    assert!(
        status.text().contains("php8.2-fpm isn't running"),
        "{}",
        status.describe()
    );
    let inventory = "/etc/fanout/fanout.toml";
    farm.hub
        .run(&["cp", inventory, "/root/kept.toml"])
        .success();
    farm.fanout(&format!("remove site {OTHER}")).success();
    let plan = farm.fanout("plan --json").json_result();
    let unlisted = group_members(&plan, &format!("{OTHER} is no longer listed here"));
    assert_eq!(unlisted, ["web1"], "{plan}");
    farm.hub
        .run(&["cp", "/root/kept.toml", inventory])
        .success();
    start_php(&farm.web[1]);
    farm.fanout("apply --yes").success();
    assert_eq!(redirected(&farm, "two"), [true, true]);
    assert_eq!(places(&farm), ["in", "in"]);

    // A site whose files don't pass is left as it is; who serves what is on record all the same.
    let own_lines = format!("/etc/fanout/custom.d/{OTHER}/post.conf");
    farm.hub.write(&own_lines, "this means nothing;\n");
    redirect(&farm, "left");
    farm.fanout("add site third.example.com --platform shop --uploads external")
        .success();
    let partly = farm.fanout("apply --yes").exits(3);
    assert!(
        partly.error_text().contains("FX0786"),
        "{}",
        partly.describe()
    );
    assert_eq!(redirected(&farm, "left"), [true, true]);
    assert_eq!(farm.visit(OTHER, "/").0, 200);
    farm.hub.run(&["rm", &own_lines]).success();
    farm.fanout("remove site third.example.com").success();
    let plan = farm.fanout("plan --json").json_result();
    let unlisted = group_members(&plan, "third.example.com is no longer listed here");
    assert_eq!(unlisted, ["web1", "web2"], "{plan}");
    farm.fanout("apply --yes --allow-remove third.example.com")
        .success();
    farm.fanout("plan --detailed-exitcode").success();

    // A server that is away is left behind under `reachable`, and stops everybody under `all`.
    farm.web[1].stop_agent();
    redirect(&farm, "three");
    commit(&farm, "all");
    farm.fanout("apply --yes").exits(1);
    assert_eq!(redirected(&farm, "three"), [false, false]);
    commit(&farm, "reachable");
    farm.fanout("apply --yes").exits(3);
    assert_eq!(redirected(&farm, "three"), [true, false]);
    farm.web[1].start_agent();

    // Configuration alone, of one server alone.
    farm.fanout("push config web1 --dry-run").success();
    farm.fanout("push config web1 --yes").success();
    assert_eq!(redirected(&farm, "three"), [true, false]);
    farm.fanout("push config front --yes").success();
    assert_eq!(redirected(&farm, "three"), [true, true]);
    farm.fanout("plan --detailed-exitcode").success();

    // A rollback says which member isn't proved; that one leaves, and a resync brings it back.
    farm.hub.write(PAGE, "<?php echo 'release 2';\n");
    farm.fanout("push platform shop").success();
    stop_php(&farm.web[1]);
    let unproved = farm.fanout("rollback platform shop --yes").exits(1);
    let said = unproved.error_text();
    assert!(
        said.contains("FX0744") && said.contains("not proved: web2"),
        "{said}"
    );
    assert_eq!(farm.ask(&farm.web[0], SITE, "/"), (200, "release 1".into()));
    assert_eq!(places(&farm), ["in", "out"]);
    start_php(&farm.web[1]);
    farm.fanout("resync").success();
    assert_eq!(places(&farm), ["in", "in"]);
    // One that fails later is found by the clock.
    stop_php(&farm.web[1]);
    let left = farm.fanout("resync").success();
    assert!(
        left.error_text().contains("web2 left the rotation"),
        "{}",
        left.describe()
    );
    assert_eq!(places(&farm), ["in", "out"]);
    start_php(&farm.web[1]);
    farm.fanout("resync").success();
    assert_eq!(places(&farm), ["in", "in"]);
    farm.fanout("rollback platform shop --to 2 --yes").success();
    assert_eq!(farm.ask(&farm.web[1], SITE, "/"), (200, "release 2".into()));

    // A site is deleted: its vhost is gone everywhere, the other one stays.
    farm.fanout(&format!("delete site {OTHER}")).exits(64);
    let shown = farm
        .fanout(&format!("delete site {OTHER} --dry-run"))
        .success();
    assert!(
        shown.text().contains(&format!("site-{OTHER}.conf")),
        "{}",
        shown.describe()
    );
    farm.fanout(&format!("delete site {OTHER} --yes-delete {SITE}"))
        .exits(64);
    farm.fanout(&format!("delete site {OTHER} --yes-delete {OTHER}"))
        .success();
    for server in &farm.web {
        let vhost = format!("{SERVICES}/current/nginx/site-{OTHER}.conf");
        assert!(!server.host.path(vhost).exists(), "{}", server.host.name());
        assert_eq!(farm.ask(server, SITE, "/").0, 200);
    }
    farm.fanout("plan --detailed-exitcode").success();
}

/// Two nginx servers and a balancer in front of one PHP site.
fn start() -> Farm {
    let farm = Farm::start(2);
    farm.fanout("init").success();
    for server in &farm.web {
        farm.join(server, "--web nginx");
    }
    farm.join(&farm.lb, "");
    for server in &farm.web {
        let name = server.host.name();
        farm.fanout(&format!("setup server {name} --yes")).success();
        server.start_nginx();
    }
    farm.hub.write(PAGE, "<?php echo 'release 1';\n");
    for line in [
        "add balancer edge --servers lb1 --kind haproxy",
        "setup server lb1 --yes",
        "add cluster front --members web1,web2 --balancer edge",
        "add platform shop --app php --path /srv/src/shop --root /srv/platforms/shop --on front",
        "push platform shop",
        "add site shop.example.com --platform shop --uploads external",
        "apply --yes",
    ] {
        farm.fanout(line).success();
    }
    farm.lb.start_haproxy();
    let is_served = || farm.visit(SITE, "/").0 == 200;
    assert!(wait_until(Duration::from_secs(30), is_served));
    farm
}

fn commit(farm: &Farm, policy: &str) {
    farm.fanout(&format!("edit cluster front --commit {policy}"))
        .success();
}

/// A change that only the web server's own files show.
fn redirect(farm: &Farm, name: &str) {
    farm.fanout(&format!("edit site {SITE} --redirect /{name}=/"))
        .success();
}

/// Which members have a redirect.
fn redirected(farm: &Farm, name: &str) -> Vec<bool> {
    let vhost = format!("{SERVICES}/current/nginx/site-{SITE}.conf");
    let has = |server: &Server| {
        let text = server.host.run(&["cat", &vhost]).success().text();
        text.contains(&format!("/{name}"))
    };
    farm.web.iter().map(has).collect()
}

/// Where the members are, by `status --json`.
#[track_caller]
fn places(farm: &Farm) -> Vec<String> {
    let status = farm.fanout("status --json").success().json_result();
    let members = status["platforms"][0]["members"]
        .as_array()
        .unwrap()
        .clone();
    let place = |member: &Value| member["rotation"]["state"].as_str().unwrap().to_owned();
    members.iter().map(place).collect()
}

fn group_members(plan: &Value, what: &str) -> Vec<String> {
    let mut members = Vec::new();
    for group in plan["groups"].as_array().unwrap() {
        let changes = group["changes"].as_array().unwrap();
        if changes.iter().any(|change| change["what"] == what) {
            let names = group["members"].as_array().unwrap().iter();
            members.extend(names.map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    members
}

fn stop_php(server: &Server) {
    // Its master may have made another worker before its own turn came.
    let script = "while pids=$(pidof php-fpm8.2); do kill -9 $pids || true; sleep 0.05; done";
    server.host.sh(script).success();
}

fn start_php(server: &Server) {
    server
        .host
        .sh("rm -f /run/php/*.sock; php-fpm8.2 --daemonize")
        .success();
}
