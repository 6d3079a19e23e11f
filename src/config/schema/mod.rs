//! What may be written in `fanout.toml`: one struct per table, as it stands in the file.
//!
//! The documentation comments here are the descriptions in `docs/inventory-schema.json`. Meaning
//! is checked in [`super::check`]; positions are kept for it where a fault needs one. The tables of
//! services and sites are in [`services`].

mod services;

pub(super) use services::{BalancerTable, DbTable, SiteTable, WebTable};

use crate::model::{
    AbsPath, Address, AppKind, ByteSize, CommitPolicy, Label, Layout, Mode, OwnerPolicy,
    ResyncMode, ServerName, SpecialFile, SshDestination, Transport,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use toml::Spanned;
use toml::value::Datetime;

/// A table of the inventory, with the keys it may and must have.
pub(super) trait Table: DeserializeOwned {
    /// What the table describes.
    const WHAT: &'static str;
    /// Every key.
    const KEYS: &'static [&'static str];
    /// The keys that can't be left out.
    const REQUIRED: &'static [&'static str];
    /// The keys that hold a table of their own, with what that may hold.
    const NESTED: &'static [(&'static str, &'static [&'static str])] = &[];
    /// Whether the other keys are worth checking when an optional one was faulty: not where one
    /// key only makes sense with another.
    const PARTIAL: bool = false;
}

/// The whole file.
#[derive(JsonSchema)]
#[schemars(title = "fanout.toml", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the file is decoded table by table; this is its schema"
)]
pub(super) struct File {
    /// The hub itself.
    #[schemars(default)]
    hub: Option<HubTable>,
    /// The machines, by name.
    #[schemars(default)]
    servers: BTreeMap<String, ServerTable>,
    /// Sets of servers that are kept identical, by name.
    #[schemars(default)]
    clusters: BTreeMap<String, ClusterTable>,
    /// Load balancers, by name.
    #[schemars(default)]
    balancers: BTreeMap<String, BalancerTable>,
    /// Code bases, by name.
    #[schemars(default)]
    platforms: BTreeMap<String, PlatformTable>,
    /// Sites, by address: a host name, or a host name and one path component.
    #[schemars(default)]
    sites: BTreeMap<String, SiteTable>,
}

/// The sections of the file.
pub(super) const SECTIONS: &[&str] = &[
    "hub",
    "servers",
    "clusters",
    "balancers",
    "platforms",
    "sites",
];

/// Words of fanout's that this version doesn't implement: unknown, but no typing mistakes.
pub(super) const LATER: &[&str] = &["packs", "masters", "slaves", "share"];

/// The hub: the machine that holds this file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HubTable {
    /// What this installation is called; shown in every plan and prompt.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// How much the depot may hold before old generations go that `keep` would keep, such as
    /// `20GiB`; default `64GiB`. The desired and the pinned ones always stay.
    pub(super) depot_budget: Option<ByteSize>,
}

impl Table for HubTable {
    const WHAT: &'static str = "hub";
    const KEYS: &'static [&'static str] = &["depot_budget", "name"];
    const REQUIRED: &'static [&'static str] = &["name"];
}

/// One machine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerTable {
    /// How the hub reaches the agent: `host:port`, port 4600 if left out, IPv6 in brackets.
    pub(super) address: Address,
    /// The IP addresses that databases and balancers see.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) addresses: Vec<IpAddr>,
    /// Names of groups for `--limit label:NAME` and `--skip label:NAME`.
    #[serde(default)]
    pub(super) labels: Vec<Label>,
    /// How to talk to the agent; default `auto`.
    #[schemars(with = "Option<Transport>")]
    pub(super) transport: Option<Spanned<Transport>>,
    /// Where the system's ssh reaches the server: `user@host`, or a host of the ssh configuration.
    #[schemars(with = "Option<SshDestination>")]
    pub(super) ssh: Option<Spanned<SshDestination>>,
    /// Become root by `sudo` on the other side of ssh; default false.
    #[schemars(with = "Option<bool>")]
    pub(super) sudo: Option<Spanned<bool>>,
    /// Its web server.
    #[schemars(with = "Option<WebTable>")]
    pub(super) web: Option<Spanned<WebTable>>,
    /// Its database server.
    #[schemars(with = "Option<DbTable>")]
    pub(super) db: Option<Spanned<DbTable>>,
}

