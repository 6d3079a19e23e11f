//! Real trees: built, observed, and compared.

use super::super::keeper::Keeper;
use crate::engine::index::{Index, Stamp};
use crate::fs::meta::Wanted;
use crate::fs::owner::Principals;
use crate::fs::walk::{Verdict, walk};
use crate::fs::xattr::{XattrPolicy, read_xattrs_at};
use crate::fs::{Dir, FileKind, Stat};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Principal};
use sync_proto::manifest::{Directory, Manifest};
use sync_proto::path::{Name, RelPath};

use super::name;
/// One entry of a tree to build.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::member) enum Node {
    Dir(u32),
    File(&'static str),
    /// Content, mode, mtime in seconds.
    Exact(&'static str, u32, i64),
    Link(&'static str),
    /// A further name of an earlier file.
    Hard(&'static str),
    Fifo,
}

/// Builds a tree with times in the past. Parents are made as needed.
pub(in crate::engine::member) fn build(root: &Path, nodes: &[(&str, Node)]) {
    std::fs::create_dir_all(root).unwrap();
    for (at, node) in nodes {
        let at = root.join(at);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        match node {
            Node::Dir(mode) => {
                std::fs::create_dir_all(&at).unwrap();
                std::fs::set_permissions(&at, PermissionsExt::from_mode(*mode)).unwrap();
            }
            Node::File(content) => std::fs::write(&at, content).unwrap(),
            Node::Exact(content, mode, seconds) => {
                std::fs::write(&at, content).unwrap();
                std::fs::set_permissions(&at, PermissionsExt::from_mode(*mode)).unwrap();
                set_mtime(&at, *seconds);
            }
            Node::Link(target) => symlink(target, &at).unwrap(),
            Node::Hard(leader) => std::fs::hard_link(root.join(leader), &at).unwrap(),
            Node::Fifo => {
                let dir = Dir::open_absolute(at.parent().unwrap()).unwrap();
                let last = name(at.file_name().unwrap().to_str().unwrap());
                dir.mknod(&last, FileKind::Fifo, 0o644, (0, 0)).unwrap();
            }
        }
        if matches!(node, Node::File(_)) {
            set_mtime(&at, 1_600_000_000);
        }
    }
    let mut dirs: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_dir())
        .map(walkdir::DirEntry::into_path)
        .collect();
    dirs.reverse();
    for dir in dirs {
        set_mtime(&dir, 1_500_000_000);
    }
}

pub(in crate::engine::member) fn set_mtime(at: &Path, seconds: i64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.try_into().unwrap());
    std::fs::File::open(at).unwrap().set_modified(time).unwrap();
}

pub(in crate::engine::member) fn principals() -> Principals {
    Principals::numeric()
}

pub(in crate::engine::member) fn resolve(meta: &Meta) -> Result<Wanted, crate::fs::owner::Missing> {
    Wanted::resolve(meta, &principals())
}

/// The index of a real tree, everything hashed.
pub(in crate::engine::member) fn observe(root: &Dir, keeper: &Keeper) -> Index {
    let walked = walk(root, |parent, last, is_directory| {
        let at = parent.join(&Name::parse(last).unwrap()).unwrap();
        match keeper.allow_delete_scoped(&at, is_directory) {
            Ok(()) => Verdict::Descend,
            Err(_) => Verdict::Skip,
        }
    })
    .unwrap();
    assert_eq!(walked.problems, []);
    let mut leaders = HashMap::new();
    let mut left_out: HashSet<RelPath> = HashSet::new();
    for dir in &walked.dirs {
        if dir.left_out {
            left_out.insert(dir.path.clone());
        }
    }
    let (mut directories, mut stamps) = (Vec::new(), Vec::new());
    for dir in &walked.dirs {
        let open = root.open_dir_at(&dir.path).unwrap();
        let mut entries = Vec::new();
        for entry in &dir.entries {
            let at = dir.path.join(&entry.name).unwrap();
            let kind = kind_of(&open, &at, &entry.name, &entry.stat, &mut leaders);
            let mut meta = meta_of(&open, &entry.name, &entry.stat);
            if left_out.contains(&at) {
                meta.mtime = None;
            }
            if matches!(kind, Kind::HardLink { .. }) {
                meta = Meta::of_link();
            }
            stamps.push(Stamp::from(&entry.stat));
            entries.push(Entry {
                name: entry.name.clone(),
                kind,
                meta,
            });
        }
        directories.push(Directory {
            path: dir.path.clone(),
            entries,
        });
    }
    let stat = root.stat_self().unwrap();
    let mut meta = stat_meta(&stat);
    if left_out.contains(&RelPath::root()) {
        meta.mtime = None;
    }
    let manifest = Manifest::new(meta, directories).unwrap();
    Index::new(manifest, Stamp::from(&stat), stamps).unwrap()
}

fn kind_of(
    dir: &Dir,
    at: &RelPath,
    last: &Name,
    stat: &Stat,
    leaders: &mut HashMap<u64, RelPath>,
) -> Kind {
    match stat.kind() {
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink {
            target: dir.read_link(last).unwrap().into(),
        },
        FileKind::Fifo => Kind::Fifo,
        FileKind::File => {
            if let Some(leader) = leaders.get(&stat.ino) {
                return Kind::HardLink {
                    leader: leader.clone(),
                };
            }
            leaders.insert(stat.ino, at.clone());
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut dir.open_file(last).unwrap(), &mut content).unwrap();
            Kind::File {
                size: stat.size,
                content: Digest::of(&content),
            }
        }
        other => panic!("{at}: {other:?}"),
    }
}

fn meta_of(dir: &Dir, last: &Name, stat: &Stat) -> Meta {
    let xattrs = read_xattrs_at(dir, last, XattrPolicy::Ordinary, &principals()).unwrap();
    Meta {
        xattrs: xattrs.map(Arc::new),
        mode: if stat.is_symlink() {
            0o777
        } else {
            stat.permissions()
        },
        ..stat_meta(stat)
    }
}

fn stat_meta(stat: &Stat) -> Meta {
    Meta {
        mode: stat.permissions(),
        user: Principal::Id(stat.uid),
        group: Principal::Id(stat.gid),
        mtime: Some(stat.mtime),
        xattrs: None,
    }
}

/// Everything about a real tree that a test may want unchanged, by path.
pub(in crate::engine::member) fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            let content = if meta.is_file() {
                format!("{:?}", std::fs::read(entry.path()).unwrap())
            } else if meta.is_symlink() {
                format!("{:?}", std::fs::read_link(entry.path()).unwrap())
            } else {
                String::new()
            };
            let line = format!(
                "{} {:o} {}:{} {}.{} {content}",
                meta.ino(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec()
            );
            (entry.path().to_owned(), line)
        })
        .collect()
}
