//! Uploads on several members: fanned out from the one that they are pinned to, or proved to lie on
//! one share.
//!
//! What comes from one member is bytes to the hub: paths are parsed before they go on, and content
//! is checked against its digest by whoever writes it. Invariant: nothing is removed on a member
//! that wasn't brought there by fanout, by the record of the hub's own store.

use super::servers::{Servers, unexpected};
use crate::codes::{Code, Problem};
use crate::model::{ServerName, SiteUri};
use crate::services::app::UploadPath;
use crate::services::app::uploads::{Delivered, FanOut, Listing, add, fan_out};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use sync_proto::path::{RelPath, escape};
use sync_proto::wire::service::{MountFacts, UploadAnswer, UploadFile, UploadPlace, UploadRequest};
use sync_proto::wire::{ServiceAnswer, ServiceRequest, TreeKey};

/// How long one question may take: a listing hashes what it hasn't seen.
const LIMIT: Duration = Duration::from_secs(600);
/// LIMIT: files of one site.
const MAX_FILES: usize = 2_000_000;
/// LIMIT: bytes of their paths.
const MAX_PATHS_BYTES: usize = 256 << 20;

/// Uploads of one site that are written on one member.
pub struct Pinned {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// What was brought to whom.
    pub store: Arc<Store>,
    /// The site.
    pub site: SiteUri,
    /// Its platform's tree.
    pub tree: TreeKey,
    /// Its directories of uploads.
    pub paths: Vec<UploadPath>,
    /// The member that they are written on.
    pub pinned: ServerName,
}

/// What was done on one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Files that were written.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Files that were removed.
    pub removed: u64,
    /// Other versions that were kept aside: their paths in the tree.
    pub kept_aside: Vec<String>,
    /// Files that only this member has.
    pub own: u64,
    /// Files that could not be brought, and why.
    pub problems: Vec<Problem>,
}

impl Pinned {
    /// Brings one member what the pinned one has.
    ///
    /// # Errors
    /// One of the two can't be asked.
    pub async fn bring(&self, member: &ServerName) -> Result<Brought, Problem> {
        let mut brought = Brought::default();
        for path in &self.paths {
            let from = self.list(&self.pinned, path).await?;
            let there = self.list(member, path).await?;
            let delivered = self.store.delivered(&self.site, member, &path.path).await;
            let delivered: Delivered = delivered.map_err(|error| of_store(&error))?;
            let todo = fan_out(&from, &there, &delivered);
            brought.own += todo.own;
            self.carry_out(member, path, &todo, &mut brought).await?;
        }
        Ok(brought)
    }

    async fn carry_out(
        &self,
        member: &ServerName,
        path: &UploadPath,
        todo: &FanOut,
        brought: &mut Brought,
    ) -> Result<(), Problem> {
        let note = async |files: &[(RelPath, Option<_>)]| {
            let noted = self
                .store
                .note_delivered(&self.site, member, &path.path, files);
            noted.await.map_err(|error| of_store(&error))
        };
        for (file, replaces) in &todo.write {
            // Parsed when it was listed.
            let name = RelPath::parse(&file.path)
                .map_err(|error| Problem::from_error(Code::UploadsRefused, &error))?;
            match self.copy(member, path, file, *replaces).await {
                Ok(kept) => {
                    // ORDER: only what is there is noted: a note about a file that somebody else
                    // made would let it be removed.
                    note(&[(name, Some(file.digest))]).await?;
                    brought.written += 1;
                    brought.written_bytes += file.size;
                    brought.kept_aside.extend(kept);
                }
                Err(problem) if is_about_one_file(&problem) => brought.problems.push(problem),
                Err(problem) => return Err(problem),
            }
        }
        for (name, digest) in &todo.remove {
            let request = UploadRequest::Remove {
                place: self.place(path),
                path: name.as_bytes().to_vec(),
                digest: *digest,
            };
            match self.ask(member, request).await? {
                UploadAnswer::Removed { gone } => brought.removed += u64::from(gone),
                _ => return Err(unexpected(member)),
            }
            note(&[(name.clone(), None)]).await?;
        }
        let forgotten: Vec<_> = todo
            .forget
            .iter()
            .map(|name| (name.clone(), None))
            .collect();
        note(&forgotten).await
    }

