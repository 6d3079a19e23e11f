//! The same cluster behind balancers of other kinds, configured by `apply` with what fanout renders
//! for Debian's nginx and PHP-FPM.

use super::load::{Kind, Load};
use crate::support::env::{CLUSTER, World};
use crate::support::run::{USUAL_TIME, is_installed, wait_until};
use crate::support::{root_or_skip, task};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const MEMBERS: usize = 2;
const SITE: &str = "shop.example.com";

fn is_ready() -> bool {
    let programs = ["nginx", "haproxy", "php-fpm8.2", "curl"];
    let missing: Vec<&str> = programs
        .into_iter()
        .filter(|it| !is_installed(it))
        .collect();
    assert!(
        missing.is_empty() || std::env::var_os("FANOUT_TEST_ALL").is_none(),
        "not installed: {missing:?}"
    );
    missing.is_empty() && root_or_skip("a cluster on hosts")
}

/// Two members and a balancer, each with the line that includes fanout's files; applied.
fn start(kind: &str) -> World {
    let mut world = World::with(MEMBERS + 1).on_hosts().start();
    let members: Vec<String> = (0..MEMBERS)
        .map(|it| format!("\"{}\"", world.agent_name(it)))
        .collect();
    let members = format!("members = [{}]", members.join(", "));
    world.configure(
        &format!("clusters.{CLUSTER}"),
        &["balancer = \"edge\"", "min_healthy = 1", &members],
    );
    // Web servers look into what is private otherwise.
    for path in [world.dir().to_owned(), world.hub_dir()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    }
    for index in 0..=MEMBERS {
        let address = world.agent_host(index).address();
        let addresses = format!("addresses = [\"{address}\"]");
        let section = format!("servers.{}", world.agent_name(index));
        let (lines, offer) = match index {
            MEMBERS => (vec![addresses], "balancer"),
            _ => (
                vec![addresses, "web = { kind = \"nginx\" }".into()],
                "web\", \"app",
            ),
        };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        world.configure(&section, &lines);
        let config = world.agent_dir(index).join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("[limits]", &format!("offers = [\"{offer}\"]\n[limits]"));
        fs::write(&config, text).unwrap();
        world.restart_agent(index);
        fs::set_permissions(world.agent_dir(index), fs::Permissions::from_mode(0o711)).unwrap();
    }
    let servers = match kind {
        "external" => String::new(),
        _ => format!("servers = [\"{}\"]\n", world.agent_name(MEMBERS)),
    };
    world.append_to_inventory(&format!(
        "[balancers.edge]\nkind = \"{kind}\"\n{servers}drain_timeout = \"10s\"\n"
    ));
    write_release(&world, 1);
    world.add_platform("shop", &["--layout", "in-place", "--app", "php"]);
    world.append_to_inventory(&format!(
        "[sites.\"{SITE}\"]\nplatform = \"shop\"\nuploads = \"external\"\n"
    ));
    for index in 0..MEMBERS {
        serve(&world, index);
    }
    if kind == "nginx" {
        let host = world.agent_host(MEMBERS);
        let current = world.agent_services(MEMBERS).join("current");
        let include = format!("include {}/nginx-balancer/*.conf;\n", current.display());
        host.write("/etc/nginx/conf.d/fanout.conf", include);
        host.sh("nginx").success();
    }
    world.push("shop", &[]).success();
    world.fanout(&["apply", "--yes"]).success();
    world
}

fn write_release(world: &World, release: usize) {
    let source = world.source("shop");
    let parts = 30;
    let page = format!(
        "<?php\nfor ($n = 0; $n < {parts}; $n++) {{\n    \
         if ((require __DIR__ . \"/lib/part-$n.php\") !== {release}) {{\n        \
         http_response_code(500);\n        exit(\"mixed\\n\");\n    }}\n}}\n\
         echo \"release {release}\\n\";\n"
    );
    task::put(&source.join("index.php"), page);
    let form = "<?php usleep(30000); echo strlen(file_get_contents('php://input')) >= 20000 \
                ? \"form\\n\" : http_response_code(400);\n";
    task::put(&source.join("form.php"), form);
    let download = "<?php for ($n = 0; $n < 40; $n++) { echo str_repeat('d', 65536); flush(); \
                    usleep(20000); }\n";
    task::put(&source.join("download.php"), download);
    for part in 0..parts {
        let text = format!("<?php\nreturn {release};\n");
        task::put(&source.join(format!("lib/part-{part}.php")), text);
    }
}

/// Debian's nginx and PHP-FPM with the line that includes fanout's files.
fn serve(world: &World, index: usize) {
    let host = world.agent_host(index);
    let current = world.agent_services(index).join("current");
    let current = current.display();
    let include = format!("include {current}/nginx/*.conf;\n");
    host.write("/etc/nginx/conf.d/fanout.conf", include);
    let pools =
        format!("[global]\nprocess_control_timeout = 10s\ninclude={current}/php-fpm/8.2-*.conf\n");
    host.write("/etc/php/8.2/fpm/pool.d/fanout.conf", pools);
    host.sh("mkdir -p /run/php && php-fpm8.2 --daemonize && nginx")
        .success();
}

