//! Encoding once for all members.
//!
//! Every member asks for objects by [`Key`]; the first to ask has it made, everybody else gets the
//! same bytes. What was made stays in memory within a budget and is then forgotten, oldest first:
//! members that keep pace with each other share everything, and a slow one has made again what it
//! comes to late, without holding anybody up and without making the hub buffer for it. Packs and
//! segments of contents up to [`MAX_STORED_BYTES`] go into the depot when they are made, so making
//! them again is reading a file.
//!
//! Contents are named by their index in [`Manifest::contents`].

use super::donors::{Donors, NoDonor};
use super::supply::{Supply, SupplyError};
use crate::engine::depot::{Depot, DepotError, MAX_STORED_BYTES, Place, Stored};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use sync_proto::delta::batch::BatchBuilder;
use sync_proto::delta::chunk::ChunkList;
use sync_proto::delta::recipe::Recipe;
use sync_proto::delta::{Version, make_delta};
use sync_proto::digest::Digest;
use sync_proto::manifest::{Content, Manifest};
use sync_proto::pack::segment::{Stream, encode_segment, segments};
use sync_proto::pack::{PackBuilder, PackEncoder};
use sync_proto::wire::{Need, ObjectHeader};
use thiserror::Error;
use tokio::sync::Semaphore;

/// Small files share a pack of about this many raw bytes.
const PACK_RAW_BYTES: u64 = 1 << 20;
/// Files below this are never patched: they travel whole in packs that all members share (decision
/// 2).
pub const PATCH_FROM_BYTES: u64 = 64 << 10;
/// Files up to this go into packs, larger ones into segments.
const PACK_UP_TO_BYTES: u64 = 2 << 20;
/// A stored pack is sent for a part of what it holds only if that part is at least a fourth.
const WORTHWHILE_DIVISOR: u64 = 4;
/// zstd level of packs and segments. With the program of the same version level 1 makes 28.3 MB of a generated
/// platform's 118 MB of `tar`, in 0.34 s of CPU, level 3 25.1 MB in 0.42 s.
const LEVEL: i32 = 1;
/// The same where bytes are dear.
const LONG_WAY_LEVEL: i32 = 3;
/// LIMIT: bytes of objects held for members that may still ask.
const HELD_BYTES: usize = 256 << 20;
/// Bytes of one part of a recipe.
const RECIPE_PART_BYTES: usize = 4 << 20;

/// Why an object can't be made.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The content can't be had.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// The depot can't be read or written.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// Neither the hub nor another member has the content.
    #[error(transparent)]
    NoDonor(#[from] NoDonor),
    /// The formats refused it: a bug.
    #[error("An object can't be encoded: {0}")]
    Format(String),
    /// The task that made it was stopped.
    #[error("Encoding was stopped")]
    Stopped,
}

/// An object that some member needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An object of the depot.
    Stored(Digest),
    /// A pack of these contents.
    Pack(Arc<[u32]>),
    /// A block of a content.
    Block {
        /// Which content.
        content: u32,
        /// Where it starts.
        offset: u64,
        /// How long it is.
        length: u32,
    },
    /// A content as a delta against an older one.
    Delta {
        /// Which content.
        content: u32,
        /// What the member has.
        base: Digest,
    },
    /// One part of a recipe.
    Recipe {
        /// Which content.
        content: u32,
        /// What the member has.
        base: Digest,
        /// Where the part starts in the encoded recipe.
        offset: usize,
    },
    /// A block of a recipe's literal bytes.
    Literals {
        /// Which content.
        content: u32,
        /// What the member has.
        base: Digest,
        /// Where it starts in the literal stream.
        offset: u64,
        /// How long it is.
        length: u32,
    },
}

