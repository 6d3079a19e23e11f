//! A site's database by the commands: planned, made, its password replaced, taken away.

use crate::support::env::World;
use crate::support::mariadb::{MariaDb, as_root, sql_over};
use crate::support::root_or_skip;
use fanout::services::database::Names;

const SITE: &str = "shop.example.com";

#[test]
fn netns_a_sites_database_is_planned_made_rotated_and_taken_away() {
    if !root_or_skip("a test host") {
        return;
    }
    let mut world = World::with(3).on_hosts().start();
    for (index, offer) in [
        r#""web", "app", "balancer""#,
        r#""web", "app", "balancer""#,
        r#""db""#,
    ]
    .iter()
    .enumerate()
    {
        let config = world.agent_dir(index).join("agent.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("offers = [{offer}]\n{text}")).unwrap();
        world.restart_agent(index);
        if index < 2 {
            start_web_server(&world, index);
        }
    }
    let host = world.agent_host(2);
    let _database = MariaDb::start(host, &["--skip-name-resolve"]);
    for edit in [
        "cluster front --remove-members web3",
        "server web1 --web nginx",
        "server web2 --web nginx",
        "server web3 --db mysql --db-via agent",
    ] {
        let words: Vec<&str> = ["edit"].into_iter().chain(edit.split(' ')).collect();
        world.fanout(&words).success();
    }
    std::fs::write(
        world.source("shop").join("index.php"),
        "<?php echo 'shop';\n",
    )
    .unwrap();
    world.add_platform("shop", &["--app", "php"]);
    world.push("shop", &[]).success();
    let site = [
        "add",
        "site",
        SITE,
        "--platform",
        "shop",
        "--db",
        "web3",
        "--uploads",
        "external",
    ];
    world.fanout(&site).success();
    world.fanout(&["setup", "db", "web3"]).success();
    let names = Names::derive(&SITE.parse().unwrap()).unwrap();

    let plan = world.fanout(&["plan"]).success().text();
    assert!(plan.contains(&format!("database of {SITE}")), "{plan}");
    let line = format!(
        "+ '{}'@'{}' for web2",
        names.user,
        world.agent_host(1).address()
    );
    assert!(plan.contains(&line), "{plan}");
    let databases = format!(
        "SHOW DATABASES LIKE '{}'",
        names.database.pattern().as_str()
    );
    assert!(
        as_root(host, &databases).is_empty(),
        "a plan has made something"
    );
    world.fanout(&["apply", "--yes"]).success();
    assert_eq!(as_root(host, &databases).trim(), names.database.as_str());

    let secret = world
        .hub_dir()
        .join(format!("state/secrets/{}", names.secret().unwrap()));
    let password = || {
        std::fs::read_to_string(&secret)
            .unwrap()
            .trim_end()
            .to_owned()
    };
    let at = host.address().to_string();
    let login = |password: &str| {
        let (user, password) = (names.user.to_string(), format!("-p{password}"));
        let options = ["-h", &at, "-u", &user, &password];
        sql_over(world.agent_host(1), &options, "SELECT 1").code == Some(0)
    };
    let first = password();
    assert!(login(&first));
    world
        .fanout(&["rotate", "password", "site", SITE, "--yes"])
        .success();
    assert!(password() != first && login(&password()) && !login(&first));

    // A member leaves, and a site does.
    world
        .fanout(&["edit", "cluster", "front", "--remove-members", "web2"])
        .success();
    world
        .fanout(&["apply", "--yes", "--allow-remove", "web2"])
        .success();
    assert!(!login(&password()));
    world.fanout(&["remove", "site", SITE]).success();
    let plan = world.fanout(&["plan"]).success().text();
    assert!(plan.contains(&format!("! role {}", names.role)), "{plan}");
    let accounts = format!(
        "SELECT COUNT(*) FROM mysql.user WHERE User = '{}'",
        names.user
    );
    assert_eq!(as_root(host, &accounts).trim(), "1");
    world
        .fanout(&["apply", "--yes", "--allow-remove", SITE])
        .success();
    assert_eq!(as_root(host, &accounts).trim(), "0");
    assert_eq!(as_root(host, &databases).trim(), names.database.as_str());
}

/// nginx and PHP-FPM with the lines that include fanout's files.
fn start_web_server(world: &World, index: usize) {
    let (host, dir) = (world.agent_host(index), world.agent_dir(index));
    let live = dir.join("services/current");
    let live = live.display();
    host.write(
        "/etc/nginx/conf.d/fanout.conf",
        format!("include {live}/nginx/*.conf;\n"),
    );
    host.write(
        "/etc/php/8.2/fpm/pool.d/fanout.conf",
        format!("[global]\nprocess_control_timeout = 10s\ninclude={live}/php-fpm/8.2-*.conf\n"),
    );
    // A test's directory is its owner's alone; web servers have to get through.
    for open in dir.ancestors().take_while(|it| it.starts_with(world.dir())) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(open, mode).unwrap();
    }
    host.sh("mkdir -p /run/php; php-fpm8.2 --daemonize; nginx")
        .success();
}
