//! Services, sites and secrets in the inventory: added, edited, removed; what is refused.

use crate::support::env::World;
use crate::support::run;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const SECRET: &str = "correct horse battery staple";

/// A hub with two web servers in a cluster, written by hand, and a platform.
fn hub() -> World {
    let world = World::with_agents(0);
    let servers = "\n# rack 3\n[servers.web1]\naddress = \"127.0.0.1:9\"\n\
        web = { kind = \"nginx\" } # not apache\n\
        [servers.web2]\naddress = \"127.0.0.1:9\"\nweb = { kind = \"nginx\" }\n\
        [clusters.front]\nmembers = [\"web1\", \"web2\"]\n\
        [platforms.shop]\non = \"front\"\npath = \"/srv/src/shop\"\nroot = \"/srv/shop\"\n";
    let text = inventory(&world) + servers;
    fs::write(file(&world), text).unwrap();
    world
}

fn file(world: &World) -> std::path::PathBuf {
    world.hub_dir().join("fanout.toml")
}

fn inventory(world: &World) -> String {
    fs::read_to_string(file(world)).unwrap()
}

fn add(world: &World, line: &str) -> run::Output {
    world.fanout(&line.split_whitespace().collect::<Vec<_>>())
}

fn with_input(world: &World, words: &[&str], input: &str) -> run::Output {
    run::run_within(&mut world.command(words), input.as_bytes(), run::USUAL_TIME)
}

#[test]
fn services_and_a_site_are_added_and_their_comments_stay() {
    let world = hub();
    add(
        &world,
        "add server db1 --address db1.internal --no-agent --db mysql --db-admin secret:db1-admin \
         --db-network 10.0.0.0/24",
    )
    .success();
    add(
        &world,
        "add server lb1 --address lb1 --no-agent --addresses 10.0.0.5",
    )
    .success();
    let said = add(
        &world,
        "add balancer edge --servers lb1 --kind haproxy --drain-timeout 1m",
    )
    .success()
    .error_text();
    assert!(
        said.contains("Nothing on the servers has changed yet"),
        "{said}"
    );
    assert!(
        said.contains("next: fanout edit cluster front --balancer edge"),
        "{said}"
    );
    add(&world, "edit cluster front --balancer edge --min-healthy 1").success();
    let said = add(
        &world,
        "add site www.example.com --platform shop --db db1 --alias example.com",
    )
    .success()
    .error_text();
    assert!(said.contains("--uploads pin:web1"), "{said}");
    let edited = add(
        &world,
        "edit site www.example.com --uploads pin:web1 --alias shop.example.com --redirect /a=/b \
         --tls required --json",
    )
    .success();
    assert_eq!(edited.json_result()["edited"]["kind"], "site");
    add(&world, "edit server web1 --web nginx_ssl --web-health 4690").success();
    add(
        &world,
        "edit server db1 --db-network 10.0.1.0/24 --db-via tcp",
    )
    .success();
    add(
        &world,
        "edit platform shop --app php --docroot public --php 8.2",
    )
    .success();
    let text = inventory(&world);
    let wanted = r#"
# rack 3
[servers.web1]
address = "127.0.0.1:9"
web = { kind = "nginx_ssl", health = 4690 } # not apache
[servers.web2]
address = "127.0.0.1:9"
web = { kind = "nginx" }

[servers.db1]
address = "db1.internal:4600"
db = { kind = "mysql", admin = "secret:db1-admin", networks = ["10.0.0.0/24", "10.0.1.0/24"], via = "tcp" }

[servers.lb1]
address = "lb1:4600"
addresses = ["10.0.0.5"]
[clusters.front]
members = ["web1", "web2"]
balancer = "edge"
min_healthy = 1
[platforms.shop]
on = "front"
path = "/srv/src/shop"
root = "/srv/shop"
app = "php"
docroot = "public"
php = "8.2"

[balancers.edge]
servers = ["lb1"]
kind = "haproxy"
drain_timeout = "1m"

[sites."www.example.com"]
platform = "shop"
db = "db1"
aliases = ["example.com", "shop.example.com"]
tls = "required"
uploads = { pin = "web1" }
redirects = { "/a" = "/b" }
"#;
    assert!(text.ends_with(wanted), "{text}");
    add(
        &world,
        "edit site www.example.com --remove-redirect /a --remove-alias example.com --unset tls",
    )
    .success();
    let text = inventory(&world);
    assert!(
        !text.contains("redirects") && !text.contains("tls ="),
        "{text}"
    );
    assert!(text.contains("aliases = [\"shop.example.com\"]"), "{text}");
}

#[test]
fn what_the_inventory_refuses_is_not_written() {
    let world = hub();
    let before = inventory(&world);
    for (line, code, words) in [
        (
            "add site a.example --platform shpo",
            "FX0003",
            "did you mean `shop`?",
        ),
        (
            "add site a.example --platform shop --db db1",
            "FX0003",
            "`db1`",
        ),
        (
            "add site a.example --platform shop --tls required",
            "FX0003",
            "nginx_ssl",
        ),
        (
            "add site a.example --platform shop --uploads pin:web7",
            "FX0003",
            "web1, web2",
        ),
        ("add site A.example --platform shop", "FX0009", "lower case"),
        (
            "add balancer edge --kind haproxy",
            "FX0003",
            "has no servers",
        ),
        (
            "add balancer edge --kind nginx --servers web1",
            "FX0003",
            "Port 80",
        ),
        ("edit cluster front --balancer egde", "FX0003", "`egde`"),
        ("edit cluster front --remove-members web7", "FX0005", "web7"),
        ("edit site a.example --tls off", "FX0020", "a.example"),
        ("edit balancer edge --tls passthrough", "FX0019", "edge"),
        ("edit server web1 --unset db", "FX0003", "has no `db`"),
        (
            "edit server web1 --unset web.port",
            "FX0003",
            "has no `web.port`",
        ),
        ("remove site a.example", "FX0020", "a.example"),
        ("remove balancer edge", "FX0019", "edge"),
    ] {
        let output = add(&world, line);
        let said = output.error_text();
        assert!(output.code != Some(0), "{line}");
        assert!(
            said.contains(code) && said.contains(words),
            "{line}: {said}"
        );
        assert_eq!(inventory(&world), before, "{line}");
    }
}

