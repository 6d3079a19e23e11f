//! One web server of its own: a host with nginx or apache, PHP-FPM and an agent, asked as a hub
//! asks it, and looked at as a visitor.

use crate::support::host::Host;
use crate::support::netns::Lab;
use crate::support::run::{Output, Running, wait_until};
use fanout::config::{Inventory, Site, Web};
use fanout::engine::hub::session::{Session, SessionError};
use fanout::model::{IpNet, SiteTls, WebKind};
use fanout::net::certificate::self_signed;
use fanout::net::limits::Options;
use fanout::net::{Identity, NodeKey, connect_to};
use fanout::services::web::{
    AppRules, Certificate, Custom, Inputs, Mode, SiteInputs, Templates, render,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use sync_proto::wire::service::{
    Activated, ConfigAnswer, ConfigArea, ConfigFile, ConfigRequest, ConfigSetId, ConfigState,
    Content, ServiceFacts, Tested,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// Long enough for every verb on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
const READY: &str = "ready";
/// Where sets lie.
pub(super) const SERVICES: &str = "/var/lib/fanout-services";

/// A web server with its agent.
pub(super) struct Head {
    agent: Option<Running>,
    identity: Identity,
    key: NodeKey,
    pub(super) host: Host,
    _lab: Lab,
    next_set: u8,
}

/// A site of a test.
#[derive(Clone)]
pub(super) struct TestSite {
    pub(super) site: Site,
    pub(super) app: AppRules,
    pub(super) mode: Mode,
    pub(super) custom: Custom,
    pub(super) passwords: Option<Vec<u8>>,
}

impl TestSite {
    pub(super) fn new(uri: &str) -> Self {
        let site = Site {
            uri: uri.parse().unwrap(),
            platform: "shop".parse().unwrap(),
            ..blank()
        };
        Self {
            site,
            app: AppRules::php().unwrap(),
            mode: Mode::Enabled,
            custom: Custom::default(),
            passwords: None,
        }
    }

    pub(super) fn tls(mut self, tls: SiteTls) -> Self {
        self.site.tls = tls;
        self
    }

    pub(super) fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn aliases(mut self, names: &[&str], redirect: bool) -> Self {
        self.site.aliases = names.iter().map(|it| it.parse().unwrap()).collect();
        self.site.redirect_aliases = redirect;
        self
    }

    /// The same lines for nginx and apache, at the end of the vhost.
    pub(super) fn custom(mut self, lines: &str) -> Self {
        let files = BTreeMap::from([("post.conf".to_owned(), lines.to_owned())]);
        self.custom = Custom::from_files(files).unwrap();
        self
    }
}

/// The smallest inventory with a site, for its defaults.
const INVENTORY: &str = r#"
[hub]
name = "test"
[servers.web1]
address = "web1"
web = { kind = "nginx" }
[platforms.shop]
path = "/srv/src/shop"
root = "/srv/platforms/shop"
docroot = "web"
on = "web1"
app = "php"
[sites."a.example"]
platform = "shop"
"#;

fn inventory() -> Inventory {
    Inventory::parse(INVENTORY, "fanout.toml").unwrap()
}

fn blank() -> Site {
    inventory().sites.into_values().next().unwrap()
}

impl Head {
    /// A host with an agent that offers its web server; nothing else runs yet.
    pub(super) fn start() -> Self {
        let lab = Lab::new();
        let host = lab.host("web1").with_fanout().start();
        host.sh("mkdir -p /run/php /srv/platforms /srv/gen /var/lock/apache2")
            .success();
        let init = host.run(&[
            "fanout",
            "--json",
            "agent",
            "init",
            "--name",
            "web1",
            "--listen",
            "0.0.0.0:4600",
            "--allow",
            "/srv",
            "--offer",
            "web,setup",
        ]);
        let key = init.success().json_result()["key"]
            .as_str()
            .unwrap()
            .to_owned();
        let key: NodeKey = key.parse().unwrap();
        let identity = Identity::generate().unwrap();
        host.write(
            format!("/var/lib/fanout/agent/peers/{}.hub", identity.key()),
            "",
        );
        let mut head = Self {
            agent: None,
            identity,
            key,
            host,
            _lab: lab,
            next_set: 0,
        };
        head.start_agent();
        head
    }

    pub(super) fn start_agent(&mut self) {
        let mut agent = self.host.spawn(&["fanout", "agent", "run"]);
        agent.wait_for(READY, Duration::from_secs(30));
        self.agent = Some(agent);
    }

    /// Kills the agent as a crash would.
    pub(super) fn kill_agent(&mut self) {
        self.agent.as_mut().unwrap().kill();
    }

    /// nginx and PHP-FPM, with the lines that include fanout's files, running.
    pub(super) fn with_nginx(self) -> Self {
        self.host.write(
            "/etc/nginx/conf.d/fanout.conf",
            format!("include {SERVICES}/current/nginx/*.conf;\n"),
        );
        self.start_fpm();
        self.host.sh("nginx").success();
        self
    }

    /// apache and PHP-FPM, the same way.
    pub(super) fn with_apache(self) -> Self {
        self.host.sh(
            "a2enmod -q rewrite proxy proxy_fcgi headers expires remoteip setenvif alias dir ssl \
             http2 >/dev/null",
        )
        .success();
        self.host.write(
            "/etc/apache2/sites-enabled/zz-fanout.conf",
            format!("IncludeOptional {SERVICES}/current/apache/*.conf\n"),
        );
        self.start_fpm();
        self.host.sh("apache2ctl start 2>/dev/null").success();
        self
    }

    fn start_fpm(&self) {
        self.host.write(
            "/etc/php/8.2/fpm/pool.d/fanout.conf",
            format!(
                "[global]\nprocess_control_timeout = 10s\n\
                 include={SERVICES}/current/php-fpm/8.2-*.conf\n"
            ),
        );
        self.host.sh("php-fpm8.2 --daemonize").success();
    }

    /// A generation of the platform with a page that says its name, made but not switched to.
    pub(super) fn generation(&self, name: &str) {
        let page = format!(
            "<?php echo '{name} ', $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['REMOTE_ADDR'], ' ', \
             $_SERVER['HTTPS'] ?? 'plain', ' ', get_current_user() === '' ? '' : \
             posix_getpwuid(posix_geteuid())['name'];\n"
        );
        self.host
            .write(format!("/srv/gen/{name}/web/index.php"), page);
        self.host.write(
            format!("/srv/gen/{name}/web/static.css"),
            format!("/* {name} */\n"),
        );
    }

    /// What a commit does: the root leads to another generation at once.
    pub(super) fn switch_to(&self, name: &str) {
        self.host
            .sh(&format!(
                "ln -sfn /srv/gen/{name} /srv/platforms/.next && mv -T /srv/platforms/.next \
                 /srv/platforms/shop"
            ))
            .success();
    }

    /// Asks the agent as the hub does.
    pub(super) fn ask(&self, request: ServiceRequest) -> Result<ServiceAnswer, SessionError> {
        let address = SocketAddr::new(self.host.address(), 4600);
        self.ask_as(&self.identity, address, request)
    }

    fn ask_as(
        &self,
        identity: &Identity,
        address: SocketAddr,
        request: ServiceRequest,
    ) -> Result<ServiceAnswer, SessionError> {
        let key = self.key;
        self.host.in_network(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let options = Options::default();
                let connection = connect_to(&[address], identity, key, &options).await?;
                let session = Session::begin(connection, "test").await?;
                let answer = session.service(request, LIMIT).await;
                session.connection().close(0, "done");
                // The word about it needs a moment to leave.
                tokio::time::sleep(Duration::from_millis(5)).await;
                answer
            })
        })
    }

    /// The same from another hub that the agent accepts.
    pub(super) fn ask_from_elsewhere(&self, request: ConfigRequest) -> String {
        let identity = Identity::generate().unwrap();
        self.host.write(
            format!("/var/lib/fanout/agent/peers/{}.hub", identity.key()),
            "",
        );
        let address = SocketAddr::new(self.host.address(), 4600);
        let mut said = String::new();
        wait_until(Duration::from_secs(10), || {
            match self.ask_as(&identity, address, ServiceRequest::Config(request.clone())) {
                Err(SessionError::Refused(refusal)) => {
                    said = format!("{refusal:?}");
                    true
                }
                Ok(_) => true,
                // The agent looks for new keys now and then.
                Err(_) => false,
            }
        });
        said
    }

    pub(super) fn config(&self, request: ConfigRequest) -> ConfigAnswer {
        match self.ask(ServiceRequest::Config(request)) {
            Ok(ServiceAnswer::Config(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The refusal of a request.
    pub(super) fn refused(&self, request: ConfigRequest) -> String {
        match self.ask(ServiceRequest::Config(request)) {
            Err(SessionError::Refused(refusal)) => format!("{refusal:?}"),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) fn facts(&self) -> ServiceFacts {
        match self.ask(ServiceRequest::Facts) {
            Ok(ServiceAnswer::Facts(facts)) => *facts,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self) -> ConfigState {
        match self.config(ConfigRequest::State) {
            ConfigAnswer::State(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// The files of these sites for this server.
    pub(super) fn rendered(&self, kind: WebKind, sites: &[TestSite]) -> Vec<ConfigFile> {
        self.rendered_with(kind, sites, |_| {})
    }

    pub(super) fn rendered_with(
        &self,
        kind: WebKind,
        sites: &[TestSite],
        change: impl FnOnce(&mut Web),
    ) -> Vec<ConfigFile> {
        let mut inventory = inventory();
        let server = inventory.servers.values_mut().next().unwrap();
        let mut web = Web::new(kind);
        change(&mut web);
        server.web = Some(web);
        let platform = inventory.platforms.values().next().unwrap();
        let facts = self.facts();
        let templates = Templates::built_in().unwrap();
        let sites = sites.iter().map(|it| {
            let (chain_pem, key_pem) = self_signed(&[it.site.uri.host()]).unwrap();
            SiteInputs {
                site: &it.site,
                platform,
                mode: it.mode,
                certificate: Some(Certificate {
                    chain_pem,
                    key_pem,
                    is_self_signed: true,
                }),
                passwords: it.passwords.clone(),
                settings: Vec::new(),
                app: it.app.clone(),
                custom: it.custom.clone(),
            }
        });
        // The test asks from the host itself, as a balancer of that address would.
        let proxy: IpNet = "127.0.0.9/32".parse().unwrap();
        let inputs = Inputs {
            server: inventory.servers.values().next().unwrap(),
            facts: &facts,
            sites: sites.collect(),
            trusted_proxies: vec![proxy],
            is_passed_through: false,
            templates: &templates,
        };
        render(&inputs).unwrap()
    }

    /// Puts a new set together, and has it tested.
    pub(super) fn put(&mut self, files: Vec<ConfigFile>) -> (ConfigSetId, Tested) {
        self.next_set += 1;
        let set = [self.next_set; 16];
        self.config(ConfigRequest::Put { set, files });
        let ConfigAnswer::Tested(tested) = self.config(ConfigRequest::Test { set }) else {
            panic!("a test answers with what it found");
        };
        (set, tested)
    }

    pub(super) fn activate(&self, set: ConfigSetId, confirm_within_s: u32) -> Activated {
        let request = ConfigRequest::Activate {
            set,
            confirm_within_s,
        };
        match self.config(request) {
            ConfigAnswer::Activated(activated) => activated,
            other => panic!("{other:?}"),
        }
    }

    /// Puts, tests, activates and confirms.
    pub(super) fn apply(&mut self, files: Vec<ConfigFile>) -> ConfigSetId {
        let (set, tested) = self.put(files);
        assert!(tested.faults.is_empty(), "{tested:#?}");
        self.activate(set, 60);
        self.config(ConfigRequest::Confirm { set });
        set
    }

    /// What `curl` says: the body, then the status and the redirection.
    pub(super) fn curl(&self, arguments: &str) -> String {
        let shown = "%{http_code} %{redirect_url}";
        let output: Output = self.host.sh(&format!(
            "curl -sk --max-time 20 -w '\\n{shown}' {arguments} || echo \" curl $?\""
        ));
        output.text()
    }

    /// A page of a host name over plain HTTP.
    pub(super) fn page(&self, host: &str, path: &str) -> String {
        self.curl(&format!("-H 'Host: {host}' 'http://127.0.0.1{path}'"))
    }

    /// A hub on the same host, with the platform `shop` on it.
    pub(super) fn join_a_hub(&self) {
        self.host
            .sh(
                "fanout init >/dev/null && fanout agent invite | fanout add server web1 --address \
                 127.0.0.1:4600 --token-file - && fanout add platform shop --path /srv/src/shop \
                 --root /srv/platforms/shop --on web1",
            )
            .success();
    }

    /// Asks the agent now and then until it is so; false if it never is.
    pub(super) fn waits_for(&self, is_so: impl Fn(&Self) -> bool) -> bool {
        wait_until(Duration::from_secs(30), || {
            std::thread::sleep(Duration::from_millis(200));
            is_so(self)
        })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.host.path(path).exists()
    }
}

/// The text of a rendered file.
pub(super) fn text_of(files: &[ConfigFile], area: ConfigArea, name: &str) -> String {
    let file = files.iter().find(|it| it.area == area && it.name == name);
    let file = file.unwrap_or_else(|| panic!("no {name} among the files"));
    match &file.content {
        Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Content::Same(_) => panic!("rendered files are bytes"),
    }
}
