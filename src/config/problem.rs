//! Faults in a configuration file, each with file, line, column and the line itself.
//!
//! Invariant (I10): a line that seems to hold a secret is cut off before its value.

use serde::Serialize;
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// The most characters of a line that are shown.
const SNIPPET_CHARS: usize = 120;

/// Words that make a key look like it holds a secret.
const SECRET_WORDS: [&str; 6] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "private_key",
];

/// True if a key of this name would hold a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// One fault in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, in one sentence.
    pub message: String,
    /// The file as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What to write instead, where that is known.
    pub hint: Option<String>,
    #[serde(skip)]
    start: usize,
    #[serde(skip)]
    snippet: String,
    #[serde(skip)]
    carets: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gap = " ".repeat(number.len());
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{gap}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gap} |")?;
        writeln!(f, "{number} | {}", self.snippet)?;
        write!(f, "{gap} | {}", self.carets)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{gap} = hint: {hint}")?;
        }
        Ok(())
    }
}

/// All faults of one file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Invalid(Vec<Problem>);

impl Invalid {
    /// The faults.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Collects the faults of one file while it is read.
pub(super) struct Problems<'s> {
    file: &'s str,
    text: &'s str,
    list: Vec<Problem>,
}

impl<'s> Problems<'s> {
    /// For the file shown as `file`, which holds `text`.
    pub(super) fn new(file: &'s str, text: &'s str) -> Self {
        Self {
            file,
            text,
            list: Vec::new(),
        }
    }

    /// Adds a fault at these bytes of the text.
    pub(super) fn push(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.add(at, message.into(), None, None);
    }

    /// Adds a fault and what to do about it.
    pub(super) fn push_with(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(at, message.into(), Some(hint.into()), None);
    }

    /// Adds a fault whose line must not be repeated from byte `cut` on.
    pub(super) fn push_secret(
        &mut self,
        at: Range<usize>,
        cut: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(at, message.into(), Some(hint.into()), Some(cut));
    }

    /// The number of the line at this byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.place(&(at..at)).1
    }

    /// The line around `at`, with those bytes replaced.
    pub(super) fn line_with(&self, at: &Range<usize>, replacement: &str) -> String {
        let (line, ..) = self.place(at);
        let before = &self.text[line.start..at.start.max(line.start)];
        let after = self.text.get(at.end..line.end).unwrap_or("");
        format!("{before}{replacement}{after}").trim().to_owned()
    }

    /// True if nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What was read, or all faults in the order of their lines. Something must have been read or
    /// reported.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, Invalid> {
        match read {
            Some(read) if self.list.is_empty() => Ok(read),
            _ => {
                self.list.sort_by_key(|problem| problem.start);
                self.list.dedup();
                Err(Invalid(self.list))
            }
        }
    }

    fn add(&mut self, at: Range<usize>, message: String, hint: Option<String>, cut: Option<usize>) {
        let (line, number, column) = self.place(&at);
        let cut = cut.or_else(|| Some(line.start + secret_start(&self.text[line.clone()])?));
        let end = cut.map_or(line.end, |cut| cut.clamp(line.start, line.end));
        let shown: String = self.text[line.start..end]
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let shown = shown.trim_end();
        let cut = if end < line.end { "..." } else { "" };
        let marked_chars = self.text[at.start.min(end)..at.end.clamp(at.start.min(end), end)]
            .chars()
            .count();
        // A line too long to show is shown from a little before the fault.
        let skipped = if shown.chars().count() > SNIPPET_CHARS {
            (column - 1).saturating_sub(SNIPPET_CHARS / 4)
        } else {
            0
        };
        let window: String = shown.chars().skip(skipped).take(SNIPPET_CHARS).collect();
        let offset = column - 1 - skipped;
        let carets = marked_chars.clamp(1, SNIPPET_CHARS.saturating_sub(offset).max(1));
        self.list.push(Problem {
            message,
            file: self.file.to_owned(),
            line: number,
            column,
            hint,
            start: at.start,
            snippet: format!("{window}{cut}"),
            carets: format!("{}{}", " ".repeat(offset), "^".repeat(carets)),
        });
    }

    /// The bytes of the line that `at` starts in, its number, and the column there.
    fn place(&self, at: &Range<usize>) -> (Range<usize>, usize, usize) {
        let mut start = at.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |newline| start + newline);
        let number = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        (line_start..line_end, number, column)
    }
}

/// Keys whose value is a reference to a secret, and may be the secret itself by mistake.
const REFERENCES: [&str; 3] = ["admin", "auth", "key"];

/// Where the value begins on a line that assigns to a key that looks like a secret.
fn secret_start(line: &str) -> Option<usize> {
    let is_value_start = |equals: &usize| {
        let name = |c: char| c.is_alphanumeric() || "_-.\"'".contains(c);
        let before = line[..*equals].trim_end();
        let start = before.trim_end_matches(name).len();
        let key = &before[start..];
        let last = key.rsplit('.').next().unwrap_or(key);
        let value = line[equals + 1..]
            .trim_start()
            .trim_start_matches(['"', '\'']);
        let refers = ["secret:", "file:/", "command:", "credential:", "env:"]
            .iter()
            .any(|kind| value.starts_with(kind));
        is_secret_key(key) || (REFERENCES.contains(&last.trim_matches(['"', '\''])) && !refers)
    };
    let mut assignments = line.match_indices('=').map(|(at, _)| at);
    assignments.find(is_value_start).map(|equals| equals + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str, at: Range<usize>) -> Problem {
        let mut problems = Problems::new("f.toml", text);
        problems.push(at, "It is wrong");
        problems.finish(None::<()>).unwrap_err().0.remove(0)
    }

    #[test]
    fn columns_count_characters() {
        let problem = only("a = 1\nü = \"wröng\"\n", 11..19);
        assert_eq!((problem.line, problem.column), (2, 5));
        insta::assert_snapshot!(problem, @r#"
        It is wrong
         --> f.toml:2:5
          |
        2 | ü = "wröng"
          |     ^^^^^^^
        "#);
    }

    #[test]
    fn any_range_is_rendered_without_a_panic() {
        let text = "ü\nab\n";
        for start in 0..=text.len() + 2 {
            for end in 0..=text.len() + 2 {
                if text.get(start.min(text.len())..).is_some()
                    && text.is_char_boundary(end.min(text.len()))
                {
                    assert!(
                        !only(text, start.min(text.len())..end.min(text.len()))
                            .to_string()
                            .is_empty()
                    );
                }
            }
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_fault() {
        let text = format!("a = \"{}!{}\"", "x".repeat(500), "y".repeat(500));
        let problem = only(&text, 505..506);
        assert_eq!(problem.column, 506);
        assert!(problem.snippet.chars().count() <= SNIPPET_CHARS);
        let caret = problem.carets.find('^').unwrap();
        assert_eq!(problem.snippet.as_bytes()[caret], b'!');
    }

    #[test]
    fn a_line_with_a_secret_ends_before_it() {
        let text = "db = { Password = \"hunter2\" }";
        assert!(!only(text, 0..2).to_string().contains("hunter2"));
        assert!(!only(text, 18..27).to_string().contains("hunter2"));
    }
}
