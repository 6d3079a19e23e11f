//! Runs an application's own tool where this server has one that fits. One that can't say its
//! version isn't used, and what a tool did is looked at by a script that is built in.

use super::run::{self, Ran};
use super::site::LocalSite;
use super::word;
use crate::codes::{Code, Problem};
use crate::engine::member::refusal::of_fs;
use crate::fs::durable::write_atomically;
use crate::fs::read::read_range;
use crate::fs::{Dir, owner, system};
use crate::proc::Program;
use crate::services::app::scripts::{Answer, Input, Script};
use crate::services::app::tools::{
    Told, Tool, fits, places_in_tree, program, told, tool_name, tool_of, version_said,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use sync_proto::path::Name;

/// Where an administrator or a package puts them.
const BINARIES: [&str; 2] = ["/usr/local/bin", "/usr/bin"];
/// How long one may take to say its version.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tool that can be used.
#[derive(Clone, Debug)]
pub(super) struct Found {
    tool: Tool,
    path: PathBuf,
    version: String,
}

impl Found {
    /// `wp-cli 2.12.0`.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", tool_name(self.tool), self.version)
    }
}

/// What the tools of this server said, by path, for as long as the file stays the same.
#[derive(Debug, Default)]
pub(super) struct Tools {
    versions: Mutex<BTreeMap<(PathBuf, u32), Said>>,
}

/// What a file said, with the size and the times that it had then.
type Said = ((u64, i64, i64), Option<String>);

impl Tools {
    /// The tool for a site, if there is one that fits it.
    pub(super) async fn find(&self, site: &LocalSite) -> Option<Found> {
        let driver = site.target.driver;
        let tool = tool_of(driver)?;
        let docroot = String::from_utf8_lossy(site.app.docroot.as_bytes()).into_owned();
        let depth = docroot.split('/').filter(|it| !it.is_empty()).count();
        let root = site.docroot.ancestors().nth(depth)?;
        let in_tree = places_in_tree(tool, &docroot).into_iter();
        let in_tree = in_tree.map(|path| root.join(path));
        let elsewhere = BINARIES
            .iter()
            .map(|dir| Path::new(dir).join(program(tool)));
        for path in in_tree.chain(elsewhere) {
            if let Some(version) = self.version(site, &path).await
                && fits(driver, &version)
            {
                return Some(Found {
                    tool,
                    path,
                    version,
                });
            }
        }
        None
    }

    async fn version(&self, site: &LocalSite, path: &Path) -> Option<String> {
        let stamp = system::stamp(path)?;
        let key = (path.to_owned(), site.ids.0);
        let known = {
            let versions = self.versions.lock();
            let versions = versions.unwrap_or_else(PoisonError::into_inner);
            versions.get(&key).cloned()
        };
        if let Some((of, version)) = known
            && of == stamp
        {
            return version;
        }
        let asked = begin(site, path)?.arg("--version").timeout(PATIENCE);
        let output = asked.cut_output().run().await.ok()?;
        let version = output
            .status
            .success()
            .then(|| version_said(&output.text()));
        let version = version.flatten();
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.insert(key, (stamp, version.clone()));
        version
    }

