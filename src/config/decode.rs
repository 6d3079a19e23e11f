//! TOML to tables: reports every fault it finds and goes on, where serde would stop at the first.

use super::problem::{Problems, is_secret_key};
use super::schema::{LATER, Table};
use super::suggest::closest;
use serde::de::IntoDeserializer;
use std::ops::Range;
use std::str::FromStr;
use sync_proto::path::escape;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A named table, as in `[servers.web1]`.
pub(super) struct Item<N, T> {
    /// Its name.
    pub(super) name: N,
    /// Where the name stands.
    pub(super) at: Range<usize>,
    /// What it says; nothing if that has been reported as faulty. The name counts all the same.
    pub(super) table: Option<T>,
}

/// The whole text as tables of values, or nothing if it isn't TOML.
pub(super) fn document<'t>(text: &'t str, problems: &mut Problems<'_>) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.push(error.span().unwrap_or(0..0), sentence(error.message()));
    }
    errors.is_empty().then(|| table.into_inner())
}

/// All tables of one section, such as `[servers.*]`.
pub(super) fn section<N: FromStr<Err: std::fmt::Display>, T: Table>(
    root: &mut DeTable<'_>,
    name: &str,
    problems: &mut Problems<'_>,
) -> Vec<Item<N, T>> {
    let Some(value) = root.remove(name) else {
        return Vec::new();
    };
    let span = value.span();
    let DeValue::Table(tables) = value.into_inner() else {
        problems.push(
            span,
            format!("`{name}` must be tables, such as [{name}.NAME]"),
        );
        return Vec::new();
    };
    let mut items = Vec::new();
    for (key, value) in tables {
        let at = key.span();
        match key.get_ref().parse() {
            Ok(parsed) => {
                let what = format!("the {} `{}`", T::WHAT, key.get_ref());
                let table = table(value, &at, &what, problems);
                items.push(Item {
                    name: parsed,
                    at,
                    table,
                });
            }
            Err(error) => problems.push(at, N::Err::to_string(&error)),
        }
    }
    items
}

/// One table. Each key that can't be used is reported, and so is each one that is missing.
pub(super) fn table<T: Table>(
    value: Spanned<DeValue<'_>>,
    at: &Range<usize>,
    what: &str,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        problems.push(span, format!("{} must be a table", sentence(what)));
        return None;
    };
    let mut complete = only_known(&mut table, T::KEYS, what, problems);
    for key in T::REQUIRED {
        if !table.contains_key(*key) {
            problems.push(at.clone(), format!("{} needs `{key}`", sentence(what)));
            complete = false;
        }
    }
    match decode(&table, &span) {
        Ok(decoded) if complete => Some(decoded),
        Ok(_) => None,
        Err(_) => {
            let reported = report_values::<T>(&table, &span, problems);
            if complete && !reported {
                problems.push(at.clone(), format!("{} can't be used", sentence(what)));
            }
            None
        }
    }
}

/// Reports and removes the keys that don't belong here. True if there were none.
pub(super) fn only_known(
    table: &mut DeTable<'_>,
    known: &[&str],
    what: &str,
    problems: &mut Problems<'_>,
) -> bool {
    let unknown: Vec<(String, Range<usize>)> = table
        .keys()
        .filter(|key| !known.contains(&&**key.get_ref()))
        .map(|key| (key.get_ref().to_string(), key.span()))
        .collect();
    for (key, at) in &unknown {
        table.remove(key.as_str());
        unknown_key(key, at.clone(), known, what, problems);
    }
    unknown.is_empty()
}

fn unknown_key(
    key: &str,
    at: Range<usize>,
    known: &[&str],
    what: &str,
    problems: &mut Problems<'_>,
) {
    let shown = escape(key.as_bytes());
    if is_secret_key(key) {
        problems.push_secret(
            at.end..at.end,
            format!("`{shown}` would put a secret into {what}"),
            "this file never holds secrets: they are referred to by name, as `secret:NAME`, or by file, as `file:PATH`",
        );
        return;
    }
    let message = format!("Unknown key `{shown}` in {what}");
    if let Some(close) = closest(key, known.iter().copied()) {
        problems.push_with(at, message, format!("did you mean `{close}`?"));
    } else if LATER.contains(&key) {
        problems.push_with(at, message, "this version of fanout doesn't know it yet");
    } else {
        problems.push_with(at, message, format!("the keys are {}", known.join(", ")));
    }
}

/// Decodes with one faulty key less each time, so that every faulty value is reported. True if
/// there was one; a key that is missing ends it, and has been reported already.
fn report_values<T: Table>(
    table: &DeTable<'_>,
    span: &Range<usize>,
    problems: &mut Problems<'_>,
) -> bool {
    let mut rest = table.clone();
    while let Err(error) = decode::<T>(&rest, span) {
        let at = error.span().unwrap_or(0..0);
        let holds_it = |value: &Spanned<DeValue<'_>>| {
            !at.is_empty() && value.span().start <= at.start && at.end <= value.span().end
        };
        let Some(key) = rest
            .iter()
            .find(|(_, value)| holds_it(value))
            .map(|(key, _)| key.get_ref().to_string())
        else {
            break;
        };
        if key == "ssh" && error.message().contains("password") {
            problems.push_secret(at, error.message(), "use a key and an agent");
        } else {
            problems.push(at, sentence(error.message()));
        }
        rest.remove(key.as_str());
    }
    rest.len() < table.len()
}

fn decode<T: Table>(table: &DeTable<'_>, span: &Range<usize>) -> Result<T, toml::de::Error> {
    let value = Spanned::new(span.clone(), DeValue::Table(table.clone()));
    T::deserialize(value.into_deserializer())
}

/// With a capital letter, as a sentence begins.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
