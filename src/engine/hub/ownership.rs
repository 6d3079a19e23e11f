//! From what the source has to what members should have: owners, modes, and times left open.

use sync_proto::entry::{Entry, Kind, Meta, Principal};
use sync_proto::filter::Preserve;
use sync_proto::manifest::{Directory, Manifest, ManifestError};

/// Whose everything is on the members, and with which modes.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    /// Owner and group for everything; otherwise as in the source.
    pub owner: Option<(Principal, Principal)>,
    /// Numbers instead of names.
    pub numeric_ids: bool,
    /// Mode of every directory.
    pub directory_mode: Option<u32>,
    /// Mode of every file; who may read an executable file may run it still.
    pub file_mode: Option<u32>,
}

impl Ownership {
    fn changes_nothing(&self) -> bool {
        self.owner.is_none() && self.directory_mode.is_none() && self.file_mode.is_none()
    }

    fn apply(&self, meta: &Meta, mode: Option<u32>) -> Meta {
        let (user, group) = self
            .owner
            .clone()
            .unwrap_or_else(|| (meta.user.clone(), meta.group.clone()));
        let mode = mode.unwrap_or(meta.mode);
        Meta {
            user,
            group,
            mode,
            ..meta.clone()
        }
    }
}

/// The manifest in the values that members should have. `seeded` are the preserve rules below
/// which it holds seeds: directories that hold such a name have no time, as on a member.
pub fn wanted(
    seen: &Manifest,
    ownership: &Ownership,
    seeded: Option<&Preserve>,
) -> Result<Manifest, ManifestError> {
    if ownership.changes_nothing() && seeded.is_none() {
        return Ok(seen.clone());
    }
    let holds_seeds = |directory: &Directory| {
        seeded.is_some_and(|preserve| {
            let is_seed = |entry: &Entry| {
                preserve
                    .matches_child(&directory.path, &entry.name)
                    .is_some()
            };
            directory.entries.iter().any(is_seed)
        })
    };
    let open: std::collections::HashSet<_> = seen
        .directories()
        .iter()
        .filter(|directory| holds_seeds(directory))
        .map(|directory| &directory.path)
        .collect();
    let entry = |directory: &Directory, entry: &Entry| {
        let mode = match entry.kind {
            Kind::HardLink { .. } => return entry.clone(),
            Kind::Directory => ownership.directory_mode,
            Kind::File { .. } => ownership
                .file_mode
                .map(|mode| file_mode(mode, entry.meta.mode)),
            _ => None,
        };
        let mut meta = ownership.apply(&entry.meta, mode);
        if entry.kind.is_directory() && open.contains(&directory.path_of(&entry.name)) {
            meta.mtime = None;
        }
        Entry {
            meta,
            ..entry.clone()
        }
    };
    let directories = seen.directories().iter().map(|directory| Directory {
        path: directory.path.clone(),
        entries: directory
            .entries
            .iter()
            .map(|one| entry(directory, one))
            .collect(),
    });
    let mut root = ownership.apply(seen.root_meta(), ownership.directory_mode);
    if seen
        .directories()
        .first()
        .is_some_and(|root| holds_seeds(root))
    {
        root.mtime = None;
    }
    Manifest::new(root, directories.collect())
}

fn file_mode(wanted: u32, seen: u32) -> u32 {
    if seen & 0o111 == 0 {
        wanted
    } else {
        wanted | (wanted & 0o444) >> 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_be_run_can_be_run_by_whoever_may_read_it() {
        assert_eq!(file_mode(0o640, 0o755), 0o750);
        assert_eq!(file_mode(0o640, 0o644), 0o640);
        assert_eq!(file_mode(0o444, 0o700), 0o555);
    }
}
