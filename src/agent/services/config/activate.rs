//! A set goes live, stays, or goes back.

use super::place::{Pending, Record, area_dir, disk, hex};
use super::{Sets, blocking, now_s, unknown};
use crate::agent::services::programs::{Change, health_port};
use crate::codes::{Code, Problem};
use crate::fs::system;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_proto::digest::Digest;
use sync_proto::wire::service::{Activated, ConfigArea, ConfigSetId};

impl Sets {
    /// Makes a tested set live, has the programs read it, and proves that they do. On failure
    /// everything is as before.
    pub(super) async fn activate(
        self: &Arc<Self>,
        set: &ConfigSetId,
        within: Duration,
    ) -> Result<Activated, Problem> {
        if let Some(pending) = self.place.pending()? {
            let message = format!("The set {} waits for its confirmation", hex(&pending.set));
            return Err(Problem::new(Code::ConfigUnconfirmed, message));
        }
        let record = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        if !record.is_tested {
            let message = format!("The set {} was not tested without faults", hex(set));
            return Err(Problem::new(Code::ConfigFaulty, message));
        }
        let previous = self.place.live();
        let change = self.change(previous.as_ref(), Some(set))?;
        self.programs.are_ready(&change).await?;
        self.write_roots(set).await?;
        let pending = Pending {
            set: *set,
            previous,
            until_s: 0,
        };
        // ORDER: whoever finds the new set live must find that it waits for a confirmation.
        self.place.set_pending(Some(&pending)).map_err(disk)?;
        self.mark_activated(set)?;
        let started = Instant::now();
        self.place.switch(Some(set)).map_err(disk)?;
        let proved = match self.programs.reload(&change, &hex(set)).await {
            Ok(proved) => proved,
            Err(problem) => return Err(self.after_failure(problem, &pending).await),
        };
        let elapsed = started.elapsed();
        let until_s = now_s().saturating_add(within.as_secs()).max(1);
        let waiting = Pending { until_s, ..pending };
        self.place.set_pending(Some(&waiting)).map_err(disk)?;
        tracing::info!(set = hex(set), ?elapsed, "a configuration set is live");
        Ok(Activated {
            previous,
            proved,
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            warnings: Vec::new(),
        })
    }

    /// Takes an activation back, and says both what failed and what became of that.
    async fn after_failure(self: &Arc<Self>, problem: Problem, pending: &Pending) -> Problem {
        match self.go_back(pending).await {
            Ok(()) => problem,
            Err(second) => {
                let message = format!(
                    "{}; and going back failed: {}",
                    problem.message, second.message
                );
                Problem::new(Code::RevertFailed, message)
            }
        }
    }

    pub(super) async fn confirm(self: &Arc<Self>, set: &ConfigSetId) -> Result<(), Problem> {
        match self.place.pending()? {
            Some(pending) if pending.set == *set => {}
            // Said twice is as good as once.
            None if self.place.live() == Some(*set) => return Ok(()),
            _ => return Err(unknown(set)),
        }
        self.place.set_pending(None).map_err(disk)?;
        let (sets, id) = (Arc::clone(self), *set);
        let collected = blocking(move || sets.collect(&id)).await;
        if let Err(problem) = collected {
            // It is confirmed all the same; the next confirmation tries again.
            tracing::error!(%problem, "old configuration sets can't be removed");
        }
        Ok(())
    }

    /// Back to the set before, if this one is live; forgets it, if it is not.
    pub(super) async fn revert(self: &Arc<Self>, set: &ConfigSetId) -> Result<(), Problem> {
        let pending = self.place.pending()?.filter(|it| it.set == *set);
        if let Some(pending) = pending {
            return self.go_back(&pending).await;
        }
        if self.place.live() != Some(*set) {
            let (sets, id) = (Arc::clone(self), *set);
            return blocking(move || sets.forget(&id)).await;
        }
        // Confirmed already: the one before by time, if it is whole still.
        let own = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        let mut before: Option<(u64, ConfigSetId)> = None;
        for other in self.place.all().map_err(disk)? {
            let record = self.place.record(&other)?.unwrap_or_default();
            let at = record.activated_s;
            if other != *set && at > 0 && at <= own.activated_s {
                before = before.max(Some((at, other)));
            }
        }
        let previous = before.map(|(_, set)| set);
        if let Some(previous) = &previous {
            self.is_whole(previous)?;
        }
        let pending = Pending {
            set: *set,
            previous,
            until_s: 0,
        };
        self.place.set_pending(Some(&pending)).map_err(disk)?;
        self.go_back(&pending).await
    }

    async fn go_back(self: &Arc<Self>, pending: &Pending) -> Result<(), Problem> {
        if let Some(previous) = &pending.previous {
            self.write_roots(previous).await?;
        }
        let change = self.change(Some(&pending.set), pending.previous.as_ref())?;
        self.place.switch(pending.previous.as_ref()).map_err(disk)?;
        let id = pending.previous.as_ref().map(hex).unwrap_or_default();
        let reloaded = self.programs.reload(&change, &id).await;
        // ORDER: the pending mark goes when the switch is done: a program that doesn't follow now
        // won't follow a second try either, and the set that failed must not come back.
        self.place.set_pending(None).map_err(disk)?;
        match reloaded {
            Ok(_) => {
                tracing::info!(
                    set = hex(&pending.set),
                    "a configuration set was taken back"
                );
                Ok(())
            }
            Err(problem) => Err(Problem::new(Code::RevertFailed, problem.message)),
        }
    }

