//! Commands that need no agent: the inventory, locks, explanations, and what is refused.

use crate::support::env::World;
use crate::support::run;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A hub with two servers and a cluster, written by hand, and the source of a platform.
fn hub() -> World {
    let world = World::with_agents(0);
    let servers = "\n# rack 3\n[servers.web1]\naddress = \"127.0.0.1:9\"\n\
        [servers.web2]\naddress = \"127.0.0.1:9\"\n\
        [clusters.front]\nmembers = [\"web1\", \"web2\"]\n";
    append(&world, servers);
    fs::write(world.source("site").join("index.php"), "<?php\n").unwrap();
    world
}

fn append(world: &World, text: &str) {
    fs::write(file(world), inventory(world) + text).unwrap();
}

fn file(world: &World) -> std::path::PathBuf {
    world.hub_dir().join("fanout.toml")
}

fn inventory(world: &World) -> String {
    fs::read_to_string(file(world)).unwrap()
}

#[test]
fn a_hub_is_made_once_and_its_state_is_private() {
    let world = World::with_agents(0);
    let state = world.hub_dir().join("state");
    for private in [&state, &state.join("identity"), &state.join("depot")] {
        let mode = fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", private.display());
    }
    let before = inventory(&world);
    let again = world.fanout(&["init", "--json"]).exits(1);
    assert_eq!(again.json_result()["error"]["code"], "FX0013");
    assert_eq!(inventory(&world), before);
}

#[test]
fn a_command_without_a_hub_says_how_to_make_one() {
    let world = World::with_agents(0);
    let nowhere = world.dir().join("nowhere");
    let output = world
        .fanout(&["status", "--dir", nowhere.to_str().unwrap()])
        .exits(1);
    let said = output.error_text();
    assert!(
        said.contains("FX0002") && said.contains("fanout init"),
        "{said}"
    );
}

