//! What a command line says about something in the inventory, as keys and values of the file.
//!
//! Everything is optional: what isn't said isn't written. Whether enough was said is for the check
//! of the whole to decide.

use crate::model::{
    AbsPath, AppKind, BalancerKind, BalancerTls, CommitPolicy, DbKind, DbVia, IpNet, Seconds,
    SecretRef, ServerName, SiteTls, SiteUri, Uploads, WebKind,
};
use std::borrow::Cow;
use std::num::NonZeroU16;
use toml_edit::{InlineTable, Value};

/// Keys with their values, in the order in which they are written.
pub type Keys = Vec<(Cow<'static, str>, Value)>;

/// `web` of a server.
#[derive(Clone, Debug, Default)]
pub struct WebSettings {
    /// Which web server.
    pub kind: Option<WebKind>,
    /// The port of plain requests.
    pub http: Option<NonZeroU16>,
    /// The port of requests over TLS.
    pub https: Option<NonZeroU16>,
    /// The port of the health endpoint.
    pub health: Option<NonZeroU16>,
}

impl WebSettings {
    /// What is said.
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "kind", self.kind.as_ref());
        put_number(&mut keys, "http", self.http.map(NonZeroU16::get));
        put_number(&mut keys, "https", self.https.map(NonZeroU16::get));
        put_number(&mut keys, "health", self.health.map(NonZeroU16::get));
        keys
    }
}

/// `db` of a server.
#[derive(Clone, Debug, Default)]
pub struct DbSettings {
    /// Which database server.
    pub kind: Option<DbKind>,
    /// Its TCP port.
    pub port: Option<NonZeroU16>,
    /// How the hub reaches it.
    pub via: Option<DbVia>,
    /// The administration account.
    pub admin_user: Option<String>,
    /// Where its password is.
    pub admin: Option<SecretRef>,
    /// Networks whose members share an account.
    pub networks: Vec<IpNet>,
    /// How members reach it.
    pub host: Option<String>,
}

impl DbSettings {
    /// What is said.
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "kind", self.kind.as_ref());
        put_number(&mut keys, "port", self.port.map(NonZeroU16::get));
        put(&mut keys, "via", self.via.as_ref());
        put(&mut keys, "admin_user", self.admin_user.as_ref());
        put(&mut keys, "admin", self.admin.as_ref());
        put_list(&mut keys, "networks", &self.networks);
        put(&mut keys, "host", self.host.as_ref());
        keys
    }
}

/// A cluster, but for its members.
#[derive(Clone, Debug, Default)]
pub struct ClusterSettings {
    /// The balancer in front of it.
    pub balancer: Option<String>,
    /// Which votes a commit needs.
    pub commit: Option<CommitPolicy>,
    /// The least number of members.
    pub min_healthy: Option<u32>,
}

impl ClusterSettings {
    /// What is said.
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "balancer", self.balancer.as_ref());
        put(&mut keys, "commit", self.commit.as_ref());
        put_number(&mut keys, "min_healthy", self.min_healthy);
        keys
    }
}

/// A balancer.
#[derive(Clone, Debug, Default)]
pub struct BalancerSettings {
    /// The servers that it runs on.
    pub servers: Vec<String>,
    /// Which.
    pub kind: Option<BalancerKind>,
    /// Where TLS ends.
    pub tls: Option<BalancerTls>,
    /// The port of plain requests.
    pub http: Option<NonZeroU16>,
    /// The port of requests over TLS.
    pub https: Option<NonZeroU16>,
    /// How long a member may take to become idle.
    pub drain_timeout: Option<Seconds>,
}

impl BalancerSettings {
    /// What is said.
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        put_list(&mut keys, "servers", &self.servers);
        put(&mut keys, "kind", self.kind.as_ref());
        put(&mut keys, "tls", self.tls.as_ref());
        put_number(&mut keys, "http", self.http.map(NonZeroU16::get));
        put_number(&mut keys, "https", self.https.map(NonZeroU16::get));
        put(&mut keys, "drain_timeout", self.drain_timeout.as_ref());
        keys
    }
}

/// What a platform's sites need to know of it.
#[derive(Clone, Debug, Default)]
pub struct AppSettings {
    /// The application that it is.
    pub app: Option<AppKind>,
    /// Where requests begin.
    pub docroot: Option<String>,
    /// The version of PHP.
    pub php: Option<String>,
}

impl AppSettings {
    /// What is said.
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "app", self.app.as_ref());
        put(&mut keys, "docroot", self.docroot.as_ref());
        put(&mut keys, "php", self.php.as_ref());
        keys
    }
}

