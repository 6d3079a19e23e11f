//! The next release of a tree: what a deployment changes, on any tree, the same for the same seed.

use super::corpus::{Generator, Sort};
use super::disk::{Tree, failed};
use crate::fs::FileKind;
use crate::fs::walk::{Verdict, walk};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};
use sync_proto::path::{Name, RelPath};

/// LIMIT: larger files are left alone, so that any tree can be shown.
const LARGEST_EDITED_BYTES: u64 = 16 * 1024 * 1024;
/// Files at the top and right below it stay: applications require some of them.
const REMOVED_FROM_DEPTH: usize = 3;

/// How much changes, of a hundred files each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Get another line.
    pub edited: usize,
    /// Get a new neighbour.
    pub added: usize,
    /// Go.
    pub removed: usize,
}

impl Extent {
    /// A usual release: about five of a hundred files.
    pub const USUAL: Self = Self {
        edited: 3,
        added: 1,
        removed: 1,
    };
    /// A large upgrade. It adds little, so that going back from it removes little either.
    pub const LARGE: Self = Self {
        edited: 35,
        added: 3,
        removed: 0,
    };
}

/// Turns the platform into its next release of the usual extent, and moves one module. Returns
/// how many files changed.
///
/// # Errors
/// If the disk refuses.
pub fn next_release(directory: &Path, seed: u64) -> io::Result<usize> {
    let changed = change(directory, seed, Extent::USUAL)?;
    let tree = Tree::open(directory)?;
    let modules = RelPath::parse(b"sites/all/modules").map_err(failed)?;
    if let Some(modules) = tree.root().try_open_dir_at(&modules).map_err(failed)? {
        let mut names: Vec<Name> = modules
            .list()
            .map_err(failed)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort();
        let moved = Name::parse(b"moved").map_err(failed)?;
        if let Some(first) = names.first().filter(|_| !names.contains(&moved)) {
            modules
                .rename_noreplace(first, &modules, &moved)
                .map_err(failed)?;
        }
    }
    Ok(changed)
}

/// Changes files all over the tree. Returns how many.
///
/// # Errors
/// If the disk refuses.
pub fn change(directory: &Path, seed: u64, extent: Extent) -> io::Result<usize> {
    let tree = Tree::open(directory)?;
    let mut generator = Generator::new(seed);
    let walked = walk(tree.root(), |_, _, _| Verdict::Descend).map_err(failed)?;
    let now = SystemTime::now();
    let mut changed = 0;
    for dir in &walked.dirs {
        for entry in &dir.entries {
            if entry.stat.kind() != FileKind::File || entry.stat.size > LARGEST_EDITED_BYTES {
                continue;
            }
            let path = dir.path.join(&entry.name).map_err(failed)?;
            // Times of their own, as a checkout gives them.
            let modified = now - Duration::from_millis(generator.below(60_000) as u64);
            let dice = generator.below(100);
            if dice < extent.edited {
                let mut content = tree.read(&path, LARGEST_EDITED_BYTES)?;
                let at = generator.below(content.len() + 1);
                let line = generator.line().to_vec();
                content.splice(at..at, line);
                tree.replace(&path, &content, entry.stat.permissions(), modified)?;
            } else if dice < extent.edited + extent.added {
                let name = format!("added{:08}.php", generator.below(100_000_000));
                let content = generator.content(Sort::Php, &name);
                let name = Name::parse(name.as_bytes()).map_err(failed)?;
                let path = dir.path.join(&name).map_err(failed)?;
                tree.replace(&path, &content, 0o644, modified)?;
            } else if dice < extent.edited + extent.added + extent.removed
                && path.depth() >= REMOVED_FROM_DEPTH
            {
                tree.remove(&path)?;
            } else {
                continue;
            }
            changed += 1;
        }
    }
    Ok(changed)
}
