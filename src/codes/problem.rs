//! A problem: one thing that went wrong, as every layer reports it.

use super::Code;
use rustix::io::Errno;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use sync_proto::path::escape;

/// One thing that went wrong: which kind, what happened to what, and what to do about it.
///
/// Trouble with one entry is collected as a `Problem` and work goes on; a brake or a failure is
/// returned as one. The message is a sentence without full stop that names what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem; `fanout explain` has a page about it.
    pub code: Code,
    /// What happened, to what, and why.
    pub message: String,
    /// What to do next; without one, the code's own hint holds.
    pub hint: Option<String>,
    /// The entry it is about, as raw bytes, where the message doesn't name it already.
    pub path: Option<Vec<u8>>,
}

impl Problem {
    /// A problem with the code's own hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            path: None,
        }
    }

    /// A problem that an error explains: the message is the error's and that of its sources,
    /// joined by colons. Where no descriptor was left, that is the problem, whatever was tried.
    pub fn from_error(code: Code, error: &(dyn Error + 'static)) -> Self {
        let code = match is_too_many_open(error) {
            true => Code::TooManyOpenFiles,
            false => code,
        };
        Self::new(code, error_chain(error))
    }

    /// The same with a hint of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same about one entry.
    #[must_use]
    pub fn with_path(mut self, path: &[u8]) -> Self {
        self.path = Some(path.to_vec());
        self
    }

    /// The same with the name of whom it concerns in front, unless it says so already.
    #[must_use]
    pub fn of(&self, name: &str) -> Self {
        let mut problem = self.clone();
        let rest = self.message.strip_prefix(name);
        if !rest.is_some_and(|rest| rest.starts_with([':', ' '])) {
            problem.message = format!("{name}: {}", self.message);
        }
        problem
    }

    /// The same for a place that names whom it concerns anyway.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        let rest = self.message.strip_prefix(name);
        if let Some(rest) = rest.and_then(|rest| rest.strip_prefix(": ")) {
            self.message = rest.to_owned();
        }
        self
    }

    /// What to do next: this problem's own hint, or that of its code.
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.code.hint())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", escape(path))?;
        }
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl Error for Problem {}

/// An error and its sources as one line. A source that its parent's text ends with already is not
/// said twice.
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = inner.source();
    }
    line
}

/// This process, or the whole machine, has as many files open as it may: what the error is about
/// may well be in order.
fn is_too_many_open(error: &(dyn Error + 'static)) -> bool {
    let shared = error.downcast_ref::<Arc<std::io::Error>>();
    let errno = match shared.map(Arc::as_ref).or_else(|| error.downcast_ref()) {
        Some(error) => Errno::from_io_error(error),
        None => error.downcast_ref().copied(),
    };
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
        || error.source().is_some_and(is_too_many_open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Can't read fanout.toml")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_problem_says_what_where_and_which_page() {
        let problem = Problem::new(Code::ContentMismatch, "The content has another hash")
            .with_path(b"a\nb/\xff");
        assert_eq!(
            problem.to_string(),
            "a\\x0Ab/\\xFF: The content has another hash [FX0404]"
        );
        assert_eq!(problem.hint(), Code::ContentMismatch.hint());
        assert_eq!(problem.with_hint("Look").hint(), "Look");
    }

    #[test]
    fn nobody_is_named_twice() {
        let of = |message: &str| Problem::new(Code::NoSpace, message).of("web3").message;
        assert_eq!(of("The disk is full"), "web3: The disk is full");
        assert_eq!(of("web3: `a` is full"), "web3: `a` is full");
        assert_eq!(of("web3 needs 5 bytes"), "web3 needs 5 bytes");
        assert_eq!(of("web30: x"), "web3: web30: x");
        let bare = Problem::new(Code::NoSpace, "web3: `a` is full").without("web3");
        assert_eq!(bare.message, "`a` is full");
        assert_eq!(bare.without("web3").message, "`a` is full");
    }

    #[test]
    fn an_error_is_told_with_its_sources() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(
            Problem::from_error(Code::InventoryMissing, &error).message,
            "Can't read fanout.toml: disk on fire"
        );
    }

    #[test]
    fn without_a_descriptor_nothing_is_said_to_be_damaged() {
        let of = |errno: Errno| {
            let problem = Problem::from_error(Code::StateDamaged, &Outer(errno.into()));
            (problem.code, problem.hint().contains("ulimit -n"))
        };
        assert_eq!(of(Errno::MFILE), (Code::TooManyOpenFiles, true));
        assert_eq!(of(Errno::NFILE), (Code::TooManyOpenFiles, true));
        assert_eq!(of(Errno::IO), (Code::StateDamaged, false));
        let shared = Arc::new(std::io::Error::from(Errno::MFILE));
        for bare in [&Errno::MFILE as &(dyn Error + 'static), &shared] {
            let problem = Problem::from_error(Code::StateDamaged, bare);
            assert_eq!(problem.code, Code::TooManyOpenFiles);
        }
    }
}
