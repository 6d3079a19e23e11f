//! Preparing this server for a role, web or balancer: packages of Debian, and files of our own by which its
//! programs include fanout's.
//!
//! Refuses any name that isn't a package's, and any distribution whose packages it doesn't know.
//! Changes no file that it didn't write; one that makes a program's own test fail is taken back.
//! Reloads nothing: the first configuration set does.

use super::config::place::disk;
use super::programs::haproxy_facts;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::proc::Program;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_proto::path::escape;
use sync_proto::wire::service::{
    SetupAnswer, SetupBalancer, SetupRequest, SetupStep, SetupWeb, SetupWish,
};

/// How long packages may take to be fetched and unpacked.
const INSTALL: Duration = Duration::from_secs(1800);
/// The machine's own configuration of HAProxy, and what its service takes from elsewhere.
const HAPROXY_OWN: &str = "/etc/haproxy/haproxy.cfg";
const HAPROXY_DEFAULTS: &str = "/etc/default/haproxy";
/// What fanout's vhosts need of apache.
const MODULES: [&str; 12] = [
    "rewrite",
    "proxy",
    "proxy_fcgi",
    "headers",
    "expires",
    "remoteip",
    "setenvif",
    "alias",
    "dir",
    "ssl",
    "http2",
    "auth_basic",
];

/// One step with what it takes.
struct Step {
    shown: SetupStep,
    work: Work,
}

