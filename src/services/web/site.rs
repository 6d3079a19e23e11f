//! Sites as templates see them, grouped by the host name that they answer to.

use super::facts::{self, Machine};
use super::names::{below, pool_name, pool_socket, pool_user, root_variable, settings_name};
use super::templates::vars;
use super::text::{Pattern, Plain, Quoted, TextError};
use super::{Files, Inputs, Mode, RenderError, Scripts, SiteInputs};
use crate::config::Site;
use crate::model::SiteTls;
use serde::Serialize;
use std::collections::BTreeMap;
use sync_proto::wire::service::{ConfigArea, PhpFacts};

/// Names of scripts that are never handed out as files.
const SCRIPT_FILES: &str = r"\.(?:php\d*|phtml|phar|pht)(?:/|$)";

/// One host name with its site, the sites in its subdirectories, or both.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) name: Plain,
    pub(super) root: Option<Place<'a>>,
    pub(super) subs: Vec<Place<'a>>,
}

/// One site with everything that was worked out about it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) inputs: &'a SiteInputs<'a>,
    pub(super) php: Option<&'a PhpFacts>,
    pub(super) view: View,
}

/// A site as its templates see it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct View {
    uri: Quoted,
    pub(super) name: Plain,
    host: Plain,
    title: Quoted,
    pub(super) aliases: Vec<Plain>,
    alias_redirect: bool,
    pub(super) docroot: Quoted,
    pub(super) root_variable: Plain,
    pub(super) root_path: Quoted,
    docroot_variable: String,
    pub(super) base: Plain,
    pub(super) mode: &'static str,
    page: Quoted,
    page_status: u16,
    pub(super) tls: bool,
    pub(super) tls_only: bool,
    pub(super) certificate: Quoted,
    pub(super) key: Quoted,
    hsts_s: Option<u32>,
    upload_mib: u32,
    upload_bytes: u64,
    auth: Option<Quoted>,
    redirects: Vec<Redirect>,
    front: Option<Plain>,
    fallback: String,
    has_indexes: bool,
    scripts: Option<Pattern>,
    pub(super) no_scripts: Option<String>,
    deny: Vec<Pattern>,
    private: Vec<Quoted>,
    private_patterns: Vec<Pattern>,
    static_max_age_s: u32,
    pub(super) pool: Plain,
    user: Plain,
    socket: Option<Plain>,
    env: Vec<(Plain, Quoted)>,
    php_admin: Vec<(Plain, Quoted)>,
    pub(super) custom_pre: String,
    pub(super) custom_post: String,
    // Filled in by the program that serves.
    pub(super) listens: Vec<String>,
    pub(super) ports: Vec<Port>,
    pub(super) subs: Vec<String>,
    pub(super) sub_bases: Vec<Plain>,
    pub(super) redirect_base: String,
    pub(super) redirect_base_plain: Option<String>,
    pub(super) tls_base: String,
}

/// A port of an apache vhost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) tls: bool,
}

/// A path that leads elsewhere.
#[derive(Clone, Debug, Serialize)]
struct Redirect {
    path: Plain,
    pattern: Pattern,
    to: Plain,
}

/// Groups the sites of a server, and works out what each needs.
pub(super) fn hosts<'a>(
    inputs: &'a Inputs<'a>,
    machine: &Machine,
) -> Result<Vec<Host<'a>>, RenderError> {
    no_clashes(inputs)?;
    let mut hosts: BTreeMap<&str, (Option<Place<'a>>, BTreeMap<&str, Place<'a>>)> = BTreeMap::new();
    for site in &inputs.sites {
        let place = place(inputs, machine, site)?;
        let host = hosts.entry(site.site.uri.host()).or_default();
        match site.site.uri.subdirectory() {
            None => host.0 = Some(place),
            Some(directory) => {
                host.1.insert(directory, place);
            }
        }
    }
    let hosts = hosts.into_iter().map(|(name, (root, subs))| {
        Ok(Host {
            name: Plain::parse("the host", name).map_err(|source| RenderError::Text {
                site: name.to_owned(),
                source,
            })?,
            root,
            subs: subs.into_values().collect(),
        })
    });
    hosts.collect()
}

