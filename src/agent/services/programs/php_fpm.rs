//! PHP-FPM, each version for itself. A reload waits for running requests as long as
//! `process_control_timeout` says, and drops them where that is 0, as it is unless it was set.

use super::mirror::{Mirror, Syntax, matches};
use super::{Found, LOOK, Staged, blamed, cleaned, fault, installed, not_running, running, tested};
use crate::agent::services::config::place::disk;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::net::probe;
use crate::proc::{Program, Tell, tell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sync_proto::wire::service::{ConfigArea, PhpFacts};

const AREA: ConfigArea = ConfigArea::PhpFpm;
const DIRECTORY: &str = "php-fpm";
/// What a reload may take besides the wait for requests.
const RELOAD: Duration = Duration::from_secs(5);

/// An installed PHP-FPM.
struct Fpm {
    version: String,
    binary: PathBuf,
    config: PathBuf,
}

impl Fpm {
    fn name(&self) -> String {
        format!("php{}-fpm", self.version)
    }

    /// What it says about its configuration, one setting a line.
    async fn settings(&self) -> Vec<(String, String)> {
        let dump = Program::new(&self.binary)
            .arg("-tt")
            .arg("-y")
            .arg(&self.config);
        let Ok((_, said)) = tested(dump).await else {
            return Vec::new();
        };
        let lines = said
            .lines()
            .filter_map(|it| it.split_once("NOTICE:")?.1.split_once('='));
        let settings = lines.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        // Pools follow the global section, with keys of their own.
        settings.take_while(|(key, _)| key != "prefix").collect()
    }

    async fn pid_file(&self) -> PathBuf {
        let settings = self.settings().await;
        let own = settings.into_iter().find(|(key, _)| key == "pid");
        match own {
            Some((_, path)) if path.starts_with('/') => path.into(),
            _ => format!("/run/php/php{}-fpm.pid", self.version).into(),
        }
    }

    fn process(&self, pid_file: &Path) -> Option<u32> {
        let name = self.binary.file_name()?.to_string_lossy().into_owned();
        running(pid_file, &name)
    }
}

/// Every installed version, lowest first.
async fn all() -> Vec<Fpm> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for directory in super::DIRECTORIES {
        let all = system::names(Path::new(directory)).into_iter();
        names.extend(all.filter(|it| {
            let version = it.strip_prefix("php-fpm");
            version.is_some_and(|it| it.chars().all(|c| c.is_ascii_digit() || c == '.'))
        }));
    }
    let mut found: Vec<Fpm> = Vec::new();
    for name in names {
        let Some(binary) = installed(&[&name]) else {
            continue;
        };
        let Ok(output) = Program::new(&binary).arg("-v").succeed().await else {
            continue;
        };
        let said = output.text();
        let full = said
            .strip_prefix("PHP ")
            .and_then(|it| it.split_whitespace().next());
        let Some(full) = full else { continue };
        let version = full.split('.').take(2).collect::<Vec<_>>().join(".");
        if found.iter().any(|it| it.version == version) {
            continue;
        }
        let debian = PathBuf::from(format!("/etc/php/{version}/fpm/php-fpm.conf"));
        let config = match system::exists(&debian) {
            true => debian,
            false => "/etc/php-fpm.conf".into(),
        };
        found.push(Fpm {
            version,
            binary,
            config,
        });
    }
    let number = |it: &Fpm| -> Vec<u32> {
        it.version
            .split('.')
            .filter_map(|it| it.parse().ok())
            .collect()
    };
    found.sort_by_key(number);
    found
}

async fn of(version: &str) -> Option<Fpm> {
    all().await.into_iter().find(|it| it.version == version)
}

