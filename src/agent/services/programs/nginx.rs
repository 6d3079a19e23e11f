//! nginx. It takes a reload without a word and keeps the old configuration when the new one can't
//! be used, so a reload counts once the new one answers.

use super::mirror::{Directive, Mirror, Syntax, directives, matches};
use super::{
    Found, Staged, blamed, children, cleaned, fault, installed, is_shared, not_run, not_running,
    proved, running, taken_ports, tested, waves,
};
use crate::agent::services::config::place::disk;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::proc::Program;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use sync_proto::wire::service::{ConfigArea, ProgramFacts};

const AREAS: [(ConfigArea, &str); 2] = [
    (ConfigArea::Nginx, "nginx"),
    (ConfigArea::NginxBalancer, "nginx-balancer"),
];

/// The name of the main file of a test with several files.
const MAIN: &str = ".fanout-test.conf";

/// An installed nginx.
struct Nginx {
    binary: PathBuf,
    version: String,
    config: PathBuf,
    pid_file: PathBuf,
    error_log: Option<PathBuf>,
    modules: Vec<String>,
}

async fn found() -> Option<Nginx> {
    let binary = installed(&["nginx"])?;
    let output = Program::new(&binary).arg("-V").succeed().await.ok()?;
    let said = output.complaint();
    let argument = |name: &str| {
        let words = said.split_whitespace();
        words
            .filter_map(|it| it.strip_prefix(name)?.strip_prefix('='))
            .next()
            .map(PathBuf::from)
    };
    let version = said
        .split("nginx/")
        .nth(1)?
        .split_whitespace()
        .next()?
        .to_owned();
    let modules = said
        .split_whitespace()
        .filter_map(|it| it.strip_prefix("--with-")?.strip_suffix("_module"))
        .map(|it| format!("{it}_module"))
        .collect();
    let config = argument("--conf-path").unwrap_or_else(|| "/etc/nginx/nginx.conf".into());
    let text = system::read_text(&config).unwrap_or_default();
    let own = |word: &str| {
        let mut found = directives(&text).into_iter().filter(|it| it.depth == 0);
        let found = found.find(|it| it.words.first().is_some_and(|it| it == word))?;
        found.words.get(1).map(PathBuf::from)
    };
    Some(Nginx {
        pid_file: own("pid")
            .or_else(|| argument("--pid-path"))
            .unwrap_or_else(|| "/run/nginx.pid".into()),
        error_log: own("error_log").or_else(|| argument("--error-log-path")),
        binary,
        version,
        config,
        modules,
    })
}

pub(super) async fn facts(current: &Path) -> Option<ProgramFacts> {
    let nginx = found().await?;
    let mirror = Mirror {
        syntax: Syntax::Nginx,
        base: nginx.config.parent().unwrap_or(Path::new("/")),
        current,
        ours: &|_| String::new(),
    };
    let (_, is_included) = mirror.of(&nginx.config);
    let (mut own_ports, mut own_defaults) = (BTreeSet::new(), BTreeSet::new());
    for listen in listens_of(&nginx, current).await {
        if let Some(port) = port(&listen) {
            own_ports.insert(port);
            if listen
                .words
                .iter()
                .any(|it| it == "default_server" || it == "default")
            {
                own_defaults.insert(port);
            }
        }
    }
    Some(ProgramFacts {
        is_running: running(&nginx.pid_file, "nginx").is_some(),
        version: nginx.version,
        binary: nginx.binary.display().to_string(),
        config: nginx.config.display().to_string(),
        is_included,
        modules: nginx.modules,
        own_ports: own_ports.into_iter().collect(),
        own_defaults: own_defaults.into_iter().collect(),
    })
}

/// The `listen` directives of the machine's own configuration. nginx itself says what it includes;
/// where its configuration is broken, the main file has to do.
async fn listens_of(nginx: &Nginx, current: &Path) -> Vec<Directive> {
    let dump = Program::new(&nginx.binary)
        .arg("-T")
        .arg("-q")
        .output_limit(16 << 20)
        .succeed()
        .await;
    let text = match dump {
        Ok(output) => output.text(),
        Err(_) => system::read_text(&nginx.config).unwrap_or_default(),
    };
    let own = current.parent().unwrap_or(current).display().to_string();
    let mut listens = Vec::new();
    for file in text.split("# configuration file ") {
        if file.starts_with(&own) {
            continue;
        }
        let is_listen = |it: &Directive| it.words.first().is_some_and(|it| it == "listen");
        listens.extend(directives(file).into_iter().filter(is_listen));
    }
    listens
}

