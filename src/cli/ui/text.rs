//! Text on its way to a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What stands before a line.
#[derive(Clone, Copy)]
pub(super) enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }

    pub(super) fn style(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
            Self::Hint => "\x1b[1;36m",
        }
    }
}

/// Replaces control characters, line feeds and tabs excepted: a message may quote what a peer or
/// a file said, and must not steer the terminal.
pub(super) fn sanitized(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_harmful(character) {
            let _infallible = write!(clean, "\\x{:02X}", u32::from(character));
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}
