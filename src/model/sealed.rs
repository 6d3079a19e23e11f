//! A secret in memory: a text that shows itself to nobody by accident.

use std::fmt;
use zeroize::Zeroizing;

/// A password, a private key or a salt. Its memory is cleared when it goes; it has no `Display`
/// and no `Serialize`, and its `Debug` says nothing, so it reaches neither log nor JSON nor a task's
/// history unless somebody calls [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself: for the one place that it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let shown = format!(
            "{:?} {:#?}",
            Secret::new("hunter2".into()),
            Some(Secret::new("hunter2".into()))
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