fn port(listen: &Directive) -> Option<u16> {
    let address = listen.words.get(1)?;
    if address.starts_with("unix:") {
        return None;
    }
    let port = address.rsplit(':').next()?;
    match port.parse() {
        Ok(port) => Some(port),
        // An address alone means the usual port.
        Err(_) => Some(80),
    }
}

pub(super) async fn is_ready() -> Result<(), Problem> {
    let nginx = found().await.ok_or_else(|| not_running("nginx"))?;
    match running(&nginx.pid_file, "nginx") {
        Some(_) => Ok(()),
        None => Err(not_running("nginx")),
    }
}

/// The main configuration that a test runs with, removed when it is dropped.
struct Main {
    path: PathBuf,
}

impl Drop for Main {
    fn drop(&mut self) {
        // What stays is hidden, and replaced by the next test.
        let _left = system::remove(&self.path);
    }
}

pub(super) async fn test(staged: &Staged, found_so_far: &mut Found) -> Result<(), Problem> {
    let area = ConfigArea::Nginx;
    let Some(nginx) = found().await else {
        found_so_far
            .faults
            .push(fault(area, "", "nginx isn't installed here"));
        return Ok(());
    };
    let (is_sound, baseline) = run(&nginx, staged, &|_, _| false).await?;
    if !is_sound {
        let message = format!("This machine's own configuration is broken: {baseline}");
        found_so_far.faults.push(fault(area, "", message));
        return Ok(());
    }
    let mut bad: BTreeSet<(ConfigArea, String)> = BTreeSet::new();
    for ((area, name), said) in alone(&nginx, staged).await? {
        let one = (area, name);
        if !bad.contains(&one) {
            let message = cleaned(&said, staged);
            found_so_far.faults.push(fault(area, &one.1, message));
            bad.insert(one);
        }
    }
    loop {
        let without = |area: ConfigArea, name: &str| !bad.contains(&(area, name.to_owned()));
        let (passes, said) = run(&nginx, staged, &without).await?;
        let ignored = warnings(&said, &baseline);
        if passes && ignored.is_empty() {
            break;
        }
        let (culprits, message) = match passes {
            true => (ignored_files(&ignored, staged, &bad), ignored.join("; ")),
            false => (refused_files(&nginx, staged, &bad, &said).await?, said),
        };
        let new: Vec<_> = culprits
            .into_iter()
            .filter(|(it, _)| !is_shared(&it.1) && !bad.contains(it))
            .collect();
        if new.is_empty() {
            let message = cleaned(&message, staged);
            found_so_far.faults.push(fault(area, "", message));
            break;
        }
        for ((area, name), said) in new {
            // Once for each address that it listens on.
            if bad.contains(&(area, name.clone())) {
                continue;
            }
            let message = cleaned(&said, staged);
            found_so_far.faults.push(fault(area, &name, message));
            bad.insert((area, name));
        }
    }
    let taken = taken_ports(
        &ports(staged, &staged.copy),
        &live_ports(&nginx, staged).await,
    );
    for port in taken {
        let message = format!("Port {port} is taken by another program");
        found_so_far.faults.push(fault(area, "", message));
    }
    if running(&nginx.pid_file, "nginx").is_none() {
        let warning = "nginx isn't running: the set can't go live until it is";
        found_so_far.warnings.push(warning.into());
    }
    Ok(())
}

/// The new and changed vhosts that nginx refuses each by itself. Names that it would ignore are a
/// matter of all together.
async fn alone(nginx: &Nginx, staged: &Staged) -> Result<Vec<Culprit>, Problem> {
    let mut due = Vec::new();
    for (area, directory) in AREAS {
        let names = staged.to_be_tested_alone(area, directory);
        due.extend(names.into_iter().map(|name| (area, directory, name)));
    }
    let mut tests = Vec::new();
    for (number, (area, directory, name)) in due.iter().enumerate() {
        let only = |of: ConfigArea, it: &str| {
            (of == *area && it == name) || is_shared(it) || it.starts_with("sub-")
        };
        let main = format!(".fanout-test-{number}.conf");
        tests.push((
            (*area, *directory, name.clone()),
            prepared(nginx, staged, &main, &only)?,
        ));
    }
    let mut refused = Vec::new();
    for ((area, directory, name), (passes, said)) in waves(tests, Prepared::outcome).await? {
        if !passes {
            let blamed = blamed(&said, staged, area, directory).filter(|it| !is_shared(it));
            refused.push(((area, blamed.unwrap_or(&name).to_owned()), said));
        }
    }
    Ok(refused)
}

/// A test that only has to be run.
enum Prepared {
    Test(Program, Main),
    Refused(String),
}

