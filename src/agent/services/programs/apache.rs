//! apache. It ends at a reload that it can't carry out, with all its sites: so it is told only by
//! `-k graceful`, only after its own test, and never while another program has a port that it would
//! open.

use super::mirror::{Mirror, Syntax, matches};
use super::{
    Found, Staged, blamed, cleaned, fault, installed, is_shared, not_run, not_running, proved,
    running, taken_ports, tested, waves,
};
use crate::agent::services::config::place::disk;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::proc::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use sync_proto::wire::service::{ConfigArea, ProgramFacts};

const AREA: ConfigArea = ConfigArea::Apache;
const DIRECTORY: &str = "apache";

/// An installed apache.
struct Apache {
    /// The program that knows its environment, as its distribution wants it called.
    control: PathBuf,
    version: String,
    root: PathBuf,
    config: PathBuf,
}

impl Apache {
    fn program(&self) -> Program {
        Program::new(&self.control)
    }

    /// The process that serves, and where that is written.
    async fn process(&self) -> Option<u32> {
        let output = self
            .program()
            .args(["-t", "-D", "DUMP_RUN_CFG"])
            .run()
            .await
            .ok()?;
        let said = format!("{}\n{}", output.text(), output.complaint());
        let written = said
            .lines()
            .find_map(|it| it.trim().strip_prefix("PidFile:"));
        let file = match written {
            Some(file) => PathBuf::from(file.trim().trim_matches('"')),
            // With a configuration that can't be read it doesn't say.
            None => ["/run/apache2/apache2.pid", "/run/httpd/httpd.pid"]
                .map(PathBuf::from)
                .into_iter()
                .find(|it| system::exists(it))?,
        };
        running(&file, "apache2").or_else(|| running(&file, "httpd"))
    }
}

async fn found() -> Option<Apache> {
    let control = installed(&["apache2ctl", "apachectl", "httpd"])?;
    let output = Program::new(&control).arg("-V").run().await.ok()?;
    let said = output.text();
    let defined = |name: &str| {
        let mut lines = said.lines().map(str::trim);
        let value = lines.find_map(|it| {
            it.strip_prefix("-D ")?
                .strip_prefix(name)?
                .strip_prefix('=')
        });
        value.map(|it| it.trim_matches('"').to_owned())
    };
    let version = said
        .split("Apache/")
        .nth(1)?
        .split_whitespace()
        .next()?
        .to_owned();
    let root = PathBuf::from(defined("HTTPD_ROOT")?);
    let config = root.join(defined("SERVER_CONFIG_FILE")?);
    Some(Apache {
        control,
        version,
        root,
        config,
    })
}

pub(super) async fn facts(current: &Path) -> Option<ProgramFacts> {
    let apache = found().await?;
    let mirror = Mirror {
        syntax: Syntax::Apache,
        base: &apache.root,
        current,
        ours: &|_| String::new(),
    };
    let (_, is_included) = mirror.of(&apache.config);
    let listed = apache.program().arg("-M").run().await;
    let modules: Vec<String> = listed.map_or(Vec::new(), |output| {
        let text = output.text();
        let names = text.lines().filter_map(|it| it.trim().split_once(" ("));
        names.map(|(name, _)| name.to_owned()).collect()
    });
    let (own_ports, own_defaults) = ports_of(&own_files(&apache, current).await, &modules);
    Some(ProgramFacts {
        is_running: apache.process().await.is_some(),
        version: apache.version,
        binary: apache.control.display().to_string(),
        config: apache.config.display().to_string(),
        is_included,
        modules,
        own_ports: own_ports.into_iter().collect(),
        own_defaults: own_defaults.into_iter().collect(),
    })
}

/// The machine's own configuration files.
async fn own_files(apache: &Apache, current: &Path) -> Vec<PathBuf> {
    let dump = apache
        .program()
        .args(["-t", "-D", "DUMP_INCLUDES"])
        .run()
        .await;
    let own = current.parent().unwrap_or(current);
    let text = dump.map_or(String::new(), |it| it.text());
    let paths = text.lines().filter_map(|line| line.trim().split_once(") "));
    let paths = paths.map(|(_, path)| PathBuf::from(path.trim()));
    let mut files: Vec<PathBuf> = paths.filter(|it| !it.starts_with(own)).collect();
    if !files.contains(&apache.config) {
        files.push(apache.config.clone());
    }
    files
}

