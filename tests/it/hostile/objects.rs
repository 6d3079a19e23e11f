//! Objects: what is no object of the formats, what doesn't fit the others, and what was never asked
//! for. Nothing of it is ever live.

use super::peer::{CONTENT_BYTES, Comes, Row, Sends, Until, content, play, row};
use super::victim::{GROWTH_KIB, Victim};
use sync_proto::digest::Digest;
use sync_proto::pack::segment::{Stream, encode_segment};
use sync_proto::pack::{PackBuilder, PackEncoder};
use sync_proto::wire::{self, ObjectHeader};

/// Staging is given up; the session goes on.
const FAILS: Comes = Comes::Refused("FX0311");

fn object(header: &ObjectHeader, body: Vec<u8>) -> Sends {
    Sends::Object(wire::encode(header).unwrap(), body)
}

fn pack(body: Vec<u8>) -> Vec<Sends> {
    vec![object(&ObjectHeader::Pack, body)]
}

fn segment(body: Vec<u8>) -> Vec<Sends> {
    vec![object(&ObjectHeader::Segment, body)]
}

fn good_pack() -> Vec<u8> {
    let mut builder = PackBuilder::new();
    let bytes = b"nobody asked for this";
    builder.push(Digest::of(bytes), bytes).unwrap();
    builder.finish(&mut PackEncoder::new(), 1).bytes.to_vec()
}

fn good_segment(stream: Stream, offset: u64, fill: u8) -> Vec<u8> {
    let raw = vec![fill; 1 << 20];
    let segment = encode_segment(stream, offset, &raw, &mut PackEncoder::new(), 1);
    segment.unwrap().to_vec()
}

fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn recipe(offset: u64, total: u64, body: Vec<u8>) -> Sends {
    let header = ObjectHeader::Recipe {
        content: content(),
        base: Digest::of(b"no such base"),
        offset,
        total,
    };
    object(&header, body)
}

