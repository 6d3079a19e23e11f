//! Deltas and batches end to end, and against hostile input.

use super::batch::{BatchBuilder, parse_batch};
use super::*;
use crate::pack::testing::{damaged, noise};
use crate::pack::{MAX_RAW_BYTES, Pack};
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn delta(base: &[u8], new: &[u8]) -> Option<Delta> {
    let mut encoder = PackEncoder::new();
    make_delta(Version::of(base), Version::of(new), &mut encoder)
}

/// As [`make_delta`] does for files too long for a patch, but for short ones, to be quick.
fn rsync_delta(base: &[u8], new: &[u8]) -> Option<Delta> {
    let (codec, payload) = rsync::make(base, new, &mut PackEncoder::new())?;
    Some(forged(Method::Rsync(codec), &payload, new))
}

type Make = fn(&[u8], &[u8]) -> Option<Delta>;
/// Both ways of making a delta.
const WAYS: [Make; 2] = [delta, rsync_delta];

fn apply(base: &[u8], delta: &Delta) -> Result<Vec<u8>, DeltaError> {
    let mut decoder = PackDecoder::new();
    apply_delta(
        base,
        delta,
        delta.new_bytes(),
        delta.content(),
        &mut decoder,
    )
}

fn batch(deltas: impl IntoIterator<Item = Delta>) -> Pack {
    let mut builder = BatchBuilder::new();
    for delta in deltas {
        builder.push(delta).unwrap();
    }
    builder.finish().unwrap()
}

