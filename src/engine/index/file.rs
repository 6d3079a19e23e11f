//! The file of an index.
//!
//! It is written and read in pieces, so that neither end ever holds the whole of it beside the tree that
//! it describes, and several cores can read: magic and version; how many contents there are and
//! their hashes, for whoever only looks for some; then frames, each with its length, the BLAKE3 of what
//! it holds, and that. The first frame has the metadata and the stamp of the root, every further one some
//! directories: the length of their manifest, the manifest, the hashes of each, one byte for each
//! (whether it was whole), and one stamp for each entry. The last is empty, and its hash is that of
//! everything before the frames and of all their hashes.
//!
//! Invariant: a file that is damaged anywhere, or ends early, is no index.

use super::{Index, Stamp, Stamps};
use rayon::prelude::*;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Kind, Time};
use sync_proto::manifest::{
    Directory, DirectoryDigests, Manifest, decode_directories, encode_directories, meta_bytes,
    meta_from_bytes,
};

const MAGIC: &[u8; 8] = b"FOIX\x04\0\0\0";
const STAMP_BYTES: usize = 8 + 8 + 12 + 12 + 4 + 4 + 4;
const HASH_BYTES: usize = 32;
/// The magic and the number of contents, with which an index begins.
pub const HEAD_BYTES: usize = MAGIC.len() + 8;
/// The two hashes of a directory.
const DIGESTS_BYTES: usize = 2 * HASH_BYTES;
/// The length of a frame and its hash.
const FRAME_HEAD_BYTES: usize = 8 + HASH_BYTES;
/// Directories and entries after which a frame ends: about a megabyte.
const FRAME_ITEMS: usize = 8_192;
/// How much of the contents' hashes is written or read at once.
const PIECE_BYTES: usize = 1 << 20;
/// LIMIT: bytes of a frame, which holds one directory at least: 8 million entries at 250 bytes.
const MAX_FRAME_BYTES: u64 = 2 << 30;

impl Index {
    /// Writes the index, in large pieces.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let contents = || {
            self.manifest.entries().filter_map(|(_, it)| match it.kind {
                Kind::File { content, .. } => Some(content),
                _ => None,
            })
        };
        let mut piece = MAGIC.to_vec();
        piece.extend_from_slice(&(contents().count() as u64).to_le_bytes());
        for content in contents() {
            piece.extend_from_slice(content.as_bytes());
            if piece.len() >= PIECE_BYTES {
                hasher.update(&piece);
                out.write_all(&piece)?;
                piece.clear();
            }
        }
        hasher.update(&piece);
        out.write_all(&piece)?;

        let mut put = |frame: &[u8]| {
            let hash = blake3::hash(frame);
            hasher.update(hash.as_bytes());
            out.write_all(&(frame.len() as u64).to_le_bytes())?;
            out.write_all(hash.as_bytes())?;
            out.write_all(frame)
        };
        let mut root = meta_bytes(self.manifest.root_meta());
        put_stamp(&mut root, &self.root);
        put(&root)?;
        let mut from = 0;
        while from < self.stamps.len() {
            let mut items = 0;
            let rest = self.stamps[from..].iter();
            let count = rest.take_while(|stamps| {
                let is_room = items < FRAME_ITEMS;
                items += 1 + stamps.len();
                is_room
            });
            let to = from + count.count();
            put(&self.frame(from, to))?;
            from = to;
        }
        out.write_all(&0_u64.to_le_bytes())?;
        out.write_all(hasher.finalize().as_bytes())
    }

    /// What the file has about some directories.
    fn frame(&self, from: usize, to: usize) -> Vec<u8> {
        let manifest = encode_directories(&self.manifest.directories()[from..to]);
        let mut frame = (manifest.len() as u64).to_le_bytes().to_vec();
        frame.extend_from_slice(&manifest);
        for digests in &self.manifest.digests()[from..to] {
            frame.extend_from_slice(digests.content.as_bytes());
            frame.extend_from_slice(digests.meta.as_bytes());
        }
        frame.extend(self.whole[from..to].iter().map(|whole| u8::from(*whole)));
        for stamp in self.stamps[from..to].iter().flat_map(|it| it.iter()) {
            put_stamp(&mut frame, stamp);
        }
        frame
    }

    /// How many bytes of hashes follow a head of [`HEAD_BYTES`]; `None` if it isn't one.
    pub fn contents_bytes(head: &[u8]) -> Option<usize> {
        let count = head.strip_prefix(MAGIC)?.first_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        count.checked_mul(HASH_BYTES)
    }

    /// True if one of these is among the hashes behind a head. They aren't verified; whoever finds
    /// something reads the index.
    pub fn lists_any(contents: &[u8], wanted: &HashSet<Digest>) -> bool {
        let contents = contents.as_chunks::<HASH_BYTES>().0;
        let mut digests = contents.iter().map(|bytes| Digest::from_bytes(*bytes));
        digests.any(|digest| wanted.contains(&digest))
    }

    /// Reads what [`Self::write`] wrote; `None` if anything about it is wrong.
    pub fn read(mut input: impl Read + Send) -> Option<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut head = [0; HEAD_BYTES];
        input.read_exact(&mut head).ok()?;
        hasher.update(&head);
        let mut left = Self::contents_bytes(&head)?;
        let mut piece = Vec::new();
        while left > 0 {
            let length = left.min(PIECE_BYTES);
            read_into(&mut input, &mut piece, length as u64)?;
            hasher.update(&piece);
            left -= length;
        }
        drop(piece);
        let mut frames = Frames {
            input,
            hasher,
            end: None,
        };
        let first = frames.next()?;
        let (meta, stamp) = first.bytes()?.split_last_chunk::<STAMP_BYTES>()?;
        let (root_meta, root) = (meta_from_bytes(meta).ok()?, read_stamp(stamp));
        let parts = frames.by_ref().enumerate().par_bridge();
        let parts = parts.map(|(at, frame)| Some((at, Part::read(frame.bytes()?)?)));
        let mut parts: Vec<(usize, Part)> = parts.collect::<Option<_>>()?;
        if frames.end != Some(true) {
            return None;
        }
        parts.sort_unstable_by_key(|(at, _)| *at);
        let mut all = Part::default();
        for (_, part) in parts {
            all.directories.extend(part.directories);
            all.digests.extend(part.digests);
            all.stamps.extend(part.stamps);
            all.whole.extend(part.whole);
        }
        let manifest = Manifest::new(root_meta, all.directories).ok()?;
        Self::of_parts(
            manifest.with_digests(all.digests),
            root,
            all.stamps,
            all.whole,
        )
    }
}

