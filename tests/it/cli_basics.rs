//! The command line as a script and a newcomer meet it: help, errors, exit codes.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use assert_cmd::Command;
use insta::assert_snapshot;
use std::process::{Output, Stdio};

fn fanout(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("fanout").unwrap();
    command
        .args(arguments)
        .env_remove("FANOUT_DIR")
        .env_remove("FANOUT_LOG")
        .env_remove("FANOUT_COMPLETE")
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR");
    command
}

/// Exit code, standard output, standard error.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn asking_for_help_succeeds_on_standard_output() {
    for arguments in [
        &["--help"][..],
        &["push", "platform", "--help"],
        &["agent", "-h"],
    ] {
        let (code, out, err) = outcome(&mut fanout(arguments));
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert!(out.contains("Usage:"), "{arguments:?}");
    }
    let (code, out, _) = outcome(&mut fanout(&["--version"]));
    assert_eq!(code, 0);
    assert_eq!(out, format!("fanout {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_commands_are_listed_with_what_they_do() {
    let (_, out, _) = outcome(&mut fanout(&["-h"]));
    assert_snapshot!(out);
}

#[test]
fn a_push_explains_its_brakes() {
    let (_, out, _) = outcome(&mut fanout(&["push", "platform", "-h"]));
    assert_snapshot!(out);
}

#[test]
fn what_is_not_understood_exits_with_64() {
    for arguments in [
        &[][..],
        &["pusch"],
        &["push"],
        &["push", "drupal"],
        &["push", "platform", ""],
        &["push", "platform", "--frobnicate"],
        &["lock", "platform"],
        &["explain", "FX0999"],
    ] {
        let (code, out, err) = outcome(&mut fanout(arguments));
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_error_of_use_is_told_in_json_too() {
    let (code, out, err) = outcome(&mut fanout(&["push", "platform", "--json", "--nope"]));
    assert_eq!(code, 64);
    assert!(err.contains("unexpected argument '--nope'"), "{err}");
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(line["type"], "result");
    assert_eq!(line["error"]["code"], "FX0001");
    assert_eq!(line["exit"], 64);
}

#[test]
fn an_error_code_is_explained() {
    let (code, out, err) = outcome(&mut fanout(&["explain", "fx0201"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_snapshot!(out);
    let (code, out, _) = outcome(&mut fanout(&["explain", "[FX0201]", "--json"]));
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(line["code"], "FX0201");
    assert_eq!(line["exit"], 5);
    assert!(line["page"].as_str().unwrap().starts_with("# FX0201: "));
}

#[test]
fn a_code_that_does_not_exist_says_where_to_look() {
    let (code, out, err) = outcome(&mut fanout(&["explain", "FX0999"]));
    assert_eq!((code, out.as_str()), (64, ""));
    assert_snapshot!(err, @r"
    error: There is no error code FX0999 [FX0017]
    hint: `fanout explain` lists all codes
    hint: `fanout explain FX0017` says more
    ");
    let (_, _, err) = outcome(&mut fanout(&["explain", "FX0999", "-q"]));
    assert_eq!(err, "error: There is no error code FX0999 [FX0017]\n");
}

#[test]
fn the_list_of_codes_names_each_with_its_exit() {
    let (code, out, _) = outcome(&mut fanout(&["explain"]));
    assert_eq!(code, 0);
    let brake = out.lines().find(|line| line.starts_with("FX0201")).unwrap();
    assert_eq!(brake, "FX0201     5  A push would delete too much");
}

#[test]
fn colors_are_there_only_on_request() {
    let (_, _, err) = outcome(&mut fanout(&["explain", "FX0999", "--color", "always"]));
    assert!(err.starts_with("\x1b[1;31merror:\x1b[0m There"), "{err:?}");
    let (_, out, _) = outcome(&mut fanout(&["--color=always", "--help"]));
    assert!(out.contains('\x1b'));
    let (_, out, _) = outcome(&mut fanout(&["--help"]));
    assert!(!out.contains('\x1b'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    #[expect(
        clippy::disallowed_methods,
        reason = "assert_cmd can't set standard output"
    )]
    let status = std::process::Command::new(assert_cmd::cargo::cargo_bin("fanout"))
        .arg("explain")
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "assert_cmd can't set standard output"
    )]
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("fanout"))
        .arg("explain")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("[FX0016]"), "{err}");
}

#[test]
fn completion_scripts_ask_fanout_and_names_come_from_the_inventory() {
    let (code, out, _) = outcome(&mut fanout(&["completions", "bash"]));
    assert_eq!(code, 0);
    assert!(out.contains("FANOUT_COMPLETE"));
    let hub = tempfile::tempdir().unwrap();
    std::fs::write(
        hub.path().join("fanout.toml"),
        "[platforms.drupal]\n[platforms.wiki]\n[servers.web1]\n",
    )
    .unwrap();
    let directory = hub.path().to_str().unwrap();
    let mut command = fanout(&["--", "fanout", "--dir", directory, "push", "platform", ""]);
    command
        .env("FANOUT_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "5")
        .env("_CLAP_IFS", "\n");
    let (code, out, _) = outcome(&mut command);
    assert_eq!(code, 0);
    let words: Vec<_> = out.lines().collect();
    assert!(
        words.contains(&"drupal") && words.contains(&"wiki"),
        "{out}"
    );
    assert!(!words.contains(&"web1"), "{out}");
}

#[test]
fn man_pages_go_into_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let (code, _, err) = outcome(&mut fanout(&["man", pages.to_str().unwrap()]));
    assert_eq!(code, 0, "{err}");
    assert!(pages.join("fanout.1").is_file());
    let (code, _, err) = outcome(&mut fanout(&["man", "/proc/nowhere"]));
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: Can't write man pages to /proc/nowhere: "),
        "{err}"
    );
}