impl Prepared {
    async fn outcome(self) -> Result<(bool, String), Problem> {
        let (program, main) = match self {
            Self::Test(program, main) => (program, main),
            Self::Refused(message) => return Ok((false, message)),
        };
        let (passes, said) = tested(program).await?;
        drop(main);
        let noise =
            |line: &&str| !line.contains(" syntax is ok") && !line.contains("is successful");
        let said: Vec<&str> = said.lines().filter(noise).collect();
        Ok((passes, said.join("\n")))
    }
}

/// Runs nginx's test with those files of the set that `includes` picks.
async fn run(
    nginx: &Nginx,
    staged: &Staged,
    includes: &(dyn Fn(ConfigArea, &str) -> bool + Sync),
) -> Result<(bool, String), Problem> {
    prepared(nginx, staged, MAIN, includes)?.outcome().await
}

/// nginx's test with the machine's main configuration, as a file called `main`, and those files of
/// the set that `includes` picks.
fn prepared(
    nginx: &Nginx,
    staged: &Staged,
    main: &str,
    includes: &(dyn Fn(ConfigArea, &str) -> bool + Sync),
) -> Result<Prepared, Problem> {
    let ours = |rest: &str| {
        let mut lines = String::new();
        for (area, directory) in AREAS {
            let Some(pattern) = rest
                .strip_prefix(directory)
                .and_then(|it| it.strip_prefix('/'))
            else {
                continue;
            };
            for (_, name) in staged.files.iter().filter(|(of, _)| *of == area) {
                if matches(pattern, name) && includes(area, name) {
                    let path = staged.copy.join(directory).join(name);
                    lines.push_str(&Syntax::Nginx.include(&path));
                }
            }
        }
        lines
    };
    // What another file includes by its name can't be left out of it, so it is emptied.
    for (area, directory) in AREAS {
        for (_, name) in staged.files.iter().filter(|(of, _)| *of == area) {
            if name.starts_with("sub-") && !includes(area, name) {
                let path = staged.copy.join(directory).join(name);
                let hidden = staged.copy.join(directory).join(format!("{name}.kept"));
                if !system::exists(&hidden) {
                    let text = system::read_text(&path).map_err(disk)?;
                    system::replace(&hidden, text.as_bytes(), 0o600).map_err(disk)?;
                }
                system::replace(&path, b"", 0o600).map_err(disk)?;
            } else {
                let path = staged.copy.join(directory).join(name);
                let hidden = staged.copy.join(directory).join(format!("{name}.kept"));
                if let Ok(text) = system::read_text(&hidden) {
                    system::replace(&path, text.as_bytes(), 0o600).map_err(disk)?;
                }
            }
        }
    }
    let base = nginx.config.parent().unwrap_or(Path::new("/"));
    let mirror = Mirror {
        syntax: Syntax::Nginx,
        base,
        current: &staged.current,
        ours: &ours,
    };
    let (mut text, is_included) = mirror.of(&nginx.config);
    if !is_included {
        let line = format!("include {}/nginx/*.conf;", staged.current.display());
        let message = format!(
            "nginx doesn't include fanout's files: put `{line}` into the http block of {}, or run \
             `fanout setup server`",
            nginx.config.display()
        );
        return Ok(Prepared::Refused(message));
    }
    // The running nginx keeps its pid file.
    let pid = directives(&text)
        .into_iter()
        .find(|it| it.depth == 0 && it.words.first().is_some_and(|it| it == "pid"));
    if let Some(pid) = pid {
        text.replace_range(pid.range, "");
    }
    let text = format!(
        "pid \"{}\";\n{text}",
        staged.copy.join(format!("nginx{main}.pid")).display()
    );
    // Beside the machine's own, since nginx takes relative paths from where its main file lies.
    let main = Main {
        path: base.join(main),
    };
    system::replace(&main.path, text.as_bytes(), 0o600).map_err(disk)?;
    let program = Program::new(&nginx.binary)
        .arg("-t")
        .arg("-c")
        .arg(&main.path);
    Ok(Prepared::Test(program, main))
}

/// Warnings that mean that something of ours is not served.
fn warnings(said: &str, baseline: &str) -> Vec<String> {
    said.lines()
        .filter(|line| line.contains("[warn]"))
        .filter(|line| line.contains("conflicting server name") || line.contains("ignored"))
        .filter(|line| !baseline.contains(*line))
        .map(str::to_owned)
        .collect()
}

type Culprit = ((ConfigArea, String), String);

