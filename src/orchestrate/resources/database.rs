//! A site's database: the database, its role, and an account for every address that a member
//! comes from, each proved by a login.
//!
//! In two parts, so that what members need is there before they serve, and what they have left is
//! taken away after. Invariants: an account is on record before it is made and until it is gone; a
//! member that can't be asked keeps what it has; a failed probe makes nothing.

use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::databases::{DatabaseServer, Denied, is_silent};
use crate::orchestrate::resource::{Applied, Change as Line, Difference, Resource, Sign, Work};
use crate::services::database::{
    self as db, Change, Desired, HostPattern, Mark, MemberAddresses, Names, Operation, Password,
    Recorded, Undo, hosts,
};
use crate::store::{SiteDatabase, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::wire::service::database::{DatabaseQuery, DatabaseState};

/// A member that uses the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseMember {
    /// Its name.
    pub name: ServerName,
    /// What the inventory declares: `addresses`.
    pub declared: Vec<IpAddr>,
    /// Nothing is asked of it, as of one that will never answer again.
    pub is_gone: bool,
}

/// Which part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Make what is missing, set right what is wrong, and prove a login from every member. Comes
    /// before whatever needs the database.
    Make,
    /// Take away what no member comes from any more. Comes after those members have stopped.
    Clean,
}

/// The database of one site.
pub struct Database {
    /// Where it is.
    pub server: Arc<DatabaseServer>,
    /// The site.
    pub site: SiteUri,
    /// The password of its accounts.
    pub password: Password,
    /// The members that its platform lives on, and whoever else runs its periodic work.
    pub members: Vec<DatabaseMember>,
    /// Which part of the work.
    pub part: Part,
    /// Accounts of the site's user that fanout didn't make go, too.
    pub prune: bool,
}

/// What was found.
struct Look {
    desired: Desired,
    state: DatabaseState,
    difference: db::Difference,
    /// Members that answer.
    present: Vec<ServerName>,
    warnings: Vec<Problem>,
}

impl Resource for Database {
    fn describe(&self) -> String {
        match self.part {
            Part::Make => format!("database of {}", self.site),
            Part::Clean => format!("former accounts of {}", self.site),
        }
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server.name)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(self.compare())
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            match self.part {
                Part::Make => self.make().await,
                Part::Clean => self.clean().await,
            }
        })
    }

    fn undo<'a>(&'a self, note: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            let undo: Vec<Undo> = serde_json::from_str(note)
                .map_err(|error| Problem::from_error(Code::Bug, &error))?;
            let desired = self.desired(BTreeMap::new()).await?;
            undo_all(&self.server, &desired, &undo).await
        })
    }
}

