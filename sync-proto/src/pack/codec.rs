//! Compression, shared by all content formats.
//!
//! Owns the only calls into zstd. Refuses to produce more than the length that was declared and
//! checked against a limit beforehand: the output buffer is allocated once at that length and
//! zstd writes straight into it. This one-shot mode has no window buffer, so a frame that asks for a huge
//! window costs nothing. A payload is exactly one frame of the current zstd format: the crate's
//! decoders for ancient formats and skippable frames are never reached.

use super::reader::{FormatError, within};
use std::borrow::Cow;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

/// The first four bytes of every zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Payloads below this are compressed without a trial.
const TRIAL_FROM_BYTES: usize = 1 << 20;
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 16 << 10;

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// One zstd frame that declares its content size.
    Zstd,
}

impl Codec {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            _ => Err(FormatError::UnknownCode {
                what: "codec",
                code: byte,
            }),
        }
    }
}

/// A compression context, reused from pack to pack: keep one per worker.
#[derive(Default)]
pub struct PackEncoder {
    context: CCtx<'static>,
}

impl PackEncoder {
    /// Allocates a context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses `raw` if that saves at least a thirty-second of it, else returns it as it is.
    pub(crate) fn encode<'a>(&mut self, raw: &'a [u8], level: i32) -> (Codec, Cow<'a, [u8]>) {
        if self.looks_compressible(raw)
            && let Some(compressed) = self.compress(raw, level)
            && pays(compressed.len(), raw.len())
        {
            return (Codec::Zstd, compressed.into());
        }
        (Codec::Stored, raw.into())
    }

    /// Tries pieces from all over a large payload, so that images at the front of a pack don't
    /// speak for the text behind them.
    fn looks_compressible(&mut self, raw: &[u8]) -> bool {
        if raw.len() < TRIAL_FROM_BYTES {
            return true;
        }
        let stride = raw.len() / SAMPLES;
        let sample: Vec<u8> = raw
            .chunks_exact(stride)
            .flat_map(|part| &part[..SAMPLE_BYTES])
            .copied()
            .collect();
        self.compress(&sample, 1)
            .is_some_and(|compressed| pays(compressed.len(), sample.len()))
    }

    /// `None` if zstd fails for whatever reason: the caller then stores the bytes.
    fn compress(&mut self, raw: &[u8], level: i32) -> Option<Vec<u8>> {
        self.context
            .set_parameter(CParameter::CompressionLevel(level))
            .ok()?;
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        self.context.compress2(&mut out, raw).ok()?;
        Some(out)
    }
}

fn pays(compressed_bytes: usize, raw_bytes: usize) -> bool {
    compressed_bytes <= raw_bytes - raw_bytes.div_ceil(32)
}

/// A decompression context, reused from pack to pack: keep one per worker.
#[derive(Default)]
pub struct PackDecoder {
    context: DCtx<'static>,
}

impl PackDecoder {
    /// Allocates a context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores exactly `raw_bytes` bytes, a number that the caller has checked against a limit.
    pub(crate) fn decode(
        &mut self,
        codec: Codec,
        payload: &[u8],
        raw_bytes: usize,
    ) -> Result<Vec<u8>, FormatError> {
        if codec == Codec::Stored {
            if payload.len() != raw_bytes {
                return Err(FormatError::Inconsistent(
                    "a stored payload of another length",
                ));
            }
            return Ok(payload.to_vec());
        }
        inflate(&mut self.context, payload, raw_bytes)
    }

    /// Restores a payload whose length isn't declared outside of it, at most `limit_bytes`.
    pub(crate) fn decode_within(
        &mut self,
        codec: Codec,
        payload: &[u8],
        limit_bytes: usize,
    ) -> Result<Vec<u8>, FormatError> {
        let raw_bytes = match codec {
            Codec::Stored => payload.len() as u64,
            Codec::Zstd => declared_bytes(payload).ok_or(FormatError::BadCompression)?,
        };
        within("raw bytes", raw_bytes, limit_bytes as u64)?;
        self.decode(codec, payload, raw_bytes as usize)
    }
}

/// Compresses `new` as what differs from `base`. The result is one frame that only restores
/// together with exactly that base. `None` if zstd fails.
pub(crate) fn encode_patch(base: &[u8], new: &[u8], level: i32) -> Option<Vec<u8>> {
    // The window must span both, or matches at the front of the base are out of reach; the long
    // distance matcher then finds them where the level's own tables are too small.
    let span = (base.len() + new.len()).next_power_of_two();
    let mut context = CCtx::try_create()?;
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(span.ilog2().clamp(10, 27)),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).ok()?;
    }
    context.ref_prefix(base).ok()?;
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(new.len()));
    context.compress2(&mut out, new).ok()?;
    Some(out)
}

