//! A list of rules: the first that matches decides, and what none matches is included.

use super::DEFAULT_EXCLUDES;
use super::error::{RuleError, RuleFault};
use super::glob::ByteSet;
use super::parse::{Line, check_list, line};
use super::rule::{Rule, Side};
use super::subject::Subject;
use crate::path::{Name, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// What a list of rules says about a path.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// It takes part: by that rule, or because no rule is about it.
    Included(Option<&'a Rule>),
    /// It doesn't.
    Excluded(&'a Rule),
}

impl<'a> Decision<'a> {
    /// True if the path takes no part.
    pub fn is_excluded(self) -> bool {
        matches!(self, Self::Excluded(_))
    }

    /// The rule that decided.
    pub fn rule(self) -> Option<&'a Rule> {
        match self {
            Self::Included(rule) => rule,
            Self::Excluded(rule) => Some(rule),
        }
    }
}

impl<'a> From<Option<&'a Rule>> for Decision<'a> {
    fn from(first: Option<&'a Rule>) -> Self {
        match first {
            Some(rule) if !rule.includes() => Self::Excluded(rule),
            included => Self::Included(included),
        }
    }
}

/// A list of rules in rsync's language, ready to be asked about a million paths.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Rules {
    rules: Vec<Rule>,
    /// Rules about one literal last name, in order, by that name.
    names: HashMap<Box<[u8]>, Vec<usize>>,
    /// The bytes that those names start with: most paths need no look-up.
    first_bytes: ByteSet,
    /// All other rules about paths, in order.
    others: Vec<usize>,
    /// Rules about extended attributes, in order.
    xattrs: Vec<usize>,
}

impl Rules {
    /// Reads one rule per line; `!` forgets those above it.
    pub fn parse<S: AsRef<str>>(lines: &[S]) -> Result<Self, RuleError> {
        check_list(lines)?;
        let mut rules = Vec::new();
        for (index, text) in lines.iter().map(AsRef::as_ref).enumerate() {
            match line(text) {
                Ok(Line::Clear) => rules.clear(),
                Ok(Line::Rule(parts)) => rules.push(Rule::new(text, &parts)),
                Err(fault) => return Err(error(index, text, fault)),
            }
        }
        Ok(Self::index(rules))
    }

    /// The same with [`DEFAULT_EXCLUDES`] at the end, so that a line can include one of them.
    pub fn with_defaults<S: AsRef<str>>(lines: &[S]) -> Result<Self, RuleError> {
        let lines = lines.iter().map(AsRef::as_ref);
        Self::parse(&lines.chain(DEFAULT_EXCLUDES).collect::<Vec<_>>())
    }

