//! A site as it lies on this server: its tree, its documents, its user, its PHP.

use super::super::super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::engine::member::place::Place;
use crate::engine::member::refusal::of_fs;
use crate::fs::{Dir, owner};
use crate::model::SiteUri;
use crate::net::NodeKey;
use crate::services::app::scripts::{Input, driver_word};
use crate::services::app::{AppSite, needs_php};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sync_proto::path::{Name, RelPath, escape};
use sync_proto::wire::service::AppTarget;

/// Where interpreters lie.
const BINARIES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// One site on this server.
#[derive(Debug)]
pub(super) struct LocalSite {
    /// As the hub named it.
    pub(super) target: AppTarget,
    /// The same, parsed.
    pub(super) app: AppSite,
    /// The hub that it belongs to.
    pub(super) hub: NodeKey,
    /// Its tree's place.
    pub(super) place: Place,
    /// The documents, as programs here reach them.
    pub(super) docroot: PathBuf,
    /// Its user's numbers.
    pub(super) ids: (u32, u32),
    /// Its PHP, if it is installed.
    pub(super) php: Option<PathBuf>,
    /// Its settings file, as programs here reach it.
    pub(super) settings: Option<PathBuf>,
}

impl LocalSite {
    /// Finds a site; refuses what isn't this hub's, and names that aren't names.
    pub(super) fn find(
        trees: &Trees,
        hub: NodeKey,
        target: AppTarget,
        settings: &Path,
    ) -> Result<Self, Problem> {
        let refused = |why: String| Problem::new(Code::PathNotAllowed, why);
        let binding = trees
            .binding(target.tree)
            .ok_or_else(|| Problem::new(Code::TreeUnknown, "This agent has no such tree"))?;
        if binding.hub != hub {
            let message = "That tree belongs to another hub";
            return Err(Problem::new(Code::TreeBoundElsewhere, message));
        }
        let docroot =
            RelPath::parse(&target.docroot).map_err(|error| refused(error.to_string()))?;
        let uri: SiteUri = target
            .site
            .parse()
            .map_err(|error| Problem::from_error(Code::NameInvalid, &error))?;
        let dir = match target.dir.as_str() {
            "" => None,
            dir if is_plain(dir) => Some(dir.to_owned()),
            dir => {
                let shown = escape(dir.as_bytes());
                return Err(refused(format!("`{shown}` is not the name of a directory")));
            }
        };
        let ids = ids(&target.user)?;
        let settings = match target.settings.as_str() {
            "" => None,
            name if is_plain(name) => Some(settings.join(name)),
            name => {
                let shown = escape(name.as_bytes());
                return Err(refused(format!("`{shown}` is not the name of a file")));
            }
        };
        let place = trees.place(&binding)?;
        let below = std::ffi::OsStr::from_bytes(docroot.as_bytes());
        let path = match docroot.is_root() {
            true => binding.path.clone(),
            false => binding.path.join(below),
        };
        let app = AppSite {
            driver: target.driver,
            uri,
            aliases: Vec::new(),
            dir,
            docroot,
            is_tls: target.is_tls,
            is_also_plain: false,
            title: None,
        };
        let php = match needs_php(target.driver) {
            true => find_php(&target.php)?,
            false => None,
        };
        Ok(Self {
            target,
            app,
            hub,
            place,
            docroot: path,
            ids,
            php,
            settings,
        })
    }

    /// The tree that visitors see.
    pub(super) fn live(&self) -> Result<Dir, Problem> {
        let live = self.place.live().map_err(|error| of_fs(&error))?;
        live.ok_or_else(|| {
            let root = self.place.root_for_messages();
            Problem::new(
                Code::NothingPushed,
                format!("Nothing was published at `{root}` yet"),
            )
        })
    }

    /// What every script is told.
    pub(super) fn input(&self) -> Input {
        Input {
            word: format!("fanout-{:032x}:", rand::random::<u128>()),
            driver: driver_word(self.target.driver),
            docroot: self.docroot.to_string_lossy().into_owned(),
            url: self.app.url(),
            host: self.app.uri.host().to_owned(),
            base: self.app.base_path(),
            dir: self.app.dir.clone().unwrap_or_default(),
            is_tls: self.target.is_tls,
            ..Input::default()
        }
    }

    /// Its settings are on this server.
    pub(super) fn has_settings(&self) -> bool {
        let Some(path) = &self.settings else {
            return false;
        };
        let found = Dir::open_parent_of(path).and_then(|(dir, name)| dir.stat(&name));
        found.is_ok_and(|stat| stat.is_some_and(|stat| stat.is_file()))
    }

    /// The PHP that it wants, in words.
    pub(super) fn wanted_php(&self) -> String {
        match self.target.php.as_str() {
            "" => "PHP for the command line (package php-cli)".into(),
            version => format!("PHP {version} for the command line (package php{version}-cli)"),
        }
    }
}

/// One path component without anything that could mean something else.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    !name.starts_with('.') && name.len() <= 255 && name.chars().all(allowed)
}

/// The user's numbers; never root's.
pub(super) fn ids(user: &str) -> Result<(u32, u32), Problem> {
    let shown = escape(user.as_bytes());
    let ids = owner::user_ids(user).ok_or_else(|| {
        Problem::new(
            Code::OwnerMissing,
            format!("This machine has no user named `{shown}`"),
        )
    })?;
    if ids.0 == 0 {
        let message = format!("`{shown}` is root, and no application runs as root");
        return Err(Problem::new(Code::RoleForbidden, message));
    }
    if !owner::is_privileged() && owner::own_ids().0 != ids.0 {
        let message = format!("This agent isn't root, so it can't run anything as `{shown}`");
        return Err(Problem::new(Code::PermissionDenied, message));
    }
    Ok(ids)
}

fn find_php(version: &str) -> Result<Option<PathBuf>, Problem> {
    if !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        let shown = escape(version.as_bytes());
        let message = format!("`{shown}` is not a version of PHP");
        return Err(Problem::new(Code::NameInvalid, message));
    }
    let name = format!("php{version}");
    for dir in BINARIES {
        let found = Dir::open_absolute(Path::new(dir)).ok();
        let stat = found.and_then(|dir| dir.stat(&Name::parse(name.as_bytes()).ok()?).ok()?);
        if stat.is_some() {
            return Ok(Some(Path::new(dir).join(&name)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for good in [
            "shop",
            "www.example.com",
            "www.example.com+shop.settings.php",
            "a_b-c",
        ] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [".", "..", ".git", "a/b", "a b", "a\0", "ä", "a'b"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    #[test]
    fn no_application_runs_as_root_or_as_nobody_known() {
        assert_eq!(ids("root").unwrap_err().code, Code::RoleForbidden);
        assert_eq!(
            ids("no-such-user-here").unwrap_err().code,
            Code::OwnerMissing
        );
    }

    #[test]
    fn a_version_of_php_is_digits_and_dots() {
        assert!(find_php("8.2; id").is_err());
        assert!(find_php("../x").is_err());
        assert_eq!(find_php("0.1").unwrap(), None);
    }
}
