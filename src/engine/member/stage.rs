//! The staging area: where entries are written under their final names, and how far that is.
//!
//! An entry is complete once its time is set, which is the last thing done to it, and only after
//! its content was verified. Area and boot are in the directory's name: what an earlier session of
//! the same boot left is trusted by its size, time and mode.
//!
//! It refuses nothing: whoever calls it has planned. Every write ends here, so here is where the
//! first failure stops all others.

use super::fault::point;
use super::journal::{SEED, TREE};
use super::look::Seen;
use super::recycle::{Spare, TakenOver, take_over};
use super::refusal::{of_commit, of_fs, of_meta};
use super::work::{At, StagedDirectory, Work};
use crate::codes::{Code, Problem};
use crate::engine::index::Stamp;
use crate::fs::clone::write_sparse;
use crate::fs::meta::{Apply, MetaError, Unkept, Wanted, apply_meta, apply_meta_to_new};
use crate::fs::owner::Principals;
use crate::fs::read::read_range;
use crate::fs::xattr::{Target as MetaTarget, XattrPolicy};
use crate::fs::{Dir, FsError, Stat};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::digest::Digest;
use sync_proto::entry::Meta;
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::{Layout, Needs, Notice};
use tokio::sync::mpsc::UnboundedSender;

/// Content from this size on is written with holes where it is zero.
const SPARSE_FROM_BYTES: usize = 128 * 1024;

/// What a staging area tells the session.
#[derive(Debug)]
pub enum StageEvent {
    /// These contents are to be asked for, again or at last.
    Need(Needs),
    /// What can be had locally is in place, or was asked for.
    Filled,
    /// The last content is in place.
    Complete,
    /// It can't go on.
    Failed(Problem),
}

/// One transaction's staging area.
pub struct Staging {
    /// What is to be staged.
    pub work: Work,
    /// Its name in `stage/`.
    pub name: Name,
    /// Nothing was there before.
    pub is_fresh: bool,
    /// Every name in it is one that this attempt put or left there.
    pub is_ours: bool,
    taken: TakenOver,
    /// What was moved out of an old generation that couldn't be used.
    pub rescued: Option<Notice>,
    tree: Dir,
    seed: Option<Dir>,
    principals: Arc<Principals>,
    xattrs: XattrPolicy,
    /// For each content, in how many files it is missing.
    left: Vec<AtomicU32>,
    /// Files that wait for their content to come from the hub.
    open: Mutex<HashMap<u32, Vec<At>>>,
    missing_contents: AtomicU64,
    staged_entries: AtomicU64,
    staged_bytes: AtomicU64,
    unkept: Mutex<HashMap<String, Concerned>>,
    is_stopped: AtomicBool,
    events: UnboundedSender<StageEvent>,
}

/// How many entries something concerns, and some of their paths.
type Concerned = (u64, Vec<Vec<u8>>);

impl Staging {
    /// Opens the area for `work`, made by an earlier attempt or now; removes all others.
    pub fn open(
        seen: &Seen,
        work: Work,
        events: UnboundedSender<StageEvent>,
    ) -> Result<Self, Problem> {
        let stages = seen.claim.place.stages().map_err(|error| of_fs(&error))?;
        let name = area_name(seen, &work).map_err(|error| of_fs(&error))?;
        let area = open_area(&stages, &name).map_err(|error| of_fs(&error))?;
        let own = |name: &[u8]| Name::parse(name).map_err(|_| FsError::bad_name(name));
        let tree_name = own(TREE).map_err(|error| of_fs(&error))?;
        let there = area.stat(&tree_name).map_err(|error| of_fs(&error))?;
        let is_switched = seen.claim.place.layout() == Layout::Switched;
        let is_ours = there.is_none();
        let spare = match is_ours && is_switched {
            true => take_over(seen, &work, &area, &tree_name).map_err(|it| of_commit(&it))?,
            false => Spare::None,
        };
        let (taken, rescued) = match spare {
            Spare::None => (None, None),
            Spare::TakenOver(taken) => (Some(taken), None),
            Spare::Removed(rescued) => (None, rescued),
        };
        let tree = own(TREE)
            .and_then(|tree| area.create_dir_if_absent(&tree, 0o700))
            .map_err(|error| of_fs(&error))?;
        let has_seeds = work.directories.keys().any(|directory| directory.is_seed);
        let seed = has_seeds
            .then(|| own(SEED).and_then(|seed| area.create_dir_if_absent(&seed, 0o700)))
            .transpose()
            .map_err(|error| of_fs(&error))?;
        let left: Vec<AtomicU32> = work
            .files
            .iter()
            .map(|files| AtomicU32::new(u32::try_from(files.len()).unwrap_or(u32::MAX)))
            .collect();
        let missing = work.files.iter().filter(|files| !files.is_empty()).count();
        Ok(Self {
            name,
            is_fresh: is_ours && taken.is_none(),
            is_ours,
            taken: taken.unwrap_or_default(),
            rescued,
            tree,
            seed,
            principals: seen.principals.clone(),
            xattrs: seen.xattrs(),
            left,
            open: Mutex::default(),
            missing_contents: AtomicU64::new(missing as u64),
            staged_entries: AtomicU64::new(0),
            staged_bytes: AtomicU64::new(0),
            unkept: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            events,
            work,
        })
    }