/// A site.
#[derive(Clone, Debug, Default)]
pub struct SiteSettings {
    /// The platform that it runs on.
    pub platform: Option<String>,
    /// Its own directory.
    pub dir: Option<String>,
    /// The server of its database.
    pub db: Option<String>,
    /// Other host names.
    pub aliases: Vec<SiteUri>,
    /// Redirect them.
    pub redirect_aliases: Option<bool>,
    /// Paths that lead elsewhere.
    pub redirects: Vec<(String, String)>,
    /// Whether it is served over TLS.
    pub tls: Option<SiteTls>,
    /// Its certificate.
    pub certificate: Option<AbsPath>,
    /// The certificate's private key.
    pub key: Option<SecretRef>,
    /// How long browsers shall insist on TLS.
    pub hsts: Option<Seconds>,
    /// What becomes of uploads.
    pub uploads: Option<Uploads>,
    /// Whom its PHP runs as.
    pub user: Option<String>,
    /// The largest request body, in MiB.
    pub upload: Option<u32>,
    /// Basic authentication.
    pub auth: Option<SecretRef>,
    /// Its title.
    pub title: Option<String>,
    /// The first administrator's mail address.
    pub mail: Option<String>,
    /// Run its periodic work.
    pub cron: Option<bool>,
}

impl SiteSettings {
    /// What is said, lists and tables excepted, which an edit adds to.
    pub fn plain_keys(&self) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "platform", self.platform.as_ref());
        put(&mut keys, "dir", self.dir.as_ref());
        put(&mut keys, "db", self.db.as_ref());
        put_switch(&mut keys, "redirect_aliases", self.redirect_aliases);
        put(&mut keys, "tls", self.tls.as_ref());
        let certificate = self.certificate.as_ref().map(AbsPath::as_str);
        put(&mut keys, "certificate", certificate.as_ref());
        put(&mut keys, "key", self.key.as_ref());
        put(&mut keys, "hsts", self.hsts.as_ref());
        if let Some(uploads) = &self.uploads {
            keys.push(("uploads".into(), uploads_value(uploads)));
        }
        put(&mut keys, "user", self.user.as_ref());
        put_number(&mut keys, "upload", self.upload);
        put(&mut keys, "auth", self.auth.as_ref());
        put(&mut keys, "title", self.title.as_ref());
        put(&mut keys, "mail", self.mail.as_ref());
        put_switch(&mut keys, "cron", self.cron);
        keys
    }

    /// The paths that lead elsewhere.
    pub fn redirect_keys(&self) -> Keys {
        let redirects = self.redirects.iter();
        redirects
            .map(|(from, to)| (from.clone().into(), to.as_str().into()))
            .collect()
    }

    /// All that is said.
    pub fn keys(&self) -> Keys {
        let mut keys = self.plain_keys();
        // Where a reader looks for them: right behind where the site is.
        let at = keys
            .iter()
            .take_while(|(key, _)| ["platform", "dir", "db"].contains(&key.as_ref()))
            .count();
        let mut lists = Keys::new();
        put_list(&mut lists, "aliases", &self.aliases);
        if !self.redirects.is_empty() {
            lists.push(("redirects".into(), inline(self.redirect_keys())));
        }
        keys.splice(at..at, lists);
        keys
    }
}

/// A policy as it stands in the file.
fn uploads_value(uploads: &Uploads) -> Value {
    let one = |key: &'static str, value: &str| inline(vec![(key.into(), value.into())]);
    match uploads {
        Uploads::Pin(server) => one("pin", ServerName::as_str(server)),
        Uploads::Mount(path) => one("mount", path.as_str()),
        Uploads::External => "external".into(),
    }
}

/// `{ key = value, .. }`
pub(super) fn inline(keys: Keys) -> Value {
    let mut table = InlineTable::new();
    for (key, value) in keys {
        table.insert(key.as_ref(), value);
    }
    Value::InlineTable(table)
}

pub(super) fn put(keys: &mut Keys, key: &'static str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        keys.push((key.into(), value.to_string().into()));
    }
}

pub(super) fn put_list(keys: &mut Keys, key: &'static str, list: &[impl ToString]) {
    if !list.is_empty() {
        let list = list.iter().map(ToString::to_string).collect();
        keys.push((key.into(), list));
    }
}

pub(super) fn put_number(keys: &mut Keys, key: &'static str, value: Option<impl Into<u32>>) {
    if let Some(value) = value {
        keys.push((key.into(), i64::from(value.into()).into()));
    }
}

fn put_switch(keys: &mut Keys, key: &'static str, value: Option<bool>) {
    if let Some(value) = value {
        keys.push((key.into(), value.into()));
    }
}
