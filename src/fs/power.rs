//! A disk that loses its power, for tests.
//!
//! While a [`Disk`] watches a directory, every name that [`Dir`] makes, moves or removes below it is
//! noted in the order in which that happened, and so is what was synced. [`Disk::lose_power`] then
//! builds, in another directory, one of the states that a disk may legally be found in afterwards:
//! what was synced is there; of the rest any part, in any order, but nothing that rests on a step
//! that is missing. A rename is there or not, as a whole. Content and metadata that were not synced
//! are old, new, torn, zero or empty.
//!
//! Journals of fanout name inode numbers, which a copy can't have: [`logical`] translates. To be
//! used on a file system that doesn't use numbers again, such as tmpfs.

use super::dir::Dir;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Which inode a copied one stands for, by device and number.
static STANDS_FOR: Mutex<BTreeMap<(u64, u64), u64>> = Mutex::new(BTreeMap::new());

/// The number that fanout sees.
pub(super) fn logical(device: u64, ino: u64) -> u64 {
    let known = STANDS_FOR.lock().unwrap();
    known.get(&(device, ino)).copied().unwrap_or(ino)
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Directory(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    kind: Kind,
    mode: u32,
    mtime: std::time::SystemTime,
}

/// Everything below a directory, by inode.
#[derive(Clone, Debug)]
struct Image {
    root: u64,
    nodes: HashMap<u64, Node>,
}

/// Names that change together, or not at all.
#[derive(Debug)]
struct Step {
    slots: Vec<(u64, Vec<u8>, Option<u64>)>,
    /// It rests on everything that was done in this directory.
    empties: Option<u64>,
    is_durable: bool,
}

/// The disk under one directory, watched by one thread.
#[derive(Debug)]
pub(crate) struct Disk {
    top: PathBuf,
    synced: Image,
    steps: Vec<Step>,
    made: HashMap<u64, Node>,
    synced_files: HashMap<u64, Node>,
    left: Option<u32>,
    is_off: bool,
}

/// Begins to watch; what is there by now is durable.
pub(crate) fn watch(top: &Path) {
    let disk = Disk {
        top: top.to_owned(),
        synced: Image::read(top),
        steps: Vec::new(),
        made: HashMap::new(),
        synced_files: HashMap::new(),
        left: None,
        is_off: false,
    };
    DISK.set(Some(disk));
}

/// The power goes at the `count`-th failpoint from now; from then on nothing works.
pub(crate) fn cut_at(count: u32) {
    with(|disk| disk.left = Some(count));
}

/// Whether it has gone.
pub(crate) fn is_off() -> bool {
    DISK.with_borrow(|disk| disk.as_ref().is_some_and(|disk| disk.is_off))
}

/// Ends the watch, and builds in the empty directory `at` what is found afterwards.
pub(crate) fn lose_power(at: &Path, seed: u64) {
    let disk = DISK.take().expect("a disk is watched");
    disk.lose_power(at, &mut StdRng::seed_from_u64(seed));
}

/// Ends the watch.
pub(crate) fn unwatch() {
    DISK.set(None);
}

fn with(act: impl FnOnce(&mut Disk)) {
    DISK.with_borrow_mut(|disk| {
        if let Some(disk) = disk {
            act(disk);
        }
    });
}

/// Passes a failpoint.
pub(super) fn tick() -> Result<(), Errno> {
    DISK.with_borrow_mut(|disk| match disk {
        Some(disk) => {
            if disk.left == Some(0) {
                disk.is_off = true;
            }
            disk.left = disk.left.map(|left| left.saturating_sub(1));
            if disk.is_off { Err(Errno::IO) } else { Ok(()) }
        }
        None => Ok(()),
    })
}

fn ino_of(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).expect("fstat").st_ino
}

fn ino_at(dir: &Dir, name: &[u8]) -> Option<u64> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.ok().map(|stat| stat.st_ino)
}

/// A name was made, for something new or for something that was there.
pub(super) fn made(dir: &Dir, name: &[u8]) {
    with(|disk| {
        let Some(ino) = ino_at(dir, name) else { return };
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&dir.as_fd())
        );
        let path = Path::new(&path).join(std::ffi::OsStr::from_bytes(name));
        disk.made.entry(ino).or_insert_with(|| Node::read(&path));
        disk.note(vec![(ino_of(dir), name.to_vec(), Some(ino))], None);
    });
}