pub(super) async fn facts(current: &Path) -> Vec<PhpFacts> {
    let mut facts = Vec::new();
    for fpm in all().await {
        let mirror = Mirror {
            syntax: Syntax::PhpFpm,
            base: Path::new("/"),
            current,
            ours: &|_| String::new(),
        };
        let (_, is_included) = mirror.of(&fpm.config);
        let settings = fpm.settings().await;
        let timeout = settings
            .iter()
            .find(|(key, _)| key == "process_control_timeout");
        let timeout = timeout.and_then(|(_, value)| value.trim_end_matches('s').parse().ok());
        let pid_file = fpm.pid_file().await;
        let asked = |argument: &str| Program::new(&fpm.binary).arg(argument);
        let extensions = asked("-m").succeed().await.map_or(Vec::new(), |output| {
            let text = output.text();
            let lines = text.lines().map(str::trim);
            let names = lines.filter(|it| !it.is_empty() && !it.starts_with('['));
            names.map(str::to_owned).collect()
        });
        let info = asked("-i")
            .succeed()
            .await
            .map_or(String::new(), |it| it.text());
        let validates = info
            .lines()
            .find_map(|it| it.strip_prefix("opcache.validate_timestamps"))
            // Without OPcache every file is looked at.
            .is_none_or(|rest| rest.contains("On"));
        let cli = installed(&[&format!("php{}", fpm.version), "php"]);
        let socket_dir = pid_file.parent().filter(|it| it.starts_with("/run/php"));
        facts.push(PhpFacts {
            is_running: fpm.process(&pid_file).is_some(),
            version: fpm.version.clone(),
            binary: fpm.binary.display().to_string(),
            cli: cli.map(|it| it.display().to_string()).unwrap_or_default(),
            config: fpm.config.display().to_string(),
            is_included,
            control_timeout_s: timeout.unwrap_or(0),
            validates_timestamps: validates,
            extensions,
            socket_dir: socket_dir
                .unwrap_or(Path::new("/run/php"))
                .display()
                .to_string(),
        });
    }
    facts
}

pub(super) async fn is_ready(version: &str) -> Result<(), Problem> {
    let name = format!("php{version}-fpm");
    let fpm = of(version).await.ok_or_else(|| not_running(&name))?;
    let pid_file = fpm.pid_file().await;
    match fpm.process(&pid_file) {
        Some(_) => Ok(()),
        None => Err(not_running(&name)),
    }
}

/// The version that a pool's file name begins with.
pub(super) fn version_of(name: &str) -> Option<&str> {
    name.split_once('-').map(|(version, _)| version)
}

pub(super) async fn test(staged: &Staged, found: &mut Found) -> Result<(), Problem> {
    let pools = staged.files.iter().filter(|(area, _)| *area == AREA);
    let versions: BTreeSet<&str> = pools.filter_map(|(_, name)| version_of(name)).collect();
    for version in versions {
        let Some(fpm) = of(version).await else {
            let message = format!("PHP-FPM {version} isn't installed here");
            found.faults.push(fault(AREA, "", message));
            continue;
        };
        test_one(&fpm, staged, found).await?;
        let pid_file = fpm.pid_file().await;
        if fpm.process(&pid_file).is_none() {
            let name = fpm.name();
            let warning = format!("{name} isn't running: the set can't go live until it is");
            found.warnings.push(warning);
        }
    }
    Ok(())
}

async fn test_one(fpm: &Fpm, staged: &Staged, found: &mut Found) -> Result<(), Problem> {
    let mut bad: BTreeSet<String> = BTreeSet::new();
    loop {
        let (passes, said) = run(fpm, staged, &|it| !bad.contains(it)).await?;
        if passes {
            return Ok(());
        }
        let named = blamed(&said, staged, AREA, DIRECTORY).map(str::to_owned);
        let mut culprits: Vec<(String, String)> = Vec::new();
        match named.filter(|it| !bad.contains(it)) {
            Some(name) => culprits.push((name, said.clone())),
            None => {
                let own = staged.files.iter().filter(|(area, name)| {
                    *area == AREA
                        && version_of(name) == Some(fpm.version.as_str())
                        && !bad.contains(name)
                });
                for (_, name) in own {
                    let (passes, said) = run(fpm, staged, &|it| it == name).await?;
                    if !passes {
                        culprits.push((name.clone(), said));
                    }
                }
            }
        }
        let all = staged
            .files
            .iter()
            .filter(|(area, _)| *area == AREA)
            .count();
        if culprits.is_empty() || (culprits.len() == all && all > 1) {
            // It isn't one of them: the machine's own configuration, or a missing include.
            found.faults.push(fault(AREA, "", cleaned(&said, staged)));
            return Ok(());
        }
        for (name, said) in culprits {
            found
                .faults
                .push(fault(AREA, &name, cleaned(&said, staged)));
            bad.insert(name);
        }
    }
}

