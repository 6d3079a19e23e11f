//! A site's database on a real MariaDB, as its members see it from hosts of their own.

use crate::support::env::World;
use crate::support::host::Host;
use crate::support::mariadb::{MariaDb, as_root, sql_over};
use crate::support::root_or_skip;
use crate::support::run::{self, USUAL_TIME, wait_until};
use fanout::clock::Clock;
use fanout::codes::{Code, Problem};
use fanout::config::{Db, HubDir, Server};
use fanout::engine::event::EventSink;
use fanout::engine::hub::dial::{Route, dial};
use fanout::engine::hub::task::Target;
use fanout::model::{DbKind, DbVia, IpNet, ServerName, Transport};
use fanout::net::Identity;
use fanout::orchestrate::databases::DatabaseServer;
use fanout::orchestrate::resources::database::{Database, DatabaseMember, Part};
use fanout::orchestrate::resources::former_database::FormerDatabase;
use fanout::orchestrate::servers::Servers;
use fanout::orchestrate::{Difference, Resource};
use fanout::services::database::sql::Administrator;
use fanout::services::database::{Account, Dialect, Names};
use fanout::store::Store;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const SITE: &str = "www.example.com";
const PASSWORD: &str = "correct-horse-battery";
const ADMIN_PASSWORD: &str = "staple-of-the-admin";

/// Three members, and a fourth host with the database and an agent beside it.
struct Ground {
    world: World,
    database: MariaDb,
    db: Db,
    /// Addresses that the inventory declares, by agent.
    declared: Vec<(usize, IpAddr)>,
}

const DATABASE: usize = 3;

impl Ground {
    /// `via` decides how the hub works on the database.
    fn start(via: DbVia, options: &[&str]) -> Self {
        let mut world = World::with(4).on_hosts().start();
        for index in 0..4 {
            let config = world.agent_dir(index).join("agent.toml");
            let text = std::fs::read_to_string(&config).unwrap();
            let offers = if index == DATABASE { "db" } else { "web" };
            std::fs::write(&config, format!("offers = [\"{offers}\"]\n{text}")).unwrap();
            world.restart_agent(index);
        }
        let host = world.agent_host(DATABASE);
        let database = MariaDb::start(host, options);
        if via == DbVia::Tcp {
            let hub = world.hub_host().address();
            as_root(host, &narrow_account(&hub.to_string()));
        }
        let db = Db {
            kind: DbKind::Mysql,
            port: 3306,
            via,
            admin_user: "fanout".into(),
            admin: None,
            networks: Vec::new(),
            host: Some(host.address().to_string()),
        };
        Self {
            world,
            database,
            db,
            declared: Vec::new(),
        }
    }

    fn host(&self) -> &Host {
        self.world.agent_host(DATABASE)
    }

    fn address(&self, index: usize) -> String {
        self.world.agent_host(index).address().to_string()
    }

    /// Does something with the site's resource, from the hub's own network.
    fn with<T: Send>(
        &self,
        members: &[usize],
        part: Part,
        prune: bool,
        act: impl AsyncFnOnce(&Database) -> T + Send,
    ) -> T {
        let members: Vec<DatabaseMember> = members
            .iter()
            .map(|index| DatabaseMember {
                name: self.world.agent_name(*index).parse().unwrap(),
                declared: self.declared_of(*index),
                is_gone: false,
            })
            .collect();
        self.on_hub(async |server| {
            let database = Database {
                server,
                site: SITE.parse().unwrap(),
                password: PASSWORD.parse().unwrap(),
                members,
                part,
                prune,
            };
            act(&database).await
        })
    }

    fn declared_of(&self, index: usize) -> Vec<IpAddr> {
        let of_it = self.declared.iter().filter(|(agent, _)| *agent == index);
        of_it.map(|(_, address)| *address).collect()
    }

