//! Points that only unusual cases pass.

use super::ground::{A_WHILE, Bench, Task};
use crate::agent::crash::FAILPOINTS;
use crate::support::run::wait_until;
use crate::support::task::{files_with, put};
use std::fs;
use std::path::Path;

/// What the tests of this file kill at; each of them asserts that the process died.
pub(super) const KILLED_AT: &[&str] = &[
    "fs.mknod",
    "hub.batch.after",
    "hub.batch.before",
    "hub.closing.after",
    "hub.closing.before",
    "hub.depot.spool",
    "member.abort.journal",
    "member.abort.unmake",
    "member.abort.vote",
    "member.lend",
    "member.overwritten.expire",
    "member.share.stray",
    "member.swap.linked",
    "member.swap.parked",
    "member.swap.replaced",
    "member.switch.exchanged",
    "member.unlink",
];

fn kill_at(names: &[&str]) -> Vec<String> {
    for name in names {
        assert!(KILLED_AT.contains(name), "{name} isn't in KILLED_AT");
    }
    names.iter().map(|name| format!("{name}=kill")).collect()
}

/// A member that voted yes and hears no dies while it takes back what it prepared.
fn aborts(layout: &str) {
    let mut bench = Bench::start(layout, 2);
    bench.push();
    for armed in kill_at(&[
        "member.abort.vote",
        "member.abort.unmake",
        "member.abort.journal",
    ]) {
        bench.prepare(Task::Change);
        put(
            &bench
                .world
                .live(1, &bench.platform)
                .join("data/uploads-2/x"),
            "another member's",
        );
        bench
            .world
            .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
        let refusing = [(FAILPOINTS, "member.prepare.vote=error:EIO")];
        bench.world.restart_agent_with_env(1, &refusing);
        let platform = bench.platform.clone();
        let words = ["push", "platform", &platform, "--json"];
        let mut push = bench.world.start_fanout(&words, &[]);
        bench.wait_for_death(&mut push, &armed);
        bench.world.restart_agent(0);
        let output = push.finish_within(A_WHILE);
        assert_eq!(output.code, Some(1), "{armed}\n{}", output.describe());
        bench.world.restart_agent(1);
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

#[test]
fn an_agent_killed_in_an_abort_has_the_old_generation_switched() {
    aborts("switched");
}

#[test]
fn an_agent_killed_in_an_abort_has_the_old_generation_in_place() {
    aborts("in-place");
}

#[test]
fn an_agent_killed_where_names_cannot_be_exchanged_comes_back_whole() {
    let mut bench = Bench::start("in-place", 1);
    bench.push();
    let points = [
        "member.swap.parked",
        "member.swap.linked",
        "member.swap.replaced",
    ];
    for armed in kill_at(&points) {
        bench.prepare(Task::Change);
        let armed = format!("fs.exchange=error:EINVAL,{armed}");
        // The disk can't do it after the restart either.
        bench.die_in_a_push(&armed, &[], "fs.exchange=error:EINVAL");
        bench.world.resync(&[&bench.platform]).success();
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

#[test]
fn an_agent_killed_when_it_took_out_a_strange_root_keeps_that() {
    let mut bench = Bench::start("switched", 1);
    bench.push();
    bench.prepare(Task::Change);
    let live = bench.live();
    fs::remove_file(&live).unwrap();
    put(&live.join("strange/file"), "somebody else's");
    for armed in kill_at(&["member.switch.exchanged"]) {
        let options = ["--allow-kind-change", "--allow-delete", "100"];
        bench.die_in_a_push(&armed, &options, "");
        bench.world.resync(&[&bench.platform]).success();
        bench.push();
        bench.assert_as_source(&armed);
        let kept = files_with(&bench.world.dir().join("web1"), b"somebody else's");
        assert_eq!(kept.len(), 1, "{kept:?}");
    }
}

#[test]
fn an_upload_directory_that_appears_before_the_switch_survives_a_crash() {
    let mut bench = Bench::start("switched", 1);
    bench.push();
    for armed in kill_at(&["member.share.stray"]) {
        bench.prepare(Task::Change);
        let reached = bench.world.dir().join("reached");
        let armed = format!(
            "member.commit.forward=log:{},member.commit.forward=pause:2000,{armed}",
            reached.display()
        );
        bench
            .world
            .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
        let platform = bench.platform.clone();
        let words = ["push", "platform", &platform, "--json"];
        let mut push = bench.world.start_fanout(&words, &[]);
        assert!(wait_until(A_WHILE, || reached.exists()));
        put(
            &bench.live().join("data/uploads-late/x"),
            "at the last moment",
        );
        bench.note_uploads();
        bench.wait_for_death(&mut push, &armed);
        bench.world.restart_agent(0);
        push.finish_within(A_WHILE);
        bench.world.resync(&[&bench.platform]).success();
        bench.assert_uploads(&armed);
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

fn deletions(layout: &str) {
    let mut bench = Bench::start(layout, 1);
    bench.push();
    bench.prepare(Task::Change);
    bench.push();
    bench.live_on();
    let armed = match layout {
        "in-place" => kill_at(&["member.unlink"]),
        _ => vec!["fs.unlink=kill".to_owned(), "fs.remove_dir=kill".to_owned()],
    };
    let platform = bench.platform.clone();
    let words = ["delete", "platform", &platform, "--yes-delete", &platform];
    let uploads = bench.upload_contents();
    for armed in armed {
        bench
            .world
            .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
        let mut delete = bench.world.start_fanout(&words, &[]);
        bench.wait_for_death(&mut delete, &armed);
        bench.world.restart_agent(0);
        delete.finish_within(A_WHILE);
        assert_kept(bench.world.dir(), &uploads, &armed);
    }
    let output = bench.world.fanout(&words);
    assert!(matches!(output.code, Some(0 | 64)), "{}", output.describe());
    assert_kept(bench.world.dir(), &uploads, "at the end");
    assert!(!bench.live().join("index.php").exists());
}

fn assert_kept(world: &Path, uploads: &[Vec<u8>], said: &str) {
    for upload in uploads {
        let kept = files_with(&world.join("web1"), upload);
        assert!(!kept.is_empty(), "{said}: {}", upload.escape_ascii());
    }
}

#[test]
fn an_agent_killed_in_a_deletion_takes_no_upload_with_it_switched() {
    deletions("switched");
}

#[test]
fn an_agent_killed_in_a_deletion_takes_no_upload_with_it_in_place() {
    deletions("in-place");
}

#[test]
fn an_agent_killed_while_it_tidies_up_starts_again() {
    let mut bench = Bench::start("in-place", 1);
    bench.push();
    bench.prepare(Task::Change);
    bench.push();
    let config = bench.world.agent_dir(0).join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("overwritten_days = 14", "overwritten_days = 0"),
    )
    .unwrap();
    // What is kept no day is kept a second.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    for armed in kill_at(&["member.overwritten.expire"]) {
        bench.world.agent_dies_at_start(0, &[(FAILPOINTS, &armed)]);
        bench.world.restart_agent(0);
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

#[test]
fn a_pipe_that_was_being_made_is_made_again() {
    let mut bench = Bench::start("in-place", 1);
    let section = format!("platforms.{}", bench.platform);
    bench
        .world
        .configure(&section, &[r#"special_files = ["fifos"]"#]);
    bench.push();
    for armed in kill_at(&["fs.mknod"]) {
        bench.prepare(Task::Change);
        let pipe = bench.world.source(&bench.platform).join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        bench.die_in_a_push(&armed, &[], "");
        bench.world.resync(&[&bench.platform]).success();
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

#[test]
fn a_hub_killed_in_a_rolling_push_goes_on_with_the_next() {
    let mut bench = Bench::start("switched", 2);
    bench.push();
    let points = [
        "hub.batch.before",
        "hub.batch.after",
        "hub.closing.before",
        "hub.closing.after",
    ];
    for armed in kill_at(&points) {
        bench.prepare(Task::Change);
        let platform = bench.platform.clone();
        let words = ["push", "platform", &platform, "--rolling", "1"];
        let output = bench.world.fanout_with_env(&words, &[(FAILPOINTS, &armed)]);
        assert_eq!(output.code, None, "{armed}\n{}", output.describe());
        bench.world.resync(&[&platform]).success();
        let labels: Vec<_> = (0..2)
            .map(|at| fs::read(bench.world.live(at, &platform).join("index.php")).unwrap())
            .collect();
        assert_eq!(labels[0], labels[1], "{armed}");
        bench.push();
        bench.assert_as_source(&armed);
        bench.assert_uploads(&armed);
    }
}

#[test]
fn a_large_file_is_lent_again_after_the_lender_or_the_hub_died() {
    let mut bench = Bench::start("in-place", 2);
    bench.push();
    bench.world.kill_agent(1);
    let source = bench.world.source(&bench.platform).join("large.bin");
    // More than the depot stores.
    fs::File::create(&source)
        .unwrap()
        .set_len(65 << 20)
        .unwrap();
    let platform = bench.platform.clone();
    bench.world.push(&platform, &[]).exits(3);
    fs::remove_file(&source).unwrap();
    bench.world.restart_agent(1);
    let words = ["resync", &platform, "--json"];
    for armed in kill_at(&["hub.depot.spool"]) {
        let output = bench.world.start_fanout(&words, &[(FAILPOINTS, &armed)]);
        assert_eq!(output.finish_within(A_WHILE).code, None, "{armed}");
    }
    for armed in kill_at(&["member.lend"]) {
        bench
            .world
            .restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
        let mut resync = bench.world.start_fanout(&words, &[]);
        bench.wait_for_death(&mut resync, &armed);
        bench.world.restart_agent(0);
        resync.finish_within(A_WHILE);
    }
    let resync = bench.world.start_fanout(&words, &[]);
    resync.finish_within(A_WHILE).success();
    let length = fs::metadata(bench.world.live(1, &platform).join("large.bin"));
    assert_eq!(length.unwrap().len(), 65 << 20);
}
