//! The lines of the exclude list, taken apart.
//!
//! A line that starts like a rule of rsync's `--filter` is that rule; any other line is the
//! pattern of an exclude, as with `--exclude`. Three forms of `--filter` are patterns here,
//! because they look like ordinary names: an underscore after the prefix (`include_once.php`), the
//! word `clear`, and a rule without its pattern (`hide`).

use super::error::{RuleError, RuleFault};
use super::{MAX_RULE_BYTES, MAX_RULES, MAX_TOTAL_BYTES};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `!`: forget the rules so far.
    Clear,
    /// A rule.
    Rule(Parts<'a>),
}

/// What a rule says before its pattern, and the pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) includes: bool,
    /// The rule was given to the sending side.
    pub(super) sender: bool,
    /// The rule was given to the receiving side.
    pub(super) receiver: bool,
    pub(super) negated: bool,
    pub(super) perishable: bool,
    pub(super) xattr: bool,
    pub(super) pattern: &'a str,
}

/// Takes one line apart.
pub(super) fn line(line: &str) -> Result<Line<'_>, RuleFault> {
    check_text(line)?;
    if line == "!" {
        return Ok(Line::Clear);
    }
    let bare = Parts {
        pattern: line,
        ..Parts::default()
    };
    // PARITY: `--exclude` would take it for a name; a hint says how to write that name.
    if is_bare_merge(line) {
        return Err(RuleFault::MergeFile);
    }
    let Some((head, pattern)) = line.split_once(' ') else {
        return Ok(Line::Rule(bare));
    };
    let Some((prefix, modifiers)) = split_head(head) else {
        return Ok(Line::Rule(bare));
    };
    let parts = read_head(prefix, modifiers)?;
    if pattern.is_empty() {
        return Err(RuleFault::NoPattern);
    }
    if modifiers.contains('/') && pattern_has_place(pattern) {
        // PARITY: rsync would match the absolute path, of the source on one side and of the
        // destination on the other.
        return Err(RuleFault::AbsolutePath);
    }
    Ok(Line::Rule(Parts { pattern, ..parts }))
}

/// What any line must be.
pub(super) fn check_text(line: &str) -> Result<(), RuleFault> {
    match line {
        // PARITY: rsync ignores an empty line; in a list it is a mistake.
        "" => Err(RuleFault::Empty),
        _ if line.len() > MAX_RULE_BYTES => Err(RuleFault::TooLong { bytes: line.len() }),
        _ if line.contains('\0') => Err(RuleFault::Nul),
        _ => Ok(()),
    }
}

/// What any list of lines must be.
pub(super) fn check_list<S: AsRef<str>>(lines: &[S]) -> Result<(), RuleError> {
    let mut total_bytes = 0;
    for (index, line) in lines.iter().map(AsRef::as_ref).enumerate() {
        total_bytes += line.len();
        let fault = if index == MAX_RULES {
            RuleFault::TooMany
        } else if total_bytes > MAX_TOTAL_BYTES {
            RuleFault::TooMuch
        } else {
            continue;
        };
        return Err(RuleError {
            position: index + 1,
            rule: line.into(),
            fault,
        });
    }
    Ok(())
}

// PARITY: `clear` and the separator `_` are missing, see the head of this module.
const LONG: [(&str, char); 8] = [
    ("exclude", '-'),
    ("include", '+'),
    ("hide", 'H'),
    ("show", 'S'),
    ("protect", 'P'),
    ("risk", 'R'),
    ("merge", '.'),
    ("dir-merge", ':'),
];

/// The rule's letter and its modifiers, if what comes before the first space is a rule's head.
fn split_head(head: &str) -> Option<(char, &str)> {
    for (long, short) in LONG {
        match head.strip_prefix(long) {
            Some("") => return Some((short, "")),
            Some(rest) if rest.starts_with(',') => return Some((short, &rest[1..])),
            _ => {}
        }
    }
    let short = head.chars().next()?;
    let rest = &head[short.len_utf8()..];
    let modifiers = rest.strip_prefix(',').unwrap_or(rest);
    let known = match short {
        '+' | '-' | 'H' | 'S' | 'P' | 'R' => "/!srpxC",
        '.' | ':' => "/!srpxCenw+-",
        // Nothing may follow the `!`: it can't be a rule, but is close enough to one to ask.
        '!' if rest.is_empty() => "",
        _ => return None,
    };
    let all_known = modifiers.chars().all(|letter| known.contains(letter));
    (all_known && (rest.is_empty() || !modifiers.is_empty())).then_some((short, modifiers))
}

/// A merge rule can do without a file name: `:C` is `.cvsignore`.
fn is_bare_merge(line: &str) -> bool {
    let modifiers = line.strip_prefix(':').unwrap_or_default();
    modifiers.contains('C')
        && modifiers
            .chars()
            .all(|letter| "/!srpxCenw+-".contains(letter))
}

