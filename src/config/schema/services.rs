//! The tables of services and sites: `web` and `db` of a server, balancers, sites.

use super::Table;
use crate::model::{
    AbsPath, BalancerKind, BalancerTls, DbKind, DbVia, IpNet, Seconds, SecretRef, ServerName,
    SiteTls, SiteUri, Uploads, WebKind,
};
use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use toml::Spanned;

/// A server's web server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WebTable {
    /// Which web server, and whether it serves TLS.
    pub(in crate::config) kind: WebKind,
    /// The port of plain requests; default 80.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) http: Option<Spanned<NonZeroU16>>,
    /// The port of requests over TLS; default 443.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) https: Option<Spanned<NonZeroU16>>,
    /// The port of the health endpoint; default 4680.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) health: Option<Spanned<NonZeroU16>>,
}

impl Table for WebTable {
    const WHAT: &'static str = "web server";
    const KEYS: &'static [&'static str] = &["health", "http", "https", "kind"];
    const REQUIRED: &'static [&'static str] = &["kind"];
}

/// A server's database server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DbTable {
    /// Which database server: `mysql` is MariaDB and MySQL.
    pub(in crate::config) kind: DbKind,
    /// Its TCP port; default 3306.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) port: Option<Spanned<NonZeroU16>>,
    /// How the hub reaches it; default `tcp`.
    #[schemars(with = "Option<DbVia>")]
    pub(in crate::config) via: Option<Spanned<DbVia>>,
    /// The name of the account that administers it; default `fanout`.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) admin_user: Option<Spanned<String>>,
    /// Where that account's password is, such as `secret:db1-admin`.
    pub(in crate::config) admin: Option<SecretRef>,
    /// Networks whose members share one account; default: each member has its own.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(in crate::config) networks: Vec<Spanned<IpNet>>,
    /// The name or address by which the members reach it; default: that of the server's `address`.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) host: Option<Spanned<String>>,
}

impl Table for DbTable {
    const WHAT: &'static str = "database server";
    const KEYS: &'static [&'static str] = &[
        "admin",
        "admin_user",
        "host",
        "kind",
        "networks",
        "port",
        "via",
    ];
    const REQUIRED: &'static [&'static str] = &["kind"];
}

/// A load balancer in front of clusters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BalancerTable {
    /// The servers that it runs on, each with the same configuration; none if it is `external`.
    #[serde(default)]
    #[schemars(with = "Vec<ServerName>")]
    pub(in crate::config) servers: Vec<Spanned<ServerName>>,
    /// Which load balancer.
    #[schemars(with = "BalancerKind")]
    pub(in crate::config) kind: Spanned<BalancerKind>,
    /// Where TLS ends; default `terminate`.
    pub(in crate::config) tls: Option<BalancerTls>,
    /// The port of plain requests; default 80.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) http: Option<Spanned<NonZeroU16>>,
    /// The port of requests over TLS; default 443.
    #[schemars(with = "Option<NonZeroU16>")]
    pub(in crate::config) https: Option<Spanned<NonZeroU16>>,
    /// How long a member may take to become idle while it is drained; default `30s`.
    pub(in crate::config) drain_timeout: Option<Seconds>,
}

impl Table for BalancerTable {
    const WHAT: &'static str = "balancer";
    const KEYS: &'static [&'static str] =
        &["drain_timeout", "http", "https", "kind", "servers", "tls"];
    const REQUIRED: &'static [&'static str] = &["kind"];
}

