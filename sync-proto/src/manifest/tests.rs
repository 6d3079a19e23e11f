use super::codec::{MAX_PRINCIPAL_BYTES, MAX_TARGET_BYTES, MAX_XATTR_BYTES, MAX_XATTRS};
use super::*;
use crate::entry::{Principal, Time, Xattrs};

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        user: Principal::Name("root".into()),
        group: Principal::Id(33),
        mtime: Some(Time {
            seconds: -5,
            nanoseconds: 7,
        }),
        xattrs: Some(Arc::new(vec![(b"user.a"[..].into(), b"\0"[..].into())])),
    }
}

fn entry(name: &str, kind: Kind) -> Entry {
    Entry {
        name: Name::parse(name.as_bytes()).unwrap(),
        kind,
        meta: meta(0o644),
    }
}

fn file(name: &str, content: &str) -> Entry {
    let kind = Kind::File {
        size: content.len() as u64,
        content: Digest::of(content.as_bytes()),
    };
    entry(name, kind)
}

fn path(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

fn sample() -> Manifest {
    let root = vec![
        file("a", "one"),
        entry("d", Kind::Directory),
        entry(
            "d-",
            Kind::Symlink {
                target: b"../x"[..].into(),
            },
        ),
        entry("p", Kind::Fifo),
        entry(
            "z",
            Kind::CharDevice {
                major: 1,
                minor: 300,
            },
        ),
    ];
    let mut link = entry("b", Kind::HardLink { leader: path("a") });
    link.meta = Meta {
        mode: 0,
        user: Principal::Id(0),
        group: Principal::Id(0),
        mtime: None,
        xattrs: None,
    };
    let inner = vec![file("a", "two"), link];
    Manifest::new(
        meta(0o755),
        vec![
            Directory {
                path: RelPath::root(),
                entries: root,
            },
            Directory {
                path: path("d"),
                entries: inner,
            },
        ],
    )
    .unwrap()
}

#[test]
fn a_manifest_survives_its_encoding() {
    let manifest = sample();
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn damaged_bytes_never_panic_and_never_pass_for_the_same_tree() {
    let manifest = sample();
    let bytes = manifest.encode();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(other) = Manifest::decode(&damaged) {
                assert_ne!(other.roots(), manifest.roots(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn metadata_moves_only_the_metadata_root() {
    let old = sample();
    let mut directories = old.directories().to_vec();
    Arc::make_mut(&mut directories[0]).entries[0].meta.mode = 0o600;
    let new = Manifest::new(meta(0o755), directories).unwrap();
    assert_eq!(old.roots().content, new.roots().content);
    assert_ne!(old.roots().meta, new.roots().meta);
    let differences = diff(&old, &new);
    assert_eq!(differences.len(), 1);
    assert!(matches!(differences[0].change, Change::Meta { .. }));
}

#[test]
fn a_diff_names_what_came_went_and_changed() {
    let old = sample();
    let mut directories = old.directories().to_vec();
    directories.truncate(1);
    let root = Arc::make_mut(&mut directories[0]);
    root.entries[1] = file("d", "now a file");
    root.entries.push(file("zz", "new"));
    let new = Manifest::new(meta(0o755), directories).unwrap();
    let found: Vec<_> = diff(&old, &new)
        .iter()
        .map(|d| {
            let sort = match d.change {
                Change::Added(_) => '+',
                Change::Removed(_) => '-',
                Change::Replaced { .. } => '~',
                Change::Meta { .. } => 'm',
            };
            format!("{sort}{}", d.path)
        })
        .collect();
    assert_eq!(found, ["~d", "+zz", "-d/a", "-d/b"]);
}

#[test]
fn broken_structures_are_refused() {
    let directory = |p: &str, entries| Directory {
        path: path(p),
        entries,
    };
    let new = |directories| Manifest::new(meta(0o755), directories).unwrap_err();
    assert!(matches!(new(vec![]), ManifestError::Orphan(_)));
    assert!(matches!(
        new(vec![directory("", vec![file("b", ""), file("a", "")])]),
        ManifestError::Unsorted(_)
    ));
    assert!(matches!(
        new(vec![directory("", vec![file("a", ""), file("a", "")])]),
        ManifestError::Unsorted(_)
    ));
    assert!(matches!(
        new(vec![directory("", vec![entry("d", Kind::Directory)])]),
        ManifestError::Orphan(_)
    ));
    assert!(matches!(
        new(vec![directory("", vec![]), directory("d", vec![])]),
        ManifestError::Orphan(_)
    ));
    assert!(matches!(
        new(vec![directory("", vec![file(".fanout", "")])]),
        ManifestError::Reserved
    ));
    let link = entry("a", Kind::HardLink { leader: path("b") });
    assert!(matches!(
        new(vec![directory("", vec![link, file("b", "")])]),
        ManifestError::Leader(_)
    ));
}

#[test]
fn a_tree_that_shares_directories_hashes_as_one_that_does_not() {
    let old = sample();
    let known = old.roots();
    let same = Manifest::like(&old, old.root_meta().clone(), old.directories().to_vec()).unwrap();
    assert_eq!((&same, same.roots()), (&old, known));
    assert!(std::ptr::eq(same.directories(), old.directories()));

    let mut directories = old.directories().to_vec();
    Arc::make_mut(&mut directories[0]).entries[0].meta.mode = 0o600;
    let fresh = Manifest::new(meta(0o755), directories.clone()).unwrap();
    let shared = Manifest::like(&old, meta(0o755), directories).unwrap();
    assert_eq!(shared.roots(), fresh.roots());
    assert_ne!(shared.roots(), known);
    assert!(shared.digests().len() > 1);
    // The root's metadata alone.
    let root = Manifest::like(&old, meta(0o700), old.directories().to_vec()).unwrap();
    assert_ne!(root.roots().meta, known.meta);
    assert_eq!(root.roots().content, known.content);
    // A directory less: what follows is still found.
    let mut fewer = old.directories().to_vec();
    let gone = fewer.remove(1);
    let name = gone.path.file_name().unwrap();
    let parent = gone.path.parent().unwrap();
    let at = fewer.iter().position(|it| it.path == parent).unwrap();
    Arc::make_mut(&mut fewer[at])
        .entries
        .retain(|it| it.name != name);
    fewer.retain(|it| !it.path.is_within(&gone.path));
    let fewer = fewer.into_iter().collect::<Vec<_>>();
    let fresh = Manifest::new(meta(0o755), fewer.clone()).unwrap();
    assert_eq!(
        Manifest::like(&old, meta(0o755), fewer).unwrap().roots(),
        fresh.roots()
    );
}

#[test]
fn a_manifest_has_no_more_entries_than_allowed() {
    let manifest = sample();
    assert_eq!(manifest.entry_count(), 7);
    for (most, fits) in [(4, false), (5, false), (6, false), (7, true), (8, true)] {
        let checked = check(manifest.directories(), most);
        assert_eq!(checked.is_ok(), fits, "{most}");
        assert!(fits || checked == Err(ManifestError::TooMany));
    }
}

#[test]
fn a_path_is_no_longer_than_the_protocol_carries() {
    // Directories down to a path of 4,040 bytes.
    let names = [vec!["d".repeat(255); 15], vec!["d".repeat(200)]].concat();
    let tree = |last: Entry| {
        let mut directories = Vec::new();
        let mut at = RelPath::root();
        for name in &names {
            let inner = entry(name, Kind::Directory);
            let below = at.join(&inner.name).unwrap();
            let entries = vec![inner];
            directories.push(Directory { path: at, entries });
            at = below;
        }
        assert_eq!(at.as_bytes().len(), 4040);
        let entries = vec![last];
        directories.push(Directory { path: at, entries });
        Manifest::new(meta(0o755), directories)
    };
    for (bytes, fits) in [(1, true), (54, true), (55, true), (56, false), (57, false)] {
        let made = tree(file(&"f".repeat(bytes), "x"));
        assert_eq!(made.is_ok(), fits, "{bytes}");
        assert!(fits || made == Err(PathError::TooLong.into()));
    }
}

#[test]
fn a_tree_is_counted_and_looked_up() {
    let manifest = sample();
    assert_eq!(manifest.content_bytes(), 6);
    let files = vec![
        file("a", "one"),
        file("b", ""),
        file("c", "one"),
        file("d", "4444"),
    ];
    let root = Directory {
        path: RelPath::root(),
        entries: files,
    };
    let content = |text: &str| Content {
        digest: Digest::of(text.as_bytes()),
        size: text.len() as u64,
    };
    let contents = Manifest::new(meta(0o755), vec![root]).unwrap().contents();
    assert_eq!(
        contents,
        ["one", "4444"].map(content),
        "each once, and none for empty files"
    );
    let inner = manifest.directory(&path("d")).unwrap();
    assert_eq!(inner.path_of(&inner.entries[1].name), path("d/b"));
    assert!(manifest.directory(&path("a")).is_none());
    assert_eq!(
        manifest.entry(&path("d/a")).unwrap().kind,
        file("a", "two").kind
    );
    assert!(manifest.entry(&path("d/x")).is_none());
    assert!(manifest.entry(&RelPath::root()).is_none());
}

/// Bytes that say so, as a peer may send them, read as metadata.
fn is_meta(change: impl FnOnce(&mut Meta)) -> bool {
    let mut sent = meta(0o644);
    change(&mut sent);
    let read = meta_from_bytes(&meta_bytes(&sent));
    assert!(read.is_err() || read.as_ref() == Ok(&sent), "{read:?}");
    read.is_ok()
}

#[test]
fn metadata_from_a_peer_is_in_its_bounds() {
    let time = |nanoseconds| {
        Some(Time {
            seconds: i64::MIN,
            nanoseconds,
        })
    };
    assert!(is_meta(|it| it.mode = 0o7777));
    assert!(!is_meta(|it| it.mode = 0o10000));
    assert!(!is_meta(|it| it.mode = 0o100644));
    assert!(is_meta(|it| it.mtime = time(999_999_999)));
    assert!(!is_meta(|it| it.mtime = time(1_000_000_000)));
    assert!(!is_meta(|it| it.mtime = time(u32::MAX)));
    assert!(is_meta(|it| it.mtime = None));
    assert!(is_meta(|it| it.user = Principal::Id(0)));
    let longest = "u".repeat(MAX_PRINCIPAL_BYTES);
    for (name, fits) in [
        ("www-data", true),
        (&longest[..], true),
        (&(longest.clone() + "u"), false),
        ("", false),
        ("a:b", false),
        ("a/b", false),
        ("a\nb", false),
    ] {
        let named = is_meta(|it| it.group = Principal::Name(name.into()));
        assert_eq!(named, fits, "{name:?}");
    }
    let mut bytes = meta_bytes(&meta(0o644));
    bytes.push(0);
    assert!(meta_from_bytes(&bytes).is_err(), "something is left over");
}

#[test]
fn attributes_from_a_peer_are_sorted_named_and_in_their_bounds() {
    let fits = |xattrs: &[(&str, usize)]| {
        let row = |(name, bytes): &(&str, usize)| {
            (name.as_bytes().into(), vec![7; *bytes].into_boxed_slice())
        };
        let xattrs: Xattrs = xattrs.iter().map(row).collect();
        is_meta(|it| it.xattrs = Some(Arc::new(xattrs)))
    };
    assert!(fits(&[("a", 1), ("b", 0)]));
    assert!(!fits(&[("b", 1), ("a", 1)]));
    assert!(!fits(&[("a", 1), ("a", 1)]));
    assert!(!fits(&[("", 1)]));
    assert!(!fits(&[("a\0", 1)]));
    let half = MAX_XATTR_BYTES / 2;
    assert!(fits(&[("a", half - 1), ("b", half - 1)]));
    assert!(!fits(&[("a", half - 1), ("b", half)]));
    assert!(!fits(&[("a", half), ("b", half)]));
    let names: Vec<String> = (0..=MAX_XATTRS).map(|at| format!("{at:05}")).collect();
    let rows: Vec<(&str, usize)> = names.iter().map(|name| (&name[..], 0)).collect();
    assert!(fits(&rows[1..]));
    assert!(!fits(&rows));
}

#[test]
fn listings_from_a_peer_hold_every_kind_and_nothing_else() {
    let (major, minor) = (8, 1);
    let link = |target: &[u8]| Kind::Symlink {
        target: target.into(),
    };
    let longest = vec![b't'; MAX_TARGET_BYTES];
    for (kind, fits) in [
        (Kind::Socket, true),
        (Kind::BlockDevice { major, minor }, true),
        (Kind::CharDevice { major, minor }, true),
        (link(&longest), true),
        (link(&[&longest[..], b"t"].concat()), false),
        (link(b""), false),
        (link(b"a\0b"), false),
    ] {
        let entries = vec![entry("n", kind)];
        let sent = Directory {
            path: RelPath::root(),
            entries,
        };
        let read = decode_directories(&encode_directories([&sent]));
        assert_eq!(read.is_ok(), fits, "{read:?}");
        assert!(!fits || read == Ok(vec![sent]));
    }
}

#[test]
fn a_listing_holds_what_it_counts_and_no_more_than_there_is_room_for() {
    // Two directories with seven entries.
    let bytes = encode_directories(sample().directories());
    for (most, fits) in [(1, false), (5, false), (8, false), (9, true), (10, true)] {
        let read = decode_directories_within(&bytes, most);
        assert_eq!(read.is_ok(), fits, "{most}");
        assert!(fits || read == Err(ManifestError::TooMany));
    }
    let (row, metadata) = (&b"\x01n\0"[..], meta_bytes(&meta(0o755)));
    let listing = |content: &[u8], metadata: &[u8], count: &[u8]| {
        let mut out = vec![0];
        for part in [content, metadata] {
            put_length(&mut out, part.len());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(count);
        decode_directories(&out)
    };
    assert_eq!(listing(row, &metadata, &[1]).unwrap().len(), 1);
    assert!(listing(row, b"", &[0]).is_err());
    assert!(listing(b"", &metadata, &[0]).is_err());
    assert!(listing(row, &[&metadata[..], &metadata].concat(), &[1]).is_err());
    // A count that nothing stands behind is refused before there is room made for it.
    let many = Err(ManifestError::TooMany);
    assert_eq!(listing(row, &metadata, &[0x80, 0x08]), many);
    assert_eq!(
        listing(row, &metadata, &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        many
    );
}

#[test]
fn hashes_count_only_if_there_is_one_for_each_directory() {
    let tree = Manifest::decode(&sample().encode()).unwrap();
    let tree = tree.with_digests(Vec::new());
    assert_eq!(tree.roots(), sample().roots());
    let again = Manifest::decode(&sample().encode()).unwrap();
    assert_eq!(
        again.with_digests(sample().digests().to_vec()).roots(),
        sample().roots()
    );
}

#[test]
fn a_number_has_one_form_and_a_string_its_limit() {
    let read = |bytes: &[u8]| Cursor::new(bytes).varint().ok();
    let nine = [0xFF; 9];
    assert_eq!(read(&[&nine[..], &[1]].concat()), Some(u64::MAX));
    assert_eq!(read(&[&nine[..], &[2]].concat()), None);
    assert_eq!(read(&[&nine[..], &[3]].concat()), None);
    assert_eq!(read(&[0]), Some(0));
    assert_eq!(read(&[0x80, 1]), Some(128));
    assert_eq!(read(&[0x80, 0]), None, "not the shortest form");
    let string = |limit| Cursor::new(b"\x03abcd").bytes(limit).ok();
    assert_eq!(string(4), Some(&b"abc"[..]));
    assert_eq!(string(3), Some(&b"abc"[..]));
    assert_eq!(string(2), None);
    assert_eq!(string(1), None);
}

#[test]
fn a_time_that_one_side_leaves_open_is_no_difference() {
    let open = Meta {
        mtime: None,
        ..meta(0o644)
    };
    let other = Meta {
        mtime: Some(Time::default()),
        ..meta(0o644)
    };
    for (one, two, same) in [
        (&open, &other, true),
        (&other, &open, true),
        (&open, &open, true),
        (&other, &meta(0o644), false),
        (&meta(0o600), &open, false),
    ] {
        assert_eq!(same_meta(one, two), same, "{one:?} {two:?}");
    }
}
