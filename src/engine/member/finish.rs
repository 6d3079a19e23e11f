//! The last entries of a staged tree, once every content is in place: further names, pipes and
//! devices, symlinks, and the directories' metadata; then one look at all of it.

use super::fault::point;
use super::look::Seen;
use super::refusal::of_fs;
use super::stage::{Cursor, Staging, located};
use super::work::{At, StagedDirectory};
use crate::codes::Problem;
use crate::engine::index::{Index, Stamp, Stamps};
use crate::fs::xattr::Target as MetaTarget;
use crate::fs::{Dir, FileKind, FsError};
use rayon::prelude::*;
use sync_proto::entry::Kind;
use sync_proto::manifest::Directory;
use sync_proto::path::Name;
use sync_proto::wire::Layout;

impl Staging {
    /// Makes the empty files.
    pub(super) fn make_empty_files(&self) -> Result<(), Problem> {
        let mut cursor = Cursor::new(self);
        for at in &self.work.empty {
            self.put(&mut cursor, *at, b"")?;
        }
        self.note_entries(self.work.empty.len() as u64);
        Ok(())
    }

    /// Makes everything that has no content, and gives directories their metadata.
    pub fn finish(&self) -> Result<(), Problem> {
        point("member.stage.finish").map_err(|error| of_fs(&error))?;
        let mut cursor = Cursor::new(self);
        for at in &self.work.links {
            self.link(&mut cursor, *at)?;
        }
        for at in &self.work.nodes {
            self.node(&mut cursor, *at)?;
        }
        // ORDER: symlinks last: nothing is ever written through one.
        for at in &self.work.symlinks {
            self.symlink(&mut cursor, *at)?;
        }
        let made = self.work.links.len() + self.work.nodes.len() + self.work.symlinks.len();
        self.note_entries((made + self.work.directories.len()) as u64);
        let directories: Vec<_> = self
            .work
            .directories
            .iter()
            .filter(|(directory, is_final)| **is_final && self.kept(**directory).is_none())
            .map(|(directory, _)| *directory)
            .collect();
        directories
            .into_par_iter()
            .try_for_each(|directory| self.finish_directory(directory))
    }

    fn link(&self, cursor: &mut Cursor<'_>, at: At) -> Result<(), Problem> {
        let Some((_, entry)) = self.work.at(at) else {
            return Ok(());
        };
        let Kind::HardLink { leader } = &entry.kind else {
            return Ok(());
        };
        let path = || self.work.path(at);
        let opened = self
            .root(at.is_seed)
            .open_parent_at(leader)
            .map_err(|error| located(&error, &path()))?;
        let Some((from, leader)) = opened else {
            return Ok(());
        };
        let dir = cursor.of(at)?;
        afresh(dir, &entry.name, || {
            dir.hard_link(&from, &leader, &entry.name)
        })
        .map_err(|error| located(&error, &path()))
    }