/// One site: an address, on a platform.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SiteTable {
    /// The platform that it runs on.
    #[schemars(with = "String")]
    pub(in crate::config) platform: Spanned<String>,
    /// The name of its own directory, where the application knows several sites (`sites/NAME`).
    #[schemars(with = "Option<String>")]
    pub(in crate::config) dir: Option<Spanned<String>>,
    /// The server of its database.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) db: Option<Spanned<String>>,
    /// Other host names that it answers to.
    #[serde(default)]
    #[schemars(with = "Vec<SiteUri>")]
    pub(in crate::config) aliases: Vec<Spanned<SiteUri>>,
    /// Redirect the aliases to its address; default false.
    #[serde(default)]
    pub(in crate::config) redirect_aliases: bool,
    /// Paths that lead elsewhere: the path, and where to.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(in crate::config) redirects: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Whether it is served over TLS; default `off`.
    #[schemars(with = "Option<SiteTls>")]
    pub(in crate::config) tls: Option<Spanned<SiteTls>>,
    /// Its certificate with its chain, on the hub; default: a self-signed one.
    #[schemars(with = "Option<AbsPath>")]
    pub(in crate::config) certificate: Option<Spanned<AbsPath>>,
    /// Where the certificate's private key is, such as `file:/etc/ssl/private/example.key`.
    #[schemars(with = "Option<SecretRef>")]
    pub(in crate::config) key: Option<Spanned<SecretRef>>,
    /// Tell browsers to come back over TLS only, for so long, such as `180d`.
    #[schemars(with = "Option<Seconds>")]
    pub(in crate::config) hsts: Option<Spanned<Seconds>>,
    /// What becomes of files that visitors upload, where several members serve the site.
    #[schemars(with = "Option<UploadsValue>")]
    pub(in crate::config) uploads: Option<Spanned<UploadsValue>>,
    /// The system user that its PHP runs as; default: one of its own.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) user: Option<Spanned<String>>,
    /// The largest request body, in MiB; default 64.
    #[schemars(with = "Option<u32>", extend("minimum" = 1, "maximum" = 65536))]
    pub(in crate::config) upload: Option<Spanned<u32>>,
    /// Where the users and passwords of basic authentication are, as lines `USER:PASSWORD`.
    pub(in crate::config) auth: Option<SecretRef>,
    /// Its title, for the installation.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) title: Option<Spanned<String>>,
    /// The first administrator's mail address, for the installation.
    #[schemars(with = "Option<String>")]
    pub(in crate::config) mail: Option<Spanned<String>>,
    /// Run its periodic work, on one member; default: true if its application has any.
    pub(in crate::config) cron: Option<bool>,
}

impl Table for SiteTable {
    const WHAT: &'static str = "site";
    const KEYS: &'static [&'static str] = &[
        "aliases",
        "auth",
        "certificate",
        "cron",
        "db",
        "dir",
        "hsts",
        "key",
        "mail",
        "platform",
        "redirect_aliases",
        "redirects",
        "title",
        "tls",
        "upload",
        "uploads",
        "user",
    ];
    const REQUIRED: &'static [&'static str] = &["platform"];
    const PARTIAL: bool = true;
}

/// `{ pin = "web1" }`, `{ mount = "/mnt/files" }` or `"external"`.
pub(in crate::config) struct UploadsValue(pub(in crate::config) Uploads);

const UPLOADS: &str = "`{ pin = \"SERVER\" }`, `{ mount = \"/PATH\" }` or `\"external\"`";

impl<'de> Deserialize<'de> for UploadsValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = UploadsValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(UPLOADS)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<UploadsValue, E> {
                match text {
                    "external" => Ok(UploadsValue(Uploads::External)),
                    "collect" => Err(E::custom(
                        "this version of fanout doesn't know the uploads policy `collect` yet",
                    )),
                    _ => Err(E::custom(format!("`uploads` is {UPLOADS}"))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UploadsValue, A::Error> {
                let not_one = || A::Error::custom(format!("`uploads` is {UPLOADS}"));
                let key: String = map.next_key()?.ok_or_else(not_one)?;
                let policy = match key.as_str() {
                    "pin" => Uploads::Pin(map.next_value()?),
                    "mount" => Uploads::Mount(map.next_value()?),
                    _ => return Err(not_one()),
                };
                match map.next_key::<String>()? {
                    None => Ok(UploadsValue(policy)),
                    Some(_) => Err(not_one()),
                }
            }
        }
        from.deserialize_any(Value)
    }
}

impl JsonSchema for UploadsValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Uploads".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let server = generator.subschema_for::<ServerName>();
        let path = generator.subschema_for::<AbsPath>();
        let one = |key: &str, value: schemars::Schema| {
            serde_json::json!({
                "type": "object", "properties": { key: value }, "required": [key],
                "additionalProperties": false,
            })
        };
        schemars::json_schema!({
            "oneOf": [
                one("pin", server),
                one("mount", path),
                { "type": "string", "enum": ["external"] },
            ]
        })
    }
}
