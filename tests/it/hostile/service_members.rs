//! Members that lie about their services: what a hub is told of programs, sets, applications and
//! uploads is bounded, shown escaped, and believed only where it fits what was asked.

use super::members::{GROWTH_KIB, honest, once_free};
use super::peer::runtime;
use super::victim::{high_water_kib, identity};
use crate::support::env::World;
use crate::support::run::Output;
use fanout::engine::event::EventSink;
use fanout::engine::hub::dial::{Route, dial};
use fanout::engine::hub::task::Target;
use fanout::model::Transport;
use fanout::net::{Connection, Endpoint, NetError, Options, Role, TrustStore};
use fanout::orchestrate::servers::Servers;
use fanout::orchestrate::uploads::Pinned;
use fanout::services::app::UploadPath;
use fanout::store::Store;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sync_proto::digest::Digest;
use sync_proto::path::RelPath;
use sync_proto::wire::service::{
    Activated, AppAnswer, AppState, ConfigAnswer, ConfigArea, ConfigRequest, ConfigSetId,
    ConfigState, Content, FileState, MemberAnswer, PhpFacts, ProgramFacts, ServiceFacts, Tested,
    UploadAnswer, UploadFile, UploadRequest,
};
use sync_proto::wire::{
    self, Refusal, Reply, Request, ServiceAnswer as Answer, ServiceRequest as Service,
};

const SITE: &str = "www.example.com";
const CONTROL: &str = "\u{1b}[2J\r\nfine\u{7}\u{9b}31m";

/// What a member says instead of what it should, where it was asked that.
type Says = fn(&Service) -> Option<Vec<u8>>;

fn bytes(answer: Answer) -> Option<Vec<u8>> {
    Some(wire::encode(&Reply::Service(answer)).unwrap())
}

fn facts() -> ServiceFacts {
    let program = |name: &str| ProgramFacts {
        version: "1.22.1".into(),
        binary: format!("/usr/sbin/{name}"),
        config: format!("/etc/{name}/{name}.conf"),
        is_included: true,
        is_running: true,
        modules: Vec::new(),
        own_ports: Vec::new(),
        own_defaults: Vec::new(),
    };
    ServiceFacts {
        offers: ["web", "app"].map(str::to_owned).to_vec(),
        distribution: "debian 12".into(),
        config_root: b"/var/lib/fanout/agent/services/current".to_vec(),
        data_root: b"/var/lib/fanout/agent/services/data".to_vec(),
        addresses: vec!["192.0.2.1".into()],
        nginx: Some(program("nginx")),
        php: vec![PhpFacts {
            version: "8.2".into(),
            binary: "/usr/sbin/php-fpm8.2".into(),
            cli: "/usr/bin/php8.2".into(),
            config: "/etc/php/8.2/fpm/php-fpm.conf".into(),
            is_included: true,
            is_running: true,
            control_timeout_s: 10,
            validates_timestamps: true,
            extensions: Vec::new(),
            socket_dir: "/run/php".into(),
        }],
        web_group: "www-data".into(),
        ..ServiceFacts::default()
    }
}

fn honest_service(asked: &Service) -> Answer {
    match asked {
        Service::Config(ConfigRequest::Read { .. }) => {
            Answer::Config(ConfigAnswer::Read { bytes: Vec::new() })
        }
        Service::Config(_) => Answer::Config(ConfigAnswer::State(ConfigState::default())),
        Service::Member(_) => Answer::Member(MemberAnswer::Marked(false)),
        Service::App(_) => Answer::App(AppAnswer::State(AppState::default())),
        Service::Uploads(_) => Answer::Uploads(UploadAnswer::Listed {
            files: Vec::new(),
            last: true,
            left_out: 0,
        }),
        _ => Answer::Facts(Box::new(facts())),
    }
}

/// Files that the hub wants there too, all of them another than they should be.
fn changed_files(extra: usize) -> Vec<FileState> {
    let digest = Digest::of(b"another");
    let state = |(area, name): (ConfigArea, String)| FileState {
        area,
        name,
        digest,
        put: digest,
    };
    let wanted = [
        (ConfigArea::Nginx, format!("site-{SITE}.conf")),
        (ConfigArea::PhpFpm, format!("8.2-{SITE}.conf")),
    ];
    let others = (0..extra).map(|nth| (ConfigArea::Pages, format!("{CONTROL}{nth}")));
    wanted.into_iter().chain(others).map(state).collect()
}

fn state(files: Vec<FileState>) -> Option<Vec<u8>> {
    bytes(Answer::Config(ConfigAnswer::State(ConfigState {
        live: Some([1; 16]),
        is_unconfirmed: false,
        files,
    })))
}

