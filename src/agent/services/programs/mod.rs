//! The server programs of this machine: what they are, whether they take new files, and how they
//! are told to read them.
//!
//! Refuses to start or stop any: a program that isn't running is said to be so. Invariant: apache
//! and PHP-FPM, which end at a reload that fails, are told only after their own test passed.

mod apache;
mod closing;
mod haproxy;
mod mirror;
mod nginx;
mod php_fpm;
pub(super) mod users;

use super::config::place::Place;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::net::probe;
use crate::proc::{Program, RunError, Tell, tell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sync_proto::wire::service::{ConfigArea, ConfigFault, ProgramFacts, ServiceFacts};

/// How long a program's own test may take: a name that can't be resolved makes nginx wait.
const TEST_LIMIT: Duration = Duration::from_secs(40);
/// LIMIT: tests of single vhosts at a time.
const TESTS_AT_ONCE: usize = 4;
/// How long a web server has to serve its new configuration.
const PROOF: Duration = Duration::from_secs(5);
/// So many answers in a row are the new configuration's.
const ANSWERS: u32 = 10;
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// The directories of server programs.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];

/// A set that is being tested.
#[derive(Debug)]
pub(super) struct Staged {
    /// The copy whose paths lead to itself.
    pub(super) copy: PathBuf,
    /// The live set, as the programs include it.
    pub(super) current: PathBuf,
    /// Its files.
    pub(super) files: Vec<(ConfigArea, String)>,
    /// Those of the live set.
    pub(super) live: Vec<(ConfigArea, String)>,
    /// Files that the live set doesn't have, or has with another content.
    pub(super) changed: BTreeSet<(ConfigArea, String)>,
}

impl Staged {
    /// The vhosts that are new or changed, or include such a file: each is tested alone, so that
    /// none lives on what another one happens to bring. The others were, when they came.
    fn to_be_tested_alone(&self, area: ConfigArea, directory: &str) -> Vec<String> {
        let changed: Vec<&str> = self
            .changed
            .iter()
            .filter(|(of, _)| *of == area)
            .map(|(_, name)| name.as_str())
            .collect();
        let parts: Vec<&&str> = changed.iter().filter(|it| it.starts_with("sub-")).collect();
        let is_due = |name: &str| {
            if is_shared(name) || !name.ends_with(".conf") || name.starts_with("sub-") {
                return false;
            }
            let names_one = || {
                let text = system::read_text(&self.copy.join(directory).join(name));
                text.is_ok_and(|text| parts.iter().any(|part| text.contains(**part)))
            };
            changed.contains(&name) || (!parts.is_empty() && names_one())
        };
        let own = self.files.iter().filter(|(of, _)| *of == area);
        own.map(|(_, name)| name.clone())
            .filter(|name| is_due(name))
            .collect()
    }
}

/// What a test found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) faults: Vec<ConfigFault>,
    pub(super) warnings: Vec<String>,
}

/// What a switch of sets means to the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Versions of PHP-FPM with new or changed pools.
    pub(super) pools: BTreeSet<String>,
    /// Versions that only lost pools.
    pub(super) lost_pools: BTreeSet<String>,
    /// Is nginx, is apache, is HAProxy concerned?
    pub(super) nginx: bool,
    pub(super) apache: bool,
    pub(super) haproxy: bool,
    /// The ports of the health endpoints, by program; where none is, nothing can be asked.
    pub(super) nginx_health: Option<u16>,
    pub(super) apache_health: Option<u16>,
    /// The port where an nginx that balances says what it is about, before the switch.
    pub(super) closing: Option<u16>,
    /// The sockets that accept once PHP-FPM has read its pools.
    pub(super) sockets: Vec<PathBuf>,
}

/// All programs.
#[derive(Debug)]
pub(super) struct Programs {
    place: Place,
}

