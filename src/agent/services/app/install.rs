//! Installs an application once, and leaves nothing behind where that dies halfway.
//!
//! ORDER: requirements, before anything is written; the note of what has to be taken back, durable;
//! the files that lead to the settings; the installer; then the note goes. Whatever stops in
//! between, the note is there, and whoever comes next takes it all back.

use super::journal::{Journal, SavedFile};
use super::prepare::Found;
use super::site::LocalSite;
use super::{Apps, LONGEST, open_at, word};
use crate::codes::{Code, Problem};
use crate::engine::member::reach;
use crate::engine::member::refusal::of_fs;
use crate::fs::{Dir, owner};
use crate::services::app::scripts::Script;
use crate::services::app::{is_installable, stubs, written_dirs};
use std::path::Path;
use std::time::Duration;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::service::{AppDone, AppDriver, AppInstall, AppSettings};

/// Where installers may write what they insist on writing.
const SCRATCH: &str = "/tmp";

impl Apps {
    /// Installs it, unless it is.
    pub(super) async fn install(
        &self,
        site: &LocalSite,
        with: &AppInstall,
        limit: Duration,
    ) -> Result<AppDone, Problem> {
        if !is_installable(site.target.driver) {
            return Ok(AppDone {
                message: "there is nothing to install".into(),
                ..AppDone::default()
            });
        }
        if site.settings_state()? == AppSettings::Foreign {
            let shown = site.settings_shown();
            let message =
                format!("the source has its own `{shown}`, which doesn't include the settings");
            return Err(Problem::new(Code::SettingsNotIncluded, message));
        }
        let missing = self.requirements(site, limit).await?;
        if !missing.is_empty() {
            let name = crate::services::app::driver_name(site.target.driver);
            let message = format!("{name} can't run there: it lacks {}", missing.join(", "));
            return Err(Problem::new(Code::AppUnfit, message));
        }
        let journal = self.note(site, limit).await?;
        self.journals.save(&journal)?;
        let installed = self.carry_out(site, with, &journal, limit).await;
        match installed {
            Ok(done) => {
                remove_scratch(&journal)?;
                self.journals.clear(&site.target)?;
                Ok(done)
            }
            Err(problem) => Err(match self.take_back(site, &journal).await {
                Ok(()) => problem,
                Err(undone) => Problem::new(
                    problem.code,
                    format!(
                        "{}; what it left could not be removed: {}",
                        problem.message, undone.message
                    ),
                ),
            }),
        }
    }

    async fn carry_out(
        &self,
        site: &LocalSite,
        with: &AppInstall,
        journal: &Journal,
        limit: Duration,
    ) -> Result<AppDone, Problem> {
        for stub in stubs(&site.app, &[]) {
            site.place_stub(&stub)?;
        }
        let scratch = make_scratch(journal, site.ids)?;
        let mut input = site.input();
        input.scratch = scratch;
        input.title = with.title.clone();
        input.admin = with.admin.clone();
        input.mail = with.mail.clone();
        input.password = with.password.clone();
        input.profile = with.profile.clone();
        let ran = self.run(site, Script::Install, input, limit).await?;
        let done = ran.done(site, "installation")?;
        self.note_schema(site, limit).await?;
        // Its own word isn't enough: an installer may print a page of errors and end well.
        if site.target.driver != AppDriver::Command
            || self.commands.contains_key(word(Script::Look))
        {
            let ran = self.run(site, Script::Look, site.input(), limit).await?;
            let there = ran.good(site, "installation")?;
            if there.installed == Some(false) {
                return Err(ran.failure(site, "installation"));
            }
        }
        Ok(done)
    }