/// A delta with whatever payload a hostile hub likes.
fn forged(method: Method, payload: &[u8], new: &[u8]) -> Delta {
    Delta {
        base: Digest::of(b""),
        new: Digest::of(new),
        new_bytes: new.len() as u32,
        method,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// `base` with `edits` overwritten, then `insert` put at `at`.
fn edited(base: &[u8], edits: &[usize], at: usize, insert: &[u8]) -> Vec<u8> {
    let mut new = base.to_vec();
    for edit in edits {
        let place = edit % new.len();
        new[place] = !new[place];
    }
    let at = at % new.len();
    new.splice(at..at, insert.iter().copied());
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_changed_file_comes_back_by_patch_or_by_commands(
        seed: u64,
        size in 2_000_usize..200_000,
        edits in prop::collection::vec(any::<usize>(), 0..6),
        at: usize,
        insert in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let base = noise(seed, size);
        let new = edited(&base, &edits, at, &insert);
        for make in WAYS {
            // Many edits in a short file leave no block as it was.
            let Some(delta) = make(&base, &new) else {
                prop_assert!(edits.len() * 1024 > size / 5);
                continue;
            };
            prop_assert!(delta.payload_bytes() < 2500 + edits.len() * 1300);
            let parsed = parse_batch(&batch([delta.clone()]).bytes).unwrap();
            prop_assert_eq!(&parsed, &[delta]);
            prop_assert_eq!(apply(&base, &parsed[0]).unwrap(), new.clone());
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic_nor_pass(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let commands = [&0x7273_0236_u32.to_be_bytes()[..], &payload].concat();
        let frame = [&0xFD2F_B528_u32.to_le_bytes()[..], &payload].concat();
        let base = noise(1, 5000);
        for new_bytes in [1, 300, 100_000] {
            let new = noise(2, new_bytes);
            for (method, payload) in [
                (Method::Patch, &frame),
                (Method::Rsync(Codec::Stored), &commands),
                (Method::Rsync(Codec::Zstd), &frame),
            ] {
                prop_assert!(apply(&base, &forged(method, payload, &new)).is_err());
            }
        }
    }

    #[test]
    fn arbitrary_batches_are_refused_without_a_panic(
        tail in prop::collection::vec(any::<u8>(), 0..400),
        rows in 0_u32..4,
    ) {
        let bytes = [&b"FoDb\x01"[..], &rows.to_le_bytes(), &tail].concat();
        if let Ok(deltas) = parse_batch(&bytes.clone().into()) {
            prop_assert_eq!(batch(deltas).bytes, bytes);
        }
    }
}

#[test]
fn the_layout_of_a_batch_is_what_the_module_documents() {
    let make = |new: &[u8], method, payload: &[u8]| forged(method, payload, new);
    let batch = batch([
        make(&[7; 300], Method::Patch, b"abc"),
        make(b"other", Method::Rsync(Codec::Zstd), b"d"),
    ]);
    let expected = [
        &b"FoDb\x01\x02\0\0\0"[..],
        Digest::of(b"").as_bytes(),
        Digest::of(&[7; 300]).as_bytes(),
        &[0, 0xAC, 0x02, 3],
        Digest::of(b"").as_bytes(),
        Digest::of(b"other").as_bytes(),
        &[2, 5, 1],
        b"abcd",
    ]
    .concat();
    assert_eq!(batch.bytes, expected);
    assert_eq!(batch.id, Digest::of(&expected));
}

#[test]
fn what_has_little_in_common_goes_whole() {
    let (base, mut new) = (noise(1, 100_000), noise(2, 100_000));
    for make in WAYS {
        assert!(make(&base, &new).is_none());
        // A twentieth in common isn't enough either.
        new[..5000].copy_from_slice(&base[..5000]);
        assert!(make(&base, &new).is_none());
    }
    let text = |n: u32| {
        (0..2000)
            .map(|i| format!("row {}\n", i * n))
            .collect::<String>()
    };
    assert!(delta(text(3).as_bytes(), text(7).as_bytes()).is_none());
}

#[test]
fn too_small_and_too_large_files_go_whole() {
    assert!(delta(&[1; 1023], &[1; 1023]).is_none());
    assert!(delta(&[1; 2000], &vec![1; MAX_DELTA_BYTES + 1]).is_none());
    assert!(delta(&vec![1; MAX_DELTA_BYTES + 1], &[1; 2000]).is_none());
    assert!(delta(b"", &noise(1, 5000)).is_none());
}

#[test]
fn the_size_decides_between_patch_and_commands() {
    let base = noise(1, MAX_PATCH_BYTES);
    let longer = [&base[..], b"x"].concat();
    assert_eq!(delta(&longer, &base).unwrap().method, Method::Patch);
    let by_commands = delta(&base, &longer).unwrap();
    assert!(matches!(by_commands.method, Method::Rsync(_)));
    assert_eq!(apply(&base, &by_commands).unwrap(), longer);
}

#[test]
fn zeros_and_equal_files_make_tiny_deltas() {
    for (base_bytes, new_bytes) in [(MIB, MIB), (MIB / 2, MIB), (MIB, 2000)] {
        let (base, new) = (vec![0; base_bytes], vec![0; new_bytes]);
        for make in WAYS {
            let delta = make(&base, &new).unwrap();
            assert!(delta.payload_bytes() < 200, "{}", delta.payload_bytes());
            assert_eq!(apply(&base, &delta).unwrap(), new);
        }
    }
}

#[test]
fn a_wrong_base_or_another_wish_is_an_error() {
    let base = noise(1, 50_000);
    let new = edited(&base, &[25_000], 9, b"insert");
    let mut wrong = base.clone();
    wrong[15_000] ^= 1;
    let long = vec![0; MAX_DELTA_BYTES + 1];
    for make in WAYS {
        let delta = make(&base, &new).unwrap();
        for wrong in [&wrong[..], &base[..25_000], b""] {
            assert!(apply(wrong, &delta).is_err());
        }
        assert!(matches!(apply(&long, &delta), Err(DeltaError::LongBase(_))));
        let wish = Digest::of(b"wish");
        for (bytes, digest) in [
            (delta.new_bytes() + 1, delta.content()),
            (delta.new_bytes(), wish),
        ] {
            assert!(matches!(
                apply_delta(&base, &delta, bytes, digest, &mut PackDecoder::new()),
                Err(DeltaError::Unexpected { .. })
            ));
        }
    }
}

#[test]
fn commands_that_make_too_much_are_stopped_at_the_expected_size() {
    let base = vec![7; 1 << 20];
    let mut commands = 0x7273_0236_u32.to_be_bytes().to_vec();
    for _ in 0..1000 {
        commands.extend_from_slice(&[0x4F, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    }
    commands.push(0);
    let payload = PackEncoder::new().encode(&commands, 3).1.into_owned();
    for (codec, payload) in [(Codec::Stored, &commands), (Codec::Zstd, &payload)] {
        let bomb = forged(Method::Rsync(codec), payload, &noise(1, 20_000));
        assert!(matches!(
            apply(&base, &bomb),
            Err(DeltaError::BadCommands(_))
        ));
    }
    // A zstd payload that inflates past the size of the result isn't even inflated.
    let zeros = vec![0; MIB];
    let (codec, payload) = PackEncoder::new().encode(&zeros, 3);
    let bomb = forged(Method::Rsync(codec), &payload, &noise(1, 20_000));
    assert!(matches!(
        apply(&base, &bomb),
        Err(DeltaError::Malformed(FormatError::OverLimit { .. }))
    ));
}

#[test]
fn damage_to_a_batch_never_yields_a_wrong_content() {
    let base = noise(1, 20_000);
    let new = edited(&base, &[500, 15_000], 100, b"insert");
    let good = batch([
        delta(&base, &new).unwrap(),
        rsync_delta(&base, &edited(&base, &[7000], 0, b"")).unwrap(),
    ]);
    let wish = (new.len() as u64, Digest::of(&new));
    let decoder = &mut PackDecoder::new();
    for bad in damaged(&good.bytes) {
        // What the manifest asks for doesn't change with the hub's bytes.
        for delta in parse_batch(&bad.into()).unwrap_or_default() {
            if let Ok(made) = apply_delta(&base, &delta, wish.0, wish.1, decoder) {
                assert_eq!(made, new);
            }
            // A damaged hub may also ask for something else; that fails or is what it asked for.
            if let Ok(made) = apply(&base, &delta) {
                assert_eq!(Digest::of(&made), delta.content());
            }
        }
    }
}

#[test]
fn a_batch_is_full_at_its_limit_but_takes_one_delta_of_any_length() {
    let big = forged(
        Method::Patch,
        &vec![1; MAX_RAW_BYTES + 1],
        &vec![0; 2 * MAX_RAW_BYTES],
    );
    let small = forged(Method::Patch, b"x", b"small");
    let mut builder = BatchBuilder::new();
    builder.push(big.clone()).unwrap();
    builder.push(big.clone()).unwrap();
    assert_eq!(builder.push(small.clone()), Err(small.clone()));
    let alone = builder.finish().unwrap();
    assert_eq!(parse_batch(&alone.bytes).unwrap(), [big]);

    // Two rows with more than that are refused by a receiver.
    let rows = [small.clone(), forged(Method::Patch, b"y", b"other")];
    let mut greedy = batch(rows).bytes.to_vec();
    greedy.extend(vec![0; 5 * MIB]);
    let lengths_at = 9 + 65 + 1;
    assert_eq!(&greedy[lengths_at - 1..=lengths_at], [5, 1]);
    let five_mib = [0x80, 0x80, 0xC0, 0x02];
    greedy.splice(lengths_at - 1..=lengths_at, [five_mib, five_mib].concat());
    assert!(matches!(
        parse_batch(&greedy.into()),
        Err(FormatError::OverLimit { .. })
    ));
    assert!(BatchBuilder::new().finish().is_none());
}

#[test]
fn the_smallest_rows_fill_a_batch_to_its_last_byte() {
    let small = |n: u8| forged(Method::Patch, &[n], &[n]);
    let sealed = batch([small(1), small(2)]);
    assert_eq!(sealed.bytes.len(), 9 + 2 * 68);
    assert_eq!(parse_batch(&sealed.bytes).unwrap(), [small(1), small(2)]);
    let mut promised = sealed.bytes.to_vec();
    promised[5] = 3;
    assert!(parse_batch(&promised.into()).is_err());
}

#[test]
fn a_batch_is_full_at_its_limit_and_not_before() {
    let (half, rest) = (vec![1; MAX_RAW_BYTES / 2], vec![2; MAX_RAW_BYTES / 2]);
    let mut builder = BatchBuilder::new();
    builder.push(forged(Method::Patch, &half, &half)).unwrap();
    builder.push(forged(Method::Patch, &rest, &rest)).unwrap();
    assert_eq!(builder.payload_bytes(), MAX_RAW_BYTES);
    let one_more = forged(Method::Patch, b"x", b"x");
    assert_eq!(builder.push(one_more.clone()), Err(one_more));
    assert_eq!(
        parse_batch(&builder.finish().unwrap().bytes).unwrap().len(),
        2
    );
}
