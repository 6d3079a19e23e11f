//! The database of a site that is no longer listed: shown, and taken away only where that was
//! said in so many words.

use super::database::{carry_out, forget, line, note, query, recorded, state, undo_all};
use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::databases::DatabaseServer;
use crate::orchestrate::resource::{Applied, Change as Line, Difference, Resource, Sign, Work};
use crate::orchestrate::resources::database::Database;
use crate::services::database::{self as db, Desired, Password, Recorded, Undo};
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_proto::digest::Digest;

/// What a site that has left had in a database server.
pub struct FormerDatabase {
    /// Where it is.
    pub server: Arc<DatabaseServer>,
    /// The site.
    pub site: SiteUri,
    /// The password of its accounts, with which they could be made again.
    pub password: Password,
    /// `--allow-remove` names it: accounts and role go.
    pub is_allowed: bool,
    /// The database itself goes, too: `delete site`, after a backup.
    pub with_database: bool,
}

impl Resource for FormerDatabase {
    fn describe(&self) -> String {
        format!("database of {}", self.site)
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server.name)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            let (_, found, seen) = self.look().await?;
            let mut changes: Vec<Line> = found.changes().map(line).collect();
            if !self.is_allowed {
                for change in &mut changes {
                    change.sign = Sign::Unlisted;
                }
            }
            let destroys = found.changes().any(|change| change.undo.is_none());
            let why = format!("the database of {} is destroyed", self.site);
            Ok(Difference {
                changes,
                seen,
                irreversible: Some(why).filter(|_| self.is_allowed && destroys),
                warnings: {
                    let orphans = found.orphans.iter().map(|account| {
                        let message = format!("{account} was not made by fanout, and stays");
                        Problem::new(Code::DatabaseOrphans, message)
                    });
                    orphans.collect()
                },
                ..Difference::default()
            })
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            let (_, found, _) = self.look().await?;
            if !self.is_allowed {
                return Ok(Applied::default());
            }
            let mut done = Vec::new();
            for change in found.changes() {
                carry_out(&self.server, change)
                    .await
                    .map_err(|half| half.problem)?;
                if let Some(account) = &change.account {
                    forget(&self.server, &self.site, &account.host).await?;
                }
                done.extend(change.undo.clone());
            }
            // A database that stays keeps its name reserved.
            if self.with_database {
                let forgotten = self.server.store.forget_site_database(&self.site).await;
                forgotten.map_err(|it| state(&it))?;
            }
            Ok(Applied {
                undo: note(&done).filter(|_| !self.with_database),
                message: found.notes.join("; "),
                warnings: Vec::new(),
            })
        })
    }

    fn undo<'a>(&'a self, note: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            let undo: Vec<Undo> = serde_json::from_str(note)
                .map_err(|error| Problem::from_error(Code::Bug, &error))?;
            undo_all(&self.server, &self.desired().await?, &undo).await
        })
    }
}

impl FormerDatabase {
    async fn desired(&self) -> Result<Desired, Problem> {
        Ok(Desired {
            site: self.site.clone(),
            names: Database::names(&self.server, &self.site).await?,
            password: self.password.clone(),
            hosts: BTreeMap::new(),
        })
    }

    async fn look(&self) -> Result<(Desired, db::Difference, String), Problem> {
        let desired = self.desired().await?;
        let state = self.server.inspect(query(&desired)).await?;
        let recorded = Recorded {
            hosts: recorded(&self.server, &self.site)
                .await?
                .into_keys()
                .collect(),
        };
        let found = db::removal(&desired, &state, &recorded, self.with_database);
        let seen = Digest::of(format!("{state:?}").as_bytes()).to_hex();
        Ok((desired, found, seen))
    }
}