    /// What would have to be taken back.
    async fn note(&self, site: &LocalSite, limit: Duration) -> Result<Journal, Problem> {
        let tables = match site.target.driver {
            AppDriver::Command => None,
            _ => {
                let ran = self.run(site, Script::Tables, site.input(), limit).await?;
                Some(ran.good(site, "look at the database")?.tables)
            }
        };
        let stub = stubs(&site.app, &[]).into_iter().find(|stub| stub.includes);
        let settings = match stub {
            None => None,
            Some(stub) => Some(SavedFile {
                bytes: match site.found(&stub.path)? {
                    Found::File(bytes) => Some(bytes),
                    Found::Absent | Found::Other => None,
                },
                path: stub.path,
            }),
        };
        let mut empty = Vec::new();
        for path in written_dirs(&site.app) {
            let dir = reach::directory(&site.place, &path, false).unwrap_or(None);
            let is_empty = match dir {
                Some(dir) => dir.list().map_err(|error| of_fs(&error))?.is_empty(),
                None => true,
            };
            if is_empty {
                empty.push(path.as_bytes().to_vec());
            }
        }
        Ok(Journal {
            hub: site.hub,
            target: site.target.clone(),
            tables,
            settings,
            empty,
            scratch: format!("fanout-{:032x}", rand::random::<u128>()),
        })
    }

    /// Takes back an installation that died, if there is one.
    pub(super) async fn recover(&self, site: &LocalSite) -> Result<(), Problem> {
        match self.journals.load(&site.target)? {
            Some(journal) => self.take_back(site, &journal).await,
            None => Ok(()),
        }
    }

    async fn take_back(&self, site: &LocalSite, journal: &Journal) -> Result<(), Problem> {
        match &journal.tables {
            Some(tables) => {
                let mut input = site.input();
                input.tables = tables.clone();
                let ran = self.run(site, Script::DropOthers, input, LONGEST).await?;
                ran.good(site, "removal of half an installation")?;
            }
            None if self.commands.contains_key(word(Script::DropOthers)) => {
                let ran = self
                    .run(site, Script::DropOthers, site.input(), LONGEST)
                    .await?;
                ran.good(site, "removal of half an installation")?;
            }
            None => {}
        }
        if let Some(saved) = &journal.settings {
            match (&saved.bytes, site.found(&saved.path)?) {
                (Some(before), Found::File(now)) if *before == now => {}
                (Some(before), _) => site.write(&saved.path, before)?,
                (None, Found::File(_)) => site.remove(&saved.path)?,
                (None, _) => {}
            }
        }
        let live = site.live()?;
        for path in &journal.empty {
            empty(site, &live, path)?;
        }
        remove_scratch(journal)?;
        self.journals.clear(&site.target)
    }
}

/// Empties a directory that was empty before.
fn empty(site: &LocalSite, live: &Dir, path: &[u8]) -> Result<(), Problem> {
    let path = RelPath::parse(path).map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let dir = match reach::directory(&site.place, &path, false) {
        // A share or a symlink of somebody's own.
        Err(_) => return Ok(()),
        Ok(None) => open_at(live, &String::from_utf8_lossy(path.as_bytes())).unwrap_or(None),
        Ok(dir) => dir,
    };
    let Some(dir) = dir else {
        return Ok(());
    };
    for listed in dir.list().map_err(|error| of_fs(&error))? {
        dir.remove_tree(&listed.name)
            .map_err(|error| of_fs(&error))?;
    }
    Ok(())
}

fn scratch_name(journal: &Journal) -> Result<(Dir, Name), Problem> {
    let dir = Dir::open_absolute(Path::new(SCRATCH)).map_err(|error| of_fs(&error))?;
    let name = Name::parse(journal.scratch.as_bytes())
        .map_err(|error| Problem::from_error(Code::Bug, &error))?;
    Ok((dir, name))
}

fn make_scratch(journal: &Journal, ids: (u32, u32)) -> Result<String, Problem> {
    let (dir, name) = scratch_name(journal)?;
    let made = dir
        .create_dir(&name, 0o700)
        .map_err(|error| of_fs(&error))?;
    owner::give(&made, ids, made.path_for_messages()).map_err(|error| of_fs(&error))?;
    Ok(format!("{SCRATCH}/{}", journal.scratch))
}

fn remove_scratch(journal: &Journal) -> Result<(), Problem> {
    let (dir, name) = scratch_name(journal)?;
    dir.remove_tree(&name).map_err(|error| of_fs(&error))
}
