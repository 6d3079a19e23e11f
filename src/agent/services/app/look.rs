//! What is there of a site's application. Changes nothing.

use super::site::LocalSite;
use super::{Apps, word};
use crate::codes::Problem;
use crate::services::app::scripts::Script;
use crate::services::app::{Files, is_installable, version};
use std::time::Duration;
use sync_proto::path::RelPath;
use sync_proto::wire::service::{AppDriver, AppSettings, AppState};

/// The live tree as drivers look into it.
struct LiveFiles<'a>(&'a crate::fs::Dir);

impl Files for LiveFiles<'_> {
    fn head(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>> {
        let path = RelPath::parse(path.as_bytes()).ok()?;
        let (dir, name) = self.0.open_parent_at(&path).ok()??;
        let file = dir.open_file(&name).ok()?;
        crate::fs::read::read_range(&file, 0, limit_bytes).ok()
    }
}

impl Apps {
    /// Looks at a site.
    pub(super) async fn look(
        &self,
        site: &LocalSite,
        is_half_installed: bool,
        limit: Duration,
    ) -> Result<AppState, Problem> {
        let live = site.live()?;
        let docroot = String::from_utf8_lossy(site.app.docroot.as_bytes()).into_owned();
        let files = LiveFiles(&live);
        let mut state = AppState {
            version: version(site.target.driver, &docroot, &files).unwrap_or_default(),
            settings: site.settings_state()?,
            unprepared: site.unprepared()?,
            is_half_installed,
            tool: self
                .tools
                .find(site)
                .await
                .map_or_else(String::new, |it| it.shown()),
            ..AppState::default()
        };
        if is_half_installed {
            state.is_installed = Some(false);
            return Ok(state);
        }
        if !is_installable(site.target.driver) {
            return Ok(state);
        }
        let is_led = matches!(state.settings, AppSettings::Ours | AppSettings::Including);
        let can_ask = match site.target.driver {
            AppDriver::Command => self.commands.contains_key(word(Script::Look)),
            _ => is_led && site.php.is_some() && site.has_settings(),
        };
        if !can_ask {
            return Ok(state);
        }
        let ran = self.run(site, Script::Look, site.input(), limit).await?;
        match ran.good(site, word(Script::Look)) {
            Ok(answer) => {
                state.is_installed = answer.installed;
                state.pending = answer.pending;
                state.is_in_maintenance = answer.maintenance;
            }
            Err(problem) => state.warnings.push(problem.message),
        }
        Ok(state)
    }
}
