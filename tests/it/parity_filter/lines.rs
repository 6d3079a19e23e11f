//! Random rules, as our lines and as rsync's arguments.

use super::NAMES;
use proptest::prelude::*;
use sync_proto::filter::Rules;

/// Our lines as rsync's arguments: a bare pattern is an exclude, anything else is a filter rule.
pub(super) fn arguments(lines: &[Line]) -> Vec<String> {
    lines
        .iter()
        .map(|line| match line {
            Line::Bare(pattern) => format!("--exclude={pattern}"),
            Line::Rule(prefix, pattern) => format!("--filter={prefix} {pattern}"),
            Line::Clear => "--filter=!".into(),
        })
        .collect()
}

/// One line, in our words or in rsync's.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Bare(String),
    Rule(String, String),
    Clear,
}

impl Line {
    fn ours(&self) -> String {
        match self {
            Self::Bare(pattern) => pattern.clone(),
            Self::Rule(prefix, pattern) => format!("{prefix} {pattern}"),
            Self::Clear => "!".into(),
        }
    }
}

pub(super) fn rules(lines: &[Line]) -> Rules {
    Rules::parse(&lines.iter().map(Line::ours).collect::<Vec<_>>()).expect("a generated rule")
}

/// Patterns that look like paths of the tree, and others made of what rsync's matcher looks at.
fn pattern() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(
        NAMES
            .map(|name| String::from_utf8(name.to_vec()).expect("names here are UTF-8"))
            .to_vec(),
    );
    let wild = prop::sample::select(vec![
        "*",
        "**",
        "***",
        "?",
        "??",
        "a*",
        "*b",
        "**a",
        "b**",
        "[ab]",
        "[!a]",
        "[a-b]*",
        "?b",
        "[[:alpha:]]",
        "[[:punct:]]?",
        "[]a]",
        "\\a",
        "\\**",
        "*.*",
        "[\\]*]",
    ]);
    let name = prop_oneof![3 => plain, 2 => wild.prop_map(String::from)];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let piece = prop::sample::select(vec![
        "a",
        "a",
        "b",
        "b",
        "/",
        "/",
        "*",
        "*",
        "**",
        "**/",
        "/**",
        "/***",
        "?",
        "[ab]",
        "[^b]",
        "[a-b]",
        "[]a]",
        "[[:nope:]]",
        "[a\\]]",
        "[\\a-b]",
        "[",
        "]",
        "\\",
        "\\*",
        "x y",
        "\u{fc}",
        "!",
        "-",
        ".",
        "[**]",
        "//",
    ]);
    let noise = prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    let start = prop::sample::select(vec!["", "", "/"]);
    let end = prop::sample::select(vec!["", "", "", "/", "/***", "*"]);
    (start, prop_oneof![2 => path, 1 => noise], end)
        .prop_map(|(start, body, end)| start.to_owned() + &body + end)
        // A bare `!` is a rule, not a pattern.
        .prop_filter("a pattern", |text| text != "!")
}

pub(super) fn line() -> impl Strategy<Value = Line> {
    let prefix = prop::sample::select(vec![
        "-",
        "-",
        "+",
        "+",
        "exclude",
        "include",
        "H",
        "S",
        "P",
        "R",
        "hide",
        "protect",
        "-s",
        "-r",
        "+r",
        "-sr",
        "-!",
        "+!",
        "-p",
        "P,p",
        "-x",
        "risk,!",
        "include,p",
    ]);
    prop_oneof![
        6 => pattern()
            // Such a line is a rule of ours: `-x y` is one about extended attributes.
            .prop_filter("a bare pattern", |text| !(text.starts_with(['-', '.']) && text.contains(' ')))
            .prop_map(Line::Bare),
        8 => (prefix, pattern()).prop_map(|(prefix, pattern)| Line::Rule(prefix.into(), pattern)),
        1 => Just(Line::Clear),
    ]
}
