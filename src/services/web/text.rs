//! The only kinds of text that a template is given, besides numbers and truth values.
//!
//! None can end the place that it stands in: what would is refused when the value is made, and
//! never escaped by hope. Neither nginx nor apache nor PHP-FPM has one escape that holds in all of
//! its places.

use serde::Serialize;
use std::fmt;
use sync_proto::path::escape;
use thiserror::Error;

/// The longest text, in bytes.
const MAX_BYTES: usize = 4096;

/// Why a text can't stand in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} `{shown}` {why}")]
pub struct TextError {
    what: String,
    shown: String,
    why: &'static str,
}

fn error(what: &str, text: &str, why: &'static str) -> TextError {
    let start: String = text.chars().take(80).collect();
    TextError {
        what: what.to_owned(),
        shown: escape(start.as_bytes()),
        why,
    }
}

/// What no text may hold anywhere.
fn breaks_out(c: char) -> bool {
    c.is_control() || matches!(c, '"' | '\'' | '`' | '$' | '{' | '}' | ';' | '\\')
}

/// One word: a name, a path without spaces, an address. Stands anywhere, quoted or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Plain(String);

impl Plain {
    /// Takes a word; `what` says in a message what it was meant for.
    ///
    /// # Errors
    /// It is empty or too long, or holds white space or anything with a meaning of its own in a
    /// configuration file.
    pub fn parse(what: &str, text: &str) -> Result<Self, TextError> {
        let no = |c: char| {
            breaks_out(c)
                || c.is_whitespace()
                || matches!(c, '#' | '<' | '>' | '(' | ')' | '|' | '^' | '*')
        };
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(error(what, text, "is empty or too long"));
        }
        if text.contains(no) {
            return Err(error(
                what,
                text,
                "holds white space or one of \" ' ` $ { } ; \\ # < > ( ) | ^ *",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that stands between double quotes only: a path with spaces, a title.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Quoted(String);

impl Quoted {
    /// Takes a text; `what` says in a message what it was meant for.
    ///
    /// # Errors
    /// It is too long, or holds control characters, quotes, `$`, braces, semicolons or backslashes.
    pub fn parse(what: &str, text: &str) -> Result<Self, TextError> {
        if text.len() > MAX_BYTES {
            return Err(error(what, text, "is too long"));
        }
        if text.contains(breaks_out) {
            return Err(error(
                what,
                text,
                "holds a line break or another control character, or one of \" ' ` $ { } ; \\",
            ));
        }
        // apache replaces `%{...}` in some places; braces are out already.
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Plain> for Quoted {
    fn from(plain: Plain) -> Self {
        Self(plain.0)
    }
}

/// A regular expression on a path, as nginx and apache both read it (PCRE). It stands between double
/// quotes, where `$`, braces and `\.` keep their meaning as an expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Takes an expression. One that begins with `^` begins with `^/`.
    ///
    /// # Errors
    /// It holds white space, control characters, quotes, or `${`, or ends in a backslash.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let what = "the expression";
        let no = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '`');
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(error(what, text, "is empty or too long"));
        }
        if text.contains(no) || text.contains("${") || text.ends_with('\\') {
            return Err(error(
                what,
                text,
                "holds white space, a quote or `${`, or ends in a backslash",
            ));
        }
        // Inside quotes nginx reads these as control characters before the expression is compiled.
        if ["\\n", "\\r", "\\t"].iter().any(|it| text.contains(it)) {
            return Err(error(what, text, "holds an escape for a control character"));
        }
        if text.starts_with('^') && !text.starts_with("^/") {
            return Err(error(what, text, "begins with `^` but not with `^/`"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The same for an application that begins at `prefix` (such as `/shop`).
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        match self.0.strip_prefix("^/") {
            Some(rest) => Self(format!("^{prefix}/{rest}")),
            None => self.clone(),
        }
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_could_end_its_place_is_refused() {
        for bad in [
            "a\nb", "a\rb", "a\0b", "a\"b", "a'b", "a`b", "a$b", "a{b", "a}b", "a;b", "a\\b",
        ] {
            assert!(Plain::parse("x", bad).is_err(), "{bad:?}");
            assert!(Quoted::parse("x", bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a\tb", "a#b", "<a", "a>", "a|b"] {
            assert!(Plain::parse("x", bad).is_err(), "{bad:?}");
        }
        assert!(Quoted::parse("x", "/srv/my site").is_ok());
        assert!(Plain::parse("x", "/srv/a-b_c.d:80").is_ok());
    }

    #[test]
    fn expressions_stay_expressions_and_move_below_a_subdirectory() {
        let anchored = Pattern::parse(r"^/core/.*\.(inc|module)$").unwrap();
        assert_eq!(
            anchored.below("/shop").as_str(),
            r"^/shop/core/.*\.(inc|module)$"
        );
        let anywhere = Pattern::parse(r"\.sql$").unwrap();
        assert_eq!(anywhere.below("/shop"), anywhere);
        for bad in ["a b", "a\"", "${x}", "a\\", "^x", "", "a\\n"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_value_is_shown_escaped_with_what_it_was_for() {
        let error = Plain::parse("the redirect to", "x\ny").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the redirect to `x\\x0Ay` holds white space"),
            "{error}"
        );
    }
}
