//! A directory tree as a value: every attribute that a push preserves, read without any of the
//! product's code (`walkdir`, `lstat`, `llistxattr`), and compared in words.

use super::acl;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What an entry is, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File {
        size_bytes: u64,
        content: blake3::Hash,
    },
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// One entry with everything that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits, `07777`.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// The first name, in byte order, of the same inode inside the tree; `None` if it has one.
    pub(crate) links_to: Option<Vec<u8>>,
    /// Extended attributes, POSIX ACLs included.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree as it was when it was read. Keys are raw paths below the root, the root itself `b""`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    entries: BTreeMap<Vec<u8>, Entry>,
}

impl Snapshot {
    /// Reads the tree at `root`, following `root` itself if it is a symlink, and nothing below it.
    #[track_caller]
    pub(crate) fn read(root: &Path) -> Self {
        let root = fs::canonicalize(root)
            .unwrap_or_else(|error| panic!("no tree at {}: {error}", root.display()));
        let mut entries = BTreeMap::new();
        let mut names_of_inode: HashMap<(u64, u64), Vec<Vec<u8>>> = HashMap::new();
        for entry in walkdir::WalkDir::new(&root).follow_links(false) {
            let entry = entry.unwrap_or_else(|error| panic!("walk {}: {error}", root.display()));
            let below = entry
                .path()
                .strip_prefix(&root)
                .expect("walkdir stays below its root");
            let path = below.as_os_str().as_bytes().to_vec();
            let metadata = fs::symlink_metadata(entry.path())
                .unwrap_or_else(|error| panic!("stat {}: {error}", entry.path().display()));
            if metadata.nlink() > 1 && !metadata.is_dir() {
                let inode = (metadata.dev(), metadata.ino());
                names_of_inode.entry(inode).or_default().push(path.clone());
            }
            entries.insert(path, Entry::read(entry.path(), &metadata));
        }
        for mut names in names_of_inode.into_values().filter(|names| names.len() > 1) {
            names.sort();
            for name in &names {
                entries.get_mut(name).expect("it was walked").links_to = Some(names[0].clone());
            }
        }
        Self { entries }
    }

    /// The entry at `path`, the root being the empty path.
    pub(crate) fn entry(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }

    /// The raw paths of all entries but the root.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.entries
            .keys()
            .map(Vec::as_slice)
            .filter(|path| !path.is_empty())
    }

    /// How many entries there are below the root.
    pub(crate) fn len(&self) -> usize {
        self.paths().count()
    }

    /// The sum of the sizes of regular files, several names of one file counted once.
    pub(crate) fn content_bytes(&self) -> u64 {
        let first = |(path, entry): &(&Vec<u8>, &Entry)| {
            entry.links_to.as_ref().is_none_or(|leader| leader == *path)
        };
        let size = |(_, entry): (&Vec<u8>, &Entry)| match entry.kind {
            Kind::File { size_bytes, .. } => size_bytes,
            _ => 0,
        };
        self.entries.iter().filter(first).map(size).sum()
    }
}

impl Entry {
    fn read(path: &Path, metadata: &fs::Metadata) -> Self {
        let kind = metadata.file_type();
        let (major, minor) = device(metadata.rdev());
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::File {
                size_bytes: metadata.len(),
                content: hash(path),
            }
        } else if kind.is_symlink() {
            Kind::Symlink(
                fs::read_link(path)
                    .expect("read the link")
                    .into_os_string()
                    .into_vec(),
            )
        } else if kind.is_fifo() {
            Kind::Fifo
        } else if kind.is_socket() {
            Kind::Socket
        } else if kind.is_char_device() {
            Kind::CharDevice(major, minor)
        } else {
            Kind::BlockDevice(major, minor)
        };
        Self {
            kind,
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            links_to: None,
            xattrs: xattrs(path),
        }
    }
}

/// What to overlook when two snapshots are compared. [`Compare::exact`] overlooks nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compare {
    ignored_paths: Vec<Vec<u8>>,
    ignored_xattr_prefixes: Vec<Vec<u8>>,
    directory_times_ignored: bool,
    root_ignored: bool,
    special_links_ignored: bool,
    owners_ignored: bool,
}

impl Compare {
    /// Every attribute of every entry.
    pub(crate) fn exact() -> Self {
        Self::default()
    }

    /// Overlooks `path` and everything below it.
    pub(crate) fn without_path(mut self, path: impl AsRef<[u8]>) -> Self {
        self.ignored_paths.push(path.as_ref().to_vec());
        self
    }

    /// Overlooks the modification times of directories.
    pub(crate) fn without_directory_times(mut self) -> Self {
        self.directory_times_ignored = true;
        self
    }

    /// Overlooks the attributes of the root directory itself.
    pub(crate) fn without_root(mut self) -> Self {
        self.root_ignored = true;
        self
    }

    /// Overlooks whether several names of a symlink, FIFO, socket or device are one inode.
    pub(crate) fn without_links_of_special_files(mut self) -> Self {
        self.special_links_ignored = true;
        self
    }

    /// Overlooks owners, for members that don't run as root.
    pub(crate) fn without_owners(mut self) -> Self {
        self.owners_ignored = true;
        self
    }