/// The ports that files listen on and those that have a vhost, as far as modules are loaded.
fn ports_of(files: &[PathBuf], modules: &[String]) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let (mut listens, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let text = system::read_text(file).unwrap_or_default();
        // How many blocks are open that don't hold.
        let mut skipped: Vec<bool> = Vec::new();
        for line in text.lines().map(str::trim) {
            let lower = line.to_ascii_lowercase();
            if let Some(condition) = lower.strip_prefix("<ifmodule ") {
                let condition = condition.trim_end_matches('>').trim();
                let (negated, name) = match condition.strip_prefix('!') {
                    Some(name) => (true, name),
                    None => (false, condition),
                };
                // By the module's name or by that of its file.
                let name = name.trim_start_matches("mod_").trim_end_matches(".c");
                let name = format!("{}_module", name.trim_end_matches("_module"));
                let has = modules.contains(&name);
                skipped.push(has == negated);
            } else if lower.starts_with("</ifmodule") {
                skipped.pop();
            } else if skipped.contains(&true) {
            } else if let Some(rest) = lower.strip_prefix("listen ") {
                let address = rest.split_whitespace().next().unwrap_or_default();
                let port: Option<u16> = port_of(address);
                listens.extend(port);
            } else if let Some(rest) = lower.strip_prefix("<virtualhost ") {
                for address in rest.trim_end_matches('>').split_whitespace() {
                    let port: Option<u16> = port_of(address);
                    hosts.extend(port);
                }
            }
        }
    }
    (listens, hosts)
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit(':').next()?.parse().ok()
}

pub(super) async fn is_ready() -> Result<(), Problem> {
    let apache = found().await.ok_or_else(|| not_running("apache"))?;
    match apache.process().await {
        Some(_) => Ok(()),
        None => Err(not_running("apache")),
    }
}

pub(super) async fn test(staged: &Staged, found_so_far: &mut Found) -> Result<(), Problem> {
    let Some(apache) = found().await else {
        found_so_far
            .faults
            .push(fault(AREA, "", "apache isn't installed here"));
        return Ok(());
    };
    let (is_sound, baseline) = run(&apache, staged, &|_| false, &["-t"]).await?;
    if !is_sound {
        let message = format!("This machine's own configuration is broken: {baseline}");
        found_so_far.faults.push(fault(AREA, "", message));
        return Ok(());
    }
    let mut bad: BTreeSet<String> = BTreeSet::new();
    for (name, said) in alone(&apache, staged).await? {
        if !bad.contains(&name) {
            let message = cleaned(&said, staged);
            found_so_far.faults.push(fault(AREA, &name, message));
            bad.insert(name);
        }
    }
    loop {
        let without = |it: &str| !bad.contains(it);
        let (passes, said) = run(&apache, staged, &without, &["-t"]).await?;
        if passes {
            break;
        }
        let culprits = refused(&apache, staged, &bad, &said).await?;
        if culprits.is_empty() {
            found_so_far
                .faults
                .push(fault(AREA, "", cleaned(&said, staged)));
            return Ok(());
        }
        for (name, said) in culprits {
            found_so_far
                .faults
                .push(fault(AREA, &name, cleaned(&said, staged)));
            bad.insert(name);
        }
    }
    let dump = ["-t", "-D", "DUMP_VHOSTS"];
    let (_, dump) = run(&apache, staged, &|it| !bad.contains(it), &dump).await?;
    for (name, message) in doubled(&dump, staged) {
        found_so_far.faults.push(fault(AREA, &name, message));
    }
    let files = |set: &Path, files: &[(ConfigArea, String)]| -> Vec<PathBuf> {
        let own = files.iter().filter(|(area, _)| *area == AREA);
        own.map(|(_, name)| set.join(DIRECTORY).join(name))
            .collect()
    };
    let own = own_files(&apache, &staged.current).await;
    let (mut live, _) = ports_of(&own, &["ssl_module".into()]);
    live.extend(ports_of(&files(&staged.current, &staged.live), &[]).0);
    let (wanted, _) = ports_of(&files(&staged.copy, &staged.files), &[]);
    for port in taken_ports(&wanted, &live) {
        let message = format!("Port {port} is taken by another program");
        found_so_far.faults.push(fault(AREA, "", message));
    }
    if apache.process().await.is_none() {
        let warning = "apache isn't running: the set can't go live until it is";
        found_so_far.warnings.push(warning.into());
    }
    Ok(())
}

