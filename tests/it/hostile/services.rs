//! A hub that may ask for an agent's services, and asks for what none may: names that lead elsewhere,
//! sets of another hub, more than there is room for, what the agent's administrator doesn't offer.

use super::peer::{Comes, LIMIT, Peer, Row, Until, hello, play, request, row, runtime};
use super::places::second_hub;
use super::victim::{SMALL_GROWTH_KIB, Victim, identity};
use crate::support::root_or_skip;
use fanout::net::Identity;
use std::fs;
use std::path::Path;
use sync_proto::digest::Digest;
use sync_proto::wire::service::database::{
    DatabaseLogin, DatabaseName, DatabaseOperation as Operation, DatabaseRequest, ProbeRequest,
};
use sync_proto::wire::service::{
    AppAction, AppDriver, AppRequest, AppTarget, BalancerRequest, ConfigAnswer, ConfigArea as Area,
    ConfigFile, ConfigRequest as Config, Content, MemberRequest, Probe, Rotation, SetupRequest,
    SetupWeb, SetupWish, UploadPlace, UploadRequest,
};
use sync_proto::wire::{
    Reply, Request, ServiceAnswer as Answer, ServiceRequest as Service, TreeKey,
};

pub(super) const EVERYTHING: &str = r#""web", "app", "db", "balancer", "setup""#;
const SET: [u8; 16] = [0xA1; 16];
const OTHER_SET: [u8; 16] = [0xA2; 16];
const BROKEN: Comes = Comes::Ended("FX0311");
const NO_NAME: Comes = Comes::Refused("FX0702");
pub(super) const CONTROL: &str = "a\n\u{1b}[31mb";

fn file(area: Area, name: &str, content: &[u8]) -> ConfigFile {
    ConfigFile {
        area,
        name: name.into(),
        group: String::new(),
        content: Content::Bytes(content.to_vec()),
    }
}

fn put(set: [u8; 16], files: Vec<ConfigFile>) -> Service {
    Service::Config(Config::Put { set, files })
}

pub(super) fn asks(what: &'static str, service: Service, comes: Comes) -> Row {
    row(
        what,
        Until::Greeted,
        request(&Request::Service(service)),
        comes,
    )
}

pub(super) fn app(
    tree: TreeKey,
    action: AppAction,
    change: impl FnOnce(&mut AppTarget),
) -> Service {
    let mut target = AppTarget {
        driver: AppDriver::Wordpress,
        tree,
        docroot: Vec::new(),
        site: "www.example.com".into(),
        dir: String::new(),
        is_tls: false,
        user: "www-data".into(),
        php: String::new(),
        settings: String::new(),
    };
    change(&mut target);
    Service::App(Box::new(AppRequest {
        target,
        action,
        limit_s: 20,
    }))
}

pub(super) fn prepare(share: &[u8]) -> AppAction {
    AppAction::Prepare {
        hosts: Vec::new(),
        share: share.to_vec(),
    }
}

fn probe(host: &str, path: &str) -> Service {
    Service::Member(MemberRequest::Probe(Probe {
        port: 9,
        tls: false,
        host: host.into(),
        path: path.into(),
        head: false,
        forwarded_tls: false,
        within_ms: 1000,
    }))
}

fn setup(php: &str, extension: &str) -> Service {
    Service::Setup(SetupRequest::Plan(SetupWish {
        web: Some(SetupWeb::Nginx),
        balancer: None,
        php: vec![php.into()],
        extensions: vec![extension.into()],
    }))
}

fn rotate(member: &str) -> Service {
    Service::Balancer(BalancerRequest::Rotate {
        member: member.into(),
        to: Rotation::Drain,
    })
}

