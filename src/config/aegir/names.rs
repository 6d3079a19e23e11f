//! What Aegir's contexts are called in an inventory.

use super::contexts::Context;
use crate::model::ServerName;
use std::collections::{BTreeMap, BTreeSet};

/// A name for each server context: the first label of its host name where that is a name and
/// nobody else's, what stands behind `server_` otherwise.
pub(super) fn of_servers(servers: &BTreeMap<String, Context>) -> BTreeMap<String, String> {
    let label = |context: &Context| {
        let host = context.text("remote_host").unwrap_or_default();
        let label = host.split('.').next().unwrap_or_default().to_owned();
        let is_name = label.parse::<ServerName>().is_ok();
        let says_nothing = is_local(host) || label.bytes().all(|b| b.is_ascii_digit());
        (is_name && !says_nothing).then_some(label)
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for context in servers.values() {
        if let Some(label) = label(context) {
            *counts.entry(label).or_default() += 1;
        }
    }
    let mut taken = BTreeSet::new();
    servers
        .iter()
        .map(|(context_name, context)| {
            let short = label(context).filter(|label| counts.get(label) == Some(&1));
            let name = short.unwrap_or_else(|| plain(context_name, "server_"));
            (context_name.clone(), unlike(&mut taken, name))
        })
        .collect()
}

/// A name for each platform context.
pub(super) fn of_platforms(platforms: &BTreeMap<String, Context>) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::new();
    platforms
        .keys()
        .map(|name| (name.clone(), unlike(&mut taken, plain(name, "platform_"))))
        .collect()
}

/// This machine, as Aegir calls it.
pub(super) fn is_local(host: &str) -> bool {
    host.is_empty() || host.eq_ignore_ascii_case("localhost") || host.starts_with("127.")
}

/// A context's name without its prefix, with nothing in it that a name can't hold.
fn plain(context: &str, prefix: &str) -> String {
    let rest = context.strip_prefix(prefix).unwrap_or(context);
    let name: String = rest
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
            _ => '-',
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(60)
        .collect();
    match name.is_empty() {
        true => "unnamed".to_owned(),
        false => name,
    }
}

fn unlike(taken: &mut BTreeSet<String>, name: String) -> String {
    let mut free = name.clone();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}
