//! Owners and groups: the numbers of this machine and the names that all machines share.
//!
//! Each name service answer is asked for once per [`Principals`]; a push makes a fresh one, so that
//! a user created in between is seen.

use super::error::FsError;
use super::stat::Stat;
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::entry::Principal;
use thiserror::Error;

/// A name that this machine doesn't know. It is never replaced by a number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("This machine has no {sort} named `{name}`")]
pub struct Missing {
    /// `user` or `group`.
    pub sort: &'static str,
    /// The name.
    pub name: String,
}

/// The mapping between numbers and names, remembered.
#[derive(Debug, Default)]
pub struct Principals {
    numeric: bool,
    users: Mutex<Known>,
    groups: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<u32, Principal>,
    by_name: HashMap<Arc<str>, Option<u32>>,
}

impl Principals {
    /// Maps by name; a number without a name stays a number.
    pub fn by_name() -> Self {
        Self::default()
    }

    /// Never asks for names: every number is sent as it is. Names that come in are still mapped.
    pub fn numeric() -> Self {
        Self {
            numeric: true,
            ..Self::default()
        }
    }

    /// How the user `uid` is named to other machines.
    pub fn user(&self, uid: u32) -> Principal {
        self.principal(&self.users, uid, |uid| {
            let user = User::from_uid(Uid::from_raw(uid)).ok()??;
            Some(user.name)
        })
    }

    /// How the group `gid` is named to other machines.
    pub fn group(&self, gid: u32) -> Principal {
        self.principal(&self.groups, gid, |gid| {
            let group = Group::from_gid(Gid::from_raw(gid)).ok()??;
            Some(group.name)
        })
    }

    /// This machine's number of a user.
    ///
    /// # Errors
    /// [`Missing`] if it has no user of that name.
    pub fn uid(&self, user: &Principal) -> Result<u32, Missing> {
        id(&self.users, user, "user", |name| {
            let user = User::from_name(name).ok()??;
            Some(user.uid.as_raw())
        })
    }

    /// This machine's number of a group.
    ///
    /// # Errors
    /// [`Missing`] if it has no group of that name.
    pub fn gid(&self, group: &Principal) -> Result<u32, Missing> {
        id(&self.groups, group, "group", |name| {
            let group = Group::from_name(name).ok()??;
            Some(group.gid.as_raw())
        })
    }

    fn principal(
        &self,
        known: &Mutex<Known>,
        id: u32,
        ask: impl FnOnce(u32) -> Option<String>,
    ) -> Principal {
        if self.numeric {
            return Principal::Id(id);
        }
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .by_id
            .entry(id)
            .or_insert_with(|| {
                ask(id).map_or(Principal::Id(id), |name| Principal::Name(name.into()))
            })
            .clone()
    }
}

fn id(
    known: &Mutex<Known>,
    principal: &Principal,
    sort: &'static str,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> Result<u32, Missing> {
    let name = match principal {
        Principal::Id(id) => return Ok(*id),
        Principal::Name(name) => name,
    };
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let id = *known
        .by_name
        .entry(Arc::clone(name))
        .or_insert_with(|| ask(name));
    id.ok_or_else(|| Missing {
        sort,
        name: name.to_string(),
    })
}

/// The numbers of a user of this machine and of its group; `None` if there is none of that name.
pub fn user_ids(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// The numbers that this process runs as.
pub fn own_ids() -> (u32, u32) {
    (Uid::effective().as_raw(), Gid::effective().as_raw())
}

/// The user that this process acts as on the disk.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Gives an open file or directory to a user and a group, if it isn't theirs.
///
/// # Errors
/// This process may not.
pub fn give(open: impl AsFd, (uid, gid): (u32, u32), shown: &[u8]) -> Result<(), FsError> {
    let failed = |errno| FsError::new("change the owner of", shown, errno);
    let stat = Stat::of(&open).map_err(failed)?;
    if (stat.uid, stat.gid) == (uid, gid) {
        return Ok(());
    }
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    rustix::fs::fchown(open, Some(uid), Some(gid)).map_err(failed)
}

/// True if this process may give files to anybody.
pub fn is_privileged() -> bool {
    Uid::effective().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_and_never_a_number() {
        let principals = Principals::by_name();
        let nobody_has_this = Principal::Name("no-such-user-here".into());
        let missing = principals.uid(&nobody_has_this).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "This machine has no user named `no-such-user-here`"
        );
        assert_eq!(principals.gid(&nobody_has_this).unwrap_err().sort, "group");
        assert_eq!(principals.uid(&Principal::Id(4_000_000)), Ok(4_000_000));
    }

    #[test]
    fn root_is_known_by_name_unless_numbers_are_wanted() {
        let by_name = Principals::by_name();
        assert_eq!(by_name.user(0), Principal::Name("root".into()));
        assert_eq!(by_name.uid(&by_name.user(0)), Ok(0));
        assert_eq!(by_name.gid(&by_name.group(0)), Ok(0));
        assert_eq!(by_name.user(3_999_999), Principal::Id(3_999_999));
        assert_eq!(Principals::numeric().user(0), Principal::Id(0));
    }
}
