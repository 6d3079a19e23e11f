//! PHP files that hold nothing but assignments of literals, as `var_export` writes them.
//!
//! Nothing is executed. A statement that isn't `$name['key'] = LITERAL;` is skipped and counted, so
//! that whoever reads can say which lines were left out; what looks like a literal and isn't one is
//! an error with its line.

use std::ops::ControlFlow;
use thiserror::Error;

/// LIMIT: deeper than any of Aegir's arrays.
const MAX_DEPTH: usize = 32;

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Line {line}: {what}")]
pub(super) struct PhpError {
    line: usize,
    what: &'static str,
}

/// A literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `NULL`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// An array: keys as text, in the order of the file.
    Array(Vec<(String, Self)>),
}

impl Value {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            // Of a key that is there twice, PHP takes the last.
            Self::Array(entries) => entries
                .iter()
                .rev()
                .find_map(|(name, value)| (name == key).then_some(value)),
            _ => None,
        }
    }

    /// A string or a number as text; nothing if it is empty.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.trim()).filter(|t| !t.is_empty()),
            _ => None,
        }
    }

    /// What PHP takes for true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(text) | Self::Text(text) => !matches!(text.as_str(), "" | "0"),
            Self::Array(entries) => !entries.is_empty(),
        }
    }

    /// The texts of an array.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::Array(entries) => entries.iter().filter_map(|(_, it)| it.text()).collect(),
            _ => Vec::new(),
        }
    }
}

