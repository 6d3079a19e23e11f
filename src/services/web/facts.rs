//! A server as its files depend on it: the inventory's word joined with what the server reported.

use super::names::on_disk;
use super::text::{Plain, Quoted};
use super::{Inputs, RenderError, TextError};
use crate::config::Web;
use crate::model::WebKind;
use sync_proto::wire::service::{PhpFacts, ProgramFacts};

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Apache,
}

/// A server, ready to render for.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) web: Web,
    /// Does it serve TLS itself?
    pub(super) tls: bool,
    pub(super) version: Vec<u32>,
    /// Ports and defaults that the machine's own configuration has.
    pub(super) own_ports: Vec<u16>,
    pub(super) own_defaults: Vec<u16>,
    pub(super) has_ipv6: bool,
    pub(super) config_root: Quoted,
    pub(super) data_root: Quoted,
    pub(super) prefix: String,
    pub(super) web_group: Plain,
    pub(super) proxies: Vec<Plain>,
    /// Connections must not last.
    pub(super) is_passed_through: bool,
    pub(super) modules: Vec<String>,
}

/// Modules that apache must have for what fanout writes.
const APACHE_MODULES: [&str; 9] = [
    "rewrite_module",
    "proxy_module",
    "proxy_fcgi_module",
    "headers_module",
    "expires_module",
    "remoteip_module",
    "setenvif_module",
    "alias_module",
    "dir_module",
];

pub(super) fn machine(inputs: &Inputs<'_>, web: &Web) -> Result<Machine, RenderError> {
    let name = inputs.server.name.to_string();
    let facts = inputs.facts;
    let (kind, program, tls) = match web.kind {
        WebKind::Nginx => (Kind::Nginx, &facts.nginx, false),
        WebKind::NginxSsl => (Kind::Nginx, &facts.nginx, true),
        WebKind::Apache => (Kind::Apache, &facts.apache, false),
        WebKind::ApacheSsl => (Kind::Apache, &facts.apache, true),
    };
    let Some(program) = program else {
        return Err(RenderError::NotInstalled {
            server: name,
            program: program_name(kind).to_owned(),
        });
    };
    if kind == Kind::Apache {
        has_modules(&name, program, tls)?;
    }
    let text = |source: TextError| RenderError::Text {
        site: name.clone(),
        source,
    };
    let path = |what: &str, bytes: &[u8]| {
        // Bytes that aren't text become a character that stands for them, and no such path exists.
        Quoted::parse(what, &String::from_utf8_lossy(bytes)).map_err(text)
    };
    let prefix = path("the agent's prefix", &facts.prefix)?;
    let proxies = inputs.trusted_proxies.iter().map(|net| {
        let shown = match net.prefix_len() == net.max_prefix_len() {
            true => net.addr().to_string(),
            false => net.to_string(),
        };
        Plain::parse("the balancer", &shown).map_err(text)
    });
    Ok(Machine {
        kind,
        tls,
        web: web.clone(),
        version: version(&program.version),
        own_ports: program.own_ports.clone(),
        own_defaults: program.own_defaults.clone(),
        has_ipv6: facts.addresses.iter().any(|it| it.contains(':')),
        config_root: path("the agent's configuration directory", &facts.config_root)?,
        data_root: path("the agent's data directory", &facts.data_root)?,
        prefix: prefix.as_str().trim_end_matches('/').to_owned(),
        web_group: Plain::parse("the web server's group", &facts.web_group).map_err(text)?,
        proxies: proxies.collect::<Result<_, _>>()?,
        is_passed_through: inputs.is_passed_through && tls,
        modules: program.modules.clone(),
        name,
    })
}

fn has_modules(server: &str, program: &ProgramFacts, tls: bool) -> Result<(), RenderError> {
    let wanted = APACHE_MODULES
        .into_iter()
        .chain(tls.then_some("ssl_module"));
    let missing: Vec<&str> = wanted
        .filter(|it| !program.modules.iter().any(|has| has == it))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RenderError::Modules {
        server: server.to_owned(),
        program: "apache".into(),
        modules: missing.join(", "),
    })
}

pub(super) const fn program_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Nginx => "nginx",
        Kind::Apache => "apache",
    }
}

/// `1.22.1` as numbers; what isn't a number ends it.
fn version(text: &str) -> Vec<u32> {
    text.split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

impl Machine {
    /// Is the program at least of this version?
    pub(super) fn is_at_least(&self, version: [u32; 3]) -> bool {
        self.version.as_slice() >= version.as_slice()
    }

    /// A path of the inventory as this server's programs see it.
    pub(super) fn path(
        &self,
        path: &crate::model::AbsPath,
        below: &str,
    ) -> Result<Quoted, TextError> {
        Quoted::parse("the path", &on_disk(&self.prefix, path.as_path(), below))
    }

    /// Ends a balancer TLS before it?
    pub(super) fn has_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// `listen` arguments of nginx for a port.
    pub(super) fn listens(&self, port: u16, more: &str) -> Vec<String> {
        let mut listens = vec![format!("{port}{more}")];
        if self.has_ipv6 {
            listens.push(format!("[::]:{port}{more}"));
        }
        listens
    }

    /// What nginx 1.22 wants behind `ssl` for HTTP/2, and whether it is a directive of its own.
    pub(super) fn http2(&self) -> (&'static str, bool) {
        let is_built_in = self.modules.iter().any(|it| it == "http_v2_module");
        match (is_built_in, self.is_at_least([1, 25, 1])) {
            (true, true) => (" ssl", true),
            (true, false) => (" ssl http2", false),
            (false, _) => (" ssl", false),
        }
    }

    /// `:PORT` for a URL, unless it is the usual one or a balancer stands before it.
    pub(super) fn shown_port(&self, port: u16, usual: u16) -> String {
        match self.has_proxies() || port == usual {
            true => String::new(),
            false => format!(":{port}"),
        }
    }
}

/// The PHP-FPM that a site uses.
pub(super) fn php<'a>(
    inputs: &Inputs<'a>,
    site: &super::SiteInputs<'a>,
) -> Result<&'a PhpFacts, RenderError> {
    let wrong = |detail: String| RenderError::Php {
        site: site.site.uri.to_string(),
        server: inputs.server.name.to_string(),
        detail,
    };
    let installed = &inputs.facts.php;
    let versions = || {
        let all: Vec<&str> = installed.iter().map(|it| it.version.as_str()).collect();
        all.join(", ")
    };
    match (&site.platform.php, installed.as_slice()) {
        (_, []) => Err(wrong("it has no PHP-FPM installed".into())),
        (Some(wanted), _) => installed
            .iter()
            .find(|it| it.version == *wanted)
            .ok_or_else(|| wrong(format!("it has PHP-FPM {} and not {wanted}", versions()))),
        (None, [only]) => Ok(only),
        (None, _) => Err(wrong(format!(
            "it has PHP-FPM {}, and the platform doesn't say which",
            versions()
        ))),
    }
}