/// The new and changed vhosts that apache refuses each by itself.
async fn alone(apache: &Apache, staged: &Staged) -> Result<Vec<(String, String)>, Problem> {
    let due = staged.to_be_tested_alone(AREA, DIRECTORY);
    let mut tests = Vec::new();
    for (number, name) in due.into_iter().enumerate() {
        let main = format!("apache-main-{number}.conf");
        let only = |it: &str| it == name || is_shared(it) || it.starts_with("sub-");
        let test = prepared(apache, staged, &main, &only, &["-t"])?;
        tests.push((name, test));
    }
    let mut refused = Vec::new();
    for (name, (passes, said)) in waves(tests, Prepared::outcome).await? {
        if !passes {
            let blamed = blamed(&said, staged, AREA, DIRECTORY).filter(|it| !is_shared(it));
            refused.push((blamed.unwrap_or(&name).to_owned(), said));
        }
    }
    Ok(refused)
}

/// A test that only has to be run.
enum Prepared {
    Test(Program),
    Refused(String),
}

impl Prepared {
    async fn outcome(self) -> Result<(bool, String), Problem> {
        let program = match self {
            Self::Test(program) => program,
            Self::Refused(message) => return Ok((false, message)),
        };
        let (passes, said) = tested(program).await?;
        let noise = [
            "AH00558",
            "Syntax OK",
            "Action '",
            "error log may have more",
            "AH00112",
        ];
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !noise.iter().any(|it| line.contains(it)))
            .collect();
        Ok((passes, said.join("\n")))
    }
}

/// Runs apache with those files of the set that `includes` picks.
async fn run(
    apache: &Apache,
    staged: &Staged,
    includes: &(dyn Fn(&str) -> bool + Sync),
    arguments: &[&str],
) -> Result<(bool, String), Problem> {
    let test = prepared(apache, staged, "apache-main.conf", includes, arguments)?;
    test.outcome().await
}

/// apache with the machine's main configuration, as a file called `main`, and those files of the
/// set that `includes` picks.
fn prepared(
    apache: &Apache,
    staged: &Staged,
    main: &str,
    includes: &(dyn Fn(&str) -> bool + Sync),
    arguments: &[&str],
) -> Result<Prepared, Problem> {
    let ours = |rest: &str| {
        let pattern = rest
            .strip_prefix(DIRECTORY)
            .and_then(|it| it.strip_prefix('/'));
        let files = staged.files.iter().filter(|(area, name)| {
            *area == AREA && pattern.is_some_and(|it| matches(it, name)) && includes(name)
        });
        files
            .map(|(_, name)| Syntax::Apache.include(&staged.copy.join(DIRECTORY).join(name)))
            .collect()
    };
    for (_, name) in staged.files.iter().filter(|(area, _)| *area == AREA) {
        if name.starts_with("sub-") {
            emptied(&staged.copy.join(DIRECTORY), name, !includes(name))?;
        }
    }
    let mirror = Mirror {
        syntax: Syntax::Apache,
        base: &apache.root,
        current: &staged.current,
        ours: &ours,
    };
    let (text, is_included) = mirror.of(&apache.config);
    if !is_included {
        let line = format!("IncludeOptional {}/apache/*.conf", staged.current.display());
        let message = format!(
            "apache doesn't include fanout's files: put `{line}` into {}, or run `fanout setup \
             server`",
            apache.config.display()
        );
        return Ok(Prepared::Refused(message));
    }
    let main = staged.copy.join(main);
    system::replace(&main, text.as_bytes(), 0o600).map_err(disk)?;
    let program = apache.program().args(arguments).arg("-f").arg(&main);
    Ok(Prepared::Test(program))
}

