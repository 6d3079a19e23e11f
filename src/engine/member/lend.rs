//! A content of this member that the hub wants for others: what was committed here, and nothing
//! else.
//!
//! Only a file is lent that the last commit put there, that no rule says is the member's own, and
//! that is still the file that was looked at. The hub names it by its hash, never by a path, and
//! checks the hash of what it gets.

use super::fault::point;
use super::look::Seen;
use super::refusal::of_fs;
use crate::codes::{Code, Problem};
use crate::engine::index::{Index, Stamp};
use crate::fs::Stat;
use crate::fs::read::read_range;
use std::fs::File;
use sync_proto::digest::Digest;
use sync_proto::entry::Kind;
use sync_proto::path::RelPath;
use sync_proto::wire::MAX_LEND_BYTES;

/// A range of a file that is being lent.
pub(super) struct Loan {
    file: File,
    path: RelPath,
    stamp: Stamp,
    at: u64,
    end: u64,
}

impl Loan {
    /// Finds and opens a file with this content.
    ///
    /// # Errors
    /// The range isn't one, nothing here has that content, or what had it is something else now.
    pub(super) fn open(
        seen: &Seen,
        content: &Digest,
        offset: u64,
        length: u32,
    ) -> Result<Self, Problem> {
        if length == 0 || length > MAX_LEND_BYTES {
            let message = format!("The hub asks for {length} bytes of a file at once");
            return Err(Problem::new(Code::ProtocolViolation, message));
        }
        let live = seen.claim.place.live().map_err(|error| of_fs(&error))?;
        let (Some(live), Some(committed)) = (live, committed(seen)) else {
            return Err(not_here(content));
        };
        let mut drifted = None;
        for (path, size) in paths_with(committed, content) {
            if seen.keeper.allow_write(&path, false).is_err() {
                continue;
            }
            let end = offset.checked_add(length.into());
            let Some(end) = end.filter(|end| *end <= size) else {
                let message = "The hub asks for bytes behind the end of a file";
                return Err(Problem::new(Code::ProtocolViolation, message));
            };
            let now = seen.observed.entry(&path).filter(|(entry, _)| {
                matches!(entry.kind, Kind::File { content: now, .. } if now == *content)
            });
            if let Some((_, stamp)) = now {
                let opened = live.open_parent_at(&path).map_err(|error| of_fs(&error))?;
                let opened = opened.map(|(parent, name)| parent.open_file_with_stat(&name));
                if let Some(Ok((file, stat))) = opened
                    && stamp.is_of(&stat)
                {
                    return Ok(Self {
                        file,
                        path,
                        stamp: *stamp,
                        at: offset,
                        end,
                    });
                }
            }
            drifted.get_or_insert(path);
        }
        Err(match drifted {
            Some(path) => changed(&path),
            None => not_here(content),
        })
    }

    /// The next bytes, at most `limit`, and whether they are the last.
    ///
    /// # Errors
    /// The disk, or the file has changed.
    pub(super) fn read(&mut self, limit: usize) -> Result<(Vec<u8>, bool), Problem> {
        point("member.lend").map_err(|error| of_fs(&error))?;
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(limit);
        let bytes = read_range(&self.file, self.at, wanted).map_err(|error| of_fs(&error))?;
        // What somebody writes into the file meanwhile is nothing that the hub has ever sent.
        let stat = Stat::of_file(&self.file).map_err(|error| of_fs(&error))?;
        if bytes.len() != wanted || !self.stamp.is_of(&stat) {
            return Err(changed(&self.path));
        }
        self.at += bytes.len() as u64;
        Ok((bytes, self.at == self.end))
    }
}

/// What the last commit put here, as far as that is known.
fn committed(seen: &Seen) -> Option<&Index> {
    let live = seen.live_generation()?.roots;
    match &seen.committed {
        Some(committed) => Some(committed),
        None => (seen.roots == live).then_some(&*seen.observed),
    }
}

fn paths_with(index: &Index, wanted: &Digest) -> impl Iterator<Item = (RelPath, u64)> {
    index
        .manifest()
        .entries()
        .filter_map(move |(directory, entry)| match entry.kind {
            Kind::File { size, content } if content == *wanted => {
                Some((directory.path_of(&entry.name), size))
            }
            _ => None,
        })
}

fn not_here(content: &Digest) -> Problem {
    let message = format!("Nothing that was committed here has the content {content:?}");
    Problem::new(Code::DepotIncomplete, message)
}

fn changed(path: &RelPath) -> Problem {
    let message = format!("`{path}` isn't what was committed here");
    Problem::new(Code::Drift, message)
}
