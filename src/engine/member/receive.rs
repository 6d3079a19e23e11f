//! Objects from the hub become files in the staging area.
//!
//! Every content is verified before its file gets its metadata. What wasn't asked for is ignored:
//! an object may hold more than one member needs. A patch that doesn't fit, for whatever reason, is
//! given up once, and the whole content asked for.
//!
//! LIMIT: literal bytes that come before their recipe wait in memory, a few blocks at most.

use super::fill::{LocalContents, Sources};
use super::large::{Block, Large};
use super::refusal::of_fs;
use super::stage::{Cursor, StageEvent, Staging};
use crate::codes::{Code, Problem};
use crate::fs::clone::copy_content;
use crate::fs::read::read_range;
use crate::net::Object;
use crate::net::limits::Room;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::delta::batch::parse_batch;
use sync_proto::delta::recipe::{MAX_RECIPE_BYTES, Recipe};
use sync_proto::delta::{Delta, MAX_DELTA_BYTES, apply_delta};
use sync_proto::digest::Digest;
use sync_proto::pack::segment::{Stream, decode_segment};
use sync_proto::pack::{PackDecoder, unpack};
use sync_proto::path::RelPath;
use sync_proto::wire::{self, Needs, ObjectHeader};

/// LIMIT: blocks that wait for their recipe, over all recipes.
const MAX_STRAYS: usize = 24;

/// LIMIT: recipes of which only some parts have come.
const MAX_COMING: usize = 24;

/// What receives one transaction's objects.
pub struct Receiver {
    staging: Arc<Staging>,
    local_contents: Arc<LocalContents>,
    bases: HashMap<Digest, RelPath>,
    large: Mutex<HashMap<u32, Slot>>,
    recipes: Mutex<Recipes>,
    given_up: Mutex<HashSet<u32>>,
}

type Slot = Arc<Mutex<Option<Large>>>;

#[derive(Default)]
struct Recipes {
    /// Recipes that are coming.
    coming: HashMap<u32, Coming>,
    /// Whose recipe has come.
    come: HashSet<u32>,
    /// Which content a recipe makes.
    contents: HashMap<Digest, u32>,
    /// Literals that came before their recipe.
    strays: HashMap<Digest, Vec<(u64, Block)>>,
    stray_count: usize,
}

impl Receiver {
    /// Receives what `sources` lacks.
    pub fn new(
        staging: Arc<Staging>,
        local_contents: Arc<LocalContents>,
        sources: &mut Sources,
    ) -> Self {
        let resumed = std::mem::take(&mut sources.resumed);
        let large = resumed
            .into_iter()
            .map(|(index, large)| (index, Arc::new(Mutex::new(Some(large)))))
            .collect();
        Self {
            staging,
            local_contents,
            bases: std::mem::take(&mut sources.bases),
            large: Mutex::new(large),
            recipes: Mutex::default(),
            given_up: Mutex::default(),
        }
    }

    /// Its staging area.
    pub fn staging(&self) -> &Arc<Staging> {
        &self.staging
    }

    /// Takes one object.
    pub fn receive(&self, object: Object) {
        if self.staging.is_stopped() {
            return;
        }
        if let Err(problem) = self.try_receive(object) {
            self.staging.fail(problem);
        }
    }

    fn try_receive(&self, object: Object) -> Result<(), Problem> {
        let Object { header, body, room } = object;
        match wire::decode(&header).map_err(|error| broken(&error))? {
            ObjectHeader::Pack => self.pack(&body),
            ObjectHeader::Segment => self.segment(&body, room),
            ObjectHeader::Delta => self.deltas(&body),
            ObjectHeader::Recipe {
                content,
                base,
                offset,
                total,
            } => self.recipe(content, base, (offset, total), (body, room)),
        }
    }

