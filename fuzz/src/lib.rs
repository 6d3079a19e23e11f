//! What each target does with its bytes. The ordinary tests replay `corpus/` through the same
//! functions (`tests/it/fuzz_corpus.rs`), so nothing here needs libFuzzer.
//!
//! Bytes may be refused, and nothing else may happen: no panic, no endless loop, no memory beyond
//! the limits. What is accepted keeps its meaning when it is written and read again.

#[path = "../../sync-proto/tests/model/world.rs"]
mod world;

use bytes::Bytes;
use fanout::config::{AgentConfig, Inventory};
use fanout::engine::index::{HEAD_BYTES, Index, Stamp};
use fanout::engine::member::record::is_reread;
use sync_proto::commit::Policy;
use sync_proto::delta::batch::parse_batch;
use sync_proto::delta::chunk::ChunkList;
use sync_proto::delta::recipe::Recipe;
use sync_proto::delta::{Version, apply_delta, make_delta, rsync_round_trip};
use sync_proto::digest::Digest;
use sync_proto::entry::Meta;
use sync_proto::filter::{Preserve, Rules, Scope, Side};
use sync_proto::manifest::{
    Directory, Manifest, decode_directories, diff, encode_directories, meta_from_bytes,
};
use sync_proto::pack::segment::decode_segment;
use sync_proto::pack::{PackDecoder, PackEncoder, unpack};
use sync_proto::path::{Name, RelPath, escape};
use sync_proto::wire::table::{Collector, encode_rows};
use sync_proto::wire::{ObjectHeader, Reply, Request, decode, encode};
use world::{Setting, World};

/// What a target does with bytes.
pub type Target = fn(&[u8]);

/// Every target by its name. Those that read what a peer sends come first.
pub const TARGETS: [(&str, Target); 11] = [
    ("frame", frame),
    ("message", message),
    ("manifest", manifest),
    ("names", names),
    ("rules", rules),
    ("pack", pack),
    ("signature", signature),
    ("delta", delta),
    ("commit", commit),
    ("journal", journal),
    ("inventory", inventory),
];

/// Frames of a byte pipe: those that are read are the bytes that came.
pub fn frame(bytes: &[u8]) {
    let read = fanout::net::read_and_write(bytes);
    assert!(bytes.starts_with(&read));
}

/// Control messages and object headers in both directions.
pub fn message(bytes: &[u8]) {
    if let Ok(request) = decode::<Request>(bytes)
        && let Ok(again) = encode(&request)
    {
        assert_eq!(decode::<Request>(&again), Ok(request));
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        if let Ok(again) = encode(&reply) {
            assert_eq!(decode::<Reply>(&again).as_ref(), Ok(&reply));
        }
        if let Reply::Need { needs, .. } = &reply {
            assert!(needs.iter(64).all(|(index, _)| index < 64));
        }
    }
    if let Ok(header) = decode::<ObjectHeader>(bytes) {
        assert_eq!(decode(&encode(&header).unwrap()), Ok(header));
    }
}

/// Manifests, listings and directory tables.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        let again = manifest.encode();
        assert_eq!(again, bytes, "a second form of the same tree");
        assert!(diff(&manifest, &manifest).is_empty());
        assert_eq!(manifest.contents().len(), {
            let mut digests: Vec<Digest> = manifest.contents().iter().map(|it| it.digest).collect();
            digests.sort_unstable_by_key(|digest| *digest.as_bytes());
            digests.dedup();
            digests.len()
        });
    }
    if let Ok(directories) = decode_directories(bytes) {
        assert_eq!(encode_directories(&directories), bytes);
    }
    let _ = meta_from_bytes(bytes);
    let mut collector = Collector::default();
    if collector.add(bytes).is_ok()
        && let Ok((rows, _)) = collector.rows(1 << 16)
    {
        let mut again = Collector::default();
        again.add(&encode_rows(&rows)).unwrap();
        assert_eq!(again.rows(1 << 16).map(|(again, _)| again), Ok(rows));
    }
    let mut collector = Collector::default();
    if collector.add(bytes).is_ok() {
        let _ = collector.listings(1 << 16);
    }
}