/// What another file includes by its name can't be left out of it, so it is emptied.
fn emptied(directory: &Path, name: &str, is_out: bool) -> Result<(), Problem> {
    let (path, kept) = (directory.join(name), directory.join(format!("{name}.kept")));
    if is_out && !system::exists(&kept) {
        let text = system::read_text(&path).map_err(disk)?;
        system::replace(&kept, text.as_bytes(), 0o600).map_err(disk)?;
    }
    if is_out {
        return system::replace(&path, b"", 0o600).map_err(disk);
    }
    match system::read_text(&kept) {
        Ok(text) => system::replace(&path, text.as_bytes(), 0o600).map_err(disk),
        Err(_) => Ok(()),
    }
}

/// The files that apache refuses: the one that it names, or those that fail alone.
async fn refused(
    apache: &Apache,
    staged: &Staged,
    bad: &BTreeSet<String>,
    said: &str,
) -> Result<Vec<(String, String)>, Problem> {
    if let Some(name) = blamed(said, staged, AREA, DIRECTORY)
        && !is_shared(name)
        && !bad.contains(name)
    {
        return Ok(vec![(name.to_owned(), said.to_owned())]);
    }
    let mut culprits = Vec::new();
    for (area, name) in &staged.files {
        if *area != AREA || is_shared(name) || !name.ends_with(".conf") || bad.contains(name) {
            continue;
        }
        let alone =
            |it: &str| it == name || is_shared(it) || (it.starts_with("sub-") && !bad.contains(it));
        let (passes, said) = run(apache, staged, &alone, &["-t"]).await?;
        if !passes {
            culprits.push((name.clone(), said));
        }
    }
    Ok(culprits)
}

/// Files with a name that another vhost has on the same port: apache takes the first without a word.
fn doubled(dump: &str, staged: &Staged) -> Vec<(String, String)> {
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    let (mut port, mut place) = (String::new(), String::new());
    let mut doubled = Vec::new();
    for line in dump.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words.as_slice() {
            ["port", number, "namevhost", name, file] => {
                (port, place) = ((*number).to_owned(), (*file).to_owned());
                *name
            }
            ["alias", name] => *name,
            [address, name, file] if address.contains(':') && file.starts_with('(') => {
                port = address.rsplit(':').next().unwrap_or_default().to_owned();
                place = (*file).to_owned();
                *name
            }
            _ => continue,
        };
        let key = (port.clone(), name.to_owned());
        let Some(first) = seen.get(&key).cloned() else {
            seen.insert(key, place.clone());
            continue;
        };
        if first == place {
            continue;
        }
        let own = |it: &str| blamed(it, staged, AREA, DIRECTORY).map(str::to_owned);
        if let Some(file) = own(&place).or_else(|| own(&first)) {
            let message = format!("The name {name} is another vhost's on port {port}");
            doubled.push((file, message));
        }
    }
    doubled
}

/// Tells apache to read its configuration, and waits until the health endpoint serves this id.
pub(super) async fn reload(health: Option<u16>, id: &str) -> Result<(), Problem> {
    let apache = found().await.ok_or_else(|| not_running("apache"))?;
    // ORDER: `-k graceful` starts one that isn't running, so that is asked first.
    if apache.process().await.is_none() {
        return Err(not_running("apache"));
    }
    let (passes, said) = tested(apache.program().arg("-t")).await?;
    if !passes {
        let message = format!("apache refuses its configuration: {said}");
        return Err(Problem::new(Code::NotProved, message));
    }
    let told = apache
        .program()
        .args(["-k", "graceful"])
        .timeout(super::TEST_LIMIT);
    let told = told.run().await.map_err(|error| not_run(&error))?;
    if !told.status.success() {
        let message = format!("apache refuses its configuration: {}", told.complaint());
        return Err(Problem::new(Code::NotProved, message));
    }
    let Some(port) = health else {
        return Ok(());
    };
    proved(port, id, &[]).await.map_err(|why| {
        let message =
            format!("apache was reloaded, but doesn't serve the new configuration: {why}");
        Problem::new(Code::NotProved, message)
    })
}
