//! A cluster of two members behind balancers of every kind, configured by `apply` with what fanout
//! renders for Debian's nginx, PHP-FPM and HAProxy; and visitors at each of its balancers.

use super::load::{Door, Kind, Load};
use crate::support::env::{CLUSTER, World};
use crate::support::run::{Output, Running, USUAL_TIME, is_installed, wait_until};
use crate::support::{root_or_skip, task};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub(super) const MEMBERS: usize = 2;
pub(super) const SITE: &str = "shop.example.com";

pub(super) fn is_ready() -> bool {
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

/// Two members and their balancers.
pub(super) struct Edge {
    // Programs end before the hosts that they run on.
    pub(super) haproxy: BTreeMap<usize, Running>,
    pub(super) world: World,
    /// Visitors come over TLS, and believe this certificate.
    pub(super) certificate: Option<String>,
}

/// What is to be built.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) kind: &'static str,
    /// Servers of the balancer.
    pub(super) balancers: usize,
    /// What else is said of the balancer, and of the site.
    pub(super) balancer: &'static str,
    pub(super) site: &'static str,
    /// It is served over TLS only, with a certificate that visitors believe.
    pub(super) tls: bool,
    pub(super) web: &'static str,
}

pub(super) const PLAIN: Plan = Plan {
    kind: "haproxy",
    balancers: 1,
    balancer: "drain_timeout = \"10s\"",
    site: "uploads = \"external\"",
    tls: false,
    web: "nginx",
};

impl Edge {
    /// Each with the line that includes fanout's files; applied.
    pub(super) fn start(plan: Plan) -> Self {
        let mut world = World::with(MEMBERS + plan.balancers).on_hosts().start();
        let quoted = |range: Range<usize>| {
            let names = range.map(|it| format!("\"{}\"", world.agent_name(it)));
            names.collect::<Vec<_>>().join(", ")
        };
        let members = format!("members = [{}]", quoted(0..MEMBERS));
        let servers = match plan.kind {
            "external" => String::new(),
            _ => format!(
                "servers = [{}]\n",
                quoted(MEMBERS..MEMBERS + plan.balancers)
            ),
        };
        world.configure(
            &format!("clusters.{CLUSTER}"),
            &["balancer = \"edge\"", "min_healthy = 1", &members],
        );
        // Web servers look into what is private otherwise.
        for path in [world.dir().to_owned(), world.hub_dir()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
        }
        for index in 0..MEMBERS + plan.balancers {
            let address = world.agent_host(index).address();
            let addresses = format!("addresses = [\"{address}\"]");
            let section = format!("servers.{}", world.agent_name(index));
            let web = format!("web = {{ kind = \"{}\" }}", plan.web);
            let (lines, offer) = match index < MEMBERS {
                true => (vec![addresses.as_str(), &web], "web\", \"app"),
                false => (vec![addresses.as_str()], "balancer"),
            };
            world.configure(&section, &lines);
            let config = world.agent_dir(index).join("agent.toml");
            let text = fs::read_to_string(&config).unwrap();
            let text = text.replace("[limits]", &format!("offers = [\"{offer}\"]\n[limits]"));
            fs::write(&config, text).unwrap();
            world.restart_agent(index);
            fs::set_permissions(world.agent_dir(index), fs::Permissions::from_mode(0o711)).unwrap();
        }
        world.append_to_inventory(&format!(
            "[balancers.edge]\nkind = \"{}\"\n{servers}{}\n",
            plan.kind, plan.balancer
        ));
        write_release(&world, 1);
        let mut options = vec!["--layout", "in-place", "--app", "php"];
        options.extend(["--preserve", "/uploads"]);
        world.add_platform("shop", &options);
        let certificate = plan.tls.then(|| {
            let key = rcgen::generate_simple_self_signed(vec![SITE.into()]).unwrap();
            fs::write(world.dir().join("site.pem"), key.cert.pem()).unwrap();
            let secret = world.dir().join("site.key");
            fs::write(&secret, key.signing_key.serialize_pem()).unwrap();
            fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
            key.cert.pem()
        });
        let tls = match plan.tls {
            true => format!(
                "tls = \"required\"\ncertificate = \"{0}/site.pem\"\nkey = \"file:{0}/site.key\"",
                world.dir().display()
            ),
            false => String::new(),
        };
        world.append_to_inventory(&format!(
            "[sites.\"{SITE}\"]\nplatform = \"shop\"\n{}\n{tls}\n",
            plan.site
        ));
        for index in 0..MEMBERS {
            serve(&world, index);
        }
        if plan.kind == "nginx" {
            let host = world.agent_host(MEMBERS);
            let current = world.agent_services(MEMBERS).join("current");
            let include = format!("include {}/nginx-balancer/*.conf;\n", current.display());
            host.write("/etc/nginx/conf.d/fanout.conf", include);
            host.sh("nginx").success();
        }
        world.push("shop", &[]).success();
        world.fanout(&["apply", "--yes"]).success();
        let mut edge = Self {
            haproxy: BTreeMap::new(),
            world,
            certificate,
        };
        if plan.kind == "haproxy" {
            for index in MEMBERS..MEMBERS + plan.balancers {
                edge.start_haproxy(index);
            }
            edge.wait_until_balanced();
        }
        edge
    }

