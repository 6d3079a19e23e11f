//! A cluster behind HAProxy under load: members leave and come back without a visitor noticing.

use super::load::{Kind, Load, Tally};
use crate::support::env::{CLUSTER, World, platform_root};
use crate::support::host::Host;
use crate::support::run::{Running, USUAL_TIME, is_installed, wait_until};
use crate::support::{root_or_skip, task};
use fanout::config::Inventory;
use fanout::services::balancer::{Ingredients, render};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use sync_proto::wire::service::{ConfigArea, Content, ServiceFacts};

/// Members; the agent after them is the balancer's.
const MEMBERS: usize = 3;
/// Files that each page includes.
const PARTS: usize = 60;
/// Files that no page includes: what a copy spends its time on.
const OTHERS: usize = 2_000;
const PAGES_PORT: u16 = 80;

/// Hub, three members and a balancer, each on a host of its own.
struct Site {
    // Programs end before the hosts that they run on.
    programs: BTreeMap<usize, [Running; 2]>,
    _haproxy: Running,
    world: World,
}

impl Site {
    fn start(platforms: &[(&str, &str)]) -> Self {
        let mut world = World::with(MEMBERS + 1).on_hosts().start();
        let members: Vec<String> = (0..MEMBERS)
            .map(|it| quoted(world.agent_name(it)))
            .collect();
        let members = format!("members = [{}]", members.join(", "));
        let cluster = ["balancer = \"edge\"", "min_healthy = 2", &members];
        world.configure(&format!("clusters.{CLUSTER}"), &cluster);
        for index in 0..MEMBERS {
            let address = world.agent_host(index).address();
            let lines = [
                format!("addresses = [\"{address}\"]"),
                "web = { kind = \"nginx\" }".into(),
            ];
            let section = format!("servers.{}", world.agent_name(index));
            world.configure(&section, &[&lines[0], &lines[1]]);
            offer(&mut world, index, "web");
        }
        offer(&mut world, MEMBERS, "balancer");
        let edge = format!(
            "[balancers.edge]\nkind = \"haproxy\"\nservers = [{}]\ndrain_timeout = \"20s\"\n",
            quoted(world.agent_name(MEMBERS))
        );
        world.append_to_inventory(&edge);
        for (name, layout) in platforms {
            write_release(&world.source(name), 1);
            world.add_platform(name, &["--layout", layout]);
            let site = format!(
                "[sites.\"{}\"]\nplatform = \"{name}\"\nuploads = \"external\"\n",
                host_of(name)
            );
            world.append_to_inventory(&site);
            world.push(name, &[]).success();
        }
        let programs = (0..MEMBERS).map(|index| (index, serve(&world, index, platforms)));
        let programs = programs.collect();
        let haproxy = balance(&world);
        Self {
            world,
            programs,
            _haproxy: haproxy,
        }
    }

    fn balancer(&self) -> &Host {
        self.world.agent_host(MEMBERS)
    }

    /// Visitors of a platform's site, through the balancer, from the hub's host.
    fn load(&self, platform: &str) -> Load {
        let at = SocketAddr::new(self.balancer().address(), PAGES_PORT);
        Load::start(self.world.hub_host(), at, &host_of(platform), [6, 2, 2])
    }