/// The frames of a file, up to the last.
struct Frames<R> {
    input: R,
    /// Of everything before the frames, and of their hashes.
    hasher: blake3::Hasher,
    /// Whether the file ended as it should, once it did.
    end: Option<bool>,
}

/// One frame, not verified yet.
struct Frame {
    hash: [u8; HASH_BYTES],
    bytes: Vec<u8>,
}

impl Frame {
    /// What it holds, if that is what was written.
    fn bytes(&self) -> Option<&[u8]> {
        (*blake3::hash(&self.bytes).as_bytes() == self.hash).then_some(&self.bytes)
    }
}

impl<R: Read> Iterator for Frames<R> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.end.is_some() {
            return None;
        }
        self.end = Some(false);
        let mut head = [0; FRAME_HEAD_BYTES];
        self.input.read_exact(&mut head).ok()?;
        let (length, hash) = head.split_first_chunk::<8>()?;
        let length = u64::from_le_bytes(*length);
        let hash: [u8; HASH_BYTES] = hash.try_into().ok()?;
        if length == 0 {
            let is_all = self.input.read(&mut [0]).ok()? == 0;
            self.end = Some(is_all && *self.hasher.finalize().as_bytes() == hash);
            return None;
        }
        if length > MAX_FRAME_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        read_into(&mut self.input, &mut bytes, length)?;
        self.hasher.update(&hash);
        self.end = None;
        Some(Frame { hash, bytes })
    }
}

/// Reads so many bytes in place of what was there. What isn't in the file takes no memory.
fn read_into(input: &mut impl Read, bytes: &mut Vec<u8>, length: u64) -> Option<()> {
    bytes.clear();
    bytes.reserve(usize::try_from(length).ok()?.min(2 * PIECE_BYTES));
    let read = input.take(length).read_to_end(bytes).ok()?;
    (read as u64 == length).then_some(())
}

/// What one frame says, or all of them.
#[derive(Default)]
struct Part {
    directories: Vec<Arc<Directory>>,
    digests: Vec<DirectoryDigests>,
    stamps: Vec<Stamps>,
    whole: Vec<bool>,
}

impl Part {
    fn read(frame: &[u8]) -> Option<Self> {
        let (length, rest) = frame.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (manifest, rest) = rest.split_at_checked(length)?;
        let directories = decode_directories(manifest).ok()?;
        let count = Some(directories.len()).filter(|count| *count > 0)?;
        let (digests, rest) = rest.split_at_checked(count.checked_mul(DIGESTS_BYTES)?)?;
        let (whole, rest) = rest.split_at_checked(count)?;
        let (mut rest, tail) = rest.as_chunks::<STAMP_BYTES>();
        if !tail.is_empty() || whole.iter().any(|whole| *whole > 1) {
            return None;
        }
        let mut stamps = Vec::with_capacity(count);
        for directory in &directories {
            let (own, after) = rest.split_at_checked(directory.entries.len())?;
            stamps.push(own.iter().map(read_stamp).collect());
            rest = after;
        }
        let digests = digests.as_chunks::<DIGESTS_BYTES>().0;
        rest.is_empty().then(|| Self {
            directories: directories.into_iter().map(Arc::new).collect(),
            digests: digests.iter().map(read_digests).collect(),
            stamps,
            whole: whole.iter().map(|whole| *whole == 1).collect(),
        })
    }
}

