//! Segments: blocks of up to 4 MiB of a stream too large for a pack.
//!
//! The stream is either a whole file's content, or the literal bytes of a
//! [recipe](crate::delta::recipe), which are concatenated in the order of the new file and then
//! cut like a file. So many small literals share a segment, and all the rules below hold for both.
//!
//! # Layout (normative, version 1; numbers little-endian)
//!
//! ```text
//! offset  size  field
//!      0     4  magic "FoSg"
//!      4     1  version, 1
//!      5     1  stream: 0 a content, 1 the literals of a recipe
//!      6     1  codec: 0 stored, 1 zstd
//!      7    32  BLAKE3 of the whole content, or the recipe's id
//!     39     8  offset in the stream, a multiple of 1 MiB
//!     47     4  raw length, 1 byte to 4 MiB
//!     51     4  payload length, at most the raw length
//!     55    32  BLAKE3 of the raw bytes
//!     87     -  payload
//! ```
//!
//! Invariant: the bytes of a decoded segment have the BLAKE3 of its header. That finds damage
//! early; only the digest of the whole file, checked by the member at the end, makes it content.

use super::codec::{Codec, PackDecoder, PackEncoder};
use super::reader::{FormatError, Reader, within};
use crate::digest::Digest;
use bytes::Bytes;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"FoSg";
const VERSION: u8 = 1;

/// The length of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 87;
/// Segments start at multiples of this, and an interrupted file resumes at one.
pub const SEGMENT_ALIGN_BYTES: u64 = 1 << 20;
/// The most raw bytes in one segment. LIMIT: against a peer.
pub const MAX_SEGMENT_BYTES: usize = 4 << 20;
/// The largest file that the formats carry: what a signed file offset can express.
pub const MAX_FILE_BYTES: u64 = i64::MAX as u64;

/// Why a segment was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// The bytes break the format.
    #[error("Malformed segment: {0}")]
    Malformed(#[from] FormatError),
    /// The offset isn't a multiple of 1 MiB, or the segment ends past [`MAX_FILE_BYTES`].
    #[error("A segment can't start at byte {0}")]
    BadOffset(u64),
    /// The payload isn't what the header says.
    #[error("The segment at byte {offset} is damaged")]
    WrongContent {
        /// Where in its stream.
        offset: u64,
    },
}

/// What a segment is a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// A file's content, by its BLAKE3.
    Content(Digest),
    /// The literals of the recipe with this id.
    Literals(Digest),
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// What it is a piece of.
    pub stream: Stream,
    /// Where the piece starts in it.
    pub offset: u64,
    raw_bytes: u32,
    payload_bytes: u32,
    codec: Codec,
    raw_digest: Digest,
}

impl SegmentHeader {
    /// Reads a header; a receiver then knows how many bytes to wait for.
    pub fn parse(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, SegmentError> {
        let mut reader = Reader::open(bytes, MAGIC, VERSION)?;
        let stream_code = reader.byte()?;
        let codec = reader.codec()?;
        let digest = reader.digest()?;
        let stream = match stream_code {
            0 => Stream::Content(digest),
            1 => Stream::Literals(digest),
            code => {
                let what = "stream";
                return Err(FormatError::UnknownCode { what, code }.into());
            }
        };
        let offset = reader.u64()?;
        let limit = MAX_SEGMENT_BYTES as u64;
        let raw_bytes = within("raw bytes", reader.u32()?.into(), limit)? as u32;
        if raw_bytes == 0 {
            return Err(FormatError::Inconsistent("an empty segment").into());
        }
        check_offset(offset, raw_bytes)?;
        let payload_bytes = within("payload bytes", reader.u32()?.into(), raw_bytes.into())?;
        Ok(Self {
            stream,
            offset,
            raw_bytes,
            payload_bytes: payload_bytes as u32,
            codec,
            raw_digest: reader.digest()?,
        })
    }

    /// How many bytes of the stream it covers.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes as usize
    }

