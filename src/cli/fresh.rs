//! What a push brings to a member that never had the tree: everything.
//!
//! A look doesn't bind a tree, so such a member can't compare anything; the hub knows the answer.

use crate::codes::{Code, Problem};
use crate::engine::depot::Depot;
use crate::engine::event::{EventSink, MemberName, Outcome};
use crate::engine::hub::source::{self, SourceSpec};
use crate::engine::hub::task::{PlannedChange, TaskReport};
use std::sync::Arc;
use sync_proto::entry::Kind;
use sync_proto::manifest::{Manifest, Roots};
use sync_proto::wire::{Item, ItemKind, Plan};

/// Where the tree would come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The source.
    Source(Box<SourceSpec>),
    /// A state in the depot.
    Depot(Roots),
}

/// Takes those members out of the failed ones that only lack the tree.
pub(crate) fn take(report: &mut TaskReport) -> Vec<MemberName> {
    let mut fresh = Vec::new();
    for member in &mut report.members {
        let code = member.problem.as_ref().map(|problem| problem.code);
        if code == Some(Code::TreeUnknown) {
            member.problem = None;
            member.outcome = Outcome::Stale;
            fresh.push(member.name.clone());
        }
    }
    fresh
}

/// Lists everything as new.
pub(crate) async fn plan(
    members: Vec<MemberName>,
    origin: Origin,
    depot: Arc<Depot>,
) -> Result<PlannedChange, Problem> {
    let read = move || match origin {
        // The scan before this one left its index: nothing is read twice.
        Origin::Source(spec) => {
            source::scan(&spec, None, &EventSink::none()).map(|found| found.manifest)
        }
        Origin::Depot(roots) => depot
            .manifest(roots)
            .map_err(|error| Problem::from_error(Code::DepotIncomplete, &error)),
    };
    let joined = tokio::task::spawn_blocking(read).await;
    let manifest = joined.unwrap_or_else(|error| Err(Problem::from_error(Code::Bug, &error)))?;
    let items = items(&manifest);
    let plan = Plan {
        added: items.len() as u64,
        write_bytes: manifest.content_bytes(),
        write_inodes: items.len() as u64,
        ..Plan::default()
    };
    Ok(PlannedChange {
        members,
        plan,
        items,
    })
}

fn items(manifest: &Manifest) -> Vec<Item> {
    let mut items: Vec<Item> = manifest
        .entries()
        .map(|(directory, entry)| Item {
            path: directory.path_of(&entry.name).as_bytes().to_vec(),
            kind: ItemKind::Added,
            sort: letter(&entry.kind),
            attributes: String::new(),
        })
        .collect();
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items
}

const fn letter(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => b'f',
        Kind::Directory => b'd',
        Kind::Symlink { .. } => b'l',
        Kind::HardLink { .. } => b'h',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
        Kind::CharDevice { .. } => b'c',
        Kind::BlockDevice { .. } => b'b',
    }
}
