//! The source: is it fit to be pushed, and what does it hold?
//!
//! The brakes here look at the hub's own disk and refuse before any member is contacted.

use super::ownership::{Ownership, wanted};
use super::supply::{Supply, read_index};
use crate::codes::{Code, Problem};
use crate::engine::depot::Depot;
use crate::engine::event::{Event, EventSink};
use crate::engine::fresh::Fresh;
use crate::engine::index::Index;
use crate::engine::observe::{LeftOutTime, Look, ObserveError, ObserveProblem, Observed, observe};
use crate::fs::durable::write_atomically_with;
use crate::fs::owner::Principals;
use crate::fs::read::FsClock;
use crate::fs::walk::WalkTrouble;
use crate::fs::xattr::XattrPolicy;
use crate::fs::{Dir, FsError, fault};
use crate::model::counted;
use std::path::PathBuf;
use std::sync::Arc;
use sync_proto::filter::{Preserve, Scope, Side, Standing};
use sync_proto::manifest::Manifest;
use sync_proto::path::{Name, RESERVED_NAME, RelPath, escape};
use sync_proto::special::SpecialFiles;

/// A file with this name in the source's root says that a build is under way.
pub const BUILDING_MARK: &[u8] = b".fanout-building";
/// What an interrupted merge or rebase leaves in `.git`.
const MERGE_MARKS: [&str; 5] = [
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-merge",
    "rebase-apply",
];
/// How many paths a message names.
const EXAMPLES: usize = 5;

/// A source and what of it is pushed, with whose ownership.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The directory.
    pub path: PathBuf,
    /// What takes no part.
    pub scope: Scope,
    /// Files that must be there.
    pub require: Vec<String>,
    /// Owner and modes.
    pub ownership: Ownership,
    /// Kinds of special files that it may hold.
    pub special_files: SpecialFiles,
    /// `trusted.*` and `security.*` xattrs are preserved.
    pub privileged_xattrs: bool,
    /// Content below preserved paths is allowed in the source; it is not pushed.
    pub preserved_seen: bool,
    /// Content below preserved paths is delivered where a member has none.
    pub seed: bool,
    /// Brakes that somebody decided to release, one by one.
    pub released: Released,
    /// Where the index of the last scan lies.
    pub index: PathBuf,
}

/// Brakes on the source that somebody decided to release.
#[derive(Clone, Copy, Debug, Default)]
pub struct Released {
    /// The source may be empty.
    pub empty: bool,
    /// A build may be under way.
    pub half_built: bool,
    /// A merge may be unfinished.
    pub unfinished_merge: bool,
    /// Required files may be missing.
    pub require: bool,
}

/// A scanned source.
pub struct Scanned {
    /// What members should have.
    pub manifest: Manifest,
    /// What was seen, in the source's own terms.
    pub index: Arc<Index>,
    /// The source's root.
    pub root: Arc<Dir>,
    /// Small contents that were read just now.
    pub fresh: Arc<Fresh>,
    /// Things worth saying.
    pub warnings: Vec<Problem>,
    /// Bytes that had to be read.
    pub read_bytes: u64,
}

impl Scanned {
    /// The contents, from the source as it was scanned.
    pub fn supply(&self) -> Supply {
        Supply::source(self.root.clone(), &self.index).with_fresh(self.fresh.clone())
    }
}

/// Looks for reasons not to push, without reading the tree.
pub fn check(spec: &SourceSpec) -> Result<Dir, Problem> {
    let shown = spec.path.display();
    let root = Dir::open_absolute(&spec.path).map_err(|error| {
        let code = if error.is_not_found() {
            Code::SourceMissing
        } else if error.is_wrong_kind() {
            Code::SourceNotDirectory
        } else {
            Code::SourceUnreadable
        };
        Problem::from_error(code, &error)
    })?;
    let unreadable = |error: FsError| Problem::from_error(Code::SourceUnreadable, &error);
    let there = |path: &[u8]| -> Result<bool, Problem> {
        let Ok(path) = RelPath::parse(path) else {
            return Ok(false);
        };
        match root.open_parent_at(&path) {
            Ok(Some((parent, name))) => Ok(parent.stat(&name).map_err(unreadable)?.is_some()),
            Ok(None) => Ok(false),
            Err(error) if error.is_symlink() || error.is_not_found() => Ok(false),
            Err(error) => Err(unreadable(error)),
        }
    };
    let mut managed = root.list().map_err(unreadable)?;
    managed.retain(|listed| {
        spec.scope
            .of_child(Side::Sender, &RelPath::root(), &listed.name, true)
            .is_managed()
    });
    if managed.is_empty() && !spec.released.empty {
        return Err(Problem::new(
            Code::SourceEmpty,
            format!("The source `{shown}` is empty"),
        ));
    }
    // Members keep their own state under this name: left out in silence, it would be missed.
    if managed
        .iter()
        .any(|listed| listed.name.as_bytes() == RESERVED_NAME)
    {
        return Err(Problem::new(
            Code::ReservedInSource,
            format!("The source `{shown}` has an entry `.fanout`, which is reserved"),
        ));
    }
    if !spec.released.half_built && there(BUILDING_MARK)? {
        return Err(Problem::new(
            Code::SourceHalfBuilt,
            format!("The source `{shown}` holds `.fanout-building`: a build is under way"),
        ));
    }
    for mark in MERGE_MARKS {
        if !spec.released.unfinished_merge && there(format!(".git/{mark}").as_bytes())? {
            return Err(Problem::new(
                Code::UnfinishedMerge,
                format!("The source `{shown}` is in the middle of a merge (`.git/{mark}`)"),
            ));
        }
    }
    for required in &spec.require {
        if !spec.released.require && !there(required.trim_start_matches('/').as_bytes())? {
            return Err(Problem::new(
                Code::RequiredMissing,
                format!("The source `{shown}` lacks the required file `{required}`"),
            ));
        }
    }
    Ok(root)
}

