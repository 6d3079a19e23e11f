//! A hub in one file: saved while it works, destroyed, and restored elsewhere.

use crate::support::env::World;
use crate::support::task::{put, site};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_secs(120);

fn world(agents: usize) -> World {
    let world = World::with_site(agents, &site(), &[]);
    world.push("site", &[]).all("committed");
    world
}

fn file(world: &World) -> PathBuf {
    world.dir().join("hub.tar")
}

fn backup(world: &World) -> PathBuf {
    let file = file(world);
    world
        .fanout(&["hub", "backup", file.to_str().unwrap()])
        .success();
    file
}

/// The hub's machine burns.
fn destroy(world: &World) {
    fs::remove_dir_all(world.hub_dir()).unwrap();
}

fn restore(world: &World) -> crate::support::run::Output {
    world.fanout(&["hub", "restore", file(world).to_str().unwrap(), "--json"])
}

fn edit(world: &World, what: &str) {
    put(
        &world.source("site").join("index.php"),
        format!("<?php // {what}\n"),
    );
}

#[test]
fn a_destroyed_hub_is_restored_and_pushes_without_a_member_being_touched() {
    let world = world(2);
    let output = world.fanout_with_env(&["secret", "set", "db1", "--generate"], &[]);
    output.success();
    let secret = world.hub_dir().join("state/secrets/db1");
    let text = fs::read_to_string(&secret).unwrap();
    let file = file(&world);
    let words = ["hub", "backup", "--depot", file.to_str().unwrap()];
    world.fanout(&words).success();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    // Over a hub that is there nothing is restored.
    let refused = restore(&world).exits(1);
    assert_eq!(refused.json_result()["error"]["code"], "FX0013");
    destroy(&world);
    let output = restore(&world).success();
    assert_eq!(output.json_result()["recovered"][0]["generation"], 1);
    assert_eq!(fs::read_to_string(&secret).unwrap(), text);
    world.fanout(&["status", "--check"]).success();
    world.push("site", &[]).all("up-to-date");
    edit(&world, "after the fire");
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
    world.rollback("site", &[]).all("committed");
    let again = backup(&world);
    assert_eq!(fs::metadata(&again).unwrap().mode() & 0o777, 0o600);
    let left = fs::read_dir(world.hub_dir().join("state")).unwrap();
    let names: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name == ".backup.sqlite" || name == "restoring")
    );
}