    pub(super) fn start_haproxy(&mut self, index: usize) {
        let current = self.world.agent_services(index).join("current/haproxy");
        let words = ["haproxy", "-W", "-p", "/run/haproxy.pid", "-f"];
        let words = [&words[..], &[current.to_str().unwrap()]].concat();
        let started = self.world.agent_host(index).spawn(&words);
        self.haproxy.insert(index, started);
    }

    #[track_caller]
    pub(super) fn wait_until_balanced(&self) {
        let is_up = || {
            let balancers = self.haproxy.keys();
            balancers.copied().all(|index| {
                let states = self.states(index);
                states.len() == MEMBERS && states.values().all(|state| state == "UP")
            })
        };
        assert!(wait_until(USUAL_TIME, is_up), "{:?}", self.states(MEMBERS));
    }

    /// What one HAProxy says of each member.
    pub(super) fn states(&self, index: usize) -> BTreeMap<String, String> {
        let socket = self
            .world
            .agent_services(index)
            .join("data/haproxy/admin.sock");
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return BTreeMap::new();
        };
        stream.write_all(b"show stat\n").unwrap();
        let table = std::io::read_to_string(stream).unwrap_or_default();
        let rows = table.lines().filter(|line| line.starts_with("front,web"));
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[1].to_owned(), cells[17].to_owned())
        };
        rows.map(row).collect()
    }

    pub(super) fn fanout(&self, words: &[&str]) -> Output {
        self.world.fanout(words)
    }

    pub(super) fn member(&self, index: usize) -> &str {
        self.world.agent_name(index)
    }

    /// Visitors at every balancer.
    pub(super) fn load(&self, visitors: &[(Kind, usize)]) -> Vec<Load> {
        let doors = (MEMBERS..self.world.agent_count()).map(|index| {
            let address = self.world.agent_host(index).address();
            match &self.certificate {
                Some(certificate) => Door::over_tls(SocketAddr::new(address, 443), certificate),
                None => SocketAddr::new(address, 80).into(),
            }
        });
        let hub = self.world.hub_host();
        doors
            .map(|door| Load::with(hub, door, SITE, visitors))
            .collect()
    }

    /// Carries `act` out while visitors come to every balancer.
    #[track_caller]
    pub(super) fn unnoticed<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        let load = self.load(&[(Kind::Read, 3), (Kind::Write, 3), (Kind::Download, 1)]);
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        let result = act();
        let took = began.elapsed();
        std::thread::sleep(Duration::from_millis(500));
        for (number, load) in load.into_iter().enumerate() {
            let tally = load.end();
            eprintln!("{what} ({took:?}), balancer {number}: {}", tally.line());
            assert!(
                tally.total() > 20,
                "too few visitors came: {}",
                tally.line()
            );
            assert!(tally.failed.is_empty(), "{what}: {:#?}", tally.failures());
        }
        result
    }
}

impl Edge {
    /// Drain, rolling push, rollback and a change of configuration under load.
    #[track_caller]
    pub(super) fn rolls_unnoticed(&self, what: &str) {
        let name = self.member(0);
        self.unnoticed(&format!("{what}: drain and ready"), || {
            self.fanout(&["drain", "server", name]).success();
            self.fanout(&["ready", "server", name]).success();
        });
        write_release(&self.world, 2);
        self.unnoticed(&format!("{what}: rolling push, in-place"), || {
            let pushed = self.world.push("shop", &["--rolling", "1"]).success();
            pushed.all("committed");
        });
        let rollback = ["rollback", "platform", "shop", "--rolling", "1", "--yes"];
        self.unnoticed(&format!("{what}: rolling rollback"), || {
            self.fanout(&rollback).success();
        });
        self.unnoticed(&format!("{what}: configuration change"), || {
            let section = format!("sites.\"{SITE}\"");
            self.world.configure(&section, &["hsts = \"1h\""]);
            self.fanout(&["apply", "--yes"]).success();
        });
    }
}

pub(super) fn write_release(world: &World, release: usize) {
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
    task::put(&source.join("upload.php"), UPLOAD);
    for part in 0..parts {
        let text = format!("<?php\nreturn {release};\n");
        task::put(&source.join(format!("lib/part-{part}.php")), text);
    }
}

/// Takes forms with a file, and says who took it. The style sheet is made here as applications make
/// theirs.
const UPLOAD: &str = "<?php
$dir = __DIR__ . '/uploads';
$name = basename($_FILES['file']['name']);
move_uploaded_file($_FILES['file']['tmp_name'], \"$dir/$name\") || exit(http_response_code(500));
@mkdir(\"$dir/css\");
file_put_contents(\"$dir/css/$name.css\", \"/* made for $name */\\n\");
echo gethostname(), \"\\n\";
";

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
