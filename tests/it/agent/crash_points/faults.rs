//! Disks that fail in the middle of a push, on a member and on the hub: the old generation stays
//! live, or what was decided is carried out once the disk works again; and the next push succeeds.

use super::ground::{A_WHILE, Bench, Task, Who};
use crate::agent::crash::FAILPOINTS;
use crate::support::disk::{Resource, SmallDisk};
use crate::support::root_or_skip;
use crate::support::run::{Output, is_installed, run, wait_until};
use crate::support::task::in_both_layouts;
use serde_json::Value;
use std::fs;
use std::process::Command;

in_both_layouts!(
    an_error_at_any_step_of_a_change_ends_in_one_generation,
    a_disk_that_fills_up_in_the_middle_keeps_the_old_generation,
    inodes_that_run_out_in_the_middle_keep_the_old_generation,
    a_disk_that_turns_read_only_in_the_middle_keeps_what_was_decided,
    an_agent_without_descriptors_says_so_and_stays_up,
);

/// A member's points from the request to the end, with what a disk may say there.
const FAILING: [(&str, &str); 30] = [
    ("durable.create", "EIO"),
    ("durable.overwrite", "EROFS"),
    ("durable.overwrite.sync", "EIO"),
    ("durable.rename", "ENOSPC"),
    ("durable.sync", "EIO"),
    ("durable.sync_dir", "EIO"),
    ("durable.write", "EDQUOT"),
    ("fs.create_dir", "EDQUOT"),
    ("fs.create_file", "EMFILE"),
    ("fs.symlink", "ENOSPC"),
    ("fs.rename", "EIO"),
    ("fs.unlink", "EIO"),
    ("fs.syncfs", "EIO"),
    ("member.stage.write", "EDQUOT"),
    ("member.stage.seal", "EIO"),
    ("member.stage.finish", "EROFS"),
    ("member.prepare.journal", "EROFS"),
    ("member.prepare.make", "ENOSPC"),
    ("member.prepare.vote", "EIO"),
    ("member.commit.forward", "EROFS"),
    ("member.commit.sync", "EIO"),
    ("member.commit.record", "ENOSPC"),
    ("member.retire.stage", "EIO"),
    ("member.retire.vote", "EROFS"),
    ("member.retire.journal", "EIO"),
    ("member.index.write", "ENOSPC"),
    ("member.index.rename", "EIO"),
    ("member.overwritten", "EIO"),
    ("member.collect.record", "EIO"),
    ("fs.remove_dir", "EIO"),
];
const FAILING_SWITCHED: [(&str, &str); 7] = [
    ("member.collect.spare", "EIO"),
    ("member.generation", "EIO"),
    ("member.stage.recycle", "EIO"),
    ("member.switch", "EROFS"),
    ("member.switched", "EIO"),
    ("member.share.exchange", "EIO"),
    ("member.aside.link", "EIO"),
];
const FAILING_IN_PLACE: [(&str, &str); 6] = [
    ("member.put", "EIO"),
    ("member.exchange", "EROFS"),
    ("member.take", "EIO"),
    ("member.touch", "EIO"),
    ("member.undo.index", "ENOSPC"),
    ("member.undo.tree", "EIO"),
];
const FAILING_HUB: [(&str, &str); 6] = [
    ("hub.depot.put", "ENOSPC"),
    ("hub.depot.sync", "EIO"),
    ("hub.store.commit", "EIO"),
    ("hub.decision.before", "EIO"),
    ("hub.decision.after", "EIO"),
    ("hub.depot.collect", "EROFS"),
];

fn an_error_at_any_step_of_a_change_ends_in_one_generation(layout: &str) {
    let mut bench = Bench::start(layout, 1);
    bench.push();
    let own = match layout {
        "switched" => &FAILING_SWITCHED[..],
        _ => &FAILING_IN_PLACE[..],
    };
    for (point, error) in FAILING.iter().chain(own) {
        let armed = format!("since=member.request,{point}=error:{error}");
        bench.run(Task::Change, Who::Agent, &armed);
    }
    for (point, error) in FAILING_HUB {
        bench.run(Task::Change, Who::Hub, &format!("{point}=error:{error}@1"));
    }
}

/// A push that waits on the member at `point` while `break_it` breaks something, then goes on.
fn pushed_while(bench: &mut Bench, point: &str, break_it: impl FnOnce(&mut Bench)) -> Output {
    let reached = bench.world.dir().join("reached");
    fs::remove_file(&reached).unwrap_or_default();
    let armed = format!("{point}=log:{},{point}=pause:3000@1", reached.display());
    bench
        .world
        .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
    let words = ["push", "platform", &bench.platform, "--json"];
    let push = bench.world.start_fanout(&words, &[]);
    assert!(wait_until(A_WHILE, || reached.exists()), "{point}");
    break_it(bench);
    push.finish_within(A_WHILE)
}

