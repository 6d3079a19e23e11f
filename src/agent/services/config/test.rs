//! The test of a set that isn't live, by the programs that will read it.

use super::place::{AREAS, Record, area_dir, disk, hex, name};
use super::{Sets, blocking, unknown};
use crate::agent::services::programs::{Staged, users};
use crate::codes::Problem;
use crate::net::certificate;
use crate::services::balancer::is_bundle;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use sync_proto::path::Name;
use sync_proto::wire::service::{ConfigArea, ConfigFault, ConfigSetId, Tested};

impl Sets {
    pub(super) async fn test(self: &Arc<Self>, set: &ConfigSetId) -> Result<Tested, Problem> {
        let record = self.place.record(set)?.ok_or_else(|| unknown(set))?;
        let mut tested = Tested::default();
        // Pools can't be tested, nor files given away, without their users.
        for (user, file) in self.users(set, &record)? {
            match users::ensure(&user).await {
                Ok(true) => tested
                    .warnings
                    .push(format!("Made the system user `{user}`")),
                Ok(false) => {}
                Err(problem) => tested.faults.push(ConfigFault {
                    area: ConfigArea::PhpFpm,
                    name: file,
                    message: problem.message,
                }),
            }
        }
        if !tested.faults.is_empty() {
            return Ok(tested);
        }
        let (sets, id) = (Arc::clone(self), *set);
        let web_group = self.programs.web_group();
        blocking(move || sets.seal(&id, &web_group)).await?;
        self.write_roots(set).await?;
        tested.faults.extend(self.certificates(set, &record)?);
        let (sets, id) = (Arc::clone(self), *set);
        blocking(move || sets.copy_for_test(&id)).await?;
        let staged = Staged {
            copy: self.place.test(set),
            current: self.place.current(),
            files: record
                .files
                .iter()
                .map(|it| (it.area, it.name.clone()))
                .collect(),
            live: self.live_files()?,
            changed: self.changed(&record)?,
        };
        let outcome = self.programs.test(&staged).await;
        let (sets, id) = (Arc::clone(self), *set);
        blocking(move || {
            let copy = name(&format!("{}.test", hex(&id))).map_err(disk)?;
            sets.place
                .sets()
                .and_then(|it| it.remove_tree(&copy))
                .map_err(disk)
        })
        .await?;
        let found = outcome?;
        tested.faults.extend(found.faults);
        tested.warnings.extend(found.warnings);
        if tested.faults.is_empty() {
            self.mark_tested(set)?;
        }
        Ok(tested)
    }

    /// The system users that the pools of a set name, with the file of the first that does.
    fn users(
        &self,
        set: &ConfigSetId,
        record: &Record,
    ) -> Result<BTreeMap<String, String>, Problem> {
        let mut users = BTreeMap::new();
        for file in record
            .files
            .iter()
            .filter(|it| it.area == ConfigArea::PhpFpm)
        {
            let bytes = self
                .content(set, file.area, &file.name)?
                .unwrap_or_default();
            for line in String::from_utf8_lossy(&bytes).lines() {
                if let Some((key, value)) = line.split_once('=')
                    && matches!(key.trim(), "user" | "group")
                {
                    let user = value.trim().to_owned();
                    users.entry(user).or_insert_with(|| file.name.clone());
                }
            }
        }
        Ok(users)
    }

    /// apache ends at a reload with a key that doesn't belong to its certificate, and its own test
    /// doesn't look.
    fn certificates(
        &self,
        set: &ConfigSetId,
        record: &Record,
    ) -> Result<Vec<ConfigFault>, Problem> {
        let mut faults = Vec::new();
        for file in record.files.iter().filter(|it| it.area == ConfigArea::Keys) {
            let text = |area| -> Result<String, Problem> {
                let bytes = self.content(set, area, &file.name)?.unwrap_or_default();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            };
            // Balancers read both from one file.
            let chain = text(match is_bundle(&file.name) {
                true => ConfigArea::Keys,
                false => ConfigArea::Certificates,
            })?;
            if let Err(error) = certificate::check(&chain, &text(ConfigArea::Keys)?) {
                faults.push(ConfigFault {
                    area: ConfigArea::Keys,
                    name: file.name.clone(),
                    message: error.to_string(),
                });
            }
        }
        Ok(faults)
    }

    /// A copy of the set in which every path that begins with `current` leads to the copy itself.
    /// What nobody rewrites is linked.
    fn copy_for_test(&self, set: &ConfigSetId) -> Result<(), Problem> {
        let sets = self.place.sets().map_err(disk)?;
        let copy = name(&format!("{}.test", hex(set))).map_err(disk)?;
        sets.remove_tree(&copy).map_err(disk)?;
        let dir = sets.create_dir(&copy, 0o711).map_err(disk)?;
        let own = hex(set);
        let live = self.place.current().display().to_string();
        let tested = self.place.test(set).display().to_string();
        for area in AREAS {
            let (text, mode) = area_dir(area);
            let area_name = name(text).map_err(disk)?;
            if !is_rewritten(area) {
                let target = format!("../{own}/{text}");
                dir.symlink(target.as_bytes(), &area_name).map_err(disk)?;
                continue;
            }
            let to = dir.create_dir(&area_name, mode).map_err(disk)?;
            let record = self.place.record(set)?.unwrap_or_default();
            for file in record.files.iter().filter(|it| it.area == area) {
                let bytes = self.content(set, area, &file.name)?.unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                let text = text.replace(&format!("{live}/"), &format!("{tested}/"));
                let file = Name::parse(file.name.as_bytes())
                    .map_err(|_| disk(crate::fs::FsError::bad_name(b"a file")))?;
                let mut open = to.create_file(&file, 0o600).map_err(disk)?;
                open.write_all(text.as_bytes())
                    .map_err(|it| disk(crate::fs::FsError::from_io("write", b"a copy", &it)))?;
            }
        }
        for file in [
            "generation",
            "nginx.generation",
            "apache.generation",
            "apache.roots",
        ] {
            let target = format!("../{own}/{file}");
            let file = name(file).map_err(disk)?;
            dir.symlink(target.as_bytes(), &file).map_err(disk)?;
        }
        Ok(())
    }

    /// The files that the live set doesn't have, or has with another content.
    fn changed(&self, record: &Record) -> Result<BTreeSet<(ConfigArea, String)>, Problem> {
        let live = match self.place.live() {
            Some(live) => self.place.record(&live)?.unwrap_or_default(),
            None => Record::default(),
        };
        let live: BTreeSet<_> = live
            .files
            .iter()
            .map(|it| (it.area, &it.name, it.digest))
            .collect();
        let files = record.files.iter();
        Ok(files
            .filter(|it| !live.contains(&(it.area, &it.name, it.digest)))
            .map(|it| (it.area, it.name.clone()))
            .collect())
    }

    /// The files of the live set.
    pub(super) fn live_files(&self) -> Result<Vec<(ConfigArea, String)>, Problem> {
        let Some(live) = self.place.live() else {
            return Ok(Vec::new());
        };
        let record = self.place.record(&live)?.unwrap_or_default();
        Ok(record
            .files
            .into_iter()
            .map(|it| (it.area, it.name))
            .collect())
    }
}

/// Is it read by a program that is given a configuration of its own for the test?
fn is_rewritten(area: ConfigArea) -> bool {
    matches!(
        area,
        ConfigArea::Nginx
            | ConfigArea::Apache
            | ConfigArea::PhpFpm
            | ConfigArea::NginxBalancer
            | ConfigArea::Haproxy
    )
}
