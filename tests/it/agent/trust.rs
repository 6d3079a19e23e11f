//! Who gets in: nobody without a key that was accepted, and nobody twice by one token.

use crate::support::env::{FANOUT, World, loopback_address};
use crate::support::run::{self, Output, Running, USUAL_TIME};
use crate::support::task::site;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An agent and hubs that nothing joined yet.
struct Strangers {
    dir: tempfile::TempDir,
    program: PathBuf,
    listen: SocketAddr,
    agent: Option<Running>,
}

impl Strangers {
    fn start() -> Self {
        let mut strangers = Self::new();
        fs::create_dir_all(strangers.path("prefix/srv")).unwrap();
        let as_it_is = |command: &Command| {
            let mut same = Command::new(command.get_program());
            same.args(command.get_args()).env_clear();
            for (name, value) in command.get_envs() {
                same.env(name, value.unwrap_or_default());
            }
            same
        };
        strangers.init_agent(as_it_is);
        strangers.run_agent(as_it_is);
        for hub in ["hub", "other-hub"] {
            strangers.hub(hub, &["init"]).success();
        }
        strangers
    }

    /// Nothing but a directory and an address.
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            program: FANOUT.into(),
            listen: loopback_address(),
            agent: None,
        }
    }

    fn init_agent(&self, become_user: impl Fn(&Command) -> Command) {
        let mut init = self.fanout();
        init.args([
            "agent", "init", "--name", "web1", "--allow", "/srv", "--listen",
        ])
        .arg(self.listen.to_string())
        .arg("--dir")
        .arg(self.path("agent"))
        .arg("--prefix")
        .arg(self.path("prefix"));
        run::run(&mut become_user(&init)).success();
    }

    fn run_agent(&mut self, become_user: impl Fn(&Command) -> Command) {
        let mut command = self.fanout();
        command
            .args(["agent", "run", "--dir"])
            .arg(self.path("agent"));
        let mut running = run::start(&mut become_user(&command), b"");
        running.wait_for("ready", USUAL_TIME);
        self.agent = Some(running);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fanout(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("NO_COLOR", "1")
            .current_dir(self.dir.path());
        command
    }

    #[track_caller]
    fn hub(&self, hub: &str, words: &[&str]) -> Output {
        self.hub_with_input(hub, words, b"")
    }

    #[track_caller]
    fn hub_with_input(&self, hub: &str, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.fanout();
        command.env("FANOUT_DIR", self.path(hub)).args(words);
        run::run_within(&mut command, input, USUAL_TIME)
    }

    /// A command of the agent's own.
    #[track_caller]
    fn agent(&self, words: &[&str]) -> Output {
        let mut command = self.fanout();
        command.arg("agent").args(words);
        run::run(command.arg("--dir").arg(self.path("agent")))
    }

    fn accepted_hubs(&self) -> Vec<String> {
        let listed = self.agent(&["revoke"]).success().text();
        listed.lines().map(str::to_owned).collect()
    }

    fn invite(&self, options: &[&str]) -> Vec<u8> {
        let mut command = self.fanout();
        command
            .args(["agent", "invite", "--dir"])
            .arg(self.path("agent"))
            .args(options);
        run::run(&mut command).success().stdout
    }

    #[track_caller]
    fn join(&self, hub: &str, token: &[u8]) -> Output {
        let address = self.listen.to_string();
        let words = [
            "add",
            "server",
            "web1",
            "--address",
            &address,
            "--token-file",
            "-",
            "--json",
        ];
        self.hub_with_input(hub, &words, token)
    }

    /// Writes a platform on the server into the inventory.
    fn pretend_platform(&self, hub: &str) {
        let source = self.path("source");
        site_once(&source);
        let inventory = self.path(hub).join("fanout.toml");
        let text = fs::read_to_string(&inventory).unwrap_or_default();
        let platform = format!(
            "\n[platforms.site]\non = \"web1\"\npath = \"{}\"\nroot = \
             \"/srv/platforms/site\"\n",
            source.display()
        );
        fs::write(inventory, text + &platform).unwrap();
    }

    /// Writes the server and a platform into the inventory without having joined.
    fn pretend(&self, hub: &str) {
        let source = self.path("source");
        site_once(&source);
        let inventory = self.path(hub).join("fanout.toml");
        let text = fs::read_to_string(&inventory).unwrap_or_default();
        let listed = format!(
            "{text}\n[servers.web1]\naddress = \"{}\"\n\n[platforms.site]\non = \"web1\"\npath = \
             \"{}\"\nroot = \"/srv/platforms/site\"\n",
            self.listen,
            source.display()
        );
        fs::write(inventory, listed).unwrap();
    }
}

