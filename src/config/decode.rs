//! TOML to tables: reports every fault it finds and goes on, where serde would stop at the first.

use super::problem::{Problems, is_secret_key};
use super::schema::{LATER, Table};
use super::suggest::closest;
use crate::model::SecretRefError;
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
                if let Some(whole) = unquoted(key.get_ref(), &value, T::KEYS) {
                    problems.push_with(
                        at,
                        "A name with dots needs quotes",
                        format!("write [{name}.\"{whole}\"]"),
                    );
                    continue;
                }
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

/// The name that was meant by `[sites.www.example.com]`: tables in tables, each with one key that
/// none has, down to the first with more in it.
fn unquoted(first: &str, value: &Spanned<DeValue<'_>>, known: &[&str]) -> Option<String> {
    let mut name = first.to_owned();
    let mut value = value.get_ref();
    loop {
        let DeValue::Table(table) = value else {
            return None;
        };
        let mut keys = table.iter();
        let (Some((key, inner)), None) = (keys.next(), keys.next()) else {
            return (name != first).then_some(name);
        };
        let key = key.get_ref().as_ref();
        if known.contains(&key) || !matches!(inner.get_ref(), DeValue::Table(_)) {
            return (name != first && known.contains(&key)).then_some(name);
        }
        name = format!("{name}.{key}");
        value = inner.get_ref();
    }
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
    let unknown = only_known(&mut table, T::KEYS, what, problems);
    let mut reported = !unknown.is_empty();
    for (key, known) in T::NESTED {
        if let Some(value) = table.get_mut(*key)
            && let DeValue::Table(nested) = value.get_mut()
        {
            let what = format!("`{key}` of {what}");
            reported |= !only_known(nested, known, &what, problems).is_empty();
        }
    }
    for key in T::REQUIRED {
        // A misspelt key isn't missing as well.
        let misspelt = |wrong: &String| closest(wrong, T::KEYS.iter().copied()) == Some(key);
        if !table.contains_key(*key) && !unknown.iter().any(misspelt) {
            problems.push(at.clone(), format!("{} needs `{key}`", sentence(what)));
            reported = true;
        }
    }
    let decoded = loop {
        let error = match decode(&table, &span) {
            Ok(decoded) => break Some(decoded),
            Err(error) => error,
        };
        let Some(key) = culprit::<T>(&table, &span, &error) else {
            break None;
        };
        report_value(&key, &error, problems);
        reported = true;
        table.remove(key.as_str());
    };
    if decoded.is_none() && !reported {
        problems.push(at.clone(), format!("{} can't be used", sentence(what)));
    }
    decoded.filter(|_| T::PARTIAL || !reported)
}

/// Reports and removes the keys that don't belong here, and returns them.
pub(super) fn only_known(
    table: &mut DeTable<'_>,
    known: &[&str],
    what: &str,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let unknown: Vec<(String, Range<usize>)> = table
        .keys()
        .filter(|key| !known.contains(&&**key.get_ref()))
        .map(|key| (key.get_ref().to_string(), key.span()))
        .collect();
    for (key, at) in &unknown {
        table.remove(key.as_str());
        unknown_key(key, at.clone(), known, what, problems);
    }
    unknown.into_iter().map(|(key, _)| key).collect()
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
            at.clone(),
            at.end,
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

/// The key whose value the error is about: the one that holds its place or, where tables with
/// headers of their own are concerned, the one without which the error is another. A key that is
/// missing has no culprit.
fn culprit<T: Table>(
    table: &DeTable<'_>,
    span: &Range<usize>,
    error: &toml::de::Error,
) -> Option<String> {
    let at = error.span().filter(|at| at != span && !at.is_empty())?;
    let holds_it =
        |value: &Spanned<DeValue<'_>>| value.span().start <= at.start && at.end <= value.span().end;
    let is_another = |key: &str| {
        let mut rest = table.clone();
        rest.remove(key);
        match decode::<T>(&rest, span) {
            Ok(_) => true,
            Err(other) => other.span() != error.span(),
        }
    };
    let mut keys = table.keys().map(|key| key.get_ref().as_ref());
    table
        .iter()
        .find(|(_, value)| holds_it(value))
        .map(|(key, _)| key.get_ref().as_ref())
        .or_else(|| keys.find(|key| is_another(key)))
        .map(str::to_owned)
}

fn report_value(key: &str, error: &toml::de::Error, problems: &mut Problems<'_>) {
    let at = error.span().unwrap_or(0..0);
    if error.message() == SecretRefError.to_string() {
        // What was written there may be the secret itself.
        let cut = at.start;
        problems.push_secret(
            at,
            cut,
            error.message(),
            "`fanout secret set NAME` keeps it",
        );
    } else if key == "ssh" && error.message().contains("password") {
        let cut = at.start;
        problems.push_secret(at, cut, error.message(), "use a key and an agent");
    } else if error.message().contains("string") && error.message().contains("datetime") {
        problems.push_with(
            at,
            "A date is wanted here, and this is a string",
            "write it without quotes, such as 2026-12-31",
        );
    } else {
        // serde speaks of fields, this file has keys.
        problems.push(at, sentence(error.message()).replace(" field ", " key "));
    }
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