fn rows() -> Vec<Row> {
    let staging = Until::Staging;
    let of_content = || good_segment(Stream::Content(content()), 0, 1);
    let stray = |nth: u8| {
        let stream = Stream::Literals(Digest::of(&[nth]));
        object(&ObjectHeader::Segment, good_segment(stream, 0, nth))
    };
    let ahead = |nth: u64| {
        let stream = Stream::Content(content());
        object(
            &ObjectHeader::Segment,
            good_segment(stream, nth << 20, nth as u8),
        )
    };
    let whole = |fill: u8| {
        (0..CONTENT_BYTES >> 20).map(move |nth| {
            let segment = good_segment(Stream::Content(content()), nth << 20, fill);
            object(&ObjectHeader::Segment, segment)
        })
    };
    let bomb = {
        let payload = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        let mut body = b"FoPk\x01\x01".to_vec();
        body.extend_from_slice(&(64_u32 << 20).to_le_bytes());
        body.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        body.extend_from_slice(&1_u32.to_le_bytes());
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0x80, 0x80, 0x80, 0x20]);
        body.extend_from_slice(&payload);
        body
    };
    // Says 1 MiB and grows to 64.
    let liar = with(bomb.clone(), 6, &(1_u32 << 20).to_le_bytes());
    let liar = with(liar, 50, &[0x80, 0x80, 0x40])
        .into_iter()
        .collect::<Vec<u8>>();
    let batch = |rows: u32, length: &[u8]| {
        let mut body = b"FoDb\x01".to_vec();
        body.extend_from_slice(&rows.to_le_bytes());
        body.extend_from_slice(&[1; 32]);
        body.extend_from_slice(&[2; 32]);
        body.push(1);
        body.extend_from_slice(length);
        body.push(1);
        body.push(0);
        vec![object(&ObjectHeader::Delta, body)]
    };
    vec![
        row(
            "no header",
            staging,
            vec![Sends::Object(vec![], vec![1; 9])],
            FAILS,
        ),
        row(
            "a header of noise",
            staging,
            vec![Sends::Object(vec![77; 9], vec![1; 9])],
            FAILS,
        ),
        row(
            "a header above 1 KiB",
            staging,
            vec![Sends::Object(vec![0; 1025], vec![1; 9])],
            FAILS,
        ),
        row("a pack of noise", staging, pack(vec![3; 5000]), FAILS),
        row("no pack", staging, pack(Vec::new()), FAILS),
        row(
            "a pack of another version",
            staging,
            pack(with(good_pack(), 4, &[2])),
            FAILS,
        ),
        row(
            "a pack with bytes behind it",
            staging,
            pack([good_pack(), vec![0]].concat()),
            FAILS,
        ),
        row(
            "a pack with too many rows",
            staging,
            pack(with(good_pack(), 14, &[0xFF; 4])),
            FAILS,
        ),
        row("a pack that is a bomb", staging, pack(bomb), FAILS),
        row(
            "a pack that grows further than it says",
            staging,
            pack(liar),
            FAILS,
        ),
        row(
            "a pack with another content than it says",
            staging,
            pack(with(good_pack(), 18, &[9; 32])),
            FAILS,
        ),
        row(
            "a pack that nobody asked for",
            staging,
            pack(good_pack()),
            Comes::Nothing,
        ),
        row("a segment of noise", staging, segment(vec![3; 5000]), FAILS),
        row(
            "a cut segment",
            staging,
            segment(of_content()[..80].to_vec()),
            FAILS,
        ),
        row(
            "a segment at an odd offset",
            staging,
            segment(with(of_content(), 39, &[1])),
            FAILS,
        ),
        row(
            "a segment beyond any file",
            staging,
            segment(with(of_content(), 39, &[0, 0, 0, 0, 0, 0, 0, 0xFF])),
            FAILS,
        ),
        row(
            "a segment above 4 MiB",
            staging,
            segment(with(of_content(), 47, &[0xFF; 4])),
            FAILS,
        ),
        row(
            "a segment with other bytes than it says",
            staging,
            segment(with(of_content(), 55, &[9; 32])),
            FAILS,
        ),
        row(
            "a segment that nobody asked for",
            staging,
            segment(good_segment(Stream::Content(Digest::of(b"x")), 0, 1)),
            Comes::Nothing,
        ),
        row(
            "literals without their recipe",
            staging,
            (0..30).map(stray).collect(),
            FAILS,
        ),
        row(
            "blocks that never meet",
            staging,
            (1..30).map(ahead).collect(),
            FAILS,
        ),
        row(
            "a file of other bytes than announced",
            staging,
            whole(1).collect(),
            Comes::Nothing,
        ),
        row("a batch without deltas", staging, batch(0, &[1]), FAILS),
        row(
            "a delta above 64 MiB",
            staging,
            batch(1, &[0xFF, 0xFF, 0xFF, 0x7F]),
            FAILS,
        ),
        row(
            "a delta that nobody asked for",
            staging,
            batch(1, &[1]),
            Comes::Nothing,
        ),
        row(
            "a recipe above its limit",
            staging,
            vec![recipe(0, u64::MAX, vec![1])],
            FAILS,
        ),
        row(
            "a part of nothing",
            staging,
            vec![recipe(0, 100, Vec::new())],
            FAILS,
        ),
        row(
            "a part beyond its end",
            staging,
            vec![recipe(99, 100, vec![1; 2])],
            FAILS,
        ),
        row(
            "parts that overlap",
            staging,
            vec![recipe(0, 100, vec![1; 10]), recipe(5, 100, vec![1; 10])],
            FAILS,
        ),
        row(
            "parts of two minds",
            staging,
            vec![recipe(0, 100, vec![1; 10]), recipe(10, 90, vec![1; 10])],
            FAILS,
        ),
        row(
            "a recipe of noise",
            staging,
            vec![recipe(0, 100, vec![1; 100])],
            FAILS,
        ),
    ]
}

#[test]
fn objects_that_break_a_format_fail_the_staging_and_nothing_else() {
    let mut victim = Victim::start(&[], GROWTH_KIB);
    play(&mut victim, rows());
    let root = victim.world.live(0, "hostile");
    let entries = std::fs::read_dir(root).unwrap().count();
    assert_eq!(entries, 0, "something of a hostile push is live");
}

/// Objects that come while none are due are dropped, however many.
#[test]
fn objects_that_nobody_waits_for_are_dropped() {
    let mut victim = Victim::start(&[("memory_bytes", 64 << 20)], 128 * 1024);
    let flood = || {
        (0..40)
            .map(|_| object(&ObjectHeader::Pack, vec![7; 4 << 20]))
            .collect()
    };
    let rows = vec![
        row(
            "160 MiB when greeted",
            Until::Greeted,
            flood(),
            Comes::Nothing,
        ),
        row(
            "160 MiB when opened",
            Until::Opened,
            flood(),
            Comes::Nothing,
        ),
    ];
    play(&mut victim, rows);
}
