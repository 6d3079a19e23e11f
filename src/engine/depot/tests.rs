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

/// Stores a state of these contents, each in a pack of its own.
fn put_state(depot: &Depot, contents: &[&[u8]]) -> Roots {
    use sync_proto::entry::{Entry, Kind, Meta, Principal, Time};
    use sync_proto::manifest::Directory;
    use sync_proto::path::RelPath;
    let meta = Meta {
        mode: 0o644,
        user: Principal::Id(0),
        group: Principal::Id(0),
        mtime: Some(Time::default()),
        xattrs: None,
    };
    let entries = contents.iter().enumerate().map(|(nth, content)| {
        put_pack(depot, &[content]);
        Entry {
            name: fixed_name(format!("f{nth}").as_bytes()),
            kind: Kind::File {
                size: content.len() as u64,
                content: Digest::of(content),
            },
            meta: meta.clone(),
        }
    });
    let root = Directory {
        path: RelPath::root(),
        entries: entries.collect(),
    };
    let manifest = Manifest::new(meta.clone(), vec![root]).unwrap();
    depot.put_manifest(&manifest, manifest.roots()).unwrap();
    manifest.roots()
}

/// Bytes that don't compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn the_oldest_go_until_the_rest_fits_the_budget() {
    let (_dir, depot) = depot();
    let (a, b, c) = (noise(1, 50_000), noise(2, 50_000), noise(3, 50_000));
    let (first, second) = (put_state(&depot, &[&a]), put_state(&depot, &[&b]));
    let desired = put_state(&depot, &[&c]);
    let all = depot.bytes().unwrap();
    assert!((150_000..160_000).contains(&all), "{all}");
    let fit = |budget| depot.fit(&[desired], &[first, second], budget).unwrap();
    let nothing = fit(all);
    assert_eq!((nothing.goes, nothing.stays_bytes), (vec![], all));
    let one = fit(all - 1);
    assert_eq!(one.goes, [0]);
    assert_eq!(one.stays_bytes + one.freed_bytes, all);
    assert!((50_000..55_000).contains(&one.freed_bytes), "{one:?}");
    assert_eq!(fit(all / 2).goes, [0, 1]);
    let too_small = fit(1);
    assert_eq!(too_small.goes, [0, 1]);
    assert!(too_small.stays_bytes > 50_000, "what must stay does");
}

#[test]
fn what_costs_nothing_beside_the_rest_stays_within_any_budget() {
    let (_dir, depot) = depot();
    let (a, b) = (noise(1, 50_000), noise(2, 50_000));
    let old = put_state(&depot, &[&a]);
    let desired = put_state(&depot, &[&b]);
    // The same state as the desired one, from before a detour.
    let fit = depot.fit(&[desired], &[desired, old], 1).unwrap();
    assert_eq!(fit.goes, [1]);
    // Other states, but every content of theirs stays with a third.
    let both = put_state(&depot, &[&b, &a]);
    let fit = depot.fit(&[both], &[old, desired], 1).unwrap();
    assert_eq!(fit.goes, Vec::<usize>::new());
}

/// What a push stores, and the state's roots.
fn store(depot: &Depot, contents: &[&[u8]]) -> Result<Roots, DepotError> {
    use sync_proto::entry::{Entry, Kind, Meta, Principal, Time};
    use sync_proto::manifest::Directory;
    use sync_proto::path::RelPath;
    let meta = Meta {
        mode: 0o644,
        user: Principal::Id(0),
        group: Principal::Id(0),
        mtime: Some(Time::default()),
        xattrs: None,
    };
    let mut builder = PackBuilder::new();
    let mut entries = Vec::new();
    for (nth, content) in contents.iter().enumerate() {
        let digest = Digest::of(content);
        if depot.place(&digest, content.len() as u64)?.is_none() {
            builder.push(digest, content).unwrap();
        }
        entries.push(Entry {
            name: fixed_name(format!("f{nth}").as_bytes()),
            meta: meta.clone(),
            kind: Kind::File {
                size: content.len() as u64,
                content: digest,
            },
        });
    }
    if !builder.is_empty() {
        depot.put_object(&builder.finish(&mut PackEncoder::new(), 1).bytes)?;
    }
    let directory = Directory {
        path: RelPath::root(),
        entries,
    };
    let manifest = Manifest::new(meta, vec![directory]).unwrap();
    let roots = manifest.roots();
    depot.put_manifest(&manifest, roots)?;
    depot.sync()?;
    Ok(roots)
}

/// A push whose power went stores everything anew that isn't there in whole: what the next one
/// has synced can be read (I3 rests on that).
#[test]
fn what_an_outage_left_torn_is_not_taken_for_stored() {
    use crate::fs::power;
    let contents: Vec<Vec<u8>> = (0..4_u8)
        .map(|nth| (0..40_000_u32).map(|at| (at * 7 / 3) as u8 ^ nth).collect())
        .collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let quick = || tempfile::tempdir_in("/dev/shm").unwrap();
    let mut outages = 0;
    for seed in 0..400 {
        let first = quick();
        let depot = Depot::open(first.path()).unwrap();
        power::watch(first.path());
        power::cut_at(seed as u32 % 20);
        let stored = store(&depot, &contents);
        if stored.is_ok() {
            power::unwatch();
            continue;
        }
        outages += 1;
        let second = quick();
        power::lose_power(second.path(), seed);
        let depot = Depot::open(second.path()).unwrap();
        let roots = store(&depot, &contents).unwrap();
        drop(depot);
        let depot = Depot::open(second.path()).unwrap();
        depot
            .manifest(roots)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for content in &contents {
            let read = depot.content(&Digest::of(content));
            let read = read.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(read == *content, "seed {seed}");
        }
    }
    assert!(outages > 200, "{outages}");
}

#[test]
fn what_a_living_process_is_putting_is_left_to_it() {
    let (dir, depot) = depot();
    let id = put_pack(&depot, &[b"one"]);
    let marks = || {
        let names = std::fs::read_dir(dir.path()).unwrap();
        let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("unsynced.")).count()
    };
    assert_eq!(marks(), 1);
    let hex = id.to_hex();
    let path = dir.path().join("objects").join(&hex[..2]).join(&hex);
    std::fs::write(&path, "torn").unwrap();
    let other = Depot::open(dir.path()).unwrap();
    assert!(path.exists() && marks() == 1, "somebody is at it");
    drop(depot);
    let mended = Depot::open(dir.path()).unwrap();
    assert!(!path.exists() && marks() == 0, "nobody is");
    put_pack(&mended, &[b"two"]);
    mended.sync().unwrap();
    assert_eq!(marks(), 0);
    drop(other);
}