/// Carries `act` out while visitors come to the balancer.
#[track_caller]
fn unnoticed(world: &World, forms: Kind, what: &str, act: impl FnOnce()) {
    let at = SocketAddr::new(world.agent_host(MEMBERS).address(), 80);
    let visitors = [(Kind::Read, 4), (forms, 1), (Kind::Download, 1)];
    let load = Load::with(world.hub_host(), at, SITE, &visitors);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    act();
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let tally = load.end();
    eprintln!("{what} ({took:?}): {}", tally.line());
    assert!(
        tally.total() > 20,
        "too few visitors came: {}",
        tally.line()
    );
    assert!(tally.failed.is_empty(), "{what}: {:#?}", tally.failures());
}

#[test]
fn members_leave_an_nginx_balancer_by_its_configuration_and_nobody_notices() {
    if !is_ready() {
        return;
    }
    let world = start("nginx");
    // An nginx that reads a new configuration closes idle connections: what has an effect, nobody
    // sends on those again by itself.
    let forms = Kind::WriteAlone;
    let file = world
        .agent_services(MEMBERS)
        .join("current/nginx-balancer/balancer.conf");
    let name = world.agent_name(0);
    unnoticed(&world, forms, "nginx: drain and ready", || {
        world.fanout(&["drain", "server", name]).success();
        let down = fs::read_to_string(&file).unwrap();
        assert!(down.contains(&format!(" down; # {name}")), "{down}");
        // What a person took out, apply doesn't put back.
        world.fanout(&["apply", "--yes"]).success();
        assert!(fs::read_to_string(&file).unwrap().contains(" down; "));
        world.fanout(&["ready", "server", name]).success();
        assert!(!fs::read_to_string(&file).unwrap().contains(" down; "));
    });
    write_release(&world, 2);
    unnoticed(&world, forms, "nginx: rolling push, in-place", || {
        let pushed = world.push("shop", &["--rolling", "1"]).success();
        pushed.all("committed");
    });
    world
        .fanout(&["check", "site", SITE, "--path", "/index.php"])
        .success();
}

#[test]
fn a_change_of_configuration_on_every_server_goes_unnoticed() {
    if !is_ready() {
        return;
    }
    let world = start("haproxy");
    let lb = world.agent_host(MEMBERS);
    let current = world.agent_services(MEMBERS).join("current/haproxy");
    let words = ["haproxy", "-W", "-p", "/run/haproxy.pid", "-f"];
    let _haproxy = lb.spawn(&[&words[..], &[current.to_str().unwrap()]].concat());
    let check = ["check", "site", SITE, "--path", "/index.php"];
    let answers = || world.fanout(&check).code == Some(0);
    assert!(
        wait_until(USUAL_TIME, answers),
        "{}",
        world.fanout(&check).describe()
    );
    let name = world.agent_name(1);
    world.fanout(&["drain", "server", name]).success();
    unnoticed(
        &world,
        Kind::Write,
        "configuration change on all servers",
        || {
            let section = format!("sites.\"{SITE}\"");
            world.configure(&section, &["aliases = [\"www.shop.example.com\"]"]);
            world.fanout(&["apply", "--yes"]).success();
        },
    );
    // Who was out stayed out over the reload, and the new name is served.
    let refused = world
        .fanout(&["drain", "server", world.agent_name(0)])
        .exits(5);
    assert!(
        refused.everything_said().contains("FX0214"),
        "{}",
        refused.describe()
    );
    world.fanout(&["ready", "server", name]).success();
    let ask = format!(
        "curl -s -H 'Host: www.shop.example.com' http://{}/index.php",
        lb.address()
    );
    assert_eq!(world.hub_host().sh(&ask).text().trim(), "release 1");

    // TLS ends at the balancer, which is the only one with a key.
    let section = format!("sites.\"{SITE}\"");
    world.configure(&section, &["tls = \"required\""]);
    world.fanout(&["apply", "--yes"]).success();
    let checked = world.fanout(&[&check[..], &["--json"]].concat()).success();
    let answers = checked.json_result()["answers"].clone();
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
        lb.address()
    );
    assert_eq!(
        world.hub_host().sh(&plain).text().trim(),
        format!("308 https://{SITE}/a")
    );
}

#[test]
fn somebody_elses_balancer_is_told_by_the_health_endpoint() {
    if !is_ready() {
        return;
    }
    let world = start("external");
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
    write_release(&world, 2);
    let pushed = world.push("shop", &["--rolling", "1"]).success();
    pushed.all("committed");
    assert_eq!(health(), "200");
}