    fn on_hub<T: Send>(&self, act: impl AsyncFnOnce(Arc<DatabaseServer>) -> T + Send) -> T {
        let hub = Hub {
            dir: self.world.hub_dir(),
            agents: (0..4)
                .map(|index| {
                    let name = self.world.agent_name(index).parse().unwrap();
                    (name, self.world.agent_address(index))
                })
                .collect(),
            db: self.db.clone(),
        };
        self.world.hub_host().in_network(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let work = async {
                let answer = act(Arc::new(hub.database_server().await)).await;
                // The agents shall hear that their sessions are over.
                tokio::time::sleep(Duration::from_millis(50)).await;
                answer
            };
            let answer = runtime.block_on(work);
            runtime.shutdown_background();
            answer
        })
    }

    fn look(&self, members: &[usize], part: Part) -> Result<Difference, Problem> {
        self.with(members, part, false, async |it| it.inspect().await)
    }

    /// The lines of a plan.
    fn lines(&self, members: &[usize], part: Part) -> Vec<String> {
        let found = self.look(members, part).unwrap();
        found.changes.iter().map(ToString::to_string).collect()
    }

    fn apply(&self, members: &[usize], part: Part) -> fanout::orchestrate::Applied {
        self.with(members, part, false, async |it| it.apply().await)
            .unwrap()
    }

    /// Hosts of the site's accounts, as the database has them.
    fn hosts(&self) -> Vec<String> {
        let sql = format!(
            "SELECT Host FROM mysql.user WHERE User = '{}' ORDER BY Host",
            names().user
        );
        as_root(self.host(), &sql)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// A statement from a member with the site's own account.
    fn as_site(&self, index: usize, sql: &str) -> run::Output {
        let at = self.address(DATABASE);
        let (user, password) = (names().user.to_string(), format!("-p{PASSWORD}"));
        let options = ["-h", &at, "-u", &user, &password];
        sql_over(self.world.agent_host(index), &options, sql)
    }
}

/// What the hub's own network needs to know of the world.
struct Hub {
    dir: PathBuf,
    agents: Vec<(ServerName, SocketAddr)>,
    db: Db,
}

impl Hub {
    async fn database_server(&self) -> DatabaseServer {
        let dir = HubDir::new(Some(&self.dir));
        let store = Store::open(&dir.database()).await.unwrap();
        let identity = Identity::load_or_create(&dir.identity()).unwrap();
        let mut targets = Vec::new();
        for (name, address) in &self.agents {
            let known = store.server(name).await.unwrap().unwrap();
            let route = Route {
                name: name.as_str().into(),
                address: address.to_string().parse().unwrap(),
                key: known.node_key.parse().unwrap(),
                transport: Transport::Quic,
                ssh: None,
            };
            let target = Target {
                name: name.as_str().into(),
                dial: dial(route, identity.clone(), EventSink::none()),
            };
            targets.push((name.clone(), target));
        }
        let (name, address) = self.agents[DATABASE].clone();
        let server = Server {
            name,
            address: address.ip().to_string().parse().unwrap(),
            addresses: Vec::new(),
            labels: Vec::new(),
            transport: Transport::Quic,
            ssh: None,
            web: None,
            db: Some(self.db.clone()),
        };
        let password = (self.db.via == DbVia::Tcp).then(|| ADMIN_PASSWORD.to_owned());
        let servers = Arc::new(Servers::new("test", targets));
        DatabaseServer::new(servers, Arc::new(store), Clock::system(), &server, password).unwrap()
    }
}

fn names() -> Names {
    Names::derive(&SITE.parse().unwrap()).unwrap()
}

/// The administration account by hand, as `fanout setup db` makes it.
fn narrow_account(hub: &str) -> String {
    Administrator {
        account: Account {
            user: "fanout".parse().unwrap(),
            host: hub.parse().unwrap(),
        },
        password: ADMIN_PASSWORD.parse().unwrap(),
        databases: Vec::new(),
        roles: Vec::new(),
    }
    .statements(Dialect::MariaDb(10, 11, 6))
    .join(";\n")
}

#[test]
fn netns_accounts_follow_the_members_where_the_database_knows_addresses_only() {
    accounts_follow_the_members(DbVia::Tcp, &["--skip-name-resolve"]);
}

#[test]
fn netns_accounts_follow_the_members_where_the_database_asks_for_names() {
    accounts_follow_the_members(DbVia::Agent, &[]);
}

