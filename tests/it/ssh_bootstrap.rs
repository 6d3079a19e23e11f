//! Adding a server over ssh, as a new user would: the real binary, a real sshd, real networks.
//!
//! `netns` in the names puts these tests into the group that runs one at a time.

use crate::support::host::Host;
use crate::support::netns::Lab;
use crate::support::root_or_skip;
use crate::support::run::{self, Output};
use crate::support::sshd::Sshd;
use std::time::Duration;

/// A debug build weighs a few hundred megabytes.
const INSTALL: Duration = Duration::from_secs(180);

fn hub(lab: &Lab) -> Host {
    let hub = lab.host("hub").with_fanout().start();
    hub.run(&["fanout", "init", "--dir", "/root/hub"]).success();
    hub
}

#[track_caller]
fn add_server(hub: &Host, address: &str, options: &[&str]) -> Output {
    let mut command = hub.command("fanout");
    command
        .args([
            "add",
            "server",
            "web1",
            "--address",
            address,
            "--dir",
            "/root/hub",
        ])
        .args(options);
    run::run_within(&mut command, b"", INSTALL)
}

/// Pushes a small platform to web1 and looks whether it arrived.
#[track_caller]
fn push_arrives(hub: &Host, web: &Host, root: &str) {
    hub.write("/root/source/index.php", "<?php echo 'hello';\n");
    hub.write("/root/source/lib/a.php", "<?php\n");
    let words = ["fanout", "add", "platform", "site", "--dir", "/root/hub"];
    let more = ["--path", "/root/source", "--root", root, "--on", "web1"];
    hub.run(&[&words[..], &more].concat()).success();
    hub.run(&["fanout", "push", "platform", "site", "--dir", "/root/hub"])
        .success();
    let index = format!("{root}/index.php");
    let found = web.run(&["cat", &index]).success().text();
    assert_eq!(found, "<?php echo 'hello';\n");
}

#[test]
fn netns_a_server_is_installed_over_ssh_and_pushed_to() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let web = lab.plain_host("web1");
    web.run(&["mkdir", "-p", "/srv"]).success();
    let sshd = Sshd::start(&web);
    sshd.admit(&hub, "root");
    let added = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).success();
    // No systemd there: it runs, and it is said that it won't after a restart.
    assert!(
        added.error_text().contains("until the server is restarted"),
        "{}",
        added.describe()
    );
    assert!(
        !added.error_text().contains("FX0302"),
        "{}",
        added.describe()
    );
    // Forgotten and added again: nothing is sent, and the agent that runs is kept.
    let pid = || {
        web.sh("cat /var/lib/fanout/agent/agent.pid")
            .success()
            .text()
    };
    let before = pid();
    hub.run(&["fanout", "remove", "server", "web1", "--dir", "/root/hub"])
        .success();
    let again = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).success();
    assert!(
        again.error_text().contains("is there already"),
        "{}",
        again.describe()
    );
    assert_eq!(pid(), before);
    push_arrives(&hub, &web, "/srv/site");
    // Nobody but root may read the agent's key, and the executable is whole.
    let modes = web.sh("stat -c %a /usr/local/bin/fanout /var/lib/fanout/agent");
    assert_eq!(modes.success().text(), "755\n700\n");
    let processes = web.sh("tr '\\0' ' ' </proc/$(cat /var/lib/fanout/agent/agent.pid)/cmdline");
    assert_eq!(
        processes.success().text().trim(),
        "/usr/local/bin/fanout agent run"
    );
}