impl Key {
    /// True if these are two names of one pack, which is known without reading either.
    fn is_the_very(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pack(one), Self::Pack(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Where a content comes from.
#[derive(Clone, Debug)]
enum Origin {
    Stored(Place),
    /// In this planned object.
    Planned(Key),
    /// In blocks, made as they are needed.
    Blocks,
}

/// A recipe with its encoded form.
struct Prepared {
    recipe: Recipe,
    id: Digest,
    bytes: Bytes,
}

type Slot = Arc<tokio::sync::Mutex<Option<Bytes>>>;
type RecipeCell = Arc<OnceLock<Option<Arc<Prepared>>>>;

/// Makes objects of one manifest for all members.
pub struct Encoder {
    depot: Arc<Depot>,
    supply: Supply,
    donors: Option<Donors>,
    level: i32,
    contents: Vec<Content>,
    origins: Vec<Origin>,
    planned: Vec<Key>,
    slots: Mutex<HashMap<Key, Slot>>,
    stored: Mutex<HashMap<Key, Digest>>,
    recipes: Mutex<HashMap<(u32, Digest), RecipeCell>>,
    held: Mutex<Held>,
    workers: Semaphore,
    made_objects: AtomicU64,
    made_bytes: AtomicU64,
}

#[derive(Default)]
struct Held {
    queue: VecDeque<(Key, usize)>,
    bytes: usize,
}

impl Encoder {
    /// Plans which objects are needed so that the depot holds all of `manifest`.
    pub fn new(
        manifest: &Manifest,
        depot: Arc<Depot>,
        supply: Supply,
        workers: usize,
    ) -> Result<Self, EncodeError> {
        let contents = manifest.contents();
        let mut origins = Vec::with_capacity(contents.len());
        let mut planned = Vec::new();
        let mut group = Group::default();
        for (index, content) in (0_u32..).zip(&contents) {
            if content.size > MAX_STORED_BYTES {
                origins.push(Origin::Blocks);
                continue;
            }
            if let Some(place) = depot.place(&content.digest, content.size)? {
                origins.push(Origin::Stored(place));
                continue;
            }
            origins.push(Origin::Blocks);
            if content.size > PACK_UP_TO_BYTES {
                for (offset, length) in segments(0, content.size) {
                    planned.push(Key::Block {
                        content: index,
                        offset,
                        length: length as u32,
                    });
                }
            } else if content.size >= PATCH_FROM_BYTES {
                // By itself, so that a member that patches it needn't receive it with others.
                group.seal_one(index, &mut planned, &mut origins);
            } else {
                if group.bytes + content.size > PACK_RAW_BYTES {
                    group.seal(&mut planned, &mut origins);
                }
                group.contents.push(index);
                group.bytes += content.size;
            }
        }
        group.seal(&mut planned, &mut origins);
        Ok(Self {
            depot,
            supply,
            donors: None,
            level: LEVEL,
            contents,
            origins,
            planned,
            slots: Mutex::default(),
            stored: Mutex::default(),
            recipes: Mutex::default(),
            held: Mutex::default(),
            workers: Semaphore::new(workers.max(1)),
            made_objects: AtomicU64::new(0),
            made_bytes: AtomicU64::new(0),
        })
    }

    /// The same, with members to ask for what neither the depot nor the source has.
    #[must_use]
    pub fn with_donors(self, donors: Option<Donors>) -> Self {
        Self { donors, ..self }
    }

    /// The same, for members of which some are far away.
    #[must_use]
    pub fn with_long_ways(self, are_there: bool) -> Self {
        let level = if are_there { LONG_WAY_LEVEL } else { LEVEL };
        Self { level, ..self }
    }

    /// True while a member is asked for what others need.
    pub fn is_searching(&self) -> bool {
        self.donors.as_ref().is_some_and(Donors::is_searching)
    }

    /// The contents of the manifest.
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// How many objects were encoded so far. It doesn't grow with the number of members.
    pub fn made_objects(&self) -> u64 {
        self.made_objects.load(Ordering::Relaxed)
    }

    /// What they are in bytes, as they travel.
    pub fn made_bytes(&self) -> u64 {
        self.made_bytes.load(Ordering::Relaxed)
    }

    fn count(&self, made: &[u8]) {
        self.made_objects.fetch_add(1, Ordering::Relaxed);
        self.made_bytes
            .fetch_add(made.len() as u64, Ordering::Relaxed);
    }

    /// Makes every object that the depot still lacks.
    pub async fn fill_depot(self: &Arc<Self>) -> Result<(), EncodeError> {
        let mut tasks = tokio::task::JoinSet::new();
        for key in &self.planned {
            while tasks.len() >= self.workers.available_permits().max(1) * 2 {
                finished(tasks.join_next().await)?;
            }
            let (encoder, key) = (self.clone(), key.clone());
            tasks.spawn(async move { encoder.object(&key).await.map(drop) });
        }
        while let Some(result) = tasks.join_next().await {
            finished(Some(result))?;
        }
        self.chunk_large_contents().await
    }

    /// Lists the chunks of contents that are too large for the depot, once for each content.
    async fn chunk_large_contents(self: &Arc<Self>) -> Result<(), EncodeError> {
        for index in 0..self.contents.len() as u32 {
            if self.contents[index as usize].size > MAX_STORED_BYTES {
                let encoder = self.clone();
                blocking(move || encoder.chunks(index, None).map(drop)).await?;
            }
        }
        Ok(())
    }

    /// The objects that bring these contents whole, without repetition.
    pub fn whole(&self, needs: impl IntoIterator<Item = u32>) -> Result<Vec<Key>, EncodeError> {
        let mut keys = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut last = None;
        let mut packs: BTreeMap<Digest, Vec<u32>> = BTreeMap::new();
        for index in needs {
            let (Some(content), Some(origin)) = (
                self.contents.get(index as usize),
                self.origins.get(index as usize),
            ) else {
                continue;
            };
            match origin {
                Origin::Planned(key) => {
                    // What is in one pack comes together, and a pack is named by all that is in it.
                    let is_known = last
                        .replace(key)
                        .is_some_and(|last: &Key| last.is_the_very(key));
                    if !is_known && seen.insert(key.clone()) {
                        keys.push(key.clone());
                    }
                }
                Origin::Stored(Place::Pack(id)) => packs.entry(*id).or_default().push(index),
                Origin::Stored(Place::Segments(ids)) => {
                    keys.extend(ids.iter().map(|id| Key::Stored(*id)));
                }
                Origin::Blocks => keys.extend(self.blocks(index, 0, content.size)),
            }
        }
        let mut rest = Group::default();
        for (id, needed) in packs {
            let total = match self.depot.describe(&id)?.as_deref() {
                Some(Stored::Pack(rows)) => rows.iter().map(|(_, length)| u64::from(*length)).sum(),
                _ => 0,
            };
            let wanted: u64 = needed.iter().map(|i| self.contents[*i as usize].size).sum();
            if wanted.saturating_mul(WORTHWHILE_DIVISOR) >= total {
                keys.push(Key::Stored(id));
                continue;
            }
            for index in needed {
                let size = self.contents[index as usize].size;
                if rest.bytes + size > PACK_RAW_BYTES {
                    keys.extend(rest.take());
                }
                rest.contents.push(index);
                rest.bytes += size;
            }
        }
        keys.extend(rest.take());
        Ok(keys)
    }

    /// The objects that satisfy one need that isn't for the whole; the whole where it can't be.
    pub async fn particular(
        self: &Arc<Self>,
        index: u32,
        need: Need,
    ) -> Result<Vec<Key>, EncodeError> {
        let Some(content) = self.contents.get(index as usize).copied() else {
            return Ok(Vec::new());
        };
        match need {
            Need::Whole => {}
            Need::Resumed(offset, prefix) => {
                let agrees = self.supplied(move |encoder| {
                    Ok(offset <= content.size
                        && encoder.supply.prefix(&content, offset, &encoder.depot)? == prefix)
                });
                let agrees = agrees.await?;
                if agrees {
                    return Ok(self.blocks(index, offset, content.size).collect());
                }
            }
            Need::Patched(base) if content.size <= MAX_STORED_BYTES => {
                let key = Key::Delta {
                    content: index,
                    base,
                };
                if !self.object(&key).await?.is_empty() {
                    return Ok(vec![key]);
                }
            }
            Need::Patched(base) => {
                if let Some(prepared) = self.recipe(index, base).await? {
                    let parts = (0..prepared.bytes.len()).step_by(RECIPE_PART_BYTES);
                    let parts = parts.map(|offset| Key::Recipe {
                        content: index,
                        base,
                        offset,
                    });
                    let literals =
                        segments(0, prepared.recipe.literal_bytes()).map(|(offset, length)| {
                            Key::Literals {
                                content: index,
                                base,
                                offset,
                                length: length as u32,
                            }
                        });
                    return Ok(parts.chain(literals).collect());
                }
            }
        }
        self.whole([index])
    }

    /// The header and body of an object, as they travel.
    pub async fn fetch(self: &Arc<Self>, key: &Key) -> Result<(ObjectHeader, Bytes), EncodeError> {
        let body = self.object(key).await?;
        let header = match key {
            Key::Pack(_) => ObjectHeader::Pack,
            Key::Block { content, .. } => match self.origins.get(*content as usize) {
                Some(Origin::Planned(Key::Pack(_))) => ObjectHeader::Pack,
                _ => ObjectHeader::Segment,
            },
            Key::Literals { .. } => ObjectHeader::Segment,
            Key::Stored(id) => match self.depot.describe(id)?.as_deref() {
                Some(Stored::Segment { .. }) => ObjectHeader::Segment,
                _ => ObjectHeader::Pack,
            },
            Key::Delta { .. } => ObjectHeader::Delta,
            Key::Recipe {
                content,
                base,
                offset,
            } => ObjectHeader::Recipe {
                content: self.contents[*content as usize].digest,
                base: *base,
                offset: *offset as u64,
                total: self
                    .recipe(*content, *base)
                    .await?
                    .map_or(0, |p| p.bytes.len() as u64),
            },
        };
        Ok((header, body))
    }

    /// About how many bytes of content an object is good for, for whoever watches.
    pub fn raw_bytes(&self, key: &Key, body_bytes: usize) -> u64 {
        let size = |index: &u32| {
            let content = self.contents.get(*index as usize);
            content.map_or(0, |content| content.size)
        };
        match key {
            Key::Pack(contents) => contents.iter().map(size).sum(),
            Key::Block { length, .. } | Key::Literals { length, .. } => (*length).into(),
            Key::Delta { content, .. } => size(content),
            Key::Stored(_) | Key::Recipe { .. } => body_bytes as u64,
        }
    }

    fn blocks(&self, index: u32, from: u64, size: u64) -> impl Iterator<Item = Key> + use<> {
        segments(from, size).map(move |(offset, length)| Key::Block {
            content: index,
            offset,
            length: length as u32,
        })
    }

    async fn recipe(
        self: &Arc<Self>,
        index: u32,
        base: Digest,
    ) -> Result<Option<Arc<Prepared>>, EncodeError> {
        let cell = {
            let mut recipes = self.recipes.lock().unwrap_or_else(PoisonError::into_inner);
            recipes.entry((index, base)).or_default().clone()
        };
        if let Some(prepared) = cell.get() {
            return Ok(prepared.clone());
        }
        let encoder = self.clone();
        let prepared = blocking(move || {
            let Some(old) = encoder.depot.chunks(&base)? else {
                return Ok(None);
            };
            let Some(new) = encoder.chunks(index, Some(&old))? else {
                return Ok(None);
            };
            Ok(Recipe::between(&old, &new).map(|recipe| {
                let (id, bytes) = recipe.encode();
                Arc::new(Prepared {
                    recipe,
                    id,
                    bytes: bytes.into(),
                })
            }))
        })
        .await?;
        Ok(cell.get_or_init(|| prepared).clone())
    }

    /// The chunk list of a large content; made and kept when it is first asked for.
    fn chunks(
        &self,
        index: u32,
        old: Option<&ChunkList>,
    ) -> Result<Option<ChunkList>, EncodeError> {
        let content = self.contents[index as usize];
        if let Some(list) = self.depot.chunks(&content.digest)? {
            return Ok(Some(list));
        }
        let list = self.supply.chunks(&content, old)?;
        if let Some(list) = &list {
            self.depot.put_chunks(list)?;
        }
        Ok(list)
    }

    async fn object(self: &Arc<Self>, key: &Key) -> Result<Bytes, EncodeError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key.clone()).or_default().clone()
        };
        let mut held = slot.lock().await;
        if let Some(bytes) = &*held {
            return Ok(bytes.clone());
        }
        let wanted = key.clone();
        let bytes = if let Key::Recipe {
            content,
            base,
            offset,
        } = key
        {
            let prepared = self.recipe(*content, *base).await?;
            prepared.map_or_else(Bytes::new, |prepared| {
                let end = prepared.bytes.len().min(offset + RECIPE_PART_BYTES);
                prepared.bytes.slice((*offset).min(end)..end)
            })
        } else if let Key::Literals { content, base, .. } = key {
            let prepared = self.recipe(*content, *base).await?;
            self.supplied(move |encoder| encoder.literals(&wanted, prepared.as_deref()))
                .await?
        } else {
            self.supplied(move |encoder| encoder.make(&wanted)).await?
        };
        *held = Some(bytes.clone());
        drop(held);
        self.hold(key, bytes.len());
        Ok(bytes)
    }