/// `$variable['key']['key'] = value;`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The variable's name, without `$`.
    pub(super) variable: String,
    /// The keys behind it.
    pub(super) keys: Vec<String>,
    /// What is assigned.
    pub(super) value: Value,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Php {
    /// The assignments of literals.
    pub(super) assignments: Vec<Assignment>,
    /// The lines of statements that are something else.
    pub(super) skipped: Vec<usize>,
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Php, PhpError> {
    let mut reader = Reader { rest: text, text };
    let mut php = Php::default();
    let Some(at) = text.find("<?php") else {
        return Err(reader.error("this is not PHP"));
    };
    reader.rest = &text[at + "<?php".len()..];
    while reader.blank()?.is_continue() {
        let line = reader.line();
        let begin = reader.rest;
        match reader.assignment()? {
            Some(assignment) => php.assignments.push(assignment),
            None => {
                reader.rest = begin;
                reader.skip_statement()?;
                php.skipped.push(line);
            }
        }
    }
    Ok(php)
}

struct Reader<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn line(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        self.text[..read].matches('\n').count() + 1
    }

    fn error(&self, what: &'static str) -> PhpError {
        PhpError {
            line: self.line(),
            what,
        }
    }

    /// Skips blanks and comments. Stops for good at the end of the file or of its PHP.
    fn blank(&mut self) -> Result<ControlFlow<()>, PhpError> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with("?>") {
                return Ok(ControlFlow::Break(()));
            }
            if self.rest.starts_with("//") || self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/");
                let end = end.ok_or_else(|| self.error("this comment has no end"))?;
                self.rest = &self.rest[end + 2..];
            } else {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// Takes what comes next, if it is this.
    fn take(&mut self, what: &str) -> Result<bool, PhpError> {
        let _more = self.blank()?;
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn expect(&mut self, what: &str, else_say: &'static str) -> Result<(), PhpError> {
        match self.take(what)? {
            true => Ok(()),
            false => Err(self.error(else_say)),
        }
    }

    fn word(&mut self) -> &'t str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// An assignment of a literal; nothing if it is another statement.
    fn assignment(&mut self) -> Result<Option<Assignment>, PhpError> {
        if !self.take("$")? {
            return Ok(None);
        }
        let variable = self.word().to_owned();
        let mut keys = Vec::new();
        while self.take("[")? {
            if !self.rest.starts_with(['\'', '"']) {
                return Ok(None);
            }
            keys.push(self.string()?);
            if !self.take("]")? {
                return Ok(None);
            }
        }
        if !self.take("=")? || self.rest.starts_with(['=', '&']) {
            return Ok(None);
        }
        let _more = self.blank()?;
        // Another variable, or a call: no literal, and nobody's mistake.
        let lower = self.rest.trim_start_matches('@').to_ascii_lowercase();
        let is_literal = self.rest.starts_with(['\'', '"', '[', '-'])
            || self.rest.starts_with(|c: char| c.is_ascii_digit())
            || ["array", "true", "false", "null"]
                .iter()
                .any(|word| lower.starts_with(word));
        if !is_literal {
            return Ok(None);
        }
        let value = self.value(0)?;
        self.expect(";", "a literal is expected here, and nothing but a literal")?;
        Ok(Some(Assignment {
            variable,
            keys,
            value,
        }))
    }

    fn value(&mut self, depth: usize) -> Result<Value, PhpError> {
        if depth > MAX_DEPTH {
            return Err(self.error("arrays are nested too deeply"));
        }
        let _more = self.blank()?;
        if self.rest.starts_with(['\'', '"']) {
            return self.string().map(Value::Text);
        }
        if self.take("[")? {
            return self.entries("]", depth);
        }
        if self
            .rest
            .starts_with(|c: char| c.is_ascii_digit() || c == '-')
        {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
            let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
            let (number, rest) = self.rest.split_at(end);
            if number.parse::<f64>().is_err() {
                return Err(self.error("this is not a number"));
            }
            self.rest = rest;
            return Ok(Value::Number(number.to_owned()));
        }
        let word = self.word();
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            "array" => {
                self.expect("(", "`array` needs its parentheses")?;
                self.entries(")", depth)
            }
            _ => Err(self.error("this is not a literal")),
        }
    }

    fn entries(&mut self, end: &str, depth: usize) -> Result<Value, PhpError> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        loop {
            if self.take(end)? {
                return Ok(Value::Array(entries));
            }
            let first = self.value(depth + 1)?;
            let entry = match self.take("=>")? {
                false => (entries.len().to_string(), first),
                true => match first {
                    Value::Text(key) | Value::Number(key) => (key, self.value(depth + 1)?),
                    _ => return Err(self.error("a key is a string or a number")),
                },
            };
            entries.push(entry);
            if !self.take(",")? {
                self.expect(end, "a comma or the end of the array is expected here")?;
                return Ok(Value::Array(entries));
            }
        }
    }

    fn string(&mut self) -> Result<String, PhpError> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, c)| c);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            match c {
                _ if Some(c) == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, c)) if c == '\\' || Some(c) == quote => text.push(c),
                    Some((_, other)) if quote == Some('\'') => text.extend(['\\', other]),
                    _ => return Err(self.error("this string has an escape that isn't read here")),
                },
                '$' | '{' if quote == Some('"') => {
                    return Err(self.error("this string holds a variable"));
                }
                c => text.push(c),
            }
        }
        Err(self.error("this string has no end"))
    }

    /// Up to the `;` that ends a statement, past strings, comments and whatever is in brackets.
    fn skip_statement(&mut self) -> Result<(), PhpError> {
        let mut depth = 0_usize;
        while self.blank()?.is_continue() {
            let Some(c) = self.rest.chars().next() else {
                break;
            };
            match c {
                '\'' | '"' => {
                    self.skip_string()?;
                    continue;
                }
                '(' | '[' | '{' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.rest = &self.rest[1..];
                        return Ok(());
                    }
                }
                ';' if depth == 0 => {
                    self.rest = &self.rest[1..];
                    return Ok(());
                }
                _ => {}
            }
            self.rest = &self.rest[c.len_utf8()..];
        }
        Ok(())
    }

    fn skip_string(&mut self) -> Result<(), PhpError> {
        let quote = self.rest.chars().next();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == '\\' {
                characters.next();
            } else if Some(c) == quote {
                self.rest = &self.rest[at + c.len_utf8()..];
                return Ok(());
            }
        }
        Err(self.error("this string has no end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Assignment {
        let php = read(text).unwrap();
        assert_eq!(
            (php.assignments.len(), php.skipped.len()),
            (1, 0),
            "{php:?}"
        );
        php.assignments.into_iter().next().unwrap()
    }

    #[test]
    fn what_var_export_writes_is_read() {
        let it = only(
            "<?php \n$aliases['server_front'] = array (\n  'context_type' => 'server',\n  \
             'http_port' => 80,\n  'cluster_web_servers' => \n  array (\n    0 => '@server_web1',\n    \
             1 => '@server_web2',\n  ),\n  'ssl' => NULL,\n  'on' => true,\n  'f' => -1.5,\n  \
             'q' => 'it\\'s \\\\ $x \\n',\n);\n",
        );
        assert_eq!(
            (it.variable.as_str(), it.keys[0].as_str()),
            ("aliases", "server_front")
        );
        assert_eq!(it.value.get("http_port").unwrap().text(), Some("80"));
        let members = it.value.get("cluster_web_servers").unwrap().texts();
        assert_eq!(members, ["@server_web1", "@server_web2"]);
        assert_eq!(it.value.get("ssl"), Some(&Value::Null));
        assert!(it.value.get("on").unwrap().is_true());
        assert_eq!(it.value.get("f").unwrap().text(), Some("-1.5"));
        assert_eq!(it.value.get("q").unwrap().text(), Some("it's \\ $x \\n"));
    }

    #[test]
    fn what_is_no_literal_is_skipped_and_told() {
        let php = read(
            "<?php\n// a; comment's quote\n$options['db_name'] = 'a';\n\
             $_SERVER['db_name'] = $options['db_name'];\n@include_once('/x;y.php');\n\
             # another\nif (file_exists('/a')) {\n  include '/a'; \n}\n/* b */ $n = ['x' => [1, 2,],]; ?>\n<b>",
        )
        .unwrap();
        let names: Vec<&str> = php
            .assignments
            .iter()
            .map(|a| a.variable.as_str())
            .collect();
        assert_eq!(names, ["options", "n"]);
        assert_eq!(php.skipped, [4, 5, 7]);
    }

    #[test]
    fn what_would_have_to_be_executed_is_an_error_with_its_line() {
        for (text, line) in [
            ("<?php\n$a['x'] = array('b' => system('id'));", 2),
            ("<?php\n\n$a = 'x' . `id`;", 3),
            ("<?php\n$a = \"$b\";", 2),
            ("<?php\n$a = array(1 2);", 2),
            ("<?php\n$a = 'x", 2),
            (
                "<?php\n$a = array('x' => stdClass::__set_state(array()));",
                2,
            ),
            ("no php at all", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text}");
        }
        let deep = format!("<?php\n$a = {}1{};", "array(".repeat(99), ")".repeat(99));
        assert!(read(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(<\\?php)?[$a'\"=;()\\[\\]{}\\\\, #/*>\n0-9.-]{0,60}") {
            let _either = read(&text);
        }
    }
}
