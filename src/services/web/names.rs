//! Names that are derived from a site: its pool, its system user, its files.

use super::text::Quoted;
use crate::config::Site;
use crate::model::SiteUri;
use std::path::Path;
use sync_proto::digest::Digest;
use sync_proto::wire::service::{ConfigArea, ServiceFacts};

/// Longer than this no system user may be named.
const MAX_USER_BYTES: usize = 32;
const PREFIX: &str = "fo-";
/// Of the hash of a site's address, in characters. Two sites with one slug and one hash are refused
/// when they are rendered.
const HASH_CHARS: usize = 6;

/// The name of a site's PHP-FPM pool: `fo-www-example-com-1a2b3c`; at most 32 bytes, and different
/// for different sites.
pub fn pool_name(uri: &SiteUri) -> String {
    let room = MAX_USER_BYTES - PREFIX.len() - HASH_CHARS - 1;
    let slug: String = uri
        .as_str()
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        })
        .take(room)
        .collect();
    let hash = Digest::of(uri.as_str().as_bytes()).to_string();
    let hash: String = hash.chars().take(HASH_CHARS).collect();
    format!("{PREFIX}{}-{hash}", slug.trim_matches('-'))
}

/// Is this the name of a pool of ours?
pub fn is_pool_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(PREFIX) && name.len() <= MAX_USER_BYTES && name.chars().all(is_plain)
}

/// The system user that a site's PHP runs as, and the name of that user's group: the site's own
/// word, or one named like its pool, which the agent makes.
pub fn pool_user(site: &Site) -> String {
    site.user.clone().unwrap_or_else(|| pool_name(&site.uri))
}

/// The socket of a site's pool, in the directory that its PHP-FPM uses.
pub fn pool_socket(uri: &SiteUri, socket_dir: &str) -> String {
    format!("{socket_dir}/{}.sock", pool_name(uri))
}

/// Where a settings file of a site lies on a server: what its application includes.
pub fn settings_path(facts: &ServiceFacts, uri: &SiteUri, name: &str) -> String {
    let root = String::from_utf8_lossy(&facts.config_root);
    format!("{root}/settings/{}", settings_name(uri, name))
}

pub(super) fn settings_name(uri: &SiteUri, name: &str) -> String {
    format!("{}.{name}", uri.file_name())
}

/// The site that a file of a set belongs to, if it belongs to one: to leave that site out when a
/// test finds the file broken. `sites` are those that were rendered.
pub fn site_of<'a>(
    area: ConfigArea,
    name: &str,
    sites: impl IntoIterator<Item = &'a SiteUri>,
) -> Option<&'a SiteUri> {
    sites.into_iter().find(|uri| {
        let own = uri.file_name();
        match area {
            ConfigArea::Nginx | ConfigArea::Apache => {
                name == format!("site-{own}.conf") || name == format!("sub-{own}.inc")
            }
            ConfigArea::PhpFpm => name
                .split_once('-')
                .is_some_and(|(_, rest)| rest == format!("{own}.conf")),
            ConfigArea::Certificates | ConfigArea::Keys => name == format!("{own}.pem"),
            ConfigArea::Passwords => name == own,
            ConfigArea::Pages => {
                name == format!("{own}.maintenance.html") || name == format!("{own}.disabled.html")
            }
            // A site's name may continue another's: `a.b` has the file `a.b.x`, and so may `a`.
            ConfigArea::Settings => false,
            ConfigArea::Haproxy | ConfigArea::NginxBalancer => false,
        }
    })
}

/// The name of apache's variable with the resolved root of a platform: different for different
/// platforms.
pub(super) fn root_variable(platform: &str) -> String {
    let mut name = String::from("FANOUT_ROOT_");
    for c in platform.chars() {
        match c {
            '_' => name.push_str("__"),
            '-' => name.push_str("_d"),
            '.' => name.push_str("_p"),
            c => name.push(c),
        }
    }
    name
}

/// A path on a server as its programs see it.
pub(super) fn on_disk(prefix: &str, path: &Path, below: &str) -> String {
    let path = path.to_string_lossy();
    match below {
        "" => format!("{prefix}{path}"),
        below => format!("{prefix}{path}/{below}"),
    }
}

/// A path below the configuration root.
pub(super) fn below(root: &Quoted, rest: &str) -> Result<Quoted, super::TextError> {
    Quoted::parse("a path", &format!("{root}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_of_different_sites_have_different_names_that_useradd_accepts() {
        let name = |text: &str| pool_name(&text.parse().unwrap());
        let long = "a-very-long-name-of-a-shop.example.com";
        let names = [
            name("www.example.com"),
            name("www.example.com/shop"),
            name("www-example.com"),
            name(long),
            name(&format!("{long}/2")),
        ];
        for one in &names {
            assert!(one.len() <= 32, "{one}");
            assert!(
                one.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{one}"
            );
        }
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        assert_eq!(names[0], name("www.example.com"), "and stay the same");
    }

    #[test]
    fn a_broken_file_leads_to_its_site() {
        let sites: Vec<SiteUri> = ["example.com", "example.com/shop"]
            .map(|it| it.parse().unwrap())
            .into();
        let of = |area, name| site_of(area, name, &sites).map(SiteUri::as_str);
        assert_eq!(
            of(ConfigArea::Nginx, "site-example.com.conf"),
            Some("example.com")
        );
        assert_eq!(
            of(ConfigArea::Nginx, "sub-example.com+shop.inc"),
            Some("example.com/shop")
        );
        assert_eq!(
            of(ConfigArea::PhpFpm, "8.2-example.com.conf"),
            Some("example.com")
        );
        assert_eq!(
            of(ConfigArea::Keys, "example.com+shop.pem"),
            Some("example.com/shop")
        );
        assert_eq!(of(ConfigArea::Nginx, "00-base.conf"), None);
    }

    #[test]
    fn variables_of_different_platforms_differ() {
        let names: std::collections::BTreeSet<_> = ["a-b", "a_b", "a.b", "a_db", "a_d_b"]
            .map(root_variable)
            .into();
        assert_eq!(names.len(), 5);
    }
}