/// Breaks a member's disk at each of these, mends it, and looks what came of it.
fn broken_at(
    bench: &mut Bench,
    points: &[(&str, &[&str])],
    break_it: impl Fn(&mut Bench),
    mend: impl Fn(&mut Bench),
) {
    for (point, codes) in points {
        bench.prepare(Task::Change);
        bench.disk.as_ref().unwrap().sync();
        let output = pushed_while(bench, point, &break_it);
        assert_ne!(output.code, Some(0), "{point}\n{}", output.describe());
        let member = output.json_member("web1");
        let said = member["error"]["code"].as_str().unwrap_or_default();
        assert!(
            codes.contains(&said),
            "{point}: {said}\n{}",
            output.describe()
        );
        let is_open = member["outcome"] == "in-doubt";
        bench.world.kill_agent(0);
        mend(bench);
        bench.world.restart_agent(0);
        bench.assert_is_after_all(is_open, point);
        bench.push();
        bench.assert_as_source(point);
        bench.assert_uploads(point);
    }
}

fn on_a_small_disk(layout: &str, options: &[&str]) -> Option<Bench> {
    if !root_or_skip("mounting a small disk") {
        return None;
    }
    let mut bench = Bench::start(layout, 1);
    bench.world.kill_agent(0);
    let at = bench.world.agent_prefix(0).join("srv");
    let image = bench.world.dir().join("small.img");
    let options = [&["-m", "0"], options].concat();
    let disk = SmallDisk::mount_with(at, &image, 24 << 20, &options, "errors=remount-ro");
    bench.disk = Some(disk);
    bench.world.restart_agent(0);
    bench.push();
    Some(bench)
}

fn used_up(layout: &str, what: Resource, options: &[&str]) {
    let Some(mut bench) = on_a_small_disk(layout, options) else {
        return;
    };
    let points: [(&str, &[&str]); 3] = [
        ("member.stage.directories", &["FX0401"]),
        ("member.prepare.journal", &["FX0401"]),
        // After its vote it can only wait for room.
        ("member.commit.forward", &["FX0505"]),
    ];
    let filled = std::cell::RefCell::new(None);
    broken_at(
        &mut bench,
        &points,
        |bench| {
            filled.replace(bench.disk.as_ref().map(|disk| disk.fill(what)));
        },
        |_| drop(filled.take()),
    );
    bench.world.kill_agent(0);
}

fn a_disk_that_fills_up_in_the_middle_keeps_the_old_generation(layout: &str) {
    used_up(layout, Resource::Bytes, &[]);
}

fn inodes_that_run_out_in_the_middle_keep_the_old_generation(layout: &str) {
    used_up(layout, Resource::Inodes, &["-N", "400"]);
}

fn a_disk_that_turns_read_only_in_the_middle_keeps_what_was_decided(layout: &str) {
    let Some(mut bench) = on_a_small_disk(layout, &[]) else {
        return;
    };
    let points: [(&str, &[&str]); 4] = [
        ("member.stage.write", &["FX0402", "FX0403"]),
        ("member.prepare.sync", &["FX0402", "FX0403"]),
        ("member.commit.forward", &["FX0505"]),
        ("member.commit.sync", &["FX0505"]),
    ];
    broken_at(
        &mut bench,
        &points,
        |bench| bench.disk.as_ref().unwrap().fail_read_only(),
        |bench| bench.disk.as_ref().unwrap().repair(),
    );
    bench.world.kill_agent(0);
}

fn an_agent_without_descriptors_says_so_and_stays_up(layout: &str) {
    let mut bench = Bench::start(layout, 1);
    bench.push();
    let limit = |bench: &Bench, files: &str| {
        let pid = bench.world.agent_pid(0).to_string();
        let limit = format!("--nofile={files}:1024");
        run(Command::new("prlimit").args(["--pid", &pid, &limit])).success();
    };
    let mut refused = 0;
    for room in [1, 2, 4, 8, 12] {
        bench.prepare(Task::Change);
        let held = fs::read_dir(format!("/proc/{}/fd", bench.world.agent_pid(0)));
        let held = held.unwrap().count();
        limit(&bench, &(held + room).to_string());
        let output = bench.world.push(&bench.platform, &[]);
        if output.code != Some(0) {
            let index = fs::read(bench.live().join("index.php")).unwrap();
            assert!(!index.is_empty(), "{}", output.describe());
            let error = &output.json_member("web1")["error"];
            assert_too_many_open(error, &output);
            refused += 1;
        }
        // The same process, with room again.
        limit(&bench, "1024");
        bench.push();
        bench.assert_as_source(&format!("room for {room}"));
        bench.assert_uploads("after that");
    }
    let words = ["push", "platform", &bench.platform.clone(), "--json"];
    for files in 8..40 {
        bench.prepare(Task::Change);
        let mut command = Command::new("prlimit");
        let pushing = bench.world.command(&words);
        command.arg(format!("--nofile={files}:{files}"));
        command.arg(pushing.get_program()).args(pushing.get_args());
        for (name, value) in pushing.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let output = run(&mut command);
        if output.code != Some(0) {
            let error = output.json_result()["error"].clone();
            let members = || output.json_member("web1")["error"].clone();
            let error = if error.is_null() { members() } else { error };
            assert_too_many_open(&error, &output);
            refused += 1;
        }
        bench.push();
        bench.assert_as_source(&format!("a hub with {files}"));
    }
    assert!(refused > 2, "{refused} refused");
}

