//! What an agent does with a site's application: runs the scripts that are built in, or the
//! commands that its own administrator named, as the site's own system user.
//!
//! Refuses root as that user, a tree of another hub, and paths that leave the tree. Invariants: one
//! action of one site at a time; an installation is done once, and one that dies halfway is taken
//! back, by whoever comes next if the agent itself died.

mod command;
mod install;
mod journal;
mod look;
pub(super) mod opcache;
mod prepare;
mod run;
mod site;
mod tool;

use super::super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::config::AgentConfig;
use crate::fs::Dir;
use crate::net::NodeKey;
use crate::services::app::scripts::Script;
use journal::Journals;
use run::Ran;
use site::LocalSite;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_proto::wire::service::{
    AppAction, AppAnswer, AppDone, AppDriver, AppRequest, AppSettings, AppTarget,
};

/// The numbers of a site's user; never root's.
///
/// # Errors
/// There is none, or it is root.
pub(super) fn user_ids(user: &str) -> Result<(u32, u32), Problem> {
    site::ids(user)
}

/// LIMIT: no action takes longer, whatever a hub says.
const LONGEST: Duration = Duration::from_secs(3600);

/// The applications of this server.
#[derive(Debug)]
pub struct Apps {
    journals: Journals,
    commands: BTreeMap<String, Vec<String>>,
    /// The live settings files, as this process sees them.
    settings: PathBuf,
    tools: tool::Tools,
    busy: Arc<Mutex<BTreeSet<String>>>,
}

/// How long the agent waits before it tries again to take back half an installation, at first and
/// at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One site in the hands of one action.
struct Busy {
    site: String,
    all: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.site);
    }
}