    /// Copies one file, part by part; the answer is where another version was kept.
    async fn copy(
        &self,
        member: &ServerName,
        path: &UploadPath,
        file: &UploadFile,
        replaces: Option<sync_proto::digest::Digest>,
    ) -> Result<Option<String>, Problem> {
        let mut offset = 0;
        loop {
            let read = UploadRequest::Read {
                place: self.place(path),
                path: file.path.clone(),
                offset,
            };
            let UploadAnswer::Read { bytes } = self.ask(&self.pinned, read).await? else {
                return Err(unexpected(&self.pinned));
            };
            let left = file.size.saturating_sub(offset);
            if bytes.is_empty() && left > 0 || bytes.len() as u64 > left {
                let message = format!(
                    "{}: `{}` changed while it was read",
                    self.pinned,
                    escape(&file.path)
                );
                return Err(Problem::new(Code::UploadsRefused, message));
            }
            let length = bytes.len() as u64;
            let write = UploadRequest::Write {
                place: self.place(path),
                file: file.clone(),
                replaces,
                offset,
                bytes,
            };
            match self.ask(member, write).await? {
                UploadAnswer::Written {
                    complete: true,
                    kept_aside,
                } => {
                    return Ok(kept_aside.map(|name| {
                        format!("{}/{}", escape(path.path.as_bytes()), escape(&name))
                    }));
                }
                UploadAnswer::Written { .. } if length > 0 => offset += length,
                _ => return Err(unexpected(member)),
            }
        }
    }

    /// Every file in one directory of uploads on a member.
    async fn list(&self, member: &ServerName, path: &UploadPath) -> Result<Listing, Problem> {
        let mut all = Listing::new();
        let mut after = Vec::new();
        let mut paths_bytes = 0;
        loop {
            let request = UploadRequest::List {
                place: self.place(path),
                after: after.clone(),
                skip: path.skip.clone(),
            };
            let UploadAnswer::Listed { files, last, .. } = self.ask(member, request).await? else {
                return Err(unexpected(member));
            };
            // LIMIT: a member whose list has no end is given up.
            let goes_on = files.last().is_some_and(|file| file.path > after);
            if let Some(file) = files.last() {
                after.clone_from(&file.path);
            }
            paths_bytes += files.iter().map(|file| file.path.len()).sum::<usize>();
            add(&mut all, files).ok_or_else(|| unexpected(member))?;
            if all.len() > MAX_FILES || paths_bytes > MAX_PATHS_BYTES {
                return Err(unexpected(member));
            }
            if last {
                return Ok(all);
            }
            if !goes_on {
                return Err(unexpected(member));
            }
        }
    }

    fn place(&self, path: &UploadPath) -> UploadPlace {
        UploadPlace {
            tree: self.tree,
            path: path.path.as_bytes().to_vec(),
        }
    }

    async fn ask(
        &self,
        member: &ServerName,
        request: UploadRequest,
    ) -> Result<UploadAnswer, Problem> {
        ask(&self.servers, member, request).await
    }
}

/// The numbers that a user and its group have on one member.
///
/// # Errors
/// It has none there, or they are root's.
pub async fn numbers(
    servers: &Servers,
    member: &ServerName,
    user: &str,
) -> Result<(u32, u32), Problem> {
    // What is mounted there is nobody's business; the numbers come along.
    let request = UploadRequest::Mounted {
        path: b"/mnt".to_vec(),
        user: user.to_owned(),
    };
    match ask(servers, member, request).await? {
        UploadAnswer::Mounted(facts) => Ok((facts.uid, facts.gid)),
        _ => Err(unexpected(member)),
    }
}

