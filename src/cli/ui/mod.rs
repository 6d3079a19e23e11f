//! The only place that prints.
//!
//! Standard output carries data and nothing else: what a command was asked for, or JSON lines.
//! Everything said to a person goes to standard error: status, warnings, hints, errors, progress.
//! Control characters never reach a terminal from a message, whoever wrote it. A reader of
//! standard output that goes away is no error: the rest is dropped and the exit stays what it is.

#[cfg(test)]
pub(crate) mod testing;

mod hidden;
mod text;

use super::args::{ColorWhen, GlobalArgs};
use super::error::CommandError;
use crate::codes::{Code, Problem};
use indicatif::MultiProgress;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use text::{Label, sanitized};
use zeroize::Zeroizing;

/// How much a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Results, warnings and errors.
    Quiet,
    /// Status and hints as well.
    Normal,
    /// Details as well.
    Verbose,
}

/// The command's mouth. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Ui(Arc<Inner>);

struct Inner {
    json: bool,
    verbosity: Verbosity,
    progress: bool,
    interactive: bool,
    color: bool,
    out: Mutex<Out>,
    err: Mutex<Box<dyn Write + Send>>,
    bars: Mutex<Option<MultiProgress>>,
    /// Hints that warnings gave: what holds for many members is said once.
    hinted: Mutex<HashSet<String>>,
}

struct Out {
    writer: Box<dyn Write + Send>,
    failure: Option<io::Error>,
}