    fn node(&self, cursor: &mut Cursor<'_>, at: At) -> Result<(), Problem> {
        let Some((_, entry)) = self.work.at(at) else {
            return Ok(());
        };
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileKind::Fifo, (0, 0)),
            Kind::Socket => (FileKind::Socket, (0, 0)),
            Kind::CharDevice { major, minor } => (FileKind::CharDevice, (major, minor)),
            Kind::BlockDevice { major, minor } => (FileKind::BlockDevice, (major, minor)),
            _ => return Ok(()),
        };
        let wanted = self.resolve(&entry.meta)?;
        let dir = cursor.of(at)?;
        let name = &entry.name;
        afresh(dir, name, || dir.mknod(name, kind, wanted.mode, device))
            .map_err(|error| located(&error, &self.work.path(at)))?;
        let target = MetaTarget::entry(dir, name).map_err(|error| of_fs(&error))?;
        // In a directory that had its default ACL before, what is made inherits it.
        self.apply(&target, &wanted, self.is_fresh, || self.work.path(at))
    }

    fn symlink(&self, cursor: &mut Cursor<'_>, at: At) -> Result<(), Problem> {
        let Some((_, entry)) = self.work.at(at) else {
            return Ok(());
        };
        let Kind::Symlink { target } = &entry.kind else {
            return Ok(());
        };
        let wanted = self.resolve(&entry.meta)?;
        let dir = cursor.of(at)?;
        afresh(dir, &entry.name, || dir.symlink(target, &entry.name))
            .map_err(|error| located(&error, &self.work.path(at)))?;
        let held = MetaTarget::entry(dir, &entry.name).map_err(|error| of_fs(&error))?;
        self.apply(&held, &wanted, true, || self.work.path(at))
    }

    fn finish_directory(&self, staged: StagedDirectory) -> Result<(), Problem> {
        let Some(directory) = self.work.directory_at(staged.directory) else {
            return Ok(());
        };
        let desired = &self.work.target.desired;
        let meta = if directory.path.is_root() {
            desired.root_meta()
        } else {
            match desired.entry(&directory.path) {
                Some(entry) => &entry.meta,
                None => return Ok(()),
            }
        };
        let wanted = self.resolve(meta)?;
        let mut cursor = Cursor::new(self);
        let dir = cursor.dir(staged)?;
        let path = || directory.path.clone();
        self.apply(&MetaTarget::open(dir), &wanted, self.is_fresh, path)
    }

    /// The wanted tree with a stamp for each entry: staged, or unchanged where it is.
    pub fn index(&self, seen: &Seen) -> Result<Index, Problem> {
        let desired = &self.work.target.desired;
        let stamps: Vec<Stamps> = (0..desired.directories().len() as u32)
            .into_par_iter()
            .with_min_len(16)
            .map(|at| self.stamps(seen, at))
            .collect::<Result<_, Problem>>()?;
        let root = self
            .root(false)
            .stat_self()
            .map_err(|error| of_fs(&error))?;
        // In a staged tree that we made is what we put there. In place, a directory that this commit
        // changes has another ctime afterwards.
        let is_whole = |directory: &Directory| match seen.claim.place.layout() {
            Layout::Switched => self.is_ours,
            Layout::InPlace => seen.observed.is_whole(&directory.path),
        };
        let whole = desired
            .directories()
            .iter()
            .map(|it| is_whole(it))
            .collect();
        let index = Index::of_parts(desired.clone(), Stamp::from(&root), stamps, whole);
        index.ok_or_else(|| {
            let message = "Entries and stamps of a staged tree don't match";
            Problem::new(crate::codes::Code::Bug, message)
        })
    }

    fn stamps(&self, seen: &Seen, at: u32) -> Result<Stamps, Problem> {
        let Some(directory) = self.work.directory_at(at) else {
            return Ok(Stamps::default());
        };
        let staged = StagedDirectory {
            is_seed: false,
            directory: at,
        };
        let known = self.work.live(&seen.observed, at);
        if self.kept(staged).is_some()
            && let Some((_, stamps)) = known
        {
            return self.stamps_of_kept(directory, staged, stamps);
        }
        let mut cursor = Cursor::new(self);
        let dir = match self.work.directories.contains_key(&staged) {
            true => Some(cursor.dir(staged)?),
            false => None,
        };
        let mut stamps = Vec::with_capacity(directory.entries.len());
        for (nth, entry) in (0_u32..).zip(&directory.entries) {
            let of_live = || {
                let (now, stamps) = known?;
                let same = now
                    .entries
                    .get(nth as usize)
                    .filter(|it| it.name == entry.name);
                let nth = match same {
                    Some(_) => nth as usize,
                    None => now
                        .entries
                        .binary_search_by(|it| it.name.cmp(&entry.name))
                        .ok()?,
                };
                stamps.get(nth).copied()
            };
            let place = At {
                directory: at,
                entry: nth,
                is_seed: false,
            };
            if self.has_kept(place)
                && let Some(stamp) = of_live().filter(|stamp| !stamp.is_distrusted())
            {
                stamps.push(stamp);
                continue;
            }
            let there = match dir {
                Some(dir) => dir.stat(&entry.name).map_err(|error| of_fs(&error))?,
                None => None,
            };
            let is_scaffold = || {
                let own = self.work.index_of(&directory.path_of(&entry.name));
                own.is_some_and(|own| {
                    let own = StagedDirectory {
                        is_seed: false,
                        directory: own,
                    };
                    self.work.directories.get(&own) == Some(&false)
                })
            };
            let staged = there.filter(|_| !entry.kind.is_directory() || !is_scaffold());
            let stamp = match staged {
                Some(stat) => Stamp::from(&stat),
                None => of_live().unwrap_or_default(),
            };
            stamps.push(stamp);
        }
        Ok(stamps.into())
    }
}

impl Staging {
    /// The stamps of a directory that was taken over: its files are those of the live tree, which was
    /// looked at.
    fn stamps_of_kept(
        &self,
        directory: &Directory,
        staged: StagedDirectory,
        live: &Stamps,
    ) -> Result<Stamps, Problem> {
        if !directory.entries.iter().any(|it| it.kind.is_directory()) {
            return Ok(live.clone());
        }
        let mut cursor = Cursor::new(self);
        let mut stamps = Vec::with_capacity(live.len());
        for (entry, stamp) in directory.entries.iter().zip(live.iter()) {
            if !entry.kind.is_directory() {
                stamps.push(*stamp);
                continue;
            }
            let own = self.work.index_of(&directory.path_of(&entry.name));
            let own = own.map(|directory| StagedDirectory {
                directory,
                ..staged
            });
            stamps.push(match own.and_then(|own| self.kept(own)) {
                Some(stamp) => *stamp,
                None => {
                    let there = cursor.dir(staged)?.stat(&entry.name);
                    let there = there.map_err(|error| of_fs(&error))?;
                    there.map(|stat| Stamp::from(&stat)).unwrap_or_default()
                }
            });
        }
        Ok(stamps.into())
    }
}

/// Makes an entry; what an earlier attempt left under its name goes first.
fn afresh(dir: &Dir, name: &Name, make: impl Fn() -> Result<(), FsError>) -> Result<(), FsError> {
    match make() {
        Err(error) if error.is_exists() => dir.remove_tree(name).and_then(|()| make()),
        other => other,
    }
}