    /// Does what needs contents, as one of the workers. What only another member has is fetched
    /// from there first, and no worker waits for that.
    async fn supplied<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl Fn(&Self) -> Result<T, EncodeError> + Send + Sync + 'static,
    ) -> Result<T, EncodeError> {
        let act = Arc::new(act);
        let once = || async {
            let _permit = self
                .workers
                .acquire()
                .await
                .map_err(|_| EncodeError::Stopped)?;
            let (encoder, act) = (self.clone(), act.clone());
            blocking(move || act(&encoder)).await
        };
        match (once().await, &self.donors) {
            (Err(EncodeError::Supply(SupplyError::Nowhere(digest, size))), Some(donors)) => {
                let lent = donors.fetch(&Content { digest, size }).await?;
                self.supply.take_lent(&digest, lent);
                once().await
            }
            (result, _) => result,
        }
    }

    /// Nothing is made as long as what this returns is held; what is at hand is handed out.
    #[cfg(test)]
    pub(crate) async fn stop_workers(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(self.workers.available_permits()).unwrap();
        self.workers.acquire_many(all).await.unwrap()
    }

    /// Notes that an object is held, and forgets the oldest ones past the budget.
    fn hold(&self, key: &Key, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.queue.push_back((key.clone(), bytes));
        held.bytes += bytes;
        while held.bytes > HELD_BYTES {
            let Some((oldest, bytes)) = held.queue.pop_front() else {
                break;
            };
            held.bytes -= bytes;
            self.slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&oldest);
        }
    }

    fn make(&self, key: &Key) -> Result<Bytes, EncodeError> {
        let known = self
            .stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .copied();
        if let Some(id) = known {
            return Ok(self.depot.object(&id)?);
        }
        if let Key::Stored(id) = key {
            return Ok(self.depot.object(id)?);
        }
        let bytes = match key {
            Key::Pack(contents) => self.pack(contents)?,
            Key::Block {
                content,
                offset,
                length,
            } => self.block(*content, *offset, *length)?,
            Key::Delta { content, base } => self.delta(*content, *base)?,
            Key::Stored(_) | Key::Recipe { .. } | Key::Literals { .. } => Bytes::new(),
        };
        self.count(&bytes);
        let is_planned = match key {
            Key::Pack(contents) => contents.first(),
            Key::Block { content, .. } => Some(content),
            _ => None,
        }
        .is_some_and(|first| self.is_wanted_in_depot(*first));
        if is_planned {
            let id = self.depot.put_object(&bytes)?;
            self.stored
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key.clone(), id);
        }
        Ok(bytes)
    }

    fn is_wanted_in_depot(&self, index: u32) -> bool {
        self.contents[index as usize].size <= MAX_STORED_BYTES
            && !matches!(self.origins.get(index as usize), Some(Origin::Stored(_)))
    }

    fn pack(&self, contents: &[u32]) -> Result<Bytes, EncodeError> {
        let mut builder = PackBuilder::new();
        for index in contents {
            let content = &self.contents[*index as usize];
            let bytes = self.supply.whole(content, &self.depot)?;
            builder
                .push(content.digest, &bytes)
                .map_err(|_| self.supply.changed(content))?;
        }
        Ok(builder.finish(&mut PackEncoder::new(), self.level).bytes)
    }

    fn block(&self, index: u32, offset: u64, length: u32) -> Result<Bytes, EncodeError> {
        let content = &self.contents[index as usize];
        let raw = self
            .supply
            .range(content, offset, length as usize, &self.depot)?;
        let stream = Stream::Content(content.digest);
        encode_segment(stream, offset, &raw, &mut PackEncoder::new(), self.level)
            .map_err(|error| EncodeError::Format(error.to_string()))
    }

    /// A delta, or nothing where the whole is the better transfer.
    fn delta(&self, index: u32, base: Digest) -> Result<Bytes, EncodeError> {
        let content = &self.contents[index as usize];
        let old = match self.depot.content(&base) {
            Ok(old) => old,
            Err(DepotError::NoContent(_) | DepotError::Damaged(_)) => return Ok(Bytes::new()),
            Err(error) => return Err(error.into()),
        };
        let new = self.supply.whole(content, &self.depot)?;
        if Digest::of(&new) != content.digest {
            return Err(self.supply.changed(content).into());
        }
        let base = Version {
            digest: base,
            bytes: &old,
        };
        let new = Version {
            digest: content.digest,
            bytes: &new,
        };
        let mut batch = BatchBuilder::new();
        if let Some(delta) = make_delta(base, new, &mut PackEncoder::new()) {
            batch
                .push(delta)
                .map_err(|_| EncodeError::Format("a delta is too long".into()))?;
        }
        Ok(batch.finish().map_or_else(Bytes::new, |batch| batch.bytes))
    }

    fn literals(&self, key: &Key, prepared: Option<&Prepared>) -> Result<Bytes, EncodeError> {
        let (
            Key::Literals {
                content,
                offset,
                length,
                ..
            },
            Some(prepared),
        ) = (key, prepared)
        else {
            return Ok(Bytes::new());
        };
        let content = &self.contents[*content as usize];
        let mut raw = Vec::with_capacity(*length as usize);
        for piece in prepared
            .recipe
            .literal_pieces(*offset..*offset + u64::from(*length))
        {
            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
            raw.extend(
                self.supply
                    .range(content, piece.new_offset, length, &self.depot)?,
            );
        }
        let stream = Stream::Literals(prepared.id);
        let bytes = encode_segment(stream, *offset, &raw, &mut PackEncoder::new(), self.level)
            .map_err(|error| EncodeError::Format(error.to_string()))?;
        self.count(&bytes);
        Ok(bytes)
    }
}