impl Ui {
    /// A mouth for this process, as the global options want it.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        Self::with_writers(
            global,
            stderr_is_terminal,
            Box::new(io::stdout()),
            Box::new(io::stderr()),
        )
    }

    fn with_writers(
        global: &GlobalArgs,
        terminal: bool,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        };
        Self(Arc::new(Inner {
            json: global.json,
            verbosity,
            progress: terminal && !global.quiet && !global.json && !is_set("FANOUT_NO_PROGRESS"),
            interactive: terminal && io::stdin().is_terminal(),
            color: match global.color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                ColorWhen::Auto => terminal && !is_set("NO_COLOR") && !is_dumb_terminal(),
            },
            out: Mutex::new(Out {
                writer: out,
                failure: None,
            }),
            err: Mutex::new(err),
            bars: Mutex::new(None),
            hinted: Mutex::default(),
        }))
    }

    /// True if standard output carries JSON lines.
    pub(crate) fn is_json(&self) -> bool {
        self.0.json
    }

    /// True if details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.0.verbosity >= Verbosity::Verbose
    }

    /// True if progress bars may be drawn.
    pub(crate) fn shows_progress(&self) -> bool {
        self.0.progress
    }

    /// Prints one or more lines of data on standard output.
    pub(crate) fn out(&self, data: impl Display) {
        let data = data.to_string();
        let mut line = sanitized(&data).into_owned();
        line.push('\n');
        self.write_out(line.as_bytes());
    }

    /// Writes bytes to standard output as they are: scripts, tokens.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        self.write_out(bytes);
    }

    /// Prints one JSON line on standard output.
    pub(crate) fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(line) => {
                // JSON lets DEL and the controls above it stand as they are; terminals obey them.
                let mut plain = String::with_capacity(line.len() + 1);
                for character in line.chars() {
                    match character.is_control() {
                        true => plain += &format!("\\u{:04x}", u32::from(character)),
                        false => plain.push(character),
                    }
                }
                plain.push('\n');
                self.write_out(plain.as_bytes());
            }
            Err(error) => self.lock_out().keep(error.into()),
        }
    }

    /// True once nobody reads standard output any more; long lists can stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock_out().failure.is_some()
    }

    /// Says what is going on. A full sentence, or a line of a table.
    pub(crate) fn status(&self, text: impl Display) {
        if self.0.verbosity >= Verbosity::Normal {
            self.say(None, &text.to_string());
        }
    }

    /// Says what only those want to know who asked for it with `-v`.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.is_verbose() {
            self.say(None, &text.to_string());
        }
    }

    /// Warns of a problem that doesn't stop the work.
    pub(crate) fn warning(&self, problem: &Problem) {
        self.say(Some(Label::Warning), &problem.to_string());
        let hint = problem.hint();
        let mut hinted = self.0.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = hinted.insert(hint.to_owned());
        drop(hinted);
        if is_new {
            self.hint(hint);
        }
    }

    /// Says what went wrong, where the result says it too and the command goes on to its end.
    pub(crate) fn failure(&self, problem: &Problem) {
        self.say(Some(Label::Error), &problem.to_string());
        self.hint(problem.hint());
    }

    /// True if somebody sits at a terminal and can be asked.
    pub(crate) fn is_interactive(&self) -> bool {
        self.0.interactive && !self.0.json
    }

    /// Warns of something that has no code.
    pub(crate) fn warn(&self, text: impl Display) {
        self.say(Some(Label::Warning), &text.to_string());
    }

    /// Says what could be done next.
    pub(crate) fn hint(&self, text: impl Display) {
        if self.0.verbosity >= Verbosity::Normal {
            self.say(Some(Label::Hint), &text.to_string());
        }
    }

    /// Says why the command failed, and in JSON mode ends standard output with the same.
    pub(crate) fn error(&self, error: &CommandError) {
        self.say(Some(Label::Error), &error.to_string());
        for hint in error.hints() {
            self.hint(hint);
        }
        if self.is_json() {
            self.json(&super::json::ErrorLine::new(error));
        }
    }

    /// Prints a text that clap has rendered: to standard output if it was asked for.
    pub(crate) fn clap(&self, error: &clap::Error) {
        let rendered = error.render();
        let text = if self.0.color {
            rendered.ansi().to_string()
        } else {
            rendered.to_string()
        };
        if error.use_stderr() {
            self.write_err(text.as_bytes());
        } else {
            self.write_out(text.as_bytes());
        }
    }

    /// Asks a yes-or-no question. Without a terminal to ask on, and in JSON mode, it is refused
    /// with `how` as the way to answer it beforehand, such as "`--yes`".
    pub(crate) fn confirm(&self, question: &str, how: &str) -> Result<bool, CommandError> {
        if !self.0.interactive || self.0.json {
            return Err(CommandError::new(
                Code::NotConfirmed,
                format!("This needs {how} where nobody can be asked"),
            ));
        }
        let answer = self.ask(&format!("{question} [y/N] "))?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a word to be typed, such as the name of what will be destroyed.
    pub(crate) fn confirm_by_typing(&self, word: &str, how: &str) -> Result<bool, CommandError> {
        if !self.0.interactive || self.0.json {
            return Err(CommandError::new(
                Code::NotConfirmed,
                format!("This needs {how} where nobody can be asked"),
            ));
        }
        Ok(self.ask(&format!("Type {word} to go on: "))?.trim() == word)
    }

    fn ask(&self, prompt: &str) -> Result<String, CommandError> {
        self.suspended(|| {
            self.write_err_now(sanitized(prompt).as_bytes());
            let mut answer = String::new();
            io::stdin()
                .lock()
                .read_line(&mut answer)
                .map_err(|error| CommandError::from_error(Code::NotConfirmed, &error))?;
            Ok(answer)
        })
    }

    /// Asks for a secret on the terminal, without echo.
    pub(crate) fn ask_hidden(&self, prompt: &str) -> Result<Zeroizing<String>, CommandError> {
        self.suspended(|| {
            let answer = hidden::read_line(|| self.write_err_now(sanitized(prompt).as_bytes()));
            self.write_err_now(b"\n");
            answer.map_err(|error| CommandError::from_error(Code::SecretUnusable, &error))
        })
    }

    /// Lets `bars` share standard error with the lines; `None` ends it.
    pub(crate) fn share_with(&self, bars: Option<MultiProgress>) {
        *lock(&self.0.bars) = bars;
    }

    /// The end: flushes, and returns what kept standard output from being written. A reader that
    /// went away is no failure.
    pub(crate) fn finish(&self) -> Option<io::Error> {
        let mut out = self.lock_out();
        if out.failure.is_none()
            && let Err(error) = out.writer.flush()
        {
            out.keep(error);
        }
        out.failure
            .take()
            .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    fn say(&self, label: Option<Label>, text: &str) {
        let mut line = String::new();
        if let Some(label) = label {
            // Writing to a String can't fail.
            let _infallible = if self.0.color {
                write!(line, "{}{}:\x1b[0m ", label.style(), label.word())
            } else {
                write!(line, "{}: ", label.word())
            };
        }
        line.push_str(&sanitized(text));
        line.push('\n');
        self.write_err(line.as_bytes());
    }

    fn write_out(&self, bytes: &[u8]) {
        self.suspended(|| {
            let mut out = self.lock_out();
            if out.failure.is_some() {
                return;
            }
            if let Err(error) = out
                .writer
                .write_all(bytes)
                .and_then(|()| out.writer.flush())
            {
                out.keep(error);
            }
        });
    }

    fn write_err(&self, bytes: &[u8]) {
        self.suspended(|| self.write_err_now(bytes));
    }

    fn write_err_now(&self, bytes: &[u8]) {
        let mut err = lock(&self.0.err);
        // There is nowhere left to complain to.
        let _nowhere = err.write_all(bytes).and_then(|()| err.flush());
    }

    fn suspended<T>(&self, print: impl FnOnce() -> T) -> T {
        let bars = lock(&self.0.bars).clone();
        match bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    fn lock_out(&self) -> MutexGuard<'_, Out> {
        lock(&self.0.out)
    }
}

impl Out {
    fn keep(&mut self, error: io::Error) {
        self.failure.get_or_insert(error);
    }
}

/// A writer of log lines that doesn't tear progress bars.
impl Write for &Ui {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_err(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::testing::{captured, failing, global};
    use super::*;

    #[test]
    fn data_goes_to_standard_output_and_words_to_standard_error() {
        let (ui, out, err) = captured(&global());
        ui.out("data");
        ui.status("Working.");
        ui.detail("Nobody asked.");
        ui.warning(&Problem::new(Code::MemberStale, "web3 is stale").with_hint("Resync it"));
        assert_eq!(out.text(), "data\n");
        assert_eq!(
            err.text(),
            "Working.\nwarning: web3 is stale [FX0504]\nhint: Resync it\n"
        );
    }

    #[test]
    fn a_quiet_command_still_warns() {
        let (ui, out, err) = captured(&GlobalArgs {
            quiet: true,
            ..global()
        });
        ui.status("Working.");
        ui.hint("Look.");
        ui.warn("Careful");
        ui.out("data");
        assert_eq!(err.text(), "warning: Careful\n");
        assert_eq!(out.text(), "data\n");
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let (ui, out, err) = captured(&global());
        ui.warn("from a peer: \x1b[2J\r\x07 \u{9b}31m");
        ui.out("name\x1b]0;title\x07");
        assert_eq!(
            err.text(),
            "warning: from a peer: \\x1B[2J\\x0D\\x07 \\x9B31m\n"
        );
        assert_eq!(out.text(), "name\\x1B]0;title\\x07\n");
    }

    #[test]
    fn colors_are_there_only_where_they_are_wanted() {
        let (ui, _, err) = captured(&GlobalArgs {
            color: ColorWhen::Always,
            ..global()
        });
        ui.warn("Careful");
        assert_eq!(err.text(), "\x1b[1;33mwarning:\x1b[0m Careful\n");
        let (ui, _, err) = captured(&GlobalArgs {
            color: ColorWhen::Auto,
            ..global()
        });
        ui.warn("Careful");
        assert_eq!(err.text(), "warning: Careful\n");
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
        let ui = failing(io::ErrorKind::BrokenPipe);
        ui.out("data");
        assert!(ui.is_closed());
        assert!(ui.finish().is_none());
        let ui = failing(io::ErrorKind::StorageFull);
        ui.out("data");
        assert_eq!(ui.finish().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn nobody_is_asked_where_nobody_sits() {
        let (ui, _, _) = captured(&global());
        let error = ui.confirm("Go on?", "`--yes`").unwrap_err();
        assert_eq!(error.code(), Code::NotConfirmed);
        assert_eq!(
            error.to_string(),
            "This needs `--yes` where nobody can be asked [FX0012]"
        );
    }
}