/// Scans the source. A source that won't hold still is looked at once more, then refused.
/// With the depot, the chunks of large files are cut in the same pass.
pub fn scan(
    spec: &SourceSpec,
    depot: Option<&Arc<Depot>>,
    events: &EventSink,
) -> Result<Scanned, Problem> {
    let root = Arc::new(check(spec)?);
    let known = read_index(&spec.index);
    let fresh = Fresh::beside(depot.cloned());
    let mut observed = look(spec, &root, known.as_ref(), Some(&fresh), events)?;
    if observed.problems.iter().any(ObserveProblem::is_unrest) {
        observed = look(spec, &root, known.as_ref(), Some(&fresh), events)?;
    }
    refuse_problems(&observed)?;
    let warnings = refuse_entries(spec, &root, &observed)?;
    let index = Arc::new(observed.index);
    if known.as_ref() != Some(&*index) {
        save_index(spec, &index);
    }
    let manifest = wanted(
        index.manifest(),
        &spec.ownership,
        spec.seed.then_some(&spec.scope.preserve),
    )
    .map_err(|error| Problem::from_error(Code::TooManyEntries, &error))?;
    events.emit(Event::ScanFinished {
        entries: manifest.entry_count() as u64,
        content_bytes: manifest.content_bytes(),
        read_bytes: observed.hashed_bytes,
    });
    Ok(Scanned {
        manifest,
        index,
        root,
        fresh: Arc::new(fresh),
        warnings,
        read_bytes: observed.hashed_bytes,
    })
}

/// True if the source still is what was scanned.
pub fn is_unchanged(spec: &SourceSpec, root: &Dir, index: &Index) -> Result<bool, Problem> {
    let observed = look(spec, root, Some(index), None, &EventSink::none())?;
    Ok(observed.problems.is_empty() && observed.index.manifest() == index.manifest())
}

fn look(
    spec: &SourceSpec,
    root: &Dir,
    known: Option<&Index>,
    fresh: Option<&Fresh>,
    events: &EventSink,
) -> Result<Observed, Problem> {
    let unreadable = |error: FsError| Problem::from_error(Code::SourceUnreadable, &error);
    let state = spec.index.parent().unwrap_or(&spec.path);
    // The clock is that of the source's own file system; a source on a read-only one can't change
    // within a tick either, so ours will do.
    let clock = FsClock::open(root)
        .or_else(|_| FsClock::open(&Dir::open_absolute(state)?))
        .map_err(unreadable)?;
    let principals = if spec.ownership.numeric_ids {
        Principals::numeric()
    } else {
        Principals::by_name()
    };
    let xattrs = if spec.privileged_xattrs {
        XattrPolicy::Privileged
    } else {
        XattrPolicy::Ordinary
    };
    let seeding = Scope {
        exclude: spec.scope.exclude.clone(),
        preserve: Preserve::default(),
    };
    let progress = |entries, content_bytes| {
        events.emit(Event::Scanned {
            entries,
            content_bytes,
        });
    };
    let how = Look {
        known,
        rehash: false,
        scope: if spec.seed { &seeding } else { &spec.scope },
        side: Side::Sender,
        pass_over: None,
        principals: &principals,
        xattrs,
        left_out_time: LeftOutTime::Open,
        fresh,
        progress: &progress,
    };
    observe(root, &clock, &how).map_err(|error| match error {
        ObserveError::Fs(error) => unreadable(error),
        ObserveError::Manifest(error) => Problem::from_error(Code::TooManyEntries, &error),
    })
}

