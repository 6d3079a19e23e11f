//! One rule: what it does, where it counts, and what its pattern matches.
//!
//! Each pattern is compiled to the cheapest shape that matches what rsync would match.

use super::glob::{Glob, Malformed, has_wildcard};
use super::parse::Parts;
use super::subject::Subject;
use crate::path::escape;
use std::fmt;

/// Which end of a push asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where content comes from: an excluded name is hidden, as if it weren't there.
    Sender,
    /// Where content goes to: an excluded name is protected from deletion.
    Receiver,
}

/// One rule of an exclude list.
#[derive(Clone)]
pub struct Rule {
    line: Box<str>,
    includes: bool,
    side: Option<Side>,
    narrowed: bool,
    negated: bool,
    perishable: bool,
    xattr: bool,
    directories_only: bool,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    /// The last name is this.
    Name(Box<[u8]>),
    /// The last name starts with this.
    Prefix(Box<[u8]>),
    /// The last name ends with this.
    Suffix(Box<[u8]>),
    /// The last name matches.
    NameGlob(Glob),
    /// The path is this, or ends with this if it isn't anchored; without a name above only when
    /// it is anchored.
    Path {
        anchored: bool,
        parent: Option<Box<[u8]>>,
        name: Box<[u8]>,
    },
    /// The path matches.
    PathGlob {
        glob: Glob,
        reach: Reach,
        /// `**` at the start may match the slash before the first name.
        leading_slash: bool,
        /// `***` at the end matches the directory itself too.
        closing_slash: bool,
    },
    /// Nothing.
    Never(Malformed),
}

/// Where in the path a match may start.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Start,
    AnyName,
    Last(usize),
}

impl Rule {
    pub(super) fn new(line: &str, parts: &Parts<'_>) -> Self {
        let bytes = parts.pattern.as_bytes();
        // A lone slash is not a directory's mark.
        let (pattern, directories_only) = match bytes {
            [pattern @ .., b'/'] if !pattern.is_empty() => (pattern, true),
            _ => (bytes, false),
        };
        Self {
            line: line.into(),
            includes: parts.includes,
            side: match (parts.sender, parts.receiver) {
                (true, false) => Some(Side::Sender),
                (false, true) => Some(Side::Receiver),
                _ => None,
            },
            narrowed: parts.sender || parts.receiver,
            negated: parts.negated,
            perishable: parts.perishable,
            xattr: parts.xattr,
            directories_only,
            shape: shape(pattern).unwrap_or_else(Shape::Never),
        }
    }

    /// The rule as it was written.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// True for `+`, show and risk.
    pub fn includes(&self) -> bool {
        self.includes
    }

    /// The only side that it counts on, if it isn't both.
    pub fn side(&self) -> Option<Side> {
        self.side
    }

    /// True if the rule is ignored below a directory that is itself deleted.
    pub fn is_perishable(&self) -> bool {
        self.perishable
    }

    /// Why the pattern can match nothing, if that is so: worth a warning, since rsync gives none.
    pub fn fault(&self) -> Option<Malformed> {
        match self.shape {
            Shape::Never(fault) => Some(fault),
            _ => None,
        }
    }

    /// True if it names a side, or both: then `--delete-excluded` doesn't change it.
    pub(super) fn is_narrowed(&self) -> bool {
        self.narrowed
    }

    pub(super) fn is_xattr(&self) -> bool {
        self.xattr
    }

    /// The last name that a path must have, if the rule is about one name only.
    pub(super) fn literal_name(&self) -> Option<&[u8]> {
        match &self.shape {
            Shape::Name(name) if !self.negated => Some(name),
            _ => None,
        }
    }

    pub(super) fn counts_on(&self, side: Side, doomed: bool) -> bool {
        self.side.is_none_or(|only| only == side) && !(doomed && self.perishable)
    }

    /// True if the rule is about `subject`, whatever it then does with it.
    pub(super) fn matches(&self, subject: Subject<'_>, is_directory: bool) -> bool {
        let fits =
            (is_directory || !self.directories_only) && self.shape.matches(subject, is_directory);
        fits != self.negated
    }

