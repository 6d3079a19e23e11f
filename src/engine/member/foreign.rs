//! Foreign entries: what an adopted root held that isn't ours. It stays until it is asked for.
//!
//! Kept as the topmost paths: whatever lies below one of them is foreign too. An entry that a
//! manifest wants stops being foreign; nothing becomes foreign after the first commit, except what a
//! preserve rule protected in an adopted root until it was given up.

use super::place::{Place, PlaceError};
use super::record;
use serde::{Deserialize, Serialize};
use sync_proto::manifest::Manifest;
use sync_proto::path::RelPath;

pub(super) const MAGIC: &[u8; 5] = b"FOFP\x01";
const FILE: &[u8] = b"foreign";

/// The topmost foreign paths of one tree, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignPaths {
    tops: Vec<RelPath>,
}

impl ForeignPaths {
    /// Collapses `paths` to the topmost ones.
    pub fn new(mut paths: Vec<RelPath>) -> Self {
        paths.sort();
        paths.dedup_by(|later, earlier| later.is_within(earlier));
        Self { tops: paths }
    }

    /// What is foreign in a root that was just adopted: everything that the first manifest doesn't
    /// name.
    pub fn at_adoption(observed: &Manifest, desired: &Manifest) -> Self {
        let strangers = observed.entries().filter_map(|(directory, entry)| {
            let known = desired
                .directory(&directory.path)
                .is_some_and(|wanted| wanted.entry(entry.name.as_bytes()).is_some());
            (!known).then(|| directory.path_of(&entry.name))
        });
        Self::new(strangers.collect())
    }

    /// What of it is still foreign once `desired` is there. Below a foreign directory that the
    /// manifest wants as well, `observed` says what was there.
    pub fn after(&self, observed: &Manifest, desired: &Manifest) -> Self {
        let mut left = Vec::new();
        for top in &self.tops {
            match desired.entry(top) {
                None => left.push(top.clone()),
                Some(wanted) if wanted.kind.is_directory() => {
                    left.extend(
                        observed
                            .entries()
                            .map(|(directory, entry)| directory.path_of(&entry.name))
                            .filter(|path| path.is_within(top) && desired.entry(path).is_none()),
                    );
                }
                // A file or symlink of ours stands there now.
                Some(_) => {}
            }
        }
        Self::new(left)
    }

    /// True if `path` or a directory above it is foreign.
    pub fn contains(&self, path: &RelPath) -> bool {
        // The only candidate is the last top that isn't after the path, or one that holds it:
        // tops don't nest, and a directory comes right before what is below it.
        let after = self.tops.partition_point(|top| top <= path);
        after
            .checked_sub(1)
            .and_then(|at| self.tops.get(at))
            .is_some_and(|top| path.is_within(top))
    }

    /// The topmost paths.
    pub fn tops(&self) -> &[RelPath] {
        &self.tops
    }

    /// True if nothing is foreign.
    pub fn is_empty(&self) -> bool {
        self.tops.is_empty()
    }

    /// Reads the list of a tree; empty if there is none.
    ///
    /// # Errors
    /// A damaged list is an error and not an empty one: it protects what isn't ours.
    pub fn load(place: &Place) -> Result<Self, PlaceError> {
        Ok(record::load(place.state(), FILE, MAGIC)?.unwrap_or_default())
    }

    pub(super) fn save(&self, place: &Place) -> Result<(), PlaceError> {
        let is_absent = place.state().stat(&place.own_name(FILE)?)?.is_none();
        if self.is_empty() && is_absent {
            return Ok(());
        }
        record::save(place.state(), FILE, MAGIC, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn everything_below_a_foreign_directory_is_foreign() {
        let foreign = ForeignPaths::new(["a/b", "a", "c/d", "a-b"].map(path).into());
        assert_eq!(foreign.tops(), ["a", "a-b", "c/d"].map(path));
        for yes in ["a", "a/x/y", "a-b", "c/d/e"] {
            assert!(foreign.contains(&path(yes)), "{yes}");
        }
        for no in ["", "a-c", "ab", "c", "c/e", "b"] {
            assert!(!foreign.contains(&path(no)), "{no}");
        }
    }
}
