//! The inventory as a whole: what it means, and what every fault looks like.

use super::*;
use crate::model::{CommitPolicy, Layout, OwnerPolicy, ResyncMode, Transport};

/// The first (or the next) fenced block of the published documentation.
fn documented(index: usize) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inventory.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split("```toml\n").nth(index + 1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

fn faults(text: &str) -> String {
    match Inventory::parse(text, "fanout.toml") {
        Ok(inventory) => panic!("no fault found: {inventory:?}"),
        Err(invalid) => invalid.to_string(),
    }
}

const SERVERS: &str = "[servers]\nweb1 = { address = \"web1\" }\nweb2 = { address = \"web2\" }\n";

#[test]
fn the_documented_inventory_means_what_it_says() {
    let inventory = Inventory::parse(&documented(0), "docs/inventory.md").unwrap();
    assert_eq!(inventory.hub, "production");
    let drupal = inventory.platform("drupal").unwrap();
    let members: Vec<_> = inventory.members(drupal).iter().map(|s| s.name.as_str()).collect();
    assert_eq!(members, ["web1", "web2"]);
    assert_eq!(inventory.commit_policy(drupal), (CommitPolicy::Reachable, 1));
    assert_eq!(drupal.owner, "root:www-data".parse::<OwnerPolicy>().unwrap());
    assert_eq!(drupal.dirs.unwrap().bits(), 0o755);
    assert_eq!(drupal.require.len(), 2);
    assert_eq!(drupal.keep, 5);
    assert_eq!(drupal.drift_ignore[0].until, jiff::civil::date(2027, 1, 31));
    let web2 = inventory.server("web2").unwrap();
    assert_eq!(web2.address.to_string(), "[2001:db8::12]:4600");
    assert!(web2.ssh.as_ref().unwrap().sudo);
    assert_eq!(inventory.platforms_on(&web2.name), [drupal]);
    assert_eq!(web2.member().labels.len(), 2);
}

#[test]
fn the_documented_agent_configuration_is_valid() {
    let config = AgentConfig::parse(&documented(1), "docs/inventory.md").unwrap();
    assert_eq!(config.limits.sessions, 8);
    assert_eq!(config.limits.entries, Limits::default().entries);
}

#[test]
fn every_key_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inventory.md");
    let text = std::fs::read_to_string(path).unwrap();
    let schema = json_schema();
    let mut tables = vec![&schema];
    tables.extend(schema["$defs"].as_object().unwrap().values());
    for table in tables {
        let Some(properties) = table["properties"].as_object() else {
            continue;
        };
        for (key, about) in properties {
            assert!(text.contains(&format!("`{key}`")) || text.contains(&format!("[{key}")), "{key}");
            assert!(about["description"].is_string(), "{key}");
        }
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let text = format!(
        "{SERVERS}[platforms.a]\non = \"web1\"\npath = \"/srv/src/a/\"\nroot = \"/srv/a\"\n"
    );
    let inventory = Inventory::parse(&text, "fanout.toml").unwrap();
    let a = inventory.platform("a").unwrap();
    assert_eq!(inventory.hub, "fanout");
    assert_eq!(a.path.as_str(), "/srv/src/a");
    assert_eq!((a.layout, a.resync, a.keep), (Layout::Switched, ResyncMode::Repair, 3));
    assert_eq!(a.owner, OwnerPolicy::Keep);
    assert_eq!(a.exclude, DEFAULT_EXCLUDES);
    assert!(a.preserve.is_empty() && a.special_files.is_empty() && !a.follow && !a.seed);
    assert_eq!(inventory.commit_policy(a), (CommitPolicy::All, 1));
    let web1 = inventory.server("web1").unwrap();
    assert_eq!((web1.transport, web1.address.port()), (Transport::Auto, 4600));
}

#[test]
fn a_cluster_may_contain_clusters() {
    let text = format!(
        "{SERVERS}[clusters]\nall = {{ members = [\"web2\", \"eu\"] }}\neu = {{ members = [\"web1\", \"web2\"] }}\n"
    );
    let inventory = Inventory::parse(&text, "fanout.toml").unwrap();
    let names: Vec<_> = inventory.cluster("all").unwrap().members.iter().map(|n| n.as_str()).collect();
    assert_eq!(names, ["web2", "web1"]);
}

#[test]
fn unknown_keys_in_every_table_are_reported_together() {
    let text = r#"
[hubb]
name = "production"

[servers.web1]
adress = "web1"
web = { kind = "nginx" }

[clusters.front]
memebrs = ["web1"]

[platforms.drupal]
on = "front"
path = "/srv/src/drupal"
root = "/srv/platforms/drupal"
colour = "blue"
"#;
    insta::assert_snapshot!(faults(text), @"");
}

#[test]
fn faulty_values_are_reported_together() {
    let text = r#"
[servers.web1]
address = "web1:99999"
addresses = ["10.0.0.300"]
transport = "udp"
labels = ["e u"]

[servers."web 2"]
address = "web2"

[platforms.drupal]
on = "web1"
path = "src/drupal"
root = "/srv/../drupal"
layout = "inplace"
owner = "www-data"
dirs = "rwxr-xr-x"
keep = -1
numeric_ids = "yes"
special_files = ["sockets"]
"#;
    insta::assert_snapshot!(faults(text), @"");
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    insta::assert_snapshot!(faults("[servers.web1]\naddress = web1\n"), @"");
    insta::assert_snapshot!(faults("[servers.web1]\naddress = \"a\"\naddress = \"b\"\n"), @"");
    insta::assert_snapshot!(faults("servers = 5\n[hub]\n"), @"");
}

#[test]
fn members_that_make_no_sense_are_reported() {
    let text = r#"
[servers.web1]
address = "web1"

[clusters.web1]
members = ["web1"]

[clusters.front]
members = ["wbe1", "web1", "web1"]

[clusters.empty]
members = []

[clusters.a]
members = ["b"]

[clusters.b]
members = ["a", "web1"]

[clusters.small]
members = ["web1"]
commit = "quorum:2"
min_healthy = 0

[platforms.drupal]
on = "frnt"
path = "/srv/src/drupal"
root = "/srv/platforms/drupal"
"#;
    insta::assert_snapshot!(faults(text), @"");
}

#[test]
fn a_broken_server_is_not_reported_again_where_it_is_named() {
    let text = "[servers.web1]\naddress = 5\n[clusters.front]\nmembers = [\"web1\"]\n";
    let invalid = Inventory::parse(text, "fanout.toml").unwrap_err();
    assert_eq!(invalid.problems().len(), 1, "{invalid}");
}

#[test]
fn two_platforms_in_one_root_are_reported() {
    let text = format!(
        r#"{SERVERS}
[clusters.front]
members = ["web1", "web2"]
[platforms.a]
on = "front"
path = "/srv/src/a"
root = "/srv/www"
[platforms.b]
on = "web2"
path = "/srv/src/b"
root = "/srv/www/"
[platforms.c]
on = "web1"
path = "/srv/src/c"
root = "/srv/www/c"
[platforms.d]
on = "web2"
path = "/srv/src/d"
root = "/srv"
[platforms.e]
on = "web2"
path = "/srv/src/e"
root = "/opt/.a.fanout/gen"
"#
    );
    insta::assert_snapshot!(faults(&text), @"");
}

#[test]
fn the_same_root_on_different_servers_is_fine() {
    let text = format!(
        "{SERVERS}[platforms]\na = {{ on = \"web1\", path = \"/src/a\", root = \"/srv\" }}\n\
         b = {{ on = \"web2\", path = \"/src/b\", root = \"/srv\" }}\n"
    );
    Inventory::parse(&text, "fanout.toml").unwrap();
}

#[test]
fn faulty_rules_come_with_the_corrected_line() {
    let text = format!(
        r#"{SERVERS}
[platforms.a]
on = "web1"
path = "/srv/src/a"
root = "/srv/www"
exclude = ["", "ok"]
preserve = ["/ok", "sites/*/files/", "/", "/a/../b"]   # uploads
keep = 0
files = "4755"
require = ["/index.php"]
drift_ignore = [
    {{ path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z }},
    {{ path = "/robots.txt", member = "web1", until = 2027-01-31 }},
]
"#
    );
    insta::assert_snapshot!(faults(&text), @"");
}

#[test]
fn secrets_are_refused_and_never_repeated() {
    let text = r#"
[servers.web1]
address = "web1"
password = "hunter2"
ssh = "admin:hunter2@web1"
transport = "ssh"
api-token = "hunter2"
"#;
    let message = faults(text);
    assert!(!message.contains("hunter2"), "{message}");
    insta::assert_snapshot!(message, @"");
}

#[test]
fn ssh_settings_without_ssh_are_reported() {
    let text = "[servers.web1]\naddress = \"web1\"\ntransport = \"ssh\"\nsudo = true\n";
    insta::assert_snapshot!(faults(text), @"");
}

#[test]
fn unknown_names_are_answered_with_the_closest() {
    let inventory = Inventory::parse(&documented(0), "x").unwrap();
    let error = inventory.platform("durpal").unwrap_err();
    assert_eq!(error.to_string(), "There is no platform `durpal` in the inventory");
    assert_eq!(error.hint().unwrap(), "did you mean `drupal`?");
    assert!(inventory.server("\x1b[2J").unwrap_err().to_string().contains("\\x1B"));
}

#[test]
fn a_missing_or_undecodable_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fanout.toml");
    let error = Inventory::load(&path).unwrap_err();
    assert!(error.to_string().starts_with("There is no inventory at /"));
    assert!(error.hint().unwrap().contains("fanout init"));
    std::fs::write(&path, b"[hub]\nname = \"\xff\"\n").unwrap();
    let error = Inventory::load(&path).unwrap_err().to_string();
    assert!(error.contains("isn't UTF-8") && error.contains("fanout.toml:2:9"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[|\\]|=|\"|\n|servers|web1|platforms|\\.|[ -~ü])*") {
        let _checked = Inventory::parse(&text, "fanout.toml").map_err(|e| e.to_string());
        let _checked = AgentConfig::parse(&text, "agent.toml").map_err(|e| e.to_string());
    }

    #[test]
    fn no_damage_to_a_real_file_makes_the_parser_panic(at in 0usize..2_000, with in "[\"\\[\\]=\n,a5]{0,3}", less in 0usize..40) {
        let text = documented(0);
        let start = at.min(text.len());
        let end = (start + less).min(text.len());
        if text.is_char_boundary(start) && text.is_char_boundary(end) {
            let text = format!("{}{with}{}", &text[..start], &text[end..]);
            let _checked = Inventory::parse(&text, "fanout.toml").map_err(|e| e.to_string());
        }
    }
}