    /// Are all files of a set still there, and as they were put?
    fn is_whole(&self, set: &ConfigSetId) -> Result<(), Problem> {
        for file in self.files(set)? {
            if file.digest != file.put {
                let message = format!(
                    "The set before lacks {}/{}, or it was changed",
                    area_dir(file.area).0,
                    file.name
                );
                return Err(Problem::new(Code::RevertFailed, message));
            }
        }
        Ok(())
    }

    /// What a switch from one set to another means to the programs.
    fn change(
        &self,
        from: Option<&ConfigSetId>,
        to: Option<&ConfigSetId>,
    ) -> Result<Change, Problem> {
        let record = |set: Option<&ConfigSetId>| -> Result<Record, Problem> {
            match set {
                Some(set) => Ok(self.place.record(set)?.unwrap_or_default()),
                None => Ok(Record::default()),
            }
        };
        let (from, next) = (record(from)?, record(to)?);
        let mut change = Change::default();
        let digests = |record: &Record, areas: &[ConfigArea]| -> BTreeMap<String, Digest> {
            let files = record.files.iter().filter(|it| areas.contains(&it.area));
            files.map(|it| (it.name.clone(), it.digest)).collect()
        };
        let (old, new) = (
            digests(&from, &[ConfigArea::PhpFpm]),
            digests(&next, &[ConfigArea::PhpFpm]),
        );
        let version = |name: &str| name.split_once('-').map(|(it, _)| it.to_owned());
        for (name, digest) in &new {
            if old.get(name) != Some(digest) {
                change.pools.extend(version(name));
            }
        }
        for name in old.keys().filter(|it| !new.contains_key(*it)) {
            change.lost_pools.extend(version(name));
        }
        // PHP remembers where an included file led.
        let settings = [ConfigArea::Settings];
        if digests(&from, &settings) != digests(&next, &settings) {
            change.pools.extend(new.keys().filter_map(|it| version(it)));
        }
        if let Some(to) = to {
            let mut versions: BTreeSet<PathBuf> = BTreeSet::new();
            for name in new.keys() {
                if version(name).is_some_and(|it| change.pools.contains(&it)) {
                    let bytes = self
                        .content(to, ConfigArea::PhpFpm, name)?
                        .unwrap_or_default();
                    versions.extend(listen_of(&String::from_utf8_lossy(&bytes)));
                }
            }
            change.sockets = versions.into_iter().collect();
        }
        let has = |area: &[ConfigArea]| {
            let mut files = from.files.iter().chain(&next.files);
            files.any(|it| area.contains(&it.area))
        };
        change.nginx = has(&[ConfigArea::Nginx, ConfigArea::NginxBalancer]);
        change.apache = has(&[ConfigArea::Apache]);
        let haproxy = [ConfigArea::Haproxy];
        let keys = [ConfigArea::Keys, ConfigArea::Certificates];
        change.haproxy = has(&haproxy)
            && (digests(&from, &haproxy) != digests(&next, &haproxy)
                || digests(&from, &keys) != digests(&next, &keys));
        let files: Vec<(ConfigArea, String)> = next
            .files
            .iter()
            .map(|it| (it.area, it.name.clone()))
            .collect();
        change.nginx_health = health_port(&files, ConfigArea::Nginx)
            .or_else(|| health_port(&files, ConfigArea::NginxBalancer));
        change.apache_health = health_port(&files, ConfigArea::Apache);
        let before: Vec<(ConfigArea, String)> = from
            .files
            .iter()
            .map(|it| (it.area, it.name.clone()))
            .collect();
        change.closing = health_port(&before, ConfigArea::NginxBalancer);
        Ok(change)
    }

    /// Writes where the roots of platforms lead now, for apache, which doesn't look again. True if
    /// that is another place than before.
    pub(super) async fn write_roots(self: &Arc<Self>, set: &ConfigSetId) -> Result<bool, Problem> {
        let bytes = self.content(set, ConfigArea::Apache, "00-roots.conf")?;
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        let mut lines = String::new();
        for line in text.lines() {
            let words: Vec<&str> = line.trim().splitn(3, ' ').collect();
            let ["Define", variable, path] = words.as_slice() else {
                continue;
            };
            // A root that isn't there yet stays as it is written.
            if let Some(resolved) = system::resolved(path.trim_matches('"').as_ref())
                && let Some(resolved) = resolved.to_str()
                && !resolved.contains(['"', '$', '\\'])
            {
                lines.push_str(&format!("Define {variable} \"{resolved}\"\n"));
            }
        }
        let file = self.place.set(set).join("apache.roots");
        if system::read_text(&file).is_ok_and(|it| it == lines) {
            return Ok(false);
        }
        system::replace(&file, lines.as_bytes(), 0o644).map_err(disk)?;
        Ok(true)
    }

    /// A tree was committed: apache is told where its root leads now.
    pub(in crate::agent::services) async fn tree_committed(
        self: &Arc<Self>,
    ) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        let Some(live) = self.place.live() else {
            return Ok(());
        };
        let files = self.live_files()?;
        if !files.iter().any(|(area, _)| *area == ConfigArea::Apache) {
            return Ok(());
        }
        if !self.write_roots(&live).await? {
            return Ok(());
        }
        let health = health_port(&files, ConfigArea::Apache);
        self.programs.reload_roots(health, &hex(&live)).await
    }
}

/// The socket that a pool listens on.
fn listen_of(pool: &str) -> Option<PathBuf> {
    let mut lines = pool.lines().filter_map(|it| it.split_once('='));
    let (_, path) = lines.find(|(key, _)| key.trim() == "listen")?;
    Some(PathBuf::from(path.trim())).filter(|it| it.is_absolute())
}
