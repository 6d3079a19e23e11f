//! What belongs to the member: uploads, local settings, whatever a push may neither send over,
//! overwrite nor delete.
//!
//! A pattern is a path from the root of the tree, name by name. In a name, `*` is any number of
//! bytes, `?` one, `[...]` one of a class, `\x` the byte `x`; none of them crosses a `/`. A name
//! `**` stands for any number of directories, none included. A pattern protects whatever bears
//! the name, file or directory, and all below; a slash at its end says nothing.

use super::error::RuleError;
use super::parse::check_list;
use super::pattern::{Pattern, Place};
use super::subject::Subject;
use crate::path::{Name, RelPath};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of preserve patterns, sorted and without repetition.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Preserve {
    patterns: Vec<Pattern>,
}

impl Preserve {
    /// Reads one pattern per line.
    pub fn parse<S: AsRef<str>>(lines: &[S]) -> Result<Self, RuleError> {
        check_list(lines)?;
        let lines = lines.iter().map(AsRef::as_ref).enumerate();
        let patterns = lines.map(|(index, line)| {
            Pattern::parse(line).map_err(|fault| RuleError {
                position: index + 1,
                rule: line.into(),
                fault,
            })
        });
        Ok(Self::sorted(patterns.collect::<Result<_, _>>()?))
    }

    fn sorted(mut patterns: Vec<Pattern>) -> Self {
        patterns.sort_by(|a, b| a.line().cmp(b.line()));
        patterns.dedup();
        Self { patterns }
    }

    /// What either of the two preserves. A member enforces the union of its own list and all
    /// that its hub ever sent.
    pub fn union(&self, other: &Self) -> Result<Self, RuleError> {
        let all = self.patterns.iter().chain(&other.patterns);
        let all = Self::sorted(all.cloned().collect());
        check_list(&all.to_lines())?;
        Ok(all)
    }

    /// The patterns as [`Self::parse`] reads them.
    pub fn to_lines(&self) -> Vec<String> {
        self.patterns.iter().map(|it| it.line().into()).collect()
    }

    /// The patterns, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter()
    }

    /// True if nothing is preserved.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The pattern whose name `path` itself bears.
    pub fn matches(&self, path: &RelPath) -> Option<&Pattern> {
        self.bearing(Subject::of(path)?)
    }

    /// The same for an entry of a directory, without joining the two. If the directory isn't
    /// covered, this says all that [`Self::covers`] would say of the entry.
    pub fn matches_child(&self, parent: &RelPath, name: &Name) -> Option<&Pattern> {
        self.bearing(Subject::child(parent, name))
    }

    pub(super) fn bearing(&self, subject: Subject<'_>) -> Option<&Pattern> {
        self.patterns.iter().find(|it| it.matches(subject))
    }

    /// The pattern that protects `path`: it or a directory above bears its name.
    pub fn covers(&self, path: &RelPath) -> Option<&Pattern> {
        self.patterns
            .iter()
            .find(|it| it.walk(path) == Place::Covered)
    }

    /// True if a preserved path may lie strictly below `directory`; false if none can.
    pub fn may_hold(&self, directory: &RelPath) -> bool {
        self.patterns
            .iter()
            .any(|it| it.walk(directory) != Place::Apart)
    }
}

impl TryFrom<Vec<String>> for Preserve {
    type Error = RuleError;
    fn try_from(lines: Vec<String>) -> Result<Self, RuleError> {
        Self::parse(&lines)
    }
}

impl From<Preserve> for Vec<String> {
    fn from(preserve: Preserve) -> Self {
        preserve.to_lines()
    }
}

