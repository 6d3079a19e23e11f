//! From what should be and what is there to what is to be done.

use super::{Account, HostPattern, Names, Operation, PRIVILEGES, Password};
use crate::model::{ServerName, SiteUri};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use sync_proto::wire::service::database::{
    AccountState, DatabaseState, Privilege, RoleState, SchemaPattern,
};

/// What a site should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The site.
    pub site: SiteUri,
    /// What its things are called.
    pub names: Names,
    /// The password of all its accounts.
    pub password: Password,
    /// From where it logs in, and which members come from there.
    pub hosts: BTreeMap<HostPattern, BTreeSet<ServerName>>,
}

/// What fanout made, as its state remembers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Hosts of the site's accounts.
    pub hosts: BTreeSet<HostPattern>,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Something is made.
    Add,
    /// Something is set right.
    Change,
    /// Something is removed.
    Remove,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
        })
    }
}

/// One line of a plan, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Made, set right or removed.
    pub mark: Mark,
    /// What and why, for people, without the mark.
    pub text: String,
    /// The account that it is about.
    pub account: Option<Account>,
    /// What to do, in this order.
    pub operations: Vec<Operation>,
    /// What puts back what was there before; none if nothing can.
    pub undo: Option<Undo>,
}

/// What puts back what was there before one change. Without secrets, so that it can be on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Drop the database if there is nothing in it.
    DropDatabase,
    /// Drop the role.
    DropRole,
    /// Make the role again.
    MakeRole,
    /// Take these away from the role again.
    Revoke(Vec<Privilege>),
    /// Remove the account for this host.
    Remove(HostPattern),
    /// Make the account for this host again.
    Make(HostPattern),
    /// Lock the account for this host again.
    Lock(HostPattern),
}

impl Undo {
    /// What it is in the database server.
    pub fn operations(&self, desired: &Desired) -> Vec<Operation> {
        let Names {
            database,
            user,
            role,
        } = desired.names.clone();
        let account = |host: &HostPattern| Account {
            user: user.clone(),
            host: host.clone(),
        };
        match self {
            Self::DropDatabase => vec![Operation::DropDatabase {
                database,
                only_if_empty: true,
            }],
            Self::DropRole => vec![Operation::DropRole { role }],
            Self::MakeRole => made_role(&desired.names),
            Self::Revoke(privileges) => vec![Operation::Revoke {
                role,
                schema: database.pattern(),
                privileges: privileges.clone(),
            }],
            Self::Remove(host) => taken_away(&account(host)),
            Self::Make(host) => made(desired, &account(host)),
            Self::Lock(host) => vec![Operation::Lock {
                account: account(host),
            }],
        }
    }
}

fn made_role(names: &Names) -> Vec<Operation> {
    vec![
        Operation::CreateRole {
            role: names.role.clone(),
        },
        Operation::Grant {
            role: names.role.clone(),
            database: names.database.clone(),
        },
    ]
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mark, self.text)
    }
}

/// What is to be done for one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What is made and set right: before the members need it.
    pub additions: Vec<Change>,
    /// What is removed: after the members have left it.
    pub removals: Vec<Change>,
    /// Accounts of the site's user that fanout didn't make. They stay.
    pub orphans: Vec<Account>,
    /// Things worth saying.
    pub notes: Vec<String>,
}

impl Difference {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.additions.is_empty() && self.removals.is_empty()
    }

    /// Every change, in the order in which they are made.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.additions.iter().chain(&self.removals)
    }

    /// The lines of a plan.
    pub fn lines(&self) -> Vec<String> {
        let changes = self.changes().map(ToString::to_string);
        let orphans = self.orphans.iter().map(|account| {
            format!("! {account} was not made by fanout; it stays unless you say --prune")
        });
        let notes = self.notes.iter().map(|note| format!("! {note}"));
        changes.chain(orphans).chain(notes).collect()
    }
}

