//! Exclude and preserve rules, checked where a person typed them.

use super::error::CommandError;
use crate::codes::Code;
use sync_proto::filter::{Preserve, RuleError, Rules, Scope};

/// Refuses rules that the engine would refuse, with the corrected line where there is one.
pub(crate) fn check(exclude: &[String], preserve: &[String]) -> Result<(), CommandError> {
    scope(exclude, preserve).map(drop)
}

/// The rules as the engine asks them: the default excludes come after those of the platform, and
/// an empty list excludes nothing at all.
pub(crate) fn scope(exclude: &[String], preserve: &[String]) -> Result<Scope, CommandError> {
    use sync_proto::filter::DEFAULT_EXCLUDES;
    let is_default = exclude.iter().map(String::as_str).eq(DEFAULT_EXCLUDES);
    let exclude = if exclude.is_empty() || is_default {
        Rules::parse(exclude)
    } else {
        Rules::with_defaults(exclude)
    };
    Ok(Scope {
        exclude: exclude.map_err(|error| refused("exclude", &error))?,
        preserve: Preserve::parse(preserve).map_err(|error| refused("preserve", &error))?,
    })
}

fn refused(kind: &str, error: &RuleError) -> CommandError {
    CommandError::new(Code::RuleInvalid, format!("{kind}: {error}")).hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_excludes_are_there_once_unless_nothing_shall_be_excluded() {
        let lines = |exclude: &[&str]| {
            let exclude: Vec<String> = exclude.iter().map(ToString::to_string).collect();
            scope(&exclude, &[]).unwrap().exclude.to_lines()
        };
        assert!(lines(&[]).is_empty());
        assert_eq!(
            lines(&[".git", ".svn", ".hg", ".bzr"]),
            [".git", ".svn", ".hg", ".bzr"]
        );
        assert_eq!(lines(&["*.orig"])[0], "*.orig");
        assert_eq!(lines(&["*.orig"]).len(), 5);
    }

    #[test]
    fn a_rule_that_is_not_anchored_comes_back_corrected() {
        let error = scope(&[], &["sites/*/files/".into()]).unwrap_err();
        assert_eq!(error.code(), Code::RuleInvalid);
        assert!(error.hints().next().unwrap().contains("`/sites/*/files/`"));
    }
}
