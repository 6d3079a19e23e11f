//! rsync's wildcards over bytes, matched by a set of states.
//!
//! `?` is any byte but `/`, `*` any number of those, `**` any bytes at all, `[...]` one byte of a
//! class (never `/`), `\x` the byte `x`. Nothing is ever tried twice: a match costs at most text
//! length times pattern length.

use super::MAX_RULE_BYTES;
use thiserror::Error;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Glob(Box<[Element]>);

#[derive(Clone, Debug)]
enum Element {
    Byte(u8),
    AnyButSlash,
    Class(Box<ByteSet>),
    Star,
    DoubleStar,
}

/// Why a pattern can't match anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// `[` without its `]`.
    #[error("A `[` isn't closed by a `]`")]
    OpenClass,
    /// A name in `[:name:]` that doesn't exist.
    #[error("`[:...:]` names a class that doesn't exist")]
    UnknownClass,
    /// A backslash at the end.
    #[error("A backslash stands at the end")]
    LastBackslash,
}

/// True if `pattern` has a wildcard; only then does rsync take a backslash for an escape.
pub(super) fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"*[?".contains(byte))
}

impl Glob {
    pub(super) fn compile(pattern: &[u8]) -> Result<Self, Malformed> {
        let mut elements = Vec::new();
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            elements.push(match byte {
                b'\\' => {
                    at += 1;
                    Element::Byte(*pattern.get(at).ok_or(Malformed::LastBackslash)?)
                }
                b'?' => Element::AnyButSlash,
                b'*' => {
                    let stars = pattern[at..].iter().take_while(|b| **b == b'*').count();
                    at += stars - 1;
                    if stars == 1 {
                        Element::Star
                    } else {
                        Element::DoubleStar
                    }
                }
                b'[' => {
                    let (class, end) = class(pattern, at + 1)?;
                    at = end;
                    Element::Class(Box::new(class))
                }
                other => Element::Byte(other),
            });
            at += 1;
        }
        Ok(Self(elements.into()))
    }

    /// The only text that the pattern matches, if there is only one.
    pub(super) fn literal(&self) -> Option<Box<[u8]>> {
        let byte = |element: &Element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        };
        self.0.iter().map(byte).collect()
    }

    /// True if the pattern matches all of `text`, given in pieces; with `anywhere`, also if it
    /// matches what follows one of the text's slashes.
    pub(super) fn matches(&self, text: &[&[u8]], anywhere: bool) -> bool {
        // Most patterns end in a plain byte, and most names in another one.
        if let Some(Element::Byte(wanted)) = self.0.last()
            && text.iter().rev().find_map(|piece| piece.last()) != Some(wanted)
        {
            return false;
        }
        // One word of states is enough for nearly every pattern that people write.
        if self.0.len() < 64 {
            self.run::<1>(text, anywhere)
        } else {
            self.run::<WORDS>(text, anywhere)
        }
    }

    fn run<const N: usize>(&self, text: &[&[u8]], anywhere: bool) -> bool {
        let mut now = States::<N>::default();
        self.enter(&mut now, 0);
        for &byte in text.iter().copied().flatten() {
            let mut next = States::default();
            for state in now.iter() {
                let (stays, advances) = match self.0.get(state) {
                    Some(Element::Byte(wanted)) => (false, *wanted == byte),
                    Some(Element::AnyButSlash) => (false, byte != b'/'),
                    Some(Element::Class(class)) => (false, class.has(byte)),
                    Some(Element::Star) => (byte != b'/', false),
                    Some(Element::DoubleStar) => (true, false),
                    None => (false, false),
                };
                if stays {
                    self.enter(&mut next, state);
                } else if advances {
                    self.enter(&mut next, state + 1);
                }
            }
            if anywhere && byte == b'/' {
                self.enter(&mut next, 0);
            }
            if next.is_empty() && !anywhere {
                return false;
            }
            now = next;
        }
        now.has(self.0.len())
    }

    /// Stars match nothing as well, and no two of them stand side by side.
    fn enter<const N: usize>(&self, states: &mut States<N>, state: usize) {
        states.add(state);
        if let Some(Element::Star | Element::DoubleStar) = self.0.get(state) {
            states.add(state + 1);
        }
    }
}