/// What is mounted at a path on one member, if it can hold uploads, and which numbers a user has
/// there.
///
/// # Errors
/// Nothing is mounted there, or it can't be written.
pub async fn mounted(
    servers: &Servers,
    member: &ServerName,
    path: &str,
    user: &str,
) -> Result<MountFacts, Problem> {
    let wrong = |message: String| Err(Problem::new(Code::ShareWrong, message));
    let request = UploadRequest::Mounted {
        path: path.as_bytes().to_vec(),
        user: user.to_owned(),
    };
    match ask(servers, member, request).await? {
        UploadAnswer::Mounted(facts) if !facts.is_mount_point => {
            wrong(format!("{member}: nothing is mounted at {path}"))
        }
        UploadAnswer::Mounted(facts) if facts.is_read_only => {
            wrong(format!("{member}: {path} can't be written to"))
        }
        UploadAnswer::Mounted(facts) => Ok(facts),
        _ => Err(unexpected(member)),
    }
}

/// Proves that a path is one share on all members: the same kind, writable, the same number of the
/// site's user, and a word that one leaves is found by all.
///
/// # Errors
/// Which member has what instead.
pub async fn prove_share(
    servers: &Servers,
    path: &str,
    user: &str,
    members: &[ServerName],
) -> Result<MountFacts, Problem> {
    let wrong = |message: String| Problem::new(Code::ShareWrong, message);
    let mut first: Option<(&ServerName, MountFacts)> = None;
    for member in members {
        let facts = mounted(servers, member, path, user).await?;
        match &first {
            None => first = Some((member, facts)),
            Some((other, theirs)) => {
                if (theirs.uid, theirs.gid) != (facts.uid, facts.gid) {
                    return Err(wrong(format!(
                        "`{user}` is {}:{} on {other} and {}:{} on {member}, so files of one \
                         belong to somebody else on the other",
                        theirs.uid, theirs.gid, facts.uid, facts.gid
                    )));
                }
                if theirs.kind != facts.kind {
                    return Err(wrong(format!(
                        "{path} is {} on {other} and {} on {member}",
                        escape(theirs.kind.as_bytes()),
                        escape(facts.kind.as_bytes())
                    )));
                }
            }
        }
    }
    let Some((writer, facts)) = first else {
        return Err(wrong(format!("No member is there to look at {path}")));
    };
    let nonce: [u8; 16] = rand::random();
    let leave = UploadRequest::Leave {
        path: path.as_bytes().to_vec(),
        nonce,
    };
    ask(servers, writer, leave).await?;
    let find = async |member: &ServerName, take| {
        let request = UploadRequest::Find {
            path: path.as_bytes().to_vec(),
            nonce,
            take,
        };
        match ask(servers, member, request).await? {
            UploadAnswer::Found { found } => Ok(found),
            _ => Err(unexpected(member)),
        }
    };
    let mut missing = None;
    for member in members.iter().filter(|member| *member != writer) {
        match find(member, false).await {
            Ok(true) => {}
            Ok(false) => {
                missing = Some(wrong(format!(
                    "{path} on {member} is not what it is on {writer}: a file that one wrote is \
                     not there on the other"
                )));
                break;
            }
            Err(problem) => {
                missing = Some(problem);
                break;
            }
        }
    }
    let taken = find(writer, true).await;
    match missing {
        Some(problem) => Err(problem),
        None => taken.map(|_| facts),
    }
}

async fn ask(
    servers: &Servers,
    member: &ServerName,
    request: UploadRequest,
) -> Result<UploadAnswer, Problem> {
    let request = ServiceRequest::Uploads(request);
    match servers.ask(member, request, LIMIT).await? {
        ServiceAnswer::Uploads(answer) => Ok(answer),
        _ => Err(unexpected(member)),
    }
}

/// It changed, it is in the way of something: the others go on.
fn is_about_one_file(problem: &Problem) -> bool {
    matches!(
        problem.code,
        Code::UploadsRefused | Code::ContentMismatch | Code::PermissionDenied
    )
}

fn of_store(error: &StoreError) -> Problem {
    error.problem()
}
