//! `fanout import aegir`: what an Aegir hub knows, as an inventory.
//!
//! Reads the Drush aliases of Aegir's contexts, the sites' credentials, vhosts and certificates,
//! and executes nothing. Refuses: to change anything below Aegir's home. Invariant: what isn't in the
//! inventory afterwards is named in a comment and in [`CarriedOver::left`]; passwords and private
//! keys are referred to, never written down.

mod contexts;
mod names;
mod php;
mod sites;
mod text;
mod tls;

#[cfg(test)]
mod tests;

use self::contexts::{Context, Contexts};
use self::names::is_local;
use self::text::Text;
use super::settings::{Keys, inline, put, put_list};
use crate::model::{AbsPath, Address, Secret, SecretName, ServerName, SiteUri, WebKind};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml_edit::Value;

/// Why nothing could be imported.
#[derive(Debug, Error)]
pub enum AegirError {
    /// There are no aliases.
    #[error("{} can't be read, so this is no home of Aegir", path.display())]
    NotAegir {
        /// Where they should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are aliases, but none of a server.
    #[error("{} holds no alias of a server that could be read", path.display())]
    NoContexts {
        /// Where.
        path: PathBuf,
    },
}

/// What was found.
pub struct CarriedOver {
    /// The inventory.
    pub text: String,
    /// What the inventory refers to.
    pub secrets: Vec<(SecretName, Secret)>,
    /// Databases that are there already.
    pub databases: Vec<CarriedDatabase>,
    /// Certificates that had to be put together with their chain: file name and content. The
    /// inventory expects them in the directory that it was told.
    pub certificates: Vec<(String, String)>,
    /// What isn't carried over, in words.
    pub left: Vec<String>,
}

/// A site's database that is there already.
#[derive(Clone, Debug)]
pub struct CarriedDatabase {
    /// The site.
    pub site: SiteUri,
    /// The server.
    pub server: ServerName,
    /// The database, and the user that has the same name.
    pub name: String,
    /// The user's password.
    pub password: Secret,
}

/// Reads the home of an Aegir hub. `certificates` is where certificates will be that have to be put
/// together.
pub fn carry_over(home: &Path, hub: &str, certificates: &Path) -> Result<CarriedOver, AegirError> {
    let home = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    let contexts = contexts::read(&home)?;
    Ok(Import::new(&home, &contexts, certificates).run(hub))
}

/// An import at work.
struct Import<'c> {
    home: &'c Path,
    /// What Aegir calls its home.
    root: String,
    contexts: &'c Contexts,
    servers: BTreeMap<String, String>,
    platforms: BTreeMap<String, String>,
    certificate_dir: &'c Path,
    out: Text,
    /// Names that were written: servers, clusters, platforms.
    written: BTreeSet<String>,
    secrets: Vec<(SecretName, Secret)>,
    databases: Vec<CarriedDatabase>,
    certificates: Vec<(String, String)>,
}

impl<'c> Import<'c> {
    fn new(home: &'c Path, contexts: &'c Contexts, certificate_dir: &'c Path) -> Self {
        let root = contexts
            .servers
            .values()
            .find_map(|server| server.text("aegir_root"));
        Self {
            root: root.map_or_else(|| home.display().to_string(), str::to_owned),
            home,
            contexts,
            servers: names::of_servers(&contexts.servers),
            platforms: names::of_platforms(&contexts.platforms),
            certificate_dir,
            out: Text::default(),
            written: BTreeSet::new(),
            secrets: Vec::new(),
            databases: Vec::new(),
            certificates: Vec::new(),
        }
    }

    fn run(mut self, hub: &str) -> CarriedOver {
        self.out.comment(&format!(
            "Imported from Aegir's contexts in {}. Nothing there was changed, and nothing on any server.",
            self.home.display()
        ));
        self.out.comment(
            "fanout has no counterpart for Aegir's clients, packages, task queues and front end, and \
             reloads web servers without restart commands. What else could not be carried over says so.",
        );
        let unreadable = self.contexts.left.clone();
        for what in &unreadable {
            self.out.left("Aegir's aliases", what);
        }
        self.out.gap();
        self.out
            .lines(&format!("[hub]\nname = {}", Value::from(hub)));
        self.write_servers();
        self.write_clusters();
        self.write_platforms();
        self.write_sites();
        self.write_leftovers();
        let (text, left) = self.out.finish();
        CarriedOver {
            text,
            secrets: self.secrets,
            databases: self.databases,
            certificates: self.certificates,
            left,
        }
    }

    /// The contexts that are kept: Aegir's own front end isn't.
    fn is_hostmaster(context: &Context) -> bool {
        context.name.starts_with("platform_hostmaster")
            || context.text("profile") == Some("hostmaster")
            || context
                .reference("platform")
                .is_some_and(|platform| platform.starts_with("platform_hostmaster"))
    }

