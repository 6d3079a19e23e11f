//! Uploaded files of this server: listed, read, written and removed below preserved paths only; and
//! the shares that hold them elsewhere.
//!
//! Refuses a place that no preserve rule covers, every symlink on the way, and content that hasn't
//! the digest it should have. Invariants: a name has its whole old or its whole new content; what
//! nobody delivered is never lost, but kept beside under a name that no web server shows.

use super::super::trees::Trees;
use crate::codes::{Code, Problem};
use crate::engine::member::place::Place;
use crate::engine::member::reach;
use crate::engine::member::record::TreeRecord;
use crate::engine::member::refusal::{of_fs, of_meta, of_place};
use crate::fs::meta::{Apply, Wanted, apply_meta};
use crate::fs::owner::Principals;
use crate::fs::read::{ReadError, hash_file, read_range};
use crate::fs::walk::{Verdict, walk};
use crate::fs::xattr::{Target, XattrPolicy};
use crate::fs::{Dir, FsError, Stat};
use crate::net::NodeKey;
use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};
use sync_proto::digest::Digest;
use sync_proto::entry::Time;
use sync_proto::path::{Name, RelPath, escape};
use sync_proto::wire::service::uploads::{UPLOAD_LIST_FILES, UPLOAD_MAX_BYTES, UPLOAD_PART_BYTES};
use sync_proto::wire::service::{UploadAnswer, UploadFile, UploadPlace, UploadRequest};

/// The beginning of every name that is ours: parts on their way, and what was kept.
const OWN_PREFIX: &[u8] = b".fanout-";
/// LIMIT: bytes of paths in one part of a listing.
const LIST_BYTES: usize = 256 * 1024;
/// LIMIT: digests that are remembered, about 100 bytes each.
const REMEMBERED: usize = 1_000_000;
/// What a file that somebody uploaded may have of permissions: nothing to run.
const FILE_MODE: u32 = 0o664;

/// Uploads of this server.
#[derive(Debug, Default)]
pub struct Uploads {
    /// What files held when they were hashed last, by device and inode.
    known: Mutex<HashMap<(u64, u64), (Stat, Digest)>>,
}

impl Uploads {
    /// Answers one request; to be called where waiting for a disk is no harm.
    ///
    /// # Errors
    /// The place isn't one, or the disk said no.
    pub fn answer(
        &self,
        trees: &Trees,
        hub: NodeKey,
        request: UploadRequest,
    ) -> Result<UploadAnswer, Problem> {
        match request {
            UploadRequest::List { place, after, skip } => {
                self.list(&open(trees, hub, &place)?, &after, &skip)
            }
            UploadRequest::Read {
                place,
                path,
                offset,
            } => read(&open(trees, hub, &place)?, &path, offset),
            UploadRequest::Write {
                place,
                file,
                replaces,
                offset,
                bytes,
            } => write(&open(trees, hub, &place)?, &file, replaces, offset, &bytes),
            UploadRequest::Remove {
                place,
                path,
                digest,
            } => remove(&open(trees, hub, &place)?, &path, digest),
            UploadRequest::Mounted { path, user } => super::share::mounted(trees, &path, &user),
            UploadRequest::Leave { path, nonce } => super::share::leave(trees, &path, nonce),
            UploadRequest::Find { path, nonce, take } => {
                super::share::find(trees, &path, nonce, take)
            }
        }
    }