/// Each with the code that the hub must say, if the lie can be told from the truth.
fn lies() -> Vec<(&'static str, Says, &'static str)> {
    vec![
        (
            "another answer than was due",
            |asked| {
                matches!(asked, Service::Facts)
                    .then(|| wire::encode(&Reply::Pong { now_us: 0 }).unwrap())
            },
            "FX0311",
        ),
        (
            "an answer about another service",
            |asked| {
                matches!(asked, Service::Facts)
                    .then(|| bytes(Answer::Config(ConfigAnswer::Done)))?
            },
            "FX0311",
        ),
        (
            "noise",
            |asked| matches!(asked, Service::Facts).then(|| vec![0xFF; 50]),
            "FX0311",
        ),
        (
            "an answer above 1 MiB",
            |asked| matches!(asked, Service::Facts).then(|| vec![0; 1024 * 1024 + 1]),
            "FX0311",
        ),
        (
            "a refusal in control characters",
            |asked| {
                let refusal = Refusal {
                    code: CONTROL.into(),
                    message: CONTROL.into(),
                    hint: CONTROL.into(),
                };
                matches!(asked, Service::Facts)
                    .then(|| wire::encode(&Reply::Refused(refusal)).unwrap())
            },
            "",
        ),
        (
            "facts in control characters",
            |asked| {
                let mut facts = facts();
                facts.distribution = CONTROL.into();
                facts.config_root = CONTROL.into();
                facts.data_root = CONTROL.into();
                facts.web_group = CONTROL.into();
                facts.addresses = vec![CONTROL.into(); 100];
                facts.warnings = vec![CONTROL.into(); 10_000];
                facts.php[0].socket_dir = CONTROL.into();
                facts.php[0].version = CONTROL.into();
                matches!(asked, Service::Facts).then(|| bytes(Answer::Facts(Box::new(facts))))?
            },
            "",
        ),
        (
            "directories that would break out of a configuration",
            |asked| {
                let mut facts = facts();
                facts.config_root = b"/x;\n} user root; {".to_vec();
                facts.php[0].socket_dir = "/run/php\nuser = root".into();
                matches!(asked, Service::Facts).then(|| bytes(Answer::Facts(Box::new(facts))))?
            },
            "",
        ),
        (
            "a state of another kind",
            |asked| {
                matches!(asked, Service::Config(ConfigRequest::State))
                    .then(|| bytes(Answer::Config(ConfigAnswer::Done)))?
            },
            "FX0311",
        ),
        (
            "files with control characters and no end",
            |asked| {
                matches!(asked, Service::Config(ConfigRequest::State))
                    .then(|| state(changed_files(8_000)))?
            },
            "",
        ),
        (
            "a file of half a million lines",
            |asked| match asked {
                Service::Config(ConfigRequest::State) => state(changed_files(0)),
                Service::Config(ConfigRequest::Read { .. }) => {
                    let lines: String =
                        (0..110_000).map(|nth| format!("{nth:x}\u{9b}\n")).collect();
                    bytes(Answer::Config(ConfigAnswer::Read {
                        bytes: lines.into_bytes(),
                    }))
                }
                _ => None,
            },
            "",
        ),
        (
            "an application in control characters",
            |asked| {
                let state = AppState {
                    version: CONTROL.into(),
                    pending: vec![CONTROL.into(); 1000],
                    unprepared: vec![CONTROL.into(); 1000],
                    tool: CONTROL.into(),
                    warnings: vec![CONTROL.into(); 1000],
                    ..AppState::default()
                };
                matches!(asked, Service::App(_))
                    .then(|| bytes(Answer::App(AppAnswer::State(state))))?
            },
            "",
        ),
    ]
}

async fn serve(connection: Connection, says: Says) -> Result<(), NetError> {
    loop {
        let request: Request = wire::decode(&connection.recv().await?).unwrap();
        let said = match &request {
            Request::Service(asked) => says(asked).or_else(|| bytes(honest_service(asked))),
            other => honest(other).map(|reply| wire::encode(&reply).unwrap()),
        };
        if let Some(said) = said {
            connection.send(&said).await?;
        }
    }
}

/// A member's place, and who stands in it.
struct Liar {
    says: Arc<Mutex<Says>>,
    _runtime: tokio::runtime::Runtime,
}