    /// Servers that something kept refers to. The hub is a server of Aegir's in any case.
    fn used(&self) -> BTreeSet<&'c str> {
        let platforms = self.contexts.platforms.values();
        let platforms = platforms.filter(|it| !Self::is_hostmaster(it));
        let mut used: BTreeSet<&str> = platforms
            .filter_map(|it| it.reference("web_server"))
            .collect();
        let sites = self.contexts.sites.values();
        let sites = sites.filter(|it| !Self::is_hostmaster(it));
        used.extend(sites.filter_map(|it| it.reference("db_server")));
        for server in self.contexts.servers.values() {
            used.extend(members(server));
        }
        used
    }

    fn write_servers(&mut self) {
        let used = self.used();
        for (context_name, context) in &self.contexts.servers {
            let kind = context.text("http_service_type").unwrap_or_default();
            let is_hub = matches!(context_name.as_str(), "server_master" | "server_localhost");
            if matches!(kind, "cluster" | "pack")
                || (is_hub && !used.contains(context_name.as_str()))
            {
                continue;
            }
            self.write_server(context_name, context, kind);
        }
    }

    fn write_server(&mut self, context_name: &str, context: &Context, kind: &str) {
        let Some(name) = self.servers.get(context_name).cloned() else {
            return;
        };
        let what = format!("server {name}");
        self.out.gap();
        self.out.comment(&format!("@{context_name}"));
        let mut host = context.text("remote_host").unwrap_or("localhost");
        if is_local(host) {
            let master = self.contexts.servers.get("server_master");
            host = master.and_then(|it| it.text("remote_host")).unwrap_or(host);
            self.out.comment(
                "In Aegir this is the hub itself. Every member must be able to reach it by this address.",
            );
        }
        let Ok(address) = host.parse::<Address>() else {
            self.out.left(&what, &format!("`{host}` is no address"));
            return;
        };
        let mut keys: Keys = vec![("address".into(), address.to_string().into())];
        let addresses: Vec<IpAddr> = context
            .texts("ip_addresses")
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        put_list(&mut keys, "addresses", &addresses);
        match kind.parse::<WebKind>() {
            Ok(web) => {
                let mut inner: Keys = vec![("kind".into(), web.as_str().into())];
                let mut ports = vec![("http", "http_port", 80)];
                if web.has_tls() {
                    ports.push(("https", "http_ssl_port", 443));
                }
                for (key, property, default) in ports {
                    let port = context
                        .text(property)
                        .and_then(|text| text.parse::<u16>().ok());
                    if let Some(port) = port.filter(|port| *port != default && *port != 0) {
                        inner.push((key.into(), i64::from(port).into()));
                    }
                }
                keys.push(("web".into(), inline(inner)));
            }
            Err(_) if kind.is_empty() => {}
            Err(_) => self.out.left(&what, &format!("the web service `{kind}`")),
        }
        match context.text("db_service_type") {
            Some("mysql") => keys.push(("db".into(), self.db(&name, context))),
            Some(other) => self
                .out
                .left(&what, &format!("the database service `{other}`")),
            None => {}
        }
        self.out.table("servers", &name, keys);
        self.written.insert(name);
    }

    fn db(&mut self, name: &str, context: &Context) -> Value {
        let mut keys: Keys = vec![("kind".into(), "mysql".into())];
        let port = context
            .text("db_port")
            .and_then(|text| text.parse::<u16>().ok());
        if let Some(port) = port.filter(|port| *port != 3306 && *port != 0) {
            keys.push(("port".into(), i64::from(port).into()));
        }
        let secret = format!("{name}-admin");
        let account = context.text("master_db").and_then(account);
        match (account, secret.parse::<SecretName>()) {
            (Some((user, password)), Ok(secret_name)) => {
                self.out.comment(
                    "The account is the one that Aegir uses. `fanout setup db` makes one that may do less.",
                );
                let user = Some(user).filter(|user| user != "fanout");
                put(&mut keys, "admin_user", user.as_ref());
                self.secrets.push((secret_name, Secret::new(password)));
                keys.push(("admin".into(), format!("secret:{secret}").into()));
            }
            _ => {
                self.out.left(
                    &format!("server {name}"),
                    &format!(
                        "the account that administers its databases: fanout secret set {secret}"
                    ),
                );
                keys.push(("admin".into(), format!("secret:{secret}").into()));
            }
        }
        inline(keys)
    }

    fn write_clusters(&mut self) {
        for (context_name, context) in &self.contexts.servers {
            let kind = context.text("http_service_type").unwrap_or_default();
            if !matches!(kind, "cluster" | "pack") {
                continue;
            }
            let Some(name) = self.servers.get(context_name).cloned() else {
                continue;
            };
            self.out.gap();
            self.out.comment(&format!("@{context_name}"));
            let what = format!("{kind} {name}");
            let listed = match kind {
                "cluster" => context.references("cluster_web_servers"),
                _ => context.references("master_web_servers"),
            };
            let mut members: Vec<String> = Vec::new();
            for member in listed {
                match self.servers.get(member) {
                    Some(known) if !members.contains(known) => members.push(known.clone()),
                    Some(_) => {}
                    None => self
                        .out
                        .left(&what, &format!("its member @{member}, which isn't there")),
                }
            }
            if kind == "pack" {
                let slaves = context.references("slave_web_servers");
                let slaves: Vec<&str> = slaves
                    .iter()
                    .map(|slave| self.servers.get(*slave).map_or(*slave, String::as_str))
                    .collect();
                self.out.left(
                    &what,
                    &format!(
                        "that it is a pack. This version of fanout has clusters only, so its masters \
                         are one here; its slaves ({}) see the code through a share and would have to be \
                         members with a copy of their own, which must not lie on that share",
                        slaves.join(", ")
                    ),
                );
            }
            if members.is_empty() {
                self.out
                    .left(&what, "it has no members, so nothing can be on it");
                continue;
            }
            let mut keys = Keys::new();
            put_list(&mut keys, "members", &members);
            self.out.table("clusters", &name, keys);
            self.written.insert(name);
        }
    }

    fn write_platforms(&mut self) {
        for (context_name, context) in &self.contexts.platforms {
            let Some(name) = self.platforms.get(context_name).cloned() else {
                continue;
            };
            self.out.gap();
            self.out.comment(&format!("@{context_name}"));
            let what = format!("platform {name}");
            if Self::is_hostmaster(context) {
                self.out.left(&what, "Aegir's own front end");
                continue;
            }
            let web_server = context.reference("web_server").unwrap_or("server_master");
            let on = self.servers.get(web_server).cloned().unwrap_or_default();
            if !self.written.contains(&on) {
                self.out.left(
                    &what,
                    &format!("it is on @{web_server}, which isn't carried over"),
                );
                continue;
            }
            let root = context.text("root").unwrap_or_default();
            let (Ok(root), Ok(path)) =
                (root.parse::<AbsPath>(), self.here(root).parse::<AbsPath>())
            else {
                self.out
                    .left(&what, &format!("`{root}` is no absolute path"));
                continue;
            };
            if !path.as_path().is_dir() {
                self.out
                    .left(&what, &format!("its source: there is no {path}"));
            }
            if let Some(makefile) = context.text("makefile") {
                self.out.left(
                    &what,
                    &format!("its makefile {makefile}: build the source before a push"),
                );
            }
            if self.is_on_the_hub(web_server) && path == root {
                self.out.comment(
                    "ATTENTION: the hub is a member. Source and root are one directory, and a push is \
                     refused until `path` is another one.",
                );
            }
            self.out.comment(
                "The roots are there already: `fanout adopt platform` takes them over and shows what \
                 differs. Agents need `--allow` for them.",
            );
            let exclude: Value = ["/sites/*/drushrc.php"].into_iter().collect();
            self.out.table(
                "platforms",
                &name,
                vec![
                    ("app".into(), "drupal".into()),
                    ("on".into(), on.into()),
                    ("path".into(), path.as_str().into()),
                    ("root".into(), root.as_str().into()),
                    ("layout".into(), "in-place".into()),
                    ("exclude".into(), exclude),
                ],
            );
            self.written.insert(format!("platform {name}"));
        }
    }

    /// Whether one of the members behind a context is the hub.
    fn is_on_the_hub(&self, context_name: &str) -> bool {
        let is_hub = |name: &str| matches!(name, "server_master" | "server_localhost");
        let servers = self.contexts.servers.get(context_name);
        is_hub(context_name) || servers.is_some_and(|it| members(it).iter().any(|m| is_hub(m)))
    }

    /// Where a path of Aegir's is on this machine, which may have a copy of its home.
    fn here(&self, path: &str) -> String {
        match path.strip_prefix(&self.root) {
            Some(rest) if rest.starts_with('/') => format!("{}{rest}", self.home.display()),
            _ => path.to_owned(),
        }
    }
}

/// The servers that a cluster or a pack lists.
fn members(context: &Context) -> Vec<&str> {
    let lists = [
        "cluster_web_servers",
        "master_web_servers",
        "slave_web_servers",
    ];
    lists
        .iter()
        .flat_map(|key| context.references(key))
        .collect()
}

/// User and password of `mysql://USER:PASSWORD@HOST`.
fn account(url: &str) -> Option<(String, String)> {
    let rest = url.split_once("://")?.1;
    let (account, _host) = rest.rsplit_once('@')?;
    let (user, password) = account.split_once(':')?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!user.is_empty() && user.len() <= 32 && user.chars().all(is_plain) && !password.is_empty())
        .then_some((user, password))
}

/// Without `%XX`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match (first, hex.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
