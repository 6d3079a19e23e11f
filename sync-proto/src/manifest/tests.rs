use super::*;
use crate::entry::{Principal, Time};

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
