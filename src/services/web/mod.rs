//! The web server's part of a configuration set: vhosts, PHP-FPM pools, certificates, pages and the
//! health endpoint of one server, rendered for what that server reported about itself.
//!
//! [`render`] is pure and deterministic: equal inputs give equal files, so that two sets can be
//! compared by their digests. Names of files, by which the agent and people find their way:
//!
//! ```text
//! 00-*.conf                  shared: base, default server, health endpoint, apache's roots
//! 00-health-PORT.conf        where the agent proves a set after a reload
//! site-NAME.conf             one site; NAME is SiteUri::file_name
//! host-HOST.conf             a host name that only sites in subdirectories use
//! sub-NAME.inc               a site in a subdirectory, included by its host's file
//! VERSION-NAME.conf          (php-fpm) a site's pool; VERSION-00-health.conf pings that PHP
//! NAME.pem                   (certificates, keys)
//! NAME.{maintenance,disabled}.html (pages), NAME (passwords), NAME.FILE (settings)
//! ```
//!
//! A site whose files are found broken on a server is left out of [`Inputs::sites`] there, and the
//! rest is rendered again: no site's files depend on another's, but for subdirectories and their
//! host. [`site_of`] tells whose a file is.
//!
//! Refuses: any value that could end its place in a file (line breaks, quotes, braces, semicolons,
//! `$`), by the types that templates are given; see `text`.

mod apache;
mod certificate;
mod facts;
mod inputs;
mod names;
mod nginx;
mod passwords;
mod php;
mod roots;
mod rules;
mod site;
mod templates;
mod text;

#[cfg(test)]
mod tests;

pub use certificate::Certificate;
pub use inputs::{Custom, Inputs, Mode, Settings, SiteInputs, Snippets};
pub use names::{is_pool_name, pool_name, pool_socket, pool_user, settings_path, site_of};
pub use passwords::passwords;
pub use roots::{is_roots, with_live_roots};
pub use rules::{AppRules, Scripts};
pub use templates::Templates;
pub use text::{Pattern, Plain, Quoted, TextError};

use facts::Kind;
use std::collections::BTreeMap;
use sync_proto::wire::service::{ConfigArea, ConfigFile, Content};
use thiserror::Error;

/// Why a server's files can't be rendered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RenderError {
    /// The inventory gives the server no web server.
    #[error("{server} has no web server in the inventory")]
    NoWeb {
        /// Which.
        server: String,
    },
    /// The program isn't installed there.
    #[error("{server} has no {program} installed")]
    NotInstalled {
        /// Which.
        server: String,
        /// What is missing.
        program: String,
    },
    /// No PHP-FPM, not that version of it, or several without a choice.
    #[error("{site} on {server}: {detail}")]
    Php {
        /// Whose PHP.
        site: String,
        /// Where.
        server: String,
        /// What is wrong.
        detail: String,
    },
    /// Modules that the web server lacks.
    #[error("{program} on {server} lacks {modules}")]
    Modules {
        /// Where.
        server: String,
        /// Which program.
        program: String,
        /// Which modules.
        modules: String,
    },
    /// A site wants TLS, and there is no certificate for it.
    #[error("{site} is served over TLS, and there is no certificate for it")]
    NoCertificate {
        /// Whose.
        site: String,
    },
    /// A site wants TLS only, and the server can't tell TLS.
    #[error(
        "{site} wants TLS only, but {server} serves none ({kind}) and no balancer ends TLS before it"
    )]
    NoTls {
        /// Which.
        site: String,
        /// Where.
        server: String,
        /// The kind of its web server.
        kind: String,
    },
    /// Two sites answer to one name, or would share a file.
    #[error("{first} and {second} both have {what}")]
    Clash {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// What they share.
        what: String,
    },
    /// Something that a site in a subdirectory can't have.
    #[error("{site} lies in a subdirectory, and {what}")]
    Subdirectory {
        /// Which.
        site: String,
        /// What it has.
        what: String,
    },
    /// A value that could change the meaning of a configuration file.
    #[error("{site}: {source}")]
    Text {
        /// Whose.
        site: String,
        /// Which value, and why.
        source: TextError,
    },
    /// A template of the administrator's that can't be used.
    #[error("The template `{name}` can't be used: {detail}")]
    Template {
        /// Which.
        name: String,
        /// Why, with the line.
        detail: String,
    },
}

impl RenderError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoWeb { .. } => "give the server `web = { kind = \"nginx\" }` in fanout.toml",
            Self::NotInstalled { .. } | Self::Modules { .. } => {
                "`fanout setup server NAME` installs what is missing"
            }
            Self::Php { .. } => {
                "set `php` of the platform to a version that the server has, or install it with \
                 `fanout setup server NAME`"
            }
            Self::NoCertificate { .. } => "set `certificate` and `key` of the site",
            Self::NoTls { .. } => {
                "use the kind `nginx_ssl` or `apache_ssl`, or a balancer with `tls = \"terminate\"`"
            }
            Self::Clash { .. } => "change one of the two in fanout.toml",
            Self::Subdirectory { .. } => "move that to the site of the host itself",
            Self::Text { .. } => "change the value in fanout.toml",
            Self::Template { .. } => {
                "compare it with the built-in one; docs/web-servers.md lists them and their variables"
            }
        }
    }
}

/// Every web file of one server's configuration set, by area and name.
///
/// # Errors
/// [`RenderError`]: nothing is rendered rather than half of it.
pub fn render(inputs: &Inputs<'_>) -> Result<Vec<ConfigFile>, RenderError> {
    let server = inputs.server.name.to_string();
    let Some(web) = &inputs.server.web else {
        return Err(RenderError::NoWeb { server });
    };
    let machine = facts::machine(inputs, web)?;
    let hosts = site::hosts(inputs, &machine)?;
    let mut files = Files::default();
    match machine.kind {
        Kind::Nginx => nginx::render(inputs, &machine, &hosts, &mut files)?,
        Kind::Apache => apache::render(inputs, &machine, &hosts, &mut files)?,
    }
    php::render(inputs, &machine, &hosts, &mut files)?;
    site::render(inputs, &hosts, &mut files)?;
    Ok(files.finish())
}

/// Files on their way into a set.
#[derive(Default)]
struct Files(BTreeMap<(ConfigArea, String), ConfigFile>);

impl Files {
    fn add(&mut self, area: ConfigArea, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.add_for(area, name, "", bytes);
    }

    fn add_for(
        &mut self,
        area: ConfigArea,
        name: impl Into<String>,
        group: &str,
        bytes: impl Into<Vec<u8>>,
    ) {
        let name = name.into();
        let file = ConfigFile {
            area,
            name: name.clone(),
            group: group.to_owned(),
            content: Content::Bytes(bytes.into()),
        };
        self.0.insert((area, name), file);
    }

    fn finish(self) -> Vec<ConfigFile> {
        self.0.into_values().collect()
    }
}
