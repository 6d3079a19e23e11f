//! A terminal: a command run in a pseudo-terminal by `script`, and the screens that it showed.

use super::run::{Output, run_within};
use std::process::Command;
use std::time::Duration;

/// The screens that a program drew, in their order, and how the program ended.
pub(crate) struct Shown {
    pub(crate) screens: Vec<Vec<String>>,
    pub(crate) output: Output,
}

impl Shown {
    /// Every screen, for a failure message.
    pub(crate) fn describe(&self) -> String {
        let screens: Vec<_> = self.screens.iter().map(|it| it.join("\n")).collect();
        screens.join("\n-----\n")
    }
}

/// Runs `command` in a terminal of this size, with its environment and nothing inherited.
#[track_caller]
pub(crate) fn in_terminal(command: &Command, rows: usize, columns: usize) -> Shown {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(quoted).collect();
    let line = format!(
        "stty rows {rows} columns {columns}; exec {}",
        words.join(" ")
    );
    let mut script = Command::new("script");
    script.args([
        "--quiet",
        "--flush",
        "--return",
        "--command",
        &line,
        "/dev/null",
    ]);
    script.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value.filter(|_| name != "NO_COLOR") {
            script.env(name, value);
        }
    }
    if let Some(dir) = command.get_current_dir() {
        script.current_dir(dir);
    }
    script.envs([("TERM", "xterm-256color"), ("SHELL", "/bin/sh")]);
    let output = run_within(&mut script, b"", Duration::from_secs(120));
    Shown {
        screens: screens(&output.text(), rows, columns),
        output,
    }
}

/// Plays what was written to a terminal. A screen is noted whenever its cursor goes up again to
/// draw over what is there.
fn screens(written: &str, rows: usize, columns: usize) -> Vec<Vec<String>> {
    let mut screen = Screen {
        lines: vec![String::new()],
        row: 0,
        column: 0,
        rows,
        columns,
    };
    let mut noted: Vec<Vec<String>> = Vec::new();
    let mut rest = written.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\r' => screen.column = 0,
            '\n' => screen.down(),
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                let mut arguments = String::new();
                let end = loop {
                    match rest.next() {
                        Some(end @ '@'..='~') => break end,
                        Some(argument) => arguments.push(argument),
                        None => return noted,
                    }
                };
                if end == 'A' {
                    let shown = screen.shown();
                    if noted.last() != Some(&shown) {
                        noted.push(shown);
                    }
                }
                screen.control(end, &arguments);
            }
            other => screen.put(other),
        }
    }
    noted.push(screen.shown());
    noted
}

struct Screen {
    /// All lines ever, those that scrolled away included.
    lines: Vec<String>,
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
}

impl Screen {
    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(String::new());
        }
    }

    fn put(&mut self, character: char) {
        if self.column == self.columns {
            self.column = 0;
            self.down();
        }
        let line = &mut self.lines[self.row];
        let mut all: Vec<char> = line.chars().collect();
        all.resize(all.len().max(self.column + 1), ' ');
        all[self.column] = character;
        *line = all.into_iter().collect();
        self.column += 1;
    }

    fn control(&mut self, end: char, arguments: &str) {
        let number = arguments.parse().unwrap_or(1);
        let top = self.lines.len().saturating_sub(self.rows);
        match (end, arguments) {
            ('A', _) => self.row = self.row.saturating_sub(number).max(top),
            ('B', _) => self.row = (self.row + number).min(self.lines.len() - 1),
            ('K', "2") => self.lines[self.row].clear(),
            ('K', _) => {
                let line = &mut self.lines[self.row];
                *line = line.chars().take(self.column).collect();
            }
            ('J', _) => {
                self.lines.truncate(self.row + 1);
                self.control('K', "");
            }
            _ => {}
        }
    }

    fn shown(&self) -> Vec<String> {
        let lines = self.lines.iter().map(|line| line.trim_end().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }
}
