//! From two tables of directory hashes to the tree that the member should have.
//!
//! Directories that are equal come from our own manifest, the others from the hub. The whole is
//! trusted only because its roots are the ones that were announced.

use super::foreign::ForeignPaths;
use super::look::Seen;
use super::place::Place;
use super::refusal::{information, notice, of_fs};
use super::tree_plan::{Action, PlanInput, TreePlan, plan};
use crate::codes::{Code, Problem};
use crate::fs::space::space;
use crate::fs::walk::{Verdict, walk};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use sync_proto::entry::{Kind, Meta, Principal};
use sync_proto::manifest::{Directory, Manifest, ManifestError, Roots, meta_from_bytes};
use sync_proto::path::RelPath;
use sync_proto::wire::table::Row;

/// A comparison under way: the hub's table, and which of its directories we lack.
pub struct Comparison {
    roots: Roots,
    root_meta: Meta,
    rows: Vec<Row>,
    wanted: Vec<u32>,
}

const NOT_ALLOWED: &str = "is a device, FIFO, socket or setuid file that is not allowed here";

/// What a tree is to become, and what that changes.
pub struct Target {
    /// The tree that the member should have.
    pub desired: Manifest,
    /// Its roots.
    pub roots: Roots,
    /// What changes.
    pub plan: TreePlan,
    /// What is foreign once it is there.
    pub foreign_after: ForeignPaths,
}

/// With less than this to spare it is worth knowing how much staging takes.
const TIGHT_BYTES: u64 = 64 << 20;
const TIGHT_INODES: u64 = 1_000;

/// Bytes and inodes that the staging areas take and nothing else refers to.
fn staged(place: &Place) -> (u64, u64) {
    let walked = place
        .stages()
        .and_then(|stages| walk(&stages, |_, _, _| Verdict::Descend));
    let Ok(walked) = walked else {
        return (0, 0);
    };
    let entries = walked.dirs.iter().flat_map(|directory| &directory.entries);
    let own = entries.filter(|entry| entry.stat.is_directory() || entry.stat.nlink == 1);
    own.fold((0, 0), |(bytes, inodes), entry| {
        match entry.stat.is_file() {
            true => (bytes + entry.stat.size, inodes + 1),
            false => (bytes, inodes + 1),
        }
    })
}

impl Comparison {
    /// Finds out which directories of the hub's table we lack.
    pub fn new(
        own: &Manifest,
        roots: Roots,
        root_meta: &[u8],
        rows: Vec<Row>,
    ) -> Result<Self, ManifestError> {
        let digests = own.digests();
        let mine: HashMap<&RelPath, [u8; 16]> = own
            .directories()
            .iter()
            .zip(digests)
            .map(|(directory, digests)| (&directory.path, digests.short()))
            .collect();
        let wanted = (0_u32..)
            .zip(&rows)
            .filter(|(_, row)| mine.get(&row.path) != Some(&row.short))
            .map(|(at, _)| at)
            .collect();
        Ok(Self {
            roots,
            root_meta: meta_from_bytes(root_meta)?,
            rows,
            wanted,
        })
    }

    /// The roots that were announced.
    pub fn roots(&self) -> Roots {
        self.roots
    }

    /// The directories that the hub is asked for.
    pub fn wanted(&self) -> Vec<(u32, u32)> {
        sync_proto::wire::ranges_of(self.wanted.iter().copied())
    }

    /// Puts the tree together, once the listings are here.
    pub fn finish(self, own: &Manifest, listings: Vec<Directory>) -> Result<Manifest, Problem> {
        let broken = |what: &str| Problem::new(Code::ProtocolViolation, what.to_owned());
        if listings.len() != self.wanted.len() {
            return Err(broken(
                "The hub listed other directories than those asked for",
            ));
        }
        let mut listings = listings.into_iter();
        let mut wanted = self.wanted.iter().copied().peekable();
        let mut directories = Vec::with_capacity(self.rows.len());
        for (at, row) in (0_u32..).zip(&self.rows) {
            let directory = if wanted.next_if_eq(&at).is_some() {
                let listing = listings.next().filter(|listing| listing.path == row.path);
                listing.map(Arc::new)
            } else {
                own.shared(&row.path).cloned()
            };
            directories.push(
                directory.ok_or_else(|| {
                    broken("The hub listed other directories than those asked for")
                })?,
            );
        }
        let manifest = Manifest::like(own, self.root_meta, directories)
            .map_err(|error| Problem::from_error(Code::ProtocolViolation, &error))?;
        if manifest.roots() != self.roots {
            return Err(broken(
                "The tree that the hub described is not the one it announced",
            ));
        }
        Ok(manifest)
    }
}

/// LIMIT: so many foreign paths are named in a plan.
const MAX_FOREIGN: usize = 200;

