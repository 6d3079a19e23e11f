//! `fanout demo`: it tells the whole story, and nothing is left of it, whatever the end.

use crate::support::env::FANOUT;
use crate::support::run::{USUAL_TIME, run_within, start, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn demo(temporary: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(FANOUT);
    command
        .args(["demo", "--members", "2"])
        .args(options)
        .env("TMPDIR", temporary);
    command
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Processes whose command line names the directory.
fn processes(directory: &Path) -> usize {
    let name = directory.as_os_str().as_encoded_bytes();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        std::fs::read(entry.ok()?.path().join("cmdline")).ok() // Others are no processes.
    });
    lines
        .filter(|line| line.windows(name.len()).any(|part| part == name))
        .count()
}

#[test]
fn the_demo_tells_the_whole_story_and_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let options = ["--files", "600", "--json"];
    let told = run_within(&mut demo(temporary.path(), &options), b"", 2 * USUAL_TIME).success();
    let lines = told.json_lines();
    let steps: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "step")
        .collect();
    let named = |name: &str| {
        let found = steps.iter().find(|step| step["step"] == name);
        *found.unwrap_or_else(|| panic!("no step {name}\n{}", told.describe()))
    };
    assert!(named("first push")["sent_bytes"].as_u64() > Some(100_000));
    assert_eq!(named("push of nothing")["content_bytes"], 0);
    for name in [
        "push of a release",
        "push, a member killed",
        "resync",
        "rollback",
        "verify",
    ] {
        assert_eq!(named(name)["checked"], true, "{name}");
    }
    assert_eq!(told.json_result()["files"], 600);
    assert_eq!(entries(temporary.path()), 0);
    assert_eq!(processes(temporary.path()), 0);
}

#[test]
fn an_interrupted_demo_leaves_neither_process_nor_file() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = demo(temporary.path(), &["--files", "600"]);
    let mut running = start(&mut command, b"");
    running.wait_for("The first push put", USUAL_TIME);
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = running.finish_within(USUAL_TIME).exits(1);
    assert!(
        ended.error_text().contains("FX0507"),
        "{}",
        ended.describe()
    );
    assert_eq!(entries(temporary.path()), 0);
    let gone = || processes(temporary.path()) == 0;
    assert!(wait_until(Duration::from_secs(5), gone));
}

#[test]
fn a_demo_that_fails_cleans_up_too() {
    let temporary = tempfile::tempdir().unwrap();
    let options = ["--platform", "/no/such/platform"];
    run_within(&mut demo(temporary.path(), &options), b"", USUAL_TIME).exits(1);
    assert_eq!(entries(temporary.path()), 0);
}