fn site_once(source: &Path) {
    if !source.exists() {
        site().write_to(source);
    }
}

#[test]
fn a_token_is_all_that_invite_prints_and_lets_one_hub_in_once() {
    let strangers = Strangers::start();
    let token = strangers.invite(&[]);
    let text = String::from_utf8(token.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(!text.trim().contains(char::is_whitespace), "{text:?}");
    assert_ne!(strangers.invite(&[]), token, "each token is another");
    strangers.join("hub", &token).success();
    let again = strangers.join("other-hub", &token);
    assert_ne!(again.code, Some(0), "{}", again.describe());
    let said = again.everything_said();
    assert!(!said.contains(text.trim()), "the token is repeated\n{said}");
    strangers.pretend("other-hub");
    let push = strangers.hub("other-hub", &["push", "platform", "site", "--json"]);
    assert_ne!(push.code, Some(0), "{}", push.describe());
    assert!(!strangers.path("prefix/srv/platforms").exists());
}

#[test]
fn a_hub_without_a_token_can_do_nothing() {
    let strangers = Strangers::start();
    strangers.pretend("hub");
    for words in [
        &["push", "platform", "site", "--json"][..],
        &["adopt", "platform", "site", "--yes"],
        &["delete", "platform", "site", "--yes-delete", "site"],
    ] {
        let output = strangers.hub("hub", words);
        assert_ne!(output.code, Some(0), "{}", output.describe());
    }
    assert!(!strangers.path("prefix/srv/platforms").exists());
}

#[test]
fn wrong_damaged_and_expired_tokens_let_nobody_in() {
    let strangers = Strangers::start();
    let short_lived = strangers.invite(&["--valid", "1s"]);
    let good = strangers.invite(&[]);
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] = if damaged[middle] == b'a' { b'b' } else { b'a' };
    std::thread::sleep(Duration::from_millis(2_100));
    for token in [&b""[..], b"not a token", &damaged, &short_lived] {
        let output = strangers.join("hub", token);
        assert_ne!(output.code, Some(0), "{}", output.describe());
        assert_ne!(output.code, Some(70), "{}", output.describe());
        let inventory = fs::read_to_string(strangers.path("hub/fanout.toml")).unwrap();
        assert!(!inventory.contains("[servers.web1]"), "{inventory}");
    }
    strangers.join("hub", &good).success();
}

