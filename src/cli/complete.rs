//! Completion: the script a shell loads, and the answers it asks for at each TAB.
//!
//! The script calls fanout itself with `FANOUT_COMPLETE` set, so that names of servers, clusters
//! and platforms complete from the inventory as it is now. An inventory that can't be read
//! completes nothing; completion never complains.

use super::args::Cli;
use crate::codes::Code;
use clap::CommandFactory;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

const VARIABLE: &str = "FANOUT_COMPLETE";

/// Answers a shell's question, if this process was started to answer one.
pub(super) fn answer(arguments: &[OsString]) -> Result<bool, clap::Error> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .try_complete(arguments.to_vec(), directory.as_deref())
}

/// The script that makes `shell` ask.
pub(super) fn script(shell: Shell) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| io::Error::other(format!("No completion for {shell}")))?;
    completer.write_registration(VARIABLE, "fanout", "fanout", "fanout", &mut script)?;
    Ok(script)
}

/// Names of servers.
pub(super) fn servers() -> Vec<CompletionCandidate> {
    names(&["servers"])
}

/// Names of platforms.
pub(super) fn platforms() -> Vec<CompletionCandidate> {
    names(&["platforms"])
}

/// Names of clusters.
pub(super) fn clusters() -> Vec<CompletionCandidate> {
    names(&["clusters"])
}

/// Names of balancers.
pub(super) fn balancers() -> Vec<CompletionCandidate> {
    names(&["balancers"])
}

/// Addresses of sites.
pub(super) fn sites() -> Vec<CompletionCandidate> {
    names(&["sites"])
}

/// Names of secrets that the inventory refers to.
pub(super) fn secrets() -> Vec<CompletionCandidate> {
    let text = inventory_text();
    secrets_in(&text)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// What a platform can live on.
pub(super) fn targets() -> Vec<CompletionCandidate> {
    names(&["clusters", "servers"])
}

/// Every name in the inventory.
pub(super) fn anything() -> Vec<CompletionCandidate> {
    names(&["platforms", "sites", "clusters", "servers", "balancers"])
}

/// Error codes with their titles.
pub(super) fn codes() -> Vec<CompletionCandidate> {
    Code::all()
        .map(|code| CompletionCandidate::new(code.id()).help(Some(code.title().into())))
        .collect()
}

fn names(sections: &[&str]) -> Vec<CompletionCandidate> {
    names_in(&inventory_text(), sections)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

fn inventory_text() -> String {
    let path = directory(std::env::args_os()).join("fanout.toml");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The names behind `secret:` in a text.
fn secrets_in(inventory: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut names: Vec<String> = inventory
        .split("secret:")
        .skip(1)
        .filter_map(|rest| rest.split(|c| !is_part(c)).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The inventory's directory as the command line under the cursor has it.
fn directory(arguments: impl Iterator<Item = OsString>) -> PathBuf {
    let mut arguments = arguments.skip_while(|argument| argument != "--dir");
    arguments
        .nth(1)
        .or_else(|| std::env::var_os("FANOUT_DIR"))
        .map_or_else(|| super::INVENTORY_DIR.into(), PathBuf::from)
}

fn names_in(inventory: &str, sections: &[&str]) -> Vec<String> {
    let Ok(inventory) = inventory.parse::<toml::Table>() else {
        return Vec::new();
    };
    sections
        .iter()
        .filter_map(|section| inventory.get(*section)?.as_table())
        .flat_map(|entries| entries.keys().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_complete_from_the_inventory() {
        let inventory = r#"
            [servers.web1]
            address = "web1:4600"
            [servers.web2]
            address = "web2:4600"
            [clusters.front]
            members = ["web1", "web2"]
        "#;
        assert_eq!(names_in(inventory, &["servers"]), ["web1", "web2"]);
        assert_eq!(
            names_in(inventory, &["clusters", "servers"]),
            ["front", "web1", "web2"]
        );
        assert!(names_in(inventory, &["platforms"]).is_empty());
        assert!(names_in("[servers.web1", &["servers"]).is_empty());
        assert!(names_in("servers = 3", &["servers"]).is_empty());
    }

    #[test]
    fn names_of_secrets_complete_from_what_refers_to_them() {
        let text = "admin = \"secret:db1-admin\"\nkey = 'secret:tls' # secret:db1-admin";
        assert_eq!(secrets_in(text), ["db1-admin", "tls"]);
    }

    #[test]
    fn the_directory_on_the_command_line_counts() {
        let line = ["fanout", "--", "fanout", "--dir", "/hub", "push"];
        let directory = directory(line.into_iter().map(OsString::from));
        assert_eq!(directory, PathBuf::from("/hub"));
    }

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [
            Shell::Bash,
            Shell::Zsh,
            Shell::Fish,
            Shell::Elvish,
            Shell::PowerShell,
        ] {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains(VARIABLE), "{shell}");
        }
    }
}
