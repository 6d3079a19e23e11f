//! Renames and removals of single names. Each is one system call, so each is atomic.

use super::dir::Dir;
use super::error::FsError;
use super::fault;
use rustix::fs::{AtFlags, RenameFlags};
use sync_proto::path::Name;

impl Dir {
    /// Moves `name` to `to_name` in `to`, replacing what bears that name there.
    pub fn rename_to(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), FsError> {
        self.rename(name, to, to_name, RenameFlags::empty(), "rename")
    }

    /// Moves `name` to `to_name` in `to`; an error ([`FsError::is_exists`]) if that name is taken.
    pub fn rename_noreplace(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), FsError> {
        self.rename(
            name,
            to,
            to_name,
            RenameFlags::NOREPLACE,
            "rename without replacing",
        )
    }

    /// Exchanges two existing names: at no moment is either of them absent.
    pub fn exchange(&self, name: &Name, with: &Self, with_name: &Name) -> Result<(), FsError> {
        self.rename(name, with, with_name, RenameFlags::EXCHANGE, "exchange")
    }

    fn rename(
        &self,
        name: &Name,
        to: &Self,
        to_name: &Name,
        flags: RenameFlags,
        op: &'static str,
    ) -> Result<(), FsError> {
        let (from_name, to_name) = (name.as_bytes(), to_name.as_bytes());
        let rename = |()| {
            if flags.is_empty() {
                // Some file systems know renameat but none of renameat2's flags.
                rustix::fs::renameat(self, from_name, to, to_name)
            } else {
                rustix::fs::renameat_with(self, from_name, to, to_name, flags)
            }
        };
        let point = match flags {
            RenameFlags::EXCHANGE => "fs.exchange",
            _ => "fs.rename",
        };
        #[cfg(test)]
        let before = super::power::before(self, from_name, to, to_name);
        fault::errno(point)
            .and_then(rename)
            .map_err(|errno| self.error(op, name.as_bytes(), errno))?;
        #[cfg(test)]
        {
            let is_exchange = flags == RenameFlags::EXCHANGE;
            super::power::moved((self, from_name), (to, to_name), before, is_exchange);
        }
        Ok(())
    }

    /// Removes the name of anything that isn't a directory.
    pub fn unlink(&self, name: &Name) -> Result<(), FsError> {
        fault::errno("fs.unlink")
            .and_then(|()| rustix::fs::unlinkat(self, name.as_bytes(), AtFlags::empty()))
            .map_err(|errno| self.error("remove", name.as_bytes(), errno))?;
        #[cfg(test)]
        super::power::removed(self, name.as_bytes(), None);
        Ok(())
    }

    /// Removes the empty directory `name`.
    pub fn remove_dir(&self, name: &Name) -> Result<(), FsError> {
        #[cfg(test)]
        let [gone, _] = super::power::before(self, name.as_bytes(), self, name.as_bytes());
        fault::errno("fs.remove_dir")
            .and_then(|()| rustix::fs::unlinkat(self, name.as_bytes(), AtFlags::REMOVEDIR))
            .map_err(|errno| self.error("remove the directory", name.as_bytes(), errno))?;
        #[cfg(test)]
        super::power::removed(self, name.as_bytes(), gone);
        Ok(())
    }
}