impl Database {
    /// What the site's things are called; recorded when they are made.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn names(server: &DatabaseServer, site: &SiteUri) -> Result<Names, Problem> {
        let known = server
            .store
            .site_database(site)
            .await
            .map_err(|it| state(&it))?;
        let parsed = match known.filter(|it| it.server == server.name) {
            Some(known) => known.database.parse().and_then(|database| {
                Ok(Names {
                    database,
                    user: known.user.parse()?,
                    role: known.role.parse()?,
                })
            }),
            None => Names::derive(site),
        };
        parsed.map_err(|error| Problem::from_error(Code::StateDamaged, &error))
    }

    /// What this site's things are called.
    ///
    /// # Errors
    /// The state can't be read.
    pub async fn names_of(&self) -> Result<Names, Problem> {
        Self::names(&self.server, &self.site).await
    }

    /// Lets every account take another password besides the one that it has: the first step of a
    /// rotation. [`Part::Clean`] ends the former one, once the other is the site's own.
    ///
    /// # Errors
    /// Something is not as it should be, or the server refuses; then no account has the other one.
    pub async fn add_password(&self, added: &Password) -> Result<usize, Problem> {
        let look = self.look().await?;
        if let Some(change) = look.difference.additions.first() {
            let message = format!("The database of {} needs work first: {change}", self.site);
            return Err(Problem::new(Code::DatabaseRefused, message).with_hint("fanout apply"));
        }
        let accounts = look.desired.hosts.keys().map(|host| db::Account {
            user: look.desired.names.user.clone(),
            host: host.clone(),
        });
        let accounts: Vec<db::Account> = accounts.collect();
        let add = |account: &db::Account| Operation::AddPassword {
            account: account.clone(),
            current: self.password.clone(),
            added: added.clone(),
        };
        let applied = self
            .server
            .apply(accounts.iter().map(add).collect())
            .await?;
        let Some(failure) = applied.failure else {
            return Ok(accounts.len());
        };
        let back = |account: &db::Account| Operation::SetPassword {
            account: account.clone(),
            password: self.password.clone(),
        };
        self.server
            .apply(accounts.iter().map(back).collect())
            .await?;
        let message = format!(
            "{}: {} {}",
            self.server.name, failure.number, failure.message
        );
        Err(Problem::new(Code::DatabaseRefused, message))
    }

    async fn desired(
        &self,
        hosts: BTreeMap<HostPattern, BTreeSet<ServerName>>,
    ) -> Result<Desired, Problem> {
        Ok(Desired {
            site: self.site.clone(),
            names: Self::names(&self.server, &self.site).await?,
            password: self.password.clone(),
            hosts,
        })
    }

    async fn look(&self) -> Result<Look, Problem> {
        let server = &self.server;
        let (_, dialect) = server.facts().await?;
        let recorded = recorded(server, &self.site).await?;
        let (mut warnings, mut present, mut members) = (Vec::new(), Vec::new(), Vec::new());
        for member in &self.members {
            let seen = match member.is_gone {
                true => None,
                false => match server.seen_from(&member.name).await {
                    Ok(seen) => {
                        present.push(member.name.clone());
                        Some(seen)
                    }
                    // It keeps what it has, and proves its login when it is back.
                    Err(problem) if is_silent(&problem) => {
                        warnings.push(problem);
                        None
                    }
                    Err(problem) => return Err(problem),
                },
            };
            let of_it = recorded
                .iter()
                .filter(|(_, names)| names.contains(&member.name));
            members.push(MemberAddresses {
                member: member.name.clone(),
                declared: member.declared.clone(),
                is_database_server: member.name == server.name,
                seen,
                recorded: of_it.map(|(host, _)| host.clone()).collect(),
            });
        }
        let (wanted, faults) = hosts(&server.db, *dialect, &members);
        for fault in faults {
            let problem =
                Problem::from_error(Code::DatabaseAddressRefused, &fault).with_hint(fault.hint());
            // One that couldn't be asked was warned about; everything else stops here.
            match fault.member().is_some_and(|name| !present.contains(name)) {
                true => {}
                false => return Err(problem),
            }
        }
        self.note_members(&recorded, &wanted).await?;
        let desired = self.desired(wanted).await?;
        let state = server.inspect(query(&desired)).await?;
        let recorded = Recorded {
            hosts: recorded.into_keys().collect(),
        };
        let mut difference = db::difference(&desired, &state, &recorded, self.prune);
        let denied = self.denied(&desired, &difference, &present).await?;
        difference.additions.extend(denied);
        Ok(Look {
            desired,
            state,
            difference,
            present,
            warnings,
        })
    }

    /// Who comes from where, where that has changed and the account hasn't: only our own record.
    async fn note_members(
        &self,
        recorded: &BTreeMap<HostPattern, BTreeSet<ServerName>>,
        wanted: &BTreeMap<HostPattern, BTreeSet<ServerName>>,
    ) -> Result<(), Problem> {
        for (host, members) in wanted {
            if recorded.get(host).is_some_and(|known| known != members) {
                self.record(host, members).await?;
            }
        }
        Ok(())
    }

    /// Accounts that look right and don't let their members in: only a login tells, where the
    /// server keeps passwords salted.
    async fn denied(
        &self,
        desired: &Desired,
        difference: &db::Difference,
        present: &[ServerName],
    ) -> Result<Vec<Change>, Problem> {
        let mut found = Vec::new();
        let shared = difference
            .additions
            .iter()
            .any(|change| change.account.is_none());
        if self.part == Part::Clean || shared {
            return Ok(found);
        }
        for (host, members) in &desired.hosts {
            let is_worked_on = |change: &Change| {
                change
                    .account
                    .as_ref()
                    .is_some_and(|account| account.host == *host)
            };
            if difference.additions.iter().any(is_worked_on) {
                continue;
            }
            for member in members.iter().filter(|name| present.contains(name)) {
                match self.server.login(member, desired).await {
                    Ok(_) => {}
                    Err(Denied {
                        number: 1045 | 1698,
                        problem,
                    }) => {
                        let account = db::Account {
                            user: desired.names.user.clone(),
                            host: host.clone(),
                        };
                        found.push(Change {
                            mark: Mark::Change,
                            text: format!(
                                "{account}: {}; its password is set again",
                                problem.message
                            ),
                            account: Some(account.clone()),
                            operations: vec![Operation::SetPassword {
                                account,
                                password: desired.password.clone(),
                            }],
                            undo: None,
                        });
                        break;
                    }
                    Err(Denied { problem, .. }) if is_silent(&problem) => {}
                    Err(Denied { problem, .. }) => return Err(problem),
                }
            }
        }
        Ok(found)
    }

    async fn compare(&self) -> Result<Difference, Problem> {
        let look = self.look().await?;
        let difference = &look.difference;
        let mut warnings = look.warnings;
        let note = |text: String| Problem::new(Code::DatabaseOrphans, text);
        let changes = match self.part {
            Part::Make => {
                warnings.extend(difference.notes.iter().cloned().map(note));
                &difference.additions
            }
            Part::Clean => {
                // The others were said by the part that makes.
                let orphan = |account: &db::Account| {
                    note(format!("{account} was not made by fanout, and stays"))
                };
                warnings = difference.orphans.iter().map(orphan).collect();
                &difference.removals
            }
        };
        Ok(Difference {
            changes: changes.iter().map(line).collect(),
            seen: Digest::of(format!("{:?}", look.state).as_bytes()).to_hex(),
            warnings,
            ..Difference::default()
        })
    }

    async fn make(&self) -> Result<Applied, Problem> {
        let look = self.look().await?;
        let desired = &look.desired;
        self.record_database(&desired.names).await?;
        let mut done: Vec<Undo> = Vec::new();
        let made = self.make_each(&look, &mut done).await;
        let proved = match made {
            Ok(()) => self.prove(&look).await,
            Err(problem) => Err(problem),
        };
        let proved = match proved {
            Ok(proved) => proved,
            Err(problem) => {
                // What can't be undone now is set right by the next apply; the first problem is
                // the one to read.
                if let Err(second) = undo_all(&self.server, desired, &done).await {
                    tracing::warn!(problem = %second, "not undone");
                }
                return Err(problem);
            }
        };
        Ok(Applied {
            undo: note(&done),
            message: match proved.is_empty() {
                true => String::new(),
                false => format!("logged in from {}", proved.join(", ")),
            },
            warnings: look.warnings,
        })
    }

    async fn make_each(&self, look: &Look, done: &mut Vec<Undo>) -> Result<(), Problem> {
        for change in &look.difference.additions {
            if let Some(account) = &change.account {
                // ORDER: on record before it is there.
                let members = look.desired.hosts.get(&account.host);
                self.record(&account.host, members.unwrap_or(&BTreeSet::new()))
                    .await?;
            }
            let carried_out = carry_out(&self.server, change).await;
            // One that stopped half-way has something to undo as well.
            if carried_out
                .as_ref()
                .map_or_else(|half| half.is_begun, |()| true)
            {
                done.extend(change.undo.clone());
            }
            carried_out.map_err(|half| half.problem)?;
        }
        Ok(())
    }

    /// Every member that answers logs in as the site.
    async fn prove(&self, look: &Look) -> Result<Vec<String>, Problem> {
        let mut proved = Vec::new();
        for member in &look.present {
            match self.server.login(member, &look.desired).await {
                Ok(_) => proved.push(member.to_string()),
                Err(Denied { problem, .. }) => return Err(problem),
            }
        }
        Ok(proved)
    }

    async fn clean(&self) -> Result<Applied, Problem> {
        let look = self.look().await?;
        let mut done = Vec::new();
        for change in &look.difference.removals {
            carry_out(&self.server, change)
                .await
                .map_err(|half| half.problem)?;
            if let (Mark::Remove, Some(account)) = (change.mark, &change.account) {
                // ORDER: gone before it is forgotten.
                forget(&self.server, &self.site, &account.host).await?;
            }
            done.extend(change.undo.clone());
        }
        let texts: Vec<&str> = look
            .difference
            .removals
            .iter()
            .map(|it| it.text.as_str())
            .collect();
        Ok(Applied {
            undo: note(&done),
            message: texts.join("; "),
            warnings: Vec::new(),
        })
    }

    async fn record_database(&self, names: &Names) -> Result<(), Problem> {
        let server = &self.server;
        let row = SiteDatabase {
            site: self.site.clone(),
            server: server.name.clone(),
            database: names.database.to_string(),
            user: names.user.to_string(),
            role: names.role.to_string(),
            created: server.clock.now(),
        };
        let known = server
            .store
            .site_database(&self.site)
            .await
            .map_err(|it| state(&it))?;
        match known {
            Some(known) if known.server == server.name => Ok(()),
            Some(known) => Err(Problem::new(
                Code::DatabaseAddressRefused,
                format!(
                    "The database of {} is on {}, and isn't moved by an edit of the inventory",
                    self.site, known.server
                ),
            )
            .with_hint(format!("put `db = \"{}\"` back", known.server))),
            None => server
                .store
                .add_site_database(&row)
                .await
                .map_err(|it| state(&it)),
        }
    }

    async fn record(
        &self,
        host: &HostPattern,
        members: &BTreeSet<ServerName>,
    ) -> Result<(), Problem> {
        record(&self.server, &self.site, host, members).await
    }
}