    /// The root of the staged tree, or of that of seeds.
    pub fn root(&self, is_seed: bool) -> &Dir {
        match (&self.seed, is_seed) {
            (Some(seed), true) => seed,
            _ => &self.tree,
        }
    }

    /// The stamp of a directory that was taken over as it is wanted, with its metadata and all its
    /// entries. Nothing is done in it, but in directories below it.
    pub fn kept(&self, staged: StagedDirectory) -> Option<&Stamp> {
        let kept = self.taken.kept.get(staged.directory as usize);
        kept.and_then(Option::as_ref).filter(|_| !staged.is_seed)
    }

    /// True if a file was taken over: it is the live tree's, which was looked at and is wanted as it is.
    pub fn has_kept(&self, at: At) -> bool {
        let left = self.taken.files.get(at.directory as usize);
        let left = left.and_then(|left| left.get(at.entry as usize));
        !at.is_seed && left == Some(&true) || self.kept(at.staged_directory()).is_some()
    }

    /// Makes all directories; their metadata follows at the end.
    pub fn make_directories(&self) -> Result<(), Problem> {
        point("member.stage.directories").map_err(|error| of_fs(&error))?;
        let mut cursor = Cursor::new(self);
        let is_taken = |staged: &StagedDirectory| {
            let is_there = self.taken.is_there.get(staged.directory as usize);
            !staged.is_seed && is_there == Some(&true)
        };
        let missing = self.work.directories.keys();
        for staged in missing.filter(|staged| !is_taken(staged)) {
            let Some(directory) = self.work.directory_at(staged.directory) else {
                continue;
            };
            let (Some(parent), Some(name)) = (directory.path.parent(), directory.path.file_name())
            else {
                continue;
            };
            let Some(parent) = self.work.index_of(&parent) else {
                continue;
            };
            let dir = cursor.dir(StagedDirectory {
                directory: parent,
                ..*staged
            })?;
            let is_there = |dir: &Dir| {
                let there = dir.stat(&name).map_err(|error| of_fs(&error))?;
                Ok::<_, Problem>(there.is_some_and(|there| there.is_directory()))
            };
            if !self.is_fresh && is_there(dir)? {
                continue;
            }
            // The root of the area has no default ACL, so nothing below inherits one.
            let made = match dir.create_private_dir(&name) {
                Err(error) if error.is_exists() => match dir.open_dir(&name) {
                    Err(error) if error.is_wrong_kind() => dir
                        .remove_tree(&name)
                        .and_then(|()| dir.create_private_dir(&name)),
                    other => other.map(drop),
                },
                other => other,
            };
            made.map_err(|error| of_fs(&error))?;
        }
        Ok(())
    }

    /// Creates the file at its final name; what an attempt left there goes.
    pub fn create(&self, dir: &Dir, name: &Name, mode: u32) -> Result<File, Problem> {
        Ok(self.create_with_stat(dir, name, mode)?.0)
    }

    fn create_with_stat(&self, dir: &Dir, name: &Name, mode: u32) -> Result<(File, Stat), Problem> {
        let made = match dir.create_file_with_stat(name, mode) {
            Err(error) if error.is_exists() => dir
                .remove_tree(name)
                .and_then(|()| dir.create_file_with_stat(name, mode)),
            other => other,
        };
        made.map_err(|error| of_fs(&error))
    }

