//! Installing, updating, running by the clock; and dying halfway.

use super::ground::{Ground, install, prepare};
use crate::support::debian;
use crate::support::root_or_skip;
use crate::support::run::wait_until;
use fanout::codes::Code;
use std::time::Duration;
use sync_proto::wire::service::{AppAction, AppAnswer, AppDriver, AppSettings};

fn wordpress() -> Ground {
    let mut ground = Ground::start(1, AppDriver::Wordpress);
    ground.push(&debian::wordpress(), &["/wp-content/uploads"]);
    ground.start_database();
    ground
}

#[test]
fn wordpress_is_installed_once_updated_and_run_by_the_clock_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = wordpress();
    let state = ground.look();
    assert_eq!(state.version, "6.1.9");
    assert_eq!(state.settings, AppSettings::Absent);
    assert_eq!(
        state.is_installed, None,
        "nobody leads it to its database yet"
    );

    assert!(ground.done(prepare()).changed);
    assert!(
        !ground.done(prepare()).changed,
        "a second time there is nothing to do"
    );
    let state = ground.look();
    assert_eq!(state.settings, AppSettings::Ours);
    assert_eq!(state.is_installed, Some(false), "{state:?}");
    assert_eq!(
        ground.act(AppAction::Requirements),
        Ok(AppAnswer::Missing(Vec::new()))
    );

    let done = ground.done(install());
    assert!(done.changed, "{done:?}");
    let tables = ground.tables();
    assert!(tables >= 12, "{tables}");
    assert_eq!(
        ground
            .sql("SELECT option_value FROM site.wp_options WHERE option_name = 'blogname'")
            .trim(),
        "Fanout&#039;s test"
    );
    let before = ground.sql("SELECT user_pass, user_email FROM site.wp_users");
    assert!(before.contains("editor@example.com"));
    assert!(!before.contains("horse"), "a password is kept as a hash");
    let again = ground.done(install());
    assert!(!again.changed, "{again:?}");
    assert_eq!(
        ground.sql("SELECT user_pass, user_email FROM site.wp_users"),
        before
    );

    let state = ground.look();
    assert_eq!(
        (state.is_installed, state.pending.len()),
        (Some(true), 0),
        "{state:?}"
    );
    // As if the code were newer than the database.
    ground
        .sql("UPDATE site.wp_options SET option_value = '53000' WHERE option_name = 'db_version'");
    let state = ground.look();
    assert_eq!(state.pending, ["database 53000 -> 53496"], "{state:?}");
    let done = ground.done(AppAction::Update);
    assert_eq!(
        (done.changed, done.message.as_str()),
        (true, "database 53000 -> 53496")
    );
    assert!(!ground.done(AppAction::Update).changed);
    assert!(ground.look().pending.is_empty());

    let done = ground.done(AppAction::Cron);
    assert!(done.message.ends_with("events ran"), "{done:?}");
    ground.done(AppAction::ClearCaches);
    match ground.act(AppAction::LoginLink {
        user: String::new(),
    }) {
        Ok(AppAnswer::Link(link)) => {
            let begin = "http://www.example.com/wp-login.php?action=rp&key=";
            assert!(
                link.starts_with(begin) && link.ends_with("&login=editor"),
                "{link}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(
        !ground.write_settings("one"),
        "the same secret gives the same settings"
    );
}

#[test]
fn wordpress_is_worked_on_by_wp_cli_where_a_server_has_it_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = wordpress();
    let tool = "/usr/local/bin/wp";
    // One that doesn't work isn't used.
    ground.host().write(tool, "#!/bin/sh\nexit 1\n");
    ground.host().run(&["chmod", "755", tool]).success();
    assert_eq!(ground.look().tool, "");
    let phar = std::fs::read(debian::wp_cli()).unwrap();
    ground.host().write(tool, phar);
    assert_eq!(ground.look().tool, "wp-cli 2.12.0");

    // Its installer dies halfway: everything is taken back, as with the installer that is built in.
    let inject = ground.live(0).join("wp-admin/includes/upgrade.php");
    let upgrade = std::fs::read_to_string(&inject).unwrap();
    let dying = upgrade.replacen(
        "populate_options();",
        "trigger_error('Out of luck', E_USER_ERROR);",
        1,
    );
    std::fs::write(&inject, dying).unwrap();
    let error = ground.act(install()).unwrap_err();
    assert_eq!(error.code, Code::AppFailed, "{error}");
    assert!(error.message.contains("Out of luck"), "{error}");
    assert_nothing_is_left(&ground);
    std::fs::write(&inject, upgrade).unwrap();

    ground.done(prepare());
    let done = ground.done(install());
    assert!(
        done.changed && done.message.contains("(wp-cli 2.12.0)"),
        "{done:?}"
    );
    assert!(
        !done.output.contains("horse") && !done.message.contains("horse"),
        "{done:?}"
    );
    let login = "SELECT user_login, user_email FROM site.wp_users";
    assert_eq!(ground.sql(login).trim(), "editor\teditor@example.com");
    let password = ground.sql("SELECT user_pass FROM site.wp_users");
    assert!(!ground.done(install()).changed);
    // The password is the one that was said, quotes and all.
    let check = format!(
        "cd {} && printf '%s' 'Correct'\\''horse \"battery\" 7' | \
         FANOUT_SETTINGS={} setpriv --reuid=www-data --regid=www-data --init-groups php {tool} \
         --path=. user check-password editor \"$(cat)\" && echo fits",
        ground.live(0).display(),
        ground
            .world
            .agent_dir(0)
            .join("services/current/settings/www.example.com.settings.php")
            .display()
    );
    let fits = ground.host().sh(&check);
    assert!(fits.text().contains("fits"), "{}", fits.describe());
    assert_eq!(ground.sql("SELECT user_pass FROM site.wp_users"), password);

    ground
        .sql("UPDATE site.wp_options SET option_value = '53000' WHERE option_name = 'db_version'");
    let done = ground.done(AppAction::Update);
    assert_eq!(
        (done.changed, done.message.as_str()),
        (true, "database 53000 -> 53496 (wp-cli 2.12.0)")
    );
    assert!(!ground.done(AppAction::Update).changed);
    let done = ground.done(AppAction::Cron);
    assert!(done.message.contains("cron event"), "{done:?}");
    let done = ground.done(AppAction::ClearCaches);
    assert!(done.message.contains("(wp-cli 2.12.0)"), "{done:?}");
    // wp-cli has no login links.
    assert!(matches!(
        ground.act(AppAction::LoginLink {
            user: String::new()
        }),
        Ok(AppAnswer::Link(_))
    ));
}

