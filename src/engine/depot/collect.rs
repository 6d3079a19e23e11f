//! Taking out of the depot what no kept generation needs.

use super::objects::{digest_of, shard_name};
use super::{Depot, DepotError, Stored, hex_name};
use crate::fs::{Dir, fault};
use std::collections::HashSet;
use sync_proto::digest::Digest;
use sync_proto::path::Name;

/// What a collection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files removed.
    pub removed_files: u64,
    /// Bytes that stay.
    pub kept_bytes: u64,
}

impl Depot {
    /// Removes every manifest that isn't in `manifests`, every object none of whose contents is in
    /// `contents`, and what interrupted writers left.
    pub fn collect(
        &self,
        manifests: &HashSet<Digest>,
        contents: &HashSet<Digest>,
    ) -> Result<Collected, DepotError> {
        let mut collected = Collected::default();
        sweep(&self.manifests, &mut collected, |id| manifests.contains(id))?;
        sweep(&self.chunks, &mut collected, |id| contents.contains(id))?;
        let dead: HashSet<Digest> = self.with_catalogue(|catalogue| {
            let is_dead = |stored: &Stored| match stored {
                Stored::Pack(rows) => !rows.iter().any(|(content, _)| contents.contains(content)),
                Stored::Segment { content, .. } => !contents.contains(content),
            };
            let dead: HashSet<Digest> = catalogue
                .objects
                .iter()
                .filter(|(_, stored)| is_dead(stored))
                .map(|(id, _)| *id)
                .collect();
            dead.iter().for_each(|id| catalogue.remove(id));
            Ok(dead)
        })?;
        for shard in self.objects.list()? {
            if let Some(dir) = self.objects.try_open_dir(&shard.name)? {
                sweep(&dir, &mut collected, |id| {
                    !dead.contains(id) && shard_name(id) == shard.name
                })?;
            }
        }
        Ok(collected)
    }
}

fn sweep(
    dir: &Dir,
    collected: &mut Collected,
    keep: impl Fn(&Digest) -> bool,
) -> Result<(), DepotError> {
    for listed in dir.list()? {
        let stays = match digest_of(&listed.name) {
            Some(id) => hex_name(&id) == listed.name && keep(&id),
            None => is_being_written(&listed.name),
        };
        if stays {
            collected.kept_bytes += dir.stat(&listed.name)?.map_or(0, |stat| stat.size);
        } else {
            fault::point("hub.depot.collect")?;
            dir.unlink(&listed.name)?;
            collected.removed_files += 1;
        }
    }
    Ok(())
}

/// A name of this very process: one of its own writers may still be at it.
fn is_being_written(name: &Name) -> bool {
    name.as_bytes()
        .starts_with(format!("tmp.{}.", std::process::id()).as_bytes())
}
