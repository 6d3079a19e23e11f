//! What the sites mean: each on a platform whose members can serve it, no address claimed twice.

use super::app;
use super::decode::Item;
use super::inventory::{Inventory, On, Platform, Server, Site};
use super::problem::Problems;
use super::schema::SiteTable;
use super::scope::{Scope, reference};
use crate::model::{BalancerTls, PlatformName, ServerName, SiteTls, SiteUri, Uploads};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use sync_proto::path::escape;
use toml::Spanned;

/// Room for the largest of uploads; more than a MariaDB packet or a PHP request needs.
const MAX_UPLOAD_MIB: u32 = 65_536;
const DEFAULT_UPLOAD_MIB: u32 = 64;
const MAX_TITLE_CHARS: usize = 255;

/// Reads the sites into an inventory that holds everything else.
pub(super) fn sites(
    items: Vec<Item<SiteUri, SiteTable>>,
    inventory: &mut Inventory,
    platforms: &BTreeSet<PlatformName>,
    scope: &Scope,
    problems: &mut Problems<'_>,
) {
    let mut claims = Claims::default();
    for item in items {
        let Some(table) = item.table else { continue };
        let name = format!("the site `{}`", item.name);
        let platform = reference(&table.platform, "platform", &name, platforms, problems);
        let on = platform
            .as_ref()
            .and_then(|platform| inventory.platforms.get(platform.as_str()));
        if let Some(on) = on {
            let place = Place::of(inventory, on);
            claims.site(&item.name, &item.at, &table, &place, problems);
            place.check(&item.name, &table, problems);
        }
        let db = database(&item.name, &table, inventory, on, scope, problems);
        values(&item.name, &table, problems);
        let cron = app::defaults(on.and_then(|on| on.app)).cron;
        if let Some(platform) = platform {
            let site = site(item.name, table, platform, db, cron);
            inventory.sites.insert(site.uri.clone(), site);
        }
    }
}

fn site(
    uri: SiteUri,
    table: SiteTable,
    platform: PlatformName,
    db: Option<ServerName>,
    cron: bool,
) -> Site {
    let redirects = table.redirects.into_iter();
    Site {
        uri,
        platform,
        dir: table.dir.map(Spanned::into_inner),
        db,
        aliases: table.aliases.into_iter().map(Spanned::into_inner).collect(),
        redirect_aliases: table.redirect_aliases,
        redirects: redirects
            .map(|(from, to)| (from.into_inner(), to.into_inner()))
            .collect(),
        tls: table.tls.map_or(SiteTls::Off, Spanned::into_inner),
        certificate: table.certificate.map(Spanned::into_inner),
        key: table.key.map(Spanned::into_inner),
        hsts_s: table.hsts.map(|time| time.get_ref().get()),
        uploads: table.uploads.map(|uploads| uploads.into_inner().0),
        user: table.user.map(Spanned::into_inner),
        upload_mib: table.upload.map_or(DEFAULT_UPLOAD_MIB, Spanned::into_inner),
        auth: table.auth,
        title: table.title.map(Spanned::into_inner),
        mail: table.mail.map(Spanned::into_inner),
        cron: table.cron.unwrap_or(cron),
    }
}

/// Where a site is served.
struct Place<'i> {
    platform: &'i Platform,
    members: Vec<&'i Server>,
    /// Every member could be read.
    is_whole: bool,
    /// TLS ends before the members.
    is_terminated: bool,
    balancer: Option<String>,
}

impl<'i> Place<'i> {
    fn of(inventory: &'i Inventory, platform: &'i Platform) -> Self {
        let members = inventory.members(platform);
        let expected = match &platform.on {
            On::Server(_) => 1,
            On::Cluster(name) => inventory
                .clusters
                .get(name)
                .map_or(0, |cluster| cluster.members.len()),
        };
        let balancer = inventory.balancer_of(platform);
        Self {
            platform,
            is_whole: members.len() == expected && expected > 0,
            members,
            is_terminated: balancer.is_some_and(|b| b.tls == BalancerTls::Terminate),
            balancer: balancer.map(|b| b.name.to_string()),
        }
    }

    fn names(&self) -> BTreeSet<ServerName> {
        self.members.iter().map(|s| s.name.clone()).collect()
    }

