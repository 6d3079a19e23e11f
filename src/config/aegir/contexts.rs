//! Aegir's contexts as they lie below its home: servers, platforms, sites.

use super::AegirError;
use super::php::{self, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// LIMIT: a site's list of packages has some hundred KiB.
const MAX_BYTES: u64 = 8 << 20;
const SUFFIX: &str = ".alias.drushrc.php";

/// One context: an alias with its properties. Without `Debug`, for it may hold a password.
pub(super) struct Context {
    /// The alias, without `@`.
    pub(super) name: String,
    /// Its properties.
    pub(super) properties: Value,
}

impl Context {
    /// A property as text, if it has one. Aegir writes words where it means nothing.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let text = self.properties.get(key)?.text()?;
        (!matches!(text, "null" | "NONE")).then_some(text)
    }

    /// A property as a list of texts.
    pub(super) fn texts(&self, key: &str) -> Vec<&str> {
        self.properties.get(key).map_or_else(Vec::new, Value::texts)
    }

    /// A property that names another context, without `@`.
    pub(super) fn reference(&self, key: &str) -> Option<&str> {
        self.text(key).map(|text| text.trim_start_matches('@'))
    }

    /// A property that names other contexts, without `@`.
    pub(super) fn references(&self, key: &str) -> Vec<&str> {
        let texts = self.texts(key).into_iter();
        texts.map(|text| text.trim_start_matches('@')).collect()
    }
}

/// Everything that Aegir's home says.
#[derive(Default)]
pub(super) struct Contexts {
    /// Servers, packs and clusters.
    pub(super) servers: BTreeMap<String, Context>,
    /// Platforms.
    pub(super) platforms: BTreeMap<String, Context>,
    /// Sites.
    pub(super) sites: BTreeMap<String, Context>,
    /// What could not be read or isn't known, in words.
    pub(super) left: Vec<String>,
}

/// Reads the alias files of a home.
pub(super) fn read(home: &Path) -> Result<Contexts, AegirError> {
    let directory = home.join(".drush");
    let unreadable = |source: io::Error| AegirError::NotAegir {
        path: directory.clone(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    let mut contexts = Contexts::default();
    for path in &files {
        if let Err(message) = read_aliases(path, &mut contexts) {
            contexts.left.push(message);
        }
    }
    match contexts.servers.is_empty() {
        true => Err(AegirError::NoContexts { path: directory }),
        false => Ok(contexts),
    }
}

fn read_aliases(path: &Path, contexts: &mut Contexts) -> Result<(), String> {
    let shown = path.display();
    let text = read_text(path).map_err(|error| format!("{shown}: {error}"))?;
    let php = php::read(&text).map_err(|error| format!("{shown}: {error}"))?;
    for line in php.skipped {
        contexts
            .left
            .push(format!("{shown}:{line}: a statement that isn't an alias"));
    }
    for assignment in php.assignments {
        let [name] = assignment.keys.as_slice() else {
            continue;
        };
        if assignment.variable != "aliases" {
            continue;
        }
        let context = Context {
            name: name.clone(),
            properties: assignment.value,
        };
        let kind = context.text("context_type").unwrap_or_default().to_owned();
        let place = match kind.as_str() {
            "server" => &mut contexts.servers,
            "platform" => &mut contexts.platforms,
            "site" => &mut contexts.sites,
            _ => {
                contexts
                    .left
                    .push(format!("{shown}: @{name} is no server, platform or site"));
                continue;
            }
        };
        place.insert(name.clone(), context);
    }
    Ok(())
}

/// A site's access to its database.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// The database.
    pub(super) name: Option<String>,
    /// The account.
    pub(super) user: Option<String>,
    /// Its password.
    pub(super) password: Option<String>,
}

impl Credentials {
    fn is_whole(&self) -> bool {
        self.name.is_some() && self.user.is_some() && self.password.is_some()
    }

    fn put(&mut self, key: &str, value: &str) {
        let place = match key {
            "db_name" => &mut self.name,
            "db_user" => &mut self.user,
            "db_passwd" => &mut self.password,
            _ => return,
        };
        *place = Some(value.to_owned());
    }
}

/// A site's credentials: from its drushrc.php, or else from its vhost, where Aegir hides them.
pub(super) fn credentials(site_path: &Path, vhosts: &[PathBuf]) -> Credentials {
    let mut found = Credentials::default();
    let drushrc = read_text(&site_path.join("drushrc.php")).ok();
    let options = drushrc.and_then(|text| php::read(&text).ok());
    for assignment in options.iter().flat_map(|php| &php.assignments) {
        if let ("options", [key]) = (assignment.variable.as_str(), assignment.keys.as_slice())
            && let Some(value) = assignment.value.text()
        {
            found.put(key, value);
        }
    }
    for vhost in vhosts {
        if found.is_whole() {
            break;
        }
        for line in read_text(vhost).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["SetEnv" | "fastcgi_param", key, value] = words.as_slice() {
                let value = value.trim_end_matches(';').trim_matches(['"', '\'']);
                if !value.is_empty() {
                    found.put(key, value);
                }
            }
        }
    }
    found
}

/// The text of a file of Aegir's.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}
