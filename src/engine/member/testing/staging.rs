//! Stages a tree from a real source, as the layouts want it.

use super::super::tree_plan::TreePlan;
use crate::engine::index::{Index, Stamp};
use crate::fs::meta::{Apply, apply_meta};
use crate::fs::owner::Principals;
use crate::fs::xattr::{Target, XattrPolicy};
use crate::fs::{Dir, FileKind};
use std::collections::HashSet;
use sync_proto::entry::{Entry, Kind, Meta};
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::Layout;

use super::{World, name, principals, resolve};
pub(super) struct Staging<'a> {
    pub(super) world: &'a World,
    pub(super) source: Dir,
    pub(super) desired: &'a Index,
    pub(super) observed: &'a Index,
    pub(super) plan: &'a TreePlan,
}

impl Staging<'_> {
    pub(super) fn run(&self, stage: &Name) -> Index {
        let stages = self.world.place.stages().unwrap();
        let stage = stages.create_dir_if_absent(stage, 0o700).unwrap();
        let tree = stage.create_dir_if_absent(&name("tree"), 0o700).unwrap();
        let staged: HashSet<&RelPath> = self.plan.staged().collect();
        let switched = self.world.place.layout() == Layout::Switched;
        let live = self.world.place.live().unwrap();
        let mut whole = Vec::new();
        for (directory, entry) in self.desired.manifest().entries() {
            let at = directory.path_of(&entry.name);
            let is_seed = self.plan.seeds.iter().any(|seed| at.is_within(seed));
            let top = if is_seed && switched {
                stage.create_dir_if_absent(&name("seed"), 0o700).unwrap()
            } else {
                tree.try_clone().unwrap()
            };
            let is_held = self
                .world
                .keeper
                .allow_write(&at, entry.kind.is_directory())
                .is_err();
            if staged.contains(&at) || switched && !is_held && entry.kind.is_directory() {
                self.create(&top, &at, entry);
                if entry.kind.is_directory() {
                    whole.push((top, at, entry));
                }
            } else if switched && !is_held {
                let live = live.as_ref().unwrap();
                let (from, last) = live.open_parent_at(&at).unwrap().unwrap();
                let (to, _) = parents(&top, &at);
                if to.stat(&last).unwrap().is_none() {
                    to.hard_link(&from, &last, &last).unwrap();
                }
            }
        }
        for (top, at, entry) in whole.iter().rev() {
            let (dir, last) = parents(top, at);
            finish(&dir, &last, &entry.meta);
        }
        if switched {
            let target = Target::open(&tree);
            let wanted = resolve(self.desired.manifest().root_meta()).unwrap();
            apply_meta(&target, &wanted, how(&principals())).unwrap();
        }
        self.index(&tree)
    }

    fn create(&self, top: &Dir, at: &RelPath, entry: &Entry) {
        let (dir, last) = parents(top, at);
        if dir.stat(&last).unwrap().is_some() {
            return;
        }
        match &entry.kind {
            Kind::Directory => {
                dir.create_dir(&last, 0o700).unwrap();
                return;
            }
            Kind::File { .. } => {
                let (from, from_name) = self.source.open_parent_at(at).unwrap().unwrap();
                let mut file = dir.create_file(&last, 0o600).unwrap();
                std::io::copy(&mut from.open_file(&from_name).unwrap(), &mut file).unwrap();
            }
            Kind::HardLink { leader } => {
                let (from, from_name) = top.open_parent_at(leader).unwrap().unwrap();
                dir.hard_link(&from, &from_name, &last).unwrap();
                return;
            }
            Kind::Symlink { target } => dir.symlink(target, &last).unwrap(),
            Kind::Fifo => dir.mknod(&last, FileKind::Fifo, 0o600, (0, 0)).unwrap(),
            other => panic!("{other:?}"),
        }
        finish(&dir, &last, &entry.meta);
    }

    fn index(&self, tree: &Dir) -> Index {
        let stat = |at: &RelPath| {
            let Ok(Some((dir, last))) = tree.open_parent_at(at) else {
                return None;
            };
            dir.stat(&last).unwrap()
        };
        let stamps = self
            .desired
            .manifest()
            .entries()
            .map(|(directory, entry)| {
                let at = directory.path_of(&entry.name);
                let is_staged = self.world.place.layout() == Layout::Switched
                    || self.plan.staged().any(|staged| *staged == at);
                match stat(&at).filter(|_| is_staged) {
                    Some(stat) => Stamp::from(&stat),
                    None => self
                        .observed
                        .entry(&at)
                        .map_or(Stamp::default(), |(_, stamp)| *stamp),
                }
            })
            .collect();
        Index::new(self.desired.manifest().clone(), Stamp::default(), stamps).unwrap()
    }
}

fn parents(top: &Dir, at: &RelPath) -> (Dir, Name) {
    let mut dir = top.try_clone().unwrap();
    for component in at.parent().unwrap().components() {
        let component = Name::parse(component).unwrap();
        dir = dir.create_dir_if_absent(&component, 0o700).unwrap();
    }
    (dir, at.file_name().unwrap())
}

fn how(principals: &Principals) -> Apply<'_> {
    Apply {
        policy: XattrPolicy::Ordinary,
        principals,
        is_fresh: false,
    }
}

fn finish(dir: &Dir, last: &Name, meta: &Meta) {
    let target = Target::entry(dir, last).unwrap();
    let unkept = apply_meta(&target, &resolve(meta).unwrap(), how(&principals())).unwrap();
    assert_eq!(unkept, []);
}