impl Liar {
    fn in_place_of_the_agent_of(world: &World) -> Self {
        let runtime = runtime();
        let trust = TrustStore::new();
        let hub = identity(&world.hub_dir().join("state/identity"));
        trust.accept(hub.key(), Role::Hub);
        let own = world.agent_dir(0).join("identity");
        let entered = runtime.enter();
        let endpoint = once_free(|| {
            let options = Options::default();
            Endpoint::server(
                world.agent_address(0),
                identity(&own),
                trust.clone(),
                options,
            )
            .ok()
        });
        drop(entered);
        let honest: Says = |_| None;
        let says = Arc::new(Mutex::new(honest));
        let told = says.clone();
        runtime.spawn(async move {
            while let Some(connection) = endpoint.accept().await {
                let says = *told.lock().unwrap();
                tokio::spawn(serve(connection, says));
            }
        });
        Self {
            says,
            _runtime: runtime,
        }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

fn world_with_a_site() -> (World, Liar) {
    let mut world = World::with_agents(1);
    std::fs::write(world.source("shop").join("index.php"), "<?php\n").unwrap();
    world
        .fanout(&["edit", "server", "web1", "--web", "nginx"])
        .success();
    world.add_platform("shop", &["--app", "php"]);
    world.push("shop", &[]).success();
    let site = [
        "add",
        "site",
        SITE,
        "--platform",
        "shop",
        "--uploads",
        "external",
    ];
    world.fanout(&site).success();
    world.kill_agent(0);
    let liar = Liar::in_place_of_the_agent_of(&world);
    (world, liar)
}

/// A plan, and the most memory that the hub took for it.
fn plan(world: &World, words: &[&str]) -> (Output, u64) {
    let mut running = world.start_fanout(words, &[]);
    let mut most_kib = 0;
    while running.is_running() {
        most_kib = high_water_kib(running.id()).unwrap_or(0).max(most_kib);
        std::thread::sleep(Duration::from_millis(3));
    }
    (running.finish_within(Duration::from_secs(60)), most_kib)
}

/// What a member has that never hears that its set is confirmed, and what it was asked.
#[derive(Default)]
struct Unconfirmed {
    live: ConfigSetId,
    files: Vec<FileState>,
    confirmed: Vec<ConfigSetId>,
}

static UNCONFIRMED: Mutex<Option<Unconfirmed>> = Mutex::new(None);

/// Everything is put, tested and activated here, and the first confirmation is lost.
fn loses_a_confirmation(asked: &Service) -> Option<Vec<u8>> {
    let Service::Config(asked) = asked else {
        return None;
    };
    let mut held = UNCONFIRMED.lock().unwrap();
    let held = held.get_or_insert_default();
    bytes(Answer::Config(match asked {
        ConfigRequest::State => ConfigAnswer::State(ConfigState {
            live: Some(held.live),
            is_unconfirmed: !held.files.is_empty(),
            files: held.files.clone(),
        }),
        ConfigRequest::Put { set, files } => {
            held.live = *set;
            held.files.extend(files.iter().map(|file| {
                let digest = match &file.content {
                    Content::Bytes(bytes) => Digest::of(bytes),
                    Content::Same(digest) => *digest,
                };
                FileState {
                    area: file.area,
                    name: file.name.clone(),
                    digest,
                    put: digest,
                }
            }));
            ConfigAnswer::Done
        }
        ConfigRequest::Test { .. } => ConfigAnswer::Tested(Tested::default()),
        ConfigRequest::Activate { .. } => ConfigAnswer::Activated(Activated::default()),
        ConfigRequest::Confirm { set } => {
            held.confirmed.push(*set);
            match held.confirmed.len() {
                1 => return None,
                _ => ConfigAnswer::Done,
            }
        }
        ConfigRequest::Revert { .. } => ConfigAnswer::Done,
        ConfigRequest::Read { .. } => return None,
    }))
}

/// A hub that died between an activation and its confirmation left a set that goes back by itself. The
/// next one finds all as it should be, and must say so.
#[test]
fn a_set_that_was_left_without_its_confirmation_is_confirmed() {
    let (world, liar) = world_with_a_site();
    liar.says(loses_a_confirmation);
    let first = world.fanout(&["apply", "--yes"]);
    let confirmed = || {
        UNCONFIRMED
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .confirmed
            .clone()
    };
    assert_eq!(confirmed().len(), 1, "{}", first.describe());
    let second = world.fanout(&["apply", "--yes"]);
    let said = second.describe();
    assert_eq!(confirmed().len(), 2, "{said}");
    assert_eq!(confirmed()[0], confirmed()[1], "{said}");
    assert!(said.contains("ok       activation on web1"), "{said}");
}

#[test]
fn what_a_member_says_of_its_services_is_bounded_and_escaped() {
    let (world, liar) = world_with_a_site();
    let (output, honest_kib) = plan(&world, &["plan"]);
    let usual = output.success().text();
    assert!(usual.contains(SITE), "{usual}");
    for (what, says, code) in lies() {
        liar.says(says);
        for words in [&["plan"][..], &["plan", "--json"]] {
            let (output, most_kib) = plan(&world, words);
            let said = output.everything_said();
            let raw = said.chars().find(|c| *c != '\n' && c.is_control());
            assert_eq!(raw, None, "{what}: {said:?}");
            assert!(said.contains(code), "{what}: no {code} in {said}");
            assert_ne!(output.code, Some(70), "{what}: {said}");
            assert_ne!(output.code, None, "{what}: {said}");
            if !code.is_empty() {
                assert_ne!(output.code, Some(0), "{what}: {said}");
                assert!(said.contains("web1"), "{what}: {said}");
            }
            let took = output.took;
            eprintln!(
                "{what}: {most_kib} KiB, {took:?}, diff {}",
                said.contains("@@")
            );
            let most = honest_kib + GROWTH_KIB;
            assert!(most_kib <= most, "{what}: {most_kib} KiB, not {most}");
        }
    }
}

/// The way of uploads from one member to another, where the first one lies.
#[test]
fn a_member_that_lies_about_uploads_is_given_up() {
    let (world, liar) = world_with_a_site();
    let cases: Vec<(&str, Says)> = vec![
        ("a path upwards", |asked| {
            listed(asked, &["../../etc/passwd"], true)
        }),
        ("an absolute path", |asked| {
            listed(asked, &["/etc/passwd"], true)
        }),
        ("no path", |asked| listed(asked, &[""], true)),
        ("a path twice", |asked| listed(asked, &["a", "a"], true)),
        ("the same part again and again", |asked| {
            listed(asked, &["a"], false)
        }),
        ("a part of nothing that isn't the last", |asked| {
            listed(asked, &[], false)
        }),
        ("paths of half a megabyte without end", endless),
        ("another answer", |asked| {
            matches!(asked, Service::Uploads(_))
                .then(|| bytes(Answer::Config(ConfigAnswer::Done)))?
        }),
        ("an answer to another question", |asked| {
            matches!(asked, Service::Uploads(_))
                .then(|| bytes(Answer::Uploads(UploadAnswer::Done)))?
        }),
    ];
    for (what, says) in cases {
        liar.says(says);
        let before = high_water_kib(std::process::id()).unwrap();
        let began = std::time::Instant::now();
        let brought = runtime().block_on(pinned(&world));
        let problem = brought.expect_err(what);
        assert_eq!(problem.code.id(), "FX0311", "{what}: {problem}");
        assert!(
            !problem.message.contains(char::is_control),
            "{what}: {problem}"
        );
        let grown = high_water_kib(std::process::id()).unwrap();
        let grown = grown.saturating_sub(before);
        // The test is the liar as well.
        assert!(grown < 2 * GROWTH_KIB, "{what}: {grown} KiB");
        eprintln!("{what}: {:?}, {grown} KiB", began.elapsed());
    }
}

fn listed(asked: &Service, paths: &[&str], last: bool) -> Option<Vec<u8>> {
    let Service::Uploads(UploadRequest::List { .. }) = asked else {
        return None;
    };
    let file = |path: &&str| UploadFile {
        path: path.as_bytes().to_vec(),
        size: 3,
        digest: Digest::of(b"abc"),
        mtime_s: 0,
        mode: 0o644,
    };
    bytes(Answer::Uploads(UploadAnswer::Listed {
        files: paths.iter().map(file).collect(),
        last,
        left_out: 0,
    }))
}

/// Each part one path that no file system has, greater than the one before.
fn endless(asked: &Service) -> Option<Vec<u8>> {
    let Service::Uploads(UploadRequest::List { after, .. }) = asked else {
        return None;
    };
    let digits = after.get(..12).unwrap_or(b"0");
    let so_far: u64 = String::from_utf8_lossy(digits).parse().unwrap();
    let path = format!("{:012}{}", so_far + 1, "x".repeat(500_000));
    listed(asked, &[&path], false)
}

async fn pinned(world: &World) -> Result<(), fanout::codes::Problem> {
    let dir = fanout::config::HubDir::new(Some(&world.hub_dir()));
    let store = Store::open(&dir.database()).await.unwrap();
    let name: fanout::model::ServerName = "web1".parse().unwrap();
    let known = store.server(&name).await.unwrap().unwrap();
    let route = Route {
        name: name.as_str().into(),
        address: world.agent_address(0).to_string().parse().unwrap(),
        key: known.node_key.parse().unwrap(),
        transport: Transport::Quic,
        ssh: None,
    };
    let target = Target {
        name: name.as_str().into(),
        dial: dial(route, identity(&dir.identity()), EventSink::none()),
    };
    let servers = Servers::new("test", vec![(name.clone(), target)]);
    let pinned = Pinned {
        servers: Arc::new(servers),
        store: Arc::new(store),
        site: SITE.parse().unwrap(),
        tree: [1; 16],
        paths: vec![UploadPath {
            path: RelPath::parse(b"uploads").unwrap(),
            skip: Vec::new(),
        }],
        pinned: name.clone(),
    };
    pinned.bring(&name).await.map(drop)
}
