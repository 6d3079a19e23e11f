//! The plan in numbers and letters, as it is sent.

use super::tree_plan::{Action, Planner, is_made, notice};
use crate::model::counted;
use sync_proto::entry::{Entry, Kind, Meta};
use sync_proto::wire::Layout;

/// How many paths that go are named.
const EXAMPLES: usize = 10;

impl Planner<'_> {
    pub(super) fn count(&mut self) {
        let input = self.input;
        let observed = input.observed.manifest();
        let summary = &mut self.summary;
        summary.entries = count(observed.entry_count());
        for change in self.changes.values() {
            let counter = match change.action {
                Action::Add => &mut summary.added,
                Action::Replace => &mut summary.replaced,
                Action::Touch => &mut summary.touched,
                Action::Remove => &mut summary.deleted,
            };
            *counter += 1;
            summary.drifted += u64::from(change.is_drift);
            let name = change.path.as_bytes();
            match change.action {
                Action::Remove => {
                    // What was never committed is moved aside, and nobody counts on it. Where it is
                    // not known what was, everything counts.
                    let is_surplus = input
                        .committed
                        .is_some_and(|it| it.manifest().entry(&change.path).is_none());
                    if is_surplus {
                        summary.surplus += 1;
                    } else if !name.contains(&b'/') && change.sort == b'd' {
                        summary.vanished_top.push(name.to_vec());
                    }
                    if summary.deleted_examples.len() < EXAMPLES {
                        summary.deleted_examples.push(name.to_vec());
                    }
                }
                _ if is_made(change, input.layout == Layout::Switched) => {
                    match input.desired.entry(&change.path).map(|entry| &entry.kind) {
                        Some(Kind::File { size, .. }) => {
                            summary.write_bytes = summary.write_bytes.saturating_add(*size);
                            summary.write_inodes += 1;
                        }
                        Some(Kind::HardLink { .. }) => {}
                        _ => summary.write_inodes += 1,
                    }
                }
                _ => {}
            }
        }
        if input.layout == Layout::Switched {
            // A generation has directories of its own; what is unchanged is linked.
            summary.write_inodes = summary
                .write_inodes
                .saturating_add(count(input.desired.directories().len()));
        }
        let foreign = &input.keeper.foreign;
        if !foreign.is_empty() {
            let strangers = observed
                .entries()
                .filter(|(directory, entry)| foreign.contains(&directory.path_of(&entry.name)));
            summary.foreign = count(strangers.count());
        }
        let free = input.space;
        summary.free_bytes = free.map_or(u64::MAX, |space| space.free_bytes);
        summary.free_inodes = free.and_then(|space| space.free_inodes).unwrap_or(u64::MAX);
        summary.root_changed = input.root_changed.map(str::to_owned);
        for (top, entries) in &self.ignored {
            let message = format!(
                "belongs to the member and stays as it is; the source holds {} there",
                counted(*entries, "entry", "entries")
            );
            summary.notices.push(notice(top, &message));
        }
        for kept in &self.stays {
            summary.kept.push(kept.as_bytes().to_vec());
            summary.notices.push(notice(
                kept,
                "left the source, but stays: it holds names that may not be touched",
            ));
        }
    }
}

pub(super) fn attributes(old: Option<&Entry>, new: &Entry) -> String {
    let Some(old) = old else {
        return String::new();
    };
    let content = if old.kind == new.kind { "" } else { "s" };
    format!("{content}{}", meta_letters(&old.meta, &new.meta))
}

pub(super) fn meta_letters(old: &Meta, new: &Meta) -> String {
    let is_timed = old.mtime.is_some() && new.mtime.is_some();
    [
        (is_timed && old.mtime != new.mtime, 't'),
        (old.mode != new.mode, 'p'),
        (old.user != new.user, 'o'),
        (old.group != new.group, 'g'),
        (old.xattrs != new.xattrs, 'x'),
    ]
    .into_iter()
    .filter_map(|(differs, letter)| differs.then_some(letter))
    .collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