    fn index(rules: Vec<Rule>) -> Self {
        let mut this = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            if rule.is_xattr() {
                this.xattrs.push(index);
            } else if let Some(name) = rule.literal_name() {
                name.first()
                    .into_iter()
                    .for_each(|byte| this.first_bytes.add(*byte));
                this.names.entry(name.into()).or_default().push(index);
            } else {
                this.others.push(index);
            }
        }
        this.rules = rules;
        this
    }

    /// The rules as [`Self::parse`] reads them: the lines as written, without what `!` cleared.
    pub fn to_lines(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.line().into()).collect()
    }

    /// The rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What rsync makes of the rules with `--delete-excluded`: those that don't name a side count
    /// on the sending side only, so that the receiving side loses what they exclude.
    pub fn delete_excluded(&self) -> Result<Self, RuleError> {
        let mut lines = self.to_lines();
        for (text, rule) in lines.iter_mut().zip(&self.rules) {
            if let Ok(Line::Rule(parts)) = line(text)
                && !rule.is_narrowed()
            {
                *text = rule.sender_line(parts.pattern);
            }
        }
        Self::parse(&lines)
    }

    /// Decides about one path whose ancestors are all included.
    pub fn decide(&self, side: Side, path: &RelPath, is_directory: bool) -> Decision<'_> {
        let subject = Subject::of(path);
        subject
            .and_then(|it| self.first(it, is_directory, side, false))
            .into()
    }

    /// The same for an entry of a directory, without joining the two.
    pub fn decide_child(
        &self,
        side: Side,
        parent: &RelPath,
        name: &Name,
        is_directory: bool,
    ) -> Decision<'_> {
        self.first(Subject::child(parent, name), is_directory, side, false)
            .into()
    }

    /// Decides about an entry below a directory that is being deleted: perishable rules don't
    /// count there. Any name that is excluded even so keeps the directory.
    pub fn decide_doomed(&self, path: &RelPath, is_directory: bool) -> Decision<'_> {
        let subject = Subject::of(path);
        subject
            .and_then(|it| self.first(it, is_directory, Side::Receiver, true))
            .into()
    }

    /// Decides about a path from the top down: nothing below an excluded directory is looked at.
    pub fn decide_deep(&self, side: Side, path: &RelPath, is_directory: bool) -> Decision<'_> {
        self.decide_line(side, path, is_directory).1
    }

    /// The same with how many bytes of the path were looked at when it was decided.
    pub(super) fn decide_line(
        &self,
        side: Side,
        path: &RelPath,
        is_directory: bool,
    ) -> (usize, Decision<'_>) {
        let length = path.as_bytes().len();
        let mut last = Decision::Included(None);
        for subject in Subject::line_of(path) {
            let end = subject.parent.len() + subject.joint().len() + subject.name.len();
            let is_directory = is_directory || end < length;
            last = self.first(subject, is_directory, side, false).into();
            if last.is_excluded() {
                return (end, last);
            }
        }
        (length, last)
    }

    /// Decides about the name of an extended attribute; only rules with the modifier `x` count.
    pub fn decide_xattr(&self, side: Side, name: &[u8]) -> Decision<'_> {
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let Some(subject) = Subject::of_bytes(name) else {
            return Decision::Included(None);
        };
        let mut rules = self.xattrs.iter().map(|&index| &self.rules[index]);
        rules
            .find(|rule| rule.counts_on(side, false) && rule.matches(subject, false))
            .into()
    }

    /// True if there are rules about extended attributes.
    pub fn has_xattr_rules(&self) -> bool {
        !self.xattrs.is_empty()
    }

    fn first(
        &self,
        subject: Subject<'_>,
        is_directory: bool,
        side: Side,
        doomed: bool,
    ) -> Option<&Rule> {
        let decides = |index: &usize| {
            let rule = &self.rules[*index];
            rule.counts_on(side, doomed) && rule.matches(subject, is_directory)
        };
        let may_be_named = (subject.name.first()).is_some_and(|byte| self.first_bytes.has(*byte));
        let named = may_be_named
            .then(|| self.names.get(subject.name))
            .flatten()
            .and_then(|indexes| indexes.iter().copied().find(|index| decides(index)));
        // ORDER: a rule that stands above the named one comes first.
        let above = named.unwrap_or(usize::MAX);
        let other = (self.others.iter().copied())
            .take_while(|index| *index < above)
            .find(|index| decides(index));
        other.or(named).map(|index| &self.rules[index])
    }
}

fn error(index: usize, line: &str, fault: RuleFault) -> RuleError {
    RuleError {
        position: index + 1,
        rule: line.into(),
        fault,
    }
}

impl TryFrom<Vec<String>> for Rules {
    type Error = RuleError;
    fn try_from(lines: Vec<String>) -> Result<Self, RuleError> {
        Self::parse(&lines)
    }
}

impl From<Rules> for Vec<String> {
    fn from(rules: Rules) -> Self {
        rules.to_lines()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(Rule::line).eq(other.iter().map(Rule::line))
    }
}

