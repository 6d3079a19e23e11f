//! Exclude and preserve rules, checked where a person typed them.

use super::error::CommandError;
use crate::codes::Code;
use crate::config::DEFAULT_EXCLUDES;
use sync_proto::filter::{Preserve, RuleError, Rules, Scope};

/// Refuses rules that the engine would refuse, with the corrected line where there is one.
pub(crate) fn check(exclude: &[String], preserve: &[String]) -> Result<(), CommandError> {
    scope(exclude, preserve).map(drop)
}

/// The rules as the engine asks them. A list in the inventory replaces the default excludes, which
/// the inventory fills in where there is no list.
pub(crate) fn scope(exclude: &[String], preserve: &[String]) -> Result<Scope, CommandError> {
    Ok(Scope {
        exclude: Rules::parse(exclude).map_err(|error| refused("exclude", &error))?,
        preserve: Preserve::parse(preserve).map_err(|error| refused("preserve", &error))?,
    })
}

/// A list for the inventory: the rules that somebody gave, and the defaults that they add to.
pub(crate) fn with_defaults(rules: &[String]) -> Vec<String> {
    let defaults = DEFAULT_EXCLUDES.iter().map(ToString::to_string);
    let missing = defaults.filter(|rule| !rules.contains(rule));
    rules.iter().cloned().chain(missing).collect()
}

fn refused(kind: &str, error: &RuleError) -> CommandError {
    CommandError::new(Code::RuleInvalid, format!("{kind}: {error}")).hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_adds_to_the_defaults_and_an_empty_list_excludes_nothing() {
        let rules = with_defaults(&["*.orig".into(), ".git".into()]);
        assert_eq!(rules, ["*.orig", ".git", ".svn", ".hg", ".bzr"]);
        assert!(scope(&[], &[]).unwrap().exclude.is_empty());
    }

    #[test]
    fn a_rule_that_is_not_anchored_comes_back_corrected() {
        let error = scope(&[], &["sites/*/files/".into()]).unwrap_err();
        assert_eq!(error.code(), Code::RuleInvalid);
        assert!(error.hints().next().unwrap().contains("`/sites/*/files/`"));
    }
}