#[test]
fn a_backup_that_is_made_during_a_push_is_whole() {
    let mut world = world(2);
    edit(&world, "while it is saved");
    world.restart_agent_with_env(
        1,
        &[("FANOUT_FAILPOINTS", "member.prepare.sync=pause:4000")],
    );
    let words = ["push", "platform", "site", "--json"];
    let mut push = world.start_fanout(&words, &[]);
    push.wait_for(r#""member":"web2","phase":"preparing""#, A_WHILE);
    backup(&world);
    assert!(push.is_running(), "the backup did not wait for the push");
    push.finish_within(A_WHILE).all("committed");
    destroy(&world);
    // It knows that the push was begun, and reads from the members that it was committed.
    let output = restore(&world).success();
    assert_eq!(output.json_result()["recovered"][0]["generation"], 2);
    edit(&world, "and afterwards");
    let output = world.push("site", &[]).all("committed");
    assert!(output.generation() > 2, "{}", output.describe());
    world.assert_delivered("site");
    world.assert_clean("site");
}

/// The worst case of an old backup: since then a push was decided, one member has done it, and
/// another has voted and waits.
#[test]
fn a_restored_hub_gives_no_answer_that_contradicts_what_it_decided() {
    let mut world = world(3);
    backup(&world);
    edit(&world, "decided after the backup");
    let armed = [("FANOUT_FAILPOINTS", "hub.decision.before=pause:4000")];
    let mut push = world.start_fanout(&["push", "platform", "site", "--json"], &armed);
    for name in ["web1", "web2", "web3"] {
        push.wait_for(&format!(r#""member":"{name}","phase":"voted""#), A_WHILE);
    }
    world.kill_agent(1);
    world.kill_agent(2);
    let output = push.finish_within(A_WHILE).exits(3);
    assert_eq!(
        output.outcomes(),
        "web1 committed, web2 in-doubt, web3 in-doubt"
    );
    let new = world.expected("site");
    destroy(&world);
    // The only one that knows is away when the hub comes back, and one of those that ask is there.
    world.kill_agent(0);
    world.restart_agent(1);
    let output = restore(&world).exits(3);
    assert_eq!(
        output.json_result()["recovered"][0]["silent"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for output in [world.push("site", &[]), world.resync(&[])] {
        let said = output.everything_said();
        assert!(said.contains("FX0241"), "{}", output.describe());
        assert_ne!(output.json_member("web2")["outcome"], "committed");
    }
    // It still serves what it served, and still waits.
    let old = fs::read(world.live(1, "site").join("index.php")).unwrap();
    assert!(!String::from_utf8_lossy(&old).contains("after the backup"));
    world.restart_agent(0);
    world.restart_agent(2);
    let output = world.fanout(&["init", "--recover", "--json"]).success();
    let recovered = &output.json_result()["recovered"][0];
    assert_eq!(
        (&recovered["generation"], &recovered["silent"]),
        (&2.into(), &serde_json::json!([]))
    );
    world.push("site", &[]).success();
    for index in 0..3 {
        let now = world.snapshot(index, "site");
        assert_eq!(
            crate::support::snapshot::diff(&new, &now),
            Vec::<String>::new()
        );
    }
    world.assert_clean("site");
}

#[test]
fn what_a_restored_hub_and_all_members_do_not_know_is_an_abort() {
    let mut world = world(2);
    backup(&world);
    edit(&world, "never decided");
    let armed = [("FANOUT_FAILPOINTS", "hub.decision.before=kill")];
    let push = world.start_fanout(&["push", "platform", "site", "--json"], &armed);
    push.finish_within(A_WHILE);
    let old = world.snapshot(0, "site");
    destroy(&world);
    // Otherwise they are busy with the hub that died, for as long as a connection may be silent.
    (0..2).for_each(|index| world.restart_agent(index));
    restore(&world).success();
    fs::remove_file(world.source("site").join("index.php")).unwrap();
    put(
        &world.source("site").join("index.php"),
        "<?php // something else\n",
    );
    let live = world.snapshot(0, "site");
    assert_eq!(
        crate::support::snapshot::diff(&old, &live),
        Vec::<String>::new()
    );
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn damaged_exposed_and_foreign_files_are_no_backups() {
    let world = world(1);
    let file = backup(&world);
    let whole = fs::read(&file).unwrap();
    let shown = world.fanout(&["hub", "restore", file.to_str().unwrap(), "--dry-run"]);
    // Even to look at it, there must be no hub.
    shown.exits(1);
    destroy(&world);
    let code = |output: crate::support::run::Output| {
        assert!(matches!(output.code, Some(1 | 5)), "{}", output.describe());
        assert!(!world.hub_dir().join("fanout.toml").exists());
        assert!(!world.hub_dir().join("state/identity/key.pem").exists());
        output.json_result()["error"]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(restore(&world)), "FX0015");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(code(restore(&world)), "FX0242");
    fs::write(&file, "not a tar at all").unwrap();
    assert_eq!(code(restore(&world)), "FX0242");
    fs::write(&file, &whole).unwrap();
    let words = [
        "hub",
        "restore",
        file.to_str().unwrap(),
        "--dry-run",
        "--json",
    ];
    let shown = world.fanout(&words).success().json_result();
    let parts = shown["parts"].as_array().unwrap();
    assert!(
        parts.iter().any(|part| part == "state/state.sqlite"),
        "{shown}"
    );
    assert!(!world.hub_dir().join("fanout.toml").exists());
    restore(&world).success();
    world.push("site", &[]).all("up-to-date");
}