fn read_head(prefix: char, modifiers: &str) -> Result<Parts<'static>, RuleFault> {
    let mut parts = Parts::default();
    match prefix {
        '+' => parts.includes = true,
        'H' => parts.sender = true,
        'P' => parts.receiver = true,
        'S' => (parts.includes, parts.sender) = (true, true),
        'R' => (parts.includes, parts.receiver) = (true, true),
        '!' => return Err(RuleFault::ClearWithText),
        '.' | ':' => return Err(RuleFault::MergeFile),
        _ => {}
    }
    let has_side = parts.sender || parts.receiver;
    for letter in modifiers.chars() {
        match letter {
            '/' => {}
            '!' => parts.negated = true,
            'p' => parts.perishable = true,
            'x' => parts.xattr = true,
            's' | 'r' if has_side => return Err(RuleFault::SecondSide(letter)),
            's' => parts.sender = true,
            'r' => parts.receiver = true,
            'C' => return Err(RuleFault::CvsList),
            other => return Err(RuleFault::Modifier(other)),
        }
    }
    Ok(parts)
}

/// True if the pattern says where in the tree it matches, so that the modifier `/` would count.
fn pattern_has_place(pattern: &str) -> bool {
    let shown = pattern.strip_suffix('/').unwrap_or(pattern);
    shown.contains('/') || shown.contains("**")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Parts<'_> {
        match line(text) {
            Ok(Line::Rule(parts)) => parts,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_line_without_a_prefix_is_an_exclude() {
        for bare in [
            "*.log",
            ".git",
            "include_once.php",
            "-",
            "+x",
            "clear",
            "hide",
            "hide_me",
            "P",
            "!x",
            "Hello world",
            " x",
            "S1 x",
            ".x",
            ":x",
            "..",
            "exclude",
            "excludes x",
            "-,",
            "#x",
            "ü b",
            "-foo bar",
        ] {
            let expected = Parts {
                pattern: bare,
                ..Parts::default()
            };
            assert_eq!(parts(bare), expected, "{bare}");
        }
        assert_eq!(line("!"), Ok(Line::Clear));
        assert_eq!(line("- "), Err(RuleFault::NoPattern));
    }

    #[test]
    fn prefixes_and_modifiers_are_read_as_rsync_reads_them() {
        let x = |change: fn(&mut Parts<'_>)| {
            let mut parts = Parts {
                pattern: "x y",
                ..Parts::default()
            };
            change(&mut parts);
            parts
        };
        let cases = [
            ("- x y", x(|_| {})),
            ("+ x y", x(|p| p.includes = true)),
            ("exclude x y", x(|_| {})),
            (
                "include,p x y",
                x(|p| (p.includes, p.perishable) = (true, true)),
            ),
            ("H x y", x(|p| p.sender = true)),
            ("hide x y", x(|p| p.sender = true)),
            ("S x y", x(|p| (p.includes, p.sender) = (true, true))),
            ("protect x y", x(|p| p.receiver = true)),
            (
                "risk,! x y",
                x(|p| (p.includes, p.receiver, p.negated) = (true, true, true)),
            ),
            ("-sr x y", x(|p| (p.sender, p.receiver) = (true, true))),
            ("-,! x y", x(|p| p.negated = true)),
            ("-xp x y", x(|p| (p.xattr, p.perishable) = (true, true))),
            ("-/ x y", x(|_| {})),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(text), expected, "{text}");
        }
        assert_eq!(parts("-  x").pattern, " x");
    }

    #[test]
    fn what_members_could_not_evaluate_is_refused_by_name() {
        for merge in [
            ". f",
            ": f",
            ":C",
            "merge f",
            "dir-merge,n- f",
            ":- .gitignore",
            ".s f",
        ] {
            assert_eq!(line(merge), Err(RuleFault::MergeFile), "{merge}");
        }
        assert_eq!(line("-C x"), Err(RuleFault::CvsList));
        assert_eq!(line("Ps x"), Err(RuleFault::SecondSide('s')));
        assert_eq!(line("exclude,q x"), Err(RuleFault::Modifier('q')));
        assert_eq!(line("! x"), Err(RuleFault::ClearWithText));
        assert_eq!(line("-/ /etc/x"), Err(RuleFault::AbsolutePath));
        assert_eq!(
            line("-/ x/"),
            Ok(Line::Rule(Parts {
                pattern: "x/",
                ..Parts::default()
            }))
        );
        assert_eq!(line(""), Err(RuleFault::Empty));
        assert_eq!(line("a\0"), Err(RuleFault::Nul));
        assert!(matches!(
            line(&"x".repeat(1001)),
            Err(RuleFault::TooLong { bytes: 1001 })
        ));
    }

    #[test]
    fn a_list_has_limits() {
        assert!(check_list(&vec!["x"; MAX_RULES]).is_ok());
        let line = "x".repeat(1024);
        assert!(check_list(&vec![&line; MAX_TOTAL_BYTES / 1024]).is_ok());
        let many = check_list(&vec!["x"; MAX_RULES + 1]).unwrap_err();
        assert_eq!(
            (many.position, many.fault),
            (MAX_RULES + 1, RuleFault::TooMany)
        );
        let much = check_list(&vec!["x".repeat(1000); 66]).unwrap_err();
        assert_eq!((much.position, much.fault), (66, RuleFault::TooMuch));
    }
}
