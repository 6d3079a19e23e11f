//! Packs and segments in the depot, found by the contents they hold.

use super::{Depot, DepotError, fixed_name, hex_name, read};
use crate::fs::Dir;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::pack::segment::{SegmentHeader, Stream, decode_segment};
use sync_proto::pack::{PackDecoder, PackHeader, unpack};
use sync_proto::path::Name;

/// What a stored object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A pack with these contents and their lengths.
    Pack(Vec<(Digest, u32)>),
    /// A block of a content.
    Segment {
        /// Of which content.
        content: Digest,
        /// Where it starts.
        offset: u64,
        /// How many bytes of the content it holds.
        raw_bytes: u64,
    },
}

/// Where a content lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this pack.
    Pack(Digest),
    /// In these segments, in order and without gaps.
    Segments(Vec<Digest>),
}

/// Which object holds what; in memory, made anew from the objects' own headers.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) objects: HashMap<Digest, Arc<Stored>>,
    packed: HashMap<Digest, Digest>,
    segmented: HashMap<Digest, BTreeMap<u64, (Digest, u64)>>,
}

impl Catalogue {
    pub(super) fn read(objects: &Dir) -> Result<Self, DepotError> {
        let mut catalogue = Self::default();
        for shard in objects.list()? {
            let Some(dir) = objects.try_open_dir(&shard.name)? else {
                continue;
            };
            for listed in dir.list()? {
                let Some(id) = digest_of(&listed.name) else {
                    continue;
                };
                let Some(bytes) = read(&dir, &listed.name)? else {
                    continue;
                };
                if let Some(stored) = classify(&bytes) {
                    catalogue.add(id, stored);
                }
            }
        }
        Ok(catalogue)
    }

    pub(super) fn add(&mut self, id: Digest, stored: Stored) {
        match &stored {
            Stored::Pack(rows) => {
                for (content, _) in rows {
                    self.packed.insert(*content, id);
                }
            }
            Stored::Segment {
                content,
                offset,
                raw_bytes,
            } => {
                self.segmented
                    .entry(*content)
                    .or_default()
                    .insert(*offset, (id, *raw_bytes));
            }
        }
        self.objects.insert(id, Arc::new(stored));
    }

    pub(super) fn remove(&mut self, id: &Digest) {
        let Some(stored) = self.objects.remove(id) else {
            return;
        };
        match &*stored {
            Stored::Pack(rows) => {
                for (content, _) in rows {
                    if self.packed.get(content) == Some(id) {
                        self.packed.remove(content);
                    }
                }
            }
            Stored::Segment { content, .. } => {
                self.segmented.remove(content);
            }
        }
    }

    fn place(&self, content: &Digest, size: Option<u64>) -> Option<Place> {
        if let Some(pack) = self.packed.get(content) {
            return Some(Place::Pack(*pack));
        }
        let segments = self.segmented.get(content)?;
        let mut end = 0;
        let mut ids = Vec::with_capacity(segments.len());
        for (offset, (id, raw_bytes)) in segments {
            if *offset != end {
                return None;
            }
            end += raw_bytes;
            ids.push(*id);
        }
        (size.is_none_or(|size| size == end)).then_some(Place::Segments(ids))
    }
}

impl Depot {
    /// Stores a pack or a segment, exactly as it travels.
    pub fn put_object(&self, bytes: &[u8]) -> Result<Digest, DepotError> {
        let id = Digest::of(bytes);
        let stored = classify(bytes).ok_or(DepotError::Damaged(id))?;
        let shard = self.objects.create_dir_if_absent(&shard_name(&id), 0o700)?;
        self.put(&shard, &hex_name(&id), bytes)?;
        self.with_catalogue(|catalogue| {
            catalogue.add(id, stored);
            Ok(())
        })?;
        Ok(id)
    }

    /// The bytes of an object, verified.
    pub fn object(&self, id: &Digest) -> Result<Bytes, DepotError> {
        let shard = self.objects.try_open_dir(&shard_name(id))?;
        let bytes = match shard {
            Some(shard) => read(&shard, &hex_name(id))?,
            None => None,
        };
        let bytes = bytes.ok_or(DepotError::NoContent(*id))?;
        if Digest::of(&bytes) == *id {
            Ok(bytes.into())
        } else {
            Err(DepotError::Damaged(*id))
        }
    }

    /// Where a content lies; `None` if it isn't stored, or not in whole.
    pub fn place(&self, content: &Digest, size: u64) -> Result<Option<Place>, DepotError> {
        self.with_catalogue(|catalogue| Ok(catalogue.place(content, Some(size))))
    }

    /// What a stored object holds.
    pub fn describe(&self, id: &Digest) -> Result<Option<Arc<Stored>>, DepotError> {
        self.with_catalogue(|catalogue| Ok(catalogue.objects.get(id).cloned()))
    }

    /// A whole content of at most [`MAX_STORED_BYTES`](super::MAX_STORED_BYTES).
    pub fn content(&self, content: &Digest) -> Result<Vec<u8>, DepotError> {
        let missing = || DepotError::NoContent(*content);
        let mut decoder = PackDecoder::new();
        let place = self.with_catalogue(|catalogue| Ok(catalogue.place(content, None)))?;
        match place.ok_or_else(missing)? {
            Place::Pack(id) => {
                let pack = self.object(&id)?;
                let unpacked = unpack(&pack, &mut decoder).map_err(|_| DepotError::Damaged(id))?;
                unpacked
                    .find(content)
                    .map(|bytes| bytes.to_vec())
                    .ok_or_else(missing)
            }
            Place::Segments(ids) => {
                let mut whole = Vec::new();
                for id in ids {
                    let (_, raw) = decode_segment(&self.object(&id)?, &mut decoder)
                        .map_err(|_| DepotError::Damaged(id))?;
                    whole.extend_from_slice(&raw);
                }
                if Digest::of(&whole) == *content {
                    Ok(whole)
                } else {
                    Err(missing())
                }
            }
        }
    }
}

pub(super) fn shard_name(id: &Digest) -> Name {
    fixed_name(id.to_hex().get(..2).unwrap_or("00").as_bytes())
}

pub(super) fn digest_of(name: &Name) -> Option<Digest> {
    std::str::from_utf8(name.as_bytes())
        .ok()
        .and_then(Digest::from_hex)
}

fn classify(bytes: &[u8]) -> Option<Stored> {
    if let Ok(header) = PackHeader::parse(bytes) {
        let rows = header
            .rows()
            .iter()
            .map(|row| (row.digest, row.length))
            .collect();
        return Some(Stored::Pack(rows));
    }
    let header = SegmentHeader::parse(bytes.first_chunk()?).ok()?;
    match header.stream {
        Stream::Content(content) => Some(Stored::Segment {
            content,
            offset: header.offset,
            raw_bytes: header.raw_bytes() as u64,
        }),
        Stream::Literals(_) => None,
    }
}
