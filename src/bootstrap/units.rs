//! The systemd units, compiled in, so that the one binary is all that a machine needs.

use crate::model::AbsPath;
use std::fmt::Write as _;

/// The agent's service, as it is packaged. Its comments give the reason for every privilege.
pub const AGENT_SERVICE: &str = include_str!("../../scripts/systemd/fanout-agent.service");
/// What an agent that offers services needs beside that.
pub const AGENT_SERVICES: &str =
    include_str!("../../scripts/systemd/fanout-agent.service.d/services.conf");
/// The hub's resync, run by the timer.
pub const RESYNC_SERVICE: &str = include_str!("../../scripts/systemd/fanout-resync.service");
/// When the hub resyncs.
pub const RESYNC_TIMER: &str = include_str!("../../scripts/systemd/fanout-resync.timer");

/// The lines that depend on where things are.
const START: &str = "ExecStart=/usr/local/bin/fanout agent run\n";
const WRITABLE: &str = "ReadWritePaths=-/srv -/var/www\n";
const HOMES: &str = "ProtectHome=yes\n";

/// The agent's service for this executable, this directory and these allowed directories.
pub(super) fn agent_service(
    binary: &str,
    agent_dir: Option<&str>,
    allow: &[AbsPath],
    prefix: Option<&AbsPath>,
) -> String {
    // Only a command line has variables.
    let argument = |text: &str| word(text).replace('$', "$$");
    let mut start = format!("ExecStart={} agent run", argument(binary));
    let mut writable = String::from("ReadWritePaths=");
    if let Some(dir) = agent_dir {
        let _infallible = write!(start, " --dir {}", argument(dir));
        writable.push_str(&word(dir));
        writable.push(' ');
    }
    let managed: Vec<&AbsPath> = match prefix {
        Some(prefix) => vec![prefix],
        None => allow.iter().collect(),
    };
    // A directory that doesn't exist yet must not keep the agent from starting.
    let words: Vec<String> = managed
        .iter()
        .map(|path| word(&format!("-{path}")))
        .collect();
    writable.push_str(&words.join(" "));
    let mut unit = AGENT_SERVICE
        .replace(START, &format!("{start}\n"))
        .replace(WRITABLE, &format!("{writable}\n"));
    let below_home = |path: &str| {
        ["/home", "/root", "/run/user"]
            .iter()
            .any(|home| path == *home || path.starts_with(&format!("{home}/")))
    };
    let mut everything = managed.iter().map(|path| path.as_str()).chain(agent_dir);
    if everything.any(below_home) {
        // What is listed as writable stays so; the other homes can only be read.
        unit = unit.replace(HOMES, "ProtectHome=read-only\n");
    }
    unit
}

/// One word of a unit file (systemd.syntax(7)); `%` begins a specifier.
fn word(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    if escaped.contains([' ', '\t', '\'', '"', '\\', ';']) {
        format!("\"{escaped}\"")
    } else {
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<AbsPath> {
        list.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn the_packaged_unit_is_that_of_the_usual_places() {
        let unit = agent_service(
            "/usr/local/bin/fanout",
            None,
            &paths(&["/srv", "/var/www"]),
            None,
        );
        assert_eq!(unit, AGENT_SERVICE);
        for line in [START, WRITABLE, HOMES] {
            assert_eq!(AGENT_SERVICE.matches(line).count(), 1, "{line}");
        }
    }

    #[test]
    fn the_unit_lets_the_agent_write_where_it_is_allowed_to() {
        let unit = agent_service(
            "/opt/my $tools/fanout",
            Some("/home/a/100%"),
            &paths(&["/srv/$x"]),
            None,
        );
        let has = |line: &str| unit.lines().any(|found| found == line);
        assert!(
            has("ExecStart=\"/opt/my $$tools/fanout\" agent run --dir /home/a/100%%"),
            "{unit}"
        );
        assert!(has("ReadWritePaths=/home/a/100%% -/srv/$x"), "{unit}");
        assert!(has("ProtectHome=read-only"), "{unit}");
    }

    #[test]
    fn what_makes_openat2_fail_stays_off() {
        for unit in [AGENT_SERVICE, RESYNC_SERVICE] {
            let settings = unit.lines().filter(|line| !line.starts_with('#'));
            for line in settings {
                assert!(!line.starts_with("RestrictSUIDSGID="), "{line}");
                assert!(!line.starts_with("DynamicUser="), "{line}");
            }
        }
    }
}