impl Table for ServerTable {
    const WHAT: &'static str = "server";
    const KEYS: &'static [&'static str] = &[
        "address",
        "addresses",
        "db",
        "labels",
        "ssh",
        "sudo",
        "transport",
        "web",
    ];
    const REQUIRED: &'static [&'static str] = &["address"];
    const NESTED: &'static [(&'static str, &'static [&'static str])] =
        &[("web", WebTable::KEYS), ("db", DbTable::KEYS)];
}

/// Servers that are kept identical.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTable {
    /// Names of servers, or of other clusters whose servers are meant.
    #[schemars(with = "Vec<String>")]
    pub(super) members: Spanned<Vec<Spanned<String>>>,
    /// Which votes a commit needs: `reachable` (default), `all`, `quorum:N` or `each`.
    #[schemars(with = "Option<CommitPolicy>")]
    pub(super) commit: Option<Spanned<CommitPolicy>>,
    /// The least number of members that must take part; default 1.
    #[schemars(with = "Option<u32>")]
    pub(super) min_healthy: Option<Spanned<u32>>,
    /// The balancer in front of it.
    #[schemars(with = "Option<String>")]
    pub(super) balancer: Option<Spanned<String>>,
}

impl Table for ClusterTable {
    const WHAT: &'static str = "cluster";
    const KEYS: &'static [&'static str] = &["balancer", "commit", "members", "min_healthy"];
    const REQUIRED: &'static [&'static str] = &["members"];
}

/// A code base, and where it goes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformTable {
    /// The server or cluster that it lives on.
    #[schemars(with = "String")]
    pub(super) on: Spanned<String>,
    /// The source, on the hub: an absolute path.
    pub(super) path: AbsPath,
    /// The destination, on the members: an absolute path.
    #[schemars(with = "AbsPath")]
    pub(super) root: Spanned<AbsPath>,
    /// How the tree lies on the members' disks; default `switched`.
    pub(super) layout: Option<Layout>,
    /// Who owns the entries: `keep` (default; the source's owner and group by name) or `USER:GROUP`.
    pub(super) owner: Option<OwnerPolicy>,
    /// Keep owners as numbers where a member lacks the name; default false.
    #[serde(default)]
    pub(super) numeric_ids: bool,
    /// The mode of every directory, in octal, instead of the source's.
    pub(super) dirs: Option<Mode>,
    /// The mode of every regular file, in octal, instead of the source's.
    #[schemars(with = "Option<Mode>")]
    pub(super) files: Option<Spanned<Mode>>,
    /// Rules in rsync's language: neither sent nor deleted. Default `.git`, `.svn`, `.hg`, `.bzr`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) exclude: Option<Vec<Spanned<String>>>,
    /// What belongs to the member: rules that start with `/`; never sent, overwritten or deleted.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) preserve: Vec<Spanned<String>>,
    /// Send preserved paths once, where a member has none; default false.
    #[serde(default)]
    pub(super) seed: bool,
    /// Delete excluded names on the members; default false.
    #[serde(default)]
    pub(super) delete_excluded: bool,
    /// How many generations to keep, the live one included; default 3, at least 1.
    #[schemars(with = "Option<u32>")]
    pub(super) keep: Option<Spanned<u32>>,
    /// What `resync` does about drift; default `repair`.
    pub(super) resync: Option<ResyncMode>,
    /// Push a changed source by the clock; default false.
    #[serde(default)]
    pub(super) follow: bool,
    /// Files that the source must have, relative to it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) require: Vec<Spanned<String>>,
    /// Known differences that are not reported as drift, each for a limited time.
    #[serde(default)]
    pub(super) drift_ignore: Vec<DriftIgnoreTable>,
    /// Carry `trusted.*` and `security.*` extended attributes; default false.
    #[serde(default)]
    pub(super) privileged_xattrs: bool,
    /// Special files that the tree may hold.
    #[serde(default)]
    pub(super) special_files: Vec<SpecialFile>,
    /// The application that it is; default: files without an application.
    pub(super) app: Option<AppKind>,
    /// Where visitors' requests begin, relative to the source, `.` for the source itself; default: what `app` brings.
    #[schemars(with = "Option<String>")]
    pub(super) docroot: Option<Spanned<String>>,
    /// The version of PHP that its sites run with, such as `8.2`; default: the members' only one.
    #[schemars(with = "Option<String>", extend("pattern" = "^[0-9]+\\.[0-9]+$"))]
    pub(super) php: Option<Spanned<String>>,
}

