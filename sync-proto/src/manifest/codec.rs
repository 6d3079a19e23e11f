//! The canonical bytes of directories and manifests. Normative; hashed, stored and sent.
//!
//! Numbers are LEB128 varints; byte strings carry their length in front.
//!
//! ```text
//! content row   name, kind byte, then
//!               0 directory | 1 file: size, digest (32) | 2 hard link: leader path
//!               3 symlink: target | 4 fifo | 5 socket | 6/7 char/block device: major, minor
//! metadata row  mode, user, group, time, xattrs; none for a hard link
//!   principal   0, id  |  1, name
//!   time        0  |  1, seconds (zigzag), nanoseconds
//!   xattrs      count, then name and value each
//! directory     path, content rows (length, bytes), metadata rows (length, bytes), entry count
//! manifest      "FOMF", version 1, root metadata, directory count, directories
//! ```

use super::{Directory, MAX_ENTRIES, Manifest, ManifestError};
use crate::digest::Digest;
use crate::entry::{Entry, Kind, Meta, Principal, Time, Xattrs};
use crate::path::{Name, RelPath};
use std::borrow::Borrow;
use std::sync::Arc;

const MAGIC: &[u8] = b"FOMF\x01";
/// LIMIT: bytes of one symlink target (the kernel's own limit).
pub(super) const MAX_TARGET_BYTES: usize = 4095;
/// LIMIT: bytes of all xattrs of one entry.
pub(super) const MAX_XATTR_BYTES: usize = 64 * 1024;
/// LIMIT: xattrs of one entry.
pub(super) const MAX_XATTRS: u64 = 256;
/// LIMIT: bytes of a user or group name.
pub(super) const MAX_PRINCIPAL_BYTES: usize = 256;

/// Reads canonical bytes from the front; every read is checked.
#[derive(Clone, Debug)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ManifestError::Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, ManifestError> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A varint in its shortest form (canonical bytes have one form only).
    pub fn varint(&mut self) -> Result<u64, ManifestError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(ManifestError::Malformed(
            "a number is not in its shortest form",
        ))
    }

    /// A varint that fits 32 bits.
    pub fn varint32(&mut self) -> Result<u32, ManifestError> {
        u32::try_from(self.varint()?).map_err(|_| ManifestError::Malformed("a number is too large"))
    }

    /// A byte string of at most `limit` bytes.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], ManifestError> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(ManifestError::Malformed("a string is too long"));
        }
        self.take(length)
    }
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of a byte string, as [`Cursor::bytes`] reads it.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, length as u64);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_principal(out: &mut Vec<u8>, principal: &Principal) {
    match principal {
        Principal::Id(id) => {
            out.push(0);
            put_varint(out, u64::from(*id));
        }
        Principal::Name(name) => {
            out.push(1);
            put_bytes(out, name.as_bytes());
        }
    }
}

