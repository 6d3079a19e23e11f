//! The text of the inventory, with a comment for each thing that it can't hold.

use crate::config::settings::Keys;
use std::fmt::Write as _;
use toml_edit::Value;

/// Where comments are wrapped, in characters.
const WIDTH: usize = 100;

/// An inventory that is being written.
#[derive(Default)]
pub(super) struct Text {
    text: String,
    left: Vec<String>,
}

impl Text {
    /// Words for whoever reads the file.
    pub(super) fn comment(&mut self, words: &str) {
        let mut line = String::from("#");
        for word in words.split_whitespace() {
            // A name out of a foreign file must not end the comment.
            let word: String = word.chars().filter(|c| !c.is_control()).collect();
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
                self.text.push_str(&line);
                self.text.push('\n');
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(&word);
        }
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// Something that isn't carried over: said here, and in the summary.
    pub(super) fn left(&mut self, what: &str, words: &str) {
        self.comment(&format!("NOT CARRIED OVER: {words}"));
        self.left.push(format!("{what}: {words}"));
    }

    /// Lines as they are.
    pub(super) fn lines(&mut self, lines: &str) {
        self.text.push_str(lines);
        self.text.push('\n');
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A table. `name` is quoted where it needs to be.
    pub(super) fn table(&mut self, section: &str, name: &str, keys: Keys) {
        let is_bare = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let name = match is_bare {
            true => name.to_owned(),
            false => Value::from(name).to_string(),
        };
        let _infallible = writeln!(self.text, "[{section}.{name}]");
        for (key, value) in keys {
            let _infallible = writeln!(self.text, "{key} = {value}");
        }
    }

    /// The text, and what isn't in it.
    pub(super) fn finish(self) -> (String, Vec<String>) {
        (self.text, self.left)
    }
}