    /// Writes a verified content to one file, with its metadata.
    pub fn put(&self, cursor: &mut Cursor<'_>, at: At, content: &[u8]) -> Result<(), Problem> {
        let Some((directory, entry)) = self.work.at(at) else {
            return Ok(());
        };
        let wanted = self.resolve(&entry.meta)?;
        let dir = cursor.of(at)?;
        let (file, made) = self.create_with_stat(dir, &entry.name, wanted.mode)?;
        point("member.stage.write").map_err(|error| of_fs(&error))?;
        let written = if content.len() >= SPARSE_FROM_BYTES {
            write_sparse(&file, content, 0).and_then(|()| set_length(&file, content.len() as u64))
        } else {
            file.write_all_at(content, 0)
                .map_err(|error| FsError::from_io("write", &dir.path_of(&entry.name), &error))
        };
        written.map_err(|error| located(&error, &directory.path_of(&entry.name)))?;
        point("member.stage.seal").map_err(|error| of_fs(&error))?;
        let applied = apply_meta_to_new(&MetaTarget::open(&file), &made, &wanted, self.how(true));
        self.note(applied, || self.work.path(at))
    }

    /// Gives a complete, verified file its metadata, its time last.
    pub fn seal(&self, file: &File, wanted: &Wanted, at: At) -> Result<(), Problem> {
        point("member.stage.seal").map_err(|error| of_fs(&error))?;
        self.apply(&MetaTarget::open(file), wanted, true, || self.work.path(at))
    }

    /// Applies metadata; what can't be kept is noted.
    pub fn apply(
        &self,
        target: &MetaTarget<'_>,
        wanted: &Wanted,
        is_fresh: bool,
        path: impl Fn() -> RelPath,
    ) -> Result<(), Problem> {
        self.note(apply_meta(target, wanted, self.how(is_fresh)), path)
    }

    fn how(&self, is_fresh: bool) -> Apply<'_> {
        Apply {
            policy: self.xattrs,
            principals: &self.principals,
            is_fresh,
        }
    }

    fn note(
        &self,
        applied: Result<Vec<Unkept>, MetaError>,
        path: impl Fn() -> RelPath,
    ) -> Result<(), Problem> {
        let unkept = applied.map_err(|error| of_meta(&error).with_path(path().as_bytes()))?;
        for unkept in unkept {
            self.note_unkept(&unkept, path());
        }
        Ok(())
    }

    fn note_unkept(&self, unkept: &Unkept, path: RelPath) {
        let mut all = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, paths) = all.entry(unkept.to_string()).or_default();
        *count += 1;
        if paths.len() < 5 {
            paths.push(path.as_bytes().to_vec());
        }
    }

    /// What could not be kept: which metadata, of how many entries, and some of them.
    pub fn unkept(&self) -> Vec<(String, u64, Vec<Vec<u8>>)> {
        let mut all = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unkept: Vec<_> = all
            .drain()
            .map(|(what, (count, paths))| (what, count, paths))
            .collect();
        unkept.sort();
        unkept
    }

    /// Metadata in this machine's terms.
    pub fn resolve(&self, meta: &Meta) -> Result<Wanted, Problem> {
        Wanted::resolve(meta, &self.principals)
            .map_err(|missing| Problem::from_error(Code::OwnerMissing, &missing))
    }

    /// Files with this content are in place.
    pub fn note_files(&self, content: u32, files: u32, size: u64) {
        self.staged_entries
            .fetch_add(files.into(), Ordering::Relaxed);
        let bytes = size.saturating_mul(files.into());
        self.staged_bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(left) = self.left.get(content as usize) else {
            return;
        };
        if left.fetch_sub(files, Ordering::AcqRel) == files
            && self.missing_contents.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.tell(StageEvent::Complete);
        }
    }

    /// These files wait for a content from the hub.
    pub fn reopen(&self, content: u32, files: &[At]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(content).or_default().extend_from_slice(files);
    }

    /// The first file that waits for a content; `None` if none does.
    pub fn waiting(&self, content: u32) -> Option<At> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&content).and_then(|files| files.first().copied())
    }

    /// Takes the files that wait for a content; whoever takes them writes them.
    pub fn take_waiting(&self, content: u32) -> Option<Vec<At>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&content)
    }

    /// Other entries are in place.
    pub fn note_entries(&self, entries: u64) {
        self.staged_entries.fetch_add(entries, Ordering::Relaxed);
    }

    /// True if every content is in place.
    pub fn has_all(&self) -> bool {
        self.missing_contents.load(Ordering::Acquire) == 0
    }

    /// Entries and content bytes in place.
    pub fn progress(&self) -> (u64, u64) {
        (
            self.staged_entries.load(Ordering::Relaxed),
            self.staged_bytes.load(Ordering::Relaxed),
        )
    }

    /// Tells the session.
    pub fn tell(&self, event: StageEvent) {
        // A session that is over doesn't listen any more.
        let _session_over = self.events.send(event);
    }

    /// Stops all work on this area; the first reason counts.
    pub fn fail(&self, problem: Problem) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            self.tell(StageEvent::Failed(problem));
        }
    }

    /// Stops all work without a word.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Nobody waits for this area any more.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }
}

