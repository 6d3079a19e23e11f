//! What [`render`](super::render) is given.

use super::certificate::Certificate;
use super::rules::AppRules;
use super::templates::Templates;
use crate::config::{Platform, Server, Site};
use crate::model::IpNet;
use std::collections::BTreeMap;
use sync_proto::wire::service::ServiceFacts;

/// Everything that one server's web files depend on.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The server; its `web` says which program and which ports.
    pub server: &'a Server,
    /// What it reported about itself.
    pub facts: &'a ServiceFacts,
    /// The sites that it serves, in any order.
    pub sites: Vec<SiteInputs<'a>>,
    /// Addresses of the balancers before it: the only ones that are believed about a visitor's
    /// address and about TLS.
    pub trusted_proxies: Vec<IpNet>,
    /// A balancer before it passes TLS on as it comes, so that a connection stays with one member:
    /// it must not stay for long, or the member could never be drained.
    pub is_passed_through: bool,
    /// The built-in templates, with the administrator's in their place.
    pub templates: &'a Templates,
}

/// One site of a server.
#[derive(Clone, Debug)]
pub struct SiteInputs<'a> {
    /// The site.
    pub site: &'a Site,
    /// Its platform.
    pub platform: &'a Platform,
    /// What visitors see.
    pub mode: Mode,
    /// Its certificate and key; needed where the server itself serves it over TLS.
    pub certificate: Option<Certificate>,
    /// Its password file as web servers read it (see [`passwords`](super::passwords)).
    pub passwords: Option<Vec<u8>>,
    /// Files with secrets that its application includes, by name: they come to lie at
    /// [`settings_path`](super::settings_path), readable by its pool's group.
    pub settings: Vec<Settings>,
    /// What its application needs of a web server.
    pub app: AppRules,
    /// The administrator's own lines.
    pub custom: Custom,
}

/// What visitors of a site see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The site.
    #[default]
    Enabled,
    /// A page that says so, with status 403.
    Disabled,
    /// A page that says so, with status 503 and `Retry-After`.
    Maintenance,
}

/// A file with secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// An administrator's lines around those of a site: `custom.d/SITE/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// `pre.nginx.conf` and `post.nginx.conf`, or `pre.conf` and `post.conf`.
    pub nginx: Snippets,
    /// `pre.apache.conf` and `post.apache.conf`, or `pre.conf` and `post.conf`.
    pub apache: Snippets,
}

/// Lines before and after those of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snippets {
    /// At the beginning of its server block.
    pub pre: Option<String>,
    /// At its end.
    pub post: Option<String>,
}

impl Custom {
    /// From files by their names, as [`Custom`] lists them; the name of one that has no meaning is
    /// an error.
    ///
    /// # Errors
    /// The name.
    pub fn from_files(files: BTreeMap<String, String>) -> Result<Self, String> {
        let mut custom = Self::default();
        // `post.conf` sorts before `post.nginx.conf`, so the particular one comes last and wins.
        for (name, text) in files {
            let targets = match name.as_str() {
                "pre.conf" => vec![&mut custom.nginx.pre, &mut custom.apache.pre],
                "post.conf" => vec![&mut custom.nginx.post, &mut custom.apache.post],
                "pre.nginx.conf" => vec![&mut custom.nginx.pre],
                "post.nginx.conf" => vec![&mut custom.nginx.post],
                "pre.apache.conf" => vec![&mut custom.apache.pre],
                "post.apache.conf" => vec![&mut custom.apache.post],
                _ => return Err(name),
            };
            for target in targets {
                *target = Some(text.clone());
            }
        }
        Ok(custom)
    }
}
