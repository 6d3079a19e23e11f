//! The configurations of servers in the graph: of what they serve, of balancers, and without what leaves.

use super::{Built, Ground, Nodes};
use crate::codes::{Code, Problem};
use crate::config::Server;
use crate::model::SiteUri;
use crate::orchestrate::desired::{self, Materials, sites_on};
use crate::orchestrate::resources::activation::{Live, Staged};
use crate::orchestrate::resources::configuration::{Configuration, Kept};
use crate::orchestrate::resources::unknown::Unknown;
use crate::orchestrate::{NodeId, Phase, Place};
use crate::services::web;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which of the configurations that a server gets in one apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Of what it serves. What leaves it, leaves it later.
    Serving,
    /// Without what leaves, once others are proved.
    Leaving,
    /// The only one: no visitor comes to it, or only by way of others.
    Only,
}

impl Ground<'_> {
    /// One server's configuration, staged, and switched to after those. Returns the switch.
    pub(super) fn configuration(
        &self,
        materials: &Materials,
        server: &Server,
        turn: Turn,
        built: &mut Built,
        after: &[NodeId],
    ) -> Option<NodeId> {
        let place = self.fates.member(&server.name);
        let place = match turn {
            Turn::Serving => place,
            Turn::Leaving | Turn::Only => place.within(Phase::Settle),
        };
        let facts = match self.facts.get(&server.name)? {
            Ok(facts) => facts,
            Err(problem) => return unknown(built, place, server, problem),
        };
        // What a web server and PHP need says nothing about a balancer.
        let is_said = server.web.is_some() && turn != Turn::Leaving;
        let warnings = facts.warnings.iter().filter(|_| is_said);
        for warning in warnings {
            let message = format!("{}: {warning}", server.name);
            built.notes.push(Problem::new(Code::ConfigWarning, message));
        }
        let inventory = &self.hub.inventory;
        let mut wanted = Vec::new();
        if server.web.is_some() && !sites_on(inventory, &server.name).is_empty() {
            match desired::web(inventory, materials, server, facts) {
                Ok(files) => wanted.extend(files),
                Err(problem) => return unknown(built, place, server, &problem),
            }
        }
        for balancer in inventory.balancers.values() {
            if balancer.servers.contains(&server.name) {
                wanted.extend(desired::balancing(inventory, materials, balancer, facts));
            }
        }
        let former = self.former.get(&server.name).cloned().unwrap_or_default();
        let (leaving, mut kept): (BTreeSet<_>, BTreeSet<_>) = former
            .into_iter()
            .partition(|site| self.may_leave(&server.name, site));
        tracing::debug!(server = %server.name, ?leaving, "sites that leave");
        if turn == Turn::Serving {
            kept.extend(leaving.iter().cloned());
        }
        let kept = Kept {
            sites: self.with_groups(kept),
            leaving,
            is_last: turn == Turn::Leaving,
        };
        let servers = self.servers.clone();
        let configuration = Arc::new(Configuration::new(servers, &server.name, wanted, kept));
        let staged = Arc::new(Staged(configuration.clone()));
        // What is staged last must not wait for the switch of what is staged first.
        let staged = match turn {
            Turn::Serving => built.graph.add(place.clone(), staged, &[]),
            Turn::Leaving | Turn::Only => built.graph.add(place.clone(), staged, after),
        };
        let place = match turn {
            Turn::Serving => place.within(Phase::Switch),
            Turn::Leaving | Turn::Only => place,
        };
        let after = [after, &[staged]].concat();
        let live = Arc::new(Live(configuration));
        Some(built.graph.add(place, live, &after))
    }

    /// Sites that stay on a server, each with the group that may read its settings.
    fn with_groups(&self, sites: BTreeSet<SiteUri>) -> BTreeMap<SiteUri, String> {
        let group = |uri: SiteUri| {
            let listed = self.hub.inventory.sites.get(&uri);
            let group = listed.map_or_else(|| web::pool_name(&uri), web::pool_user);
            (uri, group)
        };
        sites.into_iter().map(group).collect()
    }

    /// Balancers on servers of their own, after every member has proved itself.
    pub(super) fn balancers(&self, materials: &Materials, built: &mut Built, nodes: &mut Nodes) {
        let inventory = &self.hub.inventory;
        let mut names = BTreeSet::new();
        for balancer in inventory.balancers.values() {
            if !desired::is_external(balancer) {
                names.extend(balancer.servers.iter().cloned());
            }
        }
        for name in names {
            let Some(server) = inventory.servers.get(&name) else {
                continue;
            };
            let serves = server.web.is_some() && !sites_on(inventory, &name).is_empty();
            if serves || self.request.is_gone(&name) {
                continue;
            }
            // A member that failed alone is out of rotation, and no reason to forget the others.
            let after = nodes.shared_proofs.clone();
            let node = self.configuration(materials, server, Turn::Only, built, &after);
            nodes.balancers.extend(node);
        }
    }

    /// What leaves servers, after whoever serves it from now on is proved and found by visitors.
    pub(super) fn former_members(
        &self,
        materials: &Materials,
        built: &mut Built,
        nodes: &mut Nodes,
    ) {
        let mut after = nodes.proofs.clone();
        after.extend(&nodes.balancers);
        for (name, sites) in &self.former {
            let Some(server) = self.hub.inventory.servers.get(name) else {
                continue;
            };
            let serves = server.web.is_some() && !sites_on(&self.hub.inventory, name).is_empty();
            if self.request.is_gone(name) {
                continue;
            }
            if serves {
                if sites.iter().any(|site| self.may_leave(name, site)) {
                    let turn = Turn::Leaving;
                    let node = self.configuration(materials, server, turn, built, &after);
                    nodes.left.extend(node);
                }
                continue;
            }
            if let Ok(empty) = web::Templates::built_in() {
                let materials = Materials {
                    templates: empty,
                    sites: BTreeMap::new(),
                    out: BTreeSet::new(),
                };
                let node = self.configuration(&materials, server, Turn::Only, built, &after);
                nodes.left.extend(node);
            }
        }
    }
}

/// A server whose configuration nobody can say anything about.
fn unknown(built: &mut Built, place: Place, server: &Server, problem: &Problem) -> Option<NodeId> {
    let unknown = Unknown {
        what: "configuration",
        server: server.name.clone(),
        problem: problem.clone(),
    };
    Some(built.graph.add(place, Arc::new(unknown), &[]))
}
