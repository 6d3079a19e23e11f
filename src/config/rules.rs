//! The obvious faults of exclude and preserve rules. Their language is `sync_proto::filter`'s.

use super::problem::Problems;
use sync_proto::path::escape;
use toml::Spanned;

/// LIMIT: no real rule is longer than a path.
const MAX_RULE_BYTES: usize = 4096;

/// The rules of an `exclude` list.
pub(super) fn exclude(rules: &[Spanned<String>], problems: &mut Problems<'_>) -> Vec<String> {
    rules
        .iter()
        .filter(|rule| is_plain(rule, problems))
        .map(|rule| rule.get_ref().clone())
        .collect()
}

/// The rules of a `preserve` list: all anchored.
pub(super) fn preserve(rules: &[Spanned<String>], problems: &mut Problems<'_>) -> Vec<String> {
    rules
        .iter()
        .filter(|rule| is_plain(rule, problems) && is_anchored(rule, "preserve", problems))
        .map(|rule| rule.get_ref().clone())
        .collect()
}

/// One rule that must be anchored at the root of the tree.
pub(super) fn anchored(
    rule: &Spanned<String>,
    what: &str,
    problems: &mut Problems<'_>,
) -> Option<String> {
    (is_plain(rule, problems) && is_anchored(rule, what, problems)).then(|| rule.get_ref().clone())
}

fn is_plain(rule: &Spanned<String>, problems: &mut Problems<'_>) -> bool {
    let text = rule.get_ref();
    let fault = if text.trim().is_empty() {
        "A rule can't be empty"
    } else if text.len() > MAX_RULE_BYTES {
        "The rule is longer than a path can be"
    } else if text.contains(['\0', '\n', '\r']) {
        "A rule is one line, without NUL"
    } else {
        return true;
    };
    problems.push(rule.span(), fault);
    false
}

fn is_anchored(rule: &Spanned<String>, what: &str, problems: &mut Problems<'_>) -> bool {
    let text = rule.get_ref().as_str();
    let shown = escape(text.as_bytes());
    if text.trim_matches('/').is_empty() {
        problems.push(
            rule.span(),
            format!("The {what} rule `{shown}` covers the whole tree"),
        );
        return false;
    }
    if text.split('/').any(|part| matches!(part, "." | "..")) {
        problems.push(
            rule.span(),
            format!("The {what} rule `{shown}` holds `.` or `..`"),
        );
        return false;
    }
    if !text.starts_with('/') {
        let corrected = toml_edit::Value::from(format!("/{text}")).to_string();
        let line = problems.line_with(&rule.span(), corrected.trim());
        problems.push_with(
            rule.span(),
            format!("The {what} rule `{shown}` must start with `/`, the root of the tree"),
            format!("write: {line}"),
        );
        return false;
    }
    true
}