fn accounts_follow_the_members(via: DbVia, options: &[&str]) {
    if !root_or_skip("a test host") {
        return;
    }
    let ground = Ground::start(via, options);
    let [web1, web2, web3] = [0, 1, 2].map(|index| ground.address(index));

    // A first apply makes everything, and every member has proved its login.
    let lines = ground.lines(&[0, 1], Part::Make);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let applied = ground.apply(&[0, 1], Part::Make);
    assert_eq!(applied.message, "logged in from web1, web2");
    assert_eq!(ground.hosts(), [web1.clone(), web2.clone()]);
    assert!(ground.lines(&[0, 1], Part::Make).is_empty());
    ground
        .as_site(0, &format!("CREATE TABLE {}.t (a INT)", names().database))
        .success();
    ground.as_site(2, "SELECT 1").exits(1);

    // A third member is one line, and leaving is one line, which ends its sessions.
    assert_eq!(
        ground.lines(&[0, 1, 2], Part::Make),
        [format!("+ '{}'@'{web3}' for web3", names().user)]
    );
    ground.apply(&[0, 1, 2], Part::Make);
    let at = ground.address(DATABASE);
    let (user, password) = (names().user.to_string(), format!("-p{PASSWORD}"));
    let mut live = [0, 2].map(|index| {
        let words = [
            "mariadb",
            "--no-defaults",
            "-h",
            &at,
            "-u",
            &user,
            &password,
            "-e",
        ];
        let words = [&words[..], &["SELECT SLEEP(30)"]].concat();
        ground.world.agent_host(index).spawn(&words)
    });
    let sleeping =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(30)'";
    let both_sleep = || as_root(ground.host(), sleeping).trim() == "2";
    assert!(wait_until(USUAL_TIME, both_sleep));
    let lines = ground.lines(&[0, 1], Part::Clean);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("- '{user}'@'{web3}'")),
        "{lines:?}"
    );
    assert!(ground.lines(&[0, 1], Part::Make).is_empty());
    let cleaned = ground.apply(&[0, 1], Part::Clean);
    assert_eq!(ground.hosts(), [web1.clone(), web2.clone()]);
    assert!(wait_until(USUAL_TIME, || !live[1].is_running()));
    let said = live[1].output().error_text();
    assert!(said.contains("2013") || said.contains("2026"), "{said}");
    assert!(
        live[0].is_running(),
        "the session of another member was ended, too"
    );
    live[0].kill();
    ground.as_site(2, "SELECT 1").exits(1);

    // Leaving can be taken back.
    let note = cleaned.undo.unwrap();
    assert!(!note.contains(PASSWORD), "a password on record");
    ground
        .with(&[0, 1], Part::Clean, false, async |it| it.undo(&note).await)
        .unwrap();
    assert!(ground.as_site(2, "SELECT 1").code == Some(0));
    ground.apply(&[0, 1], Part::Clean);
    assert_eq!(ground.hosts(), [web1, web2]);

    what_is_wrong_is_set_right(&ground);
    a_password_is_replaced_while_both_are_valid(&ground);
    what_fanout_did_not_make_stays(&ground);
    a_site_that_leaves_takes_its_accounts_along(&ground);
}

fn what_is_wrong_is_set_right(ground: &Ground) {
    let (user, web2) = (names().user, ground.address(1));
    let wrong = |sql: &str| {
        as_root(ground.host(), sql);
        let lines = ground.lines(&[0, 1], Part::Make);
        assert_eq!(lines.len(), 1, "{sql}: {lines:?}");
        ground.apply(&[0, 1], Part::Make);
        assert!(ground.lines(&[0, 1], Part::Make).is_empty(), "{sql}");
        ground
            .as_site(1, &format!("SELECT COUNT(*) FROM {}.t", names().database))
            .success();
        lines[0].clone()
    };
    let account = format!("'{user}'@'{web2}'");
    let line = wrong(&format!("ALTER USER {account} IDENTIFIED BY 'another-one'"));
    assert_eq!(line, format!("~ {account}: it has another password"));
    let line = wrong(&format!("ALTER USER {account} ACCOUNT LOCK"));
    assert_eq!(line, format!("~ {account}: it is locked"));
    let line = wrong(&format!("SET DEFAULT ROLE NONE FOR {account}"));
    assert!(line.contains("it lacks the role"), "{line}");
    let line = wrong(&format!("DROP USER {account}"));
    assert_eq!(line, format!("+ {account} for web2"));
    let pattern = names().database.pattern();
    let line = wrong(&format!(
        "REVOKE INSERT ON `{}`.* FROM {}",
        pattern.as_str(),
        names().role
    ));
    assert!(line.contains("lacks INSERT"), "{line}");
    as_root(
        ground.host(),
        &format!("GRANT SELECT ON mysql.* TO {}", names().role),
    );
    let found = ground.look(&[0, 1], Part::Make).unwrap();
    let warned = found
        .warnings
        .iter()
        .any(|it| it.message.contains("may SELECT on mysql"));
    assert!(warned && found.changes.is_empty(), "{found:?}");
    as_root(
        ground.host(),
        &format!("REVOKE SELECT ON mysql.* FROM {}", names().role),
    );
}