/// A change that stopped.
pub(super) struct HalfDone {
    /// Some of its operations were carried out.
    is_begun: bool,
    /// Why it stopped.
    pub(super) problem: Problem,
}

/// Carries out one change.
pub(super) async fn carry_out(server: &DatabaseServer, change: &Change) -> Result<(), HalfDone> {
    let applied = server.apply(change.operations.clone()).await;
    // Without an answer nobody knows how far it came.
    let applied = applied.map_err(|problem| HalfDone {
        is_begun: true,
        problem,
    })?;
    match applied.failure {
        None => Ok(()),
        Some(failure) => Err(HalfDone {
            is_begun: applied.done > 0,
            problem: Problem::new(
                Code::DatabaseRefused,
                format!(
                    "{}: {}: {} {}",
                    server.name,
                    change,
                    failure.number,
                    sync_proto::path::escape(failure.message.as_bytes())
                ),
            ),
        }),
    }
}

/// Puts back what was there before, the last change first.
pub(super) async fn undo_all(
    server: &DatabaseServer,
    desired: &Desired,
    done: &[Undo],
) -> Result<(), Problem> {
    for undo in done.iter().rev() {
        let operations = match undo {
            // Half made is undone as well: what isn't there needn't be removed.
            Undo::Remove(host) => {
                let state = server.inspect(query(desired)).await?;
                match state.accounts.iter().any(|it| it.account.host == *host) {
                    true => undo.operations(desired),
                    false => Vec::new(),
                }
            }
            Undo::Make(host) => {
                record(server, &desired.site, host, &BTreeSet::new()).await?;
                undo.operations(desired)
            }
            _ => undo.operations(desired),
        };
        let applied = server.apply(operations).await?;
        if let Some(failure) = applied.failure {
            let message = format!("{}: {} {}", server.name, failure.number, failure.message);
            return Err(Problem::new(Code::DatabaseRefused, message));
        }
        if let Undo::Remove(host) = undo {
            forget(server, &desired.site, host).await?;
        }
    }
    Ok(())
}

