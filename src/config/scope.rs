//! What the names in an inventory mean: members of clusters, roots on servers.

use super::decode::Item;
use super::inventory::On;
use super::problem::Problems;
use super::schema::{ClusterTable, PlatformTable, ServerTable};
use super::suggest::closest;
use crate::model::{AbsPath, ClusterName, PlatformName, ServerName};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use sync_proto::path::escape;
use toml::Spanned;

/// The names that there are.
pub(super) struct Scope {
    servers: BTreeSet<ServerName>,
    clusters: BTreeSet<ClusterName>,
    /// The servers of each cluster that could be read, clusters in it replaced by theirs.
    members: BTreeMap<ClusterName, Vec<ServerName>>,
}

impl Scope {
    /// Resolves every cluster, and reports what can't be resolved.
    pub(super) fn new(
        servers: &[Item<ServerName, ServerTable>],
        clusters: &[Item<ClusterName, ClusterTable>],
        problems: &mut Problems<'_>,
    ) -> Self {
        let mut scope = Self {
            servers: servers.iter().map(|item| item.name.clone()).collect(),
            clusters: clusters.iter().map(|item| item.name.clone()).collect(),
            members: BTreeMap::new(),
        };
        for item in clusters {
            if scope.servers.contains(item.name.as_str()) {
                problems.push(
                    item.at.clone(),
                    format!("`{}` is the name of a server and of a cluster", item.name),
                );
            }
            if let Some(table) = &item.table {
                scope.check_names(&item.name, &table.members, problems);
            }
        }
        let tables: BTreeMap<&str, &ClusterTable> = clusters
            .iter()
            .filter_map(|item| Some((item.name.as_str(), item.table.as_ref()?)))
            .collect();
        let mut in_a_cycle = BTreeSet::new();
        for item in clusters {
            let mut walk = Walk {
                tables: &tables,
                above: Vec::new(),
                found: Vec::new(),
                in_a_cycle: &mut in_a_cycle,
            };
            scope.collect(item.name.as_str(), &mut walk, problems);
            let found = walk.found;
            scope.members.insert(item.name.clone(), found);
        }
        scope
    }

    /// Each member is there, and listed once.
    fn check_names(
        &self,
        cluster: &ClusterName,
        members: &Spanned<Vec<Spanned<String>>>,
        problems: &mut Problems<'_>,
    ) {
        if members.get_ref().is_empty() {
            problems.push(
                members.span(),
                format!("The cluster `{cluster}` has no members"),
            );
        }
        let mut seen = BTreeSet::new();
        for member in members.get_ref() {
            let name = member.get_ref().as_str();
            if !self.is_known(name) {
                self.unknown(member, &format!("the cluster `{cluster}`"), problems);
            } else if !seen.insert(name) {
                problems.push(
                    member.span(),
                    format!("The cluster `{cluster}` lists `{name}` twice"),
                );
            }
        }
    }

    /// Follows clusters in clusters down to their servers.
    fn collect<'t>(&self, name: &'t str, walk: &mut Walk<'_, 't>, problems: &mut Problems<'_>) {
        walk.above.push(name);
        let table = walk.tables.get(name).copied();
        for member in table.iter().flat_map(|table| table.members.get_ref()) {
            let text = member.get_ref().as_str();
            if let Some(server) = self.servers.get(text) {
                if !walk.found.contains(server) {
                    walk.found.push(server.clone());
                }
            } else if let Some((&inner, _)) = walk.tables.get_key_value(text) {
                if !walk.above.contains(&inner) {
                    self.collect(inner, walk, problems);
                } else if walk.above.first() == Some(&inner) && !walk.in_a_cycle.contains(inner) {
                    walk.in_a_cycle.extend(&walk.above);
                    problems.push(
                        member.span(),
                        format!(
                            "The cluster `{inner}` contains itself: {} -> {inner}",
                            walk.above.join(" -> ")
                        ),
                    );
                }
            }
        }
        walk.above.pop();
    }

    fn is_known(&self, name: &str) -> bool {
        self.servers.contains(name) || self.clusters.contains(name)
    }

    /// Reports a name that is neither.
    pub(super) fn unknown(&self, name: &Spanned<String>, user: &str, problems: &mut Problems<'_>) {
        let text = name.get_ref().as_str();
        let names = self.servers.iter().map(ServerName::as_str);
        let names = names.chain(self.clusters.iter().map(ClusterName::as_str));
        let shown = escape(text.as_bytes());
        let message = format!("There is no server or cluster `{shown}`, which {user} names");
        match closest(text, names) {
            Some(close) => {
                problems.push_with(name.span(), message, format!("did you mean `{close}`?"));
            }
            None => problems.push(name.span(), message),
        }
    }

    /// What a name means, if anything.
    pub(super) fn on(&self, name: &str) -> Option<On> {
        if let Some(server) = self.servers.get(name) {
            return Some(On::Server(server.clone()));
        }
        self.clusters.get(name).cloned().map(On::Cluster)
    }

    /// The server of that name, or a report that there is none.
    pub(super) fn server(
        &self,
        name: &Spanned<impl AsRef<str>>,
        user: &str,
        problems: &mut Problems<'_>,
    ) -> Option<ServerName> {
        reference(name, "server", user, &self.servers, problems)
    }

    /// The servers of a cluster.
    pub(super) fn members(&self, cluster: &ClusterName) -> &[ServerName] {
        self.members.get(cluster).map_or(&[], Vec::as_slice)
    }

    /// The servers of a cluster, or the one server.
    pub(super) fn members_of<'a>(&'a self, on: &'a On) -> &'a [ServerName] {
        match on {
            On::Server(name) => std::slice::from_ref(name),
            On::Cluster(name) => self.members(name),
        }
    }
}

