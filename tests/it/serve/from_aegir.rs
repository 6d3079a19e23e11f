//! An Aegir hub's home, imported next to the database that it made: the first plan names what
//! differs, and the site keeps its data.

use crate::support::debian::copy_tree;
use crate::support::env::World;
use crate::support::mariadb::{MariaDb, as_root};
use crate::support::root_or_skip;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const ROOT_PASSWORD: &str = "aegirs-root-password";
const PASSWORD: &str = "aegir4site";
const NAME: &str = "wwwexamplecom";
const ROOT: &str = "/srv/aegir/platforms/d7";
const SETTINGS: &str = "sites/www.example.com/settings.php";
/// What Aegir writes for Drupal 7: the values are the vhost's.
const AEGIRS: &str = "<?php\n$databases['default']['default'] = array(\n  'driver' => 'mysql',\n  \
    'database' => $_SERVER['db_name'],\n  'username' => $_SERVER['db_user'],\n  \
    'password' => $_SERVER['db_passwd'],\n  'host' => $_SERVER['db_host'],\n  \
    'port' => $_SERVER['db_port'],\n);\n";

fn home(world: &World) -> String {
    let home = world.dir().join("aegir");
    let write = |path: &str, text: String| {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let alias = |name: &str, properties: String| {
        write(
            &format!(".drush/{name}.alias.drushrc.php"),
            format!("<?php \n$aliases['{name}'] = array (\n{properties}\n);\n"),
        );
    };
    let server = |index: usize, more: &str| {
        let host = world.agent_host(index).address();
        format!(
            "'context_type' => 'server', 'aegir_root' => '/srv/aegir', 'remote_host' => '{host}', {more}"
        )
    };
    alias("server_web1", server(0, "'http_service_type' => 'nginx',"));
    alias("server_web2", server(1, "'http_service_type' => 'nginx',"));
    let account = format!(
        "'db_service_type' => 'mysql', 'master_db' => 'mysql://aegir_root:{ROOT_PASSWORD}@db',"
    );
    alias("server_web3", server(2, &account));
    alias(
        "server_front",
        "'context_type' => 'server', 'remote_host' => 'front.example.com', 'http_service_type' => 'cluster', \
         'cluster_web_servers' => array('@server_web1', '@server_web2'),"
            .into(),
    );
    alias(
        "platform_d7",
        format!(
            "'context_type' => 'platform', 'web_server' => '@server_front', 'root' => '{ROOT}',"
        ),
    );
    alias(
        "www.example.com",
        format!(
            "'context_type' => 'site', 'platform' => '@platform_d7', 'db_server' => '@server_web3', \
             'uri' => 'www.example.com', 'site_path' => '{}/platforms/d7/sites/www.example.com',",
            home.display()
        ),
    );
    write(
        "platforms/d7/sites/www.example.com/drushrc.php",
        format!(
            "<?php\n$options['db_name'] = '{NAME}';\n$options['db_user'] = '{NAME}';\n\
             $options['db_passwd'] = '{PASSWORD}';\n"
        ),
    );
    // What the platform holds: the part of Drupal 7 by which it is told, and a page that does what
    // its first page does with the settings.
    write(
        "platforms/d7/includes/bootstrap.inc",
        "<?php\ndefine('VERSION', '7.105');\n".into(),
    );
    write(
        "platforms/d7/index.php",
        "<?php\nrequire __DIR__ . '/sites/' . $_SERVER['HTTP_HOST'] . '/settings.php';\n\
         $d = $databases['default']['default'];\n\
         $db = new PDO(\"mysql:host={$d['host']};port={$d['port']};dbname={$d['database']}\", \
         $d['username'], $d['password']);\n\
         echo $db->query('SELECT title FROM node')->fetchColumn(), \"\\n\";\n"
            .into(),
    );
    write(&format!("platforms/d7/{SETTINGS}"), AEGIRS.into());
    home.to_str().unwrap().to_owned()
}

/// As Aegir's rsync left it on a head, with something that was uploaded there.
fn deliver_as_aegir(world: &World, index: usize, home: &str) {
    let to = world.agent_prefix(index).join(ROOT.trim_start_matches('/'));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    copy_tree(&Path::new(home).join("platforms/d7"), &to);
    let files = to.join("sites/www.example.com/files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join(format!("on-{index}.txt")), "uploaded\n").unwrap();
}

/// Debian's nginx and PHP-FPM with the line that includes fanout's files.
fn serve(world: &mut World, index: usize) {
    let config = world.agent_dir(index).join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("offers = [\"app\"]", "offers = [\"app\", \"web\"]");
    fs::write(&config, text).unwrap();
    world.restart_agent(index);
    // Of the agent's own directory it takes care itself.
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    let host = world.agent_host(index);
    let current = world.agent_services(index).join("current");
    let current = current.display();
    let include = format!("include {current}/nginx/*.conf;\n");
    host.write("/etc/nginx/conf.d/fanout.conf", include);
    let pools =
        format!("[global]\nprocess_control_timeout = 10s\ninclude={current}/php-fpm/8.2-*.conf\n");
    host.write("/etc/php/8.2/fpm/pool.d/fanout.conf", pools);
    host.sh(
        "rm -f /etc/nginx/sites-enabled/default && mkdir -p /run/php &&
             php-fpm8.2 --daemonize && nginx",
    )
    .success();
}

#[test]
fn netns_the_first_plan_names_each_difference_and_the_second_apply_serves_the_old_data() {
    if !root_or_skip("a test host") {
        return;
    }
    let mut world = World::with(3).on_hosts().start();
    for (index, offer) in ["app", "app", "db"].iter().enumerate() {
        let config = world.agent_dir(index).join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("offers = [\"{offer}\"]\n{text}")).unwrap();
        world.restart_agent(index);
    }
    let host = world.agent_host(2);
    let _database = MariaDb::start(host, &["--skip-name-resolve"]);
    // As Aegir leaves it: one account that may do everything, and one for a head that was known then.
    let gone = "192.0.2.9";
    as_root(
        host,
        &format!(
            "CREATE USER 'aegir_root'@'%' IDENTIFIED BY '{ROOT_PASSWORD}';
             GRANT ALL ON *.* TO 'aegir_root'@'%' WITH GRANT OPTION;
             CREATE DATABASE {NAME}; CREATE TABLE {NAME}.node (title TEXT);
             INSERT INTO {NAME}.node VALUES ('hello');
             CREATE TABLE {NAME}.variable (name TEXT, value BLOB);
             CREATE USER '{NAME}'@'{gone}' IDENTIFIED BY '{PASSWORD}';
             GRANT ALL ON {NAME}.* TO '{NAME}'@'{gone}'"
        ),
    );
    let home = home(&world);
    // The servers' keys are on record; what is kept identical is what the import says.
    let inventory = world.hub_dir().join("fanout.toml");
    fs::write(&inventory, "[hub]\nname = \"test\"\n").unwrap();
    world.fanout(&["import", "aegir", &home]).success();
    for (index, name) in ["web1", "web2", "web3"].iter().enumerate() {
        let address = world.agent_address(index).to_string();
        world
            .fanout(&["edit", "server", name, "--address", &address])
            .success();
    }
    let site = "www.example.com";
    world
        .fanout(&["edit", "site", site, "--uploads", "external"])
        .success();
    // Settings that know nothing of fanout are refused, with the line that is missing.
    let refused = world.fanout(&["plan"]).exits(5).error_text();
    assert!(
        refused.contains(SETTINGS) && refused.contains("require getenv('FANOUT_SETTINGS');"),
        "{refused}"
    );
    let settings = Path::new(&home).join("platforms/d7").join(SETTINGS);
    fs::write(&settings, "<?php\nrequire getenv('FANOUT_SETTINGS');\n").unwrap();
    // Without `web` in their offers the agents say nothing of their vhosts, so it is a part of a plan.
    let plan = world.fanout(&["plan"]).exits(3);
    let warnings = plan.error_text();
    assert!(
        warnings.contains(&format!("'{NAME}'@'{gone}' was not made by fanout")),
        "{warnings}"
    );
    let plan = plan.text();
    for index in [0, 1] {
        let account = format!("+ '{NAME}'@'{}'", world.agent_host(index).address());
        assert!(plan.contains(&account), "{plan}");
    }
    assert!(!plan.contains(&format!("+ database {NAME}")), "{plan}");
    // The vhosts can't be written, so what was done is undone; what Aegir had made is not.
    let applied = world.fanout(&["apply", "--yes"]).exits(1);
    assert!(
        applied.error_text().contains("undone"),
        "{}",
        applied.describe()
    );
    let title = as_root(host, &format!("SELECT title FROM {NAME}.node"));
    assert_eq!(title.trim(), "hello");
    let accounts = format!("SELECT Host FROM mysql.user WHERE User = '{NAME}'");
    assert_eq!(as_root(host, &accounts).trim(), gone);
    let grants = as_root(host, &format!("SHOW GRANTS FOR '{NAME}'@'{gone}'"));
    assert!(grants.contains("ALL PRIVILEGES"), "{grants}");

    // Now for real: the heads as Aegir left them are taken over, and serve the old data.
    for index in [0, 1] {
        deliver_as_aegir(&world, index, &home);
        serve(&mut world, index);
    }
    world
        .fanout(&["adopt", "platform", "d7", "--yes"])
        .success();
    world.fanout(&["push", "platform", "d7"]).success();
    world.fanout(&["apply", "--yes"]).success();
    let host = world.agent_host(2);
    for index in [0, 1] {
        let url = format!("http://{}/", world.agent_host(index).address());
        let words = ["curl", "-sS", "-H", "Host: www.example.com", &url];
        let page = world.hub_host().run(&words);
        assert_eq!(page.text(), "hello\n", "{}", page.describe());
        let file = format!("{url}sites/www.example.com/files/on-{index}.txt");
        let words = ["curl", "-sS", "-H", "Host: www.example.com", &file];
        assert_eq!(world.hub_host().run(&words).text(), "uploaded\n");
    }
    // The password is the one that Aegir had made.
    let login = format!(
        "mariadb --no-defaults -h {} -u {NAME} -p{PASSWORD} -Ne 'SELECT title FROM {NAME}.node'",
        host.address()
    );
    assert_eq!(world.agent_host(0).sh(&login).text().trim(), "hello");
    let again = world.fanout(&["plan"]);
    assert_eq!(again.code, Some(0), "{}", again.describe());
}
