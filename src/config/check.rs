//! Tables to an [`Inventory`]: what is well-formed must also make sense.

use super::decode::{Item, document, only_known, section, table};
use super::inventory::{
    Cluster, DEFAULT_DEPOT_BUDGET, DEFAULT_EXCLUDES, DriftIgnore, Inventory, Platform, Server, Ssh,
};
use super::problem::{Invalid, Problems};
use super::rules;
use super::schema::{
    BalancerTable, ClusterTable, DriftIgnoreTable, HubTable, PlatformTable, SECTIONS, ServerTable,
    SiteTable,
};
use super::scope::{Scope, separate_roots};
use super::{app, services, sites};
use crate::model::{
    AbsPath, AppKind, BalancerName, ClusterName, CommitPolicy, Layout, OwnerPolicy, PlatformName,
    ResyncMode, ServerName, SiteUri, Transport,
};
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use sync_proto::path::{RelPath, escape};
use toml::Spanned;

/// Reads the whole text, collecting every fault.
pub(super) fn inventory(text: &str, file: &str) -> Result<Inventory, Invalid> {
    let mut problems = Problems::new(file, text);
    let checked = read(text, &mut problems);
    problems.finish(Some(checked))
}

fn read(text: &str, problems: &mut Problems<'_>) -> Inventory {
    let mut inventory = Inventory {
        hub: "fanout".into(),
        depot_budget: DEFAULT_DEPOT_BUDGET,
        servers: BTreeMap::new(),
        clusters: BTreeMap::new(),
        balancers: BTreeMap::new(),
        platforms: BTreeMap::new(),
        sites: BTreeMap::new(),
    };
    let Some(mut root) = document(text, problems) else {
        return inventory;
    };
    only_known(&mut root, SECTIONS, "the inventory", problems);
    if let Some((key, value)) = root.remove_entry("hub")
        && let Some(hub) = table::<HubTable>(value, &key.span(), "the hub", problems)
    {
        if let Some(name) = hub_name(&hub.name, problems) {
            inventory.hub = name;
        }
        if let Some(budget) = hub.depot_budget {
            inventory.depot_budget = budget;
        }
    }
    let servers: Vec<Item<ServerName, ServerTable>> = section(&mut root, "servers", problems);
    let clusters: Vec<Item<ClusterName, ClusterTable>> = section(&mut root, "clusters", problems);
    let balancers: Vec<Item<BalancerName, BalancerTable>> =
        section(&mut root, "balancers", problems);
    let platforms: Vec<Item<PlatformName, PlatformTable>> =
        section(&mut root, "platforms", problems);
    let sites: Vec<Item<SiteUri, SiteTable>> = section(&mut root, "sites", problems);
    // What can't be read has a name all the same.
    let balancer_names: BTreeSet<BalancerName> = names(&balancers);
    let platform_names: BTreeSet<PlatformName> = names(&platforms);

    let scope = Scope::new(&servers, &clusters, problems);
    separate_roots(&platforms, &scope, problems);
    services::separate_ports(&servers, &balancers, problems);
    for item in servers {
        if let Some(table) = item.table {
            let server = server(item.name, table, problems);
            inventory.servers.insert(server.name.clone(), server);
        }
    }
    for item in clusters {
        if let Some(table) = item.table {
            let members = scope.members(&item.name).to_vec();
            let balancer = table.balancer.as_ref().and_then(|balancer| {
                services::balancer_of(&item.name, balancer, &balancer_names, problems)
            });
            let cluster = Cluster {
                balancer,
                ..cluster(item.name, table, members, problems)
            };
            inventory.clusters.insert(cluster.name.clone(), cluster);
        }
    }
    for item in balancers {
        if let Some(table) = item.table {
            let balancer = services::balancer(item.name, &item.at, table, &scope, problems);
            inventory.balancers.insert(balancer.name.clone(), balancer);
        }
    }
    for item in platforms {
        if let Some(table) = item.table
            && let Some(platform) = platform(item.name, table, &scope, problems)
        {
            inventory.platforms.insert(platform.name.clone(), platform);
        }
    }
    sites::sites(sites, &mut inventory, &platform_names, &scope, problems);
    inventory
}

fn names<N: Ord + Clone, T>(items: &[Item<N, T>]) -> BTreeSet<N> {
    items.iter().map(|item| item.name.clone()).collect()
}

