//! Drupal, 7 and later: settings.

use super::php::quoted;
use super::{AppSite, SiteDatabase, SiteKey};

fn databases(database: &SiteDatabase) -> String {
    let SiteDatabase {
        host,
        port,
        name,
        user,
        password,
    } = database;
    format!(
        "$databases['default']['default'] = [\n  'driver' => 'mysql',\n  'database' => {},\n  \
         'username' => {},\n  'password' => {},\n  'host' => {},\n  'port' => '{port}',\n  \
         'prefix' => '',\n  'charset' => 'utf8mb4',\n  'collation' => 'utf8mb4_general_ci',\n];\n",
        quoted(name),
        quoted(user),
        quoted(password),
        quoted(host),
    )
}

/// A regular expression that fits exactly this host name.
fn host_pattern(host: &str) -> String {
    format!("^{}$", host.replace('.', "\\."))
}

pub(super) fn settings(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let dir = site.site_dir();
    let hosts = std::iter::once(&site.uri).chain(&site.aliases);
    let hosts: Vec<String> = hosts
        .map(|uri| format!("  {},\n", quoted(&host_pattern(uri.host()))))
        .collect();
    format!(
        "{}$settings['hash_salt'] = {};\n\
         $settings['trusted_host_patterns'] = [\n{}];\n\
         $settings['file_public_path'] = {};\n\
         $settings['file_private_path'] = {};\n\
         $settings['config_sync_directory'] = $settings['config_sync_directory'] ?? {};\n\
         \n\
         // Code comes by a push, updates and periodic work run on one member.\n\
         $settings['update_free_access'] = FALSE;\n\
         $settings['allow_authorize_operations'] = FALSE;\n\
         $settings['skip_permissions_hardening'] = TRUE;\n\
         $config['automated_cron.settings']['interval'] = 0;\n",
        databases(database),
        quoted(&key.hex("hash_salt")),
        hosts.concat(),
        quoted(&format!("sites/{dir}/files")),
        quoted(&format!("sites/{dir}/private")),
        quoted(&format!("sites/{dir}/private/config")),
    )
}

pub(super) fn settings_7(site: &AppSite, database: &SiteDatabase, key: &SiteKey) -> String {
    let dir = site.site_dir();
    format!(
        "{}$drupal_hash_salt = {};\n\
         $base_url = {};\n\
         $update_free_access = FALSE;\n\
         $conf['file_public_path'] = {};\n\
         $conf['file_private_path'] = {};\n\
         \n\
         // Code comes by a push, and periodic work runs on one member.\n\
         $conf['allow_authorize_operations'] = FALSE;\n\
         $conf['cron_safe_threshold'] = 0;\n",
        databases(database),
        quoted(&key.hex("hash_salt")),
        site.url_in_php(),
        quoted(&format!("sites/{dir}/files")),
        quoted(&format!("sites/{dir}/private")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::app::settings::tests::database;
    use crate::services::app::{AppDriver, example};

    #[test]
    fn only_the_hosts_of_the_site_are_trusted() {
        let site = example(AppDriver::Drupal);
        let text = settings(&site, &database(), &SiteKey::of_secret("x"));
        assert!(text.contains(r"'^www\\.example\\.com$',"), "{text}");
        assert!(text.contains(r"'^example\\.com$',"), "{text}");
    }

    #[test]
    fn a_site_of_many_has_its_files_in_its_own_directory() {
        let mut site = example(AppDriver::Drupal7);
        site.dir = Some("shop".into());
        let text = settings_7(&site, &database(), &SiteKey::of_secret("x"));
        assert!(text.contains("'sites/shop/files'"), "{text}");
    }
}