fn a_password_is_replaced_while_both_are_valid(ground: &Ground) {
    const NEXT: &str = "the-next-password-of-all";
    let login = |password: &str| {
        let at = ground.address(DATABASE);
        let (user, password) = (names().user.to_string(), format!("-p{password}"));
        let options = ["-h", &at, "-u", &user, &password];
        sql_over(ground.world.agent_host(1), &options, "SELECT 1").code == Some(0)
    };
    let next = || NEXT.parse().unwrap();
    ground
        .with(&[0, 1], Part::Make, false, async |it| {
            it.add_password(&next()).await
        })
        .unwrap();
    assert!(login(PASSWORD) && login(NEXT));
    assert!(ground.lines(&[0, 1], Part::Make).is_empty());
    // Members have the new one by now; and once more back, as the others expect it.
    for (password, ends) in [(NEXT, PASSWORD), (PASSWORD, NEXT)] {
        let rotated = |it: &Database, part| Database {
            server: it.server.clone(),
            site: it.site.clone(),
            password: password.parse().unwrap(),
            members: it.members.clone(),
            part,
            prune: false,
        };
        if password == PASSWORD {
            let back = async |it: &Database| {
                let own = Database {
                    password: next(),
                    ..rotated(it, Part::Make)
                };
                own.add_password(&password.parse().unwrap()).await
            };
            ground.with(&[0, 1], Part::Make, false, back).unwrap();
        }
        let (make, clean) = ground.with(&[0, 1], Part::Make, false, async |it| {
            let make = rotated(it, Part::Make).inspect().await.unwrap();
            let clean = rotated(it, Part::Clean);
            let found = clean.inspect().await.unwrap();
            clean.apply().await.unwrap();
            (make, found)
        });
        assert!(make.changes.is_empty(), "{make:?}");
        assert_eq!(clean.changes.len(), 2, "{clean:?}");
        assert!(
            clean.changes[0].what.contains("former password ends"),
            "{clean:?}"
        );
        assert!(login(password) && !login(ends));
        assert_eq!(ground.hosts().len(), 2);
    }
    assert!(ground.lines(&[0, 1], Part::Clean).is_empty());
}

fn what_fanout_did_not_make_stays(ground: &Ground) {
    let (user, database) = (names().user, names().database);
    // A database whose name the unescaped pattern would match.
    let sibling = database.as_str().replacen('_', "X", 1);
    as_root(
        ground.host(),
        &format!(
            "CREATE DATABASE {sibling}; CREATE TABLE {sibling}.t (a INT);
             CREATE USER '{user}'@'10.99.0.1' IDENTIFIED BY 'x';
             CREATE USER 'somebody'@'%' IDENTIFIED BY 'x'"
        ),
    );
    let refused = ground.as_site(0, &format!("SELECT * FROM {sibling}.t"));
    assert!(
        refused.error_text().contains("1142"),
        "{}",
        refused.describe()
    );
    let found = ground.look(&[0, 1], Part::Clean).unwrap();
    assert!(
        found.changes.is_empty() && found.warnings.len() == 1,
        "{found:?}"
    );
    let said = &found.warnings[0].message;
    assert!(
        said.starts_with(&format!("'{user}'@'10.99.0.1' was not made by fanout")),
        "{said}"
    );
    ground.apply(&[0, 1], Part::Clean);
    assert!(ground.hosts().contains(&"10.99.0.1".to_owned()));
    ground
        .with(&[0, 1], Part::Clean, true, async |it| it.apply().await)
        .unwrap();
    assert_eq!(ground.hosts().len(), 2);
    let others = as_root(
        ground.host(),
        "SELECT COUNT(*) FROM mysql.user WHERE User = 'somebody'",
    );
    assert_eq!(others.trim(), "1");
}