fn hub_name(name: &Spanned<String>, problems: &mut Problems<'_>) -> Option<String> {
    let text = name.get_ref();
    if text.trim().is_empty() || text.chars().count() > 63 || text.chars().any(char::is_control) {
        problems.push(
            name.span(),
            "The hub's name is one line of 1 to 63 characters",
        );
        return None;
    }
    Some(text.clone())
}

fn server(name: ServerName, table: ServerTable, problems: &mut Problems<'_>) -> Server {
    let transport = table.transport.as_ref().map(|t| *t.get_ref());
    if table.ssh.is_none() {
        if let Some(at) = table.transport.filter(|t| *t.get_ref() == Transport::Ssh) {
            problems.push_with(
                at.span(),
                format!("The server `{name}` is reached over ssh, but has no `ssh`"),
                "add ssh = \"user@host\"",
            );
        }
        if let Some(at) = table.sudo.as_ref().filter(|sudo| *sudo.get_ref()) {
            problems.push(
                at.span(),
                format!("`sudo` of the server `{name}` means nothing without `ssh`"),
            );
        }
    }
    let sudo = table.sudo.is_some_and(Spanned::into_inner);
    let web = table.web.as_ref();
    Server {
        web: web.map(|web| services::web(&name, web.get_ref(), problems)),
        db: table
            .db
            .as_ref()
            .map(|db| services::db(&name, db, problems)),
        name,
        address: table.address,
        addresses: table.addresses,
        labels: table.labels,
        transport: transport.unwrap_or(Transport::Auto),
        ssh: table.ssh.map(|ssh| Ssh {
            destination: ssh.into_inner(),
            sudo,
        }),
    }
}

fn cluster(
    name: ClusterName,
    table: ClusterTable,
    members: Vec<ServerName>,
    problems: &mut Problems<'_>,
) -> Cluster {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let too_many =
        |wanted: u32| format!("{wanted} is more than the members of the cluster `{name}`: {count}");
    // A cluster without members is reported as that.
    let reachable = |wanted: u32| wanted <= count || count == 0;
    if let Some(commit) = &table.commit
        && let CommitPolicy::Quorum(votes) = *commit.get_ref()
        && !reachable(votes.get())
    {
        problems.push(commit.span(), too_many(votes.get()));
    }
    if let Some(least) = &table.min_healthy {
        if *least.get_ref() == 0 {
            problems.push(least.span(), "`min_healthy` is at least 1");
        } else if !reachable(*least.get_ref()) {
            problems.push(least.span(), too_many(*least.get_ref()));
        }
    }
    Cluster {
        commit: table.commit.map(Spanned::into_inner).unwrap_or_default(),
        min_healthy: table.min_healthy.map_or(1, Spanned::into_inner),
        balancer: None,
        name,
        members,
    }
}

fn platform(
    name: PlatformName,
    table: PlatformTable,
    scope: &Scope,
    problems: &mut Problems<'_>,
) -> Option<Platform> {
    let on = scope.on(table.on.get_ref());
    if on.is_none() {
        scope.unknown(&table.on, &format!("the platform `{name}`"), problems);
    }
    reserved_root(&table.root, problems);
    if let Some(keep) = table.keep.as_ref().filter(|keep| *keep.get_ref() == 0) {
        problems.push(keep.span(), "`keep` is at least 1: the live generation");
    }
    if let Some(files) = &table.files
        && files.get_ref().bits() > 0o777
    {
        problems.push(
            files.span(),
            "The mode of all files can't have set-user-id, set-group-id or sticky bits",
        );
    }
    let exclude = match &table.exclude {
        Some(list) => rules::exclude(list, problems),
        None => DEFAULT_EXCLUDES.map(str::to_owned).into(),
    };
    let docroot = docroot(table.docroot.as_ref(), problems);
    let mut preserve = rules::preserve(&table.preserve, problems);
    preserve.extend(brought(table.app, &docroot, &preserve));
    if let Some(php) = &table.php
        && !is_php_version(php.get_ref())
    {
        problems.push(
            php.span(),
            format!(
                "`{}` is not a version of PHP, such as 8.2",
                escape(php.get_ref().as_bytes())
            ),
        );
    }
    let require = required_paths(&table.require, problems);
    let members = on.as_ref().map(|on| scope.members_of(on));
    let drift_ignore = table
        .drift_ignore
        .iter()
        .filter_map(|entry| drift_ignore(&name, entry, members, problems))
        .collect();
    Some(Platform {
        on: on?,
        path: table.path,
        root: table.root.into_inner(),
        layout: table.layout.unwrap_or(Layout::Switched),
        owner: table.owner.unwrap_or(OwnerPolicy::Keep),
        numeric_ids: table.numeric_ids,
        dirs: table.dirs,
        files: table.files.map(Spanned::into_inner),
        exclude,
        preserve,
        seed: table.seed,
        delete_excluded: table.delete_excluded,
        keep: table.keep.map_or(3, Spanned::into_inner),
        resync: table.resync.unwrap_or(ResyncMode::Repair),
        follow: table.follow,
        require,
        drift_ignore,
        privileged_xattrs: table.privileged_xattrs,
        special_files: table.special_files,
        app: table.app,
        docroot,
        php: table.php.map(Spanned::into_inner),
        name,
    })
}