    /// Every member can serve the site as it shall be served.
    fn check(&self, uri: &SiteUri, table: &SiteTable, problems: &mut Problems<'_>) {
        if let Some(member) = self.members.iter().find(|server| server.web.is_none()) {
            problems.push_with(
                table.platform.span(),
                format!(
                    "The site `{uri}` is on the server `{0}`, which has no web server",
                    member.name
                ),
                format!("fanout edit server {} --web nginx", member.name),
            );
        }
        let tls = table
            .tls
            .as_ref()
            .filter(|tls| *tls.get_ref() != SiteTls::Off);
        let without = self
            .members
            .iter()
            .find(|server| server.web.as_ref().is_some_and(|web| !web.kind.has_tls()));
        if let (Some(tls), Some(member), false) = (tls, without, self.is_terminated) {
            let kind = member.web.as_ref().map_or("", |web| web.kind.as_str());
            problems.push_with(
                tls.span(),
                format!(
                    "The site `{uri}` is served over TLS, but the web server of `{}` is `{kind}`, without TLS",
                    member.name
                ),
                format!("fanout edit server {} --web {kind}_ssl", member.name),
            );
        }
        if let Some(uploads) = &table.uploads
            && let Uploads::Pin(to) = &uploads.get_ref().0
            && self.is_whole
            && !self.members.iter().any(|server| server.name == *to)
        {
            let members: Vec<&str> = self.members.iter().map(|s| s.name.as_str()).collect();
            problems.push_with(
                uploads.span(),
                format!(
                    "Uploads of the site `{uri}` can't be pinned to `{to}`, which is no member of the platform `{}`",
                    self.platform.name
                ),
                format!("its members are {}", members.join(", ")),
            );
        }
        if let Some(dir) = &table.dir
            && !app::defaults(self.platform.app).knows_sites
        {
            problems.push(
                dir.span(),
                format!(
                    "`dir` of the site `{uri}` means nothing: the application of the platform `{}` has one site",
                    self.platform.name
                ),
            );
        }
    }
}

/// What belongs to one site only.
#[derive(Default)]
struct Claims {
    hosts: Vec<Claim>,
    dirs: BTreeMap<(PlatformName, String), (SiteUri, Range<usize>)>,
}

struct Claim {
    /// Host name, and the subdirectory if the site is in one.
    address: (String, Option<String>),
    site: SiteUri,
    at: Range<usize>,
    members: BTreeSet<ServerName>,
    balancer: Option<String>,
}

impl Claims {
    fn site(
        &mut self,
        uri: &SiteUri,
        at: &Range<usize>,
        table: &SiteTable,
        place: &Place<'_>,
        problems: &mut Problems<'_>,
    ) {
        self.host(uri, uri.host(), at.clone(), place, problems);
        for alias in &table.aliases {
            let text = alias.get_ref();
            if text.subdirectory().is_some() {
                problems.push(
                    alias.span(),
                    format!("The alias `{text}` of the site `{uri}` must be a host name alone"),
                );
            } else {
                self.host(uri, text.host(), alias.span(), place, problems);
            }
        }
        if let Some(dir) = &table.dir {
            let key = (place.platform.name.clone(), dir.get_ref().clone());
            match self.dirs.get(&key) {
                Some((other, other_at)) => {
                    let line = problems.line(other_at.start);
                    problems.push(
                        dir.span(),
                        format!(
                            "The directory `{}` is that of the site `{other}` (line {line})",
                            escape(key.1.as_bytes())
                        ),
                    );
                }
                None => {
                    self.dirs.insert(key, (uri.clone(), dir.span()));
                }
            }
        }
    }

    /// Two sites can't answer to one address on one member, nor behind one balancer.
    fn host(
        &mut self,
        site: &SiteUri,
        host: &str,
        at: Range<usize>,
        place: &Place<'_>,
        problems: &mut Problems<'_>,
    ) {
        let claim = Claim {
            address: (host.to_owned(), site.subdirectory().map(str::to_owned)),
            site: site.clone(),
            at,
            members: place.names(),
            balancer: place.balancer.clone(),
        };
        let meets = |other: &&Claim| {
            other.address == claim.address
                && (!other.members.is_disjoint(&claim.members)
                    || (other.balancer.is_some() && other.balancer == claim.balancer))
        };
        match self.hosts.iter().find(meets) {
            Some(other) if other.site == *site => problems.push(
                claim.at.clone(),
                format!("The site `{site}` answers to `{host}` twice"),
            ),
            Some(other) => {
                let line = problems.line(other.at.start);
                problems.push(
                    claim.at.clone(),
                    format!(
                        "`{host}` is an address of the site `{site}`, and of the site `{}` (line {line})",
                        other.site
                    ),
                );
            }
            None => {}
        }
        self.hosts.push(claim);
    }
}

