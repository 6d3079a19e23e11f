//! What rsync's man page and its behaviour say about single patterns, as tables.

use super::{MAX_RULE_BYTES, Rules, Side};
use crate::path::RelPath;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn excludes(lines: &[&str], text: &str) -> bool {
    let (text, is_directory) = match text.strip_suffix('/') {
        Some(directory) => (directory, true),
        None => (text, false),
    };
    let rules = Rules::parse(lines).unwrap();
    rules
        .decide_deep(Side::Sender, &path(text), is_directory)
        .is_excluded()
}

/// Pattern, what it excludes, what it doesn't; a closing slash makes a directory.
const GOLDEN: &[(&str, &[&str], &[&str])] = &[
    ("foo", &["foo", "foo/", "a/foo", "foo/x"], &["afoo", "foob"]),
    ("/foo", &["foo", "foo/x"], &["a/foo"]),
    ("foo/", &["foo/", "a/foo/", "a/foo/x"], &["foo", "a/foo"]),
    ("*.log", &[".log", "x.log", "a/b.log"], &["x.logs"]),
    ("tmp*", &["tmp", "tmp1", "a/tmp/"], &["atmp"]),
    ("a/b", &["a/b", "x/a/b", "a/b/c"], &["xa/b", "a", "b"]),
    ("/a/b", &["a/b"], &["x/a/b"]),
    ("a/*", &["a/b", "x/a/b"], &["a/", "b"]),
    ("a/**", &["a/b", "a/b/c", "x/a/b"], &["a/", "xa/b"]),
    ("a/***", &["a/", "a/b", "x/a/"], &["a", "xa/"]),
    ("/a/***", &["a/", "a/b"], &["x/a/", "a"]),
    ("**/b", &["b", "a/b", "a/c/b"], &["ab"]),
    ("/**/b", &["a/b", "a/c/b"], &["b"]),
    ("a**b", &["ab", "a/b", "x/axxb", "a/x/b"], &["ba"]),
    ("/a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
    ("**.php", &["x.php", "a/x.php"], &["x.phpx"]),
    ("[ab]?", &["a1", "x/b2"], &["c1", "a"]),
    ("a\\b", &["a\\b"], &["ab"]),
    ("a\\b*", &["ab", "abc"], &["a\\b"]),
    ("/", &[], &["a", "a/b"]),
    ("//", &[], &["a", "a/b"]),
    ("//a", &[], &["a", "b/a"]),
    ("a//", &[], &["a/", "a/b"]),
    ("./a", &[], &["a"]),
    ("[", &[], &["[", "a"]),
    ("[*", &[], &["[", "a"]),
    ("-! *.php", &["a", "x.phps"], &["x.php"]),
    ("-! */", &["x"], &["x/"]),
    ("H x", &["x"], &[]),
    ("P x", &[], &["x"]),
    ("-x x", &[], &["x"]),
];

#[test]
fn patterns_exclude_what_rsync_excludes() {
    for (pattern, excluded, included) in GOLDEN {
        for text in *excluded {
            assert!(excludes(&[pattern], text), "{pattern} excludes {text}");
        }
        for text in *included {
            assert!(!excludes(&[pattern], text), "{pattern} includes {text}");
        }
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    assert!(!excludes(&["+ a.log", "*.log"], "a.log"));
    assert!(excludes(&["*.log", "+ a.log"], "a.log"));
    assert!(excludes(&["+ a.log/", "*.log"], "a.log"));
    assert!(excludes(&["b", "+ b", "c"], "b"));
    assert!(!excludes(&["+ b/", "b"], "b/"));
    assert!(!excludes(&["a", "!", "b"], "a"));
    assert!(
        excludes(&["+ /a/b/c", "/a"], "a/b/c"),
        "an excluded directory isn't descended"
    );
    assert!(!excludes(&["+ /a/", "+ /a/b", "*"], "a/b"));
    let rules = Rules::with_defaults(&["+ .svn"]).unwrap();
    assert!(
        !rules
            .decide(Side::Sender, &path("x/.svn"), true)
            .is_excluded()
    );
    let decision = rules.decide_deep(Side::Receiver, &path("x/.git/config"), false);
    assert_eq!(decision.rule().unwrap().line(), ".git");
}

#[test]
fn the_longest_lines_are_still_matched() {
    let line = "*".to_owned() + &"?".repeat(MAX_RULE_BYTES - 1);
    assert!(!excludes(&[&line], &"x".repeat(200)));
}