    /// Overlooks extended attributes whose names begin so, as `trusted.`.
    pub(crate) fn without_xattrs(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.ignored_xattr_prefixes.push(prefix.as_ref().to_vec());
        self
    }

    /// Every difference as one printable line; `a` and `b` are called by these names.
    pub(crate) fn diff(&self, a: &Snapshot, b: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, left) in a.entries.iter().filter(|(path, _)| self.compares(path)) {
            match b.entries.get(path) {
                Some(right) => self.diff_entry(path, left, right, &mut lines),
                None => lines.push(format!("{}: only in the first", shown(path))),
            }
        }
        let only_in_b = |path: &&Vec<u8>| self.compares(path) && !a.entries.contains_key(*path);
        for path in b.entries.keys().filter(only_in_b) {
            lines.push(format!("{}: only in the second", shown(path)));
        }
        lines
    }

    /// Panics with the differences, if there are any.
    #[track_caller]
    pub(crate) fn assert_same(&self, a: &Snapshot, b: &Snapshot) {
        const SHOWN: usize = 40;
        let lines = self.diff(a, b);
        if !lines.is_empty() {
            let more = lines.len().saturating_sub(SHOWN);
            let mut text = lines[..lines.len().min(SHOWN)].join("\n  ");
            if more > 0 {
                write!(text, "\n  and {more} more").expect("a String takes everything");
            }
            panic!("{} differences between the trees:\n  {text}", lines.len());
        }
    }

    fn compares(&self, path: &[u8]) -> bool {
        let within = |ignored: &Vec<u8>| {
            path.strip_prefix(ignored.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let root_ignored = self.root_ignored && path.is_empty();
        !root_ignored && !self.ignored_paths.iter().any(within)
    }

    fn diff_entry(&self, path: &[u8], left: &Entry, right: &Entry, lines: &mut Vec<String>) {
        let mut differs = |what: &str, left: String, right: String| {
            if left != right {
                lines.push(format!("{}: {what} {left} != {right}", shown(path)));
            }
        };
        differs("is", kind(&left.kind), kind(&right.kind));
        differs(
            "mode",
            format!("{:04o}", left.mode),
            format!("{:04o}", right.mode),
        );
        if !self.owners_ignored {
            let owner = |entry: &Entry| format!("{}:{}", entry.user, entry.group);
            differs("owner", owner(left), owner(right));
        }
        if !(self.directory_times_ignored && left.kind == Kind::Directory) {
            let time = |entry: &Entry| format!("{}.{:09}", entry.mtime.0, entry.mtime.1);
            differs("time", time(left), time(right));
        }
        let regular = matches!(left.kind, Kind::File { .. });
        if regular || !self.special_links_ignored {
            let links = |entry: &Entry| match &entry.links_to {
                Some(leader) => shown(leader),
                None => "nothing".to_owned(),
            };
            differs("is the same file as", links(left), links(right));
        }
        let names: std::collections::BTreeSet<_> =
            left.xattrs.keys().chain(right.xattrs.keys()).collect();
        for name in names {
            let ignored = |prefix: &Vec<u8>| name.starts_with(prefix);
            if !self.ignored_xattr_prefixes.iter().any(ignored) {
                let value = |entry: &Entry| xattr_value(name, entry.xattrs.get(name));
                differs(&shown(name), value(left), value(right));
            }
        }
    }
}

/// Every difference between two trees, nothing overlooked.
pub(crate) fn diff(a: &Snapshot, b: &Snapshot) -> Vec<String> {
    Compare::exact().diff(a, b)
}

/// How much of a file's size is really on the disk, in bytes.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    fs::metadata(path).expect("stat").blocks() * 512
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::File {
            size_bytes,
            content,
        } => {
            format!("a file of {size_bytes} bytes ({})", &content.to_hex()[..12])
        }
        Kind::Symlink(target) => format!("a symlink to {}", shown(target)),
        other => format!("{other:?}"),
    }
}

fn xattr_value(name: &[u8], value: Option<&Vec<u8>>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(value) if name == acl::ACCESS || name == acl::DEFAULT => acl::describe(value),
        Some(value) if value.len() > 64 => {
            format!(
                "{} bytes ({})",
                value.len(),
                &blake3::hash(value).to_hex()[..12]
            )
        }
        Some(value) => format!("\"{}\"", value.escape_ascii()),
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        "(root)".to_owned()
    } else {
        path.escape_ascii().to_string()
    }
}

fn device(rdev: u64) -> (u32, u32) {
    (rustix::fs::major(rdev), rustix::fs::minor(rdev))
}

fn hash(path: &Path) -> blake3::Hash {
    let mut file =
        fs::File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).expect("read a file") {
            0 => return hasher.finalize(),
            length => hasher.update(&buffer[..length]),
        };
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("list the attributes of {}: {error}", path.display()),
    };
    let names = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    // What SELinux says of an entry is the machine's business, not the tree's.
    let kept = names.filter(|name| *name != b"security.selinux");
    kept.map(|name| {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())
            .unwrap_or_else(|error| panic!("read {} of {}: {error}", shown(name), path.display()));
        value.truncate(length);
        (name.to_vec(), value)
    })
    .collect()
}
