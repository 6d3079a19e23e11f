//! What a platform's `app` brings, where the platform doesn't say otherwise.

use crate::model::AppKind;

/// Settings that an application brings.
pub(super) struct Defaults {
    /// What belongs to the members, relative to the document root and in addition to the
    /// platform's own rules.
    pub(super) preserve: &'static [&'static str],
    /// Whether its sites have periodic work.
    pub(super) cron: bool,
    /// Whether it keeps several sites apart, each in a directory of its own.
    pub(super) knows_sites: bool,
    /// Whether visitors can leave files behind.
    pub(super) takes_uploads: bool,
}

/// What that application brings; nothing said is like PHP without an installer.
pub(super) fn defaults(app: Option<AppKind>) -> Defaults {
    let (preserve, cron, knows_sites): (&'static [&'static str], bool, bool) = match app {
        Some(AppKind::Drupal) => (&["/sites/*/files", "/sites/*/private"], true, true),
        Some(AppKind::Wordpress) => (&["/wp-content/uploads"], true, false),
        Some(AppKind::Mediawiki) => (&["/images"], true, false),
        Some(AppKind::Command) => (&[], true, true),
        Some(AppKind::Php | AppKind::Static) | None => (&[], false, false),
    };
    Defaults {
        preserve,
        cron,
        knows_sites,
        takes_uploads: app != Some(AppKind::Static),
    }
}