    /// The same rule for the sending side alone.
    pub(super) fn sender_line(&self, pattern: &str) -> String {
        let mut line = String::from(if self.includes { "+s" } else { "-s" });
        for (is_set, letter) in [
            (self.negated, '!'),
            (self.perishable, 'p'),
            (self.xattr, 'x'),
        ] {
            line.extend(is_set.then_some(letter));
        }
        line.push(' ');
        line.push_str(pattern);
        line
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line.chars().any(char::is_control) {
            f.write_str(&escape(self.line.as_bytes()))
        } else {
            f.write_str(&self.line)
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.line)
    }
}

/// Compiles a pattern whose closing slash is gone.
fn shape(pattern: &[u8]) -> Result<Shape, Malformed> {
    // PARITY: rsync counts slashes and looks for `**` in the text, in classes and escapes too.
    let slashes = pattern.iter().filter(|byte| **byte == b'/').count();
    let has_double_star = pattern.windows(2).any(|pair| pair == b"**");
    let anchored = pattern.first() == Some(&b'/');
    let body = if anchored { &pattern[1..] } else { pattern };
    if slashes == 0 && !has_double_star {
        return name_shape(body);
    }
    if !has_wildcard(pattern) {
        let slash = body.iter().rposition(|byte| *byte == b'/');
        return Ok(Shape::Path {
            anchored,
            parent: slash.map(|at| body[..at].into()),
            name: slash.map_or(body, |at| &body[at + 1..]).into(),
        });
    }
    let leading_slash = pattern.starts_with(b"**");
    Ok(Shape::PathGlob {
        glob: Glob::compile(body)?,
        reach: if anchored || leading_slash {
            Reach::Start
        } else if has_double_star {
            Reach::AnyName
        } else {
            Reach::Last(slashes + 1)
        },
        leading_slash,
        closing_slash: pattern.ends_with(b"***"),
    })
}

fn name_shape(pattern: &[u8]) -> Result<Shape, Malformed> {
    let is_plain = |text: &[u8]| !has_wildcard(text) && !text.contains(&b'\\');
    Ok(match pattern {
        _ if !has_wildcard(pattern) => Shape::Name(pattern.into()),
        [b'*', suffix @ ..] if is_plain(suffix) => Shape::Suffix(suffix.into()),
        [prefix @ .., b'*'] if is_plain(prefix) => Shape::Prefix(prefix.into()),
        _ => Shape::NameGlob(Glob::compile(pattern)?),
    })
}

impl Shape {
    fn matches(&self, subject: Subject<'_>, is_directory: bool) -> bool {
        match self {
            Self::Name(name) => **name == *subject.name,
            Self::Prefix(prefix) => subject.name.starts_with(prefix),
            Self::Suffix(suffix) => subject.name.ends_with(suffix),
            Self::NameGlob(glob) => glob.matches(&[subject.name], false),
            Self::Path {
                anchored,
                parent,
                name,
            } => **name == *subject.name && is_parent(*anchored, parent.as_deref(), subject),
            Self::PathGlob {
                glob,
                reach,
                leading_slash,
                closing_slash,
            } => {
                let subject = match reach {
                    Reach::Last(count) => subject.last(*count),
                    _ => Some(subject),
                };
                subject.is_some_and(|subject| {
                    let start: &[u8] = if *leading_slash { b"/" } else { b"" };
                    let close: &[u8] = if *closing_slash && is_directory {
                        b"/"
                    } else {
                        b""
                    };
                    glob.matches(
                        &[start, subject.parent, subject.joint(), subject.name, close],
                        matches!(reach, Reach::AnyName),
                    )
                })
            }
            Self::Never(_) => false,
        }
    }
}

fn is_parent(anchored: bool, wanted: Option<&[u8]>, subject: Subject<'_>) -> bool {
    match wanted {
        None => subject.parent.is_empty(),
        // `//x` asks for a name that is empty.
        Some([]) => false,
        Some(wanted) if anchored => wanted == subject.parent,
        Some(wanted) => match subject.parent.strip_suffix(wanted) {
            Some(above) => matches!(above.last(), None | Some(b'/')),
            None => false,
        },
    }
}
