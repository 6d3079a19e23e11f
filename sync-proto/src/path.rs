//! Names and relative paths: raw bytes that can't leave the tree they belong to.
//!
//! A [`Name`] is one component; a [`RelPath`] is any number of them joined by `/`, the empty path
//! being the root of the tree. Both are byte strings, not UTF-8; [`escape`] makes them printable.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use thiserror::Error;

/// The longest component that a Linux file system accepts, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest relative path that the protocol carries, in bytes. LIMIT: against a peer.
pub const MAX_PATH_BYTES: usize = 4096;
/// The name that a tree's root may not contain: fanout's own state may live there.
pub const RESERVED_NAME: &[u8] = b".fanout";

/// Why some bytes are not a name or a path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// An empty component, as in `a//b`.
    #[error("Empty name")]
    Empty,
    /// `.` or `..`.
    #[error("The name is `.` or `..`")]
    Dots,
    /// A slash in a name or a NUL byte anywhere.
    #[error("A name holds a slash or a NUL byte")]
    Forbidden,
    /// A name over [`MAX_NAME_BYTES`] or a path over [`MAX_PATH_BYTES`].
    #[error("A name or path is too long")]
    TooLong,
}

/// One component of a path: not empty, not `.` or `..`, without `/` and NUL, at most 255 bytes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(NameBytes);

/// Most names are short, and a tree has one for each entry: those need no allocation of their own.
#[derive(Clone)]
enum NameBytes {
    Short {
        length: u8,
        bytes: [u8; SHORT_NAME_BYTES],
    },
    Long(Box<[u8]>),
}

/// What fits into the 24 bytes of a [`Name`] beside its length.
const SHORT_NAME_BYTES: usize = 22;

impl Name {
    /// Checks and wraps one component.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self::of_checked(bytes))
    }

    fn of_checked(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT_NAME_BYTES];
        Self(match bytes.get_mut(..name.len()) {
            Some(short) => {
                short.copy_from_slice(name);
                NameBytes::Short {
                    length: name.len() as u8,
                    bytes,
                }
            }
            None => NameBytes::Long(name.into()),
        })
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            NameBytes::Short { length, bytes } => &bytes[..usize::from(*length)],
            NameBytes::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As its bytes do: see `Borrow`.
        self.as_bytes().hash(state);
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        [] => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dots),
        _ if bytes.len() > MAX_NAME_BYTES => Err(PathError::TooLong),
        _ if bytes.iter().any(|&b| b == b'/' || b == 0) => Err(PathError::Forbidden),
        _ => Ok(()),
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = PathError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        Self::parse(&bytes)
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Self {
        name.as_bytes().into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.as_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escape(self.as_bytes()))
    }
}

/// A path below a tree's root. Ordered component by component, so that a directory comes right
/// before everything below it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The tree's root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes`: components joined by single slashes, or nothing at all for the root.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if !bytes.is_empty() {
            bytes.split(|&b| b == b'/').try_for_each(check_name)?;
        }
        Ok(Self(bytes.into()))
    }

    /// This path with one more component.
    pub fn join(&self, name: &Name) -> Result<Self, PathError> {
        let bytes = if self.is_root() {
            name.as_bytes().to_vec()
        } else {
            [&self.0, &b"/"[..], name.as_bytes()].concat()
        };
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// True for the tree's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw bytes, empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<Name> {
        self.components().next_back().map(Name::of_checked)
    }

    /// The components in order, each a valid name.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&b| b == b'/')
            .filter(|component| !component.is_empty())
    }

    /// How many components there are.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// True if this path is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || (self.0.starts_with(&other.0)
                && matches!(self.0.get(other.0.len()), None | Some(b'/')))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0)
    }
}

/// The order of [`RelPath`] on raw bytes. Nothing is split: a slash sorts below every byte that a
/// name can hold.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    // Paths that are compared mostly begin alike: eight bytes at a time.
    let (words, others) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let alike = words.iter().zip(others).take_while(|(x, y)| x == y).count() * 8;
    let rest = a.iter().zip(b).skip(alike);
    match rest.into_iter().find(|(x, y)| x != y) {
        Some((&x, &y)) => rank(x).cmp(&rank(y)),
        None => a.len().cmp(&b.len()),
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = PathError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        Self::parse(&bytes)
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Self {
        path.0.into()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escape(&self.0))
    }
}

