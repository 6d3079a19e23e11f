//! Which contents a member must get from the hub, named by their index in
//! [`Manifest::contents`](crate::manifest::Manifest::contents).

use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// Some needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Ranges (start, length) of contents wanted whole.
    pub whole: Vec<(u32, u32)>,
    /// Contents that can be patched: index, and the content that the member has.
    pub patched: Vec<(u32, Digest)>,
    /// Large contents of which a prefix is there: index, bytes, digest of the prefix.
    pub resumed: Vec<(u32, u64, Digest)>,
}

/// One need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every byte.
    Whole,
    /// A patch against this content; the whole will do.
    Patched(Digest),
    /// The bytes from this offset on, if the prefix's digest matches; otherwise the whole.
    Resumed(u64, Digest),
}

impl Needs {
    /// Each need with the index of its content. Indexes at or past `count` end the list: a peer
    /// can't make us look beyond our own manifest.
    pub fn iter(&self, count: u32) -> impl Iterator<Item = (u32, Need)> {
        let whole = self
            .whole
            .iter()
            .flat_map(move |&(start, length)| start..start.saturating_add(length).min(count))
            .map(|index| (index, Need::Whole));
        let patched = self
            .patched
            .iter()
            .map(|&(index, base)| (index, Need::Patched(base)));
        let resumed = self
            .resumed
            .iter()
            .map(|&(index, offset, prefix)| (index, Need::Resumed(offset, prefix)));
        whole
            .chain(patched)
            .chain(resumed)
            .filter(move |&(index, _)| index < count)
    }

    /// True if nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.patched.is_empty() && self.resumed.is_empty()
    }
}

/// Sorted indexes as ranges.
pub fn ranges_of(indexes: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((start, length)) if start.checked_add(*length) == Some(index) => *length += 1,
            _ => ranges.push((index, 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_name_the_same_indexes() {
        let indexes = [0, 1, 2, 5, 7, 8];
        let needs = Needs {
            whole: ranges_of(indexes),
            ..Needs::default()
        };
        assert_eq!(needs.whole, [(0, 3), (5, 1), (7, 2)]);
        assert!(needs.iter(9).map(|(index, _)| index).eq(indexes));
    }

    #[test]
    fn what_lies_beyond_the_manifest_is_not_needed() {
        let base = Digest::of(b"base");
        let needs = Needs {
            whole: vec![(7, u32::MAX)],
            patched: vec![(8, base), (9, base)],
            resumed: vec![(8, 1, base), (9, 1, base), (10, 1, base)],
        };
        let indexes: Vec<u32> = needs.iter(9).map(|(index, _)| index).collect();
        assert_eq!(indexes, [7, 8, 8, 8]);
        let none = Needs::default;
        assert!(none().is_empty());
        let [mut whole, mut patched, mut resumed] = [none(), none(), none()];
        whole.whole = needs.whole;
        patched.patched = needs.patched;
        resumed.resumed = needs.resumed;
        assert!(![whole, patched, resumed].iter().any(Needs::is_empty));
    }

    #[test]
    fn a_hostile_range_ends_at_the_manifest() {
        let needs = Needs {
            whole: vec![(0, u32::MAX), (u32::MAX, 9)],
            ..Needs::default()
        };
        assert_eq!(needs.iter(3).count(), 3);
    }
}
