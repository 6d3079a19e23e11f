//! What an index is made of, while it is put together.

use super::ObserveProblem;
use crate::engine::index::Stamps;
use std::collections::HashSet;
use std::sync::Arc;
use sync_proto::entry::Entry;
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
    /// so that what remains is a tree. No directory with a problem is whole.
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
            let was_read = |entry: &Entry| {
                !entry.kind.is_directory() || read.contains(&directory.path_of(&entry.name))
            };
            let kept: Vec<bool> = directory.entries.iter().map(was_read).collect();
            if kept.contains(&false) {
                let mut keeps = kept.iter();
                let is_kept = |_: &Entry| keeps.next().copied().unwrap_or_default();
                Arc::make_mut(&mut directory).entries.retain(is_kept);
                let both = own.iter().zip(&kept);
                own = both.filter(|(_, kept)| **kept).map(|(s, _)| *s).collect();
            }
            let inner = directory.entries.iter().filter(|it| it.kind.is_directory());
            listed.extend(inner.map(|entry| directory.path_of(&entry.name)));
            self.whole
                .push(whole && !troubled.contains(directory.path.as_bytes()));
            self.directories.push(directory);
            self.stamps.push(own);
        }
    }
}

/// The directory of a path that may be none of ours.
fn parent_of(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    slash.map_or(b"", |slash| &path[..slash])
}