async fn run(
    fpm: &Fpm,
    staged: &Staged,
    includes: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(bool, String), Problem> {
    let ours = |rest: &str| {
        let pattern = rest
            .strip_prefix(DIRECTORY)
            .and_then(|it| it.strip_prefix('/'));
        let files = staged.files.iter().filter(|(area, name)| {
            *area == AREA && pattern.is_some_and(|it| matches(it, name)) && includes(name)
        });
        files
            .map(|(_, name)| Syntax::PhpFpm.include(&staged.copy.join(DIRECTORY).join(name)))
            .collect()
    };
    let mirror = Mirror {
        syntax: Syntax::PhpFpm,
        base: Path::new("/"),
        current: &staged.current,
        ours: &ours,
    };
    let (text, is_included) = mirror.of(&fpm.config);
    if !is_included {
        let line = format!(
            "include={}/php-fpm/{}-*.conf",
            staged.current.display(),
            fpm.version
        );
        let message = format!(
            "PHP-FPM doesn't include fanout's pools: put `{line}` at the end of {}, or run `fanout \
             setup server`",
            fpm.config.display()
        );
        return Ok((false, message));
    }
    let main = staged.copy.join(format!("{}.conf", fpm.name()));
    system::replace(&main, text.as_bytes(), 0o600).map_err(disk)?;
    let (passes, said) = tested(Program::new(&fpm.binary).arg("-t").arg("-y").arg(&main)).await?;
    let said: Vec<&str> = said
        .lines()
        .filter(|it| it.contains("ERROR") || it.contains("ALERT"))
        .map(|it| it.split_once("] ").map_or(it, |(_, rest)| rest))
        .collect();
    Ok((passes, said.join("\n")))
}

/// Tells one version to begin anew with its pools, and waits until it has, and until these sockets
/// accept.
pub(super) async fn reload(version: &str, sockets: &[PathBuf]) -> Result<(), Problem> {
    let name = format!("php{version}-fpm");
    let fpm = of(version).await.ok_or_else(|| not_running(&name))?;
    let settings = fpm.settings().await;
    // ORDER: a PHP-FPM that can't read its pools after this signal ends.
    let (passes, said) = tested(
        Program::new(&fpm.binary)
            .arg("-t")
            .arg("-y")
            .arg(&fpm.config),
    )
    .await?;
    if !passes {
        let message = format!("{name} refuses its configuration: {said}");
        return Err(Problem::new(Code::NotProved, message));
    }
    let pid_file = fpm.pid_file().await;
    let pid = fpm.process(&pid_file).ok_or_else(|| not_running(&name))?;
    let before = system::stamp(&pid_file);
    tell(pid, Tell::Reload).map_err(|error| Problem::from_error(Code::ProgramFailed, &error))?;
    let timeout = settings
        .iter()
        .find(|(key, _)| key == "process_control_timeout");
    let timeout = timeout.and_then(|(_, value)| value.trim_end_matches('s').parse().ok());
    let limit = RELOAD + Duration::from_secs(timeout.unwrap_or(0));
    let started = Instant::now();
    while started.elapsed() < limit {
        // It writes its process into the file once it has read its pools.
        let is_new = system::stamp(&pid_file) != before && fpm.process(&pid_file).is_some();
        if is_new && all_accept(sockets).await {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    let message = format!("{name} was reloaded, but its pools don't answer");
    Err(Problem::new(Code::NotProved, message))
}

async fn all_accept(sockets: &[PathBuf]) -> bool {
    for socket in sockets {
        if !probe::accepts(socket, Duration::from_secs(1)).await {
            return false;
        }
    }
    true
}