    /// What the balancer says about each member of the cluster.
    fn states(&self) -> BTreeMap<String, String> {
        let services = self.world.agent_services(MEMBERS);
        let socket = services.join("data/haproxy/admin.sock");
        // Not there before HAProxy has begun.
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return BTreeMap::new();
        };
        stream.write_all(b"show stat\n").unwrap();
        let table = std::io::read_to_string(stream).unwrap();
        let rows = table.lines().filter(|line| line.starts_with("front,web"));
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[1].to_owned(), cells[17].to_owned())
        };
        rows.map(row).collect()
    }

    #[track_caller]
    fn wait_for_all_up(&self) {
        let all_up = || {
            let states = self.states();
            states.len() == MEMBERS && states.values().all(|state| state == "UP")
        };
        assert!(wait_until(USUAL_TIME, all_up), "{:?}", self.states());
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn data_root(world: &World, index: usize) -> String {
    let path = world.agent_services(index).join("data");
    path.to_str().unwrap().to_owned()
}

fn host_of(platform: &str) -> String {
    format!("{platform}.example.com")
}

fn offer(world: &mut World, index: usize, service: &str) {
    let path = world.agent_dir(index).join("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let line = format!("offers = [\"{service}\"]\n[limits]");
    fs::write(&path, text.replace("[limits]", &line)).unwrap();
    world.restart_agent(index);
}

/// A release whose pages work only if all of their files are of that release.
fn write_release(source: &Path, release: usize) {
    let page = format!(
        "<?php\n$all = {release};\nfor ($n = 0; $n < {PARTS}; $n++) {{\n    \
         if ((require __DIR__ . \"/lib/part-$n.php\") !== $all) {{\n        \
         http_response_code(500);\n        exit(\"mixed\\n\");\n    }}\n}}\n\
         usleep(random_int(0, 20000));\necho \"release $all\\n\" . str_repeat('x', 5000);\n"
    );
    task::put(&source.join("index.php"), page);
    let form = format!(
        "<?php\n$body = file_get_contents('php://input');\nusleep(30000);\n\
         if (strlen($body) < 20000) {{ http_response_code(400); exit('short'); }}\n\
         echo \"form {release}\\n\";\n"
    );
    task::put(&source.join("form.php"), form);
    let download = "<?php\nfor ($n = 0; $n < 40; $n++) { echo str_repeat('d', 65536); flush(); \
                    usleep(50000); }\n";
    task::put(&source.join("download.php"), download);
    for part in 0..PARTS {
        let padding = "// ".to_owned() + &"padding ".repeat(100);
        let text = format!("<?php\n{padding}\nreturn {release};\n");
        task::put(&source.join(format!("lib/part-{part}.php")), text);
    }
    for other in 0..OTHERS {
        let text = format!("{release} {other} {}", "content ".repeat(600));
        task::put(
            &source.join(format!("other/{}/{other}.inc", other % 40)),
            text,
        );
    }
}

/// nginx and PHP-FPM of one member, with the health endpoint that balancers ask.
fn serve(world: &World, index: usize, platforms: &[(&str, &str)]) -> [Running; 2] {
    let host = world.agent_host(index);
    let sites: Vec<String> = platforms
        .iter()
        .map(|(name, _)| {
            let root = world.agent_prefix(index).join(&platform_root(name)[1..]);
            format!(
                "server {{
                    listen {PAGES_PORT};
                    server_name {};
                    root {};
                    index index.php;
                    location ~ \\.php$ {{
                        include fastcgi_params;
                        fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;
                        fastcgi_param DOCUMENT_ROOT $realpath_root;
                        fastcgi_buffering off;
                        fastcgi_pass unix:/run/php.sock;
                    }}
                }}",
                host_of(name),
                root.display()
            )
        })
        .collect();
    let mark = format!("{}/drain", data_root(world, index));
    let nginx = format!(
        "user root;
        daemon off;
        pid /run/nginx.pid;
        error_log /var/log/fanout-nginx.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            server {{
                listen 4680 default_server;
                location = /healthz {{
                    if (-f {mark}) {{ return 503; }}
                    return 200 ok;
                }}
                location = /fpm-ping {{
                    if (-f {mark}) {{ return 503; }}
                    include fastcgi_params;
                    fastcgi_param SCRIPT_NAME /fpm-ping;
                    fastcgi_param SCRIPT_FILENAME /fpm-ping;
                    fastcgi_pass unix:/run/php.sock;
                }}
            }}
            {}
        }}",
        sites.join("\n")
    );
    host.write(
        "/srv/nginx.conf",
        nginx.replace("fastcgi_params", "/etc/nginx/fastcgi_params"),
    );
    host.write(
        "/srv/fpm.conf",
        "[global]\nerror_log = /var/log/fanout-fpm.log\nprocess_control_timeout = 10s\n\
         daemonize = no\n[www]\nuser = root\ngroup = root\nlisten = /run/php.sock\n\
         pm = static\npm.max_children = 12\nping.path = /fpm-ping\n\
         php_admin_value[opcache.revalidate_freq] = 0\n",
    );
    start_serving(host)
}

fn start_serving(host: &Host) -> [Running; 2] {
    // What a killed PHP leaves behind.
    host.sh("rm -f /run/php.sock").success();
    let php = host.spawn(&["php-fpm8.2", "-R", "-F", "-y", "/srv/fpm.conf"]);
    let nginx = host.spawn(&["nginx", "-c", "/srv/nginx.conf"]);
    let answers = || {
        let ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:4680/fpm-ping || true";
        host.sh(ask).text().trim() == "200"
    };
    assert!(
        wait_until(USUAL_TIME, answers),
        "{} doesn't serve",
        host.name()
    );
    [php, nginx]
}