/// The site's database server: there is one, and every member can mean the same machine by its
/// name.
fn database(
    uri: &SiteUri,
    table: &SiteTable,
    inventory: &Inventory,
    platform: Option<&Platform>,
    scope: &Scope,
    problems: &mut Problems<'_>,
) -> Option<ServerName> {
    let at = table.db.as_ref()?;
    let name = scope.server(at, &format!("the site `{uri}`"), problems)?;
    // Reported already if it couldn't be read.
    let Some(server) = inventory.servers.get(&name) else {
        return Some(name);
    };
    let Some(db) = &server.db else {
        problems.push_with(
            at.span(),
            format!("The server `{name}` of the site `{uri}`'s database has no database server"),
            format!("fanout edit server {name} --db mysql"),
        );
        return Some(name);
    };
    let host = db.host.as_deref().unwrap_or(server.address.host());
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let elsewhere = platform
        .map(|platform| inventory.members(platform))
        .into_iter()
        .flatten()
        .find(|member| member.name != name);
    if let (true, Some(member)) = (is_loopback && db.host.is_some(), elsewhere) {
        problems.push(
            at.span(),
            format!(
                "The site `{uri}` is on `{}`, where `{host}`, the host of the database server on `{name}`, is another machine",
                member.name
            ),
        );
    }
    Some(name)
}

/// Settings that stand for themselves. What could break out of a configuration file is refused.
fn values(uri: &SiteUri, table: &SiteTable, problems: &mut Problems<'_>) {
    if let Some(dir) = &table.dir
        && !is_directory(dir.get_ref())
    {
        problems.push(
            dir.span(),
            format!(
                "`{}` can't be a site's directory: use letters, digits, `.`, `-` and `_`",
                escape(dir.get_ref().as_bytes())
            ),
        );
    }
    for (from, to) in &table.redirects {
        if !is_redirect_path(from.get_ref()) {
            problems.push(
                from.span(),
                format!(
                    "`{}` can't be redirected: it must be a path that starts with `/`, without a query, spaces or quotes",
                    escape(from.get_ref().as_bytes())
                ),
            );
        }
        if !is_redirect_target(to.get_ref()) {
            problems.push(
                to.span(),
                format!(
                    "`{}` is not a target: use a path, or an address that starts with https:// or http://",
                    escape(to.get_ref().as_bytes())
                ),
            );
        }
    }
    match (&table.certificate, &table.key) {
        (Some(at), None) => problems.push_with(
            at.span(),
            format!("The certificate of the site `{uri}` needs its private key"),
            "add key = \"file:/PATH\" or key = \"secret:NAME\"",
        ),
        (None, Some(at)) => problems.push(
            at.span(),
            format!("The private key of the site `{uri}` needs its `certificate`"),
        ),
        _ => {}
    }
    let tls = table
        .tls
        .as_ref()
        .map_or(SiteTls::Off, |tls| *tls.get_ref());
    if let Some(hsts) = &table.hsts
        && tls != SiteTls::Required
    {
        problems.push(
            hsts.span(),
            format!("`hsts` of the site `{uri}` needs tls = \"required\""),
        );
    }
    if let Some(user) = &table.user
        && !is_system_user(user.get_ref())
    {
        problems.push(
            user.span(),
            format!(
                "The site `{uri}` can't run as `{}`: use a system user other than root",
                escape(user.get_ref().as_bytes())
            ),
        );
    }
    if let Some(upload) = &table.upload
        && !(1..=MAX_UPLOAD_MIB).contains(upload.get_ref())
    {
        problems.push(
            upload.span(),
            format!("`upload` is 1 to {MAX_UPLOAD_MIB} MiB"),
        );
    }
    if let Some(title) = &table.title
        && (title.get_ref().trim().is_empty()
            || title.get_ref().chars().count() > MAX_TITLE_CHARS
            || title.get_ref().chars().any(char::is_control))
    {
        problems.push(
            title.span(),
            format!("A title is one line of 1 to {MAX_TITLE_CHARS} characters"),
        );
    }
    if let Some(mail) = &table.mail
        && !is_mail(mail.get_ref())
    {
        problems.push(
            mail.span(),
            format!(
                "`{}` is not a mail address",
                escape(mail.get_ref().as_bytes())
            ),
        );
    }
}

fn is_directory(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// Characters of a URL that mean nothing in a web server's configuration.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._~/:?#@!&*+,=%".contains(c))
}

fn is_redirect_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(['?', '#']) && is_plain(text) && text.len() <= 1024
}

fn is_redirect_target(text: &str) -> bool {
    let has_host = ["https://", "http://"]
        .iter()
        .filter_map(|scheme| text.strip_prefix(scheme))
        .any(|rest| !rest.is_empty());
    // `//host` would lead elsewhere while it looks like a path.
    let is_path = text.starts_with('/') && !text.starts_with("//");
    (is_path || has_host) && is_plain(text) && text.len() <= 2048
}

fn is_system_user(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    text != "root"
        && text.len() <= 31
        && text.starts_with(first)
        && text
            .chars()
            .all(|c| first(c) || c.is_ascii_digit() || c == '-')
}

fn is_mail(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._+=@".contains(c);
    text.len() <= 254
        && text.chars().all(is_plain)
        && text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
}