#[test]
fn adding_ends_with_what_was_written_and_the_next_command() {
    let world = hub();
    let output = world.add_platform("site", &["--preserve", "/files", "--exclude", "*.bak"]);
    let said = output.error_text();
    assert!(
        said.contains("Nothing on the servers has changed yet"),
        "{said}"
    );
    assert!(
        said.contains("next: fanout push platform site --dry-run"),
        "{said}"
    );
    let text = inventory(&world);
    assert!(
        text.contains("# rack 3") && text.contains("[platforms.site]"),
        "{text}"
    );
    assert!(text.contains(r#"exclude = ["*.bak"]"#), "{text}");
}

#[test]
fn a_fault_is_shown_with_its_line_and_nothing_is_written() {
    let world = hub();
    let before = inventory(&world);
    let output = world
        .fanout(&["add", "cluster", "back", "--members", "web1,web7"])
        .exits(1);
    let said = output.error_text();
    assert!(
        said.contains("`web7`") && said.contains("did you mean"),
        "{said}"
    );
    let output = world.fanout(&[
        "add",
        "platform",
        "x",
        "--path",
        "/src",
        "--root",
        "/srv/x",
        "--on",
        "front",
        "--preserve",
        "files/",
    ]);
    let said = output.exits(64).error_text();
    assert!(
        said.contains("FX0010") && said.contains("`/files/`"),
        "{said}"
    );
    assert_eq!(inventory(&world), before);
}

#[test]
fn what_is_in_use_is_not_removed_and_the_user_is_named() {
    let world = hub();
    world.add_platform("site", &[]);
    for (words, user) in [
        (["remove", "server", "web1"], "the cluster front"),
        (["remove", "cluster", "front"], "the platform site"),
    ] {
        let said = world.fanout(&words).exits(1).error_text();
        assert!(said.contains("FX0011") && said.contains(user), "{said}");
    }
    let said = world
        .fanout(&["remove", "platform", "site"])
        .success()
        .error_text();
    assert!(
        said.contains("What stays") && said.contains("web1: "),
        "{said}"
    );
    world.fanout(&["remove", "cluster", "front"]).success();
    world.fanout(&["remove", "server", "web1"]).success();
    assert!(
        !inventory(&world).contains("rack 3"),
        "its comment goes with it"
    );
}

#[test]
fn a_persons_lock_names_the_person_and_the_reason() {
    let world = hub();
    world.add_platform("site", &[]);
    world
        .fanout(&["lock", "platform", "site", "--reason", "Black Friday"])
        .success();
    for words in [&["lock", "platform", "site"][..], &["push", "platform"]] {
        let output = world.fanout(words).exits(5);
        let said = output.error_text();
        assert!(
            said.contains("FX0209") && said.contains("Black Friday"),
            "{said}"
        );
    }
    let output = world
        .fanout(&["unlock", "platform", "site", "--json"])
        .success();
    assert_eq!(output.json_result()["was_locked"], true);
    let output = world
        .fanout(&["unlock", "platform", "site", "--json"])
        .success();
    assert_eq!(output.json_result()["was_locked"], false);
}

#[test]
fn a_path_is_explained_on_the_hub_and_on_the_members() {
    let world = hub();
    world.add_platform("site", &["--preserve", "/files", "--exclude", "*.bak"]);
    let source = world.source("site");
    let typed = source.join("files/a/b");
    let output = world
        .fanout(&["explain", typed.to_str().unwrap()])
        .success();
    assert_eq!(
        output.text(),
        "files/a/b: belongs to the member, by `/files` on the directory files\n"
    );
    let output = world
        .fanout(&["explain", "/srv/platforms/site/x.bak", "--json"])
        .success();
    let explained = &output.json_result()["explained"][0];
    assert_eq!(
        (&explained["path"], &explained["on_hub"]),
        (&"x.bak".into(), &"excluded".into())
    );
    let output = world.fanout(&["explain", "index.php"]).success();
    assert_eq!(output.text(), "index.php: managed, no rule is about it\n");
    let output = world.fanout(&["explain", "/etc/passwd"]).exits(64);
    assert!(
        output.error_text().contains("--platform NAME"),
        "{}",
        output.describe()
    );
}

#[test]
fn a_platform_that_was_never_pushed_has_nothing_to_go_back_to() {
    let world = hub();
    world.add_platform("site", &[]);
    let output = world
        .fanout(&["rollback", "platform", "site", "--json"])
        .exits(1);
    assert_eq!(output.json_result()["error"]["code"], "FX0607");
    let output = world
        .fanout(&["verify", "platform", "site", "--json"])
        .exits(1);
    assert_eq!(output.json_result()["error"]["code"], "FX0603");
    let output = world
        .fanout(&["generations", "platform", "site", "--json"])
        .success();
    assert_eq!(output.json_result()["generations"], serde_json::json!([]));
    world.fanout(&["pin", "platform", "site", "3"]).exits(64);
    let silent = world.fanout(&["resync"]).success();
    assert_eq!(silent.text() + &silent.error_text(), "");
}

#[test]
fn a_push_without_a_name_never_guesses() {
    let world = hub();
    world.fanout(&["push", "platform"]).exits(64);
    world.add_platform("site", &[]);
    world.add_platform("shop", &[]);
    let said = world.fanout(&["push", "platform"]).exits(64).error_text();
    assert!(said.contains("site") && said.contains("shop"), "{said}");
    let said = world
        .fanout(&["push", "platform", "siet"])
        .exits(64)
        .error_text();
    assert!(said.contains("did you mean `site`?"), "{said}");
    let said = world
        .fanout(&["push", "platform", "site", "--limit", "web3"])
        .exits(64)
        .error_text();
    assert!(said.contains("the members are web1, web2"), "{said}");
}

#[test]
fn a_member_without_a_key_is_named_with_the_way_to_exchange_keys() {
    let world = hub();
    world.add_platform("site", &[]);
    let output = world.push("site", &[]).exits(1);
    let error = &output.json_member("web1")["error"];
    assert_eq!(error["code"], "FX0320");
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("fanout agent invite"),
        "{error}"
    );
}

#[test]
fn a_token_that_is_none_is_refused_before_anything_is_sent() {
    let world = hub();
    let words = [
        "add",
        "server",
        "web3",
        "--address",
        "127.0.0.1:9",
        "--token-file",
        "-",
    ];
    for (token, reason) in [("", "There is no token"), ("hello", "A token begins with")] {
        let output = run::run_within(
            &mut world.command(&words),
            token.as_bytes(),
            run::USUAL_TIME,
        );
        let said = output.exits(1).error_text();
        assert!(said.contains("FX0305") && said.contains(reason), "{said}");
    }
    let said = world.fanout(&words[..5]).exits(64).error_text();
    assert!(
        said.contains("--token-file") && said.contains("--ssh"),
        "{said}"
    );
    assert!(!inventory(&world).contains("web3"));
}

#[test]
fn settings_are_edited_and_rules_are_added() {
    let world = hub();
    world.add_platform("site", &[]);
    let words = [
        "--keep",
        "9",
        "--exclude",
        "*.orig",
        "--preserve",
        "/files",
        "--resync",
        "report",
    ];
    world
        .fanout(&[&["edit", "platform", "site"][..], &words].concat())
        .success();
    let text = inventory(&world);
    for line in [
        "keep = 9",
        "preserve = [\"/files\"]",
        "resync = \"report\"",
        "exclude = [\"*.orig\"]",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    world.fanout(&["edit", "platform", "site"]).exits(64);
    world
        .fanout(&["edit", "platform", "site", "--on", "nowhere"])
        .exits(1);
    assert_eq!(inventory(&world), text);
}
