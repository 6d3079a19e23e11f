//! Exit codes: what a script learns from a command without reading a word.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise to scripts and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done, or there was nothing to do.
    Done,
    /// Failed.
    Failed,
    /// `verify` found differences.
    Differences,
    /// Done on some members only.
    Partial,
    /// Another task holds the lock; try again.
    Locked,
    /// A brake refused before the first write.
    Refused,
    /// The command line was not understood.
    Usage,
    /// A bug in fanout.
    Bug,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Differences => 2,
            Self::Partial => 3,
            Self::Locked => 4,
            Self::Refused => 5,
            Self::Usage => 64,
            Self::Bug => 70,
        }
    }

    /// What the number means, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failed => "failed",
            Self::Differences => "differences found",
            Self::Partial => "done on some members only",
            Self::Locked => "locked by another task, try again",
            Self::Refused => "refused by a brake",
            Self::Usage => "usage",
            Self::Bug => "a bug",
        }
    }

    /// The exit of several pieces of work done in one command, such as two platforms: the same
    /// one if they agree, otherwise the one that asks more loudly for a person. One piece done
    /// and another failed is [`Exit::Partial`].
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (left, right) if left == right => left,
            (Self::Done, Self::Failed) | (Self::Failed, Self::Done) => Self::Partial,
            (left, right) if left.urgency() >= right.urgency() => left,
            (_, right) => right,
        }
    }

    fn urgency(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differences => 1,
            Self::Locked => 2,
            Self::Partial => 3,
            Self::Failed => 4,
            Self::Refused => 5,
            Self::Usage => 6,
            Self::Bug => 7,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_done_and_one_failed_is_partly_done() {
        assert_eq!(Exit::Done.and(Exit::Failed), Exit::Partial);
        assert_eq!(Exit::Failed.and(Exit::Done), Exit::Partial);
        assert_eq!(Exit::Failed.and(Exit::Failed), Exit::Failed);
    }

    #[test]
    fn the_louder_exit_wins() {
        assert_eq!(Exit::Done.and(Exit::Locked), Exit::Locked);
        assert_eq!(Exit::Refused.and(Exit::Partial), Exit::Refused);
        assert_eq!(Exit::Bug.and(Exit::Refused), Exit::Bug);
    }
}
