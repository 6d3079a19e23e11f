//! What should be true somewhere, with the four verbs that every such thing has.

use crate::codes::Problem;
use crate::model::ServerName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// An answer that is being worked on.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// One thing that should be true on one server, or of one site.
pub trait Resource: Send + Sync {
    /// What it is, in a few words, such as `configuration` or `database of www.example.com`.
    fn describe(&self) -> String;

    /// The server that it is about, if it is about one.
    fn member(&self) -> Option<&ServerName>;

    /// True for what has nothing of its own to change, and is done where anything before it was.
    fn follows(&self) -> bool {
        false
    }

    /// What is there now, and what would have to change. Changes nothing.
    fn inspect(&self) -> Work<'_, Difference>;

    /// Makes it so. Doing it twice is the same as doing it once.
    fn apply(&self) -> Work<'_, Applied>;

    /// Puts back what was there before [`apply`](Self::apply), which left `note`.
    fn undo<'a>(&'a self, note: &'a str) -> Work<'a, ()>;
}

/// What `inspect` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What would change; empty where everything is as it should be.
    pub changes: Vec<Change>,
    /// There is something to do that another resource shows.
    pub is_pending: bool,
    /// A text that is different whenever what is there is different: a plan that was saved is
    /// refused if it isn't the same any more.
    pub seen: String,
    /// Why the change can't be taken back, if it can't.
    pub irreversible: Option<String>,
    /// Things worth saying that change nothing.
    pub warnings: Vec<Problem>,
}

/// What `apply` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What `undo` needs to know; `None` if there is nothing to undo.
    pub undo: Option<String>,
    /// What came of it, in a few words; may be empty.
    pub message: String,
    /// Things worth saying.
    pub warnings: Vec<Problem>,
}

/// What happens to one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// It is made.
    Add,
    /// It is changed in place.
    Change,
    /// It is removed.
    Remove,
    /// It is not in the inventory any more, and stays until that is said in so many words.
    Unlisted,
}

impl Sign {
    /// How a plan shows it.
    pub const fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
            Self::Unlisted => '!',
        }
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    /// What happens.
    pub sign: Sign,
    /// To what. Never a secret.
    pub what: String,
    /// The difference as text, where there is one to read.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
}

impl Change {
    /// A line without a text to compare.
    pub fn new(sign: Sign, what: impl Into<String>) -> Self {
        Self {
            sign,
            what: what.into(),
            detail: String::new(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sign.symbol(), self.what)
    }
}
