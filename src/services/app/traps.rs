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

/// Modules and plugins that send one upload in several requests, and put it together from a
/// directory of the member that each of them reached.
const IN_CHUNKS: [(AppDriver, &str); 6] = [
    (
        AppDriver::Drupal,
        "modules/contrib/plupload/plupload.info.yml",
    ),
    (AppDriver::Drupal, "modules/plupload/plupload.info.yml"),
    (
        AppDriver::Drupal7,
        "sites/all/modules/plupload/plupload.info",
    ),
    (
        AppDriver::Drupal7,
        "sites/all/modules/contrib/plupload/plupload.info",
    ),
    (
        AppDriver::Wordpress,
        "wp-content/plugins/tuxedo-big-file-uploads/tuxedo_big_file_uploads.php",
    ),
    (
        AppDriver::Mediawiki,
        "extensions/UploadWizard/extension.json",
    ),
];

/// The traps of a source that `members` are to run. `writes_meet` says that a visitor's writes all
/// go to one of them.
pub fn traps(site: &AppSite, source: &dyn Files, members: usize, writes_meet: bool) -> Vec<Trap> {
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
        for (_, path) in IN_CHUNKS
            .iter()
            .filter(|(driver, _)| *driver == site.driver)
        {
            if !writes_meet && source.head(&below(&at, path), 1).is_some() {
                trap(
                    false,
                    format!(
                        "`{path}` may send one upload in several requests, which reach several \
                         members, each with a temporary directory of its own"
                    ),
                    "let writes go to one member: `uploads = \"pin:SERVER\"`; or take it out",
                );
            }
        }
        let ini = below(&at, ".user.ini");
        if let Some(bytes) = source.head(&ini, READ_BYTES)
            && keeps_sessions_in_files(&String::from_utf8_lossy(&bytes))
        {
            trap(
                false,
                format!("`{ini}` keeps sessions in one member's files"),
                "keep them in the database or in a store that all members share",
            );
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
        AppDriver::Drupal7 if says(&["DrupalAPCCache", "DrupalFileCache"]) => trap(
            true,
            format!("`{path}` keeps caches on one member (DrupalAPCCache or DrupalFileCache)"),
            "use DrupalDatabaseCache, or one for Redis or Memcached that all members reach",
        ),
        _ => {}
    }
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let dense = dense.replace('"', "'");
    let value_of = |name: &str| {
        let rest = dense.split_once(name)?.1;
        rest.split([';', ')']).next().map(str::to_ascii_lowercase)
    };
    let by_visitors = match site.driver {
        AppDriver::Wordpress => value_of("DISABLE_WP_CRON',").is_some_and(|it| it != "true"),
        AppDriver::Mediawiki => value_of("$wgJobRunRate=").is_some_and(|it| it != "0"),
        AppDriver::Drupal => {
            value_of("['automated_cron.settings']['interval']=").is_some_and(|it| it != "0")
        }
        AppDriver::Drupal7 => value_of("$conf['cron_safe_threshold']=").is_some_and(|it| it != "0"),
        _ => false,
    };
    if by_visitors {
        trap(
            false,
            format!("`{path}` lets visitors start periodic work, on whichever member they reach"),
            "take that line out: `fanout cron` runs it on one member",
        );
    }
    let is_drupal = matches!(site.driver, AppDriver::Drupal | AppDriver::Drupal7);
    if is_drupal && value_of("['allow_authorize_operations']=").is_some_and(|it| it == "true") {
        trap(
            true,
            format!("`{path}` allows modules to be installed from the browser, on one member only"),
            "take out the line that sets allow_authorize_operations",
        );
    }
    if keeps_sessions_in_files(text) {
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

/// In PHP, or in a `.user.ini`.
fn keeps_sessions_in_files(text: &str) -> bool {
    text.lines().any(|line| {
        let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let dense = dense.replace(['"', '\''], "");
        let is_comment = dense.starts_with(';');
        let in_files = ["session.save_handler,files", "session.save_handler=files"];
        // A path with a scheme is that of a server.
        let has_path = dense.contains("session.save_path") && !dense.contains("://");
        !is_comment && (has_path || in_files.iter().any(|it| dense.contains(it)))
    })
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
        let traps = traps(&example(driver), &Tree::of(files), members, false);
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
    fn each_trap_of_many_heads_is_refused_or_named() {
        const D7: &str = "sites/default/settings.php";
        let with = |text: &str| format!("<?php require getenv('FANOUT_SETTINGS');\n{text}\n");
        for (driver, path, text, expected) in [
            (
                AppDriver::Drupal7,
                D7,
                "$conf['cache_default_class'] = 'DrupalAPCCache';",
                &[true][..],
            ),
            (
                AppDriver::Drupal7,
                D7,
                "$conf['cache_default_class'] = 'DrupalDatabaseCache';",
                &[],
            ),
            (
                AppDriver::Drupal7,
                D7,
                "$conf['allow_authorize_operations'] = TRUE;",
                &[true],
            ),
            (
                AppDriver::Drupal,
                D7,
                "$settings[\"allow_authorize_operations\"] = true;",
                &[true],
            ),
            (
                AppDriver::Drupal,
                D7,
                "$settings['allow_authorize_operations'] = FALSE;",
                &[],
            ),
            (
                AppDriver::Drupal7,
                D7,
                "$conf['cron_safe_threshold'] = 10800;",
                &[false],
            ),
            (
                AppDriver::Drupal,
                D7,
                "$config['automated_cron.settings']['interval'] = 3600;",
                &[false],
            ),
            (
                AppDriver::Drupal,
                D7,
                "$settings['cache']['default'] = 'cache.backend.apcu';",
                &[true],
            ),
            (
                AppDriver::Drupal,
                D7,
                "# $settings['cache']['default'] = 'cache.backend.apcu';",
                &[],
            ),
            (
                AppDriver::Wordpress,
                "wp-config.php",
                "define( \"DISABLE_WP_CRON\", false );",
                &[false],
            ),
            (
                AppDriver::Wordpress,
                "wp-config.php",
                "define('DISABLE_WP_CRON', true);",
                &[],
            ),
            (
                AppDriver::Mediawiki,
                "LocalSettings.php",
                "$wgJobRunRate = 0.1;",
                &[false],
            ),
            (
                AppDriver::Mediawiki,
                "LocalSettings.php",
                "$wgSessionCacheType = CACHE_ACCEL;",
                &[true],
            ),
            (
                AppDriver::Wordpress,
                "wp-config.php",
                "ini_set('session.save_handler', 'files');",
                &[false],
            ),
            (
                AppDriver::Wordpress,
                "wp-config.php",
                "ini_set('session.save_path', '/tmp/s');",
                &[false],
            ),
            (
                AppDriver::Wordpress,
                "wp-config.php",
                "ini_set('session.save_path', 'tcp://r:6379');",
                &[],
            ),
        ] {
            let text = with(text);
            assert_eq!(found(driver, &[(path, &text)], 3), expected, "{text}");
            assert_eq!(
                found(driver, &[(path, &text)], 1),
                Vec::<bool>::new(),
                "{text}"
            );
        }
        let ini = [(".user.ini", "; none\nsession.save_path = \"/var/tmp\"\n")];
        assert_eq!(found(AppDriver::Drupal, &ini, 2), [false]);
        let page = [("wp-content/advanced-cache.php", "<?php")];
        assert_eq!(found(AppDriver::Wordpress, &page, 2), [false]);
        // Sessions of an application that nobody knows.
        assert_eq!(found(AppDriver::Php, &[], 2), [false]);
        assert_eq!(found(AppDriver::Php, &[], 1), Vec::<bool>::new());
    }

    #[test]
    fn an_upload_in_chunks_is_a_trap_unless_writes_meet() {
        for (driver, path) in IN_CHUNKS {
            let tree = Tree::of(&[(path, "x")]);
            let of = |members, meet| traps(&example(driver), &tree, members, meet).len();
            assert_eq!(
                (of(2, false), of(2, true), of(1, false)),
                (1, 0, 0),
                "{path}"
            );
        }
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
