//! Why a rule or a preserve pattern was refused, and what to write instead.

use super::glob::Malformed;
use super::{MAX_RULE_BYTES, MAX_RULES, MAX_TOTAL_BYTES};
use crate::path::escape;
use std::fmt;
use thiserror::Error;

/// A line that isn't a rule, with its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RuleError {
    /// Where the line stands in its list, from 1.
    pub position: usize,
    /// The line as it was given.
    pub rule: String,
    /// What is wrong with it.
    pub fault: RuleFault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleFault {
    /// Nothing at all.
    #[error("The rule is empty")]
    Empty,
    /// A prefix without a pattern, as in `- `.
    #[error("The rule has no pattern")]
    NoPattern,
    /// A NUL byte, which no path can hold.
    #[error("The rule holds a NUL byte")]
    Nul,
    /// A line over [`MAX_RULE_BYTES`].
    #[error("The rule has {bytes} bytes, the limit is {MAX_RULE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`MAX_RULES`] lines.
    #[error("There are more than {MAX_RULES} rules")]
    TooMany,
    /// More than [`MAX_TOTAL_BYTES`] in all lines together.
    #[error("The rules have more than {MAX_TOTAL_BYTES} bytes in all")]
    TooMuch,
    /// `. FILE`, `: FILE`, `merge FILE` or `dir-merge FILE`.
    #[error("Merge files can't be used: the members have to apply the same rules without them")]
    MergeFile,
    /// The modifier `C`.
    #[error("The modifier `C` can't be used: its list depends on the machine")]
    CvsList,
    /// The modifier `/` on a pattern for which it would mean something.
    #[error("The modifier `/` can't be used: a tree has another absolute path on each machine")]
    AbsolutePath,
    /// A modifier that doesn't exist or doesn't go with a rule.
    #[error("`{0}` isn't a modifier of this rule")]
    Modifier(char),
    /// `s` or `r` on a rule that has a side by its name.
    #[error("The modifier `{0}` can't be used: the rule names its side already")]
    SecondSide(char),
    /// `!` followed by something.
    #[error("`!` clears the list and stands alone")]
    ClearWithText,
    /// A preserve pattern without a leading slash.
    #[error("A preserve pattern starts with `/`, the root of the tree")]
    NotAnchored,
    /// A preserve pattern that is only slashes.
    #[error("A preserve pattern can't be the whole tree")]
    WholeTree,
    /// A preserve pattern below fanout's own name.
    #[error("`/.fanout` is fanout's own")]
    Reserved,
    /// `//` in a preserve pattern.
    #[error("The pattern holds an empty name")]
    EmptyName,
    /// `.` or `..` in a preserve pattern.
    #[error("The pattern holds `.` or `..`")]
    Dots,
    /// A literal name that no file system would take, or too many of them.
    #[error("The pattern holds a name over 255 bytes, or more than 60 names")]
    TooDeep,
    /// `**` as a part of a name.
    #[error("`**` stands for whole directories, not for a part of a name")]
    PartialDoubleStar,
    /// `**` at the end of a preserve pattern.
    #[error("The pattern ends in `**`")]
    TrailingDoubleStar,
    /// A wildcard that can't match anything.
    #[error("{0}")]
    Malformed(Malformed),
}

impl RuleError {
    /// What to write instead, or what to know.
    pub fn hint(&self) -> String {
        let rule = shown(&self.rule);
        match &self.fault {
            RuleFault::Empty | RuleFault::Nul | RuleFault::NoPattern => {
                "Remove the line, or complete it.".into()
            }
            RuleFault::TooLong { .. } | RuleFault::TooMany | RuleFault::TooMuch => {
                "Say it with fewer or shorter patterns.".into()
            }
            RuleFault::MergeFile => format!(
                "Write the rules of that file into the list. For a file of this name: `- {rule}`."
            ),
            RuleFault::CvsList => "Write out the names that you want to exclude.".into(),
            RuleFault::AbsolutePath => {
                "Without the modifier, a leading `/` is the root of the tree.".into()
            }
            RuleFault::Modifier(_) | RuleFault::SecondSide(_) | RuleFault::ClearWithText => {
                format!("To exclude a file of this name, write `- {rule}`.")
            }
            RuleFault::NotAnchored => format!("Write `/{rule}`, or `/**/{rule}` for any depth."),
            RuleFault::WholeTree => "Name the directories that belong to the member.".into(),
            RuleFault::Reserved => "Leave it out: a push never touches it.".into(),
            RuleFault::EmptyName | RuleFault::Dots | RuleFault::TooDeep => {
                "Write the path from the root of the tree, name by name.".into()
            }
            RuleFault::PartialDoubleStar => {
                "Write `*` within a name, `/**/` for any number of directories.".into()
            }
            RuleFault::TrailingDoubleStar => {
                let directory = rule.trim_end_matches(['*', '/']);
                if directory.is_empty() {
                    "Name the directories that belong to the member.".into()
                } else {
                    format!("Write `{directory}`: it covers all below.")
                }
            }
            RuleFault::Malformed(_) => "To mean the character itself, write `\\` before it.".into(),
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            rule,
            fault,
        } = self;
        write!(f, "Rule {position} `{}`: {fault}", shown(rule))
    }
}

/// One line, and not more of it than a person would read. Backslashes stay single: what is shown
/// is meant to be copied.
fn shown(rule: &str) -> String {
    const READABLE: usize = 120;
    let mut text: String = rule.chars().take(READABLE).collect();
    if text.chars().any(char::is_control) {
        text = escape(text.as_bytes());
    }
    if rule.chars().nth(READABLE).is_some() {
        text.push('…');
    }
    text
}