fn a_site_that_leaves_takes_its_accounts_along(ground: &Ground) {
    let former = |is_allowed, with_database| {
        ground.on_hub(async |server| {
            let former = FormerDatabase {
                server,
                site: SITE.parse().unwrap(),
                password: PASSWORD.parse().unwrap(),
                is_allowed,
                with_database,
            };
            let found = former.inspect().await.unwrap();
            let applied = former.apply().await.unwrap();
            (found, applied)
        })
    };
    let (found, _) = former(false, false);
    let unlisted = found
        .changes
        .iter()
        .filter(|change| change.to_string().starts_with('!'));
    assert_eq!((unlisted.count(), ground.hosts().len()), (3, 2));
    let (found, _) = former(true, false);
    assert!(found.irreversible.is_none());
    assert!(ground.hosts().is_empty());
    let databases = || {
        let sql = format!(
            "SHOW DATABASES LIKE '{}'",
            names().database.pattern().as_str()
        );
        as_root(ground.host(), &sql)
    };
    assert!(
        !databases().is_empty(),
        "a database with content went along"
    );
    let (found, _) = former(true, true);
    assert!(found.irreversible.is_some());
    assert!(databases().is_empty());
}

#[test]
fn netns_a_failed_probe_makes_nothing_and_never_an_account_for_everybody() {
    if !root_or_skip("a test host") {
        return;
    }
    let mut ground = Ground::start(DbVia::Agent, &["--skip-name-resolve"]);
    let refused = |ground: &Ground, code: Code, said: &str| {
        for act in [false, true] {
            let found = ground.with(&[0, 1], Part::Make, false, async |it| match act {
                false => it.inspect().await.map(|_| ()),
                true => it.apply().await.map(|_| ()),
            });
            let problem = found.unwrap_err();
            assert_eq!(problem.code, code, "{problem}");
            assert!(problem.message.contains(said), "{problem}");
        }
        assert!(ground.hosts().is_empty());
        assert_eq!(everybody(ground), "0");
    };

    // One member can't reach the database.
    let rules = "table inet t { chain c { type filter hook output priority 0; tcp dport 3306 reject with tcp reset; }; }";
    let cut = format!("echo '{rules}' | nft -f -");
    ground.world.agent_host(1).sh(&cut).success();
    refused(
        &ground,
        Code::DatabaseAddressUnknown,
        "web2: The database at",
    );
    ground
        .world
        .agent_host(1)
        .sh("nft delete table inet t")
        .success();

    // Anybody may log in.
    as_root(ground.host(), "CREATE USER ''@'10.77.%'");
    refused(&ground, Code::DatabaseAddressUnknown, "lets anybody in");
    as_root(ground.host(), "DROP USER ''@'10.77.%'");

    // Nothing listens there.
    ground.db.port = 4601;
    refused(&ground, Code::DatabaseAddressUnknown, "can't be reached");
    ground.db.port = 3306;

    // A name that means the member itself.
    ground.db.host = Some("database".into());
    let at = ground.address(DATABASE);
    let name = |index: usize, address: &str| {
        let line = format!(
            "sed '/ database$/d' /etc/hosts >/tmp/h; echo '{address} database' >>/tmp/h; cat /tmp/h >/etc/hosts"
        );
        ground.world.agent_host(index).sh(&line).success();
    };
    name(0, &at);
    refused(
        &ground,
        Code::DatabaseAddressUnknown,
        "web2: Can't resolve the database's name",
    );
    name(1, "127.0.1.1");
    refused(
        &ground,
        Code::DatabaseAddressRefused,
        "web2: The database's name leads to 127.0.1.1",
    );
    name(1, &at);

    // The database is gone.
    ground.database.kill();
    let problem = ground.look(&[0, 1], Part::Make).unwrap_err();
    assert_eq!(problem.code, Code::DatabaseUnreachable, "{problem}");
    ground.database = MariaDb::start_again(ground.host(), &["--skip-name-resolve"]);
    ground.apply(&[0, 1], Part::Make);
    assert_eq!(ground.hosts(), [ground.address(0), ground.address(1)]);
}

fn everybody(ground: &Ground) -> String {
    let sql = "SELECT COUNT(*) FROM mysql.user WHERE Host IN ('%', '') AND is_role = 'N'";
    as_root(ground.host(), sql).trim().to_owned()
}

