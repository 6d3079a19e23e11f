//! The network of the cluster documentation: a hub, web servers, a database server and a balancer,
//! each a host of its own with the real programs of Debian.

use crate::readme::{self, commands_of};
use crate::support::host::Host;
use crate::support::netns::Lab;
use crate::support::run::{self, Output, Running, wait_until};
use std::time::Duration;

/// Where configuration sets lie on a server.
pub(crate) const SERVICES: &str = "/var/lib/fanout-services";
/// How long a command may take while services are installed, tested and reloaded.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// One server: its host, and the agent that runs there.
pub(crate) struct Server {
    pub(crate) host: Host,
    agent: Option<Running>,
}

/// Everything, ended when it is dropped.
pub(crate) struct Farm {
    pub(crate) lab: Lab,
    pub(crate) hub: Host,
    pub(crate) web: Vec<Server>,
    pub(crate) db: Server,
    pub(crate) lb: Server,
}

impl Server {
    /// A host with an agent that offers these services, not yet known to a hub.
    #[track_caller]
    pub(crate) fn start(lab: &Lab, name: &str, offers: &str) -> Self {
        let host = lab.host(name).with_fanout().start();
        host.run(&["mkdir", "-p", "/srv"]).success();
        let words = ["fanout", "agent", "init", "--name", name, "--allow", "/srv"];
        host.run(&[&words[..], &["--offer", offers]].concat())
            .success();
        let mut server = Self { host, agent: None };
        server.start_agent();
        server
    }

    #[track_caller]
    pub(crate) fn start_agent(&mut self) {
        let mut agent = self.host.spawn(&["fanout", "agent", "run"]);
        agent.wait_for("ready", Duration::from_secs(20));
        self.agent = Some(agent);
    }

