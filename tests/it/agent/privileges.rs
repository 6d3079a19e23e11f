//! What an agent and a hub may do on their machines: no more than the packaged units leave them, each
//! with a reason, and enough; and what others may do with their files: nothing.

use crate::support::env::{FANOUT, World};
use crate::support::run::run;
use crate::support::snapshot::Compare;
use crate::support::task::{put, site};
use crate::support::{root_or_skip, run::Output};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd");
    fs::read_to_string(path.join(name)).expect("a unit")
}

/// What `systemd-analyze` says of a unit by itself, without the drop-in for services.
fn analysis(name: &str) -> String {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join(name);
    fs::write(&path, unit(name)).expect("write the unit");
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .args(["security", "--offline=yes", "--no-pager"])
        .arg(path);
    let output = run(&mut analyze);
    output.text() + &output.error_text()
}

const UNITS: [&str; 3] = [
    "fanout-agent.service",
    "fanout-resync.service",
    "fanout-cron.service",
];

#[test]
fn the_packaged_units_leave_little_exposed() {
    for name in UNITS {
        let said = analysis(name);
        let line = said
            .lines()
            .find(|line| line.contains("Overall exposure level"));
        let line = line.unwrap_or_else(|| panic!("{name}: {said}"));
        let level = line
            .split(": ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let level: f32 = level.expect("a level").parse().expect("a number");
        assert!(level <= 2.5, "{name}: {line}");
    }
}

#[test]
fn every_privilege_that_a_unit_leaves_has_its_reason_there() {
    for name in UNITS {
        // The hub's own units refer to the agent's for what is the same.
        let reasons = unit(name) + &unit("fanout-agent.service");
        for line in analysis(name)
            .lines()
            .filter(|line| line.contains('\u{2717}'))
        {
            let words = line.split_whitespace().nth(1).expect("a setting");
            let setting = words.split('=').next().unwrap_or(words).split('/').next();
            let setting = setting.expect("a name");
            assert!(
                reasons.contains(setting),
                "{name} says nothing of {setting}: {line}"
            );
        }
    }
}

/// The calls of a set of systemd's, sets in sets included.
fn calls(set: &str) -> BTreeSet<String> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["syscall-filter", "--no-pager", set]);
    let text = run(&mut analyze).success().text();
    let mut all = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        match line {
            _ if line.is_empty() || line.starts_with('#') || line == set => {}
            _ if line.starts_with('@') => all.extend(calls(line)),
            _ => {
                all.insert(line.to_owned());
            }
        }
    }
    all
}

