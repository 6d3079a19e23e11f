//! Which members go back together, by the commit policies of the clusters that they are in.
//!
//! Under `all` and `reachable` members decide together; clusters that share a server are one group
//! then, since a server has one configuration. Under `quorum` and `each` every member is on its own,
//! as a server outside of all clusters is.

use super::graph::{Fate, Place};
use crate::config::{Inventory, On, Platform};
use crate::model::{ClusterName, CommitPolicy, ServerName};
use std::collections::BTreeMap;

/// The fates of an inventory's members.
pub struct Fates {
    groups: BTreeMap<ServerName, usize>,
    /// Servers of clusters whose policy wants every member.
    needed: Vec<ServerName>,
}

impl Fates {
    /// By every cluster that something lives on.
    pub fn of(inventory: &Inventory) -> Self {
        let mut fates = Self {
            groups: BTreeMap::new(),
            needed: Vec::new(),
        };
        let is_used = |name: &ClusterName| {
            let mut platforms = inventory.platforms.values();
            platforms.any(|platform| platform.on == On::Cluster(name.clone()))
        };
        for (number, (name, cluster)) in inventory.clusters.iter().enumerate() {
            let is_together = matches!(cluster.commit, CommitPolicy::All | CommitPolicy::Reachable);
            if !is_used(name) || !is_together {
                continue;
            }
            if cluster.commit == CommitPolicy::All {
                fates.needed.extend(cluster.members.iter().cloned());
            }
            for member in &cluster.members {
                if let Some(other) = fates.groups.insert(member.clone(), number) {
                    for group in fates.groups.values_mut().filter(|it| **it == other) {
                        *group = number;
                    }
                }
            }
        }
        fates
    }

    /// Where a member's steps belong.
    pub fn member(&self, server: &ServerName) -> Place {
        Place {
            fate: match self.groups.get(server) {
                Some(group) => Fate::Together(*group),
                None => Fate::Member(server.clone()),
            },
            may_be_absent: !self.needed.contains(server),
            ..Place::default()
        }
    }

    /// Where steps belong that all members of a platform need: they go back where all of those do.
    pub fn shared(&self, platform: &Platform, inventory: &Inventory) -> Place {
        let fate = match &platform.on {
            On::Server(server) => self.member(server).fate,
            On::Cluster(_) => {
                let members = inventory.members(platform);
                let first = members.first().map(|server| self.member(&server.name).fate);
                let together = first.filter(|fate| matches!(fate, Fate::Together(_)));
                together.unwrap_or_default()
            }
        };
        Place {
            fate,
            ..Place::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(clusters: &str) -> Fates {
        let mut text = String::from("[hub]\nname = \"test\"\n");
        for name in ["a", "b", "c", "d"] {
            text += &format!("[servers.{name}]\naddress = \"{name}\"\n");
        }
        text += clusters;
        Fates::of(&Inventory::parse(&text, "fanout.toml").unwrap())
    }

    fn cluster(name: &str, members: &str, commit: &str) -> String {
        format!(
            "[clusters.{name}]\nmembers = [{members}]\ncommit = \"{commit}\"\n\
             [platforms.{name}]\npath = \"/srv/src/{name}\"\nroot = \"/srv/{name}\"\n\
             on = \"{name}\"\n"
        )
    }

    fn place(fates: &Fates, name: &str) -> Place {
        fates.member(&name.parse().unwrap())
    }

    #[test]
    fn clusters_that_share_a_server_decide_together() {
        let three = [
            cluster("one", "\"a\", \"b\"", "reachable"),
            cluster("two", "\"b\", \"c\"", "all"),
        ];
        let fates = fates(&three.concat());
        assert_eq!(place(&fates, "a").fate, place(&fates, "c").fate);
        assert!(place(&fates, "a").may_be_absent);
        assert!(!place(&fates, "c").may_be_absent, "`all` wants it");
        assert_eq!(place(&fates, "d").fate, Fate::Member("d".parse().unwrap()));
    }

    #[test]
    fn under_quorum_and_each_every_member_is_on_its_own() {
        for commit in ["each", "quorum:1"] {
            let fates = fates(&cluster("one", "\"a\", \"b\"", commit));
            let place = place(&fates, "a");
            assert_eq!(place.fate, Fate::Member("a".parse().unwrap()), "{commit}");
            assert!(place.may_be_absent);
        }
    }
}