    /// Ends the agent; what it has brought goes on serving.
    pub(crate) fn stop_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill();
        }
        self.agent = None;
    }

    /// As a server that loses its power: nothing on it runs any more, and it answers nothing.
    pub(crate) fn cut(&self) {
        self.host.cut();
    }

    pub(crate) fn mend(&self) {
        self.host.mend();
    }

    /// nginx and PHP-FPM, after `fanout setup server`.
    #[track_caller]
    pub(crate) fn start_nginx(&self) {
        self.host
            .sh("rm -f /etc/nginx/sites-enabled/default")
            .success();
        self.start_php();
        self.host.run(&["nginx"]).success();
    }

    /// apache and PHP-FPM, after `fanout setup server`.
    #[track_caller]
    pub(crate) fn start_apache(&self) {
        self.start_php();
        self.host
            .sh("a2dissite -q 000-default >/dev/null
                 mkdir -p /run/apache2 /run/lock /var/lock/apache2 && apache2ctl start 2>/dev/null")
            .success();
    }

    fn start_php(&self) {
        self.host
            .sh("mkdir -p /run/php && php-fpm8.2 --daemonize")
            .success();
    }

    /// HAProxy as systemd would start Debian's service, after `fanout setup server`.
    #[track_caller]
    pub(crate) fn start_haproxy(&self) {
        self.host
            .sh("mkdir -p /run/haproxy
                 unit=/etc/systemd/system/haproxy.service.d/fanout.conf
                 options=$(sed -n 's/^Environment=\"EXTRAOPTS=\\(.*\\)\"$/\\1/p' $unit)
                 haproxy -W -D -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid $options")
            .success();
    }

    /// MariaDB with an empty data directory, on all addresses.
    #[track_caller]
    pub(crate) fn start_mariadb(&self) {
        self.host
            .sh(
                "rm -rf /var/lib/mysql && mkdir -p /run/mysqld && chown mysql: /run/mysqld
                 mariadb-install-db --user=mysql --auth-root-authentication-method=socket \
                     --skip-test-db >/dev/null
                 printf '[mysqld]\\nbind-address=0.0.0.0\\nskip-name-resolve\\nskip-log-bin\\n\
                     innodb-buffer-pool-size=64M\\n' >/etc/mysql/mariadb.conf.d/99-test.cnf
                 setsid mariadbd --user=mysql >/var/log/mariadb.log 2>&1 </dev/null &",
            )
            .success();
        let ready = || self.host.sh("mariadb-admin ping").code == Some(0);
        assert!(wait_until(Duration::from_secs(60), ready), "MariaDB starts");
    }
}

impl Farm {
    /// A hub, so many web servers, a database server and a balancer; the hub knows none of them.
    #[track_caller]
    pub(crate) fn start(web_servers: usize) -> Self {
        let lab = Lab::new();
        let hub = lab.host("hub").with_fanout().start();
        let web = (1..=web_servers)
            .map(|number| Server::start(&lab, &format!("web{number}"), "web,app,setup"))
            .collect();
        let db = Server::start(&lab, "db1", "db,setup");
        let lb = Server::start(&lab, "lb1", "balancer,setup");
        Self {
            lab,
            hub,
            web,
            db,
            lb,
        }
    }

    /// Runs a command line of the README on the hub.
    #[track_caller]
    pub(crate) fn fanout(&self, line: &str) -> Output {
        self.fanout_with(line, b"")
    }

    /// The same with something on standard input.
    #[track_caller]
    pub(crate) fn fanout_with(&self, line: &str, input: &[u8]) -> Output {
        let words = shlex::split(line).expect("a command line");
        let mut command = self.hub.command("fanout");
        command.args(&words);
        let output = run::run_within(&mut command, input, LONG);
        // Shown where the test fails.
        eprintln!("{}", output.describe());
        output
    }

    /// Puts a server's token into a file on the hub, as a person would carry it there.
    #[track_caller]
    pub(crate) fn carry_token(&self, server: &Server) {
        let token = server.host.run(&["fanout", "agent", "invite"]).success();
        let file = format!("/root/{}.token", server.host.name());
        self.hub.write(file, token.text());
    }

    /// Runs a block of the README on the hub, line by line, as a person would type it.
    #[track_caller]
    pub(crate) fn type_in(&self, block: &str) {
        for line in commands_of(&readme::block(block)) {
            let mut shell = self.hub.command("sh");
            let output = run::run_within(shell.args(["-euc", &line]), b"", LONG);
            // Shown where the test fails.
            eprintln!("{}", output.describe());
            output.success();
        }
    }

    /// Makes a server known to the hub by a token.
    #[track_caller]
    pub(crate) fn join(&self, server: &Server, options: &str) {
        let name = server.host.name();
        let token = server.host.run(&["fanout", "agent", "invite"]).success();
        let address = server.host.address();
        let line = format!("add server {name} --address {address}:4600 --token-file - {options}");
        self.fanout_with(&line, token.text().as_bytes()).success();
    }

    /// What a visitor gets through the balancer: the status, and the body.
    #[track_caller]
    pub(crate) fn visit(&self, site: &str, path: &str) -> (u16, String) {
        self.ask(&self.lb, site, path)
    }

    /// What one server answers for a site, without the balancer.
    #[track_caller]
    pub(crate) fn ask(&self, server: &Server, site: &str, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", server.host.address());
        let host = format!("Host: {site}");
        let words = [
            "curl",
            "-s",
            "-m",
            "20",
            "-w",
            "\n%{http_code}",
            "-H",
            &host,
            &url,
        ];
        let text = self.hub.run(&words).text();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.trim().parse().unwrap_or(0), body.to_owned())
    }

    /// Visitors on the balancer for so many seconds, at most a few hundred requests a second.
    pub(crate) fn load(&self, site: &str, seconds: u32) -> Running {
        let url = format!("http://{}/", self.lb.host.address());
        let duration = format!("{seconds}s");
        self.hub.spawn(&[
            "hey", "-z", &duration, "-c", "4", "-q", "10", "-host", site, &url,
        ])
    }
}

/// Answers by status in what `hey` printed, and the requests that got no answer.
pub(crate) fn answers(output: &Output) -> (Vec<(u16, u64)>, u64) {
    let text = output.text();
    let status = |line: &str| {
        let (status, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
        let count = rest.trim().strip_suffix("responses")?.trim();
        Some((status.parse().ok()?, count.parse().ok()?))
    };
    let error = |line: &str| -> Option<u64> {
        let (count, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
        if rest.trim().ends_with("responses") {
            return None;
        }
        count.parse().ok()
    };
    let answered = text.lines().filter_map(status).collect();
    (answered, text.lines().filter_map(error).sum())
}