pub(super) fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    put_varint(out, u64::from(meta.mode));
    put_principal(out, &meta.user);
    put_principal(out, &meta.group);
    match meta.mtime {
        None => out.push(0),
        Some(time) => {
            out.push(1);
            put_varint(out, (time.seconds << 1 ^ time.seconds >> 63) as u64);
            put_varint(out, u64::from(time.nanoseconds));
        }
    }
    let xattrs = meta.xattrs.as_deref().map_or(&[][..], Vec::as_slice);
    put_varint(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

/// Appends the rows of one directory: its content rows and its metadata rows.
pub fn encode_directory(directory: &Directory, content: &mut Vec<u8>, meta: &mut Vec<u8>) {
    for entry in &directory.entries {
        put_bytes(content, entry.name.as_bytes());
        match &entry.kind {
            Kind::Directory => content.push(0),
            Kind::File {
                size,
                content: digest,
            } => {
                content.push(1);
                put_varint(content, *size);
                content.extend_from_slice(digest.as_bytes());
            }
            Kind::HardLink { leader } => {
                content.push(2);
                put_bytes(content, leader.as_bytes());
                continue;
            }
            Kind::Symlink { target } => {
                content.push(3);
                put_bytes(content, target);
            }
            Kind::Fifo => content.push(4),
            Kind::Socket => content.push(5),
            Kind::CharDevice { major, minor } => {
                content.push(6);
                put_varint(content, u64::from(*major));
                put_varint(content, u64::from(*minor));
            }
            Kind::BlockDevice { major, minor } => {
                content.push(7);
                put_varint(content, u64::from(*major));
                put_varint(content, u64::from(*minor));
            }
        }
        encode_meta(&entry.meta, meta);
    }
}

/// The bytes of some directories, as they travel.
pub fn encode_directories<'a, D: Borrow<Directory> + 'a>(
    directories: impl IntoIterator<Item = &'a D>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut content, mut meta) = (Vec::new(), Vec::new());
    for directory in directories {
        let directory = directory.borrow();
        content.clear();
        meta.clear();
        encode_directory(directory, &mut content, &mut meta);
        put_bytes(&mut out, directory.path.as_bytes());
        put_bytes(&mut out, &content);
        put_bytes(&mut out, &meta);
        put_varint(&mut out, directory.entries.len() as u64);
    }
    out
}

/// Reads what [`encode_directories`] wrote. Each directory is checked by itself; how they fit
/// together is checked by [`Manifest::new`].
pub fn decode_directories(bytes: &[u8]) -> Result<Vec<Directory>, ManifestError> {
    decode_directories_within(bytes, usize::MAX)
}

/// The same, of `most` entries and directories at most. LIMIT: an entry takes ten bytes here, and
/// hundreds in memory.
pub fn decode_directories_within(
    bytes: &[u8],
    most: usize,
) -> Result<Vec<Directory>, ManifestError> {
    let mut cursor = Cursor::new(bytes);
    let mut directories = Vec::new();
    let mut principals = Principals::default();
    let mut left = most;
    while !cursor.is_empty() {
        left = left.checked_sub(1).ok_or(ManifestError::TooMany)?;
        let directory = decode_directory(&mut cursor, &mut principals, left)?;
        left -= directory.entries.len();
        directories.push(directory);
    }
    Ok(directories)
}

/// Names of users and groups occur once per entry; one allocation each is enough.
#[derive(Default)]
struct Principals(std::collections::HashMap<Box<[u8]>, Arc<str>>);

impl Principals {
    fn name(&mut self, bytes: &[u8]) -> Result<Arc<str>, ManifestError> {
        if let Some(name) = self.0.get(bytes) {
            return Ok(name.clone());
        }
        let name: Arc<str> = std::str::from_utf8(bytes)
            .ok()
            .filter(|n| !n.is_empty() && !n.contains(|c: char| c.is_control() || ":/".contains(c)))
            .ok_or(ManifestError::Malformed(
                "a user or group name is not valid",
            ))?
            .into();
        self.0.insert(bytes.into(), name.clone());
        Ok(name)
    }
}

fn decode_directory(
    cursor: &mut Cursor<'_>,
    principals: &mut Principals,
    most: usize,
) -> Result<Directory, ManifestError> {
    let path = RelPath::parse(cursor.bytes(crate::path::MAX_PATH_BYTES)?)?;
    let mut content = Cursor::new(cursor.bytes(usize::MAX)?);
    let mut meta = Cursor::new(cursor.bytes(usize::MAX)?);
    let count = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
    // LIMIT: a row has at least two bytes, so the count can't make us allocate more than was sent.
    if count > MAX_ENTRIES.min(most) || count > content.0.len() {
        return Err(ManifestError::TooMany);
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let name = Name::parse(content.bytes(crate::path::MAX_NAME_BYTES)?)?;
        let kind = decode_kind(&mut content)?;
        let meta = if let Kind::HardLink { .. } = kind {
            Meta::of_link()
        } else {
            decode_meta(&mut meta, principals)?
        };
        entries.push(Entry { name, kind, meta });
    }
    if !content.is_empty() || !meta.is_empty() {
        return Err(ManifestError::Malformed(
            "a directory has more rows than entries",
        ));
    }
    Ok(Directory { path, entries })
}

fn decode_kind(cursor: &mut Cursor<'_>) -> Result<Kind, ManifestError> {
    Ok(match cursor.byte()? {
        0 => Kind::Directory,
        1 => {
            let size = cursor.varint()?;
            let mut digest = [0; 32];
            digest.copy_from_slice(cursor.take(32)?);
            Kind::File {
                size,
                content: Digest::from_bytes(digest),
            }
        }
        2 => Kind::HardLink {
            leader: RelPath::parse(cursor.bytes(crate::path::MAX_PATH_BYTES)?)?,
        },
        3 => {
            let target = cursor.bytes(MAX_TARGET_BYTES)?;
            if target.is_empty() || target.contains(&0) {
                return Err(ManifestError::Malformed("a symlink target is not valid"));
            }
            Kind::Symlink {
                target: target.into(),
            }
        }
        4 => Kind::Fifo,
        5 => Kind::Socket,
        6 => Kind::CharDevice {
            major: cursor.varint32()?,
            minor: cursor.varint32()?,
        },
        7 => Kind::BlockDevice {
            major: cursor.varint32()?,
            minor: cursor.varint32()?,
        },
        _ => return Err(ManifestError::Malformed("an entry is of an unknown kind")),
    })
}

fn decode_principal(
    cursor: &mut Cursor<'_>,
    principals: &mut Principals,
) -> Result<Principal, ManifestError> {
    match cursor.byte()? {
        0 => Ok(Principal::Id(cursor.varint32()?)),
        1 => Ok(Principal::Name(
            principals.name(cursor.bytes(MAX_PRINCIPAL_BYTES)?)?,
        )),
        _ => Err(ManifestError::Malformed(
            "an owner is neither a number nor a name",
        )),
    }
}

fn decode_meta(
    cursor: &mut Cursor<'_>,
    principals: &mut Principals,
) -> Result<Meta, ManifestError> {
    let mode = cursor.varint32()?;
    if mode > 0o7777 {
        return Err(ManifestError::Malformed("a mode is out of range"));
    }
    let user = decode_principal(cursor, principals)?;
    let group = decode_principal(cursor, principals)?;
    let mtime = match cursor.byte()? {
        0 => None,
        1 => {
            let zigzag = cursor.varint()?;
            let seconds = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let nanoseconds = cursor.varint32()?;
            if nanoseconds > 999_999_999 {
                return Err(ManifestError::Malformed("a time is out of range"));
            }
            Some(Time {
                seconds,
                nanoseconds,
            })
        }
        _ => {
            return Err(ManifestError::Malformed(
                "a time is neither there nor absent",
            ));
        }
    };
    Ok(Meta {
        mode,
        user,
        group,
        mtime,
        xattrs: decode_xattrs(cursor)?,
    })
}

fn decode_xattrs(cursor: &mut Cursor<'_>) -> Result<Option<Arc<Xattrs>>, ManifestError> {
    let count = cursor.varint()?;
    if count == 0 {
        return Ok(None);
    }
    if count > MAX_XATTRS {
        return Err(ManifestError::Malformed("an entry has too many xattrs"));
    }
    let mut xattrs = Xattrs::new();
    let mut total = 0_usize;
    for _ in 0..count {
        let name: Box<[u8]> = cursor.bytes(255)?.into();
        let value: Box<[u8]> = cursor.bytes(MAX_XATTR_BYTES)?.into();
        total = total.saturating_add(name.len()).saturating_add(value.len());
        let sorted = xattrs.last().is_none_or(|(last, _)| *last < name);
        if total > MAX_XATTR_BYTES || !sorted || name.is_empty() || name.contains(&0) {
            return Err(ManifestError::Malformed(
                "an entry's xattrs are too large or unsorted",
            ));
        }
        xattrs.push((name, value));
    }
    Ok(Some(Arc::new(xattrs)))
}

pub(super) fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    encode_meta(&manifest.0.root, &mut out);
    put_varint(&mut out, manifest.0.directories.len() as u64);
    out.extend(encode_directories(&manifest.0.directories));
    out
}

pub(super) fn decode_manifest(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(ManifestError::Malformed(
            "it is not a manifest of a known version",
        ));
    }
    let mut principals = Principals::default();
    let root = decode_meta(&mut cursor, &mut principals)?;
    let count = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
    let mut directories = Vec::with_capacity(count.min(cursor.0.len()));
    for _ in 0..count {
        directories.push(decode_directory(&mut cursor, &mut principals, MAX_ENTRIES)?);
    }
    if !cursor.is_empty() {
        return Err(ManifestError::Malformed("bytes are left over"));
    }
    Manifest::new(root, directories)
}

/// The bytes of one metadata record by itself, as the wire carries the root's.
pub fn meta_bytes(meta: &Meta) -> Vec<u8> {
    let mut out = Vec::new();
    encode_meta(meta, &mut out);
    out
}

/// Reads what [`meta_bytes`] wrote.
pub fn meta_from_bytes(bytes: &[u8]) -> Result<Meta, ManifestError> {
    let mut cursor = Cursor::new(bytes);
    let meta = decode_meta(&mut cursor, &mut Principals::default())?;
    if !cursor.is_empty() {
        return Err(ManifestError::Malformed("bytes are left over"));
    }
    Ok(meta)
}