impl Table for PlatformTable {
    const WHAT: &'static str = "platform";
    const KEYS: &'static [&'static str] = &[
        "app",
        "delete_excluded",
        "dirs",
        "docroot",
        "drift_ignore",
        "exclude",
        "files",
        "follow",
        "keep",
        "layout",
        "numeric_ids",
        "on",
        "owner",
        "path",
        "php",
        "preserve",
        "privileged_xattrs",
        "require",
        "resync",
        "root",
        "seed",
        "special_files",
    ];
    const REQUIRED: &'static [&'static str] = &["on", "path", "root"];
    const PARTIAL: bool = true;
}

/// One known difference on one member.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DriftIgnoreTable {
    /// A rule that starts with `/`, relative to the root.
    #[schemars(with = "String")]
    pub(super) path: Spanned<String>,
    /// The member that differs.
    #[schemars(with = "ServerName")]
    pub(super) member: Spanned<ServerName>,
    /// Why it may.
    #[schemars(with = "String")]
    pub(super) reason: Spanned<String>,
    /// The last day on which it may: a date without quotes, such as 2026-12-31.
    #[schemars(with = "String", extend("format" = "date"))]
    pub(super) until: Spanned<Datetime>,
}

/// The JSON schema of the inventory, for editors that know TOML schemas.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(schema: &serde_json::Value, key: &str) -> Vec<String> {
        let mut names: Vec<String> = match &schema[key] {
            serde_json::Value::Object(map) => map.keys().cloned().collect(),
            serde_json::Value::Array(list) => list
                .iter()
                .map(|v| v.as_str().unwrap().to_owned())
                .collect(),
            _ => Vec::new(),
        };
        names.sort();
        names
    }

    fn check_keys<T: Table + JsonSchema>() {
        let schema = schemars::schema_for!(T).to_value();
        assert_eq!(names(&schema, "properties"), T::KEYS, "{}", T::WHAT);
        assert_eq!(names(&schema, "required"), T::REQUIRED, "{}", T::WHAT);
        assert_eq!(schema["additionalProperties"], false, "{}", T::WHAT);
    }

    #[test]
    fn the_listed_keys_are_those_of_the_schema() {
        check_keys::<HubTable>();
        check_keys::<ServerTable>();
        check_keys::<ClusterTable>();
        check_keys::<PlatformTable>();
        check_keys::<WebTable>();
        check_keys::<DbTable>();
        check_keys::<BalancerTable>();
        check_keys::<SiteTable>();
        let mut sections = SECTIONS.to_vec();
        sections.sort_unstable();
        assert_eq!(names(&json_schema(), "properties"), sections);
    }

    /// To renew the file: `UPDATE_SCHEMA=1 cargo test the_published_schema`.
    #[test]
    fn the_published_schema_is_the_one_in_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inventory-schema.json");
        let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
    }
}