/// A name was removed; `gone` is what it was.
pub(super) fn removed(dir: &Dir, name: &[u8], gone: Option<u64>) {
    with(|disk| disk.note(vec![(ino_of(dir), name.to_vec(), None)], gone));
}

/// What two names are before they change.
pub(super) fn before(from: &Dir, name: &[u8], to: &Dir, to_name: &[u8]) -> [Option<u64>; 2] {
    if DISK.with_borrow(Option::is_none) {
        return [None, None];
    }
    [ino_at(from, name), ino_at(to, to_name)]
}

/// A name was moved, or two were exchanged.
pub(super) fn moved(
    (from, name): (&Dir, &[u8]),
    (to, to_name): (&Dir, &[u8]),
    [was, there]: [Option<u64>; 2],
    is_exchange: bool,
) {
    with(|disk| {
        let left = there.filter(|_| is_exchange);
        let slots = vec![
            (ino_of(from), name.to_vec(), left),
            (ino_of(to), to_name.to_vec(), was),
        ];
        disk.note(slots, None);
    });
}

/// A file's content and metadata are durable; not its name.
pub(super) fn synced_file(file: &fs::File) {
    with(|disk| {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let node = Node::read(&fs::read_link(path).expect("a path"));
        disk.synced_files.insert(ino_of(file), node);
    });
}

/// The names in a directory are durable.
pub(super) fn synced_dir(dir: &Dir) {
    with(|disk| {
        let dir = ino_of(dir);
        for nth in 0..disk.steps.len() {
            if disk.steps[nth].slots.iter().any(|slot| slot.0 == dir) {
                disk.make_durable(nth);
            }
        }
    });
}

/// Everything is durable.
pub(super) fn synced_all() {
    with(|disk| {
        disk.synced = Image::read(&disk.top);
        disk.steps.clear();
        disk.made.clear();
        disk.synced_files.clear();
    });
}

impl Node {
    fn read(path: &Path) -> Self {
        let meta = path.symlink_metadata().expect("its metadata");
        let kind = if meta.is_dir() {
            Kind::Directory(BTreeMap::new())
        } else if meta.is_symlink() {
            let target = fs::read_link(path).expect("its target");
            Kind::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if meta.is_file() {
            Kind::File(fs::read(path).expect("its content"))
        } else {
            Kind::Fifo
        };
        Self {
            kind,
            mode: meta.mode() & 0o7777,
            mtime: meta.modified().expect("its time"),
        }
    }
}

impl Image {
    fn read(top: &Path) -> Self {
        let mut nodes = HashMap::new();
        let root = read_below(top, &mut nodes);
        Self { root, nodes }
    }
}

fn read_below(path: &Path, nodes: &mut HashMap<u64, Node>) -> u64 {
    let ino = path.symlink_metadata().expect("its metadata").ino();
    let mut node = Node::read(path);
    if let Kind::Directory(names) = &mut node.kind {
        for entry in fs::read_dir(path).expect("its names") {
            let entry = entry.expect("a name");
            let below = read_below(&entry.path(), nodes);
            names.insert(entry.file_name().as_bytes().to_vec(), below);
        }
    }
    nodes.insert(ino, node);
    ino
}

impl Disk {
    fn note(&mut self, slots: Vec<(u64, Vec<u8>, Option<u64>)>, empties: Option<u64>) {
        self.steps.push(Step {
            slots,
            empties,
            is_durable: false,
        });
    }

    /// Whether the later step can't be there without the earlier one.
    fn rests_on(&self, later: usize, earlier: usize) -> bool {
        let (later, earlier) = (&self.steps[later], &self.steps[earlier]);
        earlier.slots.iter().any(|(dir, name, ino)| {
            let is_below = |slot: &(u64, Vec<u8>, Option<u64>)| {
                (slot.0 == *dir && slot.1 == *name)
                    || ino.is_some_and(|ino| slot.0 == ino || slot.2 == Some(ino))
            };
            later.empties == Some(*dir) || later.slots.iter().any(is_below)
        })
    }