#[test]
fn what_is_still_used_is_not_removed_and_what_is_removed_lists_what_stays() {
    let world = hub();
    add(
        &world,
        "add server db1 --address db1 --no-agent --db mysql --db-admin secret:db1",
    )
    .success();
    add(&world, "add server lb1 --address lb1 --no-agent").success();
    add(&world, "add balancer edge --servers lb1 --kind haproxy").success();
    add(&world, "edit cluster front --balancer edge").success();
    add(&world, "add site a.example --platform shop --db db1").success();
    for (line, user) in [
        ("remove server db1", "the site a.example"),
        ("remove server lb1", "the balancer edge"),
        ("remove balancer edge", "the cluster front"),
        ("remove platform shop", "the site a.example"),
        ("secret remove db1", "the database server on db1"),
    ] {
        let said = add(&world, line).exits(1).error_text();
        assert!(
            said.contains("FX0011") && said.contains(user),
            "{line}: {said}"
        );
    }
    let left = add(&world, "remove site a.example --json")
        .success()
        .json_result();
    let left = left["left"].to_string();
    assert!(
        left.contains("db1: its database") && left.contains("web2: its conf"),
        "{left}"
    );
    add(&world, "edit cluster front --unset balancer").success();
    add(&world, "remove balancer edge").success();
    assert!(!inventory(&world).contains("edge"));
}

#[test]
fn a_secret_is_kept_by_name_and_shows_up_nowhere() {
    let world = hub();
    add(
        &world,
        "add server db1 --address db1 --no-agent --db mysql --db-admin secret:db1-admin",
    )
    .success();
    let missing = add(&world, "secret list --json").success().json_result();
    assert_eq!(missing["secrets"][0]["name"], "db1-admin");
    assert_eq!(missing["secrets"][0]["is_set"], false);
    let set = with_input(
        &world,
        &["secret", "set", "db1-admin", "--json", "-vv"],
        SECRET,
    );
    let set = set.success();
    assert_eq!(set.json_result()["reference"], "secret:db1-admin");
    add(&world, "secret set session-salt --generate").success();
    let listed = add(&world, "secret list").success();
    let text = listed.text();
    assert!(
        text.contains("the database server on db1") && text.contains("session-salt"),
        "{text}"
    );
    let stored = world.hub_dir().join("state/secrets/db1-admin");
    assert_eq!(fs::read_to_string(&stored).unwrap(), SECRET);
    assert_eq!(
        fs::metadata(&stored).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for output in [&set, &listed] {
        assert!(!format!("{}{}", output.text(), output.error_text()).contains(SECRET));
    }
    // Neither the inventory nor the history of tasks nor any other file of the hub.
    let files = walkdir::WalkDir::new(world.hub_dir());
    for entry in files.into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() && entry.path() != stored {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
    add(&world, "secret remove session-salt").success();
    let gone = add(&world, "secret remove session-salt")
        .exits(1)
        .error_text();
    assert!(gone.contains("FX0021"), "{gone}");
}

#[test]
fn an_empty_secret_is_refused_and_an_exposed_one_is_not_used() {
    let world = hub();
    let said = with_input(&world, &["secret", "set", "a"], "\n")
        .exits(1)
        .error_text();
    assert!(said.contains("FX0022"), "{said}");
    let said = add(&world, "secret set ../a --generate")
        .exits(64)
        .error_text();
    assert!(said.contains("FX0009"), "{said}");
    assert!(!world.hub_dir().join("state/a").exists());
}

#[test]
fn a_terminal_does_not_show_the_secret_that_is_typed() {
    if !run::is_installed("script") {
        return;
    }
    let world = hub();
    let command = world.command(&["secret", "set", "typed"]);
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let line = shlex::try_join(words).unwrap();
    let mut terminal = Command::new("script")
        .args(["-qfec", &line, "/dev/null"])
        .env("FANOUT_DIR", world.hub_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (
        terminal.stdin.take().unwrap(),
        terminal.stdout.take().unwrap(),
    );
    let mut shown = String::new();
    let mut byte = [0];
    for prompt in ["The secret typed: ", "Once more: "] {
        while !shown.ends_with(prompt) {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{shown}");
            shown.push(char::from(byte[0]));
        }
        writeln!(keyboard, "{SECRET}").unwrap();
    }
    screen.read_to_string(&mut shown).unwrap();
    assert!(terminal.wait().unwrap().success(), "{shown}");
    assert!(!shown.contains(SECRET), "{shown}");
    let stored = fs::read_to_string(world.hub_dir().join("state/secrets/typed")).unwrap();
    assert_eq!(stored, SECRET);
}
