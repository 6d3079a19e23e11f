//! What a site's application needs on a member's own disk: the file that leads it to its settings,
//! and the directories that it writes into.

use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::apps::Apps;
use crate::orchestrate::resource::{Applied, Change, Difference, Resource, Sign, Work};
use std::sync::Arc;
use sync_proto::wire::service::{AppAction, AppSettings};

/// The application of one site on one member, ready to be served.
pub struct Prepared {
    /// The way to the site's application.
    pub app: Arc<Apps>,
    /// The site.
    pub site: SiteUri,
    /// The member.
    pub server: ServerName,
    /// Every host of the platform with the directory of its site.
    pub hosts: Vec<(String, String)>,
    /// The share that uploads lie on, where there is one.
    pub share: Vec<u8>,
    /// Neither code nor configuration is there yet, so there is nothing to ask.
    pub is_new: bool,
}

impl Resource for Prepared {
    fn describe(&self) -> String {
        format!("application of {}", self.site)
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn follows(&self) -> bool {
        self.is_new
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            if self.is_new {
                return Ok(Difference::default());
            }
            let state = self.app.look(&self.server, &self.site).await?;
            let mut found = Difference {
                seen: format!("{:?}", state.settings),
                ..Difference::default()
            };
            match state.settings {
                AppSettings::Absent => found.changes.push(Change::new(
                    Sign::Add,
                    "the file that leads it to its settings",
                )),
                AppSettings::Foreign => found.warnings.push(Problem::new(
                    Code::SettingsNotIncluded,
                    format!(
                        "{}: the settings file of {} doesn't include what fanout provides",
                        self.server, self.site
                    ),
                )),
                AppSettings::Unneeded | AppSettings::Ours | AppSettings::Including => {}
            }
            let warning = |text: &String| {
                let message = format!("{}: {text}", self.server);
                Problem::new(Code::ConfigWarning, message)
            };
            found.warnings.extend(state.warnings.iter().map(warning));
            Ok(found)
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            let action = AppAction::Prepare {
                hosts: self.hosts.clone(),
                share: self.share.clone(),
            };
            let done = self.app.act(&self.server, &self.site, action).await?;
            // A file that includes settings which aren't there is harmless: nothing to undo.
            Ok(Applied {
                message: done.message,
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
