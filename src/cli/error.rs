//! Why a command failed, in the one form that is shown.

use crate::codes::{Code, Exit, Problem};
use std::error::Error;
use std::fmt;

/// A failure with its code, its message, what to do next, and the exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandError {
    problem: Problem,
    further_hints: Vec<String>,
    exit: Exit,
}

impl CommandError {
    /// A failure with the hint and the exit of its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Problem::new(code, message).into()
    }

    /// A failure that an error explains, with its sources.
    pub(crate) fn from_error(code: Code, error: &(dyn Error + 'static)) -> Self {
        Problem::from_error(code, error).into()
    }

    /// The command line is not valid, in a way that only the inventory shows.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A state that can't be.
    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new(Code::Bug, message)
    }

    /// Adds a hint; the first replaces that of the code.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.problem.hint.is_none() {
            self.problem.hint = Some(hint.into());
        } else {
            self.further_hints.push(hint.into());
        }
        self
    }

    /// Which error it is.
    pub(crate) fn code(&self) -> Code {
        self.problem.code
    }

    /// What the command exits with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The problem itself.
    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What to do next, one line each; the last points to the page.
    pub(crate) fn hints(&self) -> impl Iterator<Item = String> + '_ {
        let page = format!("`fanout explain {}` says more", self.code());
        std::iter::once(self.problem.hint().to_owned())
            .chain(self.further_hints.iter().cloned())
            .chain([page])
            .filter(|hint| !hint.is_empty())
    }
}

impl From<Problem> for CommandError {
    fn from(problem: Problem) -> Self {
        Self {
            exit: problem.code.exit(),
            problem,
            further_hints: Vec::new(),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::testing::{captured, global};

    #[test]
    fn an_error_is_shown_with_its_code_and_what_to_do() {
        let error = CommandError::new(
            Code::TooManyDeletions,
            "A push of drupal would delete 412 of 5,310 entries on web1; the limit is 265",
        )
        .hint("If that is what you want: fanout push platform drupal --allow-delete 412");
        let (ui, out, err) = captured(&global());
        ui.error(&error);
        insta::assert_snapshot!(err.text(), @r"
        error: A push of drupal would delete 412 of 5,310 entries on web1; the limit is 265 [FX0201]
        hint: If that is what you want: fanout push platform drupal --allow-delete 412
        hint: `fanout explain FX0201` says more
        ");
        assert_eq!(out.text(), "");
        assert_eq!(error.exit(), Exit::Refused);
    }

    #[test]
    fn without_a_hint_of_its_own_an_error_has_that_of_its_code() {
        let error = CommandError::new(Code::TaskLocked, "Locked");
        assert_eq!(error.hints().next().unwrap(), Code::TaskLocked.hint());
        let error = error.hint("first").hint("second");
        let hints: Vec<_> = error.hints().collect();
        assert_eq!(hints[..2], ["first", "second"]);
    }
}
