//! What the documents point at is there: files, links, and the tests that uphold the invariants.

use crate::readme::{documents, parts, root};
use std::fs;
use std::path::PathBuf;
use walkdir::WalkDir;

/// Where the repository's own files are, besides those at its top.
const PLACES: [&str; 7] = [
    "src",
    "sync-proto/src",
    "tests",
    "benches",
    "scripts",
    "docs",
    "fuzz",
];
/// Names of the invariants that are no tests.
const NO_TESTS: [&str; 1] = ["a_decision_is_final"];

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for (name, text) in documents() {
        let directory = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            let path = link.split('#').next().unwrap_or_default().trim();
            if !path.is_empty() && !path.contains("://") && !directory.join(path).exists() {
                problems.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_file_that_a_document_names_exists() {
    let files = files();
    let mut seen = 0;
    let mut problems = Vec::new();
    for (name, text) in documents() {
        for span in parts(&text).0 {
            for path in alternatives(&span).filter(|path| is_source_path(path)) {
                seen += 1;
                if find(&files, &path).is_none() {
                    problems.push(format!("{name}: `{span}`"));
                }
            }
        }
    }
    assert!(seen > 200, "only {seen} paths seen");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_test_that_upholds_an_invariant_is_where_it_is_said_to_be() {
    let files = files();
    let text = fs::read_to_string(root().join("docs/invariants.md")).unwrap();
    let (mut seen, mut problems) = (0, Vec::new());
    let mut place = String::new();
    for span in parts(&text).0 {
        if is_source_path(&span) {
            place = span;
        } else if is_test_name(&span) && !NO_TESTS.contains(&&*span) {
            seen += 1;
            let code = find(&files, &place).map(|path| fs::read_to_string(root().join(path)));
            if !code.is_some_and(|code| code.unwrap().contains(&format!("fn {span}("))) {
                problems.push(format!("{place}: {span}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} tests seen");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// All files, as paths below the repository.
fn files() -> Vec<String> {
    let walked = PLACES
        .iter()
        .flat_map(|place| WalkDir::new(root().join(place)));
    walked
        .map(|entry| entry.unwrap().into_path())
        .map(|path: PathBuf| path.strip_prefix(root()).unwrap().display().to_string())
        .collect()
}

/// The file or directory that a document means: by its whole path, or by the end of it.
fn find<'f>(files: &'f [String], named: &str) -> Option<&'f String> {
    // The abbreviations of docs/invariants.md.
    let long = [
        ("proto/", "sync-proto/src/"),
        ("it/", "tests/it/"),
        ("hub/", "src/engine/hub/"),
    ];
    let path = long
        .iter()
        .find_map(|(short, long)| Some(format!("{long}{}", named.strip_prefix(short)?)));
    let path = path.unwrap_or_else(|| named.to_owned());
    let path = path.trim_end_matches('/');
    let ending = format!("/{path}");
    let whole = files.iter().find(|file| *file == path);
    whole.or_else(|| files.iter().find(|file| file.ends_with(&ending)))
}

/// `a/{b,c}.rs` is two paths.
fn alternatives(span: &str) -> impl Iterator<Item = String> {
    let braced = span
        .split_once('{')
        .and_then(|(front, rest)| Some((front, rest.split_once('}')?)));
    let paths = match braced {
        Some((front, (inner, back))) => inner
            .split(',')
            .map(|inner| format!("{front}{inner}{back}"))
            .collect(),
        None => vec![span.to_owned()],
    };
    paths.into_iter()
}

fn is_source_path(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    text.chars().all(is_plain)
        && (text.ends_with(".rs")
            || PLACES.iter().any(|place| {
                text.strip_prefix(place)
                    .is_some_and(|it| it.starts_with('/'))
            }))
}

fn is_test_name(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || "_0123456789".contains(letter);
    text.chars().all(is_plain) && text.matches('_').count() > 1
}