    /// How many bytes follow the header.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes as usize
    }

    /// Decompresses and verifies the payload that came with this header.
    pub fn decode(
        &self,
        payload: &[u8],
        decoder: &mut PackDecoder,
    ) -> Result<Vec<u8>, SegmentError> {
        match payload.len().checked_sub(self.payload_bytes()) {
            None => return Err(FormatError::Truncated.into()),
            Some(0) => {}
            Some(more) => return Err(FormatError::TrailingBytes(more).into()),
        }
        let raw = decoder.decode(self.codec, payload, self.raw_bytes())?;
        if Digest::of(&raw) != self.raw_digest {
            return Err(SegmentError::WrongContent {
                offset: self.offset,
            });
        }
        Ok(raw)
    }
}

fn check_offset(offset: u64, raw_bytes: u32) -> Result<(), SegmentError> {
    let end = offset.checked_add(raw_bytes.into());
    if !offset.is_multiple_of(SEGMENT_ALIGN_BYTES) || end.is_none_or(|end| end > MAX_FILE_BYTES) {
        return Err(SegmentError::BadOffset(offset));
    }
    Ok(())
}

/// Encodes 1 byte to 4 MiB of a stream, starting at a multiple of 1 MiB.
pub fn encode_segment(
    stream: Stream,
    offset: u64,
    raw: &[u8],
    encoder: &mut PackEncoder,
    level: i32,
) -> Result<Bytes, SegmentError> {
    within("raw bytes", raw.len() as u64, MAX_SEGMENT_BYTES as u64)?;
    if raw.is_empty() {
        return Err(FormatError::Inconsistent("an empty segment").into());
    }
    check_offset(offset, raw.len() as u32)?;
    let (stream_code, digest) = match stream {
        Stream::Content(digest) => (0, digest),
        Stream::Literals(digest) => (1, digest),
    };
    let (codec, payload) = encoder.encode(raw, level);
    let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, stream_code, codec.to_byte()]);
    out.extend_from_slice(digest.as_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(Digest::of(raw).as_bytes());
    out.extend_from_slice(&payload);
    Ok(out.into())
}

/// Decodes one complete segment.
pub fn decode_segment(
    segment: &[u8],
    decoder: &mut PackDecoder,
) -> Result<(SegmentHeader, Vec<u8>), SegmentError> {
    let (header, payload) = segment.split_first_chunk().ok_or(FormatError::Truncated)?;
    let header = SegmentHeader::parse(header)?;
    let raw = header.decode(payload, decoder)?;
    Ok((header, raw))
}

