//! One member with an application, its database on the same host, and the hub's side of the wire.

use crate::support::debian::copy_tree;
use crate::support::env::World;
use crate::support::host::Host;
use crate::support::run::{Running, USUAL_TIME, run_within, wait_until};
use fanout::codes::Problem;
use fanout::config::HubDir;
use fanout::engine::event::EventSink;
use fanout::engine::hub::dial::{Route, dial};
use fanout::engine::hub::task::Target;
use fanout::model::{ServerName, Transport};
use fanout::net::Identity;
use fanout::orchestrate::servers::Servers;
use fanout::services::app::{AppSite, SiteDatabase, SiteKey, settings, settings_name};
use fanout::store::Store;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_proto::path::RelPath;
use sync_proto::wire::service::{
    AppAction, AppAnswer, AppDone, AppDriver, AppInstall, AppRequest, AppState, AppTarget,
    UploadAnswer, UploadRequest,
};
use sync_proto::wire::{ServiceAnswer, ServiceRequest, TreeKey};

/// The platform and the site of these tests.
pub(super) const PLATFORM: &str = "app";
pub(super) const SITE: &str = "www.example.com";
/// The system user of the site; every Debian has it.
const USER: &str = "www-data";
const SOCKET: &str = "/run/mysqld/mysqld.sock";
const DATA: &str = "/var/lib/test-mariadb";
const LONG: Duration = Duration::from_secs(300);

/// Members with agents that offer applications.
pub(super) struct Ground {
    pub(super) world: World,
    database: Option<Running>,
    pub(super) driver: AppDriver,
}

impl Ground {
    /// So many members, on hosts of their own.
    #[track_caller]
    pub(super) fn start(agents: usize, driver: AppDriver) -> Self {
        let mut world = World::with(agents).on_hosts().start();
        for index in 0..agents {
            let config = world.agent_dir(index).join("agent.toml");
            let text = std::fs::read_to_string(&config).unwrap();
            // Every question here is a session of its own.
            let text = text.replace("sessions = 32", "sessions = 500");
            std::fs::write(&config, format!("offers = [\"app\", \"web\"]\n{text}")).unwrap();
            world.restart_agent(index);
            // The site's user reaches its documents.
            for ancestor in world.agent_prefix(index).ancestors().take(3) {
                open_to_all(ancestor);
            }
            open_to_all(&world.agent_dir(index));
        }
        Self {
            world,
            database: None,
            driver,
        }
    }

    /// The tree as the platform's source, pushed.
    #[track_caller]
    pub(super) fn push(&self, tree: &Path, preserve: &[&str]) {
        let source = self.world.source(PLATFORM);
        std::fs::remove_dir(&source).unwrap();
        copy_tree(tree, &source);
        let mut options = vec!["--layout", "switched"];
        for rule in preserve {
            options.extend(["--preserve", rule]);
        }
        options.extend([
            "--exclude",
            "/wp-config.php",
            "--exclude",
            "/LocalSettings.php",
        ]);
        self.world.add_platform(PLATFORM, &options);
        self.world.push(PLATFORM, &[]).success();
    }

    pub(super) fn host(&self) -> &Host {
        self.world.agent_host(0)
    }

    /// Starts the first member's agent again.
    #[track_caller]
    pub(super) fn restart_agent(&mut self) {
        self.world.restart_agent(0);
        // It keeps its own directory to itself; where it isn't given one, settings lie elsewhere.
        open_to_all(&self.world.agent_dir(0));
    }