fn read_digests(bytes: &[u8; DIGESTS_BYTES]) -> DirectoryDigests {
    let digest = |from: usize| {
        let mut digest = [0; HASH_BYTES];
        digest.copy_from_slice(&bytes[from..from + HASH_BYTES]);
        Digest::from_bytes(digest)
    };
    DirectoryDigests {
        content: digest(0),
        meta: digest(HASH_BYTES),
    }
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(&stamp.ino.to_le_bytes());
    out.extend_from_slice(&stamp.size.to_le_bytes());
    for time in [stamp.mtime, stamp.ctime] {
        out.extend_from_slice(&time.seconds.to_le_bytes());
        out.extend_from_slice(&time.nanoseconds.to_le_bytes());
    }
    for number in [stamp.raw_mode, stamp.uid, stamp.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn read_stamp(bytes: &[u8; STAMP_BYTES]) -> Stamp {
    let long = |from: usize| u64::from_le_bytes(array(bytes, from));
    let short = |from: usize| u32::from_le_bytes(array(bytes, from));
    let time = |from: usize| Time {
        seconds: long(from).cast_signed(),
        nanoseconds: short(from + 8),
    };
    Stamp {
        ino: long(0),
        size: long(8),
        mtime: time(16),
        ctime: time(28),
        raw_mode: short(40),
        uid: short(44),
        gid: short(48),
    }
}

/// So many bytes of a stamp.
fn array<const N: usize>(bytes: &[u8; STAMP_BYTES], from: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[from..from + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_proto::entry::{Entry, Meta, Principal};
    use sync_proto::path::{Name, RelPath};

    fn sample() -> Index {
        let meta = Meta {
            mode: 0o644,
            user: Principal::Id(0),
            group: Principal::Name("www-data".into()),
            mtime: None,
            xattrs: None,
        };
        let entry = Entry {
            name: Name::parse(b"a").unwrap(),
            kind: Kind::Fifo,
            meta: meta.clone(),
        };
        let root = Directory {
            path: RelPath::root(),
            entries: vec![entry],
        };
        let stamp = Stamp {
            ino: 1,
            size: 2,
            mtime: Time {
                seconds: -3,
                nanoseconds: 4,
            },
            ctime: Time {
                seconds: 5,
                nanoseconds: 6,
            },
            raw_mode: 0o10644,
            uid: 7,
            gid: 8,
        };
        let manifest = Manifest::new(meta, vec![root]).unwrap();
        Index::new(manifest, Stamp::default(), vec![stamp]).unwrap()
    }

    fn written(index: &Index) -> Vec<u8> {
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_index_survives_its_encoding() {
        let index = sample();
        assert_eq!(Index::read(written(&index).as_slice()).unwrap(), index);
        let path = RelPath::parse(b"a").unwrap();
        let mtime = index.entry(&path).unwrap().1.mtime;
        assert_eq!({ mtime.seconds }, -3);
    }

    #[test]
    fn a_damaged_index_is_no_index() {
        let bytes = written(&sample());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Index::read(damaged.as_slice()).is_none(), "byte {at}");
            assert!(Index::read(&bytes[..at]).is_none(), "cut at {at}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Index::read(longer.as_slice()).is_none());
    }
    #[test]
    fn an_index_of_many_frames_is_read_in_its_order() {
        let sample = sample();
        let meta = sample.manifest.root_meta();
        let entry = |name: String, kind| Entry {
            name: Name::parse(name.as_bytes()).unwrap(),
            kind,
            meta: meta.clone(),
        };
        let file = |at: u64| {
            let content = Digest::of(&at.to_le_bytes());
            entry(format!("file-{at:05}"), Kind::File { size: at, content })
        };
        let names: Vec<String> = (0..20).map(|at| format!("directory-{at:02}")).collect();
        let in_root = names.iter().map(|it| entry(it.clone(), Kind::Directory));
        let mut directories = vec![Directory {
            path: RelPath::root(),
            entries: in_root.collect(),
        }];
        directories.extend(names.iter().map(|name| Directory {
            path: RelPath::parse(name.as_bytes()).unwrap(),
            entries: (0..2_000).map(file).collect(),
        }));
        let manifest = Manifest::new(meta.clone(), directories).unwrap();
        let stamp = |ino| Stamp {
            ino,
            ..Stamp::default()
        };
        let stamps = (0..manifest.entry_count() as u64).map(stamp).collect();
        let index = Index::new(manifest, stamp(7), stamps).unwrap();
        let bytes = written(&index);
        assert!(bytes.len() > 4 << 20, "{}", bytes.len());
        assert_eq!(Index::read(bytes.as_slice()).unwrap(), index);
        let length = Index::contents_bytes(&bytes[..HEAD_BYTES]).unwrap();
        assert_eq!(length, 40_000 * HASH_BYTES);
    }
}
