//! The keeper of what a push may not touch: it is asked before each single change of a live tree.
//!
//! Invariant I4: nothing that the member's rules exclude or preserve is written, moved or deleted,
//! whatever a hub, a plan or a journal says. Every method that changes a live tree, in
//! [`live`](super::live) and in [`removal`](super::removal), asks here first, also when a journal
//! is replayed after a crash.

use super::foreign::ForeignPaths;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use sync_proto::filter::{Scope, Side, Standing};
use sync_proto::path::{MAX_PATH_BYTES, Name, RESERVED_NAME, RelPath};

/// Why a path may not be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untouchable {
    /// A preserve pattern covers it.
    Preserved(String),
    /// An exclude rule covers it.
    Excluded(String),
    /// It was there before fanout, and nobody asked for its removal.
    Foreign,
    /// It is fanout's own state.
    Reserved,
}

impl fmt::Display for Untouchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preserved(pattern) => write!(f, "belongs to the member, by `{pattern}`"),
            Self::Excluded(rule) => write!(f, "is excluded, by `{rule}`"),
            Self::Foreign => f.write_str("was there before fanout"),
            Self::Reserved => f.write_str("is fanout's own state"),
        }
    }
}

/// The rules of one tree on this member, as the journal keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// The rules.
    pub scope: Scope,
    /// What was there before fanout and stays. Empty where its removal was asked for.
    pub foreign: ForeignPaths,
    /// Directories of the member that the layout `switched` keeps in its shared place. The symlinks
    /// to them are touched as little as they are, also where a rule means directories only.
    pub shared: BTreeSet<RelPath>,
}

impl Keeper {
    /// May the entry at `path` become what a manifest says?
    ///
    /// # Errors
    /// Why not.
    pub fn allow_write(&self, path: &RelPath, is_directory: bool) -> Result<(), Untouchable> {
        self.managed(Side::Sender, path, is_directory)
    }

    /// May the entry at `path` go?
    ///
    /// # Errors
    /// Why not.
    pub fn allow_delete(&self, path: &RelPath, is_directory: bool) -> Result<(), Untouchable> {
        self.managed(Side::Receiver, path, is_directory)?;
        if self.foreign.contains(path) {
            return Err(Untouchable::Foreign);
        }
        Ok(())
    }

    /// Does an entry of a directory that is managed stay as it is? The same as
    /// [`Self::allow_delete`] of its path, without looking at the directories above again. What has
    /// no path of ours, because it would be too long, is in no manifest and stays.
    pub fn holds_child(&self, parent: &RelPath, name: &Name, is_directory: bool) -> bool {
        let is_reserved = parent.is_root() && name.as_bytes() == RESERVED_NAME;
        let bytes = parent.as_bytes().len() + 1 + name.as_bytes().len();
        if is_reserved || bytes > MAX_PATH_BYTES {
            return true;
        }
        // Both are about whole paths, and both are rare.
        if !self.shared.is_empty() || !self.foreign.is_empty() {
            let path = parent.join(name);
            return path.is_ok_and(|path| self.allow_delete(&path, is_directory).is_err());
        }
        !self
            .scope
            .of_child(Side::Receiver, parent, name, is_directory)
            .is_managed()
    }

    /// Do the rules alone let the entry at `path` go? What is foreign is seen all the same.
    ///
    /// # Errors
    /// Why not.
    pub fn allow_delete_scoped(
        &self,
        path: &RelPath,
        is_directory: bool,
    ) -> Result<(), Untouchable> {
        self.managed(Side::Receiver, path, is_directory)
    }

    /// May the entry at `path` make way for what a manifest wants there? Foreign ones may: they are
    /// moved aside.
    pub(super) fn allow_replace(
        &self,
        path: &RelPath,
        is_directory: bool,
    ) -> Result<(), Untouchable> {
        // What only protects from deletion protects a directory, with all in it, but not a file
        // from new content.
        let side = if is_directory {
            Side::Receiver
        } else {
            Side::Sender
        };
        self.managed(side, path, is_directory)
    }

    /// May an entry be made at the preserved `path`, where there is nothing? Only what excludes it
    /// says no.
    pub(super) fn allow_seed(&self, path: &RelPath) -> Result<(), Untouchable> {
        match self.managed(Side::Sender, path, false) {
            Err(Untouchable::Preserved(_)) => Ok(()),
            other => other,
        }
    }