impl Programs {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            place: place.clone(),
        }
    }

    /// The group of the web server's workers.
    pub(super) fn web_group(&self) -> String {
        let known = crate::fs::owner::Principals::by_name();
        let has = |name: &&&str| {
            known
                .gid(&sync_proto::entry::Principal::Name((**name).into()))
                .is_ok()
        };
        let candidates = ["www-data", "nginx", "apache", "http"];
        candidates
            .iter()
            .find(has)
            .map_or("root", |it| *it)
            .to_owned()
    }

    /// Adds what the programs of this machine are.
    pub(super) async fn facts(&self, facts: &mut ServiceFacts) {
        let current = self.place.current();
        facts.nginx = nginx::facts(&current).await;
        facts.apache = apache::facts(&current).await;
        facts.haproxy = haproxy::facts(&current).await;
        facts.php = php_fpm::facts(&current).await;
        facts.web_group = self.web_group();
    }

    /// Has each program test its part of a set.
    pub(super) async fn test(&self, staged: &Staged) -> Result<Found, Problem> {
        let mut found = Found::default();
        let has = |areas: &[ConfigArea]| staged.files.iter().any(|(area, _)| areas.contains(area));
        if has(&[ConfigArea::PhpFpm]) {
            php_fpm::test(staged, &mut found).await?;
        }
        if has(&[ConfigArea::Nginx, ConfigArea::NginxBalancer]) {
            nginx::test(staged, &mut found).await?;
        }
        if has(&[ConfigArea::Apache]) {
            apache::test(staged, &mut found).await?;
        }
        if has(&[ConfigArea::Haproxy]) {
            haproxy::test(staged, &mut found).await?;
        }
        Ok(found)
    }

    /// Is everything there that a change needs, and does it run?
    ///
    /// # Errors
    /// The first program that isn't.
    pub(super) async fn are_ready(&self, change: &Change) -> Result<(), Problem> {
        for version in change.pools.iter().chain(&change.lost_pools) {
            php_fpm::is_ready(version).await?;
        }
        if change.nginx {
            nginx::is_ready().await?;
        }
        if change.apache {
            apache::is_ready().await?;
        }
        Ok(())
    }

    /// Has the programs read the set that `current` leads to now, and proves by `id` that they
    /// serve it.
    ///
    /// # Errors
    /// The first program that doesn't; those before it have read it.
    pub(super) async fn reload(&self, change: &Change, id: &str) -> Result<Vec<String>, Problem> {
        let mut proved = Vec::new();
        // ORDER: a pool is there before a web server passes requests to it, and goes after.
        for version in &change.pools {
            php_fpm::reload(version, &change.sockets).await?;
            proved.push(format!("php{version}-fpm"));
        }
        if change.nginx {
            // ORDER: what is idle is ended before, and nothing becomes idle until it is over.
            let _closing = match change.closing {
                Some(port) => closing::Closing::begin(&self.place.data(), port).await,
                None => None,
            };
            nginx::reload(change.nginx_health, id).await?;
            proved.push("nginx".into());
        }
        if change.apache {
            apache::reload(change.apache_health, id).await?;
            proved.push("apache".into());
        }
        if change.haproxy && haproxy::reload(&self.place.data()).await? {
            proved.push("haproxy".into());
        }
        for version in change.lost_pools.difference(&change.pools) {
            php_fpm::reload(version, &[]).await?;
            proved.push(format!("php{version}-fpm"));
        }
        Ok(proved)
    }

    /// Takes away what an agent left that died in a reload.
    pub(super) fn settle(&self) {
        closing::end(&self.place.data());
    }

    /// Has apache read other roots of the live set, if it runs with it.
    pub(super) async fn reload_roots(&self, health: Option<u16>, id: &str) -> Result<(), Problem> {
        apache::reload(health, id).await
    }
}

/// What HAProxy is here, and whether its process reads fanout's files.
pub(super) async fn haproxy_facts(current: &Path) -> Option<ProgramFacts> {
    haproxy::facts(current).await
}

/// The first of these programs that is installed.
fn installed(names: &[&str]) -> Option<PathBuf> {
    let paths = names
        .iter()
        .flat_map(|name| DIRECTORIES.iter().map(move |dir| Path::new(dir).join(name)));
    paths.into_iter().find(|path| system::exists(path))
}

/// The process in a pid file, if it runs that program.
fn running(pid_file: &Path, program: &str) -> Option<u32> {
    let pid: u32 = system::read_text(pid_file).ok()?.trim().parse().ok()?;
    tell(pid, Tell::Nothing).ok()?;
    let name = system::read_text(Path::new(&format!("/proc/{pid}/comm"))).ok()?;
    // The kernel keeps 15 characters.
    let expected: String = program.chars().take(15).collect();
    (name.trim() == expected).then_some(pid)
}

/// A program that could not be asked.
fn not_run(error: &RunError) -> Problem {
    Problem::from_error(Code::ProgramFailed, error)
}

/// A program that should run doesn't.
fn not_running(program: &str) -> Problem {
    Problem::new(
        Code::ProgramNotRunning,
        format!("{program} isn't running here"),
    )
}