fn setting(unit: &str, key: &str) -> String {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

#[test]
fn an_agent_does_all_its_work_with_what_its_unit_leaves_it() {
    if !root_or_skip("an agent with some of root's privileges") {
        return;
    }
    let text = unit("fanout-agent.service");
    assert_eq!(setting(&text, "SystemCallFilter"), "@system-service");
    let allowed = calls("@system-service");
    assert!(allowed.contains("openat2"));
    let capabilities = setting(&text, "CapabilityBoundingSet").to_lowercase();
    let capabilities = capabilities.replace("cap_", "+").replace(' ', ",");
    let bounding = format!("--bounding-set=-all,{capabilities}");
    for layout in ["switched", "in-place"] {
        let mut world = World::with_site(1, &site(), &["--layout", layout]);
        let source = world.source("site");
        for (path, user, mode) in [
            ("index.php", 33, 0o640),
            ("core/boot.php", 54_321, 0o600),
            ("core/large.bin", 54_321, 0o2755),
            ("modules/m03", 33, 0o2750),
        ] {
            chown(source.join(path), Some(user), Some(user)).unwrap();
            fs::set_permissions(source.join(path), Permissions::from_mode(mode)).unwrap();
        }
        world.configure("platforms.site", &[r#"special_files = ["setuid"]"#]);
        let trace = world.dir().join("trace");
        let trace = trace.to_str().unwrap();
        let words = [
            "setpriv",
            "--no-new-privs",
            "--inh-caps=-all",
            &bounding,
            "strace",
            "-D",
            "-f",
            "-qq",
            "-e",
            "signal=none",
            "-o",
            trace,
        ];
        world.restart_agent_under(0, &words);
        world.push("site", &[]).all("committed");
        world.assert_delivered("site");
        put(&source.join("core/boot.php"), "changed by its owner's hub");
        chown(source.join("index.php"), Some(0), Some(33)).unwrap();
        fs::remove_dir_all(source.join("modules/m05")).unwrap();
        world.push("site", &[]).all("committed");
        world.assert_delivered("site");
        world.rollback("site", &[]).all("committed");
        world.push("site", &[]).all("committed");
        Compare::exact().assert_same(&world.expected("site"), &world.snapshot(0, "site"));
        world.assert_clean("site");
        let traced = fs::read_to_string(trace).expect("the trace");
        let used: BTreeSet<&str> = traced.lines().filter_map(call_of).collect();
        assert!(used.contains("openat2") && used.len() > 20, "{used:?}");
        // `execve` starts it, before the filter is its own.
        let outside: Vec<_> = used
            .iter()
            .filter(|call| !allowed.contains(**call))
            .collect();
        assert_eq!(outside, Vec::<&&str>::new(), "not in @system-service");
    }
}

/// `1234 openat2(...` or `1234 <... futex resumed>`.
fn call_of(line: &str) -> Option<&str> {
    let rest = line.split_once(' ')?.1.trim_start();
    let (name, _) = rest.split_once('(')?;
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        .then_some(name)
}

/// Everything below a directory that others can read, write or pass through.
fn open_to_others(root: &Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.expect("walk");
        let metadata = entry.metadata().expect("stat");
        if metadata.mode() & 0o077 != 0 && !metadata.is_symlink() {
            let path = entry.path().strip_prefix(root).unwrap();
            open.push(format!("{} {:o}", path.display(), metadata.mode() & 0o7777));
        }
    }
    open
}

/// Runs a command of the hub with a umask that takes nothing away.
fn fanout_open(world: &World, words: &[&str]) -> Output {
    let mut shell = world.bare_command_of("sh");
    shell
        .args(["-c", "umask 0; exec \"$@\"", "sh", FANOUT])
        .args(words);
    run(shell.env("FANOUT_DIR", world.hub_dir()))
}

#[test]
fn no_file_of_a_hub_or_an_agent_is_open_to_others_whatever_the_umask() {
    let mut world = World::with_site(1, &site(), &["--layout", "in-place"]);
    let open = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    world.restart_agent_under(0, &open);
    fanout_open(&world, &["push", "platform", "site"]).success();
    fanout_open(&world, &["secret", "set", "db1", "--generate"]).success();
    let file = world.dir().join("hub.tar");
    fanout_open(&world, &["hub", "backup", file.to_str().unwrap()]).success();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    world.invite(0);
    put(&world.live(0, "site").join("index.php"), "a local edit");
    fanout_open(&world, &["resync", "--level", "content"]).success();
    assert_eq!(
        open_to_others(&world.hub_dir().join("state").join("secrets")),
        Vec::<String>::new()
    );
    // The directories are private, so nobody gets to what lies in them; keys and state by themselves.
    for private in [world.hub_dir().join("state"), world.agent_dir(0)] {
        assert_eq!(
            fs::metadata(&private).unwrap().mode() & 0o777,
            0o700,
            "{private:?}"
        );
    }
    let key = |dir: PathBuf| dir.join("identity/key.pem");
    for file in [
        key(world.hub_dir().join("state")),
        key(world.agent_dir(0)),
        world.hub_dir().join("state/state.sqlite"),
        world.hub_dir().join("state/secrets/db1"),
        world.agent_dir(0).join("agent.toml"),
    ] {
        let mode = fs::metadata(&file).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
}

#[test]
fn a_key_that_others_could_read_is_refused_and_named() {
    let mut world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let exposed = |path: &Path, try_it: &mut dyn FnMut() -> String| {
        let before = fs::metadata(path).unwrap().permissions();
        for mode in [0o640, 0o604, 0o622] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let said = try_it();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(name), "{mode:o}: {said}");
        }
        fs::set_permissions(path, before).unwrap();
    };
    let key = world.hub_dir().join("state/identity/key.pem");
    exposed(&key, &mut || {
        let output = world.push("site", &[]).exits(1);
        assert_eq!(
            output.json_result()["error"]["code"],
            "FX0015",
            "{}",
            output.describe()
        );
        output.text()
    });
    world.kill_agent(0);
    let key = world.agent_dir(0).join("identity/key.pem");
    let dir = world.agent_dir(0);
    exposed(&key, &mut || {
        let mut agent = world.bare_command_of(FANOUT);
        agent.args(["agent", "run", "--dir"]).arg(&dir);
        let output = run(&mut agent).exits(1);
        assert!(
            output.error_text().contains("FX0015"),
            "{}",
            output.describe()
        );
        output.error_text()
    });
    world.restart_agent(0);
    world.push("site", &[]).all("up-to-date");
}