#[test]
fn mediawiki_is_installed_once_and_its_jobs_run_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let mut ground = Ground::start(1, AppDriver::Mediawiki);
    ground.push(&wiki_source(&ground), &["/images", "/cache"]);
    ground.start_database();
    assert!(ground.done(prepare()).changed);
    let state = ground.look();
    assert_eq!(
        (state.version.as_str(), state.is_installed),
        ("1.39.17", Some(false)),
        "{state:?}"
    );

    assert!(ground.done(install()).changed);
    let tables = ground.tables();
    assert!(tables > 40, "{tables}");
    assert_eq!(
        ground
            .sql("SELECT COUNT(*) FROM site.user WHERE user_name = 'Editor'")
            .trim(),
        "1"
    );
    assert!(!ground.done(install()).changed);
    let state = ground.look();
    assert_eq!(
        (state.is_installed, state.pending.len()),
        (Some(true), 0),
        "{state:?}"
    );
    assert_eq!(state.settings, AppSettings::Ours);

    ground.sql("DELETE FROM site.updatelog WHERE ul_key LIKE 'fanout-%'");
    assert_eq!(ground.look().pending, ["schema of 1.39.17"]);
    ground.done(AppAction::Update);
    assert!(ground.look().pending.is_empty());
    ground.done(AppAction::Cron);
    assert!(ground.done(AppAction::ClearCaches).changed);
    let error = ground
        .act(AppAction::LoginLink {
            user: String::new(),
        })
        .unwrap_err();
    assert_eq!(error.code, Code::AppActionMissing);
}