fn fault(area: ConfigArea, name: &str, message: impl Into<String>) -> ConfigFault {
    ConfigFault {
        area,
        name: name.to_owned(),
        message: message.into(),
    }
}

/// Polls a health endpoint until it serves this id, and nobody else answers any more: workers with
/// the old configuration accept a few more connections while they learn that they shall end.
async fn proved(port: u16, id: &str, old: &[u32]) -> Result<(), String> {
    let started = Instant::now();
    let mut last = String::from("nobody answers");
    let mut in_a_row = 0;
    while started.elapsed() < PROOF {
        match probe::page(port, "/.fanout/generation", Duration::from_secs(1)).await {
            Ok((200, body)) if body.trim() == id => in_a_row += 1,
            Ok((status, _)) => {
                in_a_row = 0;
                last = format!("status {status} and another generation");
            }
            Err(error) => {
                in_a_row = 0;
                last = error.to_string();
            }
        }
        if in_a_row >= ANSWERS && old.iter().all(|pid| is_leaving(*pid)) {
            return Ok(());
        }
        if in_a_row == 0 {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if in_a_row > 0 {
        // It serves the new one; old workers that don't say that they end are no reason to go back.
        return Ok(());
    }
    Err(format!("port {port}: {last}"))
}

/// The children of a process, where the kernel says.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = system::read_text(Path::new(&path)).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|it| it.parse().ok())
        .collect()
}

/// Has a worker ended, or does it say that it ends?
fn is_leaving(pid: u32) -> bool {
    let title = system::read_text(Path::new(&format!("/proc/{pid}/cmdline")));
    title.map_or(true, |it| it.is_empty() || it.contains("shutting down"))
}

/// The port in the name of a health endpoint's file.
pub(super) fn health_port(files: &[(ConfigArea, String)], area: ConfigArea) -> Option<u16> {
    let names = files.iter().filter(|(of, _)| *of == area);
    names.into_iter().find_map(|(_, name)| {
        let port = name.strip_prefix("00-health-")?.strip_suffix(".conf")?;
        port.parse().ok()
    })
}

/// Where our files are named in what a program said, one of these areas first: its name.
fn blamed<'a>(
    said: &str,
    staged: &'a Staged,
    area: ConfigArea,
    directory: &str,
) -> Option<&'a str> {
    let prefix = format!("{}/{directory}/", staged.copy.display());
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let named = said.match_indices(&prefix).map(|(at, prefix)| {
        let rest = &said[at + prefix.len()..];
        let end = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.')
    });
    named.into_iter().find_map(|name| {
        let files = staged.files.iter();
        let mut own = files
            .filter(|(of, _)| *of == area)
            .map(|(_, name)| name.as_str());
        own.find(|it| *it == name)
    })
}

/// What a program said, with the copy's paths as people know them.
fn cleaned(said: &str, staged: &Staged) -> String {
    let copy = format!("{}/", staged.copy.display());
    said.replace(&copy, "").trim().to_owned()
}

/// Is the file shared by all sites, so that it can't be left out?
fn is_shared(name: &str) -> bool {
    name.starts_with("00-")
}

/// Runs a program's own test.
async fn tested(program: Program) -> Result<(bool, String), Problem> {
    let output = program.timeout(TEST_LIMIT).cut_output().run().await;
    let output = output.map_err(|error| not_run(&error))?;
    let said = format!("{}\n{}", output.complaint(), output.text());
    Ok((output.status.success(), said.trim().to_owned()))
}

/// Carries out all of these, a few at a time, in their order.
async fn waves<K, P, F, T>(
    all: Vec<(K, P)>,
    carry_out: impl Fn(P) -> F,
) -> Result<Vec<(K, T)>, Problem>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
    T: Send + 'static,
{
    let mut done = Vec::with_capacity(all.len());
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let wave = all.by_ref().take(TESTS_AT_ONCE);
        let wave: Vec<_> = wave
            .map(|(key, one)| (key, tokio::spawn(carry_out(one))))
            .collect();
        for (key, task) in wave {
            let outcome = task.await;
            let outcome = outcome.map_err(|error| Problem::from_error(Code::Bug, &error))?;
            done.push((key, outcome?));
        }
    }
    Ok(done)
}

/// Ports that these files open and that the live ones don't, taken by another program.
fn taken_ports(wanted: &BTreeSet<u16>, own: &BTreeSet<u16>) -> Vec<u16> {
    let new = wanted.difference(own);
    new.copied()
        .filter(|port| !probe::is_port_free(*port))
        .collect()
}
