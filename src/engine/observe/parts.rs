//! What an index is made of, while it is put together.

use super::ObserveProblem;
use crate::engine::index::Stamps;
use std::collections::HashSet;
use std::sync::Arc;
use sync_proto::entry::{Entry, Kind};
use sync_proto::manifest::Directory;
use sync_proto::path::RelPath;

/// What an index is made of.
#[derive(Default)]
pub(super) struct Parts {
    pub directories: Vec<Arc<Directory>>,
    pub stamps: Vec<Stamps>,
    pub whole: Vec<bool>,
}

impl Parts {
    /// Takes directories out of the listings that could not be read, with everything below them,
    /// and further names of files whose first name could not, so that what remains is a tree. No
    /// directory with a problem is whole.
    pub(super) fn drop_unread(&mut self, problems: &[ObserveProblem]) {
        let troubled: HashSet<&[u8]> = problems
            .iter()
            .map(|problem| parent_of(problem.path()))
            .collect();
        let read: HashSet<RelPath> = self
            .directories
            .iter()
            .map(|directory| directory.path.clone())
            .collect();
        let mut listed = HashSet::from([RelPath::root()]);
        let before = std::mem::take(self);
        let marks = before.stamps.into_iter().zip(before.whole);
        for (mut directory, (mut own, whole)) in before.directories.into_iter().zip(marks) {
            if !listed.contains(&directory.path) {
                continue;
            }
            let path = directory.path.clone();
            retain(&mut directory, &mut own, |entry| {
                let below = || path.join(&entry.name).is_ok_and(|it| read.contains(&it));
                !entry.kind.is_directory() || below()
            });
            let inner = directory.entries.iter().filter(|it| it.kind.is_directory());
            listed.extend(inner.map(|entry| directory.path_of(&entry.name)));
            self.whole
                .push(whole && !troubled.contains(directory.path.as_bytes()));
            self.directories.push(directory);
            self.stamps.push(own);
        }
        self.drop_followers();
    }

    /// Takes out the further names of files whose first name isn't there.
    fn drop_followers(&mut self) {
        let entries = self.directories.iter().flat_map(|directory| {
            let entries = directory.entries.iter();
            entries.map(move |entry| (directory, entry))
        });
        let mut without: HashSet<RelPath> = entries
            .clone()
            .filter_map(|(_, entry)| leader(entry).cloned())
            .collect();
        for (directory, entry) in entries {
            if without.is_empty() {
                return;
            }
            if matches!(entry.kind, Kind::File { .. }) {
                without.remove(&directory.path_of(&entry.name));
            }
        }
        let marks = self.stamps.iter_mut().zip(&mut self.whole);
        for (directory, (own, whole)) in self.directories.iter_mut().zip(marks) {
            let has_leader = |entry: &Entry| leader(entry).is_none_or(|it| !without.contains(it));
            *whole &= !retain(directory, own, has_leader);
        }
    }
}

/// The first name of the file of which this is a further one.
fn leader(entry: &Entry) -> Option<&RelPath> {
    match &entry.kind {
        Kind::HardLink { leader } => Some(leader),
        _ => None,
    }
}

/// Takes out the entries that aren't to be kept, with their stamps. True if there were any.
fn retain(
    directory: &mut Arc<Directory>,
    stamps: &mut Stamps,
    keep: impl Fn(&Entry) -> bool,
) -> bool {
    let kept: Vec<bool> = directory.entries.iter().map(keep).collect();
    if !kept.contains(&false) {
        return false;
    }
    let mut keeps = kept.iter();
    let is_kept = |_: &Entry| keeps.next().copied().unwrap_or_default();
    Arc::make_mut(directory).entries.retain(is_kept);
    let both = stamps.iter().zip(&kept);
    *stamps = both
        .filter(|(_, kept)| **kept)
        .map(|(stamp, _)| *stamp)
        .collect();
    true
}

/// The directory of a path that may be none of ours.
fn parent_of(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    slash.map_or(b"", |slash| &path[..slash])
}