/// The thing of that name, or a report that there is none.
pub(super) fn reference<N>(
    name: &Spanned<impl AsRef<str>>,
    what: &str,
    user: &str,
    names: &BTreeSet<N>,
    problems: &mut Problems<'_>,
) -> Option<N>
where
    N: Ord + Clone + AsRef<str> + std::borrow::Borrow<str>,
{
    let text = name.get_ref().as_ref();
    if let Some(found) = names.get(text) {
        return Some(found.clone());
    }
    let shown = escape(text.as_bytes());
    let message = format!("There is no {what} `{shown}`, which {user} names");
    match closest(text, names.iter().map(AsRef::as_ref)) {
        Some(close) => problems.push_with(name.span(), message, format!("did you mean `{close}`?")),
        None => problems.push(name.span(), message),
    }
    None
}

/// One way down from a cluster to its servers.
struct Walk<'w, 't> {
    tables: &'w BTreeMap<&'t str, &'t ClusterTable>,
    /// The clusters on the way from the first to this one.
    above: Vec<&'t str>,
    found: Vec<ServerName>,
    /// Those in a cycle that was reported; one report per cycle.
    in_a_cycle: &'w mut BTreeSet<&'t str>,
}

/// A platform's root, and the servers that have it.
struct Root<'t> {
    platform: &'t PlatformName,
    path: &'t AbsPath,
    at: Range<usize>,
    members: BTreeSet<ServerName>,
}

impl<'t> Root<'t> {
    fn of(item: &'t Item<PlatformName, PlatformTable>, scope: &Scope) -> Option<Self> {
        let table = item.table.as_ref()?;
        let on = scope.on(table.on.get_ref())?;
        Some(Self {
            platform: &item.name,
            path: table.root.get_ref(),
            at: table.root.span(),
            members: scope.members_of(&on).iter().cloned().collect(),
        })
    }
}

/// No root is another's, inside it or above it on the same server. (Two names of one directory
/// are found by the member, which compares inodes.)
pub(super) fn separate_roots(
    platforms: &[Item<PlatformName, PlatformTable>],
    scope: &Scope,
    problems: &mut Problems<'_>,
) {
    let mut roots: Vec<Root<'_>> = platforms
        .iter()
        .filter_map(|item| Root::of(item, scope))
        .collect();
    roots.sort_by_key(|root| root.at.start);
    for (index, later) in roots.iter().enumerate() {
        for earlier in &roots[..index] {
            let Some(server) = later.members.intersection(&earlier.members).next() else {
                continue;
            };
            let relation = if later.path == earlier.path {
                "is"
            } else if later.path.is_within(earlier.path) {
                "lies inside"
            } else if earlier.path.is_within(later.path) {
                "lies above"
            } else {
                continue;
            };
            let line = problems.line(earlier.at.start);
            problems.push(
                later.at.clone(),
                format!(
                    "The root of `{}` {relation} the root of `{}` (line {line}) on the server `{server}`",
                    later.platform, earlier.platform
                ),
            );
        }
    }
}