#[test]
fn a_token_that_others_may_read_is_refused_until_they_may_not() {
    let strangers = Strangers::start();
    let file = strangers.path("web1.token");
    fs::write(&file, strangers.invite(&[])).unwrap();
    let address = strangers.listen.to_string();
    let words = [
        "add",
        "server",
        "web1",
        "--address",
        &address,
        "--json",
        "--token-file",
    ];
    let words = [&words[..], &[file.to_str().unwrap()]].concat();
    for mode in [0o644, 0o640, 0o602] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let refused = strangers.hub("hub", &words).exits(1);
        assert_eq!(refused.json_result()["error"]["code"], "FX0015");
        let said = refused.error_text();
        assert!(said.contains(&format!("{mode:04o}")), "{said}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    strangers.hub("hub", &words).success();
}

#[test]
fn a_server_that_was_set_up_anew_gets_its_key_replaced_and_stays_a_member() {
    let mut world = World::with_site(2, &site(), &[]);
    world.push("site", &[]).all("committed");
    let file = world.hub_dir().join("fanout.toml");
    let inventory = fs::read_to_string(&file).unwrap();
    world.reinstall_agent(1);
    let resync = world.resync(&[]);
    let refused = &resync.json_member("web2")["error"];
    assert_eq!(refused["code"], "FX0303", "{}", resync.describe());
    let hint = refused["hint"].as_str().unwrap();
    assert!(hint.contains("--replace-key"), "{hint}");
    let add = |words: &[&str]| {
        let words = [
            &["add", "server", "web2"][..],
            words,
            &["--token-file", "-"],
        ]
        .concat();
        run::run_within(&mut world.command(&words), &world.invite(1), USUAL_TIME)
    };
    // Without the word for it nothing is replaced.
    let address = world.agent_address(1).to_string();
    let said = add(&["--address", &address]).exits(64).error_text();
    assert!(said.contains("--replace-key"), "{said}");
    add(&["--replace-key"]).success();
    assert_eq!(fs::read_to_string(&file).unwrap(), inventory);
    world.resync(&[]).success();
    world.assert_delivered("site");
    let nobody = world.fanout(&["add", "server", "web9", "--replace-key", "--ssh", "web9"]);
    assert!(nobody.exits(64).error_text().contains("web9"));
}

#[test]
fn keys_are_their_owners_alone() {
    let world = World::with_agents(1);
    let is_private = |path: &Path| {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        mode & 0o077 == 0
    };
    for directory in [world.hub_dir().join("state"), world.agent_dir(0)] {
        assert!(is_private(&directory), "{}", directory.display());
        let mut keys = 0;
        for entry in walkdir::WalkDir::new(&directory)
            .into_iter()
            .filter_map(Result::ok)
        {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let has_key = String::from_utf8_lossy(&bytes).contains("PRIVATE KEY");
            let name = entry.file_name().to_string_lossy().into_owned();
            if has_key || name.contains("key") && entry.file_type().is_file() {
                keys += 1;
                assert!(is_private(entry.path()), "{}", entry.path().display());
            }
        }
        assert!(keys > 0, "no key below {}", directory.display());
    }
}

#[test]
fn a_hub_that_was_revoked_on_the_server_can_do_nothing_any_more() {
    let strangers = Strangers::start();
    let token = strangers.invite(&[]);
    strangers.join("hub", &token).success();
    strangers.pretend_platform("hub");
    let push = ["push", "platform", "site", "--json"];
    strangers.hub("hub", &push).success();
    let hub = strangers.accepted_hubs();
    let second = strangers.invite(&[]);
    strangers.join("other-hub", &second).success();
    assert_eq!(strangers.accepted_hubs().len(), 2);
    let wrong = strangers.agent(&["revoke", "no such key"]);
    assert_eq!(wrong.code, Some(64), "{}", wrong.describe());
    strangers.agent(&["revoke", &hub[0][..10]]).success();
    // The other hub is let in as before.
    let left = strangers.accepted_hubs();
    assert!(left.len() == 1 && left != hub, "{left:?}");
    fs::write(
        strangers.path("source/index.php"),
        "<?php after it was revoked\n",
    )
    .unwrap();
    // No grace: who revoked it relies on it from that moment.
    let output = strangers.hub("hub", &push);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    assert_eq!(output.json_member("web1")["error"]["code"], "FX0303");
    let live = strangers.path("prefix/srv/platforms/site/index.php");
    assert_eq!(fs::read(live).unwrap(), b"<?php require 'core/boot.php';\n");
}

/// Commands follow each other quickly in a script; each is gone, for the agent too, when it ends.
#[test]
fn a_command_that_ended_takes_up_no_session() {
    let mut world = World::with_agents(1);
    fs::write(world.source("site").join("index.php"), "<?php\n").unwrap();
    world.add_platform("site", &[]);
    world.push("site", &[]).success();
    let config = world.agent_dir(0).join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("sessions = 32"), "{text}");
    fs::write(&config, text.replace("sessions = 32", "sessions = 4")).unwrap();
    world.restart_agent(0);
    for _ in 0..8 {
        let output = world.fanout(&["plan", "--json"]);
        let said = output.everything_said();
        assert!(!said.contains("FX0308"), "{}", output.describe());
    }
}