#[test]
fn netns_a_new_address_gets_an_account_and_the_former_one_loses_its_own() {
    if !root_or_skip("a test host") {
        return;
    }
    let mut ground = Ground::start(DbVia::Tcp, &["--skip-name-resolve"]);
    let (web1, web2) = (ground.address(0), ground.address(1));
    ground.apply(&[0, 1], Part::Make);
    // The agent is reached where it was; what it sends comes from another address.
    ground
        .world
        .agent_host(1)
        .sh("ip address add 10.77.0.200/24 dev eth0
             ip route replace 10.77.0.0/24 dev eth0 src 10.77.0.200")
        .success();
    let user = names().user;
    assert_eq!(
        ground.lines(&[0, 1], Part::Make),
        [format!("+ '{user}'@'10.77.0.200' for web2")]
    );
    ground.apply(&[0, 1], Part::Make);
    let lines = ground.lines(&[0, 1], Part::Clean);
    assert!(
        lines.len() == 1 && lines[0].starts_with(&format!("- '{user}'@'{web2}'")),
        "{lines:?}"
    );
    ground.apply(&[0, 1], Part::Clean);
    assert_eq!(ground.hosts(), [web1.clone(), "10.77.0.200".into()]);

    // A member that doesn't answer keeps what it has, and is spoken of.
    ground.world.kill_agent(1);
    let found = ground.look(&[0, 1], Part::Make).unwrap();
    assert!(
        found.changes.is_empty() && found.warnings.len() == 1,
        "{found:?}"
    );
    assert!(ground.lines(&[0, 1], Part::Clean).is_empty());
    ground.world.restart_agent(1);

    // What the inventory declares counts, and what speaks against it is an error.
    ground.declared = vec![(1, web2.parse().unwrap())];
    let problem = ground.look(&[0, 1], Part::Make).unwrap_err();
    assert_eq!(problem.code, Code::DatabaseAddressRefused, "{problem}");
    ground.declared.push((1, "10.77.0.200".parse().unwrap()));
    ground.apply(&[0, 1], Part::Make);
    assert_eq!(ground.hosts(), [web1, "10.77.0.200".into(), web2]);
}

#[test]
fn netns_one_account_serves_a_network_that_the_database_declares() {
    if !root_or_skip("a test host") {
        return;
    }
    let mut ground = Ground::start(DbVia::Agent, &["--skip-name-resolve"]);
    ground.db.networks = vec!["10.77.0.0/20".parse::<IpNet>().unwrap()];
    let lines = ground.lines(&[0, 1, 2], Part::Make);
    assert!(
        lines
            .iter()
            .any(|line| line.ends_with("for web1, web2, web3")),
        "{lines:?}"
    );
    let applied = ground.apply(&[0, 1, 2], Part::Make);
    assert_eq!(applied.message, "logged in from web1, web2, web3");
    assert_eq!(ground.hosts(), ["10.77.0.0/255.255.240.0"]);

    // One member leaves: the others still come from there. All leave: sessions end.
    ground.apply(&[0, 1], Part::Make);
    assert!(ground.lines(&[0, 1], Part::Clean).is_empty());
    ground.db.networks.clear();
    ground.apply(&[0, 1], Part::Make);
    let at = ground.address(DATABASE);
    let (user, password) = (names().user.to_string(), format!("-p{PASSWORD}"));
    let words = [
        "mariadb",
        "--no-defaults",
        "-h",
        &at,
        "-u",
        &user,
        &password,
        "-e",
    ];
    let words = [&words[..], &["SELECT SLEEP(30)"]].concat();
    // Not a member any more, so the network's account is the one that lets it in.
    let mut live = ground.world.agent_host(2).spawn(&words);
    let sleeping =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(30)'";
    assert!(wait_until(USUAL_TIME, || as_root(ground.host(), sleeping)
        .trim()
        == "1"));
    ground.apply(&[0, 1], Part::Clean);
    assert!(wait_until(USUAL_TIME, || !live.is_running()));
    assert_eq!(ground.hosts(), [ground.address(0), ground.address(1)]);

    // An IPv6 network can't be compared, and everybody is everybody in so many words only.
    ground.db.networks = vec!["fd77::/64".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
    ground.apply(&[0, 1], Part::Make);
    assert_eq!(ground.hosts()[0], "%");
}
