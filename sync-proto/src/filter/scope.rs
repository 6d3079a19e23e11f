//! What a push manages: everything but what is excluded and what belongs to the member.

use super::pattern::Pattern;
use super::preserve::Preserve;
use super::rule::{Rule, Side};
use super::rules::{Decision, Rules};
use super::subject::Subject;
use crate::path::{Name, RelPath, escape};
use serde::{Deserialize, Serialize};

/// What the rules of a tree say about one of its paths.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// The path is as the manifest says, or gone.
    Managed,
    /// The path is neither sent nor deleted nor drift.
    Excluded(&'a Rule),
    /// The path belongs to the member.
    Preserved(&'a Pattern),
}

impl Standing<'_> {
    /// True if a push decides about the path.
    pub fn is_managed(self) -> bool {
        matches!(self, Self::Managed)
    }
}

/// The rules of one tree. What is preserved is preserved even where it is excluded as well.
///
/// A manifest lists what is managed on [`Side::Sender`]. A member may delete what the manifest
/// lacks only if it is managed on [`Side::Receiver`]. Rules that name no side, the usual ones, say
/// the same on both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// What takes no part, on either side.
    pub exclude: Rules,
    /// What belongs to the member.
    pub preserve: Preserve,
}

impl Scope {
    /// Decides about a path from the top down.
    pub fn of(&self, side: Side, path: &RelPath, is_directory: bool) -> Standing<'_> {
        if let Some(pattern) = self.preserve.covers(path) {
            return Standing::Preserved(pattern);
        }
        match self.exclude.decide_deep(side, path, is_directory) {
            Decision::Excluded(rule) => Standing::Excluded(rule),
            Decision::Included(_) => Standing::Managed,
        }
    }

    /// Decides about an entry of a directory that is managed. Made for walking a tree: it joins
    /// no paths, allocates nothing, and doesn't look at the directories above again.
    pub fn of_child(
        &self,
        side: Side,
        parent: &RelPath,
        name: &Name,
        is_directory: bool,
    ) -> Standing<'_> {
        if let Some(pattern) = self.preserve.matches_child(parent, name) {
            return Standing::Preserved(pattern);
        }
        match self.exclude.decide_child(side, parent, name, is_directory) {
            Decision::Excluded(rule) => Standing::Excluded(rule),
            Decision::Included(_) => Standing::Managed,
        }
    }

    /// Says in one line which rule decides about a path.
    pub fn explain(&self, side: Side, path: &RelPath, is_directory: bool) -> String {
        let borne = Subject::line_of(path).find_map(|it| {
            let end = it.parent.len() + it.joint().len() + it.name.len();
            Some((end, self.preserve.bearing(it)?))
        });
        if let Some((end, pattern)) = borne {
            let above = above(path, end);
            return format!("{path}: belongs to the member, by `{pattern}`{above}");
        }
        let (end, decision) = self.exclude.decide_line(side, path, is_directory);
        match decision {
            Decision::Excluded(rule) => {
                format!("{path}: excluded, by `{rule}`{}", above(path, end))
            }
            Decision::Included(Some(rule)) => format!("{path}: managed, by `{rule}`"),
            Decision::Included(None) => format!("{path}: managed, no rule is about it"),
        }
    }
}

/// Names the directory that decided, if it isn't the path itself.
fn above(path: &RelPath, end: usize) -> String {
    match path.as_bytes().get(..end) {
        Some(directory) if end < path.as_bytes().len() => {
            format!(" on the directory {}", escape(directory))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn scope() -> Scope {
        Scope {
            exclude: Rules::with_defaults(&["+ /keep.log", "*.log", "files", "H /h"]).unwrap(),
            preserve: Preserve::parse(&["/sites/*/files", "/keep.log/"]).unwrap(),
        }
    }

    #[test]
    fn what_is_preserved_is_preserved_even_where_it_is_excluded() {
        let scope = scope();
        let of = |text| scope.of(Side::Sender, &path(text), false);
        assert!(matches!(of("sites/a/files/x"), Standing::Preserved(_)));
        assert!(matches!(of("keep.log"), Standing::Preserved(_)));
        assert!(matches!(of("files/x"), Standing::Excluded(_)));
        assert!(of("sites/a/x").is_managed());
        assert!(matches!(of("h"), Standing::Excluded(_)));
        assert!(scope.of(Side::Receiver, &path("h"), false).is_managed());
        assert!(scope.of(Side::Sender, &RelPath::root(), true).is_managed());
    }

    #[test]
    fn a_line_says_which_rule_decided() {
        let scope = scope();
        for (text, line) in [
            ("a", "a: managed, no rule is about it"),
            ("a/x.log", "a/x.log: excluded, by `*.log`"),
            (
                "a/.git/config",
                "a/.git/config: excluded, by `.git` on the directory a/.git",
            ),
            (
                "keep.log",
                "keep.log: belongs to the member, by `/keep.log`",
            ),
            (
                "sites/a/files/x",
                "sites/a/files/x: belongs to the member, by `/sites/*/files` on the directory \
                 sites/a/files",
            ),
        ] {
            assert_eq!(scope.explain(Side::Sender, &path(text), false), line);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_walk_and_a_look_from_the_top_agree(
            exclude in proptest::collection::vec(r"(\+ |- |P |-s )?/?[ab*]{1,3}(/[ab*]{1,3})?/?", 0..4),
            preserve in proptest::collection::vec(r"/[ab*](/[ab])?", 0..2),
            names in proptest::collection::vec("[ab]{1,2}", 1..4),
        ) {
            let scope = Scope {
                exclude: Rules::parse(&exclude).unwrap(),
                preserve: Preserve::parse(&preserve).unwrap(),
            };
            let mut parent = RelPath::root();
            for (index, name) in names.iter().enumerate() {
                let name = Name::parse(name.as_bytes()).unwrap();
                let is_directory = index + 1 < names.len();
                let here = parent.join(&name).unwrap();
                let walked = scope.of_child(Side::Receiver, &parent, &name, is_directory);
                let looked = scope.of(Side::Receiver, &here, is_directory);
                proptest::prop_assert_eq!(format!("{walked:?}"), format!("{looked:?}"));
                if !walked.is_managed() {
                    break;
                }
                parent = here;
            }
            let bytes = postcard::to_stdvec(&scope).unwrap();
            proptest::prop_assert_eq!(postcard::from_bytes::<Scope>(&bytes).unwrap(), scope);
        }
    }
}