/// What leads from what is there to what should be. With `prune` orphans go, too.
pub fn difference(
    desired: &Desired,
    actual: &DatabaseState,
    recorded: &Recorded,
    prune: bool,
) -> Difference {
    let names = &desired.names;
    let mut found = Difference::default();
    database(desired, actual, &mut found);
    role(desired, actual, &mut found);
    let is_ours = |state: &&AccountState| state.account.user == names.user;
    let there: BTreeMap<&HostPattern, &AccountState> = actual
        .accounts
        .iter()
        .filter(is_ours)
        .map(|state| (&state.account.host, state))
        .collect();
    for (host, members) in &desired.hosts {
        let account = Account {
            user: names.user.clone(),
            host: host.clone(),
        };
        match there.get(host) {
            None => found.additions.push(new_account(desired, account, members)),
            Some(state) => found.additions.extend(repair(desired, state, recorded)),
        }
    }
    for (host, state) in &there {
        for (schema, privileges) in &state.privileges {
            let list: Vec<&str> = privileges.iter().map(|it| it.as_str()).collect();
            found.notes.push(format!(
                "{} holds {} on {schema} besides its role; fanout didn't grant that",
                state.account,
                list.join(", ")
            ));
        }
        if state.needs_tls && desired.hosts.contains_key(*host) {
            found.notes.push(format!(
                "{} only takes logins over TLS; without it they fail as if the password were wrong",
                state.account
            ));
        }
        if desired.hosts.contains_key(*host) {
            found.removals.extend(second_password(desired, state));
            continue;
        }
        if recorded.hosts.contains(*host) {
            found
                .removals
                .push(stale(&state.account, "no member comes from there"));
        } else if prune {
            found
                .removals
                .push(stale(&state.account, "not made by fanout, and --prune"));
        } else {
            found.orphans.push(state.account.clone());
        }
    }
    found
}

/// What takes everything of a site away. The database goes only `with_database`.
pub fn removal(
    desired: &Desired,
    actual: &DatabaseState,
    recorded: &Recorded,
    with_database: bool,
) -> Difference {
    let names = &desired.names;
    let mut found = Difference::default();
    for state in actual
        .accounts
        .iter()
        .filter(|it| it.account.user == names.user)
    {
        match recorded.hosts.contains(&state.account.host) {
            true => found
                .removals
                .push(stale(&state.account, "the site is leaving")),
            false => found.orphans.push(state.account.clone()),
        }
    }
    // An account that stays would lose what it can do.
    if found.orphans.is_empty() && actual.roles.iter().any(|it| it.role == names.role) {
        let role = names.role.clone();
        found.removals.push(Change {
            mark: Mark::Remove,
            text: format!("role {role}"),
            account: None,
            operations: vec![Operation::DropRole { role }],
            undo: Some(Undo::MakeRole),
        });
    }
    let there = actual
        .databases
        .iter()
        .find(|it| it.database == names.database);
    match there {
        Some(state) if with_database => found.removals.push(Change {
            mark: Mark::Remove,
            text: format!("database {} with {} tables", names.database, state.tables),
            account: None,
            operations: vec![Operation::DropDatabase {
                database: names.database.clone(),
                only_if_empty: false,
            }],
            undo: None,
        }),
        Some(state) => found.notes.push(format!(
            "the database {} with {} tables stays where it is",
            names.database, state.tables
        )),
        None => {}
    }
    found
}

fn database(desired: &Desired, actual: &DatabaseState, found: &mut Difference) {
    let database = &desired.names.database;
    if actual.databases.iter().any(|it| it.database == *database) {
        return;
    }
    found.additions.push(Change {
        mark: Mark::Add,
        text: format!("database {database}"),
        account: None,
        operations: vec![Operation::CreateDatabase {
            database: database.clone(),
        }],
        undo: Some(Undo::DropDatabase),
    });
}

