//! What an inventory means.

use super::super::*;
use super::{SERVERS, documented};
use crate::model::{CommitPolicy, Layout, OwnerPolicy, ResyncMode, Transport};

#[test]
fn the_documented_inventory_means_what_it_says() {
    let inventory = Inventory::parse(&documented(0), "docs/inventory.md").unwrap();
    assert_eq!(inventory.hub, "production");
    let drupal = inventory.platform("drupal").unwrap();
    let members: Vec<_> = inventory
        .members(drupal)
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(members, ["web1", "web2"]);
    assert_eq!(
        inventory.commit_policy(drupal),
        (CommitPolicy::Reachable, 1)
    );
    assert_eq!(
        drupal.owner,
        "root:www-data".parse::<OwnerPolicy>().unwrap()
    );
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
            assert!(
                text.contains(&format!("`{key}`")) || text.contains(&format!("[{key}")),
                "{key}"
            );
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
    assert_eq!(inventory.depot_budget, DEFAULT_DEPOT_BUDGET);
    assert_eq!(DEFAULT_DEPOT_BUDGET.to_string(), "64GiB");
    assert_eq!(a.path.as_str(), "/srv/src/a");
    assert_eq!(
        (a.layout, a.resync, a.keep),
        (Layout::Switched, ResyncMode::Repair, 3)
    );
    assert_eq!(a.owner, OwnerPolicy::Keep);
    assert_eq!(a.exclude, DEFAULT_EXCLUDES);
    assert!(a.preserve.is_empty() && a.special_files.is_empty() && !a.follow && !a.seed);
    assert_eq!(inventory.commit_policy(a), (CommitPolicy::All, 1));
    let web1 = inventory.server("web1").unwrap();
    assert_eq!(
        (web1.transport, web1.address.port()),
        (Transport::Auto, 4600)
    );
}

#[test]
fn a_cluster_may_contain_clusters() {
    let text = format!(
        "{SERVERS}[clusters]\nall = {{ members = [\"web2\", \"eu\"] }}\neu = {{ members = [\"web1\", \"web2\"] }}\n"
    );
    let inventory = Inventory::parse(&text, "fanout.toml").unwrap();
    let names: Vec<_> = inventory
        .cluster("all")
        .unwrap()
        .members
        .iter()
        .map(|n| n.as_str())
        .collect();
    assert_eq!(names, ["web2", "web1"]);
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
fn unknown_names_are_answered_with_the_closest() {
    let inventory = Inventory::parse(&documented(0), "x").unwrap();
    let error = inventory.platform("durpal").unwrap_err();
    assert_eq!(
        error.to_string(),
        "There is no platform `durpal` in the inventory"
    );
    assert_eq!(error.hint().unwrap(), "did you mean `drupal`?");
    assert!(
        inventory
            .server("\x1b[2J")
            .unwrap_err()
            .to_string()
            .contains("\\x1B")
    );
}
