//! What turns one tree into another, entry by entry.

use super::{Directory, Manifest};
use crate::entry::{Entry, Kind, Meta};
use crate::path::RelPath;
use std::cmp::Ordering;
use std::sync::Arc;

/// One entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Where; the root's path for the root's own metadata.
    pub path: RelPath,
    /// How.
    pub change: Change<'a>,
}

/// How an entry differs between an old and a new tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Only the new tree has it.
    Added(&'a Entry),
    /// Only the old tree has it.
    Removed(&'a Entry),
    /// Both have it, as different things or with different content.
    Replaced {
        /// Before.
        old: &'a Entry,
        /// After.
        new: &'a Entry,
    },
    /// Only metadata differs.
    Meta {
        /// Before.
        old: &'a Meta,
        /// After.
        new: &'a Meta,
        /// What the entry is; `None` for the root.
        kind: Option<&'a Kind>,
    },
}

/// Everything that differs, in [`RelPath`] order of the directories and by name inside one.
pub fn diff<'a>(old: &'a Manifest, new: &'a Manifest) -> Vec<Difference<'a>> {
    let mut differences = Vec::new();
    if !same_meta(&old.0.root, &new.0.root) {
        differences.push(Difference {
            path: RelPath::root(),
            change: Change::Meta {
                old: &old.0.root,
                new: &new.0.root,
                kind: None,
            },
        });
    }
    let (mut olds, mut news) = (
        old.0.directories.iter().peekable(),
        new.0.directories.iter().peekable(),
    );
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(old, new)
        {
            continue;
        }
        let (old, new) = (old.map(Arc::as_ref), new.map(Arc::as_ref));
        diff_directory(old, new, &mut differences);
    }
}

/// True if both are the same wherever both say something: a time that one side leaves open is
/// not compared.
pub fn same_meta(old: &Meta, new: &Meta) -> bool {
    old.mode == new.mode
        && old.user == new.user
        && old.group == new.group
        && old.xattrs == new.xattrs
        && (old.mtime == new.mtime || old.mtime.is_none() || new.mtime.is_none())
}

fn diff_directory<'a>(
    old: Option<&'a Directory>,
    new: Option<&'a Directory>,
    differences: &mut Vec<Difference<'a>>,
) {
    let Some(path) = new.or(old).map(|directory| &directory.path) else {
        return;
    };
    let entries = |directory: Option<&'a Directory>| {
        directory
            .map_or(&[][..], |directory| directory.entries.as_slice())
            .iter()
            .peekable()
    };
    let (mut olds, mut news) = (entries(old), entries(new));
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.name.cmp(&new.name),
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        let change = match (old, new) {
            (Some(old), None) => Change::Removed(old),
            (None, Some(new)) => Change::Added(new),
            (Some(old), Some(new)) if old.kind != new.kind => Change::Replaced { old, new },
            (Some(old), Some(new)) if !same_meta(&old.meta, &new.meta) => Change::Meta {
                old: &old.meta,
                new: &new.meta,
                kind: Some(&new.kind),
            },
            _ => continue,
        };
        let Some(entry) = new.or(old) else { continue };
        let Ok(path) = path.join(&entry.name) else {
            continue;
        };
        differences.push(Difference { path, change });
    }
}