    fn list(&self, at: &Opened, after: &[u8], skip: &[String]) -> Result<UploadAnswer, Problem> {
        let Some(dir) = at.dir(false)? else {
            return Ok(UploadAnswer::Listed {
                files: Vec::new(),
                last: true,
                left_out: 0,
            });
        };
        let walked = walk(&dir, |parent, name, is_directory| {
            let is_skipped = parent.is_root() && is_directory && named(skip, name);
            match is_skipped || name.starts_with(OWN_PREFIX) {
                true => Verdict::Skip,
                false => Verdict::Descend,
            }
        })
        .map_err(|error| of_fs(&error))?;
        let mut left_out = walked.problems.len() as u64;
        let mut found: Vec<(RelPath, &RelPath, &Name, Stat)> = Vec::new();
        for directory in &walked.dirs {
            for entry in &directory.entries {
                match directory.path.join(&entry.name) {
                    Ok(path) if entry.stat.is_file() => {
                        found.push((path, &directory.path, &entry.name, entry.stat));
                    }
                    Ok(_) if entry.stat.is_directory() => {}
                    _ => left_out += 1,
                }
            }
        }
        found.retain(|(path, ..)| path.as_bytes() > after);
        found.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        let mut files = Vec::new();
        let mut bytes = 0;
        let mut last = true;
        for (path, parent, name, stat) in found {
            if files.len() >= UPLOAD_LIST_FILES || bytes > LIST_BYTES {
                last = false;
                break;
            }
            bytes += path.as_bytes().len();
            match self.digest(&dir, parent, name, &stat) {
                Ok(digest) => files.push(UploadFile {
                    path: path.as_bytes().to_vec(),
                    size: stat.size,
                    digest,
                    mtime_s: stat.mtime.seconds,
                    mode: stat.permissions(),
                }),
                // It is being written or gone: the next listing has it.
                Err(_) => left_out += 1,
            }
        }
        Ok(UploadAnswer::Listed {
            files,
            last,
            left_out,
        })
    }

    fn digest(
        &self,
        dir: &Dir,
        parent: &RelPath,
        name: &Name,
        stat: &Stat,
    ) -> Result<Digest, ReadError> {
        let key = (stat.dev, stat.ino);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known
            .get(&key)
            .filter(|(before, _)| before.same_content_stamp(stat));
        if let Some((_, digest)) = same {
            return Ok(*digest);
        }
        drop(known);
        let parent = dir.open_dir_at(parent).map_err(ReadError::Io)?;
        let hashed = hash_file(&parent, name, stat)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (hashed.stat, hashed.digest));
        Ok(hashed.digest)
    }
}

/// A place of uploads that may be worked on.
struct Opened {
    place: Place,
    path: RelPath,
}

impl Opened {
    fn dir(&self, make: bool) -> Result<Option<Dir>, Problem> {
        reach::directory(&self.place, &self.path, make).map_err(|error| self.refusal(&error))
    }

    /// The directory that holds a file below the place, and its name.
    fn spot(&self, path: &[u8], make: bool) -> Result<Option<(Dir, Name, Stat)>, Problem> {
        let path = RelPath::parse(path).map_err(|error| refused(&error.to_string()))?;
        let is_ours = |name: &[u8]| name.starts_with(OWN_PREFIX);
        if path.is_root() || path.components().any(is_ours) {
            let shown = escape(path.as_bytes());
            return Err(refused(&format!("`{shown}` is not the name of an upload")));
        }
        let Some(root) = self.dir(make)? else {
            return Ok(None);
        };
        let owner = root.stat_self().map_err(|error| of_fs(&error))?;
        let mut dir = root;
        let parent = path.parent().unwrap_or_default();
        for component in parent.components() {
            let name = Name::parse(component).map_err(|error| refused(&error.to_string()))?;
            let next = match make {
                false => dir.try_open_dir(&name).map_err(|e| self.refusal(&e))?,
                true => Some(self.made(&dir, &name, &owner)?),
            };
            let Some(next) = next else {
                return Ok(None);
            };
            dir = next;
        }
        let name = path
            .file_name()
            .ok_or_else(|| refused("an upload has a name"))?;
        Ok(Some((dir, name, owner)))
    }

    fn made(&self, dir: &Dir, name: &Name, owner: &Stat) -> Result<Dir, Problem> {
        match dir.create_dir(name, 0o755) {
            Ok(made) => {
                let ids = (owner.uid, owner.gid);
                crate::fs::owner::give(&made, ids, made.path_for_messages())
                    .map_err(|error| of_fs(&error))?;
                Ok(made)
            }
            Err(error) if error.is_exists() => dir.open_dir(name).map_err(|e| self.refusal(&e)),
            Err(error) => Err(of_fs(&error)),
        }
    }

    fn refusal(&self, error: &FsError) -> Problem {
        match error.is_wrong_kind() || error.is_other_mount() {
            true => {
                let shown = escape(self.path.as_bytes());
                refused(&format!(
                    "something else than a directory is on the way to `{shown}`: {error}"
                ))
            }
            false => of_fs(error),
        }
    }
}

