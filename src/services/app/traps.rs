//! What goes wrong where several members run one application: refused where it loses something,
//! named where it only surprises.

use super::detect::below;
use super::paths::{docroot, settings_file};
use super::stubs::include_line;
use super::{AppDriver, AppSite, Files, SETTINGS_VARIABLE};

/// Bytes of a settings file that are looked at.
const READ_BYTES: usize = 256 * 1024;

/// What a trap is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// A settings file that leads elsewhere.
    NotIncluded,
    /// State that only one member has.
    Shared,
}

/// One trap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What it is about.
    pub what: TrapKind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The site must not be deployed like this.
    pub refuses: bool,
}

/// The traps of a source that `members` are to run.
pub fn traps(site: &AppSite, source: &dyn Files, members: usize) -> Vec<Trap> {
    let mut traps = Vec::new();
    let at = docroot(&site.docroot);
    let mut trap = |refuses, message: String, hint: &str| {
        traps.push(Trap {
            what: TrapKind::Shared,
            message,
            hint: hint.to_owned(),
            refuses,
        });
    };
    let own = settings_file(site);
    let mut missing = None;
    let text = |path: &str| {
        let bytes = source.head(path, READ_BYTES)?;
        Some(code(&String::from_utf8_lossy(&bytes)))
    };
    if let Some(path) = &own
        && let Some(text) = text(path)
    {
        if members > 1 {
            shared_state(site, path, &text, &mut trap);
        }
        if !text.contains(SETTINGS_VARIABLE) {
            missing = Some(not_included(path));
        }
    }
    if members > 1 {
        let dropins: &[(&str, &[&str], bool, &str)] = match site.driver {
            AppDriver::Wordpress => &[
                (
                    "wp-content/object-cache.php",
                    &["apcu_", "apc_"],
                    true,
                    "keeps objects in one member's memory (APCu), where the others don't see a change",
                ),
                (
                    "wp-content/advanced-cache.php",
                    &[""],
                    false,
                    "keeps whole pages in one member's files, so members may show different ones",
                ),
            ],
            _ => &[],
        };
        for (path, signs, refuses, why) in dropins {
            let path = below(&at, path);
            if let Some(text) = text(&path)
                && signs.iter().any(|sign| text.contains(sign))
            {
                trap(
                    *refuses,
                    format!("`{path}` {why}"),
                    "use a cache that all members share, such as Redis or Memcached, or none",
                );
            }
        }
        if matches!(site.driver, AppDriver::Php | AppDriver::Command) {
            trap(
                false,
                "PHP keeps sessions in files of one member unless the application says otherwise"
                    .to_owned(),
                "keep them in the database or in a store that all members share",
            );
        }
    }
    missing.into_iter().chain(traps).collect()
}

fn not_included(path: &str) -> Trap {
    Trap {
        what: TrapKind::NotIncluded,
        message: format!("the source has its own `{path}`, which doesn't include the settings"),
        hint: format!(
            "put this line into it, before anything uses the database: `{}`; or exclude it from \
             the platform: `exclude = [\"/{path}\"]`",
            include_line()
        ),
        refuses: true,
    }
}

/// What a settings file says that keeps state on one member.
fn shared_state(site: &AppSite, path: &str, text: &str, trap: &mut impl FnMut(bool, String, &str)) {
    let says = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    match site.driver {
        AppDriver::Mediawiki if says(&["CACHE_ACCEL"]) => trap(
            true,
            format!("`{path}` keeps caches or sessions in one member's memory (CACHE_ACCEL)"),
            "use CACHE_DB, or CACHE_MEMCACHED with a server that all members reach",
        ),
        AppDriver::Drupal if says(&["cache.backend.apcu"]) => trap(
            true,
            format!("`{path}` keeps caches in one member's memory (cache.backend.apcu)"),
            "use cache.backend.chainedfast or cache.backend.database",
        ),
        _ => {}
    }
    if says(&["session.save_handler', 'files", "session.save_path"]) {
        trap(
            false,
            format!("`{path}` keeps sessions in one member's files"),
            "keep them in the database or in a store that all members share",
        );
    }
    if site.driver == AppDriver::Wordpress && allows_file_mods(text) {
        trap(
            true,
            format!("`{path}` allows plugins to be installed from the browser, on one member only"),
            "take out the line `define('DISALLOW_FILE_MODS', false)`",
        );
    }
}

fn allows_file_mods(text: &str) -> bool {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    dense.contains("DISALLOW_FILE_MODS',false") || dense.contains("DISALLOW_FILE_MODS\",false")
}

/// PHP without whole lines of comment, so that an example that is commented out is no trap.
fn code(text: &str) -> String {
    let is_comment = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with('#') || line.starts_with('*')
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::app::detect::tests::Tree;
    use crate::services::app::example;

    fn found(driver: AppDriver, files: &[(&str, &str)], members: usize) -> Vec<bool> {
        let traps = traps(&example(driver), &Tree::of(files), members);
        traps.iter().map(|trap| trap.refuses).collect()
    }

    #[test]
    fn a_settings_file_that_does_not_include_ours_is_refused() {
        let theirs = [("wp-config.php", "<?php define('DB_NAME', 'x');")];
        let ours = [("wp-config.php", "<?php require getenv('FANOUT_SETTINGS');")];
        let commented = [(
            "wp-config.php",
            "<?php\n// require getenv('FANOUT_SETTINGS');",
        )];
        assert_eq!(found(AppDriver::Wordpress, &theirs, 1), [true]);
        assert_eq!(found(AppDriver::Wordpress, &ours, 1), Vec::<bool>::new());
        assert_eq!(found(AppDriver::Wordpress, &commented, 1), [true]);
    }

    #[test]
    fn state_of_one_member_is_a_trap_for_many_and_none_for_one() {
        let wiki = [(
            "LocalSettings.php",
            "<?php require getenv('FANOUT_SETTINGS'); $wgMainCacheType = CACHE_ACCEL;",
        )];
        assert_eq!(found(AppDriver::Mediawiki, &wiki, 3), [true]);
        assert_eq!(found(AppDriver::Mediawiki, &wiki, 1), Vec::<bool>::new());
        let cache = [("wp-content/object-cache.php", "<?php apcu_fetch('x');")];
        assert_eq!(found(AppDriver::Wordpress, &cache, 2), [true]);
        let redis = [("wp-content/object-cache.php", "<?php new Redis;")];
        assert_eq!(found(AppDriver::Wordpress, &redis, 2), Vec::<bool>::new());
        let mods = [(
            "wp-config.php",
            "<?php require getenv('FANOUT_SETTINGS'); define( 'DISALLOW_FILE_MODS', false );",
        )];
        assert_eq!(found(AppDriver::Wordpress, &mods, 2), [true]);
    }
}