/// Undoes [`encode_patch`], restoring exactly `new_bytes` bytes, a number that the caller has
/// checked against a limit. A context can't outlive the base it refers to, so none is reused.
pub(crate) fn decode_patch(
    base: &[u8],
    payload: &[u8],
    new_bytes: usize,
) -> Result<Vec<u8>, FormatError> {
    let mut context = DCtx::try_create().ok_or(FormatError::BadCompression)?;
    context
        .ref_prefix(base)
        .map_err(|_code| FormatError::BadCompression)?;
    inflate(&mut context, payload, new_bytes)
}

/// The content size in the header of a frame of the current format.
fn declared_bytes(payload: &[u8]) -> Option<u64> {
    let current = payload.starts_with(&ZSTD_MAGIC);
    current
        .then(|| zstd_safe::get_frame_content_size(payload).ok().flatten())
        .flatten()
}

fn inflate(
    context: &mut DCtx<'_>,
    payload: &[u8],
    raw_bytes: usize,
) -> Result<Vec<u8>, FormatError> {
    let as_declared = declared_bytes(payload) == Some(raw_bytes as u64);
    if !as_declared || zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len()) {
        return Err(FormatError::BadCompression);
    }
    // LIMIT: zstd never writes beyond the capacity that is given to it here.
    let mut out = Vec::with_capacity(raw_bytes);
    match context.decompress(&mut out, payload) {
        Ok(_) if out.len() == raw_bytes => Ok(out),
        _ => Err(FormatError::BadCompression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::noise;

    #[test]
    fn incompressible_bytes_are_stored_and_text_is_not() {
        let mut encoder = PackEncoder::new();
        let noise = noise(7, 2 << 20);
        assert_eq!(encoder.encode(&noise, 1).0, Codec::Stored);
        let text = b"function settings() { return []; }\n".repeat(60_000);
        let (codec, payload) = encoder.encode(&text, 1);
        assert_eq!(codec, Codec::Zstd);
        let restored = PackDecoder::new().decode(codec, &payload, text.len());
        assert_eq!(restored, Ok(text));
    }

    #[test]
    fn images_in_front_dont_speak_for_the_text_behind() {
        let mut mixed = noise(7, 1 << 20);
        mixed.extend(b"<?php return;\n".repeat(100_000));
        assert_eq!(PackEncoder::new().encode(&mixed, 1).0, Codec::Zstd);
    }

    #[test]
    fn a_bomb_is_refused_without_being_inflated() {
        let mut encoder = PackEncoder::new();
        let zeros = vec![0; 8 << 20];
        let (codec, payload) = encoder.encode(&zeros, 19);
        let mut decoder = PackDecoder::new();
        for claimed in [0, 1, 1000, (8 << 20) - 1, (8 << 20) + 1] {
            assert_eq!(
                decoder.decode(codec, &payload, claimed),
                Err(FormatError::BadCompression)
            );
        }
        // A context stays usable after a refusal.
        assert!(decoder.decode(codec, &payload, 8 << 20).is_ok());
    }

    #[test]
    fn a_frame_that_lies_about_its_content_size_is_refused() {
        let (codec, mut payload) = {
            let mut encoder = PackEncoder::new();
            let (codec, payload) = encoder.encode(&[b'a'; 200], 1);
            (codec, payload.into_owned())
        };
        // Magic, descriptor, then the content size in one byte (a single segment under 256 bytes).
        assert_eq!(payload[5], 200);
        payload[5] = 100;
        let decoded = PackDecoder::new().decode(codec, &payload, 100);
        assert_eq!(decoded, Err(FormatError::BadCompression));
    }

    #[test]
    fn second_skippable_and_ancient_frames_are_refused() {
        let (_, payload) = PackEncoder::new().encode(&[0; 1000], 1);
        let mut decoder = PackDecoder::new();
        let twice = payload.repeat(2);
        let skippable = [
            &0x184D_2A50_u32.to_le_bytes()[..],
            &[4, 0, 0, 0, 1, 2, 3, 4],
        ]
        .concat();
        let ancient = [&0xFD2F_B524_u32.to_le_bytes()[..], &[0; 16]].concat();
        for bad in [twice, skippable, ancient, Vec::new()] {
            for claimed in [0, 1000, 2000] {
                assert!(decoder.decode(Codec::Zstd, &bad, claimed).is_err());
            }
        }
    }
}
