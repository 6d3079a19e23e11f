//! Files of a set on their way to the disk, and back.

use super::place::{AREAS, Record, Recorded, area_dir, disk, hex, name};
use super::{Sets, now_s, unknown};
use crate::codes::{Code, Problem};
use crate::fs::owner::Principals;
use crate::fs::read::read_small;
use crate::fs::{Dir, system};
use std::collections::BTreeMap;
use std::io::Write as _;
use sync_proto::digest::Digest;
use sync_proto::entry::Principal;
use sync_proto::path::{Name, escape};
use sync_proto::wire::MAX_MESSAGE_BYTES;
use sync_proto::wire::service::{ConfigArea, ConfigFile, ConfigSetId, Content, FileState};

/// LIMIT: bytes of one file.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// LIMIT: what the names of a set may take in the one message that tells its state, each with two
/// digests and some small numbers: more than ten thousand files.
const MAX_NAMES_BYTES: usize = MAX_MESSAGE_BYTES - 4096;
const FILE_STATE_BYTES: usize = 2 * 32 + 8;
/// How many sets are kept, the live one included.
const KEPT: usize = 5;
/// PHP remembers where a path led for two minutes by default: no set goes before its last reader.
const SHORTEST_LIFE_S: u64 = 600;

impl Sets {
    /// Writes some files of a set that isn't live.
    pub(super) fn put(&self, set: &ConfigSetId, files: Vec<ConfigFile>) -> Result<(), Problem> {
        let refused = |message: String| Problem::new(Code::SetRefused, message);
        let record = self.place.record(set)?;
        if self.place.live() == Some(*set) || record.as_ref().is_some_and(|it| it.activated_s > 0) {
            return Err(refused(format!("The set {} was live already", hex(set))));
        }
        let mut record = record.unwrap_or_default();
        let known = record.files.into_iter();
        let mut all: BTreeMap<(ConfigArea, String), Recorded> =
            known.map(|it| ((it.area, it.name.clone()), it)).collect();
        // Before anything is written: what is refused leaves no files that nobody counts.
        let mut wanted = Vec::with_capacity(files.len());
        for file in files {
            let own = file_name(&file.name)?;
            let bytes = self.bytes(&file)?;
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err(refused(format!("{own} is too large")));
            }
            if !is_group(&file.group) {
                let shown = escape(file.group.as_bytes());
                return Err(refused(format!("`{shown}` is not the name of a group")));
            }
            let recorded = Recorded {
                area: file.area,
                name: file.name,
                group: file.group,
                digest: Digest::of(&bytes),
            };
            all.insert((recorded.area, recorded.name.clone()), recorded);
            wanted.push((file.area, own, bytes));
        }
        let names_bytes = all.keys().map(|(_, name)| name.len() + FILE_STATE_BYTES);
        if names_bytes.sum::<usize>() > MAX_NAMES_BYTES {
            let message = format!("{} files are more than a set may have", all.len());
            return Err(refused(message));
        }
        let dir = self.staged(set)?;
        for (area, own, bytes) in wanted {
            write(&dir, area, &own, &bytes)?;
        }
        record.files = all.into_values().collect();
        record.is_tested = false;
        self.place.save_record(&dir, &record).map_err(disk)
    }

    /// The directory of a set that is being put together. Others that never went live are
    /// forgotten: a hub works on one at a time.
    fn staged(&self, set: &ConfigSetId) -> Result<Dir, Problem> {
        if let Some(dir) = self.place.open(set).map_err(disk)? {
            return Ok(dir);
        }
        for other in self.place.all().map_err(disk)? {
            let record = self.place.record(&other)?;
            if record.is_none_or(|it| it.activated_s == 0) && self.place.live() != Some(other) {
                self.forget(&other)?;
            }
        }
        let sets = self.place.sets().map_err(disk)?;
        let own = name(&hex(set)).map_err(disk)?;
        let dir = sets.create_dir(&own, 0o711).map_err(disk)?;
        for area in AREAS {
            let (area, mode) = area_dir(area);
            let area = name(area).map_err(disk)?;
            dir.create_dir(&area, mode).map_err(disk)?;
        }
        Ok(dir)
    }

    /// What a file shall hold.
    fn bytes(&self, file: &ConfigFile) -> Result<Vec<u8>, Problem> {
        let wanted = match &file.content {
            Content::Bytes(bytes) => return Ok(bytes.clone()),
            Content::Same(digest) => digest,
        };
        let live = self.place.live();
        let found = match live {
            Some(live) => self.content(&live, file.area, &file.name)?,
            None => None,
        };
        match found {
            Some(bytes) if Digest::of(&bytes) == *wanted => Ok(bytes),
            _ => {
                let (area, _) = area_dir(file.area);
                let name = escape(file.name.as_bytes());
                let message = format!("{area}/{name} isn't what was put there");
                Err(Problem::new(Code::LiveFileChanged, message))
            }
        }
    }

    /// What a file of a set holds now; `None` if it isn't there.
    pub(super) fn content(
        &self,
        set: &ConfigSetId,
        area: ConfigArea,
        file: &str,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let own = file_name(file)?;
        let Some(dir) = self.place.open(set).map_err(disk)? else {
            return Err(unknown(set));
        };
        let area = name(area_dir(area).0).map_err(disk)?;
        let Some(dir) = dir.try_open_dir(&area).map_err(disk)? else {
            return Ok(None);
        };
        if dir.stat(&own).map_err(disk)?.is_none() {
            return Ok(None);
        }
        match read_small(&dir, &own, None, MAX_FILE_BYTES) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(error) => Err(Problem::from_error(Code::DiskError, &error)),
        }
    }

    /// The files of a set as they are now; one that is gone has the digest of nothing.
    pub(super) fn files(&self, set: &ConfigSetId) -> Result<Vec<FileState>, Problem> {
        let record = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        let state = |it: Recorded| {
            let bytes = self.content(set, it.area, &it.name)?.unwrap_or_default();
            Ok(FileState {
                area: it.area,
                name: it.name,
                digest: Digest::of(&bytes),
                put: it.digest,
            })
        };
        record.files.into_iter().map(state).collect()
    }

    /// Gives the files of a set to those who read them, writes its id where the programs serve it
    /// from, and makes it all durable.
    pub(super) fn seal(&self, set: &ConfigSetId, web_group: &str) -> Result<(), Problem> {
        let dir = self
            .place
            .open(set)
            .map_err(disk)?
            .ok_or_else(|| unknown(set))?;
        let record = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        let principals = Principals::by_name();
        for file in &record.files {
            let (group, mode) = match file.area {
                ConfigArea::Settings if !file.group.is_empty() => (file.group.as_str(), 0o440),
                ConfigArea::Settings => ("root", 0o400),
                ConfigArea::Passwords => (web_group, 0o640),
                _ => continue,
            };
            let gid = principals.gid(&Principal::Name(group.into()));
            let gid = gid.map_err(|error| Problem::from_error(Code::UserRefused, &error))?;
            let area = name(area_dir(file.area).0).map_err(disk)?;
            let area = dir.open_dir(&area).map_err(disk)?;
            let open = area.open_file(&file_name(&file.name)?).map_err(disk)?;
            system::give_to_group(&open, gid, mode).map_err(disk)?;
        }
        let id = hex(set);
        let own = self.place.set(set);
        let shown = own.display();
        for (file, text) in [
            ("generation", format!("{id}\n")),
            ("nginx.generation", format!("return 200 \"{id}\\n\";\n")),
            (
                "apache.generation",
                format!(
                    "Alias \"/.fanout/generation\" \"{shown}/generation\"\n\
                     <Directory \"{shown}\">\n    AllowOverride None\n    \
                     Require all granted\n</Directory>\n"
                ),
            ),
        ] {
            replace(&dir, file, text.as_bytes(), 0o644)?;
        }
        // ORDER: everything is durable before anything leads to it.
        dir.syncfs().map_err(disk)
    }

    /// Marks a set as tested without faults.
    pub(super) fn mark_tested(&self, set: &ConfigSetId) -> Result<(), Problem> {
        self.change_record(set, |record| record.is_tested = true)
    }

    /// Notes that a set went live.
    pub(super) fn mark_activated(&self, set: &ConfigSetId) -> Result<(), Problem> {
        self.change_record(set, |record| record.activated_s = now_s().max(1))
    }

    fn change_record(
        &self,
        set: &ConfigSetId,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), Problem> {
        let dir = self
            .place
            .open(set)
            .map_err(disk)?
            .ok_or_else(|| unknown(set))?;
        let mut record = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        change(&mut record);
        self.place.save_record(&dir, &record).map_err(disk)
    }

    /// Removes a set that isn't live.
    pub(super) fn forget(&self, set: &ConfigSetId) -> Result<(), Problem> {
        let sets = self.place.sets().map_err(disk)?;
        for own in [hex(set), format!("{}.test", hex(set))] {
            sets.remove_tree(&name(&own).map_err(disk)?).map_err(disk)?;
        }
        Ok(())
    }

    /// After a confirmation: old sets go, and from those that stay, the secrets that the live set
    /// doesn't have.
    pub(super) fn collect(&self, live: &ConfigSetId) -> Result<(), Problem> {
        let kept: Vec<(ConfigArea, String)> = match self.place.record(live)? {
            Some(record) => record
                .files
                .into_iter()
                .map(|it| (it.area, it.name))
                .collect(),
            None => return Err(unknown(live)),
        };
        let mut others = Vec::new();
        for set in self.place.all().map_err(disk)? {
            if set == *live {
                continue;
            }
            match self.place.record(&set)? {
                Some(record) if record.activated_s > 0 => others.push((record, set)),
                _ => self.forget(&set)?,
            }
        }
        others.sort_by_key(|(record, _)| std::cmp::Reverse(record.activated_s));
        let now = now_s();
        for (index, (record, set)) in others.into_iter().enumerate() {
            let is_old = now.saturating_sub(record.activated_s) > SHORTEST_LIFE_S;
            if index + 1 >= KEPT && is_old {
                self.forget(&set)?;
                continue;
            }
            let dir = self
                .place
                .open(&set)
                .map_err(disk)?
                .ok_or_else(|| unknown(&set))?;
            for file in record.files {
                let is_secret = matches!(file.area, ConfigArea::Keys | ConfigArea::Settings);
                if is_secret && !kept.contains(&(file.area, file.name.clone())) {
                    let area = name(area_dir(file.area).0).map_err(disk)?;
                    let area = dir.open_dir(&area).map_err(disk)?;
                    match area.unlink(&file_name(&file.name)?) {
                        Err(error) if !error.is_not_found() => return Err(disk(error)),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes a file in a directory of a set that nobody reads yet.
fn write(dir: &Dir, area: ConfigArea, own: &Name, bytes: &[u8]) -> Result<(), Problem> {
    let area_name = name(area_dir(area).0).map_err(disk)?;
    let dir = dir.open_dir(&area_name).map_err(disk)?;
    let mode = match area {
        ConfigArea::Keys | ConfigArea::Haproxy => 0o600,
        // Theirs who read them once the set is complete.
        ConfigArea::Passwords | ConfigArea::Settings => 0o400,
        _ => 0o644,
    };
    match dir.unlink(own) {
        Err(error) if !error.is_not_found() => return Err(disk(error)),
        _ => {}
    }
    let mut file = dir.create_file(own, mode).map_err(disk)?;
    let written = file.write_all(bytes);
    written.map_err(|error| {
        disk(crate::fs::FsError::from_io(
            "write",
            &dir.path_of(own),
            &error,
        ))
    })
}

/// Replaces one of the agent's own files in a set.
pub(super) fn replace(dir: &Dir, file: &str, bytes: &[u8], mode: u32) -> Result<(), Problem> {
    let file = name(file).map_err(disk)?;
    crate::fs::durable::write_atomically(dir, &file, bytes, mode).map_err(disk)
}

/// The name of a file in a set.
fn file_name(text: &str) -> Result<Name, Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let is_name = !text.is_empty() && !text.starts_with('.') && text.chars().all(allowed);
    let name = Name::parse(text.as_bytes()).ok().filter(|_| is_name);
    name.ok_or_else(|| {
        let shown = escape(text.as_bytes());
        let message = format!("`{shown}` is not the name of a configuration file");
        Problem::new(Code::SetRefused, message)
    })
}

fn is_group(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 32 && !text.starts_with('-') && text.chars().all(allowed)
}
