//! Everything that fanout configures on one server: web server, PHP, certificates, settings, pages,
//! balancer, as one set.
//!
//! The server tests a set before it goes live and proves it afterwards; what the set is, is decided
//! here. A site whose files don't pass is left as it is, so that it can't block the others. The two
//! resources in `activation.rs` make it true.

use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::resource::{Applied, Change, Difference, Sign};
use crate::orchestrate::servers::{LOOK, Servers, WORK, unexpected};
use crate::services::web;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use sync_proto::digest::Digest;
use sync_proto::wire::service::{
    ConfigAnswer, ConfigArea, ConfigFault, ConfigFile, ConfigRequest, ConfigSetId, ConfigState,
    Content, FileState,
};
use tokio::sync::OnceCell;

/// How long a server waits for the hub's word before it goes back by itself, in seconds.
const CONFIRM_WITHIN_S: u32 = 30;
/// How long may be looked for the shortest difference of two files.
const DIFFERENCE: Duration = Duration::from_millis(500);
/// LIMIT: bytes of files in one message; below what a message may have.
const PART_BYTES: usize = 512 * 1024;

/// One file that a server should have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The file with its bytes.
    pub file: ConfigFile,
    /// The site that it belongs to; none if it is for all of them.
    pub site: Option<SiteUri>,
}

/// The configuration of one server.
pub struct Configuration {
    servers: Arc<Servers>,
    pub(super) server: ServerName,
    wanted: Vec<Wanted>,
    kept: Kept,
    compared: OnceCell<Result<Difference, Problem>>,
    staged: Mutex<Option<ConfigSetId>>,
    unconfirmed: OnceLock<ConfigSetId>,
}

/// Sites whose files stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Each with the group that may read its settings.
    pub sites: BTreeMap<SiteUri, String>,
    /// Those of them that leave later, once others are proved: nothing is said about them yet.
    pub leaving: BTreeSet<SiteUri>,
    /// The rest was made so before, and what is shown is only what goes.
    pub is_last: bool,
}

impl Kept {
    /// The site that a file belongs to, if it is one of these.
    fn site_of(&self, (area, name): &Key) -> Option<(&SiteUri, &str)> {
        let own = web::site_of(*area, name, self.sites.keys());
        let own = own.or_else(|| {
            let is_its = |uri: &&SiteUri| name.starts_with(&format!("{}.", uri.file_name()));
            (*area == ConfigArea::Settings)
                .then(|| self.sites.keys().find(is_its))
                .flatten()
        })?;
        self.sites
            .get_key_value(own)
            .map(|(uri, group)| (uri, group.as_str()))
    }
}

type Key = (ConfigArea, String);

impl Configuration {
    /// Every file that a server should have; `kept` are sites that are no longer listed there, and
    /// stay until somebody says otherwise.
    pub fn new(
        servers: Arc<Servers>,
        server: &ServerName,
        wanted: Vec<Wanted>,
        kept: Kept,
    ) -> Self {
        Self {
            servers,
            server: server.clone(),
            wanted,
            kept,
            compared: OnceCell::new(),
            staged: Mutex::default(),
            unconfirmed: OnceLock::new(),
        }
    }

    pub(super) async fn compare(&self) -> &Result<Difference, Problem> {
        self.compared.get_or_init(|| self.look()).await
    }

