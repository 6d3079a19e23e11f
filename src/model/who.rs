//! Who started something.

use serde::{Deserialize, Serialize};
use std::fmt;
use sync_proto::path::escape;

/// The login user of a task, and who called sudo, if anyone did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The user that the process runs as.
    pub user: String,
    /// `SUDO_USER`, where sudo was used.
    pub sudo_user: Option<String>,
}

impl fmt::Display for Who {
    /// `alice`, or `alice (sudo root)`. Environment text, so escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = escape(self.user.as_bytes());
        match &self.sudo_user {
            Some(person) => write!(f, "{} (sudo {user})", escape(person.as_bytes())),
            None => f.write_str(&user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_person_behind_sudo_comes_first() {
        let mut who = Who {
            user: "root".into(),
            sudo_user: None,
        };
        assert_eq!(who.to_string(), "root");
        who.sudo_user = Some("alice\n".into());
        assert_eq!(who.to_string(), "alice\\x0A (sudo root)");
    }
}