/// Enough for a state before each element of the longest pattern, and one at its end.
const WORDS: usize = MAX_RULE_BYTES / 64 + 1;

struct States<const N: usize>([u64; N]);

impl<const N: usize> Default for States<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> States<N> {
    fn add(&mut self, state: usize) {
        if let Some(word) = self.0.get_mut(state / 64) {
            *word |= 1 << (state % 64);
        }
    }

    fn has(&self, state: usize) -> bool {
        (self.0.get(state / 64)).is_some_and(|word| word >> (state % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                // Clears the lowest bit; there is none to clear once the word is used up.
                left &= left.checked_sub(1)?;
                Some(index * 64 + bit)
            })
        })
    }
}

/// A set of bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] &= !(1 << (byte % 64));
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }
}

/// Reads a class from the byte after its `[`; returns it with the place of its `]`.
fn class(pattern: &[u8], start: usize) -> Result<(ByteSet, usize), Malformed> {
    let byte_at = |at: usize| pattern.get(at).copied().ok_or(Malformed::OpenClass);
    let mut set = ByteSet::default();
    let mut at = start;
    let negated = matches!(byte_at(at)?, b'!' | b'^');
    if negated {
        at += 1;
    }
    // What a following `-` would make a range of. A range or a named class can't start one.
    let mut low: Option<u8> = None;
    // PARITY: the first byte is a member even if it is `]`.
    loop {
        let byte = byte_at(at)?;
        let next = pattern.get(at + 1).copied();
        match (byte, low) {
            (b'\\', _) => {
                at += 1;
                let escaped = byte_at(at)?;
                set.add(escaped);
                low = Some(escaped);
            }
            (b'-', Some(from)) if next.is_some_and(|next| next != b']') => {
                at += 1;
                if byte_at(at)? == b'\\' {
                    at += 1;
                }
                (from..=byte_at(at)?).for_each(|byte| set.add(byte));
                low = None;
            }
            (b'[', _) if next == Some(b':') => {
                let rest = &pattern[at + 2..];
                let close = rest.iter().position(|byte| *byte == b']');
                match rest[..close.ok_or(Malformed::OpenClass)?].split_last() {
                    Some((b':', name)) => {
                        let member = named(name).ok_or(Malformed::UnknownClass)?;
                        (0..=u8::MAX)
                            .filter(|b| member(*b))
                            .for_each(|b| set.add(b));
                        at += 2 + name.len() + 1;
                        low = None;
                    }
                    // PARITY: without `:]` the bracket is a member like any other.
                    _ => {
                        set.add(b'[');
                        low = Some(b'[');
                    }
                }
            }
            _ => {
                set.add(byte);
                low = Some(byte);
            }
        }
        at += 1;
        if byte_at(at)? == b']' {
            break;
        }
    }
    if negated {
        set = ByteSet(set.0.map(|word| !word));
    }
    set.remove(b'/');
    Ok((set, at))
}