fn open(trees: &Trees, hub: NodeKey, asked: &UploadPlace) -> Result<Opened, Problem> {
    let binding = trees
        .binding(asked.tree)
        .ok_or_else(|| Problem::new(Code::TreeUnknown, "This agent has no such tree"))?;
    if binding.hub != hub {
        let message = "That tree belongs to another hub";
        return Err(Problem::new(Code::TreeBoundElsewhere, message));
    }
    let place = trees.place(&binding)?;
    let path = RelPath::parse(&asked.path).map_err(|error| refused(&error.to_string()))?;
    let record = TreeRecord::load(&place).map_err(|error| of_place(&error))?;
    if path.is_root() || record.preserve.covers(&path).is_none() {
        let shown = escape(path.as_bytes());
        return Err(refused(&format!("no preserve rule covers `{shown}`")));
    }
    Ok(Opened { place, path })
}

fn read(at: &Opened, path: &[u8], offset: u64) -> Result<UploadAnswer, Problem> {
    let gone = || refused(&format!("`{}` is not there any more", escape(path)));
    let (dir, name, _) = at.spot(path, false)?.ok_or_else(gone)?;
    let (file, _) = dir.open_file_quietly(&name).map_err(|error| {
        // The others go on without one that went away.
        if error.is_not_found() {
            gone()
        } else {
            at.refusal(&error)
        }
    })?;
    let bytes = read_range(&file, offset, UPLOAD_PART_BYTES).map_err(|error| of_fs(&error))?;
    Ok(UploadAnswer::Read { bytes })
}

fn write(
    at: &Opened,
    file: &UploadFile,
    replaces: Option<Digest>,
    offset: u64,
    bytes: &[u8],
) -> Result<UploadAnswer, Problem> {
    let end = offset.checked_add(bytes.len() as u64);
    let is_bounded = file.size <= UPLOAD_MAX_BYTES && bytes.len() <= UPLOAD_PART_BYTES;
    let end = end
        .filter(|end| *end <= file.size && is_bounded)
        .ok_or_else(|| refused("a part lies outside its file"))?;
    let Some((dir, name, owner)) = at.spot(&file.path, true)? else {
        let message = "Nothing was published there yet";
        return Err(Problem::new(Code::NothingPushed, message));
    };
    let part = part_name(&file.path, &file.digest)?;
    let open = match offset {
        0 => {
            absent_is_fine(dir.unlink(&part))?;
            dir.create_file(&part, 0o600)
                .map_err(|error| of_fs(&error))?
        }
        _ => dir.open_file_for_update(&part).map_err(|error| {
            if error.is_not_found() {
                refused("a part came out of order")
            } else {
                of_fs(&error)
            }
        })?,
    };
    let so_far = Stat::of_file(&open).map_err(|error| of_fs(&error))?;
    if so_far.size != offset {
        return Err(refused("a part came out of order"));
    }
    open.write_all_at(bytes, offset)
        .map_err(|error| of_fs(&FsError::from_io("write", &dir.path_of(&part), &error)))?;
    if end < file.size {
        return Ok(UploadAnswer::Written {
            complete: false,
            kept_aside: None,
        });
    }
    let finished = finish(&dir, &name, &part, &open, file, replaces, &owner);
    if finished.is_err() {
        absent_is_fine(dir.unlink(&part))?;
    }
    let kept_aside = finished?;
    Ok(UploadAnswer::Written {
        complete: true,
        kept_aside,
    })
}