    fn pack(&self, body: &[u8]) -> Result<(), Problem> {
        let unpacked = unpack(body, &mut PackDecoder::new()).map_err(|error| broken(&error))?;
        let mut cursor = Cursor::new(&self.staging);
        for (digest, bytes) in unpacked.contents() {
            if let Some(index) = self.staging.work.content(&digest) {
                self.deliver(&mut cursor, index, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes a verified content into all files that wait for it.
    fn deliver(&self, cursor: &mut Cursor<'_>, index: u32, bytes: &[u8]) -> Result<(), Problem> {
        if self.staging.is_stopped() {
            return Ok(());
        }
        let Some(files) = self.staging.take_waiting(index) else {
            return Ok(());
        };
        for at in &files {
            self.staging.put(cursor, *at, bytes)?;
        }
        self.staging
            .note_files(index, files.len() as u32, bytes.len() as u64);
        Ok(())
    }

    fn deltas(&self, body: &Bytes) -> Result<(), Problem> {
        let deltas = parse_batch(body).map_err(|error| broken(&error))?;
        let mut cursor = Cursor::new(&self.staging);
        let mut decoder = PackDecoder::new();
        for delta in deltas {
            let Some(index) = self.staging.work.content(&delta.content()) else {
                continue;
            };
            if self.staging.waiting(index).is_none() {
                continue;
            }
            match self.patch(&delta, index, &mut decoder)? {
                Some(bytes) => self.deliver(&mut cursor, index, &bytes)?,
                None => self.give_up(index)?,
            }
        }
        Ok(())
    }

    /// The patched content; `None` if the patch doesn't fit what is here.
    fn patch(
        &self,
        delta: &Delta,
        index: u32,
        decoder: &mut PackDecoder,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let Some(path) = self.bases.get(&delta.base()) else {
            return Ok(None);
        };
        let Some(file) = self
            .local_contents
            .open_live(path)
            .map_err(|error| of_fs(&error))?
        else {
            return Ok(None);
        };
        let size = self
            .staging
            .work
            .contents
            .get(index as usize)
            .map_or(0, |it| it.size);
        let length = file.metadata().map_or(u64::MAX, |it| it.len());
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|it| *it <= MAX_DELTA_BYTES)
        else {
            return Ok(None);
        };
        let base = read_range(&file, 0, length).map_err(|error| of_fs(&error))?;
        Ok(apply_delta(&base, delta, size, delta.content(), decoder).ok())
    }

    /// Asks for the whole of a content, once.
    fn give_up(&self, index: u32) -> Result<(), Problem> {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if !given_up.insert(index) {
            let path = self
                .staging
                .waiting(index)
                .map(|at| self.staging.work.path(at));
            return Err(Problem::new(
                Code::ContentMismatch,
                "The content that arrived is not the one that was announced",
            )
            .with_path(path.unwrap_or_default().as_bytes()));
        }
        drop(given_up);
        self.staging.tell(StageEvent::Need(Needs {
            whole: vec![(index, 1)],
            ..Needs::default()
        }));
        Ok(())
    }

    fn segment(&self, body: &[u8], room: Room) -> Result<(), Problem> {
        let decoded = decode_segment(body, &mut PackDecoder::new());
        let (header, bytes) = decoded.map_err(|error| broken(&error))?;
        let block = Block { bytes, room };
        match header.stream {
            Stream::Content(digest) => {
                let Some(index) = self.staging.work.content(&digest) else {
                    return Ok(());
                };
                let slot = self.slot(index);
                self.block(index, &slot, header.offset, block)
            }
            Stream::Literals(id) => {
                let known = {
                    let mut recipes = self.recipes.lock().unwrap_or_else(PoisonError::into_inner);
                    match recipes.contents.get(&id).copied() {
                        Some(index) => Some((index, block)),
                        None => {
                            recipes.park(id, header.offset, block)?;
                            None
                        }
                    }
                };
                match known {
                    Some((index, block)) => {
                        let slot = self.slot(index);
                        self.literals(index, &slot, header.offset, block)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn slot(&self, index: u32) -> Slot {
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        large.entry(index).or_default().clone()
    }

    fn block(&self, index: u32, slot: &Slot, offset: u64, block: Block) -> Result<(), Problem> {
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if self.staging.waiting(index).is_none() {
            return Ok(());
        }
        if held.as_ref().is_none_or(Large::is_assembled) {
            *held = self
                .create(index)?
                .map(|(content, file)| Large::whole(content, file));
        }
        self.advance(index, &mut held, offset, block)
    }

    fn literals(&self, index: u32, slot: &Slot, offset: u64, block: Block) -> Result<(), Problem> {
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // What was given up, or is complete, takes no more literals.
        if !held.as_ref().is_some_and(Large::is_assembled) {
            return Ok(());
        }
        self.advance(index, &mut held, offset, block)
    }

    fn advance(
        &self,
        index: u32,
        held: &mut Option<Large>,
        offset: u64,
        block: Block,
    ) -> Result<(), Problem> {
        let Some(large) = held.as_mut() else {
            return Ok(());
        };
        if large.take(offset, block)? {
            self.complete(index, held)?;
        }
        Ok(())
    }

    fn create(
        &self,
        index: u32,
    ) -> Result<Option<(sync_proto::manifest::Content, std::fs::File)>, Problem> {
        let content = self.staging.work.contents.get(index as usize).copied();
        let at = self.staging.waiting(index);
        let (Some(content), Some(at)) = (content, at) else {
            return Ok(None);
        };
        let Some((_, entry)) = self.staging.work.at(at) else {
            return Ok(None);
        };
        let mut cursor = Cursor::new(&self.staging);
        let file = self.staging.create(cursor.of(at)?, &entry.name, 0o600)?;
        Ok(Some((content, file)))
    }

    /// A large file has all its bytes: they are checked, and the file gets its metadata.
    fn complete(&self, index: u32, held: &mut Option<Large>) -> Result<(), Problem> {
        let Some(large) = held.take() else {
            return Ok(());
        };
        if !large.is_right() {
            return self.give_up(index);
        }
        let Some(files) = self.staging.take_waiting(index) else {
            return Ok(());
        };
        let size = self
            .staging
            .work
            .contents
            .get(index as usize)
            .map_or(0, |it| it.size);
        let mut cursor = Cursor::new(&self.staging);
        for (nth, at) in files.iter().enumerate() {
            let Some((_, entry)) = self.staging.work.at(*at) else {
                continue;
            };
            let wanted = self.staging.resolve(&entry.meta)?;
            if nth == 0 {
                self.staging.seal(large.file(), &wanted, *at)?;
                continue;
            }
            let dir = cursor.of(*at)?;
            let copy = self.staging.create(dir, &entry.name, wanted.mode)?;
            copy_content(large.file(), &copy, size).map_err(|error| of_fs(&error))?;
            self.staging.seal(&copy, &wanted, *at)?;
        }
        self.staging.note_files(index, files.len() as u32, size);
        Ok(())
    }

    fn recipe(
        &self,
        content: Digest,
        base: Digest,
        (offset, total): (u64, u64),
        part: (Bytes, Room),
    ) -> Result<(), Problem> {
        let Some(index) = self.staging.work.content(&content) else {
            return Ok(());
        };
        if self.staging.waiting(index).is_none() {
            return Ok(());
        }
        if total > MAX_RECIPE_BYTES as u64 {
            return Err(broken_by("A recipe is longer than allowed"));
        }
        let whole = {
            let mut recipes = self.recipes.lock().unwrap_or_else(PoisonError::into_inner);
            match recipes.add(index, offset, total, part)? {
                Some(whole) => whole,
                None => return Ok(()),
            }
        };
        let recipe = Recipe::parse(&whole).map_err(|error| broken(&error))?;
        self.assemble(index, base, Digest::of(&whole), recipe)
    }

    fn assemble(
        &self,
        index: u32,
        base: Digest,
        id: Digest,
        recipe: Recipe,
    ) -> Result<(), Problem> {
        let file = match self.bases.get(&base).filter(|_| recipe.base == base) {
            Some(path) => self
                .local_contents
                .open_live(path)
                .map_err(|error| of_fs(&error))?,
            None => None,
        };
        let slot = self.slot(index);
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((content, target)) = self.create(index)? else {
            return Ok(());
        };
        let fits = recipe.new == content.digest && recipe.new_bytes() == content.size;
        let Some(file) = file.filter(|_| fits) else {
            return self.give_up(index);
        };
        *held = Some(Large::assemble(content, target, recipe, file)?);
        let strays = {
            let mut recipes = self.recipes.lock().unwrap_or_else(PoisonError::into_inner);
            recipes.contents.insert(id, index);
            let strays = recipes.strays.remove(&id).unwrap_or_default();
            recipes.stray_count -= strays.len();
            strays
        };
        if held.as_ref().is_some_and(Large::is_complete) {
            return self.complete(index, &mut held);
        }
        for (offset, block) in strays {
            self.advance(index, &mut held, offset, block)?;
        }
        Ok(())
    }
}

/// A recipe of which some parts are here.
struct Coming {
    total: u64,
    bytes: u64,
    parts: BTreeMap<u64, (Bytes, Room)>,
}

impl Recipes {
    /// Takes a part; the whole, if that was the last.
    fn add(
        &mut self,
        index: u32,
        offset: u64,
        total: u64,
        part: (Bytes, Room),
    ) -> Result<Option<Vec<u8>>, Problem> {
        if self.come.contains(&index) {
            return Err(broken_by("A recipe comes twice"));
        }
        if !self.coming.contains_key(&index) && self.coming.len() >= MAX_COMING {
            return Err(broken_by("The hub begins more recipes than it ends"));
        }
        let coming = self.coming.entry(index).or_insert_with(|| Coming {
            total,
            bytes: 0,
            parts: BTreeMap::new(),
        });
        let length = part.0.len() as u64;
        let end = offset.saturating_add(length);
        let before = coming.parts.range(..=offset).next_back();
        let after = coming.parts.range(offset..).next();
        let is_free = before.is_none_or(|(at, (there, _))| at + there.len() as u64 <= offset)
            && after.is_none_or(|(at, _)| end <= *at);
        if length == 0 || end > total || total != coming.total || !is_free {
            return Err(broken_by("A part of a recipe doesn't fit the others"));
        }
        coming.bytes += length;
        coming.parts.insert(offset, part);
        if coming.bytes < total {
            return Ok(None);
        }
        self.come.insert(index);
        let whole = self.coming.remove(&index).map(|coming| {
            let parts = coming.parts.into_values().map(|(part, _)| part);
            parts.collect::<Vec<_>>().concat()
        });
        Ok(whole)
    }

    fn park(&mut self, id: Digest, offset: u64, block: Block) -> Result<(), Problem> {
        self.stray_count += 1;
        if self.stray_count > MAX_STRAYS {
            return Err(broken_by(
                "The hub sends literal bytes without their recipe",
            ));
        }
        self.strays.entry(id).or_default().push((offset, block));
        Ok(())
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::from_error(Code::ProtocolViolation, error)
}

fn broken_by(message: &str) -> Problem {
    Problem::new(Code::ProtocolViolation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a part of the content that ends at `total`.
    fn add(
        recipes: &mut Recipes,
        index: u32,
        part: (u64, &[u8]),
        total: u64,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let bytes = Bytes::copy_from_slice(part.1);
        recipes.add(index, part.0, total, (bytes, Room::alone()))
    }

    #[test]
    fn a_recipe_is_put_together_whatever_the_order_of_its_parts() {
        let parts: [(u64, &[u8]); 3] = [(0, b"ab"), (2, b"c"), (3, b"def")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut recipes = Recipes::default();
            for nth in &order[..2] {
                assert_eq!(add(&mut recipes, 7, parts[*nth], 6).unwrap(), None);
            }
            let whole = add(&mut recipes, 7, parts[order[2]], 6).unwrap();
            assert_eq!(whole.as_deref(), Some(&b"abcdef"[..]), "{order:?}");
            assert!(add(&mut recipes, 7, parts[0], 6).is_err(), "twice");
            assert_eq!(add(&mut recipes, 8, parts[0], 6).unwrap(), None);
        }
    }

    #[test]
    fn parts_that_overlap_overrun_or_say_nothing_are_refused() {
        let wrong: [((u64, &[u8]), u64); 8] = [
            ((4, b""), 9),
            ((8, b"ab"), 9),
            ((0, b"ab"), 8),
            ((2, b"ab"), 9),
            ((4, b"a"), 9),
            ((5, b"a"), 9),
            ((1, b"abc"), 9),
            ((u64::MAX, b"a"), 9),
        ];
        for (part, total) in wrong {
            let mut recipes = Recipes::default();
            // Bytes 3, 4 and 5 are here.
            add(&mut recipes, 7, (3, b"xyz"), 9).unwrap();
            let outcome = add(&mut recipes, 7, part, total);
            assert!(outcome.is_err(), "{part:?} {total}");
        }
        let mut recipes = Recipes::default();
        add(&mut recipes, 7, (3, b"xyz"), 9).unwrap();
        add(&mut recipes, 7, (0, b"abc"), 9).unwrap();
        let whole = add(&mut recipes, 7, (6, b"def"), 9).unwrap();
        assert_eq!(whole.as_deref(), Some(&b"abcxyzdef"[..]));
    }

    #[test]
    fn so_many_recipes_may_be_on_their_way_and_so_much_may_wait_for_one() {
        let mut recipes = Recipes::default();
        for index in 0..MAX_COMING as u32 {
            add(&mut recipes, index, (0, b"a"), 2).unwrap();
        }
        assert!(add(&mut recipes, 1_000, (0, b"a"), 2).is_err());
        // Those that have begun go on, and make room.
        assert!(add(&mut recipes, 3, (1, b"b"), 2).unwrap().is_some());
        add(&mut recipes, 1_000, (0, b"a"), 2).unwrap();
        let mut park = || {
            let block = Block {
                bytes: Vec::new(),
                room: Room::alone(),
            };
            recipes.park(Digest::of(b"recipe"), 0, block)
        };
        for _ in 0..MAX_STRAYS {
            park().unwrap();
        }
        assert!(park().is_err());
    }
}
