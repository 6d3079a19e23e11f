//! The commands that work on a site's application, against a real WordPress.

use super::ground::{Ground, PLATFORM, SITE, install, prepare};
use crate::support::debian;
use crate::support::root_or_skip;
use sync_proto::wire::service::AppDriver;

/// An installed WordPress whose site is in the inventory.
fn ground() -> Ground {
    let mut ground = Ground::start(1, AppDriver::Wordpress);
    ground.push(&debian::wordpress(), &[]);
    ground.start_database();
    let world = &ground.world;
    for words in [
        &[
            "edit", "server", "web1", "--web", "nginx", "--db", "mysql", "--db-via", "agent",
        ][..],
        &["edit", "platform", PLATFORM, "--app", "wordpress"],
        &[
            "add",
            "site",
            SITE,
            "--platform",
            PLATFORM,
            "--db",
            "web1",
            "--user",
            "www-data",
            "--tls",
            "off",
            "--uploads",
            "pin:web1",
        ],
    ] {
        world.fanout(words).success();
    }
    ground.done(prepare());
    assert!(ground.done(install()).changed);
    ground
}

#[test]
fn a_site_is_run_logged_in_to_and_updated_by_commands_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = ground();
    // A push proves that the site answers afterwards.
    let _web = ground.start_web();
    let fanout = |words: &[&str]| ground.world.fanout(words);
    let link = fanout(&["login", "site", SITE]).success().text();
    assert!(
        link.starts_with("http://www.example.com/wp-login.php?action=rp&key="),
        "{link}"
    );
    let log = fanout(&["log"]).success().text();
    let key = link
        .split("key=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    assert!(log.contains("login") && !log.contains(key), "{log}");
    fanout(&["login", "site", SITE, "--user", "nobody"]).exits(1);

    // What is due runs once, and silently; one site runs whenever it is asked for.
    assert_eq!(fanout(&["cron"]).success().text(), "");
    let runs =
        ground.sql("SELECT option_value FROM site.wp_options WHERE option_name = 'doing_cron'");
    assert_eq!(runs, "", "it has ended");
    let said = fanout(&["cron", "site", SITE]).success().error_text();
    assert!(said.contains("events ran (on web1)"), "{said}");
    let said = fanout(&["update", "site", SITE]).success().error_text();
    assert!(
        said.contains("has the schema that its code wants"),
        "{said}"
    );

    // New code that wants another schema.
    let source = ground.world.source(PLATFORM);
    let version = source.join("wp-includes/version.php");
    let text = std::fs::read_to_string(&version).unwrap();
    let newer = text
        .replace("'6.1.9'", "'6.1.10'")
        .replace("53496", "53497");
    assert_ne!(text, newer);
    std::fs::write(&version, newer).unwrap();
    let refused = ground.world.push(PLATFORM, &[]).exits(5);
    assert!(
        refused.text().contains("WordPress 6.1.9 -> 6.1.10"),
        "{}",
        refused.text()
    );
    assert_eq!(ground.look().version, "6.1.9", "nothing was written");
    let pushed = ground.world.push(PLATFORM, &["--update", "none"]).success();
    assert!(!pushed.text().contains("53497"));
    assert_eq!(ground.look().pending, ["database 53496 -> 53497"]);
    // Waiting updates need a decision too, whatever the code.
    ground.world.push(PLATFORM, &[]).exits(5);
    ground
        .world
        .push(PLATFORM, &["--update", "after"])
        .success();
    assert!(ground.look().pending.is_empty());
    let database =
        ground.sql("SELECT option_value FROM site.wp_options WHERE option_name = 'db_version'");
    assert_eq!(database.trim(), "53497");
    let back = fanout(&["rollback", "platform", PLATFORM, "--to", "1", "--yes"]).success();
    assert!(
        back.error_text()
            .contains("The database of www.example.com was updated for"),
        "{}",
        back.error_text()
    );
    assert!(
        ground.live(0).join("wp-config.php").exists(),
        "it survives pushes and rollbacks"
    );
}
