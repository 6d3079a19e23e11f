//! A site's application: its files on every member, its installation in the database, its schema.

use crate::codes::{Code, Problem};
use crate::model::ServerName;
use crate::orchestrate::applications::Application;
use crate::orchestrate::resource::{Applied, Change, Difference, Resource, Sign, Work};
use crate::services::app::{driver_name, why_install_is_final};
use sync_proto::wire::service::{AppAction, AppAnswer, AppInstall, AppSettings};

/// What leads an application to its settings, and what it writes into, on one member.
pub struct ApplicationFiles {
    /// The application.
    pub app: Application,
    /// The member.
    pub server: ServerName,
    /// The hosts of all sites of its platform, each with the site's directory.
    pub hosts: Vec<(String, String)>,
    /// The share that its uploads lie on; empty: the member's own disk.
    pub share: Vec<u8>,
    /// Neither code nor settings were there when the plan was made, so there was nothing to ask.
    pub is_new: bool,
}

impl Resource for ApplicationFiles {
    fn describe(&self) -> String {
        format!("files of {}", self.app.uri())
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn follows(&self) -> bool {
        self.is_new
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async move {
            if self.is_new {
                return Ok(Difference::default());
            }
            let state = self.app.look(&self.server).await?;
            let mut found = Difference {
                seen: format!("{:?} {:?}", state.settings, state.unprepared),
                ..Difference::default()
            };
            if state.settings == AppSettings::Foreign {
                let message = format!(
                    "the source's own settings file of {} doesn't include the settings",
                    self.app.uri()
                );
                found
                    .warnings
                    .push(Problem::new(Code::SettingsNotIncluded, message));
            }
            let paths = state.unprepared.iter();
            found.changes = paths
                .map(|path| Change::new(Sign::Add, path.as_str()))
                .collect();
            Ok(found)
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async move {
            let action = AppAction::Prepare {
                hosts: self.hosts.clone(),
                share: self.share.clone(),
            };
            let done = self.app.act(&self.server, action).await?;
            Ok(Applied {
                message: done.message,
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        // Nothing that the next apply would not make again, and nothing in anybody's way.
        Box::pin(async { Ok(()) })
    }
}

/// An installed application.
pub struct Installed {
    /// The application.
    pub app: Application,
    /// Members that may do it, in order of preference.
    pub members: Vec<ServerName>,
    /// What the installation is told.
    pub with: AppInstall,
}

impl Resource for Installed {
    fn describe(&self) -> String {
        format!("installation of {}", self.app.uri())
    }

    fn member(&self) -> Option<&ServerName> {
        None
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async move {
            let (_, state) = self.app.look_anywhere(&self.members).await?;
            let mut found = Difference {
                seen: format!("{:?} {}", state.is_installed, state.is_half_installed),
                ..Difference::default()
            };
            if state.is_installed != Some(true) {
                let name = driver_name(self.app.site.driver);
                let mut what = format!("{name} {}", state.version);
                if state.is_half_installed {
                    what += ", after what an installation that died has left was removed";
                }
                found.changes.push(Change::new(Sign::Add, what.trim()));
                found.irreversible = why_install_is_final(self.app.site.driver);
            }
            Ok(found)
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async move {
            let action = AppAction::Install(self.with.clone());
            let (member, answer) = self.app.act_once(&self.members, &action).await?;
            Ok(Applied {
                message: said(&member, answer),
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        // One that died was taken back by the member itself; one that is complete stays, as the
        // plan had said.
        Box::pin(async { Ok(()) })
    }
}

/// A database whose schema is that of the code.
pub struct SchemaUpdated {
    /// The application.
    pub app: Application,
    /// Members that may do it, in order of preference.
    pub members: Vec<ServerName>,
}

impl Resource for SchemaUpdated {
    fn describe(&self) -> String {
        format!("schema of {}", self.app.uri())
    }

    fn member(&self) -> Option<&ServerName> {
        None
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async move {
            let (_, state) = self.app.look_anywhere(&self.members).await?;
            let mut found = Difference {
                seen: format!("{:?} {:?}", state.is_installed, state.pending),
                ..Difference::default()
            };
            if state.is_installed == Some(true) && !state.pending.is_empty() {
                let pending = state.pending.iter();
                found.changes = pending
                    .map(|it| Change::new(Sign::Change, it.as_str()))
                    .collect();
                found.irreversible = Some(format!(
                    "the schema of {} is updated, and a rollback brings back the code only",
                    self.app.uri()
                ));
            }
            Ok(found)
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async move {
            let update = AppAction::Update;
            let (member, answer) = self.app.act_once(&self.members, &update).await?;
            let mut applied = Applied {
                message: said(&member, answer),
                ..Applied::default()
            };
            // What members remember in their own memory is of the old schema.
            for member in &self.members {
                if let Err(problem) = self.app.act(member, AppAction::ClearCaches).await {
                    applied.warnings.push(problem);
                }
            }
            Ok(applied)
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn said(member: &ServerName, answer: AppAnswer) -> String {
    match answer {
        AppAnswer::Done(done) if done.message.is_empty() => format!("on {member}"),
        AppAnswer::Done(done) => format!("{} (on {member})", done.message),
        _ => String::new(),
    }
}