/// HAProxy with what fanout renders for it.
fn balance(world: &World) -> Running {
    let host = world.agent_host(MEMBERS);
    let inventory = Inventory::load(&world.hub_dir().join("fanout.toml")).unwrap();
    let facts = ServiceFacts {
        config_root: b"/srv/live".to_vec(),
        data_root: data_root(world, MEMBERS).into(),
        ..ServiceFacts::default()
    };
    let ingredients = Ingredients {
        facts: &facts,
        bundles: &BTreeMap::new(),
        out: &BTreeSet::new(),
    };
    let balancer = inventory.balancer("edge").unwrap();
    for file in render(&inventory, balancer, &ingredients) {
        let Content::Bytes(bytes) = file.content else {
            panic!("bytes")
        };
        assert_eq!(file.area, ConfigArea::Haproxy);
        host.write(Path::new("/srv/live/haproxy").join(&file.name), bytes);
    }
    host.sh("haproxy -c -f /srv/live/haproxy").success();
    host.spawn(&[
        "haproxy",
        "-W",
        "-p",
        "/run/haproxy.pid",
        "-f",
        "/srv/live/haproxy",
    ])
}

/// Carries `act` out while visitors come, and checks that none of them noticed.
#[track_caller]
fn unnoticed<T>(site: &Site, platform: &str, what: &str, act: impl FnOnce() -> T) -> (T, Tally) {
    let load = site.load(platform);
    std::thread::sleep(Duration::from_millis(700));
    let began = Instant::now();
    let result = act();
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(700));
    let tally = load.end();
    eprintln!("{what} ({took:?}): {}", tally.line());
    assert!(
        tally.total() > 50,
        "too few visitors came: {}",
        tally.line()
    );
    assert!(tally.failed.is_empty(), "{what}: {:#?}", tally.failures());
    (result, tally)
}

/// No page of the old release after the first time that only the new one may be seen.
fn releases(tally: &Tally) -> Vec<String> {
    let pages = tally.seen.keys().filter(|line| line.starts_with("release"));
    pages.cloned().collect()
}

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
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} not installed");
    }
    missing.is_empty() && root_or_skip("a cluster on hosts")
}