/// Every host name and every pool belongs to one site.
fn no_clashes(inputs: &Inputs<'_>) -> Result<(), RenderError> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for site in &inputs.sites {
        let uri = site.site.uri.as_str();
        let aliases = site.site.aliases.iter();
        let names = aliases.map(|it| format!("the name `{}`", it.as_str()));
        let own = [
            format!("the name `{uri}`"),
            format!("the pool `{}`", pool_name(&site.site.uri)),
        ];
        for what in own.into_iter().chain(names) {
            if let Some(first) = taken.insert(what.clone(), uri) {
                return Err(RenderError::Clash {
                    first: first.to_owned(),
                    second: uri.to_owned(),
                    what,
                });
            }
        }
    }
    for site in &inputs.sites {
        // A site in a subdirectory lives on its host's vhost, which must not be another's alias.
        let own = format!("the name `{}`", site.site.uri.host());
        if let Some(first) = taken.get(&own)
            && site.site.uri.subdirectory().is_some()
            && *first != site.site.uri.host()
        {
            return Err(RenderError::Clash {
                first: (*first).to_owned(),
                second: site.site.uri.to_string(),
                what: own,
            });
        }
    }
    Ok(())
}

fn place<'a>(
    inputs: &'a Inputs<'a>,
    machine: &Machine,
    site: &'a SiteInputs<'a>,
) -> Result<Place<'a>, RenderError> {
    let uri = &site.site.uri;
    let php = match site.app.has_scripts() {
        true => Some(facts::php(inputs, site)?),
        false => None,
    };
    let tls = serves_tls(machine, site)?;
    if uri.subdirectory().is_some() && !site.site.aliases.is_empty() {
        return Err(RenderError::Subdirectory {
            site: uri.to_string(),
            what: "has aliases".into(),
        });
    }
    let view = view(machine, site, php, tls).map_err(|source| RenderError::Text {
        site: uri.to_string(),
        source,
    })?;
    Ok(Place {
        inputs: site,
        php,
        view,
    })
}

/// Does this server itself serve the site over TLS?
fn serves_tls(machine: &Machine, site: &SiteInputs<'_>) -> Result<bool, RenderError> {
    let uri = || site.site.uri.to_string();
    match (site.site.tls, machine.tls, &site.certificate) {
        (SiteTls::Off, _, _) => Ok(false),
        (_, true, Some(_)) => Ok(true),
        (_, true, None) => Err(RenderError::NoCertificate { site: uri() }),
        (SiteTls::Required, false, _) if !machine.has_proxies() => Err(RenderError::NoTls {
            site: uri(),
            server: machine.name.clone(),
            kind: machine.web.kind.to_string(),
        }),
        (_, false, _) => Ok(false),
    }
}

