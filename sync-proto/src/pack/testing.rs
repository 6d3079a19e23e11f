//! Inputs for this crate's own tests.

/// Incompressible bytes that are the same on every run.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Every proper prefix (all of them up to 300 bytes, then a spread), and every single-bit flip of
/// the first 300 bytes and of a spread beyond: what hostile-input tests run through a parser.
pub(crate) fn damaged(good: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let positions = || (0..good.len()).filter(|at| *at < 300 || at % 97 == 0);
    let truncated = positions().map(|end| good[..end].to_vec());
    let flipped = positions().flat_map(move |at| {
        (0..8).map(move |bit| {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            bad
        })
    });
    let longer = std::iter::once([good, &[0]].concat());
    truncated.chain(flipped).chain(longer)
}