impl fmt::Debug for Preserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.patterns).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Malformed, RuleFault};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn preserve(lines: &[&str]) -> Preserve {
        Preserve::parse(lines).unwrap()
    }

    /// Pattern, what bears its name, what is only covered, what may hold it, what is apart.
    type Case = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    const GOLDEN: &[Case] = &[
        (
            "/files",
            &["files"],
            &["files/a", "files/a/b"],
            &[""],
            &["a", "a/files", "filesx"],
        ),
        ("/files/", &["files"], &["files/a"], &[""], &["a/files"]),
        (
            "/sites/*/files",
            &["sites/a/files", "sites/.a/files"],
            &["sites/a/files/x/y"],
            &["", "sites", "sites/a", "sites/files"],
            &["x/files", "sites/a/b/files", "sites/a/b", "x/sites/a/files"],
        ),
        (
            "/**/cache",
            &["cache", "a/cache", "a/b/cache"],
            &["cache/x", "a/cache/cache/x", "a/cache/x/y"],
            &["", "a", "a/b"],
            &[],
        ),
        (
            "/a/**/b/c",
            &["a/b/c", "a/x/b/c", "a/b/b/c"],
            &["a/b/c/d"],
            &["", "a", "a/b", "a/x/y"],
            &["b/c", "x/a/b/c"],
        ),
        (
            "/set*.[pq]h?",
            &["settings.php", "set.qhx"],
            &["set.php/x"],
            &[""],
            &["set.rhx", "a"],
        ),
        ("/a\\*", &["a*"], &[], &[""], &["ab"]),
        ("/a\\b", &["ab"], &[], &[""], &["a\\b"]),
    ];

    #[test]
    fn a_pattern_covers_what_bears_its_name_and_all_below() {
        for (line, bears, below, above, apart) in GOLDEN {
            let it = preserve(&[line]);
            for text in *bears {
                assert!(
                    it.matches(&path(text)).is_some(),
                    "{line} is borne by {text}"
                );
                assert!(it.covers(&path(text)).is_some(), "{line} covers {text}");
                assert!(it.may_hold(&path(text)), "{line} goes on below {text}");
            }
            for text in *below {
                assert!(it.covers(&path(text)).is_some(), "{line} covers {text}");
            }
            for text in *above {
                assert!(it.may_hold(&path(text)), "{line} may be below {text}");
                assert!(
                    it.covers(&path(text)).is_none(),
                    "{line} doesn't cover {text}"
                );
            }
            for text in *apart {
                assert!(
                    it.covers(&path(text)).is_none(),
                    "{line} doesn't cover {text}"
                );
                assert!(
                    it.matches(&path(text)).is_none(),
                    "{line} isn't borne by {text}"
                );
                assert!(!it.may_hold(&path(text)), "{line} isn't below {text}");
            }
        }
        assert!(!preserve(&[]).may_hold(&RelPath::root()));
    }

    #[test]
    fn a_pattern_that_could_surprise_is_refused_with_the_corrected_line() {
        for (line, fault, hint) in [
            ("files", RuleFault::NotAnchored, "`/files`"),
            (
                "sites/*/files/",
                RuleFault::NotAnchored,
                "`/sites/*/files/`",
            ),
            ("/", RuleFault::WholeTree, "member"),
            ("//", RuleFault::WholeTree, "member"),
            ("", RuleFault::Empty, "Remove"),
            ("/.fanout", RuleFault::Reserved, "never touches"),
            ("/.fanout/x", RuleFault::Reserved, "never touches"),
            ("/\\.fanout/", RuleFault::Reserved, "never touches"),
            ("/a//b", RuleFault::EmptyName, "name by name"),
            ("/a/../b", RuleFault::Dots, "name by name"),
            ("/a/**", RuleFault::TrailingDoubleStar, "`/a`"),
            ("/**", RuleFault::TrailingDoubleStar, "member"),
            ("/a/x**", RuleFault::PartialDoubleStar, "`/**/`"),
            ("/a[", RuleFault::Malformed(Malformed::OpenClass), "`\\`"),
        ] {
            let error = Preserve::parse(&["/ok", line]).unwrap_err();
            assert_eq!((error.position, &error.fault), (2, &fault), "{line}");
            assert!(error.hint().contains(hint), "{line}: {}", error.hint());
        }
        assert!(Preserve::parse(&["/a".repeat(61)]).is_err());
        assert!(Preserve::parse(&["/a".repeat(60)]).is_ok());
        assert!(Preserve::parse(&["/".to_owned() + &"a".repeat(256)]).is_err());
        assert!(Preserve::parse(&["/".to_owned() + &"a".repeat(255)]).is_ok());
        assert!(
            preserve(&["/a/.fanout"])
                .covers(&path("a/.fanout"))
                .is_some()
        );
    }

    #[test]
    fn a_union_has_no_order() {
        let (a, b) = (preserve(&["/b/", "/a"]), preserve(&["/c", "/b"]));
        assert_eq!(a.union(&b).unwrap(), b.union(&a).unwrap());
        assert_eq!(a.union(&b).unwrap().to_lines(), ["/a", "/b", "/c"]);
        let bytes = postcard::to_stdvec(&a).unwrap();
        assert_eq!(postcard::from_bytes::<Preserve>(&bytes).unwrap(), a);
    }

    proptest::proptest! {
        #[test]
        fn walking_and_matching_agree(
            lines in proptest::collection::vec(r"(/([ab]|\*|\*\*|a\*|\?)){0,3}/[ab]", 1..4),
            names in proptest::collection::vec("[ab]{1,2}", 1..5),
        ) {
            let it = Preserve::parse(&lines).unwrap();
            let whole = path(&names.join("/"));
            let line: Vec<_> = Subject::line_of(&whole).collect();
            let borne = line.iter().any(|at| it.bearing(*at).is_some());
            proptest::prop_assert_eq!(borne, it.covers(&whole).is_some());
            // Whatever is preserved, every directory above it says that it may be there.
            let mut above = whole.clone();
            while let Some(parent) = above.parent() {
                above = parent;
                proptest::prop_assert!(!borne || it.may_hold(&above));
            }
        }
    }
}