/// One of everything that an agent may offer.
fn one_of_each() -> [(&'static str, Service); 9] {
    let tree = [3; 16];
    let place = UploadPlace {
        tree,
        path: b"uploads".to_vec(),
    };
    [
        ("facts", Service::Facts),
        ("a set", Service::Config(Config::State)),
        ("a database", Service::Database(DatabaseRequest::Facts)),
        (
            "a look at a database",
            Service::DatabaseProbe(ProbeRequest::Address {
                host: "127.0.0.1".into(),
                port: 9,
            }),
        ),
        ("a balancer", Service::Balancer(BalancerRequest::State)),
        ("a member", Service::Member(MemberRequest::Marked)),
        ("an application", app(tree, AppAction::Look, |_| {})),
        (
            "uploads",
            Service::Uploads(UploadRequest::List {
                place,
                after: Vec::new(),
                skip: Vec::new(),
            }),
        ),
        ("a setup", setup("8.2", "xml")),
    ]
}

#[test]
fn what_an_agent_does_not_offer_nobody_gets() {
    let not_offered = Comes::Refused("FX0701");
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let refused = |(what, service)| asks(what, service, not_offered);
    let mut rows: Vec<Row> = one_of_each().into_iter().map(refused).collect();
    let facts = || request(&Request::Service(Service::Facts));
    rows.push(row("facts before Hello", Until::Connected, facts(), BROKEN));
    rows.push(row(
        "facts about an open tree",
        Until::Opened,
        facts(),
        BROKEN,
    ));
    rows.push(row("facts for a plan", Until::Planned, facts(), BROKEN));
    rows.push(row("facts while staging", Until::Staging, facts(), BROKEN));
    play(&mut victim, rows);

    let mut victim = Victim::offering(r#""balancer""#, &[], SMALL_GROWTH_KIB);
    let mut rows = vec![
        asks(
            "a vhost for a balancer",
            put(SET, vec![file(Area::Nginx, "site-a.conf", b"#")]),
            not_offered,
        ),
        asks(
            "a vhost behind a balancer's own file",
            put(
                SET,
                vec![
                    file(Area::Haproxy, "fanout.cfg", b"#"),
                    file(Area::Settings, "a.settings.php", b"<?php"),
                ],
            ),
            not_offered,
        ),
        asks(
            "a key that is no balancer's",
            put(SET, vec![file(Area::Keys, "www.example.com.pem", b"key")]),
            not_offered,
        ),
    ];
    rows.extend(
        one_of_each()
            .into_iter()
            .filter(|(what, _)| !["facts", "a set", "a balancer"].contains(what))
            .map(refused),
    );
    play(&mut victim, rows);
}

/// Names in sets lead nowhere, and a set is no larger than what can be told of it.
#[test]
fn a_configuration_set_is_files_with_names_and_bounds() {
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let named = |what, name: &str| {
        let file = file(Area::Pages, name, b"page");
        asks(what, put(SET, vec![file]), NO_NAME)
    };
    let grouped = |what, group: &str| {
        let mut file = file(Area::Settings, "a.settings.php", b"<?php");
        file.group = group.into();
        asks(what, put(SET, vec![file]), NO_NAME)
    };
    let of = |config| Service::Config(config);
    let unknown = Comes::Refused("FX0704");
    let many = (0..20_000).map(|nth| file(Area::Pages, &format!("p{nth}"), b""));
    let half: Vec<ConfigFile> = (0..3_000)
        .map(|nth| file(Area::Pages, &format!("{nth:0>250}"), b""))
        .collect();
    let mut unknown_area = sync_proto::wire::encode(&Request::Service(put(
        SET,
        vec![file(Area::Pages, "x", b"")],
    )))
    .unwrap();
    // The variant of the area, behind those of the request and the service, the set and a count.
    let at = unknown_area
        .iter()
        .rposition(|byte| *byte == Area::Pages as u8)
        .unwrap();
    unknown_area[at] = 77;
    let rows = vec![
        named("a path upwards", "../../../../etc/cron.d/x"),
        named("an absolute path", "/etc/passwd"),
        named("a directory and a name", "site/x.conf"),
        named("the directory itself", "."),
        named("the directory above", ".."),
        named("a hidden file", ".htaccess"),
        named("no name", ""),
        named("a name with control characters", CONTROL),
        named("a name with a NUL", "a\0b"),
        named("a name that isn't ASCII", "\u{fc}"),
        named("a blank in a name", "a b"),
        named("a name above 255 bytes", &"x".repeat(256)),
        grouped("a group that is a path", "../root"),
        grouped("a group that is an option", "-x"),
        grouped("a group with control characters", CONTROL),
        grouped("a group above 32 bytes", &"g".repeat(33)),
        row(
            "an area that there isn't",
            Until::Greeted,
            vec![super::peer::Sends::Message(unknown_area)],
            BROKEN,
        ),
        asks(
            "the content of a file that isn't live",
            put(
                SET,
                vec![ConfigFile {
                    content: Content::Same(Digest::of(b"x")),
                    ..file(Area::Pages, "x", b"")
                }],
            ),
            Comes::Refused("FX0708"),
        ),
        asks(
            "more files than a set has",
            put(SET, many.collect()),
            NO_NAME,
        ),
        asks(
            "a good name before a bad one",
            put(
                SET,
                vec![
                    file(Area::Pages, "written-nevertheless", b"x"),
                    file(Area::Pages, "../x", b"x"),
                ],
            ),
            NO_NAME,
        ),
        asks(
            "a test of no set",
            of(Config::Test { set: OTHER_SET }),
            unknown,
        ),
        asks(
            "no set to go live",
            of(Config::Activate {
                set: OTHER_SET,
                confirm_within_s: u32::MAX,
            }),
            unknown,
        ),
        asks(
            "no set to stay",
            of(Config::Confirm { set: OTHER_SET }),
            unknown,
        ),
        asks(
            "a file of no set",
            of(Config::Read {
                area: Area::Pages,
                name: "x".into(),
            }),
            unknown,
        ),
        asks(
            "a private key",
            of(Config::Read {
                area: Area::Keys,
                name: "x".into(),
            }),
            NO_NAME,
        ),
        asks(
            "settings",
            of(Config::Read {
                area: Area::Settings,
                name: "x".into(),
            }),
            NO_NAME,
        ),
    ];
    play(&mut victim, rows);
    let sets = victim.world.agent_services(0).join("sets");
    for set in names(&sets) {
        let pages = names(&sets.join(&set).join("pages"));
        assert_eq!(pages, Vec::<String>::new(), "of {set}");
    }

    // The largest number in several parts, each of which is a message that may be.
    runtime().block_on(async {
        let mut hub = Hub::greeted(&victim, &victim.hub).await;
        let mut put_files = 0;
        loop {
            let mut files = half.clone();
            for file in &mut files {
                file.name = format!("{put_files}-{}", &file.name[6..]);
            }
            put_files += files.len();
            match hub.ask(put(SET, files)).await {
                Ok(Answer::Config(ConfigAnswer::Done)) if put_files < 100_000 => {}
                Err(code) => {
                    assert_eq!(code, "FX0702");
                    break;
                }
                other => panic!("{put_files} files: {other:?}"),
            }
        }
        victim.has_said_once("more files than a set has, in parts", "FX0702");
        // Another set displaces what was never live.
        hub.done(put(OTHER_SET, vec![file(Area::Pages, "x", b"x")]))
            .await;
    });
    assert_eq!(names(&sets).len(), 2, "{:?}", names(&sets));
    victim.is_well("large sets");
    victim.serves_its_own_hub();
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

/// A hub that asks, and looks at what it is told.
pub(super) struct Hub {
    peer: Peer,
}

impl Hub {
    pub(super) async fn greeted(victim: &Victim, identity: &Identity) -> Self {
        let peer = Peer::connect(identity, victim.agent).await.unwrap();
        peer.send(&hello((1, 1))).await;
        assert!(matches!(peer.reply().await, Ok(Reply::Hello { .. })));
        Self { peer }
    }

    /// The answer, or the code of the refusal.
    pub(super) async fn ask(&mut self, service: Service) -> Result<Answer, String> {
        self.peer.send(&Request::Service(service)).await;
        match tokio::time::timeout(LIMIT, self.peer.answer()).await {
            Ok(Ok(Reply::Service(answer))) => Ok(answer),
            Ok(Ok(Reply::Refused(refusal))) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    async fn done(&mut self, service: Service) {
        let answer = self.ask(service).await;
        assert_eq!(answer, Ok(Answer::Config(ConfigAnswer::Done)));
    }

    async fn faults(&mut self, set: [u8; 16]) -> Vec<String> {
        match self.ask(Service::Config(Config::Test { set })).await {
            Ok(Answer::Config(ConfigAnswer::Tested(tested))) => {
                let faults = tested.faults.into_iter();
                faults.map(|fault| fault.message).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn activate(set: [u8; 16], confirm_within_s: u32) -> Service {
    Service::Config(Config::Activate {
        set,
        confirm_within_s,
    })
}

/// The order of a set's life, and that it is the hub's whose it is.
#[test]
fn a_set_belongs_to_one_hub_and_goes_live_tested_only() {
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let another = identity(&second_hub(&victim));
    victim.overhear();
    runtime().block_on(async {
        let mut hub = Hub::greeted(&victim, &victim.hub).await;
        let page = |content: &[u8]| vec![file(Area::Pages, "p", content)];
        hub.done(put(SET, page(b"one"))).await;
        assert_eq!(hub.ask(activate(SET, 60)).await, Err("FX0703".into()));
        victim.has_said_once("a set that nobody tested", "FX0703");
        assert_eq!(hub.faults(SET).await, Vec::<String>::new());
        // Changed behind its test.
        hub.done(put(SET, page(b"two"))).await;
        assert_eq!(hub.ask(activate(SET, 60)).await, Err("FX0703".into()));
        victim.has_said_once("a set that was changed after its test", "FX0703");
        assert_eq!(hub.faults(SET).await, Vec::<String>::new());
        hub.ask(activate(SET, u32::MAX)).await.unwrap();
        for (what, service, code) in [
            ("a second one meanwhile", activate(SET, 60), "FX0714"),
            ("a live set, written", put(SET, page(b"x")), "FX0702"),
        ] {
            assert_eq!(hub.ask(service).await, Err(code.into()), "{what}");
            victim.has_said_once(what, code);
        }
        hub.done(Service::Config(Config::Confirm { set: SET }))
            .await;
        for (what, name) in [
            ("a live file upwards", "../record"),
            ("a live file by its whole path", "/etc/passwd"),
        ] {
            let (area, name) = (Area::Pages, name.to_owned());
            let read = Service::Config(Config::Read { area, name });
            assert_eq!(hub.ask(read).await, Err("FX0702".into()), "{what}");
            victim.has_said_once(what, "FX0702");
        }

        let mut stranger = Hub::greeted(&victim, &another).await;
        let read = Config::Read {
            area: Area::Pages,
            name: "p".into(),
        };
        let mark = MemberRequest::Mark { out: true };
        for (what, service) in [
            (
                "another hub's set, looked at",
                Service::Config(Config::State),
            ),
            ("another hub's set, read", Service::Config(read)),
            ("a set beside another hub's", put(OTHER_SET, page(b"x"))),
            (
                "another hub's set, tested",
                Service::Config(Config::Test { set: SET }),
            ),
            ("another hub's set, activated", activate(SET, 1)),
            (
                "another hub's set, confirmed",
                Service::Config(Config::Confirm { set: SET }),
            ),
            (
                "another hub's set, taken back",
                Service::Config(Config::Revert { set: SET }),
            ),
            ("another hub's member, left out", Service::Member(mark)),
            (
                "another hub's code, forgotten",
                Service::Member(MemberRequest::Forget),
            ),
            ("another hub's balancer, drained", rotate("web1")),
        ] {
            assert_eq!(stranger.ask(service).await, Err("FX0709".into()), "{what}");
            victim.has_said_once(what, "FX0709");
        }
        match hub.ask(Service::Config(Config::State)).await {
            Ok(Answer::Config(ConfigAnswer::State(state))) => {
                assert_eq!((state.live, state.is_unconfirmed), (Some(SET), false));
                assert_eq!(state.files[0].digest, Digest::of(b"two"));
            }
            other => panic!("{other:?}"),
        }
        let marked = hub.ask(Service::Member(MemberRequest::Marked)).await;
        assert_eq!(
            marked,
            Ok(Answer::Member(
                sync_proto::wire::service::MemberAnswer::Marked(false)
            ))
        );
    });
    victim.is_well("sets in every order");
    victim.serves_its_own_hub();
}

/// What a set says is tested before it is used: users of pools, groups of settings, keys.
#[test]
fn users_groups_and_keys_in_a_set_are_faults_where_they_may_not_be() {
    if !root_or_skip("giving files to others") {
        return;
    }
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let users = || fs::read_to_string("/etc/passwd").unwrap();
    let before = users();
    runtime().block_on(async {
        let mut hub = Hub::greeted(&victim, &victim.hub).await;
        let pool = |user: &str| {
            let text = format!("[p]\nuser = {user}\ngroup = {user}\n");
            file(Area::PhpFpm, "8.2-p.conf", text.as_bytes())
        };
        for (what, file) in [
            ("root for PHP", pool("root")),
            ("no user for PHP", pool("a;id")),
            ("an option for useradd", pool("-o")),
            ("a path for PHP", pool("../root")),
            ("a user with control characters", pool("a\u{1b}[31m")),
            ("a user above 32 bytes", pool(&"u".repeat(33))),
            (
                "a key that is none",
                file(Area::Keys, "www.example.com.pem", b"\x1b[31mno key"),
            ),
        ] {
            let other = Service::Config(Config::Revert { set: SET });
            hub.done(other).await;
            hub.done(put(SET, vec![file])).await;
            let faults = hub.faults(SET).await;
            assert!(!faults.is_empty(), "{what}");
            let is_plain = |text: &String| !text.contains(char::is_control);
            assert!(faults.iter().all(is_plain), "{what}: {faults:?}");
            assert_eq!(hub.ask(activate(SET, 60)).await, Err("FX0703".into()));
            victim.has_said_once(what, "FX0703");
        }
        let mut settings = file(Area::Settings, "a.settings.php", b"<?php");
        settings.group = "no-such-group-here".into();
        hub.done(Service::Config(Config::Revert { set: SET })).await;
        hub.done(put(SET, vec![settings])).await;
        let tested = hub.ask(Service::Config(Config::Test { set: SET })).await;
        assert_eq!(tested, Err("FX0710".into()));
        victim.has_said_once("a group that there isn't", "FX0710");
    });
    assert_eq!(users(), before, "a user was made");
    victim.is_well("users and groups");
    victim.serves_its_own_hub();
}

/// Words for programs of the machine are words and nothing else.
#[test]
fn names_for_programs_are_names() {
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let no_word = Comes::Refused("FX0009");
    let no_package = Comes::Refused("FX0711");
    let dropping = |name: &str| {
        let database: DatabaseName = "shopx".parse().unwrap();
        let drop = Operation::DropDatabase {
            database,
            only_if_empty: false,
        };
        let operations = vec![drop];
        let apply = Service::Database(DatabaseRequest::Apply { operations });
        let mut bytes = sync_proto::wire::encode(&Request::Service(apply)).unwrap();
        let at = bytes.windows(5).position(|it| it == b"shopx").unwrap();
        bytes[at - 1] = u8::try_from(name.len()).unwrap();
        bytes.splice(at..at + 5, name.bytes());
        vec![super::peer::Sends::Message(bytes)]
    };
    let login = Service::DatabaseProbe(ProbeRequest::Login(Box::new(DatabaseLogin {
        host: "h".repeat(254),
        port: 1,
        user: "user".parse().unwrap(),
        password: "long enough".replace(' ', "-").parse().unwrap(),
        database: "shop".parse().unwrap(),
    })));
    let rows = vec![
        asks(
            "two commands for HAProxy",
            rotate("web1; shutdown"),
            no_word,
        ),
        asks("a line for HAProxy", rotate("web1\nset server x"), no_word),
        asks("nobody for HAProxy", rotate(""), no_word),
        asks("no host to look at", probe("", "/"), no_word),
        asks("a header in a host", probe("a\r\nX: y", "/"), no_word),
        asks("a path without its beginning", probe("a", "x"), no_word),
        asks(
            "a header in a path",
            probe("a", "/ HTTP/1.1\r\nX: y"),
            no_word,
        ),
        asks(
            "a PHP that is a path",
            setup("8.2/../../x", "xml"),
            no_package,
        ),
        asks("a PHP that is an option", setup("-y", "xml"), no_package),
        asks("a PHP that is nothing", setup("", "xml"), no_package),
        asks("a PHP of two dots", setup("..", "xml"), no_package),
        asks("a PHP that is a pattern", setup("8.+", "xml"), no_package),
        asks(
            "an extension to be removed",
            setup("8.2", "fpm-"),
            no_package,
        ),
        asks(
            "an extension for apt to add",
            setup("8.2", "xml+"),
            no_package,
        ),
        asks("extensions by a pattern", setup("8.2", ".+"), no_package),
        asks("two extensions in one", setup("8.2", "a b"), no_package),
        asks(
            "an extension that is a path",
            setup("8.2", "../x"),
            no_package,
        ),
        asks(
            "an extension with control characters",
            setup("8.2", CONTROL),
            no_package,
        ),
        row(
            "the database server's own schema",
            Until::Greeted,
            dropping("mysql"),
            BROKEN,
        ),
        row(
            "another case of it",
            Until::Greeted,
            dropping("MySQL"),
            BROKEN,
        ),
        row("a quote", Until::Greeted, dropping("a`; DROP"), BROKEN),
        row("no database", Until::Greeted, dropping(""), BROKEN),
        asks("a host name above 253 bytes", login, BROKEN),
    ];
    play(&mut victim, rows);
}