/// An agent without any privilege keeps what it can, and says what it can't.
#[test]
fn an_unprivileged_agent_works_and_says_what_it_cannot_keep() {
    if !crate::support::root_or_skip("becoming another user") {
        return;
    }
    const NOBODY: &str = "65534";
    let as_nobody = |command: &Command| {
        let mut other = Command::new("setpriv");
        other.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]);
        other
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        for (name, value) in command.get_envs() {
            other.env(name, value.unwrap_or_default());
        }
        other.current_dir("/");
        other
    };
    let mut strangers = Strangers::new();
    fs::set_permissions(strangers.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the tests are built, nobody may not look.
    let program = strangers.path("fanout");
    fs::copy(FANOUT, &program).unwrap();
    let places = [
        strangers.path("agent"),
        strangers.path("prefix"),
        strangers.path("prefix/srv"),
    ];
    for place in &places {
        fs::create_dir_all(place).unwrap();
        std::os::unix::fs::chown(place, Some(65_534), Some(65_534)).unwrap();
    }
    strangers.program = program;
    strangers.init_agent(as_nobody);
    strangers.run_agent(as_nobody);
    strangers.hub("hub", &["init"]).success();
    let mut invite = strangers.fanout();
    invite
        .args(["agent", "invite", "--dir"])
        .arg(strangers.path("agent"));
    let token = run::run(&mut as_nobody(&invite)).success().stdout;
    strangers.join("hub", &token).success();
    strangers.pretend_platform("hub");
    let output = strangers
        .hub("hub", &["push", "platform", "site", "--json"])
        .success();
    let said = output.everything_said();
    assert!(
        said.contains("owner") || said.contains("privilege"),
        "nothing is reported\n{said}"
    );
    // Once, with how many entries it concerns.
    let mentions = |events: Vec<serde_json::Value>| {
        let lines = events.iter().filter(|line| line["type"] == "event");
        lines
            .filter(|line| line.to_string().contains("FX0213"))
            .count()
    };
    assert_eq!(mentions(output.json_lines()), 1, "{said}");
    assert!(said.contains("entries (such as "), "{said}");
    let expected = crate::support::oracle::expected(&strangers.path("source"));
    let live =
        crate::support::snapshot::Snapshot::read(&strangers.path("prefix/srv/platforms/site"));
    let compare = crate::support::snapshot::Compare::exact().without_owners();
    compare.assert_same(&expected, &live);
    let verify = ["verify", "platform", "site", "--level", "content", "--json"];
    strangers.hub("hub", &verify).success();
    let again = strangers
        .hub("hub", &["push", "platform", "site", "--json"])
        .success();
    assert_eq!(
        again.json_member("web1")["outcome"],
        "up-to-date",
        "{}",
        again.describe()
    );
}

#[test]
fn two_hubs_may_be_let_in_but_neither_touches_the_others_tree() {
    let strangers = Strangers::start();
    for hub in ["hub", "other-hub"] {
        let token = strangers.invite(&[]);
        strangers.join(hub, &token).success();
    }
    let source = strangers.path("source");
    site_once(&source);
    let path = source.to_str().unwrap().to_owned();
    let add = [
        "add",
        "platform",
        "site",
        "--path",
        &path,
        "--root",
        "/srv/platforms/site",
        "--on",
        "web1",
    ];
    strangers.hub("hub", &add).success();
    strangers
        .hub("hub", &["push", "platform", "site", "--json"])
        .success();
    strangers.hub("other-hub", &add).success();
    fs::write(source.join("index.php"), "<?php from the other hub\n").unwrap();
    let output = strangers.hub("other-hub", &["push", "platform", "site", "--json"]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    let live = strangers.path("prefix/srv/platforms/site/index.php");
    assert_eq!(fs::read(live).unwrap(), b"<?php require 'core/boot.php';\n");
}

#[test]
fn an_agent_that_was_replaced_is_not_talked_to() {
    let mut world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    // Another machine has taken the address: same name, another key.
    world.kill_agent(0);
    let state = world.agent_dir(0);
    fs::rename(&state, state.with_extension("stolen")).unwrap();
    let listen = world.agent_address(0).to_string();
    let mut init = Command::new(FANOUT);
    init.args([
        "agent", "init", "--name", "web1", "--allow", "/srv", "--listen", &listen,
    ])
    .arg("--dir")
    .arg(&state)
    .arg("--prefix")
    .arg(world.agent_prefix(0));
    run::run(&mut init).success();
    world.restart_agent(0);
    let before = world.states("site");
    fs::write(world.source("site").join("index.php"), "<?php secret();\n").unwrap();
    let output = world.push("site", &[]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    world.assert_untouched("site", &before);
}