fn view(
    machine: &Machine,
    site: &SiteInputs<'_>,
    php: Option<&PhpFacts>,
    tls: bool,
) -> Result<View, TextError> {
    let (it, app) = (site.site, &site.app);
    let name = it.uri.file_name();
    let base = it.uri.subdirectory().map(|sub| format!("/{sub}"));
    let base = base.unwrap_or_default();
    let docroot = site.platform.docroot.to_string();
    let tls_only = it.tls == SiteTls::Required;
    // What fanout signed itself may be replaced by anything: nobody is told to insist on it.
    let signed = site.certificate.as_ref();
    let is_own = it.certificate.is_some() && !signed.is_some_and(|it| it.is_self_signed);
    let variable = root_variable(site.platform.name.as_str());
    let (mode, page_status) = match site.mode {
        Mode::Enabled => ("enabled", 200),
        Mode::Disabled => ("disabled", 403),
        Mode::Maintenance => ("maintenance", 503),
    };
    let snippets = match machine.kind {
        facts::Kind::Nginx => &site.custom.nginx,
        facts::Kind::Apache => &site.custom.apache,
    };
    let socket = php.map(|php| pool_socket(&it.uri, php.socket_dir.trim_end_matches('/')));
    let front = app.front.as_ref().map(|front| moved(&base, front));
    let front = front.transpose()?;
    let scripts = scripts(&app.scripts, &base)?;
    let mut deny: Vec<Pattern> = app.deny.iter().map(|it| it.below(&base)).collect();
    for directory in &app.no_scripts {
        let directory = escaped(&format!("{base}{directory}"));
        deny.push(Pattern::parse(&format!("^{directory}.*{SCRIPT_FILES}"))?);
    }
    let root = &machine.config_root;
    Ok(View {
        uri: Quoted::parse("the address", it.uri.as_str())?,
        host: Plain::parse("the host", it.uri.host())?,
        title: title(it),
        aliases: it
            .aliases
            .iter()
            .map(|alias| Plain::parse("the alias", alias.host()))
            .collect::<Result<_, _>>()?,
        alias_redirect: it.redirect_aliases && !it.aliases.is_empty(),
        docroot_variable: match docroot.as_str() {
            "" => format!("${{{variable}}}"),
            docroot => format!(
                "${{{variable}}}/{}",
                Quoted::parse("the document root", docroot)?
            ),
        },
        docroot: machine.path(&site.platform.root, &docroot)?,
        root_variable: Plain::parse("the platform", &variable)?,
        root_path: machine.path(&site.platform.root, "")?,
        mode,
        page_status,
        page: below(root, &format!("pages/{name}.{mode}.html"))?,
        tls,
        tls_only,
        certificate: below(root, &format!("certificates/{name}.pem"))?,
        key: below(root, &format!("keys/{name}.pem"))?,
        hsts_s: it.hsts_s.filter(|_| tls_only && is_own),
        upload_mib: it.upload_mib,
        upload_bytes: u64::from(it.upload_mib) << 20,
        auth: match site.passwords {
            Some(_) => Some(below(root, &format!("passwords/{name}"))?),
            None => None,
        },
        redirects: it
            .redirects
            .iter()
            .map(|(path, to)| redirect(&base, path, to))
            .collect::<Result<_, _>>()?,
        fallback: match &front {
            Some(front) => format!("{front}$is_args$args"),
            None => "=404".into(),
        },
        front,
        // Without a front controller nothing else answers for a directory, the site's own included.
        has_indexes: app.front.is_none() || !matches!(app.scripts, Scripts::Only(_)),
        no_scripts: scripts
            .as_ref()
            .map(|scripts| no_scripts(&app.scripts, scripts)),
        scripts,
        deny,
        private: app
            .private
            .iter()
            .map(|it| Quoted::parse("the private directory", &format!("{base}{it}")))
            .collect::<Result<_, _>>()?,
        private_patterns: app
            .private
            .iter()
            .map(|it| Pattern::parse(&format!("^{}", escaped(&format!("{base}{it}")))))
            .collect::<Result<_, _>>()?,
        static_max_age_s: app.static_max_age_s,
        pool: Plain::parse("the pool", &pool_name(&it.uri))?,
        user: Plain::parse("the user", &pool_user(it))?,
        socket: socket
            .map(|socket| Plain::parse("the socket", &socket))
            .transpose()?,
        env: app.env.clone(),
        php_admin: app.php_admin.clone(),
        custom_pre: snippet("pre", snippets.pre.as_deref()),
        custom_post: snippet("post", snippets.post.as_deref()),
        listens: Vec::new(),
        ports: Vec::new(),
        subs: Vec::new(),
        sub_bases: Vec::new(),
        redirect_base: String::new(),
        redirect_base_plain: None,
        tls_base: String::new(),
        name: Plain::parse("the site", &name)?,
        base: match base.as_str() {
            // The template of a site in a subdirectory alone uses it.
            "" => Plain::parse("the path", "/")?,
            base => Plain::parse("the path", base)?,
        },
    })
}

/// What a page calls the site: its title, where every template could take it, or its address.
fn title(site: &Site) -> Quoted {
    let titles = [site.title.as_deref().unwrap_or_default(), site.uri.as_str()];
    let usable = titles.into_iter().filter(|it| !it.is_empty());
    usable
        .filter_map(|it| Quoted::parse("the title", it).ok())
        .next()
        .unwrap_or_default()
}