fn role(desired: &Desired, actual: &DatabaseState, found: &mut Difference) {
    let Names { database, role, .. } = &desired.names;
    let grant = || Operation::Grant {
        role: role.clone(),
        database: database.clone(),
    };
    let Some(state) = actual.roles.iter().find(|it| it.role == *role) else {
        found.additions.push(Change {
            mark: Mark::Add,
            text: format!("role {role}: {} on {database}", PRIVILEGES.join(", ")),
            account: None,
            operations: made_role(&desired.names),
            undo: Some(Undo::DropRole),
        });
        return;
    };
    let own = database.pattern();
    let missing = missing(state, &own);
    if !missing.is_empty() {
        let list: Vec<&str> = missing.iter().map(Privilege::as_str).collect();
        found.additions.push(Change {
            mark: Mark::Change,
            text: format!("role {role} lacks {} on {database}", list.join(", ")),
            account: None,
            operations: vec![grant()],
            undo: Some(Undo::Revoke(missing)),
        });
    }
    for (schema, privileges) in &state.privileges {
        let extra = |it: &&Privilege| *schema != own || !PRIVILEGES.contains(&it.as_str());
        let extra: Vec<Privilege> = privileges.iter().filter(extra).cloned().collect();
        if extra.is_empty() {
            continue;
        }
        let list: Vec<&str> = extra.iter().map(Privilege::as_str).collect();
        // Whoever granted that had more power than fanout's account, which couldn't take it back.
        found.notes.push(format!(
            "role {role} may {} on {schema}; fanout didn't grant that",
            list.join(", ")
        ));
    }
}

fn missing(state: &RoleState, own: &SchemaPattern) -> Vec<Privilege> {
    let held: BTreeSet<&str> = state
        .privileges
        .iter()
        .filter(|(schema, _)| schema == own)
        .flat_map(|(_, list)| list.iter().map(Privilege::as_str))
        .collect();
    let missing = PRIVILEGES.iter().filter(|it| !held.contains(**it));
    missing.filter_map(|it| it.parse().ok()).collect()
}

fn made(desired: &Desired, account: &Account) -> Vec<Operation> {
    vec![
        Operation::CreateAccount {
            account: account.clone(),
            password: desired.password.clone(),
        },
        Operation::GiveRole {
            account: account.clone(),
            role: desired.names.role.clone(),
        },
    ]
}

// ORDER: nobody new gets in, then everybody is out, then it is gone. Dropped while somebody is
// logged in, an account keeps reading and writing.
fn taken_away(account: &Account) -> Vec<Operation> {
    let account = || account.clone();
    vec![
        Operation::Lock { account: account() },
        Operation::EndSessions { account: account() },
        Operation::DropAccount { account: account() },
    ]
}

fn new_account(desired: &Desired, account: Account, members: &BTreeSet<ServerName>) -> Change {
    let members: Vec<&str> = members.iter().map(ServerName::as_str).collect();
    Change {
        mark: Mark::Add,
        text: format!("{account} for {}", members.join(", ")),
        operations: made(desired, &account),
        undo: Some(Undo::Remove(account.host.clone())),
        account: Some(account),
    }
}

fn stale(account: &Account, why: &str) -> Change {
    Change {
        mark: Mark::Remove,
        text: format!("{account}: {why}; its sessions are ended"),
        account: Some(account.clone()),
        operations: taken_away(account),
        undo: Some(Undo::Make(account.host.clone())),
    }
}

/// Takes a second password away that is still valid: what a rotation leaves until every member has
/// the new one.
fn second_password(desired: &Desired, state: &AccountState) -> Option<Change> {
    let account = &state.account;
    let is_left = state.passwords > 1 && state.takes_password != Some(false);
    is_left.then(|| Change {
        mark: Mark::Change,
        text: format!("{account}: its former password ends"),
        account: Some(account.clone()),
        operations: vec![Operation::SetPassword {
            account: account.clone(),
            password: desired.password.clone(),
        }],
        undo: None,
    })
}

