//! Results that are peculiar to one command.

use super::VERSION;
use serde::Serialize;

/// The last line of a command: `version`, `type` and whatever the command has to say.
#[derive(Debug, Serialize)]
pub(crate) struct ResultLine<T: Serialize> {
    version: u32,
    r#type: &'static str,
    #[serde(flatten)]
    body: T,
}

impl<T: Serialize> ResultLine<T> {
    /// The line of one result.
    pub(crate) fn new(body: T) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            body,
        }
    }

    /// A line that comes before the result, of a type of its own.
    pub(crate) fn of_type(r#type: &'static str, body: T) -> Self {
        Self {
            version: VERSION,
            r#type,
            body,
        }
    }
}