/// The administrator's own lines as they are: what is wrong in them is found by the test of the
/// site's file alone, and hits that site only.
fn snippet(which: &str, lines: Option<&str>) -> String {
    match lines {
        Some(lines) => format!("\n    # custom.d: {which}\n{}", lines.trim_end()),
        None => String::new(),
    }
}

fn moved(base: &str, path: &Plain) -> Result<Plain, TextError> {
    Plain::parse("the front controller", &format!("{base}{path}"))
}

fn redirect(base: &str, path: &str, to: &str) -> Result<Redirect, TextError> {
    let path = Plain::parse("the redirected path", &format!("{base}{path}"))?;
    Ok(Redirect {
        pattern: Pattern::parse(&format!("^{}$", escaped(path.as_str())))?,
        path,
        to: Plain::parse("the redirect to", to)?,
    })
}

/// The expression on paths that are handed to PHP.
fn scripts(scripts: &Scripts, base: &str) -> Result<Option<Pattern>, TextError> {
    let pattern = match scripts {
        Scripts::None => return Ok(None),
        Scripts::Any if base.is_empty() => r"\.php(?:/|$)".to_owned(),
        Scripts::Any => format!(r"^{base}/.*\.php(?:/|$)"),
        Scripts::Only(names) => {
            let names: Vec<String> = names.iter().map(|it| escaped(it.as_str())).collect();
            format!(r"^{base}(?:{})(?:/|$)", names.join("|"))
        }
    };
    // An application that allows no script at all has none.
    match pattern.strip_prefix("^(?:") {
        Some(rest) => Ok(Some(Pattern::parse(&format!("^/(?:{}", unslashed(rest)))?)),
        None => Pattern::parse(&pattern).map(Some),
    }
}

/// `/a\.php|/b\.php)...` without the slash that stands before the group already.
fn unslashed(alternatives: &str) -> String {
    alternatives.trim_start_matches('/').replace("|/", "|")
}

/// What apache refuses that nginx refuses by the order of its locations: script files that aren't
/// among those that are run.
fn no_scripts(allowed: &Scripts, pattern: &Pattern) -> String {
    match allowed {
        Scripts::Only(_) => {
            let allowed = pattern.as_str().trim_start_matches('^');
            format!("(?i)^(?!{allowed}).*{SCRIPT_FILES}")
        }
        _ => r"(?i)\.(?:php\d+|phtml|phar|pht)(?:/|$)".into(),
    }
}

/// Text that stands for itself in an expression.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if matches!(c, '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '|' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// What every web server reads alike: certificates, keys, pages, password files, settings.
pub(super) fn render(
    inputs: &Inputs<'_>,
    hosts: &[Host<'_>],
    files: &mut Files,
) -> Result<(), RenderError> {
    for place in hosts.iter().flat_map(|it| it.root.iter().chain(&it.subs)) {
        let (site, view) = (place.inputs, &place.view);
        let name = site.site.uri.file_name();
        let own_certificate = site.certificate.as_ref().filter(|_| view.tls);
        if let Some(certificate) = own_certificate {
            let file = format!("{name}.pem");
            files.add(
                ConfigArea::Certificates,
                &file,
                certificate.chain_pem.as_bytes(),
            );
            files.add(ConfigArea::Keys, &file, certificate.key_pem.as_bytes());
        }
        if let Some(passwords) = &site.passwords {
            files.add(ConfigArea::Passwords, &name, passwords.as_slice());
        }
        for settings in &site.settings {
            let file = settings_name(&site.site.uri, &settings.name);
            let group = pool_user(site.site);
            files.add_for(
                ConfigArea::Settings,
                file,
                &group,
                settings.bytes.as_slice(),
            );
        }
        // Both pages are there at all times, so that switching is a change of one file.
        for mode in ["maintenance", "disabled"] {
            let page = inputs
                .templates
                .render(&format!("page-{mode}.html"), vars! { site => view })?;
            files.add(ConfigArea::Pages, format!("{name}.{mode}.html"), page);
        }
    }
    Ok(())
}