/// What to ask about a site.
pub(super) fn query(desired: &Desired) -> DatabaseQuery {
    let Names {
        database,
        user,
        role,
    } = desired.names.clone();
    DatabaseQuery {
        users: vec![(user, Some(desired.password.clone()))],
        roles: vec![role],
        databases: vec![database],
    }
}

/// Hosts on record, with who comes from there.
pub(super) async fn recorded(
    server: &DatabaseServer,
    site: &SiteUri,
) -> Result<BTreeMap<HostPattern, BTreeSet<ServerName>>, Problem> {
    let hosts = server
        .store
        .account_hosts(site)
        .await
        .map_err(|it| state(&it))?;
    let parsed = hosts
        .into_iter()
        .map(|(host, members)| Ok((host.parse()?, members)));
    parsed
        .collect::<Result<_, db::NameFault>>()
        .map_err(|error| Problem::from_error(Code::StateDamaged, &error))
}

async fn record(
    server: &DatabaseServer,
    site: &SiteUri,
    host: &HostPattern,
    members: &BTreeSet<ServerName>,
) -> Result<(), Problem> {
    let now = server.clock.now();
    let recorded = server
        .store
        .record_account(site, host.as_str(), members, now);
    recorded.await.map_err(|it| state(&it))
}

pub(super) async fn forget(
    server: &DatabaseServer,
    site: &SiteUri,
    host: &HostPattern,
) -> Result<(), Problem> {
    let forgotten = server.store.forget_account(site, host.as_str()).await;
    forgotten.map_err(|it| state(&it))
}

pub(super) fn state(error: &StoreError) -> Problem {
    error.problem()
}

/// A line of the plan.
pub(super) fn line(change: &Change) -> Line {
    let sign = match change.mark {
        Mark::Add => Sign::Add,
        Mark::Change => Sign::Change,
        Mark::Remove => Sign::Remove,
    };
    Line::new(sign, change.text.clone())
}

/// What was done, for the record: names and addresses, never a password.
pub(super) fn note(done: &[Undo]) -> Option<String> {
    let text = serde_json::to_string(done).ok();
    text.filter(|_| !done.is_empty())
}