    /// A web server for the first member: the one that PHP brings.
    #[track_caller]
    pub(super) fn start_web(&self) -> Running {
        let settings = self.world.agent_dir(0).join("services/current/settings");
        let settings = settings.join(settings_name(&SITE.parse().unwrap()));
        let settings = format!("FANOUT_SETTINGS={}", settings.display());
        let root = self.live(0).display().to_string();
        let words = ["env", &settings, "php", "-S", "127.0.0.1:80", "-t", &root];
        let running = self.host().spawn(&words);
        let asked = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-H",
            "Host: www.example.com",
            "http://127.0.0.1/",
        ];
        let answers = || self.host().run(&asked).code == Some(0);
        assert!(wait_until(USUAL_TIME, answers));
        running
    }

    /// The live tree of a member.
    pub(super) fn live(&self, index: usize) -> PathBuf {
        self.world.live(index, PLATFORM)
    }

    /// A MariaDB on the first member's host with an empty database and the site's account, and the
    /// settings file that leads there.
    #[track_caller]
    pub(super) fn start_database(&mut self) {
        let host = self.world.agent_host(0);
        host.sh(&format!(
            "mkdir -p /run/mysqld {DATA} && chown mysql:mysql /run/mysqld {DATA} &&
             mariadb-install-db --no-defaults --user=mysql --datadir={DATA} --skip-test-db \
                 --auth-root-authentication-method=socket >/dev/null"
        ))
        .success();
        let mut running = host.spawn(&[
            "mariadbd",
            "--no-defaults",
            "--user=mysql",
            &format!("--datadir={DATA}"),
            &format!("--socket={SOCKET}"),
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        let answers = || host.run(&["mariadb", "-S", SOCKET, "-e", "SELECT 1"]).code == Some(0);
        assert!(
            wait_until(USUAL_TIME, answers),
            "{}",
            running.output().describe()
        );
        self.database = Some(running);
        self.sql(
            "CREATE DATABASE site CHARACTER SET utf8mb4;
             CREATE USER site@'127.0.0.1' IDENTIFIED BY 'it''s \"secret\"';
             CREATE USER site@localhost IDENTIFIED BY 'it''s \"secret\"';
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, LOCK TABLES,
                 CREATE TEMPORARY TABLES, REFERENCES ON site.* TO site@'127.0.0.1', site@localhost;",
        );
        self.write_settings("one");
    }

    /// The settings file as the configuration set would bring it. True if it was different before.
    pub(super) fn write_settings(&self, secret: &str) -> bool {
        let site = self.site();
        let database = SiteDatabase {
            host: "127.0.0.1".into(),
            port: 3306,
            name: "site".into(),
            user: "site".into(),
            password: "it's \"secret\"".into(),
        };
        let text = settings(&site, Some(&database), &SiteKey::of_secret(secret)).unwrap();
        let dir = self.world.agent_dir(0).join("services/current/settings");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join(settings_name(&site.uri));
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, &text).unwrap();
        before != text
    }

    fn site(&self) -> AppSite {
        AppSite {
            driver: self.driver,
            uri: SITE.parse().unwrap(),
            aliases: Vec::new(),
            dir: None,
            docroot: RelPath::root(),
            is_tls: false,
            is_also_plain: false,
            title: Some("Fanout's test".into()),
        }
    }

    /// Statements as root; rows are lines, columns are apart by tabs.
    #[track_caller]
    pub(super) fn sql(&self, sql: &str) -> String {
        let mut command = self.host().command("mariadb");
        command.args([
            "--no-defaults",
            "--batch",
            "--skip-column-names",
            "-S",
            SOCKET,
        ]);
        run_within(&mut command, sql.as_bytes(), USUAL_TIME)
            .success()
            .text()
    }

    /// How many tables the site has.
    #[track_caller]
    pub(super) fn tables(&self) -> usize {
        self.sql("SHOW TABLES FROM site").lines().count()
    }

    /// The hub's side, for another thread.
    pub(super) fn wire(&self) -> Wire<'_> {
        let member = |index| {
            let name = self.world.agent_name(index).to_owned();
            (name, self.world.agent_address(index))
        };
        Wire {
            hub: self.world.hub_host(),
            hub_dir: self.world.hub_dir(),
            members: (0..self.world.agent_count()).map(member).collect(),
            driver: self.driver,
        }
    }

    /// Asks a member about the site's application.
    pub(super) fn act(&self, action: AppAction) -> Result<AppAnswer, Problem> {
        self.wire().act(action)
    }

    #[track_caller]
    pub(super) fn done(&self, action: AppAction) -> AppDone {
        match self.act(action) {
            Ok(AppAnswer::Done(done)) => done,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn look(&self) -> AppState {
        match self.act(AppAction::Look) {
            Ok(AppAnswer::State(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// Asks a member about uploads.
    pub(super) fn uploads(
        &self,
        index: usize,
        request: impl FnOnce(TreeKey) -> UploadRequest + Send,
    ) -> Result<UploadAnswer, Problem> {
        match self
            .wire()
            .ask(index, |tree| ServiceRequest::Uploads(request(tree)))?
        {
            ServiceAnswer::Uploads(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }
}

/// The hub's side of the wire.
pub(super) struct Wire<'a> {
    hub: &'a Host,
    hub_dir: PathBuf,
    members: Vec<(String, SocketAddr)>,
    driver: AppDriver,
}

impl Wire<'_> {
    fn target(&self, tree: TreeKey) -> AppTarget {
        AppTarget {
            driver: self.driver,
            tree,
            docroot: Vec::new(),
            site: SITE.into(),
            dir: String::new(),
            is_tls: false,
            user: USER.into(),
            php: String::new(),
            settings: settings_name(&SITE.parse().unwrap()),
        }
    }

    /// Asks a member about the site's application.
    pub(super) fn act(&self, action: AppAction) -> Result<AppAnswer, Problem> {
        let request = |tree| {
            ServiceRequest::App(Box::new(AppRequest {
                target: self.target(tree),
                action,
                limit_s: 240,
            }))
        };
        match self.ask(0, request)? {
            ServiceAnswer::App(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    fn ask(
        &self,
        index: usize,
        request: impl FnOnce(TreeKey) -> ServiceRequest + Send,
    ) -> Result<ServiceAnswer, Problem> {
        let name: ServerName = self.members[index].0.parse().unwrap();
        self.with(async |servers, _store, tree| servers.ask(&name, request(tree), LONG).await)
    }

    /// Works as the hub, in the hub's own network.
    pub(super) fn with<T: Send>(
        &self,
        act: impl AsyncFnOnce(Servers, Store, TreeKey) -> T + Send,
    ) -> T {
        self.hub.in_network(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let answer = runtime.block_on(async {
                let (servers, store, tree) = self.servers().await;
                act(servers, store, tree).await
            });
            runtime.shutdown_background();
            answer
        })
    }

    /// The ways to the members, the hub's store, and the platform's tree.
    async fn servers(&self) -> (Servers, Store, TreeKey) {
        let dir = HubDir::new(Some(&self.hub_dir));
        let store = Store::open(&dir.database()).await.unwrap();
        let identity = Identity::load_or_create(&dir.identity()).unwrap();
        let mut targets = Vec::new();
        for (name, address) in &self.members {
            let name: ServerName = name.parse().unwrap();
            let known = store.server(&name).await.unwrap().unwrap();
            let route = Route {
                name: name.as_str().into(),
                address: address.to_string().parse().unwrap(),
                key: known.node_key.parse().unwrap(),
                transport: Transport::Quic,
                ssh: None,
            };
            let dial = dial(route, identity.clone(), EventSink::none());
            let target = Target {
                name: name.as_str().into(),
                dial,
            };
            targets.push((name, target));
        }
        let platform = store.platform(&PLATFORM.parse().unwrap()).await.unwrap();
        let tree = platform.map_or([0; 16], |state| *state.tree.as_bytes());
        (Servers::new("test", targets), store, tree)
    }
}

/// What every installation here is told.
pub(super) fn install() -> AppAction {
    AppAction::Install(AppInstall {
        title: "Fanout's test".into(),
        admin: "editor".into(),
        mail: "editor@example.com".into(),
        password: "Correct'horse \"battery\" 7".into(),
        profile: String::new(),
    })
}

/// What every preparation here is told.
pub(super) fn prepare() -> AppAction {
    AppAction::Prepare {
        hosts: Vec::new(),
        share: Vec::new(),
    }
}

fn open_to_all(path: &Path) {
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o011)).unwrap();
}
