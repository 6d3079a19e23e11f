//! `docs/cli-reference.md`: every command's help in one document, kept equal to the code by a
//! test. `UPDATE_REFERENCE=1 cargo test cli::reference` writes it anew.

#![cfg(test)]

use super::args::Cli;
use crate::codes::{Code, Exit};
use clap::CommandFactory;
use std::fmt::Write as _;

const HEAD: &str = "\
# Command line reference

Generated from the definitions in `src/cli/args`; edit those. `fanout man DIR` writes the same as
man pages.

";

fn render() -> String {
    let mut command = Cli::command().term_width(100).disable_help_flag(true);
    command.build();
    let mut text = HEAD.to_owned();
    section(&mut text, &mut command, "fanout");
    exit_codes(&mut text);
    error_codes(&mut text);
    text
}

fn section(text: &mut String, command: &mut clap::Command, path: &str) {
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(
        text,
        "## `{path}`\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    )
    .unwrap();
    for sub in command.get_subcommands_mut() {
        if !sub.is_hide_set() {
            let path = format!("{path} {}", sub.get_name());
            section(text, sub, &path);
        }
    }
}

fn exit_codes(text: &mut String) {
    text.push_str("## Exit codes\n\n| Exit | Meaning |\n|---:|---|\n");
    for exit in [
        Exit::Done,
        Exit::Failed,
        Exit::Differences,
        Exit::Partial,
        Exit::Locked,
        Exit::Refused,
        Exit::Usage,
        Exit::Bug,
    ] {
        writeln!(text, "| {} | {} |", exit.number(), exit.meaning()).unwrap();
    }
}

fn error_codes(text: &mut String) {
    text.push_str("\n## Error codes\n\n| Code | Exit | What it is |\n|---|---:|---|\n");
    for code in Code::all() {
        writeln!(
            text,
            "| [{code}](errors/{code}.md) | {} | {} |",
            code.exit().number(),
            code.title()
        )
        .unwrap();
    }
}

#[test]
fn the_reference_is_what_the_code_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli-reference.md");
    let wanted = render();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/cli-reference.md is out of date: UPDATE_REFERENCE=1 cargo test cli::reference"
    );
}

/// A page that names an option which doesn't exist sends its reader into the next error.
#[test]
fn every_option_that_an_error_page_names_exists() {
    fn collect(command: &clap::Command, options: &mut Vec<String>) {
        let longs = command
            .get_arguments()
            .filter_map(|argument| argument.get_long());
        options.extend(longs.map(|long| format!("--{long}")));
        for sub in command.get_subcommands() {
            collect(sub, options);
        }
    }
    let mut options = vec!["--help".to_owned(), "--version".to_owned()];
    collect(&Cli::command(), &mut options);
    for code in Code::all() {
        for line in code.page().lines().filter(|line| line.contains("fanout")) {
            let words = line.split(|c: char| !c.is_ascii_lowercase() && c != '-');
            for word in words.filter(|word| word.starts_with("--")) {
                assert!(options.iter().any(|known| known == word), "{code}: {word}");
            }
        }
    }
}

/// Nor may it name a command that doesn't exist.
#[test]
fn every_command_that_an_error_page_names_exists() {
    let command = Cli::command();
    for code in Code::all() {
        let page = code.page().replace("$ fanout ", "`fanout ");
        for quoted in page.split("`fanout ").skip(1) {
            let mut at = &command;
            let call = quoted.split(['`', '\n']).next().unwrap();
            let mut words = call.split(' ').peekable();
            while let Some(word) = words.next_if(|_| at.has_subcommands()) {
                if word == "--dir" {
                    words.next();
                    continue;
                }
                if word.starts_with('-') {
                    break;
                }
                let next = at.find_subcommand(word);
                assert!(next.is_some(), "{code}: fanout ... {word}");
                at = next.unwrap();
            }
        }
    }
}