/// The directories of a staging area, opened as they are needed; the last one is kept.
pub struct Cursor<'a> {
    staging: &'a Staging,
    last: Option<(StagedDirectory, Dir)>,
}

impl<'a> Cursor<'a> {
    /// Begins nowhere.
    pub fn new(staging: &'a Staging) -> Self {
        Self {
            staging,
            last: None,
        }
    }

    /// The directory that holds an entry.
    pub fn of(&mut self, at: At) -> Result<&Dir, Problem> {
        self.dir(at.staged_directory())
    }

    /// A directory of the area.
    pub fn dir(&mut self, staged: StagedDirectory) -> Result<&Dir, Problem> {
        let root = self.staging.root(staged.is_seed);
        if staged.directory == 0 {
            return Ok(root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != staged) {
            let path = self.staging.work.directory_at(staged.directory);
            let path = path
                .map(|directory| directory.path.clone())
                .unwrap_or_default();
            let dir = root.open_dir_at(&path).map_err(|error| of_fs(&error))?;
            self.last = Some((staged, dir));
        }
        Ok(self.last.as_ref().map_or(root, |(_, dir)| dir))
    }
}

/// Sets the length of a file that may end in a hole.
pub fn set_length(file: &File, length: u64) -> Result<(), FsError> {
    file.set_len(length)
        .map_err(|error| FsError::from_io("set the length of", b"a staged file", &error))
}

/// A failed write, with the path in the tree.
pub fn located(error: &FsError, path: &RelPath) -> Problem {
    of_fs(error).with_path(path.as_bytes())
}

/// One directory for each wanted tree, layout, set of rules and boot.
fn area_name(seen: &Seen, work: &Work) -> Result<Name, FsError> {
    let mut hasher = blake3::Hasher::new_derive_key("fanout 2026 staging area");
    hasher.update(work.target.roots.id().as_bytes());
    hasher.update(match seen.claim.place.layout() {
        Layout::Switched => b"switched",
        Layout::InPlace => b"in-place",
    });
    let scope = &seen.keeper.scope;
    for line in scope
        .exclude
        .to_lines()
        .iter()
        .chain(&scope.preserve.to_lines())
    {
        hasher.update(line.as_bytes()).update(b"\n");
    }
    hasher.update(&boot_id()?);
    let whole = Digest::from(hasher.finalize()).to_hex();
    let name = whole.get(..32).unwrap_or(&whole);
    Name::parse(name.as_bytes()).map_err(|_| FsError::bad_name(name.as_bytes()))
}

/// Without it nothing left by an earlier attempt could be trusted.
fn boot_id() -> Result<Vec<u8>, FsError> {
    let dir = Dir::open_absolute(Path::new("/proc/sys/kernel/random"))?;
    let name = Name::parse(b"boot_id").map_err(|_| FsError::bad_name(b"boot_id"))?;
    read_range(&dir.open_file(&name)?, 0, 64)
}

fn open_area(stages: &Dir, name: &Name) -> Result<Dir, FsError> {
    for listed in stages.list()? {
        if listed.name != *name {
            stages.remove_tree(&listed.name)?;
        }
    }
    stages.create_dir_if_absent(name, 0o700)
}