impl Eq for Rules {}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_root_is_always_included() {
        let rules = Rules::parse(&["*", "**", "-! x"]).unwrap();
        assert!(
            !rules
                .decide_deep(Side::Sender, &RelPath::root(), true)
                .is_excluded()
        );
        assert!(
            !rules
                .decide(Side::Sender, &RelPath::root(), true)
                .is_excluded()
        );
    }

    #[test]
    fn a_rule_about_a_name_is_about_no_other_name() {
        for (line, hit, missed) in [
            ("keep", "keep", "kept"),
            ("-! keep", "other", "keep"),
            ("*a*b", "xaxb", "a*c"),
            ("*[ab]", "xb", "x[ab]"),
            ("a*b*", "axbx", "xab"),
        ] {
            let rules = Rules::parse(&[line]).unwrap();
            let decision = |text| rules.decide(Side::Sender, &path(text), false);
            assert!(decision(hit).is_excluded(), "{line} is about {hit}");
            assert!(
                !decision(missed).is_excluded(),
                "{line} isn't about {missed}"
            );
            assert!(!rules.has_xattr_rules(), "{line}");
        }
        assert_ne!(Rules::parse(&["a"]).unwrap(), Rules::parse(&["b"]).unwrap());
    }

    #[test]
    fn each_side_has_its_own_rules() {
        let on = |line: &str, side| {
            let rules = Rules::parse(&[line]).unwrap();
            rules.decide(side, &path("x"), false).is_excluded()
        };
        for (line, hidden, protected) in [
            ("x", true, true),
            ("-s x", true, false),
            ("P x", false, true),
            ("-r x", false, true),
            ("-sr x", true, true),
            ("S x", false, false),
        ] {
            assert_eq!(on(line, Side::Sender), hidden, "{line}");
            assert_eq!(on(line, Side::Receiver), protected, "{line}");
        }
        let rules = Rules::parse(&["x", "P y", "+!p z", "-sr w"]).unwrap();
        let lines = rules.delete_excluded().unwrap().to_lines();
        assert_eq!(lines, ["-s x", "P y", "+s!p z", "-sr w"]);
    }

    #[test]
    fn a_perishable_rule_ends_where_its_directory_is_deleted() {
        let rules = Rules::parse(&["-p *.cache", "keep"]).unwrap();
        assert!(
            rules
                .decide(Side::Receiver, &path("d/x.cache"), false)
                .is_excluded()
        );
        assert!(!rules.decide_doomed(&path("d/x.cache"), false).is_excluded());
        assert!(rules.decide_doomed(&path("d/keep"), false).is_excluded());
    }

    #[test]
    fn attributes_have_rules_of_their_own() {
        let rules = Rules::parse(&["-x user.tmp.*", "user.*"]).unwrap();
        assert!(rules.has_xattr_rules());
        assert!(
            rules
                .decide_xattr(Side::Sender, b"user.tmp.a")
                .is_excluded()
        );
        assert!(!rules.decide_xattr(Side::Sender, b"user.a").is_excluded());
        assert!(
            !rules
                .decide(Side::Sender, &path("user.tmp.a"), false)
                .rule()
                .unwrap()
                .includes()
        );
    }

    #[test]
    fn lines_survive_the_way_to_the_other_side() {
        let rules = Rules::parse(&["x", "!", "- a b", "*.log", "+! /c/", "[", "P é*"]).unwrap();
        assert_eq!(rules.to_lines(), ["- a b", "*.log", "+! /c/", "[", "P é*"]);
        assert_eq!(Rules::parse(&rules.to_lines()).unwrap(), rules);
        let bytes = postcard::to_stdvec(&rules).unwrap();
        assert_eq!(postcard::from_bytes::<Rules>(&bytes).unwrap(), rules);
        let refused = postcard::to_stdvec(&vec![": merge"]).unwrap();
        assert!(postcard::from_bytes::<Rules>(&refused).is_err());
    }

    #[test]
    fn a_refusal_names_the_rule_its_place_and_a_way_out() {
        let error = Rules::parse(&["a", ": .rsync-filter"]).unwrap_err();
        assert_eq!(error.position, 2);
        assert_eq!(
            error.to_string(),
            "Rule 2 `: .rsync-filter`: Merge files can't be used: the members have to apply the \
             same rules without them"
        );
        assert!(
            error.hint().contains("- : .rsync-filter"),
            "{}",
            error.hint()
        );
    }

    #[test]
    fn a_pattern_that_matches_nothing_can_be_told() {
        let rules = Rules::parse(&["[a*", "[a", "x"]).unwrap();
        let faults: Vec<_> = rules.iter().map(|rule| rule.fault().is_some()).collect();
        assert_eq!(faults, [true, true, false]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_and_no_path_panics(
            lines in proptest::collection::vec(r"[-+HSPR!.: ]{0,2}[ab/*?\[\]\\!^:alph-]{0,12}", 0..5),
            names in proptest::collection::vec(r"[ab*\\\[]{1,4}", 1..4),
        ) {
            if let Ok(rules) = Rules::parse(&lines) {
                let whole = path(&names.join("/"));
                let deep = rules.decide_deep(Side::Sender, &whole, false).is_excluded();
                let step = Subject::line_of(&whole).any(|it| {
                    let is_directory = it.names().count() < names.len();
                    Decision::from(rules.first(it, is_directory, Side::Sender, false)).is_excluded()
                });
                proptest::prop_assert_eq!(deep, step);
                proptest::prop_assert_eq!(Rules::parse(&rules.to_lines()).unwrap(), rules);
            }
        }
    }
}