    async fn look(&self) -> Result<Difference, Problem> {
        let state = self.state().await?;
        if let Some(set) = state.live.filter(|_| state.is_unconfirmed) {
            let _compared_once = self.unconfirmed.set(set);
        }
        let there = by_name(&state);
        let all = self.wanted(&there).await?;
        let wanted = contents(&all);
        let mut found = Difference {
            seen: seen(&state),
            ..Difference::default()
        };
        for (key, bytes) in wanted.iter().filter(|_| !self.kept.is_last) {
            let digest = Digest::of(bytes);
            match there.get(key) {
                None => found.changes.push(Change::new(Sign::Add, shown(key))),
                Some(file) if file.digest == digest && file.put == digest => {}
                Some(file) => found.changes.push(Change {
                    sign: Sign::Change,
                    what: match file.digest == file.put {
                        true => shown(key),
                        false => format!("{} (edited by hand)", shown(key)),
                    },
                    detail: self.text_difference(key, bytes).await,
                }),
            }
        }
        // What the sites that stay share with each other stays as well.
        let is_kept = !self.kept.sites.is_empty();
        let mut kept = BTreeSet::new();
        for key in there.keys().filter(|key| !wanted.contains_key(*key)) {
            match self.kept.site_of(key) {
                Some((site, _)) => {
                    kept.insert(site);
                }
                None if is_kept => {}
                None => found.changes.push(Change::new(Sign::Remove, shown(key))),
            }
        }
        let unlisted = |site: &&SiteUri| {
            Change::new(Sign::Unlisted, format!("{site} is no longer listed here"))
        };
        let said = kept
            .iter()
            .filter(|site| !self.kept.leaving.contains(**site));
        found.changes.extend(said.map(unlisted));
        Ok(found)
    }

    pub(super) async fn revert(&self, note: &str) -> Result<(), Problem> {
        let set = parse_set(note).ok_or_else(|| {
            Problem::new(Code::Bug, "The note about a configuration set is damaged")
        })?;
        self.done(ConfigRequest::Revert { set }).await
    }

    /// The files that the server should have, with what sites that stay need of the shared ones.
    async fn wanted(&self, there: &BTreeMap<Key, &FileState>) -> Result<Vec<Wanted>, Problem> {
        let mut all = self.wanted.clone();
        if self.kept.sites.is_empty() {
            return Ok(all);
        }
        for file in all.iter_mut().map(|wanted| &mut wanted.file) {
            let key = (file.area, file.name.clone());
            if web::is_roots(file.area, &file.name) && there.contains_key(&key) {
                let (area, name) = key;
                let read = ConfigRequest::Read { area, name };
                let ConfigAnswer::Read { bytes } =
                    self.servers.config(&self.server, read, LOOK).await?
                else {
                    return Err(unexpected(&self.server));
                };
                let merged = web::with_live_roots(bytes_of(file), &bytes);
                file.content = Content::Bytes(merged);
            }
        }
        Ok(all)
    }

    async fn state(&self) -> Result<ConfigState, Problem> {
        match self
            .servers
            .config(&self.server, ConfigRequest::State, LOOK)
            .await?
        {
            ConfigAnswer::State(state) => Ok(state),
            _ => Err(unexpected(&self.server)),
        }
    }

    async fn done(&self, request: ConfigRequest) -> Result<(), Problem> {
        match self.servers.config(&self.server, request, WORK).await? {
            ConfigAnswer::Done => Ok(()),
            _ => Err(unexpected(&self.server)),
        }
    }

    /// What a person would want to read of a changed file; nothing of a secret one.
    async fn text_difference(&self, key: &Key, bytes: &[u8]) -> String {
        if is_secret(key.0) {
            return String::new();
        }
        let request = ConfigRequest::Read {
            area: key.0,
            name: key.1.clone(),
        };
        let Ok(ConfigAnswer::Read { bytes: old }) =
            self.servers.config(&self.server, request, LOOK).await
        else {
            return String::new();
        };
        let (old, new) = (
            String::from_utf8_lossy(&old),
            String::from_utf8_lossy(bytes),
        );
        // LIMIT: what a member says may differ in every line; the difference is coarser then.
        let mut difference = similar::TextDiff::configure();
        difference.timeout(DIFFERENCE);
        difference
            .diff_lines(old.as_ref(), new.as_ref())
            .unified_diff()
            .context_radius(2)
            .to_string()
    }

