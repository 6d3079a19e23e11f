//! Applications without an installer of their own: commands that a server's administrator named, and
//! plain PHP behind a real PHP-FPM.

use super::ground::{Ground, install};
use crate::support::root_or_skip;
use crate::support::run::{USUAL_TIME, wait_until};
use fanout::codes::Code;
use fanout::services::web::pool_name;
use sync_proto::wire::service::{AppAction, AppAnswer, AppDriver};

fn pushed(driver: AppDriver) -> Ground {
    let ground = Ground::start(1, driver);
    let tree = ground.world.dir().join("small");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("index.php"), "<?php echo 'one';\n").unwrap();
    ground.push(&tree, &[]);
    ground
}

#[test]
fn an_application_behind_commands_does_what_its_administrator_named_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let mut ground = pushed(AppDriver::Command);
    let error = ground.act(AppAction::Cron).unwrap_err();
    assert_eq!(error.code, Code::AppActionMissing, "{error}");

    let script = "#!/bin/sh\n\
        echo \"$FANOUT_ACTION $FANOUT_SITE $FANOUT_URL $(id -un) $PWD $HOME $#:$1\"\n\
        case $FANOUT_ACTION in\n\
        install) cat >/tmp/told; touch /tmp/installed ;;\n\
        look) test -e /tmp/installed ;;\n\
        update) echo no good >&2; exit 3 ;;\n\
        undo) rm -f /tmp/installed ;;\n\
        esac\n";
    ground.host().write("/usr/local/bin/shop", script);
    ground
        .host()
        .run(&["chmod", "755", "/usr/local/bin/shop"])
        .success();
    let config = ground.world.agent_dir(0).join("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut commands = String::from("\n[commands]\n");
    for action in ["install", "look", "update", "cron", "undo"] {
        commands += &format!("{action} = [\"/usr/local/bin/shop\", \"two words; $(id)\"]\n");
    }
    std::fs::write(&config, text + &commands).unwrap();
    ground.restart_agent();

    let docroot = ground.live(0);
    let said = |action: &str| {
        format!(
            "{action} www.example.com http://www.example.com www-data {} /nonexistent \
             1:two words; $(id)",
            std::fs::canonicalize(&docroot).unwrap().display()
        )
    };
    let done = ground.done(AppAction::Cron);
    assert_eq!(done.message, said("cron"));
    let done = ground.done(install());
    assert!(done.changed, "{done:?}");
    let told = ground.host().sh("cat /tmp/told").text();
    assert!(
        told.contains(r#""admin":"editor""#) && told.contains("horse"),
        "{told}"
    );
    assert_eq!(ground.look().is_installed, Some(true));
    let error = ground.act(AppAction::Update).unwrap_err();
    assert_eq!(error.code, Code::AppFailed);
    assert!(error.message.ends_with("no good"), "{error}");
}

/// What Drush itself does with these words, no test here can say: none could be had.
#[test]
fn the_drush_that_fits_the_site_is_chosen_and_told_in_its_own_words_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let stub = |version: &str| {
        format!(
            "#!/bin/sh\ncase $1 in --version) echo 'Drush Commandline Tool {version}' ;;\n\
             user:login|user-login) echo http://www.example.com/user/reset/1/2/3/login ;;\n\
             *) echo \"$* as $(id -un)\" ;; esac\n"
        )
    };
    for (driver, used, cron) in [
        (AppDriver::Drupal, "12.4.3", "core:cron"),
        (AppDriver::Drupal7, "8.1.16", "core-cron"),
    ] {
        let ground = Ground::start(1, driver);
        let tree = ground.world.dir().join("small");
        std::fs::create_dir_all(tree.join("vendor/bin")).unwrap();
        std::fs::write(tree.join("index.php"), "<?php\n").unwrap();
        let executable = |path: &std::path::Path, text: String| {
            std::fs::write(path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).unwrap();
        };
        // Composer's own in the tree, and the administrator's for all trees.
        executable(&tree.join("vendor/bin/drush"), stub("12.4.3"));
        ground.push(&tree, &[]);
        ground.host().write("/usr/local/bin/drush", stub("8.1.16"));
        let mode = ["chmod", "755", "/usr/local/bin/drush"];
        ground.host().run(&mode).success();
        assert_eq!(ground.look().tool, format!("Drush {used}"));
        let done = ground.done(AppAction::Cron);
        let root = ground.live(0);
        assert_eq!(
            done.message,
            format!(
                "{cron} --root={} --uri=http://www.example.com --yes as www-data (Drush {used})",
                root.display()
            )
        );
        match ground.act(AppAction::LoginLink { user: "o'x".into() }) {
            Ok(AppAnswer::Link(link)) => assert!(link.ends_with("/reset/1/2/3/login"), "{link}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pool_forgets_its_compiled_code_when_it_is_told_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = pushed(AppDriver::Php);
    assert!(
        !ground.done(AppAction::ClearCaches).changed,
        "there is no pool yet"
    );
    let pool = pool_name(&super::ground::SITE.parse().unwrap());
    ground.host().write(
        "/etc/test-fpm.conf",
        format!(
            "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[{pool}]\nuser = www-data\n\
             group = www-data\nlisten = /run/php/{pool}.sock\npm = static\npm.max_children = 1\n\
             php_admin_value[opcache.validate_timestamps] = 0\n"
        ),
    );
    ground.host().sh("mkdir -p /run/php").success();
    let _running = ground
        .host()
        .spawn(&["php-fpm8.2", "--fpm-config", "/etc/test-fpm.conf"]);
    let socket = ground.host().path(format!("/run/php/{pool}.sock"));
    assert!(wait_until(USUAL_TIME, || socket.exists()));
    let page = ground.host().path("/tmp/page.php");
    std::fs::write(&page, "<?php echo 'before';").unwrap();
    // What was changed a moment ago isn't kept yet.
    let age = ["touch", "-d", "1 hour ago", "/tmp/page.php"];
    ground.host().run(&age).success();
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let asked = fanout::net::fcgi::get(&socket, "/tmp/page.php", USUAL_TIME);
        String::from_utf8(runtime.block_on(asked).unwrap()).unwrap()
    };
    assert_eq!(ask(), "before");
    assert_eq!(ask(), "before");
    std::fs::write(&page, "<?php echo 'after';").unwrap();
    assert_eq!(
        ask(),
        "before",
        "this pool doesn't look at the times of files"
    );
    match ground.act(AppAction::ClearCaches) {
        Ok(AppAnswer::Done(done)) => assert_eq!(done.message, "PHP forgot its compiled code"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(), "after");
}