/// Cuts the rest of a stream of `size` bytes, from the multiple of 1 MiB at or below `from`, into
/// the offsets and lengths of its segments.
pub fn segments(from: u64, size: u64) -> impl Iterator<Item = (u64, usize)> {
    let start = from - from % SEGMENT_ALIGN_BYTES;
    (start..size).step_by(MAX_SEGMENT_BYTES).map(move |offset| {
        let length = (size - offset).min(MAX_SEGMENT_BYTES as u64);
        (offset, length as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::{damaged, noise};
    use proptest::prelude::*;

    fn encode(offset: u64, raw: &[u8]) -> Result<Bytes, SegmentError> {
        let stream = Stream::Content(Digest::of(b"file"));
        encode_segment(stream, offset, raw, &mut PackEncoder::new(), 1)
    }

    #[test]
    fn a_segment_ends_with_the_largest_file_at_the_latest() {
        let last = MAX_FILE_BYTES / SEGMENT_ALIGN_BYTES * SEGMENT_ALIGN_BYTES;
        let room = (MAX_FILE_BYTES - last) as u32;
        assert!(check_offset(last, room - 1).is_ok());
        assert!(check_offset(last, room).is_ok());
        assert!(check_offset(last, room + 1).is_err());
        assert!(check_offset(SEGMENT_ALIGN_BYTES + 1, 1).is_err());
        let beyond = u64::MAX / SEGMENT_ALIGN_BYTES * SEGMENT_ALIGN_BYTES;
        assert!(check_offset(beyond, u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn a_segment_comes_back_with_its_place(
            raw in prop::collection::vec(any::<u8>(), 1..3000),
            block in 0..(1_u64 << 43),
            literals: bool,
        ) {
            let digest = Digest::of(b"x");
            let stream = if literals { Stream::Literals(digest) } else { Stream::Content(digest) };
            let offset = block.saturating_sub(1) << 20;
            let segment =
                encode_segment(stream, offset, &raw, &mut PackEncoder::new(), 3).unwrap();
            let (header, back) = decode_segment(&segment, &mut PackDecoder::new()).unwrap();
            prop_assert_eq!((header.stream, header.offset), (stream, offset));
            prop_assert_eq!(back, raw);
        }

        #[test]
        fn segments_cover_the_rest_of_a_file_exactly(size in 0..40_u64 << 20, from in 0..50_u64 << 20) {
            let mut at = from - from % SEGMENT_ALIGN_BYTES;
            for (offset, length) in segments(from, size) {
                prop_assert_eq!(offset, at);
                prop_assert!(encode(offset, &[0]).is_ok());
                prop_assert!((1..=MAX_SEGMENT_BYTES).contains(&length));
                at += length as u64;
            }
            prop_assert!(at == size || at >= size && from >= size - size % SEGMENT_ALIGN_BYTES);
        }
    }

    #[test]
    fn the_layout_is_what_the_module_documents() {
        let segment = encode(3 << 20, b"abc").unwrap();
        let expected = [
            &b"FoSg"[..],
            &[1, 0, 0],
            Digest::of(b"file").as_bytes(),
            &[0, 0, 0x30, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0],
            &[3, 0, 0, 0],
            Digest::of(b"abc").as_bytes(),
            b"abc",
        ]
        .concat();
        assert_eq!(segment, expected);
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let text = b"INSERT INTO node VALUES (1);\n".repeat(30);
        for raw in [&text[..], &noise(3, 400)] {
            let good = encode(1 << 20, raw).unwrap();
            for bad in damaged(&good) {
                if let Ok((_, back)) = decode_segment(&bad, &mut PackDecoder::new()) {
                    // A flip in the stream's name or offset can't be seen here, only in the raw bytes.
                    assert_eq!(back, raw);
                    assert_eq!(bad.len(), good.len());
                }
            }
        }
    }

    #[test]
    fn odd_places_and_sizes_are_refused_on_both_sides() {
        for offset in [1, (1 << 20) - 1, u64::MAX, MAX_FILE_BYTES, 1 << 63] {
            assert_eq!(encode(offset, b"x"), Err(SegmentError::BadOffset(offset)));
            let mut forged = encode(0, b"x").unwrap().to_vec();
            forged[39..47].copy_from_slice(&offset.to_le_bytes());
            assert_eq!(
                decode_segment(&forged, &mut PackDecoder::new()),
                Err(SegmentError::BadOffset(offset))
            );
        }
        assert!(encode(0, b"").is_err());
        assert!(encode(0, &vec![0; MAX_SEGMENT_BYTES + 1]).is_err());
        assert!(encode(0, &vec![0; MAX_SEGMENT_BYTES]).is_ok());
        for (raw_bytes, payload_bytes) in [(0_u32, 0_u32), (u32::MAX, 1), (1, 2), (2, 1)] {
            let mut forged = encode(0, b"x").unwrap().to_vec();
            forged[47..51].copy_from_slice(&raw_bytes.to_le_bytes());
            forged[51..55].copy_from_slice(&payload_bytes.to_le_bytes());
            assert!(decode_segment(&forged, &mut PackDecoder::new()).is_err());
        }
    }
}
