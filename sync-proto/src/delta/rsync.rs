//! Deltas of files of 8 to 64 MiB: librsync commands computed by `fast_rsync`.
//!
//! What fast_rsync 0.2.0 does wrong with foreign input, and why none of it can happen here:
//! signatures with block size 0 or hash size 0 make `diff` loop or match too much, but every
//! signature is computed here, with constants. [`apply`] is bounded, see there. A tail shorter than
//! a block never matches, and an equal file isn't recognised as such, so what base and new have in
//! common at both ends is taken off first. Its MD4 is no proof of anything: the caller checks the
//! BLAKE3 of the result.

use super::DeltaError;
use crate::pack::codec::{Codec, PackDecoder, PackEncoder};
use fast_rsync::{Signature, SignatureOptions, apply_limited, diff};
use std::ops::Range;

/// Because the signature stays on the hub, small blocks cost only the index (by its types 5 to 10
/// MB for the longest base). From 1024 down to 512 the literals of scattered edits halve for a
/// sixth more CPU time, from 512 to 256 for a third more.
const OPTIONS: SignatureOptions = SignatureOptions {
    block_size: 512,
    crypto_hash_size: 16,
};
const BLOCK_BYTES: usize = OPTIONS.block_size as usize;
const LEVEL: i32 = 1;
/// The least that is searched before giving up: what is searched begins, by construction, with a
/// difference, which mustn't speak for the rest.
const LEAST_PROBE_BYTES: usize = 64 << 10;

const DELTA_MAGIC: [u8; 4] = 0x7273_0236_u32.to_be_bytes();
const END: u8 = 0;
/// Literal with a four-byte length.
const LITERAL_4: u8 = 0x43;
/// Copy with a four-byte offset and a four-byte length.
const COPY_4_4: u8 = 0x4F;

/// `None` if too little of `base` is in `new`.
pub(super) fn make(base: &[u8], new: &[u8], encoder: &mut PackEncoder) -> Option<(Codec, Vec<u8>)> {
    let commands = commands(base, new)?;
    // Literals compress about as well as the whole does, so raw lengths compare fairly.
    if commands.len() > new.len() / 4 * 3 {
        return None;
    }
    let (codec, payload) = encoder.encode(&commands, LEVEL);
    Some((codec, payload.into_owned()))
}

fn commands(base: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let front = common_prefix(base, new);
    let back = common_suffix(&base[front..], &new[front..]);
    let middle = &new[front..new.len() - back];
    let mut out = DELTA_MAGIC.to_vec();
    put_copy(&mut out, 0..front);
    put_middle(&mut out, base, middle)?;
    put_copy(&mut out, base.len() - back..base.len());
    out.push(END);
    Some(out)
}

/// Searches the base for `middle`, whose first eighth decides whether the rest is searched too:
/// on unrelated data that search runs at a tenth of its usual speed.
fn put_middle(out: &mut Vec<u8>, base: &[u8], middle: &[u8]) -> Option<()> {
    if middle.len() < BLOCK_BYTES {
        put_literal(out, middle);
        return Some(());
    }
    let signature = Signature::calculate(base, OPTIONS);
    let index = signature.index();
    let search = |part: &[u8]| {
        let mut delta = Vec::new();
        diff(&index, part, &mut delta).ok()?;
        // Between the magic number and the end are commands that can be strung together.
        delta.pop()?;
        delta.drain(..DELTA_MAGIC.len());
        Some(delta)
    };
    let probe_bytes = (middle.len() / 8).max(LEAST_PROBE_BYTES);
    let (eighth, rest) = middle.split_at(probe_bytes.min(middle.len()));
    let found = search(eighth)?;
    if found.len() > eighth.len() / 20 * 19 {
        put_literal(out, middle);
    } else {
        out.extend(found);
        out.extend(search(rest)?);
    }
    Some(())
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let equal = |(x, y): &(&[u8], &[u8])| x == y;
    let blocks = a.chunks_exact(BLOCK_BYTES).zip(b.chunks_exact(BLOCK_BYTES));
    let start = blocks.take_while(equal).count() * BLOCK_BYTES;
    let rest = a[start..].iter().zip(&b[start..]);
    start + rest.take_while(|(x, y)| x == y).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let equal = |(x, y): &(&[u8], &[u8])| x == y;
    let blocks = a
        .rchunks_exact(BLOCK_BYTES)
        .zip(b.rchunks_exact(BLOCK_BYTES));
    let end = blocks.take_while(equal).count() * BLOCK_BYTES;
    let rest = a[..a.len() - end]
        .iter()
        .rev()
        .zip(b[..b.len() - end].iter().rev());
    end + rest.take_while(|(x, y)| x == y).count()
}

/// Offsets and lengths fit into four bytes, because no content is over 64 MiB.
fn put_copy(out: &mut Vec<u8>, range: Range<usize>) {
    if !range.is_empty() {
        out.push(COPY_4_4);
        out.extend_from_slice(&(range.start as u32).to_be_bytes());
        out.extend_from_slice(&(range.len() as u32).to_be_bytes());
    }
}

fn put_literal(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(LITERAL_4);
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Applies commands from a peer.
///
/// `apply_limited` is enough to be safe with any bytes, as its source (fast_rsync 0.2.0,
/// `patch.rs`) shows: every read of a command, a length or a literal is checked against what is
/// left of the delta; a copy's end is computed with `checked_add` and taken with `get` from the
/// base, and a copy of nothing is an error; each output is checked against what is left of the
/// limit before it is written. So it can't panic, writes at most `new_bytes`, and ends: each turn
/// of its loop consumes at least one byte of the delta, which is itself no longer than `new_bytes`.
pub(super) fn apply(
    base: &[u8],
    codec: Codec,
    payload: &[u8],
    new_bytes: usize,
    decoder: &mut PackDecoder,
) -> Result<Vec<u8>, DeltaError> {
    let commands = decoder.decode_within(codec, payload, new_bytes)?;
    // LIMIT: as much as the manifest says, whatever the delta says.
    let mut new = Vec::with_capacity(new_bytes);
    apply_limited(base, &commands, &mut new, new_bytes).map_err(DeltaError::BadCommands)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_ends_are_exact() {
        let a: Vec<u8> = (0..3000_u32).map(|i| (i % 251) as u8).collect();
        for at in [0, 1, 511, 512, 513, 1500, 2999] {
            let mut b = a.clone();
            b[at] ^= 0xFF;
            assert_eq!(common_prefix(&a, &b), at);
            assert_eq!(common_suffix(&a, &b), 2999 - at);
        }
        assert_eq!(common_prefix(&a, &a[..700]), 700);
        assert_eq!(common_suffix(&a, &a[2300..]), 700);
    }

    #[test]
    fn bytes_put_in_front_within_or_behind_cost_themselves_and_little_more() {
        let base = crate::pack::testing::noise(1, 1 << 20);
        for at in [0, 1, 700_000, base.len()] {
            let new = [&base[..at], b"inserted", &base[at..]].concat();
            assert!(commands(&base, &new).unwrap().len() < 60);
        }
    }
}
