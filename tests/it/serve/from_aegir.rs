//! An Aegir hub's home, imported next to the database that it made: the first plan names what
//! differs, and the site keeps its data.

use crate::support::env::World;
use crate::support::mariadb::{MariaDb, as_root};
use crate::support::root_or_skip;
use std::fs;

const ROOT_PASSWORD: &str = "aegirs-root-password";
const PASSWORD: &str = "aegir4site";
const NAME: &str = "wwwexamplecom";

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
            "'context_type' => 'server', 'aegir_root' => '/var/aegir', 'remote_host' => '{host}', {more}"
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
        "'context_type' => 'platform', 'web_server' => '@server_front', 'root' => '/srv/d7',"
            .into(),
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
    home.to_str().unwrap().to_owned()
}

#[test]
fn netns_the_first_plan_names_each_difference_and_a_failed_apply_leaves_the_database_alone() {
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
}