#[test]
fn visitors_notice_nothing_of_a_rolling_push_in_place_and_a_lot_of_a_copy() {
    if !is_ready() {
        return;
    }
    let mut site = Site::start(&[("shop", "in-place")]);
    site.wait_for_all_up();
    let source = site.world.source("shop");

    unnoticed(&site, "shop", "drain and ready of each member", || {
        for index in 0..MEMBERS {
            let name = site.world.agent_name(index);
            site.world.fanout(&["drain", "server", name]).success();
            assert_eq!(site.states()[name], "DRAIN");
            site.world.fanout(&["ready", "server", name]).success();
            assert_eq!(site.states()[name], "UP");
        }
    });

    write_release(&source, 2);
    let (_, tally) = unnoticed(&site, "shop", "rolling push, in-place", || {
        let pushed = site.world.push("shop", &["--rolling", "1"]).success();
        pushed.all("committed")
    });
    assert_eq!(releases(&tally), ["release 1", "release 2"]);
    site.world.verify("shop", &["--level", "content"]).success();

    let (_, tally) = unnoticed(&site, "shop", "rolling rollback, in-place", || {
        let words = ["rollback", "platform", "shop", "--rolling", "1", "--yes"];
        site.world.fanout(&words).success()
    });
    assert_eq!(releases(&tally), ["release 1", "release 2"]);

    unnoticed(&site, "shop", "reload of the balancer, five times", || {
        for _ in 0..5 {
            site.balancer()
                .sh("kill -USR2 $(cat /run/haproxy.pid)")
                .success();
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    site.wait_for_all_up();

    // A member's programs die at once; what they were working on dies with them.
    let load = site.load("shop");
    std::thread::sleep(Duration::from_millis(700));
    let host = site.world.agent_host(1);
    host.sh("kill -9 $(pidof nginx php-fpm8.2)").success();
    std::thread::sleep(Duration::from_secs(3));
    site.programs
        .insert(1, start_serving(site.world.agent_host(1)));
    site.wait_for_all_up();
    std::thread::sleep(Duration::from_secs(1));
    let tally = load.end();
    eprintln!(
        "death and return of a member: {} {:?}",
        tally.line(),
        tally.failures()
    );
    // Pages are asked for again elsewhere. Forms and the rest of a download can't be.
    let pages = tally.failed.iter().filter(|(kind, _)| *kind == Kind::Read);
    assert_eq!(pages.count(), 0, "{:#?}", tally.failures());
    assert!(
        tally.failed.len() <= 4,
        "only what was under way: {:#?}",
        tally.failures()
    );

    // The same change as it is made today: head after head, under the visitors' eyes.
    write_release(&source, 3);
    let load = site.load("shop");
    std::thread::sleep(Duration::from_millis(700));
    let began = Instant::now();
    for index in 0..MEMBERS {
        let to = format!("{}/", site.world.live(index, "shop").display());
        let from = format!("{}/", source.display());
        let copied = std::process::Command::new("rsync")
            .args(["-a", "--delete", "--exclude=/.fanout", &from, &to])
            .status();
        assert!(copied.unwrap().success());
    }
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(700));
    let copied = load.end();
    eprintln!(
        "rsync in place, head after head ({took:?}): {} {:?}",
        copied.line(),
        copied.failures()
    );
    assert!(
        !copied.failed.is_empty(),
        "the measure beside it fails, or it measures nothing"
    );
}

#[test]
fn visitors_notice_nothing_of_a_switch_on_all_members_and_of_the_way_back() {
    if !is_ready() {
        return;
    }
    let site = Site::start(&[("blog", "switched")]);
    site.wait_for_all_up();
    write_release(&site.world.source("blog"), 2);
    let (_, tally) = unnoticed(&site, "blog", "push, switched", || {
        site.world.push("blog", &[]).success()
    });
    assert_eq!(releases(&tally), ["release 1", "release 2"]);
    let (_, tally) = unnoticed(&site, "blog", "rollback, switched", || {
        site.world
            .fanout(&["rollback", "platform", "blog", "--yes"])
            .success()
    });
    assert_eq!(releases(&tally), ["release 1", "release 2"]);
    write_release(&site.world.source("blog"), 3);
    unnoticed(
        &site,
        "blog",
        "rolling push of two at once, switched",
        || {
            // Two may not leave: two must serve.
            let refused = site.world.push("blog", &["--rolling", "2"]).exits(5);
            assert!(
                refused.everything_said().contains("FX0214"),
                "{}",
                refused.describe()
            );
            site.world.push("blog", &["--rolling", "1"]).success()
        },
    );
}

#[test]
fn a_release_that_breaks_the_site_goes_back_before_the_second_member_has_it() {
    if !is_ready() {
        return;
    }
    let site = Site::start(&[("shop", "in-place")]);
    site.wait_for_all_up();
    let source = site.world.source("shop");
    write_release(&source, 2);
    task::put(&source.join("lib/part-7.php"), "<?php syntax error");
    let (pushed, _) = unnoticed(&site, "shop", "a broken release, rolling", || {
        site.world.push("shop", &["--rolling", "1"])
    });
    let said = pushed.everything_said();
    assert!(
        said.contains("FX0744") && said.contains("shop.example.com answers 500"),
        "{said}"
    );
    assert_eq!(
        pushed.outcomes(),
        "web1 failed, web2 aborted, web3 aborted",
        "{said}"
    );
    site.wait_for_all_up();
    let generations = site
        .world
        .fanout(&["generations", "platform", "shop", "--json"]);
    let generations: Value = generations.success().json_result();
    assert!(
        !generations.to_string().contains("\"serial\":2"),
        "{generations}"
    );
    for index in 0..MEMBERS {
        let part = site.world.live(index, "shop").join("lib/part-7.php");
        assert!(fs::read_to_string(part).unwrap().contains("return 1;"));
    }
    let checked = site
        .world
        .fanout(&["check", "site", "shop.example.com"])
        .success();
    assert!(checked.text().contains("#1"), "{}", checked.describe());
}

#[test]
fn a_check_shows_the_member_that_answers_differently() {
    if !is_ready() {
        return;
    }
    let site = Site::start(&[("shop", "in-place")]);
    site.wait_for_all_up();
    let check = [
        "check",
        "site",
        "shop.example.com",
        "--path",
        "/index.php",
        "--json",
    ];
    let same = site.world.fanout(&check).success().json_result();
    assert_eq!(
        same["answers"].as_array().unwrap().len(),
        MEMBERS + 1,
        "{same}"
    );
    let page = site.world.live(1, "shop").join("index.php");
    fs::write(page, "<?php echo 'somebody was here';").unwrap();
    let found = site.world.fanout(&check).exits(2).json_result();
    let name = site.world.agent_name(1);
    let of = |who: &str| {
        let all = found["answers"].as_array().unwrap();
        let one = all.iter().find(|it| it["who"] == who).unwrap();
        one["differs"].as_str().unwrap().to_owned()
    };
    assert_eq!(of(name), "another page", "{found}");
    assert_eq!(of(site.world.agent_name(0)), "", "{found}");
    // A person's word stands against tasks.
    site.world.fanout(&["drain", "server", name]).success();
    write_release(&site.world.source("shop"), 2);
    let refused = site.world.push("shop", &["--rolling", "1"]).exits(5);
    assert!(
        refused.everything_said().contains("FX0214"),
        "one more may not leave"
    );
    site.world
        .configure(&format!("clusters.{CLUSTER}"), &["min_healthy = 1"]);
    site.world
        .push("shop", &["--rolling", "1"])
        .success()
        .all("committed");
    assert_eq!(site.states()[name], "DRAIN");
    site.world.fanout(&["ready", "server", name]).success();
    assert_eq!(site.states()[name], "UP");
}
