//! Man pages, from the same definitions as `--help`.

use super::args::Cli;
use clap::CommandFactory;
use std::io;
use std::path::Path;

/// Writes a page for each command into `directory`, and returns how many there are.
pub(super) fn write(directory: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(directory)?;
    let command = Cli::command();
    let count = count(&command);
    clap_mangen::generate_to(command, directory)?;
    Ok(count)
}

fn count(command: &clap::Command) -> usize {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    1 + shown.map(count).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_man_page() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("man1");
        let count = write(&pages).unwrap();
        assert_eq!(std::fs::read_dir(&pages).unwrap().count(), count);
        let push = std::fs::read_to_string(pages.join("fanout-push-platform.1")).unwrap();
        assert!(push.contains(r"\-\-allow\-delete"));
        assert!(!pages.join("fanout-agent-connect.1").exists());
    }
}
