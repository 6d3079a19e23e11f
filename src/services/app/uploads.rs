//! What to copy where, for a site whose uploads are written on one member (`pin`).
//!
//! The pinned member's files are delivered to all others. What was delivered and is gone there is
//! removed elsewhere, if it is still what was delivered. A file that only another member has stays:
//! nothing is ever deleted that fanout did not bring. Where another member has a different version
//! under the same name, the pinned member's wins and the other is kept aside.

use std::collections::BTreeMap;
use sync_proto::digest::Digest;
use sync_proto::path::RelPath;
use sync_proto::wire::service::UploadFile;

/// One member's files by path.
pub type Listing = BTreeMap<RelPath, UploadFile>;
/// What was delivered to a member: path and digest.
pub type Delivered = BTreeMap<RelPath, Digest>;

/// What one member needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanOut {
    /// Files to write, each with the digest of what it may replace.
    pub write: Vec<(UploadFile, Option<Digest>)>,
    /// Files to remove, if they still are what was delivered.
    pub remove: Vec<(RelPath, Digest)>,
    /// What was delivered and is as it should be, and what will be known as delivered once written.
    pub forget: Vec<RelPath>,
    /// Files that only this member has and that nobody delivered.
    pub own: u64,
}

impl FanOut {
    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// Adds what a part of a listing says that came from a member: paths are parsed, and what isn't one,
/// or came before, is refused.
pub fn add(listing: &mut Listing, files: Vec<UploadFile>) -> Option<()> {
    for file in files {
        let path = RelPath::parse(&file.path).ok().filter(|it| !it.is_root())?;
        if listing.insert(path, file).is_some() {
            return None;
        }
    }
    Some(())
}

/// What to do on a member that has `there`, to have what the pinned member has.
pub fn fan_out(pinned: &Listing, there: &Listing, delivered: &Delivered) -> FanOut {
    let mut todo = FanOut::default();
    for (path, file) in pinned {
        match there.get(path) {
            Some(same) if same.digest == file.digest => {}
            // Only what was delivered may be replaced without a trace.
            Some(other) => {
                let ours = delivered.get(path).filter(|ours| **ours == other.digest);
                todo.write.push((file.clone(), ours.copied()));
            }
            None => todo.write.push((file.clone(), None)),
        }
    }
    for (path, digest) in delivered {
        if pinned.contains_key(path) {
            continue;
        }
        match there.get(path) {
            Some(file) if file.digest == *digest => todo.remove.push((path.clone(), *digest)),
            // Changed by somebody, or gone: from now on it is none of ours.
            _ => todo.forget.push(path.clone()),
        }
    }
    let is_own = |path: &&RelPath| !pinned.contains_key(*path) && !delivered.contains_key(*path);
    todo.own = there.keys().filter(is_own).count() as u64;
    todo
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    fn file(path: &RelPath, content: u8) -> UploadFile {
        UploadFile {
            path: path.as_bytes().to_vec(),
            size: 1,
            digest: Digest::of(&[content]),
            mtime_s: 0,
            mode: 0o644,
        }
    }

    fn contents() -> impl Strategy<Value = BTreeMap<RelPath, u8>> {
        let path = "[ab](/[ab]){0,2}".prop_map(|text| RelPath::parse(text.as_bytes()).unwrap());
        btree_map(path, 0_u8..3, 0..6)
    }

    fn listing(contents: &BTreeMap<RelPath, u8>) -> Listing {
        let files = contents.iter();
        files
            .map(|(path, it)| (path.clone(), file(path, *it)))
            .collect()
    }

    proptest! {
        /// One round carried out on a model.
        #[test]
        fn the_pinned_member_wins_and_no_other_version_is_lost(
            pinned in contents(), there in contents(), delivered in contents(),
        ) {
            let delivered: Delivered = delivered
                .iter()
                .map(|(path, it)| (path.clone(), Digest::of(&[*it])))
                .collect();
            let (pinned, before) = (listing(&pinned), listing(&there));
            let todo = fan_out(&pinned, &before, &delivered);
            let mut after: BTreeMap<RelPath, Digest> =
                before.iter().map(|(path, it)| (path.clone(), it.digest)).collect();
            let mut aside: Vec<Digest> = Vec::new();
            for (file, replaces) in &todo.write {
                let path = RelPath::parse(&file.path).unwrap();
                if let Some(old) = after.insert(path, file.digest)
                    && Some(old) != *replaces
                {
                    aside.push(old);
                }
            }
            for (path, digest) in &todo.remove {
                prop_assert_eq!(after.remove(path), Some(*digest));
            }
            for (path, file) in &pinned {
                prop_assert_eq!(after.get(path), Some(&file.digest));
            }
            for (path, file) in &before {
                let is_there = after.get(path) == Some(&file.digest);
                let was_ours = delivered.get(path) == Some(&file.digest);
                prop_assert!(is_there || was_ours || aside.contains(&file.digest));
            }
        }

        #[test]
        fn a_second_round_has_nothing_to_do(pinned in contents(), there in contents()) {
            let (pinned, mut there) = (listing(&pinned), listing(&there));
            let todo = fan_out(&pinned, &there, &Delivered::new());
            let mut delivered = Delivered::new();
            for (file, _) in &todo.write {
                let path = RelPath::parse(&file.path).unwrap();
                delivered.insert(path.clone(), file.digest);
                there.insert(path, file.clone());
            }
            prop_assert!(fan_out(&pinned, &there, &delivered).is_empty());
        }
    }

    #[test]
    fn a_listing_with_a_name_that_leads_out_is_refused() {
        let of = |path: &[u8]| {
            let mut file = file(&RelPath::parse(b"a").unwrap(), 0);
            file.path = path.to_vec();
            add(&mut Listing::new(), vec![file])
        };
        assert!(of(b"a/b").is_some());
        for bad in [
            &b""[..],
            b"/etc/passwd",
            b"../a",
            b"a/../b",
            b"a//b",
            b"a\0b",
            b"./a",
            b"a/",
        ] {
            assert!(of(bad).is_none(), "{bad:?}");
        }
    }
}
