//! One preserve pattern: a path from the root, name by name.

use super::error::RuleFault;
use super::glob::{Glob, has_wildcard};
use super::parse::check_text;
use super::subject::Subject;
use crate::path::{MAX_NAME_BYTES, RESERVED_NAME, RelPath, escape};
use std::fmt;

/// LIMIT: one bit per name in a word of states, and one for the end.
const MAX_NAMES: usize = 60;

/// One preserve pattern.
#[derive(Clone)]
pub struct Pattern {
    line: Box<str>,
    names: Box<[NamePattern]>,
}

#[derive(Clone, Debug)]
enum NamePattern {
    Literal(Box<[u8]>),
    Any,
    Glob(Glob),
    /// `**`.
    Directories,
}

impl Pattern {
    /// Reads one pattern.
    pub(super) fn parse(line: &str) -> Result<Self, RuleFault> {
        check_text(line)?;
        let Some(body) = line.strip_prefix('/') else {
            return Err(RuleFault::NotAnchored);
        };
        let body = body.trim_end_matches('/');
        if body.is_empty() {
            return Err(RuleFault::WholeTree);
        }
        let names = (body.split('/').map(name_pattern)).collect::<Result<Box<[_]>, _>>()?;
        if names.len() > MAX_NAMES {
            return Err(RuleFault::TooDeep);
        }
        match &*names {
            [NamePattern::Literal(first), ..] if **first == *RESERVED_NAME => {
                Err(RuleFault::Reserved)
            }
            [.., NamePattern::Directories] => Err(RuleFault::TrailingDoubleStar),
            _ => Ok(Self {
                line: format!("/{body}").into(),
                names,
            }),
        }
    }

    /// The pattern as it was written, without a slash at its end.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// True if `subject` itself bears the name.
    pub(super) fn matches(&self, subject: Subject<'_>) -> bool {
        // The last name decides most often.
        self.names
            .last()
            .is_some_and(|last| last.matches(subject.name))
            && (subject.names()).fold(self.start(), |now, name| self.step(now, name)) & self.end()
                != 0
    }

    /// Where `path` is seen from the pattern.
    pub(super) fn walk(&self, path: &RelPath) -> Place {
        let mut now = self.start();
        for name in path.components() {
            now = self.step(now, name);
            if now & self.end() != 0 {
                return Place::Covered;
            }
        }
        if now == 0 { Place::Apart } else { Place::Above }
    }

    fn start(&self) -> u64 {
        self.enter(0)
    }

    /// Bit `n` of the states says that the first `n` names of the pattern are matched.
    fn step(&self, now: u64, name: &[u8]) -> u64 {
        let mut next = 0;
        for (index, pattern) in self.names.iter().enumerate() {
            if now >> index & 1 == 0 {
                continue;
            }
            match pattern {
                NamePattern::Directories => next |= self.enter(index),
                _ if pattern.matches(name) => next |= self.enter(index + 1),
                _ => {}
            }
        }
        next
    }

    fn enter(&self, index: usize) -> u64 {
        let skipped = (self.names.iter().skip(index))
            .take_while(|name| matches!(name, NamePattern::Directories))
            .count();
        (index..=index + skipped).fold(0, |states, state| states | 1 << state)
    }

    fn end(&self) -> u64 {
        1 << self.names.len()
    }
}

/// Where a path is, seen from a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It or a directory above bears the name.
    Covered,
    /// Something below may bear the name.
    Above,
    /// Neither.
    Apart,
}

fn name_pattern(text: &str) -> Result<NamePattern, RuleFault> {
    let bytes = text.as_bytes();
    match text {
        "" => Err(RuleFault::EmptyName),
        "." | ".." => Err(RuleFault::Dots),
        "*" => Ok(NamePattern::Any),
        "**" => Ok(NamePattern::Directories),
        _ if text.contains("**") => Err(RuleFault::PartialDoubleStar),
        _ if has_wildcard(bytes) || bytes.contains(&b'\\') => {
            let glob = Glob::compile(bytes).map_err(RuleFault::Malformed)?;
            Ok(glob
                .literal()
                .map_or(NamePattern::Glob(glob), NamePattern::Literal))
        }
        _ if bytes.len() > MAX_NAME_BYTES => Err(RuleFault::TooDeep),
        _ => Ok(NamePattern::Literal(bytes.into())),
    }
}

impl NamePattern {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *name,
            Self::Any | Self::Directories => true,
            Self::Glob(glob) => glob.matches(&[name], false),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line.chars().any(char::is_control) {
            f.write_str(&escape(self.line.as_bytes()))
        } else {
            f.write_str(&self.line)
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.line)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

impl Eq for Pattern {}