    /// Puts and tests; once more without the sites that don't pass.
    pub(super) async fn stage(&self) -> Result<Applied, Problem> {
        let state = self.state().await?;
        let set = self.put(&state, &BTreeSet::new()).await?;
        let (faults, mut warnings) = self.test(set).await?;
        let mut staged = set;
        if !faults.is_empty() {
            self.done(ConfigRequest::Revert { set }).await?;
            let Some(sites) = self.sites_of(&faults) else {
                return Err(self.refused(&faults));
            };
            staged = self.put(&state, &sites).await?;
            let (rest, more) = self.test(staged).await?;
            if !rest.is_empty() {
                self.done(ConfigRequest::Revert { set: staged }).await?;
                return Err(self.refused(&faults));
            }
            warnings.extend(more);
            warnings.extend(faults.iter().map(|fault| self.left_out(fault)));
        }
        *self.slot() = Some(staged);
        Ok(Applied {
            undo: Some(show_set(staged)),
            message: "staged, passes its test".into(),
            warnings,
        })
    }

    /// True if what is live waits for its confirmation, and goes back without one: a hub that died
    /// after it had activated that left it so.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.get().is_some()
    }

    /// Activates what was staged, and confirms it, after what was left unconfirmed.
    pub(super) async fn activate(&self) -> Result<Applied, Problem> {
        if let Some(set) = self.unconfirmed.get() {
            self.done(ConfigRequest::Confirm { set: *set }).await?;
        }
        let Some(set) = self.slot().take() else {
            if self.is_unconfirmed() {
                return Ok(Applied {
                    message: "was live, and is confirmed".into(),
                    ..Applied::default()
                });
            }
            return Err(Problem::new(Code::Bug, "Nothing was staged"));
        };
        let request = ConfigRequest::Activate {
            set,
            confirm_within_s: CONFIRM_WITHIN_S,
        };
        let ConfigAnswer::Activated(activated) =
            self.servers.config(&self.server, request, WORK).await?
        else {
            return Err(unexpected(&self.server));
        };
        self.done(ConfigRequest::Confirm { set }).await?;
        let note =
            |text: &String| Problem::new(Code::ConfigWarning, format!("{}: {text}", self.server));
        Ok(Applied {
            undo: Some(show_set(set)),
            message: match activated.proved.is_empty() {
                true => "live".into(),
                false => format!("live, proved by {}", activated.proved.join(", ")),
            },
            warnings: activated.warnings.iter().map(note).collect(),
        })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<ConfigSetId>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new set there: what is wanted, except that the files of these sites stay as they
    /// are.
    async fn put(
        &self,
        state: &ConfigState,
        untouched: &BTreeSet<SiteUri>,
    ) -> Result<ConfigSetId, Problem> {
        let set: ConfigSetId = rand::random();
        let there = by_name(state);
        let mut files = Vec::new();
        for wanted in &self.wanted(&there).await? {
            let file = &wanted.file;
            let live = there.get(&(file.area, file.name.clone()));
            let stays = wanted
                .site
                .as_ref()
                .is_some_and(|site| untouched.contains(site));
            let digest = Digest::of(bytes_of(file));
            let content = match live {
                Some(live) if stays => Content::Same(live.digest),
                None if stays => continue,
                Some(live) if live.digest == digest => Content::Same(digest),
                _ => file.content.clone(),
            };
            files.push(ConfigFile {
                content,
                ..file.clone()
            });
        }
        for (key, live) in &there {
            let is_wanted = |file: &ConfigFile| (file.area, file.name.as_str()) == (key.0, &key.1);
            if self.kept.sites.is_empty() || files.iter().any(is_wanted) {
                continue;
            }
            let group = match (key.0, self.kept.site_of(key)) {
                (ConfigArea::Settings, Some((_, group))) => group.to_owned(),
                _ => String::new(),
            };
            files.push(ConfigFile {
                area: key.0,
                name: key.1.clone(),
                group,
                content: Content::Same(live.digest),
            });
        }
        let (mut part, mut bytes) = (Vec::new(), 0);
        for file in files {
            let length = bytes_of(&file).len() + file.name.len();
            if bytes + length > PART_BYTES && !part.is_empty() {
                let files = std::mem::take(&mut part);
                self.done(ConfigRequest::Put { set, files }).await?;
                bytes = 0;
            }
            bytes += length;
            part.push(file);
        }
        self.done(ConfigRequest::Put { set, files: part }).await?;
        Ok(set)
    }

    async fn test(&self, set: ConfigSetId) -> Result<(Vec<ConfigFault>, Vec<Problem>), Problem> {
        let request = ConfigRequest::Test { set };
        match self.servers.config(&self.server, request, WORK).await? {
            ConfigAnswer::Tested(tested) => {
                let note = |text: &String| {
                    Problem::new(Code::ConfigWarning, format!("{}: {text}", self.server))
                };
                Ok((tested.faults, tested.warnings.iter().map(note).collect()))
            }
            _ => Err(unexpected(&self.server)),
        }
    }

    /// The sites that all of these faults belong to; `None` if one belongs to none.
    fn sites_of(&self, faults: &[ConfigFault]) -> Option<BTreeSet<SiteUri>> {
        let site = |fault: &ConfigFault| {
            let is_it =
                |wanted: &&Wanted| wanted.file.area == fault.area && wanted.file.name == fault.name;
            self.wanted.iter().find(is_it)?.site.clone()
        };
        faults.iter().map(site).collect()
    }

    fn refused(&self, faults: &[ConfigFault]) -> Problem {
        let mut message = format!("{}: the configuration doesn't pass its test", self.server);
        for fault in faults {
            let _infallible = write!(message, "; {}", shown_fault(fault));
        }
        Problem::new(Code::ConfigRefused, message)
    }

    fn left_out(&self, fault: &ConfigFault) -> Problem {
        Problem::new(
            Code::SiteQuarantined,
            format!("{}: {}", self.server, shown_fault(fault)),
        )
    }
}