    /// Does a script's work by a tool; `None` where there is none, or none for that.
    pub(super) async fn run(
        &self,
        site: &LocalSite,
        script: Script,
        input: &Input,
        limit: Duration,
    ) -> Result<Option<Ran>, Problem> {
        let Some(told) = told(site.target.driver, script, input) else {
            return Ok(None);
        };
        let Some(found) = self.find(site).await else {
            return Ok(None);
        };
        let before = match script {
            Script::Install | Script::Update => Some(look(site, limit).await?),
            _ => None,
        };
        if script == Script::Install && before.as_ref().is_some_and(|it| it.installed == Some(true))
        {
            let answer = Answer {
                message: "it is installed already".into(),
                installed: Some(true),
                ..Answer::default()
            };
            return Ok(Some(Ran::with(answer)));
        }
        let mut ran = carry_out(site, &found, &told, input, limit).await?;
        if !ran.ended_well() {
            return Ok(Some(ran));
        }
        let said = ran.last_line();
        let mut answer = Answer {
            changed: true,
            message: format!("{said} ({})", found.shown()),
            ..Answer::default()
        };
        match script {
            Script::Update => {
                let pending = before.map(|it| it.pending).unwrap_or_default();
                answer.changed = !pending.is_empty();
                answer.message = format!("{} ({})", pending.join(", "), found.shown());
                let left = look(site, limit).await?.pending;
                if !left.is_empty() {
                    answer.error = format!("{} left undone: {}", found.shown(), left.join(", "));
                }
            }
            Script::Install => answer.installed = Some(true),
            Script::Cron => answer.changed = !said.contains("total of 0 "),
            Script::LoginLink => said.clone_into(&mut answer.link),
            Script::Maintenance => answer.maintenance = input.on,
            _ => {}
        }
        ran.conclude(answer);
        Ok(Some(ran))
    }
}

/// What is there, by the script that is built in.
async fn look(site: &LocalSite, limit: Duration) -> Result<Answer, Problem> {
    let ran = run::script(site, Script::Look, site.input(), limit).await?;
    ran.good(site, word(Script::Look))
}

async fn carry_out(
    site: &LocalSite,
    found: &Found,
    told: &Told,
    input: &Input,
    limit: Duration,
) -> Result<Ran, Problem> {
    if let Some((name, text)) = &told.file {
        put(Path::new(&input.scratch), name, text, site.ids)?;
    }
    let mut last = None;
    for call in &told.calls {
        let Some(program) = begin(site, &found.path) else {
            let message = format!("{} is not installed here", site.wanted_php());
            return Err(Problem::new(Code::AppUnfit, message));
        };
        let program = program.args(call).stdin(told.stdin.clone());
        let mut ran = run::finish(program, limit, &input.word).await?;
        // wp-cli repeats its whole command line with what it was asked for, quoted for a shell.
        ran.hide(&input.password);
        ran.hide(&input.password.replace('\'', "'\\''"));
        let goes_on = ran.ended_well();
        last = Some(ran);
        if !goes_on {
            break;
        }
    }
    last.ok_or_else(|| Problem::new(Code::Bug, "A tool was told nothing"))
}

/// The tool as the site's user, with the site's PHP where it is a PHP program.
fn begin(site: &LocalSite, path: &Path) -> Option<Program> {
    let own = path.as_os_str().to_owned();
    let program = match is_php(path) {
        true => run::as_user(site.ids, site.php.as_ref()?.as_os_str().to_owned())
            .args(["-d", "display_errors=stderr", "-d", "error_reporting=8191"])
            .args(["-d", "memory_limit=1G"])
            .arg(own),
        false => run::as_user(site.ids, own),
    };
    let program = run::environment(site, program).env("WP_CLI_CACHE_DIR", "/nonexistent");
    Some(program.directory(&site.docroot))
}

/// They are, unless the first line says otherwise: some are packed behind a script of a shell.
fn is_php(path: &Path) -> bool {
    let head = || {
        let (dir, name) = Dir::open_parent_of(path).ok()?;
        read_range(&dir.open_file(&name).ok()?, 0, 64).ok()
    };
    let head = head().unwrap_or_default();
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    !line.starts_with(b"#!") || String::from_utf8_lossy(line).contains("php")
}

/// A file that only the site's user reads, in the installation's own directory.
fn put(scratch: &Path, name: &str, text: &str, ids: (u32, u32)) -> Result<(), Problem> {
    let dir = Dir::open_absolute(scratch).map_err(|error| of_fs(&error))?;
    let file =
        Name::parse(name.as_bytes()).map_err(|error| Problem::from_error(Code::Bug, &error))?;
    write_atomically(&dir, &file, text.as_bytes(), 0o600).map_err(|error| of_fs(&error))?;
    let written = dir.open_file(&file).map_err(|error| of_fs(&error))?;
    owner::give(&written, ids, dir.path_for_messages()).map_err(|error| of_fs(&error))
}