#[test]
fn netns_a_server_added_for_a_role_offers_what_the_role_needs() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let web = lab.plain_host("web1");
    web.run(&["mkdir", "-p", "/data"]).success();
    let sshd = Sshd::start(&web);
    sshd.admit(&hub, "root");
    let ssh = ["--ssh", "root@web1", "--web", "nginx", "--allow", "/data"];
    add_server(&hub, "web1:4600", &ssh).success();
    let config = || web.run(&["cat", "/etc/fanout/agent.toml"]).success().text();
    let pid = || {
        web.run(&["cat", "/var/lib/fanout/agent/agent.pid"])
            .success()
            .text()
    };
    let (before, first) = (config(), pid());
    assert!(
        before.contains(r#"offers = ["web", "app", "setup"]"#),
        "{before}"
    );
    assert!(before.contains(r#"allow = ["/data"]"#), "{before}");
    // Once more for another role: the agent keeps what it offered, and reads the rest.
    hub.run(&["fanout", "remove", "server", "web1", "--dir", "/root/hub"])
        .success();
    let ssh = ["--ssh", "root@web1", "--offer", "balancer,web"];
    add_server(&hub, "web1:4600", &ssh).success();
    let after = config();
    assert!(
        after.contains(r#"offers = ["web", "app", "setup", "balancer"]"#),
        "{after}"
    );
    assert_ne!(
        pid(),
        first,
        "an agent reads its configuration when it starts"
    );
}

#[test]
fn netns_without_udp_the_session_runs_over_ssh_and_the_rule_is_told() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let web = lab.plain_host("web1");
    web.run(&["mkdir", "-p", "/srv"]).success();
    let sshd = Sshd::start(&web);
    sshd.admit(&hub, "root");
    web.drop_udp();
    let added = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).success();
    let said = added.error_text();
    assert!(said.contains("FX0302"), "{}", added.describe());
    assert!(
        said.contains("udp dport 4600 accept"),
        "{}",
        added.describe()
    );
    push_arrives(&hub, &web, "/srv/site");
}

#[test]
fn netns_a_server_behind_a_jump_host_is_installed_through_it() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let jump = lab.host("jump").on("outer").on("inner").start();
    let web = lab.host("web1").on("inner").start();
    web.run(&["mkdir", "-p", "/srv"]).success();
    web.add_user("deploy", true);
    jump.add_user("hopper", false);
    let (jump_sshd, web_sshd) = (Sshd::start(&jump), Sshd::start(&web));
    web_sshd.admit_through(&jump_sshd, "hopper", &hub, "deploy");
    let options = ["--ssh", "deploy@web1", "--sudo"];
    let added = add_server(&hub, "web1:4600", &options).success();
    assert!(
        added.error_text().contains("FX0302"),
        "{}",
        added.describe()
    );
    push_arrives(&hub, &web, "/srv/site");
    let owner = web.run(&["stat", "-c", "%U", "/usr/local/bin/fanout"]);
    assert_eq!(owner.success().text(), "root\n");
}

#[test]
fn netns_an_ordinary_user_gets_an_agent_of_their_own_and_is_told_what_it_cannot_keep() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let web = lab.plain_host("web1");
    web.add_user("ann", false);
    let sshd = Sshd::start(&web);
    sshd.admit(&hub, "ann");
    let options = ["--ssh", "ann@web1", "--transport", "ssh"];
    let added = add_server(&hub, "web1:4600", &options).success();
    assert!(
        added.error_text().contains("runs as ann"),
        "{}",
        added.describe()
    );
    let owner = web.run(&["stat", "-c", "%U", "/home/ann/.local/bin/fanout"]);
    assert_eq!(owner.success().text(), "ann\n");
    push_arrives(&hub, &web, "/home/ann/www/site");
}

#[test]
fn netns_what_goes_wrong_over_ssh_is_named() {
    if !root_or_skip("a host of its own") {
        return;
    }
    let lab = Lab::new();
    let hub = hub(&lab);
    let web = lab.plain_host("web1");
    web.add_user("ann", false);
    let sshd = Sshd::start(&web);
    // Nobody is let in yet.
    let refused = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).exits(1);
    assert!(
        refused.error_text().contains("FX0315"),
        "{}",
        refused.describe()
    );
    sshd.admit(&hub, "ann");
    sshd.admit(&hub, "root");
    // sudo wants a password that nobody can type.
    let refused = add_server(&hub, "web1:4600", &["--ssh", "ann@web1", "--sudo"]).exits(1);
    assert!(
        refused.error_text().contains("sudo"),
        "{}",
        refused.describe()
    );
    assert!(
        refused.error_text().contains("NOPASSWD"),
        "{}",
        refused.describe()
    );
    // A chatty login shell hides nothing.
    web.write("/root/.profile", "echo Welcome\n");
    web.write("/root/.bashrc", "printf 'no line feed'\n");
    // Another C library, another machine: refused before anything is copied.
    web.write("/usr/local/bin/getconf", "#!/bin/sh\necho glibc 2.17\n");
    web.sh("chmod 755 /usr/local/bin/getconf").success();
    let refused = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).exits(1);
    assert!(
        refused
            .error_text()
            .contains("has glibc 2.17, this fanout needs glibc 2."),
        "{}",
        refused.describe()
    );
    web.write("/usr/local/bin/uname", "#!/bin/sh\necho riscv64 >/dev/null\ncase $1 in -m) echo riscv64 ;; *) exec /bin/uname \"$@\" ;; esac\n");
    web.sh("chmod 755 /usr/local/bin/uname").success();
    let refused = add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).exits(1);
    assert!(
        refused.error_text().contains("web1 is riscv64"),
        "{}",
        refused.describe()
    );
    let left = web.sh("ls /usr/local/bin /etc/fanout 2>&1 || true").text();
    assert!(
        !left.contains("fanout.new") && !left.contains("agent.toml"),
        "{left}"
    );
    // And once all is well, the same command works.
    web.sh("rm /usr/local/bin/getconf /usr/local/bin/uname")
        .success();
    add_server(&hub, "web1:4600", &["--ssh", "root@web1"]).success();
}