/// Names and paths: what is accepted can't lead out of a tree, and shows itself on one line.
pub fn names(bytes: &[u8]) {
    let shown = escape(bytes);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    if let Ok(name) = Name::parse(bytes) {
        assert_eq!(name.as_bytes(), bytes);
        assert!(!bytes.is_empty() && bytes != b"." && bytes != b"..");
        assert!(!bytes.contains(&b'/') && !bytes.contains(&0) && bytes.len() <= 255);
        assert_eq!(RelPath::root().join(&name).unwrap().file_name(), Some(name));
    }
    if let Ok(path) = RelPath::parse(bytes) {
        assert_eq!(path.as_bytes(), bytes);
        let names: Vec<Name> = path
            .components()
            .map(|name| Name::parse(name).unwrap())
            .collect();
        assert_eq!(names.len(), path.depth());
        let again = names
            .iter()
            .try_fold(RelPath::root(), |path, name| path.join(name));
        assert_eq!(again.as_ref(), Ok(&path));
        assert!(path.is_within(&RelPath::root()));
        for parent in std::iter::successors(path.parent(), RelPath::parent) {
            assert!(path.is_within(&parent) && !parent.is_within(&path));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(path) = text.parse::<fanout::model::AbsPath>() {
        assert!(
            path.components()
                .all(|name| Name::parse(name.as_bytes()).is_ok())
        );
        assert_eq!(path.as_str().parse().as_ref(), Ok(&path));
    }
    if let Ok(site) = text.parse::<fanout::model::SiteUri>() {
        assert!(Name::parse(site.file_name().as_bytes()).is_ok());
        assert_eq!(
            site.as_str().parse::<fanout::model::SiteUri>().ok(),
            Some(site)
        );
    }
    let _ = text.parse::<fanout::model::PlatformName>();
    let _ = text.parse::<fanout::model::ServerName>();
    let _ = text.parse::<fanout::model::Address>();
    let _ = text.parse::<fanout::model::TreeId>();
    let _ = fanout::net::Token::parse(text);
    let _ = text.parse::<fanout::net::NodeKey>();
}

/// Filter rules: the first lines are rules, the last is a path.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(path) = lines
        .pop()
        .and_then(|path| RelPath::parse(path.as_bytes()).ok())
    else {
        return;
    };
    let exclude = Rules::parse(&lines).unwrap_or_default();
    let preserve = Preserve::parse(&lines).unwrap_or_default();
    assert_eq!(Rules::parse(&exclude.to_lines()).as_ref(), Ok(&exclude));
    assert_eq!(
        Preserve::parse(&preserve.to_lines()).as_ref(),
        Ok(&preserve)
    );
    // What is protected is protected with all that lies below, and its ancestors know.
    if let Some(parent) = path.parent() {
        assert!(preserve.covers(&parent).is_none() || preserve.covers(&path).is_some());
        if preserve.matches(&path).is_some() {
            assert!(preserve.may_hold(&parent));
        }
    }
    let scope = Scope { exclude, preserve };
    for side in [Side::Sender, Side::Receiver] {
        let _ = scope.of(side, &path, false);
        let _ = scope.explain(side, &path, true);
    }
}

/// Packs and segments.
pub fn pack(bytes: &[u8]) {
    let mut decoder = PackDecoder::new();
    if let Ok(unpacked) = unpack(bytes, &mut decoder) {
        for (digest, content) in unpacked.contents() {
            assert_eq!(Digest::of(content), digest);
        }
    }
    if let Ok((header, raw)) = decode_segment(bytes, &mut decoder) {
        assert_eq!(header.raw_bytes(), raw.len());
    }
}

/// Librsync commands between two contents, the second as it begins with a copy of the first: the
/// signature and the search that the hub does itself, over any bytes.
pub fn signature(bytes: &[u8]) {
    let Some((&[at, repeat], rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let (base, new) = rest.split_at(rest.len() * usize::from(at) / 255);
    let base = base.repeat(1 + usize::from(repeat) / 4);
    let new = [&base[..base.len() / 2], new, &base[base.len() / 2..], new].concat();
    if let Some(made) = rsync_round_trip(&base, &new) {
        assert_eq!(made.unwrap(), new);
    }
    let (base, new) = (Version::of(&base), Version::of(&new));
    if let Some(delta) = make_delta(base, new, &mut PackEncoder::new()) {
        let length = new.bytes.len() as u64;
        let made = apply_delta(
            base.bytes,
            &delta,
            length,
            new.digest,
            &mut PackDecoder::new(),
        );
        assert_eq!(made.unwrap(), new.bytes);
    }
}

/// Batches of deltas, applied to a base; recipes and chunk lists.
pub fn delta(bytes: &[u8]) {
    let mut decoder = PackDecoder::new();
    let base: Vec<u8> = (0..4096_u32).map(|i| (i % 251) as u8).collect();
    if let Ok(deltas) = parse_batch(&Bytes::copy_from_slice(bytes)) {
        for delta in deltas.iter().take(64) {
            // LIMIT: what the manifest says bounds what is made, so the fuzzer needs a bound too.
            if delta.new_bytes() > 1 << 20 {
                continue;
            }
            let (length, content) = (delta.new_bytes(), delta.content());
            if let Ok(made) = apply_delta(&base, delta, length, content, &mut decoder) {
                assert_eq!(Digest::of(&made), content);
            }
        }
    }
    if let Ok(recipe) = Recipe::parse(bytes) {
        assert_eq!(recipe.encode().1, bytes);
        let literals = recipe.literal_pieces(0..recipe.literal_bytes());
        let total: u64 = literals.map(|piece| piece.length).sum();
        assert_eq!(total, recipe.literal_bytes());
    }
    if let Ok(list) = ChunkList::parse(bytes) {
        assert_eq!(list.encode(), bytes);
    }
}

/// What an agent reads back from its own disk: journals, records, votes, indexes. Checksums are in
/// front of all but the index, whose own are put right here.
pub fn journal(bytes: &[u8]) {
    assert_ne!(is_reread(bytes), Some(false));
    if let Some(read) = Index::read(index_of(bytes).as_slice()) {
        let mut written = Vec::new();
        read.write(&mut written).unwrap();
        assert_eq!(Index::read(written.as_slice()), Some(read));
    }
}

/// An index whose directories are these bytes, with the right checksums.
fn index_of(directories: &[u8]) -> Vec<u8> {
    let root = Directory {
        path: RelPath::root(),
        entries: Vec::new(),
    };
    let meta = Meta::of_link();
    let manifest = Manifest::new(meta.clone(), vec![root]).unwrap();
    let mut bytes = Vec::new();
    let empty = Index::new(manifest, Stamp::default(), Vec::new()).unwrap();
    empty.write(&mut bytes).unwrap();
    // The head, and the frame of the root: its length, its hash, its metadata and its stamp.
    let (length, _) = bytes[HEAD_BYTES..].split_first_chunk::<8>().unwrap();
    let root_bytes = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    bytes.truncate(HEAD_BYTES + 40 + root_bytes);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..HEAD_BYTES]);
    hasher.update(&bytes[HEAD_BYTES + 8..HEAD_BYTES + 40]);
    if !directories.is_empty() {
        let hash = blake3::hash(directories);
        hasher.update(hash.as_bytes());
        bytes.extend((directories.len() as u64).to_le_bytes());
        bytes.extend(hash.as_bytes());
        bytes.extend(directories);
    }
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(hasher.finalize().as_bytes());
    bytes
}

/// The inventory and the agent's configuration.
pub fn inventory(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Inventory::parse(text, "fanout.toml") {
        Ok(inventory) => {
            for platform in inventory.platforms.values() {
                let _ = inventory.members(platform);
            }
            let _ = inventory.secret_references();
        }
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
    match AgentConfig::parse(text, "agent.toml") {
        Ok(config) => {
            let again = config.to_toml();
            assert!(AgentConfig::parse(&again, "agent.toml").is_ok(), "{again}");
        }
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
}

/// A course of events of the two-phase commit: the first bytes say what world it is, each other one
/// which of the steps that are possible is taken.
pub fn commit(bytes: &[u8]) {
    let Some((&[members, policy, more], course)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let setting = Setting {
        members: 2 + members % 3,
        policy: match policy % 4 {
            0 => Policy::All,
            1 => Policy::Reachable,
            2 => Policy::Quorum(u32::from(policy / 4 % 4)),
            _ => Policy::Each,
        },
        min_healthy: u32::from(members / 3 % 3),
        pushes: 1 + more % 3,
        crashes: more / 3 % 4,
        repeats: more / 12 % 4,
        wipes: more / 48 % 2,
        asks_all: more >= 128,
    };
    let mut world = World::new(&setting);
    for byte in course.iter().take(300) {
        let steps = world.steps(&setting);
        let Some(step) = steps.get(usize::from(*byte) % steps.len().max(1)) else {
            break;
        };
        world.apply(&setting, *step).unwrap();
        world.heal(&setting).unwrap();
    }
}
