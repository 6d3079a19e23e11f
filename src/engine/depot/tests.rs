use super::*;
use std::collections::HashSet;
use sync_proto::manifest::Content;
use sync_proto::pack::segment::encode_segment;
use sync_proto::pack::segment::{Stream, segments};
use sync_proto::pack::{PackBuilder, PackEncoder};

fn depot() -> (tempfile::TempDir, Depot) {
    let dir = tempfile::tempdir().unwrap();
    let depot = Depot::open(dir.path()).unwrap();
    (dir, depot)
}

fn put_pack(depot: &Depot, contents: &[&[u8]]) -> Digest {
    let mut builder = PackBuilder::new();
    for content in contents {
        builder.push(Digest::of(content), content).unwrap();
    }
    let pack = builder.finish(&mut PackEncoder::new(), 1);
    assert_eq!(depot.put_object(&pack.bytes).unwrap(), pack.id);
    pack.id
}

#[test]
fn a_content_is_found_in_its_pack_after_a_restart() {
    let (dir, depot) = depot();
    put_pack(&depot, &[b"one", b"two"]);
    drop(depot);
    let depot = Depot::open(dir.path()).unwrap();
    assert_eq!(depot.content(&Digest::of(b"two")).unwrap(), b"two");
    assert!(matches!(
        depot.content(&Digest::of(b"three")),
        Err(DepotError::NoContent(_))
    ));
}

#[test]
fn a_content_in_segments_is_there_only_in_whole() {
    let (_dir, depot) = depot();
    let content: Vec<u8> = (0..9_000_000_u32).map(|i| (i / 7) as u8).collect();
    let digest = Digest::of(&content);
    let mut encoder = PackEncoder::new();
    for (offset, length) in segments(0, content.len() as u64) {
        assert_eq!(depot.place(&digest, content.len() as u64).unwrap(), None);
        let raw = &content[offset as usize..offset as usize + length];
        let segment =
            encode_segment(Stream::Content(digest), offset, raw, &mut encoder, 1).unwrap();
        depot.put_object(&segment).unwrap();
    }
    assert_eq!(depot.content(&digest).unwrap(), content);
}

#[test]
fn a_damaged_object_is_never_handed_out() {
    let (dir, depot) = depot();
    let id = put_pack(&depot, &[b"precious"]);
    let path = dir
        .path()
        .join("objects")
        .join(&id.to_hex()[..2])
        .join(id.to_hex());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(depot.object(&id), Err(DepotError::Damaged(_))));
    assert!(depot.content(&Digest::of(b"precious")).is_err());
}

#[test]
fn a_collection_keeps_what_is_needed_and_nothing_else() {
    let (dir, depot) = depot();
    put_pack(&depot, &[b"kept", b"rest"]);
    let gone = put_pack(&depot, &[b"gone"]);
    std::fs::write(
        dir.path()
            .join("objects")
            .join(&gone.to_hex()[..2])
            .join("tmp.1.1"),
        b"x",
    )
    .unwrap();
    let kept = HashSet::from([Digest::of(b"kept")]);
    let collected = depot.collect(&HashSet::new(), &kept).unwrap();
    assert_eq!(collected.removed_files, 2);
    assert!(depot.content(&Digest::of(b"kept")).is_ok());
    assert!(depot.content(&Digest::of(b"gone")).is_err());
    assert!(depot.object(&gone).is_err());
}

#[test]
fn what_is_spooled_is_handed_out_only_with_the_right_hash() {
    let (dir, depot) = depot();
    let bytes = vec![7; 3 << 20];
    let content = Content {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let spool = |parts: &[&[u8]]| {
        let mut spool = depot.spool().unwrap();
        parts.iter().for_each(|part| spool.append(part).unwrap());
        spool.finish(&content)
    };
    let (front, back) = bytes.split_at(1_000_000);
    let spooled = spool(&[front, back]).unwrap();
    assert_eq!(spooled.range(999_990, 20).unwrap(), vec![7; 20]);
    let mut wrong = back.to_vec();
    wrong[5] ^= 1;
    assert!(spool(&[front, &wrong]).is_none(), "one bit differs");
    assert!(spool(&[front]).is_none(), "the end is missing");
    assert!(spool(&[front, back, b"!"]).is_none(), "it is too long");
    let files = walkdir::WalkDir::new(dir.path()).into_iter();
    let left = files.filter(|it| it.as_ref().is_ok_and(|it| it.file_type().is_file()));
    assert_eq!(left.count(), 0, "a spool has no name");
}