fn named(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => |b| b.is_ascii_control(),
        b"digit" => |b| b.is_ascii_digit(),
        b"graph" => |b| b.is_ascii_graphic(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"print" => |b| b == b' ' || b.is_ascii_graphic(),
        b"punct" => |b| b.is_ascii_punctuation(),
        b"space" => |b| matches!(b, b' ' | b'\t'..=b'\r'),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Glob::compile(pattern.as_bytes()).is_ok_and(|glob| glob.matches(&[text.as_bytes()], false))
    }

    /// Facts about rsync's wildcards: pattern, text, whether they match.
    const GOLDEN: &[(&str, &str, bool)] = &[
        ("foo", "foo", true),
        ("foo", "bar", false),
        ("", "", true),
        ("???", "foo", true),
        ("??", "foo", false),
        ("*", "foo", true),
        ("*", "", true),
        ("f*", "foo", true),
        ("*f", "foo", false),
        ("*foo*", "foo", true),
        ("*ob*a*r*", "foobar", true),
        ("*ab", "aaaaaaabababab", true),
        ("foo\\*", "foo*", true),
        ("foo\\*bar", "foobar", false),
        ("f\\\\oo", "f\\oo", true),
        ("*[al]?", "ball", true),
        ("[ten]", "ten", false),
        ("**[!te]", "ten", true),
        ("**[!ten]", "ten", false),
        ("t[a-g]n", "ten", true),
        ("t[!a-g]n", "ten", false),
        ("t[^a-g]n", "ton", true),
        ("a[]]b", "a]b", true),
        ("a[]-]b", "a-b", true),
        ("a[]a-]b", "aab", true),
        ("]", "]", true),
        ("foo*bar", "foo/baz/bar", false),
        ("foo**bar", "foo/baz/bar", true),
        ("foo?bar", "foo/bar", false),
        ("foo[/]bar", "foo/bar", false),
        ("f[^eiu][^eiu][^eiu][^eiu][^eiu]r", "foo/bar", false),
        ("**/foo", "bar/baz/foo", true),
        ("*/foo", "bar/baz/foo", false),
        ("**/bar*", "deep/foo/bar/baz", false),
        ("**/bar**", "deep/foo/bar/baz/", true),
        ("*/bar/**", "deep/foo/bar/baz/x", false),
        ("**/*a*/*b", "x/ya/za/qb", true),
        ("[[:alpha:]][[:digit:]][[:upper:]]", "a1B", true),
        ("[[:digit:][:upper:][:space:]]", "A", true),
        ("[[:digit:][:upper:][:spaci:]]", "1", false),
        ("[a-c[:digit:]x-z]", "5", true),
        ("[a-c[:digit:]x-z]", "q", false),
        ("[\\\\-^]", "]", true),
        ("[\\-_]", "-", true),
        ("[,-.]", "-", true),
        ("[[-]", "-", true),
        ("[[:]", ":", true),
        ("[!]a-]", "b", true),
        ("[a-]", "-", true),
        ("[c-a]", "b", false),
        ("[a-\\c]", "b", true),
        ("[a-\\c]", "c", true),
        ("[a-\\c]", "d", false),
        ("[[:alnum:]]", "5", true),
        ("[[:alnum:]]", "_", false),
        ("[[:blank:]]", "\t", true),
        ("[[:blank:]]", "\n", false),
        ("[[:cntrl:]]", "\u{7f}", true),
        ("[[:cntrl:]]", " ", false),
        ("[[:graph:]]", "~", true),
        ("[[:graph:]]", " ", false),
        ("[[:lower:]]", "z", true),
        ("[[:lower:]]", "Z", false),
        ("[[:print:]]", " ", true),
        ("[[:print:]]", "a", true),
        ("[[:print:]]", "\n", false),
        ("[[:punct:]]", ".", true),
        ("[[:punct:]]", "a", false),
        ("[[:space:]]", "\u{b}", true),
        ("[[:space:]]", "a", false),
        ("[[:xdigit:]]", "f", true),
        ("[[:xdigit:]]", "g", false),
        ("[ab", "a", false),
        ("[]", "]", false),
        ("a\\", "a\\", false),
    ];

    #[test]
    fn wildcards_mean_what_they_mean_in_rsync() {
        for &(pattern, text, expected) in GOLDEN {
            assert_eq!(is_match(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_byte_is_a_byte_whatever_the_encoding() {
        let glob = Glob::compile(b"?").unwrap();
        assert!(glob.matches(&[b"\xff"], false));
        assert!(!glob.matches(&["ü".as_bytes()], false));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let pattern = "*a".repeat(MAX_RULE_BYTES / 2 - 1) + "*b";
        let text = "a".repeat(4096);
        assert!(!is_match(&pattern, &text));
        assert!(is_match(&pattern, &(text + "b")));
        assert!(!is_match(&"**a".repeat(300), &"ab".repeat(299)));
        // Where one word of states ends.
        for length in [63, 64, 65, 127, 128] {
            let text = "x".repeat(length);
            assert!(is_match(&"?".repeat(length), &text), "{length}");
            assert!(!is_match(&"?".repeat(length + 1), &text), "{length}");
        }
        assert!(is_match(
            &"?".repeat(MAX_RULE_BYTES),
            &"x".repeat(MAX_RULE_BYTES)
        ));
    }
}