/// That, and nothing else: no damage of a file, no trouble with the disk. After the vote the commit
/// is what failed, and the message says why. SQLite keeps to itself why it can't open a file.
#[track_caller]
fn assert_too_many_open(error: &Value, output: &Output) {
    let word = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let (code, message, hint) = (word("code"), word("message"), word("hint"));
    eprintln!("{code}: {message} ({hint})");
    let described = output.describe();
    match &*code {
        "FX0505" => assert!(message.contains("Too many open files"), "{described}"),
        "FX0014" => assert!(hint.contains("ulimit -n"), "{described}"),
        _ => assert_eq!(code, "FX0406", "{described}"),
    }
}

#[test]
fn a_hub_whose_state_has_no_room_changes_no_member() {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let mut bench = Bench::start("switched", 1);
    let state = bench.world.hub_dir().join("state");
    bench.disk = Some(SmallDisk::under(&state, 16 << 20, "rw"));
    bench.push();
    for point in ["hub.depot.put", "hub.depot.sync", "hub.decision.before"] {
        bench.prepare(Task::Change);
        let before = fs::read(bench.live().join("index.php")).unwrap();
        let reached = bench.world.dir().join("reached");
        fs::remove_file(&reached).unwrap_or_default();
        let armed = format!("{point}=log:{},{point}=pause:3000@1", reached.display());
        let words = ["push", "platform", &bench.platform, "--json"];
        let push = bench.world.start_fanout(&words, &[(FAILPOINTS, &armed)]);
        assert!(wait_until(A_WHILE, || reached.exists()), "{point}");
        let filled = bench.disk.as_ref().unwrap().fill(Resource::Bytes);
        let output = push.finish_within(A_WHILE);
        let now = fs::read(bench.live().join("index.php")).unwrap();
        if output.code == Some(0) {
            // There was a block left in the write-ahead log.
            assert_eq!(point, "hub.decision.before", "{}", output.describe());
        } else {
            assert_eq!(now, before, "{point}\n{}", output.describe());
        }
        drop(filled);
        bench.push();
        bench.assert_as_source(point);
        bench.assert_uploads(point);
    }
}

/// Clocks that are wrong, and that jump while a push runs.
#[test]
fn clocks_that_jump_decide_nothing() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !is_installed("faketime") {
        assert!(
            std::env::var_os("FANOUT_TEST_ALL").is_none(),
            "faketime is not installed"
        );
        eprintln!("skipped: faketime is not installed");
        return;
    }
    let mut bench = Bench::start("in-place", 1);
    bench.push();
    let jumping = bench.world.dir().join("clock");
    let jumping = jumping.to_str().unwrap();
    let env = |clock: &'static str| {
        [
            ("LD_PRELOAD", library),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME", clock),
        ]
    };
    for (of_agent, of_hub) in [("-3000d", "+0d"), ("+0d", "+4000d"), ("+4000d", "-3000d")] {
        bench.prepare(Task::Change);
        bench.world.restart_agent_with_env(0, &env(of_agent));
        let platform = bench.platform.clone();
        let words = ["push", "platform", &platform, "--json"];
        bench
            .world
            .fanout_with_env(&words, &env(of_hub))
            .all("committed");
        bench.assert_as_source(of_hub);
        bench.assert_uploads(of_hub);
        bench.world.restart_agent(0);
        bench.push();
        bench.assert_as_source("with the right time again");
    }
    // It jumps in the middle.
    for jump in ["+9000d", "-9000d"] {
        fs::write(jumping, "+0d").unwrap();
        bench.prepare(Task::Change);
        let env = [
            ("LD_PRELOAD", library),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_TIMESTAMP_FILE", jumping),
            (FAILPOINTS, "member.prepare.sync=pause:1500"),
        ];
        bench.world.restart_agent_with_env(0, &env);
        let platform = bench.platform.clone();
        let words = ["push", "platform", &platform, "--json"];
        let mut push = bench.world.start_fanout(&words, &env);
        push.wait_for("preparing", A_WHILE);
        fs::write(jumping, jump).unwrap();
        push.finish_within(A_WHILE).all("committed");
        bench.assert_as_source(jump);
        bench.assert_uploads(jump);
        bench.world.restart_agent(0);
        bench.push();
    }
}