/// Makes raw bytes printable on one line: valid UTF-8 without control characters stays, a
/// backslash is doubled, everything else becomes `\xHH`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                out.push_str("\\\\");
            } else if character.is_control() {
                let mut buffer = [0; 4];
                push_hex(&mut out, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                out.push(character);
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    use fmt::Write as _;
    for byte in bytes {
        // Writing to a String can't fail.
        let _infallible = write!(out, "\\x{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_tree_are_refused() {
        for bad in [
            &b"/a"[..],
            b"a/",
            b"a//b",
            b"..",
            b"a/../b",
            b".",
            b"a/./b",
            b"a\0b",
        ] {
            assert!(RelPath::parse(bad).is_err(), "{}", escape(bad));
        }
        assert!(RelPath::parse(&[b'x'; 256]).is_err());
        assert!(RelPath::parse(&[b'x'; 255]).is_ok());
        assert!(Name::parse(b"a/b").is_err());
    }

    #[test]
    fn a_directory_comes_right_before_what_is_below_it() {
        let mut paths: Vec<_> = ["a-b", "a/b", "a", "", "a/b/c"]
            .map(|p| RelPath::parse(p.as_bytes()).unwrap())
            .into();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["", "a", "a/b", "a/b/c", "a-b"]);
    }

    #[test]
    fn within_compares_whole_components() {
        let path = |p: &str| RelPath::parse(p.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&RelPath::root()));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(path("a/b").file_name().unwrap().as_bytes(), b"b");
    }

    #[test]
    fn a_name_is_its_bytes_whatever_its_length() {
        assert_eq!(size_of::<Name>(), 24);
        let names: Vec<Name> = (1..=MAX_NAME_BYTES)
            .map(|length| Name::parse(&vec![b'n'; length]).unwrap())
            .collect();
        assert!(names.is_sorted());
        for (at, name) in names.iter().enumerate() {
            let bytes = vec![b'n'; at + 1];
            assert_eq!(name.as_bytes(), bytes);
            assert_eq!(Vec::from(name.clone()), bytes);
            assert_eq!(Name::try_from(bytes.clone()).as_ref(), Ok(name));
            let path = RelPath::root().join(name).unwrap();
            assert_eq!(path.file_name().as_ref(), Some(name));
            let set = std::collections::HashSet::from([name.clone()]);
            assert!(set.contains(bytes.as_slice()));
        }
        let (long, short) = (vec![b'a'; 100], b"b");
        assert!(Name::parse(&long).unwrap() < Name::parse(short).unwrap());
    }

    #[test]
    fn a_path_is_as_long_as_the_protocol_carries_and_no_longer() {
        let parent = [vec!["d".repeat(255); 15], vec!["d".repeat(200)]].concat();
        let parent = RelPath::parse(parent.join("/").as_bytes()).unwrap();
        assert_eq!((parent.as_bytes().len(), parent.depth()), (4040, 16));
        for (bytes, fits) in [(54, true), (55, true), (56, false), (57, false)] {
            let name = Name::parse(&vec![b'n'; bytes]).unwrap();
            let whole = [parent.as_bytes(), b"/", name.as_bytes()].concat();
            assert_eq!(whole.len() <= MAX_PATH_BYTES, fits);
            assert_eq!(parent.join(&name).is_ok(), fits, "{bytes}");
            assert_eq!(RelPath::parse(&whole).is_ok(), fits, "{bytes}");
        }
    }

    #[test]
    fn what_comes_over_the_wire_is_checked_again() {
        let name = Name::parse(b"a\xff").unwrap();
        let path = RelPath::parse(b"d").unwrap().join(&name).unwrap();
        assert_eq!(
            (name.to_string(), path.to_string()),
            (r"a\xFF".into(), r"d/a\xFF".into())
        );
        assert_eq!(format!("{name:?} {path:?}"), r#""a\\xFF" "d/a\\xFF""#);
        let sent = postcard::to_stdvec(&(&name, &path)).unwrap();
        assert_eq!(
            postcard::from_bytes::<(Name, RelPath)>(&sent).unwrap(),
            (name, path)
        );
        for bad in [&b"\x02.."[..], b"\x04../a", b"\x02a/", b"\x02a\0"] {
            assert!(
                postcard::from_bytes::<Name>(bad).is_err(),
                "{}",
                escape(bad)
            );
            assert!(
                postcard::from_bytes::<RelPath>(bad).is_err(),
                "{}",
                escape(bad)
            );
        }
    }

    #[test]
    fn escaping_is_printable_and_unambiguous() {
        assert_eq!(escape(b"a\nb"), "a\\x0Ab");
        assert_eq!(escape(b"\xff\\"), "\\xFF\\\\");
        assert_eq!(escape("ü".as_bytes()), "ü");
    }
}
