//! A line from the terminal that the terminal doesn't show.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, Stdin};
use zeroize::Zeroizing;

/// Puts the terminal back as it was, whatever happens.
struct Restored<'t> {
    terminal: &'t Stdin,
    before: Termios,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        // Best effort: a terminal that has gone needs no echo.
        let _gone = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Reads a line from standard input, which is a terminal, without its line feed. `prompt` is called
/// once nothing is shown any more and what was typed before is dropped.
pub(super) fn read_line(prompt: impl FnOnce()) -> io::Result<Zeroizing<String>> {
    let terminal = io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let _restored = Restored {
        terminal: &terminal,
        before,
    };
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    prompt();
    let mut line = Zeroizing::new(String::new());
    terminal.lock().read_line(&mut line)?;
    if line.ends_with('\n') {
        line.pop();
    }
    Ok(line)
}
