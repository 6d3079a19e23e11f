//! What the members of an inventory have and have in common: space, the numbers of users, shares.

use super::Diagnosis;
use crate::cli::hub::Hub;
use crate::cli::human::bytes;
use crate::codes::Code;
use crate::config::Site;
use crate::model::{ServerName, Uploads};
use crate::orchestrate::servers::Servers;
use crate::orchestrate::uploads;
use crate::services::web::pool_user;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use sync_proto::path::escape;
use sync_proto::wire::service::ServiceFacts;

/// Less than this of a file system is little, unless it is still [`PLENTY_BYTES`].
const LITTLE_PERCENT: u64 = 5;
const PLENTY_BYTES: u64 = 5 << 30;

type Facts = BTreeMap<ServerName, ServiceFacts>;

/// Space and inodes.
pub(super) fn disks(facts: &Facts, diagnosis: &mut Diagnosis) {
    let is_little = |free: u64, total: u64| free.saturating_mul(100) / LITTLE_PERCENT < total;
    for (name, facts) in facts {
        for disk in &facts.disks {
            diagnosis.checks += 2;
            let path = escape(disk.path.as_bytes());
            if is_little(disk.free_bytes, disk.total_bytes) && disk.free_bytes < PLENTY_BYTES {
                let message = format!(
                    "{} of {} are left at {path}",
                    bytes(disk.free_bytes),
                    bytes(disk.total_bytes)
                );
                let remedy = "make room: a push needs the space of what it changes, and each kept \
                              generation what it doesn't share (keep = N in the platform's table)";
                diagnosis.found(Some(name), "disk", message, remedy);
            }
            if disk.total_inodes > 0 && is_little(disk.free_inodes, disk.total_inodes) {
                let message = format!(
                    "{} of {} inodes are left at {path}",
                    disk.free_inodes, disk.total_inodes
                );
                let remedy = "remove small files that nobody needs, sessions and caches first, or \
                              make the file system again with more inodes";
                diagnosis.found(Some(name), "inodes", message, remedy);
            }
        }
    }
}

/// The web server's user and those of the pools are the same numbers on all members that serve the
/// same sites: shares and backups know numbers only.
pub(super) async fn numbers(
    hub: &Hub,
    servers: &Arc<Servers>,
    facts: &Facts,
    diagnosis: &mut Diagnosis,
) {
    let mut wanted: BTreeMap<String, BTreeSet<&ServerName>> = BTreeMap::new();
    for site in hub.inventory.sites.values() {
        let members = hub.inventory.members_of_site(site);
        let known = members.iter().map(|server| &server.name);
        let known: Vec<&ServerName> = known.filter(|name| facts.contains_key(*name)).collect();
        let groups = known.iter().filter_map(|name| facts.get(*name));
        let groups: BTreeSet<&str> = groups.map(|facts| facts.web_group.as_str()).collect();
        // Members of different distributions call their web server's user differently.
        let group = groups.first().filter(|_| groups.len() == 1);
        let users = group.map(ToString::to_string).into_iter();
        for user in users.chain([pool_user(site)]) {
            wanted.entry(user).or_default().extend(&known);
        }
    }
    for (user, members) in wanted {
        let mut seen: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
        for member in members {
            diagnosis.checks += 1;
            match uploads::numbers(servers, member, &user).await {
                Ok(ids) => seen.entry(ids).or_default().push(member.as_str()),
                // The next apply makes it, or refuses it.
                Err(problem)
                    if matches!(problem.code, Code::OwnerMissing | Code::RoleForbidden) => {}
                Err(problem) => {
                    let hint = problem.hint().to_owned();
                    diagnosis.found(Some(member), "users", problem.message, hint);
                }
            }
        }
        if seen.len() > 1 {
            let each: Vec<String> = seen
                .iter()
                .map(|((uid, gid), names)| format!("{uid}:{gid} on {}", names.join(", ")))
                .collect();
            let message = format!("`{user}` is {}", each.join(" and "));
            let remedy = format!(
                "give it the same numbers everywhere (usermod -u, groupmod -g, then chown what it \
                 owned): on a share, files of `{user}` would be somebody else's"
            );
            diagnosis.found(None, "users", message, remedy);
        }
    }
}

/// The share that a site's uploads lie on is mounted on every member, from one place.
pub(super) async fn share(
    hub: &Hub,
    servers: &Arc<Servers>,
    site: &Site,
    facts: &Facts,
    diagnosis: &mut Diagnosis,
) {
    let Some(Uploads::Mount(path)) = &site.uploads else {
        return;
    };
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let members = hub.inventory.members_of_site(site);
    for member in members.iter().map(|server| &server.name) {
        if !facts.contains_key(member) {
            continue;
        }
        diagnosis.checks += 1;
        // Whoever has a number on every machine: the site's own user may still be made.
        match uploads::mounted(servers, member, path.as_str(), "nobody").await {
            Ok(mounted) => {
                let what = format!("{} ({})", mounted.source, escape(mounted.kind.as_bytes()));
                seen.entry(what).or_default().push(member.as_str());
            }
            Err(problem) => {
                let message = format!("{}: {}", site.uri, problem.message);
                let remedy = format!("mount the share at {path} on {member}, writable");
                diagnosis.found(Some(member), "share", message, remedy);
            }
        }
    }
    if seen.len() > 1 {
        let each: Vec<String> = seen
            .iter()
            .map(|(what, names)| format!("{what} on {}", names.join(", ")))
            .collect();
        let message = format!("{}: {path} is {}", site.uri, each.join(" and "));
        let remedy = "mount the same export on all of them; `fanout apply` proves it by a file that \
                      one writes and the others find";
        diagnosis.found(None, "share", message, remedy);
    }
}