impl Apps {
    /// The applications of an agent that keeps its state in `state`; `settings` is where the live
    /// settings files lie.
    pub fn new(state: &Path, settings: PathBuf, config: &AgentConfig) -> Self {
        Self {
            journals: Journals::new(state),
            commands: config.commands.clone(),
            settings,
            tools: tool::Tools::default(),
            busy: Arc::default(),
        }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The site isn't here, the application can't, or it failed.
    pub async fn answer(
        &self,
        trees: &Trees,
        hub: NodeKey,
        request: AppRequest,
    ) -> Result<AppAnswer, Problem> {
        let AppRequest {
            target,
            action,
            limit_s,
        } = request;
        let limit = Duration::from_secs(limit_s.max(1).into()).min(LONGEST);
        let site = LocalSite::find(trees, hub, target, &self.settings)?;
        if matches!(action, AppAction::Look) {
            let half = self.journals.load(&site.target)?.is_some();
            let state = self.look(&site, half, limit).await?;
            return Ok(AppAnswer::State(state));
        }
        let _busy = self.take(&site.target)?;
        match action {
            AppAction::Look => Err(Problem::new(Code::Bug, "A look is answered before")),
            AppAction::Prepare { hosts, share } => {
                let changed = site.prepare(trees, &hosts, &share)?;
                Ok(AppAnswer::Done(AppDone {
                    changed,
                    ..AppDone::default()
                }))
            }
            AppAction::Requirements => self
                .requirements(&site, limit)
                .await
                .map(AppAnswer::Missing),
            AppAction::Install(with) => {
                self.recover(&site).await?;
                self.install(&site, &with, limit).await.map(AppAnswer::Done)
            }
            AppAction::LoginLink { user } => self.login_link(&site, user, limit).await,
            AppAction::Update => {
                self.ready(&site).await?;
                let answer = self.act(&site, Script::Update, limit).await?;
                self.note_schema(&site, limit).await?;
                Ok(answer)
            }
            AppAction::Cron => {
                self.ready(&site).await?;
                self.act(&site, Script::Cron, limit).await
            }
            AppAction::ClearCaches => {
                self.ready(&site).await?;
                self.clear_caches(&site, limit).await
            }
            AppAction::Maintenance { on } => {
                self.ready(&site).await?;
                self.maintenance(&site, on, limit).await
            }
        }
    }

    /// Takes back every installation that died with an earlier run of this agent. What can't be
    /// taken back now, because the database isn't up yet after a start of the machine, is tried
    /// again.
    pub async fn recover_all(&self, trees: &Trees) {
        let mut pause = FIRST_PAUSE;
        while !self.recover_once(trees).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// True if nothing is left to take back.
    async fn recover_once(&self, trees: &Trees) -> bool {
        let targets = match self.journals.all() {
            Ok(targets) => targets,
            Err(problem) => {
                tracing::error!(%problem, "half installations can't be listed");
                return true;
            }
        };
        let mut all_done = true;
        for (hub, target) in targets {
            let shown = target.site.clone();
            let recovered = async {
                let site = LocalSite::find(trees, hub, target, &self.settings)?;
                let _busy = self.take(&site.target)?;
                self.recover(&site).await
            };
            match recovered.await {
                Ok(()) => tracing::warn!(site = %shown, "a half installation was taken back"),
                // Somebody installs it at the moment.
                Err(problem) if problem.code == Code::TaskLocked => {}
                Err(problem) => {
                    all_done = false;
                    let problem = sync_proto::path::escape(problem.to_string().as_bytes());
                    tracing::error!(site = %shown, %problem, "a half installation stays for now");
                }
            }
        }
        all_done
    }

    fn take(&self, target: &AppTarget) -> Result<Busy, Problem> {
        let mut all = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(target.site.clone()) {
            let message = format!("Another task works on {} here", target.site);
            return Err(Problem::new(Code::TaskLocked, message));
        }
        Ok(Busy {
            site: target.site.clone(),
            all: self.busy.clone(),
        })
    }

    /// An action of something that is installed, by its own script or command.
    async fn ready(&self, site: &LocalSite) -> Result<(), Problem> {
        if self.journals.load(&site.target)?.is_some() {
            self.recover(site).await?;
            let message = format!("{} is not installed yet", site.target.site);
            return Err(Problem::new(Code::NotInstalled, message));
        }
        Ok(())
    }

    async fn act(
        &self,
        site: &LocalSite,
        script: Script,
        limit: Duration,
    ) -> Result<AppAnswer, Problem> {
        let input = site.input();
        let ran = self.run(site, script, input, limit).await?;
        ran.done(site, word(script)).map(AppAnswer::Done)
    }

    /// Notes which schema the database has, where the application itself doesn't.
    async fn note_schema(&self, site: &LocalSite, limit: Duration) -> Result<(), Problem> {
        if site.target.driver == AppDriver::Mediawiki {
            let ran = self.run(site, Script::Note, site.input(), limit).await?;
            ran.good(site, "note about the schema")?;
        }
        Ok(())
    }

    async fn maintenance(
        &self,
        site: &LocalSite,
        on: bool,
        limit: Duration,
    ) -> Result<AppAnswer, Problem> {
        // The others have none of their own: the web server's page is all there is.
        let has_own = matches!(
            site.target.driver,
            AppDriver::Drupal | AppDriver::Drupal7 | AppDriver::Command
        );
        let names_one = site.target.driver != AppDriver::Command
            || self.commands.contains_key(word(Script::Maintenance));
        if !has_own || !names_one {
            return Ok(AppAnswer::Done(AppDone::default()));
        }
        let mut input = site.input();
        input.on = on;
        let ran = self.run(site, Script::Maintenance, input, limit).await?;
        ran.done(site, "maintenance mode").map(AppAnswer::Done)
    }

    async fn clear_caches(&self, site: &LocalSite, limit: Duration) -> Result<AppAnswer, Problem> {
        let mut done = match site.target.driver {
            AppDriver::Wordpress | AppDriver::Drupal | AppDriver::Drupal7 => {
                let ran = self
                    .run(site, Script::ClearCaches, site.input(), limit)
                    .await?;
                ran.done(site, word(Script::ClearCaches))?
            }
            AppDriver::Command if self.commands.contains_key(word(Script::ClearCaches)) => {
                let ran = self
                    .run(site, Script::ClearCaches, site.input(), limit)
                    .await?;
                ran.done(site, word(Script::ClearCaches))?
            }
            // It looks at the time of its settings file.
            AppDriver::Mediawiki => AppDone {
                changed: site.renew_stub()?,
                ..AppDone::default()
            },
            _ => AppDone::default(),
        };
        if site.target.driver != AppDriver::Static && self.reset_opcache(site).await? {
            done.changed = true;
            let parts = [done.message.as_str(), "PHP forgot its compiled code"];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            done.message = parts.collect::<Vec<_>>().join("; ");
        }
        Ok(AppAnswer::Done(done))
    }

    async fn login_link(
        &self,
        site: &LocalSite,
        user: String,
        limit: Duration,
    ) -> Result<AppAnswer, Problem> {
        self.ready(site).await?;
        let mut input = site.input();
        input.admin = user;
        let ran = self.run(site, Script::LoginLink, input, limit).await?;
        let answer = ran.good(site, word(Script::LoginLink))?;
        let is_ours = answer.link.starts_with("http") && !answer.link.contains(char::is_control);
        match is_ours {
            true => Ok(AppAnswer::Link(answer.link)),
            false => Err(ran.failure(site, word(Script::LoginLink))),
        }
    }

    async fn requirements(
        &self,
        site: &LocalSite,
        limit: Duration,
    ) -> Result<Vec<String>, Problem> {
        let mut missing = Vec::new();
        match site.target.driver {
            AppDriver::Static => return Ok(missing),
            AppDriver::Php => {
                if site.php.is_none() {
                    missing.push(site.wanted_php());
                }
                return Ok(missing);
            }
            AppDriver::Command if !self.commands.contains_key(word(Script::Requirements)) => {
                return Ok(missing);
            }
            AppDriver::Command => {}
            _ => {
                if site.php.is_none() {
                    return Ok(vec![site.wanted_php()]);
                }
            }
        }
        match site.settings_state()? {
            AppSettings::Foreign => missing.push(format!(
                "the line that includes the settings, in {}",
                site.settings_shown()
            )),
            AppSettings::Unneeded
            | AppSettings::Absent
            | AppSettings::Ours
            | AppSettings::Including => {}
        }
        let ran = self
            .run(site, Script::Requirements, site.input(), limit)
            .await?;
        let answer = ran.good(site, word(Script::Requirements))?;
        missing.extend(answer.missing);
        Ok(missing)
    }

    /// Runs what belongs to an action: the application's own tool, a script that is built in, or a
    /// named command.
    async fn run(
        &self,
        site: &LocalSite,
        script: Script,
        input: crate::services::app::scripts::Input,
        limit: Duration,
    ) -> Result<Ran, Problem> {
        match site.target.driver {
            AppDriver::Command => {
                command::run(site, &self.commands, word(script), &input, limit).await
            }
            _ => match self.tools.run(site, script, &input, limit).await? {
                Some(ran) => Ok(ran),
                None => run::script(site, script, input, limit).await,
            },
        }
    }
}

/// What an action is called in messages, and a command in `agent.toml`.
const fn word(script: Script) -> &'static str {
    match script {
        Script::Look => "look",
        Script::Requirements => "requirements",
        Script::Install => "install",
        Script::Update => "update",
        Script::Cron => "cron",
        Script::Maintenance => "maintenance",
        Script::ClearCaches => "clear-caches",
        Script::LoginLink => "login",
        Script::Tables => "tables",
        Script::DropOthers => "undo",
        Script::Note => "note",
    }
}

/// Opens a directory beneath another, name by name.
fn open_at(dir: &Dir, path: &str) -> Result<Option<Dir>, Problem> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        Problem::from_error(Code::PathNotAllowed, error)
    };
    let path = sync_proto::path::RelPath::parse(path.as_bytes()).map_err(|e| refused(&e))?;
    dir.try_open_dir_at(&path)
        .map_err(|error| crate::engine::member::refusal::of_fs(&error))
}
