//! A tree as members are told about it.

use std::sync::OnceLock;
use sync_proto::entry::Entry;
use sync_proto::filter::Preserve;
use sync_proto::manifest::{Directory, Manifest, ManifestError, Roots};
use sync_proto::wire;

/// A tree as every member is told about it; made once for all.
pub struct Offer {
    /// The manifest.
    pub manifest: Manifest,
    /// Its roots.
    pub roots: Roots,
    /// The roots of what a member that has it all will see: without the seeds, which are its own
    /// from the moment that they are there.
    pub observed: Roots,
    /// The table of its directories, compressed. Nobody asks for it where nothing changed.
    table: OnceLock<Vec<u8>>,
}

impl Offer {
    /// Hashes what every member will be sent. `seeded` are the preserve rules
    /// below which the manifest holds seeds.
    pub fn new(manifest: Manifest, seeded: Option<&Preserve>) -> Self {
        let roots = manifest.roots();
        let observed = match seeded.map(|preserve| without_seeds(&manifest, preserve)) {
            Some(Ok(managed)) => managed.roots(),
            // Seeds that can't be taken out differ for ever, which costs time and nothing else.
            Some(Err(_)) | None => roots,
        };
        Self {
            manifest,
            roots,
            observed,
            table: OnceLock::new(),
        }
    }

    /// The table of its directories, compressed.
    pub(super) fn table(&self) -> &[u8] {
        let table = || wire::table::encode_rows(&wire::table::rows(&self.manifest));
        self.table.get_or_init(table)
    }
}

fn without_seeds(manifest: &Manifest, preserve: &Preserve) -> Result<Manifest, ManifestError> {
    let directories = manifest
        .directories()
        .iter()
        .filter(|directory| preserve.covers(&directory.path).is_none())
        .map(|directory| {
            let managed = |entry: &&Entry| {
                preserve
                    .matches_child(&directory.path, &entry.name)
                    .is_none()
            };
            Directory {
                path: directory.path.clone(),
                entries: directory.entries.iter().filter(managed).cloned().collect(),
            }
        })
        .collect::<Vec<_>>();
    Manifest::new(manifest.root_meta().clone(), directories)
}
