//! An Aegir hub's home becomes this hub's inventory.

use crate::support::env::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PASSWORD: &str = "aegirs4secret";

fn write(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Two web servers in a cluster, a database server, and one site.
fn home(world: &World) -> PathBuf {
    let home = world.dir().join("aegir");
    let alias = |name: &str, properties: &str| {
        let text = format!("<?php \n$aliases['{name}'] = array (\n{properties});\n");
        write(&home, &format!(".drush/{name}.alias.drushrc.php"), &text);
    };
    let server = "  'context_type' => 'server',\n  'aegir_root' => '/var/aegir',\n";
    for name in ["web1", "web2"] {
        alias(
            &format!("server_{name}"),
            &format!(
                "{server}  'remote_host' => '{name}.example.com',\n  'http_service_type' => 'apache',\n"
            ),
        );
    }
    alias(
        "server_db1",
        &format!(
            "{server}  'remote_host' => 'db1.example.com',\n  'db_service_type' => 'mysql',\n  \
             'master_db' => 'mysql://root:{PASSWORD}@db1.example.com',\n"
        ),
    );
    alias(
        "server_front",
        &format!(
            "{server}  'remote_host' => 'front.example.com',\n  'http_service_type' => 'cluster',\n  \
             'cluster_web_servers' => \n  array (\n    0 => '@server_web1',\n    1 => '@server_web2',\n  ),\n"
        ),
    );
    alias(
        "platform_d7",
        "  'context_type' => 'platform',\n  'web_server' => '@server_front',\n  'root' => '/var/aegir/platforms/d7',\n",
    );
    write(&home, "platforms/d7/index.php", "<?php\n");
    alias(
        "www.example.com",
        "  'context_type' => 'site',\n  'platform' => '@platform_d7',\n  'db_server' => '@server_db1',\n  \
         'uri' => 'www.example.com',\n  'site_path' => '/var/aegir/platforms/d7/sites/www.example.com',\n  \
         'client_name' => 'ann',\n",
    );
    write(
        &home,
        "platforms/d7/sites/www.example.com/drushrc.php",
        "<?php\n$options['db_name'] = 'wwwexample';\n$options['db_user'] = 'wwwexample';\n\
         $options['db_passwd'] = 'sites4secret';\n",
    );
    home
}

#[test]
fn an_aegir_hub_is_imported_once_with_its_secrets_apart() {
    let world = World::with_agents(0);
    let home = home(&world);
    let home = home.to_str().unwrap();
    let inventory = world.hub_dir().join("fanout.toml");
    let before = fs::read_to_string(&inventory).unwrap();
    let shown = world
        .fanout(&["import", "aegir", home, "--dry-run"])
        .success();
    assert!(
        shown.text().contains("[sites.\"www.example.com\"]"),
        "{}",
        shown.describe()
    );
    assert_eq!(fs::read_to_string(&inventory).unwrap(), before);
    let done = world.fanout(&["import", "aegir", home, "--json"]).success();
    let result = done.json_result();
    assert_eq!(result["imported"]["servers"], 3);
    assert_eq!(result["imported"]["sites"], 1);
    assert!(
        result["not_carried_over"]
            .to_string()
            .contains("its client ann"),
        "{result}"
    );
    assert!(
        result["next"]
            .to_string()
            .contains("--ssh root@web1.example.com --allow /var/aegir/platforms"),
        "{result}"
    );
    for text in [fs::read_to_string(&inventory).unwrap(), done.describe()] {
        assert!(
            !text.contains(PASSWORD) && !text.contains("sites4secret"),
            "{text}"
        );
    }
    let stored = world.hub_dir().join("state/secrets/db1-admin");
    assert_eq!(fs::read_to_string(&stored).unwrap(), PASSWORD);
    assert_eq!(
        fs::metadata(&stored).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let password = world.hub_dir().join("state/secrets/database-wwwexample");
    assert_eq!(fs::read_to_string(&password).unwrap(), "sites4secret");
    let kept = world
        .fanout(&["secret", "remove", "database-wwwexample"])
        .exits(1);
    assert!(
        kept.error_text().contains("the site www.example.com"),
        "{}",
        kept.describe()
    );
    // Aegir never said what becomes of uploads, so the first plan asks.
    let plan = world.fanout(&["plan"]).exits(5).error_text();
    assert!(plan.contains("FX0789") && plan.contains("--uploads pin:"), "{plan}");
    // It is an inventory like any other, and nobody's is overwritten.
    let listed = world.fanout(&["secret", "list"]).success().text();
    assert!(listed.contains("the database server on db1"), "{listed}");
    world
        .fanout(&["edit", "site", "www.example.com", "--uploads", "pin:web1"])
        .success();
    let again = world
        .fanout(&["import", "aegir", home])
        .exits(1)
        .error_text();
    assert!(again.contains("FX0013"), "{again}");
}

#[test]
fn a_directory_that_is_no_home_of_aegirs_is_refused() {
    let world = World::with_agents(0);
    let nowhere = world.dir().to_str().unwrap().to_owned();
    let said = world
        .fanout(&["import", "aegir", &nowhere])
        .exits(1)
        .error_text();
    assert!(said.contains("FX0023") && said.contains(".drush"), "{said}");
}