    fn make_durable(&mut self, nth: usize) {
        if std::mem::replace(&mut self.steps[nth].is_durable, true) {
            return;
        }
        for earlier in (0..nth).rev() {
            if self.rests_on(nth, earlier) {
                self.make_durable(earlier);
            }
        }
    }

    fn lose_power(self, at: &Path, random: &mut StdRng) {
        let now = Image::read(&self.top);
        let mut found = self.synced.clone();
        let chance = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        let mut missing = BTreeSet::new();
        for (nth, step) in self.steps.iter().enumerate() {
            let is_there = step.is_durable
                || random.random_bool(chance)
                    && !missing.iter().any(|earlier| self.rests_on(nth, *earlier));
            if !is_there {
                missing.insert(nth);
                continue;
            }
            for (dir, name, ino) in &step.slots {
                if let Some(ino) = ino
                    && !found.nodes.contains_key(ino)
                {
                    found.nodes.insert(*ino, self.made[ino].clone());
                }
                if let Some(Kind::Directory(names)) =
                    found.nodes.get_mut(dir).map(|node| &mut node.kind)
                {
                    match ino {
                        Some(ino) => drop(names.insert(name.clone(), *ino)),
                        None => drop(names.remove(name)),
                    }
                }
            }
        }
        for (ino, node) in &mut found.nodes {
            self.settle_content(*ino, node, now.nodes.get(ino), random);
        }
        let mut paths = HashMap::new();
        build(&found, found.root, at, &mut paths);
        let mut known = STANDS_FOR.lock().unwrap();
        for (ino, path) in paths {
            let meta = path.symlink_metadata().expect("its metadata");
            let first = known.get(&(meta.dev(), ino)).copied().unwrap_or(ino);
            known.insert((meta.dev(), meta.ino()), first);
        }
    }

    /// What is in a file, and which metadata anything has.
    fn settle_content(&self, ino: u64, node: &mut Node, now: Option<&Node>, random: &mut StdRng) {
        let floor = self.synced_files.get(&ino);
        let is_durable = floor.is_some() || self.synced.nodes.contains_key(&ino);
        if let Some(floor) = floor {
            node.kind = floor.kind.clone();
            (node.mode, node.mtime) = (floor.mode, floor.mtime);
        }
        let Some(now) = now else { return };
        if random.random_bool(0.5) {
            (node.mode, node.mtime) = (now.mode, now.mtime);
        }
        let (Kind::File(old), Kind::File(new)) = (&mut node.kind, &now.kind) else {
            return;
        };
        if old == new && is_durable {
            return;
        }
        let mut torn = new.clone();
        match random.random_range(0..6) {
            0 if !is_durable => torn.clear(),
            1 => torn.truncate(random.random_range(0..=new.len())),
            2 => torn.fill(0),
            4 => {
                let from = random.random_range(0..=new.len());
                torn[from..].fill(0);
            }
            3 if is_durable => torn.clone_from(old),
            _ => {}
        }
        *old = torn;
    }
}

fn build(image: &Image, ino: u64, path: &Path, paths: &mut HashMap<u64, PathBuf>) {
    if let Some(first) = paths.get(&ino) {
        fs::hard_link(first, path).expect("link");
        return;
    }
    let node = &image.nodes[&ino];
    paths.insert(ino, path.to_owned());
    match &node.kind {
        Kind::Directory(names) => {
            if path.symlink_metadata().is_err() {
                fs::create_dir(path).expect("make a directory");
            }
            for (name, below) in names {
                build(
                    image,
                    *below,
                    &path.join(std::ffi::OsStr::from_bytes(name)),
                    paths,
                );
            }
        }
        Kind::File(content) => fs::write(path, content).expect("write"),
        Kind::Symlink(target) => {
            symlink(std::ffi::OsStr::from_bytes(target), path).expect("make a symlink");
        }
        Kind::Fifo => {
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR, 0)
                .expect("make a pipe");
        }
    }
    if !matches!(node.kind, Kind::Symlink(_)) {
        fs::set_permissions(path, fs::Permissions::from_mode(node.mode)).expect("set the mode");
    }
    let since = node
        .mtime
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    let time = rustix::fs::Timespec {
        tv_sec: i64::try_from(since.as_secs()).expect("a time"),
        tv_nsec: since.subsec_nanos().into(),
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, nofollow).expect("set the time");
}