/// Gives a complete part its name.
fn finish(
    dir: &Dir,
    name: &Name,
    part: &Name,
    open: &std::fs::File,
    file: &UploadFile,
    replaces: Option<Digest>,
    owner: &Stat,
) -> Result<Option<Vec<u8>>, Problem> {
    let stat = Stat::of_file(open).map_err(|error| of_fs(&error))?;
    let hashed = hash_file(dir, part, &stat).map_err(|error| unreadable(&error))?;
    if hashed.digest != file.digest {
        let message = format!("`{}` arrived with another content", escape(&file.path));
        return Err(Problem::new(Code::ContentMismatch, message));
    }
    let wanted = Wanted {
        uid: owner.uid,
        gid: owner.gid,
        mode: (file.mode & FILE_MODE) | 0o400,
        mtime: Some(Time {
            seconds: file.mtime_s,
            nanoseconds: 0,
        }),
        xattrs: None,
    };
    let how = Apply {
        policy: XattrPolicy::Ignore,
        principals: &Principals::numeric(),
        is_fresh: true,
    };
    apply_meta(&Target::Open(open.as_fd()), &wanted, how).map_err(|error| of_meta(&error))?;
    // ORDER: the content is durable before it gets its name.
    open.sync_all()
        .map_err(|error| of_fs(&FsError::from_io("sync", &dir.path_of(part), &error)))?;
    let kept = match dir.stat(name).map_err(|error| of_fs(&error))? {
        None => None,
        Some(there) if there.is_file() => {
            let before = hash_file(dir, name, &there).map_err(|error| unreadable(&error))?;
            let is_expected = before.digest == file.digest || Some(before.digest) == replaces;
            match is_expected {
                true => None,
                false => Some(keep_aside(dir, name, &before.digest)?),
            }
        }
        Some(_) => {
            let shown = escape(&file.path);
            return Err(refused(&format!(
                "something else than a file is at `{shown}`"
            )));
        }
    };
    // RACE: a file that comes under this name in between is replaced. The application on this
    // member isn't the one that writes.
    dir.rename_to(part, dir, name)
        .map_err(|error| of_fs(&error))?;
    dir.sync().map_err(|error| of_fs(&error))?;
    Ok(kept)
}

/// Moves another version to a name of its own, which nobody lists and no web server shows.
fn keep_aside(dir: &Dir, name: &Name, digest: &Digest) -> Result<Vec<u8>, Problem> {
    let hex = digest.to_hex();
    let short = hex.get(..12).unwrap_or(&hex);
    let mut kept = [OWN_PREFIX, b"kept-", short.as_bytes(), b"-"].concat();
    let room = 255 - kept.len();
    let base = name.as_bytes();
    // The end of a long name is where its kind is.
    kept.extend_from_slice(base.get(base.len().saturating_sub(room)..).unwrap_or(base));
    let aside = Name::parse(&kept).map_err(|error| refused(&error.to_string()))?;
    match dir.rename_noreplace(name, dir, &aside) {
        // The same version was kept before.
        Err(error) if error.is_exists() => {}
        other => other.map_err(|error| of_fs(&error))?,
    }
    Ok(kept)
}

fn remove(at: &Opened, path: &[u8], digest: Digest) -> Result<UploadAnswer, Problem> {
    let Some((dir, name, _)) = at.spot(path, false)? else {
        return Ok(UploadAnswer::Removed { gone: true });
    };
    let Some(stat) = dir.stat(&name).map_err(|error| of_fs(&error))? else {
        return Ok(UploadAnswer::Removed { gone: true });
    };
    let is_same =
        stat.is_file() && hash_file(&dir, &name, &stat).is_ok_and(|hashed| hashed.digest == digest);
    if is_same {
        // RACE: a change between the two is lost with the file: the application on this member
        // isn't the one that writes.
        dir.unlink(&name).map_err(|error| of_fs(&error))?;
    }
    Ok(UploadAnswer::Removed { gone: is_same })
}

fn part_name(path: &[u8], digest: &Digest) -> Result<Name, Problem> {
    let mut key = path.to_vec();
    key.extend_from_slice(digest.as_bytes());
    let hex = Digest::of(&key).to_hex();
    Name::parse(format!(".fanout-part-{}", hex.get(..32).unwrap_or(&hex)).as_bytes())
        .map_err(|error| refused(&error.to_string()))
}

fn named(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|other| other.as_bytes() == name)
}

fn absent_is_fine(done: Result<(), FsError>) -> Result<(), Problem> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map_err(|error| of_fs(&error)),
    }
}

fn unreadable(error: &ReadError) -> Problem {
    Problem::from_error(Code::UploadsRefused, error)
}

fn refused(why: &str) -> Problem {
    Problem::new(Code::UploadsRefused, why)
}