/// Where requests begin: a directory of the tree, or the tree itself.
fn docroot(given: Option<&Spanned<String>>, problems: &mut Problems<'_>) -> RelPath {
    let Some(given) = given else {
        return RelPath::root();
    };
    let text = given.get_ref().trim_end_matches('/');
    // It stands in the configuration of web servers, where other characters have a meaning.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/+".contains(c);
    match RelPath::parse(text.as_bytes()) {
        _ if text == "." => RelPath::root(),
        Ok(path) if !path.is_root() && text.chars().all(is_plain) => path,
        _ => {
            problems.push(
                given.span(),
                format!(
                    "`{}` is not a directory relative to the source, such as web",
                    escape(given.get_ref().as_bytes())
                ),
            );
            RelPath::root()
        }
    }
}

/// The preserve rules that the application brings, but for those that are there already.
fn brought(app: Option<AppKind>, docroot: &RelPath, given: &[String]) -> Vec<String> {
    let above = match docroot.is_root() {
        true => String::new(),
        false => format!("/{}", escape(docroot.as_bytes())),
    };
    app::defaults(app)
        .preserve
        .iter()
        .map(|rule| format!("{above}{rule}"))
        .filter(|rule| !given.iter().any(|own| own.trim_end_matches('/') == rule))
        .collect()
}

fn is_php_version(text: &str) -> bool {
    let is_number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// fanout's own state lies in `.NAME.fanout` beside a root or in `.fanout` inside one.
fn reserved_root(root: &Spanned<AbsPath>, problems: &mut Problems<'_>) {
    let is_ours = |part: &&str| part.starts_with('.') && part.ends_with(".fanout");
    if let Some(part) = root.get_ref().components().find(is_ours) {
        problems.push(
            root.span(),
            format!("A root can't lie in `{part}`, where fanout keeps its own state"),
        );
    }
}

fn required_paths(list: &[Spanned<String>], problems: &mut Problems<'_>) -> Vec<RelPath> {
    let mut paths = Vec::new();
    for entry in list {
        match RelPath::parse(entry.get_ref().as_bytes()) {
            Ok(path) if !path.is_root() => paths.push(path),
            _ => problems.push(
                entry.span(),
                format!(
                    "`{}` is not a path relative to the source, such as index.php",
                    escape(entry.get_ref().as_bytes())
                ),
            ),
        }
    }
    paths
}

fn drift_ignore(
    platform: &PlatformName,
    entry: &DriftIgnoreTable,
    members: Option<&[ServerName]>,
    problems: &mut Problems<'_>,
) -> Option<DriftIgnore> {
    let path = rules::anchored(&entry.path, "drift_ignore", problems);
    let member = entry.member.get_ref();
    if members.is_some_and(|members| !members.contains(member)) {
        problems.push(
            entry.member.span(),
            format!("The platform `{platform}` has no member `{member}`"),
        );
    }
    let reason = entry.reason.get_ref().trim();
    if reason.is_empty() {
        problems.push(entry.reason.span(), "An ignored difference needs a reason");
    }
    let until = entry.until.get_ref();
    let date = match (until.date, until.time) {
        (Some(date), None) => {
            let month = i8::try_from(date.month).unwrap_or(0);
            let day = i8::try_from(date.day).unwrap_or(0);
            Date::new(i16::try_from(date.year).unwrap_or(i16::MAX), month, day).ok()
        }
        _ => None,
    };
    if date.is_none() {
        problems.push(entry.until.span(), "`until` is a date, such as 2026-12-31");
    }
    Some(DriftIgnore {
        path: path?,
        member: member.clone(),
        reason: reason.to_owned(),
        until: date?,
    })
}
