//! Lists in the inventory's text: entries come and go, comments stay with their entries.

use toml_edit::{Array, RawString, Value};

/// One entry per line stays one entry per line, and a comment behind an entry stays behind it.
pub(super) fn push_in_style(list: &mut Array, text: &str) {
    let last = list.len().checked_sub(1).and_then(|at| list.get(at));
    let indent = last
        .map(|last| raw(last.decor().prefix()))
        .and_then(|prefix| prefix.rfind('\n').map(|at| prefix[at..].to_owned()));
    let Some(indent) = indent else {
        list.push(text);
        return;
    };
    let trailing = raw(Some(list.trailing())).to_owned();
    let (comment, rest) = line_comment(&trailing);
    list.push_formatted(Value::from(text).decorated(format!("{comment}{indent}"), ""));
    list.set_trailing(rest);
    list.set_trailing_comma(true);
}

/// What stands behind the removed entry on its line goes with it; what stands behind the one
/// before it stays.
pub(super) fn remove_in_style(list: &mut Array, at: usize) {
    let removed = list.remove(at);
    let before = raw(removed.decor().prefix()).to_owned();
    let (kept, _) = line_comment(&before);
    match list.get_mut(at) {
        Some(next) => {
            let prefix = raw(next.decor().prefix()).to_owned();
            let (_, rest) = line_comment(&prefix);
            let one_line = at == 0 && !rest.contains('\n');
            let rest = if one_line { before.as_str() } else { rest };
            next.decor_mut().set_prefix(format!("{kept}{rest}"));
        }
        None => {
            let trailing = raw(Some(list.trailing())).to_owned();
            let (_, rest) = line_comment(&trailing);
            list.set_trailing(format!("{kept}{rest}"));
        }
    }
}

/// Splits what follows an entry into the comment on its line, if there is one, and the rest.
fn line_comment(text: &str) -> (&str, &str) {
    let end = text.find('\n').unwrap_or(text.len());
    match text[..end].contains('#') {
        true => text.split_at(end),
        false => ("", text),
    }
}

/// The text of a piece of layout.
pub(super) fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}
