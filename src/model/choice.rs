//! Settings and results that are one word out of a few.

use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// A word that is none of those on offer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{found}` is not a {what}: use {choices}")]
pub struct UnknownChoice {
    what: &'static str,
    found: String,
    choices: String,
}

macro_rules! choice {
    ($(#[$doc:meta])* $type:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in the inventory, on the command line, in JSON and in the database.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownChoice;
            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownChoice {
                        what: $what,
                        found: escape(text.as_bytes()),
                        choices: [$(concat!("`", $word, "`"),)*].join(", "),
                    }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        serde_as_text!($type, "enum": [$($word,)*]);
    };
}

choice!(
    /// How a tree lies on a member's disk.
    Layout, "layout" {
        /// Generations are complete directories beside the root; the root is a symbolic link.
        Switched = "switched",
        /// The root is a directory, changed entry by entry by a journal.
        InPlace = "in-place",
    }
);

choice!(
    /// What `resync` does about drift.
    ResyncMode, "resync mode" {
        /// Repair exactly what drifted.
        Repair = "repair",
        /// Report it and change nothing.
        Report = "report",
    }
);

choice!(
    /// How the hub reaches an agent.
    Transport, "transport" {
        /// QUIC, and over SSH where UDP doesn't get through.
        Auto = "auto",
        /// QUIC only.
        Quic = "quic",
        /// Over the system's ssh only.
        Ssh = "ssh",
    }
);

choice!(
    /// How closely a member looks at its tree.
    VerifyLevel, "verify level" {
        /// At its last commit record only.
        Index = "index",
        /// At every entry's stat, against its index.
        Stat = "stat",
        /// At every byte.
        Content = "content",
    }
);

choice!(
    /// What became of one member in a task.
    Outcome, "outcome" {
        /// It is at the new generation.
        Committed = "committed",
        /// It was there already.
        UpToDate = "up-to-date",
        /// It was ready, and the task was called off: it is as before.
        Aborted = "aborted",
        /// It could not take part: it is as before.
        Failed = "failed",
        /// It is not at the desired generation.
        Stale = "stale",
        /// It voted, and then contact or its disk was lost: it settles before it serves again.
        InDoubt = "in-doubt",
    }
);

choice!(
    /// Entries that a tree holds only where its platform allows them.
    SpecialFile, "kind of special file" {
        /// Set-user-id and set-group-id bits on regular files.
        Setuid = "setuid",
        /// Block and character devices.
        Devices = "devices",
        /// Named pipes and sockets.
        Fifos = "fifos",
    }
);

impl Outcome {
    /// The member is at the generation that the task wanted.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Committed | Self::UpToDate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reads_back_from_its_word() {
        assert!(Layout::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(ResyncMode::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(Transport::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(
            VerifyLevel::ALL
                .iter()
                .all(|c| c.as_str().parse() == Ok(*c))
        );
        assert!(Outcome::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(
            SpecialFile::ALL
                .iter()
                .all(|c| c.as_str().parse() == Ok(*c))
        );
    }

    #[test]
    fn json_uses_the_same_words() {
        let json = serde_json::to_string(&[Outcome::UpToDate, Outcome::InDoubt]).unwrap();
        assert_eq!(json, r#"["up-to-date","in-doubt"]"#);
        let back: Vec<Outcome> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, [Outcome::UpToDate, Outcome::InDoubt]);
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            "inplace".parse::<Layout>().unwrap_err().to_string(),
            "`inplace` is not a layout: use `switched`, `in-place`"
        );
    }
}