/// Contents that are about to share a pack.
#[derive(Default)]
struct Group {
    contents: Vec<u32>,
    bytes: u64,
}

impl Group {
    fn take(&mut self) -> Option<Key> {
        self.bytes = 0;
        let contents = std::mem::take(&mut self.contents);
        (!contents.is_empty()).then(|| Key::Pack(contents.into()))
    }

    fn seal(&mut self, planned: &mut Vec<Key>, origins: &mut [Origin]) {
        if let Some(key) = self.take() {
            plan(key, planned, origins);
        }
    }

    fn seal_one(&mut self, index: u32, planned: &mut Vec<Key>, origins: &mut [Origin]) {
        plan(Key::Pack([index].into()), planned, origins);
    }
}

fn plan(key: Key, planned: &mut Vec<Key>, origins: &mut [Origin]) {
    if let Key::Pack(contents) = &key {
        for index in contents.iter() {
            if let Some(origin) = origins.get_mut(*index as usize) {
                *origin = Origin::Planned(key.clone());
            }
        }
    }
    planned.push(key);
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, EncodeError> + Send + 'static,
) -> Result<T, EncodeError> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|_| EncodeError::Stopped)?
}

fn finished(
    result: Option<Result<Result<(), EncodeError>, tokio::task::JoinError>>,
) -> Result<(), EncodeError> {
    match result {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(EncodeError::Stopped),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