fn refuse_problems(observed: &Observed) -> Result<(), Problem> {
    let Some(first) = observed.problems.first() else {
        return Ok(());
    };
    let more = observed.problems.len() - 1;
    let rest = if more > 0 {
        format!(" (and {more} more entries)")
    } else {
        String::new()
    };
    let code = match first {
        _ if first.is_unrest() => Code::SourceChanged,
        ObserveProblem::Walk(problem) if problem.what == WalkTrouble::OtherMount => {
            Code::MountInside
        }
        _ => Code::SourceUnreadable,
    };
    let mut problem = Problem::from_error(code, first);
    problem.message.push_str(&rest);
    Err(problem)
}

/// Refuses what the tree may not hold, and warns of what should hardly be there.
fn refuse_entries(
    spec: &SourceSpec,
    root: &Dir,
    observed: &Observed,
) -> Result<Vec<Problem>, Problem> {
    let mut special = Vec::new();
    let mut suspicious = Vec::new();
    for (directory, entry) in observed.index.manifest().entries() {
        if !spec.special_files.allow(entry) {
            special.push(directory.path_of(&entry.name));
        }
        if looks_secret(&entry.name) {
            suspicious.push(directory.path_of(&entry.name));
        }
    }
    if !special.is_empty() {
        return Err(Problem::new(
            Code::EntryRefused,
            format!(
                "The source holds {} that the platform doesn't allow: {}",
                counted(
                    special.len() as u64,
                    "device, FIFO, socket or setuid file",
                    "devices, FIFOs, sockets or setuid files"
                ),
                examples(&special)
            ),
        ));
    }
    let preserved = if spec.seed {
        Vec::new()
    } else {
        preserved_content(spec, root)?
    };
    if !preserved.is_empty() && !spec.preserved_seen {
        return Err(Problem::new(
            Code::PreservedInSource,
            format!(
                "The source holds content below preserved paths, which would never be sent: {}",
                examples(&preserved)
            ),
        ));
    }
    let warn = |code, what: &str, paths: &[RelPath]| {
        (!paths.is_empty()).then(|| Problem::new(code, format!("{what}: {}", examples(paths))))
    };
    let secrets = "Files that often hold secrets or dumps will be delivered";
    let unsent = "Content below preserved paths is not sent";
    Ok(warn(Code::EntryRefused, secrets, &suspicious)
        .into_iter()
        .chain(warn(Code::PreservedInSource, unsent, &preserved))
        .collect())
}

/// Preserved names that are really there in the source and hold something.
fn preserved_content(spec: &SourceSpec, root: &Dir) -> Result<Vec<RelPath>, Problem> {
    let unreadable = |error: FsError| Problem::from_error(Code::SourceUnreadable, &error);
    let mut found = Vec::new();
    let mut open = vec![RelPath::root()];
    while let Some(path) = open.pop() {
        if !path.is_root() && !spec.scope.preserve.may_hold(&path) {
            continue;
        }
        let Some(dir) = root.try_open_dir_at(&path).map_err(unreadable)? else {
            continue;
        };
        for listed in dir.list().map_err(unreadable)? {
            let Ok(child) = path.join(&listed.name) else {
                continue;
            };
            let is_directory = listed.kind == crate::fs::FileKind::Directory;
            match spec
                .scope
                .of_child(Side::Sender, &path, &listed.name, is_directory)
            {
                Standing::Preserved(_) => {
                    let is_empty = is_directory
                        && dir
                            .try_open_dir(&listed.name)
                            .map_err(unreadable)?
                            .is_some_and(|inner| inner.list().is_ok_and(|names| names.is_empty()));
                    if !is_empty {
                        found.push(child);
                    }
                }
                Standing::Managed if is_directory => open.push(child),
                _ => {}
            }
        }
        if spec.scope.preserve.is_empty() {
            break;
        }
    }
    found.sort();
    Ok(found)
}

fn looks_secret(name: &Name) -> bool {
    let name = name.as_bytes();
    name == b".env"
        || name.starts_with(b"id_rsa")
        || name.starts_with(b"id_ed25519")
        || name.ends_with(b".sql")
        || name.windows(5).any(|part| part == b".sql.")
}

fn examples(paths: &[RelPath]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(EXAMPLES)
        .map(|path| format!("`{}`", escape(path.as_bytes())))
        .collect();
    let more = paths.len().saturating_sub(EXAMPLES);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", named.join(", "))
}

/// An index that can't be saved costs time at the next push and nothing else.
fn save_index(spec: &SourceSpec, index: &Index) {
    let saved = fault::point("hub.index")
        .and_then(|()| Dir::open_parent_of(&spec.index))
        .and_then(|(dir, name)| {
            write_atomically_with(&dir, &name, 0o600, |file| index.write(file))
        });
    if let Err(error) = saved {
        tracing::warn!(%error, "the index of the source can't be saved");
    }
}