enum Work {
    Packages(Vec<String>),
    Modules(Vec<&'static str>),
    File {
        path: PathBuf,
        text: String,
        /// The program whose test must pass with it.
        test: Vec<String>,
    },
    /// A person's: it starts a program anew.
    Nothing,
}

pub(super) async fn answer(current: &Path, request: SetupRequest) -> Result<SetupAnswer, Problem> {
    match request {
        SetupRequest::Plan(wish) => {
            let steps = plan(current, &wish).await?;
            Ok(SetupAnswer::Plan(
                steps.into_iter().map(|it| it.shown).collect(),
            ))
        }
        SetupRequest::Apply(wish) => {
            let mut done = Vec::new();
            for step in plan(current, &wish).await? {
                if !step.shown.is_done && !step.shown.by_person {
                    carry_out(&step).await?;
                    tracing::info!(what = step.shown.what, "prepared");
                    done.push(step.shown);
                }
            }
            Ok(SetupAnswer::Done(done))
        }
    }
}

async fn plan(current: &Path, wish: &SetupWish) -> Result<Vec<Step>, Problem> {
    if !system::exists(Path::new("/usr/bin/dpkg-query")) {
        let message = "This is no Debian, and its packages aren't known";
        return Err(Problem::new(Code::SetupFailed, message).with_hint(
            "`fanout setup server NAME --print` on a Debian shows the steps to translate",
        ));
    }
    let php = match (wish.web, wish.php.as_slice()) {
        (None, _) => Vec::new(),
        (Some(_), []) => vec![usual_php().await?],
        (Some(_), versions) => versions.to_vec(),
    };
    let mut steps = vec![packages(wish, &php).await?];
    let is_nginx = wish.web == Some(SetupWeb::Nginx) || wish.balancer == Some(SetupBalancer::Nginx);
    if is_nginx {
        steps.push(file(
            "/etc/nginx/conf.d/fanout.conf",
            format!(
                "# Written by fanout: the one line that includes its files.\n\
                 include {0}/nginx/*.conf;\ninclude {0}/nginx-balancer/*.conf;\n",
                current.display()
            ),
            &["nginx", "-t"],
        ));
    }
    if wish.web == Some(SetupWeb::Apache) {
        steps.extend(apache(current));
    }
    for version in &php {
        let text = format!(
            "; Written by fanout: the line that includes its pools, and time for running requests \
             at a reload.\n[global]\nprocess_control_timeout = 10s\n\
             include={}/php-fpm/{version}-*.conf\n",
            current.display()
        );
        steps.push(file(
            &format!("/etc/php/{version}/fpm/pool.d/fanout.conf"),
            text,
            &[&format!("php-fpm{version}"), "-t"],
        ));
    }
    if wish.balancer == Some(SetupBalancer::Haproxy) {
        steps.extend(haproxy(current).await?);
    }
    Ok(steps)
}

async fn packages(wish: &SetupWish, php: &[String]) -> Result<Step, Problem> {
    for version in php {
        is_version(version)?;
    }
    for extension in &wish.extensions {
        is_extension(extension)?;
    }
    let mut packages = Vec::new();
    match wish.web {
        Some(SetupWeb::Nginx) => packages.push("nginx".to_owned()),
        Some(SetupWeb::Apache) => packages.push("apache2".to_owned()),
        None => {}
    }
    for version in php {
        packages.push(format!("php{version}-fpm"));
        packages.push(format!("php{version}-cli"));
        packages.extend(
            wish.extensions
                .iter()
                .map(|it| format!("php{version}-{it}")),
        );
    }
    match wish.balancer {
        Some(SetupBalancer::Haproxy) => packages.push("haproxy".to_owned()),
        Some(SetupBalancer::Nginx) if wish.web != Some(SetupWeb::Nginx) => {
            packages.push("nginx".to_owned());
        }
        _ => {}
    }
    let mut missing = Vec::new();
    for package in &packages {
        if !is_installed(package).await? {
            missing.push(package.clone());
        }
    }
    Ok(Step {
        shown: SetupStep {
            what: format!("install {}", list(&packages, &missing).join(" ")),
            by_hand: format!(
                "apt-get install -y --no-install-recommends {}",
                list(&packages, &missing).join(" ")
            ),
            is_done: missing.is_empty(),
            by_person: false,
        },
        work: Work::Packages(missing),
    })
}

fn apache(current: &Path) -> [Step; 2] {
    let is_missing =
        |it: &&&str| !system::exists(Path::new(&format!("/etc/apache2/mods-enabled/{it}.load")));
    let missing: Vec<&str> = MODULES.iter().filter(is_missing).copied().collect();
    let all: Vec<&str> = match missing.is_empty() {
        true => MODULES.to_vec(),
        false => missing.clone(),
    };
    let modules = Step {
        shown: SetupStep {
            what: format!("enable apache's modules {}", all.join(" ")),
            by_hand: format!("a2enmod {}", all.join(" ")),
            is_done: missing.is_empty(),
            by_person: false,
        },
        work: Work::Modules(missing),
    };
    // The last of all: the machine's own vhosts stay the ones that answer first.
    let include = file(
        "/etc/apache2/sites-enabled/zz-fanout.conf",
        format!(
            "# Written by fanout: the one line that includes its files.\n\
             IncludeOptional {}/apache/*.conf\n",
            current.display()
        ),
        &["apache2ctl", "-t"],
    );
    [modules, include]
}

/// HAProxy includes nothing; what it reads is in its service's command line, where a second
/// directory is read besides the machine's own file. The run-time socket is in fanout's own file.
async fn haproxy(current: &Path) -> Result<[Step; 2], Problem> {
    let own = current.join("haproxy");
    let defaults = system::read_text(Path::new(HAPROXY_DEFAULTS)).unwrap_or_default();
    let mut lines = defaults.lines().map(str::trim_start);
    if let Some(line) = lines.find(|it| it.starts_with("EXTRAOPTS=") && !it.contains(text(&own))) {
        let message =
            format!("{HAPROXY_DEFAULTS} sets options that fanout's own line can't add to: {line}");
        return Err(Problem::new(Code::SetupFailed, message)
            .with_hint(format!("add `-f {}` to them there", own.display())));
    }
    let unit = file(
        "/etc/systemd/system/haproxy.service.d/fanout.conf",
        format!(
            "# Written by fanout: the one line that includes its files.\n[Service]\n\
             Environment=\"EXTRAOPTS=-S /run/haproxy-master.sock -f {}\"\n",
            own.display()
        ),
        &["haproxy", "-c", "-f", HAPROXY_OWN, "-f", text(&own)],
    );
    let reads_it = haproxy_facts(current).await;
    let restart = Step {
        shown: SetupStep {
            what: "restart HAProxy, which reads its command line at no other time".into(),
            by_hand: "systemctl daemon-reload && systemctl restart haproxy".into(),
            is_done: reads_it.is_some_and(|it| it.is_included),
            by_person: true,
        },
        work: Work::Nothing,
    };
    Ok([unit, restart])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A file of ours.
fn file(path: &str, text: String, test: &[&str]) -> Step {
    let path = PathBuf::from(path);
    let is_done = system::read_text(&path).is_ok_and(|it| it == text);
    Step {
        shown: SetupStep {
            what: format!("write {}", path.display()),
            by_hand: format!(
                "mkdir -p {}\ncat >{} <<'EOF'\n{}EOF",
                path.parent().unwrap_or(Path::new("/")).display(),
                path.display(),
                text.trim_start_matches('\n')
            ),
            is_done,
            by_person: false,
        },
        work: Work::File {
            path,
            text,
            test: test.iter().map(|it| (*it).to_owned()).collect(),
        },
    }
}

/// What is missing, or everything where nothing is.
fn list(all: &[String], missing: &[String]) -> Vec<String> {
    match missing.is_empty() {
        true => all.to_vec(),
        false => missing.to_vec(),
    }
}

async fn carry_out(step: &Step) -> Result<(), Problem> {
    let failed = |message: String| Problem::new(Code::SetupFailed, message);
    match &step.work {
        Work::Nothing => Ok(()),
        Work::Packages(packages) => {
            let apt = |arguments: &[&str]| {
                // The agent's own files are private; what packages leave is for everybody.
                Program::new("sh")
                    .args(["-c", "umask 022; exec \"$0\" \"$@\"", "apt-get"])
                    .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
                    .args(arguments)
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .cut_output()
                    .timeout(INSTALL)
            };
            let install =
                || apt(&["install", "-y", "--no-install-recommends", "--"]).args(packages);
            if install().succeed().await.is_ok() {
                return Ok(());
            }
            // Lists may be old, or not there at all.
            apt(&["update"])
                .succeed()
                .await
                .map_err(|error| failed(error.to_string()))?;
            let installed = install()
                .run()
                .await
                .map_err(|error| failed(error.to_string()))?;
            match installed.status.success() {
                true => Ok(()),
                false => Err(failed(format!("apt-get: {}", installed.complaint()))),
            }
        }
        Work::Modules(modules) => {
            let enabled = Program::new("a2enmod")
                .arg("-q")
                .args(modules.iter().copied());
            let enabled = enabled.succeed().await;
            enabled.map(drop).map_err(|error| failed(error.to_string()))
        }
        Work::File { path, text, test } => {
            let before = system::read_text(path).ok();
            if let Some(parent) = path.parent() {
                system::make_dir(parent, 0o755).map_err(disk)?;
            }
            system::replace(path, text.as_bytes(), 0o644).map_err(disk)?;
            let (program, arguments) =
                test.split_first().ok_or_else(|| failed("No test".into()))?;
            let tested = Program::new(program).args(arguments).run().await;
            let said = match tested {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => output.complaint(),
                Err(error) => error.to_string(),
            };
            let back = match before {
                Some(before) => system::replace(path, before.as_bytes(), 0o644),
                None => system::remove(path),
            };
            back.map_err(disk)?;
            Err(failed(format!(
                "{program} refuses {}: {said}",
                path.display()
            )))
        }
    }
}

async fn is_installed(package: &str) -> Result<bool, Problem> {
    let asked = Program::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", "--"])
        .arg(package)
        .run()
        .await
        .map_err(|error| Problem::from_error(Code::SetupFailed, &error))?;
    Ok(asked.status.success() && asked.text() == "installed")
}

/// The version that is installed, or that the distribution would install.
async fn usual_php() -> Result<String, Problem> {
    let installed = system::names(Path::new("/etc/php"));
    let is_fpm = |it: &&String| system::exists(Path::new(&format!("/usr/sbin/php-fpm{it}")));
    if let Some(version) = installed.iter().rfind(is_fpm) {
        return Ok(version.clone());
    }
    let asked = Program::new("apt-cache")
        .args(["depends", "php-fpm"])
        .run()
        .await;
    let text = asked.map_or(String::new(), |it| it.text());
    let version = text.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: php")?;
        name.strip_suffix("-fpm").map(str::to_owned)
    });
    version.ok_or_else(|| {
        Problem::new(
            Code::SetupFailed,
            "Which version of PHP this distribution has is not known here",
        )
        .with_hint("say it with `--php VERSION`, or run `apt-get update` on the server")
    })
}

/// `8.2`. It becomes part of a path, too.
fn is_version(version: &str) -> Result<(), Problem> {
    let is_number =
        |it: &str| (1..=2).contains(&it.len()) && it.bytes().all(|c| c.is_ascii_digit());
    let parts = version.split_once('.');
    match parts.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        true => Ok(()),
        false => Err(no_name(version, "a version of PHP")),
    }
}

/// As Debian names what follows `php8.2-`. To apt a name that ends with `-` is one to remove, with
/// `+` one to install, and one with `.` may be a pattern.
fn is_extension(name: &str) -> Result<(), Problem> {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allowed = (1..=40).contains(&name.len()) && name.bytes().all(|c| is_plain(c) || c == b'-');
    match allowed && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(()),
        false => Err(no_name(name, "an extension's name")),
    }
}

fn no_name(text: &str, what: &str) -> Problem {
    let shown = escape(text.as_bytes());
    Problem::new(Code::SetupFailed, format!("`{shown}` is not {what}"))
}