fn shown_fault(fault: &ConfigFault) -> String {
    match fault.name.is_empty() {
        true => fault.message.clone(),
        false => format!(
            "{}: {}",
            shown(&(fault.area, fault.name.clone())),
            fault.message
        ),
    }
}

/// The bytes of every file that has any.
fn contents(wanted: &[Wanted]) -> BTreeMap<Key, &[u8]> {
    let one = |wanted: &'_ Wanted| match &wanted.file.content {
        Content::Bytes(_) => Some((wanted.file.area, wanted.file.name.clone())),
        Content::Same(_) => None,
    };
    wanted
        .iter()
        .filter_map(|wanted| Some((one(wanted)?, bytes_of(&wanted.file))))
        .collect()
}

fn by_name(state: &ConfigState) -> BTreeMap<Key, &FileState> {
    let key = |file: &FileState| (file.area, file.name.clone());
    state.files.iter().map(|file| (key(file), file)).collect()
}

fn seen(state: &ConfigState) -> String {
    let mut seen = state.live.map(show_set).unwrap_or_default();
    for file in &state.files {
        let _infallible = write!(seen, " {}", file.digest);
    }
    seen
}

fn bytes_of(file: &ConfigFile) -> &[u8] {
    match &file.content {
        Content::Bytes(bytes) => bytes,
        Content::Same(_) => &[],
    }
}

const fn is_secret(area: ConfigArea) -> bool {
    matches!(
        area,
        ConfigArea::Keys | ConfigArea::Passwords | ConfigArea::Settings | ConfigArea::Haproxy
    )
}

/// An area as a person reads it.
const fn area_word(area: ConfigArea) -> &'static str {
    match area {
        ConfigArea::Nginx => "nginx",
        ConfigArea::Apache => "apache",
        ConfigArea::PhpFpm => "php-fpm",
        ConfigArea::Certificates => "certificate",
        ConfigArea::Keys => "key",
        ConfigArea::Pages => "page",
        ConfigArea::Passwords => "passwords",
        ConfigArea::Settings => "settings",
        ConfigArea::Haproxy => "haproxy",
        ConfigArea::NginxBalancer => "nginx balancer",
    }
}

fn shown((area, name): &Key) -> String {
    format!("{} {name}", area_word(*area))
}

fn show_set(set: ConfigSetId) -> String {
    data_encoding::HEXLOWER.encode(&set)
}

fn parse_set(text: &str) -> Option<ConfigSetId> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .ok()?
        .try_into()
        .ok()
}
