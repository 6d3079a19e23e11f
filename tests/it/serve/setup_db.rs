//! `fanout setup db` on a real MariaDB: a narrow account, made once by somebody who may.

use crate::support::env::World;
use crate::support::mariadb::{MariaDb, as_root, sql_over};
use crate::support::root_or_skip;
use crate::support::run::{USUAL_TIME, run, run_within};

const ROOT_PASSWORD: &str = "a-root-password-of-nobody";

#[test]
fn netns_setup_makes_a_narrow_account_and_forgets_roots_password() {
    if !root_or_skip("a test host") {
        return;
    }
    let world = World::with(1).on_hosts().start();
    let host = world.agent_host(0);
    let _database = MariaDb::start(host, &["--skip-name-resolve"]);
    let dba = format!(
        "CREATE USER 'dba'@'%' IDENTIFIED BY '{ROOT_PASSWORD}';
         GRANT ALL ON *.* TO 'dba'@'%' WITH GRANT OPTION"
    );
    as_root(host, &dba);
    let edit = [
        "edit",
        "server",
        "web1",
        "--db",
        "mysql",
        "--db-admin",
        "secret:db-admin",
    ];
    world.fanout(&edit).success();
    let hub = world.hub_host().address();
    let account = format!("'fanout'@'{hub}'");
    let setup = ["setup", "db", "web1", "--root", "dba"];
    let with = |more: &[&str], password: &str| {
        let mut command = world.command(&[&setup[..], more].concat());
        run_within(&mut command, password.as_bytes(), USUAL_TIME)
    };

    // First the plan, which keeps and makes nothing.
    let plan = with(&["--dry-run"], "").success().text();
    assert!(
        plan.contains(&format!("CREATE USER {account} IDENTIFIED BY '********'")),
        "{plan}"
    );
    assert!(plan.contains("ON `fo\\_%`.* TO"), "{plan}");
    assert!(
        !world
            .fanout(&["secret", "list"])
            .success()
            .text()
            .contains("set ")
    );
    with(&[], ROOT_PASSWORD).exits(64);
    let wrong = with(&["--yes"], "wrong-password").exits(1);
    assert!(
        wrong.error_text().contains("[FX0720]"),
        "{}",
        wrong.describe()
    );
    with(&["--yes"], "").exits(1);
    let accounts = "SELECT COUNT(*) FROM mysql.user WHERE User = 'fanout'";
    assert_eq!(as_root(host, accounts).trim(), "0");

    // Then the account, twice with the same result.
    for _ in 0..2 {
        let done = with(&["--yes"], &format!("{ROOT_PASSWORD}\n")).success();
        assert!(
            done.error_text().contains("has logged in"),
            "{}",
            done.describe()
        );
    }
    let kept = world.hub_dir().join("state/secrets/db-admin");
    let kept = std::fs::read_to_string(&kept).unwrap();
    let at = host.address().to_string();
    let password = format!("-p{}", kept.trim_end());
    let options = ["-h", &at, "-u", "fanout", &password];
    let as_fanout = |sql: &str| sql_over(world.hub_host(), &options, sql);
    as_fanout("CREATE DATABASE fo_a; GRANT SELECT ON `fo\\_a`.* TO dba@'%'").success();
    for refused in [
        "CREATE DATABASE shop",
        "DROP DATABASE mysql",
        "GRANT SELECT ON `fo_a`.* TO dba@'%'",
        "GRANT SELECT ON mysql.* TO dba@'%'",
        "GRANT ALL ON *.* TO dba@'%'",
        "SET GLOBAL read_only = 1",
        "SELECT * FROM information_schema.tables INTO OUTFILE '/tmp/x'",
    ] {
        as_fanout(refused).exits(1);
    }

    // The hub has moved: the account moves along.
    as_root(
        host,
        &format!("RENAME USER {account} TO 'fanout'@'10.77.0.250'"),
    );
    let moved = with(&["--yes"], ROOT_PASSWORD).success();
    assert!(
        moved
            .error_text()
            .contains("It was 'fanout'@'10.77.0.250' before"),
        "{}",
        moved.describe()
    );

    // By hand, from the printed statements.
    as_root(host, &format!("DROP USER {account}"));
    let printed = with(&["--print"], "").success().text();
    as_root(host, &printed);
    as_fanout("SELECT 1").success();

    let mut grep = std::process::Command::new("grep");
    grep.args(["-ra", ROOT_PASSWORD]).arg(world.hub_dir());
    run(&mut grep).exits(1);
}
