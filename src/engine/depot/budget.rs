//! Which states the depot can hold within a budget.

use super::objects::shard_name;
use super::{Depot, DepotError, Stored, hex_name};
use crate::fs::Dir;
use std::collections::{HashMap, HashSet};
use sync_proto::digest::Digest;
use sync_proto::manifest::Roots;

/// What fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Which of the states that may go must go, by their places in the list.
    pub goes: Vec<usize>,
    /// Bytes that what stays needs.
    pub stays_bytes: u64,
    /// Bytes that nothing needs once those are gone.
    pub freed_bytes: u64,
}

/// A file of the depot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    Manifest(Digest),
    Object(Digest),
    Chunks(Digest),
}

#[derive(Default)]
struct Ledger {
    /// Bytes of each file that some state needs, and how many states do.
    items: HashMap<Item, (u64, u32)>,
    bytes: u64,
}

impl Ledger {
    fn add(&mut self, state: &[(Item, u64)]) {
        for (item, bytes) in state {
            let (_, states) = self.items.entry(*item).or_insert((*bytes, 0));
            self.bytes += if *states == 0 { *bytes } else { 0 };
            *states += 1;
        }
    }

    fn remove(&mut self, state: &[(Item, u64)]) {
        for (item, bytes) in state {
            if let Some((_, states)) = self.items.get_mut(item) {
                *states -= 1;
                self.bytes -= if *states == 0 { *bytes } else { 0 };
            }
        }
    }

    /// What a state would need in addition, and how much of that is more than its manifest, which
    /// is small beside any content.
    fn price(&self, state: &[(Item, u64)]) -> (u64, u64) {
        let (mut all, mut content) = (0, 0);
        for (item, bytes) in state {
            if self.items.get(item).is_none_or(|it| it.1 == 0) {
                all += bytes;
                content += if matches!(item, Item::Manifest(_)) {
                    0
                } else {
                    *bytes
                };
            }
        }
        (all, content)
    }
}

impl Depot {
    /// Bytes of everything in the depot, needed or not.
    pub fn bytes(&self) -> Result<u64, DepotError> {
        let mut bytes = bytes_of(&self.manifests)? + bytes_of(&self.chunks)?;
        for shard in self.objects.list()? {
            if let Some(dir) = self.objects.try_open_dir(&shard.name)? {
                bytes += bytes_of(&dir)?;
            }
        }
        Ok(bytes)
    }

    /// Which of `may_go` must go, the first ones first, so that the others and all of `must_stay`
    /// need no more than `budget` bytes. One that costs nothing beside those that stay, or fits
    /// after all, stays. Where not even `must_stay` fits, all go that cost anything.
    pub fn fit(
        &self,
        must_stay: &[Roots],
        may_go: &[Roots],
        budget: u64,
    ) -> Result<Fit, DepotError> {
        let mut ledger = Ledger::default();
        for roots in must_stay {
            ledger.add(&self.items_of(*roots)?);
        }
        let mut states = Vec::with_capacity(may_go.len());
        for roots in may_go {
            let items = self.items_of(*roots)?;
            ledger.add(&items);
            states.push(items);
        }
        let before = ledger.bytes;
        let mut goes = Vec::new();
        for (nth, state) in states.iter().enumerate() {
            if ledger.bytes <= budget {
                break;
            }
            ledger.remove(state);
            goes.push(nth);
        }
        // What shares everything with others was no burden, and the newest are the most useful.
        let mut back = HashSet::new();
        for nth in goes.iter().rev() {
            let state = states.get(*nth).map_or(&[][..], Vec::as_slice);
            let (price, content) = ledger.price(state);
            if content == 0 || ledger.bytes + price <= budget {
                ledger.add(state);
                back.insert(*nth);
            }
        }
        goes.retain(|nth| !back.contains(nth));
        Ok(Fit {
            goes,
            stays_bytes: ledger.bytes,
            freed_bytes: before - ledger.bytes,
        })
    }

    /// The files that a state needs, with their lengths; without its manifest there is nothing to
    /// go by.
    fn items_of(&self, roots: Roots) -> Result<Vec<(Item, u64)>, DepotError> {
        let manifest = match self.manifest(roots) {
            Ok(manifest) => manifest,
            Err(DepotError::NoManifest(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let id = roots.id();
        let mut items = vec![(Item::Manifest(id), size(&self.manifests, &id)?)];
        let contents: HashSet<Digest> = manifest
            .contents()
            .iter()
            .map(|content| content.digest)
            .collect();
        for content in &contents {
            match size(&self.chunks, content)? {
                0 => {}
                bytes => items.push((Item::Chunks(*content), bytes)),
            }
        }
        // As the collection sees it: an object stays whole as long as one of its contents does.
        let objects = self.with_catalogue(|catalogue| {
            let is_needed = |stored: &Stored| match stored {
                Stored::Pack(rows) => rows.iter().any(|(content, _)| contents.contains(content)),
                Stored::Segment { content, .. } => contents.contains(content),
            };
            let objects = catalogue.objects.iter();
            Ok(objects
                .filter(|(_, stored)| is_needed(stored))
                .map(|(id, _)| *id)
                .collect::<Vec<_>>())
        })?;
        for id in objects {
            if let Some(shard) = self.objects.try_open_dir(&shard_name(&id))? {
                items.push((Item::Object(id), size(&shard, &id)?));
            }
        }
        Ok(items)
    }
}

fn size(dir: &Dir, id: &Digest) -> Result<u64, DepotError> {
    Ok(dir.stat(&hex_name(id))?.map_or(0, |stat| stat.size))
}

fn bytes_of(dir: &Dir) -> Result<u64, DepotError> {
    let mut bytes = 0;
    for listed in dir.list()? {
        bytes += dir.stat(&listed.name)?.map_or(0, |stat| stat.size);
    }
    Ok(bytes)
}