/// The files whose names nginx ignores: of several with one name, all but the first.
fn ignored_files(
    ignored: &[String],
    staged: &Staged,
    bad: &BTreeSet<(ConfigArea, String)>,
) -> Vec<Culprit> {
    let mut culprits = Vec::new();
    for line in ignored {
        if let Some(name) = blamed(line, staged, ConfigArea::Nginx, "nginx") {
            culprits.push(((ConfigArea::Nginx, name.to_owned()), line.clone()));
            continue;
        }
        let Some(host) = line
            .split("server name \"")
            .nth(1)
            .and_then(|it| it.split('"').next())
        else {
            continue;
        };
        let mut with_it = Vec::new();
        for (area, directory) in AREAS {
            for (_, name) in staged.files.iter().filter(|(of, _)| *of == area) {
                let text = system::read_text(&staged.copy.join(directory).join(name));
                let is_in = |it: &Directive| {
                    it.words.first().is_some_and(|it| it == "server_name")
                        && it.words.iter().any(|it| it == host)
                };
                if !bad.contains(&(area, name.clone()))
                    && text.is_ok_and(|text| directives(&text).iter().any(is_in))
                {
                    with_it.push((area, name.clone()));
                }
            }
        }
        // With one of ours alone, the other is the machine's own.
        let from = usize::from(with_it.len() > 1);
        culprits.extend(with_it.into_iter().skip(from).map(|it| (it, line.clone())));
    }
    culprits
}

/// The files that nginx refuses: the one that it names, or those that fail alone.
async fn refused_files(
    nginx: &Nginx,
    staged: &Staged,
    bad: &BTreeSet<(ConfigArea, String)>,
    said: &str,
) -> Result<Vec<Culprit>, Problem> {
    let named = AREAS.iter().find_map(|(area, directory)| {
        let name = blamed(said, staged, *area, directory)?;
        Some((*area, name.to_owned()))
    });
    if let Some(named) = named.filter(|it| !is_shared(&it.1)) {
        return Ok(vec![(named, said.to_owned())]);
    }
    let mut culprits = Vec::new();
    for (area, name) in &staged.files {
        let is_ours = AREAS.iter().any(|(it, _)| it == area);
        let one = (*area, name.clone());
        if !is_ours || is_shared(name) || !name.ends_with(".conf") || bad.contains(&one) {
            continue;
        }
        let alone = |area: ConfigArea, it: &str| {
            it == name
                || is_shared(it)
                || (it.starts_with("sub-") && !bad.contains(&(area, it.into())))
        };
        let (passes, said) = run(nginx, staged, &alone).await?;
        if !passes {
            culprits.push((one, said));
        }
    }
    Ok(culprits)
}

/// The ports that a set's files listen on.
fn ports(staged: &Staged, set: &Path) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    let files = match set == staged.copy {
        true => &staged.files,
        false => &staged.live,
    };
    for (area, directory) in AREAS {
        for (_, name) in files.iter().filter(|(of, _)| *of == area) {
            let text = system::read_text(&set.join(directory).join(name)).unwrap_or_default();
            let listens = directives(&text).into_iter();
            let listens = listens.filter(|it| it.words.first().is_some_and(|it| it == "listen"));
            ports.extend(listens.filter_map(|it| port(&it)));
        }
    }
    ports
}

async fn live_ports(nginx: &Nginx, staged: &Staged) -> BTreeSet<u16> {
    let mut own: BTreeSet<u16> = listens_of(nginx, &staged.current)
        .await
        .iter()
        .filter_map(port)
        .collect();
    own.extend(ports(staged, &staged.current));
    own
}

/// Tells nginx to read its configuration, and waits until the health endpoint serves this id.
pub(super) async fn reload(health: Option<u16>, id: &str) -> Result<(), Problem> {
    let nginx = found().await.ok_or_else(|| not_running("nginx"))?;
    let Some(master) = running(&nginx.pid_file, "nginx") else {
        return Err(not_running("nginx"));
    };
    let workers = children(master);
    let log = nginx.error_log.clone().unwrap_or_default();
    let logged = system::size(&log);
    let reloaded = Program::new(&nginx.binary)
        .args(["-s", "reload"])
        .timeout(super::TEST_LIMIT)
        .run()
        .await
        .map_err(|error| not_run(&error))?;
    if !reloaded.status.success() {
        let message = format!("nginx refuses its configuration: {}", reloaded.complaint());
        return Err(Problem::new(Code::NotProved, message));
    }
    let Some(port) = health else {
        return Ok(());
    };
    let Err(why) = proved(port, id, &workers).await else {
        return Ok(());
    };
    let said = system::read_end(&log, logged);
    let mut reasons: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("[emerg]") || line.contains("[alert]"))
        .filter_map(|line| line.split_once("]").map(|(_, rest)| rest.trim()))
        .collect();
    reasons.dedup();
    reasons.truncate(3);
    let why = match reasons.as_slice() {
        [] => why,
        reasons => reasons.join("; "),
    };
    let message = format!("nginx was reloaded, but doesn't serve the new configuration: {why}");
    Err(Problem::new(Code::NotProved, message))
}
