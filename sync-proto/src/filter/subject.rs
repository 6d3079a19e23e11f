//! The path that a rule is asked about, in two parts, so that a directory's entries can be
//! matched without joining paths.

use crate::path::{Name, RelPath};

/// A path below a root: the directory that holds it (empty for the root) and its last name.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) parent: &'a [u8],
    pub(super) name: &'a [u8],
}

impl<'a> Subject<'a> {
    /// `None` for the root, which no rule can match.
    pub(super) fn of(path: &'a RelPath) -> Option<Self> {
        Self::of_bytes(path.as_bytes())
    }

    pub(super) fn child(parent: &'a RelPath, name: &'a Name) -> Self {
        Self {
            parent: parent.as_bytes(),
            name: name.as_bytes(),
        }
    }

    pub(super) fn of_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        Some(match bytes.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Self {
                parent: &bytes[..slash],
                name: &bytes[slash + 1..],
            },
            None => Self {
                parent: &[],
                name: bytes,
            },
        })
    }

    /// `path` cut after each of its names, from the top; the last is `path` itself.
    pub(super) fn line_of(path: &'a RelPath) -> impl Iterator<Item = Self> {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes
            .map(|(slash, _)| slash)
            .chain([bytes.len()])
            .filter_map(|end| Self::of_bytes(&bytes[..end]))
    }

    /// The last `count` names; `None` if there are fewer.
    pub(super) fn last(self, count: usize) -> Option<Self> {
        let mut wanted = count.checked_sub(1)?;
        if wanted == 0 {
            return Some(Self {
                parent: &[],
                name: self.name,
            });
        }
        for (at, _) in (self.parent.iter().enumerate().rev()).filter(|(_, byte)| **byte == b'/') {
            wanted -= 1;
            if wanted == 0 {
                let parent = &self.parent[at + 1..];
                return Some(Self { parent, ..self });
            }
        }
        (wanted == 1 && !self.parent.is_empty()).then_some(self)
    }

    /// What stands between the two parts.
    pub(super) fn joint(self) -> &'static [u8] {
        if self.parent.is_empty() { b"" } else { b"/" }
    }

    /// The names in order.
    pub(super) fn names(self) -> impl Iterator<Item = &'a [u8]> {
        (self.parent.split(|&byte| byte == b'/'))
            .filter(|name| !name.is_empty())
            .chain([self.name])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(subject: Subject<'_>) -> Vec<u8> {
        [subject.parent, subject.joint(), subject.name].concat()
    }

    #[test]
    fn the_last_names_are_counted_from_the_end() {
        let subject = Subject::of_bytes(b"a/b/c").unwrap();
        let last = |count| subject.last(count).map(whole);
        assert_eq!(last(0), None);
        assert_eq!(last(1), Some(b"c".to_vec()));
        assert_eq!(last(2), Some(b"b/c".to_vec()));
        assert_eq!(last(3), Some(b"a/b/c".to_vec()));
        assert_eq!(last(4), None);
        assert!(Subject::of_bytes(b"c").unwrap().last(2).is_none());
    }

    #[test]
    fn the_line_of_a_path_starts_at_the_top() {
        let path = RelPath::parse(b"a/b/c").unwrap();
        let line: Vec<_> = Subject::line_of(&path).map(whole).collect();
        assert_eq!(line, [&b"a"[..], b"a/b", b"a/b/c"]);
        assert_eq!(Subject::line_of(&RelPath::root()).count(), 0);
    }
}
