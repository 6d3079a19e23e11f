//! Ways to an agent: tokens, and sessions over ssh where UDP doesn't get through.

use crate::support::env::{FANOUT, World};
use crate::support::run;
use crate::support::tree::Tree;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Something that is called like ssh and runs the command here, as agent 0.
fn pretend_ssh(world: &World) -> String {
    let path = world.dir().join("ssh");
    let programs = Path::new(FANOUT).parent().unwrap().display();
    let script = format!(
        "#!/bin/sh\necho Welcome to this server.\nfor last; do :; done\n\
         FANOUT_DIR='{}' PATH=\"{programs}:$PATH\" exec sh -c \"$last\"\n",
        world.agent_dir(0).display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn site(world: &World) {
    Tree::new()
        .file("index.php", "<?php\n")
        .write_to(&world.source("site"));
    world.add_platform("site", &[]);
}

#[test]
fn the_same_session_runs_over_ssh() {
    let world = World::with_agents(1);
    site(&world);
    world.configure(
        "servers.web1",
        &["transport = \"ssh\"", "ssh = \"me@web1\""],
    );
    let ssh = pretend_ssh(&world);
    let words = ["push", "platform", "site", "--json"];
    world
        .fanout_with_env(&words, &[("FANOUT_SSH", &ssh)])
        .all("committed");
    world.assert_delivered("site");
    let output = world
        .fanout_with_env(&words, &[("FANOUT_SSH", "/bin/false")])
        .exits(1);
    assert_eq!(output.json_member("web1")["error"]["code"], "FX0315");
}

#[test]
fn where_udp_does_not_get_through_ssh_is_taken_and_the_rule_is_printed() {
    let world = World::with_agents(1);
    site(&world);
    // Nothing listens there.
    let dead = "address = \"127.0.0.1:9\"";
    world.configure("servers.web1", &[dead, "ssh = \"me@web1\""]);
    let ssh = pretend_ssh(&world);
    let output = world
        .fanout_with_env(&["push", "platform", "site"], &[("FANOUT_SSH", &ssh)])
        .success();
    let said = output.error_text();
    assert!(
        said.contains("FX0302") && said.contains("ufw allow 9/udp"),
        "{said}"
    );
    world.assert_delivered("site");
    // Without a way by ssh the address alone is blamed.
    world.configure("servers.web1", &[dead, "transport = \"quic\""]);
    let output = world.push("site", &[]).exits(1);
    assert_eq!(output.json_member("web1")["error"]["code"], "FX0301");
}

#[test]
fn a_token_is_good_once_and_a_lost_key_is_exchanged_anew() {
    let world = World::with_agents(1);
    site(&world);
    let mut invite = world.command(&["agent", "invite"]);
    invite.arg("--dir").arg(world.agent_dir(0));
    let token = run::run(&mut invite).success().stdout;
    let address = world.agent_address(0).to_string();
    let add = |name: &str| {
        let words = [
            "add",
            "server",
            name,
            "--address",
            &address,
            "--token-file",
            "-",
        ];
        run::run_within(&mut world.command(&words), &token, run::USUAL_TIME)
    };
    // One agent is one server.
    let said = add("web9").exits(64).error_text();
    assert!(said.contains("as web1"), "{said}");
    // The state is lost, and with it this hub's key: to the agent it is another hub.
    fs::remove_dir_all(world.hub_dir().join("state")).unwrap();
    let lost = world.push("site", &[]).exits(1);
    assert_eq!(lost.json_member("web1")["error"]["code"], "FX0320");
    let said = add("web1").success().error_text();
    assert!(said.contains("is in the inventory"), "{said}");
    world.push("site", &[]).all("committed");
    fs::remove_dir_all(world.hub_dir().join("state")).unwrap();
    let said = add("web1").exits(1).error_text();
    assert!(said.contains("FX0307"), "{said}");
}