impl Seen {
    /// Plans the way from what is there to `desired`.
    pub fn plan(&mut self, desired: Manifest, roots: Roots) -> Result<Target, Problem> {
        let place = &self.claim.place;
        let observed = self.observed.manifest();
        let foreign_after = self.foreign_after(&desired)?;
        if self.record.adopted && self.record.live.is_none() {
            self.keeper.foreign = foreign_after.clone();
        }
        let live = place.live().map_err(|error| of_fs(&error))?;
        let root_changed = place
            .root_changed(&self.record)
            .map_err(|error| of_fs(&error))?;
        let mut plan = plan(&PlanInput {
            live: live.as_ref(),
            layout: place.layout(),
            observed: &self.observed,
            is_looked_at: self.is_looked_at,
            committed: self.committed.as_deref(),
            desired: &desired,
            keeper: &self.keeper,
            seed: self.options.seed,
            space: space(place.state()).ok(),
            root_changed: root_changed.as_deref(),
        })
        .map_err(|error| of_fs(&error))?;
        let summary = &mut plan.summary;
        let foreign = self.keeper.foreign.tops();
        summary.foreign = summary.foreign.max(foreign.len() as u64);
        let named = foreign.iter().take(MAX_FOREIGN);
        summary.foreign_paths = named.map(|top| top.as_bytes().to_vec()).collect();
        if summary.write_bytes.saturating_add(TIGHT_BYTES) > summary.free_bytes
            || summary.write_inodes.saturating_add(TIGHT_INODES) > summary.free_inodes
        {
            // What an earlier attempt left is used, or makes way.
            let (bytes, inodes) = staged(place);
            summary.free_bytes = summary.free_bytes.saturating_add(bytes);
            summary.free_inodes = summary.free_inodes.saturating_add(inodes);
        }
        for conflict in &mut summary.conflicts {
            if conflict.code.is_empty() {
                conflict.code = Code::PreservedConflict.id();
            }
        }
        let allowed = self.special_files();
        let made = plan.changes.iter().filter(|it| it.action != Action::Remove);
        for change in made {
            if desired
                .entry(&change.path)
                .is_some_and(|it| !allowed.allow(it))
            {
                let path = change.path.as_bytes();
                summary
                    .conflicts
                    .push(notice(Code::EntryRefused, path, NOT_ALLOWED));
            }
        }
        for missing in self.missing_owners(&desired) {
            summary
                .conflicts
                .push(notice(Code::OwnerMissing, b"", missing));
        }
        if observed.entry_count() == 0 && self.live_generation().is_none() {
            summary
                .notices
                .push(information(b"", "Nothing was here before"));
        }
        Ok(Target {
            desired,
            roots,
            plan,
            foreign_after,
        })
    }

    /// What stays foreign once `desired` is there.
    fn foreign_after(&self, desired: &Manifest) -> Result<ForeignPaths, Problem> {
        if self.record.adopted && self.record.live.is_none() {
            return Ok(ForeignPaths::at_adoption(self.observed.manifest(), desired));
        }
        let foreign = &self.keeper.foreign;
        if foreign.is_empty() {
            return Ok(ForeignPaths::default());
        }
        // Foreign entries weren't looked at; those below a directory that the manifest wants as
        // well are foreign one by one from now on.
        let mut left = Vec::new();
        for top in foreign.tops() {
            match desired.entry(top) {
                None => left.push(top.clone()),
                Some(wanted) if wanted.kind.is_directory() => {
                    left.extend(self.names_below(top, desired)?);
                }
                Some(_) => {}
            }
        }
        Ok(ForeignPaths::new(left))
    }

    fn names_below(&self, top: &RelPath, desired: &Manifest) -> Result<Vec<RelPath>, Problem> {
        let place = &self.claim.place;
        let Some(live) = place.live().map_err(|error| of_fs(&error))? else {
            return Ok(Vec::new());
        };
        let Some(dir) = live.try_open_dir_at(top).map_err(|error| of_fs(&error))? else {
            return Ok(Vec::new());
        };
        let walked = walk(&dir, |_, _, _| Verdict::Descend).map_err(|error| of_fs(&error))?;
        let mut names = Vec::new();
        for directory in &walked.dirs {
            for entry in &directory.entries {
                let mut path = top.clone();
                let below = directory.path.components().chain([entry.name.as_bytes()]);
                for component in below {
                    let joined =
                        sync_proto::path::Name::parse(component).and_then(|name| path.join(&name));
                    let Ok(joined) = joined else { break };
                    path = joined;
                }
                if desired.entry(&path).is_none() {
                    names.push(path);
                }
            }
        }
        Ok(names)
    }

    /// Every user and group that the tree names and this machine lacks.
    fn missing_owners(&self, desired: &Manifest) -> Vec<String> {
        let mut seen: HashSet<(&Principal, bool)> = HashSet::new();
        let metas = desired
            .entries()
            .filter(|(_, entry)| !matches!(entry.kind, Kind::HardLink { .. }))
            .map(|(_, entry)| &entry.meta);
        let mut missing = Vec::new();
        for meta in std::iter::once(desired.root_meta()).chain(metas) {
            if seen.insert((&meta.user, true))
                && let Err(error) = self.principals.uid(&meta.user)
            {
                missing.push(error.to_string());
            }
            if seen.insert((&meta.group, false))
                && let Err(error) = self.principals.gid(&meta.group)
            {
                missing.push(error.to_string());
            }
        }
        missing
    }
}