/// What sets an account right that is there.
fn repair(desired: &Desired, state: &AccountState, recorded: &Recorded) -> Vec<Change> {
    let account = &state.account;
    let is_recorded = recorded.hosts.contains(&account.host);
    let change = |text: String, operation: Operation, undo| Change {
        mark: Mark::Change,
        text: format!("{account}: {text}"),
        account: Some(account.clone()),
        operations: vec![operation],
        undo,
    };
    let mut found = Vec::new();
    let password = || Operation::SetPassword {
        account: account.clone(),
        password: desired.password.clone(),
    };
    if state.takes_password == Some(false) {
        found.push(change("it has another password".into(), password(), None));
    } else if state.takes_password.is_none() && !is_recorded {
        // Somebody else's: whether the password fits shows at a login only.
        found.push(change(
            "it was not made by fanout; its password is set".into(),
            password(),
            None,
        ));
    }
    let role = desired.names.role.as_str();
    if state.default_role != role || !state.roles.iter().any(|it| it == role) {
        let give = Operation::GiveRole {
            account: account.clone(),
            role: desired.names.role.clone(),
        };
        found.push(change(format!("it lacks the role {role}"), give, None));
    }
    if found.is_empty() && !is_recorded && state.takes_password == Some(true) {
        found.push(Change {
            mark: Mark::Change,
            text: format!("{account}: it was there before; fanout keeps it from now on"),
            account: Some(account.clone()),
            operations: Vec::new(),
            undo: None,
        });
    }
    if state.is_locked {
        let unlock = Operation::Unlock {
            account: account.clone(),
        };
        let lock = Undo::Lock(account.host.clone());
        found.push(change("it is locked".into(), unlock, Some(lock)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_proto::wire::service::database::SchemaState;

    fn desired(hosts: &[&str]) -> Desired {
        let members: BTreeSet<ServerName> = [String::from("web1")]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        Desired {
            site: "www.example.com".parse().unwrap(),
            names: Names::called("site_a").unwrap(),
            password: "password-1".parse().unwrap(),
            hosts: hosts
                .iter()
                .map(|host| (host.parse().unwrap(), members.clone()))
                .collect(),
        }
    }

    fn account(host: &str) -> AccountState {
        AccountState {
            account: Account {
                user: "site_a".parse().unwrap(),
                host: host.parse().unwrap(),
            },
            is_locked: false,
            needs_tls: false,
            takes_password: Some(true),
            passwords: 1,
            roles: vec!["site_a_rw".into()],
            default_role: "site_a_rw".into(),
            privileges: Vec::new(),
        }
    }

    fn state(accounts: Vec<AccountState>) -> DatabaseState {
        let names = Names::called("site_a").unwrap();
        let all = PRIVILEGES.iter().map(|it| it.parse().unwrap()).collect();
        DatabaseState {
            accounts,
            roles: vec![RoleState {
                role: names.role,
                privileges: vec![(names.database.pattern(), all)],
            }],
            databases: vec![SchemaState {
                database: names.database,
                tables: 3,
            }],
        }
    }

    fn recorded(hosts: &[&str]) -> Recorded {
        Recorded {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn nothing_there_is_made_in_the_order_in_which_it_is_needed() {
        let found = difference(
            &desired(&["10.0.0.1"]),
            &DatabaseState::default(),
            &recorded(&[]),
            false,
        );
        let marks: Vec<String> = found.lines();
        assert_eq!(marks.len(), 3, "{marks:?}");
        assert_eq!(marks[0], "+ database site_a");
        assert!(marks[1].starts_with("+ role site_a_rw: SELECT, "));
        assert_eq!(marks[2], "+ 'site_a'@'10.0.0.1' for web1");
        assert!(found.changes().all(|change| change.undo.is_some()));
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let found = difference(
            &desired(&["10.0.0.1"]),
            &state(vec![account("10.0.0.1")]),
            &recorded(&["10.0.0.1"]),
            false,
        );
        assert!(found.is_empty() && found.lines().is_empty(), "{found:?}");
    }

    #[test]
    fn only_what_is_on_record_goes_and_it_is_locked_and_emptied_first() {
        let there = state(vec![account("10.0.0.1"), account("10.0.0.2"), account("%")]);
        let kept = recorded(&["10.0.0.1", "10.0.0.2"]);
        let found = difference(&desired(&["10.0.0.1"]), &there, &kept, false);
        assert_eq!(found.removals.len(), 1);
        let words: Vec<bool> = found.removals[0]
            .operations
            .iter()
            .map(|it| {
                matches!(
                    it,
                    Operation::Lock { .. }
                        | Operation::EndSessions { .. }
                        | Operation::DropAccount { .. }
                )
            })
            .collect();
        assert_eq!(words, [true; 3]);
        assert!(matches!(
            found.removals[0].operations[0],
            Operation::Lock { .. }
        ));
        assert!(matches!(
            found.removals[0].operations[2],
            Operation::DropAccount { .. }
        ));
        assert_eq!(found.orphans.len(), 1);
        assert_eq!(found.orphans[0].host.as_str(), "%");
        let pruned = difference(&desired(&["10.0.0.1"]), &there, &kept, true);
        assert_eq!((pruned.removals.len(), pruned.orphans.len()), (2, 0));
    }

    #[test]
    fn an_account_that_is_there_gets_the_password_in_so_many_words() {
        let wrong = |change: fn(&mut AccountState)| {
            let mut it = account("10.0.0.1");
            change(&mut it);
            let kept = recorded(&["10.0.0.1"]);
            let found = difference(&desired(&["10.0.0.1"]), &state(vec![it]), &kept, false);
            assert_eq!(found.additions.len(), 1, "{found:?}");
            found.additions[0].operations[0].clone()
        };
        let other = wrong(|it| it.takes_password = Some(false));
        assert!(matches!(other, Operation::SetPassword { .. }));
        assert!(matches!(
            wrong(|it| it.is_locked = true),
            Operation::Unlock { .. }
        ));
        assert!(matches!(
            wrong(|it| it.roles.clear()),
            Operation::GiveRole { .. }
        ));
        assert!(matches!(
            wrong(|it| it.default_role.clear()),
            Operation::GiveRole { .. }
        ));
        // MySQL keeps passwords salted: one that isn't ours gets ours.
        let mut foreign = account("10.0.0.1");
        foreign.takes_password = None;
        let found = difference(
            &desired(&["10.0.0.1"]),
            &state(vec![foreign]),
            &recorded(&[]),
            false,
        );
        assert!(matches!(
            found.additions[0].operations[0],
            Operation::SetPassword { .. }
        ));
    }

    #[test]
    fn a_former_password_ends_after_everything_else() {
        let mut rotated = account("10.0.0.1");
        rotated.passwords = 2;
        let kept = recorded(&["10.0.0.1"]);
        let found = difference(&desired(&["10.0.0.1"]), &state(vec![rotated]), &kept, false);
        assert!(found.additions.is_empty());
        let last = &found.removals[0];
        assert!(matches!(
            last.operations[..],
            [Operation::SetPassword { .. }]
        ));
        assert_eq!(last.mark, Mark::Change);
    }

    #[test]
    fn what_is_on_record_about_undoing_holds_no_password() {
        let found = difference(
            &desired(&["10.0.0.1"]),
            &DatabaseState::default(),
            &recorded(&[]),
            false,
        );
        let undo: Vec<&Undo> = found
            .changes()
            .filter_map(|change| change.undo.as_ref())
            .collect();
        let text = serde_json::to_string(&undo).unwrap();
        assert!(!text.contains("password-1"), "{text}");
        let back: Vec<Undo> = serde_json::from_str(&text).unwrap();
        assert_eq!(back.len(), 3);
        let last = back[2].operations(&desired(&[]));
        assert!(matches!(last[2], Operation::DropAccount { .. }));
    }

    #[test]
    fn a_database_with_content_goes_only_when_that_was_asked_for() {
        let there = state(vec![account("10.0.0.1")]);
        let kept = removal(&desired(&[]), &there, &recorded(&["10.0.0.1"]), false);
        assert_eq!(kept.removals.len(), 2);
        assert!(kept.notes[0].contains("stays"));
        let gone = removal(&desired(&[]), &there, &recorded(&["10.0.0.1"]), true);
        assert!(gone.removals[2].undo.is_none());
        // Somebody else's account still needs the role.
        let shared = removal(&desired(&[]), &there, &recorded(&[]), false);
        assert_eq!((shared.removals.len(), shared.orphans.len()), (0, 1));
    }
}