    fn managed(&self, side: Side, path: &RelPath, is_directory: bool) -> Result<(), Untouchable> {
        if path.components().next() == Some(RESERVED_NAME) {
            return Err(Untouchable::Reserved);
        }
        let is_directory = is_directory || self.shared.contains(path);
        match self.scope.of(side, path, is_directory) {
            Standing::Managed => Ok(()),
            Standing::Preserved(pattern) => Err(Untouchable::Preserved(pattern.line().to_owned())),
            Standing::Excluded(rule) => Err(Untouchable::Excluded(rule.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_proto::filter::{Preserve, Rules};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_held_can_neither_be_written_nor_deleted() {
        let keeper = Keeper {
            scope: Scope {
                exclude: Rules::parse(&["*.log", "P kept"]).unwrap(),
                preserve: Preserve::parse(&["/sites/*/files"]).unwrap(),
            },
            foreign: ForeignPaths::new(vec![path("theirs")]),
            shared: BTreeSet::new(),
        };
        for held in [
            "sites/a/files",
            "sites/a/files/x/y",
            "a.log",
            "b/a.log",
            ".fanout/record",
        ] {
            let (parent, name) = (
                path(held).parent().unwrap(),
                path(held).file_name().unwrap(),
            );
            let is_inside = keeper.allow_delete(&parent, true).is_err();
            assert!(
                is_inside || keeper.holds_child(&parent, &name, false),
                "{held}"
            );
            assert!(keeper.allow_write(&path(held), false).is_err(), "{held}");
            assert!(keeper.allow_delete(&path(held), false).is_err(), "{held}");
        }
        assert!(keeper.allow_write(&path("sites/a"), true).is_ok());
        assert!(keeper.allow_seed(&path("sites/a/files/x")).is_ok());
        // A rule that only protects from deletion lets the source write.
        assert!(keeper.allow_write(&path("kept"), false).is_ok());
        assert!(keeper.allow_delete(&path("kept"), false).is_err());
        assert_eq!(
            keeper.allow_delete(&path("theirs/x"), false),
            Err(Untouchable::Foreign)
        );
        assert!(keeper.allow_write(&path("theirs/x"), false).is_ok());
    }

    #[test]
    fn what_makes_way_or_is_seeded_is_held_to_the_same_rules() {
        let mut keeper = Keeper {
            scope: Scope {
                exclude: Rules::parse(&["*.log", "P kept", "cache/"]).unwrap(),
                preserve: Preserve::parse(&["/sites/*/files"]).unwrap(),
            },
            foreign: ForeignPaths::new(vec![path("theirs")]),
            shared: BTreeSet::new(),
        };
        for (held, why) in [
            (
                "sites/a/files",
                "belongs to the member, by `/sites/*/files`",
            ),
            (
                "sites/a/files/x",
                "belongs to the member, by `/sites/*/files`",
            ),
            ("b/a.log", "is excluded, by `*.log`"),
            (".fanout", "is fanout's own state"),
        ] {
            for is_directory in [false, true] {
                let no = keeper.allow_replace(&path(held), is_directory).unwrap_err();
                assert_eq!(no.to_string(), why, "{held}");
                let no = keeper.allow_delete_scoped(&path(held), is_directory);
                assert_eq!(no.unwrap_err().to_string(), why, "{held}");
            }
        }
        // What is protected from deletion may get new content, but not lose what is in it.
        assert!(keeper.allow_replace(&path("kept"), false).is_ok());
        assert!(keeper.allow_replace(&path("kept"), true).is_err());
        // What is foreign is moved aside.
        assert!(keeper.allow_replace(&path("theirs"), true).is_ok());
        assert!(keeper.allow_delete_scoped(&path("theirs"), true).is_ok());
        assert_eq!(Untouchable::Foreign.to_string(), "was there before fanout");
        // A preserved path is seeded, an excluded or reserved one isn't.
        assert!(keeper.allow_seed(&path("sites/a/files")).is_ok());
        assert!(keeper.allow_seed(&path("b/a.log")).is_err());
        assert!(keeper.allow_seed(&path(".fanout/x")).is_err());
        // The symlink to a shared directory is a directory to the rules.
        assert!(keeper.allow_write(&path("a/cache"), false).is_ok());
        keeper.shared.insert(path("a/cache"));
        assert!(keeper.allow_write(&path("a/cache"), false).is_err());
    }

    /// The look at a name in a directory that is managed must not differ from that at its path.
    #[test]
    fn a_child_is_held_where_its_path_is() {
        let keeper = |foreign: &[&str], shared: &[&str]| Keeper {
            scope: Scope {
                exclude: Rules::parse(&["*.log", "P kept", "cache/"]).unwrap(),
                preserve: Preserve::parse(&["/sites/*/files"]).unwrap(),
            },
            foreign: ForeignPaths::new(foreign.iter().map(|it| path(it)).collect()),
            shared: shared.iter().map(|it| path(it)).collect(),
        };
        let all = [
            ".fanout",
            "a/.fanout",
            "a.log",
            "a/x",
            "a/cache",
            "kept",
            "theirs",
            "sites/a/files",
            "sites/a",
        ];
        for keeper in [
            keeper(&[], &[]),
            keeper(&["theirs"], &[]),
            keeper(&[], &["a/cache"]),
            keeper(&["theirs"], &["a/cache"]),
        ] {
            for at in all.map(path) {
                for is_directory in [false, true] {
                    let (parent, name) = (at.parent().unwrap(), at.file_name().unwrap());
                    assert_eq!(
                        keeper.holds_child(&parent, &name, is_directory),
                        keeper.allow_delete(&at, is_directory).is_err(),
                        "{at} {is_directory} {keeper:?}"
                    );
                }
            }
        }
        // The longest path there is, and one that is none.
        let name = |bytes: usize| Name::parse("n".repeat(bytes).as_bytes()).unwrap();
        let parents = (MAX_PATH_BYTES - 2) / 2;
        let parent = path(&vec!["p"; parents].join("/"));
        let rest = MAX_PATH_BYTES - parent.as_bytes().len() - 1;
        for keeper in [keeper(&[], &[]), keeper(&["theirs"], &[])] {
            assert!(parent.join(&name(rest)).is_ok());
            assert!(!keeper.holds_child(&parent, &name(rest), false));
            assert!(parent.join(&name(rest + 1)).is_err());
            assert!(keeper.holds_child(&parent, &name(rest + 1), false));
        }
    }
}