/// Debian's package has symlinks to `/var/lib/mediawiki`; a source has directories.
fn wiki_source(ground: &Ground) -> std::path::PathBuf {
    let tree = ground.world.dir().join("wiki");
    debian::copy_tree(&debian::mediawiki(), &tree);
    for link in ["LocalSettings.php", "config", "extensions", "images"] {
        std::fs::remove_file(tree.join(link)).unwrap();
    }
    std::fs::create_dir(tree.join("extensions")).unwrap();
    tree
}

#[test]
fn an_installation_that_dies_halfway_leaves_nothing_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = wordpress();
    // The installer dies at a statement that it comes to late.
    ground.sql("REVOKE INDEX ON site.* FROM site@'127.0.0.1', site@localhost");
    let inject = ground.live(0).join("wp-admin/includes/upgrade.php");
    let upgrade = std::fs::read_to_string(&inject).unwrap();
    let dying = upgrade.replacen(
        "populate_options();",
        "file_put_contents(WP_CONTENT_DIR . '/uploads/half', 'x'); trigger_error('Out of luck', E_USER_ERROR);",
        1,
    );
    assert_ne!(upgrade, dying);
    std::fs::write(&inject, dying).unwrap();
    let error = ground.act(install()).unwrap_err();
    assert_eq!(error.code, Code::AppFailed, "{error}");
    assert!(error.message.contains("Out of luck"), "{error}");
    assert_nothing_is_left(&ground);
    // Repaired, it can be installed as if nothing had happened.
    std::fs::write(&inject, upgrade).unwrap();
    assert!(ground.done(prepare()).changed);
    assert!(ground.done(install()).changed);
}

#[test]
fn an_agent_killed_while_it_installs_takes_it_back_when_it_starts_debian_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let mut ground = wordpress();
    let inject = ground.live(0).join("wp-admin/includes/upgrade.php");
    let upgrade = std::fs::read_to_string(&inject).unwrap();
    let waiting = upgrade.replacen("populate_options();", "sleep(600);", 1);
    std::fs::write(&inject, waiting).unwrap();
    let wire = ground.wire();
    let error = std::thread::scope(|scope| {
        let asked = scope.spawn(move || wire.act(install()).unwrap_err());
        let made = || ground.tables() > 5;
        assert!(wait_until(Duration::from_secs(60), made));
        // As `kill_agent`, which wants the ground for itself.
        let pid = ground.host().sh("pidof fanout").text();
        ground.host().run(&["kill", "-KILL", pid.trim()]).success();
        asked.join().unwrap()
    });
    assert!(ground.tables() > 5, "{error}");
    let alone = || ground.host().run(&["pidof", "php8.2", "php"]).code != Some(0);
    assert!(
        wait_until(Duration::from_secs(20), alone),
        "the installer dies with its agent"
    );
    ground.restart_agent();
    let empty = || ground.tables() == 0;
    let is_empty = wait_until(Duration::from_secs(30), empty);
    assert!(is_empty, "{}", ground.world.agent_log(0));
    let is_settled = wait_until(Duration::from_secs(10), || !ground.look().is_half_installed);
    assert!(is_settled, "{}", ground.world.agent_log(0));
    assert_nothing_is_left(&ground);
    std::fs::write(
        ground.live(0).join("wp-admin/includes/upgrade.php"),
        upgrade,
    )
    .unwrap();
    assert!(ground.done(install()).changed);
}

#[track_caller]
fn assert_nothing_is_left(ground: &Ground) {
    assert_eq!(
        ground.tables(),
        0,
        "{}",
        ground.sql("SHOW TABLES FROM site")
    );
    assert!(!ground.live(0).join("wp-config.php").exists());
    let uploads = std::fs::read_dir(ground.live(0).join("wp-content/uploads"));
    assert_eq!(uploads.map_or(0, Iterator::count), 0);
    // Another test may be at it in the same directory.
    let scratch = "ls -A /tmp | grep -E '^fanout-[0-9a-f]{32}$' || true";
    let is_clean = || ground.host().sh(scratch).text().is_empty();
    assert!(wait_until(Duration::from_secs(60), is_clean));
    assert!(!ground.look().is_half_installed);
}
